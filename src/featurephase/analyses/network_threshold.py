"""delta_NN(t): the delta from which on a hard outlier stands left of the bulk of the Hessian at Theta(t).

Every point of the curve margin(delta) is a run of the asymptotic dynamics. A coarse scan with few samples finds all
sign changes, and runs around each of them its slope. With that one run of a replicate near a root gives a root of its
own, and the spread of these is the standard error (Montanari & Wang, arXiv 2602.01434; theory/thresholds, eq.
thr-network).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.dynamics.network import Network
from featurephase.foundation.executors import Executor, Workers, as_executor, replicate_seeds
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import CHECK_SAMPLES, CHECKED_WIDTH, FULL_WIDTH
from featurephase.hessian.unbounded import unbounded_status
from featurephase.results.base import averaged, paired
from featurephase.results.status import (
    DIVERGED,
    NO_TRANSITION,
    NOT_NEGATIVE,
    OK,
    UNBOUNDED_CURVATURE,
)
from featurephase.results.threshold import BlockThreshold, DirectionThreshold, NetworkThreshold, Window
from featurephase.results.words import with_error
from featurephase.subspaces import LatentSubspaces
from featurephase.subspaces.sectors import HardSector, hard_sectors
from featurephase.thresholds.roots import (
    BRACKET,
    EdgeMargin,
    NeuronMargin,
    Quantity,
    Root,
    SectorMargin,
    Target,
    ZeroMargin,
    joined_windows,
    last_crossing,
    negative_windows,
    replicate_roots,
    scanned_targets,
    sloped,
    sloped_roots,
)
from featurephase.thresholds.scan import (
    MarginCurve,
    MarginReading,
    Scan,
    decided_elsewhere,
    scan_grid,
    searched_range,
    sign_changes,
)

if TYPE_CHECKING:
    from featurephase.problem import Problem


__all__ = ["NetworkThreshold", "network_threshold"]

#: Replicates of the coarse scan in delta, and its samples relative to those asked for.
_SCAN_REPLICATES = 2
_SCAN_SAMPLES = 0.1
#: Sample paths of the scan per unit of delta from which on more do not matter: the dimension that they stand for.
_SCAN_DIMENSION = 100
_FEWEST_SAMPLES = 4000
#: Margins are read at multiples of this in log delta around what the scan shows, with its samples, in so many
#: replicates: a line through their means says where the runs with all samples begin, and the slope.
_AROUND, _NEAR_REPLICATES = 0.2, 4
#: The mean of the roots of all replicates is at most this far from where they were read, in log delta, or they are read
#: again: slopes are right to about .1, so that they add .003 at most. Targets this near share their readings.
_REACH, _SHARED, _MOST_ROUNDS = 0.03, 0.02, 4
#: Replicates in which the block approximation of a wide network is compared with the full equation.
_CHECK_REPLICATES = 2

# ---- one time


@dataclass(frozen=True)
class _Search:
    """What is sought at one time, and with what means."""

    problem: Problem
    time: int
    spaces: LatentSubspaces
    delta_range: tuple[float, float]
    samples: int
    value_only: bool
    executor: Executor

    @property
    def width(self) -> int:
        """m."""
        return self.problem.student.width

    @property
    def full(self) -> bool:
        """Whether the matrix equation of the whole network is solved (else neuron by neuron)."""
        return self.width <= FULL_WIDTH

    @property
    def hard(self) -> int:
        """k_H."""
        return int(self.spaces.hard_basis.shape[1])

    @property
    def few(self) -> int:
        """Sample paths of the scan."""
        return max(min(self.samples, _fewest_samples(self.problem)), int(self.samples * _SCAN_SAMPLES))

    @property
    def seeds(self) -> list[np.random.SeedSequence]:
        """One for each replicate."""
        return replicate_seeds(self.problem.asymptotics.seed, self.problem.asymptotics.replicates)

    @property
    def sectors(self) -> tuple[HardSector, ...]:
        """Hard directions that symmetry decouples."""
        return hard_sectors(self.spaces)

    def curve(self, samples: int, *, full: bool, blocks: bool) -> MarginCurve:
        """margin(delta) with so many sample paths."""
        bases = (self.spaces.easy_basis, self.spaces.hard_basis)
        return MarginCurve(self.problem, *bases, samples, full, blocks, tuple(s.basis for s in self.sectors))

    def read(self, curve: MarginCurve, seed: np.random.SeedSequence) -> Callable[[float], MarginReading | None]:
        """What one replicate reads at a delta."""
        return lambda delta: curve.read(delta, seed, (self.time,))[0]


def network_threshold(
    problem: Problem,
    time: int,
    spaces: LatentSubspaces,
    *,
    delta_range: tuple[float, float] | None = None,
    delta_alg: float = 0.0,
    samples: int | None = None,
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
    delta_alg
        The data's threshold, if it is known: nothing is searched far below it.
    samples
        Overrides the samples per replicate.
    value_only
        Only ``value`` (no directions, blocks or sign).

    Notes
    -----
    The full matrix equation up to :data:`~featurephase.hessian.spectrum.FULL_WIDTH` neurons; beyond, the block
    approximation: ``value`` is then the minimum over the neurons.
    """
    search = _Search(
        problem,
        time,
        spaces,
        searched_range(*(problem.threshold.delta_range if delta_range is None else delta_range), delta_alg),
        problem.asymptotics.samples if samples is None else samples,
        value_only,
        as_executor(workers, quiet=quiet),
    )
    if status := decided_elsewhere(problem):
        return NetworkThreshold(time=time, status=status, message=status.explained())
    scan = _scanned(search)
    if scan.diverged:
        low, high = search.delta_range
        message = f"gradient descent diverges before t = {time} at every delta from {low:g} to {high:g}"
        return NetworkThreshold(time=time, status=DIVERGED, message=message, scan_delta=scan.grid)
    if scan.drifting == 1.0:
        unbounded = unbounded_status(Network.of(problem), problem.teacher.link)
        return NetworkThreshold(time=time, status=unbounded, message=unbounded.explained(f"t = {time}"))
    targets = scanned_targets(
        scan,
        search.delta_range[0],
        directions=not value_only,
        neurons=search.width > 1 and not (search.full and value_only),
    )
    if last_crossing(targets) is None or not scan.ends_outside:
        return _none_found(search, scan, targets)
    targets = _approached(search, targets)
    roots = _roots(search, targets)
    entry = _assembled(search, scan, targets, roots)
    if value_only or np.isnan(entry.block_minimum) or not 1 < search.width <= CHECKED_WIDTH:
        return entry
    return _with_block_gap(search, entry, targets, roots)


