"""Numbers with a floating mantissa and an integer exponent: nothing overflows, nothing underflows.

The closed form of the latent-variable model multiplies and adds quantities such as ``exp(-4 D t)``, ``P Q`` and
``n m`` whose values leave the range of float64 long before the answers do. Held as ``m * 2**e`` with a 64-bit
exponent, they never do, and every special case (``t = inf``, a coefficient that vanishes) is ordinary arithmetic.

:class:`Wide` has float64 precision and is made for speed: one per (initialisation, time) point. :class:`WidePair`
carries an unevaluated sum of two float64 (about 106 bits) and serves the few numbers per initialisation on which
the rest hangs.

References: T. J. Dekker, Numer. Math. 18, 224 (1971); Y. Hida, X. S. Li, D. H. Bailey, "Quad-double arithmetic"
(2001).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Plain", "Wide", "WidePair", "exp_minus", "two_product", "two_sum", "where", "where_pair"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The exponent of zero: below every exponent that arises, far enough from the end of int64 to be added to.
_ZERO = np.int64(-(2**58))
_NO_EXPONENT = np.zeros((), dtype=np.int64)
#: Stands for infinite time: exponents made from it still fit in 64 bits, and 2**(2**50) is beyond every number here.
_BEYOND = 2.0**50

_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 32 bits: an integer below 2**21 times it is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")


def two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """``a + b`` as rounded sum and exact error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """``a * b`` as rounded product and exact error (Dekker); for mantissas, far from over- and underflow."""
    product = a * b
    a_high = (c := 134217729.0 * a) - (c - a)
    b_high = (c := 134217729.0 * b) - (c - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _power_of_two(exponent: Ints) -> Floats:
    """``2.0**exponent`` for exponents at most 0; zero below -1022."""
    bits: Floats = ((np.maximum(exponent, -1023) + 1023) << 52).view(np.float64)
    return bits


class Wide:
    """An array of numbers ``m * 2**e``; ``m`` float64, ``e`` int64, broadcast like arrays.

    Mantissas are not normalised after every operation: one operation changes their size by a factor 4 at most, so
    hundreds may follow each other. A difference may cancel, hence ``-`` normalises.
    """

    __slots__ = ("e", "m")

    def __init__(self, m: Floats, e: Ints) -> None:
        self.m = m
        self.e = e

    @classmethod
    def of(cls, value: ArrayLike) -> Wide:
        """From float64; infinities become ``2**(2**50)``, which is beyond every finite number that arises."""
        x = np.asarray(value, dtype=np.float64)
        infinite = np.isinf(x)
        m, e = np.frexp(np.where(infinite, np.sign(x), x))
        return cls(m, np.where(infinite, np.int64(_BEYOND), e.astype(np.int64)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape after broadcasting mantissa and exponent."""
        return np.broadcast_shapes(self.m.shape, self.e.shape)

    def normalised(self) -> Wide:
        """The same numbers with mantissas in [1/2, 1)."""
        m, shift = np.frexp(self.m)
        return Wide(m, self.e + shift)

    def __getitem__(self, key: Any) -> Wide:
        return Wide(self.m[key], self.e[key])

    def __neg__(self) -> Wide:
        return Wide(-self.m, self.e)

    def __abs__(self) -> Wide:
        return Wide(np.abs(self.m), self.e)

    def __mul__(self, other: Wide) -> Wide:
        return Wide(self.m * other.m, self.e + other.e)

    def __truediv__(self, other: Wide) -> Wide:
        return Wide(self.m / other.m, self.e - other.e)

    def _exponent(self) -> Ints:
        exponent: Ints = np.where(self.m == 0.0, _ZERO, self.e)
        return exponent

    def __add__(self, other: Wide) -> Wide:
        mine, others = self._exponent(), other._exponent()
        e = np.maximum(mine, others)
        return Wide(self.m * _power_of_two(mine - e) + other.m * _power_of_two(others - e), e)

    def __sub__(self, other: Wide) -> Wide:
        return (self + (-other)).normalised()

    def sqrt(self) -> Wide:
        """Square root."""
        odd = self.e & 1
        return Wide(np.sqrt(self.m * (1.0 + odd)), (self.e - odd) >> 1)

    def log(self) -> Floats:
        """Natural logarithm; ``-inf`` at zero, ``inf`` for what stands for infinity."""
        with np.errstate(divide="ignore"):
            value = np.log(self.m) + self.e * np.log(2.0)
        value = np.where(self.e < -(2**48), -np.inf, value)
        return np.where((self.e > 2**48) & (self.m != 0.0), np.inf, value)

    def log1p(self) -> Floats:
        """``log(1 + x)`` for ``x >= 0`` of any size."""
        small = self.to_float()
        return np.where(small < 1e300, np.log1p(np.minimum(small, 1e300)), self.log())

    def to_float(self) -> Floats:
        """As float64: correctly rounded to subnormal numbers, 0 or infinity beyond the range."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(self.m, np.clip(self.e, -3000, 3000).astype(np.int32))

    def sign(self) -> Floats:
        """-1, 0 or 1."""
        return np.sign(self.m)

    def like(self, value: float) -> Wide:
        """A constant of the same kind of number; broadcasts."""
        return Wide.of(value)


class Plain(Wide):
    """Float64 with the interface of :class:`Wide`, for where nothing can leave the range: the exponent is always 0."""

    __slots__ = ()

    def __init__(self, m: Floats) -> None:
        self.m = m
        self.e = _NO_EXPONENT

    def normalised(self) -> Plain:
        """Itself."""
        return self

    def __getitem__(self, key: Any) -> Plain:
        return Plain(self.m[key])

    def __neg__(self) -> Plain:
        return Plain(-self.m)

    def __abs__(self) -> Plain:
        return Plain(np.abs(self.m))

    def __mul__(self, other: Wide) -> Plain:
        return Plain(self.m * other.m)

    def __truediv__(self, other: Wide) -> Plain:
        return Plain(self.m / other.m)

    def __add__(self, other: Wide) -> Plain:
        return Plain(self.m + other.m)

    def __sub__(self, other: Wide) -> Plain:
        return Plain(self.m - other.m)

    def sqrt(self) -> Plain:
        """Square root."""
        return Plain(np.sqrt(self.m))

    def log1p(self) -> Floats:
        """``log(1 + x)``."""
        value: Floats = np.log1p(self.m)
        return value

    def to_float(self) -> Floats:
        """The numbers."""
        return self.m

    def like(self, value: float) -> Plain:
        """A constant of the same kind."""
        return Plain(np.asarray(value, dtype=np.float64))


def where(condition: NDArray[np.bool_], a: Wide, b: Wide) -> Wide:
    """Elementwise choice."""
    if isinstance(a, Plain):
        return Plain(np.where(condition, a.m, b.m))
    return Wide(np.where(condition, a.m, b.m), np.where(condition, a.e, b.e))


class WidePair:
    """An array of numbers ``(m + low) * 2**e`` with relative precision near 2**-104; always normalised."""

    __slots__ = ("e", "low", "m")

    def __init__(self, m: Floats, low: Floats, e: Ints) -> None:
        m, low = m + low, low - ((m + low) - m)
        self.m, shift = np.frexp(m)
        self.low = np.ldexp(low, -shift)
        self.e = np.where(self.m == 0.0, _ZERO, np.maximum(e + shift, _ZERO))

    @classmethod
    def _normal(cls, m: Floats, low: Floats, e: Ints) -> WidePair:
        """From parts that are normalised already."""
        made = cls.__new__(cls)
        made.m, made.low, made.e = m, low, e
        return made

    @classmethod
    def of(cls, value: ArrayLike) -> WidePair:
        """From finite float64, exactly."""
        x = np.asarray(value, dtype=np.float64)
        return cls(x, np.zeros_like(x), np.zeros(x.shape, dtype=np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape."""
        return self.m.shape

    def single(self) -> Wide:
        """Rounded to float64 precision."""
        return Wide(self.m, self.e)

    def to_float(self) -> Floats:
        """As float64."""
        return self.single().to_float()

    def __getitem__(self, key: Any) -> WidePair:
        return WidePair._normal(self.m[key], self.low[key], self.e[key])

    def __neg__(self) -> WidePair:
        return WidePair._normal(-self.m, -self.low, self.e)

    def __abs__(self) -> WidePair:
        sign = np.where(self.m < 0.0, -1.0, 1.0)
        return WidePair._normal(sign * self.m, sign * self.low, self.e)

    def __mul__(self, other: WidePair) -> WidePair:
        product, error = two_product(self.m, other.m)
        return WidePair(product, error + (self.m * other.low + self.low * other.m), self.e + other.e)

    def __add__(self, other: WidePair) -> WidePair:
        e = np.maximum(self.e, other.e)
        a, b = _power_of_two(self.e - e), _power_of_two(other.e - e)
        total, error = two_sum(self.m * a, other.m * b)
        low, rest = two_sum(self.low * a, other.low * b)
        error = error + low
        total, error = total + error, error - ((total + error) - total)
        return WidePair(total, error + rest, e)

    def __sub__(self, other: WidePair) -> WidePair:
        return self + (-other)

    def __truediv__(self, other: WidePair) -> WidePair:
        """Long division; ``other`` is nowhere zero."""

        def digit(rest: WidePair) -> WidePair:
            return WidePair(rest.m / other.m, np.zeros_like(rest.m / other.m), rest.e - other.e)

        first = digit(self)
        rest = self - first * other
        second = digit(rest)
        return (first + second) + digit(rest - second * other)

    def scaled(self, factor: float) -> WidePair:
        """Times a power of two, exactly."""
        m, e = np.frexp(factor)
        return WidePair(self.m * m, self.low * m, self.e + int(e))

    def sqrt(self) -> WidePair:
        """Square root of numbers >= 0 (Karp's trick: one Newton step in float64 on the float64 root)."""
        odd = np.where(self.m == 0.0, 0, self.e & 1)
        m, low = self.m * (1.0 + odd), self.low * (1.0 + odd)
        root = np.sqrt(m)
        square, error = two_product(root, root)
        correction = ((m - square) - error + low) / np.where(root == 0.0, 1.0, 2.0 * root)
        return WidePair(root, correction, (self.e - odd) >> 1)

    def sum(self) -> WidePair:
        """Sum over the last axis, by halving; relative precision near 2**-100 of the sum of absolute values."""
        x = self
        if x.shape[-1] == 0:
            return WidePair.of(np.zeros(x.shape[:-1]))
        while (size := x.shape[-1]) > 1:
            half = size // 2
            folded = x[..., :half] + x[..., half : 2 * half]
            if size % 2:
                folded = _append(folded, x[..., -1:])
            x = folded
        return x[..., 0]

    def sign(self) -> Floats:
        """-1, 0 or 1."""
        return np.sign(self.m)


def _append(a: WidePair, b: WidePair) -> WidePair:
    return WidePair._normal(
        np.concatenate([a.m, b.m], axis=-1),
        np.concatenate([a.low, b.low], axis=-1),
        np.concatenate([a.e, b.e], axis=-1),
    )


def where_pair(condition: NDArray[np.bool_], a: WidePair, b: WidePair) -> WidePair:
    """Elementwise choice."""
    return WidePair._normal(
        np.where(condition, a.m, b.m), np.where(condition, a.low, b.low), np.where(condition, a.e, b.e)
    )


def exp_minus(rate: WidePair, time: Wide) -> tuple[Wide, Wide]:
    """``exp(-x)`` and ``1 - exp(-x)`` for ``x = rate * time >= 0``, both with full relative accuracy.

    The product is formed to about 2**-100, so that the first is accurate even where it is ``exp(-1000)``. Infinite time
    (:meth:`Wide.of`) gives a number below all others, not zero: ratios of such numbers keep their meaning.
    """
    m, low = two_product(rate.m, time.m)
    low = low + rate.low * time.m
    e = np.where(m == 0.0, _ZERO, rate.e + time.e)
    scale = np.ldexp(1.0, np.clip(e, -100, 50).astype(np.int32))
    x, x_low = m * scale, low * scale
    turns = np.rint(x * (1.0 / np.log(2.0)))
    rest = ((x - turns * _LN2_HIGH) - turns * _LN2_LOW) + x_low
    exponential = Wide(np.exp(-rest), -turns.astype(np.int64))
    tiny = e < -60  # there 1 - exp(-x) = x to float64 precision, and x may be below the range
    return exponential, where(tiny, Wide(m, e), Wide(-np.expm1(-x) + x_low * np.exp(-x), np.zeros_like(e)))
