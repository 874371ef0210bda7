"""delta_NN as the number of steps grows without bound, for each hard direction by itself.

A coarse scan at early times shows which directions have a transition. Each crossing is then followed: a few deltas that
enclose its way are run to the last time in every replicate (:mod:`featurephase.thresholds.follow`), and its values at
all times are extrapolated (:mod:`featurephase.thresholds.limit`). The last time is doubled until the limit is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurephase.dynamics.network import Network
from featurephase.foundation.executors import Workers, replicate_seeds, run_tasks
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.threads import core_count
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import FULL_WIDTH
from featurephase.hessian.unbounded import unbounded_status
from featurephase.results.base import paired
from featurephase.results.status import NO_TRANSITION, NOT_CONVERGED, OK, UNBOUNDED_CURVATURE
from featurephase.results.threshold import DirectionLimit, ThresholdLimit, Window
from featurephase.subspaces.sectors import HardSector, hard_sectors
from featurephase.thresholds.follow import (
    Crossing,
    MarginTable,
    enclosing_deltas,
    followed_times,
    missing_deltas,
    replicate_crossings,
)
from featurephase.thresholds.limit import FEWEST_TIMES, LimitFit, drifts_on, fit_limit
from featurephase.thresholds.roots import negative_windows
from featurephase.thresholds.scan import MarginCurve, MarginReading, decided_elsewhere, scan_grid, searched_range

if TYPE_CHECKING:
    from featurephase.problem import Problem
    from featurephase.subspaces import LatentSubspaces

#: The limit counts as known when its standard error is below this share of it.
LIMIT_GOAL = 0.02
#: The scan: replicates and readings on the way, of one neuron and of several, which take longer to read; sample paths,
#: and how far it runs, or half as far as the last round.
_SCAN_REPLICATES = (2, 1)
_SCAN_READINGS = (4, 2)
_SCAN_SAMPLES = 4096
_SCAN_TIME = 120
#: Sample paths per unit of delta, at least, in the scan and after it: N/delta is the dimension of the system that N
#: paths are (dynamics.conditioning.AsymptoticLaw), and must exceed the directions that training visits.
_SCAN_DIMENSION = 40
_DIMENSION = 200
_MOST_NEEDED = 2**15
#: A threshold that was seen in the scan but could not be followed is located to about this share of it, or to as many
#: times as it has moved over the last doubling of the time.
_LOCATED = 0.25
_MOVES_ON = 2.0
#: A way of a parameter of the second layer over the last doubling of the time, relative to its size, that is none.
_RESTLESS = 0.02
#: A way in log delta from one reading of the scan to the next that is no noise of it.
_MOVED = 0.05
#: The rounds: sample paths as a share of the problem's, this many at least, and the last time. Each is made where those
#: before leave the limit unknown.
_ROUNDS = ((1 / 6, 480), (1.0, 480), (1.0, 960), (1.0, 1920))
_FEWEST_SAMPLES = 2**13
#: A round goes no farther than it can in about this time of one core, in seconds for each sample path of the problem,
#: within bounds; the first one goes this far at least.
_SECONDS, _LONGEST = 4.6e-3, (100.0, 300.0)
_SHORTEST_WAY = 60
#: Nor where the last one did not shrink the error by this factor.
_HELPS = 0.8
#: Estimated time of a reading of the margins, per sample path, in seconds of one core: of one neuron, whose edge is
#: explicit, and of several, for each pair of them.
_READING = (1e-6, 6e-6)
#: Times that further deltas are added for a crossing that has left those that were to enclose it.
_MORE_ROUNDS = 6


@dataclass(frozen=True)
class Question:
    """On which side of the limits a delta lies, and whether a limit is sharp enough to tell.

    Where the scan shows a crossing near the delta only the last round would tell, and it is made at once.
    """

    delta: float
    decided: Callable[[ThresholdLimit], bool]


@dataclass(frozen=True)
class _Following:
    """What is followed and with what means."""

    problem: Problem
    spaces: LatentSubspaces
    sectors: tuple[HardSector, ...]
    bounds: tuple[float, float]
    samples: int
    replicates: int
    quiet: bool
    workers: Workers
    also: tuple[int, ...]

    def curve(self, samples: int) -> MarginCurve:
        """margin(delta) with so many sample paths."""
        width = self.problem.student.width
        bases = (self.spaces.easy_basis, self.spaces.hard_basis)
        sectors = tuple(sector.basis for sector in self.sectors)
        full = width <= FULL_WIDTH
        return MarginCurve(self.problem, *bases, samples, full, not full, sectors)

    def read(
        self, plan: dict[float, int], times: Sequence[int], samples: dict[float, int], replicates: int, label: str
    ) -> list[tuple[float, list[list[MarginReading | None]]]]:
        """All replicates at each delta of a plan, read at those of the times that it reaches."""
        seeds = replicate_seeds(self.problem.asymptotics.seed, replicates)
        tasks = [
            (self.curve(samples[delta]), delta, seed, [t for t in times if t <= plan[delta]])
            for delta in plan
            for seed in seeds
        ]
        seconds = [self.seconds(samples[delta], plan[delta], times) for delta in plan]
        if not self.quiet and tasks:
            total = sum(seconds) * replicates / min(core_count(), len(tasks))
            runs = f"{len(tasks)} runs of up to {max(plan.values())} steps"
            print(f"{label}: {runs}, about {_duration(total)}", file=sys.stderr, flush=True)
        readings = run_tasks(MarginCurve.read, tasks, label=label, quiet=self.quiet, workers=self.workers)
        return [(d, readings[i * replicates : (i + 1) * replicates]) for i, d in enumerate(plan)]

    def seconds(self, samples: int, steps: int, times: Sequence[int]) -> float:
        """Estimated time of one run on one core, read at those of the times that it reaches."""
        width = self.problem.student.width
        run = 0.02 + samples * steps * width * (5e-8 + 2.5e-8 * width) * (1.0 + steps / 2000.0)
        return float(run + sum(t <= steps for t in times) * samples * width**2 * _READING[width > 1])

    def work(self, plans: Sequence[dict[float, int]]) -> float:
        """Estimated time of all runs of some plans on one core."""
        samples, union = _samples(self, plans), _union(plans)
        times = followed_times(max(union.values(), default=0))
        return self.replicates * sum(self.seconds(samples[d], steps, times) for d, steps in union.items())


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def threshold_limit(
    problem: Problem,
    spaces: LatentSubspaces,
    *,
    delta_range: tuple[float, float] | None = None,
    delta_alg: float = 0.0,
    rounds: Sequence[tuple[int, int]] | None = None,
    question: Question | None = None,
    longest: float | None = None,
    also: Sequence[int] = (),
    quiet: bool = True,
    workers: Workers = None,
) -> ThresholdLimit:
    """The limit t -> infinity of delta_NN(t) and of every hard direction's own threshold.

    Parameters
    ----------
    problem
        The experiment; ``threshold.max_steps`` bounds how far training is followed.
    spaces
        U_E and U_H, known, with something hard.
    delta_range
        Where to search; default: the problem's.
    delta_alg
        The data's threshold, if it is known: no first-order method does better, and nothing is searched far below it.
    rounds
        Sample paths and last time of each round; more paths at large delta. The next one is made where it would not
        take too long and the last one has helped: with more paths until the limit has converged, and farther until it
        is known to :data:`LIMIT_GOAL`. Default: to t = 480 with a sixth of the problem's paths, with all, then farther.
    question
        What the limit is to decide: no further round is made once it does. Default: until it has converged, or is known
        to :data:`LIMIT_GOAL` with as many paths as there are.
    longest
        Seconds of one core that a round may take, about; default: 100 to 300, by the sample paths. The first one goes
        less far where it would take longer, and says so; further ones are not begun.
    also
        Further times of the history, as far as training is followed; they are no part of the extrapolation.
    quiet
        Nothing on standard error; else what is done and how long it will take.
    workers
        Processes; default: one for each core.
    """
    if status := decided_elsewhere(problem):
        return ThresholdLimit(status=status, message=status.explained())
    bounds = searched_range(*(problem.threshold.delta_range if delta_range is None else delta_range), delta_alg)
    most = max([problem.threshold.max_steps, *also])
    rounds = _rounds(problem) if rounds is None else rounds
    longest = float(np.clip(_SECONDS * problem.asymptotics.samples, *_LONGEST)) if longest is None else longest
    sectors, replicates = hard_sectors(spaces), problem.asymptotics.replicates
    following = _Following(problem, spaces, sectors, bounds, 0, replicates, quiet, workers, tuple(also))
    scan = _scanned(following, min(_SCAN_TIME, max(_SHORTEST_WAY, rounds[-1][1] // 2), most))
    if scan.drifting == 1.0:
        unbounded = unbounded_status(Network.of(problem), problem.teacher.link)
        return ThresholdLimit(status=unbounded, message=unbounded.explained("limit"), time=int(scan.times[-1]))
    crossings = _seen(scan, len(sectors))
    if question is not None and _near(crossings, question.delta):
        rounds = rounds[-1:]
    limit = _first_round(replace(following, samples=rounds[0][0]), scan, crossings, min(rounds[0][1], most), longest)
    for samples, last in rounds[1:]:
        following, last = replace(following, samples=samples), min(last, most)
        sharp = limit.converged or (limit.status == OK and limit.samples == rounds[-1][0])
        if question.decided(limit) if question else sharp or limit.status not in (OK, NOT_CONVERGED):
            break
        plans = _plans(following, scan, crossings, last)
        if following.work(plans) > longest:
            break
        before, limit = limit, _followed(following, scan, last, crossings, plans)
        if question is None and np.isfinite(before.value_se) and not limit.value_se < _HELPS * before.value_se:
            break
    return limit


def _first_round(
    following: _Following, scan: MarginTable, crossings: Sequence[Crossing], last: int, longest: float
) -> ThresholdLimit:
    """The crossings followed as far as the time allows: half as far, and half again, where it would take too long.

    Where it would even then, they stay where the scan has seen them.
    """
    wanted = last
    plans = _plans(following, scan, crossings, last)
    while (work := following.work(plans)) > longest and last // 2 >= _SHORTEST_WAY:
        last //= 2
        plans = _plans(following, scan, crossings, last)
    unknown = work > longest
    if unknown:
        times = sorted({*followed_times(last), *(t for t in following.also if t <= last)})
        seen = [_Extrapolated(c, np.full((2, len(times)), np.nan), _located(c), False) for c in crossings]
        limit = replace(_summed_up(following, scan, seen, times), time=int(scan.times[-1]))
        words = (
            f"not followed: to step {last} it would take one core about {_duration(work)}, more than the "
            f"{_duration(longest)} allowed here; located by a scan to step {scan.times[-1]} with few sample paths"
        )
    else:
        limit = _followed(following, scan, last, crossings, plans)
        words = (
            f"followed to step {last} in place of {wanted}, as far as one core comes in about {_duration(longest)}: "
            "fewer sample paths, replicates or neurons let it come farther"
        )
    if not unknown and last == wanted:
        return limit
    return replace(limit, bounded=words, message="; ".join(filter(None, [limit.message, words])))


def _rounds(problem: Problem) -> list[tuple[int, int]]:
    """Sample paths and last time of each round, each combination once."""
    most, last = problem.asymptotics.samples, problem.threshold.max_steps
    rounds = [(min(most, max(_FEWEST_SAMPLES, int(share * most))), min(time, last)) for share, time in _ROUNDS]
    return list(dict.fromkeys(rounds))


def _scanned(following: _Following, last: int) -> MarginTable:
    """The margins over the whole range at a few early times."""
    grid = scan_grid(*following.bounds)
    several = following.problem.student.width > 1
    times = followed_times(last)[::-2][: _SCAN_READINGS[several]][::-1]
    fewest = max(_SCAN_SAMPLES, following.problem.training.batch_count)
    samples = {float(d): max(fewest, min(int(_SCAN_DIMENSION * d), _MOST_NEEDED)) for d in grid}
    plan = dict.fromkeys(samples, last)
    rows = following.read(plan, times, samples, _SCAN_REPLICATES[several], "delta_NN(t -> inf), scan")
    return MarginTable.of(times, len(following.sectors), rows)


@dataclass(frozen=True)
class _Extrapolated:
    """A crossing as t grows: its values in every replicate at every time, and the fit if there is one.

    ``drifts``: the edge does, because the curvature is unbounded. ``moves_on``: the crossing does, as fast as ever,
    from its ``last`` value on, or the second layer does, so that there is no plateau.
    """

    crossing: Crossing
    roots: Array
    fit: LimitFit | None
    drifts: bool
    moves_on: bool = False

    @property
    def last(self) -> float:
        """Its value at the last time, in the mean of the replicates; nan where one has none."""
        return float(self.roots[:, -1].mean())

    @property
    def value(self) -> tuple[float, float]:
        """The limit with its error; nan without."""
        return (np.nan, np.nan) if self.fit is None else (self.fit.value, self.fit.se)

    @property
    def end(self) -> tuple[float, float]:
        """The limit as the end of a window; where it moves on, or was lost, what is known last, without an error."""
        if self.fit is not None:
            return self.value
        return (self.last if self.moves_on else self.crossing.way[-1]), np.nan


def _located(crossing: Crossing) -> LimitFit:
    """About where a crossing that is not followed ends: where the scan has seen it last, with what it may move yet.

    The error is unknown where it moved on clearly, and no slower than before.
    """
    earlier, before, seen = (np.nan, np.nan, *crossing.way)[-3:]
    moved, once = (float(abs(np.log(b / a))) if np.isfinite(a) else 0.0 for a, b in ((before, seen), (earlier, before)))
    left = moved * moved / (once - moved) if moved < once else np.inf if moved > _MOVED and once > 0.0 else 0.0
    share = max(_LOCATED, _MOVES_ON * moved, left)
    return LimitFit(seen, share * seen if np.isfinite(share) else np.nan, "", np.nan, np.nan, np.nan)


def _seen(scan: MarginTable, sectors: int) -> list[Crossing]:
    """Every crossing that the scan shows at its last time, with its way there."""
    return [
        Crossing.backwards(scan, sector, zero, change)
        for sector in range(sectors)
        for zero in (False, True)
        for change in scan.changes(sector, zero, len(scan.times) - 1)
    ]


def _near(crossings: Sequence[Crossing], delta: float) -> bool:
    """Whether a crossing that the scan shows may yet move to this delta, or lies about there."""
    return any(abs(np.log(delta / end.value)) < end.se / end.value for end in map(_located, crossings))


def _plans(
    following: _Following, scan: MarginTable, crossings: Sequence[Crossing], last: int
) -> list[dict[float, int]]:
    """The deltas that enclose the way of each crossing to a time."""
    return [enclosing_deltas(c, scan.times.astype(float), last, following.bounds) for c in crossings]


def _followed(
    following: _Following,
    scan: MarginTable,
    last: int,
    crossings: Sequence[Crossing],
    plans: list[dict[float, int]],
) -> ThresholdLimit:
    """The crossings followed to a time and extrapolated."""
    times = sorted({*followed_times(last), *(t for t in following.also if t <= last)})
    table, plans = _enclosed(following, crossings, plans, times)
    found = [
        _extrapolated(table, c, sorted(plan), times, followed_times(last))
        for c, plan in zip(crossings, plans, strict=True)
    ]
    return _summed_up(following, scan, found, times)


def _summed_up(
    following: _Following, scan: MarginTable, found: Sequence[_Extrapolated], times: Sequence[int]
) -> ThresholdLimit:
    """The limits of all sectors, and the lowest of them."""
    sectors = tuple(_sector(following, scan, number, found, times) for number in range(len(following.sectors)))
    return _lowest(following, sectors, times)


def _enclosed(
    following: _Following, crossings: Sequence[Crossing], plans: list[dict[float, int]], times: Sequence[int]
) -> tuple[MarginTable, list[dict[float, int]]]:
    """Run what is to enclose the crossings, and more where one has moved on."""
    rows: dict[float, list[list[MarginReading | None]]] = {}
    wanted, reached = _union(plans), dict[float, int]()
    label = f"delta_NN(t -> inf), t = {times[-1]}"
    for _ in range(_MORE_ROUNDS):
        samples = _samples(following, plans)
        rows |= dict(following.read(wanted, times, samples, following.replicates, label))
        reached |= wanted
        table = MarginTable.of(times, len(following.sectors), rows.items())
        more = [
            missing_deltas(table, c, sorted(plan), following.bounds) for c, plan in zip(crossings, plans, strict=True)
        ]
        plans = [_union([plan, extra]) for plan, extra in zip(plans, more, strict=True)]
        wanted = {d: t for d, t in _union(more).items() if t > reached.get(d, 0)}
        if not wanted:
            break
    return table, plans


def _samples(following: _Following, plans: Sequence[dict[float, int]]) -> dict[float, int]:
    """Sample paths at each delta: those asked for or what the largest delta of a crossing needs, so that the runs that
    enclose it have their random numbers in common."""
    fewest = max(following.samples, following.problem.training.batch_count)
    samples: dict[float, int] = {}
    for plan in plans:
        needed = max([fewest, *(min(int(_DIMENSION * d), _MOST_NEEDED) for d in plan)])
        samples |= {d: max(samples.get(d, 0), needed) for d in plan}
    return samples


def _union(plans: Iterable[dict[float, int]]) -> dict[float, int]:
    union: dict[float, int] = {}
    for plan in plans:
        for delta, last in plan.items():
            union[delta] = max(union.get(delta, 0), last)
    return union


def _extrapolated(
    table: MarginTable, crossing: Crossing, known: Sequence[float], times: Sequence[int], grid: Sequence[int]
) -> _Extrapolated:
    """The roots of a crossing at all times, and their limit from those of a grid, where the last ones exist."""
    roots = replicate_crossings(table, crossing, known)
    fitted = roots[:, np.isin(times, grid)]
    there = np.asarray(~np.isnan(fitted).any(axis=0))
    fit, moves_on = None, False
    # only an unbroken end of the times says anything of the limit
    start = len(there) - int(np.argmin(there[::-1])) if not there.all() else 0
    if len(there) - start >= FEWEST_TIMES and len(roots) > 1:
        at = np.isin(times, grid)
        moves_on = drifts_on(fitted[:, start:]) or _edge_moves_on(table, known, at) or _outer_moves_on(table, known, at)
        fit = None if moves_on else fit_limit(grid[start:], fitted[:, start:])
        if fit is not None and not fit.value > 0.0:
            fit = None
    mine = np.isin(table.delta, known)
    read = np.isfinite(table.left_edge[mine])
    drifting = float(table.drifts[mine][read].mean()) if read.any() else 0.0
    return _Extrapolated(crossing, roots, fit, drifting > 0.5, moves_on)


def _edge_moves_on(table: MarginTable, known: Sequence[float], at: NDArray[np.bool_]) -> bool:
    """Whether the left edge moves no slower than before, in the mean of the deltas run to the end.

    So it does where training has hardly begun, with small steps or read-outs. The edge has less noise than crossings.
    """
    edges = _to_the_end(table.left_edge, table, known, at)
    return bool(edges.size) and edges.shape[2] >= FEWEST_TIMES and drifts_on(edges.mean(axis=0), clearly=False)


def _to_the_end(readings: Array, table: MarginTable, known: Sequence[float], at: NDArray[np.bool_]) -> Array:
    """Readings (D, R, T, ..) at the given deltas and times, of the deltas at which every replicate has them all."""
    mine = readings[np.isin(table.delta, known)][:, :, at]
    return np.asarray(mine[~np.isnan(mine).any(axis=tuple(range(1, mine.ndim)))])


def _outer_moves_on(table: MarginTable, known: Sequence[float], at: NDArray[np.bool_]) -> bool:
    """Whether a parameter of the second layer moves as fast as ever, in the mean of the deltas run to the end."""
    outer = _to_the_end(table.outer, table, known, at)
    if not outer.size or outer.shape[2] < FEWEST_TIMES:
        return False
    mean = outer.mean(axis=0)
    scale = float(np.sqrt(np.mean(mean[:, -1] ** 2)))
    moved = np.abs((mean[:, -1] - mean[:, -3]).mean(axis=0)) > _RESTLESS * scale
    return any(drifts_on(mean[:, :, i]) for i in np.flatnonzero(moved))


def _sector(
    following: _Following, scan: MarginTable, number: int, found: Sequence[_Extrapolated], times: Sequence[int]
) -> DirectionLimit:
    """The limits of one sector."""
    sector = following.sectors[number]
    at_edge, at_zero = (
        [e for e in found if e.crossing.sector == number and e.crossing.zero is zero] for zero in (False, True)
    )
    first = next((e for e in reversed(at_edge) if not e.crossing.rising), None)
    windows = _windows(scan, number, at_zero)
    negative = [(w.low, w.low_se) for w in windows if np.isinf(w.high) and np.isfinite(w.low_se)]
    status, message = _state(following, scan, number, first, times[-1])
    last_zero = at_zero[-1] if at_zero and not at_zero[-1].crossing.rising else None
    fit = None if first is None else first.fit
    return DirectionLimit(
        name=sector.name,
        basis=sector.basis,
        windows=windows,
        status=status,
        message=message,
        moves_on=first is not None and first.moves_on,
        form="" if fit is None else fit.form,
        exponent=np.nan if fit is None else fit.exponent,
        **paired(
            value=(np.nan, np.nan) if first is None or status == UNBOUNDED_CURVATURE else first.value,
            value_negative=negative[-1] if negative else (np.nan, np.nan),
            history=_history(first, len(times)),
            negative_history=_history(last_zero, len(times)),
        ),
    )


def _history(crossing: _Extrapolated | None, times: int) -> tuple[Array, Array]:
    """A crossing at all times, (T,), with its errors; nan without one."""
    if crossing is None:
        return np.full(times, np.nan), np.full(times, np.nan)
    return mean_and_se(crossing.roots)


def _windows(scan: MarginTable, sector: int, found: Sequence[_Extrapolated]) -> tuple[Window, ...]:
    """The intervals of delta in which the outlier of a sector is negative in the limit, from its crossings at 0."""
    last = len(scan.times) - 1
    delta, mean = scan.mean(sector, True, last)
    if not len(delta):
        return ()
    begin = (0.0, 0.0) if delta[0] == scan.delta[0] else (float(delta[0]), np.inf)  # below it runs diverge
    return negative_windows([(*e.end, e.crossing.rising) for e in found], bool(mean[0] < 0), begin)


def _state(
    following: _Following, scan: MarginTable, number: int, first: _Extrapolated | None, time: int
) -> tuple[str, str]:
    """Status and message of the limit of one sector, followed to a time."""
    low, high = following.bounds
    name = following.sectors[number].name
    last = len(scan.times) - 1
    delta, mean = scan.mean(number, False, last)
    if first is None:
        if not len(delta):
            return NO_TRANSITION, f"gradient descent diverges before t = {scan.times[-1]} at every delta searched"
        if mean[-1] < 0:
            return NO_TRANSITION, f"{name}: a hard outlier stands left of the bulk at every delta from {delta[0]:g} on"
        closest = float(mean.min())
        return NO_TRANSITION, (
            f"{name}: no hard outlier stands left of the bulk up to delta = {high:g} as training goes on (the margin "
            f"is 1 far from a transition, 0 at it; the smallest found at t = {scan.times[-1]} is {closest:.3g})"
        )
    if first.drifts:
        unbounded = unbounded_status(Network.of(following.problem), following.problem.teacher.link)
        return unbounded, unbounded.explained(f"{name}, limit")
    if first.moves_on:
        return NOT_CONVERGED, (
            f"{name}: delta_NN, {first.last:.3g} at t = {time}, or the second layer with it, moves as fast as ever "
            "with every doubling of the time: no limit is in sight"
        )
    if first.fit is None:
        return NOT_CONVERGED, (
            f"{name}: the threshold near delta = {first.crossing.way[-1]:.3g} at t = {scan.times[-1]} cannot be "
            f"followed to later times in every replicate, or leaves the range {low:g} to {high:g}: more samples are "
            "needed"
        )
    if first.fit.se > LIMIT_GOAL * first.fit.value:
        return NOT_CONVERGED, (
            f"{name}: the limit of delta_NN is known to {first.fit.se / first.fit.value:.1%} only: more samples "
            "(asymptotics.samples) or replicates make it sharper"
        )
    return OK, ""


def _lowest(following: _Following, sectors: tuple[DirectionLimit, ...], times: Sequence[int]) -> ThresholdLimit:
    """delta_NN: the lowest limit of all sectors."""
    with_value = [s for s in sectors if np.isfinite(s.value)]
    negative = [s for s in sectors if np.isfinite(s.value_negative)]
    if not with_value:
        first = min(sectors, key=lambda s: s.status == NO_TRANSITION)
        messages = "; ".join(dict.fromkeys(s.message for s in sectors if s.message))
        return ThresholdLimit(
            status=first.status,
            message=messages,
            time=times[-1],
            history_time=tuple(times),
            history=first.history,
            history_se=first.history_se,
            sectors=sectors,
            samples=following.samples,
        )
    lowest = min(with_value, key=lambda s: s.value)
    learned = min(negative, key=lambda s: s.value_negative, default=None)
    unknown = (np.nan, np.nan)
    drift = unknown
    if before := [i for i, t in enumerate(times) if t <= round(times[-1] / 2)]:
        ends, errors = lowest.history[[before[-1], -1]], lowest.history_se[[before[-1], -1]]
        drift = float(ends[1] - ends[0]), float(np.hypot(*errors))
    return ThresholdLimit(
        status=lowest.status,
        message=lowest.message,
        form=lowest.form,
        converged=bool(2 * lowest.value_se < max(0.02 * lowest.value, 2 * float(lowest.history_se[-1]))),
        history_time=tuple(times),
        **paired(
            value=(lowest.value, lowest.value_se),
            value_negative=unknown if learned is None else (learned.value_negative, learned.value_negative_se),
            drift=drift,
            history=(lowest.history, lowest.history_se),
        ),
        sectors=sectors,
        samples=following.samples,
        time=times[-1],
    )