def _scanned(search: _Search) -> Scan:
    """The coarse scan, with a tenth of the samples; with fewer still at small delta, where these are enough."""
    blocks = not search.full or (search.width > 1 and not search.value_only)
    grid = scan_grid(*search.delta_range)
    fewest = min(search.few, _fewest_samples(search.problem))
    curves = {
        float(d): search.curve(int(np.clip(_SCAN_DIMENSION * d, fewest, search.few)), full=search.full, blocks=blocks)
        for d in grid
    }
    readings = _read(search, curves, search.seeds[:_SCAN_REPLICATES], label=f"scan t = {search.time}")
    return Scan.of(grid, list(readings.values()))


def _read(
    search: _Search, curves: dict[float, MarginCurve], seeds: Sequence[np.random.SeedSequence], label: str
) -> dict[float, list[MarginReading | None]]:
    """What replicates read at each delta, from its curve."""
    tasks = [(curve, delta, seed, (search.time,)) for delta, curve in curves.items() for seed in seeds]
    read = [r for (r,) in search.executor.run(MarginCurve.read, tasks, label=label)]
    return {delta: read[i * len(seeds) : (i + 1) * len(seeds)] for i, delta in enumerate(curves)}


def _replicate_roots(
    search: _Search, curve: MarginCurve, seed: np.random.SeedSequence, targets: Sequence[Target]
) -> list[Root]:
    """One task: all roots of one replicate."""
    return replicate_roots(search.read(curve, seed), targets, search.delta_range)


