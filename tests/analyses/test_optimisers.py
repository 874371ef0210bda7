"""predict and threshold work with every optimiser; dense Hessians under them stand where predict says."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.prediction import predict
from featurephase.analyses.simulation import simulate
from featurephase.analyses.threshold import threshold
from featurephase.problem import Problem

from .. import cases

RULES = [
    {"optimiser": "heavy-ball", "momentum": 0.4},
    {"optimiser": "nesterov", "momentum": 0.4, "weight_decay": 0.05},
    {"batch_fraction": 0.5},
    {"batch_fraction": 0.5, "batches": "reshuffled"},
    {"batch_fraction": 0.5, "batches": "one-pass"},
    {"gradient_scaling": "orthogonalise", "step_size": 0.2},
    {"schedule": "power", "warmup": 1},
]


def problem(**keys) -> Problem:
    small = cases.problem(**({"steps": 3} | keys))
    return small.replace(asymptotics={"samples": 10_000, "replicates": 2}, threshold={"delta_range": [1, 100]})


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_edges_under_every_rule(rule):
    """Dense at d = 300: an edge fluctuates and is shifted by d^(-2/3) = .022 of its scale; the scale is of order 1."""
    p = problem(**rule)
    theory = predict(p, delta=6.0, times=[3], workers=1).runs[0].hessian[0]
    ratio = p.training.data_ratio(6.0)
    if p.training.one_pass:
        assert ratio == 3.0
    measured = (
        simulate(
            p,
            dimension=300,
            delta=6.0,
            seeds=4,
            method="dense",
            eigenvalues=2,
            recovery=False,
            predicted=False,
            workers=1,
        )
        .runs[0]
        .hessian[0]
    )
    assert theory.status == "ok"
    span = theory.right_edge - theory.left_edge
    bulk = 1 if any(o.side == "left" for o in (*theory.hard_outliers, *theory.outliers)) else 0
    assert abs(measured.smallest[bulk] - theory.left_edge) < 3 * 300 ** (-2 / 3) * span
    assert abs(measured.largest[-1] - theory.right_edge) < 3 * 300 ** (-2 / 3) * span or theory.outliers


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_threshold_under_every_rule(rule):
    found = threshold(problem(**rule), times=[2], workers=1)
    (entry,) = found.delta_nn
    if rule.get("batches") == "one-pass":  # the Hessian of one batch decides nothing
        assert entry.status == "not-predicted"
        return
    assert np.isfinite(entry.value)
    assert 1 < entry.value < 100
