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

__all__ = ["balanced_partner", "factors", "imbalance"]

#: Largest |eigenvalue| times the length of one step: e^300 is far inside the range of float64.
LONGEST = 300.0
#: Steps after which a time is out of reach.
MOST_STEPS = 200_000


def imbalance(w1: Array, w2: Array) -> tuple[float, float]:
    """lambda, and the largest entry of W2'W2 - W1 W1' - lambda I over the size of the two products."""
    left, right = w2.T @ w2, w1 @ w1.T
    lam = float(np.trace(left - right)) / len(w1)
    size = max(float(np.abs(left).max()), float(np.abs(right).max()), 1e-300)
    return lam, float(np.abs(left - right - lam * np.eye(len(w1))).max()) / size


def balanced_partner(w1: Array, lam: float, basis: Array | None = None) -> Array:
    """W2 = O (W1 W1' + lambda I)^(1/2), the read-out that makes ``w1`` lambda-balanced.

    Parameters
    ----------
    w1
        Shape (hidden, input).
    lam
        lambda; W1 W1' + lambda I must be positive semidefinite.
    basis
        O, orthonormal columns, shape (output, hidden); default: the identity.

    Raises
    ------
    InputError
        If there is no such read-out.
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


def _step(q: Array, values: Array, length: float) -> Array:
    """One step in the eigenvectors of F."""
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = np.where(values == 0.0, length, np.expm1(2.0 * values * length) / (2.0 * values))
        rate = np.where(values == 0.0, 1.0 / length, -2.0 * values / np.expm1(-2.0 * values * length))
    rows = np.vstack([np.sqrt(growth)[:, None] * q, np.eye(q.shape[1])])
    order = np.argsort(-np.abs(rows).max(axis=1), kind="stable")
    orthonormal = linalg.qr(rows[order], mode="economic", pivoting=True)[0]
    top = np.empty_like(rows)
    top[order] = orthonormal
    return np.asarray(np.sqrt(rate)[:, None] * top[: len(q)])


def _at_rest(before: Array, after: Array, values: Array) -> bool:
    """Whether every mode stands still: growing ones relative to themselves, for they may be tiny and on their way."""
    sizes = np.sum(after**2, axis=1)
    change = np.abs(after @ after.T - before @ before.T)
    growing = np.diag(change) <= 1e-15 * sizes
    return bool(change.max() <= 1e-16 * sizes.max() and np.all(growing | (values < 0.0)))


def factors(w1: Array, w2: Array, sigma: Array, times: Array) -> Array:
    """Q(t) up to a rotation of the hidden units, so that QQ' holds W1'W1, W2 W1 and W2 W2'.

    Parameters
    ----------
    w1, w2
        A lambda-balanced start, shapes (hidden, input) and (output, hidden).
    sigma
        Input-output correlation of whitened inputs, shape (output, input).
    times
        Shape (time,), each >= 0 and finite.

    Returns
    -------
    q
        Shape (time, input + output, hidden).

    Raises
    ------
    InputError
        If a time needs more than 200 000 steps and the motion has not come to rest by then.
    """
    values, vectors = _generator(sigma, imbalance(w1, w2)[0])
    fastest = float(np.abs(values).max(initial=0.0))
    q = vectors.T @ np.vstack([w1.T, w2])
    out, now, resting = np.empty((len(times), *q.shape)), 0.0, False
    for case in np.argsort(times, kind="stable"):
        gap = float(times[case]) - now
        steps = max(math.ceil(gap * fastest / LONGEST), 1)
        if steps > MOST_STEPS and not resting:
            steps_done, length = MOST_STEPS, LONGEST / fastest
        else:
            steps_done, length = steps, gap / steps
        for _ in range(0 if resting or gap == 0.0 else steps_done):
            before, q = q, _step(q, values, length)
            if steps > 3 and _at_rest(before, q, values):
                resting = True
                break
        if steps > MOST_STEPS and not resting:
            raise InputError(
                f"balanced-linear: time = {times[case]:g}: too long; the fastest mode has rate {fastest:.4g} and the "
                f"slowest has not come to rest; must be at most {MOST_STEPS * LONGEST / fastest:.4g}"
            )
        now, out[case] = float(times[case]), vectors @ q
    return out
