"""The reference of networks with trained second layers: its derivatives, and the numbers of theory, section 8."""

from __future__ import annotations

import numpy as np
import pytest

from .evidence import Comparison, Estimate, assert_agree, compare
from .trained_cases import CASES
from .trained_record import limits, recorded
from .trained_reference import gradients, hessian
from .trained_theory import theory_trajectory

#: theory/trained-layers, the measured example (section 8): 4 x 60 000 paths; and its errors, stated for these alone.
SECTION_8 = {
    "train loss, t=1": 1.0782,
    "train loss, t=5": 0.9428,
    "train loss, t=10": 0.8844,
    "Q11, t=1": 0.753,
    "Q11, t=5": 1.063,
    "Q11, t=10": 1.680,
    "A11, t=10": 0.8385,
    "b1, t=10": 0.1078,
    "b2, t=10": -0.2326,
    "c1, t=10": -0.082,
    "c2, t=10": -0.031,
    "c3, t=10": 0.113,
}
STATED = {"train loss, t=1": 0.0009, "train loss, t=5": 0.0009, "train loss, t=10": 0.0009, "A11, t=10": 0.0008}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_gradient_and_hessian_are_derivatives_of_the_loss(case):
    """Central differences in float64, step 1e-5: errors ~ 1e-10 of truncation and 1e-11 of round-off."""
    rng = np.random.default_rng(0)
    d, n, step, (m, outputs) = 6, 15, 1e-5, np.shape(case.readout)
    x = rng.standard_normal((n, d))
    y = case.labels(x[:, : case.latent].T, rng)
    state = [case.first_weights(d) + 0.1 * rng.standard_normal((d, m)), *case.parameters]

    def parts(v):
        theta, a, b, c = np.split(v, np.cumsum([m * d, m * outputs, m]))
        return [theta.reshape(m, d).T, a.reshape(m, outputs), b, c]

    def loss_and_gradient(v):
        theta, *psi = parts(v)
        loss, (slope, *rest) = gradients(case, x, y, theta, psi, np.ones(n))
        return loss, np.concatenate([slope.T.ravel(), *(p.ravel() for p in rest)])

    v = np.concatenate([state[0].T.ravel(), *(p.ravel() for p in state[1:])])
    ahead, behind = ([loss_and_gradient(v + s * u) for u in step * np.eye(len(v))] for s in (1, -1))
    measured = [(a[0] - b[0]) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    np.testing.assert_allclose(loss_and_gradient(v)[1], measured, atol=1e-8)
    columns = [(a[1] - b[1]) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    np.testing.assert_allclose(hessian(case, x, y, state[0], state[1:]), np.array(columns).T, atol=1e-8)


def section_8(samples: int, replicates: int) -> list[Comparison]:
    """featurephase against those numbers of the theory that are stated with an error."""
    found = theory_trajectory(CASES["three classes"], (1, 5, 10), samples, replicates)
    theirs = {name: Estimate(SECTION_8[name], se) for name, se in STATED.items()}
    return compare({name: found[name] for name in STATED}, theirs, "section 8: ")


@pytest.mark.slow
def test_the_numbers_of_the_theory():
    assert_agree(section_8(30_000, 8), resolution=0.01)


def test_recorded_numbers_are_those_of_the_theory():
    """The recorded limits, independent of featurephase, against what the theory page says was measured.

    Where it states no error, that of the recorded number is taken for it too.
    """
    found = limits(recorded()["three classes"]["trajectory"])
    reference = {name: found[name] for name in SECTION_8}
    theory = {name: Estimate(value, STATED.get(name, found[name].se)) for name, value in SECTION_8.items()}
    assert_agree(compare(theory, reference), resolution=0.03)
