"""The commands ``latent`` and ``latent-phase`` as a user meets them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featurephase.cli.app import run

R1 = ["latent", "--u=0.5,-0.3,0.8", "--w=0.2,0.7,-0.4", "--cross-moment", "1", "--response-moment", "1.5"]


def document(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> dict:
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_latent_document(capsys) -> None:
    d = document(capsys, [*R1, "--time", "0.5", "--time", "inf"])
    assert d["status"] == "ok"
    assert d["times"] == [0.5, "inf"]
    assert d["output"] == pytest.approx([0.7254844931215, 1.0], rel=1e-12)
    assert d["loss"][0] == pytest.approx(0.5753587635168, rel=1e-12)
    assert d["u"][0] == pytest.approx([0.7986984359346, 0.1741958931515, 0.7041872933578], rel=1e-12)
    assert d["limit"]["kernel"] == pytest.approx(2.4595324759, rel=1e-10)
    assert d["mechanisms"]["growth"] == pytest.approx(0.215196737512, rel=1e-11)
    assert len(d["mechanisms_over_time"]["alignment"]) == 2
    for key in ("message", "version", "seed", "kernel", "alignment", "w", "measured"):
        assert key in d


def test_latent_from_a_file_with_a_flag_over_it(tmp_path, capsys) -> None:
    file = tmp_path / "model.toml"
    file.write_text(
        "[latent]\nu = [0.5, -0.3, 0.8]\nw = [0.2, 0.7, -0.4]\ncross_moment = 2\nresponse_moment = 1.5\n"
        "time = [0.5, inf]\nsecond_moment = 3.0\n"
    )
    d = document(capsys, ["latent", str(file), "--cross-moment", "1", "--second-moment", "1"])
    assert d["output"][0] == pytest.approx(0.7254844931215, rel=1e-12)
    assert d["parameters"]["response_moment"] == 1.5


def test_saddle_and_frozen_are_answers(capsys) -> None:
    d = document(capsys, ["latent", "--u=1,2", "--w=-1,-2", "--cross-moment", "1", "--time", "inf"])
    assert (d["status"], d["output"], d["alignment"]) == ("saddle", [0.0], ["nan"])
    assert d["mechanisms"]["shrinkage"] == "-inf"
    assert "decided exactly" in d["message"]
    d = document(capsys, ["latent", "--u=1,2", "--w=-1,-2", "--cross-moment", "1", "--gamma", "0"])
    assert d["status"] == "frozen"


def test_measured_trajectories_lie_on_the_theory(capsys) -> None:
    d = document(capsys, [*R1, "--measure", "--time", "0", "--time", "0.5", "--time", "2"])
    assert d["measured"]["flow"]["output"] == pytest.approx(d["output"], abs=1e-11)
    descent = d["measured"]["descent"]
    at_half = np.interp(0.5, descent["times"], descent["output"])
    assert at_half == pytest.approx(d["output"][1], abs=0.01)  # steps of a hundredth of the fastest time


@pytest.mark.parametrize(
    ("u", "w", "target", "last"), [("1,0.5", "0.8,0.2", 1, 3e4), ("1e-5", "0.2e-5", 1, 1e6), ("1", "0.2", 0, 1e6)]
)
def test_measured_long_after_the_end_of_learning(u, w, target, last, capsys) -> None:
    """The integration stops where nothing moves, and the descent where its steps end, which the message says."""
    d = document(
        capsys, ["latent", "--u", u, "--w", w, "--cross-moment", str(target), "--measure", "--time", str(last)]
    )
    assert d["measured"]["flow"]["output"] == pytest.approx([target], abs=1e-11)
    descent = d["measured"]["descent"]
    assert descent["output"][-1] == pytest.approx(target, abs=1e-9)
    assert descent["times"][-1] < last
    assert "The measured descent ends at time" in d["message"]


def test_the_step_of_the_descent_follows_the_start_too(capsys) -> None:
    d = document(capsys, ["latent", "--u=3,1", "--w=-3,-1", "--cross-moment", "1", "--measure", "--time", "5"])
    assert d["measured"]["descent"]["step_size"] <= 0.01 / 40
    assert d["measured"]["descent"]["output"][-1] == pytest.approx(d["measured"]["flow"]["output"][-1], abs=1e-2)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figures(tmp_path, capsys, suffix: str) -> None:
    file = tmp_path / f"figure.{suffix}"
    assert run([*R1, "--figure", str(file), "--measure"]) == 0
    assert file.stat().st_size > 5000
    assert run(["latent-phase", "--name", "mup", "--figure", str(file), "--kappa", "50", "--points", "5"]) == 0
    assert file.stat().st_size > 5000


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_files(tmp_path, capsys, suffix: str) -> None:
    import xarray

    file = tmp_path / f"data.{suffix}"
    assert run([*R1, "--time", "0.5", "--save", str(file)]) == 0
    with xarray.open_dataset(file, engine="zarr" if suffix == "zarr" else "h5netcdf") as data:
        assert float(data.output[0]) == pytest.approx(0.7254844931215, rel=1e-12)
        assert data.u.dims == ("time", "unit")
        assert data.attrs["status"] == "ok"
    assert run(["latent-phase", "--name", "mup", "--kappa", "50", "--points", "5", "--save", str(file)]) == 0
    with xarray.open_dataset(file, engine="zarr" if suffix == "zarr" else "h5netcdf") as data:
        assert data.log_kernel_ratio_se.dims == ("c_eta_w", "c_gamma")
        assert data.attrs["phase"] == "feature-learning"


def test_phase_document(capsys) -> None:
    d = document(capsys, ["latent-phase", "--c-gamma=-1", "--c-eta-u", "1", "--c-eta-w", "1", "--c-sigma-u", "0"])
    assert (d["phase"], d["stability"], d["mechanism"]) == ("feature-learning", "well-defined", "alignment and growth")
    assert d["exponents"] == {"c_k": 0.0, "c_h": 0.0, "c_g": 0.0, "c_s0": -0.5}
    large = ["latent-phase", "--c-sigma-u", "1", "--c-sigma-w", "1", "--c-width", "0"]
    d = document(capsys, large)
    assert (d["phase"], d["mechanism"]) == ("feature-learning", "disalignment")


def test_phase_alone_lists_the_named_parameterisations(capsys) -> None:
    names = [p["name"] for p in document(capsys, ["latent-phase"])["parameterisations"]]
    assert "mup" in names
    assert run(["latent-phase"]) == 0
    assert "mean-field" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["latent"], "--u, --w, --cross-moment missing"),
        (["latent", "--u=1", "--w=1,2", "--cross-moment", "1"], "same number"),
        (["latent", "--u=1", "--w=x", "--cross-moment", "1"], "--w 'x'"),
        (["latent", "--u=1", "--w=1", "--cross-moment", "1", "--second-moment=-1"], "at least 0"),
        (["latent", "--u=1", "--w=1", "--cross-moment", "2", "--response-moment", "1"], "Cauchy-Schwarz"),
        (["latent", "--u=1", "--w=1", "--cross-moment", "1", "--eta-u=-1"], "eta_u"),
        (["latent", "--u=1", "--w=1", "--cross-moment", "nan"], "finite"),
        (["latent", "--u=1", "--w=1", "--cross-moment", "1", "--time", "-1"], "times must be at least 0"),
        (["latent", "--u=1", "--w=1", "--cross-moment", "1", "--time", "soon"], "--time 'soon'"),
        (["latent", "no-such-file.toml"], "no-such-file.toml"),
        (["latent", "--u=1", "--w=1", "--cross-moment", "1", "--figure", "x.gif"], ".png"),
        (["latent-phase", "--name", "x"], "known: ntk"),
        (["latent-phase", "--c-gamma", "inf"], "finite"),
        (["latent-phase", "--c-width=-1"], "c_width"),
        (["latent-phase", "--name", "ntk", "--c-gamma", "1"], "exclude each other"),
        (["latent-phase", "--kappa", "10"], "which scaling"),
    ],
)
def test_mistakes_cost_one_clear_line(arguments: list[str], words: str, capsys) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[teacher]\n", "needs a table \\[latent\\]"),
        ("[latent]\nu = [1]\nw = [1]\ncross_momnt = 1\n", "did you mean 'cross_moment'"),
        ("[latent]\nu = [1]\nw = ['a']\ncross_moment = 1\n", "latent.w = 'a'"),
        ("[latent]\nu = [1]\nw = [true]\ncross_moment = 1\n", "must be a number"),
        ("[latent\n", "not valid TOML"),
        ("[latent]\nu = [1]\nw = [1]\ncross_moment = 1\n[latnt]\n", "unknown table or key 'latnt'"),
    ],
)
def test_mistakes_in_a_file(text: str, words: str, tmp_path, capsys) -> None:
    import re

    file = tmp_path / "model.toml"
    file.write_text(text)
    assert run(["latent", str(file)]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_more_units_than_memory_are_refused_before_they_are_drawn(capsys) -> None:
    assert run(["latent", "--width", "100000000000", "--cross-moment", "1", "--time", "1"]) == 2
    assert "a network of 100,000,000,000 units at 1 times needs" in capsys.readouterr().err
    assert run(["latent", "--width", "10000000000", "--cross-moment", "1"]) == 2
    assert "10,000,000,000 units at 200 times needs" in capsys.readouterr().err


def test_random_weights_from_a_seed(invoke) -> None:
    flags = ("latent", "--width", 50, "--cross-moment", 1, "--time", 0, "--json")
    first, again, other = (invoke(*flags, "--seed", seed).document for seed in (1, 1, 2))
    assert first == again
    assert first["seed"] == 1
    assert first["u"] != other["u"]
    u = np.array(first["u"][0])
    assert u.shape == (50,)
    assert abs(u.std() * np.sqrt(50) - 1) < 4 / np.sqrt(100)  # four standard errors of a standard deviation
    wide = invoke(*flags, "--sigma-u", 1, "--seed", 1).document
    np.testing.assert_allclose(wide["u"][0], u * np.sqrt(50))
    for bad in (("--u", "1"), ("--seed", "-1")):
        assert invoke(*flags, *bad).code == 2
    assert invoke("latent", "--u=1", "--w=1", "--cross-moment", 1, "--seed", 1).code == 2
