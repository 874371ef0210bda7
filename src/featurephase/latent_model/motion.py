"""The closed form at given times, in float64, and in mpmath where that is not enough; symbols in :mod:`.solution`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.precise import Numbers, Precise, where
from featurephase.foundation.types import Array
from featurephase.latent_model.coefficients import Coefficients, coefficients, precise_coefficients, precise_rate
from featurephase.latent_model.model import Flags, Model

#: Stands for infinite time in precise numbers, in units of 1/(4 c D): ratios of vanishing numbers keep their meaning.
_ENDLESS: Numbers = np.exp(Precise(1e4))
#: Below every product of float64 numbers, above exp(-_ENDLESS).
_VANISHED: Numbers = np.exp(Precise(-1e5))

#: Points evaluated at once: their intermediate arrays stay in cache.
_BLOCK = 16384
#: Earlier than this in units of 1/(4 c D), products with coefficients down to 1e-70 may underflow.
_EARLIEST = 1e-70
#: Later than this, exp(-4 c D t) magnifies the rounding of D: there D is formed with more digits.
_LATE = 100.0
_SMALLEST, _LARGEST = np.finfo(np.float64).tiny, np.finfo(np.float64).max
#: Quantities of which it is said when they leave the range.
_RANGED = frozenset({"output", "residual", "loss", "excess_loss", "kernel"})

#: What goes to 0, or what is left of it.
_DECAYING = frozenset({"residual", "loss", "excess_loss"})


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Scalars of the flow on a grid; every array has the shape of the initialisations followed by that of the times.

    A number beyond the range of float64 is 0 or infinite; ``out_of_range`` says to which quantities this happened.
    """

    times: Array  # infinity included, any shape
    output: Array  # s: the network's output per unit of latent input, f = s a
    residual: Array  # A s - B: half the slope of the loss in s (for loss factor 1), with full relative accuracy
    loss: Array  # c E (f - y)^2
    excess_loss: Array  # what of it training can remove, with full relative accuracy
    kernel: Array  # K: the learning-rate weighted neural tangent kernel per a a'
    alignment: Array  # zeta: cosine of the angle between u and w; nan where one of them vanishes
    misalignment: Array  # 1 - zeta^2 with full relative accuracy
    log_xi: Array  # logarithm of the scalar that carries the motion
    relative_motion_u: Array  # |u(t) - u(0)| / |u(0)|: how far the layer has moved
    relative_motion_w: Array
    out_of_range: dict[str, str]  # left the range at some finite time: name -> "overflow", "underflow" or "both"


#: What :func:`scalars` gives.
SCALARS = tuple(f.name for f in fields(Trajectory) if f.name not in ("times", "out_of_range"))


class Motion(NamedTuple):
    """What has happened by some time: N, M, moved and phi of the table; keep is ``left * right``."""

    N: Numbers
    M: Numbers
    left: Numbers  # sqrt(E)/N; keep itself may underflow where the residual does not
    right: Numbers  # sqrt(E)/M
    moved: Numbers
    phi: Numbers
    endless: Flags  # whether the time is infinite


#: Quantities of the coefficients and the motion by their names; must hold for float64 and for precise numbers.
Formula: TypeAlias = Callable[[Coefficients, Motion], dict[str, Numbers]]


def motion(c: Coefficients, times: Numbers, endless: Flags) -> Motion:
    """At finite times; ``endless`` says which of them stand for infinity."""
    x = c.rate * times
    precise = isinstance(x, Precise)
    if precise:
        x = where(endless & (c.rate > 0.0), _ENDLESS, x)
    half = np.exp(-0.5 * x)  # its square E may underflow where N, M, keep and moved do not
    phi = -np.expm1(-x)
    if precise and c.algebraic.any():
        phi = where(c.algebraic, where(endless, np.exp(_ENDLESS), times * c.loss_factor), phi)
    E = half * half
    N, M = E + c.n * phi, E + c.m * phi
    return Motion(N, M, half / N, half / M, phi * (E * c.total + c.n * c.m * phi) / (N * M), phi, endless)


