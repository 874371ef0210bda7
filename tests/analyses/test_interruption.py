"""Ctrl-C in the middle of several deltas: predict keeps those that are finished."""

from __future__ import annotations

import pytest

from featurephase.analyses import prediction as module
from featurephase.foundation.errors import Interrupted

from .. import cases


def test_predict_keeps_the_deltas_that_are_finished(monkeypatch):
    whole = module.run_tasks

    def interrupted(function, tasks, **keys):
        if tasks[0][1] == 4.0:
            raise KeyboardInterrupt
        return whole(function, tasks, **keys)

    monkeypatch.setattr(module, "run_tasks", interrupted)
    small = cases.problem(easy_basis=cases.NOTHING_EASY, steps=2)
    small = small.replace(asymptotics={"samples": 2000, "replicates": 2}, run={"times": []})
    with pytest.raises(Interrupted, match="not finished at delta = 4, 5") as stop:
        module.predict(small, delta=[3.0, 4.0, 5.0], workers=1)
    kept = stop.value.result
    assert ([run.delta for run in kept.runs], kept.status) == ([3.0], "interrupted")
    with pytest.raises(KeyboardInterrupt) as stop:
        module.predict(small, delta=4.0, workers=1)
    assert not isinstance(stop.value, Interrupted)
