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
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq

from featurephase.dynamics.products import combine, project
from featurephase.foundation.types import Array
from featurephase.hessian.bulk import BranchPoint, Bulk, Edge

__all__ = ["Directions", "Outlier", "margin_matrix", "margins", "outliers"]

#: Row panels of a Gram matrix: with 4, five eighths of the products remain.
_PANELS = 4
#: Eigenvectors at the edge that the search begins with, beside those of the outliers.
_SPARE = 3
#: The search for an outlier ends when the error of its unit vector is estimated below this ...
_CONVERGED = 1e-8
#: ... and fails after so many growths of the subspace (three to eight in practice).
_ITERATIONS = 60
#: What is left of a vector by orthogonalisation when nothing of it is new.
_ROUND_OFF = 1e-10


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
    # Y R_ab Y' is symmetric for each pair of neurons: the part left of the diagonal panels is mirrored at the end.
    size = -(-rows // _PANELS)
    panels = [slice(i, min(i + size, rows)) for i in range(0, rows, size)]
    for i, where in enumerate(directions.slices):
        y = directions.block(i)
        r = bulk.response(point.root, where)
        for a in range(m):
            for b in range(a, m):
                for panel in panels:
                    out[a, b, panel, panel.start :] += (y[panel] * r[a, b]) @ y[panel.start :].T
    below = np.tril_indices(rows, -1)
    for a in range(m):
        for b in range(a, m):
            out[a, b][below] = out[a, b].T[below]
            out[b, a] = out[a, b]
    average: Array = np.ascontiguousarray(out.transpose(0, 2, 1, 3)) / bulk.samples
    return average


class _Condensed:
    """B(lambda) whole, its Phi block eliminated: what remains on V, (mK, mK), and B^-1 of anything."""

    def __init__(self, bulk: Bulk, point: BranchPoint, directions: Directions) -> None:
        m, seen, rows = bulk.width, directions.visible, directions.rows
        average = _pair_average(bulk, point, directions)
        if bulk.groups is not None:
            if rows > seen:
                raise ValueError("visited directions belong to single neurons, which are not permuted")
            for k, l in np.ndindex(rows, rows):
                average[:, k, :, l] = bulk.permuted(average[:, k, :, l])
        vv = average[:, :seen, :, :seen].reshape(m * seen, m * seen)
        matrix = vv - point.value * np.kron(point.root.T @ point.root, np.eye(seen))
        hidden = m * (rows - seen)
        self.visible = seen
        self._factor = None
        self.elimination: Array = np.empty((0, m * seen))
        if hidden:
            vp = average[:, :seen, :, seen:].reshape(m * seen, hidden)
            self._factor = cho_factor(np.eye(hidden) - average[:, seen:, :, seen:].reshape(hidden, hidden))
            self.elimination = cho_solve(self._factor, vp.T)
            matrix = matrix + vp @ self.elimination
        #: What remains on V, (mK, mK), neurons before directions.
        self.matrix: Array = (matrix + matrix.T) / 2
        values, vectors = np.linalg.eigh(self.matrix)
        #: Ascending, and as columns.
        self.values: Array = values
        self.vectors: Array = vectors

    def solve(self, residual: Array) -> tuple[Array, Array]:
        """The V part (mK,) and the Phi part (mp,) of B^-1 of a residual (m, K + p)."""
        seen = self.visible
        right, hidden = residual[:, :seen].ravel(), residual[:, seen:].ravel()
        right = right + self.elimination.T @ hidden
        visible = self.vectors @ ((self.vectors.T @ right) / self.values)
        if self._factor is None:
            return visible, hidden
        return visible, self.elimination @ visible - cho_solve(self._factor, hidden)


class _Subspace:
    """B(lambda) on a few vectors: the V and the Phi part of each of them span the space that is searched.

    What a vector u (m, K + p) makes of the samples, ``u Y`` (m, N), is kept, so that B(lambda) on the subspace costs
    no pass over the rows, whatever their number.
    """

    def __init__(self, bulk: Bulk, directions: Directions) -> None:
        self.bulk, self.directions = bulk, directions
        shape = (0, bulk.width, directions.rows)
        self.visible, self.hidden = np.empty(shape), np.empty(shape)
        self._seen, self._met = (np.empty((0, bulk.width, bulk.samples)) for _ in range(2))

    def add(self, visible: Array, hidden: Array) -> bool:
        """Add a V part (mK,) and a Phi part (mp,); whether either is new."""
        seen, rows, m = self.directions.visible, self.directions.rows, self.bulk.width
        grown = False
        for name, part, columns in (("visible", visible, slice(0, seen)), ("hidden", hidden, slice(seen, rows))):
            vector = np.zeros((m, rows))
            vector[:, columns] = part.reshape(m, -1)
            basis: Array = getattr(self, name)
            size = np.linalg.norm(vector)
            for _ in range(2):
                vector -= np.tensordot(np.tensordot(basis, vector, axes=2), basis, axes=1)
            left = np.linalg.norm(vector)
            if not left > _ROUND_OFF * size:
                continue
            vector /= left
            setattr(self, name, np.concatenate([basis, vector[None]]))
            images = "_seen" if name == "visible" else "_met"
            setattr(self, images, np.concatenate([getattr(self, images), self._image(vector)[None]]))
            grown = True
        return grown

    def _image(self, vector: Array) -> Array:
        out = np.empty((self.bulk.width, self.bulk.samples))
        for i, where in enumerate(self.directions.slices):
            out[:, where] = combine(vector, self.directions.block(i))
        return out

    def condensed(self, point: BranchPoint) -> tuple[Array, Array, Array]:
        """Ascending eigenvalues of B on the subspace, Phi eliminated, and their vectors in V and Phi as columns."""
        a, b = len(self.visible), len(self.hidden)
        total = np.zeros((a + b, a + b))
        for where in self.directions.slices:
            images = np.concatenate([self._seen[:, :, where], self._met[:, :, where]])
            weighted = _weigh(self.bulk.response(point.root, where), images)
            total += weighted.reshape(a + b, -1) @ images.reshape(a + b, -1).T
        total /= self.bulk.samples
        scaled = np.einsum("rs,isk->irk", point.root.T @ point.root, self.visible)
        matrix = total[:a, :a] - point.value * np.tensordot(self.visible, scaled, axes=((1, 2), (1, 2)))
        elimination = np.linalg.solve(np.eye(b) - total[a:, a:], total[a:, :a])
        matrix = matrix + total[:a, a:] @ elimination
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return values, vectors, elimination @ vectors

    def residual(self, point: BranchPoint, visible: Array, hidden: Array) -> tuple[Array, Array]:
        """The vector u (m, K + p) with these coordinates, and B u, by one pass over the rows."""
        u = np.tensordot(visible, self.visible, axes=1) + np.tensordot(hidden, self.hidden, axes=1)
        image = np.tensordot(visible, self._seen, axes=1) + np.tensordot(hidden, self._met, axes=1)
        out = np.zeros_like(u)
        for i, where in enumerate(self.directions.slices):
            weighted = _weigh(self.bulk.response(point.root, where), image[None, :, where])[0]
            out += project(weighted, self.directions.block(i))
        out /= self.bulk.samples
        seen = self.directions.visible
        out[:, :seen] -= point.value * (point.root.T @ point.root) @ u[:, :seen]
        out[:, seen:] -= u[:, seen:]
        return u, out


def _weigh(response: Array, images: Array) -> Array:
    """R (m, m, n) applied to (c, m, n), sample by sample."""
    out = np.zeros_like(images)
    for r in range(len(response)):
        for s in range(len(response)):
            out[:, r] += response[r, s] * images[:, s]
    return out


def margins(bulk: Bulk, point: BranchPoint, directions: Directions) -> Array:
    """Dimensionless eigenvalues of B at ``point``, ascending, (mK,): the negative ones count the outliers below it.

    They are those of ``I + delta E[R (x) (g g' - I)]`` for hard directions g: 1 far below the bulk, 0 where an
    outlier sits (theory/hessian, eq. hes-margin).
    """
    return np.asarray(np.linalg.eigvalsh(margin_matrix(bulk, point, directions)), dtype=np.float64)


def margin_matrix(bulk: Bulk, point: BranchPoint, directions: Directions) -> Array:
    """The matrix (mK, mK) whose eigenvalues :func:`margins` are; row ``r K + j``: neuron r, direction j."""
    return np.asarray(bulk.delta * _Condensed(bulk, point, directions).matrix, dtype=np.float64)


def outliers(bulk: Bulk, edge: Edge, directions: Directions, most: int | None = None) -> tuple[list[Outlier], Array]:
    """Outliers below the edge, ascending (only the ``most`` lowest of them), and the margins at the edge.

    B is formed whole at the edge alone, where its negative eigenvalues count the outliers. Each is then the root of an
    eigenvalue of B(lambda) on a subspace, which grows by residuals that B^-1 of the edge has been applied to, until
    B(lambda) u = 0 (residual inverse iteration: Neumaier 1985; Voss 2004).

    Raises
    ------
    ArithmeticError
        If the branch is lost outside the bulk, or the iteration does not converge.
    """
    whole = _Condensed(bulk, edge.point, directions)
    at_edge = np.asarray(bulk.delta * whole.values, dtype=np.float64)
    count = int(np.count_nonzero(at_edge < 0.0))
    if count == 0:
        return [], at_edge
    subspace = _Subspace(bulk, directions)
    for vector in whole.vectors[:, : count + _SPARE].T:
        subspace.add(vector, whole.elimination @ vector)
    end = float(np.log(np.sum(edge.point.root**2)))
    points: dict[float, BranchPoint] = {end: edge.point}

    def at(log_trace: float) -> BranchPoint:
        if log_trace not in points:
            near = min(points, key=lambda t: abs(t - log_trace))
            point = bulk.point(float(np.exp(log_trace)), points[near])
            if point is None:
                raise ArithmeticError("the branch of the Stieltjes transform was lost outside the bulk")
            points[log_trace] = point
        return points[log_trace]

    def root(index: int) -> BranchPoint:
        def excess(log_trace: float) -> float:
            return float(subspace.condensed(at(log_trace))[0][index])

        low, width = end - 0.25, 0.25
        while excess(low) < 0.0:
            width *= 2.0
            low -= width
        if excess(end) >= 0.0:  # a margin within rounding of 0
            return edge.point
        return at(float(brentq(excess, low, end, xtol=1e-9, rtol=1e-12)))

    found: list[Outlier] = []
    for index in range(count if most is None else min(count, most)):
        for _ in range(_ITERATIONS):
            point = root(index)
            values, visible, hidden = subspace.condensed(point)
            u, residual = subspace.residual(point, visible[:, index], hidden[:, index])
            residual[:, : directions.visible] -= values[index] * u[:, : directions.visible]  # the root is not exact
            correction = whole.solve(residual)
            if np.linalg.norm(np.concatenate(correction)) <= _CONVERGED or not subspace.add(*correction):
                break
        else:
            raise ArithmeticError("an outlier of the Hessian did not converge")
        found.append(Outlier(point.value, _overlap(bulk, point, directions, u)))
    return sorted(found, key=lambda o: o.value), at_edge


def _overlap(bulk: Bulk, point: BranchPoint, directions: Directions, whole: Array) -> float:
    """Squared projection on the directions of the eigenvector with kernel vector ``whole`` (m, K + p)."""
    m, seen = bulk.width, directions.visible
    # The overlap is 1/(1 - v' B' v), and dS/dlambda = delta L X L' with (1 - delta E[R (x) R]) X = delta L'L
    metric = point.root.T @ point.root
    slope = np.linalg.solve(np.eye(m * m) - bulk.delta * point.moments.pair, bulk.delta * metric.ravel()).reshape(m, m)
    total = 0.0
    for i, where in enumerate(directions.slices):
        u = _weigh(bulk.response(point.root, where), combine(whole, directions.block(i))[None])[0]
        total += float(np.einsum("rn,rs,sn->", u, slope, u))
    norm = float(np.sum((point.root @ whole[:, :seen]) ** 2))
    hidden = whole[:, seen:]
    derivative = (-total / bulk.samples + float(np.sum(hidden * (slope @ hidden)))) / norm
    return float(1.0 / (1.0 - derivative))
