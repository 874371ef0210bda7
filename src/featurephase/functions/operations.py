"""The operations an expression is made of: how each is computed, differentiated and continued.

Every formula is written so that it neither overflows nor cancels where its value is representable: softplus and the
derivative of tanh through exp(-|x|), the Gaussian distribution function through :func:`scipy.special.ndtr`. Rules of
differentiation act branch by branch (sign' = 0, abs' = sign, where(c, a, b)' = where(c, a', b')); what happens *at*
a switch is the business of :mod:`featurephase.functions.analysis`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import special

from featurephase.foundation.types import Array


class _Builder(Protocol):
    """What a rule of differentiation needs to write a derivative down: :class:`~featurephase.functions.tape.Tape`.

    Arguments and results are nodes, the indices of entries.
    """

    def constant(self, value: float) -> int: ...
    def value(self, node: int) -> float | None: ...
    def apply(self, op: str, *args: int) -> int: ...
    def neg(self, x: int) -> int: ...
    def add(self, x: int, y: int) -> int: ...
    def sub(self, x: int, y: int) -> int: ...
    def mul(self, x: int, y: int) -> int: ...
    def div(self, x: int, y: int) -> int: ...
    def pow(self, base: int, exponent: int) -> int: ...
    def hermite(self, degree: int, x: int) -> int: ...
    def compare(self, op: str, x: int, y: int) -> int: ...
    def where(self, condition: int, x: int, y: int) -> int: ...


#: (builder, node, arguments, derivatives of the arguments) -> derivative of the node
Rule = Callable[[_Builder, int, Sequence[int], Sequence[int]], int]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: ``compute`` on arrays (or floats), ``rule`` of differentiation."""

    compute: Callable[..., Any]
    rule: Rule


def _softplus(x: Array) -> Array:
    with np.errstate(under="ignore"):
        return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _sech2(x: Array) -> Array:
    with np.errstate(under="ignore"):
        t = np.exp(-2.0 * np.abs(x))
        return 4.0 * t / np.square(1.0 + t)


def _normal_density(x: Array) -> Array:
    with np.errstate(under="ignore", over="ignore"):
        return np.exp(-0.5 * np.square(x)) * (1.0 / math.sqrt(2.0 * math.pi))


def _integer_power(x: Array, n: float) -> Array:
    """``x**n`` for an integer n >= 2 by repeated squaring, several times faster than ``np.power``."""
    k, result = int(n), None
    while True:
        if k & 1:
            result = x if result is None else result * x
        k >>= 1
        if not k:
            assert result is not None
            return result
        x = np.square(x)


def _hermite(n: float, x: Array) -> Array:
    """Probabilists' Hermite polynomial He_n by its recurrence He_{j+1} = x He_j - j He_{j-1}."""
    previous, current = np.ones_like(x), x
    for j in range(1, int(n)):
        previous, current = current, x * current - j * previous
    lost = (current != current) & (x == x)  # infinity - infinity, far beyond the zeros: the leading power decides
    return np.where(lost, np.sign(x) ** int(n) * np.inf, current) if np.any(lost) else current


def _where(condition: Any, x: Any, y: Any) -> Any:
    """Select by bit masks: ``np.where`` stalls on unpredictable conditions, three times slower on random signs."""
    if not (isinstance(condition, np.ndarray) and condition.ndim and all(map(_plain, (x, y)))):
        return np.where(condition, x, y)
    mask = condition.astype(np.int64)
    np.negative(mask, out=mask)
    p, q = (np.asarray(v, dtype=np.float64).view(np.int64) for v in (x, y))
    return (((p ^ q) & mask) ^ q if q.ndim or q else p & mask).view(np.float64)


def _plain(x: Any) -> bool:
    return isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype == np.float64)


def _number(condition: Any) -> Any:
    return np.asarray(condition, dtype=np.float64)[()]


def _zero(tape: _Builder, node: int, args: Sequence[int], d: Sequence[int]) -> int:
    return tape.constant(0.0)


def _unary(partial: Callable[[_Builder, int, int], int]) -> Rule:
    """Chain rule from ``partial(tape, node, argument)``, the derivative of a function of one argument."""

    def rule(tape: _Builder, node: int, args: Sequence[int], d: Sequence[int]) -> int:
        return tape.mul(partial(tape, node, args[0]), d[0])

    return rule


def _power_rule(t: _Builder, node: int, a: Sequence[int], d: Sequence[int]) -> int:
    base, exponent = a
    p = t.value(exponent)
    if p is not None:
        return t.mul(t.mul(exponent, t.pow(base, t.constant(p - 1.0))), d[0])
    slope = t.mul(d[1], t.apply("log", base))
    if t.value(d[0]) != 0.0:
        slope = t.add(slope, t.div(t.mul(exponent, d[0]), base))
    return t.mul(node, slope)


