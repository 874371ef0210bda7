"""``simulate``: training of finite networks, on data matrices or exactly in law without them.

One task is one seed at one delta. Everything is a mean over seeds with its standard error, in the words of ``predict``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featurephase.analyses.prediction import experiment_text, problem_subspaces
from featurephase.dynamics.dense import DenseDesign, Precision, dense_bytes, run_dense
from featurephase.dynamics.implicit import implicit_bytes, implicit_capacity, run_implicit
from featurephase.dynamics.network import Network
from featurephase.dynamics.optimisers import require_batches
from featurephase.dynamics.start import STARTS
from featurephase.dynamics.training import Moment, ReplicateTrajectory
from featurephase.escape.law import (
    ESCAPE_LEVEL,
    EscapeLaw,
    escape_available,
    escape_law,
    grokking_times,
    growth_bytes,
    hard_growth,
    level_time,
    require_growth_memory,
)
from featurephase.foundation.errors import FeaturephaseWarning, InputError, Interrupted, MemoryLimitError, show
from featurephase.foundation.executors import Workers, replicate_seeds, run_tasks
from featurephase.foundation.memory import require_memory
from featurephase.foundation.numbers import is_whole, plain
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.hessian.empirical import EmpiricalHessian, extreme_eigenpairs
from featurephase.problem.asked import asked_deltas, asked_times
from featurephase.results.base import Result, averaged
from featurephase.results.simulation import Grokking, HessianMeasurement, Recovery, Simulation, SimulationRun
from featurephase.results.status import (
    INTERRUPTED,
    NOT_AVAILABLE,
    NOT_CONVERGED,
    OK,
    SINGULAR_CURVATURE,
    Status,
    diverged,
)

if TYPE_CHECKING:
    from featurephase.problem import Problem
    from featurephase.problem.data import UserData
    from featurephase.subspaces import LatentSubspaces

Method = Literal["dense", "implicit"]

__all__ = [
    "Grokking",
    "HessianMeasurement",
    "Recovery",
    "SeedPlan",
    "SeedRun",
    "Simulation",
    "SimulationRun",
    "hard_overlap",
    "planned_seeds",
    "predicted_escape",
    "run_seeds",
    "simulate",
]

#: The tangent recursion behind the predicted escape time is followed this far, and continued at its final rate.
_PREDICTED_STEPS = 300
_PREDICTED_SAMPLES = 20_000
_PREDICTED_REPLICATES = 4
#: Its random numbers are its own.
_ESCAPE_STREAM = 1
#: Beyond this n a float is no longer every whole number.
_MOST_SAMPLES = 2**53
#: Recovery compares d with these fractions of it ...
_FRACTIONS = (0.25, 0.0625)
#: ... and calls a capture that falls at least this fast with d (exponent) none: midway between -1/2 and 0.
_DECAY = 0.25
#: Marks the random streams of the smaller dimensions, each of its own.
_RECOVERY = 2
#: A capture of at least this is strong.
_STRONG = 0.9


# ---- one seed


@dataclass(frozen=True)
class HessianSample:
    """What one seed says of its Hessian at one time."""

    smallest: Array
    largest: Array
    hard_overlaps: Array
    residual: float
    converged: bool


@dataclass(frozen=True)
class SeedRun:
    """One seed: its trajectory, and the Hessian where it was analysed (in ``trajectory.observations``)."""

    trajectory: ReplicateTrajectory
    hard_overlap: Array
    escape_time: float


@dataclass(frozen=True)
class _Observer:
    """Analyses the Hessian of one seed; a class, so that worker processes can receive it.

    ``hard_basis`` None: nobody knows the latent directions, and overlaps with them are nan.
    """

    network: Network
    weight_decay: float
    hard_basis: Array | None
    count: int

    def __call__(self, moment: Moment) -> HessianSample:
        design: DenseDesign = moment.design
        operator = EmpiricalHessian(design, self.network, moment.weights, moment.responses, self.weight_decay)
        low, high = extreme_eigenpairs(operator, self.count, self.count)
        overlaps = np.full(len(low.values), np.nan)
        if self.hard_basis is not None:
            frame = design.latent_frame
            frame = np.eye(design.dimension, len(self.hard_basis)) if frame is None else frame
            overlaps = operator.overlaps(low.vectors, frame @ self.hard_basis)
        residual = float(max(low.residuals.max(initial=0.0), high.residuals.max(initial=0.0)))
        return HessianSample(low.values, high.values, overlaps, residual, low.converged and high.converged)


def hard_overlap(gram: Array, overlap: Array, hard_basis: Array) -> Array:
    """|P_H Theta|_F/|Theta|_F for Gram matrices (.., m, m) and overlaps (.., k, m); 0 where the weights vanish."""
    size = np.sqrt(np.einsum("...rr->...", gram))
    part = np.linalg.norm(np.einsum("kh,...km->...hm", hard_basis, overlap), axis=(-2, -1))
    out: Array = np.divide(part, size, out=np.where(np.isnan(size), np.nan, 0.0), where=size > 0)
    return out


def _run_seed(
    problem: Problem,
    method: Method,
    samples: int,
    dimension: int,
    seed: np.random.SeedSequence,
    options: dict[str, Any],
    hard_basis: Array,
    times: Sequence[int],
    count: int,
) -> SeedRun:
    if method == "implicit":
        found = run_implicit(problem, samples, dimension, seed, **options)
    else:
        network = Network(problem.student.activation, problem.student.readout, problem.loss)
        known = options["data"] is None or options["data"].labels is None
        observer = _Observer(network, problem.training.weight_decay, hard_basis if known else None, count)
        found = run_dense(problem, samples, dimension, seed, observers=dict.fromkeys(times, observer), **options)
    hard = hard_overlap(found.gram, found.overlap, hard_basis)
    return SeedRun(found, hard, level_time(hard, ESCAPE_LEVEL))


@dataclass(frozen=True)
class SeedPlan:
    """What running one seed takes: n, d, the options of the run, and bytes."""

    samples: int
    dimension: int
    options: dict[str, Any]
    need: float


def planned_seeds(
    problem: Problem,
    dimension: int,
    delta: float,
    *,
    method: Method,
    times: Sequence[int] = (),
    start: str = "orthonormal",
    precision: Precision = "float64",
    data: UserData | None = None,
) -> SeedPlan:
    """What :func:`run_seeds` would need with the same arguments; to be asked before anything long begins.

    Raises
    ------
    InputError
        If n or d is too small, or more memory is needed than there is.
    """
    if delta * dimension > _MOST_SAMPLES:
        raise InputError(f"delta = {delta:g} at dimension {dimension}: n = delta d must be at most {_MOST_SAMPLES:.2g}")
    samples = round(delta * dimension)
    if data is not None:
        samples, dimension = data.training_samples, data.dimension
    if samples < 1:
        raise InputError(f"delta = {delta:g} at dimension {dimension}: n = delta d must be at least 1")
    if start not in STARTS:
        raise InputError(f"start = {start!r}: must be {', '.join(STARTS)}")
    training, m, k = problem.training, problem.student.width, problem.teacher.latent_dim
    batch = samples if not training.one_pass else round(samples * training.batch_fraction)
    require_batches(training.batch_count, samples, "samples (n)")
    if dimension < k + m:
        raise InputError(
            f"dimension = {dimension}: must be at least latent_dim + width = {k + m}, for the latent directions and "
            "independent neurons"
        )
    options: dict[str, Any] = {"start": start}
    directions = min(training.steps * m, samples, dimension)
    if method == "implicit":
        capacity = implicit_capacity(problem, samples, dimension, training.steps)
        options["capacity"] = capacity
        kept = directions if capacity is None else min(capacity, directions)
        need = implicit_bytes(batch, m, k, 2 * m if training.one_pass else kept)
    else:
        options |= {"precision": precision, "data": data}
        need = dense_bytes(batch, dimension, m, np.dtype(precision).itemsize)
        if times:  # a Hessian that is small enough is solved whole
            need += 8.0 * (m * m * batch + 3 * min(m * dimension, 1200) ** 2 + 200 * m * dimension)
        require_memory(need, f"a {batch} x {dimension} data matrix in {precision} with its Hessian (dense)")
    return SeedPlan(samples, dimension, options, need)


def run_seeds(
    problem: Problem,
    dimension: int,
    delta: float,
    *,
    method: Method,
    seeds: Sequence[np.random.SeedSequence],
    hard_basis: Array,
    times: Sequence[int] = (),
    eigenvalues: int = 4,
    start: str = "orthonormal",
    precision: Precision = "float64",
    data: UserData | None = None,
    quiet: bool = True,
    workers: Workers = None,
    label: str = "simulate",
) -> tuple[int, int, list[SeedRun]]:
    """All seeds at one delta: n, d and what each seed saw.

    Raises
    ------
    InputError
        If n or d is too small, or more memory is needed than there is.
    """
    plan = planned_seeds(
        problem, dimension, delta, method=method, times=times, start=start, precision=precision, data=data
    )
    samples, dimension, options = plan.samples, plan.dimension, plan.options
    tasks = [(problem, method, samples, dimension, s, options, hard_basis, times, eigenvalues) for s in seeds]
    found = run_tasks(
        _run_seed,
        tasks,
        memory=plan.need,
        label=label,
        quiet=quiet,
        workers=workers,
    )
    return samples, dimension, found


# ---- the command


def simulate(
    problem: Problem,
    *,
    dimension: int | None = None,
    delta: float | Iterable[float] | None = None,
    method: Method | None = None,
    seeds: int = 8,
    times: int | Iterable[int] | None = None,
    eigenvalues: int = 4,
    start: str = "orthonormal",
    precision: Precision = "float64",
    data: UserData | None = None,
    recovery: bool = True,
    predicted: bool = True,
    subspaces: LatentSubspaces | None = None,
    quiet: bool = True,
    workers: Workers = None,
) -> Simulation:
    """Train finite networks and measure what ``predict`` predicts.

    Parameters
    ----------
    problem
        The experiment; ``asymptotics.seed`` seeds everything.
    dimension
        d; not needed with ``data``.
    delta
        n/d, one or several; default: the problem's ``run.delta``.
    method
        ``"dense"``: on a real Gaussian data matrix. ``"implicit"``: exact in law without one. Default: dense up to
        4 million entries of the matrix, and for ``data``.
    seeds
        Independent repetitions.
    times
        Where the Hessian is analysed (dense); default: the problem's ``run.times``, else the last step. Given
        here it is asked for: without a data matrix the status is then ``"not-available"``.
    eigenvalues
        How many at each end.
    start
        Kind of start: ``"orthonormal"``, ``"gaussian"``, ``"sphere"`` or ``"prescribed"``.
    precision
        Of the data matrix (dense).
    data
        The user's features, and perhaps labels, in place of Gaussian ones (dense).
    recovery, predicted
        Whether to judge recovery by further runs at smaller d, and to predict the escape time.
    subspaces
        U_E and U_H if they are known already.
    quiet
        No progress on standard error.
    workers
        Number of processes, or where to compute (:class:`~featurephase.Dask`); default: as many processes as pay.

    Raises
    ------
    InputError
        For a missing or impossible dimension, delta, time or method, or more memory than there is.
    Interrupted
        At Ctrl-C, if some deltas are finished: they are its ``result``.

    Notes
    -----
    Montanari & Wang, arXiv 2602.01434; the exact law without a matrix is also Y. M. Lu, "Householder Dice" (2021).
    """
    _check(problem, dimension, method, seeds, eigenvalues, data)
    deltas = (data.training_samples / data.dimension,) if data is not None else asked_deltas(problem, delta)
    d = data.dimension if data is not None else int(plain(dimension) or 0)
    seeds, eigenvalues = int(plain(seeds)), int(plain(eigenvalues))
    analysed = asked_times(problem, times)
    common: dict[str, Any] = {"start": start, "precision": precision, "data": data}
    plans: list[tuple[float, Method, tuple[int, ...]]] = []
    for value in deltas:  # what cannot run is refused before anything does
        chosen: Method = method or ("dense" if data is not None or value * d * d <= 4e6 else "implicit")
        wanted = analysed if chosen == "dense" and not problem.singular_curvature else ()
        planned_seeds(problem, d, value, method=chosen, times=wanted, **common)
        plans.append((value, chosen, wanted))
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    streams = replicate_seeds(problem.asymptotics.seed, seeds)
    missing = "" if data is None else _not_in(data)
    if data is not None:
        _warn_of_labels(problem, data)

    def measured(value: float, chosen: Method, wanted: tuple[int, ...]) -> SimulationRun:
        samples, dimension, found = run_seeds(
            problem,
            d,
            value,
            method=chosen,
            seeds=streams,
            hard_basis=spaces.hard_basis,
            times=wanted,
            eigenvalues=eigenvalues,
            quiet=quiet,
            workers=workers,
            **common,
        )
        law: EscapeLaw | None = None
        verdicts: tuple[Recovery, ...] = ()
        reason = ""
        if predicted and (data is None or data.labels is None):
            law, reason = _predicted(problem, value, dimension, spaces, start, quiet, workers)
        if recovery and data is None:
            verdicts = _recovery(problem, value, dimension, found, spaces, start, quiet, workers)
        return _summary(
            problem, value, samples, dimension, chosen, found, analysed, spaces, law, reason, verdicts, missing
        )

    def all_of(runs: list[SimulationRun], interrupted: str = "") -> Simulation:
        problems: list[tuple[str, str]] = [(INTERRUPTED, interrupted)] * bool(interrupted)
        problems += [(r.status, r.message) for r in runs if r.status != OK]
        fine = (OK, NOT_AVAILABLE) if times is None else (OK,)  # without a matrix nobody need have asked for it
        problems += [(h.status, h.message) for r in runs for h in r.hessian if h.status not in fine]
        notes = [h.message for r in runs for h in r.hessian if h.status == NOT_AVAILABLE]
        notes += [missing] * bool(missing)
        return Simulation(
            status=problems[0][0] if problems else OK,
            message="; ".join(dict.fromkeys([m for _, m in problems] + notes)),
            seed=problem.asymptotics.seed,
            title=problem.title,
            method=", ".join(dict.fromkeys(r.method for r in runs)),
            start=start,
            precision=precision,
            replicates=seeds,
            easy_basis=spaces.easy_basis,
            hard_basis=spaces.hard_basis,
            runs=tuple(runs),
            warnings=tuple(_warnings(problem, runs)),
            experiment=experiment_text(problem),
        )

    runs: list[SimulationRun] = []
    try:
        for plan in plans:
            runs.append(measured(*plan))
    except KeyboardInterrupt:
        if not runs:
            raise
        left = ", ".join(f"{value:g}" for value, _, _ in plans[len(runs) :])
        raise Interrupted(all_of(runs, f"interrupted: not finished at delta = {left}")) from None
    return all_of(runs)


def _warn_of_labels(problem: Problem, data: UserData) -> None:
    """Say before training that the loss is not meant for these labels, as the logistic one is not for 0 and 1."""
    expected = problem.loss.expected_labels
    if data.labels is None or expected is None:
        return
    odd = np.setdiff1d(data.labels, expected)
    if odd.size:
        words = " or ".join(f"{label:+g}" if min(expected) < 0 else f"{label:g}" for label in expected)
        warnings.warn(
            f"labels: the {problem.loss.name} loss expects {words}; {np.isin(data.labels, odd).sum()} of "
            f"{data.labels.size} are others, such as {odd[0]:g}",
            FeaturephaseWarning,
            stacklevel=3,
        )


def _not_in(data: UserData) -> str:
    """How the user's data were read, and what they cannot tell, in words."""
    notes = list(data.notes)
    if data.training_samples == len(data.features):
        notes.append(f"no row is held out (held_out = {data.held_out:g}), so there is no test loss")
    if data.labels is not None:
        notes.append("the labels are the user's, so nobody knows latent directions: there are no overlaps with them")
    return "; ".join(notes)


