"""Kernels of the cosine on a sphere in spherical harmonics: eigenvalues and multiplicities by degree."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import eval_gegenbauer, roots_gegenbauer

from featurephase.foundation.types import Array

#: Degrees of spherical harmonics that are kept one by one; what is above acts as a ridge.
DEGREES = 12


def arc_cosine(t: Array) -> Array:
    """E[relu(u.x) relu(u.x')] over standard normal u, for inputs of norm sqrt d at cosine t, over d."""
    angle = np.arccos(np.clip(t, -1.0, 1.0))
    return np.asarray((np.sin(angle) + (math.pi - angle) * np.cos(angle)) / (2.0 * math.pi))


def quadratic(t: Array) -> Array:
    """The square, what a layer of squares with its mean taken off has."""
    return np.asarray(t**2)


KERNELS = {"quadratic": quadratic, "relu": arc_cosine}


class Zonal(NamedTuple):
    """Eigenvalues of a kernel by degree, their multiplicities, and the trace of the degrees left out."""

    eigenvalues: Array
    multiplicity: Array
    rest: float


def zonal_coefficients(kernel: str, d: int) -> Zonal:
    """Eigenvalues of a kernel of the cosine on the sphere in d dimensions, by Gauss-Gegenbauer quadrature."""
    order = (d - 2) / 2.0
    nodes, weights = roots_gegenbauer(400, order)
    weights = weights / weights.sum()
    degree = np.arange(DEGREES + 1.0)
    logs = [math.lgamma(d + x - 2) - math.lgamma(x + 1) - math.lgamma(d - 1) for x in degree]
    multiplicity = np.round((2 * degree + d - 2) * np.exp(logs))
    values = KERNELS[kernel](nodes)
    harmonics = np.array([eval_gegenbauer(x, order, nodes) / eval_gegenbauer(x, order, 1.0) for x in degree])
    eigenvalues = harmonics @ (weights * values)
    eigenvalues[np.abs(eigenvalues) < 1e-14 / multiplicity] = 0.0
    trace = float(KERNELS[kernel](np.ones(1))[0])
    return Zonal(eigenvalues, multiplicity, max(trace - float(eigenvalues @ multiplicity), 0.0))
