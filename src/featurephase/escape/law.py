"""The law of the time at which a network escapes from the plateau, at one finite dimension.

The hard overlap is a Gaussian process (:mod:`featurephase.escape.growth`); the law of its first passage of
:data:`~featurephase.escape.detection.ESCAPE_LEVEL` is drawn from it (theory/escape, eq. esc-covariance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from featurephase.escape.detection import ESCAPE_LEVEL
from featurephase.escape.growth import HardGrowth, escape_available, growth_bytes, hard_growth, require_growth_memory
from featurephase.foundation.errors import MemoryLimitError
from featurephase.foundation.executors import Workers, replicate_seeds, run_tasks
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.results.status import NOT_PREDICTED, OK, OUT_OF_MEMORY, STABLE, UNDECIDED, Status, diverged
from featurephase.subspaces.sectors import hard_sectors

if TYPE_CHECKING:
    from featurephase.problem import Problem
    from featurephase.results.subspaces import LatentSubspaces

#: The tangent recursion behind the predicted time is followed to the last step, but so far at least, so that it knows
#: whether an early instability lasts, and so far at most; beyond, it is continued at its final rate.
_SHORTEST, _LONGEST = 120, 300
#: Times are continued up to so many times the last step: the rate falls by a third with every doubling in the worked
#: example, and small step sizes have not moved at all (step .01: 950 predicted at step 120, 1400 found).
_CONTINUED = 2
_PREDICTED_SAMPLES = 20_000  # at most: no more than the problem asks for
_PREDICTED_REPLICATES = 4
#: Its random numbers are its own.
_ESCAPE_STREAM = 1


@dataclass(frozen=True)
class EscapeLaw:
    """The predicted escape time at one dimension.

    Attributes
    ----------
    dimension
        d.
    times
        Draws of the escape time, ascending; inf where the overlap never reaches the level. None where there is no law.
    rate
        Factor by which the overlap grows per step at the end of the plateau.
    median, median_se
        Of the time, with the standard error over replicates of the tangent run; inf where most runs never escape.
    low, high, low_se, high_se
        Interval that holds 90 % of the runs, and the standard errors of its ends.
    status, message
        ``"ok"``; ``"stable"``: no hard outlier stands below 0 at the end, and the median is inf; ``"undecided"``: the
        replicates disagree on that, or the bulk has no edge, and what depends on it is nan. There is no law, and all
        numbers are nan, at ``"not-predicted"``, ``"diverged at step t"`` and ``"out of memory"``. The message says why.
    by_end, by_end_se
        Probability that a run has escaped by the step asked for: by default the last one of the tangent run.
    largest_dimension, largest_dimension_se
        Where the plateau is stable at the end: the d up to which at least half of the runs escape before, through an
        early instability; inf where it is unstable, nan where that is undecided.
    """

    dimension: int
    times: Array
    rate: float
    median: float
    median_se: float
    low: float
    low_se: float
    high: float
    high_se: float
    status: Status = OK
    message: str = ""
    by_end: float = np.nan
    by_end_se: float = np.nan
    largest_dimension: float = np.nan
    largest_dimension_se: float = np.nan

    @classmethod
    def none(cls, dimension: int, status: Status, message: str) -> Self:
        """No law, and the reason."""
        return cls(dimension, np.empty(0), *(np.nan,) * 7, status, message)


def predicted_escape(
    problem: Problem,
    delta: float,
    dimension: int,
    spaces: LatentSubspaces,
    *,
    steps: int | None = None,
    samples: int | None = None,
    replicates: int = _PREDICTED_REPLICATES,
    quiet: bool = True,
    workers: Workers = None,
) -> EscapeLaw:
    """The law of the escape time at dimension d, from the tangent recursion (theory/escape, eq. esc-covariance).

    Parameters
    ----------
    delta, dimension, spaces
        n/d, d, and the subspaces of the problem.
    steps, samples, replicates
        How far the tangent recursion is followed (default: to the last step, but 120 at least and 300 at most), with
        how many sample paths (default: the problem's, 20,000 at most) and how often.

    Returns
    -------
    EscapeLaw
        Its status says why, where there is no law: the theory does not cover the problem, nothing is hard, gradient
        descent diverges, or more memory is needed than there is.
    """
    growths = _growths(problem, delta, spaces, (steps, samples, replicates), quiet, workers)
    if isinstance(growths, _NoLaw):
        return EscapeLaw.none(dimension, growths.status, growths.message)
    return escape_law(growths, dimension, seed=problem.asymptotics.seed)


def predicted_escapes(
    problem: Problem,
    delta: float,
    dimension: int,
    spaces: LatentSubspaces,
    *,
    steps: int | None = None,
    until: int | None = None,
    quiet: bool = True,
    workers: Workers = None,
) -> list[EscapeLaw]:
    """The law of each sector of hard directions by itself (:func:`~featurephase.subspaces.sectors.hard_sectors`).

    Parameters
    ----------
    steps
        How far the tangent recursion is followed; default: as in :func:`predicted_escape`.
    until
        The step of ``by_end``; default: the last one of the recursion.
    """
    size = (steps, None, _PREDICTED_REPLICATES)
    growths = _growths(problem, delta, spaces, size, quiet, workers)
    count = len(hard_sectors(spaces))
    if isinstance(growths, _NoLaw):
        return [EscapeLaw.none(dimension, growths.status, growths.message)] * count
    if any(g.diverged_at is not None for g in growths):
        return [escape_law(growths, dimension)] * count
    seed = problem.asymptotics.seed
    return [escape_law([g.parts[i] for g in growths], dimension, seed=seed, until=until) for i in range(count)]


@dataclass(frozen=True)
class _NoLaw:
    """Why there is no tangent recursion."""

    status: Status
    message: str


def _growths(
    problem: Problem,
    delta: float,
    spaces: LatentSubspaces,
    size: tuple[int | None, int | None, int],
    quiet: bool,
    workers: Workers,
) -> list[HardGrowth] | _NoLaw:
    """The tangent recursion in several replicates; ``size``: steps, samples, replicates."""
    steps, samples, replicates = size
    hard = spaces.relevant_hard_basis
    reason = escape_available(problem)
    if reason or hard.shape[1] == 0:
        return _NoLaw(NOT_PREDICTED, reason or "nothing is hard: there is no plateau to escape from")
    horizon = max(min(problem.training.steps, _LONGEST), _SHORTEST) if steps is None else steps
    samples = min(problem.asymptotics.samples, _PREDICTED_SAMPLES) if samples is None else samples
    tasks = [
        (problem, delta, seed, spaces, horizon, samples)
        for seed in replicate_seeds(problem.asymptotics.seed, replicates, _ESCAPE_STREAM)
    ]
    try:
        require_growth_memory(problem, hard.shape[1], horizon, samples)
        memory = growth_bytes(problem, hard.shape[1], horizon, samples)
        return run_tasks(_growth, tasks, label="escape", memory=memory, quiet=quiet, workers=workers)
    except MemoryLimitError as refused:
        return _NoLaw(OUT_OF_MEMORY, str(refused))


def _growth(
    problem: Problem, delta: float, seed: np.random.SeedSequence, spaces: LatentSubspaces, steps: int, samples: int
) -> HardGrowth:
    """One task: one replicate of the tangent recursion."""
    return hard_growth(
        problem,
        delta,
        seed,
        easy_basis=spaces.easy_basis,
        hard_basis=spaces.relevant_hard_basis,
        steps=steps,
        samples=samples,
        sectors=[sector.basis for sector in hard_sectors(spaces)],
    )


def escape_law(
    growths: Sequence[HardGrowth],
    dimension: int,
    *,
    level: float = ESCAPE_LEVEL,
    draws: int = 4000,
    seed: int = 0,
    until: int | None = None,
) -> EscapeLaw:
    """Law of the first time at which the hard overlap |c|/|Theta| reaches ``level``, at dimension d.

    Up to the last step of the tangent run the linear theory says when a path crosses the level, whatever the Hessian
    looks like at that time: an early instability that is gone later, and growth at the edge of the bulk, are in it.
    Beyond, up to twice that step, the overlap is continued at its final rate, the geometric mean growth over the last
    quarter; a quantile that is later is nan, for rates change as the trajectory goes on. Where it does not grow, the
    time is inf. It is inf too where no hard outlier stands below 0 at the last step: without one the growth comes from
    the edge of the bulk, and saturates. The probability of an escape by the step ``until`` comes with the law.

    Notes
    -----
    Where the replicates disagree on whether the plateau is unstable at their last step, a quantile that is the same
    with and without the continuation (small d: the level is reached early) stands, and the others are nan.
    """
    if divergences := [g.diverged_at for g in growths if g.diverged_at is not None]:
        step = min(divergences)
        return EscapeLaw.none(dimension, diverged(step), f"the trajectory diverges at step {step}")
    rng = np.random.default_rng(seed)
    sizes = [g.relative_sizes(dimension, draws // len(growths), rng) for g in growths]
    each = [_first_times(size, level) for size in sizes]
    unstable = [g.unstable for g in growths]
    steps = len(growths[0].norm) - 1
    decided = None not in unstable and len(set(unstable)) == 1
    gated = [
        np.sort(np.where((t <= steps) | (decided and bool(goes_on)), t, np.inf))
        for (t, _), goes_on in zip(each, unstable, strict=True)
    ]
    times = np.sort(np.concatenate(gated))
    freely = times if decided else np.sort(np.concatenate([t for t, _ in each]))
    quantiles = [value if (value := _quantile(times, q)) == _quantile(freely, q) else np.nan for q in (0.05, 0.5, 0.95)]
    low, median, high = (np.nan if _CONTINUED * steps < value < np.inf else value for value in quantiles)
    late = np.isnan(median) and np.isfinite(quantiles[1])
    status, message = (UNDECIDED, _too_late(steps)) if late else _end_of_plateau(unstable, median, steps)
    largest, largest_se = _largest_dimension(sizes, dimension, level) if decided and not unstable[0] else (np.nan,) * 2
    by_end, by_end_se = mean_and_se([float(np.mean(t <= (steps if until is None else until))) for t in gated])
    return EscapeLaw(
        dimension,
        times,
        float(np.median([r for _, r in each])),
        median,
        _quantile_se(gated, 0.5, median),
        low,
        _quantile_se(gated, 0.05, low),
        high,
        _quantile_se(gated, 0.95, high),
        status,
        message,
        float(by_end),
        float(by_end_se),
        np.inf if decided and unstable[0] else largest,
        largest_se,
    )


def _largest_dimension(sizes: Sequence[Array], dimension: int, level: float) -> tuple[float, float]:
    """The d at which half of the runs reach the level while the tangent run lasts, with its error over replicates.

    Relative sizes (draws, T + 1) are those at one dimension; in the linear theory they go like 1/sqrt(d).
    """
    medians = [float(np.median(size.max(axis=1))) for size in sizes]
    value, se = mean_and_se([dimension * (median / level) ** 2 for median in medians])
    return float(value), float(se)


def _end_of_plateau(replicates: Sequence[bool | None], median: float, steps: int) -> tuple[Status, str]:
    """Whether the plateau has an end that the linear theory predicts, from what the replicates say of the last step."""
    unstable = sum(u is True for u in replicates)
    if None in replicates and np.isnan(median):
        return UNDECIDED, "the curvature is unbounded and the bulk has no edge for an outlier to stand by"
    if np.isnan(median):
        return UNDECIDED, (
            f"a hard outlier below 0 stands left of the bulk at step {steps} in {unstable} of {len(replicates)} "
            "replicates: too close to the transition to say whether the plateau ends"
        )
    if np.isposinf(median) and unstable == 0:
        return STABLE, (
            f"no hard outlier stands left of the bulk and below 0 at step {steps}: the plateau is stable, and most "
            "runs do not leave it"
        )
    return OK, ""


def _too_late(steps: int) -> str:
    return (
        f"most runs leave the plateau after step {_CONTINUED * steps:g}, if at all: growth was followed to step "
        f"{steps}, and its rate still changes; more training.steps follow it farther, up to {_LONGEST}"
    )


def _quantile(ordered: Array, level: float) -> float:
    """An order statistic: an interpolation would turn inf into nan."""
    return float(ordered[min(int(level * len(ordered)), len(ordered) - 1)])


def _quantile_se(replicates: Sequence[Array], level: float, value: float) -> float:
    """Standard error of a quantile from those of the replicates; nan where it, or one of theirs, is not finite."""
    own = np.array([_quantile(times, level) for times in replicates])
    known = np.isfinite(value) and len(own) > 1 and np.all(np.isfinite(own))
    return float(own.std(ddof=1) / np.sqrt(len(own))) if known else np.nan


def _first_times(sizes: Array, level: float) -> tuple[Array, float]:
    """First crossing of the level by each row (draws, T + 1), continued at the final rate, and that rate."""
    steps = sizes.shape[1] - 1
    tail = max(steps // 4, 1)
    rms = np.sqrt(np.mean(sizes**2, axis=0))
    rate = float((rms[-1] / rms[-1 - tail]) ** (1.0 / tail)) if steps and rms[-1 - tail] > 0 else 1.0
    above = sizes >= level
    first = np.where(above.any(axis=1), np.argmax(above, axis=1), np.inf)
    late = np.isinf(first) & (sizes[:, -1] > 0)
    if rate > 1.0 and steps:
        first[late] = steps + np.ceil(np.log(level / sizes[late, -1]) / np.log(rate))
    return first, rate
