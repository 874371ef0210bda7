"""The conditioning recursion: the law of a Gaussian data matrix given its products with the vectors met so far.

A Gaussian X (n x d) that has acted on finitely many vectors is fresh Gaussian elsewhere. Gradient descent therefore
needs no data matrix: it suffices to keep, for each sample,

* ``V`` (K, N): projections on an orthonormal basis of the visited part of R^d, and
* ``Phi`` (p, N): an orthonormal basis (``mean Phi_a Phi_b = [a = b]``) of the visited part of sample space,

and to extend both when a gradient leaves them (theory: Montanari & Wang, arXiv 2602.01434; for finite sizes also
Y. M. Lu, "Householder Dice", 2021). New rows are ``V_new = R Phi_new + Z`` with Z fresh and orthogonal to Phi and
Phi_new. The two laws differ in R alone: ``I/sqrt(delta)`` up to O(1/N) in the limit n, d -> infinity with N sample
paths, a random triangle at finite (n, d) with N = n. This module is the only place where the recursion is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, qr, solve_triangular

from featurephase.dynamics.points import PathCoordinates
from featurephase.dynamics.products import combine, project
from featurephase.foundation.memory import available_memory, require_memory
from featurephase.foundation.threads import in_turn, map_blocks, map_parts
from featurephase.foundation.types import Array

Matrix = NDArray[Any]

#: A direction enters the basis only if its residual exceeds this fraction of the gradient's norm: below it there is
#: nothing but round-off, which would destroy the orthogonality of the basis.
RESIDUAL_TOLERANCE = 1e-8
#: What the tolerance rises to when a basis of bounded capacity fills up; still below the noise of 10^5 sample paths.
LOOSEST_TOLERANCE = 1e-3
#: Largest mean product of two different basis vectors that is accepted, far below the noise of sample paths.
ORTHOGONALITY = {np.float64: 1e-11, np.float32: 1e-5}
#: A direction of which another orthogonalisation leaves less than this was round-off inside the basis, and is left out.
_GENUINE = 0.3
#: Up to so many rows what is left of them on Phi is asked in the pass that subtracts it; of more, it costs less to ask
#: it of the basis of what they add.
_FEW = 16
#: Relative residuals that E[F F'] and E[F Phi'] tell from none.
_RESOLVED = {np.float64: 1e-4, np.float32: 1e-3}
#: Mean squares of F that single precision sums without underflow or overflow; others are computed in another unit.
_AMPLE = (1e-18, 1e18)
#: Relative pivots that the products of rows do not resolve.
_BLIND = 1e-7
#: Samples per block in float64, of which single precision takes twice as many: as many as
#: :mod:`featurephase.functions.program` takes at a time.
BLOCK = 8192
#: Fraction of the free memory that may be set aside at the start for the directions that are expected.
RESERVED = 0.25


def gaussian_triangle(rows: int, columns: int, rng: np.random.Generator) -> Array:
    """R of the QR split of a Gaussian (rows, columns) matrix: R_jj^2 ~ chi^2(rows - j + 1), N(0, 1) above."""
    size = min(rows, columns)
    triangle = np.triu(rng.standard_normal((size, columns)), 1)
    triangle[np.arange(size), np.arange(size)] = np.sqrt(rng.chisquare(rows - np.arange(size)))
    return triangle


@dataclass(frozen=True)
class AsymptoticLaw:
    """The limit n, d -> infinity with n/d -> ``delta``: R = I/sqrt(delta), corrected for the number of paths.

    N paths are the samples of a system of dimension N/delta, of which K directions are known: its R_jj^2 has the mean
    1/delta - K/N (see :class:`FiniteLaw`). Without the K/N the bias, O(1/N) too, grows with the number of steps: in the
    example of theory/thresholds (theory/dynamics, eq. dyn-paths), delta = 20, t = 300, N = 4000, |theta|^2 is 1.033(18)
    without it, .856(12) with it and .855(9) in dense runs.

    Attributes
    ----------
    delta
        n/d.
    samples
        N; infinite for no correction.
    integrated
        Directions left out of K because averages with them fluctuate far less than those of N independent paths
        (:data:`featurephase.dynamics.points.INTEGRATED` where paths are quasi-random).
    """

    delta: float
    samples: float = np.inf
    integrated: int = 0

    def coupling(self, visited: int, new: int) -> Array:
        """``I sqrt(1/delta - K/N)``, shape (rows, new): no row is added once K reaches N/delta."""
        known = np.maximum(visited + np.arange(new) - self.integrated, 0)
        variance = 1.0 / self.delta - known / self.samples
        diagonal: Array = np.diag(np.sqrt(np.maximum(variance, 0.0)))
        return diagonal[variance > 0.0]

    def exhausted(self, visited: int) -> bool:
        """Whether K has reached N/delta."""
        return visited - self.integrated >= self.samples / self.delta


@dataclass(frozen=True)
class FiniteLaw:
    """The exact law at finite size: R/sqrt(n), R upper triangular, R_jj^2 ~ chi^2(d - K - j + 1), R_ij ~ N(0, 1)."""

    samples: int
    dimension: int
    rng: np.random.Generator

    def coupling(self, visited: int, new: int) -> Array:
        """The random triangle, shape (min(new, d - visited), new): no row is added once R^d is exhausted."""
        triangle: Array = gaussian_triangle(self.dimension - visited, new, self.rng) / np.sqrt(self.samples)
        return triangle

    def exhausted(self, visited: int) -> bool:
        """Whether all of R^d has been visited."""
        return visited >= self.dimension


#: How new rows of V depend on new rows of Phi: ``V_new = coupling @ Phi_new + Z``.
Law: TypeAlias = AsymptoticLaw | FiniteLaw


class ConditionedDesign:
    """A Gaussian data matrix known only through its products.

    Parameters
    ----------
    rows
        First projections V, shape (K0, N).
    law
        :class:`AsymptoticLaw` or :class:`FiniteLaw`.
    rng
        Source of the fresh Gaussians Z.
    tolerance
        Relative residual below which a gradient counts as inside the visited space.
    capacity
        Bound on the number of visited directions of sample space, hence on the memory of an arbitrarily long run:
        beyond half of it the tolerance rises geometrically, to :data:`LOOSEST_TOLERANCE` when it is full. ``None``:
        no bound.
    expected
        Number of directions for which room is made at the start (untouched room costs nothing).
    precision
        Of V, Phi and the work of a step: ``np.float64`` or ``np.float32``; sums over blocks of samples are float64 in
        either case.

    Attributes
    ----------
    visited, met
        K and p.
    dropped
        Largest tolerance at which a direction has been left out so far, relative to the gradient's norm.

    Notes
    -----
    Samples are kept in blocks whose rows stay in cache, and a block is read once per pass. A step costs one pass
    over V and two over Phi, or three where a residual is so small that round-off asks for another orthogonalisation.
    """

    def __init__(
        self,
        rows: Array,
        law: Law,
        rng: np.random.Generator | PathCoordinates,
        *,
        tolerance: float = RESIDUAL_TOLERANCE,
        capacity: int | None = None,
        expected: int = 0,
        precision: type[np.float64 | np.float32] = np.float64,
    ) -> None:
        self.law = law
        self.precision = precision
        self.rng = rng
        self.tolerance = tolerance
        self.capacity = capacity
        self.dropped = 0.0
        self._unit = 1.0
        self.visited, self.samples = rows.shape
        self.met = 0
        self._ahead = 0
        self._memory = np.empty((0, self.samples), self.precision)
        self._size = np.dtype(precision).itemsize
        self._width = min(BLOCK * 8 // self._size, self.samples)
        self.slices = [slice(a, min(a + self._width, self.samples)) for a in range(0, self.samples, self._width)]
        self._v = [np.ascontiguousarray(rows[:, s], dtype=precision) for s in self.slices]
        self._phi = [np.empty((0, s.stop - s.start), precision) for s in self.slices]
        if expected * self.samples * 2.0 * self._size < RESERVED * available_memory():
            self._grow(self._v, self.visited, self.visited + expected)
            self._grow(self._phi, 0, expected)

    # ---- reading

    def projections(self, block: int) -> Matrix:
        """V on one block of samples, shape (K, block)."""
        return self._v[block][: self.visited]

    def sample_basis(self, block: int) -> Matrix:
        """Phi on one block of samples, shape (p, block)."""
        return self._phi[block][: self.met]

    def preactivations(self, weights: Array) -> Array:
        """``h = C'V``, shape (m, N), for weights C in the visited basis, shape (K, m)."""
        h, coordinates = np.empty((weights.shape[1], self.samples)), weights.T.astype(self.precision, copy=False)

        def fill(b: int) -> None:
            h[:, self.slices[b]] = combine(coordinates, self.projections(b))

        map_blocks(fill, len(self.slices))
        return h

    # ---- the recursion

    def gradient(self, weights: Array, sample_gradient: Callable[[Array, slice], Array]) -> Array:
        """``X'F/n`` in the visited basis, which is extended by the directions that F adds.

        Parameters
        ----------
        weights
            C, shape (K, m).
        sample_gradient
            Returns F (m, block) for the pre-activations h (m, block) of the samples in a slice. Called from several
            threads, by one at a time.

        Returns
        -------
        Array
            Shape (K + q, m): the rows on the old basis, then those on the q new directions.
        """
        m = weights.shape[1]
        growing = not self.law.exhausted(self.visited) and self.met < self.samples
        # F and, below it, the fresh rows Z that its new directions will need: one pass over Phi then serves both.
        rows = self._memory_for(m + (self._ahead if growing else 0))
        fresh = rows[m:]
        self.rng.standard_normal(out=fresh, dtype=self.precision)
        pass_over = partial(self._pass, weights, in_turn(sample_gradient), rows, growing)
        on_v, on_phi, square = pass_over()
        if not _AMPLE[0] < square < _AMPLE[1] and self._other_unit(rows[:m]):
            on_v, on_phi, square = pass_over()
        if not growing or not np.all(np.isfinite(on_v)):
            return self._unit * on_v.T
        scale = float(np.sqrt(square))
        left = np.sqrt(max(square - float(np.sum(on_phi[:m] ** 2)), 0.0))
        resolved = max(left, _RESOLVED[self.precision] * scale)
        if resolved < self._tolerance() * scale:  # nothing new: E[F F'] says so already
            self.dropped = max(self.dropped, left / scale)
            self._ahead = 0
            return self._unit * on_v.T
        overlap = self._sweep(rows, on_phi, m if m <= _FEW else 0)
        residual = rows[:m]
        new_phi = self._residual_basis(residual, overlap, scale)
        self._ahead = len(new_phi)
        if len(new_phi) == 0:
            return self._unit * on_v.T
        loading = _products(residual, new_phi) / self.samples  # L, (m, q)
        coupling = self.law.coupling(self.visited, len(new_phi))
        self._append(coupling, new_phi, self._enough(fresh, len(coupling)))
        return self._unit * np.concatenate([on_v, loading @ coupling.T], axis=1).T

    def _pass(
        self, weights: Array, sample_gradient: Callable[[Array, slice], Array], rows: Matrix, growing: bool
    ) -> tuple[Array, Array, float]:
        """F/unit into the first rows; its mean products with V, those of all rows with Phi, and its mean square."""
        m = weights.shape[1]
        coordinates = weights.T.astype(self.precision, copy=False)

        def products(part: range) -> tuple[Array, Array, float]:
            on_v, on_phi, square = np.zeros((m, self.visited)), np.zeros((len(rows), self.met)), 0.0
            memory = np.empty(m * self._width, self.precision)
            for b in part:
                s, v = self.slices[b], self.projections(b)
                gradient = sample_gradient(combine(coordinates, v, memory), s)
                scaled = gradient if self._unit == 1.0 else gradient / self._unit
                block: Matrix = scaled.astype(self.precision, copy=False)
                rows[:m, s] = block
                on_v += project(block, v)
                square += float(np.vdot(block, block))
                if self.met and growing:
                    on_phi += project(rows[:, s], self.sample_basis(b))
            return on_v, on_phi, square

        sums = map_parts(products, len(self.slices))
        on_v: Array = sum(p[0] for p in sums) / self.samples
        on_phi: Array = sum(p[1] for p in sums) / self.samples
        return on_v, on_phi, sum(p[2] for p in sums) / self.samples

    def _other_unit(self, gradient: Matrix) -> bool:
        """Take the size of F/unit, of which squares are out of range, into the unit; False where it is 0 or infinite.

        A power of two, so that results are the same to the last bit.
        """
        largest = float(np.abs(gradient).max())
        if not 0.0 < largest < np.inf:
            return False
        self._unit *= 2.0 ** round(np.log2(largest))
        return True

    def _memory_for(self, rows: int) -> Matrix:
        """Rows (rows, N) to work in, the same from step to step: fresh memory is slow."""
        if len(self._memory) < rows:
            self._memory = np.empty((rows, self.samples), self.precision)
        return self._memory[:rows]

    def _sweep(self, rows: Matrix, coefficients: Array, measured: int) -> Array:
        """Subtract ``coefficients @ Phi`` from the rows in place; the overlap of the first rows with Phi afterwards."""
        if self.met == 0:
            return np.zeros((measured, 0))
        coefficients = coefficients.astype(self.precision, copy=False)

        def subtract(part: range) -> Array:
            overlap, memory = np.zeros((measured, self.met)), np.empty(len(rows) * self._width, self.precision)
            for b in part:
                s, phi = self.slices[b], self.sample_basis(b)
                rows[:, s] -= combine(coefficients, phi, memory)
                overlap += project(rows[:measured, s], phi)
            return overlap

        overlap: Array = sum(map_parts(subtract, len(self.slices))) / self.samples
        return overlap

    def _overlap(self, rows: Matrix) -> Array:
        """What rows have in common with Phi, (r, p)."""

        def products(part: range) -> Array:
            return np.asarray(sum(project(rows[:, self.slices[b]], self.sample_basis(b)) for b in part))

        total: Array = sum(map_parts(products, len(self.slices))) / self.samples
        return total

    def _residual_basis(self, residual: Array, overlap: Array, scale: float) -> Array:
        """Orthonormal rows (q, N) that span the residual of F off Phi: a rank-revealing split, orthogonalised again.

        Parameters
        ----------
        residual
            F - A Phi, (m, N).
        overlap
            What it still has in common with Phi, (m, p), or no row if that was not asked.
        scale
            Root mean square of F.
        """
        if scale == 0.0:
            return residual[:0]
        tolerance = self._tolerance()
        split = _orthonormal_rows if self.precision is np.float64 else _orthonormal_rows_by_gram
        basis, triangle, order = split(residual, tolerance * scale)
        if len(basis) < len(residual):
            left = float(np.linalg.norm(residual) / (scale * np.sqrt(self.samples)))
            self.dropped = max(self.dropped, min(tolerance, left))
        room = self.samples - self.met
        basis, triangle = basis[:room], triangle[:room, :room]
        q = len(basis)
        if q == 0 or self.met == 0:
            return basis
        # The measured overlap of the residual gives that of the basis unless the triangle amplifies round-off.
        pivots = np.abs(np.diag(triangle))
        if len(overlap) < len(residual):
            overlap = self._overlap(basis)
        elif pivots[-1] > 1e-3 * pivots[0]:
            overlap = _carried_over(overlap[order[:q]], triangle[:q, :q])
        else:
            overlap = self._overlap(basis)
        accepted = ORTHOGONALITY[self.precision]
        for _ in range(4):
            if np.max(np.abs(overlap), initial=0.0) < accepted:
                return basis
            overlap = self._sweep(basis, overlap, len(basis))
            basis, triangle, order = split(basis, _GENUINE)  # which may take the rows in another order
            if len(basis) == len(overlap):
                overlap = _carried_over(overlap[order], triangle)
            else:
                self.dropped = max(self.dropped, tolerance)
                overlap = self._overlap(basis)
        if np.max(np.abs(overlap), initial=0.0) < 10 * accepted:
            return basis
        raise ArithmeticError(
            f"the basis of sample space lost its orthogonality ({np.max(np.abs(overlap)):.1e}): please report this"
        )

    def _enough(self, fresh: Array, count: int) -> Array:
        """``count`` fresh Gaussian rows orthogonal to Phi, of which ``fresh`` are some."""
        missing = count - len(fresh)
        if missing <= 0:
            return fresh[:count]
        more = self.rng.standard_normal((missing, self.samples), dtype=self.precision)
        self._sweep(more, self._overlap(more), 0)
        return np.concatenate([fresh, more])

    def _append(self, coupling: Array, new_phi: Array, fresh: Array) -> None:
        """Append Phi_new and ``V_new = coupling @ Phi_new + Z``, Z = ``fresh`` made orthogonal to Phi_new too."""
        rows, q = coupling.shape
        coupling = (coupling - _products(fresh, new_phi) / self.samples).astype(self.precision, copy=False)
        v, met = self.visited, self.met
        self._grow(self._v, v, v + rows)
        self._grow(self._phi, met, met + q)
        for b, s in enumerate(self.slices):
            part = new_phi[:, s]
            self._v[b][v : v + rows] = fresh[:, s] + (coupling @ part if q > 1 else coupling * part)
            self._phi[b][met : met + q] = part
        self.visited += rows
        self.met += q

    def _tolerance(self) -> float:
        """The relative residual that a new direction must exceed, given how full the basis is."""
        if self.capacity is None:
            return self.tolerance
        fullness = 2.0 * self.met / self.capacity - 1.0
        if fullness >= 1.0:
            return np.inf
        loosest = max(LOOSEST_TOLERANCE, self.tolerance)
        return float(self.tolerance * (loosest / self.tolerance) ** max(fullness, 0.0))

    def _grow(self, blocks: list[Matrix], used: int, needed: int) -> None:
        """Room for ``needed`` rows; the capacity grows by half, one block at a time, so that the peak stays low."""
        if needed <= len(blocks[0]):
            return
        capacity = max(needed, 8, used + used // 2)
        require_memory((capacity - len(blocks[0])) * self.samples * self._size, "the history of the recursion")
        for b, block in enumerate(blocks):
            larger = np.empty((capacity, block.shape[1]), self.precision)
            larger[:used] = block[:used]
            blocks[b] = larger


def _carried_over(overlap: Array, triangle: Array) -> Array:
    """The overlap of a basis, from that of the rows that it splits into a triangle."""
    if len(triangle) == 1:  # no call for a division
        return np.asarray(overlap / triangle[0, 0])
    return np.asarray(solve_triangular(triangle, overlap, trans="T"))


def _products(left: Matrix, right: Matrix) -> Array:
    """``left @ right.T`` of rows (r, N) and (q, N), summed up in float64 block by block."""
    if left.dtype == np.float64:
        return np.asarray(left @ right.T)
    total = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], BLOCK):
        total += left[:, start : start + BLOCK] @ right[:, start : start + BLOCK].T
    return total


