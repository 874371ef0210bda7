"""Products of a handful of rows with many: what a step of training consists of, in the limit and on data.

They are bound by memory, and a general matrix product, which first copies its operands into packed form, does not run
at its speed: large ones are compiled here, on one thread each, and free of the interpreter's lock. Which way is taken
depends on sizes alone: the same seed gives the same bytes on one kind of machine.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Matrix = NDArray[Any]

__all__ = ["add_combination", "add_weighted_products", "combine", "project"]

#: Products of up to so many multiplications are BLAS's: there is little to gain, and Numba takes a moment to load.
_SMALL = 100_000
#: Bytes of the rows of data that are held in a core's own cache between two products.
_HELD = 256 * 1024


@cache
def _kernels() -> Any:
    from featurephase.dynamics import kernels

    return kernels


def _contiguous(few: Matrix, like: Matrix) -> Matrix:
    return np.ascontiguousarray(few, dtype=like.dtype)


def project(rows: Matrix, basis: Matrix) -> Array:
    """``rows @ basis.T``, (r, K), for a few rows (r, n) and many of ``basis`` (K, n), which is contiguous."""
    if len(rows) * basis.size <= _SMALL:
        return np.asarray(rows @ basis.T, dtype=np.float64)
    out = np.empty((len(rows), len(basis)))
    _kernels().project(basis, _contiguous(rows, basis), out)
    return out


def combine(coefficients: Array, basis: Array, memory: Array | None = None) -> Array:
    """``coefficients @ basis``, (r, n), for a few combinations (r, K) of the rows of ``basis`` (K, n).

    The result is in the first numbers of ``memory``, if that is given: fresh memory is slow.
    """
    shape = len(coefficients), basis.shape[1]
    out = np.empty(shape) if memory is None else memory[: shape[0] * shape[1]].reshape(shape)
    if len(coefficients) * basis.size <= _SMALL:
        return np.matmul(coefficients, basis, out=out)
    _kernels().combine(basis, _contiguous(coefficients, basis), out)
    return out


def add_combination(total: Array, coefficients: Matrix, block: Matrix) -> None:
    """``total += coefficients block``, (r, d), in float64, for coefficients (r, b) and a block of data (b, d)."""
    if len(coefficients) * block.size <= _SMALL:
        total += coefficients.astype(block.dtype, copy=False) @ block
        return
    _kernels().add_combination(block, _contiguous(coefficients, block), total)


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
    if few * block.size <= _SMALL:
        h = project(rows, block).reshape(m, few // m, -1)
        add_combination(total, np.einsum("rsn,scn->rcn", weights, h).reshape(few, -1), block)
        return
    held = max(_HELD // block[:1].nbytes // 4 * 4, 4)
    _kernels().add_weighted_products(block, _contiguous(rows, block), np.ascontiguousarray(weights), total, held)
