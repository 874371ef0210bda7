"""Table and figure of a related model: one drawing for all of them, from the panels that a model describes."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.present.figures import PALETTE, axes_for, new_figure
from featurephase.present.tables import aligned, ending
from featurephase.results.related import RelatedList, RelatedResult
from featurephase.results.words import with_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurephase.results.related import Curve, Panel, Quantity

__all__ = ["figure", "table"]

#: Entries of an array that a table shows; longer ones by their first and last few.
_SHOWN = 6
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


def table(result: RelatedResult | RelatedList) -> str:
    """Phase, quantities with their errors, and theory against simulation; or the list of models."""
    if isinstance(result, RelatedList):
        names = [(m.name, m.title) for m in result.models]
        return "\n".join([*aligned(names, indent=""), "", "featurephase related NAME runs one, --help shows its flags"])
    lines = [f"{result.model}: {result.title}", f"{result.phase}: {result.phase_note}".rstrip(": ")]
    if result.boundaries:
        lines.append("boundaries: " + ", ".join(f"{name} = {value:.6g}" for name, value in result.boundaries.items()))
    lines += ["", *aligned([_row(name, q) for name, q in result.quantities.items()])]
    if result.comparison:
        header = ("simulation", "theory", "measured", "difference", "allowed")
        rows = []
        for a in result.comparison:
            measured = with_error(a.simulation, a.simulation_se)
            verdict = "" if a.agree else "DISAGREES"
            rows.append((a.name, f"{a.theory:.6g}", measured, f"{a.difference:.2g}", f"{a.allowed:.2g}", verdict))
        lines += ["", *aligned(rows, header)]
        words = "agree" if result.agree else "DISAGREE"
        runs = f"{result.replicates} runs, seed {result.seed}" if result.replicates else "one run"
        lines.append(f"theory ({result.validity}) and simulation {words}; {runs}, worst entries shown")
    return "\n".join([*lines, "", f"Source: {result.citation}", *ending(result.message)])


def _row(name: str, quantity: Quantity) -> tuple[str, str, str]:
    value = quantity.value
    if isinstance(value, str):
        return name, value, quantity.about
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    errors = np.zeros_like(values) if quantity.se is None else np.atleast_1d(np.asarray(quantity.se, dtype=np.float64))
    if values.ndim > 1:
        shape = " x ".join(map(str, values.shape))
        return name, f"{shape} numbers, the last: {_numbers(values[-1].ravel(), errors[-1].ravel())}", quantity.about
    return name, _numbers(values, errors), quantity.about


def _numbers(values: Any, errors: Any) -> str:
    words = [with_error(float(v), float(e)) if e else f"{v:.8g}" for v, e in zip(values, errors, strict=True)]
    if len(words) <= _SHOWN:
        return ", ".join(words)
    return ", ".join([*words[:3], "..", *words[-2:]])


def figure(result: RelatedResult | RelatedList) -> Figure:
    """The panels side by side."""
    if isinstance(result, RelatedList):
        drawn, axes = axes_for(None, 9.0, 0.6 + 0.25 * len(result.models))
        axes.axis("off")
        axes.text(0.0, 1.0, table(result), family="monospace", va="top", transform=axes.transAxes)
        return drawn
    count = max(len(result.panels), 1)
    drawn = new_figure(4.6 * count, 4.0)
    drawn.suptitle(textwrap.fill(result.title, 60 * count), fontsize=11.0)
    for axes, panel in zip(drawn.subplots(1, count, squeeze=False)[0], result.panels, strict=False):
        _draw(axes, panel)
    return drawn


def _draw(axes: Axes, panel: Panel) -> None:
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