def _check(
    problem: Problem,
    dimension: int | None,
    method: str | None,
    seeds: int,
    eigenvalues: int,
    data: UserData | None,
) -> None:
    if method not in (None, "dense", "implicit"):
        raise InputError(f"method = {method!r}: must be dense or implicit")
    if data is not None and method == "implicit":
        raise InputError(
            "method = 'implicit' is for Gaussian features, which it never draws; data in a file need dense"
        )
    if data is None and dimension is None:
        raise InputError("no dimension: give d (--dimension D), a whole number")
    counts = {"seeds": seeds, "eigenvalues": eigenvalues} | ({"dimension": dimension} if data is None else {})
    for name, count in counts.items():
        if not is_whole(count) or plain(count) < 1:
            raise InputError(f"{name} = {show(count)}: must be a whole number >= 1")


def _growth_task(
    problem: Problem, delta: float, seed: np.random.SeedSequence, easy: Array, hard: Array, steps: int, samples: int
) -> Any:
    return hard_growth(problem, delta, seed, easy_basis=easy, hard_basis=hard, steps=steps, samples=samples)


def predicted_escape(
    problem: Problem,
    delta: float,
    dimension: int,
    spaces: LatentSubspaces,
    *,
    steps: int | None = None,
    samples: int = _PREDICTED_SAMPLES,
    replicates: int = _PREDICTED_REPLICATES,
    quiet: bool = True,
    workers: Workers = None,
) -> EscapeLaw:
    """The law of the escape time at dimension d, from the tangent recursion (theory/escape, eq. esc-covariance).

    Raises
    ------
    ValueError
        Where there is no such law, or more memory is needed than there is; says why.
    """
    reason = escape_available(problem)
    hard = spaces.relevant_hard_basis
    if reason or hard.shape[1] == 0:
        raise ValueError(reason or "nothing is hard: there is no plateau to escape from")
    horizon = min(problem.training.steps, _PREDICTED_STEPS) if steps is None else steps
    require_growth_memory(problem, hard.shape[1], horizon, samples)
    memory = growth_bytes(problem, hard.shape[1], horizon, samples)
    tasks = [
        (problem, delta, s, spaces.easy_basis, hard, horizon, samples)
        for s in replicate_seeds(problem.asymptotics.seed, replicates, _ESCAPE_STREAM)
    ]
    growths = run_tasks(_growth_task, tasks, label="escape", memory=memory, quiet=quiet, workers=workers)
    return escape_law(growths, dimension, seed=problem.asymptotics.seed)


