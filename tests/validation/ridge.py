"""Ridge regression by gradient descent: the exact limit, an average over the Marchenko-Pastur law.

y = g + s e, f = theta'x, loss (y - f)^2/2, theta(0) of squared norm q orthogonal to the teacher. In the eigenbasis of
X'X/n, with eigenvalue L and c = L + lam, theta = P theta_* + B theta(0) + P/L X'e s/n, B = (1 - eta c)^t and
P = L (1 - B)/c; X'e/n has variance L/n in each of the d directions.
"""

from __future__ import annotations

import numpy as np


def marchenko_pastur(function, delta: float, nodes: int = 2000) -> float:
    """Mean of ``function`` over the law of the eigenvalues of X'X/n, n/d = delta > 1 (Chebyshev nodes)."""
    angle = (np.arange(nodes) + 0.5) * np.pi / nodes
    root = 1 / np.sqrt(delta)
    x = 1 + root**2 + 2 * root * np.cos(angle)
    weight = 2 * root * np.sin(angle) * delta / (2 * np.pi * x) * 2 * root * np.sin(angle)
    return float(np.sum(function(x) * weight) * np.pi / nodes)


def ridge(t: int, *, delta: float, eta: float, lam: float, noise: float, start: float) -> dict[str, float]:
    """Overlap, squared norm, training and test loss at step t."""

    def mean(function):
        return marchenko_pastur(lambda x: function(x, x / (x + lam) * (1 - b(x)), b(x)), delta)

    def b(x):
        return (1 - eta * (x + lam)) ** t

    s2 = noise**2
    overlap = mean(lambda x, p, b: p)
    norm = mean(lambda x, p, b: p**2 + start * b**2 + s2 * p**2 / (x * delta))
    cross = mean(lambda x, p, b: x * p + s2 * p / delta)  # theta' X'y/n
    fitted = mean(lambda x, p, b: x * (p**2 + start * b**2) + s2 * p**2 / delta)  # |X theta|^2/n
    return {
        f"train loss, t={t}": (1 + s2 - 2 * cross + fitted) / 2,
        f"test loss, t={t}": (1 + s2 - 2 * overlap + norm) / 2,
        f"Q11, t={t}": norm,
        f"M11, t={t}": overlap,
    }
