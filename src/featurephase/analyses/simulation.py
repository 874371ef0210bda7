"""``simulate``: training of finite networks, on data matrices or exactly in law without them.

One task is one seed at one delta. Everything is a mean over seeds with its standard error, in the words of ``predict``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from featurephase.analyses.seeds import FiniteSize, HessianSample, Method, SeedPlan, SeedRun
from featurephase.analyses.stability import measured_words
from featurephase.dynamics.dense import Precision
from featurephase.dynamics.network import Network
from featurephase.escape.detection import grokking_times, median_and_se
from featurephase.escape.law import EscapeLaw, predicted_escape
from featurephase.escape.recovery import recovery as recovered
from featurephase.escape.recovery import smaller_dimensions
from featurephase.foundation.errors import FeaturephaseWarning, InputError, Interrupted, show
from featurephase.foundation.executors import Executor, Workers, as_executor, replicate_seeds, until_interrupted
from featurephase.foundation.numbers import is_whole, plain
from featurephase.functions.tails import missing_mean
from featurephase.problem import Problem
from featurephase.problem.asked import asked_deltas, asked_times, check_problem, experiment_text
from featurephase.problem.data import UserData
from featurephase.results.base import Result, averaged, averaged_over, paired
from featurephase.results.outer import trajectory_averages
from featurephase.results.simulation import Grokking, HessianMeasurement, Recovery, Simulation, SimulationRun
from featurephase.results.status import (
    DIVERGED,
    INTERRUPTED,
    NOT_AVAILABLE,
    NOT_CONVERGED,
    NOT_PREDICTED,
    OK,
    SINGULAR_CURVATURE,
    Status,
    diverged,
)
from featurephase.subspaces import LatentSubspaces, problem_subspaces

__all__ = ["Grokking", "HessianMeasurement", "Recovery", "Simulation", "SimulationRun", "predicted_escape", "simulate"]

#: Marks the random streams of the smaller dimensions of recovery, each of its own.
_RECOVERY = 2
#: Seeds at those for each seed of the run itself.
_RECOVERY_SEEDS = 4
#: The default is a data matrix of up to so many entries.
_MOST_ENTRIES = 4e6


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
    problem, dimension, delta
        The experiment (``asymptotics.seed`` seeds everything), d, not needed with ``data``, and n/d, one or several;
        default: the problem's ``run.delta``.
    method
        ``"dense"``: on a real Gaussian data matrix. ``"implicit"``: exact in law without one. Default: dense up to
        4 million entries of the matrix, and for ``data``.
    seeds
        Independent repetitions.
    times, eigenvalues
        Where the Hessian is analysed (dense), and how many eigenvalues at each end; default: the problem's
        ``run.times``, else the last step. Given here it is asked for: without a data matrix the status is then
        ``"not-available"``.
    start, precision
        Kind of start: ``"orthonormal"``, ``"gaussian"``, ``"sphere"`` or ``"prescribed"``; and that of the data matrix.
    data
        The user's features, and perhaps labels, in place of Gaussian ones (dense).
    recovery, predicted
        Whether to judge recovery by further runs at smaller d, and to predict the escape time.
    subspaces
        U_E and U_H if they are known already.
    quiet, workers
        Whether to show no progress; number of processes, or where to compute (:class:`~featurephase.Dask`), by default
        as many processes as pay.

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
    check_problem(problem)
    _check(dimension, method, seeds, eigenvalues, data)
    if data is None:
        d, deltas = int(plain(dimension)), asked_deltas(problem, delta)
    else:
        d, deltas = data.dimension, (data.training_samples / data.dimension,)
    analysed, count = asked_times(problem, times), int(plain(eigenvalues))
    sizes = []
    for value in deltas:
        default: Method = "dense" if data is not None or value * d * d <= _MOST_ENTRIES else "implicit"
        size = FiniteSize(problem, d, value, method or default, analysed, count, start, precision, data)
        size.plan()  # what cannot run is refused before anything does
        sizes.append(size)
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    _warn_of_labels(problem, data)
    extras = _Extras(recovery, predicted, hessian=times is not None)
    return _Study(problem, tuple(sizes), int(plain(seeds)), spaces, extras, as_executor(workers, quiet=quiet)).result()


def _warn_of_labels(problem: Problem, data: UserData | None) -> None:
    """Say before training that the loss is not meant for these labels, as the logistic one is not for 0 and 1."""
    expected = problem.loss.expected_labels
    if problem.teacher.classes:  # which labels are classes is checked where they are used
        return
    if data is None or data.labels is None or expected is None:
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


def _missing(data: UserData | None) -> str:
    """How the user's data were read, and what they cannot tell, in words."""
    if data is None:
        return ""
    notes = list(data.notes)
    if data.training_samples == len(data.features):
        notes.append(f"no row is held out (held_out = {data.held_out:g}), so there is no test loss")
    if data.labels is not None:
        notes.append("the labels are the user's, so nobody knows latent directions: there are no overlaps with them")
    return "; ".join(notes)


