"""The probe's result as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from featurephase.probe.result import ProbeResult

__all__ = ["probe_table"]

_SETTING = (
    "task",
    "network",
    "depth",
    "width",
    "activation",
    "parameterisation",
    "init_scale",
    "loss",
    "steps",
    "step_size",
)


def _number(value: Any, error: Any = None) -> str:
    """Three significant digits, and the error if there is one."""
    if isinstance(value, str):
        return value
    if value is None or np.isnan(value):
        return "-"
    text = f"{value:.3g}"
    return f"{text} +- {error:.1g}" if error is not None and np.isfinite(error) and error > 0 else text


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns: words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _last(entry: Mapping[str, Any], key: str) -> str:
    error = entry.get(f"{key}_se")
    return _number(entry[key][-1], None if error is None else error[-1])


def probe_table(result: ProbeResult) -> str:
    """Verdict, kernel over time, layers, pairs, budget, Hessian, telescoping, cost."""
    lines = [str(result.verdict["words"])]
    if not result.ok:
        lines.insert(0, f"{result.status}: {result.message}")
    if result.setting:
        given = {key: result.setting[key] for key in _SETTING if result.setting.get(key) is not None}
        words = [f"{key} {_number(value) if isinstance(value, float) else value}" for key, value in given.items()]
        lines.append("setting: " + ", ".join(words))
    if result.replicates > 1:
        lines.append(f"means over {result.replicates} seeds with standard errors")
    if result.outcome:
        outcome = result.outcome
        words = [
            f"{key.replace('_', ' ')} {_number(outcome[key], outcome.get(f'{key}_se'))}"
            for key in outcome
            if not key.endswith("_se")
        ]
        lines.append("outcome: " + ", ".join(words))

    kind = "exact" if result.kernel_method == "exact" else "sketched"
    lines += ["", f"Neural tangent kernel on the probe batch ({kind})"]
    telescoping = result.telescoping
    columns = {
        "change": (result.kernel_change, result.kernel_change_se),
        "alignment": (result.kernel_alignment, result.kernel_alignment_se),
        "with labels": (result.label_alignment, result.label_alignment_se),
        "trace": (result.kernel_trace, result.kernel_trace_se),
        "loss": (result.loss, result.loss_se),
        "held-out loss": (result.heldout_loss, result.heldout_loss_se),
    }
    columns = {k: v for k, v in columns.items() if not np.isnan(v[0]).all()}
    rows = [
        [f"{time:g}", *(_number(values[i], errors[i]) for values, errors in columns.values())]
        for i, time in enumerate(result.times)
    ]
    lines += _rows(["step", *columns], rows)

    keys = ("norm_growth", "movement", "stable_rank", "feature_change")
    lines += ["", "Layers at the end"]
    rows = [[f"{e['name']} ({e['kind']})", *(_last(e, k) for k in keys)] for e in result.layers]
    lines += _rows(["layer", "norm growth", "movement", "stable rank", "change of its inputs' kernel"], rows)
    if result.pairs:
        lines += ["", "Alignment of adjacent layers, first and last record (independent layers: the baseline)"]
        rows = [
            [f"{e['lower']} -> {e['upper']}", _number(e["alignment"][0]), _last(e, "alignment"), _number(e["baseline"]),
             _last(e, "singular_cosine")]
            for e in result.pairs
        ]  # fmt: skip
        lines += _rows(["pair", "start", "end", "baseline", "cosine of leading singular vectors"], rows)
    lines += ["", f"Mechanisms: parts of the change of ln(kernel) ({result.mechanisms.get('method', '')})"]
    names = ("alignment", "disalignment", "growth", "shrinkage", "unattributed", "log_kernel_ratio")
    lines += [
        f"  {name.replace('_', ' '):<16} {_number(result.mechanisms[name], result.mechanisms.get(f'{name}_se'))}"
        for name in names
        if name != "unattributed" or result.mechanisms[name]
    ]
    for entry in result.hessian:
        why = "" if entry["status"] == "ok" else f" ({entry['status']})"
        lines += ["", f"Hessian at step {entry['time']:g}{why}"]
        for name in ("smallest", "largest"):
            errors = entry.get(f"{name}_se", np.full(len(entry[name]), np.nan))
            lines.append(f"  {name:<9}" + "  ".join(_number(v, e) for v, e in zip(entry[name], errors, strict=True)))
            overlaps = entry[f"{name}_overlap"]
            if np.isfinite(overlaps).any():
                lines.append("  overlap  " + "  ".join(_number(v) for v in overlaps))
        at_least = "at least " if entry["negative_is_lower_bound"] else ""
        lines.append(f"  negative: {at_least}{_number(entry['negative'])}")
    if telescoping:
        lines += ["", "First-order approximations at the end, error relative to the outputs' motion"]
        lines.append(f"  along the path (telescoping)   {_last(telescoping, 'telescoping_error')}")
        lines.append(f"  linearised at the start        {_last(telescoping, 'linearisation_error')}")
        if "effective_parameters_train" in telescoping:
            parts = [_last(telescoping, f"effective_parameters_{kind}") for kind in ("train", "heldout")]
            lines.append(f"  effective parameters           {parts[0]} on train, {parts[1]} held out")
    cost = result.cost
    lines += [
        "",
        f"cost: {cost['records']:g} records, {_number(cost['seconds'])} s, training slowed by "
        f"{100 * cost['slowdown']:.1f} %, at most {cost['memory_bytes'] / 2**20:.0f} MiB",
    ]
    if result.unhandled:
        lines += ["not covered:", *(f"  {note}" for note in result.unhandled)]
    return "\n".join(lines)