def _predicted(
    problem: Problem,
    delta: float,
    dimension: int,
    spaces: LatentSubspaces,
    start: str,
    quiet: bool,
    workers: Workers,
) -> tuple[EscapeLaw | None, str]:
    if start == "prescribed" or not spaces.ok or problem.training.steps == 0:
        return None, "the escape time is predicted for a random start" if start == "prescribed" else ""
    try:
        law = predicted_escape(problem, delta, dimension, spaces, quiet=quiet, workers=workers)
        return law, f"no escape time: {law.message}" if law.message else ""
    except MemoryLimitError as reason:
        return None, f"no escape time: {reason}"
    except ValueError as reason:
        return None, str(reason)


def _captures(found: Sequence[SeedRun], direction: Array) -> Array:
    """Length of the projection of a latent direction on the span of the final weights, (seeds,)."""
    out = np.full(len(found), np.nan)
    for i, run in enumerate(found):
        gram, row = run.trajectory.gram[-1], direction @ run.trajectory.overlap[-1]
        if np.all(np.isfinite(gram)):
            square = float(row @ np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ row)
            out[i] = np.sqrt(max(square, 0.0))
    return out


def _recovery(
    problem: Problem,
    delta: float,
    dimension: int,
    found: list[SeedRun],
    spaces: LatentSubspaces,
    start: str,
    quiet: bool,
    workers: Workers,
) -> tuple[Recovery, ...]:
    """Verdicts from the capture at d and, by the exact law, at smaller d with four times the seeds."""
    least = problem.student.width + problem.teacher.latent_dim
    hard = spaces.relevant_hard_basis
    if hard.shape[1] == 0:
        return ()
    sizes = [size for f in _FRACTIONS if (size := round(f * dimension)) >= 4 * least and round(delta * size) >= 4]
    runs = {dimension: found}
    for size in sizes:
        seeds = np.random.SeedSequence([problem.asymptotics.seed, _RECOVERY, size]).spawn(4 * len(found))
        runs[size] = run_seeds(
            problem,
            size,
            delta,
            method="implicit",
            seeds=seeds,
            hard_basis=spaces.hard_basis,
            start=start,
            quiet=quiet,
            workers=workers,
            label="recovery",
        )[2]
    return tuple(_recovered(column, runs) for column in hard.T)


