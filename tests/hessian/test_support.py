"""Which curvatures a law can reach: bounded, its infimum, and unbounded in different ways."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.dynamics.network import Network
from featurephase.functions import activation, link, loss
from featurephase.hessian.support import curvature_support

ONE = np.array([[0.0], [1.0]])  # one latent direction with overlap 0, norm 1


def support(sigma, teacher, criterion="squared", weights=ONE, readout=(1.0,)):
    network = Network(activation(sigma), np.array(readout), loss(criterion))
    return curvature_support(network, link(teacher, len(weights) - len(readout)), weights)


def extremes(found):
    return (
        np.linalg.eigvalsh(np.moveaxis(found.lowest, 2, 0)).min(),
        np.linalg.eigvalsh(np.moveaxis(found.highest, 2, 0)).max(),
    )


@pytest.mark.parametrize(
    ("sigma", "teacher", "criterion", "below", "above"),
    [
        ("tanh", "tanh(g1)", "squared", False, False),
        ("linear", "exp(g1)", "squared", False, False),  # W = 1
        ("gelu", "g1**3", "logistic", True, True),  # loss' ~ y
        ("gelu", "sign(g1)", "logistic", False, False),
        ("tanh", "g1**2", "squared", True, True),
        ("tanh", "g1 + e1", "squared", True, True),
        ("tanh", "log(1 + g1**2)", "squared", True, True),  # grows like a logarithm, but grows
        ("tanh", "exp(g1)", "squared", True, True),  # overflows on the way
        ("tanh", "g1**2", "pseudo_huber", False, False),  # bounded influence
        ("quadratic", "tanh(g1)", "squared", False, True),  # 6 h^2 - 2 y >= -2
        ("softplus", "tanh(g1)", "squared", False, False),
    ],
)
def test_unbounded_sides(sigma, teacher, criterion, below, above):
    found = support(sigma, teacher, criterion)
    assert (found.unbounded_below, found.unbounded_above) == (below, above)


@pytest.mark.parametrize(
    ("sigma", "teacher", "infimum", "supremum"),
    [
        ("tanh", "0*g1", -1 / 3, 1.0),  # (1 - u)(1 - 3 u), u = tanh^2
        ("sin", "0*g1", -1.0, 1.0),  # cos^2 - sin^2
        ("quadratic", "tanh(g1)", -2.0, None),
        ("linear", "g1", None, 1.0),
    ],
)
def test_extremes_in_closed_form(sigma, teacher, infimum, supremum):
    """The infimum is polished; the supremum is the largest of the draws, which is enough to say that it is there."""
    low, high = extremes(support(sigma, teacher))
    if infimum is not None:
        assert low == pytest.approx(infimum, abs=1e-4)
    if supremum is not None:
        assert high == pytest.approx(supremum, rel=2e-3)
        assert high <= supremum + 1e-12


def test_bounds_hold_for_every_later_sample():
    """A million Gaussian samples of the same law never pass what was explored."""
    found = support("tanh", "sin(2*g1)")
    rng = np.random.default_rng(0)
    network = Network(activation("tanh"), np.ones(1), loss("squared"))
    w = network.curvature(rng.standard_normal((1, 10**6)), np.sin(2 * rng.standard_normal(10**6)))
    low, high = extremes(found)
    assert low <= w.min() + 1e-9
    assert high >= w.max() - 1e-2


@pytest.mark.parametrize("teacher", ["log(1 + g1**2)", "log(1 + abs(g1))"])
@pytest.mark.parametrize("sigma", ["tanh", "gelu"])
def test_slow_growth_is_recognised_whatever_the_draws(sigma, teacher):
    network = Network(activation(sigma), np.ones(1), loss("squared"))
    found = [curvature_support(network, link(teacher, 1), ONE, seed=s) for s in range(4)]
    assert all(f.unbounded_below and f.unbounded_above for f in found)


@pytest.mark.parametrize("teacher", ["tanh(g1**2)", "sin(3*g1)", "where(u1 < 0.5, 1, -1)*tanh(5*g1)"])
@pytest.mark.parametrize("sigma", ["tanh", "erf"])
def test_bounded_curvature_is_recognised_whatever_the_draws(sigma, teacher):
    network = Network(activation(sigma), np.ones(1), loss("squared"))
    found = [curvature_support(network, link(teacher, 1), ONE, seed=s) for s in range(3)]
    assert not any(f.unbounded_below or f.unbounded_above for f in found)


def test_several_neurons():
    weights = np.array([[0.0, 0.0], [1.0, 0.3], [0.0, 0.9]])
    bounded = support("tanh", "tanh(g1)", weights=weights, readout=(1.0, -0.5))
    assert bounded.lowest.shape[:2] == (2, 2)
    assert not bounded.unbounded_below
    assert support("tanh", "g1**2", weights=weights, readout=(1.0, -0.5)).unbounded_below


def test_deterministic():
    a, b = support("gelu", "tanh(g1)"), support("gelu", "tanh(g1)")
    np.testing.assert_array_equal(a.lowest, b.lowest)
