"""Floating-point numbers with 53 bits and a practically unlimited exponent.

``h/(1 + exp(-h))`` is a harmless function, but its second derivative, evaluated as it stands in doubles, is
infinity/infinity at h = -800. Where doubles overflow or underflow on the way, :class:`featurephase.functions.program.
Program` repeats the computation with these numbers. A :class:`Wide` array takes part in NumPy expressions through
NumPy's own protocols, so that the very same code serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from featurephase.foundation.types import Array

Integers = NDArray[np.int64]

__all__ = ["Wide"]

#: ln 2 = _LN2_HIGH + _LN2_LOW; k * _LN2_HIGH is exact for |k| < 2^20 (W. J. Cody and W. Waite, 1980)
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10

#: exponents beyond this become infinity or zero
_LIMIT = 2**61


class Wide(NDArrayOperatorsMixin):
    """The numbers ``mantissa * 2**exponent``, elementwise.

    Parameters
    ----------
    mantissa : (N,) array of float64
        Brought to 0.5 <= |mantissa| < 1 (or zero, infinite, nan).
    exponent : (N,) array of int64, optional
        Default: zero, that is, doubles as they are.
    """

    def __init__(self, mantissa: Any, exponent: Any = 0) -> None:
        fraction, shift = np.frexp(np.asarray(mantissa, dtype=np.float64))
        regular = np.isfinite(fraction) & (fraction != 0.0)
        self.mantissa: Array = fraction
        self.exponent: Integers = np.where(regular, np.asarray(exponent, dtype=np.int64) + shift, 0)

    def double(self) -> Array:
        """The nearest doubles: infinite or zero beyond their range."""
        result: Array = np.ldexp(self.mantissa, np.clip(self.exponent, -4000, 4000).astype(np.int32))
        return result

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        own = _UFUNCS.get(ufunc)
        if own is not None:
            return own(*(x if isinstance(x, Wide) else Wide(x) for x in inputs))
        return Wide(ufunc(*(x.double() if isinstance(x, Wide) else x for x in inputs)))

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], kwargs: Any) -> Any:
        if function is np.where and len(args) == 3:
            condition, *branches = args
            return _select(condition, *(v if isinstance(v, Wide) else Wide(v) for v in branches))
        if function is np.ones_like:
            return Wide(np.ones_like(self.mantissa))
        return NotImplemented


def _select(condition: Any, x: Wide, y: Wide) -> Wide:
    return Wide(np.where(condition, x.mantissa, y.mantissa), np.where(condition, x.exponent, y.exponent))


def _add(x: Wide, y: Wide) -> Wide:
    """Align to the greater exponent: what the shift drops is below the last bit."""
    low = np.int64(-_LIMIT)
    ex, ey = np.where(x.mantissa == 0, low, x.exponent), np.where(y.mantissa == 0, low, y.exponent)
    top = np.maximum(ex, ey)
    shift = [np.clip(e - top, -2000, 0).astype(np.int32) for e in (ex, ey)]
    return Wide(np.ldexp(x.mantissa, shift[0]) + np.ldexp(y.mantissa, shift[1]), np.maximum(top, low // 2))


def _negative(x: Wide) -> Wide:
    return Wide(-x.mantissa, x.exponent)


def _multiply(x: Wide, y: Wide) -> Wide:
    return _bounded(x.mantissa * y.mantissa, x.exponent + y.exponent)


def _divide(x: Wide, y: Wide) -> Wide:
    return _bounded(x.mantissa / y.mantissa, x.exponent - y.exponent)


def _bounded(mantissa: Array, exponent: Integers) -> Wide:
    huge = (exponent > _LIMIT) & (mantissa != 0)
    mantissa = np.where(huge, np.copysign(np.inf, mantissa), np.where(exponent < -_LIMIT, 0.0, mantissa))
    return Wide(mantissa, exponent)


def _sqrt(x: Wide) -> Wide:
    odd = x.exponent % 2
    return Wide(np.sqrt(x.mantissa * (1 + odd)), (x.exponent - odd) // 2)


def _exp(x: Wide) -> Wide:
    argument = x.double()
    finite = np.where(np.abs(argument) < _LIMIT / 2, argument, 0.0)
    k = np.rint(finite / (_LN2_HIGH + _LN2_LOW))
    fraction = np.exp((finite - k * _LN2_HIGH) - k * _LN2_LOW)
    return Wide(np.where(finite == argument, fraction, np.exp(argument)), k.astype(np.int64))


def _ordinary(x: Array) -> NDArray[np.bool_]:
    """Where a double holds the number to full precision."""
    return (np.abs(x) > 2.0**-1000) & (np.abs(x) < 2.0**1000)


def _log(x: Wide) -> Wide:
    value = x.double()
    apart = np.log(x.mantissa) + (x.exponent * _LN2_LOW + x.exponent * _LN2_HIGH)
    return Wide(np.where(_ordinary(value), np.log(value), apart))


def _log1p(x: Wide) -> Wide:
    value = x.double()
    large = np.abs(value) > 2.0**1000
    tiny = np.abs(value) < 2.0**-100
    return _select(tiny, x, _select(large, _log(x), Wide(np.log1p(np.where(large, 0.0, value)))))


def _expm1(x: Wide) -> Wide:
    value = x.double()
    near = np.abs(value) < 1.0
    result = _select(near, Wide(np.expm1(np.where(near, value, 0.0))), _add(_exp(x), Wide(-1.0)))
    return _select(np.abs(value) < 2.0**-100, x, result)


def _hyperbolic(sign: float) -> Callable[[Wide], Wide]:
    """Sinh (-1) and cosh (+1); the small argument of sinh is its own value."""

    def function(x: Wide) -> Wide:
        value = x.double()
        near = np.abs(value) < 1.0
        inner = np.where(near, value, 0.0)
        exact = Wide(np.cosh(inner) if sign > 0 else np.sinh(inner))
        both = _add(_exp(x), _multiply(Wide(sign), _exp(_negative(x))))
        tiny = (np.abs(value) < 2.0**-100) & (sign < 0)
        return _select(tiny, x, _select(near, exact, _multiply(Wide(0.5), both)))

    return function


def _power(x: Wide, y: Wide) -> Wide:
    base, exponent = x.double(), y.double()
    plain = np.power(base, exponent)
    usual = _ordinary(base) & (_ordinary(plain) | np.isnan(plain)) | (exponent == 0)
    zero = x.mantissa == 0
    even = np.where(exponent % 2 == 0, 1.0, np.where(exponent == np.rint(exponent), -1.0, np.nan))
    sign = np.where(x.mantissa < 0, even, 1.0)
    size = _exp(_multiply(y, _log(Wide(np.where(zero, 0.5, np.abs(x.mantissa)), x.exponent))))
    return _select(usual | zero, Wide(plain), _multiply(Wide(sign), size))


def _absolute(x: Wide) -> Wide:
    return Wide(np.abs(x.mantissa), x.exponent)


def _floor(x: Wide) -> Wide:
    value = x.double()
    return _select(np.abs(value) < 2.0**52, Wide(np.floor(value)), x)


def _difference(x: Wide, y: Wide) -> Array:
    """Something with the sign of x - y: exact, since doubles of comparable size subtract exactly enough."""
    both = np.isinf(x.mantissa) & (x.mantissa == y.mantissa)
    return np.where(both, 0.0, _add(x, _negative(y)).mantissa)


_UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    np.negative: _negative,
    np.add: _add,
    np.subtract: lambda x, y: _add(x, _negative(y)),
    np.multiply: _multiply,
    np.divide: _divide,
    np.square: lambda x: _multiply(x, x),
    np.sqrt: _sqrt,
    np.exp: _exp,
    np.expm1: _expm1,
    np.log: _log,
    np.log1p: _log1p,
    np.sinh: _hyperbolic(-1.0),
    np.cosh: _hyperbolic(1.0),
    np.power: _power,
    np.absolute: _absolute,
    np.sign: lambda x: Wide(np.sign(x.mantissa)),
    np.floor: _floor,
    np.minimum: lambda x, y: _select(_difference(x, y) < 0, x, y),
    np.maximum: lambda x, y: _select(_difference(x, y) > 0, x, y),
    np.less: lambda x, y: _difference(x, y) < 0,
    np.less_equal: lambda x, y: _difference(x, y) <= 0,
    np.equal: lambda x, y: _difference(x, y) == 0,
    np.not_equal: lambda x, y: _difference(x, y) != 0,
}
