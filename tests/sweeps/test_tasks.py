"""Named tasks that are kept: the store of the ledger."""

import pytest

from featurephase.foundation.errors import InputError
from featurephase.sweeps.tasks import run_keyed

RUNS = []


def square(x, bad=False):
    RUNS.append(x)
    if bad:
        raise InputError("no square today")
    return {"square": x * x, "list": [1.5, float("inf")]}


def test_finished_tasks_are_kept_and_others_left_alone(tmp_path):
    RUNS.clear()
    store = tmp_path / "store"
    seen = []
    first = run_keyed(store, {"a": (square, (2,)), "b": (square, (3, True))}, on_result=lambda n, o: seen.append(n))
    assert first["a"].document == {"square": 4, "list": [1.5, "inf"]}
    assert (first["b"].status, first["b"].message, first["b"].document) == ("error", "no square today", {})
    assert (RUNS, seen) == ([2, 3], ["a", "b"])
    second = run_keyed(store, {"a": (square, (2,)), "c": (square, (4,))})
    assert RUNS == [2, 3, 4]
    assert second["a"].reused
    assert second["a"].document == first["a"].document
    third = run_keyed(store, {"a": (square, (5,)), "b": (square, (3, True)), "c": (square, (4,))})
    assert RUNS == [2, 3, 4, 5]  # other arguments
    assert third["a"].document["square"] == 25
    run_keyed(store, {"b": (square, (3, True))}, retry=True)
    assert RUNS[-1] == 3


def test_the_store_of_a_sweep_is_no_store_of_tasks(tmp_path):
    import featurephase as fp

    store = tmp_path / "store"
    fp.sweep({"related": {"model": "catapult"}}, axes={"eta": [1.0]}, quantities=["ntk_limit"], store=store)
    with pytest.raises(InputError, match="something else"):
        run_keyed(store, {"a": (square, (2,))})
