"""Asymptotic risks of ridge regression: isotropic and general covariance, given and random features.

The estimator minimises (1/n)|y - X beta|^2 + ridge |beta|^2; ridge 0 is the interpolator of least norm. Risks are
excess test risks, bias and variance, as samples n and features p grow at a fixed ratio (theory/related, eq. rel-ridge;
Hastie, Montanari, Rosset, Tibshirani, arXiv:1903.08560; random features: Simon, Karkada, Ghosh, Belkin,
arXiv:2311.14646).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from featurephase.foundation.types import Array


class Risk(NamedTuple):
    """Excess test risk in two parts; ``kappa`` is the effective ridge (nan where it plays no part)."""

    bias: float
    variance: float
    kappa: float = math.nan


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """A root to rounding error, however small it is."""
    return float(brentq(function, low, high, xtol=1e-300, rtol=1e-15))


def _level(spectrum: Array, times: Array, level: float) -> float:
    """The c at which the sum of s/(s + c) is this level, 0 if it is less already at c = 0."""
    if times.sum() <= level:
        return 0.0
    most = float(np.sum(times * spectrum)) / level
    return _root(lambda c: float(np.sum(times * spectrum / (spectrum + c))) - level, 1e-300, most + 1e-300)


def isotropic_risk(ratio: float, ridge: float, signal: float, noise: float) -> Risk:
    """Risk for covariance I: ratio g = p/n > 0, ridge >= 0, ``signal`` = |beta|^2, ``noise`` a variance."""
    g = ratio
    if ridge == 0.0:
        if g == 1.0:
            return Risk(0.0, math.inf if noise > 0.0 else 0.0)
        return Risk(0.0, noise * g / (1.0 - g)) if g < 1.0 else Risk(signal * (1.0 - 1.0 / g), noise / (g - 1.0))
    b = 1.0 - g + ridge
    root = math.sqrt(b * b + 4.0 * g * ridge)
    u = 2.0 * ridge / (root + b) if b >= 0.0 else (root - b) / (2.0 * g)  # lambda m(-lambda), without cancellation
    return Risk(signal * u * (g * u + ridge) / root, 2.0 * noise * g / (root * (1.0 + g + ridge + root)))


def best_ridge(ratio: float, signal: float, noise: float) -> tuple[float, float]:
    """The ridge of least risk for covariance I, noise g/signal, and that risk."""
    ridge = noise * ratio / signal
    risk = isotropic_risk(ratio, ridge, signal, noise)
    return ridge, risk.bias + risk.variance


def general_risk(
    spectrum: Array, squares: Array, samples: float, ridge: float, noise: float, multiplicity: Array | None = None
) -> Risk:
    """Risk for a covariance with eigenvalues ``spectrum`` > 0 and coefficients beta_i^2 in its basis, each (feature,).

    ``samples`` is n > 0, ``noise`` a variance. ``multiplicity`` says how often each eigenvalue occurs (default once);
    ``squares`` are then sums over each.
    """
    s, times = spectrum, np.ones_like(spectrum) if multiplicity is None else multiplicity
    total = float(np.sum(times * s))

    def excess(kappa: float) -> float:
        return kappa * (1.0 - float(np.sum(times * s / (s + kappa))) / samples) - ridge

    if ridge > 0.0:
        kappa = _root(excess, ridge * (1.0 - 1e-12), ridge + total / samples * (1.0 + 1e-12))
    else:  # the effective ridge of the interpolator: sum s/(s + kappa) = n
        kappa = _level(s, times, samples)
    shares = s / (s + kappa)
    rest = 1.0 - float(np.sum(times * shares**2)) / samples
    if rest <= 1e-14:
        return Risk(0.0, math.inf if noise > 0.0 else 0.0, kappa)
    bias = kappa**2 * float(np.sum(squares * s / (s + kappa) ** 2)) / rest
    return Risk(bias, noise * (1.0 - rest) / rest, kappa)


def random_features_risk(
    spectrum: Array, energies: Array, samples: float, features: float, penalty: float, noise: float
) -> Risk:
    """Risk of k random linear features of inputs with eigenvalues ``spectrum`` > 0, averaged over the features.

    ``energies`` are those of the target in the eigenbasis, s_i beta_i^2; both (input,). ``penalty`` >= 0 is the ridge
    on the sum of squares, n times the ridge of the other functions; ``noise`` is a variance.
    """
    s, n, k, once = spectrum, samples, features, np.ones_like(spectrum)

    def z_of(c: float) -> float:
        return float(np.sum(s / (s + c)))

    high = 2.0 * float(s.sum()) / min(n, k) + penalty + 1e-300

    if penalty > 0.0:
        low = max(_level(s, once, k), 1e-300)

        def excess(c: float) -> float:
            z = z_of(c)
            return math.inf if z >= k else (z - n) * c * (1.0 - z / k) + penalty

        while excess(high) > 0.0:
            high *= 2.0
        c = _root(excess, low * (1.0 + 1e-15), high)
        kappa = c * (1.0 - z_of(c) / k)
    else:
        c = _level(s, once, min(n, k))
        kappa = c * (1.0 - n / k) if n < k else 0.0
        if n == k and c > 0.0:
            return Risk(math.inf, math.inf if noise > 0.0 else 0.0, 0.0)
    shares = s / (s + c)
    z, q = float(shares.sum()), float(np.sum(shares**2))
    rest = 1.0 - (q * (k - 2.0 * z) + z * z) / (n * (k - q))
    if rest <= 1e-14:
        return Risk(0.0, math.inf if noise > 0.0 else 0.0, kappa)
    missed = c / (s + c) - kappa * s / (s + c) ** 2 * k / (k - q)
    return Risk(float(np.sum(missed * energies)) / rest, noise * (1.0 - rest) / rest, kappa)


def risk_of_features(features: Array, targets: Array, samples: float, ridge: float) -> tuple[Risk, float]:
    """Excess risk of ridge regression on real features over the best linear predictor, and what that one misses.

    Features (data, feature) and targets (data,) are the population from which training sets of ``samples``, few against
    it, are drawn. What the best predictor misses acts as noise.
    """
    count = len(features)
    values, vectors = np.linalg.eigh(features.T @ features / count)
    kept = values > 1e-12 * values[-1]
    spectrum = values[kept]
    coefficients = vectors[:, kept].T @ (features.T @ targets / count) / spectrum
    misfit = float(np.mean(targets**2) - np.sum(spectrum * coefficients**2))
    return general_risk(spectrum, coefficients**2, samples, ridge, misfit), misfit
