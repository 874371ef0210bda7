"""``threshold``: what the data need at least, what a network needs after t steps, and as training goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from featurephase.analyses.network_threshold import NetworkThreshold, network_threshold
from featurephase.analyses.prediction import check_problem_batches, check_problem_memory
from featurephase.analyses.threshold_limit import threshold_limit
from featurephase.foundation.errors import InputError, Interrupted
from featurephase.foundation.executors import Workers
from featurephase.hessian.spectrum import FULL_WIDTH, block_words
from featurephase.problem import ACCEPTED, Problem
from featurephase.problem.asked import check_problem, experiment_text, flat_numbers, whole_steps
from featurephase.problem.checks import MAX_DELTA
from featurephase.results.algorithmic import AlgorithmicThreshold
from featurephase.results.status import AMBIGUOUS_RANK, INTERRUPTED, OK
from featurephase.results.threshold import Threshold, ThresholdLimit
from featurephase.subspaces import LatentSubspaces, problem_subspaces
from featurephase.thresholds.algorithmic import algorithmic_threshold

__all__ = ["NetworkThreshold", "Threshold", "ThresholdLimit", "network_threshold", "threshold"]


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
    Interrupted
        At Ctrl-C, if some times are finished: they are its ``result``.
    """
    check_problem(problem)
    bounds = _bounds(problem, delta_range)
    wanted, follow = _asked(problem, times, limit)
    check_problem_memory(problem, max([*wanted, problem.threshold.max_steps if follow else 0]))
    check_problem_batches(problem)
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    if not spaces.ok:
        return _result(problem, spaces, bounds, _Found(np.nan, np.nan, [(spaces.status, AMBIGUOUS_RANK.explained())]))
    if spaces.relevant_hard_basis.shape[1] == 0:
        return _result(problem, spaces, bounds, _Found(0.0, 0.0, []), _NOTHING_HARD)
    data = algorithmic or algorithmic_threshold(problem.teacher, spaces, seed=problem.asymptotics.seed, quiet=quiet)
    found = _Found(data.delta_alg, data.error, [] if data.status == OK else [(data.status, data.message)])
    left = [f"t = {t}" for t in wanted] + ["the limit"] * follow
    try:
        for t in wanted:
            found.add(
                network_threshold(
                    problem, t, spaces, delta_range=bounds, delta_alg=data.delta_alg, quiet=quiet, workers=workers
                )
            )
            left.pop(0)
        if follow:
            limit_of = partial(threshold_limit, problem, spaces, delta_range=bounds, delta_alg=data.delta_alg)
            found.add(limit_of(quiet=quiet, workers=workers))
    except KeyboardInterrupt:
        if not found.entries:
            raise
        found.failed.insert(0, (INTERRUPTED, f"interrupted: not finished at {', '.join(left)}"))
        raise Interrupted(_result(problem, spaces, bounds, found)) from None
    return _result(problem, spaces, bounds, found, _approximation(problem, found))


_NOTHING_HARD = "nothing is hard: every latent direction that the response depends on is easy"


@dataclass
class _Found:
    """What there is so far: delta_alg with its error, what failed, delta_NN at each time, and its limit."""

    delta_alg: float
    delta_alg_se: float
    failed: list[tuple[str, str]]
    entries: list[NetworkThreshold] = field(default_factory=list)
    limit: ThresholdLimit | None = None

    def add(self, part: NetworkThreshold | ThresholdLimit) -> None:
        """One more time, or the limit."""
        if isinstance(part, ThresholdLimit):
            self.limit = part
        else:
            self.entries.append(part)
        if part.status != OK:
            self.failed.append((part.status, part.message))


def _bounds(problem: Problem, delta_range: tuple[float, float] | None) -> tuple[float, float]:
    """Where to search."""
    low, high = problem.threshold.delta_range if delta_range is None else delta_range
    if not (0 < low < high <= MAX_DELTA):
        raise InputError(f"delta_range = {low:g}, {high:g}: must be {ACCEPTED['threshold.delta_range']}")
    return low, high


def _asked(problem: Problem, times: float | Iterable[float] | None, limit: bool | None) -> tuple[tuple[int, ...], bool]:
    """The steps asked for, and whether the limit is."""
    steps = problem.training.steps
    default = (steps,) if problem.run.times is None else problem.run.times
    asked = [*default, np.inf] if times is None else flat_numbers("times", times)
    wanted = whole_steps([t for t in asked if t != np.inf], steps)
    return tuple(wanted), np.inf in asked if limit is None else limit


def _approximation(problem: Problem, found: _Found) -> str:
    """What a wide network's thresholds are, and how good; nothing for others."""
    if problem.student.width <= FULL_WIDTH or not (found.entries or found.limit):
        return ""
    checked = [
        f"{e.block_gap:+.1%} (se {e.block_gap_se:.1%}) of the full matrix equation's at t = {e.time}"
        for e in found.entries
        if not np.isnan(e.block_gap)
    ]
    return block_words(problem.student.width, "delta_NN", checked)


def _result(
    problem: Problem, spaces: LatentSubspaces, bounds: tuple[float, float], found: _Found, note: str = ""
) -> Threshold:
    """Everything put together."""
    messages = [*dict.fromkeys(message for _, message in found.failed), note]
    return Threshold(
        status=found.failed[0][0] if found.failed else OK,
        message="; ".join(filter(None, messages)),
        seed=problem.asymptotics.seed,
        title=problem.title,
        samples=problem.asymptotics.samples,
        replicates=problem.asymptotics.replicates,
        delta_range=bounds,
        easy_basis=spaces.easy_basis,
        hard_basis=spaces.hard_basis,
        subspace_evidence=spaces.to_dict()["subspace_evidence"],
        delta_alg=found.delta_alg,
        delta_alg_se=found.delta_alg_se,
        delta_nn=tuple(found.entries),
        delta_nn_limit=found.limit,
        experiment=experiment_text(problem),
    )
