"""Arrays of mpmath numbers that take part in NumPy expressions, for the few values that float64 cannot hold.

A formula written with NumPy's functions gives 48 digits and practically unlimited range where its arguments are
:class:`Precise` instead of float64 arrays: NumPy hands its calls to the class (``__array_ufunc__``,
``__array_function__``). One operation takes microseconds, a thousand times as long as in float64: it is meant for the
few rows that a test has found to have lost digits or range.

Sums and products of numbers made by :func:`exact` are never rounded, so that "is this difference zero" is decided
exactly for the floating-point numbers given.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import mpmath
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.types import Array

#: Float64 arrays or :class:`Precise` ones, in formulas that are written once for both.
Numbers: TypeAlias = Any

#: Contexts of their own: the precision that a user sets for mpmath is neither used nor changed.
_WORKING, _EXACT = mpmath.MPContext(), mpmath.MPContext()
_WORKING.prec = 160
#: More bits than a polynomial of degree 6 in float64 numbers can span (each spans 2100).
_EXACT.prec = 40_000

_NAN, _INFINITY = _WORKING.mpf("nan"), _WORKING.mpf("inf")

#: Exponentials of numbers beyond 2**20000 are taken as infinite or zero: their exponents would not fit into memory.
_LARGEST_MAGNITUDE = 20_000


class Precise(NDArrayOperatorsMixin):
    """An array of mpmath numbers.

    Parameters
    ----------
    values : array
        Float64 numbers (taken as they are, infinities and nan included) or, in an array of objects, mpmath numbers.
    """

    def __init__(self, values: Any) -> None:
        array = np.asarray(values)
        self.values: NDArray[np.object_] = array if array.dtype == object else _of_numbers(_WORKING, array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.values.shape

    def double(self) -> Array:
        """The nearest float64 numbers: infinite or zero beyond their range."""
        return np.array([float(x) for x in self.values.flat], dtype=np.float64).reshape(self.shape)

    def __getitem__(self, key: Any) -> Precise:
        return Precise(_objects(self.values[key]))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        function = ufunc if ufunc in _COMPARISONS else _FUNCTIONS.get(ufunc)
        if function is not None:
            result = function(*_operands(inputs))
            return np.asarray(result, dtype=np.bool_) if ufunc in _COMPARISONS else Precise(_objects(result))
        return Precise(ufunc(*(x.double() if isinstance(x, Precise) else x for x in inputs)))

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], kwargs: Any) -> Any:
        if function is np.where and len(args) == 3:
            return Precise(np.where(args[0], *_operands(args[1:])))
        if function is np.ones_like:
            return Precise(np.ones(self.shape))
        return NotImplemented


def where(condition: ArrayLike, x: Numbers, y: Numbers) -> Numbers:
    """``np.where``, in whose annotations only NumPy's own arrays have a place."""
    return np.where(condition, x, y)


def exact(values: ArrayLike) -> Precise:
    """Finite float64 numbers whose sums, differences and products with each other are not rounded."""
    return Precise(_of_numbers(_EXACT, np.asarray(values, dtype=np.float64)))


def rounded(numbers: Precise) -> Precise:
    """The same numbers with the 48 digits of the other functions."""
    return Precise(_objects(np.frompyfunc(_WORKING.mpf, 1, 1)(numbers.values)))


def exact_dot(a: Array, b: Array) -> Precise:
    """Inner products of the rows of two float64 arrays (row, element), not rounded; shape (row,)."""
    return exact_products(a, b)[1]


def exact_products(a: Array, b: Array) -> tuple[Precise, Precise, Precise]:
    """``a . a``, ``a . b`` and ``b . b`` of the rows of two float64 arrays (row, element), not rounded."""
    (digits_a, low_a), (digits_b, low_b) = _integers(a), _integers(b)
    products = np.empty((3, len(a)), dtype=object)
    for i, (x, y, m, n) in enumerate(zip(digits_a, digits_b, low_a, low_b, strict=True)):
        for j, (p, q, exponent) in enumerate(((x, x, 2 * m), (x, y, m + n), (y, y, 2 * n))):
            products[j, i] = _EXACT.mpf((sum(map(operator.mul, p, q)), exponent))
    return Precise(products[0]), Precise(products[1]), Precise(products[2])


