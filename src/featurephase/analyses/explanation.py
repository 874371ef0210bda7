"""``explain``: which latent directions a network learns from given data, by which mechanism, and what would change it.

Everything here is put together from what other modules compute: the data's thresholds and the network's, what gradient
descent reaches, the spectrum at the last step, and the law of the escape time at finite dimension. Three questions are
kept apart for each hard direction: whether it is learned if training goes on, what is learned by the last step in this
dimension, and what is unstable at the last step. The sentences are in :mod:`featurephase.analyses.explanation_words`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featurephase.analyses.explanation_words import (
    Facts,
    HardFacts,
    easy_words,
    hard_words,
    left_hard_outlier,
    verdict_words,
)
from featurephase.analyses.expressible import expressible
from featurephase.analyses.prediction import WatchedMargins, predict_with_margins
from featurephase.analyses.reached import reached_subspace
from featurephase.analyses.threshold_limit import threshold_limit
from featurephase.escape.law import EscapeLaw, predicted_escapes
from featurephase.foundation.errors import InputError, show
from featurephase.foundation.executors import Workers
from featurephase.foundation.numbers import is_whole
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import FULL_WIDTH
from featurephase.problem.asked import check_delta, check_problem, experiment_text
from featurephase.results.explanation import DirectionExplanation, Explanation
from featurephase.results.prediction import HessianPrediction
from featurephase.results.status import (
    NO_TRANSITION,
    NOT_CONVERGED,
    NOT_NEGATIVE,
    OK,
    STABLE,
    UNBOUNDED_CURVATURE,
    UNDETERMINED,
)
from featurephase.results.threshold import ThresholdLimit
from featurephase.subspaces import problem_subspaces
from featurephase.subspaces.sectors import HardSector, hard_sectors
from featurephase.subspaces.symmetry import direction_name
from featurephase.thresholds.algorithmic import algorithmic_threshold
from featurephase.thresholds.follow import followed_times
from featurephase.thresholds.scan import MarginCurve, MarginReading

if TYPE_CHECKING:
    from featurephase.analyses.reached import ReachedSubspace
    from featurephase.problem import Problem
    from featurephase.subspaces import LatentSubspaces


__all__ = ["DirectionExplanation", "Explanation", "explain"]

#: Standard errors by which a margin must differ from 0 for a verdict, and a delta from a threshold.
_CLEAR = 2.0
#: How the limits of delta_NN are followed, and again where that does not decide: the fewest sample paths, their share
#: of those of the problem, and how far. In the README's example the first round gives 4 %, the second one 2 %.
_ROUNDS = ((2**13, 1 / 12, 240), (2**14, 1 / 6, 480))
#: How far the growth of small overlaps is followed: beyond a short training too, so that what it says of later steps
#: knows whether an early instability lasts.
_SHORTEST_GROWTH = 120
_LONGEST_GROWTH = 300


# ---- the facts


def _watched(problem: Problem, spaces: LatentSubspaces, sectors: Sequence[HardSector]) -> WatchedMargins:
    """The margins of each sector, at some times up to the last step."""
    full = problem.student.width <= FULL_WIDTH
    bases, steps = tuple(s.basis for s in sectors), problem.training.steps
    samples = problem.asymptotics.samples
    curve = MarginCurve(problem, spaces.easy_basis, spaces.hard_basis, samples, full, not full, bases)
    return WatchedMargins(curve, tuple(sorted({0, *followed_times(steps)})) if steps else (0,))


def _sector_margins(readings: Sequence[Sequence[MarginReading | None]], sectors: int) -> Array:
    """The smallest margins of each sector at the edge and at 0, (T, replicates, sectors, 2); nan: it has diverged."""
    missing = np.full((sectors, 2), np.nan)
    margins = [[missing if r is None or r.drifts else r.sectors for r in replicate or [None]] for replicate in readings]
    return np.array(margins).swapaxes(0, 1)


def _negative(margins: Array) -> bool | None:
    """Whether a margin is negative, from its replicates (R,); ``None`` where that is not clear."""
    mean, se = mean_and_se(margins)
    if not abs(float(mean)) > _CLEAR * float(np.nan_to_num(se, nan=0.0)):
        return None
    return bool(mean < 0)


def _limits(problem: Problem, delta: float, spaces: LatentSubspaces, quiet: bool, workers: Workers) -> ThresholdLimit:
    """The limits of all directions, as sharp as the verdict at this delta needs them, or can be had."""
    steps, most = problem.training.steps, problem.asymptotics.samples
    for fewest, share, last in _ROUNDS:
        limits = threshold_limit(
            problem,
            spaces,
            samples=min(most, max(fewest, int(share * most))),
            first_round=max(last, steps),
            last_round=last,
            also=[steps],
            quiet=quiet,
            workers=workers,
        )
        undecided = any(_learned(limits, number, delta) is None for number in range(len(limits.sectors)))
        if not undecided:
            break
    return limits


def _learned(limits: ThresholdLimit, number: int, delta: float) -> bool | None:
    """Whether delta lies in a window of a sector, as training goes on; ``None`` where the bulk has no edge either."""
    if limits.sectors[number].status == UNBOUNDED_CURVATURE:
        return None
    inside = [window.contains(delta, _CLEAR) for window in limits.sectors[number].windows]
    if True in inside:
        return True
    return None if None in inside else False


def _laws(
    problem: Problem,
    delta: float,
    dimension: int | None,
    spaces: LatentSubspaces,
    warnings: list[str],
    quiet: bool,
    workers: Workers,
) -> list[EscapeLaw] | None:
    """The law of the escape time of each sector at this dimension."""
    if dimension is None or problem.training.steps == 0:
        return None
    horizon = max(min(problem.training.steps, _LONGEST_GROWTH), _SHORTEST_GROWTH)
    laws = predicted_escapes(
        problem, delta, dimension, spaces, steps=horizon, until=problem.training.steps, quiet=quiet, workers=workers
    )
    warnings += [f"no escape step: {law.message}" for law in laws if law.status not in (OK, STABLE)]
    return laws if all(law.times.size for law in laws) else None


def _algorithmic(
    problem: Problem, spaces: LatentSubspaces, sectors: Sequence[HardSector], quiet: bool
) -> list[tuple[float, float]]:
    """delta_alg of each sector by itself, with its error."""
    found = []
    for number, sector in enumerate(sectors):
        others = [s.basis for i, s in enumerate(sectors) if i != number]
        rest = np.concatenate([*others, spaces.irrelevant_basis], axis=1)
        # what is left out counts as irrelevant: the best method for this sector alone
        alone = replace(spaces, hard_basis=np.concatenate([sector.basis, rest], axis=1), irrelevant_basis=rest)
        result = algorithmic_threshold(problem.teacher, alone, seed=problem.asymptotics.seed, quiet=quiet)
        found.append((result.delta_alg, result.error))
    return found


def _hard_facts(
    facts: Facts,
    limits: ThresholdLimit | None,
    times: Sequence[int],
    margins: Array,
    warnings: list[str],
    quiet: bool,
    workers: Workers,
) -> list[HardFacts]:
    """What is known of each sector of hard directions."""
    problem, spaces, delta = facts.problem, facts.spaces, facts.delta
    sectors = hard_sectors(spaces)
    whole = (facts.algorithmic.delta_alg, facts.algorithmic.error)
    alg = [whole] if len(sectors) == 1 else _algorithmic(problem, spaces, sectors, quiet)
    laws = None
    if facts.run.status == OK:
        laws = _laws(problem, delta, facts.dimension, spaces, warnings, quiet, workers)
    if limits is None or facts.run.status != OK:
        margins = np.full_like(margins, np.nan)
    result = []
    for number, sector in enumerate(sectors):
        at_edge, at_zero = margins[:, :, number, 0], margins[:, :, number, 1]
        earlier = [t for t, values in zip(times, at_zero, strict=True) if _negative(values)]
        result.append(
            HardFacts(
                sector,
                None if limits is None else limits.sectors[number],
                None if limits is None or facts.run.status != OK else _learned(limits, number, delta),
                _negative(at_zero[-1]),
                _negative(at_edge[-1]),
                max(earlier, default=None),
                None if laws is None else laws[number],
                alg[number],
                expressible(problem, sector.basis),
            )
        )
    return result


# ---- the entries


def _easy_entries(facts: Facts, reached: ReachedSubspace) -> Iterator[DirectionExplanation]:
    """Easy directions as gradient descent splits them."""
    d = facts.dimension
    columns = np.concatenate([reached.reached_basis, reached.missed_basis], axis=1)
    for i, column in enumerate(columns.T):
        decision = reached.decisions[i]
        learned = {"nonzero": True, "zero": False}.get(decision)
        mechanism, change = easy_words(facts, column, decision, float(reached.bounds[i]))
        yield DirectionExplanation(
            name=direction_name(column),
            direction=column,
            kind="easy",
            learned=learned,
            learned_by_last_step=None if learned is None or d is None else float(learned),
            learned_by_last_step_se=None if learned is None or d is None else 0.0,
            overlap=float(reached.overlaps[i]),
            overlap_se=float(reached.overlaps_se[i]),
            delta_nn=0.0 if learned else None,
            delta_nn_se=0.0 if learned else None,
            delta_alg=0.0,
            delta_alg_se=0.0,
            samples_needed=0.0 if learned and d else None,
            samples_needed_se=0.0 if learned and d else None,
            mechanism=mechanism,
            change=change,
        )


def _hard_entries(facts: Facts, hard: HardFacts) -> Iterator[DirectionExplanation]:
    """One entry for each direction of a sector; one for a sector whose combinations no symmetry tells."""
    mechanism, change = hard_words(facts, hard)
    limit, law, d = hard.limit, hard.law, facts.dimension
    value, se = (None, None) if limit is None else (limit.value, limit.value_se)
    columns = hard.sector.basis.T[:1] if hard.sector.coupled else hard.sector.basis.T
    escaped = law is not None and np.isfinite(law.median)
    for column in columns:
        yield DirectionExplanation(
            name=hard.sector.name if hard.sector.coupled else direction_name(column),
            direction=column,
            kind="hard",
            learned=hard.learned,
            learned_by_last_step=None if law is None else law.by_end,
            learned_by_last_step_se=None if law is None else law.by_end_se,
            unstable_at_last_step=hard.unstable,
            expressible=hard.expressible,
            delta_nn=value,
            delta_nn_se=se,
            windows=() if limit is None else limit.windows,
            delta_alg=hard.delta_alg[0],
            delta_alg_se=hard.delta_alg[1],
            samples_needed=None if d is None or value is None else value * d,
            samples_needed_se=None if d is None or se is None else se * d,
            escape_step=law.median if law is not None and escaped else None,
            escape_step_se=law.median_se if law is not None and escaped else None,
            escape_low=law.low if law is not None and escaped else None,
            escape_low_se=law.low_se if law is not None and escaped else None,
            escape_high=law.high if law is not None and escaped else None,
            escape_high_se=law.high_se if law is not None and escaped else None,
            mechanism=mechanism,
            change=change,
        )


def _other_entries(spaces: LatentSubspaces) -> Iterator[DirectionExplanation]:
    """Irrelevant and undecided directions."""
    for column in spaces.irrelevant_basis.T:
        yield DirectionExplanation(
            name=direction_name(column),
            direction=column,
            kind="irrelevant",
            learned=False,
            mechanism="the response does not depend on it",
            change="nothing: there is nothing to learn",
        )
    for column in spaces.undecided_basis.T:
        yield DirectionExplanation(
            name=direction_name(column),
            direction=column,
            kind="undecided",
            learned=None,
            mechanism="whether it is easy could not be decided",
            change="give teacher.easy_basis",
        )


# ---- everything


def _ratio(problem: Problem, delta: float | None, samples_n: int | None, dimension: int | None) -> tuple[float, str]:
    """n/d from what was given, and a note if it was chosen."""
    for name, count in (("samples_n", samples_n), ("dimension", dimension)):
        if count is not None and not (is_whole(count) and count > 0):
            raise InputError(f"{name} = {show(count)}: must be a whole number > 0")
    if delta is not None and samples_n is not None:
        raise InputError("delta and samples_n (with dimension) exclude each other: n/d is one of them")
    if samples_n is not None:
        if dimension is None:
            raise InputError(f"samples_n = {samples_n}: the dimension is needed too (--dimension)")
        return check_delta(samples_n / dimension, "samples_n / dimension"), ""
    if delta is not None:
        return check_delta(delta), ""
    values = problem.run.delta
    if not values:
        raise InputError("no delta: give run.delta in the file, --delta D, or --samples-n N with --dimension D")
    largest = max(values)
    note = f"delta = {largest:g}, the largest of run.delta; --delta chooses another" if len(values) > 1 else ""
    return largest, note


def explain(
    problem: Problem,
    *,
    delta: float | None = None,
    samples_n: int | None = None,
    dimension: int | None = None,
    quiet: bool = True,
    workers: Workers = None,
) -> Explanation:
    """Which latent directions are learned at this n/d, when, why, and what would change it.

    Three questions are answered for each hard direction by itself: whether it is learned if training goes on (n/d
    against the limit of its own delta_NN), with which probability it is learned by the last step at this dimension
    (which needs ``dimension``), and whether gradient descent is unstable along it at the last step.

    Parameters
    ----------
    problem
        The experiment.
    delta
        n/d; default: the largest of ``run.delta``.
    samples_n, dimension
        n and d instead. The dimension alone may come with ``delta``; it is needed for the number of samples, the
        probability and the escape step.
    quiet
        No progress on standard error.
    workers
        Number of processes, or where to compute (:class:`~featurephase.Dask`); default: as many processes as pay.

    Returns
    -------
    Explanation
        ``status`` is "ok", the first reason why a number does not exist, or "undetermined" where whether a direction
        is learned could not be decided within the errors.

    Raises
    ------
    InputError
        For a delta, number of samples or dimension that is not accepted, or more memory than there is.

    Notes
    -----
    Montanari & Wang, arXiv 2602.01434, for thresholds and mechanism.
    """
    check_problem(problem)
    ratio, note = _ratio(problem, delta, samples_n, dimension)
    steps = problem.training.steps
    spaces = problem_subspaces(problem)
    sectors = hard_sectors(spaces) if spaces.ok and spaces.relevant_hard_basis.size else ()
    hard = len(sectors) > 0
    watched = _watched(problem, spaces, sectors)
    if not hard or problem.singular_curvature:
        watched = replace(watched, times=())
    prediction, readings = predict_with_margins(
        problem, ratio, [0, steps] if hard else [], spaces, watched, quiet=quiet, workers=workers
    )
    run = prediction.runs[0]
    hessian = run.hessian[-1] if hard else HessianPrediction(time=steps)
    limits = _limits(problem, ratio, spaces, quiet, workers) if hard and hessian.status == OK else None
    unbounded = None if limits is None or limits.sectors else (limits.status, limits.message)
    limits = None if unbounded else limits
    algorithmic = algorithmic_threshold(problem.teacher, spaces, seed=problem.asymptotics.seed, quiet=quiet)
    facts = Facts(problem, ratio, dimension, spaces, algorithmic, run, hessian)
    warnings = list(prediction.warnings) if hard else []
    margins = _sector_margins(readings, len(sectors))
    found = _hard_facts(facts, limits, watched.times or (0,), margins, warnings, quiet, workers) if hard else []
    directions: list[DirectionExplanation] = []
    reached = None
    if spaces.ok:
        reached = reached_subspace(problem, ratio, subspaces=spaces, quiet=quiet, workers=workers)
        directions += _easy_entries(facts, reached)
    directions += [entry for sector in found for entry in _hard_entries(facts, sector)]
    directions += _other_entries(spaces)
    note = note if unbounded is None else "; ".join(filter(None, [note, unbounded[1]]))
    return _explanation(facts, found, limits, directions, reached, warnings, samples_n, note)


def _explanation(
    facts: Facts,
    hard: list[HardFacts],
    limits: ThresholdLimit | None,
    directions: list[DirectionExplanation],
    reached: ReachedSubspace | None,
    warnings: list[str],
    samples_n: int | None,
    note: str,
) -> Explanation:
    """Everything put together."""
    problem, spaces, hessian = facts.problem, facts.spaces, facts.hessian
    network = None if limits is None else limits.at(facts.steps)
    failed = _failures(facts, limits, directions, bool(hard))
    message = "; ".join(dict.fromkeys(m for m in [note, *(m for _, m in failed)] if m))

    def known(entry: object, name: str) -> float | None:
        return None if entry is None or not hard else float(getattr(entry, name))

    outlier = left_hard_outlier(hessian)
    learned = {e.name: e.learned for e in directions if e.kind != "irrelevant"}
    return Explanation(
        status=failed[0][0] if failed else OK,
        message=message,
        seed=problem.asymptotics.seed,
        title=problem.title,
        delta=facts.delta,
        samples_n=samples_n,
        dimension=facts.dimension,
        steps=facts.steps,
        samples=problem.asymptotics.samples,
        replicates=problem.asymptotics.replicates,
        easy_basis=spaces.easy_basis,
        hard_basis=spaces.hard_basis,
        reached_basis=spaces.easy_basis[:, :0] if reached is None else reached.reached_basis,
        delta_alg=facts.algorithmic.delta_alg,
        delta_alg_se=facts.algorithmic.error,
        delta_nn=known(network, "value"),
        delta_nn_se=known(network, "value_se"),
        delta_nn_negative=known(network, "value_negative"),
        delta_nn_negative_se=known(network, "value_negative_se"),
        delta_nn_limit=known(limits, "value"),
        delta_nn_limit_se=known(limits, "value_se"),
        left_edge=known(hessian, "left_edge"),
        left_edge_se=known(hessian, "left_edge_se"),
        right_edge=known(hessian, "right_edge"),
        right_edge_se=known(hessian, "right_edge_se"),
        hard_outlier=known(outlier, "value"),
        hard_outlier_se=known(outlier, "value_se"),
        hard_outlier_overlap=known(outlier, "overlap"),
        hard_outlier_overlap_se=known(outlier, "overlap_se"),
        directions=tuple(directions),
        verdict=verdict_words(facts, learned, hard),
        warnings=tuple(dict.fromkeys(warnings)),
        experiment=experiment_text(problem),
    )


#: Statuses of a threshold that are no failure of an explanation: they are what it explains.
_EXPLAINED = (OK, NO_TRANSITION, NOT_NEGATIVE, NOT_CONVERGED)


def _failures(
    facts: Facts, limits: ThresholdLimit | None, directions: Sequence[DirectionExplanation], hard: bool
) -> list[tuple[str, str]]:
    """Statuses and messages of whatever does not exist."""
    problems: list[tuple[str, str]] = [
        (facts.run.status, facts.run.message),
        (facts.hessian.status, facts.hessian.message),
    ]
    if limits is not None and limits.status not in _EXPLAINED:
        problems.append((limits.status, limits.message))
    if limits is not None:
        problems += [(s.status, s.message) for s in limits.sectors if s.status == UNBOUNDED_CURVATURE]
    if hard and not np.isfinite(facts.algorithmic.delta_alg):
        problems.append((facts.algorithmic.status, facts.algorithmic.message))
    if any(e.learned is None for e in directions):
        problems.append((UNDETERMINED, "whether every direction is learned could not be decided within the errors"))
    return [(status, message) for status, message in problems if status != OK]
