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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.analyses.prediction import (
    experiment_text,
    predict,
    problem_subspaces,
)
from featurephase.analyses.simulation import SeedRun, median_and_se, planned_seeds, predicted_escape, run_seeds
from featurephase.foundation.errors import InputError, MemoryLimitError
from featurephase.foundation.executors import Workers
from featurephase.foundation.statistics import mean_and_se, welch_degrees
from featurephase.foundation.types import Array
from featurephase.problem.asked import asked_deltas, asked_times
from featurephase.results.comparison import ComparedCurves, ComparedQuantity, Comparison
from featurephase.results.prediction import HessianPrediction, Prediction, TrajectoryPrediction
from featurephase.results.status import DIVERGED, OK

if TYPE_CHECKING:
    from featurephase.dynamics.training import ReplicateTrajectory
    from featurephase.escape.law import EscapeLaw
    from featurephase.problem import Problem
    from featurephase.subspaces import LatentSubspaces


__all__ = ["ComparedCurves", "ComparedQuantity", "Comparison", "compare"]

#: Chance of a false alarm of a whole comparison.
LEVEL = 0.05
#: Seeds of the exact law for each seed of the simulation.
_LAW_SEEDS = 8
#: Eigenvalues at d/2: as many seeds more as they are cheaper.
_HALF_SEEDS = 4
#: Share of a finite-size shift of an eigenvalue that counts as its error: one exponent is assumed, not fitted.
_SHIFT_ERROR = 0.5
#: An outlier is compared if every replicate shows it, and its distance from the edge is this share of the bulk's width.
_CLEAR = 0.02


@dataclass(frozen=True)
class _Measured:
    """One number in theory and in single runs: ``sample`` reads it off one."""

    name: str
    time: int
    theory: float
    theory_se: float
    sample: Callable[[ReplicateTrajectory], float]
    exponent: float = 1.0
    eigenvalue: bool = False


#: A standard error and its degrees of freedom.
Error = tuple[float, int]


