"""Figures of the probe: one run at a glance, and series of runs against a parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.present.figures import PALETTE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurephase.probe.result import ProbeResult

__all__ = ["probe_figure", "series_figure"]


def _curve(axes: Axes, times: Any, values: Any, errors: Any = None, **style: Any) -> None:
    """A line with a band of two standard errors."""
    (line,) = axes.plot(times, values, marker="o", markersize=3, **style)
    if errors is not None and np.any(np.nan_to_num(errors) > 0):
        axes.fill_between(times, values - 2 * errors, values + 2 * errors, color=line.get_color(), alpha=0.2, lw=0)


def _time_axis(axes: Axes, times: Any) -> None:
    """Steps on a scale that is linear up to 1 and logarithmic beyond."""
    if times.size > 1 and times[-1] > 20:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlim(-0.1, times[-1] * 1.3)
    axes.set_xlabel("training step")


def probe_figure(result: ProbeResult) -> Figure:
    """Kernel, layers, pairs, mechanism budget, Hessian, telescoping: six panels over the training steps."""
    figure = new_figure(12.0, 7.0)
    panels = figure.subplots(2, 3)
    times = result.times
    kernel, layers, pairs, budget, hessian, telescoping = panels.flat

    _curve(kernel, times, result.kernel_change, result.kernel_change_se, label="relative change")
    _curve(kernel, times, result.kernel_alignment, result.kernel_alignment_se, label="alignment with its start")
    if np.isfinite(result.label_alignment).any():
        _curve(kernel, times, result.label_alignment, result.label_alignment_se, label="alignment with the labels")
    kernel.axhline(0.1, color="0.5", lw=0.8, ls=":", label="kernel phase below")
    kernel.set_title("Neural tangent kernel")
    if np.nanmax(result.kernel_change, initial=0.0) > 3:
        kernel.set_yscale("symlog", linthresh=1.0)
    kernel.set_ylim(bottom=0)

    for entry in result.layers:
        _curve(layers, times, entry["movement"], entry.get("movement_se"), label=entry["name"])
    layers.set_title("Layers: relative movement")
    layers.set_ylabel("|W - W(0)| / |W(0)|")

    for colour, entry in zip(PALETTE, result.pairs, strict=False):
        label = f"{entry['lower']} to {entry['upper']}"
        _curve(pairs, times, entry["alignment"], entry.get("alignment_se"), label=label, color=colour)
        pairs.axhline(entry["baseline"], color=colour, lw=0.8, ls=":")
    pairs.set_title("Alignment of adjacent layers")
    if result.pairs:
        pairs.set_ylim(0, 1)
        pairs.plot([], [], color="0.5", lw=0.8, ls=":", label="independent layers")
    else:
        pairs.text(0.5, 0.5, "no adjacent pair", transform=pairs.transAxes, ha="center", color="0.4")

    over_time: Mapping[str, Any] = result.mechanisms_over_time
    names = ("alignment", "growth", "disalignment", "shrinkage")
    up = [over_time[n] for n in names[:2]]
    down = [over_time[n] for n in names[2:]]
    budget.stackplot(times, *up, labels=names[:2], colors=PALETTE[:2], alpha=0.7)
    budget.stackplot(times, *down, labels=names[2:], colors=PALETTE[2:4], alpha=0.7)
    budget.plot(times, over_time["log_kernel_ratio"], color="black", lw=1.2, label="sum: ln K(t)/K(0)")
    budget.set_title("Mechanisms: parts of ln K(t)/K(0)")

    _hessian_panel(hessian, result.hessian)

    t = result.telescoping
    for name, label in (("telescoping_error", "along the path"), ("linearisation_error", "at the start")):
        if name in t:
            _curve(telescoping, times, t[name], t.get(f"{name}_se"), label=label)
    telescoping.set_yscale("log")
    telescoping.set_title("First-order approximations: relative error")

    for axes in (kernel, layers, pairs, budget, telescoping):
        _time_axis(axes, times)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.suptitle(_title(result), fontsize=11)
    return figure


def _hessian_panel(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("Hessian: extreme eigenvalues")
    if not entries:
        axes.text(0.5, 0.5, "not analysed", transform=axes.transAxes, ha="center", color="0.4")
        return
    for name, colour in (("smallest", PALETTE[0]), ("largest", PALETTE[1])):
        positions = np.repeat(np.arange(len(entries)), [len(e[name]) for e in entries])
        values = np.concatenate([e[name] for e in entries])
        axes.plot(positions, values, "o", color=colour, label=name, alpha=0.7)
    axes.axhline(0.0, color="0.5", lw=0.8)
    largest = max(float(np.nanmax(np.abs(e["largest"]), initial=0.0)) for e in entries)
    smallest = max(float(np.nanmax(np.abs(e["smallest"]), initial=0.0)) for e in entries)
    if 0 < smallest < largest / 20:
        axes.set_yscale("symlog", linthresh=max(smallest, 1e-12))
    if len(entries) <= 6:
        axes.set_xticks(range(len(entries)), [f"step {e['time']:g}" for e in entries])
        axes.set_xlim(-0.5, len(entries) - 0.5)
    else:
        axes.set_xlabel("analysis")
    axes.legend(fontsize=8)


def _title(result: ProbeResult) -> str:
    setting = result.setting
    words = [str(setting[k]) for k in ("task", "network", "parameterisation") if k in setting]
    if "width" in setting:
        words.append(f"width {setting['width']}")
    head = ", ".join(words)
    verdict = result.verdict
    change = verdict["kernel_change"]
    mechanism = "" if verdict["mechanism"] == "none" else f", mostly by {verdict['mechanism']}"
    tail = f"{verdict['phase']} phase (kernel change {change:.2g}){mechanism}".replace(
        "feature-learning phase", "feature learning"
    )
    return f"{head}: {tail}" if head else tail


def series_figure(panels: Sequence[Mapping[str, Any]], *, width: float = 9.5, height: float = 4.0) -> Figure:
    """Measured points with error bars against a parameter, and the prediction beside them.

    Parameters
    ----------
    panels
        One mapping per panel: ``title``, ``xlabel``, ``ylabel``, ``points`` (mappings ``label``, ``x``,
        ``y``, ``se``) and ``predictions`` (mappings ``label``, ``x``, ``y``).
    """
    figure = new_figure(width, height)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for colour, points in zip(PALETTE, panel["points"], strict=False):
            axes.errorbar(
                points["x"], points["y"], 2 * np.asarray(points["se"]), fmt="o", markersize=4, capsize=2,
                color=colour, label=points["label"],
            )  # fmt: skip
        for colour, line in zip(PALETTE, panel["predictions"], strict=False):
            axes.plot(line["x"], line["y"], "--", lw=1.2, color=line.get("color", colour), label=line["label"])
        axes.set(xscale="log", yscale="log", xlabel=panel["xlabel"], ylabel=panel["ylabel"], title=panel["title"])
        ticks = sorted({float(x) for points in panel["points"] for x in points["x"]})
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.xaxis.minorticks_off()
        axes.legend(fontsize=8)
    return figure
