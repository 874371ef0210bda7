r"""By which mechanism the latent-variable model learns: turning its layers, or scaling them.

The output is :math:`s = k \zeta N` with :math:`\zeta` the cosine of the angle between u and w and N the product of
their norms. Along the flow a fraction :math:`1 - \zeta^2` of every motion is rotation and :math:`\zeta^2` is change
of norm, in the output and in :math:`\ln K` alike; integrated, this splits the change of the kernel into

* **alignment** (rotation while :math:`|\zeta|` rises, at least 0) and **disalignment** (while it falls, at most 0),
* **growth** (change of norm while :math:`|\zeta|` rises, at least 0) and **shrinkage** (while it falls, at most 0),

which sum to :math:`\ln K(t)/K(0)`. The three mechanisms are those of arXiv:2401.07085; that they form an exact
budget is this project's observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.latent_model.solution import Flow
from featurephase.latent_model.wide import Wide, where

__all__ = ["NAMES", "Mechanisms", "mechanisms", "regime"]

Floats = NDArray[np.float64]

#: The four parts of the budget of ln K, in the order in which they are drawn.
NAMES = ("alignment", "growth", "disalignment", "shrinkage")


@dataclass(frozen=True, kw_only=True)
class Mechanisms:
    """The budget from the start to each time; arrays have the shape of the initialisations followed by the times'.

    Attributes
    ----------
    times
        Times, infinity included.
    alignment, disalignment, growth, shrinkage
        Parts of ``log_kernel_ratio``; the first and third are at least 0, the others at most 0.
    log_kernel_ratio
        ``ln K(t)/K(0)``; 0 where nothing moves, -inf at a saddle in the limit.
    output_angle, output_scale
        Parts of the change of the output that came by rotation and by change of norms.
    start_alignment, end_alignment
        Cosine of the angle between u and w at time 0 and at the time; nan where one of them vanishes.
    norm_ratio
        ``|u||w|`` at the time over its value at 0.
    relative_motion_u, relative_motion_w
        ``|u(t) - u(0)|/|u(0)|`` and the same for w. With unbalanced layers the small one may turn completely while K,
        and with it the budget, hardly moves: look at both.
    """

    times: Floats
    alignment: Floats
    disalignment: Floats
    growth: Floats
    shrinkage: Floats
    log_kernel_ratio: Floats
    output_angle: Floats
    output_scale: Floats
    start_alignment: Floats
    end_alignment: Floats
    norm_ratio: Floats
    relative_motion_u: Floats
    relative_motion_w: Floats


def _log1p_ratio(v: Wide) -> Wide:
    """``log(1 + v) / v`` for ``v >= 0``, 1 at 0."""
    v = v.normalised()
    one = Wide(np.ones_like(v.m), np.zeros_like(v.e))
    tiny = (v.m == 0.0) | (v.e < -60)
    safe = where(tiny, one, v)
    return where(tiny, one, Wide.of(safe.log1p()) / safe)


def _piece(low: Wide, high: Wide, difference: Wide, G: Wide, H: Wide, unbalance: Wide) -> tuple[Floats, Floats]:
    r"""Change of :math:`\ln K` and its rotational part while :math:`|z|` rises from ``low`` to ``high``.

    Theory: :math:`\tfrac12 \ln\frac{z_1^2+H}{z_0^2+H}` and :math:`\int (1-\zeta^2) d\ln K = \frac{G}{2(H-G)} \ln(1+v)`,
    :math:`v = \frac{(z_1^2-z_0^2)(H-G)}{(z_1^2+H)(z_0^2+G)} \ge 0`; here without the difference ``H - G = 4 R^2``.
    """
    nothing = difference.m == 0.0
    one = Wide(np.ones_like(difference.m), np.zeros_like(difference.e))
    squares = difference * (high + low)
    bottom = low * low + H
    total = 0.5 * (squares / where(nothing, one, bottom)).normalised().log1p()
    turns = (low * low + G) * (high * high + H)
    safe = where(nothing | (G.m == 0.0), one, turns)
    part = squares / safe
    rotation = (Wide.of(0.5) * G * part * _log1p_ratio(part * unbalance)).to_float()
    rotation = np.where(nothing, 0.0, rotation)
    return np.where(nothing, 0.0, total), rotation


def _angle(G: Wide, z0: Wide, z1: Wide, dz: Wide) -> Wide:
    """Angle by which ``(z, sqrt(G))`` turns between z0 and z1; small angles keep their relative accuracy."""
    y, x = (G.sqrt() * dz).normalised(), (G + z0 * z1).normalised()
    small = (x.m > 0.0) & ((y.m == 0.0) | (y.e < x.e - 60))
    e = np.maximum(np.where(y.m == 0.0, x.e, y.e), np.where(x.m == 0.0, y.e, x.e))
    turn = np.arctan2(Wide(y.m, y.e - e).to_float(), Wide(x.m, x.e - e).to_float())
    return where(small, y / where(small, x, Wide.of(np.ones(x.shape))), Wide.of(turn))


def mechanisms(flow: Flow, times: ArrayLike) -> Mechanisms:
    """The budget of the kernel's and the output's change, from time 0 to each time.

    Parameters
    ----------
    flow
        One or many initialisations.
    times
        Times >= 0, infinity included, any shape.

    Raises
    ------
    InputError
        If a time is negative or nan.
    """
    x = flow.at(times, quantities=("alignment", "relative_motion_u", "relative_motion_w"))
    start = flow.at(0.0, quantities=("alignment",)).alignment
    shape = x.alignment.shape
    z0, z1, dz, G, H, unbalance, gamma, constant = flow.path(x.times)
    with np.errstate(all="ignore"):
        zero = Wide(np.zeros_like(z1.m), np.zeros_like(z1.e))
        z0, G, H, unbalance, gamma = (y + zero for y in (z0, G, H, unbalance, gamma))
        size0, size1, step = abs(z0), abs(z1), abs(dz)
        crosses = z0.sign() * z1.sign() < 0.0
        rises = (z0.sign() + z1.sign()) * dz.sign() > 0.0
        falls = ~crosses & ~rises
        rise = _piece(
            where(crosses, zero, size0),
            size1,
            where(crosses, size1, where(rises, step, zero)),
            G,
            H,
            unbalance,
        )
        fall = _piece(
            where(crosses, zero, size1),
            size0,
            where(crosses, size0, where(falls, step, zero)),
            G,
            H,
            unbalance,
        )
        (rise_total, alignment), (fall_total, disalignment) = (
            tuple(np.where(constant, 0.0, part) for part in piece) for piece in (rise, fall)
        )
        angle = gamma * G.sqrt() * _angle(G, z0, z1, dz)
        scale = gamma * dz - angle
        norms = (z1 * z1 + G) / where((z0.m == 0.0) & (G.m == 0.0), zero, z0 * z0 + G)
        ratio = norms.normalised().sqrt().to_float()
    return Mechanisms(
        times=x.times,
        alignment=alignment.reshape(shape),
        disalignment=(0.0 - disalignment).reshape(shape),
        growth=np.maximum(rise_total - alignment, 0.0).reshape(shape),
        shrinkage=(0.0 - np.maximum(fall_total - disalignment, 0.0)).reshape(shape),
        log_kernel_ratio=(rise_total - fall_total).reshape(shape),
        output_angle=angle.to_float().reshape(shape) + 0.0,
        output_scale=scale.to_float().reshape(shape) + 0.0,
        start_alignment=np.broadcast_to(start[(..., *(None,) * x.times.ndim)], shape),
        end_alignment=x.alignment,
        norm_ratio=ratio.reshape(shape),
        relative_motion_u=x.relative_motion_u,
        relative_motion_w=x.relative_motion_w,
    )


def regime(flow: Flow) -> str:
    """What one initialisation does, in words; "much" means a factor 10.

    Raises
    ------
    ValueError
        If ``flow`` holds several initialisations.
    """
    if flow.batch != ():
        raise ValueError("regime describes one initialisation; this flow holds several")
    if flow.frozen:
        return "frozen: nothing ever moves"
    if flow.saddle:
        return (
            "saddle: u and w are opposed exactly where the target would need them parallel (or both vanish); "
            "the flow ends at u = w = 0 without having learned"
        )
    if flow.linear:
        return "linear: one layer has rate 0, so the kernel is constant and the output relaxes exponentially"
    rho, sigma = (float(x) for x in flow.control_parameters())
    end = mechanisms(flow, np.inf)
    change = float(end.log_kernel_ratio)
    small_layer = max(float(end.relative_motion_u), float(end.relative_motion_w))
    if sigma < 0.1 and rho < 0.1:
        words = "kernel phase: the output moves by an infinitesimal rotation and the kernel stays"
        if small_layer > 1.0:
            words += "; the smaller layer nevertheless moves by more than its own size, which the kernel does not show"
        return words
    if flow.parallel:
        return f"pure rescaling: u and w are parallel and only their norms change (ln K by {change:.3g})"
    if sigma > 10.0:
        return (
            "small initialisation: the layers first align, then grow "
            f"(alignment {float(end.alignment):.3g}, growth {float(end.growth):.3g} of ln K)"
        )
    if sigma < 0.1:
        return (
            "disalignment: the initial output is much too large, the layers turn away from each other and shrink "
            f"(ln K changes by {change:.3g})"
        )
    strongest = max(NAMES, key=lambda name: abs(float(getattr(end, name))))
    return f"feature learning of order one: ln K changes by {change:.3g}, most of it by {strongest}"