def _roots(search: _Search, targets: Sequence[Target]) -> list[tuple[Root, ...]]:
    """The roots of each target in all replicates: by its slope where that is known and leads there, else enclosed."""
    found: dict[Target, tuple[Root, ...]] = {}
    label = f"delta_NN(t = {search.time})"
    readings: dict[float, list[MarginReading | None]] = {}
    wanted = {target: target.guess for target in targets if np.isfinite(target.slope)}  # and where it is to be read
    for _ in range(_MOST_ROUNDS):
        if not wanted:
            break
        at = _shared(wanted, readings)
        curve = _curve_of(search, wanted, search.samples)
        readings |= _read(search, dict.fromkeys(sorted(set(at.values()) - set(readings)), curve), search.seeds, label)
        for target, delta in at.items():
            roots = sloped_roots(target, delta, readings[delta])
            wanted[target] = float(np.exp(np.mean(np.log([r.delta for r in roots]))))
            if abs(np.log(wanted[target] / delta)) <= _REACH:
                found[target] = tuple(roots)
        low, high = search.delta_range
        wanted = {t: delta for t, delta in wanted.items() if t not in found and low <= delta <= high}
    if left := [target for target in targets if target not in found]:
        tasks = [(search, _curve_of(search, left, search.samples), seed, left) for seed in search.seeds]
        by_replicate = search.executor.run(_replicate_roots, tasks, label=label)
        found |= dict(zip(left, zip(*by_replicate, strict=True), strict=True))
    return [found[target] for target in targets]


def _shared(wanted: dict[Target, float], known: Iterable[float]) -> dict[Target, float]:
    """Where to read each target: at a delta near the wanted one that is read already, or for another target."""
    deltas, at = list(known), {}
    for target, delta in wanted.items():
        at[target] = min(deltas, key=lambda d: abs(np.log(d / delta)), default=delta)
        if abs(np.log(at[target] / delta)) > _SHARED:
            at[target] = delta
        deltas.append(at[target])
    return at


def _curve_of(search: _Search, targets: Iterable[Target], samples: int) -> MarginCurve:
    """What reads all that some targets want."""
    neurons = any(isinstance(t.quantity, NeuronMargin) for t in targets)
    return search.curve(samples, full=search.full, blocks=not search.full or neurons)


def _approached(search: _Search, targets: Sequence[Target]) -> list[Target]:
    """The targets where runs with few samples have them, and their slopes; as they are where these do not tell."""
    if search.few >= search.samples:
        return list(targets)
    numbers = [round(np.log(target.guess) / _AROUND) for target in targets]
    low, high = search.delta_range
    around = [[float(np.clip(np.exp(i * _AROUND), low, high)) for i in (n - 1, n, n + 1)] for n in numbers]
    curves = dict.fromkeys(sorted({d for own in around for d in own}), _curve_of(search, targets, search.few))
    readings = _read(search, curves, search.seeds[:_NEAR_REPLICATES], label=f"delta_NN(t = {search.time})")
    return [sloped(t, [(d, readings[d]) for d in own]) for t, own in zip(targets, around, strict=True)]


def _fewest_samples(problem: Problem) -> int:
    """No run with fewer sample paths than this, unless the problem says so: every batch needs some of them."""
    return max(_FEWEST_SAMPLES, problem.training.batch_count)


# ---- no transition


def _none_found(search: _Search, scan: Scan, targets: Sequence[Target]) -> NetworkThreshold:
    """No last crossing beyond which a hard outlier stands left of the bulk."""
    # crossings known from the scan alone are located, without a standard error
    only = [] if scan.ends_outside or not targets else sign_changes(scan.delta, scan.edge[:, 0])
    crossings, missing = np.array([change.delta for change in only]), np.full(scan.edge.shape[1], np.nan)
    return NetworkThreshold(
        time=search.time,
        status=NO_TRANSITION,
        message=_no_transition(search, scan),
        **paired(crossings=(crossings, np.full(len(crossings), np.nan)), directions=(missing, missing)),
        **_of_scan(scan),
    )


def _of_scan(scan: Scan) -> dict[str, Any]:
    """The coarse scan, as fields of a threshold."""
    return {"scan_delta": scan.delta} | paired(scan_margin=(scan.edge, scan.edge_se))


