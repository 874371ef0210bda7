"""Sweeps from Python: what they hold, what is computed again and what is not, and what happens to damage."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import xarray as xr

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.sweeps import cells
from featurephase.sweeps import runs as module
from featurephase.sweeps.bases import ModelBase
from featurephase.sweeps.store import DONE, FAILED

from .. import cases

RELATED = {"related": {"model": "catapult", "steps": 4}}
AXES = {"related.eta": {"range": [0.25, 1.25, 5]}, "related.lambda0": [1.0, 2.0, 3.0]}
QUANTITIES = ["ntk_limit", "phase", "f"]
TIMES = ("seconds", "memory")  # no two runs agree on these


def catapult(store=None, **options):
    return fp.sweep(RELATED, **({"axes": AXES, "quantities": QUANTITIES, "store": store} | options))


def numbers(data):
    return data.drop_vars([name for name in TIMES if name in data])


def same(a, b):
    return numbers(a.data).identical(numbers(b.data)) or numbers(a.data).equals(numbers(b.data))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed sweep."""
    return catapult(tmp_path_factory.mktemp("whole") / "store")


# ---- what it holds


def test_cells_hold_what_single_runs_say(whole):
    assert whole.cells.to_dict() == {"total": 15, "done": 15, "failed": 0, "reused": 0}
    for eta in whole.data["related.eta"].values:
        for curvature in whole.data["related.lambda0"].values:
            cell = whole.data.sel({"related.eta": eta, "related.lambda0": curvature})
            one = fp.related("catapult", steps=4, eta=eta, lambda0=curvature)
            assert cell["ntk_limit"] == one.quantities["ntk_limit"].value
            assert cell["phase"] == one.phase
            np.testing.assert_array_equal(cell["f"], one.quantities["f"].value)


def test_an_experiment_with_errors_against_single_calls():
    problem = cases.easy_and_hard().replace(asymptotics={"samples": 500, "replicates": 2}, run={"delta": [3.0]})
    found = fp.sweep(
        problem,
        axes={"student.init_norm": [0.5, 1.0], ("training.steps", "run.times"): [(2, 2), (3, 3)]},
        quantities=["train_loss", "left_edge"],
    )
    assert found.store == ""
    assert found["left_edge"].dims == ("student.init_norm", "training.steps")
    np.testing.assert_array_equal(found["time_count"], [[3, 4], [3, 4]])
    np.testing.assert_array_equal(found["run.times"], [2, 3])
    for norm in (0.5, 1.0):
        for steps in (2, 3):
            cell = found.data.sel({"student.init_norm": norm, "training.steps": steps})
            changed = problem.replace(student={"init_norm": norm}, training={"steps": steps}, run={"times": steps})
            (run,) = fp.predict(changed, workers=1).runs
            np.testing.assert_array_equal(cell["train_loss"][: steps + 1], run.train_loss)
            np.testing.assert_array_equal(cell["train_loss_se"][: steps + 1], run.train_loss_se)
            assert np.isnan(cell["train_loss"][steps + 1 :]).all()
            assert (cell["left_edge"], cell["left_edge_se"]) == (run.hessian[0].left_edge, run.hessian[0].left_edge_se)


def test_thresholds_and_what_has_none():
    problem = cases.problem().replace(
        asymptotics={"samples": 500, "replicates": 2}, threshold={"delta_range": [4.0, 40.0]}
    )
    found = fp.sweep(
        problem, axes={"student.activation": ["gelu", "relu"]}, quantities=["delta_nn", "delta_alg"], workers=1
    )
    entry = fp.threshold(problem, limit=False, workers=1)
    gelu = found.data.sel({"student.activation": "gelu"})
    assert (gelu["delta_nn"], gelu["delta_nn_se"]) == (entry.delta_nn[0].value, entry.delta_nn[0].value_se)
    relu = found.data.sel({"student.activation": "relu"})
    assert relu["status"] == "singular-curvature"
    assert np.isnan(relu["delta_nn"])
    assert relu["delta_alg"] == entry.delta_alg
    assert (found.cells.failed, found.status.kind, found.ok) == (1, "cells failed", False)


