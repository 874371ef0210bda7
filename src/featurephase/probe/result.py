"""What a probe measured, as a labelled value; and the mean of several runs with standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.results.base import Result

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["ProbeResult", "average"]


def _empty() -> Array:
    return np.empty(0)


@dataclass(frozen=True, kw_only=True)
class ProbeResult(Result):
    """The record of one training run, or the mean over ``replicates`` runs.

    T records, k eigenvalues. A stochastic ``x`` has a sibling ``x_se``: over replicates if there are
    several, else the error of the kernel's sketch (0 where the kernel is exact). In mappings the siblings
    are keys of the same mapping.
    """

    setting: Mapping[str, Any] = field(default_factory=dict)  # what was probed, in words
    outcome: Mapping[str, Any] = field(default_factory=dict)  # losses and accuracies at the end
    replicates: int = 1
    times: Array = field(default_factory=_empty)  # (T,) training steps
    kernel_method: str = "exact"
    kernel_change: Array = field(default_factory=_empty)  # (T,) |K-K0|_F / |K0|_F
    kernel_change_se: Array = field(default_factory=_empty)
    kernel_alignment: Array = field(default_factory=_empty)  # (T,) <K,K0> / (|K||K0|)
    kernel_alignment_se: Array = field(default_factory=_empty)
    label_alignment: Array = field(default_factory=_empty)  # (T,) y'Ky / (|K||y|^2); nan without labels
    label_alignment_se: Array = field(default_factory=_empty)
    kernel_trace: Array = field(default_factory=_empty)  # (T,)
    kernel_trace_se: Array = field(default_factory=_empty)
    kernel_eigenvalues: Array = field(default_factory=_empty)  # (T, k) descending
    kernel_eigenvalues_se: Array = field(default_factory=_empty)
    loss: Array = field(default_factory=_empty)  # (T,) on the probe batch; nan without a loss
    loss_se: Array = field(default_factory=_empty)
    heldout_loss: Array = field(default_factory=_empty)  # (T,)
    heldout_loss_se: Array = field(default_factory=_empty)
    layers: tuple[Mapping[str, Any], ...] = ()  # name, kind, shape and (T,) series
    pairs: tuple[Mapping[str, Any], ...] = ()  # lower, upper, baseline and (T,) series
    unhandled: tuple[str, ...] = ()  # what no number is given for, and why
    mechanisms: Mapping[str, Any] = field(default_factory=dict)  # scalars, start to last record
    mechanisms_over_time: Mapping[str, Any] = field(default_factory=dict)  # (T,) each
    hessian: tuple[Mapping[str, Any], ...] = ()  # one entry per analysed time
    telescoping: Mapping[str, Any] = field(default_factory=dict)  # (T,) series
    verdict: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; every entry of the Hessian says its seed and version too."""
        document = super().to_dict()
        for entry in document["hessian"]:
            entry.update(seed=self.seed, version=self.version)
        return document

    def to_xarray(self) -> xarray.Dataset:
        """Series over ``time`` (and ``eigenvalue``, ``layer``, ``pair``, ``hessian_time``), provenance in
        the attributes."""
        import xarray as xr

        data: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray) and f.name != "times" and value.size:
                data[f.name] = (("time", "eigenvalue")[: value.ndim], value)
        for prefix, mapping in (("mechanism", self.mechanisms_over_time), ("telescoping", self.telescoping)):
            for name, value in mapping.items():
                if isinstance(value, np.ndarray) and value.shape == self.times.shape:
                    data[f"{prefix}_{name}"] = ("time", value)
        for prefix, entries in (("layer", self.layers), ("pair", self.pairs)):
            names = [n for n in entries[0] if isinstance(entries[0][n], np.ndarray)] if entries else []
            for name in names:
                data[f"{prefix}_{name}"] = ((prefix, "time"), np.stack([entry[name] for entry in entries]))
        for name in ("smallest", "largest"):
            if self.hessian:
                stacked = np.stack([entry[name] for entry in self.hessian])
                data[f"hessian_{name}"] = (("hessian_time", "rank"), stacked)
        coordinates: dict[str, Any] = {"time": self.times}
        if self.layers:
            coordinates["layer"] = [entry["name"] for entry in self.layers]
        if self.pairs:
            coordinates["pair"] = [f"{entry['lower']} -> {entry['upper']}" for entry in self.pairs]
        if self.hessian:
            coordinates["hessian_time"] = [entry["time"] for entry in self.hessian]
        attributes = {
            "status": str(self.status),
            "version": self.version,
            "seed": -1 if self.seed is None else self.seed,
            "replicates": self.replicates,
            "verdict": str(self.verdict.get("words", "")),
            **{f"setting_{k}": v if type(v) in (int, float, str) else str(v) for k, v in self.setting.items()},
        }
        dataset = xr.Dataset(data, coords=coordinates, attrs=attributes)
        dataset["time"].attrs["units"] = "training steps"
        return dataset

    def figure(self) -> Figure:  # type: ignore[override]
        """Kernel, layers, pairs, mechanism budget, Hessian and telescoping in one figure."""
        from featurephase.present.probe_figures import probe_figure

        return probe_figure(self)

    def table(self) -> str:
        """Verdict, kernel, layers, pairs, budget, Hessian, telescoping and cost, for people."""
        from featurephase.present.probe_tables import probe_table

        return probe_table(self)


