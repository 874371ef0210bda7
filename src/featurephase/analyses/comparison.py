"""``compare``: theory against simulation, number by number, with a verdict.

The theory is the limit n, d -> infinity; a simulation at finite d differs from it by its sampling error and by a bias
of order 1/d. The bias is estimated and taken off before anything is judged, in one of two ways:

* by default from the exact law at finite size, run at d and d/2 with many more seeds: the bias at d/2 is twice that at
  d, so the difference of the means, ``x(d/2) - x(d)``, is the bias at d;
* with two or more dimensions, by extrapolating the simulations to 1/d = 0; no other law enters.

Eigenvalues have no such law without a data matrix: they are simulated at d/2 too. Edges approach their limit like
d^(-2/3), outliers like 1/d.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from featurephase.analyses.compared_escape import escape_quantities, left_plateau
from featurephase.analyses.finite_size import Error, eigenvalue_shift, extrapolated, judged, law_shift, mean_over_seeds
from featurephase.analyses.observables import Observable, hessian_observables, trajectory_observables
from featurephase.analyses.prediction import predict
from featurephase.analyses.seeds import FiniteSize, SeedRun
from featurephase.analyses.stability import step_size_words
from featurephase.dynamics.training import ReplicateTrajectory
from featurephase.escape.law import predicted_escape
from featurephase.foundation.errors import InputError, Interrupted, MemoryLimitError
from featurephase.foundation.executors import Executor, Workers, as_executor, until_interrupted
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.problem import Problem
from featurephase.problem.asked import asked_deltas, asked_times, check_problem, experiment_text
from featurephase.problem.data import UserData
from featurephase.results.comparison import ComparedCurves, ComparedQuantity, Comparison
from featurephase.results.prediction import HessianPrediction, Prediction, TrajectoryPrediction
from featurephase.results.status import DIVERGED, INTERRUPTED, OK
from featurephase.subspaces import LatentSubspaces, problem_subspaces

__all__ = ["ComparedCurves", "ComparedQuantity", "Comparison", "compare"]

#: Chance of a false alarm of a whole comparison.
LEVEL = 0.05
#: Seeds of the exact law for each seed of the simulation.
_LAW_SEEDS = 8
#: Eigenvalues at d/2: as many seeds more as they are cheaper.
_HALF_SEEDS = 4
#: Growth of small overlaps is followed so far at most: what happens after the run is not compared.
_GROWTH_STEPS = 300
#: The random streams: of the simulations, of the exact law, and of the simulations at d/2.
_DENSE, _LAW, _HALF = 0, 1, 2


def compare(
    problem: Problem,
    *,
    dimension: int | Sequence[int] | None = None,
    delta: float | Iterable[float] | None = None,
    seeds: int = 16,
    times: int | Iterable[int] | None = None,
    curve_times: Iterable[int] | None = None,
    start: str = "orthonormal",
    escape: bool = True,
    simulated: Problem | None = None,
    simulated_delta: float | None = None,
    prediction: Prediction | None = None,
    subspaces: LatentSubspaces | None = None,
    data: UserData | None = None,
    quiet: bool = True,
    workers: Workers = None,
) -> Comparison:
    """Judge the theory of a problem by dense simulations of it.

    Parameters
    ----------
    problem
        The experiment; ``asymptotics`` says how precisely the theory is computed, and seeds everything.
    dimension
        d; two or more: the simulations are extrapolated to 1/d = 0 by least squares.
    delta
        n/d, one or several; default: the problem's ``run.delta``.
    seeds
        Simulations at the largest d; at smaller ones more, at the same cost.
    times
        Where the Hessian is analysed; default: the problem's ``run.times``, else the last step. Empty: nowhere.
    curve_times
        Where losses, Gram and overlaps are compared; default: steps 1, a third, and the last.
    escape
        Whether to compare the escape time, where something is hard and it falls within the run.
    simulated, simulated_delta
        What is simulated instead of the problem: shows whether a difference would be noticed.
    prediction, subspaces
        If they are known already.
    data
        The user's features, in place of Gaussian ones: they fix n and d. Losses and Gram matrices are compared, and
        overlaps where the link labels the features; no Hessian, because what finite d adds to it takes other d.

    Raises
    ------
    InputError
        Fewer than two seeds, a missing delta, or more memory than there is.
    Interrupted
        At Ctrl-C, if some deltas are finished: they are its ``result``.
    """
    check_problem(problem)
    if seeds < 2:
        raise InputError(f"seeds = {seeds}: at least 2 are needed for standard errors")
    if data is not None:
        if dimension is not None or delta is not None or simulated_delta is not None:
            raise InputError("data fix n and d: dimension and delta do not go with them")
        dimension, delta, times = data.dimension, data.training_samples / data.dimension, ()
    dimensions = _dimensions(dimension)
    deltas = asked_deltas(problem, delta) if prediction is None else tuple(run.delta for run in prediction.runs)
    analysed, shown = asked_times(problem, times), _shown(problem, curve_times)
    largest = dimensions[-1]
    pairs = []  # at each delta what is simulated, and the exact law of the problem itself, both at the largest d
    for value in deltas:
        actual = value if simulated_delta is None else simulated_delta
        dense = FiniteSize(simulated or problem, largest, actual, "dense", analysed, start=start, data=data)
        pairs.append((dense, FiniteSize(problem, largest, value, "implicit", start=start)))
        _require_runs(*pairs[-1], dimensions)
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    executor = as_executor(workers, quiet=quiet)
    theory = prediction or predict(problem, delta=deltas, times=analysed, subspaces=spaces, workers=executor)
    setups = [
        _Setup(run, *pair, dimensions, seeds, spaces, executor) for run, pair in zip(theory.runs, pairs, strict=True)
    ]
    parts, interrupted = until_interrupted(lambda setup: setup.part(shown, escape), setups, deltas)
    done = replace(theory, runs=theory.runs[: len(parts)])
    result = _assembled(problem, done, setups[: len(parts)], parts)
    if interrupted:
        raise Interrupted(replace(result, status=INTERRUPTED, message=interrupted))
    return result


def _dimensions(dimension: int | Sequence[int] | None) -> tuple[int, ...]:
    """d, ascending, each once."""
    if dimension is None:
        raise InputError("no dimension: give d, or data")
    sizes = tuple(sorted({int(d) for d in np.atleast_1d(np.asarray(dimension))}))
    if not sizes or sizes[0] < 1:
        raise InputError(f"dimension = {', '.join(map(str, sizes)) or 'none'}: must be whole numbers >= 1")
    return sizes


def _shown(problem: Problem, curve_times: Iterable[int] | None) -> list[int]:
    """The steps at which curves are compared."""
    steps = problem.training.steps
    times = sorted({min(1, steps), steps // 3, steps} if curve_times is None else {int(t) for t in curve_times})
    if any(not 0 <= t <= steps for t in times):
        raise InputError(f"curve_times = {times}: must be whole numbers from 0 to {steps} (training.steps)")
    return times


def _require_runs(dense: FiniteSize, law: FiniteSize, dimensions: tuple[int, ...]) -> None:
    """Refuse what could not be simulated at one delta, before anything is computed."""
    for d in dimensions:
        replace(dense, dimension=d).plan()
    if len(dimensions) > 1:
        return
    law.plan()
    try:
        replace(law, dimension=_half(law.dimension)).plan()
    except MemoryLimitError:
        raise
    except InputError as reason:
        raise InputError(
            f"dimension = {law.dimension}: what finite d adds is found by further runs at d/2 (two or more dimensions "
            f"do without), and those are impossible: {reason}"
        ) from reason


def _half(dimension: int) -> int:
    return max(dimension // 2, 1)


class _Part(NamedTuple):
    """What is compared at one delta."""

    quantities: list[ComparedQuantity]
    curves: ComparedCurves
    notes: list[str]


def _assembled(problem: Problem, theory: Prediction, setups: Sequence[_Setup], parts: Sequence[_Part]) -> Comparison:
    """The verdict on everything that was compared, by Bonferroni's rule."""
    quantities = [q for part in parts for q in part.quantities]
    finite = [q.p for q in quantities if np.isfinite(q.p)]
    smallest = min(finite, default=1.0)
    bad = [run for run in theory.runs if run.status != OK]
    # What diverges, in theory or in simulation, cannot be compared, so nothing agrees.
    agree = smallest * len(finite) >= LEVEL and not any(run.status.kind == DIVERGED for run in bad)
    return Comparison(
        status=bad[0].status if bad else OK,
        message=bad[0].message if bad else "",
        seed=problem.asymptotics.seed,
        title=problem.title,
        agree=bool(agree),
        smallest_p=float(smallest),
        comparisons=len(finite),
        dimensions=setups[0].dimensions,
        deltas=tuple(run.delta for run in theory.runs),
        samples=tuple(tuple(round(s.dense.delta * d) for d in s.dimensions) for s in setups),
        replicates=setups[0].seeds,
        theory_replicates=theory.replicates,
        quantities=tuple(quantities),
        warnings=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        curves=tuple(part.curves for part in parts),
        experiment=experiment_text(problem),
    )