def test_the_latent_model_over_its_rates():
    table = {"u": [0.5, -0.3], "w": [0.2, 0.7], "cross_moment": 1.0, "time": [0.0, 0.5, "inf"]}
    found = fp.sweep({"latent": table}, axes={"latent.eta_u": [1, 2.0]}, quantities=["kernel", "limit_kernel"])
    for rate in (1.0, 2.0):
        one = fp.latent(table["u"], table["w"], cross_moment=1.0, times=[0.0, 0.5, np.inf], eta_u=rate)
        np.testing.assert_array_equal(found["kernel"].sel({"latent.eta_u": rate}), one.kernel)
    assert found["limit_kernel"].dims == ("latent.eta_u",)
    assert found.data["time"].values.tolist() == [0.0, 0.5, np.inf]


def test_a_store_is_plain_zarr_and_exports(whole, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(whole.store).load()
    for name, variable in numbers(whole.data).variables.items():
        np.testing.assert_array_equal(plain[name].values.astype(object), variable.values.astype(object))
    assert plain["done"].attrs["flag_meanings"] == "not_finished finished failed"
    assert plain.attrs["contents"] == "sweep"
    again = fp.open_sweep(whole.store)
    assert same(again, whole)
    assert again.to_dict() == whole.to_dict() | {"cells": whole.cells.to_dict() | {"reused": 15}}
    back = xr.open_dataset(whole.save(tmp_path / "a.nc"), engine="h5netcdf").load()
    np.testing.assert_array_equal(back["f"], whole["f"])
    lines = whole.save(tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 16
    assert lines[0].startswith("related.eta,related.lambda0,")
    assert "f[4]" in lines[0]
    assert float(lines[-1].split(",")[lines[0].split(",").index("ntk_limit")]) == whole["ntk_limit"].values[-1, -1]


def test_the_sweep_file_inside_gives_the_same_cells(whole, tmp_path):
    (tmp_path / "experiment.toml").write_text(whole.data.attrs["experiment"])
    (tmp_path / "sweep.toml").write_text(whole.data.attrs["sweep"])
    shutil.copytree(whole.store, tmp_path / "store")
    assert fp.sweep(tmp_path / "sweep.toml", store=tmp_path / "store").cells.reused == 15


# ---- taking up


def counted(monkeypatch):
    """How often a cell is computed."""
    calls = []
    original = ModelBase.results
    monkeypatch.setattr(ModelBase, "results", lambda self, *a: calls.append(a[0]) or original(self, *a))
    return calls


def test_finished_cells_are_not_computed_again_and_an_axis_can_grow(whole, tmp_path, monkeypatch):
    calls = counted(monkeypatch)
    store = tmp_path / "store"
    catapult(store, axes=AXES | {"related.lambda0": [1.0, 3.0]}, workers=1)
    assert len(calls) == 10
    full = catapult(store, workers=1)
    assert len(calls) == 15
    assert full.cells.to_dict() == {"total": 15, "done": 15, "failed": 0, "reused": 10}
    assert same(full, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_another_sweep_does_not_drop_finished_cells(whole, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(whole.store, store)
    with pytest.raises(InputError, match="holds 12 finished cells that are not in this sweep"):
        catapult(store, axes={"related.eta": [0.25], "related.lambda0": [1.0, 2.0, 3.0]})
    assert same(fp.open_sweep(store), whole)
    assert catapult(store, axes={"related.eta": [0.25], "related.lambda0": [3.0]}, force=True).cells.reused == 1


def test_a_new_version_of_the_numbers_computes_anew(whole, tmp_path, monkeypatch):
    store = tmp_path / "store"
    shutil.copytree(whole.store, store)
    monkeypatch.setattr(module, "NUMERICS", 10**6)
    with pytest.raises(InputError, match="15 finished cells"):
        catapult(store)
    assert catapult(store, force=True).cells.reused == 0


def test_failed_cells_keep_their_error_and_are_retried_on_request(tmp_path, monkeypatch):
    original = ModelBase.results

    def broken(self, changes, quantities):
        if changes["related.eta"] == 0.75:
            raise ZeroDivisionError("not today")
        return original(self, changes, quantities)

    with monkeypatch.context() as patch:
        patch.setattr(ModelBase, "results", broken)
        first = catapult(tmp_path / "store", workers=1)
    assert first.cells.to_dict() == {"total": 15, "done": 12, "failed": 3, "reused": 0}
    cell = first.data.sel({"related.eta": 0.75, "related.lambda0": 1.0})
    assert (cell["status"], cell["message"]) == ("error", "ZeroDivisionError: not today")
    assert catapult(tmp_path / "store").cells.failed == 3
    healed = catapult(tmp_path / "store", retry=True)
    assert healed.cells.to_dict() == {"total": 15, "done": 15, "failed": 0, "reused": 12}


def test_an_interruption_keeps_what_is_finished(whole, tmp_path, monkeypatch):
    original = ModelBase.results
    done = []

    def stopping(self, changes, quantities):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(changes)
        return original(self, changes, quantities)

    with monkeypatch.context() as patch:
        patch.setattr(ModelBase, "results", stopping)
        with pytest.raises(KeyboardInterrupt) as stopped:
            catapult(tmp_path / "store", workers=1)
    assert stopped.value.result.cells.done == 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert int((xr.open_zarr(tmp_path / "store")["done"] == DONE).sum()) == 7
    rest = catapult(tmp_path / "store")
    assert rest.cells.reused == 7
    assert same(rest, whole)


# ---- damage


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "gone"])
@pytest.mark.parametrize("array", ["numbers", "words", "f", "done"])
def test_a_damaged_chunk_costs_its_cell(whole, tmp_path, array, how):
    store = tmp_path / "store"
    shutil.copytree(whole.store, store)
    (chunk,) = (
        (p for p in (store / array / "c/2/1").rglob("*") if p.is_file()) if array != "done" else [store / "done/c/2/1"]
    )
    damage(chunk, how)
    seen = fp.open_sweep(store)
    assert (seen.cells.done, int(seen["done"][2, 1])) == (14, 0)
    assert np.isnan(seen["ntk_limit"][2, 1])
    mended = catapult(store)
    assert mended.cells.reused == 14
    assert same(mended, whole)


@pytest.mark.parametrize("content", ["", "{", '{"attributes": {}}', '{"attributes": {"form": 1}}', "[]"])
def test_damaged_metadata_are_refused(whole, tmp_path, content):
    store = tmp_path / "store"
    shutil.copytree(whole.store, store)
    (store / "zarr.json").write_text(content)
    with pytest.raises(InputError, match="store "):
        catapult(store)


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/thesis.tex").write_text("years")
    (tmp_path / "b").write_text("a file")
    xr.Dataset({"x": 1.0}).to_zarr(tmp_path / "c", zarr_format=3, consolidated=False)
    for name in "abc":
        with pytest.raises(InputError, match="store "):
            catapult(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        catapult(tmp_path / "nowhere/store")
    with pytest.raises(InputError, match="is no store"):
        fp.open_sweep(tmp_path / "a")
    (tmp_path / "d").mkdir()
    assert catapult(tmp_path / "d").cells.done == 15


def test_no_result_is_saved_over_a_store(whole, tmp_path):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole.store, store)
    with pytest.raises(InputError, match="is the store of a sweep or of tasks, whose cells would be lost"):
        fp.related("catapult", steps=2).save(store)
    assert same(fp.open_sweep(store), whole)
    for _ in range(2):  # a sweep that was saved is no store
        whole.save(tmp_path / "saved.zarr")


def test_one_process_at_a_time(whole, tmp_path):
    import fcntl

    store = tmp_path / "store"
    shutil.copytree(whole.store, store)
    with (store / ".lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="is in use"):
            catapult(store)
        assert same(fp.open_sweep(store), whole)  # readers may look
    assert catapult(store).cells.reused == 15


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantities": ["ntk_limits"]}, "did you mean 'ntk_limit'"),
        ({"quantities": []}, "at least one name"),
        ({"quantities": "ntk_limit"}, "must be a list"),
        ({"quantities": None}, "quantities: missing"),
        ({"axes": None}, "axes: missing"),
        ({"axes": {"related.etas": [1.0]}}, "unknown parameter 'etas'"),
        ({"axes": {"related.eta": [-1.0]}}, "axis related.eta, -1.0"),
        ({"axes": {"related.eta": [lambda x: x]}}, "must be a number, a text"),
        ({"axes": {("related.eta", "related.f0"): [(1.0, 0.1), (0.5,)]}}, "a list of tuples, .* of 2 values each"),
        ({"axes": {("related.eta", "related.f0"): 1.0}}, "a list of tuples"),
        ({"axes": {("related.eta", "related.f0"): [1.0, 2.0]}}, "a list of tuples"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        catapult(**options)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"latent.eta_u": [-1.0, -2.0]}, "axis latent.eta_u, -1.0: eta_u must be at least 0"),
        ({"latent.gamma": [1.0, float("nan")]}, "axis latent.gamma, nan: gamma must be finite"),
        ({"latent.u": [[1.0, 2.0], [1.0]]}, "u has 1 units and w has 2"),
        ({"latent.time": [[0.0], [-1.0]]}, "times must be at least 0"),
        ({"latent.saddle_tolerance": [0.0, 2.0]}, "saddle_tolerance must be in"),
    ],
)
def test_values_of_the_latent_model_that_make_none_are_refused(axes, message):
    with pytest.raises(InputError, match=message):
        fp.sweep({"latent": {"u": [0.5, -0.3], "w": [0.2, 0.7], "cross_moment": 1.0}}, axes=axes, quantities=["kernel"])


