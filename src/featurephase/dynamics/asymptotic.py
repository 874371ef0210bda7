"""Gradient descent in the limit n, d -> infinity with n/d -> delta, one replicate at a time.

One replicate is one causal pass of the conditioning recursion over N sample paths (theory: Montanari & Wang,
arXiv 2602.01434). Population noise is O(1/sqrt N), bias O(1/N); standard errors come from independent replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurephase.dynamics.conditioning import RESIDUAL_TOLERANCE, AsymptoticLaw, ConditionedDesign
from featurephase.dynamics.network import Network
from featurephase.dynamics.optimisers import GradientDescentRule

if TYPE_CHECKING:
    from featurephase.functions import Link
    from featurephase.problem import Problem

Array = NDArray[np.float64]

__all__ = ["Moment", "ReplicateTrajectory", "TestSet", "initial_weights", "run_replicate"]

#: Weights whose norm has grown by this factor are reported as diverged: no bounded trajectory does that.
DIVERGENCE_FACTOR = 1e6
#: Visited directions of sample space that a run may keep: bounds the memory of thousands of steps.
BASIS_CAPACITY = 600


@dataclass(frozen=True)
class Moment:
    """The state of one replicate at one time, before the step of that time.

    Attributes
    ----------
    time
        Step number t.
    weights
        C, coordinates of Theta(t) in the visited basis, (K, m); the first k rows are the latent overlaps.
    design
        V and Phi as they are before step t appends to them.
    responses
        y, (N,).
    """

    time: int
    weights: Array
    design: ConditionedDesign
    responses: Array


@dataclass(frozen=True)
class ReplicateTrajectory:
    """What one replicate saw; after divergence every number is nan.

    Attributes
    ----------
    train_loss, test_loss
        (T + 1,), penalty excluded; ``test_loss`` is nan if it was not asked for.
    gram
        Theta'Theta, (T + 1, m, m).
    overlap
        Theta_star'Theta, (T + 1, k, m).
    diverged_at
        First step whose weights are no longer finite or have grown a million-fold, else ``None``.
    basis
        Number of visited directions p of sample space after the last step.
    dropped
        Largest relative residual tolerance at which a direction was left out of the basis.
    observations
        What the observers returned, by time.
    """

    train_loss: Array
    test_loss: Array
    gram: Array
    overlap: Array
    diverged_at: int | None
    basis: int
    dropped: float
    observations: dict[int, Any]


class TestSet:
    """Fresh samples for the test loss: ``h = M'g + (Q - M'M)^(1/2) xi``, the same draws at every time."""

    __test__ = False  # not a test, whatever its name says to pytest

    def __init__(self, network: Network, link: Link, samples: int, rng: np.random.Generator) -> None:
        self.network = network
        self.latent = rng.standard_normal((link.latent_dim, samples))
        self.hidden = rng.standard_normal((network.width, samples))
        self.responses = link.sample(self.latent, rng)

    def loss(self, gram: Array, overlap: Array) -> float:
        """Mean loss on the fresh samples for Q = ``gram`` (m, m) and M = ``overlap`` (k, m)."""
        values, vectors = np.linalg.eigh(gram - overlap.T @ overlap)
        root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
        h = overlap.T @ self.latent + root @ self.hidden
        return float(np.mean(self.network.losses(h, self.responses)))


def initial_weights(init_gram: Array, init_overlap: Array) -> Array:
    """C(0) = [M0 ; L0'] with L0 L0' = Q0 - M0'M0, null directions dropped; (k + rank, m)."""
    values, vectors = np.linalg.eigh(init_gram - init_overlap.T @ init_overlap)
    keep = values > 1e-14 * max(float(np.trace(init_gram)), np.finfo(float).tiny)
    rest = (vectors[:, keep] * np.sqrt(values[keep])).T
    return np.concatenate([init_overlap, rest])


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
    tolerance: float = RESIDUAL_TOLERANCE,
    capacity: int | None = BASIS_CAPACITY,
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
        directions they vanish in the limit (theory 1, section 3, step 5); ``None`` keeps all rows.
    steps, samples
        Override the problem's ``training.steps`` and ``asymptotics.samples``.
    observers
        Called at their times with the :class:`Moment`; what they return is kept.
    test
        Whether to estimate the test loss.
    tolerance, capacity
        Of :class:`ConditionedDesign`.
    """
    steps = problem.training.steps if steps is None else steps
    samples = problem.asymptotics.samples if samples is None else samples
    observers = observers or {}
    link, k = problem.teacher.link, problem.teacher.latent_dim
    network = Network(problem.student.activation, problem.student.readout, problem.loss)
    rule = GradientDescentRule(problem.training.step_size, problem.training.weight_decay)
    design_seed, noise_seed, test_seed = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(3)

    rng = np.random.default_rng(design_seed)
    weights = initial_weights(problem.student.init_gram, problem.student.init_overlap)
    rows = rng.standard_normal((len(weights), samples))
    responses = link.sample(rows[:k], np.random.default_rng(noise_seed))
    design = ConditionedDesign(rows, AsymptoticLaw(delta), rng, tolerance=tolerance, capacity=capacity)
    del rows
    test_set = TestSet(network, link, samples, np.random.default_rng(test_seed)) if test else None
    projector = None if easy_basis is None else easy_basis @ easy_basis.T

    train_loss, test_loss = np.full(steps + 1, np.nan), np.full(steps + 1, np.nan)
    gram = np.full((steps + 1, network.width, network.width), np.nan)
    overlap = np.full((steps + 1, k, network.width), np.nan)
    observations: dict[int, Any] = {}
    losses = np.empty(samples)
    limit = DIVERGENCE_FACTOR * max(1.0, float(np.linalg.norm(weights)))

    def sample_gradient(h: Array, where: slice) -> Array:
        losses[where], gradient = network.losses_and_gradient(h, responses[where])
        return gradient

    state = rule.start(weights)
    diverged_at: int | None = None
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps + 1):
            current = state.weights
            if not np.all(np.isfinite(current)) or np.linalg.norm(current) > limit:
                diverged_at = t
                break
            gram[t], overlap[t] = current.T @ current, current[:k]
            if t in observers:
                observations[t] = observers[t](Moment(t, current, design, responses))
            if test_set is not None:
                test_loss[t] = test_set.loss(gram[t], overlap[t])
            if t == steps:
                train_loss[t] = np.mean(network.losses(design.preactivations(current), responses))
                break
            gradient = design.gradient(rule.query(state), sample_gradient)
            train_loss[t] = np.mean(losses)
            if projector is not None:
                gradient[:k] = projector @ gradient[:k]
            state = rule.update(state, gradient)
    return ReplicateTrajectory(
        train_loss, test_loss, gram, overlap, diverged_at, design.met, design.dropped, observations
    )