def _log_xi(c: Coefficients, x: Motion) -> Numbers:
    change = c.drift * x.phi
    return where(change > 0.0, np.log1p(abs(change) / x.M), -np.log1p(abs(change) / x.N))


def _output(c: Coefficients, x: Motion) -> Numbers:
    """``s``."""
    start, end = c.start * x.left * x.right, c.target * x.moved
    s = start + end
    if c.opposed.any():  # near the saddle these terms cancel, those of k (P xi - Q/xi) do not
        p, q = c.kernel_p * (x.N / x.M) / c.twice_k, c.kernel_q * (x.M / x.N) / c.twice_k
        s = where(c.opposed & (abs(p) + abs(q) < abs(start) + abs(end)), p - q, s)
    return s


def product(c: Coefficients, x: Motion) -> Numbers:
    """``u . w``."""
    z = _output(c, x) / c.gamma
    return where(c.frozen, c.product, z) if c.frozen.any() else z


def _angle(c: Coefficients, x: Motion) -> tuple[Numbers, Numbers]:
    """``zeta`` and ``1 - zeta^2``; nan where a layer is or tends to 0."""
    z = product(c, x)
    norms = np.sqrt(z * z + c.root_gram * c.root_gram)
    tends = x.endless & (norms < _VANISHED) if isinstance(norms, Precise) else False
    norms = where((norms == 0.0) | tends, np.nan, norms)
    return z / norms, np.square(c.root_gram / norms)


def _relative_motion(c: Coefficients, x: Motion) -> tuple[Numbers, Numbers]:
    r"""``|u(t) - u(0)|/|u(0)|`` and the same for w.

    With :math:`a = \sqrt\xi - 1`, :math:`b = 1/\sqrt\xi - 1` (opposite signs), :math:`|\Delta w|^2 = P a^2 + 2 R a b +
    Q b^2 = (\sqrt P a + \sqrt Q b)^2 - 2 a b (\sqrt{PQ} - R)`, a sum of terms of one sign; for r u, R changes sign.
    """
    half = 0.5 * _log_xi(c, x)
    a, b = np.expm1(half), np.expm1(-half)
    p, q, cross = np.sqrt(c.P) * a, np.sqrt(c.Q) * b, abs(c.unbalance) + c.root_h
    gap = c.root_gram * c.root_gram / where(cross == 0.0, 1.0, cross)
    split = np.sqrt(np.square(p + q) - a * b * c.r * gap)
    plain = np.sqrt(p * p + q * q - a * b * c.r * abs(c.unbalance))
    shift_w, shift_u = where(c.unbalance >= 0.0, split, plain), where(c.unbalance >= 0.0, plain, split) / c.r
    if c.linear.any():  # the moving layer moves along the other one
        change = abs(c.shift) * x.moved
        shift_w = where(c.linear, where(c.moves_w, change / c.norm_u, 0.0), shift_w)
        shift_u = where(c.linear, where(c.moves_w, 0.0, change / c.norm_w), shift_u)
    return _ratio(shift_u, c.norm_u), _ratio(shift_w, c.norm_w)


def _ratio(shift: Numbers, norm: Numbers) -> Numbers:
    """Of a motion to the size of what moves; infinite where that was 0."""
    start = where(shift == 0.0, np.nan, np.inf)
    return where(norm == 0.0, start, shift / where(norm == 0.0, 1.0, norm))


