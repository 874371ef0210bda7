"""Whether a hard direction is recovered: the trend of its capture with the dimension, at fixed n/d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from featurephase.dynamics.training import ReplicateTrajectory
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.results.simulation import Recovery

#: Recovery compares d with these fractions of it ...
_FRACTIONS = (0.25, 0.0625)
#: ... and calls a capture that falls at least this fast with d (exponent) none: midway between -1/2 and 0.
_DECAY = 0.25
#: A capture of at least this is strong.
_STRONG = 0.9


def smaller_dimensions(dimension: int, delta: float, least: int) -> list[int]:
    """The dimensions below d to compare it with: four times ``least`` (latent directions and neurons) at least."""
    sizes = [round(fraction * dimension) for fraction in _FRACTIONS]
    return [size for size in sizes if size >= 4 * least and round(delta * size) >= 4]


def captures(runs: Sequence[ReplicateTrajectory], direction: Array) -> Array:
    """Length of the projection of a latent direction (k,) on the span of the final weights, (runs,); nan: diverged."""
    out = np.full(len(runs), np.nan)
    for i, run in enumerate(runs):
        gram, row = run.gram[-1], direction @ run.overlap[-1]
        if np.all(np.isfinite(gram)):
            square = float(row @ np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ row)
            out[i] = np.sqrt(max(square, 0.0))
    return out


def recovery(direction: Array, runs: Mapping[int, Sequence[ReplicateTrajectory]]) -> Recovery:
    """The verdict on one hard direction (k,) from runs at several dimensions."""
    dimensions = tuple(sorted(runs))
    means = [_mean_capture(captures(runs[d], direction)) for d in dimensions]
    capture, capture_se = (np.array(x) for x in zip(*means, strict=True))
    exponent, exponent_se = _trend(np.array(dimensions, dtype=np.float64), capture, capture_se)
    return Recovery(
        direction=direction,
        verdict=_verdict(float(capture[-1]), exponent, exponent_se),
        capture=float(capture[-1]),
        capture_se=float(capture_se[-1]),
        exponent=exponent,
        exponent_se=exponent_se,
        dimensions=dimensions,
    )


def _mean_capture(values: Array) -> tuple[float, float]:
    """Root mean square, and its standard error (that of the square where the mean is 0)."""
    square, square_se = mean_and_se(values**2)
    mean = float(np.sqrt(square))
    return mean, float(square_se / (2 * mean) if mean > 0 else square_se)


def _trend(sizes: Array, mean: Array, error: Array) -> tuple[float, float]:
    """Slope of log mean against log size by weighted least squares, and its standard error; nan if there is none."""
    if not (len(sizes) > 1 and np.all(mean > 0) and np.all(np.isfinite(mean))):
        return np.nan, np.nan
    x, y = np.log(sizes), np.log(mean)
    relative = np.where(np.isfinite(error), error / mean, 1.0)
    w = 1.0 / np.maximum(relative, 1e-3) ** 2
    centre = np.sum(w * x) / np.sum(w)
    spread = float(np.sum(w * (x - centre) ** 2))
    return float(np.sum(w * (x - centre) * y) / spread), float(spread**-0.5)


def _verdict(capture: float, exponent: float, exponent_se: float) -> str:
    if not np.isfinite(exponent):
        return "none" if capture == 0.0 else "undetermined"
    if abs(exponent + _DECAY) < 2.0 * exponent_se:
        return "undetermined"
    if exponent < -_DECAY:
        return "none"
    return "strong" if capture >= _STRONG else "weak"
