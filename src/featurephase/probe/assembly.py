"""From the records of a probe to its result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from featurephase.probe.mechanisms import MECHANISMS
from featurephase.probe.structure import Structure
from featurephase.probe.verdict import decide
from featurephase.results.probe import (
    HessianAnalysis,
    LayerSeries,
    MechanismBudget,
    MechanismSeries,
    PairSeries,
    ProbeResult,
    TelescopingSeries,
    Verdict,
)
from featurephase.results.status import DIVERGED, not_measured


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


def _series(records: Sequence[Record], *path: Any) -> Any:
    """A quantity at every record."""
    values: Any = [getattr(record, path[0]) for record in records]
    for key in path[1:]:
        values = [value[key] for value in values]
    return np.array(values, dtype=float)


def _exact(records: Sequence[Record], *path: Any, names: Iterable[str]) -> dict[str, Any]:
    """Series without a stochastic error."""
    columns = {name: _series(records, *path, name) for name in names}
    return columns | {f"{name}_se": np.zeros_like(values) for name, values in columns.items()}


def _parts(
    records: Sequence[Record], structure: Structure, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[LayerSeries, ...], tuple[PairSeries, ...]]:
    """The series of layers and pairs."""
    exact = partial(_exact, records)
    layers = tuple(
        LayerSeries(
            name=layer.name,
            kind=layer.kind,
            shape=shapes.get(layer.weight, ()),
            **exact("layers", i, names=records[0].layers[i]),
        )
        for i, layer in enumerate(structure.layers)
    )
    pairs = tuple(
        PairSeries(
            lower=pair.lower.name,
            upper=pair.upper.name,
            units=pair.shared,
            baseline=1.0 / math.sqrt(pair.shared),
            **exact("pairs", i, names=records[0].pairs[i]),
        )
        for i, pair in enumerate(structure.pairs)
    )
    return layers, pairs


def assembled(
    records: Sequence[Record],
    structure: Structure,
    shapes: Mapping[str, tuple[int, ...]],
    hessians: tuple[HessianAnalysis, ...],
    provenance: Mapping[str, Any],
    method: str,
) -> ProbeResult:
    """The result: series over the records, the budget, and the verdict."""
    if not records:
        return ProbeResult(verdict=Verdict(words="Nothing was recorded."), **provenance)

    series, exact = partial(_series, records), partial(_exact, records)
    kernel = {name: series("kernel", name) for name in records[0].kernel}
    layers, pairs = _parts(records, structure, shapes)
    over_time = exact("mechanisms", names=MECHANISMS)
    traces = kernel["trace"]
    with np.errstate(divide="ignore", invalid="ignore"):
        over_time["log_kernel_ratio"] = np.log(traces / traces[0])
        over_time["log_kernel_ratio_se"] = kernel["trace_se"] / traces
    budget = {name: float(values[-1]) for name, values in over_time.items()}
    parts = {name: value for name, value in budget.items() if not name.endswith("_se")}
    times = [record.time for record in records]
    status = provenance["status"]
    verdict = decide(
        times,
        kernel["change"],
        kernel["change_se"],
        parts,
        {layer.name: float(layer.movement[-1]) for layer in layers},
        ended=provenance["message"] if status.kind in _ENDED else "",
    )
    losses = {name: series(name) for name in ("loss", "heldout_loss")}
    return ProbeResult(
        times=np.array(times),
        **{name if name.startswith("label") else f"kernel_{name}": kernel[name] for name in _KERNEL},
        **losses,
        **{f"{name}_se": np.zeros_like(values) for name, values in losses.items()},
        layers=layers,
        pairs=pairs,
        mechanisms=MechanismBudget(method=method, **budget),
        mechanisms_over_time=MechanismSeries(**over_time),
        hessian=hessians,
        telescoping=TelescopingSeries(**exact("telescoping", names=records[0].telescoping)),
        verdict=verdict,
        **provenance,
    )


_KERNEL = tuple(
    name + suffix
    for name in ("change", "alignment", "label_alignment", "trace", "eigenvalues")
    for suffix in ("", "_se")
)
#: Kinds of status after which no phase is claimed.
_ENDED = (DIVERGED, not_measured(0).kind)