def scalars(wanted: tuple[str, ...], c: Coefficients, x: Motion) -> dict[str, Numbers]:
    """Quantities of a trajectory."""
    values: dict[str, Numbers] = {}
    if not _DECAYING.isdisjoint(wanted):
        values["residual"] = residual = c.residual * x.left * x.right
        values["excess_loss"] = c.loss_factor * residual / c.A * residual
        values["loss"] = values["excess_loss"] + c.loss_factor * c.floor
    if "kernel" in wanted:
        xi = x.N / x.M
        values["kernel"] = c.kernel_p * xi + c.kernel_q / xi
    if "output" in wanted:
        values["output"] = _output(c, x)
    if "alignment" in wanted or "misalignment" in wanted:
        values["alignment"], values["misalignment"] = _angle(c, x)
    if "log_xi" in wanted:
        values["log_xi"] = _log_xi(c, x)
    if "relative_motion_u" in wanted or "relative_motion_w" in wanted:
        values["relative_motion_u"], values["relative_motion_w"] = _relative_motion(c, x)
    return values


def growth(c: Coefficients, x: Motion) -> dict[str, Numbers]:
    """``sqrt(xi)`` and its inverse, each minus 1 where xi is ``near`` 1: factors of the modes.

    Where one rate is 0, what the moving layer takes of the other: ``u . w`` changes by moved * shift.
    """
    half = 0.5 * _log_xi(c, x)
    near = abs(half) < 0.5
    up = where(near, np.expm1(half), np.sqrt(x.N / x.M))
    down = where(near, np.expm1(-half), np.sqrt(x.M / x.N))
    if c.linear.any():
        still = where(c.linear, where(c.moves_w, c.norm_u, c.norm_w), 1.0)
        up = where(c.linear, x.moved * (c.shift / still) / still, up)
    return {"up": up, "down": down, "near": where(near, np.ones_like(up), 0.0)}


def arrival(c: Coefficients, s: Numbers, residual: Numbers, gap: Numbers) -> Numbers:
    """The time at which the output is ``s``, from ``A s - B`` and ``s0 - s``; nan if it never is, 0 at the start.

    With ``y = exp(4 c D t) - 1`` the residual kept is ``rho = (1 + y) / ((1 + n y)(1 + m y))``: a quadratic with one
    positive root, taken in the form that does not cancel.
    """
    rho, done = residual / c.residual, c.A * gap / c.residual  # done = 1 - rho
    linear_term = where(c.algebraic, rho * (c.n + c.m), rho * c.total - done)
    linear_term = where(c.linear, rho, linear_term)
    quadratic = where(c.linear, 0.0, rho * c.n * c.m)
    root = np.sqrt(linear_term * linear_term + 4.0 * quadratic * done) + abs(linear_term)
    y = where(linear_term >= 0.0, 2.0 * done / root, root / (2.0 * quadratic))
    time = where(c.algebraic, y / c.loss_factor, np.log1p(y) / c.rate)
    reached = (rho > 0.0) & (done > 0.0) & ~c.frozen
    reached &= ~c.saddle | (np.sign(s) * np.sign(c.start) > 0.0)  # it stops short of the target, at output 0
    return where(gap == 0.0, 0.0, where(reached, time, np.nan))


