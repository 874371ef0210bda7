"""Gaussian averages of erf and ReLU units, in closed form up to one smooth integral (docs/related/teacher-student).

Arguments are covariances of jointly normal variables a, b, c, d, arrays that broadcast. Units: g(x) = erf(x/sqrt 2)
(Saad and Solla, Phys. Rev. E 52, 4225) or max(x, 0). Variables may coincide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from featurephase.foundation.types import Array

Indices = NDArray[np.int_]

#: Nodes of the one integral, over an angle along which the integrand is smooth.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
#: A conditional variance below this is 0 up to rounding (units have norms of order one).
_VANISHED = 1e-14
#: Variables whose correlation is within this of 1 have the same sign.
_SAME = 1e-12
_PAIRS = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2), (1, 2, 0, 3), (1, 3, 0, 2), (2, 3, 0, 1))


class Unit(NamedTuple):
    """An activation with its averages over normal variables.

    ``four`` takes the covariance of all variables, shape (variable, variable), and the indices of a, b, c and d among
    them, shape (..., 4); the same variable may occur several times.
    """

    value: Callable[[Array], Array]  # g itself
    slope: Callable[[Array], Array]  # g'
    two: Callable[[Array, Array, Array], Array]  # E[g(a) g(b)] from C_aa, C_bb, C_ab
    slopes: Callable[[Array, Array, Array], Array]  # E[g'(a) g'(b)] from the same
    three: Callable[[Array, Array, Array, Array, Array], Array]  # E[g'(a) b g(c)] from C_aa, C_cc, C_ab, C_ac, C_bc
    four: Callable[[Array, Indices], Array]  # E[g'(a) g'(b) g(c) g(d)]


# ---- erf


def _erf_two(aa: Array, bb: Array, ab: Array) -> Array:
    return np.asarray(2.0 / math.pi * np.arcsin(ab / np.sqrt((1.0 + aa) * (1.0 + bb))))


def _erf_slopes(aa: Array, bb: Array, ab: Array) -> Array:
    return np.asarray(2.0 / math.pi / np.sqrt((1.0 + aa) * (1.0 + bb) - ab**2))


def _erf_three(aa: Array, cc: Array, ab: Array, ac: Array, bc: Array) -> Array:
    size = (1.0 + aa) * (1.0 + cc) - ac**2
    return np.asarray(2.0 / math.pi * (bc * (1.0 + aa) - ab * ac) / ((1.0 + aa) * np.sqrt(size)))


def _chosen(covariance: Array, which: Indices) -> Array:
    """The covariances of the chosen variables, shape (..., 4, 4)."""
    return np.asarray(covariance[which[..., :, None], which[..., None, :]])


def _erf_four(covariance: Array, which: Indices) -> Array:
    c = _chosen(covariance, which)
    aa, bb, cc, dd = (1.0 + c[..., i, i] for i in range(4))
    ab, ac, ad, bc, bd, cd = (c[..., i, j] for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)))
    size = aa * bb - ab**2
    inner = size * cd - bc * bd * aa - ac * ad * bb + ab * (ac * bd + ad * bc)
    left = size * cc - bc**2 * aa - ac**2 * bb + 2.0 * ab * ac * bc
    right = size * dd - bd**2 * aa - ad**2 * bb + 2.0 * ab * ad * bd
    return np.asarray(4.0 / math.pi**2 / np.sqrt(size) * np.arcsin(np.clip(inner / np.sqrt(left * right), -1.0, 1.0)))


# ---- ReLU


def _cosine(covariance: Array, first: Array, second: Array) -> Array:
    """Correlation; 0 where a variance vanishes, up to rounding: such a variable then has either sign by chance."""
    kept = (first > _VANISHED) & (second > _VANISHED)
    size = np.sqrt(np.where(kept, first * second, 1.0))
    return np.where(kept, np.clip(covariance / size, -1.0, 1.0), 0.0)


def _quadrant(covariance: Array, first: Array, second: Array) -> Array:
    """P(x > 0, y > 0)."""
    return np.asarray(0.25 + np.arcsin(_cosine(covariance, first, second)) / (2.0 * math.pi))


def _relu_two(aa: Array, bb: Array, ab: Array) -> Array:
    cosine = _cosine(ab, aa, bb)
    angle = np.arccos(cosine)
    return np.asarray(np.sqrt(aa * bb) / (2.0 * math.pi) * (np.sin(angle) + (math.pi - angle) * cosine))


def _relu_three(aa: Array, cc: Array, ab: Array, ac: Array, bc: Array) -> Array:
    rest = np.maximum(cc - ac**2 / aa, 0.0)
    return np.asarray(ab * np.sqrt(rest / aa) / (2.0 * math.pi) + bc * _quadrant(ac, aa, cc))


def _given_zero(c: Array, index: int) -> tuple[Array, Array]:
    """Covariance of the other variables given that this one is 0, and its density there (0 for a constant)."""
    others = [i for i in range(c.shape[-1]) if i != index]
    variance = c[..., index, index]
    column = c[..., others, index]
    kept = variance > _VANISHED
    safe = np.where(kept, variance, 1.0)
    schur = c[..., others, :][..., others] - column[..., :, None] * column[..., None, :] / safe[..., None, None]
    return schur, np.where(kept, 1.0 / np.sqrt(2.0 * math.pi * safe), 0.0)


def _step_step_ramp(c: Array) -> Array:
    """E[1(b > 0) 1(c > 0) max(d, 0)] of three variables: by parts, the sum over which of them is 0."""
    total = np.zeros(c.shape[:-2])
    for index in range(3):
        rest, density = _given_zero(c, index)
        total += c[..., 2, index] * density * _quadrant(rest[..., 0, 1], rest[..., 0, 0], rest[..., 1, 1])
    return total


def _relu_four(covariance: Array, which: Indices) -> Array:
    """By parts in c: E[c F] = sum C_cj E[dF/dj], F = 1(a > 0) 1(b > 0) 1(c > 0) max(d, 0).

    A step of a variable whose ramp is there too changes nothing: the other step takes its place, or both are left out.
    """
    a, b, first, second = np.moveaxis(which, -1, 0)
    same = _correlations(covariance) > 1.0 - _SAME
    idle_a, idle_b = (same[x, first] | same[x, second] for x in (a, b))
    kept = np.stack([np.where(idle_a, b, a), np.where(idle_b, a, b), first, second], axis=-1)
    variance = np.diagonal(covariance)
    ramps = _relu_two(variance[first], variance[second], covariance[first, second])
    both = idle_a & idle_b
    kept[both] = kept[both][..., [3, 3, 3, 3]]  # any variables: not used
    c = _chosen(covariance, kept)
    total = c[..., 2, 3] * _orthant(c)
    for index in range(3):
        rest, density = _given_zero(c, index)
        total = total + c[..., 2, index] * density * _step_step_ramp(rest)
    return np.where(both, ramps, total)


def _correlations(c: Array) -> Array:
    size = np.sqrt(np.diagonal(c, axis1=-2, axis2=-1))
    return np.asarray(np.clip(c / (size[..., :, None] * size[..., None, :]), -1.0, 1.0))


def _orthant(c: Array) -> Array:
    """P(all four > 0)."""
    r = _correlations(c)
    pairs = sum(np.arcsin(r[..., i, j]) for i, j, _, _ in _PAIRS)
    return np.asarray((1.0 + 2.0 / math.pi * pairs + four_signs(r)) / 16.0)


def four_signs(r: Array) -> Array:
    """E[sign a sign b sign c sign d], (...), of four normal variables with correlations r, (..., 4, 4).

    Scale all correlations by t = sin(angle) and integrate the derivative (Plackett 1954): a pair is 0, and the two
    others are then a bivariate normal with a known correlation. There is no closed form in general.
    """
    angle = (_NODES + 1.0) * math.pi / 4.0
    t = np.sin(angle)
    weight = _WEIGHTS * math.pi / 4.0 * np.cos(angle)
    total = np.zeros(r.shape[:-2])
    for i, j, k, m in _PAIRS:
        q = r[..., i, j, None] * t
        room = np.maximum(1.0 - q * q, 1e-300)
        ki, kj, mi, mj, km = (r[..., x, y, None] * t for x, y in ((k, i), (k, j), (m, i), (m, j), (k, m)))
        cross = km - (ki * mi + kj * mj - q * (ki * mj + kj * mi)) / room
        own_k = 1.0 - (ki**2 + kj**2 - 2.0 * q * ki * kj) / room
        own_m = 1.0 - (mi**2 + mj**2 - 2.0 * q * mi * mj) / room
        angles = np.arcsin(_cosine(cross, own_k, own_m))
        total += np.sum(weight * r[..., i, j, None] / np.sqrt(room) * angles, axis=-1)
    return np.asarray(4.0 / math.pi**2 * total)


#: g(x) = erf(x / sqrt 2).
ERF = Unit(
    lambda x: np.asarray(erf(x / math.sqrt(2.0))),
    lambda x: np.asarray(math.sqrt(2.0 / math.pi) * np.exp(-0.5 * x**2)),
    _erf_two,
    _erf_slopes,
    _erf_three,
    _erf_four,
)
#: g(x) = max(x, 0).
RELU = Unit(
    lambda x: np.maximum(x, 0.0),
    lambda x: (x > 0.0).astype(np.float64),
    _relu_two,
    lambda aa, bb, ab: _quadrant(ab, aa, bb),
    _relu_three,
    _relu_four,
)
