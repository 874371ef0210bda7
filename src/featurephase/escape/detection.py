"""Detection in the curves of single runs: when a loss falls, when the hard overlap takes over, and grokking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.types import Array

#: A run has escaped when |P_H Theta| first stays above this fraction of |Theta|.
ESCAPE_LEVEL = 0.5
#: Share of the loss at the start that must go for a fall to count.
LEAST_DROP = 0.1


def crossing_time(curve: ArrayLike, fraction: float, *, least_drop: float = LEAST_DROP) -> float:
    """First step from which on a loss has made ``fraction`` of its total drop, for good; nan if it does not drop.

    The total drop is from the first value to the mean of the last twentieth of the curve; less than ``least_drop`` of
    the first value is no drop.
    """
    values = np.asarray(curve, dtype=np.float64)
    if len(values) < 2 or not np.all(np.isfinite(values)):
        return float("nan")
    final = float(values[-max(len(values) // 20, 1) :].mean())
    drop = float(values[0]) - final
    if not drop > least_drop * abs(float(values[0])):
        return float("nan")
    above = np.flatnonzero(values > values[0] - fraction * drop)
    return float(above[-1] + 1) if above[-1] + 1 < len(values) else float("nan")


def level_time(curve: ArrayLike, level: float) -> float:
    """First step from which on a curve stays at or above ``level``; nan if it does not end there."""
    values = np.asarray(curve, dtype=np.float64)
    below = np.flatnonzero(~(values >= level))
    first = int(below[-1]) + 1 if below.size else 0
    return float(first) if first < len(values) else float("nan")


@dataclass(frozen=True)
class GrokkingTimes:
    """Times at which losses have made half of their drop, for good; nan where there is no drop.

    Attributes
    ----------
    train_time, test_time
        Of the training and of the test loss.
    delay
        ``test_time - train_time``: positive where generalisation comes after the fit, which is grokking.
    """

    train_time: float
    test_time: float
    delay: float


def grokking_times(train_loss: ArrayLike, test_loss: ArrayLike, *, fraction: float = 0.5) -> GrokkingTimes:
    """Detect and time grokking in a pair of curves: the first lasting crossing of a fraction of each total drop."""
    train, test = crossing_time(train_loss, fraction), crossing_time(test_loss, fraction)
    return GrokkingTimes(train, test, test - train)


def hard_overlap(gram: Array, overlap: Array, hard_basis: Array) -> Array:
    """|P_H Theta|_F/|Theta|_F for Gram matrices (.., m, m) and overlaps (.., k, m); 0 where the weights vanish."""
    size = np.sqrt(np.einsum("...rr->...", gram))
    part = np.linalg.norm(np.einsum("kh,...km->...hm", hard_basis, overlap), axis=(-2, -1))
    out: Array = np.divide(part, size, out=np.where(np.isnan(size), np.nan, 0.0), where=size > 0)
    return out


def median_and_se(times: Iterable[float]) -> tuple[float, float]:
    """Median of times over the seeds, nan counted as never, and its standard error from order statistics.

    The median is nan where most seeds have no time, the error nan where an order statistic it is made of is missing.
    """
    x = np.sort(np.where(np.isnan(v := np.array(list(times))), np.inf, v))
    count = len(x)
    middle = float(np.median(x)) if np.isfinite(x[count // 2]) else np.nan
    half = np.sqrt(count) / 2.0
    low, high = int(np.floor(count / 2 - half)), int(np.ceil(count / 2 + half)) - 1
    if count < 2 or not np.isfinite(middle) or not np.isfinite(x[min(max(high, 0), count - 1)]):
        return middle, np.nan
    return middle, float(x[min(high, count - 1)] - x[max(low, 0)]) / 2.0
