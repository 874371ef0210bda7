"""Table and figure of one trajectory of the latent-variable model, with the budget of its mechanisms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from featurephase.analyses.latent import default_times
from featurephase.foundation.types import Array
from featurephase.latent_model.mechanisms import NAMES, Mechanisms, mechanisms
from featurephase.present.figures import PALETTE, Axes, Figure, new_figure
from featurephase.results.latent import LatentResult
from featurephase.results.status import OK

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK, _ = PALETTE

#: Colours of the mechanisms; rotation is warm, change of norm is cold, losses are the paler of each.
BUDGET = {"alignment": ORANGE, "growth": BLUE, "disalignment": YELLOW, "shrinkage": SKY}
#: How the points of the numerical trajectories look.
NUMERICAL: dict[str, dict[str, Any]] = {
    "descent": {"marker": "o", "color": ORANGE, "label": "trained network", "markerfacecolor": "none"},
    "flow": {"marker": "x", "color": BLACK, "label": "integrated flow"},
}
_SHOWN = ("output", "loss", "kernel", "alignment")


def table(result: LatentResult) -> str:
    """The trajectory, the limit and the budget."""
    lines = [f"{'time':>12} " + " ".join(f"{name:>14}" for name in _SHOWN)]
    shown = np.unique(np.linspace(0, len(result.times) - 1, min(len(result.times), 20)).round().astype(int))
    for i in shown:
        row = [getattr(result, name)[i] for name in _SHOWN]
        lines.append(f"{result.times[i]:>12.6g} " + " ".join(f"{x:>14.8g}" for x in row))
    lines.append(f"{'limit':>12} " + " ".join(f"{result.limit[name]:>14.8g}" for name in _SHOWN))
    budget = result.mechanisms
    lines += ["", f"Change of ln(kernel) from 0 to {result.times[-1]:g}: {budget['log_kernel_ratio']:.8g}"]
    lines += [f"  {name:<13} {budget[name]:>14.8g}" for name in NAMES]
    lines += [
        f"Change of the output: by rotation {budget['output_angle']:.8g}, "
        f"by change of norms {budget['output_scale']:.8g}",
        f"Relative motion: read-out {budget['relative_motion_u']:.4g}, hidden {budget['relative_motion_w']:.4g}",
        "",
        f"{result.status}: {result.regime}",
    ]
    return "\n".join([*lines, *([result.message] if result.message else [])])


def figure(result: LatentResult) -> Figure:
    """Output, kernel, alignment and the stacked budget of ln K over time, with measurements where there are any."""
    fine, logarithmic = _times(result)
    x, budget = result.flow.at(fine), mechanisms(result.flow, fine)
    fig = new_figure(9.0, 6.4)
    axes = fig.subplots(2, 2, sharex=True)
    panels: list[tuple[Axes, str, Any, str]] = [
        (axes[0, 0], "output", x.output, "output  $s$"),
        (axes[0, 1], "kernel", x.kernel, "kernel  $K$"),
        (axes[1, 0], "alignment", x.alignment, r"alignment  $\zeta=\cos\angle(u,w)$"),
    ]
    for axis, name, values, label in panels:
        axis.plot(fine, values, color=BLUE, label="theory", zorder=2)
        _numerical(axis, name, result.measured or {})
        axis.set_ylabel(label)
    target = result.limit["output"]
    axes[0, 0].axhline(target, color="0.5", linewidth=0.8, linestyle="--", label=f"limit {target:.4g}")
    axes[0, 0].legend(loc="best", fontsize=8)
    if np.all(x.kernel > 0.0) and x.kernel.max() > 30 * x.kernel.min():
        axes[0, 1].set_yscale("log")
    axes[1, 0].set_ylim(-1.06, 1.06)
    _stack(axes[1, 1], fine, budget)
    for axis in axes[1]:
        axis.set_xlabel("time")
    if logarithmic:
        axes[0, 0].set_xscale("log")
    axes[0, 0].set_xlim(fine[0], fine[-1])
    words = result.regime.split(":")[0] if result.status == OK else f"{result.status}"
    fig.suptitle(f"Latent-variable model, width {result.u.shape[1]}: {words}", fontsize=11, wrap=True)
    return fig


def _times(result: LatentResult) -> tuple[Array, bool]:
    """Times close enough for smooth curves, and whether they are spaced as logarithms."""
    times = result.times[np.isfinite(result.times)]
    end = float(times.max(initial=0.0))
    if end == 0.0:  # nothing but the start, or only the limit, was asked for: show the motion
        return np.linspace(0.0, float(default_times(result.flow).max()), 400), False
    first = times[times > 0].min()
    if times.size > 2 and first * 300 < end and np.all(np.diff(times) > 0):
        return np.geomspace(first, end, 400), True
    return np.linspace(0.0, end, 400), False


def _numerical(axis: Axes, name: str, trajectories: Mapping[str, Any]) -> None:
    """At most 25 points of each numerical trajectory."""
    for key, look in NUMERICAL.items():
        if key in trajectories:
            data = trajectories[key]
            pick = np.unique(np.linspace(0, len(data["times"]) - 1, 25).astype(int))
            times, values = np.asarray(data["times"])[pick], np.asarray(data[name])[pick]
            axis.plot(times, values, linestyle="none", markersize=4.5, zorder=3, **look)


def _stack(axis: Axes, times: Array, budget: Mechanisms) -> None:
    """Gains stacked upwards from 0, losses downwards; their sum is the black line."""
    for names in (("alignment", "growth"), ("disalignment", "shrinkage")):
        base = np.zeros_like(times)
        for name in names:
            part = getattr(budget, name)
            if np.any(part != 0.0):
                axis.fill_between(times, base, base + part, color=BUDGET[name], alpha=0.75, linewidth=0, label=name)
            base = base + part
    axis.plot(times, budget.log_kernel_ratio, color=BLACK, linewidth=1.4, label=r"sum $=\ln K(t)/K(0)$")
    axis.set_ylabel(r"budget of  $\ln K(t)/K(0)$")
    axis.legend(loc="best", fontsize=8)
