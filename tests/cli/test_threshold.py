"""`featurephase threshold`: its document, its files, and what happens where there is no threshold."""

from __future__ import annotations

import numpy as np
import pytest
import xarray

import featurephase as fp
from featurephase._version import __version__


@pytest.fixture(scope="module")
def outcome(invoke, experiment_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("threshold")
    flags = ["--time", 1, "--time", "inf", "--save", folder / "t.zarr", "--figure", folder / "t.svg", "--quiet"]
    return folder, invoke("threshold", experiment_file(), "--json", *flags)


def test_the_document_is_the_contract(outcome) -> None:
    document = outcome[1].document
    assert document["version"] == __version__
    assert (document["seed"], document["replicates"], document["samples"]) == (0, 2, 2000)
    assert (document["easy_basis"], document["hard_basis"]) == ([[]], [[1.0]])
    assert document["subspace_evidence"]["symmetries"] == ["g1 -> -g1"]
    # closed form 1/2 (theory/thresholds, eq. thr-algorithmic-scalar)
    assert document["delta_alg"] == pytest.approx(0.5, rel=0.01)
    assert document["delta_alg_se"] > 0
    (entry,) = document["delta_nn"]
    assert (entry["time"], entry["status"]) == (1, "ok")
    assert 1 < entry["value"] < 40
    assert entry["value_se"] > 0
    assert entry["value"] in entry["crossings"]
    assert len(entry["crossings"]) == len(entry["crossings_se"])
    assert entry["negative"] is True
    assert entry["value_negative"] == pytest.approx(entry["value"])
    assert "value_negative_se" in entry
    assert isinstance(entry["continuous"], bool)
    assert np.shape(entry["directions"]) == np.shape(entry["directions_se"]) == (1,)
    assert [b["neuron"] for b in entry["blocks"]] == [1]
    assert {"value", "value_se"} <= entry["blocks"][0].keys()
    assert entry["blocks"][0]["directions"] == [entry["value"]]
    assert (entry["block_minimum"], entry["block_minimum_se"]) == (entry["value"], entry["value_se"])
    assert entry["block_gap"] == "nan"  # one neuron is no approximation
    assert np.shape(entry["scan_margin"]) == np.shape(entry["scan_margin_se"]) == (len(entry["scan_delta"]), 1)


def test_the_limit_keeps_its_promise(outcome) -> None:
    document, limit = outcome[1].document, outcome[1].document["delta_nn_limit"]
    assert limit["history_time"] == [8, 11, 15, 21, 30]
    assert limit["time"] == 30
    assert limit["drift"] == pytest.approx(limit["history"][4] - limit["history"][2])
    # the threshold still grows, and the limit lies beyond what was reached; its error knows how little that is
    assert limit["value"] > limit["history"][-1] > limit["history"][0]
    assert limit["value_se"] > limit["history_se"][-1]
    assert limit["form"] in ("power", "exponential")
    settled = 2 * limit["value_se"] < max(0.02 * limit["value"], 2 * limit["history_se"][-1])
    assert limit["converged"] is settled
    known = limit["value_se"] <= 0.02 * limit["value"]
    assert limit["status"] == ("ok" if known else "not-converged")
    assert outcome[1].code == (0 if known else 3)
    assert document["status"] == limit["status"]
    (sector,) = limit["sectors"]
    assert sector["name"] == "g1"
    assert (sector["value"], sector["value_se"]) == (limit["value"], limit["value_se"])
    (window,) = sector["windows"]
    assert window["high"] == "inf"
    assert window["low"] == pytest.approx(limit["value"], rel=0.2)


def test_without_a_time_there_is_the_last_step_and_the_limit(invoke, experiment_file) -> None:
    done = invoke("threshold", experiment_file(), "--json", "--delta-range", "2,60", "--quick")
    document = done.document
    assert [entry["time"] for entry in document["delta_nn"]] == [0, 4]  # run.times
    assert document["delta_nn_limit"]["history_time"][-1] == 30
    assert "delta_NN(t -> inf)" in done.err  # what is done, and how long it will take


@pytest.mark.parametrize("time", [1.5, -1, np.nan, 10**6])
def test_python_takes_whole_steps_and_infinity_only(experiment_file, time) -> None:
    problem = fp.load(experiment_file())
    with pytest.raises(fp.InputError, match="must be a whole number from 0 to"):
        fp.threshold(problem, times=[np.inf, time])
    with pytest.raises(fp.InputError, match="must be a whole number from 0 to"):
        fp.predict(problem, times=[time])


def test_infinity_is_the_limit_in_python_too(outcome, experiment_file) -> None:
    found = fp.threshold(fp.load(experiment_file()), times=[1, np.inf]).to_dict()
    assert found == outcome[1].document


def test_files(outcome) -> None:
    folder, done = outcome
    assert "<svg" in (folder / "t.svg").read_text()[:2000]
    with xarray.open_zarr(folder / "t.zarr") as found:
        assert float(found.delta_nn[0]) == done.document["delta_nn"][0]["value"]
        assert found.delta_nn.attrs["units"] == "1"
        assert found.limit_time.values.tolist() == [8, 11, 15, 21, 30]


def test_no_transition(invoke, experiment_file) -> None:
    done = invoke("threshold", experiment_file(), "--time", 1, "--delta-range", "0.2,0.6", "--json")
    (entry,) = done.document["delta_nn"]
    assert done.code == 3
    assert entry["status"] == done.document["status"] == "no transition in the range searched"
    assert entry["value"] == entry["value_se"] == entry["value_negative"] == "nan"
    assert (entry["negative"], entry["continuous"], entry["crossings"]) == (None, None, [])
    assert done.document["delta_range"] == [0.2, 0.6]
    assert done.document["delta_alg"] > 0
    assert "0.6" in done.err
    assert "delta_nn_limit" in done.document
    assert done.document["delta_nn_limit"] is None


def test_nothing_hard(invoke, experiment_file) -> None:
    done = invoke("threshold", experiment_file(("1.5*tanh(g1**2)", "tanh(g1)")), "--json")
    assert done.code == 0
    assert (done.document["delta_alg"], done.document["delta_nn"], done.document["hard_basis"]) == (0.0, [], [[]])
    assert "nothing is hard" in done.document["message"]
    table = invoke("threshold", experiment_file(("1.5*tanh(g1**2)", "tanh(g1)")), "--quick")
    assert table.code == 0
    assert "nothing is hard" in table.out
    assert "quick: a tenth of the samples" in table.out


def test_singular_curvature(invoke, experiment_file) -> None:
    path = experiment_file(('activation = "gelu"', 'activation = "relu"'))
    done = invoke("threshold", path, "--time", 4)
    assert done.code == 3
    assert "singular-curvature" in done.out
    assert "delta_alg" in done.out
    assert "Smooth alternatives" in done.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--delta-range", "4"], ["--delta-range", "2 numbers"]),
        (["--delta-range", "4,1"], ["--delta-range", "4,1"]),
        (["--delta-range", "0,1"], ["--delta-range"]),
        (["--delta-range", "1,inf"], ["--delta-range", "finite"]),
        (["--time", 5], ["--time 5", "0 to 4"]),
        (["--time", "soon"], ["soon", "inf"]),
        (["--delta", 3], ["--delta"]),
        (["--save", "x.json"], ["--save", ".nc"]),
    ],
)
def test_bad_input(invoke, experiment_file, tmp_path, monkeypatch, flags, words) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("threshold", experiment_file(), *flags)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err
    assert list(tmp_path.iterdir()) == []