def _recovered(direction: Array, runs: dict[int, list[SeedRun]]) -> Recovery:
    dimensions = tuple(sorted(runs))
    sizes = np.array(dimensions, dtype=np.float64)
    mean, error = np.empty(len(sizes)), np.empty(len(sizes))
    for i, d in enumerate(dimensions):
        square, square_se = mean_and_se(_captures(runs[d], direction) ** 2)
        mean[i] = np.sqrt(square)
        error[i] = square_se / (2 * mean[i]) if mean[i] > 0 else square_se
    largest, capture_se = float(mean[-1]), float(error[-1])
    exponent = exponent_se = np.nan
    if len(sizes) > 1 and np.all(mean > 0) and np.all(np.isfinite(mean)):
        x, y = np.log(sizes), np.log(mean)
        relative = np.where(np.isfinite(error), error / mean, 1.0)
        w = 1.0 / np.maximum(relative, 1e-3) ** 2
        centre = np.sum(w * x) / np.sum(w)
        spread = float(np.sum(w * (x - centre) ** 2))
        exponent, exponent_se = float(np.sum(w * (x - centre) * y) / spread), float(spread**-0.5)
    if not np.isfinite(exponent):
        verdict = "none" if largest == 0.0 else "undetermined"
    elif abs(exponent + _DECAY) < 2.0 * exponent_se:
        verdict = "undetermined"
    elif exponent < -_DECAY:
        verdict = "none"
    else:
        verdict = "strong" if largest >= _STRONG else "weak"
    return Recovery(
        direction=direction,
        verdict=verdict,
        capture=largest,
        capture_se=capture_se,
        exponent=exponent,
        exponent_se=exponent_se,
        dimensions=dimensions,
    )


