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

from featurephase.analyses.explanation_facts import Evidence, Facts, HardFacts, gathered
from featurephase.analyses.explanation_words import easy_words, hard_words, left_hard_outlier, verdict_words
from featurephase.analyses.reached import reached_subspace
from featurephase.foundation.errors import InputError, Interrupted, show
from featurephase.foundation.executors import Workers
from featurephase.foundation.numbers import is_whole
from featurephase.problem.asked import check_delta, check_problem, experiment_text
from featurephase.results.base import paired
from featurephase.results.explanation import DirectionExplanation, Explanation
from featurephase.results.status import (
    INTERRUPTED,
    NO_TRANSITION,
    NOT_CONVERGED,
    NOT_NEGATIVE,
    OK,
    UNBOUNDED_CURVATURE,
    UNDETERMINED,
)
from featurephase.subspaces import problem_subspaces
from featurephase.subspaces.symmetry import direction_name

if TYPE_CHECKING:
    from featurephase.analyses.reached import ReachedSubspace
    from featurephase.problem import Problem
    from featurephase.subspaces import LatentSubspaces


__all__ = ["DirectionExplanation", "Explanation", "explain"]

# ---- the entries

_UNKNOWN = (None, None)


def _pair(entry: object | None, name: str) -> tuple[float | None, float | None]:
    """A value and its error, where there is something that has them."""
    return _UNKNOWN if entry is None else (float(getattr(entry, name)), float(getattr(entry, f"{name}_se")))


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
            **paired(
                learned_by_last_step=_UNKNOWN if learned is None or d is None else (float(learned), 0.0),
                overlap=(float(reached.overlaps[i]), float(reached.overlaps_se[i])),
                delta_nn=(0.0, 0.0) if learned else _UNKNOWN,
                delta_alg=(0.0, 0.0),
                samples_needed=(0.0, 0.0) if learned and d else _UNKNOWN,
            ),
            mechanism=mechanism,
            change=change,
        )


