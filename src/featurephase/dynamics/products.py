"""Products of a handful of rows with many: what a step of training consists of, in the limit and on data.

They are bound by memory, and a general matrix product, which copies its operands into packed form first, does not run
at its speed. Two ways around: matrix-vector products, row by row; or products so small that OpenBLAS takes kernels
without packing, which it has for AVX-512. Which one is used depends on the machine alone, never on a measurement: the
same seed gives the same bytes.

:func:`project` and :func:`combine` are for a basis of not too many long vectors, and cut their length into panels;
:class:`BlockProducts` is for blocks of many rows of data, and cuts them into slabs of whole rows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["BlockProducts", "combine", "project"]

#: OpenBLAS takes its kernels without packing for products of up to so many multiplications ...
_SMALL = 1_000_000
#: ... on processors that it calls by these names.
_SMALL_KERNELS = frozenset({"skylakex", "cooperlake", "sapphirerapids"})
#: Narrower panels cost more in calls than they save.
_NARROWEST = 512
#: Up to so many rows, row by row is faster than a packed product.
_ROW_BY_ROW = 3

#: Bytes of a register: from so many on, kernels go along the few rows, which they read transposed; fewer would
#: leave part of it empty. The kernel for those as they lie is taken for results of up to so many numbers.
_REGISTER, _SMALL_RESULT = 64, 1200
#: Slabs of so many rows are projected on, and summed over, faster than a block as a whole (which is packed): the sum
#: over slabs is an effort in itself.
_FEWEST_PROJECTED, _FEWEST_SUMMED = 8, 32


@cache
def _has_small_kernels() -> bool:
    from threadpoolctl import threadpool_info

    return any(
        info.get("internal_api") == "openblas" and str(info.get("architecture", "")).lower() in _SMALL_KERNELS
        for info in threadpool_info()
        if "numpy" in str(info.get("filepath", ""))
    )


def _panel(few: int, many: int, length: int) -> int | None:
    """Width of the column panels in which a product stays small; ``None`` where that does not pay."""
    if few == 1 or not _has_small_kernels():
        return None
    width = _SMALL // max(few * many, 1)
    if width >= length:
        return length
    return width - width % 64 if width >= _NARROWEST else None


def _slab_rows(few: int, length: int, itemsize: int) -> int | None:
    """Rows of the slabs (rows, length) whose products with a few rows stay small; ``None`` where that does not pay."""
    if few == 1 or not _has_small_kernels():
        return None
    rows = _SMALL // max(few * length, 1)
    if few * itemsize < _REGISTER:
        rows = min(rows, _SMALL_RESULT // few)
    return rows - rows % 8 if rows >= _FEWEST_PROJECTED else None


def project(rows: Array, basis: Array) -> Array:
    """``rows @ basis.T``, (r, K), for a few rows (r, n) and many of ``basis`` (K, n)."""
    few, many, length = len(rows), len(basis), rows.shape[1]
    panel = _panel(few, many, length)
    if panel is not None:
        out = rows[:, :panel] @ basis[:, :panel].T
        for a in range(panel, length, panel):
            out += rows[:, a : a + panel] @ basis[:, a : a + panel].T
        return out
    if few > _ROW_BY_ROW:
        return rows @ basis.T
    out = np.empty((few, many))
    for row, target in zip(rows, out, strict=True):
        np.dot(row, basis.T, out=target)
    return out


def combine(coefficients: Array, basis: Array) -> Array:
    """``coefficients @ basis``, (r, n), for a few combinations (r, K) of the rows of ``basis`` (K, n)."""
    few, many = coefficients.shape
    length = basis.shape[1]
    panel = _panel(few, many, length)
    if panel is None and few > _ROW_BY_ROW:
        return coefficients @ basis
    out = np.empty((few, length))
    if panel is not None:
        for a in range(0, length, panel):
            np.matmul(coefficients, basis[:, a : a + panel], out=out[:, a : a + panel])
        return out
    for row, target in zip(coefficients, out, strict=True):
        np.dot(row, basis, out=target)
    return out


class BlockProducts:
    """Products of a few rows with one block of data after another: ``rows block'`` and ``coefficients block``.

    Several threads may share it; each gives memory of its own for what is summed.

    Parameters
    ----------
    rows
        What blocks are projected on, (r, d), in the precision of the data.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self.shape, self.dtype = rows.shape, rows.dtype
        few, length = rows.shape
        self._slab = _slab_rows(few, length, rows.itemsize)
        self._summed = self._slab if self._slab is not None and self._slab >= _FEWEST_SUMMED else None
        self._transposed = self._slab is not None and few * rows.itemsize >= _REGISTER
        self._rows = np.ascontiguousarray(rows.T if self._transposed else rows)

    def room(self, most: int) -> NDArray[Any]:
        """Memory for :meth:`add_combination` with blocks of up to so many rows; worth keeping: fresh memory is slow."""
        return np.empty((max(most // (self._summed or most), 1), *self.shape), self.dtype)

    def project(self, block: NDArray[Any]) -> Array:
        """``rows block'``, (r, b), for a block (b, d)."""
        few = self.shape[0]
        out = np.empty((few, len(block)))
        for s, slabs in _slabs(block, self._slab):
            if self._transposed:
                out[:, s] = (slabs @ self._rows).reshape(-1, few).T
            else:
                out[:, s] = (self._rows @ slabs.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(few, -1)
        return out

    def add_combination(self, total: Array, coefficients: Array, block: NDArray[Any], room: NDArray[Any]) -> None:
        """``total += coefficients block``, (r, d), for coefficients (r, b) and a block (b, d)."""
        low = coefficients.astype(self.dtype, copy=False)
        for s, slabs in _slabs(block, self._summed):
            stack = low[:, s].reshape(-1, *slabs.shape[:2]).transpose(1, 0, 2)
            total += np.add.reduce(np.matmul(stack, slabs, out=room[: len(slabs)]), axis=0)


def _slabs(block: NDArray[Any], size: int | None) -> list[tuple[slice, NDArray[Any]]]:
    """Whole slabs of a block as a stack (count, size, d), and what is left as another; ``None``: the block as one."""
    n, d = block.shape
    size = size or n
    whole = n - n % size
    parts = [(slice(0, whole), size), (slice(whole, n), n - whole)]
    return [(s, block[s].reshape(-1, rows, d)) for s, rows in parts if s.stop > s.start]
