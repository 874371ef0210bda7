"""The figure of ``threshold``: the margin against delta at each time, and delta_NN(t) as t grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurephase.analyses.threshold import SCAN_REPLICATES
from featurephase.foundation.statistics import student_interval, student_quantile
from featurephase.present.figures import PALETTE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurephase.analyses.threshold import Threshold

__all__ = ["threshold_figure"]


def threshold_figure(threshold: Threshold) -> Figure:
    """Where a hard outlier leaves the bulk; bars are 95 % intervals over the replicates.

    Left: the smallest eigenvalue of the margin in the coarse scan, at each time; below 0 a hard outlier stands left of
    the bulk. Vertical lines: the thresholds. Right, where there is more than one time: delta_NN(t).
    """
    entries = [e for e in threshold.delta_nn if len(e.scan_margin)]
    limit = threshold.delta_nn_limit
    history = limit is not None or sum(np.isfinite(e.value) for e in threshold.delta_nn) > 1
    panels = [draw for draw, wanted in ((_margins, bool(entries)), (_against_time, history)) if wanted]
    figure = new_figure(4.8 * max(len(panels), 1) + 0.6, 3.9)
    if not panels:
        figure.text(0.5, 0.45, threshold.message or threshold.status, ha="center", va="center", wrap=True)
    for number, draw in enumerate(panels):
        draw(figure.add_subplot(1, len(panels), number + 1), threshold)
    figure.suptitle(threshold.title or "Thresholds")
    return figure


def _delta_alg(axes: Axes, threshold: Threshold, *, vertical: bool) -> None:
    if np.isfinite(threshold.delta_alg) and threshold.delta_alg > 0:
        line = axes.axvline if vertical else axes.axhline
        line(
            threshold.delta_alg,
            color="0.3",
            linestyle=":",
            label=rf"$\delta_{{\rm alg}} = {threshold.delta_alg:.3g}$",
        )


def _margins(axes: Axes, threshold: Threshold) -> None:
    for number, entry in enumerate(e for e in threshold.delta_nn if len(e.scan_margin)):
        colour = PALETTE[number % len(PALETTE)]
        delta, margin = entry.scan_delta[: len(entry.scan_margin)], entry.scan_margin[:, 0]
        found = "" if np.isnan(entry.value) else rf", $\delta_{{\rm NN}} = {entry.value:.3g}$"
        axes.errorbar(
            delta,
            margin,
            yerr=student_quantile(SCAN_REPLICATES) * entry.scan_margin_se[:, 0],
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            label=f"t = {entry.time}{found}",
        )
        if np.isfinite(entry.value):
            axes.axvline(entry.value, color=colour, linestyle="--", linewidth=1)
            low, high = student_interval(entry.value, entry.value_se, threshold.replicates)
            if low > 0:
                axes.axvspan(float(low), float(high), color=colour, alpha=0.2, linewidth=0)
    _delta_alg(axes, threshold, vertical=True)
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlabel(r"$\delta = n/d$")
    axes.set_ylabel("margin of the hard directions")
    axes.legend(fontsize="small", loc="upper right")


def _against_time(axes: Axes, threshold: Threshold) -> None:
    limit = threshold.delta_nn_limit
    series = (
        [([e.time for e in threshold.delta_nn], *np.array([(e.value, e.value_se) for e in threshold.delta_nn]).T)]
        if (threshold.delta_nn)
        else []
    )
    styles = [("asked for", PALETTE[1], "s", "none")]
    if limit is not None:
        series.append((list(limit.history_time), limit.history, limit.history_se))
        styles = [*styles[: len(series) - 1], ("towards the limit", PALETTE[0], "o", "-")]
    for (times, value, se), (label, colour, marker, line) in zip(series, styles, strict=True):
        low, _ = student_interval(value, se, threshold.replicates)
        axes.errorbar(
            times,
            value,
            yerr=np.nan_to_num(value - low),
            color=colour,
            marker=marker,
            linestyle=line,
            capsize=3,
            label=label,
        )
    if limit is not None:
        axes.set_title("converged" if limit.converged else limit.status)
    _delta_alg(axes, threshold, vertical=False)
    axes.set_yscale("log")
    if all(time > 0 for times, _, _ in series for time in times):
        axes.set_xscale("log")
    axes.set_xlabel("step t")
    axes.set_ylabel(r"$\delta_{\rm NN}(t)$")
    axes.legend(fontsize="small")