def _no_transition(search: _Search, scan: Scan) -> str:
    high = search.delta_range[1]
    if len(scan.delta) and scan.ends_outside:
        return (
            f"t = {search.time}: a hard outlier stands left of the bulk at every delta from {scan.delta[0]:g} to "
            f"{high:g}; the transition, if there is one, lies below"
        )
    closest = float(scan.edge[:, 0].min()) if len(scan.edge) else np.nan
    return (
        f"t = {search.time}: no hard outlier stands left of the bulk up to delta = {high:g} (the margin is 1 far from "
        f"a transition, 0 at it; the smallest found is {closest:.3g})"
    )


# ---- assembly


@dataclass(frozen=True)
class _Means:
    """Roots as means over the replicates with standard errors, sorted by what they are roots of."""

    value: tuple[float, float]  # delta_NN
    crossings: list[tuple[float, float]]  # of the smallest margin at the edge, ascending
    zeros: list[tuple[float, float]]  # of the smallest margin at 0, ascending
    windows: tuple[Window, ...]  # where it is negative, ascending
    # Last root of every margin at the edge, and of every margin of a single neuron, (m k_H,); nan where there is none.
    directions: tuple[Array, Array]
    neurons: tuple[Array, Array]


def _summary(roots: Sequence[tuple[Root, ...]]) -> list[tuple[float, float]]:
    """Mean and standard error of the roots of each target."""
    return [(float(v), float(se)) for v, se in (mean_and_se([r.delta for r in each]) for each in roots)]


def _last(search: _Search, targets: Sequence[Target], roots: Sequence[tuple[Root, ...]]) -> int:
    """Which target is delta_NN, where there is one: with several sectors that of the lowest one.

    The lowest of the means, never the mean of the lowest: of several noisy margins the lowest one is too low.
    """
    last = last_crossing(targets)
    assert last is not None
    if not search.full:
        return last
    sectors = [SectorMargin(n, zero=False) for n in range(len(search.sectors))]
    own = [[i for i, t in enumerate(targets) if t.quantity == sector] for sector in sectors]
    ends = [each[-1] for each in own if each and not targets[each[-1]].rising]
    where = [t.guess if np.isnan(mean) else mean for t, (mean, _) in zip(targets, _summary(roots), strict=True)]
    return min(ends, key=lambda i: where[i], default=last)


def _joined(search: _Search, means: _Means, targets: Sequence[Target], summary: list[tuple[float, float]]) -> _Means:
    """For several sectors: the crossings of the smallest margin are those of the lowest sector there."""

    def ends(windows: Sequence[Window]) -> list[tuple[float, float]]:
        both = [end for w in windows for end in ((w.low, w.low_se), (w.high, w.high_se))]
        return [(end, se) for end, se in both if 0.0 < end < np.inf]

    edge, zero = (
        joined_windows(
            w for n in range(len(search.sectors)) for w in _windows(targets, summary, SectorMargin(n, zero=at_zero))
        )
        for at_zero in (False, True)
    )
    first = [np.concatenate([[x], rest[1:]]) for x, rest in zip(means.value, means.directions, strict=True)]
    return replace(means, crossings=ends(edge), zeros=ends(zero), windows=zero, directions=(first[0], first[1]))


def _means(search: _Search, targets: Sequence[Target], roots: Sequence[tuple[Root, ...]], last: int) -> _Means:
    """Means over replicates; ``last``: which target is delta_NN."""
    summary = _summary(roots)
    size = search.width * search.hard
    directions, neurons = ((np.full(size, np.nan), np.full(size, np.nan)) for _ in range(2))
    crossings, zeros = [], []
    for target, (value, se) in zip(targets, summary, strict=True):
        match target.quantity:
            case EdgeMargin(index):
                if index or not target.rising:
                    directions[0][index], directions[1][index] = value, se
                if index == 0:
                    crossings.append((value, se))
            case NeuronMargin(index):
                neurons[0][index], neurons[1][index] = value, se
            case ZeroMargin():
                zeros.append((value, se))
    windows = _windows(targets, summary, ZeroMargin())
    crossings.sort(key=lambda crossing: crossing[0])
    zeros.sort()
    means = _Means(summary[last], crossings, zeros, windows, directions, neurons)
    if search.full:
        several = any(isinstance(t.quantity, SectorMargin) for t in targets)
        return _joined(search, means, targets, summary) if several else means
    return _lowest_of_means(means, search.hard)