def _integers(rows: Array) -> tuple[list[list[int]], list[int]]:
    """``rows = integers * 2**exponent``, with one exponent for each row."""
    mantissa, exponent = np.frexp(rows)
    low = np.where(mantissa == 0.0, 1024, exponent).min(axis=1, keepdims=True)
    digits = np.ldexp(mantissa, 53).astype(np.int64).astype(object)
    spread = np.where(mantissa == 0.0, 0, exponent - low).astype(object)
    return (digits << spread).tolist(), (low[:, 0] - 53).tolist()


def _of_numbers(context: Any, array: Array) -> NDArray[np.object_]:
    numbers = np.empty(array.size, dtype=object)
    numbers[:] = [context.mpf(x) for x in array.ravel().tolist()]
    return numbers.reshape(array.shape)


def _objects(values: Any) -> NDArray[np.object_]:
    """An array also of a single number, which NumPy takes out of its array."""
    return np.asarray(values, dtype=object)


def _operands(inputs: Sequence[Any]) -> list[NDArray[np.object_]]:
    """Arrays of objects; numbers that are not yet precise become as exact as those they meet."""
    made: Any = next(x for x in inputs if isinstance(x, Precise)).values
    context = made.flat[0].context if made.size else _WORKING
    return [
        x.values if isinstance(x, Precise) else _of_numbers(context, np.asarray(x, dtype=np.float64)) for x in inputs
    ]


def _divide(x: Any, y: Any) -> Any:
    if y != 0:
        return x / y
    return _NAN if x == 0 or x != x else (_INFINITY if x > 0 else -_INFINITY)


def _exp(x: Any) -> Any:
    if x and _WORKING.isfinite(x) and _WORKING.mag(x) > _LARGEST_MAGNITUDE:
        return _INFINITY if x > 0 else _WORKING.zero
    return _WORKING.exp(x)


def _expm1(x: Any) -> Any:
    return _exp(x) - 1 if abs(x) > 1 else _WORKING.expm1(x)


def _sinh(x: Any) -> Any:
    return (_exp(x) - _exp(-x)) / 2 if abs(x) > 1 else _WORKING.sinh(x)


def _power(x: Any, y: Any) -> Any:
    if x == 0 or not (_WORKING.isfinite(x) and _WORKING.isfinite(y)):
        return _WORKING.mpf(float(np.power(float(x), float(y))))
    whole = _WORKING.isint(y)
    if whole and abs(y) <= 1000:
        return x ** int(y)
    if x < 0 and not whole:
        return _NAN
    size = _exp(y * _WORKING.log(abs(x)))
    return -size if x < 0 and y % 2 == 1 else size


def _defined(function: Callable[[Any], Any], from_: float) -> Callable[[Any], Any]:
    """Nan below ``from_``, where mpmath would answer with a complex number."""
    return lambda x: function(x) if x >= from_ else _NAN


def _each(function: Callable[..., Any], arguments: int = 1) -> Any:
    return np.frompyfunc(function, arguments, 1)


_COMPARISONS = frozenset({np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal})

#: What is not listed is computed from the nearest float64 numbers: functions that need no greater range.
_FUNCTIONS: dict[np.ufunc, Callable[..., Any]] = {
    np.negative: np.negative,
    np.add: np.add,
    np.subtract: np.subtract,
    np.multiply: np.multiply,
    np.absolute: np.absolute,
    np.divide: _each(_divide, 2),
    np.square: lambda x: x * x,
    np.sqrt: _each(_defined(_WORKING.sqrt, 0.0)),
    np.exp: _each(_exp),
    np.expm1: _each(_expm1),
    np.log: _each(_defined(_WORKING.log, 0.0)),
    np.log1p: _each(_defined(_WORKING.log1p, -1.0)),
    np.sinh: _each(_sinh),
    np.cosh: _each(lambda x: (_exp(x) + _exp(-x)) / 2),
    np.arctan2: _each(_WORKING.atan2, 2),
    np.power: _each(_power, 2),
    np.sign: _each(_WORKING.sign),
    np.floor: _each(_WORKING.floor),
    np.minimum: _each(lambda x, y: x if x < y or x != x else y, 2),
    np.maximum: _each(lambda x, y: x if x > y or x != x else y, 2),
}
