"""Gradient descent in the limit n, d -> infinity with n/d -> delta, one replicate at a time.

One replicate is one causal pass of the conditioning recursion over N sample paths (theory: Montanari & Wang,
arXiv 2602.01434), randomised quasi-Monte Carlo points whose population noise is below that of N independent paths
(:mod:`featurephase.dynamics.points`). Bias O(1/N); standard errors come from independent replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.dynamics.conditioning import AsymptoticLaw, ConditionedDesign
from featurephase.dynamics.network import Network
from featurephase.dynamics.outer import outer_rows
from featurephase.dynamics.points import INTEGRATED, QUASI_RANDOM, PathCoordinates
from featurephase.dynamics.training import FixedData, FreshData, Moment, ReplicateTrajectory, TestSet, train
from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.functions import Link
    from featurephase.problem import Problem

#: A gradient's part outside the visited space is left out below this fraction of it, far below the noise of any number
#: of sample paths. From here on single precision holds the histories and the work of a step: its round-off is a hundred
#: times smaller than what is left out.
PATH_TOLERANCE = 1e-5
#: Visited directions of sample space that a run may keep: bounds the memory of thousands of steps.
BASIS_CAPACITY = 600


def initial_weights(init_gram: Array, init_overlap: Array) -> Array:
    """C(0) = [M0 ; L0'] with L0 L0' = Q0 - M0'M0, null directions dropped; (k + rank, m)."""
    values, vectors = np.linalg.eigh(init_gram - init_overlap.T @ init_overlap)
    keep = values > 1e-14 * max(float(np.trace(init_gram)), np.finfo(float).tiny)
    rest = (vectors[:, keep] * np.sqrt(values[keep])).T
    return np.concatenate([init_overlap, rest])


def replicate_bytes(problem: Problem, steps: int, samples: int) -> float:
    """Memory of one replicate: histories of the visited directions, and a few numbers for each sample path."""
    width = problem.student.width
    rows = min(steps * width, BASIS_CAPACITY) + problem.teacher.latent_dim + 12 * width + 2 * QUASI_RANDOM
    rows += outer_rows(problem.outputs)
    return 8.0 * rows * samples  # two histories in single precision are one in double


def replicate_streams(seed: np.random.SeedSequence) -> tuple[np.random.Generator, ...]:
    """Random numbers of the sample paths, of the test set, and of the batches, of one replicate."""
    streams = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(3)
    return tuple(np.random.default_rng(s) for s in streams)


def _test_set(network: Network, link: Link, samples: int, rng: np.random.Generator, quasi: int) -> TestSet:
    """Fresh samples for the test loss: a power of two of quasi-random ones, which is worth more than a few more."""
    if not quasi:
        return TestSet(network, link, samples, PathCoordinates(samples, rng, 0))
    count = 1 << (samples.bit_length() - 1)
    coordinates = link.latent_dim + network.width + link.normals + link.uniforms
    return TestSet(network, link, count, PathCoordinates(count, rng, min(quasi, coordinates)))


@dataclass(frozen=True)
class PathAccuracy:
    """How well sample paths stand for their population, and how exactly their histories are kept.

    Attributes
    ----------
    tolerance, capacity
        Of :class:`ConditionedDesign`; below :data:`PATH_TOLERANCE` all is in double precision.
    quasi
        Quasi-random coordinates of a sample path; 0: paths are independent.
    """

    tolerance: float = PATH_TOLERANCE
    capacity: int | None = BASIS_CAPACITY
    quasi: int = QUASI_RANDOM


@dataclass(frozen=True)
class _SamplePaths:
    """Draws the sample paths of one replicate: once, or anew at every step."""

    link: Link
    samples: int
    law: AsymptoticLaw
    rng: np.random.Generator
    accuracy: PathAccuracy
    expected: int  # visited directions of sample space to come

    def draw(self, visited: int) -> tuple[ConditionedDesign, Array]:
        """A design with this number of visited directions, the latent ones first, and its responses."""
        paths = PathCoordinates(self.samples, self.rng, self.accuracy.quasi)
        rows = paths.standard_normal((visited, self.samples))
        responses = self.link.sample(rows[: self.link.latent_dim], paths)
        design = ConditionedDesign(
            rows,
            self.law,
            paths,
            tolerance=self.accuracy.tolerance,
            capacity=self.accuracy.capacity,
            expected=self.expected,
            precision=np.float32 if self.accuracy.tolerance >= PATH_TOLERANCE else np.float64,
        )
        return design, responses


def _onto_easy(easy_basis: Array) -> Callable[[Array], None]:
    """Projects the latent rows of a gradient, in place, on the easy subspace."""
    projector = easy_basis @ easy_basis.T

    def project(gradient: Array) -> None:
        gradient[: len(projector)] = projector @ gradient[: len(projector)]

    return project


def run_replicate(
    problem: Problem,
    delta: float,
    seed: np.random.SeedSequence,
    *,
    easy_basis: Array | None = None,
    steps: int | None = None,
    samples: int | None = None,
    observers: Mapping[int, Callable[[Moment], Any]] | None = None,
    test: bool = True,
    accuracy: PathAccuracy = PathAccuracy(),
) -> ReplicateTrajectory:
    """Simulate one replicate of the asymptotic dynamics.

    Parameters
    ----------
    problem
        Teacher, student, loss and training.
    delta
        n/d > 0.
    seed
        Random stream of the replicate: the same seed gives common random numbers at every delta.
    easy_basis
        Orthonormal columns (k, k_E). The gradient's latent rows are projected on them, because along the hard
        directions they vanish in the limit (theory/subspaces, eq. sub-blind); ``None`` keeps all rows.
    steps, samples
        Override the problem's ``training.steps`` and ``asymptotics.samples``.
    observers
        Called at their times with the :class:`Moment`; what they return is kept.
    test
        Whether to estimate the test loss.
    accuracy
        Of the sample paths and of their histories.
    """
    training, quasi, capacity = problem.training, accuracy.quasi, accuracy.capacity
    steps = training.steps if steps is None else steps
    samples = problem.asymptotics.samples if samples is None else samples
    link, k = problem.teacher.link, problem.teacher.latent_dim
    network = Network.of(problem)
    rng, test_rng, batch_rng = replicate_streams(seed)
    law = AsymptoticLaw(training.data_ratio(delta), samples, min(quasi, INTEGRATED))
    expected = network.width * (1 if training.one_pass else min(steps, (capacity or steps) // network.width))
    paths = _SamplePaths(link, samples, law, rng, accuracy, expected)
    weights = initial_weights(problem.student.init_gram, problem.student.init_overlap)
    path = train(
        FreshData(paths.draw, k) if training.one_pass else FixedData(*paths.draw(len(weights))),
        weights,
        network,
        training,
        steps,
        overlap_of=lambda c: c[:k],
        batch_rng=batch_rng,
        project=None if easy_basis is None else _onto_easy(easy_basis),
        observers=observers,
    )
    return _test_set(network, link, samples, test_rng, quasi).along(path) if test else path