def compare(
    problem: Problem,
    *,
    dimension: int | Sequence[int],
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

    Raises
    ------
    InputError
        Fewer than two seeds, a missing delta, or more memory than there is.
    """
    sizes = tuple(sorted({int(d) for d in np.atleast_1d(np.asarray(dimension))}))
    if not sizes or sizes[0] < 1:
        raise InputError(f"dimension = {', '.join(map(str, sizes)) or 'none'}: must be whole numbers >= 1")
    if seeds < 2:
        raise InputError(f"seeds = {seeds}: at least 2 are needed for standard errors")
    deltas = asked_deltas(problem, delta) if prediction is None else tuple(run.delta for run in prediction.runs)
    analysed = asked_times(problem, times)
    experiment = problem if simulated is None else simulated
    simulated_at = {value: value if simulated_delta is None else simulated_delta for value in deltas}
    for value, actual in simulated_at.items():
        _require_runs(problem, experiment, value, actual, sizes, analysed, start)
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    theory = prediction or predict(
        problem, delta=deltas, times=analysed, subspaces=spaces, quiet=quiet, workers=workers
    )
    steps = problem.training.steps
    shown = sorted({min(1, steps), steps // 3, steps} if curve_times is None else {int(t) for t in curve_times})
    if any(not 0 <= t <= steps for t in shown):
        raise InputError(f"curve_times = {shown}: must be whole numbers from 0 to {steps} (training.steps)")
    quantities: list[ComparedQuantity] = []
    curves: list[ComparedCurves] = []
    warnings: list[str] = []
    for run in theory.runs:
        setup = _Setup(problem, experiment, run, simulated_at[run.delta], spaces, start, seeds, quiet, workers)
        found, drawn, notes = _compare_run(setup, sizes, shown, analysed, escape)
        quantities += found
        curves.append(drawn)
        warnings += notes
    finite = [q.p for q in quantities if np.isfinite(q.p)]
    smallest = min(finite, default=1.0)
    bad = [r for r in theory.runs if r.status != OK]
    # What diverges, in theory or in simulation, cannot be compared, so nothing agrees.
    agree = smallest * len(finite) >= LEVEL and not any(r.status.kind == DIVERGED for r in bad)
    return Comparison(
        status=bad[0].status if bad else OK,
        message=bad[0].message if bad else "",
        seed=problem.asymptotics.seed,
        title=problem.title,
        agree=bool(agree),
        smallest_p=float(smallest),
        comparisons=len(finite),
        dimensions=sizes,
        deltas=deltas,
        samples=tuple(tuple(round(simulated_at[value] * d) for d in sizes) for value in deltas),
        replicates=seeds,
        theory_replicates=theory.replicates,
        quantities=tuple(quantities),
        warnings=tuple(dict.fromkeys(warnings)),
        curves=tuple(curves),
        experiment=experiment_text(problem),
    )


def _require_runs(
    problem: Problem,
    simulated: Problem,
    delta: float,
    simulated_delta: float,
    sizes: tuple[int, ...],
    analysed: Sequence[int],
    start: str,
) -> None:
    """Refuse what could not be simulated at one delta, before anything is computed."""
    times = () if simulated.singular_curvature else analysed
    for d in sizes:
        planned_seeds(simulated, d, simulated_delta, method="dense", times=times, start=start)
    if len(sizes) > 1:
        return
    planned_seeds(problem, sizes[0], delta, method="implicit", start=start)
    try:
        planned_seeds(problem, _half(sizes[0]), delta, method="implicit", start=start)
    except MemoryLimitError:
        raise
    except InputError as reason:
        raise InputError(
            f"dimension = {sizes[0]}: what finite d adds is found by further runs at d/2 (two or more dimensions do "
            f"without), and those are impossible: {reason}"
        ) from reason


def _half(dimension: int) -> int:
    return max(dimension // 2, 1)


@dataclass(frozen=True)
class _Setup:
    problem: Problem
    simulated: Problem
    run: TrajectoryPrediction
    delta: float
    spaces: LatentSubspaces
    start: str
    seeds: int
    quiet: bool
    workers: Workers

    def dense(self, dimension: int, seeds: int, times: Sequence[int], eigenvalues: int, stream: int) -> list[SeedRun]:
        return self._runs(self.simulated, dimension, self.delta, "dense", seeds, times, eigenvalues, stream)

    def law(self, dimension: int, seeds: int, stream: int) -> list[SeedRun]:
        return self._runs(self.problem, dimension, self.run.delta, "implicit", seeds, (), 1, stream)

    def _runs(
        self,
        problem: Problem,
        dimension: int,
        delta: float,
        method: Any,
        seeds: int,
        times: Sequence[int],
        eigenvalues: int,
        stream: int,
    ) -> list[SeedRun]:
        root = np.random.SeedSequence([self.problem.asymptotics.seed, stream, dimension])
        return run_seeds(
            problem,
            dimension,
            delta,
            method=method,
            seeds=root.spawn(seeds),
            hard_basis=self.spaces.hard_basis,
            times=times,
            eigenvalues=eigenvalues,
            start=self.start,
            quiet=self.quiet,
            workers=self.workers,
            label="compare",
        )[2]


def _compare_run(
    setup: _Setup, sizes: tuple[int, ...], shown: Sequence[int], analysed: Sequence[int], escape: bool
) -> tuple[list[ComparedQuantity], ComparedCurves, list[str]]:
    run = setup.run
    notes: list[str] = []
    spectra = [h for h in run.hessian if h.status == OK and h.time in analysed]
    notes += [h.message for h in run.hessian if h.status != OK]
    counts = [len(h.hard_outliers) + len(h.outliers) for h in spectra]
    eigenvalues = max(counts, default=0) + 1
    times = tuple(h.time for h in spectra)
    largest = sizes[-1]
    dense = {d: setup.dense(d, round(setup.seeds * max(1.0, largest / d)), times, eigenvalues, 0) for d in sizes}
    measured = list(_trajectory_quantities(run, shown, setup.spaces.easy_basis))
    law: dict[int, list[SeedRun]] = {}
    half: list[SeedRun] = []
    if len(sizes) == 1:
        small = _half(largest)
        law = {d: setup.law(d, _LAW_SEEDS * setup.seeds, 1) for d in (small, largest)}
        if times:
            half = setup.dense(small, _HALF_SEEDS * setup.seeds, times, eigenvalues, 2)
    for runs, what in ((dense, "the simulation"), (law, "the exact law that gives the bias")):
        notes += [_divergence(run, d, found, what) for d, found in runs.items() if _diverged(found)]
    for h in spectra:
        if _converged(h.time, [*chain(*dense.values()), *half]):
            measured += _hessian_quantities(h, notes)
        else:
            notes.append(f"t = {h.time}: the eigensolver did not reach its tolerance in every run; nothing is compared")
    quantities = []
    for q in measured:
        shift, errors = 0.0, [(q.theory_se, len(run.trajectories) - 1)]
        if len(sizes) > 1:
            mean, error = _extrapolated(q, dense)
        else:
            mean, error = _mean(q, dense[largest])
            if q.eigenvalue:
                shift, more = _eigenvalue_shift(q, dense[largest], half)
            else:
                shift, more = _law_shift(q, law[_half(largest)], law[largest])
            errors += more
        quantities.append(_judged(q, run.delta, mean, error, shift, errors))
    if escape:
        quantities += _escape_quantities(setup, dense[largest], largest, notes)
    return quantities, _curves(run, dense[largest]), notes


def _diverged(found: Sequence[SeedRun]) -> int:
    return sum(r.trajectory.diverged_at is not None for r in found)


def _divergence(run: TrajectoryPrediction, dimension: int, found: Sequence[SeedRun], what: str) -> str:
    words = f"delta = {run.delta:g}: {what} diverges at d = {dimension} in {_diverged(found)} of {len(found)} seeds"
    if run.status != OK:
        return words
    return f"{words}, the theory does not: no agreement; a larger dimension or a smaller step size may help"


def _converged(time: int, runs: Sequence[SeedRun]) -> bool:
    """Whether every Hessian analysed at a time is as accurate as was asked."""
    samples = (run.trajectory.observations.get(time) for run in runs)
    return all(s is None or s.converged for s in samples)


def _reader(name: str, *index: int) -> Callable[[ReplicateTrajectory], float]:
    """Reads one entry of an array of the trajectory."""

    def read(run: ReplicateTrajectory) -> float:
        return float(getattr(run, name)[index])

    return read


def _change(t: int) -> Callable[[ReplicateTrajectory], float]:
    def read(run: ReplicateTrajectory) -> float:
        return float(run.train_loss[t] - run.train_loss[0])

    return read


def _along(direction: Array, t: int, neuron: int) -> Callable[[ReplicateTrajectory], float]:
    def read(run: ReplicateTrajectory) -> float:
        return float(direction @ run.overlap[t, :, neuron])

    return read


def _trajectory_quantities(run: TrajectoryPrediction, shown: Sequence[int], easy_basis: Array) -> Iterable[_Measured]:
    m = run.gram.shape[1]

    def measured(name: str, t: int, sample: Callable[[ReplicateTrajectory], float]) -> _Measured:
        value, se = mean_and_se([sample(r) for r in run.trajectories])
        return _Measured(name, t, float(value), float(se), sample)

    for t in (t for t in shown if t > 0):
        for name in ("test_loss", "train_loss"):
            yield measured(name, t, _reader(name, t))
        # The draw of the labels moves the whole curve: its fall is measured far better than its height.
        yield measured("train_loss_change", t, _change(t))
        for r in range(m):
            for s in range(r, m):
                yield measured(f"gram[{r}][{s}]", t, _reader("gram", t, r, s))
        for j, direction in enumerate(easy_basis.T):
            for r in range(m):
                yield measured(f"overlap[easy {j + 1}][{r}]", t, _along(direction, t, r))


def _hessian_quantities(h: HessianPrediction, notes: list[str]) -> list[_Measured]:
    """Edges and outliers, each matched to an eigenvalue by its rank from its end of the spectrum."""
    everything = sorted((*h.hard_outliers, *h.outliers), key=lambda o: o.value)
    span = h.right_edge - h.left_edge
    out: list[_Measured] = []
    for side, edge, edge_se in (("left", h.left_edge, h.left_edge_se), ("right", h.right_edge, h.right_edge_se)):
        mine = [o for o in everything if o.side == side]
        if side == "right":
            mine.reverse()
        if not np.isfinite(edge):
            continue
        clear = all(o.fraction == 1.0 and abs(o.value - edge) > _CLEAR * span for o in mine)
        if not clear:
            notes.append(
                f"t = {h.time}: an outlier {side} of the bulk is too close to the edge for eigenvalues to be told "
                "apart; nothing is compared there"
            )
            continue
        for rank in range(len(mine) + 1):
            name = f"{side}_edge" if rank == len(mine) else f"{side}_outlier[{rank}]"
            value, se = (edge, edge_se) if rank == len(mine) else (mine[rank].value, mine[rank].value_se)
            exponent = 2.0 / 3.0 if rank == len(mine) else 1.0
            out.append(_Measured(name, h.time, value, se, _eigenvalue(h.time, side, rank), exponent, True))
    return out


def _eigenvalue(time: int, side: str, rank: int) -> Callable[[ReplicateTrajectory], float]:
    """Reads the eigenvalue of that rank from its end of the spectrum; nan after divergence."""

    def read(run: ReplicateTrajectory) -> float:
        if time not in run.observations:
            return float("nan")
        sample = run.observations[time]
        return float(sample.smallest[rank] if side == "left" else sample.largest[-1 - rank])

    return read


def _mean(q: _Measured, runs: Sequence[SeedRun]) -> tuple[float, Error]:
    mean, se = mean_and_se([q.sample(r.trajectory) for r in runs])
    return float(mean), (float(se), len(runs) - 1)


def _law_shift(q: _Measured, half: Sequence[SeedRun], full: Sequence[SeedRun]) -> tuple[float, list[Error]]:
    """The 1/d bias at d from the exact law at d/2 and d, and the errors to be added."""
    (a, a_error), (b, b_error) = _mean(q, half), _mean(q, full)
    return a - b, [a_error, b_error]


def _eigenvalue_shift(q: _Measured, full: Sequence[SeedRun], half: Sequence[SeedRun]) -> tuple[float, list[Error]]:
    """The d^(-exponent) shift at d of an eigenvalue, and the errors to be added.

    The mean at d enters its own correction, ``x - f (x_half - x)``: what it adds is added, in squares, to the error of
    x. The exponent's share is no sampling error, and has the degrees of freedom of the seeds at d for want of any.
    """
    (a, (a_se, a_nu)), (b, (b_se, b_nu)) = _mean(q, half), _mean(q, full)
    factor = 1.0 / (2.0**q.exponent - 1.0)
    shift = (a - b) * factor
    own = b_se * np.sqrt((1.0 + factor) ** 2 - 1.0)
    return shift, [(factor * a_se, a_nu), (float(np.hypot(own, _SHIFT_ERROR * shift)), b_nu)]


def _extrapolated(q: _Measured, runs: dict[int, list[SeedRun]]) -> tuple[float, Error]:
    """Weighted least squares of the means in d^(-exponent): the intercept and its standard error."""
    sizes = sorted(runs)
    found = [_mean(q, runs[d]) for d in sizes]
    values = np.array([mean for mean, _ in found])
    errors = np.array([se for _, (se, _) in found])
    x = np.array(sizes, dtype=np.float64) ** -q.exponent
    spread = np.maximum(errors, 1e-15 * np.maximum(np.abs(values), 1e-300))
    if not np.all(np.isfinite(spread)):
        return np.nan, (np.nan, 1)
    design = np.stack([np.ones_like(x), x], axis=1) / spread[:, None]
    covariance = np.linalg.inv(design.T @ design)
    parts = covariance[0] @ design.T / spread  # of each mean in the intercept
    nu = welch_degrees(parts * errors, [nu for _, (_, nu) in found])
    return float(parts @ values), (float(np.sqrt(covariance[0, 0])), round(nu))


def _judged(
    q: _Measured, delta: float, mean: float, error: Error, shift: float, others: Sequence[Error]
) -> ComparedQuantity:
    """The difference in units of all errors; a theory that exists does not agree with a simulation that does not."""
    from scipy.special import stdtr

    errors = np.array([se for se, _ in (error, *others)])
    total = float(np.sqrt(np.sum(errors**2)))
    difference = mean - q.theory - shift
    round_off = 1e-9 * max(abs(mean), abs(q.theory), 1e-300)
    if not np.isfinite(q.theory):
        z = p = np.nan
    elif not np.isfinite(difference) or not np.isfinite(total):
        z, p = np.nan, 0.0
    elif total <= round_off:  # zero variance: both are exact, and equal or not
        z = 0.0 if abs(difference) <= 10 * round_off else float(np.copysign(np.inf, difference))
        p = 1.0 if z == 0.0 else 0.0
    else:
        z = difference / total
        p = float(2.0 * stdtr(welch_degrees(errors, [max(nu, 1) for _, nu in (error, *others)]), -abs(z)))
    return ComparedQuantity(
        name=q.name,
        time=q.time,
        delta=delta,
        theory=q.theory,
        theory_se=q.theory_se,
        finite_size=shift,
        finite_size_se=float(np.sqrt(sum(se**2 for se, _ in others[1:]))),
        simulation=mean,
        simulation_se=error[0],
        z=float(z),
        p=p,
    )


def _escape_quantities(
    setup: _Setup, found: Sequence[SeedRun], dimension: int, notes: list[str]
) -> list[ComparedQuantity]:
    """How many seeds escape within the run, and when, where theory or simulation sees any.

    The law is that of the linear theory, continued to an overlap of one half: half a step of growth by a factor e is
    allowed for what it leaves out.
    """
    steps = setup.problem.training.steps
    if setup.start == "prescribed" or steps < 2 or not setup.spaces.ok:
        return []
    times = np.array([r.escape_time for r in found])
    escaped = int(np.count_nonzero(np.isfinite(times)))
    try:
        law = predicted_escape(
            setup.problem, setup.run.delta, dimension, setup.spaces, quiet=setup.quiet, workers=setup.workers
        )
    except ValueError as reason:
        notes.append(f"escape time not compared: {reason}")
        return []
    if law.status != OK:
        seen = f"; {escaped} of {len(found)} seeds escape at d = {dimension}" if escaped else ""
        notes.append(f"escape time not compared: {law.message}{seen}")
        return []
    if escaped == 0 and law.low > steps:
        notes.append("escape time not compared: it does not fall within the run")
        return []
    allowed = 0.5 / np.log(law.rate) if law.rate > 1.0 else np.inf
    error = float(np.hypot(np.nan_to_num(law.median_se), allowed))
    quantities = [_escaped_fraction(law, escaped, len(found), steps, error, setup.run.delta)]
    median, se = median_and_se(times)
    if np.isfinite(law.median) and law.high < steps and np.isfinite(median):
        q = _Measured("escape_time", steps, law.median, error, lambda _: np.nan)
        nu = len(found) - 1
        quantities.append(_judged(q, setup.run.delta, median, (se, nu), 0.0, [(error, nu)]))
    return quantities


def _escaped_fraction(
    law: EscapeLaw, escaped: int, seeds: int, steps: int, error: float, delta: float
) -> ComparedQuantity:
    """The share of seeds that have escaped by the last step: a binomial test.

    The law gives an interval for it, by moving its times by two of their errors; inside that, nothing is in doubt.
    """
    from scipy.stats import binom, norm

    def within(last: float) -> float:
        return float(np.mean(np.isfinite(law.times) & (law.times <= last)))

    low, high, share = within(steps - 2 * error), within(steps + 2 * error), escaped / seeds
    p, sign = 1.0, 0.0
    if share < low:
        p, sign = 2.0 * float(binom.cdf(escaped, seeds, low)), -1.0
    elif share > high:
        p, sign = 2.0 * float(binom.sf(escaped - 1, seeds, high)), 1.0
    p = min(p, 1.0)
    return ComparedQuantity(
        name="escaped_fraction",
        time=steps,
        delta=delta,
        theory=within(steps),
        theory_se=(high - low) / 4.0,
        finite_size=0.0,
        finite_size_se=0.0,
        simulation=share,
        simulation_se=float(np.sqrt(share * (1.0 - share) / seeds)),
        z=sign * float(norm.isf(p / 2.0)),
        p=p,
    )


def _curves(run: TrajectoryPrediction, found: Sequence[SeedRun]) -> ComparedCurves:
    def over(runs: Sequence[ReplicateTrajectory]) -> list[tuple[Array, Array]]:
        sizes = [np.einsum("trr->t", r.gram) for r in runs]
        return [mean_and_se([r.train_loss for r in runs]), mean_and_se([r.test_loss for r in runs]), mean_and_se(sizes)]

    names = ("training loss", "test loss", "squared norm of the weights")
    theory, simulation = over(run.trajectories), over([r.trajectory for r in found])
    return ComparedCurves(
        delta=run.delta, curves={n: (*t, *s) for n, t, s in zip(names, theory, simulation, strict=True)}
    )
