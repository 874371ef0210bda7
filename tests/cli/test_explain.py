"""`featurephase explain`: numbers in words, and never a word without its number."""

from __future__ import annotations

import numpy as np
import pytest
import xarray

from featurephase._version import __version__


@pytest.fixture(scope="module")
def outcome(invoke, experiment_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    flags = ["--samples-n", 30_000, "--dimension", 1000, "--save", folder / "e.nc", "--figure", folder / "e.png"]
    return folder, invoke("explain", experiment_file(), "--json", "--quiet", *flags)


def test_the_document_is_the_contract(outcome) -> None:
    _, done = outcome
    document = done.document
    assert (done.code, document["status"], done.err) == (0, "ok", "")
    assert (document["version"], document["seed"], document["replicates"]) == (__version__, 0, 2)
    assert (document["delta"], document["samples_n"], document["dimension"], document["steps"]) == (
        30.0,
        30_000,
        1000,
        4,
    )
    (entry,) = document["directions"]
    assert (entry["name"], entry["direction"], entry["kind"], entry["learned"]) == ("g1", [1.0], "hard", True)
    assert entry["delta_alg"] == pytest.approx(0.5, rel=0.01)
    assert document["delta_nn"] < entry["delta_nn"] < 30  # at step 4, and as training goes on
    assert (entry["delta_nn"], entry["delta_nn_se"]) == (document["delta_nn_limit"], document["delta_nn_limit_se"])
    (window,) = entry["windows"]
    assert (window["low"], window["high"]) == (pytest.approx(entry["delta_nn"], rel=0.2), "inf")
    assert entry["samples_needed"] == pytest.approx(1000 * entry["delta_nn"])
    assert entry["samples_needed_se"] == pytest.approx(1000 * entry["delta_nn_se"])
    # the start has overlap of order 1/sqrt(1000), and half of the weights takes more than one step at any stable rate
    assert 1 < entry["escape_low"] <= entry["escape_step"] <= entry["escape_high"]
    assert all(0 <= entry[f"escape_{name}_se"] < 0.5 * entry[f"escape_{name}"] for name in ("low", "step", "high"))
    assert entry["unstable_at_last_step"] is True
    assert entry["learned_by_last_step"] < 0.05  # in four steps from 1/sqrt(1000)
    assert entry["expressible"] is True
    assert entry["overlap"] is None
    assert document["hard_outlier"] < document["left_edge"] < 0
    assert 0 < document["hard_outlier_overlap"] <= 1
    for name in ("delta_alg", "delta_nn", "delta_nn_negative", "left_edge", "hard_outlier", "hard_outlier_overlap"):
        assert document[f"{name}_se"] > 0, name
    assert "unstable" in entry["mechanism"]
    assert "fewer samples" in entry["change"]
    assert document["verdict"].startswith(
        "at n/d = 30 if training goes on: learned: g1; at step 4 gradient descent is "
    )
    assert "unstable along g1; by step 4 in dimension 1000: g1 with probability 0" in document["verdict"]


def test_files(outcome) -> None:
    folder, done = outcome
    assert (folder / "e.png").read_bytes().startswith(b"\x89PNG")
    with xarray.open_dataset(folder / "e.nc", engine="h5netcdf") as found:
        assert found.attrs["verdict"] == done.document["verdict"]
        assert found.learned.values.tolist() == ["yes"]
        assert float(found.delta_nn[0]) == done.document["directions"][0]["delta_nn"]


def test_too_few_samples(invoke, experiment_file) -> None:
    done = invoke("explain", experiment_file(), "--delta", 1.5)
    assert done.code == 0
    assert "not learned: g1" in done.out
    assert "delta_alg" in done.out
    assert "warm start" in done.out
    assert "more samples" in done.out


def test_an_easy_direction_needs_no_hessian(invoke, experiment_file) -> None:
    path = experiment_file(("1.5*tanh(g1**2)", "tanh(g1)"), ('activation = "gelu"', 'activation = "relu"'))
    done = invoke("explain", path, "--json")
    (entry,) = done.document["directions"]
    assert done.code == 0
    assert (entry["kind"], entry["learned"], entry["delta_nn"], entry["delta_alg"]) == ("easy", True, 0.0, 0.0)
    assert entry["overlap"] > 10 * entry["overlap_se"] > 0
    assert done.document["hard_outlier"] is None
    assert "largest of run.delta" in done.document["message"]
    assert done.document["delta"] == 20.0


def test_what_cannot_be_decided_is_not(invoke, experiment_file) -> None:
    """An even activation never meets a linear response; with so much noise 2000 paths cannot tell."""
    path = experiment_file(
        ("1.5*tanh(g1**2)", "tanh(g1)*(1 + 2*e1**2)"), ('"gelu"', '"sqrt1p"'), ("steps = 4", "steps = 12")
    )
    done = invoke("explain", path, "--delta", 4, "--json")
    (entry,) = done.document["directions"]
    assert done.code == 3
    assert (done.document["status"], entry["learned"], entry["kind"]) == ("undetermined", None, "easy")


def test_an_irrelevant_direction_and_a_warm_start(invoke, experiment_file) -> None:
    path = experiment_file(
        ("latent_dim = 1", "latent_dim = 2"), ("readout = [1.0]", "readout = [1.0]\ninit_overlap = [[0.4], [0.0]]")
    )
    document = invoke("explain", path, "--json").document
    first, second = document["directions"]
    assert (first["kind"], first["learned"]) == ("easy", True)
    assert "start already overlaps" in first["mechanism"]
    assert (second["kind"], second["learned"]) == ("irrelevant", False)
    assert np.shape(document["reached_basis"]) == (2, 1)


def test_no_hessian_no_verdict(invoke, experiment_file) -> None:
    done = invoke("explain", experiment_file(('activation = "gelu"', 'activation = "relu"')), "--delta", 4)
    assert done.code == 3
    assert "undetermined: g1" in done.out
    assert "singular-curvature" in done.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--samples-n", 100], ["dimension"]),
        (["--samples-n", 100, "--dimension", 10, "--delta", 3], ["delta", "samples_n"]),
        (["--samples-n", 0, "--dimension", 10], ["--samples-n"]),
        (["--dimension", -3], ["--dimension"]),
        (["--delta", 0], ["--delta", "> 0"]),
        (["--delta", "nan"], ["--delta", "finite"]),
        (["--figure", "x.bmp"], ["--figure"]),
    ],
)
def test_bad_input(invoke, experiment_file, tmp_path, monkeypatch, flags, words) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("explain", experiment_file(), *flags)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err
    assert list(tmp_path.iterdir()) == []
