"""The compiled loops of :mod:`featurephase.dynamics.products`; importing this module loads Numba.

Four rows of a matrix x at a time meet four of the few rows: sixteen sums that stay in registers, and two numbers from
cache for four multiplications. What is left over meets one by one. Matrices are contiguous, few rows have the precision
of x. Functions return a sum of what they read ahead only because the compiler would otherwise leave the reading out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.errors import FeaturephaseWarning

Function = TypeVar("Function", bound=Callable[..., Any])
Matrix = NDArray[Any]

#: Columns at a time: those of the few rows stay in a core's own cache.
_CHUNK = 2048
#: Up to so few rows there is so little to compute that x comes in as fast as it can anyway.
_STREAMED = 4
#: Rows whose sum is taken in the precision of x before it joins a total in float64.
_SUMMED = 512
#: Small matrices that are inverted side by side.
_ABREAST = 128


#: The functions compiled below as they are written, with the options of the compiler.
_WRITTEN: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}


@cache
def _say_where_to_keep_them() -> None:
    warnings.warn(
        "compiled loops cannot be kept, and are compiled again in every run, which takes some seconds: neither the "
        "folder of the package nor that of the user can be written to; set NUMBA_CACHE_DIR to one that can",
        FeaturephaseWarning,
        stacklevel=2,
    )


def _compiled(*permissions: str) -> Callable[[Function], Function]:
    """Machine code, kept in a folder where there is one that can be written, and free of the interpreter's lock.

    ``permissions`` are LLVM's for floating-point numbers. None of them lets it forget infinities or nan.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", *permissions}}

    def compiled(function: Function) -> Function:
        _WRITTEN[function.__name__] = function, options
        try:
            made: Function = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no such folder
            made = numba.njit(**options)(function)
            _say_where_to_keep_them()
        return made

    return compiled


@_compiled("reassoc")
def _read(x: Matrix, first: int, last: int, start: int, stop: int) -> Any:
    """A sum of some rows, which brings them to the cache: one stream at a time is faster than four."""
    total = x.dtype.type(0)
    for i in range(first, last):
        row = x[i, start:stop]
        for j in range(stop - start):
            total += row[j]
    return total


@_compiled("reassoc")
def _project(x: Matrix, first: int, last: int, rows: Matrix, out: Matrix) -> Any:
    """Add ``rows x[first:last]'`` to ``out`` (r, last - first)."""
    few, length = rows.shape
    tiles, quads = last - (last - first) % 4, few - few % 4
    zero = rows.dtype.type(0)
    ahead = x.dtype.type(0)
    for start in range(0, length, _CHUNK):
        stop = min(start + _CHUNK, length)
        for i in range(first, tiles, 4):
            if few > _STREAMED:
                ahead += _read(x, i, i + 4, start, stop)
            k = i - first
            x0, x1, x2, x3 = x[i, start:stop], x[i + 1, start:stop], x[i + 2, start:stop], x[i + 3, start:stop]
            for r in range(0, quads, 4):
                row0, row1, row2, row3 = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
                v0, v1, v2, v3 = row0[start:stop], row1[start:stop], row2[start:stop], row3[start:stop]
                s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = zero
                s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = zero
                for j in range(stop - start):
                    s00 += v0[j] * x0[j]
                    s01 += v0[j] * x1[j]
                    s02 += v0[j] * x2[j]
                    s03 += v0[j] * x3[j]
                    s10 += v1[j] * x0[j]
                    s11 += v1[j] * x1[j]
                    s12 += v1[j] * x2[j]
                    s13 += v1[j] * x3[j]
                    s20 += v2[j] * x0[j]
                    s21 += v2[j] * x1[j]
                    s22 += v2[j] * x2[j]
                    s23 += v2[j] * x3[j]
                    s30 += v3[j] * x0[j]
                    s31 += v3[j] * x1[j]
                    s32 += v3[j] * x2[j]
                    s33 += v3[j] * x3[j]
                _add_four(out[r], k, s00, s01, s02, s03)
                _add_four(out[r + 1], k, s10, s11, s12, s13)
                _add_four(out[r + 2], k, s20, s21, s22, s23)
                _add_four(out[r + 3], k, s30, s31, s32, s33)
            for r in range(quads, few):
                v0 = rows[r, start:stop]
                s00 = s01 = s02 = s03 = zero
                for j in range(stop - start):
                    s00 += v0[j] * x0[j]
                    s01 += v0[j] * x1[j]
                    s02 += v0[j] * x2[j]
                    s03 += v0[j] * x3[j]
                _add_four(out[r], k, s00, s01, s02, s03)
        for i in range(tiles, last):
            x0 = x[i, start:stop]
            for r in range(few):
                v0 = rows[r, start:stop]
                s00 = zero
                for j in range(stop - start):
                    s00 += v0[j] * x0[j]
                out[r, i - first] += s00
    return ahead