def median_and_se(values: Iterable[float]) -> tuple[float, float]:
    """Median over the seeds, nan counted as never, and its standard error from order statistics; nan if never."""
    x = np.sort(np.where(np.isnan(v := np.array(list(values))), np.inf, v))
    count = len(x)
    middle = float(np.median(x)) if np.isfinite(x[count // 2]) else np.nan
    half = np.sqrt(count) / 2.0
    low, high = int(np.floor(count / 2 - half)), int(np.ceil(count / 2 + half)) - 1
    if count < 2 or not np.isfinite(middle) or not np.isfinite(x[min(max(high, 0), count - 1)]):
        return middle, np.nan
    return middle, float(x[min(high, count - 1)] - x[max(low, 0)]) / 2.0


def _grokking(found: Sequence[SeedRun], law: EscapeLaw | None, reason: str) -> Grokking:
    each = [grokking_times(r.trajectory.train_loss, r.trajectory.test_loss) for r in found]
    train, train_se = median_and_se(g.train_time for g in each)
    test, test_se = median_and_se(g.test_time for g in each)
    delay, delay_se = median_and_se(g.delay for g in each)
    escape, escape_se = median_and_se(r.escape_time for r in found)
    predicted: dict[str, float] = {}
    if law is not None and np.isfinite(law.median):  # else most runs never escape, or it could not be decided
        predicted = {
            "predicted_time": law.median,
            "predicted_time_se": law.median_se,
            "predicted_low": law.low,
            "predicted_low_se": law.low_se,
            "predicted_high": law.high,
            "predicted_high_se": law.high_se,
        }
    return Grokking(
        train_time=train,
        train_time_se=train_se,
        test_time=test,
        test_time_se=test_se,
        delay=delay,
        delay_se=delay_se,
        **averaged(fraction=[float(np.isfinite(g.test_time)) for g in each]),
        escape_time=escape,
        escape_time_se=escape_se,
        **predicted,
        message=reason,
    )


def _summary(
    problem: Problem,
    delta: float,
    samples: int,
    dimension: int,
    method: Method,
    found: Sequence[SeedRun],
    times: Sequence[int],
    spaces: LatentSubspaces,
    law: EscapeLaw | None,
    reason: str,
    verdicts: tuple[Recovery, ...],
    note: str,
) -> SimulationRun:
    ends = [r.trajectory.diverged_at for r in found if r.trajectory.diverged_at is not None]
    status = diverged(min(ends)) if ends else OK
    words = f"delta = {delta:g}: {status} in {len(ends)} of {len(found)} seeds; {status.message}"
    hessian = tuple(_hessian(problem, t, method, found, status) for t in times)
    paths = [r.trajectory for r in found]
    return SimulationRun(
        delta=delta,
        dimension=dimension,
        samples=samples,
        method=method,
        status=status,
        message=words if ends else note,
        seed=problem.asymptotics.seed,
        version=Result.version,
        replicates=len(found),
        times=np.arange(len(paths[0].train_loss)),
        **averaged(
            train_loss=[x.train_loss for x in paths],
            test_loss=[x.test_loss for x in paths],
            gram=[x.gram for x in paths],
            overlap=[x.overlap for x in paths],
            hard_overlap=[r.hard_overlap for r in found],
        ),
        hessian=hessian,
        grokking=_grokking(found, law, reason),
        recovery=verdicts,
        basis=max(r.trajectory.basis for r in found),
        dropped=max(r.trajectory.dropped for r in found),
    )


def _hessian(
    problem: Problem, time: int, method: Method, found: Sequence[SeedRun], status: Status
) -> HessianMeasurement:
    if problem.singular_curvature:
        message = SINGULAR_CURVATURE.explained(f"Hessian at t = {time}")
        return HessianMeasurement(time=time, status=SINGULAR_CURVATURE, message=message)
    if method == "implicit":
        return HessianMeasurement(time=time, status=NOT_AVAILABLE, message=NOT_AVAILABLE.message)
    samples = [r.trajectory.observations.get(time) for r in found]
    present: list[HessianSample] = [s for s in samples if s is not None]
    if len(present) < len(found):
        return HessianMeasurement(time=time, status=status, message=f"{status}, before t = {time}")
    residual = max(s.residual for s in present)
    converged = all(s.converged for s in present)
    words = (
        f"Hessian at t = {time}: the eigensolver did not reach its tolerance; eigenvalues are good to "
        f"{residual:.1e} (residual)"
    )
    return HessianMeasurement(
        time=time,
        status=OK if converged else NOT_CONVERGED,
        message="" if converged else words,
        **averaged(
            smallest=[s.smallest for s in present],
            largest=[s.largest for s in present],
            hard_overlaps=[s.hard_overlaps for s in present],
        ),
        residual=residual,
    )


def _warnings(problem: Problem, runs: Sequence[SimulationRun]) -> Iterable[str]:
    if any(run.replicates == 1 for run in runs):
        yield "one seed has no standard error; --seeds 2 or more has"
    for run in runs:
        if run.dropped > 1e-6:
            yield (
                f"delta = {run.delta:g}: directions of the gradient below a relative {run.dropped:.0e} were left out "
                f"(at most {run.basis} visited directions), so the law is exact to that only; more memory keeps more"
            )