# ---- one delta


class _Runs(NamedTuple):
    """All runs at one delta: simulations by dimension, the exact law by dimension, and simulations at d/2."""

    dense: dict[int, list[SeedRun]]
    law: dict[int, list[SeedRun]]
    half: list[SeedRun]


@dataclass(frozen=True)
class _Setup:
    """The theory of one delta, and the finite networks it is compared with; both ``FiniteSize`` at the largest d."""

    run: TrajectoryPrediction
    dense: FiniteSize
    law: FiniteSize
    dimensions: tuple[int, ...]
    seeds: int
    spaces: LatentSubspaces
    executor: Executor

    @property
    def largest(self) -> int:
        return self.dimensions[-1]

    def part(self, shown: Sequence[int], escape: bool) -> _Part:
        """Runs, then the numbers to compare, then the verdict on each."""
        spectra = [h for h in self.run.hessian if h.status == OK and h.time in self.dense.times]
        runs = self._runs(spectra)
        notes = [h.message for h in self.run.hessian if h.status != OK]
        notes += [*self._rounded(), *step_size_words(self.law.problem, self.run)]
        notes += self._divergences(runs)
        observables, more = self._observables(spectra, shown, runs)
        notes += more
        quantities = [self._judged(q, runs) for q in observables]
        if self.dense.data is not None:
            notes.append(_of_data(self.dense))
        if escape and self.dense.known_directions:
            compared, more = self._escape(runs.dense[self.largest])
            quantities += compared
            notes += more
        return _Part(quantities, _curves(self.run, runs.dense[self.largest]), notes)

    def _runs(self, spectra: Sequence[HessianPrediction]) -> _Runs:
        counts = [len(h.hard_outliers) + len(h.outliers) for h in spectra]
        dense = replace(self.dense, times=tuple(h.time for h in spectra), eigenvalues=max(counts, default=0) + 1)
        simulations = {
            d: self._at(dense, d, round(self.seeds * max(1.0, self.largest / d)), _DENSE) for d in self.dimensions
        }
        if len(self.dimensions) > 1:
            return _Runs(simulations, {}, [])
        half = _half(self.largest)
        law = {d: self._at(self.law, d, _LAW_SEEDS * self.seeds, _LAW) for d in (half, self.largest)}
        return _Runs(simulations, law, self._at(dense, half, _HALF_SEEDS * self.seeds, _HALF) if spectra else [])

    def _at(self, size: FiniteSize, dimension: int, seeds: int, stream: int) -> list[SeedRun]:
        root = np.random.SeedSequence([self.law.problem.asymptotics.seed, stream, dimension])
        return replace(size, dimension=dimension).run(
            root.spawn(seeds), self.spaces.hard_basis, label="compare", executor=self.executor
        )

    def _rounded(self) -> list[str]:
        """That n is a whole number, where delta d is none: the simulation is then at another n/d than the theory."""
        if self.dense.data is not None:
            return []
        n = {d: replace(self.dense, dimension=d).plan().samples for d in self.dimensions}
        return [
            f"delta = {self.dense.delta:g}: at d = {d} the simulation has n = {n[d]} samples, n/d = {n[d] / d:.6g}"
            for d in self.dimensions
            if abs(n[d] - self.dense.delta * d) > 1e-9 * n[d]
        ]

    def _divergences(self, runs: _Runs) -> list[str]:
        named = ((runs.dense, "the simulation"), (runs.law, "the exact law that gives the bias"))
        return [
            _divergence(self.run, d, count, len(seeds), what)
            for by_dimension, what in named
            for d, seeds in by_dimension.items()
            if (count := sum(r.trajectory.diverged_at is not None for r in seeds))
        ]

    def _observables(
        self, spectra: Sequence[HessianPrediction], shown: Sequence[int], runs: _Runs
    ) -> tuple[list[Observable], list[str]]:
        easy = self.spaces.easy_basis if self.dense.known_directions else self.spaces.easy_basis[:, :0]
        observables = list(trajectory_observables(self.run, shown, easy))
        if self.dense.data is not None and self.dense.data.training_samples == len(self.dense.data.features):
            observables = [q for q in observables if q.name != "test_loss"]  # no row is held out
        notes: list[str] = []
        for h in spectra:
            samples = (run.trajectory.observations.get(h.time) for run in (*chain(*runs.dense.values()), *runs.half))
            if all(s is None or s.converged for s in samples):
                of_hessian, unclear = hessian_observables(h)
                observables += of_hessian
                notes += unclear
            else:
                notes.append(
                    f"t = {h.time}: the eigensolver did not reach its tolerance in every run; nothing is compared"
                )
        escaped = {
            t: words for t in sorted({q.time for q in observables}) if (words := left_plateau(t, runs.dense, runs.law))
        }
        return [q for q in observables if q.time not in escaped], notes + list(escaped.values())

    def _judged(self, q: Observable, runs: _Runs) -> ComparedQuantity:
        """Against the extrapolation, or against the mean at d with the bias of finite size taken off."""
        errors: list[Error] = [(q.theory_se, len(self.run.trajectories) - 1)]
        if len(self.dimensions) > 1:
            return judged(q, self.run.delta, *extrapolated(q, runs.dense), 0.0, errors)
        at_largest = runs.dense[self.largest]
        if q.eigenvalue:
            shift, more = eigenvalue_shift(q, at_largest, runs.half)
        else:
            shift, more = law_shift(q, runs.law[_half(self.largest)], runs.law[self.largest])
        if self.dense.data is not None:
            more = [*more, _of_one_data_set(q, runs.law[self.largest])]
        return judged(q, self.run.delta, *mean_over_seeds(q, at_largest), shift, errors + more)

    def _escape(self, runs: Sequence[SeedRun]) -> tuple[list[ComparedQuantity], list[str]]:
        """How many seeds escape within the run, and when, where theory or simulation sees any."""
        problem = self.law.problem
        if self.law.start == "prescribed" or problem.training.steps < 2 or not self.spaces.ok:
            return [], []
        steps, delta = min(problem.training.steps, _GROWTH_STEPS), self.run.delta
        law = predicted_escape(problem, delta, self.largest, self.spaces, steps=steps, workers=self.executor)
        return escape_quantities(law, self.run.delta, problem.training.steps, [r.escape_time for r in runs])