@_compiled()
def _add_four(out: Matrix, k: int, s0: Any, s1: Any, s2: Any, s3: Any) -> None:
    out[k] += s0
    out[k + 1] += s1
    out[k + 2] += s2
    out[k + 3] += s3


@_compiled()  # not reassociated: as they are written, sums are chains of four multiply-adds
def _combine(x: Matrix, first: int, last: int, f: Matrix, out: Matrix, cold: bool) -> Any:
    """Add ``f x[first:last]`` to ``out`` (r, n), for coefficients f (r, last - first or more)."""
    few, length = out.shape
    cold = cold and few > _STREAMED
    tiles, quads = last - (last - first) % 4, few - few % 4
    ahead = x.dtype.type(0)
    for start in range(0, length, _CHUNK):
        stop = min(start + _CHUNK, length)
        for i in range(first, tiles, 4):
            if cold:
                ahead += _read(x, i, i + 4, start, stop)
            k = i - first
            x0, x1, x2, x3 = x[i, start:stop], x[i + 1, start:stop], x[i + 2, start:stop], x[i + 3, start:stop]
            for r in range(0, quads, 4):
                row0, row1, row2, row3 = out[r], out[r + 1], out[r + 2], out[r + 3]
                out0, out1, out2, out3 = row0[start:stop], row1[start:stop], row2[start:stop], row3[start:stop]
                f00, f01, f02, f03 = f[r, k], f[r, k + 1], f[r, k + 2], f[r, k + 3]
                f10, f11, f12, f13 = f[r + 1, k], f[r + 1, k + 1], f[r + 1, k + 2], f[r + 1, k + 3]
                f20, f21, f22, f23 = f[r + 2, k], f[r + 2, k + 1], f[r + 2, k + 2], f[r + 2, k + 3]
                f30, f31, f32, f33 = f[r + 3, k], f[r + 3, k + 1], f[r + 3, k + 2], f[r + 3, k + 3]
                for j in range(stop - start):
                    u0, u1, u2, u3 = x0[j], x1[j], x2[j], x3[j]
                    out0[j] = out0[j] + f00 * u0 + f01 * u1 + f02 * u2 + f03 * u3
                    out1[j] = out1[j] + f10 * u0 + f11 * u1 + f12 * u2 + f13 * u3
                    out2[j] = out2[j] + f20 * u0 + f21 * u1 + f22 * u2 + f23 * u3
                    out3[j] = out3[j] + f30 * u0 + f31 * u1 + f32 * u2 + f33 * u3
            for r in range(quads, few):
                out0 = out[r, start:stop]
                f00, f01, f02, f03 = f[r, k], f[r, k + 1], f[r, k + 2], f[r, k + 3]
                for j in range(stop - start):
                    out0[j] = out0[j] + f00 * x0[j] + f01 * x1[j] + f02 * x2[j] + f03 * x3[j]
        for i in range(tiles, last):
            x0 = x[i, start:stop]
            for r in range(few):
                out0 = out[r, start:stop]
                f00 = f[r, i - first]
                for j in range(stop - start):
                    out0[j] = out0[j] + f00 * x0[j]
    return ahead


