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

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError
from featurephase.foundation.precise import Numbers, Precise, exact, exact_dot, rounded, where
from featurephase.foundation.types import Array
from featurephase.latent_model.coefficients import Coefficients, cancelled, modes, precise_coefficients, precise_modes
from featurephase.latent_model.coefficients import unbalance as unbalances
from featurephase.latent_model.model import Flags, Model, check_times, finite
from featurephase.latent_model.motion import SCALARS, Evaluation, Trajectory, arrival, growth
from featurephase.latent_model.motion import scalars as trajectory_scalars

__all__ = ["Descent", "Flow", "Trajectory"]

_DEFAULT = ("output", "residual", "loss", "excess_loss", "kernel", "alignment", "misalignment", "log_xi")


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Full-batch gradient descent (step 1, the rates are the step sizes), beside the flow of the same model."""

    steps: NDArray[np.int64]  # 0, 1, 2 .., shape (step,)
    output: Array  # shape of the initialisations followed by (step,), as the next four
    residual: Array
    loss: Array
    kernel: Array
    alignment: Array
    u: Array  # weights at the last step: shape of the initialisations followed by (unit,)
    w: Array
    diverged: Flags  # whether numbers left the range of float64, one per initialisation


class Flow:
    """Gradient flow of the latent-variable model from one or many initialisations (arXiv:2401.07085, section 3).

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
    evaluate
        Quantities by a formula: see :class:`~featurephase.latent_model.motion.Evaluation`.

    Raises
    ------
    InputError
        If shapes disagree, a number is not finite, a rate, A or C is negative, or ``B^2 > A C``.
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
        scalars = {"eta_u": eta_u, "eta_w": eta_w, "second_moment": second_moment, "cross_moment": cross_moment}
        self._model = x = Model.of(u, w, response_moment, loss_factor, saddle_tolerance, gamma=gamma, **scalars)
        self.batch, self.width, self.loss_factor = x.batch, x.u.shape[-1], x.loss_factor
        self.evaluate = Evaluation(x)
        self._c, self._wild = self.evaluate.c, self.evaluate.wild
        self.saddle: Flags = self._c.saddle.reshape(self.batch)
        self.frozen: Flags = (self._c.frozen & ~self._c.saddle).reshape(self.batch)
        self.linear: Flags = self._c.linear.reshape(self.batch)
        self.parallel: Flags = (self._c.root_gram == 0.0).reshape(self.batch)

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
        values, out_of_range = self.evaluate(partial(trajectory_scalars, wanted), wanted, t, pairwise=not grid)
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
        path, _ = self.evaluate(growth, ("up", "down", "near"), t.reshape(-1))
        up, down, near = (x.reshape(len(self._wild), -1) for x in path.values())
        with np.errstate(all="ignore"):
            u, w, safe = self._combined(up, down, near != 0.0)
            for i in np.flatnonzero((self._wild | ~safe) & ~self._c.frozen):
                fine = self.evaluate.precisely(growth, np.full(t.size, i), t.reshape(-1))
                rise, fall = fine["up"][:, None], fine["down"][:, None]
                parts = precise_modes(self._model, np.full(self.width, i), np.arange(self.width))
                u[i], w[i] = (parts[0] * rise - parts[1] * fall).double(), (parts[2] * rise + parts[3] * fall).double()
                u[i, near[i] != 0.0] += self._model.u[i]
                w[i, near[i] != 0.0] += self._model.w[i]
        shape = (*self.batch, *t.shape, self.width)
        return u.reshape(shape), w.reshape(shape)

    def _combined(self, up: Array, down: Array, near: Flags) -> tuple[Array, Array, Flags]:
        """u and w (row, time, unit) from the factors of the modes; in the last, whether a row's modes are in range."""
        parts, safe = modes(self._model)
        u = np.matmul(np.stack([up, -down], axis=-1), parts[:2].swapaxes(0, 1))
        w = np.matmul(np.stack([up, down], axis=-1), parts[2:].swapaxes(0, 1))
        for x, start in ((u, self._model.u[:, None]), (w, self._model.w[:, None])):
            np.add(x, start, out=x, where=near[..., None])
            x[self._c.frozen] = start[self._c.frozen]
        return u, w, safe

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

    @property
    def response_moment(self) -> Array:
        """C, as given or ``B^2/A``."""
        return self._model.C.reshape(self.batch)

    @property
    def initial_rate(self) -> Array:
        """Rate ``2 c A K(0)`` at which the residual starts to decay."""
        return self.evaluate.rowwise(
            lambda c: where(c.frozen, 0.0, 2.0 * c.loss_factor * c.A * (c.kernel_p + c.kernel_q))
        )

    @property
    def asymptotic_rate(self) -> Array:
        """Rate ``4 c D = 2 c A K(inf)`` at which the residual ends; 0 where the decay is algebraic or nothing moves."""
        return np.array(self._c.rate.reshape(self.batch))

    @property
    def saturation_time(self) -> Array:
        """Time ``ln(1 + D/m) / (4 c D)`` (n instead of m if ``k B < 0``) at which the growing mode saturates."""

        def time(c: Coefficients) -> Numbers:
            mode = where(c.rising, c.m, c.n)
            growth_time = where(c.algebraic, 1.0 / mode / c.loss_factor, np.log1p(1.0 / mode) / c.rate)
            return where(mode == 0.0, np.inf, where(c.linear, 1.0 / c.rate, growth_time))

        return self.evaluate.rowwise(time)

    def limit(self) -> Trajectory:
        """The trajectory at infinite time."""
        return self.at(np.inf, quantities=SCALARS)

    def curvature(self) -> Array:
        """``c A K(inf)``: gradient descent with these rates can stay at the minimum only if this is below 1.

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

        return self.evaluate.rowwise(partial(over, "start")), self.evaluate.rowwise(partial(over, "target"))

    @cached_property
    def conserved(self) -> dict[str, Array]:
        """What the flow conserves, at time 0.

        ``unbalance``: ``eta_u w_i^2 - eta_w u_i^2``, shape (.., unit); ``gram``: ``|u|^2 |w|^2 - (u . w)^2``, hence
        also ``|u||w||sin|`` of the angle; ``kernel_gap``: ``(K/2k)^2 - s^2 = h^2``; ``norm_difference``:
        ``eta_u |w|^2 - eta_w |u|^2``.
        """
        model = self._model
        unit = unbalances(model)
        if model.saddle_tolerance > 0.0:  # an absent mode leaves nothing
            both = self.evaluate.rowwise(lambda c: where((c.P == 0.0) | (c.Q == 0.0), 0.0, np.ones_like(c.P)))
            unit *= both.reshape(-1, 1)
        gamma = model.gamma.reshape(self.batch)
        return {
            "unbalance": unit.reshape(*self.batch, self.width),
            "gram": self.evaluate.rowwise(lambda c: c.root_gram * c.root_gram),
            "kernel_gap": self.evaluate.rowwise(lambda c: np.square(c.gamma * c.root_h)) * (gamma != 0.0),
            "norm_difference": unit.sum(axis=-1).reshape(self.batch),
        }

    def descend(self, steps: int) -> Descent:
        """Full-batch gradient descent with step 1 and the same rates: the discrete map beside the flow.

        With ``g = 2 c k (A s - B)``, one step multiplies every ``p_i`` by ``1 - g`` and every ``q_i`` by ``1 + g``
        (exact; theory/latent-solution, eq. lat-descent), so that the map closes on two scalars.

        Raises
        ------
        InputError
            If ``steps`` is negative.
        """
        if steps < 0:
            raise InputError(f"steps must be at least 0, given {steps}")
        model, c = self._model, self._c
        factor, k = 2.0 * model.loss_factor, 0.5 * c.twice_k
        s, pushed, grown_p, grown_q = c.start, np.zeros_like(k), np.ones_like(k), np.ones_like(k)
        history = np.empty((4, len(k), steps + 1))
        with np.errstate(all="ignore"):
            for step in range(steps + 1):
                residual = model.A * s - model.B
                kernel = c.kernel_p * grown_p**2 + c.kernel_q * grown_q**2
                history[:, :, step] = s, residual, kernel, c.root_gram * grown_p * grown_q
                if step < steps:
                    g = factor * k * residual
                    pushed = pushed - factor * residual
                    grown_p, grown_q = grown_p * (1.0 - g), grown_q * (1.0 + g)
                    change = (c.kernel_p * (grown_p**2 - 1.0) - c.kernel_q * (grown_q**2 - 1.0)) / c.twice_k
                    s = c.start + np.where(k == 0.0, pushed * kernel, change)
            alone = pushed * model.gamma * np.maximum(model.eta_u, model.eta_w)  # moves one layer along the other
            up = np.where(c.linear, alone, grown_p)
            u, w, _ = self._combined(up[:, None], grown_q[:, None], c.linear[:, None])
            output, residual, kernel, root_gram = history
            loss = model.loss_factor * (residual * residual / c.A[:, None] + model.floor[:, None])
            z = np.where(c.frozen[:, None], c.product[:, None], output / c.gamma[:, None])
            alignment = z / np.hypot(z, root_gram)
        arrays = {"output": output, "residual": residual, "loss": loss, "kernel": kernel, "alignment": alignment}
        return Descent(
            steps=np.arange(steps + 1),
            **{name: x.reshape(*model.batch, -1) for name, x in (arrays | {"u": u, "w": w}).items()},
            diverged=np.asarray(~np.isfinite(output).all(axis=-1)).reshape(model.batch),
        )