def _of_data(size: FiniteSize) -> str:
    """What is compared where the features are the user's, in words."""
    data = size.data
    assert data is not None
    words = (
        f"data: {data.training_samples} samples of {data.dimension} features, the same in every seed, beside the "
        "theory of isotropic Gaussian features; errors contain how much one such data set differs from another"
    )
    return words if data.labels is None else f"{words}; the labels are the user's, the theory's those of the link"


def _of_one_data_set(q: Observable, law: Sequence[SeedRun]) -> Error:
    """How much a number differs from one Gaussian data set to another: seeds of one data set do not show it."""
    values = np.array([q.read(run.trajectory) for run in law])
    known = values[np.isfinite(values)]
    return (float(known.std(ddof=1)) if len(known) > 1 else np.nan), len(known) - 1


def _divergence(run: TrajectoryPrediction, dimension: int, diverged: int, seeds: int, what: str) -> str:
    words = f"delta = {run.delta:g}: {what} diverges at d = {dimension} in {diverged} of {seeds} seeds"
    if run.status != OK:
        return words
    return f"{words}, the theory does not: no agreement; a larger dimension or a smaller step size may help"


# ---- the figure


def _curves(run: TrajectoryPrediction, runs: Sequence[SeedRun]) -> ComparedCurves:
    def over(paths: Sequence[ReplicateTrajectory]) -> dict[str, tuple[Array, Array]]:
        return {
            "training loss": mean_and_se([r.train_loss for r in paths]),
            "test loss": mean_and_se([r.test_loss for r in paths]),
            "squared norm of the weights": mean_and_se([np.einsum("trr->t", r.gram) for r in paths]),
        }

    theory, simulation = over(run.trajectories), over([r.trajectory for r in runs])
    return ComparedCurves(delta=run.delta, curves={name: (*theory[name], *simulation[name]) for name in theory})