class Evaluation:
    """Evaluation of formulas for one model, at all times or row by row."""

    def __init__(self, model: Model) -> None:
        self.model = model
        # All of the wild rows is done in mpmath: their coefficients are beyond the range of float64.
        self.c, fine, self.wild = coefficients(model)
        self._fine_rate = np.where(fine, self.c.rate, np.nan)  # with more digits, once it is needed

    def __call__(
        self, formula: Formula, names: tuple[str, ...], times: Array, pairwise: bool = False
    ) -> tuple[dict[str, Array], dict[str, str]]:
        """What a formula gives under some names, shape: initialisations, times; and ``out_of_range`` of a trajectory.

        Every initialisation is evaluated at every time; with ``pairwise`` there is one time for each.
        """
        if not names:
            return {}, {}
        t = times.reshape((-1, 1) if pairwise else (1, -1))
        rows, count = len(self.wild), t.shape[1]
        values, ways = {name: np.empty((rows, count)) for name in names}, set[tuple[str, str]]()
        step = max(_BLOCK // max(count, 1), 1)
        with np.errstate(all="ignore"):
            c = self._with_rates(t, not _DECAYING.isdisjoint(names))
            for i in range(0, rows, step):
                for j in range(0, count, _BLOCK):
                    lines, columns = slice(i, i + step), slice(j, j + _BLOCK)
                    part = t[lines if pairwise else slice(None), columns]
                    block = {name: x[lines, columns] for name, x in values.items()}
                    ways |= self._fill(block, formula, c.take((lines, None)), np.arange(rows)[lines], part)
        shape = self.model.batch if pairwise else (*self.model.batch, *times.shape)
        beyond = {name: [way for other, way in ways if other == name] for name in names}
        return (
            {name: x.reshape(shape) for name, x in values.items()},
            {name: way[0] if len(way) == 1 else "both" for name, way in beyond.items() if way},
        )

    def _with_rates(self, t: Array, decays: bool) -> Coefficients:
        """The coefficients, with more digits of D where exp(-4 c D t) is wanted at late times."""
        c = self.c
        last = where(np.isinf(t), 0.0, t).max(axis=1, initial=0.0)
        late = (c.rate * last > _LATE) & ~self.wild & (decays | (c.target == 0.0))
        if not late.any():
            return c
        rows = np.flatnonzero(late & np.isnan(self._fine_rate))
        if rows.size:
            self._fine_rate[rows] = precise_rate(self.model, rows)
        return replace(c, rate=where(late, self._fine_rate, c.rate))

    def _fill(
        self, values: dict[str, Array], formula: Formula, c: Coefficients, rows: NDArray[np.intp], t: Array
    ) -> set[tuple[str, str]]:
        """Fill one block of ``values`` (rows, times); returns which quantities left the range, and how."""
        shape, ways = next(iter(values.values())).shape, set[tuple[str, str]]()
        new = formula(c, motion(c, np.minimum(t, _LARGEST), np.isinf(t)))
        lost = np.broadcast_to(self.wild[rows, None], shape)
        if (t[t > 0.0].min(initial=np.inf) * c.rate < _EARLIEST).any():
            lost = lost | (t > 0.0) & (c.rate > 0.0) & (t * c.rate < _EARLIEST)
        for name, array in values.items():
            np.add(new[name], 0.0, out=array)  # no -0.0
            if not (known := np.isfinite(array)).all():
                lost = lost | ~known
            alive = (c.residual != 0.0) & (_DECAYING.issuperset({name}) | (c.start != 0.0) & (c.target == 0.0))
            if name in _RANGED and alive.any() and (np.abs(array) < _SMALLEST)[alive & np.isfinite(t) & ~lost].any():
                ways.add((name, "underflow"))
        if lost.any():
            i, j = np.nonzero(lost)
            times = np.broadcast_to(t, shape)[i, j]
            for name, fine in self.precisely(formula, rows[i], times).items():
                if name in values:
                    values[name][i, j] = numbers = fine.double() + 0.0
                    over, under = np.isinf(numbers), (np.abs(numbers) < _SMALLEST) & (fine != 0.0)
                    beyond = {"overflow": over, "underflow": under} if name in _RANGED else {}
                    ways |= {(name, way) for way, flags in beyond.items() if flags[np.isfinite(times)].any()}
        return ways

    def precisely(self, formula: Formula, rows: NDArray[np.intp], times: Array) -> dict[str, Precise]:
        """The formula in mpmath, at pairs of a row and a time."""
        distinct, place = np.unique(rows, return_inverse=True)
        c = precise_coefficients(self.model, distinct).take(place)
        return formula(c, motion(c, Precise(np.minimum(times, _LARGEST)), np.isinf(times)))

    def rowwise(self, formula: Callable[[Coefficients], Numbers]) -> Array:
        """A number of each initialisation, in mpmath where its coefficients are beyond the range of float64."""
        with np.errstate(all="ignore"):
            values = np.array(formula(self.c), dtype=np.float64)
            rows = np.flatnonzero(self.wild)
            if rows.size:
                values[rows] = formula(precise_coefficients(self.model, rows)).double()
        return values.reshape(self.model.batch)
