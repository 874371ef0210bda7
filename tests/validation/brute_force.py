"""Brute force in plain NumPy: gradient descent on a real Gaussian data matrix, and its dense Hessian.

The one reference that everything stochastic is compared with; it imports nothing from featurephase. The latent
directions are the first k axes of R^d, which costs no generality because x is isotropic.
"""

from __future__ import annotations

import numpy as np


def data(rng, n, d, k, link):
    """Covariates (n, d) and responses ``link(g, rng)`` (n,) for g (k, n), the first k coordinates."""
    x = rng.standard_normal((n, d))
    return x, link(x[:, :k].T.copy(), rng)


def start(d, gram, overlap):
    """Weights (d, m) with Theta'Theta = gram (m, m) exactly and first k rows = overlap (k, m)."""
    k, m = np.shape(overlap)
    values, vectors = np.linalg.eigh(np.asarray(gram, float) - np.transpose(overlap) @ overlap)
    theta = np.zeros((d, m))
    theta[:k], theta[k : k + m] = overlap, np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return theta


def descend(x, y, theta, a, sigma, loss, eta, lam, steps):
    """Weights (steps + 1, d, m) and losses (steps + 1,); sigma(h), loss(y, f) -> value, derivative, second one."""
    weights, losses = [], []
    for _ in range(steps + 1):
        s, ds, _ = sigma(x @ theta)
        value, slope, _ = loss(y, s @ a)
        weights.append(theta)
        losses.append(value.mean())
        theta = (1 - eta * lam) * theta - eta * x.T @ (slope[:, None] * ds * a) / len(y)
    return np.array(weights), np.array(losses)


def hessian(x, y, theta, a, sigma, loss, lam):
    """Hessian (m d, m d) of the penalised risk; index r d + i is coordinate i of neuron r."""
    (n, d), m = x.shape, len(a)
    s, ds, dds = sigma(x @ theta)
    _, slope, curve = loss(y, s @ a)
    h = lam * np.eye(m * d)
    for r in range(m):
        for q in range(r, m):
            w = curve * a[r] * a[q] * ds[:, r] * ds[:, q] + (r == q) * slope * a[r] * dds[:, r]
            block = (x * w[:, None]).T @ x / n
            h[r * d : (r + 1) * d, q * d : (q + 1) * d] += block
            if q > r:
                h[q * d : (q + 1) * d, r * d : (r + 1) * d] += block.T
    return h


def overlaps(vectors, d, basis):
    """Squared projections of the columns of (m d, .) on R^m (x) span of the columns of ``basis`` (k, .) of R^k."""
    parts = vectors.reshape(len(vectors) // d, d, vectors.shape[1])[:, : len(basis)]
    return np.sum(np.einsum("rkv,kh->rhv", parts, basis) ** 2, axis=(0, 1))