@pytest.mark.parametrize(
    ("axes", "quantities", "message"),
    [
        ({"student.activatoin": ["gelu"]}, ["delta_nn"], "unknown key 'activatoin'"),
        ({"activation": ["gelu"]}, ["delta_nn"], "table in front"),
        ({"studnet.activation": ["gelu"]}, ["delta_nn"], "studnet"),
        ({"student.activation": ["gelu", "glue"]}, ["delta_nn"], "axis student.activation, 'glue'"),
        ({"student.activation": ["gelu"]}, ["delta_n"], "unknown quantity 'delta_n'"),
        ({"simulate.dimensions": [30]}, ["hard_overlap"], "unknown key simulate.dimensions"),
    ],
)
def test_refusals_of_experiments(axes, quantities, message):
    with pytest.raises(InputError, match=message):
        fp.sweep(cases.problem(), axes=axes, quantities=quantities)


def test_a_value_that_goes_with_some_entries_of_another_axis():
    problem = cases.problem().replace(asymptotics={"samples": 300, "replicates": 2}, run={"delta": [3.0]})
    found = fp.sweep(
        problem,
        axes={"training.optimiser": ["gradient-descent", "heavy-ball"], "training.momentum": [0.0, 0.5]},
        quantities=["test_loss"],
        workers=1,
    )
    np.testing.assert_array_equal(found["done"], [[DONE, FAILED], [FAILED, DONE]])
    assert "training.momentum" in str(found["message"].values[0, 1])


