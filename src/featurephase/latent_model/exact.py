"""The differences of the latent-variable model that may cancel, formed with full relative accuracy.

A pair (:class:`WidePair`) survives the loss of 40 of its 104 bits; what cancels further is
formed again in integers, so that in particular "is it exactly zero" is decided exactly for the floats given.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.latent_model.wide import Wide, WidePair, two_product, two_sum, where_pair

__all__ = ["CANCELLED", "assign", "below", "combination", "exact_dot", "inner", "pair_of_fraction", "perpendicular"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: A difference below ``2**CANCELLED`` of its terms is formed again exactly; pairs still give 64 bits there.
CANCELLED = -40


def _integers(x: Floats) -> tuple[list[int], NDArray[np.int64]]:
    """``x = integer * 2**exponent``, exactly."""
    m, e = np.frexp(x)
    return [int(v) for v in np.ldexp(m, 53)], e.astype(np.int64) - 53


def _pair_of_integers(values: list[int], exponents: ArrayLike) -> WidePair:
    """``values * 2**exponents`` to pair precision; integers of any size."""
    high, low, shifts = [], [], []
    for value in values:
        shift = max(value.bit_length() - 200, 0)
        top = value >> shift
        high.append(float(top))
        low.append(float(top - int(high[-1])))
        shifts.append(shift)
    return WidePair(np.array(high), np.array(low), np.asarray(exponents, dtype=np.int64) + np.array(shifts))


def pair_of_fraction(value: Fraction) -> WidePair:
    """A fraction whose denominator is a power of two, to pair precision; shape ()."""
    exponent = 1 - value.denominator.bit_length()
    return _pair_of_integers([value.numerator], [exponent])[0]


def exact_dot(u: Floats, w: Floats) -> Fraction:
    """The inner product of two rows of floats, exactly."""
    (mu, eu), (mw, ew) = _integers(u), _integers(w)
    terms = [(a * b, int(e)) for a, b, e in zip(mu, mw, eu + ew, strict=True) if a and b]
    if not terms:
        return Fraction(0)
    least = min(e for _, e in terms)
    return Fraction(sum(m << (e - least) for m, e in terms)) * Fraction(2) ** least


def below(x: Wide | WidePair, scale: Wide | WidePair, bits: int) -> Flags:
    """Whether ``|x| < 2**bits |scale|``, up to a factor 2; false where the scale is 0."""
    flags: Flags = (scale.m != 0.0) & ((x.m == 0.0) | (x.e - scale.e <= bits))
    return flags


def inner(a: Floats, b: Floats) -> tuple[WidePair, Floats]:
    """Inner product of rows to pair precision, and the sum of the sizes of its terms (Ogita, Rump and Oishi's Dot2).

    Rows are scaled by powers of two first. Terms below 2**-900 of the product of the largest elements lose digits.
    """
    step = max(8192 // a.shape[1], 1)  # rows whose intermediate arrays stay in cache
    parts = [_inner(a[i : i + step], b[i : i + step]) for i in range(0, len(a), step)]
    high, low, exponent, size = (np.concatenate(x) for x in zip(*parts, strict=True)) if parts else [np.empty(0)] * 4
    return WidePair(high, low, exponent.astype(np.int64)), size


def _inner(a: Floats, b: Floats) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    exponent_a, exponent_b = (np.frexp(np.abs(x).max(axis=-1))[1].astype(np.int64) for x in (a, b))
    total, low = two_product(*(np.ldexp(x, -e[:, None]) for x, e in ((a, exponent_a), (b, exponent_b))))
    size: Floats = np.abs(total).sum(axis=-1)
    while (count := total.shape[-1]) > 1:
        half = count // 2
        folded, error = two_sum(total[:, :half], total[:, half : 2 * half])
        error += low[:, :half] + low[:, half : 2 * half]
        if count % 2:
            folded = np.concatenate([folded, total[:, -1:]], axis=-1)
            error = np.concatenate([error, low[:, -1:]], axis=-1)
        total, low = folded, error
    return total[:, 0], low[:, 0], exponent_a + exponent_b, size


def combination(u: WidePair, w: WidePair, r: WidePair, sign: float, raw: tuple[Floats, ...]) -> WidePair:
    """``w + sign * r u``, with full relative accuracy even where it cancels; ``raw`` is u, w, eta_u, eta_w.

    Where it cancels it equals ``(eta_u w^2 - eta_w u^2) / (eta_u (w - sign * r u))``, whose numerator is formed in
    integers: so whether it is exactly zero is decided exactly.
    """
    ru = r * u
    if sign < 0.0:
        ru = -ru
    value = w + ru
    plain = (raw[2] == raw[3]) | (raw[2] == 0.0) | (raw[3] == 0.0)  # r = 1: the sum above is already exact
    flagged = below(value, w, CANCELLED) & ~plain
    if not flagged.any():
        return value
    u_raw, w_raw, eta_u, eta_w = (np.broadcast_to(x, value.shape)[flagged] for x in raw)
    (mu, eu), (mw, ew) = _integers(u_raw), _integers(w_raw)
    (mru, eru), (mrw, erw) = _integers(eta_u), _integers(eta_w)
    left, right = 2 * ew + eru, 2 * eu + erw
    least = np.minimum(left, right)
    numerator = [
        (a * a * c << i) - (b * b * d << j)
        for a, b, c, d, i, j in zip(mw, mu, mru, mrw, (left - least).tolist(), (right - least).tolist(), strict=True)
    ]
    exact = _pair_of_integers(numerator, least) / (WidePair.of(eta_u) * (w - ru)[flagged])
    assign(value, flagged, exact)
    return value


def perpendicular(u: WidePair, w: WidePair, w_squared: WidePair) -> WidePair:
    """``|u|^2 |w|^2 - (u . w)^2`` with full relative accuracy, zero exactly when u and w are parallel.

    With j the largest component of w and ``r_i = u_i w_j - u_j w_i``, it is ``(|w|^2 |r|^2 - (r . w)^2) / w_j^2``. The
    products in r are exact, and the last difference loses a factor ``width`` at most because ``r_j = 0``.
    """
    pivot = np.argmax(np.where(w.m == 0.0, -np.inf, np.log2(np.abs(w.m) + (w.m == 0.0)) + w.e), axis=-1)
    rows = np.arange(len(pivot))
    w_j, u_j = w[rows, pivot], u[rows, pivot]
    r = u * w_j[:, None] - u_j[:, None] * w
    along = (r * w).sum()
    numerator = w_squared * (r * r).sum() - along * along
    zero = w_j.m == 0.0
    one = WidePair.of(np.ones(len(pivot)))
    value = numerator / where_pair(zero, one, w_j * w_j)
    return where_pair(zero | (value.m < 0.0), WidePair.of(np.zeros(len(pivot))), value)


def assign(target: WidePair, where: int | Flags, value: WidePair) -> None:
    """Replace elements of ``target``, in place."""
    target.m[where], target.low[where], target.e[where] = value.m, value.low, value.e
