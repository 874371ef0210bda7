"""The page of a saved result: what is refused, what is drawn, and that its command makes the same numbers again."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import xarray

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.present.numbers import MOST_ROWS, tables
from featurephase.present.report import page_of
from featurephase.present.reproduce import commands
from featurephase.present.saved import kind_of, open_saved

from .. import cases
from ..cli.conftest import invoke
from .browser import needs_browser, visit

pytest.importorskip("plotly")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return fp.related("catapult", steps=5).save(tmp_path / "catapult.nc")


# ---- what is refused


def _page(tmp_path: Path, source: object, page: str = "page.html") -> object:
    return invoke("report", source, "-o", tmp_path / page)


def _refused(outcome: object, words: str, target: Path) -> None:
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_what_is_no_result_is_refused(tmp_path: Path, saved: Path, suffix: str) -> None:
    target = tmp_path / "page.html"
    stranger = xarray.Dataset({"a": ("x", [1.0])})
    other = tmp_path / f"other{suffix}"
    stranger.to_netcdf(other, engine="h5netcdf") if suffix == ".nc" else stranger.to_zarr(other)
    empty = tmp_path / f"empty{suffix}"
    empty.touch() if suffix == ".nc" else empty.mkdir()
    (tmp_path / "numbers.json").write_text("{}")
    (tmp_path / "text.nc").write_text("no numbers at all\n")
    _refused(_page(tmp_path, tmp_path / f"absent{suffix}"), "does not exist", target)
    _refused(_page(tmp_path, other), "was not written by featurephase", target)
    _refused(_page(tmp_path, empty), "cannot be read" if suffix == ".nc" else "without a zarr store", target)
    _refused(_page(tmp_path, tmp_path / "numbers.json"), "holds no labelled numbers", target)
    _refused(_page(tmp_path, tmp_path / "text.nc"), "cannot be read", target)
    _refused(_page(tmp_path, tmp_path), "without a zarr store", target)
    _refused(_page(tmp_path, "x" * 5000), "File name too long", target)
    _refused(invoke("cite", other), "was not written by featurephase", target)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    """Cut off at any place, or with bytes changed: refused in one line, or a page, never a traceback."""
    path = fp.related("catapult", steps=200).save(tmp_path / f"whole{suffix}")
    file = path if suffix == ".nc" else max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content, rng = file.read_bytes(), np.random.default_rng(0)
    damaged = [content[: len(content) * k // 5] for k in range(5)]
    for _ in range(6):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=40):
            changed[place] ^= 0xFF
        damaged.append(bytes(changed))
    codes = []
    for number, text in enumerate(damaged):
        file.write_bytes(text)
        outcome = _page(tmp_path, path, f"{number}.html")
        codes.append(outcome.code)
        if outcome.code == 0:
            continue
        _refused(outcome, "cannot be read", tmp_path / f"{number}.html")
    assert codes.count(2) >= 5


def test_where_no_page_can_be_is_refused_before_reading(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    for name, words in (
        ("page.txt", "must end in .html"),
        ("absent/page.html", "does not exist"),
        ("folder.html", "is a folder"),
    ):
        outcome = _page(tmp_path, tmp_path / "absent.nc", name)
        assert (outcome.code, outcome.out) == (2, "")
        assert words in outcome.err
    assert invoke("report", saved).code == 2, "a page needs a name"


# ---- what is in it


def test_a_page_is_written_over_an_old_one_and_says_so(tmp_path: Path, saved: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("old")
    outcome = _page(tmp_path, saved)
    assert outcome.code == 0
    assert f"{target} written (4." in outcome.out
    assert "<h1>Large learning rates" in target.read_text(encoding="utf-8")
    document = invoke("report", saved, "-o", target, "--json").document
    assert document["status"] == "ok"
    assert document["bytes"] == target.stat().st_size


def test_a_page_from_a_result_is_that_of_its_file(tmp_path: Path, saved: Path) -> None:
    result = fp.related("catapult", steps=5)
    pages = [fp.report(source, tmp_path / f"{i}.html").read_text() for i, source in enumerate((saved, result))]
    assert pages[0] == pages[1]


def test_hostile_words_in_a_file_stay_words(tmp_path: Path) -> None:
    word = "</script><script>window.broken = 1</script>"
    data = fp.related("catapult", steps=5).to_xarray()
    data = data.assign_attrs(dict.fromkeys(("title", "message", "status", "phase_note", "experiment", "source"), word))
    data = data.assign(word=((), word)).assign_attrs(citation="arXiv:0000.00000")
    assert "<script>window" not in page_of(data)


def test_long_tables_are_thinned_and_say_so() -> None:
    data = xarray.Dataset({"a": (("x", "y"), np.zeros((1000, 3))), "b": ((), 2.0), "b_se": ((), 0.1)})
    single, long = tables(data)
    assert single.rows == [["`b`", "2.00 ± 0.10"]]
    assert 100 < len(long.rows) <= MOST_ROWS
    assert "of 3000 rows" in long.caption
    assert long.rows[0][:2] == ["1", "1"]
    assert long.rows[-1][:2] == ["1000", "3"]


@pytest.mark.slow
@needs_browser
def test_in_a_browser(tmp_path: Path) -> None:
    """Curves and bands are drawn, nothing is complained of, nobody is asked."""
    problem = fp.Problem.from_toml(cases.file_text())
    page = fp.report(fp.predict(problem, density=True, workers=1, quiet=True), tmp_path / "page.html")
    seen = visit(page, tmp_path)
    assert (seen.console, seen.requests) == ([], [])
    assert seen.dom.count('class="chart js-plotly-plot"') == 4
    assert seen.dom.count('class="js-fill"') >= 4, "bands"
    assert page.stat().st_size < 5.5e6


# ---- how to make it again, and what to cite

MADE = {
    "predict": ["predict", "e.toml", "--delta=20", "--time=0", "--time=3"],
    "predict without Hessian": ["predict", "e.toml", "--no-hessian", "--seed=3"],
    "threshold": ["threshold", "e.toml", "--time=4"],
    "explain": ["explain", "e.toml", "--delta=3", "--dimension=50"],
    "simulate": ["simulate", "e.toml", "--dimension=20", "--seeds=3", "--start=gaussian", "--delta=4"],
    "compare": ["compare", "e.toml", "--dimension=20", "--seeds=3", "--delta=4"],
    "latent": ["latent", "--u=0.5,-0.3", "--w=0.2,0.7", "--cross-moment=1.5", "--gamma=0.7"],
    "latent-phase": ["latent-phase", "--c-gamma=-0.5", "--kappa=100", "--points=41", "--seed=2"],
    "related": ["related", "catapult", "--steps=4", "--simulate", "--replicates=2", "--seed=5"],
    "related with a matrix": ["related", "diagonal", "--x=1,2;0,1", "--y=1,2", "--alpha=0.1"],
}


#: Those that take seconds.
SLOW = {"explain", "simulate"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MADE])
def test_the_command_on_the_page_makes_the_same_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.toml").write_text(cases.file_text())
    assert invoke(*MADE[name], "--quiet", "--save", "first.nc").code in (0, 3)
    first = open_saved("first.nc")
    (line,), _ = commands(first, kind_of(first))
    assert line.split()[1] == MADE[name][0]
    Path("experiment.toml").write_text(first.attrs["experiment"])
    assert invoke(*shlex.split(line)[1:], "--quiet", "--save", "second.nc").code in (0, 3)
    xarray.testing.assert_identical(first, open_saved("second.nc"))


@pytest.mark.slow
def test_a_probe_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    flags = ["--task=polynomial", "--steps=4", "--width=8", "--train-samples=20", "--layer-rates=1,2", "--no-bias"]
    assert invoke("probe", *flags, "--quiet", "--seed=3", "--save", "first.nc").code == 0
    first = open_saved("first.nc")
    (line,), _ = commands(first, kind_of(first))
    assert invoke(*shlex.split(line)[1:], "--quiet", "--save", "second.nc").code == 0
    second = open_saved("second.nc")
    np.testing.assert_array_equal(first.loss, second.loss)
    assert {k: v for k, v in first.attrs.items() if k.startswith("setting")} == {
        k: v for k, v in second.attrs.items() if k.startswith("setting")
    }


def test_inputs_that_are_not_in_the_file_are_not_made_up() -> None:
    data = fp.latent([0.5], [0.2], cross_moment=1.0, times=[1.0]).to_xarray()
    lines, note = commands(data, "LatentResult")
    assert not lines
    assert "time 0" in note
    assert commands(xarray.Dataset(), "") == ([], commands(xarray.Dataset(), "Unheard")[1])


@pytest.mark.parametrize("name", ["store", "store.zarr"])
def test_a_store_with_a_damaged_cell_is_read_without_it(tmp_path: Path, name: str) -> None:
    store = tmp_path / name
    axes = {"related.eta": [0.5, 1.0, 1.5]}
    fp.sweep({"related": {"model": "catapult"}}, axes=axes, quantities=["ntk_limit"], store=store, workers=1)
    chunk = store / "numbers/c/1/0"
    content = bytearray(chunk.read_bytes())
    content[3] ^= 1
    chunk.write_bytes(content)
    data = open_saved(store)
    assert data["done"].values.tolist() == [1, 0, 1]
    assert np.isnan(data["ntk_limit"][1])


def test_a_store_of_tasks_is_no_result(tmp_path: Path) -> None:
    from featurephase.sweeps.tasks import run_keyed

    run_keyed(tmp_path / "store", {"a": (divmod, (7, 2))})
    with pytest.raises(InputError, match=r"is a store of tasks, in which a sweep with .boundary. and reproduce keep"):
        open_saved(tmp_path / "store")


def test_open_saved_names_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--save FILE\.nc or FILE\.zarr"):
        open_saved(tmp_path / "nothing.nc")