def _orthonormal_rows_by_gram(rows: Matrix, threshold: float) -> tuple[Matrix, Array, NDArray[np.intp]]:
    """As :func:`_orthonormal_rows`, from products of the rows: several times faster, and blind to pivots below 1e-7.

    What round-off leaves of the orthogonality is mended by a second round (CholeskyQR2: Yamamoto et al. 2015).
    """
    n = rows.shape[1]
    if len(rows) == 1:
        return _orthonormal_rows(rows, threshold)
    gram = _products(rows, rows) / n
    factor, pivots, rank, _ = lapack.dpstrf(gram, tol=max(threshold**2, _BLIND**2 * float(np.max(np.diag(gram)))))
    order = pivots - 1
    triangle: Array = np.triu(factor)[:rank, :rank]
    if rank == 0:
        return rows[:0], triangle, order.astype(np.intp)
    basis = np.linalg.inv(triangle).T.astype(rows.dtype, copy=False) @ rows[order[:rank]]
    again = np.linalg.cholesky(_products(basis, basis) / n).T
    basis = np.linalg.inv(again).T.astype(rows.dtype, copy=False) @ basis
    return basis, again @ triangle, order.astype(np.intp)


def _orthonormal_rows(rows: Array, threshold: float) -> tuple[Array, Array, NDArray[np.intp]]:
    """Pivoted QR of the transposed rows: basis with unit mean square, triangle, order; pivots <= threshold dropped."""
    n = rows.shape[1]
    if len(rows) == 1:
        norm = float(np.sqrt(_products(rows, rows)[0, 0] / n))
        if norm <= threshold:
            return rows[:0], np.empty((0, 0)), np.zeros(1, dtype=np.intp)
        return rows / rows.dtype.type(norm), np.array([[norm]]), np.zeros(1, dtype=np.intp)
    q, r, order = qr(rows.T, mode="economic", pivoting=True, check_finite=False)
    rank = int(np.count_nonzero(np.abs(np.diag(r)) > threshold * np.sqrt(n)))
    basis: Array = np.ascontiguousarray(q[:, :rank].T) * np.sqrt(n)
    triangle: Array = r[:rank, :rank] / np.sqrt(n)
    return basis, triangle, order.astype(np.intp)
