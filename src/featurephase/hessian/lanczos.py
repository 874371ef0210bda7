"""Lanczos' method with full reorthogonalisation, for NumPy arrays and torch tensors alike: it sees products alone.

Own code rather than ARPACK (``scipy.sparse.linalg.eigsh``), for three reasons: a bounded number of products that ends
with whatever was reached and its residuals (ARPACK gives only what converged); a basis that stays on the device and in
the threads of whoever computes the products (SciPy's BLAS threads and torch's fight for the cores of a training
machine: 21 s against 4 s on a busy 2-core one; alone the two take the same time); and both ends, or a quadrature of the
spectral measure, from one basis. The basis is kept whole and orthogonal to rounding, so that no ghost copies appear; as
with every single-vector method an exactly degenerate eigenvalue may be found once only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.linalg import eigh_tridiagonal

from featurephase.foundation.types import Array

Vector: TypeAlias = Any  # a NumPy array or a torch tensor of one dimension
#: Multiples of the rounding error below which the remainder of a step is zero.
_ROUNDING = 10.0


@dataclass(frozen=True)
class Krylov:
    """``A V' = V' T + beta v e'``: the basis V (k, n), and the tridiagonal T.

    Attributes
    ----------
    diagonal, beside
        Of T, (k,) and (k - 1,).
    basis
        Orthonormal rows, (k, n).
    beta
        Norm of the remainder.
    complete
        Whether the basis spans an invariant subspace: eigenvalues of T are eigenvalues of A.
    """

    diagonal: Array
    beside: Array
    basis: Any
    beta: float
    complete: bool

    def eigen(self) -> tuple[Array, Array]:
        """Eigenvalues of T, ascending, and its eigenvectors as columns."""
        values, vectors = eigh_tridiagonal(self.diagonal, self.beside)
        return np.asarray(values), np.asarray(vectors)


def krylov(
    product: Callable[[Vector], Vector],
    start: Vector,
    basis: Any,
    eps: float,
    stop: Callable[[Krylov], bool] | None = None,
) -> Krylov:
    """Run until ``basis`` is full, an invariant subspace is found, or ``stop`` says so.

    Parameters
    ----------
    product
        ``v -> A v``, symmetric, for vectors of the length and type of ``start``.
    start
        Any vector but 0.
    basis
        Room for the basis, (most steps, n), of the type of ``start``.
    eps
        Precision of the arithmetic.
    stop
        Asked after every tenth step.
    """
    most, size = basis.shape
    basis[0] = start / _norm(start)
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        step = len(diagonal)
        vector = product(basis[step])
        diagonal.append(float(basis[step] @ vector))
        # The three-term recurrence first, then all of the basis: again where that still took much away.
        vector = vector - diagonal[-1] * basis[step]
        if step:
            vector = vector - beside[-1] * basis[step - 1]
        known = basis[: step + 1]
        for _ in range(3):
            before = _norm(vector)
            vector = vector - known.T @ (known @ vector)
            if _norm(vector) >= 0.7 * before:
                break
        beta = _norm(vector)
        scale = max(map(abs, diagonal)) + max(map(abs, beside), default=0.0)
        complete = beta <= _ROUNDING * eps * max(scale, 1e-300) or step + 1 == size
        done = Krylov(np.array(diagonal), np.array(beside), known, beta, complete)
        if complete or step + 1 == most or (stop is not None and (step + 1) % 10 == 0 and stop(done)):
            return done
        beside.append(beta)
        basis[step + 1] = vector / beta


def _norm(vector: Vector) -> float:
    return math.sqrt(float(vector @ vector))


@dataclass(frozen=True)
class Ritz:
    """The ``count`` lowest and highest Ritz pairs.

    Attributes
    ----------
    values
        Ascending, (2 count,).
    coordinates
        Of the vectors in the basis, (2 count, k).
    residuals
        ``|A v - lambda v|``, (2 count,): an eigenvalue lies that close.
    space
        The basis and the tridiagonal.
    converged
        Whether the residuals are below the tolerance.
    """

    values: Array
    coordinates: Array
    residuals: Array
    space: Krylov
    converged: bool


def extreme_pairs(
    product: Callable[[Vector], Vector], start: Vector, basis: Any, count: int, *, tolerance: float, eps: float
) -> Ritz:
    """Both ends of the spectrum, until residuals are below ``tolerance`` times the largest |value| or ``basis`` is
    full."""

    def pairs(space: Krylov) -> Ritz:
        values, vectors = space.eigen()
        done = values.size
        ends = np.unique(np.r_[:count, max(0, done - count) : done].clip(max=done - 1))
        residuals = np.zeros(ends.size) if space.complete else space.beta * np.abs(vectors[-1, ends])
        converged = space.complete or bool(residuals.max() <= tolerance * np.abs(values).max())
        return Ritz(values[ends], vectors[:, ends].T, residuals, space, converged)

    def enough(space: Krylov) -> bool:
        return len(space.diagonal) >= 2 * count + 2 and pairs(space).converged

    return pairs(krylov(product, start, basis, eps, enough))


def quadrature(product: Callable[[Vector], Vector], start: Vector, basis: Any, eps: float) -> tuple[Array, Array]:
    """Nodes and weights of the Gauss quadrature of the spectral measure of ``start``; the weights add up to 1.

    Exact for polynomials up to degree 2 k - 1 (Golub & Meurant 1994; Ubaru, Chen & Saad 2017).
    """
    nodes, vectors = krylov(product, start, basis, eps).eigen()
    return nodes, np.asarray(vectors[0] ** 2)
