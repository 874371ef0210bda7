"""Panels: pictures as data, drawn on axes. Related models and claims describe theirs so."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurephase.present.figures import PALETTE, Axes
from featurephase.results.related import Curve, Panel

#: So few places on a logarithmic axis are labelled one by one.
_FEW = 8
#: How a curve is drawn.
_STYLES: dict[str, dict[str, Any]] = {
    "line": {"linestyle": "-"},
    "dashed": {"linestyle": "--"},
    "dots": {"linestyle": "", "marker": ".", "markersize": 3},
    "points": {"linestyle": "", "marker": "o", "markersize": 4, "markerfacecolor": "none"},
    "bars": {"linestyle": ":", "marker": "s", "markersize": 4},
}


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw everything that a panel describes."""
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
    if panel.log_x:
        axes.set_xscale("log")
        places = np.unique(np.concatenate([c.x for c in panel.curves])) if panel.curves else np.empty(0)
        if len(places) <= _FEW:  # the decades alone would label hardly any of them
            axes.set_xticks(places, [f"{x:g}" for x in places])
            axes.minorticks_off()
    if panel.log_y:
        axes.set_yscale("log")
    for region in panel.regions:
        axes.fill(region.x, region.y, color=PALETTE[region.colour], alpha=0.12, linewidth=0)
        axes.text(*region.at, region.label, ha="center")
    for number, curve in enumerate(panel.curves):
        _curve(axes, curve, number)
    for value, label in panel.vertical:
        if not np.isfinite(value):
            continue
        axes.axvline(value, color="0.5", linewidth=0.8, linestyle="--")
        axes.text(value, 0.98, f" {label}", transform=axes.get_xaxis_transform(), va="top", fontsize=8, color="0.35")
    for value, label in panel.horizontal:
        axes.axhline(value, color="0.5", linewidth=0.8, linestyle="--")
        axes.text(0.99, value, label, transform=axes.get_yaxis_transform(), va="bottom", ha="right", fontsize=8)
    limits = panel.limits
    if limits[0] is not None:
        axes.set_xlim(*limits[0])
    if limits[1] is not None:
        axes.set_ylim(*limits[1])
    if any(curve.label for curve in panel.curves):
        axes.legend(fontsize=8)


def _curve(axes: Axes, curve: Curve, number: int) -> None:
    """A curve, or points with bars of two standard errors; long runs of points are thinned to be told apart."""
    colour = PALETTE[(number if curve.colour is None else curve.colour) % len(PALETTE)]
    style = _STYLES[curve.style] | {"color": colour, "label": curve.label or None}
    chosen = slice(None, None, max(1, len(curve.x) // 40)) if curve.style == "points" else slice(None)
    if curve.se is None:
        axes.plot(curve.x[chosen], curve.y[chosen], **style)
    else:
        axes.errorbar(curve.x[chosen], curve.y[chosen], yerr=2.0 * curve.se[chosen], capsize=2, elinewidth=0.8, **style)
