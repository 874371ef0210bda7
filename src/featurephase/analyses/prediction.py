"""``predict``: the trajectory of gradient descent in the limit n, d -> infinity, and its Hessian along the way.

One task is one replicate at one delta; the same random stream serves a replicate at every delta (common random
numbers). Everything is a mean over replicates with its standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.analyses.stability import step_size_words
from featurephase.dynamics.asymptotic import replicate_bytes, run_replicate
from featurephase.dynamics.network import Network
from featurephase.dynamics.optimisers import require_batches
from featurephase.dynamics.training import ReplicateTrajectory
from featurephase.foundation.errors import Interrupted
from featurephase.foundation.executors import Executor, Workers, as_executor, replicate_seeds, until_interrupted
from featurephase.foundation.memory import require_memory
from featurephase.foundation.types import Array
from featurephase.functions.tails import missing_mean
from featurephase.hessian.outliers import Outlier
from featurephase.hessian.spectrum import CHECKED_WIDTH, FULL_WIDTH, Spectrum, block_words, spectrum
from featurephase.hessian.unbounded import curvature_bounds, heavy_tails_status, unbounded_status
from featurephase.problem.asked import asked_deltas, asked_times, check_problem, experiment_text
from featurephase.results.base import Result, averaged, averaged_over, paired
from featurephase.results.outer import trajectory_averages
from featurephase.results.prediction import (
    BlockComparison,
    HessianPrediction,
    OutlierPrediction,
    Prediction,
    TrajectoryPrediction,
)
from featurephase.results.status import AMBIGUOUS_RANK, INTERRUPTED, NOT_CONVERGED, OK, diverged
from featurephase.subspaces import LatentSubspaces, problem_subspaces
from featurephase.thresholds.scan import MarginCurve, MarginReading

if TYPE_CHECKING:
    from featurephase.problem import Problem

#: Replicates in which the block approximation is compared with the full equation.
_CHECK_REPLICATES = 2
#: Abscissae of the density of the bulk, of the first replicate.
_DENSITY_POINTS = 160

#: With fewer sample paths for each visited direction the bias, of the order of their ratio, stands out of the errors of
#: the worked example after 60 steps: by five of them with 100 paths, four with 200, none from 800 on.
_PATHS_PER_DIRECTION = 8


def check_problem_memory(problem: Problem, steps: int) -> None:
    """Refuse a replicate whose histories cannot fit.

    Raises
    ------
    MemoryLimitError
        With what would be needed and what there is.
    """
    width, samples = problem.student.width, problem.asymptotics.samples
    require_memory(
        replicate_bytes(problem, steps, samples), f"{samples} sample paths, {steps} steps and {width} neurons"
    )


def check_problem_batches(problem: Problem) -> None:
    """Refuse batches that would leave some without a sample path.

    Raises
    ------
    InputError
        If there are more batches than ``asymptotics.samples``.
    """
    if problem.training.reuses_batches:
        require_batches(
            problem.training.batch_count, problem.asymptotics.samples, "sample paths (asymptotics.samples, --samples)"
        )


@dataclass(frozen=True)
class _Seen:
    """What is seen of one replicate at one time: the Hessian, and its margins, as far as they were asked for."""

    spectrum: Spectrum | None
    margins: MarginReading | None


@dataclass(frozen=True)
class _Observer:
    """Analyses the Hessian of one replicate; a class, so that worker processes can receive it."""

    problem: Problem
    delta: float
    easy_basis: Array
    hard_basis: Array
    density_points: int
    compared: bool
    analysed: bool
    margins: Callable[[Any], MarginReading] | None

    def __call__(self, moment: Any) -> _Seen:
        margins = None if self.margins is None else self.margins(moment)
        return _Seen(self._spectrum(moment) if self.analysed else None, margins)

    def _spectrum(self, moment: Any) -> Spectrum:
        return spectrum(
            self.problem.teacher.link,
            moment,
            delta=self.problem.training.data_ratio(self.delta),
            weight_decay=self.problem.training.weight_decay,
            easy_basis=self.easy_basis,
            hard_basis=self.hard_basis,
            groups=self.problem.student.exchangeable,
            compared=self.compared,
            density_points=self.density_points,
        )


@dataclass(frozen=True)
class _Asked:
    """What is asked of every replicate at every delta."""

    problem: Problem
    times: Sequence[int]
    spaces: LatentSubspaces
    density: bool = False
    watched: WatchedMargins | None = None


def _replicate(asked: _Asked, delta: float, number: int, seed: np.random.SeedSequence) -> ReplicateTrajectory:
    """One task: a trajectory with the Hessians asked for; without subspaces all latent rows are kept and none is."""
    problem, times, spaces, watched = asked.problem, asked.times, asked.spaces, asked.watched
    if not spaces.ok:
        return run_replicate(problem, delta, seed)
    margins = None if watched is None else watched.curve.observer(delta)
    watching = () if watched is None else watched.times
    points = _DENSITY_POINTS if asked.density and number == 0 else 0
    # There the block approximation, if it is used, is compared with the full equation.
    blocks = FULL_WIDTH < problem.student.width <= CHECKED_WIDTH and number < _CHECK_REPLICATES
    compared = max(times, default=None) if blocks else None
    observers = {}
    for t in {*times, *watching}:
        read = margins if t in watching else None
        observers[t] = _Observer(
            problem, delta, spaces.easy_basis, spaces.hard_basis, points, t == compared, t in times, read
        )
    return run_replicate(problem, delta, seed, easy_basis=spaces.easy_basis, observers=observers)


def predict(
    problem: Problem,
    *,
    delta: float | Iterable[float] | None = None,
    times: int | Iterable[int] | None = None,
    density: bool = False,
    subspaces: LatentSubspaces | None = None,
    quiet: bool = True,
    workers: Workers = None,
) -> Prediction:
    """Trajectory and Hessian of gradient descent in the limit n, d -> infinity with n/d -> delta.

    Parameters
    ----------
    problem
        The experiment.
    delta
        n/d, one or several; default: the problem's ``run.delta``.
    times
        Where the Hessian is analysed; default: the problem's ``run.times``, else the last step.
    density
        Whether to compute the density of the bulk too (for figures).
    subspaces
        U_E and U_H if they are known already.
    quiet
        No progress on standard error.
    workers
        Number of processes, or where to compute (:class:`~featurephase.Dask`); default: as many processes as pay.

    Returns
    -------
    Prediction
        Its ``status`` is the first reason why something asked for does not exist.

    Raises
    ------
    InputError
        No delta, a delta <= 0, a time beyond the last step, or more memory than there is.
    Interrupted
        At Ctrl-C, if some deltas are finished: they are its ``result``.

    Notes
    -----
    Montanari & Wang, arXiv 2602.01434: the asymptotic characterisation of gradient descent and of its Hessian.
    """
    check_problem(problem)
    deltas, analysed = asked_deltas(problem, delta), asked_times(problem, times)
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    return _predicted(_Asked(problem, analysed, spaces, density), deltas, as_executor(workers, quiet=quiet))[0]


@dataclass(frozen=True)
class WatchedMargins:
    """Margins of hard outliers that are read along a prediction, and at which steps."""

    curve: MarginCurve
    times: tuple[int, ...]


def predict_with_margins(
    problem: Problem,
    delta: float,
    times: Sequence[int],
    spaces: LatentSubspaces,
    watched: WatchedMargins,
    executor: Executor,
) -> tuple[Prediction, list[list[MarginReading | None]]]:
    """:func:`predict`, and the margins of each replicate at each of the watched steps; ``None``: it has diverged."""
    prediction, replicates = _predicted(_Asked(problem, times, spaces, watched=watched), [delta], executor)
    seen = [[r.observations.get(t) for t in watched.times] for r in replicates]
    return prediction, [[None if s is None else s.margins for s in row] for row in seen]


def _predicted(
    asked: _Asked, deltas: Sequence[float], executor: Executor
) -> tuple[Prediction, list[ReplicateTrajectory]]:
    """The prediction, and the replicates that it is the mean of; at Ctrl-C the deltas that are finished are kept."""
    problem = asked.problem
    check_problem_memory(problem, problem.training.steps)
    check_problem_batches(problem)
    memory = replicate_bytes(problem, problem.training.steps, problem.asymptotics.samples)
    everything: list[ReplicateTrajectory] = []

    def at(value: float) -> TrajectoryPrediction:
        seeds = replicate_seeds(problem.asymptotics.seed, problem.asymptotics.replicates)
        tasks = [(asked, value, number, seed) for number, seed in enumerate(seeds)]
        replicates = executor.run(_replicate, tasks, label="predict", memory=memory)
        everything.extend(replicates)
        return _summary(asked, value, replicates)

    runs, interrupted = until_interrupted(at, deltas, deltas)
    prediction = _assembled(problem, tuple(runs), asked.spaces)
    if interrupted:
        raise Interrupted(replace(prediction, status=INTERRUPTED, message=interrupted))
    return prediction, everything


def _assembled(problem: Problem, runs: tuple[TrajectoryPrediction, ...], spaces: LatentSubspaces) -> Prediction:
    """All deltas; the status is the first reason why something does not exist."""
    heavy = heavy_tails_status(Network.of(problem), problem.teacher.link)
    problems = [(heavy, heavy.explained())] if heavy else []
    problems += [(run.status, run.message) for run in runs if run.status != OK]
    problems += [(h.status, h.message) for run in runs for h in run.hessian if h.status != OK]
    messages = list(dict.fromkeys(message for _, message in problems))
    return Prediction(
        status=problems[0][0] if problems else OK,
        message="; ".join(messages),
        seed=problem.asymptotics.seed,
        title=problem.title,
        samples=problem.asymptotics.samples,
        replicates=problem.asymptotics.replicates,
        easy_basis=spaces.easy_basis,
        hard_basis=spaces.hard_basis,
        runs=runs,
        warnings=tuple(_warnings(problem, runs)),
        readout=problem.student.readout if problem.plain else None,
        experiment=experiment_text(problem),
    )


def _summary(asked: _Asked, delta: float, replicates: Sequence[ReplicateTrajectory]) -> TrajectoryPrediction:
    """Means and standard errors over the replicates of one delta."""
    ends = [r.diverged_at for r in replicates if r.diverged_at is not None]
    status = diverged(min(ends)) if ends else OK
    message = f"delta = {delta:g}: {status}: {status.message}" if ends else ""
    hessian = []
    for t in asked.times:
        if not asked.spaces.ok:
            entry = HessianPrediction(time=t, status=AMBIGUOUS_RANK, message=AMBIGUOUS_RANK.message)
        elif any(t not in r.observations for r in replicates):
            entry = HessianPrediction(time=t, status=status, message=f"{status}, before t = {t}")
        else:
            entry = _hessian(asked.problem, t, [r.observations[t].spectrum for r in replicates])
        hessian.append(entry)
    return TrajectoryPrediction(
        delta=delta,
        status=status,
        message=message,
        seed=asked.problem.asymptotics.seed,
        version=Result.version,
        times=np.arange(len(replicates[0].train_loss)),
        **trajectory_averages(replicates),
        hessian=tuple(hessian),
        basis=max(r.basis for r in replicates),
        dropped=max(r.dropped for r in replicates),
        replicates=len(replicates),
        trajectories=tuple(replace(r, observations={}) for r in replicates),
    )


def _hessian(problem: Problem, time: int, spectra: Sequence[Spectrum]) -> HessianPrediction:
    """One time: edges over all replicates, outliers matched from the outside in."""
    bad = [s.status for s in spectra if s.status != OK]
    unbounded_below = np.mean([s.left_drifts for s in spectra]) > 0.5
    if bad or unbounded_below:
        status = bad[0] if bad else unbounded_status(Network.of(problem), problem.teacher.link)
        return HessianPrediction(time=time, status=status, message=status.explained(f"Hessian at t = {time}"))
    status, message = OK, ""
    unbounded_above = bool(np.mean([s.right_drifts for s in spectra]) > 0.5)
    if not all(s.complete for s in spectra):
        status = NOT_CONVERGED
        message = f"Hessian at t = {time}: not all outliers were found within the budget of the search"
    elif tails := _invisible_tails(problem, unbounded_above or problem.student.width > FULL_WIDTH):
        message = f"Hessian at t = {time}: {tails}"
    edges = averaged_over(spectra, "left_edge", "right_edge")
    edges |= averaged(drifting=[float(s.left_drifts) for s in spectra])
    if unbounded_above:
        edges |= paired(right_edge=(np.inf, 0.0))
    beyond = slice(0) if unbounded_above else slice(None)  # nothing stands right of a bulk that has no right edge
    return HessianPrediction(
        time=time,
        status=status,
        message=message,
        **edges,
        continuous=bool(np.mean([s.left_critical for s in spectra]) >= 0.5),
        hard_outliers=_matched([s.hard_left for s in spectra], [s.hard_right[beyond] for s in spectra]),
        outliers=_matched([s.visited_left for s in spectra], [s.visited_right[beyond] for s in spectra]),
        paths_needed=_rounded_up(max(s.needed for s in spectra)) if np.mean([s.doubtful for s in spectra]) > 0.5 else 0,
        blocks=problem.student.width > FULL_WIDTH,
        block_gap=_block_comparison(spectra),
        density=next((s.density for s in spectra if s.density is not None), None),
    )


def _invisible_tails(problem: Problem, right_told: bool) -> str:
    """What is said of edges that stand though the curvature is unbounded; ``right_told``: not of the right."""
    bounds = curvature_bounds(Network.of(problem), problem.teacher.link)
    sides = (["below"] if bounds.below else []) + (["above"] if bounds.above and not right_told else [])
    if not sides:
        return ""
    words = f"the curvature of samples is unbounded {' and '.join(sides)}"
    words += f" ({bounds.reason})" if bounds.below else ""
    words += ", but no sample of a realistic number comes near its tail here"
    return f"{words}. Bounded in any case: {bounds.advice}" if bounds.below else words


def _rounded_up(count: int) -> int:
    """To two digits."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return int(-(-count // unit) * unit)


