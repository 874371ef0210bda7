"""Steps that are too large for the curvature: said of the limit and of finite networks in the same terms."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.explanation import explain
from featurephase.analyses.prediction import predict
from featurephase.analyses.simulation import simulate
from featurephase.analyses.stability import alternating_outlier, bulk_grows

from .. import cases


def problem(step_size: float):
    """At the start of this neuron the right edge is .55 at n/d = 20."""
    small = cases.problem(easy_basis=cases.NOTHING_EASY, steps=2, step_size=step_size)
    return small.replace(asymptotics={"samples": 2000, "replicates": 2}, run={"delta": [20.0], "times": [0]})


@pytest.mark.parametrize(("step_size", "grows"), [(3.0, False), (4.2, True)])
def test_theory_and_simulation_say_whether_a_step_is_too_large(step_size, grows):
    p = problem(step_size)
    found = predict(p)
    entry = found.runs[0].hessian[0]
    assert (step_size * entry.right_edge > 2.0) == grows
    assert not bulk_grows(p, entry)  # in two steps by less than a factor of 10
    assert bulk_grows(p.replace(training={"steps": 20}), entry) == grows
    assert any("step size times right edge" in w for w in found.warnings) == grows
    measured = simulate(p, dimension=100, seeds=2, recovery=False, predicted=False)
    largest = measured.runs[0].hessian[0].largest[-1]
    assert (step_size * largest > 2.0) == any("step size times largest eigenvalue" in w for w in measured.warnings)


def test_where_the_bulk_grows_no_verdict_is_given():
    p = problem(6.0).replace(training={"steps": 3}, run={"times": [3]})
    found = explain(p, delta=20.0, dimension=300)
    (entry,) = found.directions
    assert (found.status, entry.learned, entry.learned_by_last_step) == ("undetermined", None, None)
    assert "directions of the bulk grow" in found.message
    assert "smaller training.step_size" in entry.change
    assert entry.unstable_at_last_step is not None
    assert np.isfinite(entry.delta_alg)


def test_steps_that_overshoot_along_a_hard_outlier_are_no_stable_plateau():
    """A response that the neuron opposes: its weights shrink to 0, where the curvature along g1 is the largest.

    Finite networks (d = 400, two seeds) hold .92 of their weights along it from step 10 on.
    """
    p = cases.problem(link="-1.5*tanh(g1**2)", step_size=1.8, steps=12)
    p = p.replace(asymptotics={"samples": 2000, "replicates": 2}, run={"delta": [60.0], "times": [12]})
    found = predict(p)
    entry = found.runs[0].hessian[0]
    assert 1.8 * entry.right_edge < 2.0 < 1.8 * entry.hard_outliers[-1].value
    assert any("step size times hard outlier" in w for w in found.warnings)
    said = explain(p, delta=60.0)
    (direction,) = said.directions
    assert (said.status, direction.learned, direction.unstable_at_last_step) == ("undetermined", None, True)
    assert "overshoot" in said.message
    assert "alternating" in direction.mechanism
    small = p.replace(training={"step_size": 1.2})
    assert alternating_outlier(small, predict(small).runs[0].hessian[0]) is None
