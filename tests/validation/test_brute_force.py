"""The reference itself: its Hessian and gradient are the derivatives of its loss, its start has the asked-for Gram."""

from __future__ import annotations

import numpy as np
import pytest

from . import brute_force as bf
from .cases import CASES


@pytest.mark.parametrize("case", CASES.values(), ids=lambda c: c.name)
def test_gradient_and_hessian_are_derivatives_of_the_loss(case):
    """Central differences in float64, step 1e-5: errors ~ 1e-10 of truncation and 1e-11 of round-off."""
    rng = np.random.default_rng(0)
    d, lam, step = 7, 0.3, 1e-5
    a, m = np.array(case.readout), len(case.readout)
    x, y = bf.data(rng, 12, d, case.latent, case.numpy_link)
    theta = bf.start(d, case.gram, case.overlap) + 0.1 * rng.standard_normal((d, m))

    def risk(t):
        return case.loss(y, case.sigma(x @ t)[0] @ a)[0].mean() + lam / 2 * np.sum(t**2)

    def gradient(t):
        weights, losses = bf.descend(x, y, t, a, case.sigma, case.loss, 1.0, lam, 1)
        np.testing.assert_allclose(losses[0] + lam / 2 * np.sum(t**2), risk(t), rtol=1e-13)
        return (weights[0] - weights[1]).T.ravel()  # eta = 1; index r d + i

    moves = step * np.eye(d * m).reshape(-1, m, d).transpose(0, 2, 1)
    measured = [(risk(theta + u) - risk(theta - u)) / (2 * step) for u in moves]
    np.testing.assert_allclose(gradient(theta), measured, atol=1e-8)
    if case.smooth:
        columns = [(gradient(theta + u) - gradient(theta - u)) / (2 * step) for u in moves]
        hessian = bf.hessian(x, y, theta, a, case.sigma, case.loss, lam)
        np.testing.assert_allclose(hessian, np.array(columns).T, atol=1e-8)


def test_start_has_the_gram_and_overlap_asked_for():
    gram, overlap = np.array([[1.0, 0.3], [0.3, 0.8]]), np.array([[0.3, -0.2], [0.0, 0.1]])
    theta = bf.start(9, gram, overlap)
    np.testing.assert_allclose(theta.T @ theta, gram, atol=1e-15)
    np.testing.assert_array_equal(theta[:2], overlap)


def test_overlaps_of_coordinate_vectors():
    basis = np.array([[0.6], [0.8]])
    vectors = np.zeros((2 * 5, 2))
    vectors[5 + 0, 0] = 1.0  # neuron 2, first latent coordinate
    vectors[[1, 5 + 1], 1] = np.sqrt(0.5)  # second latent coordinate, spread over both neurons
    np.testing.assert_allclose(bf.overlaps(vectors, 5, basis), [0.36, 0.64])
