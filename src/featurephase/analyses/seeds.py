"""The runs behind ``simulate`` and ``compare``: finite networks of one problem at one n and d, a task for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from featurephase.dynamics.dense import DenseDesign, Precision, dense_bytes, run_dense
from featurephase.dynamics.implicit import implicit_bytes, implicit_capacity, run_implicit
from featurephase.dynamics.optimisers import require_batches
from featurephase.dynamics.start import STARTS
from featurephase.dynamics.training import Moment, ReplicateTrajectory
from featurephase.escape.detection import ESCAPE_LEVEL, hard_overlap, level_time
from featurephase.foundation.errors import InputError
from featurephase.foundation.executors import Executor
from featurephase.foundation.memory import require_memory
from featurephase.foundation.types import Array
from featurephase.hessian.empirical import EmpiricalHessian, extreme_eigenpairs
from featurephase.problem import Problem
from featurephase.problem.data import UserData

#: On a real data matrix, or exactly in law without one.
Method = Literal["dense", "implicit"]

#: Beyond this n a float is no longer every whole number.
_MOST_SAMPLES = 2**53


@dataclass(frozen=True)
class HessianSample:
    """What one seed says of its Hessian at one time."""

    # Eigenvalues, ascending, (c,).
    smallest: Array
    largest: Array
    hard_overlaps: Array  # squared projections of the eigenvectors of ``smallest`` on R^m (x) U_H, (c,)
    # Largest |H v - lambda v|, and whether that is within the tolerance.
    residual: float
    converged: bool


@dataclass(frozen=True)
class SeedRun:
    """One seed."""

    # With a :class:`HessianSample` for each time at which the Hessian was analysed, in ``observations``.
    trajectory: ReplicateTrajectory
    hard_overlap: Array  # |P_H Theta|_F/|Theta|_F, (T + 1,)
    escape_time: float  # first step from which on that stays above one half; nan: never


@dataclass(frozen=True)
class SeedPlan:
    """What running one seed takes."""

    # n and d.
    samples: int
    dimension: int
    # Directions of sample space that a run without a data matrix may visit; ``None``: as many as it likes.
    capacity: int | None
    memory: float  # bytes


@dataclass(frozen=True)
class FiniteSize:
    """Finite networks of one problem at one n/d and d."""

    # The experiment, d and n/d; d and n are those of the data, where there are any.
    problem: Problem
    dimension: int
    delta: float
    method: Method  # how it is trained
    # Steps at which the Hessian is asked for, and how many eigenvalues at each end.
    times: tuple[int, ...] = ()
    eigenvalues: int = 4
    # As in :func:`~featurephase.analyses.simulation.simulate`.
    start: str = "orthonormal"
    precision: Precision = "float64"
    data: UserData | None = None

    @property
    def analysed(self) -> tuple[int, ...]:
        """The times at which there is a Hessian: none without a data matrix, or where the curvature is singular."""
        return self.times if self.method == "dense" and not self.problem.singular_curvature else ()

    @property
    def known_directions(self) -> bool:
        """Whether the latent directions are known: not if the labels are the user's."""
        return self.data is None or self.data.labels is None

    def plan(self) -> SeedPlan:
        """What one seed takes; to be asked before anything long begins.

        Raises
        ------
        InputError
            If n or d is too small or the start unknown, or more memory is needed than there is.
        """
        samples, dimension = self._shape()
        training, m, k = self.problem.training, self.problem.student.width, self.problem.teacher.latent_dim
        if self.start not in STARTS:
            raise InputError(f"start = {self.start!r}: must be {', '.join(STARTS)}")
        require_batches(training.batch_count, samples, "samples (n)")
        if dimension < k + m:
            raise InputError(
                f"dimension = {dimension}: must be at least latent_dim + width = {k + m}, for the latent directions "
                "and independent neurons"
            )
        batch = samples if not training.one_pass else round(samples * training.batch_fraction)
        if self.method == "implicit":
            capacity = implicit_capacity(self.problem, samples, dimension, training.steps)
            directions = min(training.steps * m, samples, dimension)
            kept = directions if capacity is None else min(capacity, directions)
            memory = implicit_bytes(batch, m, k, 2 * m if training.one_pass else kept, self.problem.outputs)
            return SeedPlan(samples, dimension, capacity, memory)
        memory = dense_bytes(batch, dimension, m, np.dtype(self.precision).itemsize, self.problem.outputs)
        if self.analysed:  # a Hessian that is small enough is solved whole
            memory += 8.0 * (m * m * batch + 3 * min(m * dimension, 1200) ** 2 + 200 * m * dimension)
        require_memory(memory, f"a {batch} x {dimension} data matrix in {self.precision} with its Hessian (dense)")
        return SeedPlan(samples, dimension, None, memory)

    def _shape(self) -> tuple[int, int]:
        """n and d."""
        if self.data is not None:
            samples, dimension = self.data.training_samples, self.data.dimension
        elif self.delta * self.dimension > _MOST_SAMPLES:
            raise InputError(f"{self._where()}: n = delta d must be at most {_MOST_SAMPLES:.2g}")
        else:
            samples, dimension = round(self.delta * self.dimension), self.dimension
        if samples < 1:
            raise InputError(f"{self._where()}: n = delta d must be at least 1")
        return samples, dimension

    def _where(self) -> str:
        return f"delta = {self.delta:g} at dimension {self.dimension}"

    def run(
        self, seeds: Sequence[np.random.SeedSequence], hard_basis: Array, *, label: str, executor: Executor
    ) -> list[SeedRun]:
        """One run for each seed; ``hard_basis``: orthonormal columns (k, k_H), of U_H.

        Raises
        ------
        InputError
            As :meth:`plan` does.
        """
        plan = self.plan()
        tasks = [(self, plan, seed, hard_basis) for seed in seeds]
        return executor.run(_run_seed, tasks, memory=plan.memory, label=label)


