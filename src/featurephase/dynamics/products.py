"""Products of a handful of rows with many: what a step of the recursion consists of.

They are bound by memory, and a general matrix product, which copies its operands into packed form first, does not run
at its speed. Two ways around: matrix-vector products, row by row; or products so small that OpenBLAS takes kernels
without packing, which it has for AVX-512. Which one is used depends on the machine alone, never on a measurement: the
same seed gives the same bytes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["combine", "project"]

#: OpenBLAS takes its kernels without packing for products of up to so many multiplications ...
_SMALL = 1_000_000
#: ... on processors that it calls by these names.
_SMALL_KERNELS = frozenset({"skylakex", "cooperlake", "sapphirerapids"})
#: Narrower panels cost more in calls than they save.
_NARROWEST = 512
#: Up to so many rows, row by row is faster than a packed product.
_ROW_BY_ROW = 3


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
