"""Ctrl-C in the middle: predict keeps the deltas that are finished, explain what the last Hessian says."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses import explanation, explanation_facts
from featurephase.analyses import prediction as module
from featurephase.foundation.errors import Interrupted
from featurephase.foundation.executors import Processes

from .. import cases


def test_predict_keeps_the_deltas_that_are_finished(monkeypatch):
    whole = Processes.run

    def interrupted(self, function, tasks, **keys):
        if tasks[0][1] == 4.0:
            raise KeyboardInterrupt
        return whole(self, function, tasks, **keys)

    monkeypatch.setattr(Processes, "run", interrupted)
    small = cases.problem(easy_basis=cases.NOTHING_EASY, steps=2)
    small = small.replace(asymptotics={"samples": 2000, "replicates": 2}, run={"times": []})
    with pytest.raises(Interrupted, match="not finished at delta = 4, 5") as stop:
        module.predict(small, delta=[3.0, 4.0, 5.0], workers=1)
    kept = stop.value.result
    assert ([run.delta for run in kept.runs], kept.status) == ([3.0], "interrupted")
    with pytest.raises(KeyboardInterrupt) as stop:
        module.predict(small, delta=4.0, workers=1)
    assert not isinstance(stop.value, Interrupted)


def test_explain_keeps_what_the_last_hessian_says(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(explanation_facts, "threshold_limit", interrupted)
    small = cases.problem(steps=8).replace(asymptotics={"samples": 2000, "replicates": 2})
    with pytest.raises(Interrupted, match="whether hard directions are learned") as stop:
        explanation.explain(small, delta=60.0, workers=1)
    kept = stop.value.result
    assert kept.status == "interrupted"
    (direction,) = kept.directions
    assert (direction.unstable_at_last_step, direction.learned) == (True, None)
    assert "below 0" in direction.mechanism
    assert kept.hard_outlier < kept.left_edge < 0.0
    assert not kept.to_dict()["directions"][0]["windows"]
    assert "undetermined: g1" in kept.verdict
    assert np.isfinite(kept.left_edge_se)
