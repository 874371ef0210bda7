r"""What the closed form needs of each initialisation; symbols and equations in :mod:`.solution`.

All initialisations are first done in float64. :func:`coefficients` then tests, row by row, whether a difference has
cancelled or a number has left the range; those rows, and no others, are done again from exact sums over the units
(:mod:`featurephase.foundation.precise`). Whether a mode is absent, the layers are parallel or the start is the optimum
is thereby decided exactly for the floating-point numbers given.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.precise import Numbers, Precise, exact, exact_products, rounded, where
from featurephase.foundation.types import Array
from featurephase.latent_model.model import Flags, Model

#: Products of four numbers within these bounds stay in the range of float64.
_LOW, _HIGH = 1e-70, 1e70

#: Within these, a number is normal and so are its neighbours of a few units.
_SMALL, _LARGE = 1e-300, 1e300

#: A difference below this part of its terms has lost too many digits: 1e-16 * 2^11 = 2e-13 are left.
_CANCELLED = 2.0**-11


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Numbers of each initialisation, with the letters of :mod:`.solution`; time is in units of ``1/(4 c D)``."""

    n: Numbers  # n/D
    m: Numbers  # m/D
    total: Numbers  # (alpha + delta)/D
    drift: Numbers  # (n - m)/D = -k (A s0 - B)/D, which does not cancel
    rate: Numbers  # 4 c D; 0 where D = 0, for there the decay is algebraic
    start: Numbers  # s0
    target: Numbers  # s* = B/A
    residual: Numbers  # A s0 - B
    product: Numbers  # u . w at time 0
    shift: Numbers  # s*/gamma - u . w: what u . w changes until the end
    kernel_p: Numbers  # 2 k gamma P/r
    kernel_q: Numbers  # 2 k gamma Q/r
    root_gram: Numbers  # sqrt(G) = |u||w||sin| of the angle, conserved
    root_h: Numbers  # h/|gamma| = 2 sqrt(PQ)/r, conserved
    unbalance: Numbers  # 2 R/r = (|w|^2/r - r |u|^2)/2, conserved; root_h^2 = G + unbalance^2
    twice_k: Numbers
    P: Numbers
    Q: Numbers
    norm_u: Numbers
    norm_w: Numbers
    r: Numbers
    A: Numbers
    gamma: Numbers
    floor: Numbers  # C - B^2/A
    loss_factor: Numbers
    frozen: Flags  # nothing moves (at the saddle u = w = 0 included)
    linear: Flags  # one rate is 0: the kernel is constant
    moves_w: Flags  # and w is the layer that moves
    algebraic: Flags  # D = 0
    saddle: Flags  # ends at u = w = 0
    rising: Flags  # k B >= 0: the mode p grows
    opposed: Flags  # s0 and s* differ in sign and one mode is much smaller: the flow ends at the saddle or passes it

    def take(self, rows: Any) -> Coefficients:
        """Those of some initialisations."""
        return Coefficients(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


class _Sums(NamedTuple):
    """Sums over the units."""

    P: Numbers
    Q: Numbers
    uu: Numbers
    ww: Numbers
    uw: Numbers
    gram: Numbers
    unbalance: Numbers
    residual: Numbers


def coefficients(model: Model) -> tuple[Coefficients, Flags, Flags]:
    """The coefficients as float64, which rows came from exact sums, and which need a greater range than float64."""
    with np.errstate(all="ignore"):
        sums, lost = _sums(model)
        values = _closed_form(model, sums)
        lost |= ~(_inside(model, sums, values) & _ordinary(values))
        wild, rows = np.zeros_like(lost), np.flatnonzero(lost)
        if rows.size:
            fine = precise_coefficients(model, rows)
            for f in fields(values):
                array, value = getattr(values, f.name), getattr(fine, f.name)
                array[rows] = value.double() if isinstance(value, Precise) else value
                wild[rows] |= isinstance(value, Precise) & (array[rows] == 0.0) & (value != 0.0)
            wild |= ~_ordinary(values)
    return values, lost, wild


def precise_coefficients(model: Model, rows: NDArray[np.intp]) -> Coefficients:
    """The coefficients of some rows from exact sums, as :class:`~featurephase.foundation.precise.Precise` arrays."""
    part = model.take(rows)
    with np.errstate(all="ignore"):
        return _closed_form(part, _exact_sums(part), Precise)


def precise_rate(model: Model, rows: NDArray[np.intp]) -> Array:
    """``4 c D`` to the last digit, for rows with two rates: ``D^2 = k^2 B^2 + (A gamma)^2 (4 eta_u)^2 P Q/4``."""
    part = model.take(rows)
    eta_u, eta_w, A, B, gamma = map(exact, (part.eta_u, part.eta_w, part.A, part.B, part.gamma))
    uu, uw, ww = exact_products(part.u, part.w)
    kernel, turned = gamma * (eta_u * ww + eta_w * uu), gamma * uw
    both = eta_u * eta_w
    mixed = (kernel * kernel - both * turned * turned * 4.0) * A * A * 0.25
    square = rounded(gamma * gamma * (both * B * B) + gamma * gamma * mixed)
    return np.asarray((np.sqrt(square) * (4.0 * model.loss_factor)).double())


def cancelled(difference: Numbers, *terms: Numbers) -> Flags:
    """Whether a difference of float64 terms has lost digits, or may be zero."""
    return np.asarray(~(abs(difference) > _CANCELLED * sum(map(abs, terms))))


def _sums(model: Model) -> tuple[_Sums, Flags]:
    """The sums in float64, and the rows in which they lost digits."""
    u, w, r = model.u, model.w, _rate_ratio(model, np.asarray)
    ru = r[:, None] * u
    p, q, products = 0.5 * (w + ru), 0.5 * (w - ru), u * w
    P, Q, uu, ww = ((x * x).sum(axis=-1) for x in (p, q, u, w))
    uw, size = products.sum(axis=-1), np.abs(products).sum(axis=-1)
    sideways = u - (uw / ww)[:, None] * w  # the part of u perpendicular to w
    square = (sideways * sideways).sum(axis=-1)
    initial = model.A * model.gamma
    residual = initial * uw - model.B
    lost: Flags = cancelled(uw, size) | cancelled(residual, initial * size, model.B)
    lost |= (model.eta_u != model.eta_w) & (np.minimum(P, Q) < 1e-4 * (P + Q))  # p and q are exact for equal rates
    if u.shape[-1] > 1:
        lost |= ~(square > 1e-6 * uu)
    else:
        square = np.zeros_like(square)
    if model.saddle_tolerance > 0.0:
        lost |= np.logical_or(*_absent(w, ru, model.saddle_tolerance))
    return _Sums(P, Q, uu, ww, uw, square * ww, 0.5 * (ww / r - r * uu), residual), lost


def _exact_sums(model: Model) -> _Sums:
    """The same from sums that are not rounded: ``16 eta_u^2 P Q`` and the other differences are polynomials."""
    eta_u, eta_w = (exact(where(_one_rate(model), 1.0, rate)) for rate in (model.eta_u, model.eta_w))
    A, B, gamma = map(exact, (model.A, model.B, model.gamma))
    uu, uw, ww = exact_products(model.u, model.w)
    x, y = eta_u * ww, eta_w * uu
    polynomial = rounded((x + y) * (x + y) - eta_u * eta_w * uw * uw * 4.0)
    root = np.sqrt(rounded(eta_u) * rounded(eta_w))
    unit = rounded(eta_u) * 4.0
    larger = (rounded(x + y) + root * abs(rounded(uw)) * 2.0) / unit
    smaller = where(larger == 0.0, 0.0, polynomial / unit / unit / larger)
    parallel = uw >= 0.0
    P, Q = where(parallel, larger, smaller), where(parallel, smaller, larger)
    gram = rounded(uu * ww - uw * uw)
    unbalance = rounded(x - y) / root / 2.0
    if model.saddle_tolerance > 0.0:
        ru = Precise(model.u) * _rate_ratio(model, Precise)[:, None]
        no_p, no_q = _absent(Precise(model.w), ru, model.saddle_tolerance)
        P, Q = where(no_p, 0.0, P), where(no_q, 0.0, Q)
        gram, unbalance = (where(no_p | no_q, 0.0, value) for value in (gram, unbalance))
    return _Sums(P, Q, rounded(uu), rounded(ww), rounded(uw), gram, unbalance, rounded(A * gamma * uw - B))


def _absent(w: Numbers, ru: Numbers, tolerance: float) -> tuple[Flags, Flags]:
    """Whether the modes p and q count as absent: every unit's is below the tolerance."""
    scale = tolerance * (abs(w) + abs(ru))
    return (abs(w + ru) <= scale).all(axis=-1), (abs(w - ru) <= scale).all(axis=-1)


def _one_rate(model: Model) -> Flags:
    return np.asarray((model.eta_u == 0.0) | (model.eta_w == 0.0))


def _rate_ratio(model: Model, numbers: Any) -> Numbers:
    """``r = sqrt(eta_w / eta_u)``; 1 where a rate is 0."""
    alone = _one_rate(model)
    eta_u, eta_w = (numbers(where(alone, 1.0, x)) for x in (model.eta_u, model.eta_w))
    return np.sqrt(eta_w / eta_u)


def _closed_form(model: Model, y: _Sums, numbers: Any = np.asarray) -> Coefficients:
    """theory/latent-solution, eqs. lat-riccati, lat-coefficients, in units of D;
    ``numbers`` makes float64 or precise numbers."""
    eta_u, eta_w, A, B, gamma = map(numbers, (model.eta_u, model.eta_w, model.A, model.B, model.gamma))
    linear = _one_rate(model)
    size = abs(gamma) * np.sqrt(eta_u * eta_w)  # |k|
    kernel = gamma * gamma * (eta_u * y.ww + eta_w * y.uu)
    frozen = (kernel == 0.0) | (model.A == 0.0)
    root = np.sqrt(y.P) * np.sqrt(y.Q)
    r = _rate_ratio(model, numbers)
    weight = abs(gamma) / r
    h = 2.0 * weight * root
    speed = np.sqrt(B * B + A * h * A * h)  # D/|k|
    algebraic = (speed == 0.0) & ~linear & ~frozen
    slow = speed == 0.0
    unit = where(slow, 0.25 / where(size == 0.0, 1.0, size), speed)
    alpha, delta = A * weight * y.P / unit, A * weight * y.Q / unit
    one = where(slow, 0.0, 1.0)
    target_part = one + abs(B) / unit  # (D + |beta|)/D
    rising = np.sign(model.gamma) * np.sign(model.B) >= 0.0
    large, small = where(rising, delta, alpha), where(rising, alpha, delta)
    growing = target_part / 2.0 + large
    decaying = small * (1.0 + where(slow, 0.0, 2.0 * large / where(slow, 1.0, target_part)))
    A_safe, gamma_safe = where(model.A == 0.0, 1.0, A), where(model.gamma == 0.0, 1.0, gamma)

    def settled(value: Numbers, when_linear: Numbers) -> Numbers:
        return where(frozen, 0.0, where(linear, when_linear, value))

    rate = 4.0 * model.loss_factor * size * speed
    nothing = (model.u == 0.0).all(axis=-1) & (model.w == 0.0).all(axis=-1)
    absent = ((y.P == 0.0) & rising | (y.Q == 0.0) & ~rising) & (model.B != 0.0) & ~frozen & ~linear
    one_sided = np.minimum(y.P, y.Q) < 0.01 * np.maximum(y.P, y.Q)
    return Coefficients(
        n=settled(where(rising, growing, decaying), 1.0),
        m=settled(where(rising, decaying, growing), 1.0),
        total=settled(alpha + delta, 1.0),
        drift=settled(-np.sign(model.gamma) * y.residual / unit, 0.0),
        rate=settled(rate, 2.0 * model.loss_factor * A * kernel),
        start=gamma * y.uw,
        target=where(model.A == 0.0, 0.0, B / A_safe),
        residual=y.residual + 0.0,
        product=y.uw + 0.0,
        shift=where(frozen, 0.0, -y.residual / A_safe / gamma_safe),
        kernel_p=where(linear, kernel, 2.0 * size * weight * y.P),
        kernel_q=where(linear, 0.0, 2.0 * size * weight * y.Q),
        root_gram=np.sqrt(y.gram),
        root_h=2.0 * root / r,
        unbalance=y.unbalance + 0.0,
        twice_k=2.0 * np.sign(model.gamma) * size,
        P=y.P,
        Q=y.Q,
        norm_u=np.sqrt(y.uu),
        norm_w=np.sqrt(y.ww),
        r=r,
        A=A_safe,
        gamma=gamma_safe,
        floor=numbers(model.floor),
        loss_factor=numbers(np.full_like(model.A, model.loss_factor)),
        frozen=frozen,
        linear=linear & ~frozen,
        moves_w=linear & ~frozen & (model.eta_w > 0.0),
        algebraic=algebraic,
        saddle=absent | (nothing & ~linear & (model.gamma != 0.0) & (model.B != 0.0)),
        rising=rising,
        opposed=absent
        | (np.sign(y.uw) * np.sign(model.gamma) * np.sign(model.B) < 0.0) & one_sided & ~frozen & ~linear,
    )


def _within(*values: Array) -> Flags:
    """Whether all are nonzero and within the range in which float64 does."""
    sizes = np.abs(np.stack(values))
    return np.asarray(((sizes > _LOW) & (sizes < _HIGH)).all(axis=0))


def _inside(model: Model, sums: _Sums, c: Coefficients) -> Flags:
    """Whether nothing over- or underflowed on the way: then every number is nonzero and of moderate size."""
    given = (model.A, model.eta_u, model.eta_w, model.gamma)
    sized = (sums.uu, sums.ww, sums.P, sums.Q, c.n, c.m, c.total, c.rate, c.drift, c.kernel_p, c.kernel_q, c.product)
    target = (model.B == 0.0) | _within(model.B, c.target)
    return np.asarray(target & _within(*given, *sized, c.start, c.residual, c.shift, c.loss_factor))


def _ordinary(c: Coefficients) -> Flags:
    """Whether the motion can be evaluated in float64: moderate numbers, two modes, and no vanishing vector's angle."""
    numbers = [getattr(c, f.name) for f in fields(c)]
    sizes = np.abs(np.stack([x for x in numbers if x.dtype == np.float64]))
    moderate = ((sizes == 0.0) | (sizes > _LOW) & (sizes < _HIGH)).all(axis=0)
    moves = _within(c.n, c.m, c.rate)
    angle = (c.root_gram != 0.0) | (c.target != 0.0) | (c.frozen & (c.product != 0.0))
    return np.asarray(moderate & (moves | c.frozen) & angle)


def modes(model: Model) -> tuple[Array, Flags]:
    """``p_i/r, q_i/r, p_i, q_i``, (4, row, unit), and in which rows none of them has left the range of float64.

    Where one rate is 0, ``w_i, 0, 0, 0`` or ``0, 0, u_i, 0``: what the layer that moves moves along. Units in which p
    or q cancels, or a number leaves the range on the way, are done in mpmath.
    """
    u, w, r = model.u, model.w, _rate_ratio(model, np.asarray)[:, None]
    ru = r * u
    p, q = 0.5 * (w + ru), 0.5 * (w - ru)
    parts = np.stack([p / r, q / r, p, q])
    sizes = np.abs(np.stack([w / r, u, w, ru]))
    lost: Flags = (cancelled(p, w, ru) | cancelled(q, w, ru)) & (model.eta_u != model.eta_w)[:, None]
    lost |= ~((sizes > _SMALL) & (sizes < _LARGE)).all(axis=0)
    lost |= _one_rate(model)[:, None] | (model.saddle_tolerance > 0.0)
    safe = np.ones(len(u), dtype=np.bool_)
    rows, units = np.nonzero(lost)
    if rows.size:
        fine = precise_modes(model, rows, units)
        parts[:, rows, units] = fine.double()
        size = abs(fine)
        safe[rows[~((size == 0.0) | (size > _SMALL) & (size < _LARGE)).all(axis=0)]] = False
    return parts, safe


def precise_modes(model: Model, rows: NDArray[np.intp], units: NDArray[np.intp]) -> Precise:
    """The same for pairs of a row and a unit, (4, pair), from ``4 p_i q_i = w_i^2 - r^2 u_i^2``: its zero is exact."""
    distinct, place = np.unique(rows, return_inverse=True)
    part = model.take(distinct)
    u, w, r = model.u[rows, units], model.w[rows, units], _rate_ratio(part, Precise)
    product = _exact_unbalance(model, rows, units) / Precise(part.eta_u)[place] / 4.0
    larger = (abs(Precise(w)) + r[place] * abs(Precise(u))) / 2.0  # of |p_i| and |q_i|
    larger = larger * where(w != 0.0, np.sign(w), np.sign(u))
    smaller = where(larger == 0.0, 0.0, product / larger)
    parallel = np.sign(u) * np.sign(w) >= 0.0
    p, q = where(parallel, larger, smaller), where(parallel, smaller, larger)
    if model.saddle_tolerance > 0.0:
        no_p, no_q = _absent(Precise(part.w), r[:, None] * Precise(part.u), model.saddle_tolerance)
        p, q = where(no_p[place], 0.0, p), where(no_q[place], 0.0, q)
    along = (w * (part.eta_u > 0.0)[place], 0.0, u * (part.eta_w > 0.0)[place], 0.0)
    alone, both = _one_rate(part)[place], (p / r[place], q / r[place], p, q)
    return Precise(np.stack([where(alone, x, y).values for x, y in zip(along, both, strict=True)]))


def unbalance(model: Model) -> Array:
    """``eta_u w_i^2 - eta_w u_i^2`` of every unit, conserved; shape (row, unit)."""
    with np.errstate(all="ignore"):
        x, y = model.eta_u[:, None] * model.w * model.w, model.eta_w[:, None] * model.u * model.u
        value: Array = x - y
        lost = cancelled(value, x, y) | ~((x + y > _SMALL) & (x + y < _LARGE))
        if lost.any():
            value[lost] = _exact_unbalance(model, *np.nonzero(lost)).double()
    return value


def _exact_unbalance(model: Model, rows: NDArray[np.intp], units: NDArray[np.intp]) -> Precise:
    """The same for pairs of a row and a unit, so that its zero is exact; shape (pair,)."""
    eta_u, eta_w = exact(model.eta_u[rows]), exact(model.eta_w[rows])
    u, w = exact(model.u[rows, units]), exact(model.w[rows, units])
    return rounded(eta_u * w * w - eta_w * u * u)
