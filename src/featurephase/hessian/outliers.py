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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from featurephase.foundation.types import Array
from featurephase.hessian.bulk import BranchPoint, Bulk, Edge

Matrix = NDArray[Any]

#: Row panels of a Gram matrix: with 4, five eighths of the products remain.
_PANELS = 4
#: Up to this size B(lambda) is formed whole at every lambda, where no Phi has to be eliminated.
_SMALL = 40
#: Eigenvectors at the edge that the search of a subspace begins with, beside those of the outliers.
_SPARE = 1
#: The search for an outlier ends when the error of its unit vector is estimated below this: the error of its value is
#: of second order, that of its overlap of first, and a hundredth of it in practice ...
_CONVERGED = 1e-5
#: ... and when log tr s moves by less than this. It fails after so many growths of the subspace (four to eight in
#: practice), and only so many outliers are sought.
_STILL = 1e-8
_ITERATIONS = 40
MOST_OUTLIERS = 40
#: Factor on the noise of margins: a semicircle has no sharp edge at finite size.
_SAFETY = 1.25
#: Of the samples there are, how many would tell an outlier that is lower by no more than noise makes it.
_MORE_SAMPLES = 2.0
#: Longest step of a search in log tr s.
_STRIDE = 1.5
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
class OutlierSearch:
    """All that was seen to the left of an edge.

    Attributes
    ----------
    found
        Outliers, ascending.
    at_edge
        Margins at the edge, ascending.
    doubtful
        How many margins are negative by no more than the noise of the samples' average makes them: not counted.
    needed
        Samples from which on that noise would be too small to make one negative.
    complete
        Whether every outlier counted was found within the budget.
    """

    found: list[Outlier]
    at_edge: Array
    doubtful: int = 0
    needed: int = 0
    complete: bool = True


@dataclass(frozen=True)
class Directions:
    """Rows of V, and of Phi, read block by block of samples.

    Attributes
    ----------
    block
        ``block(i)`` is the stack [V ; Phi] on the i-th slice of samples, (rows, block), or the parts it is made of.
    slices
        The slices.
    rows
        K + p.
    visible
        K, the number of rows that belong to V.
    noisy
        Those among them whose averages fluctuate as with independent samples: the first coordinates of sample paths
        are integrated far better (:mod:`featurephase.dynamics.points`). Default: all.
    """

    block: Callable[[int], Matrix | Sequence[Matrix]]
    slices: Sequence[slice]
    rows: int
    visible: int
    noisy: int | None = None

    def parts(self, i: int) -> Sequence[Matrix]:
        """The stack on the i-th slice in parts, not copied."""
        block = self.block(i)
        return [block] if isinstance(block, np.ndarray) else [p for p in block if len(p)]

    def whole(self, i: int) -> Matrix:
        """The stack on the i-th slice, (rows, block)."""
        parts = self.parts(i)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def combine(self, coefficients: Array, i: int, among: slice | None = None) -> Array:
        """Combinations (r, rows) of the rows on the i-th slice, or of some of them, (r, block)."""
        first, last = (0, self.rows) if among is None else (among.start, among.stop)
        total: Array | None = None
        start = 0
        for part in self.parts(i):
            a, b = max(first, start), min(last, start + len(part))
            if a < b:
                some = coefficients[:, a - first : b - first] @ _double(part[a - start : b - start])
                total = some if total is None else total + some
            start += len(part)
        assert total is not None
        return total

    def project(self, few: Array, i: int) -> Array:
        """Sums of products of a few rows (r, block) with those of the i-th slice, (r, rows)."""
        return np.concatenate([few @ _double(part).T for part in self.parts(i)], axis=1)


def _double(rows: Matrix) -> Array:
    """Rows in double precision: an outlier is found to more digits than single precision has."""
    return rows.astype(np.float64, copy=False)