def test_numbers_that_are_equal_are_one_input():
    problem = cases.problem()
    plans = [
        module.plan_of(
            module.ExperimentBase(problem), module.axes_of([{"key": "training.step_size", "values": v}]), ["delta_nn"]
        )
        for v in ([1, 2], [1.0, 2.0])
    ]
    assert plans[0].keys == plans[1].keys
    other = problem.replace(title="another title")
    assert module.plan_of(module.ExperimentBase(other), plans[0].grid, ["delta_nn"]).keys == plans[0].keys


def test_memory_and_defects_end_in_the_cell():
    class Broken(ModelBase):
        def results(self, changes, quantities):
            raise MemoryError("Unable to allocate 8 TiB")

    base = Broken("related", RELATED["related"])
    cell = cells.compute(base, {}, ("ntk_limit",), cells.layout_of(base, ["ntk_limit"]))
    assert cell.failed
    assert "8 TiB" in cell.words["message"]


# ---- killed

PROGRAM = """
    import sys, time
    import featurephase as fp
    from featurephase.sweeps.bases import ModelBase

    original = ModelBase.results

    def slow(self, changes, quantities):
        time.sleep(0.05)
        return original(self, changes, quantities)

    if __name__ == "__main__":
        ModelBase.results = slow
        print("begin", flush=True)
        fp.sweep({related}, axes={axes}, quantities={quantities}, store=sys.argv[1], workers=1)
        print("end", flush=True)
"""


def started(folder, store):
    script = folder / "script.py"
    text = textwrap.dedent(PROGRAM).format(related=RELATED, axes=AXES, quantities=QUANTITIES)
    script.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(script), str(store)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals here")
def test_a_killed_run_is_taken_up(whole, tmp_path):
    store = tmp_path / "store"
    finished = 0
    for pause in (0.0, 0.15, 0.3):
        process = started(tmp_path, store)
        assert process.stdout.readline() == "begin\n"
        time.sleep(0.5 + pause)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (store / "zarr.json").exists():
            seen = fp.open_sweep(store)
            assert seen.cells.done >= finished
            finished = seen.cells.done
            there = seen["done"] == DONE
            assert whole["ntk_limit"].where(there).equals(seen["ntk_limit"])
    rest = catapult(store)
    assert rest.cells.reused == finished
    assert same(rest, whole)
