"""Figures and files of small predictions, thresholds and explanations: what is drawn is what was computed."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import matplotlib as mpl
import numpy as np
import pytest
import xarray

import featurephase as fp
from featurephase.present.prediction import share
from featurephase.results.comparison import ComparedCurves, ComparedQuantity, Comparison
from featurephase.results.prediction import HessianPrediction, OutlierPrediction, Prediction
from featurephase.results.status import SINGULAR_CURVATURE
from featurephase.results.threshold import NetworkThreshold, Threshold, ThresholdLimit

from .. import cases

mpl.use("Agg")
_NUMBERS = [f.name for f in fields(ComparedQuantity) if f.name != "name"]


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    problem = cases.easy_and_hard().replace(title="Easy and hard", asymptotics={"samples": 2000, "replicates": 3})
    return fp.predict(problem, delta=[5.0, 30.0], times=[0, 3], density=True)


def test_prediction_figure(prediction: Prediction) -> None:
    figure = prediction.figure()
    axes = np.array(figure.axes).reshape(3, 2)
    for column, run in zip(axes.T, prediction.runs, strict=True):
        train, test = column[0].lines
        np.testing.assert_array_equal(train.get_ydata(), run.train_loss)
        np.testing.assert_array_equal(test.get_ydata(), run.test_loss)
        assert len(column[0].collections) == 2  # a band each
        easy, hard = column[1].lines
        assert (easy.get_linestyle(), hard.get_linestyle()) == ("-", "--")
        assert (easy.get_label(), hard.get_label()) == ("g1 (easy)", "g2 (hard)")
        assert easy.get_ydata()[-1] > 0.1
        assert not np.any(hard.get_ydata())
    assert [t.get_text() for t in axes[2, 0].get_yticklabels()] == ["t = 0", "t = 3"]


def test_bands_of_simulations_and_comparisons_are_intervals_of_students_t() -> None:
    """Two seeds: 12.7 standard errors, not 2."""
    problem = cases.problem(easy_basis=cases.NOTHING_EASY, step_size=0.5, steps=3)
    problem = problem.replace(asymptotics={"samples": 1000, "replicates": 2})
    found = fp.simulate(problem, dimension=10, delta=3.0, seeds=2, recovery=False, predicted=False)
    run = found.runs[0]
    losses, hard = found.figure().axes
    for axes, mean, se in ((losses, run.train_loss, run.train_loss_se), (hard, run.hard_overlap, run.hard_overlap_se)):
        corners = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert corners.max() == pytest.approx(np.max(mean + 12.706 * se), rel=1e-4)
    quantity = ComparedQuantity(**dict.fromkeys(("name", *_NUMBERS), 0.0))
    several = tuple(replace(quantity, name=str(z), z=z) for z in (1.0, 40.0, -np.inf, np.nan))
    curve = tuple(np.full(4, value) for value in (1.0, 0.1, 1.2, 0.2))
    comparison = Comparison(
        title="",
        agree=False,
        smallest_p=0.0,
        comparisons=3,
        dimensions=(10,),
        deltas=(3.0,),
        samples=((30,),),
        replicates=2,
        theory_replicates=3,
        quantities=several,
        curves=(ComparedCurves(delta=3.0, curves={"loss": curve}),),
    )
    top, scores = comparison.figure().axes
    assert top.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(1.0 + 4.3027 * 0.1, rel=1e-4)
    bars = np.concatenate(top.collections[1].get_segments())
    assert bars[:, 1].max() == pytest.approx(1.2 + 12.706 * 0.2, rel=1e-4)
    inside, above, below = (line.get_xydata().tolist() for line in scores.lines)
    assert (inside, above, below) == ([[0, 1.0]], [[1, 12.0]], [[2, -12.0]])
    assert scores.get_title(loc="right") == "triangles: $|z| > 12$"


def test_share_is_at_most_one(prediction: Prediction) -> None:
    for run in prediction.runs:
        value, se = share(run, np.array([1.0, 0.0]))
        assert np.all((value >= 0) & (value <= 1))
        assert np.all(se >= 0)
        np.testing.assert_allclose(value, np.abs(run.overlap[:, 0, 0]) / np.sqrt(run.gram[:, 0, 0]))


def test_a_spectrum_without_density_or_right_edge_is_drawn(prediction: Prediction) -> None:
    outlier = OutlierPrediction(
        value=-2.0, value_se=np.nan, overlap=0.3, overlap_se=np.nan, fraction=0.5, fraction_se=0.5, side="left"
    )
    entries = (
        HessianPrediction(time=0, left_edge=-1.0, left_edge_se=0.1, right_edge=np.inf, hard_outliers=(outlier,)),
        HessianPrediction(time=3, left_edge=-1.0, left_edge_se=0.1, right_edge=2.0, right_edge_se=0.1),
        HessianPrediction(time=3, status=SINGULAR_CURVATURE),
    )
    changed = replace(prediction, runs=tuple(replace(run, hessian=entries) for run in prediction.runs))
    changed.figure().canvas.draw()
    dataset = changed.to_xarray()
    assert dataset.hard_outlier.shape == (2, 3, 1)
    assert np.isnan(dataset.hard_outlier[:, 1:]).all()
    assert "density" not in dataset
    assert "singular-curvature" in changed.table()


def test_nowhere_analysed(prediction: Prediction) -> None:
    changed = replace(prediction, runs=tuple(replace(run, hessian=()) for run in prediction.runs))
    assert len(changed.figure().axes) == 4
    assert changed.to_xarray().hessian_time.size == 0


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_prediction_is_read_back(prediction: Prediction, tmp_path, suffix: str) -> None:
    path = prediction.save(tmp_path / f"numbers{suffix}")
    with xarray.open_dataset(path, engine="h5netcdf" if suffix == ".nc" else "zarr") as found:
        xarray.testing.assert_equal(found.load(), prediction.to_xarray())
        assert found.overlap.dims == ("delta", "time", "latent", "neuron")
        assert found.latent.values.tolist() == ["g1", "g2"]
        assert found.overlap_se.attrs["long_name"].startswith("standard error")
        assert fp.Problem.from_toml(found.attrs["experiment"]).training.steps == 3
        assert (found.attrs["seed"], found.attrs["replicates"]) == (0, 3)


def threshold(**changes) -> Threshold:
    entry = NetworkThreshold(
        time=5,
        value=6.0,
        value_se=0.5,
        crossings=np.array([2.0, 6.0]),
        crossings_se=np.array([0.1, 0.5]),
        negative=False,
        value_negative=8.0,
        value_negative_se=0.3,
        continuous=False,
        directions=np.array([6.0, np.nan]),
        directions_se=np.array([0.5, np.nan]),
        scan_delta=np.array([1.0, 4.0, 16.0]),
        scan_margin=np.array([[1.0, 2.0], [0.3, 1.0], [-2.0, 1.0]]),
        scan_margin_se=np.full((3, 2), 0.1),
    )
    failed = NetworkThreshold(time=9, status="diverged", message="all diverge", scan_delta=np.array([1.0, 2.0]))
    values = {
        "title": "T",
        "samples": 10,
        "replicates": 4,
        "seed": 0,
        "delta_range": (1.0, 16.0),
        "easy_basis": np.array([[1.0], [0.0]]),
        "hard_basis": np.array([[0.0], [1.0]]),
        "subspace_evidence": {},
        "delta_alg": 0.5,
        "delta_alg_se": 0.01,
        "delta_nn": (entry, failed),
        "delta_nn_limit": ThresholdLimit(
            status="not-converged",
            message="still drifts",
            value=9.0,
            value_se=0.5,
            time=30,
            drift=2.0,
            drift_se=0.6,
            converged=False,
            history_time=(15, 30),
            history=np.array([7.0, 9.0]),
            history_se=np.array([0.4, 0.5]),
        ),
    }
    return Threshold(**(values | changes))


def test_threshold_figure_shows_scan_thresholds_and_history() -> None:
    figure = threshold().figure()
    margins, history = figure.axes
    assert margins.get_xscale() == "log"
    np.testing.assert_array_equal(margins.lines[0].get_ydata(), [1.0, 0.3, -2.0])
    labels = [text.get_text() for text in margins.get_legend().get_texts()]
    assert any("t = 5" in label and "= 6" in label for label in labels)
    assert any("alg" in label for label in labels)
    assert history.get_title() == "not-converged"
    figure.canvas.draw()


@pytest.mark.parametrize(
    "changes",
    [
        {"delta_nn": (), "delta_nn_limit": None, "message": "nothing is hard"},
        {"delta_nn_limit": None},
        {"delta_nn": ()},
        {"delta_alg": np.inf},
        {"delta_alg": np.nan},
    ],
)
def test_every_threshold_has_a_figure_a_table_and_a_file(changes, tmp_path) -> None:
    result = threshold(**changes)
    result.figure().canvas.draw()
    assert result.table().startswith("T\n")
    with xarray.open_dataset(result.save(tmp_path / "t.nc"), engine="h5netcdf") as found:
        xarray.testing.assert_equal(found.load(), result.to_xarray())


def test_threshold_table_says_it_all() -> None:
    table = threshold(message="still drifts").table()
    for words in (
        "delta_alg",
        "0.500 +- 0.010",
        "6.0 +- 0.5",
        "discontinuous",
        "negative from 8.00 +- 0.30 on",
        "diverged",
        "not-converged, t = 30, drift 2.0 +- 0.6",
        "crossings",
        "note: still drifts",
    ):
        assert words in table, words


def test_scans_of_different_length_are_padded() -> None:
    dataset = threshold().to_xarray()
    assert dataset.scan_margin.dims == ("threshold_time", "scan_point", "direction")
    assert np.isnan(dataset.scan_margin[1]).all()
    assert dataset.threshold_status.values.tolist() == ["ok", "diverged"]


def test_a_notebook_shows_a_figure() -> None:
    figure = fp.related("catapult", steps=3).figure()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure))._repr_png_().startswith(b"\x89PNG")
