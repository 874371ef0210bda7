"""Linear activation and link, squared loss: the recursion against the average over the Marchenko-Pastur law."""

from __future__ import annotations

import numpy as np
import pytest

from . import brute_force as bf
from .cases import CASES
from .evidence import Comparison, Estimate, assert_agree
from .experiments import theory_trajectory
from .ridge import marchenko_pastur, ridge

CASE, TIMES = CASES["ridge"], (0, 1, 2, 5, 15)


def exact(times):
    named = {}
    for t in times:
        named |= ridge(t, delta=CASE.delta, eta=CASE.eta, lam=CASE.lam, noise=0.5, start=CASE.gram[0][0])
    return named


def ridge_comparison(samples, replicates):
    theory, reference = theory_trajectory(CASE, TIMES, samples, replicates), exact(TIMES)
    return [Comparison(f"ridge: {n}", e, Estimate(reference[n])) for n, e in theory.items()]


def test_marchenko_pastur_moments():
    """1, 1, 1 + 1/delta, 1 + 3/delta + 1/delta^2; 1/(1 - 1/delta) for the inverse."""
    for delta in (1.5, 4.0):
        y = 1 / delta
        for power, value in ((0, 1), (1, 1), (2, 1 + y), (3, 1 + 3 * y + y**2), (-1, 1 / (1 - y))):
            assert marchenko_pastur(lambda x, p=power: x**p, delta) == pytest.approx(value, rel=1e-9)


def test_closed_form_against_one_large_matrix():
    """d = 1500: fluctuations of these quantities are about 1/sqrt(n) = .02 of one run, 5 of them are allowed."""
    rng = np.random.default_rng(0)
    d, steps = 1500, 5
    x, y = bf.data(rng, 2 * d, d, 1, CASE.numpy_link)
    theta = bf.start(d, CASE.gram, CASE.overlap)
    w, losses = bf.descend(x, y, theta, np.ones(1), CASE.sigma, CASE.loss, CASE.eta, CASE.lam, steps)
    want = exact((steps,))
    assert losses[-1] == pytest.approx(want["train loss, t=5"], abs=0.1 * want["train loss, t=5"])
    assert np.sum(w[-1] ** 2) == pytest.approx(want["Q11, t=5"], rel=0.1)
    assert w[-1, 0, 0] == pytest.approx(want["M11, t=5"], rel=0.1)


def test_recursion_against_the_marchenko_pastur_average():
    assert_agree(ridge_comparison(30_000, 6), resolution=5e-3)


@pytest.mark.slow
def test_recursion_to_a_thousandth():
    found = ridge_comparison(400_000, 12)
    assert_agree(found, resolution=1e-3)
    for c in found:
        assert abs(c.theory.value - c.reference.value) < 1e-3 + 2 * c.theory.se, c.row()
