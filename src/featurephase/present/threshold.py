"""``threshold`` for people: the thresholds with their errors, the margin against delta, and delta_NN(t) as t grows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from featurephase.foundation.statistics import student_interval, student_quantile
from featurephase.present.figures import PALETTE, Axes, Figure, new_figure
from featurephase.present.tables import MOST, aligned, basis_words, ending, heading, number
from featurephase.results.status import OK
from featurephase.results.threshold import DirectionThreshold, NetworkThreshold, Threshold, ThresholdLimit, Window
from featurephase.results.words import with_error

#: Replicates behind the error bars of the coarse scan.
_SCAN_REPLICATES = 2


def table(threshold: Threshold) -> str:
    """delta_alg, delta_NN at each time and its limit, with their errors; then messages."""
    lines = [*heading(threshold), basis_words(threshold), ""]
    rows = [["delta_alg", number(threshold, "delta_alg"), "best first-order method; data only"]]
    rows += [_row(entry) for entry in threshold.delta_nn]
    limit = threshold.delta_nn_limit
    if limit is not None:
        rows.append(_limit_row(limit))
    lines += aligned(rows)
    for entry in threshold.delta_nn:
        lines += _details(entry)
    if limit is not None:
        lines += _limit_details(limit)
    return "\n".join(lines + ending(threshold.message))


def _row(entry: NetworkThreshold) -> list[str]:
    words = []
    if entry.status != "ok":
        words.append(entry.status)
    if entry.continuous is not None:
        words.append("continuous" if entry.continuous else "discontinuous: the overlap jumps")
    if np.isfinite(entry.value_negative):
        same = np.isclose(entry.value_negative, entry.value, rtol=1e-3)
        from_there = f" from {number(entry, 'value_negative')} on"
        words.append("negative: unstable from here on" if same else f"negative{from_there}: unstable from there on")
    elif entry.windows:
        words.append("negative only " + _window_words(entry.windows))
    elif entry.negative is not None:
        words.append("nowhere negative: stable at every n/d")
    return [f"delta_NN(t = {entry.time})", number(entry, "value"), ", ".join(words)]


def _window_words(windows: Iterable[Window]) -> str:
    """``"from 4.697 +- 0.005 to 133.0 +- 0.4"``, one for each window."""
    words = []
    for w in windows:
        start = f"from {number(w, 'low')}" if w.low > 0 else "from the lowest delta"
        start += " (below which runs diverge)" if w.open_below else ""
        words.append(f"{start} on" if np.isinf(w.high) else f"{start} to {number(w, 'high')}")
    return " and ".join(words)


def _state(limit: ThresholdLimit) -> str:
    if limit.converged:
        return "converged"
    return "extrapolated" if limit.status == OK else str(limit.status)


def _limit_row(limit: ThresholdLimit) -> list[str]:
    words = [_state(limit), f"t = {limit.time}"]
    if np.isfinite(limit.drift):
        words.append(f"drift {number(limit, 'drift')}")
    if limit.form:
        words.append(f"extrapolated ({limit.form})")
    if np.isfinite(limit.value_negative):
        same = np.isclose(limit.value_negative, limit.value, rtol=1e-3)
        where = "here" if same else number(limit, "value_negative")
        words.append(f"learned from {where} on")
    return ["delta_NN(t -> inf)", number(limit, "value"), ", ".join(words)]


def _limit_details(limit: ThresholdLimit) -> list[str]:
    """The way to the limit, and each direction by itself where there are several or windows."""
    lines = []
    if len(limit.history) > 1:
        pairs = zip(limit.history_time, limit.history, limit.history_se, strict=True)
        rows = [[str(t), with_error(value, se)] for t, value, se in pairs]
        lines += ["", *aligned(rows, ["step", "delta_NN(t)"])]
    return lines + _sector_lines("t -> inf", limit.sectors)


def _sector_lines(when: str, sectors: Iterable[DirectionThreshold]) -> list[str]:
    """Each direction's own thresholds, where there is more to say than the row of delta_NN does."""
    sectors = list(sectors)
    bounded = any(not np.isinf(w.high) for s in sectors for w in s.windows)
    if len(sectors) < 2 and not bounded:
        return []
    rows = [
        [s.name, number(s, "value"), f"negative {_window_words(s.windows)}" if s.windows else "nowhere negative"]
        for s in sectors
    ]
    return [f"  {when}, each hard direction by itself", *aligned(rows, indent="    ")]


def _details(entry: NetworkThreshold) -> list[str]:
    """All crossings, directions and blocks where there is more than the value itself."""

    def several(values: Iterable[float], errors: Iterable[float]) -> str:
        shown = [with_error(v, se) for v, se in zip(values, errors, strict=True)]
        return ", ".join(shown[:MOST]) + (f" .. ({len(shown)} in all)" if len(shown) > MOST else "")

    rows = []
    if len(entry.crossings) > 1:
        rows.append(["crossings", several(entry.crossings, entry.crossings_se)])
    if len(entry.directions) > 1:
        rows.append(["eigenvalues of the margin", several(entry.directions, entry.directions_se)])
    if len(entry.blocks) > 1:
        values, errors = (np.array([getattr(b, n) for b in entry.blocks]).T for n in ("directions", "directions_se"))
        for j, (value, se) in enumerate(zip(values, errors, strict=True)):
            name = f"single neurons, direction {j + 1}" if len(values) > 1 else "single neurons"
            rows.append([name, several(value, se)])
        rows.append(["their minimum", number(entry, "block_minimum")])
    if not np.isnan(entry.block_gap):
        rows.append(["its distance from the full equation", number(entry, "block_gap")])
    lines = [f"  t = {entry.time}", *aligned(rows, indent="    ")] if rows else []
    return lines + _sector_lines(f"t = {entry.time}", entry.sectors)


