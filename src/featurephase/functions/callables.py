"""Python functions given as activations or losses: are the derivatives what they are said to be?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array

#: functions are examined for |h| up to this size
_REACH = 8.0

#: a derivative farther than this, relative to its own size nearby, from converged differences is wrong
_WRONG = 1e-4


class Callables:
    """Python functions for a value and its derivatives (None: not given), evaluated like a formula."""

    def __init__(self, what: str, functions: Sequence[Callable[..., Any] | None]) -> None:
        self.what, self.functions = what, tuple(functions)

    def evaluate(self, orders: Sequence[int], *arguments: ArrayLike) -> tuple[Array, ...]:
        """The derivatives of these orders at the arguments, broadcast against each other."""
        arrays = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in arguments))
        results = []
        for order in orders:
            function = self.functions[order]
            if function is None:
                raise InputError(f"{self.what}: no second derivative was given to from_callables")
            results.append(np.asarray(function(*arrays), dtype=np.float64)[()])
        return tuple(results)


def check_callables(
    what: str,
    value: Callable[[Array], Any] | None,
    first: Callable[[Array], Any] | None,
    second: Callable[[Array], Any] | None,
) -> tuple[float, ...]:
    """Check functions of one variable and return the places where ``first`` jumps.

    Raises
    ------
    InputError
        If one is not finite, not elementwise, jumps (``value``) or is not the derivative of the one before it.
    """
    grid = np.unique(np.concatenate([np.linspace(-_REACH, _REACH, 1025), [-1e-3, -1e-6, 1e-6, 1e-3]]))
    if value is None or first is None:
        raise InputError(f"{what}: the value and the first derivative are both needed")
    values = [_checked(what, label, f, grid) for label, f in zip(_LABELS, (value, first, second), strict=True) if f]
    jumps = _jumps(value, grid, values[0])
    if jumps:
        raise InputError(f"{what}: it jumps at {jumps[0]:.6g}; it must be continuous")
    kinks = _jumps(first, grid, values[1])
    _compare(what, "first", value, first, grid, kinks)
    if second is not None:
        _compare(what, "second", first, second, grid, kinks)
    return kinks


_LABELS = ("value", "first derivative", "second derivative")


def _checked(what: str, label: str, function: Callable[[Array], Any], x: Array) -> Array:
    if not callable(function):
        raise InputError(f"{what}: the {label} must be a function, got {function!r:.60}")
    try:
        result = np.asarray(function(x), dtype=np.float64)
    except Exception as error:
        raise InputError(f"{what}: the {label} failed on an array of {x.size} numbers: {error}") from error
    if result.shape != x.shape:
        raise InputError(f"{what}: the {label} must act elementwise: {x.shape} in, {result.shape} out")
    bad = np.flatnonzero(~np.isfinite(result))
    if bad.size:
        raise InputError(f"{what}: the {label} is {result[bad[0]]} at {x[bad[0]]:.6g}; it must be finite")
    return result


def _jumps(function: Callable[[Array], Any], grid: Array, values: Array) -> tuple[float, ...]:
    """Places where the function jumps: halve the suspicious intervals, keeping the half that changes most."""
    change = np.abs(np.diff(values))
    size = np.max(np.abs(values))
    suspicious = np.flatnonzero(change > 1e-6 * size)
    lo, hi = grid[suspicious], grid[suspicious + 1]
    f_lo, f_hi = values[suspicious], values[suspicious + 1]
    for _ in range(48):
        middle = (lo + hi) / 2
        f = np.asarray(function(middle), dtype=np.float64)
        left = np.abs(f - f_lo) > np.abs(f_hi - f)
        lo, f_lo = np.where(left, lo, middle), np.where(left, f_lo, f)
        hi, f_hi = np.where(left, middle, hi), np.where(left, f, f_hi)
    places = hi[np.abs(f_hi - f_lo) > 1e-6 * size]
    distinct: list[float] = []
    for x in sorted(places.tolist(), key=abs):
        if all(abs(x - other) > 1e-9 for other in distinct):
            distinct.append(x)
    return tuple(distinct)


def _compare(
    what: str,
    order: str,
    function: Callable[[Array], Any],
    derivative: Callable[[Array], Any],
    grid: Array,
    kinks: tuple[float, ...],
) -> None:
    """Central differences at two steps: where they agree with each other, the derivative must agree with them."""
    x = grid + 0.0037
    for kink in kinks:
        x = x[np.abs(x - kink) > 2e-3]
    coarse, fine = (
        (np.asarray(function(x + s), dtype=np.float64) - np.asarray(function(x - s), dtype=np.float64)) / (2 * s)
        for s in (2e-4, 1e-4)
    )
    claimed = np.asarray(derivative(x), dtype=np.float64)
    size = np.maximum(np.max(np.abs(fine)), np.max(np.abs(claimed)))
    settled = np.abs(coarse - fine) <= 1e-6 * size
    wrong = np.flatnonzero(settled & (np.abs(claimed - fine) > _WRONG * size))
    if wrong.size:
        i = wrong[0]
        raise InputError(
            f"{what}: the {order} derivative given is {claimed[i]:.6g} at {x[i]:.6g}, differences say {fine[i]:.6g}"
        )
