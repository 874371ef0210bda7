"""Table and figure of a probed training run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from featurephase.foundation.statistics import student_interval
from featurephase.present.figures import PALETTE, Axes, Figure, new_figure
from featurephase.present.tables import aligned
from featurephase.results.probe import HessianAnalysis, ProbeResult
from featurephase.results.status import OK

_SETTING = (
    "task", "network", "depth", "width", "activation", "parameterisation", "init_scale", "loss", "optimiser", "steps",
    "step_size", "weight_decay",
)  # fmt: skip
#: Columns of the kernel's table: words -> field.
_KERNEL = {
    "change": "kernel_change",
    "alignment": "kernel_alignment",
    "with labels": "label_alignment",
    "trace": "kernel_trace",
    "loss": "loss",
    "held-out loss": "heldout_loss",
    "test accuracy": "test_accuracy",
}
_MECHANISMS = ("alignment", "disalignment", "growth", "shrinkage", "statistics", "unattributed")


def number(value: Any, error: Any = None) -> str:
    """Three significant digits, and the error if there is one."""
    if isinstance(value, str):
        return value
    if value is None or np.isnan(value):
        return "-"
    text = f"{value:.3g}"
    return f"{text} +- {error:.1g}" if error is not None and np.isfinite(error) and error > 0 else text


def _last(entry: Any, key: str) -> str:
    return number(entry[key][-1], entry[f"{key}_se"][-1])


def table(result: ProbeResult) -> str:
    """Verdict, kernel over time, layers, pairs, budget, Hessian, telescoping, cost."""
    lines = [] if result.ok else [f"{result.status}: {result.message}"]
    lines += [result.verdict.words, *_heading(result)]
    if result.times.size:
        lines += _kernel(result) + _layers(result) + _budget(result)
    for entry in result.hessian:
        lines += _hessian(entry)
    if result.telescoping.telescoping_error.size:
        lines += _telescoping(result)
    cost = result.cost
    lines += [
        "",
        f"cost: {cost.records:g} records, {number(cost.seconds)} s, training slowed by "
        f"{100 * cost.slowdown:.1f} %, at most {cost.memory_bytes / 2**20:.2g} MiB",
    ]
    if result.unhandled:
        lines += ["not covered, chosen or held fixed:", *(f"  {note}" for note in result.unhandled)]
    return "\n".join(lines)


def _heading(result: ProbeResult) -> list[str]:
    lines = []
    given = {key: result.setting[key] for key in _SETTING if result.setting.get(key)}
    if given:
        words = [f"{key} {number(value) if isinstance(value, float) else value}" for key, value in given.items()]
        lines.append("setting: " + ", ".join(words))
    if result.replicates > 1:
        lines.append(f"means over {result.replicates} seeds with standard errors")
    names = [name for name in result.outcome if not name.endswith("_se")]
    if names:
        outcome = result.outcome
        words = [f"{n.replace('_', ' ')} {number(outcome[n], outcome.get(f'{n}_se'))}" for n in names]
        lines.append("outcome: " + ", ".join(words))
    return lines


def _kernel(result: ProbeResult) -> list[str]:
    kind = "exact" if result.kernel_method == "exact" else "sketched"
    columns = {words: name for words, name in _KERNEL.items() if not np.isnan(getattr(result, name)).all()}
    rows = [
        [f"{time:g}", *(number(*(getattr(result, n)[i] for n in (name, f"{name}_se"))) for name in columns.values())]
        for i, time in enumerate(result.times)
    ]
    return ["", f"Neural tangent kernel on the probe batch ({kind})", *aligned(rows, ["step", *columns])]


def _layers(result: ProbeResult) -> list[str]:
    keys = ("norm_growth", "movement", "stable_rank", "feature_change")
    rows = [[f"{e.name} ({e.kind})", *(_last(e, k) for k in keys)] for e in result.layers]
    header = ["layer", "norm growth", "movement", "stable rank", "change of its inputs' kernel"]
    lines = ["", "Layers at the end", *aligned(rows, header)] if rows else []
    rows = [
        [f"{e.lower} -> {e.upper}", number(e.alignment[0]), _last(e, "alignment"), number(e.baseline),
         _last(e, "singular_cosine")]
        for e in result.pairs
    ]  # fmt: skip
    header = ["pair", "start", "end", "baseline", "cosine of leading singular vectors"]
    title = "Alignment of adjacent layers, first and last record (independent layers: the baseline)"
    return lines + (["", title, *aligned(rows, header)] if rows else [])


def _budget(result: ProbeResult) -> list[str]:
    parts = result.mechanisms
    shown = [n for n in _MECHANISMS if n not in ("statistics", "unattributed") or parts[n]] + ["log_kernel_ratio"]
    rows = [[name.replace("_", " "), number(parts[name], parts[f"{name}_se"])] for name in shown]
    return ["", f"Mechanisms: parts of the change of ln(kernel) ({parts.method})", *aligned(rows)]


def _hessian(entry: HessianAnalysis) -> list[str]:
    lines = ["", f"Hessian at step {entry.time:g}" + ("" if entry.status == OK else f" ({entry.status})")]
    if np.isnan(entry.largest).all():
        return [*lines, f"  {entry.message}"]
    rows = []
    for name in ("smallest", "largest"):
        pairs = zip(entry[name], entry[f"{name}_se"], strict=True)
        rows.append([name, *(number(v, e) for v, e in pairs)])
        if np.isfinite(entry[f"{name}_overlap"]).any():
            rows.append(["overlap", *map(number, entry[f"{name}_overlap"])])
    at_least = "at least " if entry.negative_is_lower_bound else ""
    return [*lines, *aligned(rows), f"  negative: {at_least}{number(entry.negative)}"]


def _telescoping(result: ProbeResult) -> list[str]:
    errors = result.telescoping
    rows = [
        ["along the path (telescoping)", _last(errors, "telescoping_error")],
        ["linearised at the start", _last(errors, "linearisation_error")],
    ]
    if "effective_parameters_train" in errors:
        parts = [_last(errors, f"effective_parameters_{kind}") for kind in ("train", "heldout")]
        rows.append(["effective parameters", f"{parts[0]} on train, {parts[1]} held out"])
    return ["", "First-order approximations at the end, error relative to the outputs' motion", *aligned(rows)]


# ---- figure


def figure(result: ProbeResult) -> Figure:
    """Kernel, layers, pairs, mechanism budget, Hessian, telescoping: six panels over the training steps."""
    drawn = new_figure(12.0, 7.0)
    kernel, layers, pairs, budget, hessian, telescoping = drawn.subplots(2, 3).flat
    _kernel_panel(kernel, result)
    layers.set(title="Layers: relative movement", ylabel="|W - W(0)| / |W(0)|")
    for colour, entry in zip(PALETTE * 9, result.layers, strict=False):
        _curve(layers, result, entry, "movement", colour, f"layer {entry.name}")
    _pair_panel(pairs, result)
    _budget_panel(budget, result)
    _hessian_panel(hessian, result.hessian)
    if result.telescoping.telescoping_error.size:
        _curve(telescoping, result, result.telescoping, "telescoping_error", PALETTE[0], "along the path")
        _curve(telescoping, result, result.telescoping, "linearisation_error", PALETTE[1], "at the start")
        telescoping.set_yscale("log")
    telescoping.set(title="First-order approximations", ylabel="error over the outputs' motion")
    for axes in (kernel, layers, pairs, budget, telescoping):
        if result.times.size > 1 and result.times[-1] > 20:  # linear up to 1, logarithmic beyond
            axes.set_xscale("symlog", linthresh=1.0)
            axes.set_xlim(-0.1, result.times[-1] * 1.3)
        axes.set_xlabel("training step")
        if 0 < len(axes.get_legend_handles_labels()[0]) <= 12:
            axes.legend(fontsize=8)
    drawn.suptitle(_title(result), fontsize=11, wrap=True)
    return drawn


def _curve(axes: Axes, result: ProbeResult, entry: Any, name: str, colour: str, label: str) -> None:
    """A line with its 95 % interval: Student's t over replicates; of a single sketch, that of the normal law."""
    values, errors = getattr(entry, name), getattr(entry, f"{name}_se")
    axes.plot(result.times, values, marker="o", markersize=3, color=colour, label=label)
    if result.replicates > 1:
        low, high = student_interval(values, errors, result.replicates)
    elif np.any(np.nan_to_num(errors) > 0):
        low, high = values - 1.96 * errors, values + 1.96 * errors
    else:
        return
    axes.fill_between(result.times, low, high, color=colour, alpha=0.25, linewidth=0)


