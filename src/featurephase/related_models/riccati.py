"""The flow of a lambda-balanced two-layer linear network by its Riccati equation (theory/related).

With Q = [W1'; W2] and F = [[-lambda/2, S'], [S, lambda/2]], X = QQ' obeys X' = FX + XF - X^2. In the eigenvectors V of
F, eigenvalues l, one step of length h is

    [G V'Q; I] = (orthonormal columns, top block T) R,   Q(h) = V r T,   G = sqrt((e^(2lh) - 1)/2l),  r = e^(lh)/G,

which multiplies nothing large with anything small: the rows go into the factorisation largest first.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array

#: Largest |eigenvalue| times the length of one step: e^300 is far inside the range of float64.
LONGEST = 300.0
#: Steps after which a time is out of reach.
MOST_STEPS = 20_000


def imbalance(w1: Array, w2: Array) -> tuple[float, float]:
    """lambda, and the largest entry of W2'W2 - W1 W1' - lambda I over the size of the two products."""
    left, right = w2.T @ w2, w1 @ w1.T
    lam = float(np.trace(left - right)) / len(w1)
    size = max(float(np.abs(left).max()), float(np.abs(right).max()), 1e-300)
    return lam, float(np.abs(left - right - lam * np.eye(len(w1))).max()) / size


def balanced_partner(w1: Array, lam: float, basis: Array | None = None) -> Array:
    """W2 = O (W1 W1' + lambda I)^(1/2), the read-out that makes ``w1`` (hidden, input) lambda-balanced.

    O is ``basis``, orthonormal columns (output, hidden), by default the identity.

    Raises
    ------
    InputError
        If W1 W1' + lambda I is not positive semidefinite.
    """
    values, vectors = np.linalg.eigh(w1 @ w1.T + lam * np.eye(len(w1)))
    if values[0] < -1e-12 * max(values[-1], 1.0):
        raise InputError(
            f"balanced-linear: lambda = {lam:g}: W1 W1' + lambda I must be positive semidefinite; its least eigenvalue "
            f"is {values[0]:.6g}"
        )
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root if basis is None else np.asarray(basis @ root)


def _generator(sigma: Array, lam: float) -> tuple[Array, Array]:
    outputs, inputs = sigma.shape
    f = np.block([[-lam / 2.0 * np.eye(inputs), sigma.T], [sigma, lam / 2.0 * np.eye(outputs)]])
    values, vectors = np.linalg.eigh(f)
    values[np.abs(values) <= 1e-15 * max(np.abs(values).max(), 1e-300)] = 0.0  # null parts at lambda = 0
    return values, vectors


def determined_until(w1: Array, w2: Array, sigma: Array) -> float:
    """The time up to which the floating-point start determines the motion to about nine digits, infinite in general.

    A start whose part in the growing modes has not full rank, up to rounding, ends on a saddle from which the rounding
    errors themselves would escape: with lambda 0, for example, where no layer can become singular but the target needs
    a determinant of the other sign.
    """
    values, vectors = _generator(sigma, imbalance(w1, w2)[0])
    growing = np.linalg.svd(vectors[:, values > 0.0].T @ np.vstack([w1.T, w2]), compute_uv=False)
    if not growing.size or growing[-1] > 1e-12 * growing[0] or growing[0] == 0.0:
        return math.inf
    return math.log(1e7) / float(values.max())


def _step(q: Array, values: Array, length: float) -> Array:
    """One step in the eigenvectors of F."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        exponent = np.minimum(2.0 * values * length, 2.0 * LONGEST)  # more only where a mode is at rest
        growth = np.where(values == 0.0, length, np.expm1(exponent) / (2.0 * values))
        rate = np.where(values == 0.0, 1.0 / length, -2.0 * values / np.expm1(-2.0 * values * length))
    rows = np.vstack([np.sqrt(growth)[:, None] * q, np.eye(q.shape[1])])
    order = np.argsort(-np.abs(rows).max(axis=1), kind="stable")
    orthonormal = linalg.qr(rows[order], mode="economic", pivoting=True)[0]
    top = np.empty_like(rows)
    top[order] = orthonormal
    return np.asarray(np.sqrt(rate)[:, None] * top[: len(q)])


def _at_rest(before: Array, after: Array, values: Array) -> bool:
    """Whether every exponential mode stands still, growing ones relative to themselves: they may be tiny as yet.

    Modes of eigenvalue 0 decay like 1/t, in steps of any length.
    """
    moving = values != 0.0
    sizes, earlier = (np.hypot.reduce(q[moving], axis=1) for q in (after, before))  # squares might underflow
    growing = np.abs(sizes - earlier) <= 1e-15 * sizes
    change = np.abs(after[moving] @ after[moving].T - before[moving] @ before[moving].T).max(initial=0.0)
    return bool(change <= 1e-16 * sizes.max(initial=0.0) ** 2 and np.all(growing | (values[moving] < 0.0)))


def factors(w1: Array, w2: Array, sigma: Array, times: Array) -> Array:
    """Q(t), (time, input + output, hidden), up to a rotation of the hidden units: QQ' holds W1'W1, W2 W1 and W2 W2'.

    The start ``w1`` (hidden, input), ``w2`` (output, hidden) is lambda-balanced, ``sigma`` (output, input) the
    input-output correlation of whitened inputs, and ``times`` (time,) are >= 0 and finite, in any order.

    Raises
    ------
    InputError
        If a time needs more than 20 000 steps and the motion has not come to rest by then.
    """
    values, vectors = _generator(sigma, imbalance(w1, w2)[0])
    fastest = float(np.abs(values).max(initial=0.0))
    q = vectors.T @ np.vstack([w1.T, w2])
    out, now = np.empty((len(times), *q.shape)), 0.0
    longest = LONGEST / fastest if fastest > 0.0 else math.inf
    resting, steps = fastest == 0.0, 0
    for case in np.argsort(times, kind="stable"):
        while now < times[case]:
            gap = float(times[case]) - now
            length = gap if resting or gap <= longest else longest
            before, q = q, _step(q, values, length)
            now = float(times[case]) if length == gap else now + length
            steps += 1
            resting = resting or (length == longest and _at_rest(before, q, values))
            if steps > MOST_STEPS:
                raise InputError(
                    f"balanced-linear: time = {times[case]:g}: too long; the fastest mode has rate {fastest:.4g} and "
                    f"the slowest has not come to rest; must be at most {MOST_STEPS * longest:.4g}"
                )
        out[case] = vectors @ q
    return out