def _hermite_rule(t: _Builder, node: int, a: Sequence[int], d: Sequence[int]) -> int:
    n = t.value(a[0])
    assert n is not None
    return t.mul(t.mul(a[0], t.hermite(int(n) - 1, a[1])), d[1])


def _gauss(t: _Builder, x: int) -> int:
    """2/sqrt(pi) exp(-x^2), the derivative of erf."""
    return t.mul(t.constant(2.0 / math.sqrt(math.pi)), t.apply("exp", t.neg(_square(t, x))))


def _square(t: _Builder, x: int) -> int:
    return t.pow(x, t.constant(2.0))


def _one_plus(t: _Builder, x: int) -> int:
    return t.add(t.constant(1.0), x)


OPERATIONS: dict[str, Operation] = {
    # arithmetic
    "neg": Operation(np.negative, lambda t, n, a, d: t.neg(d[0])),
    "add": Operation(np.add, lambda t, n, a, d: t.add(d[0], d[1])),
    "sub": Operation(np.subtract, lambda t, n, a, d: t.sub(d[0], d[1])),
    "mul": Operation(np.multiply, lambda t, n, a, d: t.add(t.mul(d[0], a[1]), t.mul(a[0], d[1]))),
    "div": Operation(np.divide, lambda t, n, a, d: t.sub(t.div(d[0], a[1]), t.mul(n, t.div(d[1], a[1])))),
    "powi": Operation(_integer_power, _power_rule),
    "pow": Operation(np.power, _power_rule),
    "sqrt": Operation(np.sqrt, lambda t, n, a, d: t.div(d[0], t.mul(t.constant(2.0), n))),
    "hermite": Operation(_hermite, _hermite_rule),
    # elementary and special functions
    "exp": Operation(np.exp, _unary(lambda t, n, x: n)),
    "expm1": Operation(np.expm1, _unary(lambda t, n, x: t.apply("exp", x))),
    "log": Operation(np.log, lambda t, n, a, d: t.div(d[0], a[0])),
    "log1p": Operation(np.log1p, lambda t, n, a, d: t.div(d[0], _one_plus(t, a[0]))),
    "sin": Operation(np.sin, _unary(lambda t, n, x: t.apply("cos", x))),
    "cos": Operation(np.cos, _unary(lambda t, n, x: t.neg(t.apply("sin", x)))),
    "tan": Operation(np.tan, _unary(lambda t, n, x: _one_plus(t, _square(t, n)))),
    "arctan": Operation(np.arctan, lambda t, n, a, d: t.div(d[0], _one_plus(t, _square(t, a[0])))),
    "tanh": Operation(np.tanh, _unary(lambda t, n, x: t.apply("sech2", x))),
    "sech2": Operation(_sech2, _unary(lambda t, n, x: t.mul(t.constant(-2.0), t.mul(t.apply("tanh", x), n)))),
    "sinh": Operation(np.sinh, _unary(lambda t, n, x: t.apply("cosh", x))),
    "cosh": Operation(np.cosh, _unary(lambda t, n, x: t.apply("sinh", x))),
    "erf": Operation(special.erf, _unary(lambda t, n, x: _gauss(t, x))),
    "erfc": Operation(special.erfc, _unary(lambda t, n, x: t.neg(_gauss(t, x)))),
    "normal_cdf": Operation(special.ndtr, _unary(lambda t, n, x: t.apply("normal_pdf", x))),
    "normal_pdf": Operation(_normal_density, _unary(lambda t, n, x: t.neg(t.mul(x, n)))),
    "softplus": Operation(_softplus, _unary(lambda t, n, x: t.apply("sigmoid", x))),
    "sigmoid": Operation(
        special.expit,
        _unary(lambda t, n, x: t.mul(t.constant(0.25), t.apply("sech2", t.mul(t.constant(0.5), x)))),
    ),
    # switches
    "abs": Operation(np.abs, _unary(lambda t, n, x: t.apply("sign", x))),
    "sign": Operation(np.sign, _zero),
    "floor": Operation(np.floor, _zero),
    "number": Operation(_number, _zero),
    "lt": Operation(np.less, _zero),
    "le": Operation(np.less_equal, _zero),
    "eq": Operation(np.equal, _zero),
    "ne": Operation(np.not_equal, _zero),
    "minimum": Operation(np.minimum, lambda t, n, a, d: t.where(t.compare("<", a[0], a[1]), d[0], d[1])),
    "maximum": Operation(np.maximum, lambda t, n, a, d: t.where(t.compare(">", a[0], a[1]), d[0], d[1])),
    "where": Operation(_where, lambda t, n, a, d: t.where(a[0], d[1], d[2])),
}

#: comparisons (gt and ge are lt and le with the sides exchanged)
COMPARISONS = frozenset({"lt", "le", "eq", "ne"})

#: operations whose value or derivative jumps where an argument crosses a surface
SWITCHES = COMPARISONS | {"abs", "sign", "floor", "minimum", "maximum"}