def _run_seed(size: FiniteSize, plan: SeedPlan, seed: np.random.SeedSequence, hard_basis: Array) -> SeedRun:
    """One task."""
    problem = size.problem
    if size.method == "implicit":
        path = run_implicit(problem, plan.samples, plan.dimension, seed, start=size.start, capacity=plan.capacity)
    else:
        known = hard_basis if size.known_directions else None
        observer = _Observer(problem.training.weight_decay, known, size.eigenvalues)
        path = run_dense(
            problem,
            plan.samples,
            plan.dimension,
            seed,
            start=size.start,
            precision=size.precision,
            data=size.data,
            observers=dict.fromkeys(size.analysed, observer),
        )
    hard = hard_overlap(path.gram, path.overlap, hard_basis)
    return SeedRun(path, hard, level_time(hard, ESCAPE_LEVEL))


@dataclass(frozen=True)
class _Observer:
    """Analyses the Hessian of one seed.

    ``hard_basis`` None: nobody knows the latent directions, and overlaps with them are nan.
    """

    weight_decay: float
    hard_basis: Array | None
    count: int

    def __call__(self, moment: Moment) -> HessianSample:
        design: DenseDesign = moment.design
        operator = EmpiricalHessian(design, moment.network, moment.weights, moment.responses, self.weight_decay)
        low, high = extreme_eigenpairs(operator, self.count, self.count)
        overlaps = np.full(len(low.values), np.nan)
        if self.hard_basis is not None:
            frame = design.latent_frame
            frame = np.eye(design.dimension, len(self.hard_basis)) if frame is None else frame
            overlaps = operator.overlaps(low.vectors, frame @ self.hard_basis)
        residual = float(max(low.residuals.max(initial=0.0), high.residuals.max(initial=0.0)))
        return HessianSample(low.values, high.values, overlaps, residual, low.converged and high.converged)
