"""Where margins cross 0: which numbers of a reading are wanted, and the root finder that closes in on each.

The root finder is a pure function of a function of log delta. It knows nothing of runs; a run that diverged is nan to
it. What a reading costs is shared: all targets of a replicate read the same runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from featurephase.foundation.types import Array
from featurephase.results.threshold import Window
from featurephase.thresholds.scan import MarginReading, Scan, SignChange, sign_changes

#: A root is read off by interpolation once two evaluations this close (in log delta) enclose it: an error of
#: (0.05)^2/8 times the relative curvature of the margin, about 3e-4.
BRACKET = 0.05
#: Or by a parabola, from three evaluations this close, if it hardly differs from the straight line. A kink between them
#: costs half a bracket at most either way.
_THREE, _SAME = 3.0 * BRACKET, 0.1 * BRACKET
_MOST_EVALUATIONS = 14
#: So far from where it was sought, in log delta, a line may lead, and the margin of a replicate.
_FARTHEST, _ABSURD = 0.3, 5.0


@dataclass(frozen=True)
class EdgeMargin:
    """The j-th smallest margin at the left edge: 0 where a hard outlier leaves the bulk."""

    index: int

    def of(self, reading: MarginReading) -> float:
        """The number."""
        return float(reading.at_edge[self.index])


@dataclass(frozen=True)
class ZeroMargin:
    """The smallest margin at lambda = 0, or at the edge if that is negative: 0 where a hard outlier turns negative."""

    def of(self, reading: MarginReading) -> float:
        """The number."""
        return reading.at_zero


@dataclass(frozen=True)
class NeuronMargin:
    """A margin of a single neuron at the edge of its own block, counted through all neurons."""

    index: int

    def of(self, reading: MarginReading) -> float:
        """The number."""
        return float(reading.neurons[self.index])


@dataclass(frozen=True)
class SectorMargin:
    """The smallest margin of one sector of hard directions: at the left edge, or (``zero``) as in ZeroMargin."""

    sector: int
    zero: bool

    def of(self, reading: MarginReading) -> float:
        """The number."""
        return float(reading.sectors[self.sector, int(self.zero)])


#: A number of a reading.
Quantity: TypeAlias = EdgeMargin | ZeroMargin | NeuronMargin | SectorMargin


@dataclass(frozen=True)
class Target:
    """One number of a reading whose root in delta is wanted, where to look for it, and whether it rises there.

    ``slope``: about its derivative in log delta there; nan where that is not known.
    """

    quantity: Quantity
    guess: float
    rising: bool = False
    slope: float = np.nan

    @classmethod
    def at(cls, quantity: Quantity, change: SignChange) -> Target:
        """Where a scan shows a change of sign."""
        return cls(quantity, change.delta, change.rising)


@dataclass(frozen=True)
class Root:
    """Where a target crosses 0 in one replicate (nan if it was not found), and what else is seen there."""

    delta: float
    critical: bool = True
    left_edge: float = np.nan
    drifts: bool = False


def negative_windows(
    crossings: Iterable[tuple[float, float, bool]],
    starts_negative: bool,
    begin: tuple[float, float] = (0.0, 0.0),
) -> tuple[Window, ...]:
    """The intervals of delta in which a margin is negative.

    Parameters
    ----------
    crossings
        delta, its standard error, and whether the margin rises there, in any order. Of several in a row that go the
        same way (two searches that ended at one root) the first counts.
    starts_negative
        Whether it is negative below all of them.
    begin
        Where a window begins that does so below all of them: at 0, or at the lowest delta that is known, with an
        infinite error.
    """
    windows = []
    low: tuple[float, float] | None = begin if starts_negative else None
    for value, se, rising in sorted(crossings, key=lambda crossing: crossing[0]):
        if rising and low is not None:
            windows.append(Window(low=low[0], low_se=low[1], high=value, high_se=se))
            low = None
        elif not rising and low is None:
            low = (value, se)
    if low is not None:
        windows.append(Window(low=low[0], low_se=low[1], high=np.inf, high_se=0.0))
    return tuple(windows)


def joined_windows(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The union of windows: where at least one of several margins is negative."""
    joined: list[Window] = []
    for window in sorted(windows, key=lambda w: w.low):
        if not joined or window.low > joined[-1].high:
            joined.append(window)
        elif window.high > joined[-1].high:
            joined[-1] = replace(joined[-1], high=window.high, high_se=window.high_se)
    return tuple(joined)


# ---- what to look for


