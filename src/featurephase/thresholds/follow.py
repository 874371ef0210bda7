"""A crossing of a margin followed in time: where to run, and its root in every replicate at every time.

One run to the last time gives the margins at all times before. So a crossing that moves with t is enclosed by a few
deltas, each run once in every replicate, and the root at each time is read off a smooth curve through the margins of
the deltas near it. Neighbouring runs are no closer than their noise is alike, and a curve through several averages it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array
from featurephase.thresholds.roots import real_roots
from featurephase.thresholds.scan import MarginReading, SignChange, sign_changes

#: The deltas that enclose crossings are multiples of this in log delta, so that all crossings share their runs; how far
#: beyond the known way of a crossing they reach, and how far from a root they still count.
_SPACING = 0.13
_BEYOND = 0.04
_NEAR = 0.3
#: Runs go on as long as a crossing is no farther than this: the next one on either side of it always does.
_ENCLOSING = _SPACING + _BEYOND
#: A crossing that has moved farther than this in log delta is enclosed from there on only: its late times tell the
#: limit.
_LONGEST_WAY = 1.0
#: The first time of the grid, where the last one is eight times later at least.
_FIRST_TIME = 15.0


def followed_times(last: int) -> list[int]:
    """Times up to ``last`` by factors of the root of 2, ascending: the last one is there, and half of it."""
    first = min(_FIRST_TIME, last / 4.0)
    count = int(np.floor(2.0 * np.log2(last / first) + 1e-9)) + 1 if last > 0 else 1
    return sorted({round(last * 2.0 ** (-j / 2.0)) for j in range(count)})


@dataclass(frozen=True)
class MarginTable:
    """Margins of every sector at deltas, in replicates, at times; nan where there was no run, or it diverged.

    Attributes
    ----------
    delta
        Ascending, (D,).
    times
        Ascending, (T,).
    margins
        At the left edge and at 0, (D, R, T, sectors, 2).
    left_edge
        (D, R, T).
    drifts
        Whether the edge drifts because the curvature is unbounded, (D, R, T).
    outer
        Readout and biases where they are trained, (D, R, T, P); else P = 0.
    """

    delta: Array
    times: NDArray[np.int64]
    margins: Array
    left_edge: Array
    drifts: NDArray[np.bool_]
    outer: Array

    @classmethod
    def of(
        cls, times: Sequence[int], sectors: int, rows: Iterable[tuple[float, list[list[MarginReading | None]]]]
    ) -> MarginTable:
        """From what each replicate read at each delta, at the first of the times or all of them."""
        rows = sorted(rows, key=lambda row: row[0])
        replicates = len(rows[0][1]) if rows else 0
        shape = (len(rows), replicates, len(times))
        margins = np.full((*shape, sectors, 2), np.nan)
        left_edge, drifts = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        read = (reading for _, row in rows for readings in row for reading in readings if reading is not None)
        outer = np.full((*shape, max((len(reading.outer) for reading in read), default=0)), np.nan)
        for d, (_, replicate_readings) in enumerate(rows):
            for r, readings in enumerate(replicate_readings):
                for t, reading in enumerate(readings):
                    if reading is not None:
                        margins[d, r, t] = reading.sectors
                        left_edge[d, r, t], drifts[d, r, t] = reading.left_edge, reading.drifts
                        outer[d, r, t] = reading.outer
        delta = np.array([d for d, _ in rows])
        return cls(delta, np.asarray(times, dtype=np.int64), margins, left_edge, drifts, outer)

    @property
    def drifting(self) -> float:
        """Share of the readings whose edge drifts because the curvature is unbounded."""
        known = np.isfinite(self.left_edge)
        return float(self.drifts[known].mean()) if known.any() else 0.0

    def mean(self, sector: int, zero: bool, time: int) -> tuple[Array, Array]:
        """Deltas at which all replicates ran up to a time (its index), and the mean margin of a sector there."""
        values = self.margins[:, :, time, sector, int(zero)]
        known = ~np.isnan(values).any(axis=1)
        return self.delta[known], values[known].mean(axis=1)

    def changes(self, sector: int, zero: bool, time: int) -> list[SignChange]:
        """Changes of sign of the mean margin at a time (its index), ascending in delta."""
        delta, mean = self.mean(sector, zero, time)
        return sign_changes(delta, mean) if len(delta) > 1 else []


@dataclass(frozen=True)
class Crossing:
    """A change of sign that is followed: of which sector and margin, and its way so far.

    Attributes
    ----------
    way
        delta at each time of a table, nan where there is none, (T,).
    """

    sector: int
    zero: bool
    rising: bool
    way: tuple[float, ...]

    @classmethod
    def backwards(cls, table: MarginTable, sector: int, zero: bool, change: SignChange) -> Crossing:
        """From the last time of a table back: at each time the nearest change of the same direction."""
        way = [change.delta]
        for t in range(len(table.times) - 2, -1, -1):
            same = [c.delta for c in table.changes(sector, zero, t) if c.rising == change.rising]
            ahead = next(x for x in way if np.isfinite(x))
            way.insert(0, min(same, key=lambda x: abs(np.log(x / ahead))) if same else np.nan)
        return cls(sector, zero, change.rising, tuple(way))


def enclosing_deltas(crossing: Crossing, times: Array, last: int, bounds: tuple[float, float]) -> dict[float, int]:
    """The deltas to run for a crossing and how far each: delta -> the last time it is needed for.

    The way beyond the last of ``times`` is continued: with what is left of a power that loses a factor of .7 at each
    doubling, for as many doublings as there are to ``last``.
    """
    known = [(float(t), float(np.log(x))) for t, x in zip(times, crossing.way, strict=True) if np.isfinite(x)]
    at, logs = (np.array(column) for column in zip(*known, strict=True))
    doublings = max(np.log2(last / at[-1]), 0.0)
    if doublings > 0 and len(at) > 1:
        rate = (logs[-1] - logs[-2]) / np.log2(at[-1] / at[-2])
        ahead = np.linspace(0.0, doublings, 9)[1:]
        logs = np.concatenate([logs, logs[-1] + rate * 0.7 * (1.0 - 0.7**ahead) / 0.3])
        at = np.concatenate([at, at[-1] * 2.0**ahead])
    farthest = np.clip(logs, logs[-1] - _LONGEST_WAY, logs[-1] + _LONGEST_WAY)
    # what is only expected gets no margin: where it falls short a delta is added (missing_deltas)
    margin = np.where(np.arange(len(farthest)) < len(known), _BEYOND, 0.0)
    start, end = np.floor((farthest - margin).min() / _SPACING), np.ceil((farthest + margin).max() / _SPACING)
    plan: dict[float, int] = {}
    for number in range(int(start), int(end) + 1):
        delta = _enclosing(number, bounds)
        near = at[np.abs(logs - np.log(delta)) < _ENCLOSING]
        needed = last if not len(near) or near.max() >= at[-1] * 0.999 else int(np.ceil(near.max() * 1.5))
        plan[delta] = max(plan.get(delta, 0), min(needed, last))
    return plan


def _enclosing(number: int, bounds: tuple[float, float]) -> float:
    """One of the deltas that all crossings share, or the end of the range."""
    return float(np.clip(np.exp(number * _SPACING), *bounds))


def missing_deltas(
    table: MarginTable, crossing: Crossing, known: Sequence[float], bounds: tuple[float, float]
) -> dict[float, int]:
    """Deltas to run, or to run farther, where the mean margin has no change of sign at a time: delta -> how far.

    None is farther from where the crossing was seen last than those that enclose its way.

    Parameters
    ----------
    known
        Deltas that were run for this crossing.
    """
    plan: dict[float, int] = {}
    latest = np.nan
    for t, time in reversed(list(enumerate(table.times))):
        delta, mean = table.mean(crossing.sector, crossing.zero, t)
        near = np.isin(delta, known)
        delta, mean = delta[near], mean[near]
        if len(delta) == 0:
            continue
        same = [c.delta for c in sign_changes(delta, mean) if c.rising == crossing.rising]
        if same:
            latest = same[-1] if np.isnan(latest) else latest
            continue
        outwards = (mean[-1] < 0) == crossing.rising  # it lies above all deltas, or below
        number = round(np.log(delta[-1] if outwards else delta[0]) / _SPACING) + (1 if outwards else -1)
        wanted = _enclosing(number, bounds)
        if wanted not in delta and not abs(np.log(wanted / latest)) > _LONGEST_WAY:
            plan[wanted] = max(plan.get(wanted, 0), int(time))
    return plan


def replicate_crossings(table: MarginTable, crossing: Crossing, known: Sequence[float]) -> Array:
    """The root of the margin in every replicate at every time, (R, T); nan where there is none.

    The root is that of a smooth curve in log delta through the mean margins of the runs near it: a parabola, or a
    straight line through fewer than four. What a replicate's margins are above the mean, on average over these runs,
    moves its root by that over the slope. So a replicate whose few noisy runs cross 0 nowhere, or twice, has one too.
    """
    margins = table.margins[:, :, :, crossing.sector, int(crossing.zero)]
    mine = np.isin(table.delta, known)
    log = np.log(table.delta[mine])
    roots = np.full(margins.shape[1:], np.nan)
    for t in range(len(table.times)):
        values = margins[mine, :, t]
        there = np.asarray(~np.isnan(values).any(axis=1))
        root, slope, near = _mean_root(log[there], values[there].mean(axis=1), crossing.rising)
        if not np.isnan(root):
            close = values[there][near]
            above = (close - close.mean(axis=1, keepdims=True)).mean(axis=0)
            roots[:, t] = np.exp(root - above / slope)
    return roots


def _mean_root(log: Array, mean: Array, rising: bool) -> tuple[float, float, NDArray[np.bool_]]:
    """Root, slope there, and the runs near it; the root is nan if there is none in or a little beyond the runs."""
    near = np.ones(len(log), dtype=bool)
    nothing = (np.nan, np.nan, near)
    if len(log) < 2:
        return nothing
    root, slope = _curve_root(log, mean, 1, rising)
    if np.isnan(root):
        return nothing
    close = np.abs(log - np.clip(root, log[0], log[-1])) < _NEAR
    near = close if np.count_nonzero(close) >= 2 else near
    for degree in (2, 1) if np.count_nonzero(near) >= 4 else (1,):
        root, slope = _curve_root(log[near], mean[near], degree, rising)
        if log[0] - _SPACING < root < log[-1] + _SPACING:
            return root, slope, near
    return nothing


def _curve_root(x: Array, values: Array, degree: int, rising: bool) -> tuple[float, float]:
    """The root of a polynomial through the values, going in this direction, nearest to their middle, and its slope."""
    middle = float(x.mean())
    curve = np.polynomial.Polynomial.fit(x - middle, values, degree, domain=[])
    right = [float(r) for r in real_roots(curve) if (curve.deriv()(r) > 0) == rising]
    root = min(right, key=abs, default=np.nan)
    return root + middle, float(curve.deriv()(root)) if right else np.nan
