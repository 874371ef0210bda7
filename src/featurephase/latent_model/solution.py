r"""The exact solution of the one-hidden-layer linear network on a one-dimensional latent input.

The network is :math:`f(x) = \gamma \sum_i u_i (w_i \cdot x)` on data :math:`x = a n`, trained by gradient flow with one
learning rate per layer on :math:`c\,E[(f - y)^2]`.

========================  ==========================================================================================
symbol                    meaning
========================  ==========================================================================================
A, B, C                   :math:`E a^2`, :math:`E[a y]`, :math:`E y^2`: all that matters of the data
:math:`u, w`              read-out weights, hidden weights along n; uw, uu, ww: their inner products
r, k                      :math:`\sqrt{\eta_w/\eta_u}`, :math:`\gamma \sqrt{\eta_u \eta_w}`
p, q                      :math:`(w + r u)/2`, :math:`(w - r u)/2` at time 0; P, Q, R: sums of :math:`p^2, q^2, p q`
s, s0, s*                 output :math:`\gamma\, u \cdot w`, at time 0, :math:`B/A`
h                         :math:`2 |\gamma| \sqrt{P Q}/r`
:math:`\alpha, \beta`     :math:`A k \gamma P/r`, :math:`k B`; :math:`\delta = A k \gamma Q/r`
D                         :math:`\sqrt{\beta^2 + 4 \alpha \delta} = |k| \sqrt{B^2 + A^2 h^2}`
E, :math:`\phi`           :math:`e^{-4 c D t}`, :math:`1 - E` (D = 0: 1, :math:`c t`)
n, m                      :math:`(D + \beta)/2 + \delta`, :math:`\alpha (1 + 2 \delta/(D + \beta))` in units of D for
                          :math:`\beta \ge 0`; mirrored for :math:`\beta < 0`
N, M, :math:`\xi`         :math:`E + n \phi`, :math:`E + m \phi`, :math:`N/M`; :math:`\psi = \tfrac12 \ln \xi`
keep, moved               :math:`E/(N M)` and 1 minus it: the part of the residual :math:`A s - B` that is left, gone
G, H                      :math:`|u|^2 |w|^2 - (u \cdot w)^2`, :math:`(h/\gamma)^2 = G + (2 R/r)^2`: conserved
========================  ==========================================================================================

.. math::

   w_i(t) = p_i \sqrt\xi + q_i/\sqrt\xi, \qquad r\,u_i(t) = p_i \sqrt\xi - q_i/\sqrt\xi, \qquad
   s(t) = s_0\,\mathrm{keep} + s^*\,\mathrm{moved}, \qquad K(t) = 2 k \gamma (P \xi + Q/\xi)/r.

All terms of N, M and moved are at least 0: nothing cancels, at any time. The formulas are written once and evaluated in
float64; the rows whose coefficients, and the points whose :math:`4 c D t`, are beyond its range are done in mpmath.

Source: Y. Xu, L. Ziyin, arXiv:2401.07085, section 3 (its solution, by tanh(2 D t), is :math:`\xi` above); in the form
used here theory/latent-solution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError
from featurephase.foundation.precise import Numbers, Precise, exact, exact_dot, rounded, where
from featurephase.foundation.types import Array
from featurephase.latent_model.coefficients import (
    Coefficients,
    Flags,
    cancelled,
    coefficients,
    modes,
    precise_coefficients,
    precise_modes,
    precise_rate,
    unbalance,
)
from featurephase.latent_model.model import Model, check_times, finite
from featurephase.latent_model.motion import DECAYING, SCALARS, Motion, arrival, growth, motion, scalars

__all__ = ["Descent", "Flow", "Trajectory"]

#: Points evaluated at once: their intermediate arrays stay in cache.
_BLOCK = 8192
#: Earlier than this in units of 1/(4 c D), products with coefficients down to 1e-70 may underflow.
_EARLIEST = 1e-70
#: Later than this, exp(-4 c D t) magnifies the rounding of D: there D is formed with more digits.
_LATE = 100.0
_SMALLEST, _LARGEST = np.finfo(np.float64).tiny, np.finfo(np.float64).max
_DEFAULT = ("output", "residual", "loss", "excess_loss", "kernel", "alignment", "misalignment", "log_xi")
#: Quantities of which it is said when they leave the range.
_RANGED = frozenset({"output", "residual", "loss", "excess_loss", "kernel"})


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

    times: Array
    output: Array
    residual: Array
    loss: Array
    excess_loss: Array
    kernel: Array
    alignment: Array
    misalignment: Array
    log_xi: Array
    relative_motion_u: Array
    relative_motion_w: Array
    out_of_range: dict[str, str]


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
    output: Array
    residual: Array
    loss: Array
    kernel: Array
    alignment: Array
    u: Array
    w: Array
    diverged: Flags


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
    saddle, frozen, linear
        Per initialisation: whether the flow ends at (or starts on) the saddle u = w = 0; whether nothing ever moves;
        whether exactly one layer moves (the other has rate 0).
    parallel
        Whether u and w are exactly parallel (width 1 and a vanishing layer included): only norms can change.

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
        self._model = x = Model.of(
            u,
            w,
            response_moment,
            loss_factor,
            saddle_tolerance,
            eta_u=eta_u,
            eta_w=eta_w,
            second_moment=second_moment,
            cross_moment=cross_moment,
            gamma=gamma,
        )
        self.batch, self.width, self.loss_factor = x.batch, x.u.shape[-1], x.loss_factor
        self._c, fine, self._wild = coefficients(x)
        self._fine_rate = np.where(fine, self._c.rate, np.nan)  # with more digits, once it is needed
        self.saddle: Flags = self._c.saddle.reshape(self.batch)
        self.frozen: Flags = (self._c.frozen & ~self._c.saddle).reshape(self.batch)
        self.linear: Flags = self._c.linear.reshape(self.batch)
        self.parallel: Flags = (self._c.root_gram == 0.0).reshape(self.batch)

    # -- evaluation --

    def evaluate(
        self,
        formula: Callable[[Coefficients, Motion], dict[str, Numbers]],
        names: tuple[str, ...],
        times: Array,
        pairwise: bool = False,
    ) -> tuple[dict[str, Array], dict[str, str]]:
        """Quantities by a formula of the coefficients and the motion, in mpmath where float64 is not enough.

        Parameters
        ----------
        formula
            Gives float64 or precise arrays, of which those called ``names`` are kept.
        times
            Every initialisation is evaluated at every time; with ``pairwise`` there is one time for each.

        Returns
        -------
        values
            Arrays of shape: initialisations, times (if not pairwise).
        out_of_range
            See :class:`Trajectory`.
        """
        t = times.reshape((-1, 1) if pairwise else (1, -1))
        rows, count = len(self._wild), t.shape[1]
        values, ways = {name: np.empty((rows, count)) for name in names}, set[tuple[str, str]]()
        step = max(_BLOCK // max(count, 1), 1)
        with np.errstate(all="ignore"):
            c = self._with_rates(t, not DECAYING.isdisjoint(names))
            for i in range(0, rows, step):
                for j in range(0, count, _BLOCK):
                    lines, columns = slice(i, i + step), slice(j, j + _BLOCK)
                    part = t[lines if pairwise else slice(None), columns]
                    block = {name: x[lines, columns] for name, x in values.items()}
                    ways |= self._fill(block, formula, c.take((lines, None)), np.arange(rows)[lines], part)
        shape = self.batch if pairwise else (*self.batch, *times.shape)
        beyond = {name: [way for other, way in sorted(ways) if other == name] for name, _ in sorted(ways)}
        return (
            {name: x.reshape(shape) for name, x in values.items()},
            {name: way[0] if len(way) == 1 else "both" for name, way in beyond.items()},
        )

    def _with_rates(self, t: Array, decays: bool) -> Coefficients:
        """The coefficients, with more digits of D where exp(-4 c D t) is wanted at late times."""
        c = self._c
        last = where(np.isinf(t), 0.0, t).max(axis=1, initial=0.0)
        late = (c.rate * last > _LATE) & ~self._wild & (decays | (c.target == 0.0))
        if not late.any():
            return c
        rows = np.flatnonzero(late & np.isnan(self._fine_rate))
        if rows.size:
            self._fine_rate[rows] = precise_rate(self._model, rows)
        return replace(c, rate=where(late, self._fine_rate, c.rate))

    def _fill(
        self,
        values: dict[str, Array],
        formula: Callable[[Coefficients, Motion], dict[str, Numbers]],
        c: Coefficients,
        rows: NDArray[np.intp],
        t: Array,
    ) -> set[tuple[str, str]]:
        """Fill one block of ``values`` (rows, times); returns which quantities left the range, and how."""
        shape, ways = next(iter(values.values())).shape, set[tuple[str, str]]()
        new = formula(c, motion(c, np.minimum(t, _LARGEST), np.isinf(t)))
        lost = np.broadcast_to(self._wild[rows, None], shape)
        if (t[t > 0.0].min(initial=np.inf) * c.rate < _EARLIEST).any():
            lost = lost | (t > 0.0) & (c.rate > 0.0) & (t * c.rate < _EARLIEST)
        for name, array in values.items():
            np.add(new[name], 0.0, out=array)  # no -0.0
            if not (known := np.isfinite(array)).all():
                lost = lost | ~known
            alive = (c.residual != 0.0) & (DECAYING.issuperset({name}) | (c.start != 0.0) & (c.target == 0.0))
            if name in _RANGED and alive.any() and (np.abs(array) < _SMALLEST)[alive & np.isfinite(t) & ~lost].any():
                ways.add((name, "underflow"))
        if lost.any():
            i, j = np.nonzero(lost)
            times = np.broadcast_to(t, shape)[i, j]
            for name, fine in self._precisely(formula, rows[i], times).items():
                if name in values:
                    values[name][i, j] = numbers = fine.double() + 0.0
                    ways |= _left_range(name, fine, numbers, np.isfinite(times))
        return ways

    def _precisely(
        self, formula: Callable[[Coefficients, Motion], dict[str, Numbers]], rows: NDArray[np.intp], times: Array
    ) -> dict[str, Precise]:
        """The formula in mpmath, at pairs of a row and a time."""
        distinct, place = np.unique(rows, return_inverse=True)
        c = precise_coefficients(self._model, distinct).take(place)
        return formula(c, motion(c, Precise(np.minimum(times, _LARGEST)), np.isinf(times)))

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
        wanted = _DEFAULT if quantities is None else tuple(quantities)
        unknown = [name for name in wanted if name not in SCALARS]
        if unknown:
            raise InputError(f"unknown quantity {unknown[0]!r}; known: {', '.join(SCALARS)}")
        t = check_times(times)
        if not grid:
            try:
                t = np.broadcast_to(t, self.batch)
            except ValueError:
                raise InputError(
                    f"times of shape {t.shape} do not broadcast with the initialisations {self.batch}"
                ) from None
        values, out_of_range = self.evaluate(partial(scalars, wanted), wanted, t, pairwise=not grid)
        empty = {name: np.empty(0) for name in SCALARS}
        return Trajectory(times=t, out_of_range=out_of_range, **(empty | values))

    def weights(self, times: ArrayLike) -> tuple[Array, Array]:
        """``u`` and ``w`` at every time, shape: initialisations, times, (unit,).

        Raises
        ------
        InputError
            If a time is negative or nan.
        """
        t = check_times(times)
        path, _ = self.evaluate(growth, ("up", "down", "near", "moved"), t.reshape(-1))
        up, down, near, moved = (x.reshape(len(self._wild), -1) for x in path.values())
        model, c = self._model, self._c
        u, w = (np.empty((*up.shape, self.width)) for _ in range(2))
        with np.errstate(all="ignore"):
            for i in range(len(u)):
                if c.frozen[i] or c.linear[i]:
                    u[i], w[i] = model.u[i], model.w[i]
                    if c.linear[i]:  # one layer moves along the other: u . w changes by moved * shift
                        moving, still, norm = (w, u, c.norm_u) if c.moves_w[i] else (u, w, c.norm_w)
                        moving[i] += (moved[i] * (c.shift[i] / norm[i]))[:, None] * (still[i] / norm[i])
                    continue
                p, q = modes(model, i)
                parts = np.stack([p / c.r[i], q / c.r[i], p, q])
                if _normal(parts) and _normal(np.stack([up[i], down[i]])[:, near[i] == 0.0]):
                    np.matmul(np.stack([up[i], -down[i]], axis=-1), parts[:2], out=u[i])
                    np.matmul(np.stack([up[i], down[i]], axis=-1), parts[2:], out=w[i])
                else:
                    u[i], w[i] = self._precise_weights(i, t.reshape(-1))
                u[i, near[i] != 0.0] += model.u[i]
                w[i, near[i] != 0.0] += model.w[i]
        shape = (*self.batch, *t.shape, self.width)
        return u.reshape(shape), w.reshape(shape)

    def _precise_weights(self, row: int, times: Array) -> tuple[Array, Array]:
        """What :meth:`weights` adds up, where factors of the products are beyond the range of float64."""
        path = self._precisely(growth, np.full(times.size, row), times)
        p, q = precise_modes(self._model, row)
        r = precise_coefficients(self._model, np.array([row])).r
        p, q = p[None, :] * path["up"][:, None], q[None, :] * path["down"][:, None]
        return ((p - q) / r).double(), (p + q).double()

    # -- inverse, rates, limits --

    def time_at(self, output: ArrayLike) -> Array:
        """The time at which the output equals ``output``, shape: initialisations, shape of ``output``.

        Infinity for the limit itself, nan for what the flow never reaches.
        """
        s = finite("output", output)
        flat, x, model = s.reshape(1, -1), self._c.take((slice(None), None)), self._model
        with np.errstate(all="ignore"):
            scaled, B = model.A[:, None] * flat, model.B[:, None]
            residual, gap = scaled - B, x.start - flat
            time: Array = arrival(x, flat, residual, gap)
            lost = cancelled(residual, scaled, B) | cancelled(gap, x.start, flat) | self._wild[:, None]
            if lost.any():
                i, j = np.nonzero(lost)
                A, B_exact, gamma, value = map(exact, (model.A[i], model.B[i], model.gamma[i], flat[0, j]))
                rows, place = np.unique(i, return_inverse=True)
                initial = gamma * exact_dot(model.u[rows], model.w[rows])[place]
                fine = precise_coefficients(model, rows).take(place)
                time[i, j] = arrival(
                    fine, Precise(flat[0, j]), rounded(A * value - B_exact), rounded(initial - value)
                ).double()
            limit = where(x.saddle, 0.0, x.target)
            moves = ~(x.frozen | (x.residual == 0.0))
            time = np.where((flat == limit) & moves & (time != 0.0), np.inf, time)
        return time.reshape((*self.batch, *s.shape))

    def _rowwise(self, formula: Callable[[Coefficients], Numbers]) -> Array:
        """A number of each initialisation, in mpmath where its coefficients are beyond the range of float64."""
        with np.errstate(all="ignore"):
            values = np.array(formula(self._c), dtype=np.float64)
            rows = np.flatnonzero(self._wild)
            if rows.size:
                values[rows] = formula(precise_coefficients(self._model, rows)).double()
        return values.reshape(self.batch)

    @property
    def response_moment(self) -> Array:
        """C, as given or ``B^2/A``."""
        return self._model.C.reshape(self.batch)

    @property
    def initial_rate(self) -> Array:
        """Rate ``2 c A K(0)`` at which the residual starts to decay."""
        return self._rowwise(lambda c: where(c.frozen, 0.0, 2.0 * c.loss_factor * c.A * (c.kernel_p + c.kernel_q)))

    @property
    def asymptotic_rate(self) -> Array:
        """Rate ``4 c D = 2 c A K(inf)`` at which the residual ends; 0 where the decay is algebraic or nothing moves."""
        rate: Array = self._c.rate.reshape(self.batch).copy()
        return rate

    @property
    def saturation_time(self) -> Array:
        """Time ``ln(1 + D/m) / (4 c D)`` (n instead of m if ``k B < 0``) at which the growing mode saturates."""

        def time(c: Coefficients) -> Numbers:
            mode = where(c.rising, c.m, c.n)
            growth_time = where(c.algebraic, 1.0 / mode / c.loss_factor, np.log1p(1.0 / mode) / c.rate)
            return where(mode == 0.0, np.inf, where(c.linear, 1.0 / c.rate, growth_time))

        return self._rowwise(time)

    def limit(self) -> Trajectory:
        """The trajectory at infinite time."""
        return self.at(np.inf, quantities=SCALARS)

    def curvature(self) -> Array:
        """``c A K(inf)``: gradient descent with these rates can stay at the minimum only if this is below 1.

        Notes
        -----
        In the rate-weighted metric the Hessian at the minimum has the single nonzero eigenvalue ``2 c A K``.
        """
        return np.where(self.saddle, 0.0, 0.5 * self.asymptotic_rate)

    def control_parameters(self) -> tuple[Array, Array]:
        r"""``rho = |s0|/h0`` and ``sigma = |s*|/h0`` with ``h0 = K(0)/(2|k|)``: they decide the kernel's fate.

        :math:`K_\infty/K_0 = \sqrt{1 - \rho^2 + \sigma^2}` at every width and from every start that reaches the
        target. nan where the kernel is constant or vanishes.
        """

        def over(name: str, c: Coefficients) -> Numbers:
            kernel = abs(c.gamma) * (c.P + c.Q) / c.r
            return where(c.linear | c.frozen, np.nan, abs(getattr(c, name)) / kernel)

        return self._rowwise(partial(over, "start")), self._rowwise(partial(over, "target"))

    @cached_property
    def conserved(self) -> dict[str, Array]:
        """What the flow conserves, at time 0.

        ``unbalance``: ``eta_u w_i^2 - eta_w u_i^2``, shape (.., unit); ``gram``: ``|u|^2 |w|^2 - (u . w)^2``, hence
        also ``|u||w||sin|`` of the angle; ``kernel_gap``: ``(K/2k)^2 - s^2 = h^2``; ``norm_difference``:
        ``eta_u |w|^2 - eta_w |u|^2``.
        """
        unit = unbalance(self._model)
        return {
            "unbalance": unit.reshape(*self.batch, self.width),
            "gram": self._rowwise(lambda c: c.root_gram * c.root_gram),
            "kernel_gap": self._rowwise(lambda c: np.square(c.gamma * c.root_h)),
            "norm_difference": unit.sum(axis=-1).reshape(self.batch),
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
        every ``q_i`` by ``1 + g`` (exact; theory/latent-solution, eq. lat-descent).
        """
        if steps < 0:
            raise InputError(f"steps must be at least 0, given {steps}")
        model, c, factor = self._model, self._c, 2.0 * self.loss_factor
        k = model.gamma * np.sqrt(model.eta_u) * np.sqrt(model.eta_w)
        s, moved, grown_p, grown_q = c.start, np.zeros_like(k), np.ones_like(k), np.ones_like(k)
        history = np.empty((4, len(k), steps + 1))
        with np.errstate(all="ignore"):
            for step in range(steps + 1):
                residual = model.A * s - model.B
                kernel = c.kernel_p * grown_p**2 + c.kernel_q * grown_q**2
                history[:, :, step] = s, residual, kernel, c.root_gram * grown_p * grown_q
                if step < steps:
                    g = factor * k * residual
                    moved = moved - factor * residual
                    grown_p, grown_q = grown_p * (1.0 - g), grown_q * (1.0 + g)
                    change = (c.kernel_p * (grown_p**2 - 1.0) - c.kernel_q * (grown_q**2 - 1.0)) / (2.0 * k)
                    s = c.start + where(k == 0.0, moved * kernel, change)
            u, w = self._descended(moved * model.gamma, grown_p, grown_q)
            output, residual, kernel, root_gram = history
            loss = self.loss_factor * (residual * residual / c.A[:, None] + model.floor[:, None])
            z = where(c.frozen[:, None], c.product[:, None], output / c.gamma[:, None])
            alignment = z / np.hypot(z, root_gram)
        names = ("output", "residual", "loss", "kernel", "alignment")
        histories = (output, residual, loss, kernel, alignment)
        return Descent(
            steps=np.arange(steps + 1),
            **{name: x.reshape(*self.batch, -1) for name, x in zip(names, histories, strict=True)},
            u=u.reshape(*self.batch, self.width),
            w=w.reshape(*self.batch, self.width),
            diverged=np.asarray(~np.isfinite(output).all(axis=-1)).reshape(self.batch),
        )

    def _descended(self, push: Array, grown_p: Array, grown_q: Array) -> tuple[Array, Array]:
        """Weights after descent; ``push`` moves one layer along the other where that one has rate 0."""
        model, c = self._model, self._c
        u, w = model.u.copy(), model.w.copy()
        for i in np.flatnonzero(~c.frozen).tolist():
            if c.linear[i]:
                u[i] += model.eta_u[i] * push[i] * model.w[i]
                w[i] += model.eta_w[i] * push[i] * model.u[i]
            else:
                p, q = modes(model, i)
                u[i], w[i] = (p * grown_p[i] - q * grown_q[i]) / c.r[i], p * grown_p[i] + q * grown_q[i]
        return u, w


def _normal(x: Array) -> bool:
    """Whether products of two of the numbers are right to the last digit: none is near the ends of the range."""
    size = np.abs(x)
    return bool(((size == 0.0) | (size > 1e-300) & (size < 1e300)).all())


def _left_range(name: str, exact_values: Precise, numbers: Array, at_finite_times: Flags) -> set[tuple[str, str]]:
    """How float64 numbers differ from what they stand for."""
    if name not in _RANGED:
        return set()
    over = np.isinf(numbers) & at_finite_times
    under = (np.abs(numbers) < _SMALLEST) & (exact_values != 0.0) & at_finite_times
    return {(name, way) for way, flags in (("overflow", over), ("underflow", under)) if flags.any()}
