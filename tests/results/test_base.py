"""What every result can do, on small examples."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result, averaged, jsonable, labelled, record
from featurephase.results.status import DIVERGED, FINE, NOT_CONVERGED, OK, Status, diverged, out_of_products


@record
class Outlier(Record):
    value: float = labelled(name="", unit="loss", about="eigenvalue")
    value_se: float


@record
class Hessian(Record):
    time: int = labelled(name="hessian_time", unit="step")
    status: str = labelled(name="hessian_status", default=OK)
    edge: float = labelled(default=np.nan)
    outliers: tuple[Outlier, ...] = labelled("outlier_number", name="outlier", of=Outlier, default=())
    density: Array | None = labelled("point", json=False, default=None)


@record
class Run(Record):
    delta: float = labelled()
    seed: int = 0
    version: str = "1"
    times: Array = labelled("time", name="time", unit="step")
    loss: Array = labelled("time", unit="loss", about="training loss")
    loss_se: Array
    hessian: tuple[Hessian, ...] = labelled("hessian_time", name="", of=Hessian, stamped=True, default=())


@record
class Limit(Record):
    value: float = labelled(name="limit")
    status: str = labelled(name="limit_status", attribute=True)


@record
class Example(Result):
    counted = ("latent",)

    basis: Array = labelled("latent", "easy")
    runs: tuple[Run, ...] = labelled("delta", name="", of=Run)
    limit: Limit | None = labelled(name="", default=None)
    over_time: dict[str, Array] = labelled("time", name="mechanism", default_factory=dict)
    warnings: tuple[str, ...] = labelled(attribute=True, default=())
    secret: Array = labelled(json=False, saved=False, default_factory=lambda: np.arange(2.0))


def run(delta: float, hessian: tuple[Hessian, ...] = ()) -> Run:
    loss = averaged(loss=[[delta, 2.0], [delta, 4.0]])
    return Run(delta=delta, times=np.arange(2), hessian=hessian, **loss)


def example(**changes: object) -> Example:
    entries = (Hessian(time=3, edge=1.0, outliers=(Outlier(value=2.0, value_se=0.1),)), Hessian(time=5))
    given = {"basis": np.eye(2), "runs": (run(1.0, entries), run(2.0, entries[:1])), "warnings": ("a", "b")}
    return Example(**(given | changes))


def test_value_and_error_come_from_replicates_together() -> None:
    built = averaged(scalar=[1.0, 3.0], curve=[[1.0, 2.0], [3.0, 2.0]])
    assert built["scalar"] == 2.0
    assert built["scalar_se"] == 1.0
    np.testing.assert_array_equal(built["curve"], [2.0, 2.0])
    np.testing.assert_array_equal(built["curve_se"], [1.0, 0.0])
    assert np.isnan(averaged(x=[1.0])["x_se"])


def test_results_are_compared_by_value() -> None:
    a, b = example(), example()
    assert a == b
    assert a in [b]
    assert a != example(warnings=())
    assert a != example(basis=2 * np.eye(2))
    assert example(basis=np.full((2, 1), np.nan)) == example(basis=np.full((2, 1), np.nan))
    assert replace(a, message="other") != a
    assert a != 3
    assert Outlier(value=np.nan, value_se=0.0) == Outlier(value=float("nan"), value_se=0.0)


def test_results_are_not_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(example())


@pytest.mark.parametrize("way", [lambda x: x, copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_arrays_are_read_only_in_every_copy(way) -> None:
    original = example(over_time={"growth": np.zeros(2)})
    result = way(original)
    assert result == original
    arrays = (result.basis, result.runs[0].loss, result.secret, result.over_time["growth"])
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    with pytest.raises(FrozenInstanceError):
        result.message = ""


def test_the_arrays_of_the_caller_are_left_alone() -> None:
    basis = np.eye(2)
    result = example(basis=basis)
    basis[0, 0] = 7.0
    assert result.basis[0, 0] == 1.0


def test_the_document_has_the_fields_in_their_order_and_stamps_entries() -> None:
    document = example().to_dict()
    assert list(document) == ["status", "message", "seed", "version", "basis", "runs", "limit", "over_time", "warnings"]
    entry = document["runs"][0]["hessian"][1]
    assert list(entry) == ["time", "status", "edge", "outliers", "seed", "version"]
    assert (entry["edge"], entry["seed"], entry["version"]) == ("nan", 0, "1")


def test_the_data_set_has_the_labels() -> None:
    data = example(limit=Limit(value=4.0, status="ok"), over_time={"growth": np.ones(2)}).to_xarray()
    assert data.loss.dims == ("delta", "time")
    assert data.loss.attrs == {"long_name": "training loss", "units": "loss"}
    assert data.loss_se.attrs["long_name"] == "standard error: training loss"
    np.testing.assert_array_equal(data.delta, [1.0, 2.0])
    np.testing.assert_array_equal(data.hessian_time, [3, 5])
    assert data.outlier.dims == ("delta", "hessian_time", "outlier_number")
    np.testing.assert_array_equal(data.outlier[:, :, 0], [[2.0, np.nan], [2.0, np.nan]])
    np.testing.assert_array_equal(data.outlier_se[0, :, 0], [0.1, np.nan])
    assert data.hessian_status.values.tolist() == [["ok", "ok"], ["ok", ""]]
    assert "density" not in data
    assert data.mechanism_growth.dims == ("time",)
    assert data.latent.values.tolist() == ["g1", "g2"]
    assert float(data.limit) == 4.0
    assert data.attrs["limit_status"] == "ok"
    assert data.attrs["warnings"] == "a\nb"
    assert data.attrs["seed"] == -1


def test_a_data_set_without_entries_has_the_variables_of_size_0() -> None:
    data = example(runs=(run(1.0),)).to_xarray()
    assert data.edge.shape == (1, 0)
    assert data.outlier.shape == (1, 0, 0)
    assert "density" not in data


def test_entries_at_different_places_are_not_stacked() -> None:
    runs = (run(1.0, (Hessian(time=3),)), run(2.0, (Hessian(time=4),)))
    with pytest.raises(ValueError, match="different places along hessian_time"):
        example(runs=runs).to_xarray()


def test_a_data_set_survives_a_file(tmp_path) -> None:
    import xarray

    path = example().save(tmp_path / "x.nc")
    with xarray.open_dataset(path, engine="h5netcdf") as back:
        xarray.testing.assert_equal(
            back.load().drop_vars("hessian_status"), example().to_xarray().drop_vars("hessian_status")
        )
        assert back.hessian_status.values.tolist() == [["ok", "ok"], ["ok", ""]]


def test_statuses_are_strings_that_carry_their_meaning() -> None:
    status = diverged(12)
    assert status == "diverged at step 12"
    assert (status.kind, status.step) == (DIVERGED, 12)
    assert status.explained("delta = 2") == f"delta = 2: {DIVERGED.message}"
    assert jsonable(status) == "diverged at step 12"
    assert type(jsonable(status)) is str
    again = pickle.loads(pickle.dumps(status))
    assert (again, again.kind, again.step, again.message) == (status, DIVERGED, 12, DIVERGED.message)
    assert OK.explained("anywhere") == ""
    assert OK in FINE
    assert "given" in FINE
    assert Status("other") not in FINE
    assert out_of_products(1e-3, 7).kind == NOT_CONVERGED
