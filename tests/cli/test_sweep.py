"""`featurephase sweep`: its document, its exit codes, and files that ask for what cannot be."""

from __future__ import annotations

import pytest

import featurephase as fp

RELATED = '[related]\nmodel = "catapult"\nsteps = 3\n'
SWEEP = """
base = "base.toml"
quantities = ["ntk_limit"]
[[axis]]
key = "related.eta"
values = [0.5, 1.0]
[[axis]]
key = "related.lambda0"
range = [1, 3, 3]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "base.toml").write_text(RELATED)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path


def test_the_document_is_the_contract(invoke, folder) -> None:
    arguments = ["sweep", folder / "sweep.toml", "--store", folder / "store", "--json", "--quiet"]
    first = invoke(*arguments, "--save", folder / "cells.nc", "--figure", folder / "cells.svg")
    assert first.code == 0, first.err
    assert first.document["cells"] == {"total": 6, "done": 6, "failed": 0, "reused": 0}
    assert first.document["store"] == str(folder / "store")
    assert first.document["status"] == "ok"
    assert (folder / "cells.nc").exists()
    assert (folder / "cells.svg").exists()
    again = invoke(*arguments)
    assert again.document["cells"] == {"total": 6, "done": 6, "failed": 0, "reused": 6}


def test_a_dry_run_writes_nothing(invoke, folder) -> None:
    done = invoke("sweep", folder / "sweep.toml", "--store", folder / "store", "--dry-run", "--json")
    assert done.code == 0
    assert done.document["cells"] == {"total": 6, "done": 0, "failed": 0, "reused": 0}
    assert done.document["estimate"]["left"] == 6
    timed, seconds = (done.document["estimate"][name] for name in ("timed", "seconds"))
    assert 0 <= timed <= 3  # as many as a busy machine computes in the time
    assert seconds == "nan" if timed == 0 else seconds > 0
    assert sorted(p.name for p in folder.iterdir()) == ["base.toml", "sweep.toml"]
    assert invoke("sweep", folder / "sweep.toml", "--store", folder / "store").code == 0
    done = invoke("sweep", folder / "sweep.toml", "--store", folder / "store", "--dry-run")
    assert "nothing is left to compute" in done.out


def test_a_failed_cell_is_exit_3(invoke, folder) -> None:
    (folder / "base.toml").write_text('[related]\nmodel = "double-descent"\n')
    text = 'base = "base.toml"\nquantities = ["risk"]\n[[axis]]\nkey = "related.ratio"\nvalues = [0.5, 1.0]\n'
    (folder / "sweep.toml").write_text(text + '[[axis]]\nkey = "related.ridge"\nvalues = [0.0, 0.1]\n')
    done = invoke("sweep", folder / "sweep.toml", "--store", folder / "store", "--json")
    cells = done.document["cells"]
    opened = fp.open_sweep(folder / "store")
    assert cells["failed"] == int((opened["done"] == 2).sum())
    assert done.code == (3 if cells["failed"] else 0)


HOSTILE = {
    "endless axes": (
        "".join(f'[[axis]]\nkey = "related.{k}"\nrange = [0.1, 1, 1000]\n' for k in ("eta", "lambda0", "f0", "width")),
        "1,000,000,000,000 cells",
    ),
    "unknown key": ('[[axis]]\nkey = "related.etas"\nvalues = [1.0]\n', "unknown parameter 'etas'"),
    "clashing axes": ('[[axis]]\nkey = "related.eta"\nvalues = [1.0]\n' * 2, "two axes change the same key"),
    "no axis": ("", "no axis"),
    "one bracket": ('[axis]\nkey = "related.eta"\nvalues = [1.0]\n', "double brackets"),
    "unknown table": ('[axes]\nkey = "related.eta"\n', "did you mean 'axis'"),
    "a value that is refused": ('[[axis]]\nkey = "related.eta"\nvalues = [0.5, -1.0]\n', "axis related.eta, -1.0"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_exit_2(invoke, folder, name) -> None:
    axes, message = HOSTILE[name]
    (folder / "sweep.toml").write_text(f'base = "base.toml"\nquantities = ["ntk_limit"]\n{axes}')
    done = invoke("sweep", folder / "sweep.toml", "--store", folder / "store", "--json")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not (folder / "store").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('base = "base.toml"', "base = 'nowhere.toml'"),
        ('"ntk_limit"', "unknown quantity"),
        ('quantities = ["ntk_limit"]', "quantities = None"),
        ("range = [1, 3, 3]", "[first, last, count]"),
    ],
)
def test_what_is_missing_is_named(invoke, folder, change, message) -> None:
    other = {'base = "base.toml"': 'base = "nowhere.toml"', '"ntk_limit"': '"nkt"', "range = [1, 3, 3]": "range = [1]"}
    (folder / "sweep.toml").write_text(SWEEP.replace(change, other.get(change, "")))
    done = invoke("sweep", folder / "sweep.toml", "--store", folder / "store")
    assert done.code == 2
    assert message in done.err or "cannot read" in done.err


def test_an_experiment_is_no_sweep_file(invoke, experiment_file, tmp_path) -> None:
    done = invoke("sweep", experiment_file(), "--store", tmp_path / "store")
    assert done.code == 2
    assert "in a sweep file" in done.err
    done = invoke("predict", experiment_file(), "--dask", "tcp://127.0.0.1:1", "--workers", "2")
    assert done.code == 2
    assert "exclude each other" in done.err


def test_a_boundary_in_the_file(invoke, folder, one_neuron) -> None:
    (folder / "base.toml").write_text(one_neuron)
    (folder / "sweep.toml").write_text(
        'base = "base.toml"\n[boundary]\nkey = "student.init_norm"\nrange = [0.8, 1.2]\npoints = 5\ntolerance = 0.5\n'
    )
    arguments = ["sweep", folder / "sweep.toml", "--store", folder / "store", "--json", "--samples", "400"]
    done = invoke(*arguments)
    assert done.code == 0, done.err
    assert done.document["cells"]["total"] == 5
    assert len(done.document["threshold"]) == len(done.document["values"]) == 5
    assert all(se > 0 for se in done.document["threshold_se"])
    assert invoke(*arguments).document["cells"]["reused"] == 5