def _block_comparison(spectra: Sequence[Spectrum]) -> BlockComparison | None:
    gaps = [s.gap for s in spectra if s.gap is not None]
    if not gaps:
        return None
    return BlockComparison(
        **averaged_over(gaps, "left_edge", "lowest"),
        samples=gaps[0].samples,
        replicates=len(gaps),
    )


def _matched(left: list[list[Outlier]], right: list[list[Outlier]]) -> tuple[OutlierPrediction, ...]:
    """Outliers of all replicates, ascending: the j-th from the outside is the same one in every replicate."""
    merged = []
    for side, lists in (("left", left), ("right", right)):
        for j in range(max(len(x) for x in lists)):
            same = [x[j] for x in lists if len(x) > j]
            fraction = averaged(fraction=[float(len(x) > j) for x in lists])
            merged.append(OutlierPrediction(side=side, **averaged_over(same, "value", "overlap"), **fraction))
    return tuple(sorted(merged, key=lambda o: o.value))


def _warnings(problem: Problem, runs: Sequence[TrajectoryPrediction]) -> Iterable[str]:
    if problem.student.width > FULL_WIDTH and any(run.hessian for run in runs):
        checked = [
            f"left edge {h.block_gap.left_edge:+.1%}, lowest hard eigenvalue {h.block_gap.lowest:+.1%} from the full "
            f"matrix equation's at delta = {run.delta:g}, t = {h.time}"
            for run in runs
            for h in run.hessian
            if h.block_gap is not None
        ]
        yield block_words(problem.student.width, "the left of the spectrum (the right is not described)", checked)
    if problem.trains_outer and any(h.outliers for run in runs for h in run.hessian):
        yield (
            "outliers that are not hard are those of the first layer's Hessian: that of all trained parameters may "
            "have them elsewhere, and others; its edges and hard outliers are the same"
        )
    if where := missing_mean(Network.of(problem).loss, problem.teacher.link):
        yield (
            f"the loss has no mean: the response is too heavily tailed {where}; training and test losses are averages "
            "that no number of sample paths settles"
        )
    bounds = curvature_bounds(Network.of(problem), problem.teacher.link)
    if {*bounds.causes, *bounds.causes_above} - {"output"}:  # most networks have tails by the output of other neurons
        told = (f"delta = {r.delta:g}: {h.message}" for r in runs for h in r.hessian if h.status == OK and h.message)
        yield from islice(told, 1)  # the same wherever it holds
    for run in runs:
        yield from step_size_words(problem, run)
        if run.dropped > 1e-4:
            yield (
                f"delta = {run.delta:g}: the basis of visited directions was full ({run.basis}); directions below a "
                f"relative {run.dropped:.0e} were left out"
            )
        if problem.asymptotics.samples < _PATHS_PER_DIRECTION * run.basis:
            yield (
                f"delta = {run.delta:g}: {problem.asymptotics.samples} sample paths are few for {run.basis} visited "
                "directions, and averages may be off by several of their errors; give at least "
                f"{_PATHS_PER_DIRECTION * run.basis} (asymptotics.samples)"
            )
        for h in run.hessian:
            if np.isinf(h.right_edge):
                yield f"delta = {run.delta:g}, t = {h.time}: curvature unbounded above; the bulk has no right edge"
            if h.drifting > 0:
                yield (
                    f"delta = {run.delta:g}, t = {h.time}: the curvature is unbounded below and in a fraction "
                    f"{h.drifting:.2g} of the replicates its tail is visible at the left edge"
                )
            if h.paths_needed:
                yield (
                    f"delta = {run.delta:g}, t = {h.time}: {problem.asymptotics.samples} sample paths do not tell "
                    "every outlier on visited directions from noise: those that clearly stand out are counted; "
                    f"at least {h.paths_needed} paths (asymptotics.samples) would tell"
                )
            if any(o.fraction < 1 for o in (*h.hard_outliers, *h.outliers)):
                yield (
                    f"delta = {run.delta:g}, t = {h.time}: some outliers are shown by some replicates only "
                    "(`fraction`): they are close to the edge"
                )
