r"""Outliers of the Hessian to the left of its bulk, and how far they are from leaving it.

Rows of V restricted to a set of directions, and rows of Phi with them, turn the resolvent on that set into a finite
matrix (theory: Montanari & Wang, arXiv 2602.01434). In the variables of :mod:`featurephase.hessian.bulk`, with Y the
stack of V and Phi, outliers are the lambda at which

    B(lambda) = E[R (x) Y Y'] - lambda L'L (x) I_V - I (x) I_Phi

loses rank on V after its Phi block, definite outside the bulk, has been eliminated. The number of outliers below
lambda is the number of negative eigenvalues of what remains. Hard outliers use V = g_H and no Phi; all others use the
visited directions, Phi included. To the right of the bulk, the same with -W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq

from featurephase.hessian.bulk import BranchPoint, Bulk, Edge

Array = NDArray[np.float64]

__all__ = ["Directions", "Outlier", "margins", "outliers"]


@dataclass(frozen=True)
class Outlier:
    """One eigenvalue outside the bulk.

    Attributes
    ----------
    value
        The eigenvalue, without weight decay.
    overlap
        Squared projection of its unit eigenvector on R^m (x) the directions.
    """

    value: float
    overlap: float


@dataclass(frozen=True)
class Directions:
    """Rows of V, and of Phi, read block by block of samples.

    Attributes
    ----------
    block
        ``block(i)`` is the stack [V ; Phi] on the i-th slice of samples, (rows, block).
    slices
        The slices.
    rows
        K + p.
    visible
        K, the number of rows that belong to V.
    """

    block: Callable[[int], Array]
    slices: Sequence[slice]
    rows: int
    visible: int


def _pair_average(bulk: Bulk, point: BranchPoint, directions: Directions) -> Array:
    """E[R (x) Y Y'], shape (m, K + p, m, K + p)."""
    m, rows = bulk.width, directions.rows
    out = np.zeros((m, m, rows, rows))
    for i, where in enumerate(directions.slices):
        y = directions.block(i)
        r = bulk.response(point.root, where)
        for a in range(m):
            for b in range(a, m):
                out[a, b] += (y * r[a, b]) @ y.T
    for a in range(m):
        for b in range(a):
            out[a, b] = out[b, a]
    average: Array = np.ascontiguousarray(out.transpose(0, 2, 1, 3)) / bulk.samples
    return average


@dataclass(frozen=True)
class _Condensed:
    """B(lambda) with its Phi block eliminated: matrix (mK, mK) and the map from V to Phi coordinates (mp, mK)."""

    matrix: Array
    elimination: Array


def _condense(bulk: Bulk, point: BranchPoint, directions: Directions) -> _Condensed:
    m, seen, rows = bulk.width, directions.visible, directions.rows
    average = _pair_average(bulk, point, directions)
    vv = average[:, :seen, :, :seen].reshape(m * seen, m * seen)
    matrix = vv - point.value * np.kron(point.root.T @ point.root, np.eye(seen))
    hidden = m * (rows - seen)
    if hidden == 0:
        return _Condensed((matrix + matrix.T) / 2, np.empty((0, m * seen)))
    vp = average[:, :seen, :, seen:].reshape(m * seen, hidden)
    definite = np.eye(hidden) - average[:, seen:, :, seen:].reshape(hidden, hidden)
    elimination = cho_solve(cho_factor(definite), vp.T)
    matrix = matrix + vp @ elimination
    return _Condensed((matrix + matrix.T) / 2, elimination)


def margins(bulk: Bulk, point: BranchPoint, directions: Directions) -> Array:
    """Dimensionless eigenvalues of B at ``point``, ascending, (mK,): the negative ones count the outliers below it.

    They are those of ``I + delta E[R (x) (g g' - I)]`` for hard directions g: 1 far below the bulk, 0 where an
    outlier sits (theory 1, section 4, Delta(lambda)).
    """
    return np.asarray(bulk.delta * np.linalg.eigvalsh(_condense(bulk, point, directions).matrix), dtype=np.float64)


def outliers(bulk: Bulk, edge: Edge, directions: Directions) -> tuple[list[Outlier], Array]:
    """Outliers below the edge, ascending, and the margins at the edge."""
    at_edge = margins(bulk, edge.point, directions)
    count = int(np.count_nonzero(at_edge < 0.0))
    found: list[Outlier] = []
    if count == 0:
        return found, at_edge
    end = float(np.log(np.sum(edge.point.root**2)))
    known: dict[float, tuple[BranchPoint, Array]] = {end: (edge.point, at_edge)}

    def spectrum(log_trace: float) -> Array:
        if log_trace not in known:
            near = min(known, key=lambda t: abs(t - log_trace))
            point = bulk.point(float(np.exp(log_trace)), known[near][0])
            if point is None:
                raise ArithmeticError("the branch of the Stieltjes transform was lost outside the bulk")
            known[log_trace] = (point, margins(bulk, point, directions))
        return known[log_trace][1]

    low, width = end, 0.25
    while np.any(spectrum(low) < 0.0):
        low -= width
        width *= 2.0
    for j in range(count):
        below = max(t for t, (_, s) in known.items() if s[j] >= 0.0)
        above = min(t for t, (_, s) in known.items() if s[j] < 0.0)
        log_trace = float(brentq(lambda t, j=j: float(spectrum(t)[j]), below, above, xtol=1e-7, rtol=1e-12))
        spectrum(log_trace)
        point = known[log_trace][0]
        found.append(Outlier(point.value, _overlap(bulk, point, directions, j)))
    return sorted(found, key=lambda o: o.value), at_edge


def _overlap(bulk: Bulk, point: BranchPoint, directions: Directions, index: int) -> float:
    """Squared projection on the directions of the eigenvector whose outlier sits at ``point``: 1/(1 - v' B' v)."""
    m, seen = bulk.width, directions.visible
    condensed = _condense(bulk, point, directions)
    kernel = np.linalg.eigh(condensed.matrix)[1][:, index]
    whole = np.concatenate(
        [kernel.reshape(m, seen), (condensed.elimination @ kernel).reshape(m, directions.rows - seen)], axis=1
    )
    # dS/dlambda = delta L X L' with (1 - delta E[R (x) R]) X = delta L'L
    metric = point.root.T @ point.root
    slope = np.linalg.solve(np.eye(m * m) - bulk.delta * point.moments.pair, bulk.delta * metric.ravel()).reshape(m, m)
    total = 0.0
    for i, where in enumerate(directions.slices):
        y = directions.block(i)
        r = bulk.response(point.root, where)
        u = np.einsum("rsn,sn->rn", r, whole @ y)
        total += float(np.einsum("rn,rs,sn->", u, slope, u))
    norm = float(np.sum((point.root @ whole[:, :seen]) ** 2))
    hidden = whole[:, seen:]
    derivative = (-total / bulk.samples + float(np.sum(hidden * (slope @ hidden)))) / norm
    return float(1.0 / (1.0 - derivative))