def _windows(
    targets: Sequence[Target], summary: Sequence[tuple[float, float]], quantity: Quantity
) -> tuple[Window, ...]:
    """Where a margin is negative; an end that not every replicate has is where the scan saw it, without an error."""
    mine = [(t, root) for t, root in zip(targets, summary, strict=True) if t.quantity == quantity]
    if not mine:
        return ()
    crossings = [((t.guess, np.nan) if np.isnan(root[0]) else root) + (t.rising,) for t, root in mine]
    return negative_windows(crossings, starts_negative=min(mine, key=lambda m: m[0].guess)[0].rising)


def _sectors(
    search: _Search, targets: Sequence[Target], roots: Sequence[tuple[Root, ...]], means: _Means
) -> tuple[DirectionThreshold, ...]:
    """The thresholds of each hard direction by itself; a single sector is the whole."""
    if len(search.sectors) == 1:
        return (_direction(search.sectors[0], means.value, means.windows),)
    summary = _summary(roots)
    result = []
    for number, sector in enumerate(search.sectors):
        at_edge = [
            root
            for target, root in zip(targets, summary, strict=True)
            if target.quantity == SectorMargin(number, zero=False) and not target.rising
        ]
        windows = _windows(targets, summary, SectorMargin(number, zero=True))
        result.append(_direction(sector, at_edge[-1] if at_edge else (np.nan, np.nan), windows))
    return tuple(result)


def _direction(sector: HardSector, value: tuple[float, float], windows: tuple[Window, ...]) -> DirectionThreshold:
    """One sector; it is negative for good where its last window has no upper end."""
    last = windows[-1] if windows and np.isinf(windows[-1].high) else None
    return DirectionThreshold(
        name=sector.name,
        basis=sector.basis,
        **paired(value=value, value_negative=(np.nan, np.nan) if last is None else (last.low, last.low_se)),
        windows=windows,
    )


def _lowest_of_means(means: _Means, hard: int) -> _Means:
    """For a wide network: the minimum over neurons of the mean thresholds, rather than the mean of the minima."""
    own, own_se = means.neurons
    first = own[::hard]
    lowest = float(np.min(first, initial=np.inf, where=~np.isnan(first)))
    if not np.isfinite(lowest):
        return means
    value = (lowest, float(own_se[list(own).index(lowest)]))

    zeros = [value if np.isclose(c[0], means.value[0], rtol=1e-3) else c for c in means.zeros]
    order = np.argsort(own)
    return replace(
        means,
        value=value,
        crossings=sorted((value if c == means.value else c for c in means.crossings), key=lambda crossing: crossing[0]),
        zeros=sorted(zeros),
        directions=(own[order], own_se[order]),
    )


def _assembled(
    search: _Search, scan: Scan, targets: Sequence[Target], roots: Sequence[tuple[Root, ...]]
) -> NetworkThreshold:
    """Means over replicates of every root, with what they say in words."""
    last = _last(search, targets, roots)
    means, here = _means(search, targets, roots, last), roots[last]
    stays_negative = search.value_only or scan.ends_negative
    status, message = _judged(search, targets[last].guess, here, means, stays_negative)
    value, directions, own = means.value, means.directions, means.neurons
    negative_value = _negative_for_good(search, means) if stays_negative else (np.nan, np.nan)
    if status == UNBOUNDED_CURVATURE:
        value = negative_value = (np.nan, np.nan)
        directions = own = (np.full_like(own[0], np.nan),) * 2
    if search.width == 1:
        own = directions
    by_neuron = [] if search.value_only else _blocks(*(x.reshape(search.width, search.hard) for x in own))
    first = _lowest(by_neuron) if by_neuron else None
    lowest = (np.nan, np.nan) if first is None else (first.value, first.value_se)
    undefined = np.isnan(value[0])
    return NetworkThreshold(
        time=search.time,
        status=status,
        message=message,
        **paired(value=value, value_negative=negative_value, directions=directions, block_minimum=lowest),
        **paired(crossings=_columns(means.crossings), negative_crossings=_columns(means.zeros)),
        negative=None if undefined else bool(np.mean([r.left_edge for r in here]) < 0.0),
        windows=() if undefined else means.windows,
        continuous=None if undefined else bool(np.mean([r.critical for r in here]) >= 0.5),
        sectors=() if search.value_only or undefined else _sectors(search, targets, roots, means),
        blocks=tuple(by_neuron),
        **_of_scan(scan),
    )


