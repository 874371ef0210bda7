"""`featurephase predict`: its document, its files, and every way in which it can refuse."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import xarray

from featurephase._version import __version__


@pytest.fixture(scope="module")
def outcome(invoke, experiment_file):
    return invoke("predict", experiment_file(), "--json")


def test_the_document_is_the_contract(outcome) -> None:
    document = outcome.document
    assert (outcome.code, outcome.err) == (0, "")
    head = {key: document[key] for key in ("status", "message", "version", "seed", "replicates", "samples", "warnings")}
    assert head | {"warnings": []} == {
        "status": "ok",
        "message": "",
        "version": __version__,
        "seed": 0,
        "replicates": 2,
        "samples": 2000,
        "warnings": [],
    }
    assert (document["easy_basis"], document["hard_basis"]) == ([[]], [[1.0]])
    assert [run["delta"] for run in document["runs"]] == [4.0, 20.0]
    for run in document["runs"]:
        assert (run["status"], run["message"], run["version"], run["seed"]) == ("ok", "", __version__, 0)
        assert run["times"] == [0, 1, 2, 3, 4]
        for name, shape in {"train_loss": (5,), "test_loss": (5,), "gram": (5, 1, 1), "overlap": (5, 1, 1)}.items():
            value, se = np.array(run[name]), np.array(run[f"{name}_se"])
            assert value.shape == se.shape == shape
            assert np.isfinite(value).all()
            assert (se >= 0).all()
        assert (np.array(run["train_loss_se"]) > 0).all()
        assert np.all(np.array(run["overlap"]) == 0.0)  # hard: none before escape
        assert [h["time"] for h in run["hessian"]] == [0, 4]
        for h in run["hessian"]:
            assert (h["status"], h["message"], h["version"], h["seed"]) == ("ok", "", __version__, 0)
            assert h["left_edge"] < 0 < h["right_edge"]
            assert h["left_edge_se"] > 0 < h["right_edge_se"]
            for outliers in (h["hard_outliers"], h["outliers"]):
                assert [o["value"] for o in outliers] == sorted(o["value"] for o in outliers)
                for o in outliers:
                    assert {"value", "value_se", "overlap", "overlap_se", "fraction", "fraction_se"} <= o.keys()
                    assert 0 < o["overlap"] <= 1
                    assert 0 < o["fraction"] <= 1
            assert "density" not in h
    # the direction is hard, and learned at n/d = 20: an outlier left of the bulk points to it
    last = document["runs"][1]["hessian"][-1]
    assert last["hard_outliers"][0]["value"] < last["left_edge"]


def test_the_start_is_that_of_the_file(outcome) -> None:
    for run in outcome.document["runs"]:
        assert run["gram"][0] == [[1.0]]


def test_the_same_seed_gives_the_same_bytes(invoke, experiment_file, outcome) -> None:
    assert invoke("predict", experiment_file(), "--json").out == outcome.out
    other = invoke("predict", experiment_file(), "--json", "--seed", 1).document
    assert other["seed"] == 1
    assert other["runs"][0]["train_loss"] != outcome.document["runs"][0]["train_loss"]


def test_flags_override_keys(invoke, experiment_file) -> None:
    flags = ["--delta", 3, "--delta", 6, "--time", 2, "--samples", 1000, "--replicates", 3, "--seed", 5, "--json"]
    document = invoke("predict", experiment_file(), *flags).document
    assert [run["delta"] for run in document["runs"]] == [3.0, 6.0]
    assert [[h["time"] for h in run["hessian"]] for run in document["runs"]] == [[2], [2]]
    assert (document["samples"], document["replicates"], document["seed"]) == (1000, 3, 5)


def test_standard_input(invoke, one_neuron, outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        buffer = io.BytesIO(one_neuron.encode())

        @staticmethod
        def isatty() -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Input())
    assert invoke("predict", "-", "--json").out == outcome.out


def test_files_and_table(invoke, experiment_file, tmp_path) -> None:
    figure, save = tmp_path / "figure.png", tmp_path / "numbers.nc"
    done = invoke("predict", experiment_file(), "--quick", "--delta", 20, "--figure", figure, "--save", save)
    assert done.code == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    with xarray.open_dataset(save, engine="h5netcdf") as found:
        assert dict(found.sizes) | {"delta": 1, "time": 5, "neuron": 1, "latent": 1, "hessian_time": 2} == dict(
            found.sizes
        )
        assert found.train_loss.attrs["units"] == "loss"
        assert found.attrs["samples"] == 200
        assert 'activation = "gelu"' in found.attrs["experiment"]
        area = np.trapezoid(found.density.fillna(0)[0, 0], found.density_at[0, 0])
        assert area == pytest.approx(1.0, abs=0.05)  # it is cut off a little beyond the edges
    assert "One neuron, small" in done.out
    assert "hard: g1" in done.out
    assert "quick: a tenth of the samples (200)" in done.out
    assert " +- " in done.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure.png", "numbers.nc"]


def test_quick_says_so_on_standard_error_too(invoke, experiment_file) -> None:
    done = invoke("predict", experiment_file(), "--quick", "--json", "--time", 0, "--delta", 4)
    assert done.err == "quick: a tenth of the samples (200)\n"
    assert done.document["message"] == "quick: a tenth of the samples (200)"
    assert invoke("predict", experiment_file(), "--quick", "--json", "--quiet", "--delta", 4).err == ""


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (('activation = "gelu"', 'activation = "relu"'), "singular-curvature"),
        (('link = "1.5*tanh(g1**2)"', 'link = "g1**2"'), "unbounded-curvature"),
    ],
    ids=["relu", "unbounded"],
)
def test_a_hessian_that_does_not_exist(invoke, experiment_file, change, status) -> None:
    done = invoke("predict", experiment_file(change), "--json")
    document = done.document
    assert done.code == 3
    assert document["status"] == status
    assert done.err == document["message"] + "\n"
    for run in document["runs"]:  # the trajectories are there
        assert run["status"] == "ok"
        assert np.isfinite(np.array(run["train_loss"])).all()
        for h in run["hessian"]:
            assert h["status"] == status
            assert h["message"]
            assert (h["left_edge"], h["left_edge_se"], h["right_edge"]) == ("nan", "nan", "nan")
            assert (h["drifting"], h["drifting_se"], h["continuous"]) == ("nan", "nan", None)
            assert h["hard_outliers"] == h["outliers"] == []


def test_no_time_means_no_hessian(invoke, experiment_file) -> None:
    path = experiment_file(('activation = "gelu"', 'activation = "relu"'), ("times = [0, 4]", "times = []"))
    done = invoke("predict", path, "--json")
    assert done.code == 0
    assert [run["hessian"] for run in done.document["runs"]] == [[], []]


def test_no_hessian_leaves_the_trajectory(invoke, experiment_file, outcome) -> None:
    run = invoke("predict", experiment_file(), "--no-hessian", "--json").document["runs"][0]
    assert run["hessian"] == []
    assert run["train_loss"] == outcome.document["runs"][0]["train_loss"]


def test_divergence_is_said_with_its_step(invoke, experiment_file, tmp_path) -> None:
    path = experiment_file(("step_size = 0.8", "step_size = 1e4"))
    done = invoke("predict", path, "--json", "--figure", tmp_path / "diverged.svg")
    run = done.document["runs"][0]
    assert done.code == 3
    assert run["status"].startswith("diverged at step ")
    step = int(run["status"].split()[-1])
    assert all(isinstance(x, float) for x in run["train_loss"][:step])
    assert run["train_loss"][step] == run["train_loss_se"][step] == "nan"
    assert "step_size" in done.document["message"]
    assert run["hessian"][0]["status"] == "ok"  # before the divergence
    assert (tmp_path / "diverged.svg").exists()
    table = invoke("predict", path)
    assert table.code == 3
    assert "diverged at step" in table.out
    assert table.err == ""  # the table has the message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--delta", 0], ["--delta", "0", "> 0"]),
        (["--delta", "nan"], ["--delta", "nan", "finite"]),
        (["--delta=-1"], ["--delta", "-1"]),
        (["--delta", "many"], ["--delta", "many"]),
        (["--time", 5], ["--time 5", "0 to 4"]),
        (["--time", -1], ["--time", "-1"]),
        (["--time", 1.5], ["--time", "1.5"]),
        (["--time", "inf"], ["--time inf", "no limit"]),
        (["--samples", 3], ["samples", "3"]),
        (["--replicates", 1], ["replicates", "1", "2"]),
        (["--seed", -1], ["seed", "-1"]),
        (["--figure", "x.gif"], ["--figure", "x.gif", ".png"]),
        (["--figure", "/nowhere/x.png"], ["/nowhere"]),
        (["--save", "x.csv"], ["--save", ".nc"]),
        (["--bogus"], ["--bogus"]),
        (["--samples", 10**9, "--replicates", 2], ["samples", "needs", "available"]),
    ],
)
def test_bad_input(invoke, experiment_file, tmp_path, monkeypatch, flags, words) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("predict", experiment_file(), *flags)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err
    assert list(tmp_path.iterdir()) == []


def test_there_must_be_a_file_and_a_delta(invoke, experiment_file, tmp_path) -> None:
    missing = invoke("predict", tmp_path / "missing.toml")
    assert (missing.code, missing.out) == (2, "")
    assert "missing.toml" in missing.err
    none = invoke("predict", experiment_file(("delta = [4.0, 20.0]\n", "")))
    assert (none.code, none.out) == (2, "")
    assert "--delta" in none.err