def _hard_entries(facts: Facts, hard: HardFacts) -> Iterator[DirectionExplanation]:
    """One entry for each direction of a sector; one for a sector whose combinations no symmetry tells."""
    mechanism, change = hard_words(facts, hard)
    limit, law, d = hard.limit, hard.law, facts.dimension
    columns = hard.sector.basis.T[:1] if hard.sector.coupled else hard.sector.basis.T
    escape = law if law is not None and np.isfinite(law.median) else None
    finite = np.isfinite(hard.unstable_from[0])
    for column in columns:
        yield DirectionExplanation(
            name=hard.sector.name if hard.sector.coupled else direction_name(column),
            direction=column,
            kind="hard",
            learned=hard.learned,
            unstable_at_last_step=hard.unstable,
            expressible=hard.expressible,
            windows=() if limit is None else limit.windows,
            **paired(
                learned_by_last_step=_pair(law, "by_end"),
                learned_up_to_dimension=hard.up_to if np.isfinite(hard.up_to[0]) else _UNKNOWN,
                delta_nn=_pair(limit, "value"),
                delta_alg=hard.delta_alg,
                samples_needed=_UNKNOWN if d is None or not finite else [x * d for x in hard.unstable_from],
                escape_step=_pair(escape, "median"),
                escape_low=_pair(escape, "low"),
                escape_high=_pair(escape, "high"),
            ),
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
    Interrupted
        At Ctrl-C, once the Hessian at the last step is known: what it says is its ``result``.

    Notes
    -----
    Montanari & Wang, arXiv 2602.01434, for thresholds and mechanism.
    """
    check_problem(problem)
    ratio, note = _ratio(problem, delta, samples_n, dimension)
    spaces = problem_subspaces(problem)
    evidence = gathered(problem, ratio, dimension, spaces, quiet, workers)
    reached = None
    try:
        if spaces.ok and not evidence.unfinished:
            reached = reached_subspace(problem, ratio, subspaces=spaces, quiet=quiet, workers=workers)
    except KeyboardInterrupt:
        evidence = replace(evidence, unfinished="which easy directions gradient descent reaches")
    directions = [
        *(_easy_entries(evidence.facts, reached) if reached is not None else ()),
        *(entry for sector in evidence.hard for entry in _hard_entries(evidence.facts, sector)),
        *_other_entries(spaces),
    ]
    explanation = _explanation(evidence, directions, reached, samples_n, note)
    if evidence.unfinished:
        raise Interrupted(explanation)
    return explanation


def _explanation(
    evidence: Evidence,
    directions: list[DirectionExplanation],
    reached: ReachedSubspace | None,
    samples_n: int | None,
    note: str,
) -> Explanation:
    """Everything put together."""
    facts, limits, hard = evidence.facts, evidence.limits, evidence.hard
    problem, spaces, hessian = facts.problem, facts.spaces, facts.hessian
    network = None if limits is None else limits.at(facts.steps)
    failed = _failures(evidence, directions)
    bounded = "" if limits is None or not limits.bounded else f"delta_NN (t -> inf): {limits.bounded}"
    notes = [note, evidence.unbounded[1], bounded, *(m for _, m in failed)]
    message = "; ".join(dict.fromkeys(filter(None, notes)))

    def known(entry: object | None, name: str) -> tuple[float | None, float | None]:
        return _pair(entry if hard else None, name)

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
        **paired(
            delta_alg=(facts.algorithmic.delta_alg, facts.algorithmic.error),
            delta_nn=known(network, "value"),
            delta_nn_negative=known(network, "value_negative"),
            delta_nn_limit=known(limits, "value"),
            left_edge=known(hessian, "left_edge"),
            right_edge=known(hessian, "right_edge"),
            hard_outlier=known(outlier, "value"),
            hard_outlier_overlap=known(outlier, "overlap"),
        ),
        directions=tuple(directions),
        verdict=verdict_words(facts, learned, hard),
        warnings=evidence.warnings,
        experiment=experiment_text(problem),
    )


_UNCLEAR = "whether every direction is learned could not be decided within the errors"
_GROWING = (
    "whether hard directions are learned is not decided: at this step size directions of the bulk grow, which the "
    "limit does not show"
)
_ALTERNATING = (
    "whether hard directions are learned is not decided: at this step size steps overshoot along a hard outlier right "
    "of the bulk, which delta_NN does not count"
)
#: Statuses of a threshold that are no failure of an explanation: they are what it explains.
_EXPLAINED = (OK, NO_TRANSITION, NOT_NEGATIVE, NOT_CONVERGED)


def _undetermined(evidence: Evidence, directions: Sequence[DirectionExplanation]) -> list[str]:
    """Why it is open whether some directions are learned."""
    behind = [h for h in evidence.hard if h.learned is None and h.after]
    words = [f"{h.after} escapes before {h.sector.name}: whether that is learned then is not decided" for h in behind]
    if any(e.learned is None and not any(e.name in h.sector.name for h in behind) for e in directions):
        alternating = any(h.alternates for h in evidence.hard)
        words.append(_GROWING if evidence.facts.bulk_grows else _ALTERNATING if alternating else _UNCLEAR)
    return words


def _failures(evidence: Evidence, directions: Sequence[DirectionExplanation]) -> list[tuple[str, str]]:
    """Statuses and messages of whatever does not exist."""
    facts, limits = evidence.facts, evidence.limits
    problems: list[tuple[str, str]] = [
        (INTERRUPTED, f"interrupted: not finished: {evidence.unfinished}") if evidence.unfinished else (OK, ""),
        (facts.run.status, facts.run.message),
        (facts.hessian.status, facts.hessian.message),
    ]
    if limits is not None and limits.status not in _EXPLAINED:
        problems.append((limits.status, limits.message))
    if limits is not None:
        problems += [(s.status, s.message) for s in limits.sectors if s.status == UNBOUNDED_CURVATURE]
    if evidence.hard and not np.isfinite(facts.algorithmic.delta_alg):
        problems.append((facts.algorithmic.status, facts.algorithmic.message))
    explained = any(status != OK for status, _ in problems)
    if any(e.learned is None for e in directions) and not explained:
        problems += [(UNDETERMINED, message) for message in _undetermined(evidence, directions)]
    return [(status, message) for status, message in problems if status != OK]
