"""What predictions say of unbounded curvature and of losses without a mean: the same whatever the number of paths."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase import Problem, predict
from featurephase.analyses.network_threshold import network_threshold
from featurephase.subspaces import problem_subspaces

TEXT = """
[teacher]
latent_dim = 1
link = "{link}"
[student]
activation = "{activation}"
readout = [{readout}]
[loss]
name = "{loss}"
[training]
step_size = 0.05
steps = 2
[asymptotics]
samples = {samples}
replicates = 2
[run]
delta = [{delta}]
times = [2]
"""


def experiment(link, activation, loss, *, readout=1.0, samples=1024, delta=10.0):
    text = TEXT.format(link=link, activation=activation, loss=loss, readout=readout, samples=samples, delta=delta)
    return Problem.from_toml(text)


def prediction(*given, **options):
    return predict(experiment(*given, **options), quiet=True)


@pytest.mark.parametrize("samples", [512, 1024, 3000])
def test_the_right_edge_does_not_depend_on_the_number_of_paths(samples) -> None:
    for link in ("g1**2", "log(abs(g1))"):
        loss = "squared" if "log" in link else "phase_retrieval"
        result = prediction(link, "quadratic", loss, samples=samples)
        assert result.runs[0].hessian[0].right_edge == np.inf
        assert any("unbounded above" in w for w in result.warnings)


def test_a_tail_that_no_sample_reaches_is_mentioned() -> None:
    """At delta = 1000 a single sample would have to be 500 times the mean to move the right edge."""
    result = prediction("tanh(g1)", "quadratic", "squared", readout=0.5, delta=1000.0)
    assert np.isfinite(result.runs[0].hessian[0].right_edge)
    assert any("unbounded above, but no sample of a realistic number" in w for w in result.warnings)


def test_a_loss_that_is_concave_on_a_thin_strip() -> None:
    result = prediction("hermite(3, g1)", "hermite(3)", "cauchy", readout=0.3)
    assert result.status == "unbounded-curvature"
    assert "the loss is concave where" in result.message


def test_losses_without_a_mean() -> None:
    result = prediction("e1/e2", "linear", "squared")
    assert result.status == "heavy-tails"
    assert "near a pole in e2" in result.message
    problem = experiment("e1/e2", "linear", "squared")
    assert network_threshold(problem, 2, problem_subspaces(problem)).status == "heavy-tails"
    bounded_slope = prediction("exp(g1**2)", "tanh", "huber")
    assert bounded_slope.status == "ok"
    assert any("the loss has no mean" in w and "far out in g and e" in w for w in bounded_slope.warnings)
    assert not any("no mean" in w for w in prediction("g1**3", "tanh", "squared").warnings)