def _check(dimension: int | None, method: str | None, seeds: int, eigenvalues: int, data: UserData | None) -> None:
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


class _Extras(NamedTuple):
    """What is asked for besides the runs: recovery, the predicted escape time, and the Hessian whatever the method."""

    recovery: bool
    predicted: bool
    hessian: bool


@dataclass(frozen=True)
class _Study:
    """All that ``simulate`` was asked, checked: runs, then escape and recovery, then the summary, delta after delta."""

    problem: Problem
    sizes: tuple[FiniteSize, ...]
    seeds: int
    spaces: LatentSubspaces
    extras: _Extras
    executor: Executor

    def result(self) -> Simulation:
        """Every delta; at Ctrl-C those that are finished, in the exception."""
        deltas = [size.delta for size in self.sizes]
        runs, interrupted = until_interrupted(self._at, self.sizes, deltas)
        result = self._assembled(runs, interrupted)
        if interrupted:
            raise Interrupted(result)
        return result

    def _at(self, size: FiniteSize) -> SimulationRun:
        plan = size.plan()
        streams = replicate_seeds(self.problem.asymptotics.seed, self.seeds)
        runs = size.run(streams, self.spaces.hard_basis, label="simulate", executor=self.executor)
        return _summary(size, plan, runs, self._law(size, plan.dimension), self._recovery(size, runs))

    def _law(self, size: FiniteSize, dimension: int) -> EscapeLaw:
        """The predicted law of the escape time, where it was asked for and there is one."""
        asked, prescribed = self.extras.predicted and size.known_directions, size.start == "prescribed"
        if asked and not prescribed and self.spaces.ok and self.problem.training.steps > 0:
            return predicted_escape(self.problem, size.delta, dimension, self.spaces, workers=self.executor)
        reason = "the escape time is predicted for a random start" if asked and prescribed else ""
        return EscapeLaw.none(dimension, NOT_PREDICTED, reason)

    def _recovery(self, size: FiniteSize, runs: list[SeedRun]) -> tuple[Recovery, ...]:
        """Verdicts from the capture at d and, by the exact law, at smaller d with more seeds."""
        hard = self.spaces.relevant_hard_basis
        if not self.extras.recovery or size.data is not None or hard.shape[1] == 0:
            return ()
        least = self.problem.student.width + self.problem.teacher.latent_dim
        everything = {size.dimension: runs}
        for d in smaller_dimensions(size.dimension, size.delta, least):
            streams = np.random.SeedSequence([self.problem.asymptotics.seed, _RECOVERY, d])
            seeds = streams.spawn(_RECOVERY_SEEDS * len(runs))
            law = replace(size, dimension=d, method="implicit")
            everything[d] = law.run(seeds, self.spaces.hard_basis, label="recovery", executor=self.executor)
        paths = {d: [run.trajectory for run in some] for d, some in everything.items()}
        return tuple(recovered(direction, paths) for direction in hard.T)

    def _assembled(self, runs: list[SimulationRun], interrupted: str) -> Simulation:
        problems: list[tuple[str, str]] = [(INTERRUPTED, interrupted)] * bool(interrupted)
        problems += [(r.status, r.message) for r in runs if r.status != OK]
        # without a data matrix there is no Hessian, but nobody need have asked for it
        fine = (OK,) if self.extras.hessian else (OK, NOT_AVAILABLE)
        problems += [(h.status, h.message) for r in runs for h in r.hessian if h.status not in fine]
        notes = [h.message for r in runs for h in r.hessian if h.status == NOT_AVAILABLE]
        notes += [note for size in self.sizes if (note := _missing(size.data))]
        return Simulation(
            status=problems[0][0] if problems else OK,
            message="; ".join(dict.fromkeys([m for _, m in problems] + notes)),
            seed=self.problem.asymptotics.seed,
            title=self.problem.title,
            method=", ".join(dict.fromkeys(r.method for r in runs)),
            start=self.sizes[0].start,
            precision=self.sizes[0].precision,
            replicates=self.seeds,
            easy_basis=self.spaces.easy_basis,
            hard_basis=self.spaces.hard_basis,
            runs=tuple(runs),
            warnings=tuple(_warnings(self.problem, runs)),
            experiment=experiment_text(self.problem),
        )


# ---- means over seeds


