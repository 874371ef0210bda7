"""Steps that are too large for the curvature: said of the limit and of finite networks in the same terms."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.explanation import explain
from featurephase.analyses.prediction import predict
from featurephase.analyses.simulation import simulate
from featurephase.analyses.stability import bulk_grows

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
