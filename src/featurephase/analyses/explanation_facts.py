"""What ``explain`` rests on: the Hessian at the last step, and of each hard direction its limits and its escape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featurephase.analyses.expressible import expressible
from featurephase.analyses.prediction import WatchedMargins, predict_with_margins
from featurephase.analyses.stability import alternating_outlier, bulk_grows
from featurephase.analyses.threshold_limit import Question, threshold_limit
from featurephase.escape.law import EscapeLaw, predicted_escapes
from featurephase.foundation.executors import Workers, as_executor
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import FULL_WIDTH
from featurephase.results.algorithmic import AlgorithmicThreshold
from featurephase.results.prediction import HessianPrediction, OutlierPrediction
from featurephase.results.status import OK, STABLE, UNBOUNDED_CURVATURE
from featurephase.results.threshold import DirectionLimit, ThresholdLimit
from featurephase.subspaces.sectors import HardSector, hard_sectors
from featurephase.thresholds.algorithmic import algorithmic_threshold
from featurephase.thresholds.follow import followed_times
from featurephase.thresholds.scan import MarginCurve, MarginReading, decided_elsewhere

if TYPE_CHECKING:
    from featurephase.problem import Problem
    from featurephase.results.prediction import TrajectoryPrediction
    from featurephase.subspaces import LatentSubspaces

#: Standard errors by which a margin must differ from 0 for a verdict, and a delta from a threshold.
_CLEAR = 2.0
#: How the limits of delta_NN are followed, and again where that does not decide: the fewest sample paths, their share
#: of those of the problem, and how far. In the README's example the first round gives 6 %, the second one 2 %. With
#: fewer paths than the first one wants there is no second: it would decide little more (6 % become 3 % with 6553).
_ROUNDS = ((2**13, 1 / 12, 120), (2**14, 1 / 6, 480))
#: Seconds of one core that such a round may take, for each sample path of the problem, and within which bounds: of
#: one neuron, and of several, which a quick answer locates by the scan only.
_SECONDS, _LONGEST = 1.5e-3, ((40.0, 100.0), (12.0, 100.0))
#: Where none is given: the growth of small overlaps scales with the dimension in a known way.
_ANY_DIMENSION = 1000
#: Probability up to which the escape of another direction by the last step is left out of account.
_NEGLIGIBLE = 0.05
#: A direction that only networks of fewer features learn is not worth a word.
_SMALLEST_DIMENSION = 100.0


@dataclass(frozen=True)
class Facts:
    """What all sentences have in common."""

    problem: Problem
    delta: float
    dimension: int | None
    spaces: LatentSubspaces
    algorithmic: AlgorithmicThreshold
    run: TrajectoryPrediction
    hessian: HessianPrediction

    @property
    def steps(self) -> int:
        """T."""
        return self.problem.training.steps

    @property
    def bulk_grows(self) -> bool:
        """Whether directions of the bulk grow at the last step, so that finite networks leave the limit."""
        return bulk_grows(self.problem, self.hessian)

    @property
    def alternating(self) -> OutlierPrediction | None:
        """The hard outlier along which the last steps overshoot and grow."""
        return alternating_outlier(self.problem, self.hessian)


@dataclass(frozen=True)
class HardFacts:
    """What is known of one sector of hard directions."""

    sector: HardSector
    unstable: bool | None  # at the last step
    visible: bool | None  # whether an outlier of it stands left of the bulk at the last step
    unstable_until: int | None  # last time looked at where it was unstable, if it is not at the last step; None: never
    expressible: bool  # whether the network's output can follow it
    limit: DirectionLimit | None = None  # the limits of its thresholds; None where there is no Hessian
    learned: bool | None = None  # whether n/d lies in one of its windows
    law: EscapeLaw | None = None  # of its escape time at this dimension; None without one
    # The dimension up to which at least half of the networks learn it although its instability ends, with its error;
    # nan where it does not end, was never there, or is of no use to a network of any size.
    up_to: tuple[float, float] = (np.nan, np.nan)
    delta_alg: tuple[float, float] = (np.nan, np.nan)  # with its error
    after: str = ""  # sectors that escape before it, so that what the plateau says of it ends there; mostly none
    finished: bool = True  # whether Ctrl-C has left time for more than the last step
    alternates: bool = False  # whether it may be unstable because steps overshoot, not because its outlier is negative

    @property
    def unstable_from(self) -> tuple[float, float]:
        """The n/d from which on it is unstable for good, with its error; nan where there is none."""
        if self.limit is None or not self.limit.value_negative > 0.0:
            return np.nan, np.nan
        return self.limit.value_negative, self.limit.value_negative_se

    @property
    def learned_from(self) -> tuple[float, float]:
        """The same, or delta_NN where there is none; else nan."""
        if self.limit is None or np.isfinite(self.unstable_from[0]):
            return self.unstable_from
        return self.limit.value, self.limit.value_se

    @property
    def them(self) -> str:
        """The directions as an object of a sentence."""
        return "it" if self.sector.size == 1 else self.sector.name


@dataclass(frozen=True)
class Evidence:
    """All that an explanation is put together from."""

    facts: Facts  # what all directions have in common
    limits: ThresholdLimit | None  # of delta_NN; None: no Hessian, or ``unbounded`` says why it has no edge
    hard: tuple[HardFacts, ...]  # each sector of hard directions; empty where nothing is hard
    warnings: tuple[str, ...]  # of the prediction and of the escape law, where something is hard
    unbounded: tuple[str, str] = ("", "")  # why the bulk has no edge: status and message, or two empty strings
    unfinished: str = ""  # what Ctrl-C has left out, in words; what is known without it is there


def gathered(
    problem: Problem,
    delta: float,
    dimension: int | None,
    spaces: LatentSubspaces,
    quiet: bool,
    workers: Workers,
) -> Evidence:
    """The prediction, the limits of delta_NN, and what follows for each hard direction."""
    steps = problem.training.steps
    sectors = hard_sectors(spaces) if spaces.ok and spaces.relevant_hard_basis.size else ()
    watched = _watched(problem, spaces, sectors)
    elsewhere = decided_elsewhere(problem)
    if not sectors or elsewhere:
        watched = replace(watched, times=())
    prediction, readings = predict_with_margins(
        problem, delta, [0, steps] if sectors else [], spaces, watched, as_executor(workers, quiet=quiet)
    )
    run = prediction.runs[0]
    hessian = run.hessian[-1] if sectors else HessianPrediction(time=steps)
    if sectors and elsewhere:
        hessian = HessianPrediction(time=steps, status=elsewhere, message=elsewhere.explained())
    algorithmic = algorithmic_threshold(problem.teacher, spaces, seed=problem.asymptotics.seed, quiet=quiet)
    facts = Facts(problem, delta, dimension, spaces, algorithmic, run, hessian)
    if not sectors:
        return Evidence(facts, None, (), ())
    warnings, times = list(prediction.warnings), watched.times or (0,)
    margins = _sector_margins(readings, len(sectors))
    try:
        limits = _followed_limits(facts, quiet, workers) if hessian.status == OK else None
        unbounded = ("", "") if limits is None or limits.sectors else (str(limits.status), limits.message)
        limits = None if unbounded[0] else limits
        hard = _hard_facts(facts, limits, times, margins, warnings, quiet, workers)
    except KeyboardInterrupt:
        seen = tuple(_seen(facts, sector, times, margins[:, :, i]) for i, sector in enumerate(sectors))
        return Evidence(facts, None, seen, tuple(warnings), unfinished="whether hard directions are learned")
    return Evidence(facts, limits, tuple(hard), tuple(dict.fromkeys(warnings)), unbounded)


# ---- hard directions


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


def _followed_limits(facts: Facts, quiet: bool, workers: Workers) -> ThresholdLimit:
    """The limits of all directions, as sharp as the verdict at this delta needs them, or can be had."""
    problem, delta = facts.problem, facts.delta
    steps, most = problem.training.steps, problem.asymptotics.samples
    rounds = [(min(most, max(fewest, int(share * most))), max(last, steps)) for fewest, share, last in _ROUNDS]
    rounds = rounds if most >= _ROUNDS[0][0] else rounds[:1]

    def decided(limits: ThresholdLimit) -> bool:
        words = [_learned(limits, i, delta) for i, s in enumerate(limits.sectors) if s.status != UNBOUNDED_CURVATURE]
        return None not in words

    return threshold_limit(
        problem,
        facts.spaces,
        delta_alg=facts.algorithmic.delta_alg,
        rounds=rounds,
        question=Question(delta, decided),
        longest=float(np.clip(_SECONDS * most, *_LONGEST[problem.student.width > 1])),
        also=[steps],
        quiet=quiet,
        workers=workers,
    )


def _learned(limits: ThresholdLimit, number: int, delta: float) -> bool | None:
    """Whether delta lies in a window of a sector, as training goes on; ``None`` where the bulk has no edge either."""
    limit = limits.sectors[number]
    if limit.status == UNBOUNDED_CURVATURE:
        return None
    if limit.moves_on:  # it has passed this delta, or it has not
        last, rises = limit.history[-1], limit.history[-1] == np.nanmax(limit.history)
        return False if rises and delta < last - _CLEAR * limit.history_se[-1] else None
    inside = [window.contains(delta, _CLEAR) for window in limit.windows]
    if True in inside:
        return True
    return None if None in inside else False


def _laws(facts: Facts, wanted: bool, warnings: list[str], quiet: bool, workers: Workers) -> list[EscapeLaw] | None:
    """The law of the escape time of each sector, at this dimension or, where it is wanted without one, at any."""
    problem, steps = facts.problem, facts.steps
    if steps == 0 or facts.run.status != OK or facts.bulk_grows or not (wanted or facts.dimension):
        return None
    laws = predicted_escapes(
        problem,
        facts.delta,
        facts.dimension or _ANY_DIMENSION,
        facts.spaces,
        until=steps,
        quiet=quiet,
        workers=workers,
    )
    if facts.dimension:
        warnings += [f"no escape step: {law.message}" for law in laws if law.status not in (OK, STABLE)]
    return laws if all(law.times.size for law in laws) else None


def _up_to(law: EscapeLaw | None, for_a_time: bool) -> tuple[float, float]:
    """The dimension up to which a direction that is unstable for a time only is learned all the same."""
    if law is None or not for_a_time or not _SMALLEST_DIMENSION < law.largest_dimension < np.inf:
        return np.nan, np.nan
    return law.largest_dimension, law.largest_dimension_se


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


def _seen(facts: Facts, sector: HardSector, times: Sequence[int], margins: Array) -> HardFacts:
    """What the Hessian says of one sector, from its margins (T, replicates, 2), without limits, laws and delta_alg."""
    negative = [_negative(values) for values in margins[:, :, 1]]
    alternates = facts.alternating is not None and negative[-1] is not True
    alone = facts.spaces.relevant_hard_basis.shape[1] == sector.size  # else no one knows whose outlier it is
    return HardFacts(
        sector,
        unstable=(alone or None) if alternates else negative[-1],
        visible=_negative(margins[-1, :, 0]),
        unstable_until=max((t for t, value in zip(times, negative, strict=True) if value), default=None),
        expressible=expressible(facts.problem, sector.basis),
        finished=False,
        alternates=alternates,
    )


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
    if limits is None or facts.run.status != OK:
        margins = np.full_like(margins, np.nan)
    known = facts.run.status == OK and not facts.bulk_grows
    learned = [_learned(limits, i, delta) if limits is not None and known else None for i in range(len(sectors))]
    seen = [_seen(facts, sector, times, margins[:, :, i]) for i, sector in enumerate(sectors)]
    learned = [word or None if one.alternates else word for word, one in zip(learned, seen, strict=True)]
    for_a_time = [word is False and one.unstable_until is not None for word, one in zip(learned, seen, strict=True)]
    laws = _laws(facts, any(for_a_time), warnings, quiet, workers)
    result = []
    for number, one in enumerate(seen):
        faster = _faster(number, learned, limits, laws)
        law = None if laws is None else laws[number]
        up_to = _up_to(law, for_a_time[number] and not faster)
        if law is not None and laws is not None and faster:
            law = _until(law, [laws[i] for i in faster])
        result.append(
            replace(
                one,
                limit=None if limits is None else limits.sectors[number],
                learned=None if faster and learned[number] else learned[number],
                law=law if facts.dimension else None,
                up_to=up_to,
                delta_alg=alg[number],
                after=", ".join(sectors[i].name for i in faster),
                finished=True,
            )
        )
    return result


def _faster(
    number: int, learned: Sequence[bool | None], limits: ThresholdLimit | None, laws: Sequence[EscapeLaw] | None
) -> list[int]:
    """The sectors that escape clearly before one: by the laws of their times, or else the lower delta_NN."""
    if limits is None:
        return []

    def time(i: int) -> tuple[float, float]:
        return (laws[i].median, laws[i].median_se) if laws else (limits.sectors[i].value, limits.sectors[i].value_se)

    own, own_se = time(number)
    clear = [i for i, word in enumerate(learned) if word and i != number]
    return [i for i in clear if own - time(i)[0] > _CLEAR * float(np.nan_to_num(np.hypot(own_se, time(i)[1])))]


def _until(law: EscapeLaw, faster: Sequence[EscapeLaw]) -> EscapeLaw | None:
    """What is left of the law of a sector that others leave behind: its probability, while these are on the plateau."""
    if max(other.by_end for other in faster) > _NEGLIGIBLE:
        return None
    return replace(law, median=np.nan, low=np.nan, high=np.nan)