def _kernel_panel(axes: Axes, result: ProbeResult) -> None:
    _curve(axes, result, result, "kernel_change", PALETTE[0], "relative change")
    _curve(axes, result, result, "kernel_alignment", PALETTE[1], "alignment with its start")
    if np.isfinite(result.label_alignment).any():
        _curve(axes, result, result, "label_alignment", PALETTE[2], "alignment with the labels")
    for kind, style in (("train", ":"), ("test", "--")):
        accuracy = getattr(result, f"{kind}_accuracy")
        if np.isfinite(accuracy).any():
            axes.plot(result.times, accuracy, color="0.3", ls=style, lw=1.2, label=f"{kind} accuracy")
    axes.axhline(0.1, color="0.5", lw=0.8, ls=":", label="kernel phase below")
    axes.set(title="Neural tangent kernel", ylabel="relative change, cosine, accuracy")
    if np.nanmax(result.kernel_change, initial=0.0) > 3:
        axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=0)


def _pair_panel(axes: Axes, result: ProbeResult) -> None:
    axes.set(title="Alignment of adjacent layers", ylabel="cosine")
    for colour, entry in zip(PALETTE, result.pairs, strict=False):
        _curve(axes, result, entry, "alignment", colour, f"{entry.lower} to {entry.upper}")
        axes.axhline(entry.baseline, color=colour, lw=0.8, ls=":")
    if result.pairs:
        axes.set_ylim(0, 1)
        axes.plot([], [], color="0.5", lw=0.8, ls=":", label="independent layers")
    else:
        axes.text(0.5, 0.5, "no adjacent pair", transform=axes.transAxes, ha="center", color="0.4")


