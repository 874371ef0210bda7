"""The commands on networks with several outputs: JSON, saved numbers, table and figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray

import featurephase as fp
from featurephase.cli.app import run
from featurephase.cli.templates import read_template

FIELDS = {"readout": (5, 2, 3), "bias": (5, 2), "output_bias": (5, 3), "train_accuracy": (5,), "test_accuracy": (5,)}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    text = read_template("three-classes").replace("steps = 20", "steps = 4", 1)
    text = text.replace("samples = 40000", "samples = 1000").replace("replicates = 6", "replicates = 3")
    text = text.replace("delta = [8.0, 20.0]", "delta = [8.0]").replace("times = [20]", "times = []")
    path = tmp_path / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    return path


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_predict(experiment: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "saved.nc"
    (of_delta,) = document(capsys, "predict", str(experiment), "--save", str(saved))["runs"]
    with xarray.open_dataset(saved) as data:
        for name, shape in FIELDS.items():
            assert np.shape(of_delta[name]) == np.shape(of_delta[f"{name}_se"]) == shape
            assert data[name].shape == data[f"{name}_se"].shape == (1, *shape)
        assert data.readout.dims == ("delta", "time", "neuron", "output")
    np.testing.assert_allclose(of_delta["readout"][0], [[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]], rtol=1e-15)
    assert np.all(np.array(of_delta["train_accuracy"]) > 0.2)
    assert run(["predict", str(experiment), "--figure", str(tmp_path / "figure.png")]) == 0
    table = capsys.readouterr().out
    assert "test accuracy" in table
    assert "A(2,3) -0.5 ->" in table


@pytest.mark.parametrize("method", ["dense", "implicit"])
def test_simulate(experiment: Path, method: str) -> None:
    problem = fp.load(experiment)
    result = fp.simulate(problem, dimension=30, seeds=2, method=method, recovery=False, predicted=False)
    (of_delta,) = result.to_dict()["runs"]
    for name, shape in FIELDS.items():
        assert np.shape(of_delta[name]) == np.shape(of_delta[f"{name}_se"]) == shape
    assert {"train_accuracy_time", "test_accuracy_time", "accuracy_delay"} <= set(of_delta["grokking"])


def test_compare(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compared = document(capsys, "compare", str(experiment), "--dimension", "40", "--seeds", "3", "--no-escape")
    names = {q["name"] for q in compared["quantities"]}
    assert {"train_accuracy", "test_accuracy", "readout[1][2]", "bias[0]", "output_bias[2]"} <= names


def test_a_plain_network_has_none_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = read_template("one-neuron").replace("steps = 60", "steps = 2").replace("samples = 100000", "samples = 500")
    path = tmp_path / "plain.toml"
    path.write_text(text.replace("times = [0, 10, 60]", "times = []"), encoding="utf-8")
    for of_delta in document(capsys, "predict", str(path))["runs"]:
        assert not set(FIELDS) & set(of_delta)


def test_legends_lie_beside_the_curves_and_say_all_that_is_shown(experiment: Path) -> None:
    problem = fp.load(experiment).replace(run={"delta": [8.0, 40.0], "times": [4]})
    figure = fp.predict(problem).figure()
    figure.canvas.draw()
    left, right = (axes for axes in figure.axes if len(axes.lines) == 11)
    legend = left.get_legend() or right.get_legend()
    assert len(legend.get_texts()) == 11
    highest = max(np.max(line.get_ydata()) for axes in (left, right) for line in axes.lines)
    assert legend.get_window_extent().y0 > left.transData.transform((0.0, highest))[1]
    spectra = figure.axes[-2:]
    shown = {label for axes in spectra for label in axes.get_legend_handles_labels()[1]}
    assert shown == {text.get_text() for axes in spectra if axes.get_legend() for text in axes.get_legend().get_texts()}
    assert "hard outlier" in shown


def test_steps_are_named_below_the_last_panel(experiment: Path) -> None:
    run = fp.simulate(fp.load(experiment), dimension=30, seeds=2, recovery=False, predicted=False)
    losses, overlaps, accuracies = run.figure().axes
    assert [axes.get_xlabel() for axes in (losses, overlaps, accuracies)] == ["", "", "step"]
    assert accuracies.get_ylabel() == "accuracy"
