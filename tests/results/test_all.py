"""Every class of results: it is presented, documented, labelled, and a value."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import featurephase as fp
from featurephase import results
from featurephase.analyses.explanation import Explanation
from featurephase.analyses.latent_phase import parameterisation_table
from featurephase.analyses.reached import reached_subspace
from featurephase.analyses.threshold import Threshold
from featurephase.cli.templates import template_list
from featurephase.foundation.errors import InputError
from featurephase.present import PRESENTERS, presenter
from featurephase.present.report import page_of
from featurephase.problem import Problem
from featurephase.results.base import Record, Result
from featurephase.results.documents import WrittenPage

from .. import cases

mpl.use("Agg")


def _problem() -> Problem:
    return cases.easy_and_hard().replace(
        title="Easy and hard", asymptotics={"samples": 1500, "replicates": 2}, run={"delta": [3.0], "times": [3]}
    )


def _subspaces() -> Any:
    return fp.latent_subspaces(_problem().teacher, samples=2**15, max_samples=2**15, quiet=True)


def _explanation() -> Explanation:
    return fp.explain(_problem(), delta=3.0, workers=1)


def _threshold() -> Threshold:
    return fp.threshold(_problem(), times=[3], delta_range=(1.0, 30.0), workers=1)


#: A small result of every class that a user can get.
EXAMPLES: dict[str, Callable[[], Result]] = {
    "AlgorithmicThreshold": lambda: fp.algorithmic_threshold(
        _problem().teacher, _subspaces(), samples=2**15, max_samples=2**15, quiet=True
    ),
    "Boundary": lambda: fp.boundary(
        _problem().replace(asymptotics={"samples": 300}, training={"steps": 1}, run={"times": [1]}),
        "student.init_norm",
        (0.9, 1.1),
        points=5,
        tolerance=0.9,
        workers=1,
    ),
    "Citations": fp.cite,
    "Comparison": lambda: fp.compare(_problem(), dimension=20, seeds=2, workers=1),
    "Explanation": _explanation,
    "LatentPhaseResult": lambda: fp.latent_phase(c_gamma=-0.5, kappa=100.0, points=3, replicates=2),
    "LatentResult": lambda: fp.latent([0.5, -0.3], [0.2, 0.7], cross_moment=1.0, times=[0.0, 0.5], measure=True),
    "LatentSubspaces": _subspaces,
    "Ledger": lambda: fp.reproduce("closed-form", quick=True, workers=1),
    "ParameterisationTable": parameterisation_table,
    "Prediction": lambda: fp.predict(_problem(), density=True, workers=1),
    "ReachedSubspace": lambda: reached_subspace(_problem(), 3.0, workers=1),
    "RelatedList": fp.related,
    "RelatedResult": lambda: fp.related("catapult", steps=5, simulate=True, replicates=2, workers=1),
    "Simulation": lambda: fp.simulate(_problem(), dimension=20, seeds=2, workers=1),
    "Sweep": lambda: fp.sweep(
        {"related": {"model": "catapult", "steps": 3}},
        axes={"related.eta": [0.5, 1.0], "related.lambda0": [1.0, 3.0]},
        quantities=["ntk_limit", "f"],
        workers=1,
    ),
    "TemplateList": template_list,
    "Threshold": _threshold,
    "WrittenPage": lambda: WrittenPage(page="p.html", source="p.nc", bytes=2048),
}
#: Needs PyTorch: tests/probe.
ELSEWHERE = {"CoordinateCheck", "HessianSpectrum", "KernelMatrix", "ProbeResult"}


@pytest.fixture(scope="module")
def made() -> dict[str, Result]:
    return {}


@pytest.fixture(params=sorted(EXAMPLES))
def result(request: pytest.FixtureRequest, made: dict[str, Result]) -> Result:
    name: str = request.param
    if name not in made:
        made[name] = EXAMPLES[name]()
    return made[name]


def _classes(base: type) -> Iterator[type]:
    for module in pkgutil.iter_modules(results.__path__):
        importlib.import_module(f"{results.__name__}.{module.name}")
    for kind in base.__subclasses__():
        if kind.__module__.startswith("featurephase."):
            yield kind
            yield from _classes(kind)


def test_every_class_has_one_line_in_the_table_of_presenters_and_an_example() -> None:
    names = {kind.__name__ for kind in _classes(Result)} | ELSEWHERE
    assert names == set(PRESENTERS)
    assert names == set(EXAMPLES) | ELSEWHERE


def test_no_class_falls_back_to_the_comparison_of_dataclasses() -> None:
    for kind in _classes(Record):
        if kind.__module__.startswith("featurephase.results"):
            assert kind.__eq__ is Record.__eq__, kind
            assert kind.__hash__ is None, kind


def test_it_is_a_document(result: Result) -> None:
    document = result.to_dict()
    assert list(document)[:4] == ["status", "message", "seed", "version"]
    json.dumps(document, allow_nan=False)


def test_it_is_a_data_set_in_a_file(result: Result, tmp_path) -> None:
    import xarray

    data = result.to_xarray()
    assert data.variables
    for name, variable in data.variables.items():
        if str(name).endswith("_se"):
            assert variable.dims == data[str(name).removesuffix("_se")].dims
    assert {"source", "version", "seed", "status", "experiment"} <= set(data.attrs)
    with xarray.open_dataset(result.save(tmp_path / "x.nc"), engine="h5netcdf") as back:
        assert set(back.variables) == set(data.variables)


def test_it_is_a_table(result: Result) -> None:
    assert result.table().strip()
    assert result._repr_html_().startswith("<pre>")


def test_it_is_a_page_and_can_be_cited(result: Result) -> None:
    pytest.importorskip("plotly")
    html = page_of(result.to_xarray())
    assert html.startswith("<!doctype html>")
    assert result.cite().startswith("@software{featurephase,")
    assert escape(result.cite().rstrip()) in html


def test_it_is_a_figure_and_settings_are_left_alone(result: Result) -> None:
    before = dict(mpl.rcParams)
    figure = result.figure()
    figure.canvas.draw()
    if hasattr(presenter(type(result)), "figure"):  # else it draws itself
        assert dict(mpl.rcParams) == before


def test_it_draws_on_given_axes_or_says_why_not(result: Result) -> None:
    from inspect import signature

    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    if "ax" in signature(presenter(type(result)).figure).parameters:
        assert result.figure(ax=axes) is axes.figure
        assert axes.has_data() or axes.texts
    else:
        with pytest.raises(InputError, match="several axes"):
            result.figure(ax=axes)


def test_it_is_a_value(result: Result) -> None:
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert other == result
        assert other in [result]
    with pytest.raises(TypeError, match="unhashable"):
        hash(result)
    for array in _arrays(result):
        assert not array.flags.writeable


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Record):
        yield from _arrays(list(value.__dict__.values()))
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _arrays(entry)


def test_its_zarr_opens_without_a_word_and_has_types_that_other_readers_know(result: Result, tmp_path: Any) -> None:
    import warnings

    import xarray

    path = tmp_path / "result.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.save(path)
        opened = xarray.open_zarr(path).load()
    assert opened.equals(result.to_xarray()) or opened.sizes == result.to_xarray().sizes
    types = {json.loads(p.read_text()).get("data_type", "group") for p in path.rglob("zarr.json")}
    assert types <= {"group", "bool", "int8", "int32", "int64", "float32", "float64", "string"}