def average(results: Sequence[ProbeResult]) -> ProbeResult:
    """The mean of several runs of the same experiment; ``x_se`` is their standard deviation over the
    square root of R.

    Parameters
    ----------
    results
        R >= 2 results with the same records, layers and pairs. Runs that diverged are left out, and
        counted in the message.

    Raises
    ------
    InputError
        If fewer than two are given, or their records differ.
    """
    if len(results) < 2:
        raise InputError(f"a mean with errors needs at least 2 replicates, not {len(results)}")
    from featurephase.probe.verdict import decide

    good = [r for r in results if r.ok]
    failed = len(results) - len(good)
    if not good:
        return replace(
            results[0], replicates=len(results), message="; ".join(dict.fromkeys(r.message for r in results))
        )
    first = good[0]
    if any(r.times.shape != first.times.shape or np.any(r.times != first.times) for r in good):
        raise InputError("the replicates recorded at different times")
    measured = {f.name: [getattr(r, f.name) for r in good] for f in fields(ProbeResult) if f.name not in _GIVEN}
    merged = _merge(measured)
    result = replace(first, **merged, replicates=len(good))
    movements = {entry["name"]: float(entry["movement"][-1]) for entry in result.layers}
    verdict = decide(
        [float(t) for t in result.times],
        result.kernel_change,
        result.kernel_change_se,
        {k: v for k, v in result.mechanisms.items() if isinstance(v, float)},
        movements,
    )
    message = (
        f"{failed} of {len(results)} replicates failed: {next(r.message for r in results if not r.ok)}"
        if failed
        else ""
    )
    return replace(
        result,
        verdict=verdict,
        message=message,
        status="ok" if not failed else f"{failed} of {len(results)} replicates failed",
    )


def _merge(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Key -> values of all runs; numbers and arrays become mean and ``_se``, mappings and lists are
    entered, words kept."""
    out: dict[str, Any] = {}
    for key, values in columns.items():
        sample = values[0]
        if key.endswith("_se") and key[:-3] in columns:
            continue
        if isinstance(sample, Mapping):
            common = [k for k in sample if all(k in v for v in values)]
            out[key] = _merge({k: [v[k] for v in values] for k in common})
        elif isinstance(sample, tuple) and sample and isinstance(sample[0], Mapping):
            out[key] = tuple(
                _merge({k: [row[k] for row in rows] for k in rows[0]}) for rows in zip(*values, strict=True)
            )
        elif isinstance(sample, bool):
            out[key] = any(values)
        elif isinstance(sample, (int, float, np.ndarray)) and key not in _EXACT:
            stack = np.stack([np.asarray(v, float) for v in values])
            mean, error = (
                stack.mean(0),
                stack.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else stack[0] * np.nan,
            )
            array = isinstance(sample, np.ndarray)
            out[key] = mean if array else float(mean)
            out[f"{key}_se"] = error if array else float(error)
        else:
            out[key] = sample if all(_same(v, sample) for v in values) else _words(values)
    return out


#: Fields that are not averaged.
_GIVEN = {"status", "message", "seed", "version", "setting", "replicates", "verdict", "times"}
#: Numbers that are part of the design, not measured.
_EXACT = {"time", "times", "units", "baseline", "records", "parameters", "memory_bytes"}


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else bool(a == b)


def _words(values: Sequence[Any]) -> Any:
    return values[0] if not isinstance(values[0], str) else "; ".join(dict.fromkeys(values))
