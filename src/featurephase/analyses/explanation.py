"""``explain``: which latent directions a network learns from given data, by which mechanism, and what would change it.

Everything here is put together from what other modules compute: the data's thresholds and the network's, what gradient
descent reaches, the spectrum at the last step, and the law of the escape time at finite dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from featurephase.analyses.prediction import (
    HessianPrediction,
    OutlierPrediction,
    TrajectoryPrediction,
    experiment_text,
    predict,
    problem_subspaces,
)
from featurephase.analyses.reached import ReachedSubspace, reached_subspace
from featurephase.analyses.simulation import predicted_escape
from featurephase.analyses.threshold import NO_TRANSITION, NetworkThreshold, Threshold, threshold
from featurephase.dynamics.optimisers import FirstOrderRule
from featurephase.escape.law import EscapeLaw
from featurephase.foundation.errors import InputError, show
from featurephase.foundation.executors import Workers
from featurephase.foundation.numbers import is_whole
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import FULL_WIDTH
from featurephase.problem.asked import check_delta
from featurephase.results.base import Result
from featurephase.subspaces.symmetry import direction_name

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from featurephase.problem import Problem
    from featurephase.subspaces import LatentSubspaces


__all__ = ["DirectionExplanation", "Explanation", "explain"]

#: Standard errors that delta must be away from a threshold for a verdict.
_CLEAR = 2.0


@dataclass(frozen=True, kw_only=True)
class DirectionExplanation:
    """One latent direction.

    Attributes
    ----------
    name, direction
        ``"g2"``, and the unit vector (k,).
    kind
        ``"easy"``, ``"hard"``, ``"irrelevant"`` (the response does not depend on it) or ``"undecided"``.
    learned
        By this network at this delta; ``None``: could not be decided. Easy directions: whether the weights overlap with
        it by the last step. Hard ones: whether gradient descent is unstable along it at the last step, so that it is
        found, in dimension d after about ``escape_step`` steps.
    overlap, overlap_se
        Easy directions: ``|e'Theta|/|Theta|``, root mean square over the steps. ``None`` for others.
    delta_nn, delta_nn_se
        n/d from which on this network learns it (hard directions: at the last step, all of them together); 0 for an
        easy direction that is reached, ``None`` where there is no such statement.
    delta_alg, delta_alg_se
        n/d that the best polynomial-time first-order method needs.
    samples_needed, samples_needed_se
        ``delta_nn`` times the dimension; ``None`` without a dimension.
    escape_step, escape_step_se, escape_low, escape_low_se, escape_high, escape_high_se
        Step at which a hard direction that is learned makes up half of the weights at this dimension: the median over
        runs from random starts, and the interval that holds 90 % of the runs; their errors.
    mechanism, change
        How it is learned or why not, and what would change that: a sentence each.
    """

    name: str
    direction: Array
    kind: str
    learned: bool | None
    overlap: float | None = None
    overlap_se: float | None = None
    delta_nn: float | None = None
    delta_nn_se: float | None = None
    delta_alg: float | None = None
    delta_alg_se: float | None = None
    samples_needed: float | None = None
    samples_needed_se: float | None = None
    escape_step: float | None = None
    escape_step_se: float | None = None
    escape_low: float | None = None
    escape_low_se: float | None = None
    escape_high: float | None = None
    escape_high_se: float | None = None
    mechanism: str = ""
    change: str = ""


@dataclass(frozen=True, kw_only=True)
class Explanation(Result):
    """What a network learns from given data and why.

    Attributes
    ----------
    delta, samples_n, dimension
        n/d, and n and d where they were given.
    steps
        T, the step that the statements are about.
    easy_basis, hard_basis, reached_basis
        U_E, U_H and U_GD(T), orthonormal columns.
    delta_alg, delta_nn, delta_nn_negative
        Of the hard directions, the last two at the last step; ``None`` if nothing is hard (delta_alg is
        0 then).
    left_edge, hard_outlier, hard_outlier_overlap
        Of the Hessian at the last step; ``None`` where there is none.
    directions
        One entry for each latent direction.
    verdict
        One sentence.
    """

    title: str
    delta: float
    samples_n: int | None
    dimension: int | None
    steps: int
    samples: int
    replicates: int
    easy_basis: Array
    hard_basis: Array
    reached_basis: Array
    delta_alg: float
    delta_alg_se: float
    delta_nn: float | None
    delta_nn_se: float | None
    delta_nn_negative: float | None
    delta_nn_negative_se: float | None
    left_edge: float | None
    left_edge_se: float | None
    hard_outlier: float | None
    hard_outlier_se: float | None
    hard_outlier_overlap: float | None
    hard_outlier_overlap_se: float | None
    directions: tuple[DirectionExplanation, ...]
    verdict: str
    warnings: tuple[str, ...] = ()
    experiment: str = field(default="", metadata={"json": False})

    def to_xarray(self) -> xarray.Dataset:
        """The numbers of each direction over (direction), with the words."""
        from featurephase.present.labelled import explanation_dataset

        return explanation_dataset(self)

    def figure(self) -> Figure:  # type: ignore[override]
        """Each direction on the axis of delta: where the thresholds are, and where this experiment is."""
        from featurephase.present.explanation import explanation_figure

        return explanation_figure(self)

    def table(self) -> str:
        """The verdict, then each direction in words."""
        from featurephase.present.explanation import explanation_table

        return explanation_table(self)


# ---- words


def _left_hard_outlier(hessian: HessianPrediction) -> OutlierPrediction | None:
    """The smallest hard outlier left of the bulk."""
    return next((o for o in hessian.hard_outliers if o.side == "left"), None)


class _Facts(NamedTuple):
    """All that the sentences are made from."""

    problem: Problem
    delta: float
    dimension: int | None
    spaces: LatentSubspaces
    thresholds: Threshold
    network: NetworkThreshold | None
    run: TrajectoryPrediction
    hessian: HessianPrediction
    reached: ReachedSubspace | None
    escape: EscapeLaw | None

    @property
    def outlier(self) -> OutlierPrediction | None:
        """The smallest hard outlier left of the bulk."""
        return _left_hard_outlier(self.hessian)

    @property
    def crossing(self) -> tuple[float, float]:
        """The delta that decides on learning: from there on the outlier is negative."""
        if self.network is None:
            return np.nan, np.nan
        if np.isfinite(self.network.value_negative):
            return self.network.value_negative, self.network.value_negative_se
        return self.network.value, self.network.value_se


def _hard_learned(facts: _Facts) -> bool | None:
    if facts.run.status != "ok" or facts.hessian.status != "ok":
        return None
    value, se = facts.crossing
    if np.isfinite(value):
        distance = (facts.delta - value) / se if se > 0 else np.sign(facts.delta - value) * np.inf
        return bool(distance > 0) if abs(distance) > _CLEAR else None
    outlier = facts.outlier
    if outlier is None:
        return False
    return bool(outlier.value < 0) if outlier.fraction == 1 else None


def _number(value: float, se: float) -> str:
    from featurephase.results.words import with_error as measured

    return measured(value, se)


def _hard_words(facts: _Facts, learned: bool | None) -> tuple[str, str]:
    """Mechanism and change of the hard directions."""
    steps, outlier, thresholds = facts.problem.training.steps, facts.outlier, facts.thresholds
    several = facts.spaces.relevant_hard_basis.shape[1] > 1
    them = "a combination of the hard directions" if several else "it"
    value, se = facts.crossing
    data = (
        f"delta_alg = {_number(thresholds.delta_alg, thresholds.delta_alg_se)} is a property of the data: no change of "
        "the network moves it"
    )
    warm = "a warm start with any overlap (student.init_overlap) makes it easy"
    other = "another activation, loss, width or step size moves delta_NN"
    known = f"delta_NN(t = {steps}) = {_number(value, se)}"
    if facts.run.status != "ok":
        return f"gradient descent has {facts.run.status}", "a smaller training.step_size"
    if facts.hessian.status != "ok":
        return (
            f"whether it is learned is read off the Hessian, which has no limit here ({facts.hessian.status})",
            f"a smooth activation and a loss with bounded curvature; `featurephase simulate` needs neither; {warm}",
        )
    if learned and outlier is not None:
        factor = FirstOrderRule.of(facts.problem.training).growth_factor(outlier.value, max(steps - 1, 0))
        pace = f" by a factor {factor:.3g} a step" if np.isfinite(factor) else ""
        jump = "" if facts.hessian.continuous else "; the bulk ends in a non-critical edge, so that the overlap jumps"
        mechanism = (
            f"at t = {steps} an eigenvalue of the Hessian, {_number(outlier.value, outlier.value_se)}, stands left of "
            f"the bulk (edge {_number(facts.hessian.left_edge, facts.hessian.left_edge_se)}) and below 0, its "
            f"eigenvector with squared overlap {_number(outlier.overlap, outlier.overlap_se)} on the hard directions: "
            f"gradient descent is unstable along {them} and leaves its plateau{pace}{jump}"
        )
        if facts.escape is not None and facts.escape.median > steps:
            mechanism += (
                f", in this dimension at about step {facts.escape.median:.3g}, after the {steps} of this training"
            )
        return mechanism, (
            f"fewer samples: below n/d = {_number(value, se)} the outlier is gone at that step; {other}"
            if np.isfinite(value)
            else other
        )
    if learned is None:
        return (
            f"n/d = {facts.delta:g} is too close to {known} to tell",
            "more sample paths (asymptotics.samples) sharpen delta_NN; more or fewer samples n leave the transition",
        )
    if outlier is not None and outlier.value >= 0 and outlier.fraction == 1:
        mechanism = (
            f"at t = {steps} an eigenvalue, {_number(outlier.value, outlier.value_se)}, stands left of the bulk but "
            "above 0: the direction shows in the spectrum, yet gradient descent is stable along it"
        )
    else:
        mechanism = (
            f"at t = {steps} no eigenvalue of the Hessian on the hard directions stands left of the bulk: noise hides "
            "them, and gradient descent stays where their overlap is 0"
        )
    if np.isinf(thresholds.delta_alg):
        return mechanism, (
            f"no number of samples proportional to the dimension lets a first-order method find it (delta_alg is "
            f"infinite); {warm}"
        )
    if np.isfinite(value):
        more = f"more samples: {known}" + (f", so n above {value * facts.dimension:.3g}" if facts.dimension else "")
    else:
        low, high = thresholds.delta_range
        more = f"no n/d from {low:g} to {high:g} changes it by that step"
    best = (
        "the best first-order method needs less" if facts.delta > thresholds.delta_alg else "no first-order method does"
    )
    return mechanism, f"{more}; {best} ({data}); {other}; {warm}"


def _easy_words(facts: _Facts, direction: Array, decision: str, bound: float) -> tuple[str, str]:
    """Mechanism and change of one easy direction."""
    problem, steps = facts.problem, facts.problem.training.steps
    start = problem.student.init_overlap
    warm = bool(np.linalg.norm(direction @ start) > 1e-9 * max(1.0, float(np.linalg.norm(start))))
    first = next((r for r in facts.spaces.rounds if r.conditioned_on == 0), None)
    at_once = first is not None and any(
        d == "nonzero" and abs(float(column @ direction)) > 0.01
        for column, d in zip(first.directions.T, first.decisions, strict=True)
    )
    if decision == "nonzero":
        if warm:
            return "the start already overlaps with it", "a start without overlap"
        how = (
            "the response shifts its mean, so that the first gradient steps, which reuse the data, already point to it"
            if at_once
            else "given the directions found before, the response shifts its mean: it is found after them (a staircase)"
        )
        if facts.spaces.status == "given":
            how = "it is declared easy (teacher.easy_basis), and the gradient points to it from the first steps on"
        return how, "nothing needed: any n/d > 0 suffices, more samples make the overlap larger"
    parity = problem.student.activation.facts.parity
    cause = f" (this activation is {parity})" if parity in ("even", "odd") else ""
    if decision == "zero":
        return (
            f"easy for the data but not reached by this network's gradient descent by step {steps}: its overlap is "
            f"below {bound:.2g} of the weights",
            f"more steps, a warm start, or another activation or loss: a symmetry of these can hide a direction{cause}",
        )
    return (
        "easy for the data, but its overlap is too small to be told from none",
        "more sample paths (asymptotics.samples) or more steps decide it",
    )


def _directions(facts: _Facts) -> Iterator[DirectionExplanation]:
    """Easy directions as gradient descent splits them, then hard, irrelevant and undecided ones."""
    spaces, thresholds, reached, d = facts.spaces, facts.thresholds, facts.reached, facts.dimension
    if reached is not None:
        columns = np.concatenate([reached.reached_basis, reached.missed_basis], axis=1)
        for i, column in enumerate(columns.T):
            decision = reached.decisions[i]
            learned = {"nonzero": True, "zero": False}.get(decision)
            mechanism, change = _easy_words(facts, column, decision, float(reached.bounds[i]))
            yield DirectionExplanation(
                name=direction_name(column),
                direction=column,
                kind="easy",
                learned=learned,
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
    if spaces.ok and spaces.relevant_hard_basis.size:
        learned = _hard_learned(facts)
        mechanism, change = _hard_words(facts, learned)
        value, se = facts.crossing
        for column in spaces.relevant_hard_basis.T:
            yield DirectionExplanation(
                name=direction_name(column),
                direction=column,
                kind="hard",
                learned=learned,
                delta_nn=value,
                delta_nn_se=se,
                delta_alg=thresholds.delta_alg,
                delta_alg_se=thresholds.delta_alg_se,
                samples_needed=None if d is None else value * d,
                samples_needed_se=None if d is None else se * d,
                escape_step=None if facts.escape is None else facts.escape.median,
                escape_step_se=None if facts.escape is None else facts.escape.median_se,
                escape_low=None if facts.escape is None else facts.escape.low,
                escape_low_se=None if facts.escape is None else facts.escape.low_se,
                escape_high=None if facts.escape is None else facts.escape.high,
                escape_high_se=None if facts.escape is None else facts.escape.high_se,
                mechanism=mechanism,
                change=change,
            )
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


def _verdict(directions: list[DirectionExplanation], delta: float, steps: int) -> str:
    relevant = [e for e in directions if e.kind != "irrelevant"]

    def names(learned: bool | None) -> str:
        return ", ".join(e.name for e in relevant if e.learned is learned)

    parts = [
        f"{word}: {names(value)}"
        for word, value in (("learned", True), ("not learned", False), ("undetermined", None))
        if names(value)
    ]
    return f"at n/d = {delta:g}, step {steps}: " + ("; ".join(parts) or "nothing to learn")


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
    """Which latent directions are learned at this n/d by the last step, why, and what would change it.

    Parameters
    ----------
    problem
        The experiment.
    delta
        n/d; default: the largest of ``run.delta``.
    samples_n, dimension
        n and d instead. The dimension alone may come with ``delta``; it is needed for the number of samples and the
        escape step.
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
    ratio, note = _ratio(problem, delta, samples_n, dimension)
    steps = problem.training.steps
    spaces = problem_subspaces(problem)
    hard = spaces.ok and spaces.relevant_hard_basis.size > 0
    times = [steps] if hard else []
    prediction = predict(problem, delta=ratio, times=times, subspaces=spaces, quiet=quiet, workers=workers)
    run = prediction.runs[0]
    hessian = run.hessian[-1] if hard else HessianPrediction(time=steps)
    thresholds = threshold(problem, times=[steps], limit=False, subspaces=spaces, quiet=quiet, workers=workers)
    network = thresholds.delta_nn[0] if thresholds.delta_nn else None
    reached = None
    if spaces.ok:
        reached = reached_subspace(problem, ratio, subspaces=spaces, quiet=quiet, workers=workers)
    facts = _Facts(problem, ratio, dimension, spaces, thresholds, network, run, hessian, reached, None)
    outlier = facts.outlier
    warnings = []
    if hard and steps > 0 and dimension is not None and _hard_learned(facts):
        try:
            law = predicted_escape(problem, ratio, dimension, spaces, quiet=quiet, workers=workers)
            if law.status == "ok":
                facts = facts._replace(escape=law)
            else:
                warnings.append(f"no escape step: {law.message}")
        except ValueError as reason:
            warnings.append(f"no escape step: {reason}")
    if hard and network is not None and steps > 0:
        warnings.append(
            f"delta_NN is that of step {steps}; it drifts with the number of steps (featurephase threshold --time inf)"
        )
    if hard and problem.student.width > FULL_WIDTH:
        warnings += [*prediction.warnings, *([thresholds.message] if thresholds.ok else [])]
    directions = list(_directions(facts))
    problems: list[tuple[str, str]] = [(run.status, run.message), (hessian.status, hessian.message)]
    if network is not None and hessian.status == "ok":
        problems.append((network.status, network.message))
    if hard and not np.isfinite(thresholds.delta_alg) and thresholds.status not in ("ok", NO_TRANSITION):
        problems.append((thresholds.status, thresholds.message))
    if any(e.learned is None for e in directions):
        problems.append(("undetermined", "whether every direction is learned could not be decided within the errors"))
    failed = [(status, message) for status, message in problems if status != "ok"]
    message = "; ".join(dict.fromkeys(m for m in [note, *(m for _, m in failed)] if m))

    def known(entry: object, name: str) -> float | None:
        return None if entry is None or not hard else float(getattr(entry, name))

    return Explanation(
        status=failed[0][0] if failed else "ok",
        message=message,
        seed=problem.asymptotics.seed,
        title=problem.title,
        delta=ratio,
        samples_n=samples_n,
        dimension=dimension,
        steps=steps,
        samples=problem.asymptotics.samples,
        replicates=problem.asymptotics.replicates,
        easy_basis=spaces.easy_basis,
        hard_basis=spaces.hard_basis,
        reached_basis=spaces.easy_basis[:, :0] if reached is None else reached.reached_basis,
        delta_alg=thresholds.delta_alg,
        delta_alg_se=thresholds.delta_alg_se,
        delta_nn=known(network, "value"),
        delta_nn_se=known(network, "value_se"),
        delta_nn_negative=known(network, "value_negative"),
        delta_nn_negative_se=known(network, "value_negative_se"),
        left_edge=known(hessian, "left_edge"),
        left_edge_se=known(hessian, "left_edge_se"),
        hard_outlier=known(outlier, "value"),
        hard_outlier_se=known(outlier, "value_se"),
        hard_outlier_overlap=known(outlier, "overlap"),
        hard_outlier_overlap_se=known(outlier, "overlap_se"),
        directions=tuple(directions),
        verdict=_verdict(directions, ratio, steps),
        warnings=tuple(warnings),
        experiment=experiment_text(problem),
    )