def _summary(
    size: FiniteSize, plan: SeedPlan, runs: Sequence[SeedRun], law: EscapeLaw, verdicts: tuple[Recovery, ...]
) -> SimulationRun:
    paths = [run.trajectory for run in runs]
    ends = [path.diverged_at for path in paths if path.diverged_at is not None]
    status = diverged(min(ends)) if ends else OK
    words = f"delta = {size.delta:g}: {status} in {len(ends)} of {len(runs)} seeds; {status.message}"
    return SimulationRun(
        delta=size.delta,
        dimension=plan.dimension,
        samples=plan.samples,
        method=size.method,
        status=status,
        message=words if ends else _missing(size.data),
        seed=size.problem.asymptotics.seed,
        version=Result.version,
        replicates=len(runs),
        times=np.arange(len(paths[0].train_loss)),
        **trajectory_averages(paths),
        **averaged_over(runs, "hard_overlap"),
        hessian=tuple(_hessian(size, t, runs, status) for t in size.times),
        grokking=_grokking(runs, law),
        recovery=verdicts,
        basis=max(path.basis for path in paths),
        dropped=max(path.dropped for path in paths),
    )


def _grokking(runs: Sequence[SeedRun], law: EscapeLaw) -> Grokking:
    each = [grokking_times(run.trajectory.train_loss, run.trajectory.test_loss) for run in runs]
    predicted: dict[str, float] = {}
    if np.isfinite(law.median):  # else most runs never escape, or it could not be decided
        time, low, high = (law.median, law.median_se), (law.low, law.low_se), (law.high, law.high_se)
        predicted = paired(predicted_time=time, predicted_low=low, predicted_high=high)
    # nothing is said where an escape time is predicted, or nobody asked
    silent = not law.message or law.status.kind in (NOT_PREDICTED, DIVERGED)
    return Grokking(
        **_medians({name: [getattr(g, name) for g in each] for name in ("train_time", "test_time", "delay")}),
        **_medians({"escape_time": [run.escape_time for run in runs]}),
        **averaged(fraction=[float(np.isfinite(g.test_time)) for g in each]),
        **predicted,
        message=law.message if silent else f"no escape time: {law.message}",
        **_accuracy_times(runs),
    )


def _medians(times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Medians over the seeds with their errors, as the fields of a record."""
    return paired(**{name: median_and_se(values) for name, values in times.items()})


def _accuracy_times(runs: Sequence[SeedRun]) -> dict[str, Any]:
    """The same of the accuracies, for classes: when the errors have made half of their drop."""
    pairs = [(run.trajectory.train_accuracy, run.trajectory.test_accuracy) for run in runs]
    each = [grokking_times(1.0 - a, 1.0 - b) for a, b in pairs if a is not None and b is not None]
    if not each:
        return {}
    names = {"train_accuracy_time": "train_time", "test_accuracy_time": "test_time", "accuracy_delay": "delay"}
    return _medians({name: [getattr(g, of_losses) for g in each] for name, of_losses in names.items()})


def _hessian(size: FiniteSize, time: int, runs: Sequence[SeedRun], status: Status) -> HessianMeasurement:
    if size.problem.singular_curvature:
        message = SINGULAR_CURVATURE.explained(f"Hessian at t = {time}")
        return HessianMeasurement(time=time, status=SINGULAR_CURVATURE, message=message)
    if size.method == "implicit":
        return HessianMeasurement(time=time, status=NOT_AVAILABLE, message=NOT_AVAILABLE.message)
    samples = [run.trajectory.observations.get(time) for run in runs]
    present: list[HessianSample] = [s for s in samples if s is not None]
    if len(present) < len(runs):
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
        **averaged_over(present, "smallest", "largest", "hard_overlaps"),
        residual=residual,
    )


def _warnings(problem: Problem, runs: Sequence[SimulationRun]) -> Iterable[str]:
    if where := missing_mean(Network.of(problem).loss, problem.teacher.link):
        yield f"the loss has no mean: the response is too heavily tailed {where}; losses depend on the draw"
    if any(run.replicates == 1 for run in runs):
        yield "one seed has no standard error; --seeds 2 or more has"
    for run in runs:
        yield from measured_words(problem, run)
        if abs(run.samples - run.delta * run.dimension) > 1e-9 * run.samples:
            ratio = run.samples / run.dimension
            yield f"delta = {run.delta:g}: n = {run.samples} samples at d = {run.dimension}, n/d = {ratio:.6g}"
        if run.dropped > 1e-6:
            yield (
                f"delta = {run.delta:g}: directions of the gradient below a relative {run.dropped:.0e} were left out "
                f"(at most {run.basis} visited directions), so the law is exact to that only; more memory keeps more"
            )