def _negative_for_good(search: _Search, means: _Means) -> tuple[float, float]:
    """From which delta on the outlier is negative, to the end of the range; nan where that was not found."""
    if search.full and means.windows:
        last = means.windows[-1]
        return (last.low, last.low_se) if np.isinf(last.high) and last.low > 0.0 else (np.nan, np.nan)
    return means.zeros[-1] if means.zeros else (np.nan, np.nan)


def _columns(roots: Sequence[tuple[float, float]]) -> Array:
    """Values and errors of some roots, (2, roots)."""
    return np.array(roots, dtype=np.float64).reshape(-1, 2).T


def _judged(
    search: _Search, guess: float, here: Sequence[Root], means: _Means, stays_negative: bool
) -> tuple[str, str]:
    """Status and message of a threshold."""
    value = means.value[0]
    where = f"t = {search.time}"
    if np.isnan(value):
        missing = sum(np.isnan(r.delta) for r in here)
        return NO_TRANSITION, (
            f"{where}: a transition was sought near delta = {guess:.3g} but {missing} of {len(here)} "
            "replicates have none there: more samples are needed, or gradient descent diverges before it"
        )
    if np.mean([r.drifts for r in here]) > 0.5:
        unbounded = unbounded_status(Network.of(search.problem), search.problem.teacher.link)
        return unbounded, unbounded.explained(f"{where}, near delta = {value:.3g}")
    if stays_negative:
        return OK, ""
    message = f"{where}: the hard outlier that stands left of the bulk from delta = {with_error(*means.value)} on is "
    if means.zeros:
        message += f"negative, so that gradient descent is unstable, only up to delta = {with_error(*means.zeros[-1])}"
    else:
        message += "nowhere negative: gradient descent is stable along the hard directions"
    return NOT_NEGATIVE, message


# ---- single neurons


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


def _with_block_gap(
    search: _Search, entry: NetworkThreshold, targets: Sequence[Target], roots: Sequence[tuple[Root, ...]]
) -> NetworkThreshold:
    """The distance of the lowest neuron's threshold from that of the full equation."""
    block = NeuronMargin((_lowest(entry.blocks).neuron - 1) * search.hard)
    if search.full:
        part = next(i for i, t in enumerate(targets) if t.quantity == block)
        both = zip(roots[part], roots[_last(search, targets, roots)], strict=True)
        gaps = [b.delta / w.delta - 1.0 for b, w in both]
    else:
        curve = search.curve(CHECK_SAMPLES, full=True, blocks=True)
        tasks = [(search, curve, seed, block, entry.block_minimum) for seed in search.seeds[:_CHECK_REPLICATES]]
        gaps = search.executor.run(_gap, tasks, label=f"full equation, t = {search.time}")
    return replace(entry, **averaged(block_gap=gaps))


def _gap(search: _Search, curve: MarginCurve, seed: np.random.SeedSequence, block: NeuronMargin, guess: float) -> float:
    """One task: the roots in log delta of one block and of the full equation, by secants through two points near."""
    log = np.log(guess) - np.array([0.0, BRACKET])
    near, below = (search.read(curve, seed)(float(np.exp(x))) for x in log)
    if near is None or below is None:
        return np.nan
    quantities: tuple[Quantity, Quantity] = (block, EdgeMargin(0))
    own, whole = (log[0] - q.of(near) * (log[1] - log[0]) / (q.of(below) - q.of(near)) for q in quantities)
    return float(np.exp(own - whole) - 1.0)
