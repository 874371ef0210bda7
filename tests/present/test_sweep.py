"""The figure and the page of a sweep: over one, two and three axes, with cells that failed or have no number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.present.report import page_of
from featurephase.present.sweep import figure
from featurephase.present.sweep_numbers import borders, effects, extremes, quantities

from ..cli.conftest import invoke
from .browser import needs_browser, visit

AXES: dict[str, Any] = {
    "student.init_norm": np.array([0.5, 1.0, 2.0]),
    "student.activation": np.array(["gelu", "tanh", "h*(h<0)", "relu"], dtype=object),
    "loss.name": np.array(["squared", "huber"], dtype=object),
}


def cells(dims: int) -> xarray.Dataset:
    """A sweep whose second cell has no transition, whose last one failed and whose first one is not computed."""
    axes = dict(list(AXES.items())[:dims])
    shape = tuple(map(len, axes.values()))
    value = 4.0 + np.arange(np.prod(shape)).reshape(shape) * 10.0
    done, status = np.ones(shape, np.int8), np.full(shape, "ok", dtype=object)
    done.flat[0], status.flat[0] = 0, ""
    status.flat[1], value.flat[1] = "no transition in the range searched", np.nan
    done.flat[-1], status.flat[-1], value.flat[-1] = 2, "error", np.nan
    if dims > 1:  # failed, because another quantity that was asked for does not exist
        done.flat[-2], status.flat[-2] = 2, "hard outlier not negative at the end of the range"
    d = tuple(axes)
    variables = {
        "done": (d, done),
        "status": (d, status),
        "message": (d, np.where(status == "error", "it broke", "").astype(object)),
        "delta_nn": (d, value, {"long_name": "the threshold"}),
        "delta_nn_se": (d, 0.1 * value),
        "delta_alg": (d, np.full(shape, 2.0)),
        "delta_alg_se": (d, np.full(shape, 0.2)),
        "seconds": (d, np.ones(shape)),
    }
    about = {"title": "T", "written_by": "featurephase", "contents": "sweep", "kind": "experiment", "seed": 0}
    about |= {"replicates": 4, "version": "0.1.0", "sweep": 'base = "experiment.toml"', "experiment": "x = 1"}
    return xarray.Dataset(variables, {name: (name, values) for name, values in axes.items()}, about)


def sweep(dims: int) -> Any:
    return SimpleNamespace(data=cells(dims), title="T", message="")


def test_cells_have_the_numbers_that_exist_and_the_ratio_has_an_error() -> None:
    threshold, known, ratio = quantities(cells(2))
    assert np.isnan(threshold.values.flat[[0, 1, -1]]).all()
    assert np.isfinite(threshold.values).sum() == 9
    assert known.same
    assert not threshold.same
    assert ratio.name == "delta_nn / delta_alg"
    assert ratio.values[1, 0] == 22.0
    assert ratio.se is not None
    assert ratio.se[1, 0] == pytest.approx(22.0 * np.hypot(0.1, 0.1))


def test_extremes_and_what_an_axis_moves() -> None:
    data = cells(2)
    low, high = extremes(data, quantities(data)[0], count=2)
    assert low[0] == ["0.5", "h*(h<0)", "24.0 ± 2.4"]
    assert [row[:2] for row in high] == [["2", "h*(h<0)"], ["2", "tanh"]]
    rows = effects(data, quantities(data)[0])["student.init_norm"]
    assert rows[0] == ["0.5", "29", "24", "34", "2 of 4"]
    assert rows[1] == ["1", "59", "44", "74", "4 of 4"]


def test_borders_stand_between_different_words() -> None:
    assert list(borders(np.array([["a", "a"], ["a", "b"]]))) == [
        ((0.5, 1.5), (0.5, 0.5)),
        ((0.5, 0.5), (0.5, 1.5)),
    ]
    assert not list(borders(np.full((3, 3), "a")))


def test_a_curve_shows_values_with_intervals_of_students_t() -> None:
    data = cells(1)
    data["done"][:] = 1
    data["delta_nn"][-1], data["delta_nn_se"][-1] = 24.0, 2.4
    (axes,) = figure(SimpleNamespace(data=data, title="", message="")).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [4.0, np.nan, 24.0])
    low, high = axes.containers[0][2][0].get_segments()[-1][:, 1]
    assert (low, high) == pytest.approx((24.0 - 3.1824 * 2.4, 24.0 + 3.1824 * 2.4), rel=1e-4)


def test_maps() -> None:
    map_axes, scale = figure(sweep(2)).axes
    assert map_axes.images[0].get_array().shape == (3, 4)
    assert [t.get_text() for t in map_axes.get_xticklabels()] == ["gelu", "tanh", "h*(h<0)", "relu"]
    assert (map_axes.get_xlabel(), map_axes.get_ylabel()) == ("activation", "init norm")
    assert "NN" in scale.get_ylabel()
    assert len(map_axes.lines) > 0, "borders of the statuses"
    several = figure(sweep(3))
    assert [a.get_title() for a in several.axes[:2]] == ["loss = squared", "loss = huber"]
    assert several.axes[0].images[0].norm is several.axes[1].images[0].norm, "one scale"


def test_axes_of_the_users_own_and_another_quantity() -> None:
    from matplotlib.figure import Figure

    own = Figure().add_subplot()
    assert figure(sweep(2), ax=own, quantity="delta_alg") is own.figure
    with pytest.raises(InputError, match="several panels"):
        figure(sweep(3), ax=own)
    with pytest.raises(InputError, match="must be one of delta_nn, delta_alg"):
        figure(sweep(2), quantity="unheard")


def test_nothing_to_draw_is_said() -> None:
    data = cells(2)
    data["done"][:] = 0
    drawn = figure(SimpleNamespace(data=data, title="", message="all broke"))
    assert "all broke" in drawn.axes[0].texts[0].get_text()


@pytest.mark.parametrize("dims", [2, 3])
def test_pages(dims: int) -> None:
    pytest.importorskip("plotly")
    html = page_of(cells(dims))
    for words in ("it broke", "no transition in the range searched", "What init norm moves", "delta_nn / delta_alg"):
        assert words in html
    assert "featurephase sweep sweep.toml --store store" in html
    assert "h*(h&lt;0)" in html
    assert "montanari2026phase" in html


@pytest.mark.slow
@needs_browser
def test_a_store_has_a_page(tmp_path: Path) -> None:
    """A sweep that is really run, its page from the store, in a browser."""
    pytest.importorskip("plotly")
    axes = {"related.eta": {"range": [0.5, 3.5, 4]}, "related.lambda0": [0.5, 1.0]}
    store, page = tmp_path / "store", tmp_path / "page.html"
    found = fp.sweep(
        {"related": {"model": "catapult"}}, axes=axes, quantities=["ntk_limit", "phase"], store=store, workers=1
    )
    assert "lazy" in {text.get_text() for text in found.figure().axes[0].texts}
    assert invoke("report", store, "-o", page).code == 0
    seen = visit(page, tmp_path)
    assert (seen.console, seen.requests) == ([], [])
    assert seen.dom.count('class="chart js-plotly-plot"') == 1
    assert "lewkowycz2020catapult" in invoke("cite", store).out
    saved = found.save(tmp_path / "saved.nc")
    assert invoke("report", saved, "-o", page).code == 0


def test_a_store_without_a_finished_cell_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    fp.sweep(
        {"related": {"model": "catapult"}},
        axes={"related.eta": [0.5]},
        quantities=["ntk_limit"],
        store=store,
        workers=1,
    )
    for array in ("done", "numbers", "words"):
        for chunk in (store / array).rglob("*"):
            if chunk.is_file() and chunk.name != "zarr.json":
                chunk.unlink()
    outcome = invoke("report", store, "-o", tmp_path / "page.html")
    assert outcome.code == 2
    assert "no cell of this sweep is finished" in outcome.err
