"""delta_NN(t): the delta from which on a hard outlier stands left of the bulk of the Hessian at Theta(t).

Every point of the curve margin(delta) is a run of the asymptotic dynamics. Common random numbers make the curve of a
replicate continuous, so each replicate has a root of its own, and their spread is the standard error. A coarse scan
with few samples finds all sign changes first (Montanari & Wang, arXiv 2602.01434; theory/thresholds, eq. thr-network).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.analyses.prediction import (
    check_problem_batches,
    check_problem_memory,
    experiment_text,
    explained,
    problem_subspaces,
)
from featurephase.dynamics.asymptotic import Moment, run_replicate
from featurephase.dynamics.network import Network
from featurephase.foundation.errors import InputError
from featurephase.foundation.executors import Workers, replicate_seeds, run_tasks
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import (
    CHECK_SAMPLES,
    CHECKED_WIDTH,
    FULL_WIDTH,
    SINGULAR_CURVATURE,
    UNBOUNDED_CURVATURE,
    HardMargins,
    block_words,
    hard_margins,
)
from featurephase.hessian.support import curvature_support
from featurephase.problem import ACCEPTED
from featurephase.problem.asked import flat_numbers, whole_steps
from featurephase.problem.checks import MAX_DELTA
from featurephase.results.base import Result
from featurephase.subspaces import LatentSubspaces
from featurephase.thresholds.algorithmic import AlgorithmicThreshold, algorithmic_threshold

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from featurephase.problem import Problem


__all__ = [
    "SCAN_REPLICATES",
    "BlockThreshold",
    "NetworkThreshold",
    "Threshold",
    "ThresholdLimit",
    "network_threshold",
    "threshold",
]

NO_TRANSITION = "no transition in the range searched"
NOT_CONVERGED = "not-converged"
NOT_NEGATIVE = "hard outlier not negative at the end of the range"

#: Points per decade of the coarse scan in delta, and its replicates and samples (relative to those asked for).
_SCAN_PER_DECADE = 4
SCAN_REPLICATES = 2
_SCAN_SAMPLES = 0.1
_FEWEST_SAMPLES = 4000
#: A root is read off by interpolation once two evaluations this close (in log delta) enclose it: an error of
#: (0.05)^2/8 times the relative curvature of the margin, about 3e-4.
_BRACKET = 0.05
_MOST_EVALUATIONS = 14
#: Replicates in which the block approximation of a wide network is compared with the full equation.
_CHECK_REPLICATES = 2
#: The limit t -> infinity is followed by doubling from here; samples shrink as 1/t from there on.
_LIMIT_START = 15
_LIMIT_SAMPLES = 60
_LIMIT_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class BlockThreshold:
    """Threshold delta*_r of one neuron in the block approximation.

    Attributes
    ----------
    neuron
        r, from 1.
    value
        From this delta on its own block of the Hessian has a hard outlier.
    directions
        The same for the j-th hard direction: where the j-th smallest eigenvalue of its Delta(edge) crosses 0, (k_H,).
    """

    neuron: int
    value: float
    value_se: float
    directions: Array
    directions_se: Array


@dataclass(frozen=True, kw_only=True)
class NetworkThreshold:
    """delta_NN at one time.

    Attributes
    ----------
    value
        From this delta on a hard outlier stands left of the bulk; nan if there is none in the range.
    crossings
        All deltas at which one appears or disappears, ascending.
    negative
        Whether the outlier is negative (instability of gradient descent, feature learning) where it appears.
    value_negative
        From this delta on it is negative; nan if it is not so at the end of the range (see ``negative_crossings``).
    negative_crossings
        All deltas at which a negative hard outlier appears or disappears, ascending.
    continuous
        Whether its overlap with the hard subspace grows from 0 (True) or jumps (False).
    directions
        delta at which the j-th smallest eigenvalue of Delta(edge) crosses 0, (m k_H,); nan where none in the range.
    blocks
        delta*_r of each neuron by itself (block approximation).
    block_minimum
        min over r of delta*_r.
    block_gap
        (block_minimum - delta_NN)/delta_NN with delta_NN of the full matrix equation, on the same samples; nan where
        that was not solved.
    scan_delta, scan_margin
        The coarse scan: the eigenvalues of the margin at each delta, ascending, (points, m k_H).
    """

    time: int
    status: str = "ok"
    message: str = ""
    value: float = np.nan
    value_se: float = np.nan
    crossings: Array = field(default_factory=lambda: np.empty(0))
    crossings_se: Array = field(default_factory=lambda: np.empty(0))
    negative: bool | None = None
    value_negative: float = np.nan
    value_negative_se: float = np.nan
    negative_crossings: Array = field(default_factory=lambda: np.empty(0))
    negative_crossings_se: Array = field(default_factory=lambda: np.empty(0))
    continuous: bool | None = None
    directions: Array = field(default_factory=lambda: np.empty(0))
    directions_se: Array = field(default_factory=lambda: np.empty(0))
    blocks: tuple[BlockThreshold, ...] = ()
    block_minimum: float = np.nan
    block_minimum_se: float = np.nan
    block_gap: float = np.nan
    block_gap_se: float = np.nan
    scan_delta: Array = field(default_factory=lambda: np.empty(0))
    scan_margin: Array = field(default_factory=lambda: np.empty(0))
    scan_margin_se: Array = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, kw_only=True)
class ThresholdLimit:
    """delta_NN as t grows, followed by doubling t.

    Attributes
    ----------
    value, time
        delta_NN at the last time reached, and that time.
    drift
        value(t) - value(t/2).
    converged
        Whether ``|drift| <= max(2 standard errors, 2 %)``.
    history_time, history, history_se
        delta_NN(t) along the way.
    """

    status: str
    message: str
    value: float
    value_se: float
    time: int
    drift: float
    drift_se: float
    converged: bool
    history_time: tuple[int, ...]
    history: Array
    history_se: Array


@dataclass(frozen=True, kw_only=True)
class Threshold(Result):
    """All thresholds of a problem: the data's and the network's.

    Attributes
    ----------
    easy_basis, hard_basis
        Orthonormal columns, (k, k_E) and (k, k_H).
    subspace_evidence
        How they were found.
    delta_alg
        What the best polynomial-time first-order method needs.
    delta_nn
        One entry for each time.
    delta_nn_limit
        As t grows; ``None`` unless asked for.
    """

    title: str
    samples: int
    replicates: int
    delta_range: tuple[float, float]
    easy_basis: Array
    hard_basis: Array
    subspace_evidence: Any
    delta_alg: float
    delta_alg_se: float
    delta_nn: tuple[NetworkThreshold, ...]
    delta_nn_limit: ThresholdLimit | None = None
    experiment: str = field(default="", metadata={"json": False})

    def to_xarray(self) -> xarray.Dataset:
        """Thresholds over (time, direction) and the scanned margins over (time, delta)."""
        from featurephase.present.labelled import threshold_dataset

        return threshold_dataset(self)

    def figure(self) -> Figure:  # type: ignore[override]
        """Margin against delta at each time, with the thresholds; delta_NN(t) where the limit was followed."""
        from featurephase.present.threshold import threshold_figure

        return threshold_figure(self)

    def table(self) -> str:
        """The thresholds with their errors."""
        from featurephase.present.tables import threshold_table

        return threshold_table(self)


# ---- one run


@dataclass(frozen=True)
class _Reading:
    """The margins of one replicate at one delta: of the whole network (or of all its blocks together), and of the
    blocks one by one, (m k_H,), those of a neuron ascending."""

    at_edge: Array
    at_zero: float
    critical: bool
    left_edge: float
    drifts: bool
    blocks: Array


@dataclass(frozen=True)
class _Observer:
    problem: Problem
    network: Network
    delta: float
    hard_basis: Array
    full: bool
    blocks: bool

    def __call__(self, moment: Moment) -> _Reading:
        link = self.problem.teacher.link
        support = curvature_support(self.network, link, moment.weights)

        def measure(blocks: bool) -> list[HardMargins]:
            return hard_margins(
                self.network,
                link,
                moment,
                delta=self.problem.training.data_ratio(self.delta),
                weight_decay=self.problem.training.weight_decay,
                hard_basis=self.hard_basis,
                blocks=blocks,
                groups=self.problem.student.exchangeable,
                support=support,
            )

        by_neuron = measure(True) if self.blocks else []
        own = np.concatenate([b.at_edge for b in by_neuron]) if by_neuron else np.empty(0)
        if self.full:
            whole = measure(False)[0]
            return _Reading(whole.at_edge, whole.at_zero, whole.critical, whole.left_edge, whole.drifts, own)
        lowest = min(by_neuron, key=lambda b: b.left_edge)
        at_zero = min(b.at_zero for b in by_neuron)
        return _Reading(np.sort(own), at_zero, lowest.critical, lowest.left_edge, lowest.drifts, own)


@dataclass(frozen=True)
class _Curve:
    """margin(delta) of one problem at one time."""

    problem: Problem
    time: int
    easy_basis: Array
    hard_basis: Array
    samples: int
    full: bool
    blocks: bool

    def read(self, delta: float, seed: np.random.SeedSequence) -> _Reading | None:
        """One run of one replicate; ``None`` if it diverges before the time."""
        problem = self.problem
        network = Network(problem.student.activation, problem.student.readout, problem.loss)
        observer = _Observer(problem, network, delta, self.hard_basis, self.full, self.blocks)
        found = run_replicate(
            problem,
            delta,
            seed,
            easy_basis=self.easy_basis,
            steps=self.time,
            samples=self.samples,
            observers={self.time: observer},
            test=False,
        )
        return found.observations.get(self.time)


@dataclass(frozen=True)
class _Target:
    """One number of a reading whose root in delta is wanted, and where to look for it."""

    kind: str
    index: int
    guess: float

    def of(self, reading: _Reading) -> float:
        """The number."""
        if self.kind == "zero":
            return reading.at_zero
        return float((reading.at_edge if self.kind == "edge" else reading.blocks)[self.index])


@dataclass(frozen=True)
class _Root:
    """Where a target crosses 0 in one replicate (nan if it was not found), and what else is seen there."""

    delta: float
    critical: bool = True
    left_edge: float = np.nan
    drifts: bool = False


def _roots(
    curve: _Curve, seed: np.random.SeedSequence, targets: Sequence[_Target], bounds: tuple[float, float]
) -> list[_Root]:
    """One task: all roots of one replicate. Evaluations are shared among the targets."""
    readings: dict[float, _Reading | None] = {}

    def value(target: _Target, log_delta: float) -> float:
        if log_delta not in readings:
            readings[log_delta] = curve.read(float(np.exp(log_delta)), seed)
        reading = readings[log_delta]
        return np.nan if reading is None else target.of(reading)

    roots = []
    for target in targets:
        log_root = _bracketed_root(lambda x, t=target: value(t, x), readings, target, np.log(bounds))  # type: ignore[misc]
        if np.isnan(log_root):
            roots.append(_Root(np.nan))
            continue
        near = min((x for x in readings if readings[x] is not None), key=lambda x: abs(x - log_root))
        seen = readings[near]
        assert seen is not None
        roots.append(_Root(float(np.exp(log_root)), seen.critical, seen.left_edge, seen.drifts))
    return roots


def _bracketed_root(
    function: Callable[[float], float],
    readings: dict[float, _Reading | None],
    target: _Target,
    bounds: Array,
) -> float:
    """The sign change nearest to the guess, in log delta, from evaluations that close in on it from both sides."""
    guess = float(np.clip(np.log(target.guess), *bounds))
    function(guess)
    step, width = 1.5 * _BRACKET, np.inf
    for _ in range(_MOST_EVALUATIONS):
        points = sorted(x for x in readings if not np.isnan(function(x)))
        pairs = [(a, b) for a, b in pairwise(points) if (function(a) < 0) != (function(b) < 0)]
        if pairs:
            a, b = min(pairs, key=lambda p: abs((p[0] + p[1]) / 2 - guess))
            fa, fb = function(a), function(b)
            root = a - fa * (b - a) / (fb - fa)
            if b - a <= _BRACKET:
                return root
            # Step beyond the interpolated root, towards the farther end, so that both ends close in; bisect if not.
            margin = 0.4 * _BRACKET
            root += margin if b - root > root - a else -margin
            root = (a + b) / 2 if b - a > 0.6 * width else root
            width = b - a
            function(float(np.clip(root, a + margin, b - margin)))
            continue
        # No sign change yet: go where the slope points, or outwards on both sides.
        low, high = points[0] if points else guess, points[-1] if points else guess
        if len(points) >= 2 and function(low) != function(high):
            slope = (function(high) - function(low)) / (high - low)
            end = high if abs(function(high)) < abs(function(low)) else low
            wanted = end - 1.3 * function(end) / slope
            wanted += 0.6 * _BRACKET * np.sign(wanted - end)  # beyond, so that a convex margin is crossed too
            reach = 0.7 if wanted > high else -0.7
            nxt = min(wanted, high + reach) if wanted > high else max(wanted, low + reach)
            if low < nxt < high:
                nxt = high + step
        else:
            nxt = high + step
        nxt = float(np.clip(nxt, *bounds))
        if nxt in readings:
            nxt = float(np.clip(low - step, *bounds))
            if nxt in readings:
                return np.nan
        step *= 1.6
        function(nxt)
    return np.nan


def _read(curve: _Curve, delta: float, seed: np.random.SeedSequence) -> _Reading | None:
    return curve.read(delta, seed)


# ---- one time


def network_threshold(
    problem: Problem,
    time: int,
    spaces: LatentSubspaces,
    *,
    delta_range: tuple[float, float] | None = None,
    samples: int | None = None,
    guess: float | None = None,
    value_only: bool = False,
    quiet: bool = True,
    workers: Workers = None,
) -> NetworkThreshold:
    """delta_NN(t) at one time, with every crossing in the range.

    Parameters
    ----------
    problem
        The experiment; its ``asymptotics`` give samples, replicates and seed.
    time
        Number of gradient steps t.
    spaces
        U_E and U_H.
    delta_range
        Where to search; default: the problem's.
    samples
        Overrides the samples per replicate.
    guess
        Where the threshold is expected: then the coarse scan is skipped.
    value_only
        Only ``value`` (no directions, blocks or sign).

    Notes
    -----
    The full matrix equation up to :data:`~featurephase.hessian.spectrum.FULL_WIDTH` neurons; beyond, the block
    approximation: ``value`` is then the minimum over the neurons.
    """
    low, high = problem.threshold.delta_range if delta_range is None else delta_range
    samples = problem.asymptotics.samples if samples is None else samples
    seeds = replicate_seeds(problem.asymptotics.seed, problem.asymptotics.replicates)
    bases = (spaces.easy_basis, spaces.hard_basis)
    network = Network(problem.student.activation, problem.student.readout, problem.loss)
    if network.singular_curvature:
        return NetworkThreshold(time=time, status=SINGULAR_CURVATURE, message=explained(SINGULAR_CURVATURE))
    full = network.width <= FULL_WIDTH
    stays_negative = True
    scan_delta, scan_margin, scan_margin_se = np.empty(0), np.empty((0, 0)), np.empty((0, 0))
    if guess is None:
        coarse = max(min(samples, _fewest_samples(problem)), int(samples * _SCAN_SAMPLES))
        count = max(3, 1 + int(np.ceil(_SCAN_PER_DECADE * np.log10(high / low))))
        grid = np.geomspace(low, high, count)
        curve = _Curve(problem, time, *bases, coarse, full, not full or (network.width > 1 and not value_only))
        scanned = run_tasks(
            _read,
            [(curve, float(d), s) for d in grid for s in seeds[:SCAN_REPLICATES]],
            label=f"scan t = {time}",
            quiet=quiet,
            workers=workers,
        )
        pairs = [scanned[i : i + SCAN_REPLICATES] for i in range(0, len(scanned), SCAN_REPLICATES)]
        ran = [(d, [r for r in p if r is not None]) for d, p in zip(grid, pairs, strict=True) if None not in p]
        if not ran:
            message = f"gradient descent diverges before t = {time} at every delta from {low:g} to {high:g}"
            return NetworkThreshold(time=time, status="diverged", message=message, scan_delta=grid)
        grid_alive = np.array([d for d, _ in ran])
        edge, edge_se = (np.array(x) for x in zip(*(mean_and_se([r.at_edge for r in p]) for _, p in ran), strict=True))
        zero = np.array([np.mean([r.at_zero for r in p]) for _, p in ran])
        own = np.array([np.mean([r.blocks for r in p], axis=0) for _, p in ran])
        scan_delta, scan_margin, scan_margin_se = grid_alive, edge, edge_se
        crossings = _sign_changes(grid_alive, edge[:, 0])
        targets = [_Target("edge", 0, c) for c in crossings]
        if not value_only:
            targets += [_Target("zero", 0, c) for c in _sign_changes(grid_alive, zero)]
            stays_negative = bool(zero[-1] < 0)
            for j in range(1, edge.shape[1]):
                targets += [_Target("edge", j, c) for c in _sign_changes(grid_alive, edge[:, j])[-1:]]
        if network.width > 1 and not (full and value_only):
            for i in range(own.shape[1]):
                ends = _sign_changes(grid_alive, own[:, i])[-1:] if own[-1, i] < 0 else []
                targets += [_Target("block", i, c) for c in ends]
        ends_negative = bool(edge[-1, 0] < 0)
        if ends_negative and not targets:  # below the first delta that does not diverge
            targets = [_Target("edge", 0, float(grid_alive[0]))] if grid_alive[0] > low else []
    else:
        targets, ends_negative, crossings = [_Target("edge", 0, guess)], True, [guess]
        if not full:
            hard = spaces.hard_basis.shape[1]
            targets += [_Target("block", r * hard, guess) for r in range(network.width)]
    if not targets or not ends_negative:
        return NetworkThreshold(
            time=time,
            status=NO_TRANSITION,
            message=_no_transition(time, low, high, scan_delta, scan_margin, ends_negative),
            directions=np.full(scan_margin.shape[1], np.nan),
            directions_se=np.full(scan_margin.shape[1], np.nan),
            scan_delta=scan_delta,
            scan_margin=scan_margin,
            scan_margin_se=scan_margin_se,
            **({} if ends_negative or not targets else _crossings_only(crossings)),
        )
    curve = _Curve(problem, time, *bases, samples, full, not full or any(t.kind == "block" for t in targets))
    found = run_tasks(
        _roots,
        [(curve, seed, targets, (low, high)) for seed in seeds],
        label=f"delta_NN(t = {time})",
        quiet=quiet,
        workers=workers,
    )
    by_target = [tuple(roots[i] for roots in found) for i in range(len(targets))]
    scan = {"scan_delta": scan_delta, "scan_margin": scan_margin, "scan_margin_se": scan_margin_se}
    entry = _assemble(problem, time, spaces, targets, by_target, scan, value_only, stays_negative)
    if value_only or np.isnan(entry.block_minimum) or not 1 < network.width <= CHECKED_WIDTH:
        return entry
    lowest = _lowest(entry.blocks).neuron - 1
    block = _Target("block", lowest * spaces.hard_basis.shape[1], entry.block_minimum)
    if full:
        part = next(i for i, t in enumerate(targets) if (t.kind, t.index) == (block.kind, block.index))
        both = zip(by_target[part], by_target[_last_crossing(targets)], strict=True)
        gaps = [b.delta / w.delta - 1.0 for b, w in both]
    else:
        curve = _Curve(problem, time, *bases, CHECK_SAMPLES, True, True)
        gaps = run_tasks(
            _gap,
            [(curve, seed, block) for seed in seeds[:_CHECK_REPLICATES]],
            label=f"full equation, t = {time}",
            quiet=quiet,
            workers=workers,
        )
    gap, gap_se = mean_and_se(gaps)
    return replace(entry, block_gap=float(gap), block_gap_se=float(gap_se))


def _gap(curve: _Curve, seed: np.random.SeedSequence, block: _Target) -> float:
    """One task: the roots in log delta of one block and of the full equation, by secants through two points near."""
    log = np.log(block.guess) - np.array([0.0, _BRACKET])
    near, below = (curve.read(float(np.exp(x)), seed) for x in log)
    if near is None or below is None:
        return np.nan
    own, whole = (
        log[0] - t.of(near) * (log[1] - log[0]) / (t.of(below) - t.of(near))
        for t in (block, _Target("edge", 0, block.guess))
    )
    return float(np.exp(own - whole) - 1.0)


def _last_crossing(targets: Sequence[_Target]) -> int:
    """Which target is delta_NN: the last crossing of the smallest eigenvalue."""
    return [i for i, t in enumerate(targets) if t.kind == "edge" and t.index == 0][-1]


def _fewest_samples(problem: Problem) -> int:
    """No run with fewer sample paths than this, unless the problem says so: every batch needs some of them."""
    return max(_FEWEST_SAMPLES, problem.training.batch_count)


def _crossings_only(crossings: Sequence[float]) -> dict[str, Any]:
    """Crossings known from the scan alone: located, without a standard error."""
    return {"crossings": np.array(crossings), "crossings_se": np.full(len(crossings), np.nan)}


def _no_transition(time: int, low: float, high: float, scanned: Array, margin: Array, ends_negative: bool) -> str:
    if len(scanned) and ends_negative:
        return (
            f"t = {time}: a hard outlier stands left of the bulk at every delta from {scanned[0]:g} to {high:g}; "
            "the transition, if there is one, lies below"
        )
    closest = float(margin[:, 0].min()) if len(margin) else np.nan
    return (
        f"t = {time}: no hard outlier stands left of the bulk up to delta = {high:g} (the margin is 1 far from a "
        f"transition, 0 at it; the smallest found is {closest:.3g})"
    )


def _sign_changes(grid: Array, margin: Array) -> list[float]:
    """Interpolated deltas at which the margin changes sign, ascending."""
    log = np.log(grid)
    where = np.flatnonzero((margin[:-1] < 0) != (margin[1:] < 0))
    crossing = log[where] - margin[where] * (log[where + 1] - log[where]) / (margin[where + 1] - margin[where])
    return [float(np.exp(c)) for c in crossing]


def _assemble(
    problem: Problem,
    time: int,
    spaces: LatentSubspaces,
    targets: Sequence[_Target],
    by_target: Sequence[tuple[_Root, ...]],
    scan: dict[str, Any],
    value_only: bool,
    stays_negative: bool,
) -> NetworkThreshold:
    """Means over replicates of every root."""
    summary = [mean_and_se([r.delta for r in roots]) for roots in by_target]
    edge = [i for i, t in enumerate(targets) if t.kind == "edge" and t.index == 0]
    main = _last_crossing(targets)
    width, hard = problem.student.width, spaces.hard_basis.shape[1]
    directions, directions_se = np.full(width * hard, np.nan), np.full(width * hard, np.nan)
    own, own_se = np.full(width * hard, np.nan), np.full(width * hard, np.nan)
    zeros = []
    for i, target in enumerate(targets):
        value, se = float(summary[i][0]), float(summary[i][1])
        if target.kind == "edge":
            directions[target.index], directions_se[target.index] = value, se
        elif target.kind == "block":
            own[target.index], own_se[target.index] = value, se
        else:
            zeros.append((value, se))
    lowest = float(np.min(own[::hard], initial=np.inf, where=~np.isnan(own[::hard])))
    if width > FULL_WIDTH and np.isfinite(lowest):  # the minimum of means, rather than the mean of minima
        minimum = next((v, se) for v, se in zip(own, own_se, strict=True) if v == lowest)
        zeros = [minimum if np.isclose(zero[0], summary[main][0], rtol=1e-3) else zero for zero in zeros]
        summary[main] = minimum
        ascending = np.argsort(own)
        directions, directions_se = own[ascending], own_se[ascending]
    order = sorted(edge, key=lambda i: float(summary[i][0]))
    zeros.sort()
    negative_value, negative_se = zeros[-1] if zeros and stays_negative else (np.nan, np.nan)
    value, se = float(summary[main][0]), float(summary[main][1])
    if width == 1:
        own, own_se = directions.copy(), directions_se.copy()
    roots = by_target[main]
    status, message = "ok", ""
    if np.isnan(value):
        missing = sum(np.isnan(r.delta) for r in roots)
        status = NO_TRANSITION
        message = (
            f"t = {time}: a transition was sought near delta = {targets[main].guess:.3g} but {missing} of {len(roots)} "
            "replicates have none there: more samples are needed, or gradient descent diverges before it"
        )
    elif np.mean([r.drifts for r in roots]) > 0.5:
        status, message = UNBOUNDED_CURVATURE, explained(UNBOUNDED_CURVATURE, f"t = {time}, near delta = {value:.3g}")
        value = se = negative_value = negative_se = np.nan
        directions[:] = directions_se[:] = own[:] = own_se[:] = np.nan
    elif not stays_negative and not value_only:
        status = NOT_NEGATIVE
        message = f"t = {time}: the hard outlier that stands left of the bulk from delta = {value:.4g} on is "
        if zeros:
            message += f"negative, so that gradient descent is unstable, only up to delta = {zeros[-1][0]:.4g}"
        else:
            message += "nowhere negative: gradient descent is stable along the hard directions"
    by_neuron = [] if value_only else _blocks(own.reshape(width, hard), own_se.reshape(width, hard))
    first = _lowest(by_neuron) if by_neuron else None
    return NetworkThreshold(
        time=time,
        status=status,
        message=message,
        value=value,
        value_se=se,
        crossings=np.array([float(summary[i][0]) for i in order]),
        crossings_se=np.array([float(summary[i][1]) for i in order]),
        negative=None if np.isnan(value) else bool(np.mean([r.left_edge for r in roots]) < 0.0),
        value_negative=negative_value,
        value_negative_se=negative_se,
        negative_crossings=np.array([v for v, _ in zeros]),
        negative_crossings_se=np.array([s for _, s in zeros]),
        continuous=None if np.isnan(value) else bool(np.mean([r.critical for r in roots]) >= 0.5),
        directions=directions,
        directions_se=directions_se,
        blocks=tuple(by_neuron),
        block_minimum=np.nan if first is None else first.value,
        block_minimum_se=np.nan if first is None else first.value_se,
        **scan,
    )


def _blocks(delta: Array, se: Array) -> list[BlockThreshold]:
    """delta*_r from the roots (m, k_H) of the margins of each neuron."""
    return [
        BlockThreshold(
            neuron=r + 1, value=float(delta[r, 0]), value_se=float(se[r, 0]), directions=delta[r], directions_se=se[r]
        )
        for r in range(len(delta))
    ]


def _lowest(blocks: Sequence[BlockThreshold]) -> BlockThreshold:
    """The neuron with the smallest threshold; nan counts as none."""
    return min(blocks, key=lambda b: np.nan_to_num(b.value, nan=np.inf))


# ---- the limit


def _limit(
    problem: Problem, spaces: LatentSubspaces, delta_range: tuple[float, float], quiet: bool, workers: Workers
) -> ThresholdLimit:
    """delta_NN(t) at doubling times, each search started from the last value, until the drift is small."""
    times: list[int] = []
    values: list[float] = []
    errors: list[float] = []
    time = min(_LIMIT_START, problem.threshold.max_steps)
    status = message = ""
    while True:
        guess = None
        if values:
            growth = values[-1] / values[-2] if len(values) > 1 else 1.1
            guess = float(np.clip(values[-1] * growth, *delta_range))
        samples = problem.asymptotics.samples
        if time > _LIMIT_SAMPLES:
            samples = max(min(samples, _fewest_samples(problem)), samples * _LIMIT_SAMPLES // time)
        entry = network_threshold(
            problem,
            time,
            spaces,
            delta_range=delta_range,
            samples=samples,
            guess=guess,
            value_only=True,
            quiet=quiet,
            workers=workers,
        )
        times.append(time)
        values.append(entry.value)
        errors.append(entry.value_se)
        if entry.status != "ok":
            status, message = entry.status, entry.message
            break
        if len(values) > 1:
            drift, drift_se = values[-1] - values[-2], float(np.hypot(errors[-1], errors[-2]))
            if abs(drift) <= max(2.0 * drift_se, _LIMIT_TOLERANCE * values[-1]):
                status = "ok"
                break
        if 2 * time > problem.threshold.max_steps:
            status = NOT_CONVERGED
            message = (
                f"delta_NN(t) still drifts at t = {time}, and 2 t exceeds threshold.max_steps = "
                f"{problem.threshold.max_steps}"
            )
            break
        time *= 2
    drift = values[-1] - values[-2] if len(values) > 1 else np.nan
    drift_se = float(np.hypot(errors[-1], errors[-2])) if len(values) > 1 else np.nan
    return ThresholdLimit(
        status=status,
        message=message,
        value=values[-1],
        value_se=errors[-1],
        time=times[-1],
        drift=drift,
        drift_se=drift_se,
        converged=status == "ok",
        history_time=tuple(times),
        history=np.array(values),
        history_se=np.array(errors),
    )


# ---- everything


def _approximation(problem: Problem, entries: Sequence[NetworkThreshold]) -> str:
    """What a wide network's thresholds are, and how good."""
    checked = [
        f"{e.block_gap:+.1%} (se {e.block_gap_se:.1%}) of the full matrix equation's at t = {e.time}"
        for e in entries
        if not np.isnan(e.block_gap)
    ]
    return block_words(problem.student.width, "delta_NN", checked)


