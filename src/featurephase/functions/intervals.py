"""Interval arithmetic on a tape: what can be proved about the size of a function on all of its domain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from featurephase.functions.operations import OPERATIONS
from featurephase.functions.tape import Tape

Interval = tuple[float, float]

_EVERYTHING: Interval = (-math.inf, math.inf)

_INCREASING = frozenset(
    {"expm1", "exp", "sinh", "tanh", "arctan", "erf", "normal_cdf", "softplus", "sigmoid", "sign", "floor"}
)

#: operations with a range of their own, whatever the argument
_RANGES: dict[str, Interval] = {
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "sech2": (0.0, 1.0),
    "normal_pdf": (0.0, 1.0 / math.sqrt(2.0 * math.pi)),
    "number": (0.0, 1.0),
    "erfc": (0.0, 2.0),
}


def _product(x: float, y: float) -> float:
    """Limits of products of bounds: 0 times an infinite bound is 0."""
    return 0.0 if x == 0.0 or y == 0.0 else x * y


def _multiply(x: Interval, y: Interval) -> Interval:
    corners = [_product(a, b) for a in x for b in y]
    return min(corners), max(corners)


def _divide(x: Interval, y: Interval) -> Interval:
    if y[0] <= 0.0 <= y[1]:
        return _EVERYTHING
    return _multiply(x, (1.0 / y[1], 1.0 / y[0]))


def _absolute(x: Interval) -> Interval:
    low, high = abs(x[0]), abs(x[1])
    return (0.0 if x[0] <= 0.0 <= x[1] else min(low, high)), max(low, high)


def _power(x: Interval, p: float) -> Interval:
    if p == int(p) and p > 0:
        if p % 2 == 0:
            x = _absolute(x)
        return x[0] ** p, x[1] ** p
    if x[0] < 0.0 or (p < 0.0 and x[0] == 0.0):
        return _EVERYTHING
    ends = sorted((x[0] ** p, x[1] ** p))
    return ends[0], ends[1]


def _hermite(n: float, x: Interval) -> Interval:
    """|He_n| is at most what its recurrence gives with all signs alike."""
    size = max(abs(x[0]), abs(x[1]))
    before, bound = 1.0, size
    for j in range(1, int(n)):
        before, bound = bound, size * bound + j * before
    return -bound, bound


def _monotone(compute: Callable[..., float], x: Interval) -> Interval:
    with np.errstate(all="ignore"):
        return float(compute(np.float64(x[0]))), float(compute(np.float64(x[1])))


def _apply(tape: Tape, node: int, known: Mapping[int, Interval]) -> Interval:
    op, args = tape.entries[node]
    x = [known[a] for a in args]
    match op:
        case "neg":
            return -x[0][1], -x[0][0]
        case "add":
            return x[0][0] + x[1][0], x[0][1] + x[1][1]
        case "sub":
            return x[0][0] - x[1][1], x[0][1] - x[1][0]
        case "mul":
            return _multiply(x[0], x[1])
        case "div":
            return _divide(x[0], x[1])
        case "powi" | "pow" if (p := tape.value(args[1])) is not None:
            return _power(x[0], p)
        case "sqrt":
            return _power(x[0], 0.5)
        case "hermite":
            return _hermite(x[0][0], x[1])
        case "abs":
            return _absolute(x[0])
        case "cosh":
            return _monotone(np.cosh, _absolute(x[0]))
        case "log" if x[0][0] >= 0.0:
            return _monotone(np.log, x[0])
        case "log1p" if x[0][0] >= -1.0:
            return _monotone(np.log1p, x[0])
        case "lt" | "le" | "eq" | "ne":
            return 0.0, 1.0
        case "minimum":
            return min(x[0][0], x[1][0]), min(x[0][1], x[1][1])
        case "maximum":
            return max(x[0][0], x[1][0]), max(x[0][1], x[1][1])
        case "where":
            _, a, b = x
            return min(a[0], b[0]), max(a[1], b[1])
    if op in _INCREASING:
        return _monotone(OPERATIONS[op].compute, x[0])
    return _RANGES.get(op, _EVERYTHING)


def enclosure(tape: Tape, node: int, ranges: Mapping[str, Interval]) -> Interval:
    """An interval that contains every value of ``node`` for variables in ``ranges`` (infinite where none is found)."""
    known: dict[int, Interval] = {}
    for i in tape.ancestry([node]):
        value, name = tape.value(i), tape.name(i)
        if value is not None:
            known[i] = (value, value)
        elif name is not None:
            known[i] = ranges[name]
        else:
            try:
                low, high = _apply(tape, i, known)
            except OverflowError:
                low, high = _EVERYTHING
            known[i] = _EVERYTHING if math.isnan(low) or math.isnan(high) else (low, high)
    return known[node]
