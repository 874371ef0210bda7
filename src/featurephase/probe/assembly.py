"""From the records of a probe to its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurephase.probe.mechanisms import MECHANISMS
from featurephase.probe.result import ProbeResult
from featurephase.probe.structure import Structure
from featurephase.probe.verdict import decide

__all__ = ["Record", "assembled"]


@dataclass(frozen=True)
class Record:
    """What was measured at one time."""

    time: float
    kernel: Mapping[str, Any]
    layers: Sequence[Mapping[str, float]]
    pairs: Sequence[Mapping[str, float]]
    mechanisms: Mapping[str, float]
    telescoping: Mapping[str, float]
    loss: float
    heldout_loss: float


def assembled(
    records: Sequence[Record],
    structure: Structure,
    shapes: Mapping[str, list[int]],
    hessians: tuple[dict[str, Any], ...],
    provenance: Mapping[str, Any],
    method: str,
) -> ProbeResult:
    """The result: series over the records, the budget, and the verdict."""
    if not records:
        empty = {"words": "Nothing was recorded.", **_NOTHING}
        return ProbeResult(verdict=empty, **provenance)

    def series(*path: Any) -> Any:
        values: Any = [getattr(record, path[0]) for record in records]
        for key in path[1:]:
            values = [value[key] for value in values]
        return np.array(values, dtype=float)

    kernel = {name: series("kernel", name) for name in records[0].kernel}
    layers = tuple(
        {
            "name": layer.name,
            "kind": layer.kind,
            "shape": shapes.get(layer.weight, []),
            **{key: series("layers", i, key) for key in records[0].layers[i]},
        }
        for i, layer in enumerate(structure.layers)
    )
    pairs = tuple(
        {
            "lower": pair.lower.name,
            "upper": pair.upper.name,
            "units": pair.shared,
            "baseline": 1.0 / math.sqrt(pair.shared),
            **{key: series("pairs", i, key) for key in records[0].pairs[i]},
        }
        for i, pair in enumerate(structure.pairs)
    )
    over_time = {name: series("mechanisms", name) for name in MECHANISMS}
    traces = kernel["trace"]
    with np.errstate(divide="ignore", invalid="ignore"):
        over_time["log_kernel_ratio"] = np.log(traces / traces[0])
    mechanisms: dict[str, Any] = {name: float(values[-1]) for name, values in over_time.items()}
    movements = {entry["name"]: float(entry["movement"][-1]) for entry in layers}
    times = [record.time for record in records]
    diverged = provenance["message"] if str(provenance["status"]).startswith(("diverged", "not measured")) else ""
    verdict = decide(times, kernel["change"], kernel["change_se"], mechanisms, movements, ended=diverged)
    mechanisms["method"] = method
    return ProbeResult(
        times=np.array(times),
        kernel_change=kernel["change"],
        kernel_change_se=kernel["change_se"],
        kernel_alignment=kernel["alignment"],
        kernel_alignment_se=kernel["alignment_se"],
        label_alignment=kernel["label_alignment"],
        label_alignment_se=kernel["label_alignment_se"],
        kernel_trace=kernel["trace"],
        kernel_trace_se=kernel["trace_se"],
        kernel_eigenvalues=kernel["eigenvalues"],
        kernel_eigenvalues_se=kernel["eigenvalues_se"],
        loss=series("loss"),
        loss_se=series("loss") * 0.0,
        heldout_loss=series("heldout_loss"),
        heldout_loss_se=series("heldout_loss") * 0.0,
        layers=layers,
        pairs=pairs,
        mechanisms=mechanisms,
        mechanisms_over_time=over_time,
        hessian=hessians,
        telescoping={key: series("telescoping", key) for key in records[0].telescoping},
        verdict=verdict,
        **provenance,
    )


_NOTHING = {
    "phase": "undetermined",
    "mechanism": "none",
    "since": float("nan"),
    "kernel_change": float("nan"),
    "kernel_change_se": float("nan"),
    "decided": False,
}
