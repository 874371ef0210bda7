"""Products of a handful of rows with many: what a step of training consists of, in the limit and on data.

They are bound by memory, and a general matrix product, which first copies its operands into packed form, does not run
at its speed. Large ones are compiled (:mod:`featurephase.dynamics.kernels`), on one thread each and free of the
interpreter's lock. Which way is taken depends on sizes alone: the same seed gives the same bytes on a machine. So are
the responses of many small matrices, for which NumPy has no fast way.
"""

from __future__ import annotations

from functools import cache
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array

Matrix = NDArray[Any]

#: Products of up to so many multiplications are BLAS's: there is little to gain, and Numba takes a moment to load.
#: Where precisions differ, the many rows would have to be copied first.
_SMALL, _SMALL_MIXED = 100_000, 20_000
#: So are those of rows so short that the compiled loops have hardly begun when they end.
_SHORT = 64
#: Up to so few rows BLAS is faster row by row.
_FEW = 3
#: Bytes of the rows of data that are held in a core's own cache between two products, and the most there are.
_HELD, _MOST_HELD = 256 * 1024, 128
#: What Numba raises where the folder that it keeps machine code in is full or damaged.
_UNUSABLE_CACHE = (OSError, EOFError, UnpicklingError)


@cache
def _kernels() -> Any:
    from featurephase.dynamics import kernels

    return kernels


def _run(name: str, *arguments: Any) -> Any:
    """A function of :mod:`featurephase.dynamics.kernels`."""
    kernels = _kernels()
    try:
        return getattr(kernels, name)(*arguments)
    except _UNUSABLE_CACHE:  # raised before anything is computed
        kernels.keep_nothing()
        return getattr(kernels, name)(*arguments)


def _is_for_blas(few: Matrix, many: Matrix) -> bool:
    single = few.dtype == many.dtype == np.float32  # many rows in single precision: what BLAS is fastest at
    small = _SMALL if few.dtype == many.dtype else _SMALL_MIXED
    return single or len(few) * many.size <= small or many.shape[1] < _SHORT


def _require(matches: bool, *arrays: Matrix) -> None:
    """The compiled loops do not look where arrays end."""
    if not matches:
        raise ValueError(f"shapes {', '.join(str(a.shape) for a in arrays)} do not match")


def _contiguous(few: Matrix, like: Matrix) -> Matrix:
    return np.ascontiguousarray(few, dtype=like.dtype)


def project(rows: Matrix, basis: Matrix) -> Array:
    """``rows @ basis.T``, (r, K), for a few rows (r, n) and many of ``basis`` (K, n), which is contiguous.

    Sums are float64 unless both are single precision.
    """
    _require(rows.shape[1] == basis.shape[1], rows, basis)
    out = np.empty((len(rows), len(basis)))
    if _is_for_blas(rows, basis):
        if len(rows) > _FEW:
            return np.asarray(rows @ basis.T, dtype=np.float64)
        for sums, row in zip(out, rows, strict=True):
            sums[:] = basis @ row
        return out
    _run("project", basis, np.ascontiguousarray(rows), out)
    return out


def combine(coefficients: Matrix, basis: Matrix, memory: Matrix | None = None) -> Matrix:
    """``coefficients @ basis``, (r, n), for a few combinations (r, K) of the rows of ``basis`` (K, n).

    In the precision of the coefficients.

    The result is in the first numbers of ``memory``, if that is given: fresh memory is slow.
    """
    _require(coefficients.shape[1] == len(basis), coefficients, basis)
    shape = len(coefficients), basis.shape[1]
    out = np.empty(shape, coefficients.dtype) if memory is None else memory[: shape[0] * shape[1]].reshape(shape)
    if _is_for_blas(coefficients, basis):
        if len(coefficients) > _FEW:
            return np.matmul(coefficients, basis, out=out)
        for row, some in zip(out, coefficients, strict=True):
            np.matmul(some, basis, out=row)
        return out
    _run("combine", basis, np.ascontiguousarray(coefficients), out)
    return out


def add_combination(total: Array, coefficients: Matrix, block: Matrix) -> None:
    """``total += coefficients block``, (r, d), in float64, for coefficients (r, b) and a block of data (b, d)."""
    matches = total.shape == (len(coefficients), block.shape[1]) and coefficients.shape[1] == len(block)
    _require(matches, total, coefficients, block)
    if _is_for_blas(coefficients, block):
        total += coefficients @ block.astype(np.float64, copy=False)
        return
    _run("add_combination", block, _contiguous(coefficients, block), total)


def add_weighted_products(total: Array, rows: Matrix, weights: Array, block: Matrix) -> None:
    """``total += [W (rows block')] block``, (m c, d), in float64; the block (b, d) is read from memory once.

    Parameters
    ----------
    rows
        (m c, d): c vectors for each of m neurons.
    weights
        W, (m, m, b): for each sample, a matrix that acts on neurons.
    """
    m, few = len(weights), len(rows)
    matches = weights.shape == (m, m, len(block)) and few % m == 0 and total.shape == rows.shape
    _require(matches and rows.shape[1] == block.shape[1], total, rows, weights, block)
    if _is_for_blas(rows, block):
        h = project(rows, block).reshape(m, few // m, -1)
        add_combination(total, np.einsum("rsn,scn->rcn", weights, h).reshape(few, -1), block)
        return
    held = min(max(_HELD // block[:1].nbytes // 4 * 4, 4), _MOST_HELD)
    _run("add_weighted_products", block, _contiguous(rows, block), np.ascontiguousarray(weights), total, held)


def respond(packed: Array, index: NDArray[np.intp]) -> bool:
    """Turn symmetric matrices A in place into ``1 - (1 + A)^-1``; whether all of ``1 + A`` are positive definite.

    Where one is not, what is left is neither.

    Parameters
    ----------
    packed
        Entries, (M, n), contiguous: a row for each different one, a column for each matrix.
    index
        In which row entry (i, j) is, (m, m).
    """
    _require(packed.flags.c_contiguous and bool(index.max(initial=0) < len(packed)), packed, index)
    diagonal = np.diag(index)
    packed[diagonal] += 1.0
    positive = bool(_run("invert", packed, index))
    packed[diagonal] += 1.0
    return positive
