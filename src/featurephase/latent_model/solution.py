r"""The exact solution of the one-hidden-layer linear network on a one-dimensional latent input.

The network is :math:`f(x) = \gamma \sum_i u_i (w_i \cdot x)` on data :math:`x = a n`, trained by gradient flow with one
learning rate per layer on :math:`c\,E[(f - y)^2]`. Only the moments :math:`A = E a^2`, :math:`B = E[a y]`,
:math:`C = E y^2` matter, and one scalar :math:`\xi(t)` carries the whole motion:

.. math::

   w_i(t) = p_i \sqrt\xi + q_i / \sqrt\xi, \qquad r\,u_i(t) = p_i \sqrt\xi - q_i / \sqrt\xi, \qquad
   r = \sqrt{\eta_w / \eta_u},

with :math:`p_i = (w_i + r u_i)/2` and :math:`q_i = (w_i - r u_i)/2` at time 0, and, with :math:`E = e^{-4 D t}`,

.. math::

   \xi = \frac{N}{M} = \frac{E + (n/D)(1 - E)}{E + (m/D)(1 - E)}.

Every operation is a sum of terms of one sign, a product or a quotient, carried out with exponents that cannot leave the
range (:mod:`.wide`); the few differences that may cancel are formed exactly. Hence the answers are
accurate wherever they are representable.

Source: Y. Xu, L. Ziyin, "Three Mechanisms of Feature Learning in the Exact Solution of a Latent Variable Model",
arXiv:2401.07085. The cancellation-free evaluation is this project's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError
from featurephase.latent_model.exact import (
    CANCELLED,
    assign,
    below,
    combination,
    exact_dot,
    inner,
    pair_of_fraction,
    perpendicular,
)
from featurephase.latent_model.wide import Plain, Wide, WidePair, exp_minus, two_product, where, where_pair

__all__ = ["Descent", "Flow", "Trajectory"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Points evaluated at once: their intermediate arrays stay in cache.
_BLOCK = 8192
#: Coefficients within 2**-40 and 2**40, and x = 4 D t either 0, up to 150 or beyond 900: there float64 is enough
#: for all that follows. The smallest numbers are squares of e^-150 2^-160 and of 1e-30 2^-80; e^-900 2^80 is below
#: the range.
_MODERATE = 40
_PLAIN_FROM, _PLAIN_UP_TO, _OVER_FROM = 1e-30, 150.0, 900.0
#: Exponents within these bounds multiply three times without leaving float64.
_SAFE = 300


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Scalars of the flow on a grid; every array has the shape of the initialisations followed by that of the times.

    A number beyond the range of float64 is 0 or infinite; ``out_of_range`` says to which quantities this happened.

    Attributes
    ----------
    times
        Times, infinity included.
    output
        ``s``: the network's output per unit of latent input, ``f = s a``.
    residual
        ``A s - B``: half the slope of the loss in s (for loss factor 1), with full relative accuracy.
    loss, excess_loss
        ``c E (f - y)^2``, and what of it training can remove, with full relative accuracy.
    kernel
        ``K``: the learning-rate weighted neural tangent kernel per ``a a'``.
    alignment
        ``zeta``: cosine of the angle between u and w; nan where one of them vanishes.
    misalignment
        ``1 - zeta^2`` with full relative accuracy.
    log_xi
        Logarithm of the scalar that carries the motion.
    relative_motion_u, relative_motion_w
        ``|u(t) - u(0)| / |u(0)|`` and the same for w: how far each layer has moved.
    out_of_range
        Quantities that left the range at some finite time: name -> "overflow", "underflow" or "both".
    """

    times: Floats
    output: Floats
    residual: Floats
    loss: Floats
    excess_loss: Floats
    kernel: Floats
    alignment: Floats
    misalignment: Floats
    log_xi: Floats
    relative_motion_u: Floats
    relative_motion_w: Floats
    out_of_range: dict[str, str]


_SCALARS = (
    "output",
    "residual",
    "loss",
    "excess_loss",
    "kernel",
    "alignment",
    "misalignment",
    "log_xi",
    "relative_motion_u",
    "relative_motion_w",
)
_DEFAULT = ("output", "residual", "loss", "excess_loss", "kernel", "alignment", "misalignment", "log_xi")


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Full-batch gradient descent (step 1, the rates are the step sizes), beside the flow of the same model.

    Attributes
    ----------
    steps
        0, 1, 2 .., shape (step,).
    output, residual, loss, kernel, alignment
        Shape of the initialisations followed by (step,).
    u, w
        Weights at the last step, shape of the initialisations followed by (unit,).
    diverged
        Whether numbers left the range of float64, one per initialisation.
    """

    steps: NDArray[np.int64]
    output: Floats
    residual: Floats
    loss: Floats
    kernel: Floats
    alignment: Floats
    u: Floats
    w: Floats
    diverged: Flags


@dataclass(frozen=True)
class _Coefficients:
    """What the evaluation needs of each initialisation, as numbers of one kind (wide or plain)."""

    n: Wide
    m: Wide
    total: Wide
    n_minus_m: Wide
    start: Wide
    target: Wide
    residual: Wide
    kernel_p: Wide
    kernel_q: Wide
    output_p: Wide
    output_q: Wide
    second_moment: Wide
    gamma: Wide
    start_product: Wide
    gram: Wide
    floor: Wide
    frozen: Flags
    single: Flags

    def rows(self, rows: NDArray[np.intp]) -> _Coefficients:
        """Those of some initialisations."""
        return _Coefficients(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def plain(self) -> _Coefficients:
        """The same as float64."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        plain: dict[str, Any] = {k: Plain(v.to_float()) if isinstance(v, Wide) else v for k, v in values.items()}
        return _Coefficients(**plain)

    def moderate(self) -> Flags:
        """Initialisations none of whose coefficients is large, small or an absent mode."""
        flags = ~self.frozen & ~self.single
        for f in fields(self):
            x = getattr(self, f.name)
            if isinstance(x, Wide):
                x = x.normalised()
                needed = f.name in ("n", "m", "kernel_p", "kernel_q")
                flags &= np.where(x.m == 0.0, not needed, np.abs(x.e) <= _MODERATE)
        return flags


@dataclass(frozen=True)
class _Motion:
    """What has happened by some time: N and M of ``xi = N/M``, how much of the residual is kept, how much moved."""

    numerator: Wide
    denominator: Wide
    keep: Wide
    moved: Wide
    phi: Wide


def _finite(name: str, value: ArrayLike) -> Floats:
    try:
        x = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, given {value!r}") from None
    if not np.isfinite(x).all():
        bad = x[~np.isfinite(x)].flat[0]
        raise InputError(f"{name} must be finite, given {bad}")
    return x