def scanned_targets(scan: Scan, low: float, *, directions: bool, neurons: bool) -> list[Target]:
    """All changes of sign that a scan shows.

    Parameters
    ----------
    low
        The lower end of the range: a margin that is negative from the first run on that does not diverge is sought
        there.
    directions
        Whether the further directions and the sign of the outlier are wanted too.
    neurons
        Whether the thresholds of single neurons are.
    """
    changes = sign_changes(scan.delta, scan.edge[:, 0])
    targets = [Target.at(EdgeMargin(0), c) for c in changes]
    if directions:
        targets += [Target.at(ZeroMargin(), c) for c in sign_changes(scan.delta, scan.zero)]
        for j in range(1, scan.edge.shape[1]):
            targets += [Target.at(EdgeMargin(j), c) for c in sign_changes(scan.delta, scan.edge[:, j])[-1:]]
        targets += sector_targets(scan) if scan.sectors.shape[1] > 1 else []  # a single sector is the whole
    if neurons:
        for i in range(scan.neurons.shape[1]):
            if scan.neurons[-1, i] < 0:
                ends = sign_changes(scan.delta, scan.neurons[:, i])[-1:]
                targets += [Target.at(NeuronMargin(i), c) for c in ends]
    if scan.ends_outside and not targets and scan.delta[0] > low:
        first, several = float(scan.delta[0]), scan.sectors.shape[1] > 1
        targets = [Target(EdgeMargin(0), first)]
        if directions and scan.zero[0] < 0:
            targets.append(Target(ZeroMargin(), first))
        for sector, zero in np.argwhere(scan.sectors[0] < 0) if directions and several else ():
            targets.append(Target(SectorMargin(int(sector), bool(zero)), first))
    return targets


def sector_targets(scan: Scan) -> list[Target]:
    """All changes of sign of each sector, at the edge and at 0."""
    return [
        Target.at(SectorMargin(sector, bool(zero)), change)
        for sector in range(scan.sectors.shape[1])
        for zero in (0, 1)
        for change in sign_changes(scan.delta, scan.sectors[:, sector, zero])
    ]


def last_crossing(targets: Sequence[Target]) -> int | None:
    """Which target is delta_NN: the last crossing of the smallest eigenvalue from which on an outlier stands.

    ``None`` if there is none: an outlier that stands at every delta may still change its sign.
    """
    falling = [i for i, t in enumerate(targets) if t.quantity == EdgeMargin(0) and not t.rising]
    return falling[-1] if falling else None


# ---- roots


def sloped(target: Target, around: Sequence[tuple[float, Sequence[MarginReading | None]]]) -> Target:
    """A target at the root of the line through the means of readings at some deltas around it, and its slope.

    As it was where a run diverged, the line goes the other way, or leads farther than :data:`_FARTHEST`.
    """
    means = [np.mean([np.nan if r is None else target.quantity.of(r) for r in each]) for _, each in around]
    away = np.log([delta / target.guess for delta, _ in around])
    if np.isnan(means).any() or np.ptp(away) == 0.0:
        return target
    slope, level = (float(x) for x in np.polyfit(away, means, 1))
    if slope == 0.0 or (slope > 0.0) != target.rising or abs(level / slope) > _FARTHEST:
        return target
    return replace(target, guess=float(target.guess * np.exp(-level / slope)), slope=slope)


def sloped_roots(target: Target, delta: float, readings: Sequence[MarginReading | None]) -> list[Root]:
    """The root in each replicate by the slope of a target, from readings at a delta near it; nan where one diverged.

    And where a slope is so small that it leads out of all proportion. One reading is enough: two neighbouring ones of a
    replicate hardly share their noise, and say less of the slope than a few runs farther apart.
    """

    def root(reading: MarginReading | None) -> Root:
        if reading is None:
            return Root(np.nan)
        away = -target.quantity.of(reading) / target.slope
        found = float(delta * np.exp(away)) if abs(away) < _ABSURD else np.nan
        return Root(found, reading.critical, reading.left_edge, reading.drifts)

    return [root(reading) for reading in readings]


class _Readings:
    """The readings of one replicate by log delta, each made once."""

    def __init__(self, read: Callable[[float], MarginReading | None]) -> None:
        self._read = read
        self.known: dict[float, MarginReading | None] = {}

    def value(self, quantity: Quantity, log_delta: float) -> float:
        if log_delta not in self.known:
            self.known[log_delta] = self._read(float(np.exp(log_delta)))
        reading = self.known[log_delta]
        return np.nan if reading is None else quantity.of(reading)

    def nearest(self, log_delta: float) -> MarginReading:
        """The reading of the nearest run that did not diverge."""
        near = min((x for x, r in self.known.items() if r is not None), key=lambda x: abs(x - log_delta))
        reading = self.known[near]
        assert reading is not None
        return reading


