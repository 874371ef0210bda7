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

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.precise import Numbers, where
from featurephase.foundation.types import Array
from featurephase.latent_model.coefficients import Coefficients
from featurephase.latent_model.model import check_times
from featurephase.latent_model.motion import Motion, product, scalars
from featurephase.latent_model.solution import Flow

#: The four parts of the budget of ln K, in the order in which they are drawn.
NAMES = ("alignment", "growth", "disalignment", "shrinkage")


@dataclass(frozen=True, kw_only=True)
class Mechanisms:
    """The budget from the start to each time; arrays have the shape of the initialisations followed by the times'.

    With unbalanced layers the small one may turn completely while K, and with it the budget, hardly moves: look at the
    relative motions too.
    """

    times: Array  # infinity included, any shape
    alignment: Array  # parts of log_kernel_ratio: alignment and growth are at least 0, the others at most 0
    disalignment: Array
    growth: Array
    shrinkage: Array
    log_kernel_ratio: Array  # ln K(t)/K(0); 0 where nothing moves, -inf at a saddle in the limit
    output_angle: Array  # what of the change of the output came by rotation
    output_scale: Array  # .. and by change of norms
    start_alignment: Array  # cosine of the angle between u and w at time 0; nan where one of them vanishes
    end_alignment: Array  # the same at the time
    norm_ratio: Array  # |u||w| at the time over its value at 0
    relative_motion_u: Array  # |u(t) - u(0)|/|u(0)|
    relative_motion_w: Array


_MOTIONS = ("relative_motion_u", "relative_motion_w")
_EVALUATED = tuple(f.name for f in fields(Mechanisms) if f.name not in ("times", "start_alignment"))


def mechanisms(flow: Flow, times: ArrayLike) -> Mechanisms:
    """The budget of the kernel's and the output's change, from 0 to each time: >= 0, infinity included, any shape.

    Raises
    ------
    InputError
        If a time is negative or nan.
    """
    t = check_times(times)
    start = flow.at(0.0, quantities=("alignment",)).alignment
    values, _ = flow.evaluate(_budget, _EVALUATED, t)
    start = np.broadcast_to(start[(..., *(None,) * t.ndim)], (*flow.batch, *t.shape))
    return Mechanisms(times=t, start_alignment=start, **values)


def _budget(c: Coefficients, x: Motion) -> dict[str, Numbers]:
    r"""Everything at one time, from :math:`z = u \cdot w` at the start and then; its size falls, rises or does both."""
    z0, z1, dz = c.product, product(c, x), c.shift * x.moved
    start, end, step = abs(z0) + 0.0 * dz, abs(z1), abs(dz)
    crosses = np.sign(z0) * np.sign(z1) < 0.0
    rises = (np.sign(z0) + np.sign(z1)) * np.sign(dz) > 0.0
    rise, turn_up = _piece(c, where(crosses, 0.0, start), end, where(crosses, end, where(rises, step, 0.0)))
    fall, turn_down = _piece(c, where(crosses, 0.0, end), start, where(crosses, start, where(rises, 0.0, step)))
    G, ends = c.root_gram * c.root_gram, scalars(("alignment", *_MOTIONS), c, x)
    sine = where(G == 0.0, 1.0, c.root_gram)
    angle = c.gamma * c.root_gram * np.arctan2(dz, sine + z0 * z1 / sine)
    norms = (z1 * z1 + G) / (z0 * z0 + G)
    return {
        "alignment": turn_up,
        "growth": np.maximum(rise - turn_up, 0.0),
        "disalignment": -turn_down,
        "shrinkage": -np.maximum(fall - turn_down, 0.0),
        "log_kernel_ratio": rise - fall,
        "output_angle": angle,
        "output_scale": c.gamma * dz - angle,
        "norm_ratio": np.sqrt(norms),
        "end_alignment": ends["alignment"],
        **{name: ends[name] for name in _MOTIONS},
    }


def _piece(c: Coefficients, low: Numbers, high: Numbers, difference: Numbers) -> tuple[Numbers, Numbers]:
    r"""Change of :math:`\ln K` and its rotational part while :math:`|z|` rises from ``low`` to ``high``.

    theory/latent-mechanisms, eqs. mec-kernel, mec-turning: :math:`\tfrac12 \ln\frac{z_1^2+H}{z_0^2+H}` and :math:`\int
    (1-\zeta^2) d\ln K = \frac{G}{2(H-G)} \ln(1+v)`, :math:`v = \frac{(z_1^2-z_0^2)(H-G)}{(z_1^2+H)(z_0^2+G)} \ge 0`,
    :math:`H - G = (2R/r)^2`.
    """
    still = (difference == 0.0) | c.linear | c.frozen
    squares = where(still, 0.0, difference * (high + low))
    G, H = c.root_gram * c.root_gram, c.root_h * c.root_h
    below, above = low * low + G, squares / where(still, 1.0, high * high + H)
    below = where(below == 0.0, 1.0, below)
    total = 0.5 * np.log1p(squares / where(still, 1.0, low * low + H))
    v = above * (c.unbalance * c.unbalance / below)
    return total, 0.5 * (G / below) * above * where(v == 0.0, 1.0, np.log1p(v) / where(v == 0.0, 1.0, v))


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