def _at_least_zero(name: str, value: ArrayLike) -> Floats:
    x = _finite(name, value)
    if (x < 0.0).any():
        raise InputError(f"{name} must be at least 0, given {x.min():.17g}")
    return x


def check_times(times: ArrayLike) -> Floats:
    """Times as an array, if all are at least 0 (infinity included)."""
    try:
        t = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"times must be numbers, given {times!r}") from None
    if np.isnan(t).any() or (t < 0.0).any():
        bad = t[~(t >= 0.0)].flat[0]
        raise InputError(f"times must be at least 0 (infinity is accepted), given {bad}")
    return t


class Flow:
    """Gradient flow of the latent-variable model from one or many initialisations.

    Parameters
    ----------
    u, w
        Read-out weights and hidden weights (projected on the latent direction) at time 0, shape (.., unit). All
        axes but the last number initialisations.
    eta_u, eta_w
        Learning rates of the two layers, at least 0.
    second_moment, cross_moment, response_moment
        ``A = E a^2``, ``B = E[a y]``, ``C = E y^2``; C defaults to ``B^2/A``, its least value.
    gamma
        Prefactor of the network.
    loss_factor
        c in the loss ``c E (f - y)^2``; it multiplies time.
    saddle_tolerance
        A mode is taken as absent when ``|w_i ± r u_i| <= saddle_tolerance (|w_i| + |r u_i|)`` for every unit. At 0, the
        default, this is decided exactly for the floating-point numbers given.

    All scalars may be arrays that broadcast with the initialisations.

    Attributes
    ----------
    batch
        Shape of the initialisations.
    width
        Number of units d.
    saddle, frozen
        Per initialisation: whether the flow ends at (or starts on) the saddle u = w = 0; whether nothing ever moves.

    Raises
    ------
    InputError
        If shapes disagree, a number is not finite, a rate, A or C is negative, or ``B^2 > A C``.

    Notes
    -----
    arXiv:2401.07085, section 3, in the form of the module's docstring.
    """

    def __init__(
        self,
        u: ArrayLike,
        w: ArrayLike,
        *,
        cross_moment: ArrayLike,
        second_moment: ArrayLike = 1.0,
        response_moment: ArrayLike | None = None,
        eta_u: ArrayLike = 1.0,
        eta_w: ArrayLike = 1.0,
        gamma: ArrayLike = 1.0,
        loss_factor: float = 1.0,
        saddle_tolerance: float = 0.0,
    ) -> None:
        u, w = np.atleast_1d(_finite("u", u)), np.atleast_1d(_finite("w", w))
        if u.shape[-1] != w.shape[-1] or u.shape[-1] == 0:
            raise InputError(
                f"u has {u.shape[-1]} units and w has {w.shape[-1]}: both need the same number, at least 1"
            )
        if not (np.isfinite(loss_factor) and loss_factor > 0.0):
            raise InputError(f"loss_factor must be positive and finite, given {loss_factor}")
        if not 0.0 <= saddle_tolerance < 1.0:
            raise InputError(f"saddle_tolerance must be in [0, 1), given {saddle_tolerance}")
        scalars = [
            _at_least_zero("eta_u", eta_u),
            _at_least_zero("eta_w", eta_w),
            _at_least_zero("second_moment", second_moment),
            _finite("cross_moment", cross_moment),
            _finite("gamma", gamma),
        ]
        least_response = response_moment is None
        scalars.append(_at_least_zero("response_moment", 0.0 if response_moment is None else response_moment))
        try:
            self.batch = np.broadcast_shapes(u.shape[:-1], w.shape[:-1], *(x.shape for x in scalars))
        except ValueError:
            raise InputError(
                f"the initialisations (shapes {u.shape[:-1]}, {w.shape[:-1]}) and the parameters (shapes "
                f"{', '.join(str(x.shape) for x in scalars)}) do not broadcast"
            ) from None
        self.width = u.shape[-1]
        self.loss_factor = float(loss_factor)
        self.saddle_tolerance = float(saddle_tolerance)
        flat = [np.broadcast_to(x, self.batch).reshape(-1) for x in scalars]
        self._eta_u, self._eta_w, self._A, self._B, self._gamma, self._C = flat
        self._u = np.broadcast_to(u, (*self.batch, self.width)).reshape(-1, self.width)
        self._w = np.broadcast_to(w, (*self.batch, self.width)).reshape(-1, self.width)
        bad: Flags = np.asarray(np.logical_and(self._A == 0.0, self._B != 0.0))
        if bad.any():
            raise InputError(
                f"second_moment 0 needs cross_moment 0, given {self._B[bad][0]:.17g}: E[a y]^2 <= E[a^2] E[y^2]"
            )
        self._prepare_loss(least_response)
        self._prepare()

    # -- what does not depend on time --

    def _prepare_loss(self, least_response: bool) -> None:
        """The loss that remains at the optimum, ``C - B^2/A``, from an exact difference."""
        a, b = WidePair.of(self._A), WidePair.of(self._B)
        zero = WidePair.of(np.zeros_like(self._A))
        safe = where_pair(self._A == 0.0, WidePair.of(np.ones_like(self._A)), a)
        if least_response:
            self._floor = zero
            self._C = ((b * b) / safe).to_float()
            return
        product = a * WidePair.of(self._C)
        gap = product - b * b
        # C given as the float nearest to B^2/A may fall short of it by one rounding: not the user's mistake.
        wrong: Flags = np.asarray((gap.m < 0.0) & ~below(gap, b * b, -49))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise InputError(
                f"cross_moment^2 must not exceed second_moment * response_moment (Cauchy-Schwarz): given "
                f"B = {self._B[i]:.17g}, A = {self._A[i]:.17g}, C = {self._C[i]:.17g}; "
                f"C must be at least {(b * b / safe).to_float()[i]:.17g}"
            )
        gap = where_pair(gap.m < 0.0, zero, gap)
        self._floor = where_pair(self._A == 0.0, WidePair.of(self._C), gap / safe)

    def _prepare(self) -> None:
        """The coefficients of the closed form, one of each per initialisation."""
        eta_u, eta_w, A, B, gamma = (WidePair.of(x) for x in (self._eta_u, self._eta_w, self._A, self._B, self._gamma))
        one, zero = WidePair.of(np.ones_like(self._A)), WidePair.of(np.zeros_like(self._A))
        both = (self._eta_u > 0.0) & (self._eta_w > 0.0)
        ratio = where_pair(both, eta_w / where_pair(both, eta_u, one), one)
        self._r = r = ratio.sqrt()
        k = gamma * (eta_u * eta_w).sqrt()

        (u_squared, _), (w_squared, _) = inner(self._u, self._u), inner(self._w, self._w)
        dot, residual = self._exact_start()
        P, Q, R = self._mode_sums(u_squared, w_squared, dot, ratio)
        self._z0, self._r0 = dot.single(), residual.single()
        self._s0 = (gamma * dot).single()
        target = where_pair(self._A == 0.0, zero, B / where_pair(self._A == 0.0, one, A))
        self._target = target.single()
        self._initial, self._optimum = gamma * dot, target

        sp, sq = gamma * P / r, gamma * Q / r
        alpha, delta, beta = A * k * sp, A * k * sq, k * B
        D = (beta * beta + (alpha * delta).scaled(4.0)).sqrt()
        rising = beta.m >= 0.0
        plus = D + abs(beta)
        large, small, other = where_pair(rising, delta, alpha), where_pair(rising, alpha, delta), plus.scaled(0.5)
        grow = other + large  # n for beta >= 0, m otherwise: the growing side
        decay = small * (one + large.scaled(2.0) / where_pair(plus.m == 0.0, one, plus))
        n, m = where_pair(rising, grow, decay), where_pair(rising, decay, grow)
        algebraic = D.m == 0.0
        unit = where_pair(algebraic, one.scaled(0.25), D)
        n, m, total = n / unit, m / unit, (alpha + delta) / unit
        factor = WidePair.of(np.full_like(self._A, self.loss_factor))
        rate = where_pair(algebraic, one, D.scaled(4.0)) * factor
        kernel_p, kernel_q = (k * sp).scaled(2.0), (k * sq).scaled(2.0)

        # One rate zero: the model is linear, K is constant; the same formula with n = m = 1, E = exp(-2 A K t).
        linear = ~both
        kernel = gamma * gamma * (eta_u * w_squared + eta_w * u_squared)
        kernel_p, kernel_q = where_pair(linear, kernel, kernel_p), where_pair(linear, zero, kernel_q)
        rate = where_pair(linear, (A * kernel).scaled(2.0) * factor, rate)
        n, m, total = (where_pair(linear, one, x) for x in (n, m, total))
        still = kernel.m == 0.0
        frozen = still | (self._A == 0.0)
        rate = where_pair(frozen, zero, rate)
        n, m, total = (where_pair(frozen, zero, x) for x in (n, m, total))

        self._linear, self._algebraic = linear & ~frozen, algebraic & both & ~frozen
        self._frozen_rows = frozen
        self._rate, self._n, self._m, self._total = rate, n.single(), m.single(), total.single()
        # n - m without cancellation: -k (A s0 - B) over the unit of time
        self._n_minus_m = where_pair(linear | frozen, zero, -(k * residual) / unit).single()
        self._D, self._kp, self._kq = D, kernel_p.single(), kernel_q.single()
        self._sp, self._sq = sp.single(), sq.single()
        self._coupling, self._beta = k, beta
        self._P, self._Q, self._R = P, Q, R
        self._u2, self._w2 = u_squared, w_squared
        product = u_squared * w_squared
        G = product - dot * dot
        parallel = below(G, product, CANCELLED) | (G.m < 0.0)
        if parallel.any():
            u, w = WidePair.of(self._u[parallel]), WidePair.of(self._w[parallel])
            assign(G, parallel, perpendicular(u, w, w_squared[parallel]))
        self._G = where_pair(self._dropped, zero, G).single()
        self._H = ((P * Q).scaled(4.0) / (r * r)).single()
        self._unbalance = ((R * R).scaled(4.0) / (r * r)).single()

        nothing = (self._u == 0.0).all(axis=-1) & (self._w == 0.0).all(axis=-1)
        trainable = both & (self._gamma != 0.0) & (self._B != 0.0)
        self._starts_on_saddle = nothing & trainable
        decays = ((P.m == 0.0) & (beta.m > 0.0)) | ((Q.m == 0.0) & (beta.m < 0.0))
        saddle = (decays & both & ~frozen) | self._starts_on_saddle
        self._saddle_rows = saddle
        self.saddle: Flags = saddle.reshape(self.batch)
        self.frozen: Flags = (frozen & ~self._starts_on_saddle).reshape(self.batch)

    def _mode_sums(
        self, u_squared: WidePair, w_squared: WidePair, dot: WidePair, ratio: WidePair
    ) -> tuple[WidePair, WidePair, WidePair]:
        """Sums over the units of p^2, q^2 and p q: from the norms, or where a mode nearly cancels, unit by unit."""
        scaled, twice = ratio * u_squared, (self._r * dot).scaled(2.0)
        total = w_squared + scaled
        P, Q, R = ((x).scaled(0.25) for x in (total + twice, total - twice, w_squared - scaled))
        self._dropped: Flags = np.zeros(len(self._A), dtype=np.bool_)
        tolerant = self.saddle_tolerance > 0.0
        again = below(P, total, CANCELLED) | below(Q, total, CANCELLED) | (P.m < 0.0) | (Q.m < 0.0) | tolerant
        if again.any():
            p, q, self._dropped[again] = self._modes(again)
            assign(P, again, (p * p).sum())
            assign(Q, again, (q * q).sum())
        return P, Q, R

    def _modes(self, rows: Flags | slice) -> tuple[WidePair, WidePair, Flags]:
        """``p_i`` and ``q_i`` of some initialisations, and whether the tolerance removed one of the two."""
        u, w, r = WidePair.of(self._u[rows]), WidePair.of(self._w[rows]), self._r[rows][:, None]
        raw = (self._u[rows], self._w[rows], self._eta_u[rows, None], self._eta_w[rows, None])
        p, q = combination(u, w, r, 1.0, raw), combination(u, w, r, -1.0, raw)
        dropped: Flags = np.zeros(len(u.m), dtype=np.bool_)
        if self.saddle_tolerance > 0.0:
            scale = (abs(r * u) + abs(w)) * WidePair.of(np.full(w.shape, self.saddle_tolerance))
            zero = WidePair.of(np.zeros(w.shape))
            absent_p: Flags = np.all((abs(p) - scale).m <= 0.0, axis=-1)
            absent_q: Flags = np.all((abs(q) - scale).m <= 0.0, axis=-1)
            dropped = np.logical_or(absent_p, absent_q)
            p, q = where_pair(absent_p[:, None], zero, p), where_pair(absent_q[:, None], zero, q)
        return p.scaled(0.5), q.scaled(0.5), dropped

    @cached_property
    def _units(self) -> tuple[Wide, Wide]:
        """``p_i`` and ``q_i`` of all initialisations."""
        p, q, _ = self._modes(slice(None))
        return p.single(), q.single()

    def _exact_start(self) -> tuple[WidePair, WidePair]:
        """``u . w`` and ``A gamma u . w - B``; rows in which either cancels are done again in integers."""
        dot, size = inner(self._u, self._w)
        scale = np.frexp(np.abs(self._u).max(axis=-1))[1] + np.frexp(np.abs(self._w).max(axis=-1))[1]
        nothing = np.logical_or((self._u == 0.0).all(axis=-1), (self._w == 0.0).all(axis=-1))
        doubtful = (below(dot, Wide(size, scale.astype(np.int64)), CANCELLED) | (size < 2.0**-900)) & ~nothing
        exact: dict[int, Fraction] = {}
        for i in np.flatnonzero(doubtful).tolist():
            exact[i] = exact_dot(self._u[i], self._w[i])
            assign(dot, i, pair_of_fraction(exact[i]))
        B = WidePair.of(self._B)
        residual = WidePair.of(self._A) * WidePair.of(self._gamma) * dot - B
        for i in np.flatnonzero(below(residual, B, CANCELLED)).tolist():
            product = exact[i] if i in exact else exact_dot(self._u[i], self._w[i])
            value = Fraction(self._A[i]) * Fraction(self._gamma[i]) * product - Fraction(self._B[i])
            assign(residual, i, pair_of_fraction(value))
        return dot, residual

    # -- evaluation --

    @cached_property
    def _coefficients(self) -> _Coefficients:
        factor = Wide.of(self.loss_factor)
        return _Coefficients(
            n=self._n,
            m=self._m,
            total=self._total,
            n_minus_m=self._n_minus_m,
            start=self._s0,
            target=self._target,
            residual=self._r0,
            kernel_p=self._kp,
            kernel_q=self._kq,
            output_p=self._sp,
            output_q=self._sq,
            second_moment=Wide.of(np.where(self._A == 0.0, 1.0, self._A)) / factor,
            gamma=Wide.of(np.where(self._gamma == 0.0, 1.0, self._gamma)),
            start_product=self._z0,
            gram=self._G,
            floor=self._floor.single() * factor,
            frozen=self._frozen_rows,
            # P xi - Q / xi is better than the convex combination only where a mode is absent: then it is one term
            single=((self._sp.m == 0.0) | (self._sq.m == 0.0)) & ~self._linear,
        )

    @cached_property
    def _plain(self) -> tuple[_Coefficients, Flags]:
        """The coefficients as float64, and for which initialisations they may be used."""
        with np.errstate(all="ignore"):
            usable = self._coefficients.moderate() & ~self._algebraic & ~self._linear
            usable &= (self._rate.m != 0.0) & (np.abs(self._rate.e) < _SAFE)
            usable &= (self._G.m != 0.0) | (self._target.m != 0.0)  # else the sign of a vanishing u . w is the angle
            return self._coefficients.plain(), usable

    def _decay(self, rows: NDArray[np.intp], time: Wide) -> tuple[Wide, Wide]:
        """``exp(-4 D t)`` and one minus it; 1 and t where the decay is algebraic. The arguments broadcast."""
        exponential, phi = exp_minus(self._rate[rows], time)
        algebraic = self._algebraic[rows]
        if algebraic.any():
            shape = np.broadcast_shapes(rows.shape, time.shape)
            slow = np.broadcast_to(algebraic, shape)
            one = Wide(np.ones(shape), np.zeros(shape, dtype=np.int64))
            exponential, phi = where(slow, one, exponential), where(slow, time * Wide.of(self.loss_factor), phi)
        return exponential, phi

    def _plain_decay(self, rows: NDArray[np.intp], time: Floats, decays: bool) -> tuple[Plain, Plain, Flags]:
        """The same in float64, and the points at which that is not enough; ``decays``: for what goes to 0 as well."""
        scale = 2.0 ** self._rate.e[rows]
        rate = self._rate.m[rows] * scale
        rough = rate * time
        few = (rough < _PLAIN_FROM) & (time > 0.0)
        if not decays and (self._target.m[rows] != 0.0).all():
            # E counts beside coefficients of 2**-40 only, x < 28: its relative error of x roundings is harmless
            return Plain(np.exp(-rough)), Plain(-np.expm1(-rough)), few
        over = rough >= _OVER_FROM
        finite = np.where(over, 0.0, time)
        x, error = two_product(rate, finite)
        error += self._rate.low[rows] * scale * finite
        exponential = np.exp(-x)
        phi = np.where(over, 1.0, error * exponential - np.expm1(-x))
        exponential = np.where(over, 0.0, exponential - exponential * error)
        return Plain(exponential), Plain(phi), few | ((rough > _PLAIN_UP_TO) & ~over)

    def _motion(self, rows: NDArray[np.intp], time: Wide) -> _Motion:
        """``rows`` and ``time`` broadcast against each other."""
        return _move(self._coefficients.rows(rows), *self._decay(rows, time))

    def _scalars(self, rows: NDArray[np.intp], time: Wide, wanted: tuple[str, ...]) -> dict[str, Wide | Floats]:
        c = self._coefficients.rows(rows)
        x = _move(c, *self._decay(rows, time))
        found = _evaluate(c, x, time.e >= 2**50, wanted)
        if "relative_motion_u" in wanted or "relative_motion_w" in wanted:
            motion = self._relative_motion(rows, x, _log_xi(c, x))
            found["relative_motion_u"], found["relative_motion_w"] = motion
        return found

    def _plain_scalars(
        self, rows: NDArray[np.intp], time: Floats, wanted: tuple[str, ...]
    ) -> tuple[dict[str, Wide | Floats], Flags]:
        """The scalars in float64, and the points at which that is not enough."""
        coefficients, usable = self._plain
        c = coefficients.rows(rows)
        decays = not {"residual", "excess_loss", "loss"}.isdisjoint(wanted)
        exponential, phi, lost = self._plain_decay(rows, time, decays)
        return _evaluate(c, _move(c, exponential, phi), np.isinf(time), wanted), lost | ~usable[rows]

    def _relative_motion(self, rows: NDArray[np.intp], x: _Motion, log_xi: Floats) -> tuple[Floats, Floats]:
        r"""``|u(t)-u(0)|/|u(0)|`` and the same for w.

        With :math:`a = \sqrt\xi - 1`, :math:`b = 1/\sqrt\xi - 1` (opposite signs),
        :math:`|\Delta w|^2 = P a^2 + 2 R a b + Q b^2 = (\sqrt P a + \sqrt Q b)^2 - 2 a b (\sqrt{PQ} - R)`, a sum
        of terms of one sign; for u, R changes sign.
        """
        root = (x.numerator / x.denominator).sqrt()
        one = Wide.of(1.0)
        near = np.abs(log_xi) < 1.0
        half = np.where(near, 0.5 * log_xi, 0.0)
        a = where(near, Wide.of(np.expm1(half)), root - one)
        b = where(near, Wide.of(np.expm1(-half)), one / root - one)
        P, Q, R = self._P[rows], self._Q[rows], self._R[rows]
        cross = (P * Q).sqrt()
        rotation = self._G[rows] * (self._r[rows] * self._r[rows]).single()  # 4 (PQ - R^2) in the units of w
        total = cross + abs(R)
        safe = where_pair(total.m == 0.0, WidePair.of(np.ones(total.shape)), total)
        gap = rotation * Wide.of(0.25) / safe.single()
        ab = Wide.of(-2.0) * a * b
        square = P.sqrt().single() * a + Q.sqrt().single() * b
        split = square * square + ab * gap
        plain = P.single() * a * a + Q.single() * b * b + ab * abs(R).single()
        positive = np.broadcast_to(R.m >= 0.0, split.shape)
        r = self._r[rows].single()
        shift_w, shift_u = where(positive, split, plain).sqrt(), where(positive, plain, split).sqrt() / r
        linear = self._linear[rows]
        if linear.any():
            # |Delta w| = |s - s0| / (|gamma| |u|) when only w moves; the same with the layers exchanged
            gamma = np.where(self._gamma == 0.0, 1.0, self._gamma)
            change = abs((self._initial - self._optimum).single())[rows] * x.moved / abs(Wide.of(gamma))[rows]
            w_moves = linear & (self._eta_w > 0.0)[rows]
            u_moves = linear & (self._eta_u > 0.0)[rows]
            zero = Wide.of(np.zeros(split.shape))
            shift_w = where(np.broadcast_to(linear, split.shape), zero, shift_w)
            shift_u = where(np.broadcast_to(linear, split.shape), zero, shift_u)
            shift_w = where(np.broadcast_to(w_moves, split.shape), change / self._norm(self._u2, rows), shift_w)
            shift_u = where(np.broadcast_to(u_moves, split.shape), change / self._norm(self._w2, rows), shift_u)
        return self._over_norm(shift_u, self._u2, rows), self._over_norm(shift_w, self._w2, rows)

    @staticmethod
    def _norm(square: WidePair, rows: NDArray[np.intp]) -> Wide:
        one = WidePair.of(np.ones(square.shape))
        return where_pair(square.m == 0.0, one, square).sqrt().single()[rows]

    def _over_norm(self, shift: Wide, square: WidePair, rows: NDArray[np.intp]) -> Floats:
        empty = np.broadcast_to((square.m == 0.0)[rows], shift.shape)
        ratio = (shift / self._norm(square, rows)).to_float()
        return np.where(empty, np.where(shift.m == 0.0, np.nan, np.inf), ratio)

    def _grid(self, times: ArrayLike, grid: bool) -> tuple[Floats, tuple[int, ...], list[tuple[slice, slice]]]:
        t = check_times(times)
        rows = len(self._A)
        if not grid:
            try:
                t = np.broadcast_to(t, self.batch)
            except ValueError:
                raise InputError(
                    f"times of shape {t.shape} do not broadcast with the initialisations {self.batch}"
                ) from None
            blocks = [(slice(i, i + _BLOCK), slice(i, i + _BLOCK)) for i in range(0, rows, _BLOCK)]
            return t, self.batch, blocks
        count = max(t.size, 1)
        step = max(_BLOCK // count, 1)
        blocks = [
            (slice(i, i + step), slice(j, j + _BLOCK)) for i in range(0, rows, step) for j in range(0, t.size, _BLOCK)
        ]
        return t, (*self.batch, *t.shape), blocks

    def at(self, times: ArrayLike, *, quantities: tuple[str, ...] | None = None, grid: bool = True) -> Trajectory:
        """Scalars of the flow.

        Parameters
        ----------
        times
            Times >= 0, infinity included, any shape. With ``grid`` every initialisation is evaluated at every time;
            without, times and initialisations broadcast against each other.
        quantities
            Names of the scalars wanted (default: all but the relative motion); the others are empty arrays.

        Raises
        ------
        InputError
            If a time is negative or nan, or a quantity unknown.
        """
        wanted = _DEFAULT if quantities is None else quantities
        unknown = [name for name in wanted if name not in _SCALARS]
        if unknown:
            raise InputError(f"unknown quantity {unknown[0]!r}; known: {', '.join(_SCALARS)}")
        t, shape, blocks = self._grid(times, grid)
        index = np.arange(len(self._A))
        table = (len(index), t.size) if grid else (len(index),)
        arrays = {name: np.empty(table) for name in wanted}
        beyond: dict[str, str] = {}
        everything = t.reshape(-1)
        plain_enough = bool(wanted) and not any(name.startswith("relative") for name in wanted)

        def store(name: str, place: Any, value: Wide | Floats, at: Floats) -> None:
            if isinstance(value, Wide):
                numbers = value.to_float()
                way = "" if isinstance(value, Plain) else _left_range(value, numbers, at)
                if way:
                    beyond[name] = way if beyond.get(name, way) == way else "both"
                value = numbers
            arrays[name][place] = value

        for rows, columns in blocks:
            lines = index[rows, None] if grid else index[rows]
            moments = everything[columns]
            place: Any = (rows, columns) if grid else (rows,)
            with np.errstate(all="ignore"):
                if plain_enough and self._plain[1][rows].any():
                    values, lost = self._plain_scalars(lines, moments, wanted)
                    for name in wanted:
                        store(name, place, values[name], moments)
                    # what is left of the residual is never 0 at a finite time: a 0 has underflowed
                    alive = ~lost & (self._r0.m != 0.0)[lines] & np.isfinite(moments) & (moments > 0.0)
                    for name in {"output", "residual", "excess_loss", "loss"}.intersection(wanted):
                        zero = arrays[name][place] == 0.0
                        if zero.any() and (zero & alive).any():
                            beyond[name] = "underflow"
                    if not lost.any():
                        continue
                    where_lost = np.nonzero(np.broadcast_to(lost, arrays[wanted[0]][place].shape))
                    offsets = (rows.start, columns.start)
                    place = tuple(x + start for x, start in zip(where_lost, offsets, strict=False))
                    lines, moments = index[place[0]], everything[place[-1]]
                values = self._scalars(lines, Wide.of(moments), wanted)
                for name in wanted:
                    store(name, place, values[name], moments)
        empty = np.empty(0)
        return Trajectory(
            times=t,
            out_of_range=beyond,
            **{name: arrays[name].reshape(shape) + 0.0 if name in arrays else empty for name in _SCALARS},  # no -0.0
        )

    def weights(self, times: ArrayLike) -> tuple[Floats, Floats]:
        """``u`` and ``w`` at every time, shape: initialisations, times, (unit,).

        Raises
        ------
        InputError
            If a time is negative or nan.
        """
        t, shape, _ = self._grid(times, True)
        flat = Wide.of(t.reshape(-1))
        u_all = np.empty((len(self._A), t.size, self.width))
        w_all = np.empty_like(u_all)
        ratio = self._r.single()[:, None]
        p, q = self._units
        parts = (p / ratio, q / ratio, p, q)
        extremes = np.stack([_exponent_range(x) for x in parts])
        safe_rows = (extremes[:, 0].min(axis=0) > -_SAFE) & (extremes[:, 1].max(axis=0) < _SAFE) & ~self._linear
        floats = [x.to_float() if safe_rows.any() else np.empty(0) for x in parts]
        with np.errstate(all="ignore"):
            for i in range(len(self._A)):
                row = np.array([i])
                x = self._motion(row, flat)
                if self._linear[i]:
                    self._linear_weights(i, x, u_all, w_all)
                    continue
                # While xi is near 1 the change is formed and added: it keeps its digits, and the start is exact.
                half = 0.5 * np.broadcast_to(_log_xi(self._coefficients.rows(row), x), flat.shape)
                near = np.abs(half) < 0.5
                root, inverse = (x.numerator / x.denominator).sqrt(), (x.denominator / x.numerator).sqrt()
                up = where(near, Wide.of(np.expm1(np.where(near, half, 0.0))), root)
                down = where(near, Wide.of(np.expm1(np.where(near, -half, 0.0))), inverse)
                if safe_rows[i] and np.abs(root.normalised().e).max(initial=0) < _SAFE:
                    a, b = up.to_float(), down.to_float()
                    np.matmul(np.stack([a, -b], -1), np.stack([floats[0][i], floats[1][i]]), out=u_all[i])
                    np.matmul(np.stack([a, b], -1), np.stack([floats[2][i], floats[3][i]]), out=w_all[i])
                else:
                    u_all[i] = (parts[0][i] * up[:, None] - parts[1][i] * down[:, None]).to_float()
                    w_all[i] = (parts[2][i] * up[:, None] + parts[3][i] * down[:, None]).to_float()
                u_all[i, near] += self._u[i]
                w_all[i, near] += self._w[i]
        return u_all.reshape(*shape, self.width), w_all.reshape(*shape, self.width)

    def _linear_weights(self, i: int, x: _Motion, u_all: Floats, w_all: Floats) -> None:
        """One layer frozen: the other moves along it, ``w = w0 + (s - s0) u / (gamma |u|^2)``."""
        w_moves = self._eta_w[i] > 0.0
        frozen, moving = (self._u[i], self._w[i]) if w_moves else (self._w[i], self._u[i])
        square = (self._u2 if w_moves else self._w2)[i]
        pace = ((self._optimum - self._initial)[i] / (WidePair.of(self._gamma)[i] * square)).single()
        moved = (Wide.of(moving) + Wide.of(frozen) * (x.moved * pace)[:, None]).to_float()
        fixed, changed = (u_all, w_all) if w_moves else (w_all, u_all)
        fixed[i], changed[i] = frozen, moved

    # -- inverse, rates, limits --

    def time_at(self, output: ArrayLike) -> Floats:
        """The time at which the output equals ``output``, shape: initialisations, shape of ``output``.

        Infinity for the limit itself, nan for what the flow never reaches.

        Notes
        -----
        With ``y = exp(4 D t) - 1`` the residual kept is ``rho = (1 + y) / ((1 + n y / D)(1 + m y / D))``: a
        quadratic with one positive root, taken in the form that does not cancel.
        """
        s = _finite("output", output)
        flat = s.reshape(-1)
        value = WidePair.of(flat)[None, :]
        with np.errstate(all="ignore"):
            A, B = WidePair.of(self._A)[:, None], WidePair.of(self._B)[:, None]
            residual = A * value - B
            start = where(self._r0.m == 0.0, Wide.of(np.ones(len(self._A))), self._r0)[:, None]
            rho = residual.single() / start
            done = (A * (self._initial[:, None] - value)).single() / start  # 1 - rho
            n, m, total, rate = (x[:, None] for x in (self._n, self._m, self._total, self._rate.single()))
            algebraic = self._algebraic[:, None]
            linear_term = where(
                np.broadcast_to(algebraic, rho.shape), rho * (n + m), rho * total + (-done)
            ).normalised()
            quadratic = rho * n * m
            quadratic = where(np.broadcast_to(self._linear[:, None], rho.shape), rho * Wide.of(0.0), quadratic)
            linear_term = where(np.broadcast_to(self._linear[:, None], rho.shape), rho, linear_term)
            root = (linear_term * linear_term + Wide.of(4.0) * quadratic * done).sqrt()
            first = Wide.of(2.0) * done / (root + abs(linear_term))
            second = (root + abs(linear_term)) / (Wide.of(2.0) * quadratic)
            y = where(linear_term.m >= 0.0, first, second).normalised()
            found = _time(y, rate, algebraic)
            if self.loss_factor != 1.0:
                found = np.where(algebraic, found / self.loss_factor, found)
            limit = np.where(self._saddle_rows, 0.0, self._target.to_float())[:, None]
            reachable = (rho.m > 0.0) & (done.m > 0.0)
            if self._saddle_rows.any():  # it stops short of the target, at output 0
                beyond = np.sign(flat)[None, :] * np.sign(self._s0.m)[:, None] <= 0.0
                reachable &= ~(self._saddle_rows[:, None] & beyond)
            found = np.where(reachable, found, np.nan)
            found = np.where(flat[None, :] == limit, np.inf, found)
            motionless = (self._frozen_rows | (self._r0.m == 0.0))[:, None]
            found = np.where(motionless, np.nan, found)
            at_start = (self._initial[:, None] - value).m == 0.0
            found = np.where(at_start, 0.0, found)
        return found.reshape((*self.batch, *s.shape))

    @property
    def response_moment(self) -> Floats:
        """C, as given or ``B^2/A``."""
        return self._C.reshape(self.batch)

    @property
    def initial_rate(self) -> Floats:
        """Rate ``2 c A K(0)`` at which the residual starts to decay."""
        kernel = (self._kp + self._kq) * Wide.of(self._A) * Wide.of(2.0 * self.loss_factor)
        return kernel.to_float().reshape(self.batch)

    @property
    def asymptotic_rate(self) -> Floats:
        """Rate ``4 c D = 2 c A K(inf)`` at which the residual ends; 0 where the decay is algebraic or nothing moves."""
        return np.where(self._algebraic, 0.0, self._rate.to_float()).reshape(self.batch)

    @property
    def saturation_time(self) -> Floats:
        """Time ``ln(1 + D/m) / (4 c D)`` (n instead of m if ``k B < 0``) at which the growing mode saturates."""
        rising = self._beta.m >= 0.0
        mode = where(rising, self._m, self._n)
        with np.errstate(all="ignore"):
            y = (Wide.of(np.ones(len(self._A))) / mode).normalised()
            slow = _time(y, self._rate.single(), self._algebraic)
            time = np.where(self._algebraic, slow / self.loss_factor, slow)
            time = np.where(self._linear, 1.0 / self._rate.to_float(), time)
        return np.where(self._frozen_rows | (mode.m == 0.0), np.inf, time).reshape(self.batch)

    def limit(self) -> Trajectory:
        """The trajectory at infinite time."""
        return self.at(np.inf, quantities=_SCALARS)

    def curvature(self) -> Floats:
        """``c A K(inf)``: gradient descent with these rates can stay at the minimum only if this is below 1.

        Notes
        -----
        In the rate-weighted metric the Hessian at the minimum has the single nonzero eigenvalue ``2 c A K``.
        """
        product = Wide.of(self._A) * Wide.of(self.loss_factor)
        kernel = Wide.of(self.at(np.inf, quantities=("kernel",)).kernel.reshape(-1))
        return (product * kernel).to_float().reshape(self.batch)

    # -- what the mechanisms are computed from --

    def path(self, times: ArrayLike) -> tuple[Wide, Wide, Wide, Wide, Wide, Wide, Wide, Flags]:
        """``z = u . w`` at the start and at the times, its change, ``G``, ``H = G + 4 R^2``, ``4 R^2``, gamma; flags.

        In the units of u and w (``H`` and ``4 R^2`` times ``eta_u eta_w``); shapes (initialisation, 1) and
        (initialisation, time). The last flags the initialisations whose kernel is constant.
        """
        t = Wide.of(check_times(times).reshape(-1))
        rows = np.arange(len(self._A))[:, None]
        with np.errstate(all="ignore"):
            x = self._motion(rows, t)
            gamma = Wide.of(np.where(self._gamma == 0.0, 1.0, self._gamma))
            a = Wide.of(np.where(self._A == 0.0, 1.0, self._A))
            constant = (self._linear | self._frozen_rows)[:, None]
            change = (-(self._r0 / (a * gamma)))[rows] * x.moved
            end = _output(self._coefficients.rows(rows), x) / gamma[rows]
            still = np.broadcast_to(self._frozen_rows[:, None], end.shape)
            end = where(still, self._z0[rows], end)
        parts = (self._G, self._H, self._unbalance, Wide.of(self._gamma))
        G, H, unbalance, prefactor = (y[rows] for y in parts)
        return self._z0[rows], end, change, G, H, unbalance, prefactor, constant

    def control_parameters(self) -> tuple[Floats, Floats]:
        r"""``rho = |s0|/h0`` and ``sigma = |s*|/h0`` with ``h0 = K(0)/(2|k|)``: they decide the kernel's fate.

        :math:`K_\infty/K_0 = \sqrt{1 - \rho^2 + \sigma^2}` at every width and from every start that reaches the
        target. nan where the kernel is constant or vanishes.
        """
        with np.errstate(all="ignore"):
            kernel = (self._kp + self._kq) / Wide.of(2.0) / abs(self._coupling.single())
            rho, sigma = ((abs(x) / kernel).to_float() for x in (self._s0, self._target))
        constant = self._linear | self._frozen_rows
        return (
            np.where(constant, np.nan, rho).reshape(self.batch),
            np.where(constant, np.nan, sigma).reshape(self.batch),
        )

    @property
    def linear(self) -> Flags:
        """Whether exactly one layer moves (the other has rate 0), per initialisation."""
        flags: Flags = self._linear.reshape(self.batch)
        return flags

    @property
    def parallel(self) -> Flags:
        """Whether u and w are exactly parallel (width 1 and a vanishing layer included): only norms can change."""
        flags: Flags = (self._G.m == 0.0).reshape(self.batch)
        return flags

    # -- invariants --

    @cached_property
    def conserved(self) -> dict[str, Floats]:
        """What the flow conserves, at time 0.

        ``unbalance``: ``eta_u w_i^2 - eta_w u_i^2``, shape (.., unit); ``gram``: ``|u|^2 |w|^2 - (u . w)^2``, hence
        also ``|u||w||sin|`` of the angle; ``kernel_gap``: ``(K/2k)^2 - s^2 = h^2``; ``norm_difference``:
        ``eta_u |w|^2 - eta_w |u|^2``.
        """
        eta_u = WidePair.of(self._eta_u)
        p, q = (_pair(x) for x in self._units)
        unit = (eta_u[:, None] * p * q).scaled(4.0)
        one_rate = ~((self._eta_u > 0.0) & (self._eta_w > 0.0))
        u, w = WidePair.of(self._u), WidePair.of(self._w)
        direct = eta_u[:, None] * w * w - WidePair.of(self._eta_w)[:, None] * u * u
        unit = where_pair(one_rate[:, None], direct, unit)
        gamma = Wide.of(self._gamma)
        return {
            "unbalance": unit.to_float().reshape(*self.batch, self.width),
            "gram": self._G.to_float().reshape(self.batch),
            "kernel_gap": (gamma * gamma * self._H).to_float().reshape(self.batch),
            "norm_difference": unit.sum().to_float().reshape(self.batch),
        }

    # -- gradient descent --

    def descend(self, steps: int) -> Descent:
        """Full-batch gradient descent with step 1 and the same rates: the discrete map beside the flow.

        Raises
        ------
        InputError
            If ``steps`` is negative.

        Notes
        -----
        The map closes on two scalars: with ``g = 2 c k (A s - B)``, one step multiplies every ``p_i`` by ``1 - g`` and
        every ``q_i`` by ``1 + g`` (exact).
        """
        if steps < 0:
            raise InputError(f"steps must be at least 0, given {steps}")
        rows = len(self._A)
        P, Q = self._P.to_float(), self._Q.to_float()
        k, r = self._coupling.to_float(), self._r.to_float()
        factor_p, factor_q = np.ones(rows), np.ones(rows)
        moved = np.zeros(rows)  # linear case: w = w0 + moved * gamma u
        history = np.empty((3, rows, steps + 1))
        s = self._s0.to_float()
        kernel_linear = self._kp.to_float()
        with np.errstate(all="ignore"):
            for step in range(steps + 1):
                kernel = 2.0 * k * (self._gamma / r) * (P * factor_p**2 + Q * factor_q**2)
                kernel = np.where(self._linear | self._frozen_rows, kernel_linear, kernel)
                residual = self._A * s - self._B
                history[:, :, step] = s, residual, kernel
                if step == steps:
                    break
                g = 2.0 * self.loss_factor * k * residual
                change = -2.0 * self.loss_factor * residual
                # the increment keeps the exact start: s1 - s0 = -2 g s-kernel form, plus the second-order term g^2 s
                s_next = s + change * kernel + g * g * s
                s = np.where(self._frozen_rows, s, np.where(self._linear, s + change * kernel, s_next))
                moved += change
                factor_p *= 1.0 - g
                factor_q *= 1.0 + g
            p, q = (x.to_float() for x in self._units)
            w = p * factor_p[:, None] + q * factor_q[:, None]
            u = (p * factor_p[:, None] - q * factor_q[:, None]) / r[:, None]
            only_w = (self._linear & (self._eta_w > 0.0))[:, None]
            only_u = (self._linear & (self._eta_u > 0.0))[:, None]
            push = (moved * self._gamma)[:, None]
            w = np.where(only_w, self._w + self._eta_w[:, None] * push * self._u, w)
            u = np.where(only_w, self._u, u)
            u = np.where(only_u, self._u + self._eta_u[:, None] * push * self._w, u)
            w = np.where(only_u, self._w, w)
            still = self._frozen_rows[:, None]
            u, w = np.where(still, self._u, u), np.where(still, self._w, w)
            output, residual, kernel = history
            area = self._A[:, None]
            excess = np.where(area == 0.0, 0.0, residual**2 / np.where(area == 0.0, 1.0, area))
            loss = self.loss_factor * (excess + self._floor.to_float()[:, None])
            gamma = np.where(self._gamma == 0.0, 1.0, self._gamma)[:, None]
            z = np.where(still, self._z0.to_float()[:, None], output / gamma)
            # the Gram determinant is not conserved by the map: it shrinks by (1 - g^2)^2 a step
            gram = self._G.to_float()[:, None] * self._gram_factor(residual, k)
            alignment = z / np.hypot(z, np.sqrt(gram))
        shape = (*self.batch, steps + 1)
        return Descent(
            steps=np.arange(steps + 1),
            output=output.reshape(shape),
            residual=residual.reshape(shape),
            loss=loss.reshape(shape),
            kernel=kernel.reshape(shape),
            alignment=alignment.reshape(shape),
            u=u.reshape(*self.batch, self.width),
            w=w.reshape(*self.batch, self.width),
            diverged=np.asarray(~np.isfinite(output).all(axis=-1)).reshape(self.batch),
        )

    def _gram_factor(self, residual: Floats, k: Floats) -> Floats:
        g = 2.0 * self.loss_factor * k[:, None] * residual[:, :-1]
        factors = np.cumprod((1.0 - g * g) ** 2, axis=-1)
        return np.concatenate([np.ones((len(k), 1)), factors], axis=-1)


def _move(c: _Coefficients, exponential: Wide, phi: Wide) -> _Motion:
    n_phi, m_phi = c.n * phi, c.m * phi
    numerator, denominator = exponential + n_phi, exponential + m_phi
    both = numerator * denominator
    moved = (phi * exponential * c.total + n_phi * m_phi) / both
    return _Motion(numerator, denominator, exponential / both, moved, phi)


def _output(c: _Coefficients, x: _Motion) -> Wide:
    """The output, by whichever of its two forms cancels less."""
    s = c.start * x.keep + c.target * x.moved
    if not c.single.any():
        return s
    one_mode = c.output_p * (x.numerator / x.denominator) + (-(c.output_q * (x.denominator / x.numerator)))
    return where(np.broadcast_to(c.single, np.broadcast_shapes(c.single.shape, s.m.shape)), one_mode, s)


def _log_xi(c: _Coefficients, x: _Motion) -> Floats:
    change = c.n_minus_m * x.phi
    up, down = (change / x.denominator).normalised(), (-change / x.numerator).normalised()
    zero = change.like(0.0)
    rising = up.m > 0.0
    return where(rising, up, zero).log1p() - where(~rising, down, zero).log1p()


def _evaluate(c: _Coefficients, x: _Motion, endless: Flags, wanted: tuple[str, ...]) -> dict[str, Wide | Floats]:
    """The scalars wanted, from the motion; the formulas hold for both kinds of numbers."""
    found: dict[str, Wide | Floats] = {}
    if "residual" in wanted or "loss" in wanted or "excess_loss" in wanted:
        found["residual"] = residual = c.residual * x.keep
        found["excess_loss"] = excess = residual * residual / c.second_moment
        found["loss"] = excess + c.floor
    if "kernel" in wanted:
        xi, inverse = x.numerator / x.denominator, x.denominator / x.numerator
        found["kernel"] = c.kernel_p * xi + c.kernel_q * inverse
    if "output" in wanted or "alignment" in wanted or "misalignment" in wanted:
        found["output"] = s = _output(c, x)
    if "alignment" in wanted or "misalignment" in wanted:
        z = s / c.gamma
        if c.frozen.any():
            z = where(np.broadcast_to(c.frozen, s.m.shape), c.start_product, z)
        norm = z * z + c.gram
        vanished = endless & (norm.e < -(2**48))  # only in the limit
        absent = (norm.m == 0.0) | vanished
        if absent.any():
            norm = where(absent, norm.like(1.0), norm)
        found["alignment"] = np.where(absent, np.nan, (z / norm.sqrt()).to_float())
        found["misalignment"] = np.where(absent, np.nan, (c.gram / norm).to_float())
    if "log_xi" in wanted:
        found["log_xi"] = _log_xi(c, x)
    return found


def _pair(x: Wide) -> WidePair:
    return WidePair(x.m, np.zeros_like(x.m), x.e)


def _exponent_range(x: Wide) -> NDArray[np.int64]:
    """Smallest and largest exponent per row; zeros do not count."""
    x = x.normalised()
    zero = x.m == 0.0
    return np.stack([np.where(zero, 0, x.e).min(axis=-1), np.where(zero, 0, x.e).max(axis=-1)])


def _left_range(value: Wide, numbers: Floats, times: Floats) -> str:
    """Whether a number at a finite time overflowed, or fell below the normal range without being zero."""
    finite = np.isfinite(times)
    over = bool((np.isinf(numbers) & finite).any())
    lost = (np.abs(numbers) < 2.3e-308) & (np.broadcast_to(value.m, numbers.shape) != 0.0)
    under = bool((lost & finite).any())
    return "both" if over and under else "overflow" if over else "underflow" if under else ""


def _time(y: Wide, rate: Wide, algebraic: Flags) -> Floats:
    """``log(1 + y) / rate``, or y itself where the decay is algebraic."""
    tiny = y.e < -60
    logarithm = where(tiny, y, Wide.of(y.log1p()))
    return np.where(algebraic, y.to_float(), (logarithm / rate).normalised().to_float())