def _pair_average(bulk: Bulk, point: BranchPoint, directions: Directions) -> Array:
    """E[R (x) Y Y'], shape (m, K + p, m, K + p)."""
    m, rows = bulk.width, directions.rows
    out = np.zeros((m, m, rows, rows))
    # Y R_ab Y' is symmetric for each pair of neurons: the part left of the diagonal panels is mirrored at the end.
    size = -(-rows // _PANELS)
    panels = [slice(i, min(i + size, rows)) for i in range(0, rows, size)]
    for i, where in enumerate(directions.slices):
        y = directions.whole(i)
        r = bulk.response(point.root, where).astype(y.dtype, copy=False)
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
    if bulk.groups is not None and rows == directions.visible:
        # No Phi: these directions belong to no neuron, and neurons of one law may be permuted.
        for k, l in np.ndindex(rows, rows):
            average[:, k, :, l] = bulk.permuted(average[:, k, :, l])
    return average


def noise_of_margins(bulk: Bulk, directions: Directions) -> float:
    """How far the noise of N samples spreads the margins at the edge around 1.

    There delta E[R (x) R] has norm 1, so that the entries of the average delta E[R (x) Y Y'] fluctuate by
    (delta/N)^(1/2), and its K + p rows by twice the root of (K + p) delta/N together, as in Wigner's semicircle.
    """
    return float(_SAFETY * 2.0 * np.sqrt(bulk.delta * directions.rows / bulk.samples))


def _lowering(bulk: Bulk, directions: Directions) -> float:
    """By how much the noise of N samples lowers a small margin: ``K delta/N``, to first order in 1/N.

    The entries that couple it to the K noisy rows of V, whose margins are near 1, fluctuate by (delta/N)^(1/2) and
    repel it (theory/hessian, eq. hes-lowering).
    """
    rows = directions.visible if directions.noisy is None else directions.noisy
    return float(bulk.delta * rows / bulk.samples)


class _Condensed:
    """B(lambda) whole, its Phi block eliminated: what remains on V, (mK, mK), and B^-1 of anything."""

    def __init__(self, bulk: Bulk, point: BranchPoint, directions: Directions) -> None:
        m, seen, rows = bulk.width, directions.visible, directions.rows
        average = _pair_average(bulk, point, directions)
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


class _Branch:
    """Points of the branch at or below the edge, by log tr s; each is found once."""

    def __init__(self, bulk: Bulk, edge: Edge) -> None:
        self.bulk = bulk
        self.end = float(np.log(np.sum(edge.point.root**2)))
        self._points: dict[float, BranchPoint] = {self.end: edge.point}

    def at(self, log_trace: float) -> BranchPoint:
        """The point there.

        Raises
        ------
        ArithmeticError
            If there is none, though the branch has not ended.
        """
        if log_trace not in self._points:
            near = min(self._points, key=lambda t: abs(t - log_trace))
            point = self.bulk.point(float(np.exp(log_trace)), self._points[near])
            if point is None:
                raise ArithmeticError("the branch of the Stieltjes transform was lost outside the bulk")
            self._points[log_trace] = point
        return self._points[log_trace]


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
            setattr(
                self, images, np.concatenate([getattr(self, images), self._image(vector[:, columns], columns)[None]])
            )
            grown = True
        return grown

    def _image(self, vector: Array, rows: slice) -> Array:
        out = np.empty((self.bulk.width, self.bulk.samples))
        for i, where in enumerate(self.directions.slices):
            out[:, where] = self.directions.combine(vector, i, rows)
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

    def residual(self, point: BranchPoint, visible: Array, hidden: Array) -> tuple[Array, Array, Array]:
        """The vector u (m, K + p) with these coordinates, its :func:`_square`, and B u, by one pass over the rows."""
        u = np.tensordot(visible, self.visible, axes=1) + np.tensordot(hidden, self.hidden, axes=1)
        image = np.tensordot(visible, self._seen, axes=1) + np.tensordot(hidden, self._met, axes=1)
        out, square = np.zeros_like(u), np.zeros((self.bulk.width,) * 2)
        for i, where in enumerate(self.directions.slices):
            weighted = _weigh(self.bulk.response(point.root, where), image[None, :, where])[0]
            out += self.directions.project(weighted, i)
            square += weighted @ weighted.T
        out /= self.bulk.samples
        seen = self.directions.visible
        out[:, :seen] -= point.value * (point.root.T @ point.root) @ u[:, :seen]
        out[:, seen:] -= u[:, seen:]
        return u, square / self.bulk.samples, out


def _weigh(response: Array, images: Array) -> Array:
    """R (m, m, n) applied to (c, m, n), sample by sample."""
    if len(response) == 1:
        return np.asarray(images * response[0])
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

    Raises
    ------
    ArithmeticError
        If the branch is lost outside the bulk, or the iteration does not converge.
    """
    search = search_outliers(bulk, edge, directions, most=MOST_OUTLIERS if most is None else most)
    if most is None and not search.complete:
        raise ArithmeticError("an outlier of the Hessian did not converge")
    return search.found, search.at_edge


def search_outliers(
    bulk: Bulk, edge: Edge, directions: Directions, *, most: int = MOST_OUTLIERS, sure: bool = False
) -> OutlierSearch:
    """Outliers below the edge, the ``most`` lowest of them.

    B is formed whole at the edge, where its negative eigenvalues count the outliers. Each is then the root of an
    eigenvalue of B(lambda): whole where it is small, else on a subspace, which grows by residuals that B^-1 of the edge
    has been applied to, until B(lambda) u = 0 (residual inverse iteration: Neumaier 1985; Voss 2004).

    Parameters
    ----------
    sure
        Whether to leave out margins that the noise of the samples may have made negative
        (:func:`noise_of_margins`), and to correct outliers for what it lowers them by (:func:`_lowering`).

    Raises
    ------
    ArithmeticError
        If the branch is lost outside the bulk.
    """
    whole = _Condensed(bulk, edge.point, directions)
    at_edge = np.asarray(bulk.delta * whole.values, dtype=np.float64)
    noise = noise_of_margins(bulk, directions) if sure else 0.0
    negative = int(np.count_nonzero(at_edge < 0.0))
    lowered = _lowering(bulk, directions) if sure else 0.0
    count = int(np.count_nonzero(at_edge < min(-lowered, 1.0 - noise)))
    sought = min(count, most)
    branch = _Branch(bulk, edge)
    found: list[Outlier] = []
    complete = sought == count
    if directions.rows == directions.visible and bulk.width * directions.rows <= _SMALL:
        small = [_small_outlier(branch, directions, i, lowered) for i in range(sought)]
        found = [o for o in small if o is not None]
        complete &= len(found) == sought
    elif sought:
        subspace = _Subspace(bulk, directions)
        for vector in whole.vectors[:, : sought + _SPARE].T:
            subspace.add(vector, whole.elimination @ vector)
        start = branch.end
        for index in range(sought):
            one, start = _large_outlier(branch, subspace, whole, index, start, lowered)
            if one is None:
                complete = False
                break
            found.append(one)
    needed = int(np.ceil(bulk.samples * max(noise**2, _MORE_SAMPLES))) if negative > count else 0
    return OutlierSearch(sorted(found, key=lambda o: o.value), at_edge, negative - count, needed, complete)


def _small_outlier(branch: _Branch, directions: Directions, index: int, lowered: float) -> Outlier | None:
    """The root of one eigenvalue of B(lambda) formed whole, by Newton's method between bounds; ``None``: not found.

    The value is corrected like that of :func:`_large_outlier`.
    """
    bulk, m = branch.bulk, branch.bulk.width
    low, x, high = -np.inf, branch.end - 0.1, branch.end
    for _ in range(_ITERATIONS):
        point = branch.at(x)
        whole = _Condensed(bulk, point, directions)
        value, v = float(whole.values[index]), whole.vectors[:, index]
        u = v.reshape(m, -1)
        overlap, rate = _overlap_and_rate(bulk, point, directions, u)
        low, high = (max(low, x), high) if value > 0.0 else (low, min(high, x))  # the eigenvalue falls towards the edge
        moved = x + max(min(-value / rate if rate < 0.0 else np.inf, _STRIDE), -_STRIDE)
        if not low < moved < high:
            moved = (low + high) / 2 if np.isfinite(low) else high - _STRIDE
        if abs(moved - x) <= _STILL:
            return Outlier(_raised(branch, x, directions, u, None, rate, lowered).value, overlap)
        x = moved
    return None


def _raised(
    branch: _Branch, x: float, directions: Directions, u: Array, square: Array | None, rate: float, lowered: float
) -> BranchPoint:
    """Where an eigenvalue of B with a root at ``x`` has it without what noise has lowered it by, to first order.

    ``u`` is its kernel vector there, ``square`` that of :func:`_square` if known, ``rate`` its change with log tr s.
    """
    if not lowered or rate >= 0.0:
        return branch.at(x)
    square = _square(branch.bulk, branch.at(x), directions, u) if square is None else square
    size = float(np.trace(square)) / float(np.sum(u[:, : directions.visible] ** 2))  # E|R u Y|^2/|v|^2
    return branch.at(min(x - size * lowered / rate, branch.end))


def _response_to_lambda(bulk: Bulk, point: BranchPoint, directions: Directions) -> Array:
    """E[R X R (x) Y Y'], (m, K, m, K): what B loses through R as lambda grows, X as in :meth:`Bulk.slope`."""
    m, rows, slope = bulk.width, directions.rows, bulk.slope(point)
    total = np.zeros((m, rows, m, rows))
    for i, where in enumerate(directions.slices):
        y, r = directions.whole(i), bulk.response(point.root, where)
        bent = r[0] * slope[0, 0] * r[0] if m == 1 else np.einsum("abn,bc,cdn->adn", r, slope, r, optimize=True)
        weights = bent.reshape(m, m, -1)
        for a, b in np.ndindex(m, m):
            total[a, :, b] += (y * weights[a, b]) @ y.T
    total /= bulk.samples
    if bulk.groups is not None:
        for k, l in np.ndindex(rows, rows):
            total[:, k, :, l] = bulk.permuted(total[:, k, :, l])
    return total


def _large_outlier(
    branch: _Branch, subspace: _Subspace, whole: _Condensed, index: int, start: float, lowered: float
) -> tuple[Outlier | None, float]:
    """The root of one eigenvalue of B(lambda) on a growing subspace, by Newton's method, and log tr s there.

    The value is that of the root of the eigenvalue without what noise has ``lowered`` it by (:func:`_lowering`).
    ``None`` if it does not converge.
    """
    bulk, seen = branch.bulk, subspace.directions.visible
    x, best = start, branch.end
    for _ in range(_ITERATIONS):
        point = branch.at(x)
        values, visible, hidden = subspace.condensed(point)
        u, square, residual = subspace.residual(point, visible[:, index], hidden[:, index])
        residual[:, :seen] -= values[index] * u[:, :seen]  # the root is not exact
        correction = whole.solve(residual)
        error = float(np.linalg.norm(np.concatenate(correction)))
        overlap, rate = _overlap_and_rate(bulk, point, subspace.directions, u, square)
        step = -float(values[index]) / rate if rate < 0.0 else -_STRIDE
        moved = min(x + max(min(step, _STRIDE), -_STRIDE), best)
        still = abs(moved - x) <= _STILL
        if still and (error <= _CONVERGED or not subspace.add(*correction)):
            raised = _raised(branch, x, subspace.directions, u, square, rate, lowered)
            return Outlier(raised.value, overlap), x
        if not still:
            subspace.add(*correction)
        x = moved
    return None, start


def _square(bulk: Bulk, point: BranchPoint, directions: Directions, u: Array) -> Array:
    """E[(R u Y)(R u Y)'], (m, m)."""
    total = np.zeros((bulk.width,) * 2)
    for i, where in enumerate(directions.slices):
        weighted = _weigh(bulk.response(point.root, where), directions.combine(u, i)[None])[0]
        total += weighted @ weighted.T
    return np.asarray(total / bulk.samples)


def _overlap_and_rate(
    bulk: Bulk, point: BranchPoint, directions: Directions, u: Array, square: Array | None = None
) -> tuple[float, float]:
    """Squared projection on the directions of the eigenvector with kernel vector u (m, K + p), and the change of its
    eigenvalue of B with log tr s.

    The projection is 1/(1 - v'B'v/|L v|^2) with v the V part and ' = d/dlambda. ``square``: :func:`_square` if known.
    """
    seen, slope = directions.visible, bulk.slope(point)
    if bulk.groups is not None and seen == directions.rows:  # the average over neurons of one law
        change = -float(np.einsum("ai,aibj,bj->", u, _response_to_lambda(bulk, point, directions), u))
    else:
        square = _square(bulk, point, directions, u) if square is None else square
        hidden = u[:, seen:]
        change = float(np.sum(hidden * (slope @ hidden))) - float(np.sum(square * slope))
    norm, length = float(np.sum((point.root @ u[:, :seen]) ** 2)), float(np.sum(u[:, :seen] ** 2))
    return 1.0 / (1.0 - change / norm), (change - norm) / length * bulk.rate(point)