def figure(threshold: Threshold) -> Figure:
    """Where a hard outlier leaves the bulk; bars are 95 % intervals over the replicates.

    Left: the smallest eigenvalue of the margin in the coarse scan, at each time; below 0 a hard outlier stands left of
    the bulk. Vertical lines: the thresholds. Right, where there is more than one time: delta_NN(t) and its limit.
    """
    entries = [e for e in threshold.delta_nn if len(e.scan_margin)]
    limit = threshold.delta_nn_limit
    history = (limit is not None and len(limit.history)) or sum(np.isfinite(e.value) for e in threshold.delta_nn) > 1
    panels = [draw for draw, wanted in ((_margins, bool(entries)), (_against_time, history)) if wanted]
    drawn = new_figure(4.8 * max(len(panels), 1) + 0.6, 3.9)
    if not panels:
        drawn.text(0.5, 0.45, threshold.message or threshold.status, ha="center", va="center", wrap=True)
    for place, draw in enumerate(panels):
        draw(drawn.add_subplot(1, len(panels), place + 1), threshold)
    drawn.suptitle(threshold.title or "Thresholds", wrap=True)
    return drawn


def _delta_alg(axes: Axes, threshold: Threshold, *, vertical: bool) -> None:
    if np.isfinite(threshold.delta_alg) and threshold.delta_alg > 0:
        line, label = axes.axvline if vertical else axes.axhline, rf"$\delta_{{\rm alg}} = {threshold.delta_alg:.3g}$"
        line(threshold.delta_alg, color="0.3", linestyle=":", label=label)


def _margins(axes: Axes, threshold: Threshold) -> None:
    for index, entry in enumerate(e for e in threshold.delta_nn if len(e.scan_margin)):
        colour = PALETTE[index % len(PALETTE)]
        delta, margin = entry.scan_delta[: len(entry.scan_margin)], entry.scan_margin[:, 0]
        found = "" if np.isnan(entry.value) else rf", $\delta_{{\rm NN}} = {entry.value:.3g}$"
        half, label = student_quantile(_SCAN_REPLICATES) * entry.scan_margin_se[:, 0], f"t = {entry.time}{found}"
        axes.errorbar(delta, margin, yerr=half, color=colour, marker="o", markersize=3.5, linewidth=1.2, label=label)
        if np.isfinite(entry.value):
            axes.axvline(entry.value, color=colour, linestyle="--", linewidth=1)
            low, high = student_interval(entry.value, entry.value_se, threshold.replicates)
            if low > 0:
                axes.axvspan(float(low), float(high), color=colour, alpha=0.2, linewidth=0)
    _delta_alg(axes, threshold, vertical=True)
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set(xlabel=r"$\delta = n/d$", ylabel="margin of the hard directions")
    axes.legend(fontsize="small", loc="upper right")


def _against_time(axes: Axes, threshold: Threshold) -> None:
    limit = threshold.delta_nn_limit
    series = []
    if threshold.delta_nn:
        entries = np.array([(e.time, e.value, e.value_se) for e in threshold.delta_nn])
        series.append((*entries.T, "asked for", PALETTE[1], "s", "none"))
    if limit is not None and len(limit.history):
        way = (np.array(limit.history_time), limit.history, limit.history_se)
        series.append((*way, "towards the limit", PALETTE[0], "o", "-"))
    for times, value, se, label, colour, marker, line in series:
        low, _ = student_interval(value, se, threshold.replicates)
        error = np.nan_to_num(value - low)
        axes.errorbar(times, value, yerr=error, color=colour, marker=marker, linestyle=line, capsize=3, label=label)
    if limit is not None and np.isfinite(limit.value):
        label = rf"$t \to \infty$: {number(limit, 'value')}"
        axes.axhline(limit.value, color=PALETTE[0], linestyle="--", linewidth=1, label=label)
        two = 2.0 * limit.value_se
        if limit.value > two:
            axes.axhspan(limit.value - two, limit.value + two, color=PALETTE[0], alpha=0.15, linewidth=0)
    if limit is not None:
        axes.set_title(_state(limit))
    _delta_alg(axes, threshold, vertical=False)
    axes.set_yscale("log")
    first = min(np.min(times) for times, *_ in series)
    axes.set_xscale("log") if first > 0 else axes.set_xscale("symlog", linthresh=1.0)
    every = sorted({int(t) for times, *_ in series for t in times})
    if len(every) <= 6:
        axes.set_xticks(every, [str(t) for t in every])
        axes.set_xticks([], minor=True)
    axes.set(xlabel="step t", ylabel=r"$\delta_{\rm NN}(t)$")
    axes.legend(fontsize="small")