def threshold(
    problem: Problem,
    *,
    times: float | Iterable[float] | None = None,
    limit: bool | None = None,
    delta_range: tuple[float, float] | None = None,
    subspaces: LatentSubspaces | None = None,
    algorithmic: AlgorithmicThreshold | None = None,
    quiet: bool = True,
    workers: Workers = None,
) -> Threshold:
    """delta_alg, delta_NN(t) and its limit.

    Parameters
    ----------
    problem
        The experiment.
    times
        Steps t at which delta_NN(t) is wanted; infinity is the limit. Default: the problem's ``run.times``, else the
        last step, and the limit.
    limit
        Whether to follow t -> infinity; default: if no times are given, or infinity is among them.
    delta_range
        Where to search; default: the problem's ``threshold.delta_range``.
    subspaces, algorithmic
        If known already.

    Raises
    ------
    InputError
        For a time beyond ``training.steps`` or a range that is not 0 < a < b.
    """
    low, high = problem.threshold.delta_range if delta_range is None else delta_range
    if not (0 < low < high <= MAX_DELTA):
        raise InputError(f"delta_range = {low:g}, {high:g}: must be {ACCEPTED['threshold.delta_range']}")
    steps = problem.training.steps
    default = (steps,) if problem.run.times is None else problem.run.times
    asked = [*default, np.inf] if times is None else flat_numbers("times", times)
    wanted = whole_steps([t for t in asked if t != np.inf], steps)
    follow = np.inf in asked if limit is None else limit
    longest = max([*wanted, problem.threshold.max_steps if follow else 0])
    check_problem_memory(problem, longest)
    check_problem_batches(problem)
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    statuses: list[tuple[str, str]] = []
    entries: list[NetworkThreshold] = []
    followed: ThresholdLimit | None = None
    alg, alg_se = np.nan, np.nan
    nothing_hard = spaces.ok and spaces.relevant_hard_basis.shape[1] == 0
    if not spaces.ok:
        statuses.append((spaces.status, explained("ambiguous-rank")))
    elif nothing_hard:
        alg, alg_se = 0.0, 0.0
    else:
        found = algorithmic or algorithmic_threshold(
            problem.teacher, spaces, seed=problem.asymptotics.seed, quiet=quiet
        )
        alg, alg_se = found.delta_alg, found.error
        if not found.ok:
            statuses.append((found.status, found.message))
        for t in wanted:
            entries.append(network_threshold(problem, t, spaces, delta_range=(low, high), quiet=quiet, workers=workers))
        if follow:
            followed = _limit(problem, spaces, (low, high), quiet, workers)
        statuses += [(e.status, e.message) for e in entries if e.status != "ok"]
        if followed is not None and followed.status != "ok":
            statuses.append((followed.status, followed.message))
    message = "; ".join(dict.fromkeys(m for _, m in statuses))
    if problem.student.width > FULL_WIDTH and (entries or followed):
        message = "; ".join(filter(None, [message, _approximation(problem, entries)]))
    if nothing_hard:
        message = "nothing is hard: every latent direction that the response depends on is easy"
    return Threshold(
        status=statuses[0][0] if statuses else "ok",
        message=message,
        seed=problem.asymptotics.seed,
        title=problem.title,
        samples=problem.asymptotics.samples,
        replicates=problem.asymptotics.replicates,
        delta_range=(low, high),
        easy_basis=spaces.easy_basis,
        hard_basis=spaces.hard_basis,
        subspace_evidence=spaces.to_dict()["subspace_evidence"],
        delta_alg=alg,
        delta_alg_se=alg_se,
        delta_nn=tuple(entries),
        delta_nn_limit=followed,
        experiment=experiment_text(problem),
    )
