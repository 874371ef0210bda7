"""Results as xarray data sets: named dimensions, standard errors beside the numbers, units and provenance inside.

The words are those of the JSON documents; ``x_se`` is the standard error of ``x``. A dimension whose entries differ in
number (outliers, crossings, scans) is padded with nan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray

    from featurephase.analyses.explanation import Explanation
    from featurephase.analyses.threshold import NetworkThreshold, Threshold
    from featurephase.foundation.types import Array
    from featurephase.results.base import Result

__all__ = ["explanation_dataset", "provenance", "threshold_dataset"]

#: Long names and units of the variables, for whoever opens the file without the documentation.
_ABOUT: dict[str, tuple[str, str]] = {
    "delta": ("samples over dimension, n/d", "1"),
    "time": ("gradient step", "step"),
    "hessian_time": ("gradient step at which the Hessian is analysed", "step"),
    "threshold_time": ("gradient step at which the threshold is sought", "step"),
    "limit_time": ("gradient steps along which the limit was followed", "step"),
    "train_loss": ("training loss, penalty excluded", "loss"),
    "test_loss": ("test loss, penalty excluded", "loss"),
    "gram": ("inner products of the neurons' weights, Theta'Theta", "1"),
    "overlap": ("overlaps of the weights with the latent directions, Theta_star'Theta", "1"),
    "left_edge": ("left edge of the bulk of the Hessian", "loss"),
    "right_edge": ("right edge of the bulk of the Hessian", "loss"),
    "hard_outlier": ("eigenvalue outside the bulk, aligned with the hard subspace", "loss"),
    "outlier": ("eigenvalue outside the bulk, on the visited directions", "loss"),
    "density_at": ("eigenvalue at which the density is given", "loss"),
    "density": ("density of the bulk", "1/loss"),
    "delta_alg": ("samples over dimension that the best first-order method needs", "1"),
    "delta_nn": ("n/d from which on a hard outlier stands left of the bulk", "1"),
    "delta_nn_negative": ("n/d from which on that outlier is negative: feature learning", "1"),
    "delta_nn_directions": ("n/d at which the j-th eigenvalue of the margin crosses 0", "1"),
    "delta_nn_blocks": ("n/d from which on the block of one neuron has a hard outlier", "1"),
    "delta_nn_block_minimum": ("the lowest of them", "1"),
    "delta_nn_block_gap": ("its relative distance from that of the full matrix equation", "1"),
    "crossings": ("every n/d at which a hard outlier appears or disappears", "1"),
    "scan_delta": ("n/d of the coarse scan", "1"),
    "scan_margin": ("eigenvalues of the margin; negative: a hard outlier left of the bulk", "1"),
    "delta_nn_history": ("delta_NN(t) along the way to the limit", "1"),
    "delta_nn_limit": ("delta_NN at the last time reached", "1"),
    "drift": ("delta_NN(t) - delta_NN(t/2) at that time", "1"),
}


def provenance(result: Result, **more: Any) -> dict[str, Any]:
    """What every file says of its origin: title, version, seed, status and the experiment file itself."""
    import numpy
    import scipy

    return {
        "title": getattr(result, "title", ""),
        "source": f"featurephase {result.version}, numpy {numpy.__version__}, scipy {scipy.__version__}",
        "version": result.version,
        "seed": -1 if result.seed is None else result.seed,
        "status": str(result.status),
        "message": result.message,
        "experiment": getattr(result, "experiment", ""),
        **more,
    }


def _described(dataset: xarray.Dataset) -> xarray.Dataset:
    for name, variable in dataset.variables.items():
        word = str(name)
        about = _ABOUT.get(word.removesuffix("_se"))
        if about is not None:
            error = "standard error: " if word.endswith("_se") else ""
            variable.attrs |= {"long_name": error + about[0], "units": about[1]}
    return dataset


def _padded(rows: Iterable[Sequence[float] | Array], width: int | None = None) -> Array:
    """Rows of different lengths as one array (rows, longest), nan where a row has no entry."""
    listed = [np.asarray(row, dtype=np.float64).ravel() for row in rows]
    size = max((row.size for row in listed), default=0) if width is None else width
    out = np.full((len(listed), size), np.nan)
    for target, row in zip(out, listed, strict=True):
        target[: row.size] = row
    return out


def _text(values: Iterable[str]) -> NDArray[np.object_]:
    return np.array([str(v) for v in values], dtype=object)


def threshold_dataset(threshold: Threshold) -> xarray.Dataset:
    """The numbers of :class:`~featurephase.analyses.threshold.Threshold`, labelled.

    Dimensions: ``threshold_time``, ``direction`` (1 .. m k_H), ``neuron``, ``crossing``, ``scan_point``,
    ``limit_time``, ``latent``, ``easy`` and ``hard``.
    """
    import xarray

    entries: tuple[NetworkThreshold, ...] = threshold.delta_nn
    variables: dict[str, Any] = {
        "delta_alg": ((), threshold.delta_alg),
        "delta_alg_se": ((), threshold.delta_alg_se),
        "easy_basis": (("latent", "easy"), threshold.easy_basis),
        "hard_basis": (("latent", "hard"), threshold.hard_basis),
    }
    coords: dict[str, Any] = {"latent": _text(f"g{j + 1}" for j in range(threshold.easy_basis.shape[0]))}
    if entries:
        for name, source in (
            ("delta_nn", "value"),
            ("delta_nn_negative", "value_negative"),
            ("delta_nn_block_minimum", "block_minimum"),
            ("delta_nn_block_gap", "block_gap"),
        ):
            for suffix in ("", "_se"):
                column = [float(getattr(e, source + suffix)) for e in entries]
                variables[name + suffix] = (("threshold_time",), column)
        for suffix in ("", "_se"):
            rows = {
                "delta_nn_directions": ("direction", [getattr(e, f"directions{suffix}") for e in entries]),
                "delta_nn_blocks": ("neuron", [[getattr(b, f"value{suffix}") for b in e.blocks] for e in entries]),
                "crossings": ("crossing", [getattr(e, f"crossings{suffix}") for e in entries]),
            }
            for name, (dim, values) in rows.items():
                variables[name + suffix] = (("threshold_time", dim), _padded(values))
        variables["threshold_status"] = (("threshold_time",), _text(e.status for e in entries))
        variables |= _scan(entries)
        coords["threshold_time"] = np.array([e.time for e in entries], dtype=np.int64)
    limit = threshold.delta_nn_limit
    if limit is not None:
        variables |= {
            "delta_nn_history": (("limit_time",), limit.history),
            "delta_nn_history_se": (("limit_time",), limit.history_se),
            "delta_nn_limit": ((), limit.value),
            "delta_nn_limit_se": ((), limit.value_se),
            "drift": ((), limit.drift),
            "drift_se": ((), limit.drift_se),
        }
        coords["limit_time"] = np.array(limit.history_time, dtype=np.int64)
    more: dict[str, Any] = {"samples": threshold.samples, "replicates": threshold.replicates}
    if limit is not None:
        more |= {"limit_status": limit.status, "limit_converged": int(limit.converged)}
    return _described(xarray.Dataset(variables, coords=coords, attrs=provenance(threshold, **more)))


def _scan(entries: Sequence[NetworkThreshold]) -> dict[str, Any]:
    """The scanned margins over (threshold_time, scan_point, direction); deltas at which runs diverged are left out."""
    scanned = [e.scan_delta[: len(e.scan_margin)] for e in entries]
    deltas = _padded(scanned)
    variables: dict[str, Any] = {"scan_delta": (("threshold_time", "scan_point"), deltas)}
    for suffix in ("", "_se"):
        margins = [getattr(e, f"scan_margin{suffix}") for e in entries]
        size = max((m.shape[1] for m in margins if m.ndim == 2), default=0)
        table = np.full((*deltas.shape, size), np.nan)
        for target, margin in zip(table, margins, strict=True):
            if margin.ndim == 2:
                target[: len(margin), : margin.shape[1]] = margin
        variables[f"scan_margin{suffix}"] = (("threshold_time", "scan_point", "direction"), table)
    return variables


def explanation_dataset(explanation: Explanation) -> xarray.Dataset:
    """The numbers and words of an explanation over (direction); nan: no statement."""
    import xarray

    entries = explanation.directions
    numbers = ("overlap", "delta_nn", "delta_alg", "samples_needed", "escape_step", "escape_low", "escape_high")

    def column(name: str) -> Array:
        return np.array([np.nan if (x := getattr(e, name)) is None else x for e in entries], dtype=np.float64)

    variables: dict[str, Any] = {
        name + suffix: (("direction",), column(name + suffix)) for name in numbers for suffix in ("", "_se")
    }
    learned = {True: "yes", False: "no", None: "undetermined"}
    for name in ("kind", "mechanism", "change"):
        variables[name] = (("direction",), _text(getattr(e, name) for e in entries))
    variables["learned"] = (("direction",), _text(learned[e.learned] for e in entries))
    latent = explanation.easy_basis.shape[0]
    vectors = np.array([e.direction for e in entries]).reshape(-1, latent)
    variables["vector"] = (("direction", "latent"), vectors)
    return _described(
        xarray.Dataset(
            variables,
            coords={
                "direction": _text(e.name for e in entries),
                "latent": _text(f"g{j + 1}" for j in range(latent)),
            },
            attrs=provenance(
                explanation,
                delta=explanation.delta,
                steps=explanation.steps,
                samples=explanation.samples,
                replicates=explanation.replicates,
                verdict=explanation.verdict,
            ),
        )
    )
