"""The reference of networks with trained biases and read-outs: its derivatives, and the numbers of theory, section 8."""

from __future__ import annotations

import numpy as np
import pytest

from .evidence import Estimate, assert_agree, compare
from .trained_cases import CASES
from .trained_record import limits, recorded
from .trained_reference import gradients, hessian

#: theory/trained-layers, the measured example (section 8): 4 x 60 000 paths. Errors where they are given, otherwise that
#: of the losses scaled by the spread of the number.
SECTION_8 = {
    "train loss, t=1": Estimate(1.0782, 0.0009),
    "train loss, t=5": Estimate(0.9428, 0.0009),
    "train loss, t=10": Estimate(0.8844, 0.0009),
    "Q11, t=1": Estimate(0.753, 0.004),
    "Q11, t=5": Estimate(1.063, 0.008),
    "Q11, t=10": Estimate(1.680, 0.012),
    "A11, t=10": Estimate(0.8385, 0.0008),
    "b1, t=10": Estimate(0.1078, 0.0008),
    "b2, t=10": Estimate(-0.2326, 0.0008),
    "c1, t=10": Estimate(-0.082, 0.002),
    "c2, t=10": Estimate(-0.031, 0.002),
    "c3, t=10": Estimate(0.113, 0.002),
}


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


def test_recorded_numbers_are_those_of_the_theory():
    """The recorded limits, independent of featurephase, against what the theory page says was measured."""
    found = limits(recorded()["three classes"]["trajectory"])
    assert_agree(compare(SECTION_8, {name: found[name] for name in SECTION_8}), resolution=0.03)