def _budget_panel(axes: Axes, result: ProbeResult) -> None:
    series = result.mechanisms_over_time
    axes.set(title="Mechanisms", ylabel="parts of ln K(t)/K(0)")
    if not series.alignment.size:
        return
    up, down = ("alignment", "growth"), ("disalignment", "shrinkage")
    axes.stackplot(result.times, *(series[n] for n in up), labels=up, colors=PALETTE[:2], alpha=0.7)
    axes.stackplot(result.times, *(series[n] for n in down), labels=down, colors=PALETTE[2:4], alpha=0.7)
    for name, style in (("statistics", "--"), ("unattributed", ":")):
        if np.any(series[name]):
            axes.plot(result.times, series[name], color="0.35", ls=style, lw=1.2, label=name)
    axes.plot(result.times, series.log_kernel_ratio, color="black", lw=1.2, label="sum: ln K(t)/K(0)")


def _hessian_panel(axes: Axes, entries: Sequence[HessianAnalysis]) -> None:
    axes.set(title="Hessian", ylabel="extreme eigenvalues")
    entries = [e for e in entries if np.isfinite(e.largest).any()]
    if not entries:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="0.4")
        return
    for name, colour in (("smallest", PALETTE[0]), ("largest", PALETTE[1])):
        positions = np.repeat(np.arange(len(entries)), [len(e[name]) for e in entries])
        values = np.concatenate([e[name] for e in entries])
        axes.plot(positions, values, "o", color=colour, label=name, alpha=0.7)
    axes.axhline(0.0, color="0.5", lw=0.8)
    largest = max(float(np.nanmax(np.abs(e.largest), initial=0.0)) for e in entries)
    smallest = max(float(np.nanmax(np.abs(e.smallest), initial=0.0)) for e in entries)
    if 0 < smallest < largest / 20:
        axes.set_yscale("symlog", linthresh=max(smallest, 1e-12))
    if len(entries) <= 6:
        axes.set_xticks(range(len(entries)), [f"step {e.time:g}" for e in entries])
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
    mechanism = "" if verdict.mechanism == "none" else f", mostly by {verdict.mechanism}"
    phase = "feature learning" if verdict.phase == "feature-learning" else f"{verdict.phase} phase"
    tail = f"{phase} (kernel change {verdict.kernel_change:.2g}){mechanism}"
    return f"{head}: {tail}" if head else tail