@_compiled()
def project(x: Matrix, rows: Matrix, out: Matrix) -> Any:
    """``out[:] = rows x'``, (r, K), for rows (r, n) and x (K, n)."""
    out[:] = 0
    return _project(x, 0, len(x), rows, out)


@_compiled()
def combine(x: Matrix, f: Matrix, out: Matrix) -> Any:
    """``out[:] = f x``, (r, n), for f (r, K) and x (K, n)."""
    out[:] = 0
    return _combine(x, 0, len(x), f, out, True)


@_compiled()
def add_combination(x: Matrix, f: Matrix, total: Matrix) -> Any:
    """``total += f x`` in float64, (r, n), for f (r, K) and x (K, n)."""
    part, some = np.empty(total.shape, x.dtype), np.empty((len(f), _SUMMED), x.dtype)
    ahead = x.dtype.type(0)
    for first in range(0, len(x), _SUMMED):
        last = min(first + _SUMMED, len(x))
        some[:, : last - first] = f[:, first:last]
        part[:] = 0
        ahead += _combine(x, first, last, some, part, True)
        total += part
    return ahead


@_compiled()
def add_weighted_products(x: Matrix, rows: Matrix, weights: Matrix, total: Matrix, held: int) -> Any:
    """``total += [W (rows x')] x`` in float64, (m c, n), for rows (m c, n), weights W (m, m, K) and x (K, n).

    x is read once: so many rows at a time as are ``held`` in a core's own cache between the two products.
    """
    m = len(weights)
    columns = len(rows) // m
    h = np.empty((len(rows), held))
    f = np.empty((len(rows), held), x.dtype)
    part = np.zeros(total.shape, x.dtype)
    ahead = x.dtype.type(0)
    summed = 0
    for first in range(0, len(x), held):
        last = min(first + held, len(x))
        h[:] = 0
        ahead += _project(x, first, last, rows, h)
        for r in range(m):
            for c in range(columns):
                target = f[r * columns + c]
                for i in range(last - first):
                    weighted = 0.0
                    for s in range(m):
                        weighted += weights[r, s, first + i] * h[s * columns + c, i]
                    target[i] = weighted
        _combine(x, first, last, f, part, False)
        summed += last - first
        if summed >= _SUMMED or last == len(x):
            total += part
            part[:] = 0
            summed = 0
    return ahead


def keep_nothing() -> None:
    """Compile anew, without the folder that machine code is kept in."""
    for name, (function, options) in _WRITTEN.items():
        globals()[name] = numba.njit(**options)(function)


@_compiled()
def invert(packed: Matrix, index: NDArray[np.intp]) -> bool:
    """Turn symmetric matrices B, entry (i, j) of each in row ``index[i, j]`` of ``packed``, into -B^-1 by sweeps.

    False, and anything left, where one of them is not positive definite: then one of its pivots is not positive.
    """
    m, length = len(index), packed.shape[1]
    scaled = np.empty((m, _ABREAST))
    for start in range(0, length, _ABREAST):
        stop = min(start + _ABREAST, length)
        for k in range(m):
            pivot, inverse, positive = packed[index[k, k], start:stop], scaled[k], True
            for c in range(stop - start):
                positive &= not pivot[c] <= 0.0
                inverse[c] = 1.0 / pivot[c]
            if not positive:
                return False
            for j in range(m):
                if j != k:
                    row, product = packed[index[k, j], start:stop], scaled[j]
                    for c in range(stop - start):
                        product[c] = row[c] * inverse[c]
            for i in range(m):
                left = packed[index[k, i], start:stop]
                for j in range(i, m):
                    if k not in (i, j):
                        entry, right = packed[index[i, j], start:stop], scaled[j]
                        for c in range(stop - start):
                            entry[c] -= left[c] * right[c]
            for j in range(m):
                packed[index[k, j], start:stop] = scaled[j, : stop - start]
            for c in range(stop - start):
                pivot[c] = -pivot[c]
    return True