def replicate_roots(
    read: Callable[[float], MarginReading | None], targets: Sequence[Target], bounds: tuple[float, float]
) -> list[Root]:
    """All roots of one replicate, from readings at deltas within ``bounds`` that the targets share."""
    readings = _Readings(read)
    low, high = np.log(bounds)
    roots = []
    for target in targets:

        def value(log_delta: float, quantity: Quantity = target.quantity) -> float:
            return readings.value(quantity, log_delta)

        log_root = bracketed_root(value, readings.known, float(np.log(target.guess)), (low, high), target.rising)
        if np.isnan(log_root):
            roots.append(Root(np.nan))
            continue
        seen = readings.nearest(log_root)
        roots.append(Root(float(np.exp(log_root)), seen.critical, seen.left_edge, seen.drifts))
    return roots


def bracketed_root(
    function: Callable[[float], float],
    evaluated: Collection[float],
    guess: float,
    bounds: tuple[float, float],
    rising: bool = False,
) -> float:
    """The sign change of a function nearest to a guess, from evaluations that close in on it from both sides.

    Parameters
    ----------
    function
        A continuous function where it is not nan; a second evaluation at one point must cost nothing.
    evaluated
        Where it has been evaluated so far, and grows with every call: earlier evaluations serve too.
    guess, bounds
        Where to begin and within which bounds to stay.
    rising
        Whether the function is to rise through 0, or to fall.

    Returns
    -------
    float
        The root by linear interpolation between points at most :data:`BRACKET` apart, or by a parabola through three
        points; nan if no sign change was met in :data:`_MOST_EVALUATIONS` evaluations or within the bounds.
    """
    guess = float(np.clip(guess - 0.45 * BRACKET, *bounds))  # the first two evaluations enclose a good guess
    function(guess)
    step, width = 0.9 * BRACKET, np.inf
    for _ in range(_MOST_EVALUATIONS):
        points = sorted(x for x in evaluated if not np.isnan(function(x)))
        pairs = [(a, b) for a, b in pairwise(points) if (function(a) < 0) == rising != (function(b) < 0)]
        if pairs:
            a, b = min(pairs, key=lambda p: abs((p[0] + p[1]) / 2 - guess))
            fa, fb = function(a), function(b)
            root = a - fa * (b - a) / (fb - fa)
            if b - a <= BRACKET:
                return root
            bent = _parabola_root(function, points, a, b)
            if abs(bent - root) <= _SAME:
                return bent
            function(_beyond(root, a, b, width))
            width = b - a
            continue
        following = _outwards(function, points, guess, step, bounds)
        if following in evaluated:
            following = float(np.clip((points[0] if points else guess) - step, *bounds))
            if following in evaluated:
                return np.nan
        step *= 1.6
        function(following)
    return np.nan


def _parabola_root(function: Callable[[float], float], points: Sequence[float], a: float, b: float) -> float:
    """The root between ``a`` and ``b`` of the parabola through them and the nearest other point; nan if that is far."""
    others = [x for x in points if x not in (a, b) and max(b, x) - min(a, x) <= _THREE]
    if not others:
        return np.nan
    x = np.array([a, b, min(others, key=lambda x: max(a - x, x - b))])
    roots = real_roots(np.polynomial.Polynomial.fit(x, np.array([function(t) for t in x]), 2))
    inside = [float(r) for r in roots if a <= r <= b]
    return inside[0] if len(inside) == 1 else np.nan


def real_roots(curve: np.polynomial.Polynomial) -> Array:
    """Real roots, made exact by a step of Newton's: of a parabola that is almost a line they come out wrong by 1e-3."""
    roots = np.asarray(curve.roots(), dtype=np.complex128)
    real = roots[np.abs(roots.imag) < 1e-12].real
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = real - curve(real) / curve.deriv()(real)
    return np.asarray(exact[np.isfinite(exact)])


def _beyond(root: float, a: float, b: float, width: float) -> float:
    """Where to evaluate within a bracket: beyond the interpolated root, towards the farther end, so that both ends
    close in; in the middle if the bracket has hardly shrunk."""
    margin = 0.4 * BRACKET
    root += margin if b - root > root - a else -margin
    root = (a + b) / 2 if b - a > 0.6 * width else root
    return float(np.clip(root, a + margin, b - margin))


def _outwards(
    function: Callable[[float], float],
    points: Sequence[float],
    guess: float,
    step: float,
    bounds: tuple[float, float],
) -> float:
    """Where to evaluate while there is no sign change: where the slope points, else above all points."""
    low, high = (points[0], points[-1]) if points else (guess, guess)
    if len(points) < 2 or function(low) == function(high):
        return float(np.clip(high + step, *bounds))
    slope = (function(high) - function(low)) / (high - low)
    end = high if abs(function(high)) < abs(function(low)) else low
    wanted = end - 1.3 * function(end) / slope
    wanted += 0.6 * BRACKET * np.sign(wanted - end)  # beyond, so that a convex margin is crossed too
    following = min(wanted, high + 0.7) if wanted > high else max(wanted, low - 0.7)
    if low < following < high:
        following = high + step
    return float(np.clip(following, *bounds))
