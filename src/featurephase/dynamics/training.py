"""The training loop, written once: in the limit, at finite size without a data matrix, and on real data.

The loop needs of the data only products with it (:class:`Design`) and of the optimiser only its rule. What differs
between the three is the design and the basis in which the weights are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featurephase.dynamics.network import Network
from featurephase.dynamics.optimisers import BatchSequence, FirstOrderRule, OptimiserState
from featurephase.dynamics.points import PathCoordinates
from featurephase.foundation.threads import blas_on_one_thread
from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.functions import Link
    from featurephase.problem import GradientDescent


__all__ = ["Data", "Design", "FixedData", "FreshData", "Moment", "ReplicateTrajectory", "TestSet", "train"]

#: Weights whose norm has grown by this factor are reported as diverged: no bounded trajectory does that.
DIVERGENCE_FACTOR = 1e6

#: Fresh samples that are evaluated at a time: they stay in cache.
_TEST_BLOCK = 8192


class Design(Protocol):
    """A data matrix X (n, d), known through its products in some orthonormal basis of R^d."""

    @property
    def samples(self) -> int:
        """n."""
        ...

    def preactivations(self, weights: Array) -> Array:
        """``(X Theta)'``, (m, n), for weights (K, m)."""
        ...

    def gradient(self, weights: Array, sample_gradient: Callable[[Array, slice], Array]) -> Array:
        """``X'F/n``, (K + q, m), for ``F = sample_gradient(h, where)`` on slices of samples; q directions are new."""
        ...


class Data(Protocol):
    """Where the samples of a step come from."""

    def draw(self, state: OptimiserState) -> tuple[Any, Array, OptimiserState]:
        """Design and responses of the next step, and the state in the basis of that design."""
        ...


@dataclass(frozen=True)
class FixedData:
    """The same samples at every step."""

    design: Any
    responses: Array

    def draw(self, state: OptimiserState) -> tuple[Any, Array, OptimiserState]:
        """The samples; the state is untouched."""
        return self.design, self.responses, state


@dataclass(frozen=True)
class FreshData:
    """New samples at every step: ``make(rows)`` draws a design whose basis has that many visited directions.

    ``latent_dim`` None: the weights are written in all of R^d and are not compressed.
    """

    make: Callable[[int], tuple[Any, Array]]
    latent_dim: int | None

    def draw(self, state: OptimiserState) -> tuple[Any, Array, OptimiserState]:
        """New samples, and the state in the smallest basis."""
        if self.latent_dim is not None:
            state = state.compressed(self.latent_dim)
        return *self.make(len(state.weights)), state


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
    design: Any
    responses: Array


@dataclass(frozen=True)
class ReplicateTrajectory:
    """What one replicate saw; after divergence every number is nan.

    Attributes
    ----------
    train_loss, test_loss
        (T + 1,), penalty excluded, ``train_loss`` over all samples at hand; ``test_loss`` is nan if it was not asked
        for.
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

    def __init__(self, network: Network, link: Link, samples: int, rng: np.random.Generator | PathCoordinates) -> None:
        self.network = network
        coordinates = rng.standard_normal((link.latent_dim + network.width, samples))
        responses = link.sample(coordinates[: link.latent_dim], rng)
        starts = range(0, samples, _TEST_BLOCK)
        self.blocks = [np.ascontiguousarray(coordinates[:, a : a + _TEST_BLOCK]) for a in starts]
        self.responses = [responses[a : a + _TEST_BLOCK] for a in starts]

    def loss(self, gram: Array, overlap: Array) -> float:
        """Mean loss on the fresh samples for Q = ``gram`` (m, m) and M = ``overlap`` (k, m)."""
        values, vectors = np.linalg.eigh(gram - overlap.T @ overlap)
        root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
        combined = np.concatenate([overlap.T, root], axis=1)
        parts = zip(self.blocks, self.responses, strict=True)
        total = sum(float(np.sum(self.network.losses(combined @ block, y))) for block, y in parts)
        return total / sum(len(y) for y in self.responses)

    def __call__(self, weights: Array, gram: Array, overlap: Array) -> float:
        """:meth:`loss`; the weights enter through their Gram matrix and overlaps alone."""
        return self.loss(gram, overlap)


@blas_on_one_thread()
def train(
    data: Data,
    weights: Array,
    network: Network,
    training: GradientDescent,
    steps: int,
    *,
    overlap_of: Callable[[Array], Array],
    batch_rng: np.random.Generator,
    test: Callable[[Array, Array, Array], float] | None = None,
    project: Callable[[Array], None] | None = None,
    observers: Mapping[int, Callable[[Moment], Any]] | None = None,
) -> ReplicateTrajectory:
    """Train from ``weights`` and record what happens.

    Parameters
    ----------
    data
        Where samples come from.
    weights
        Theta(0) in the basis of the first design, (K, m).
    training
        The rule and its batches.
    overlap_of
        Theta_star'Theta (k, m) of weights (K, m).
    batch_rng
        Decides who is in which batch.
    test
        Test loss of (weights, Gram, overlap).
    project
        Changes a gradient in place before the rule sees it.
    observers
        Called at their times with the :class:`Moment`; what they return is kept.
    """
    rule = FirstOrderRule.of(training)
    observers = observers or {}
    m, k = network.width, len(overlap_of(weights))
    train_loss, test_loss = np.full(steps + 1, np.nan), np.full(steps + 1, np.nan)
    gram, overlap = np.full((steps + 1, m, m), np.nan), np.full((steps + 1, k, m), np.nan)
    observations: dict[int, Any] = {}
    limit = DIVERGENCE_FACTOR * max(1.0, float(np.linalg.norm(weights)))
    state = rule.start(weights)
    batches: BatchSequence | None = None
    diverged_at: int | None = None
    design: Any = None
    losses = np.empty(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps + 1):
            current = state.weights
            if not np.all(np.isfinite(current)) or np.linalg.norm(current) > limit:
                diverged_at = t
                break
            design, responses, state = data.draw(state)
            current = state.weights
            gram[t], overlap[t] = current.T @ current, overlap_of(current)
            if t in observers:
                observations[t] = observers[t](Moment(t, current, design, responses))
            if test is not None:
                test_loss[t] = test(current, gram[t], overlap[t])
            query = rule.query(state)
            if t == steps or query is not current:  # a query elsewhere says nothing of the loss here
                train_loss[t] = np.mean(network.losses(design.preactivations(current), responses))
            if t == steps:
                break
            if training.reuses_batches and batches is None:
                batches = BatchSequence(
                    design.samples, training.batch_count, training.batches == "reshuffled", batch_rng
                )
            share = None if batches is None else batches.weights(t)
            losses = np.empty(design.samples) if len(losses) != design.samples else losses
            gradient = design.gradient(query, _sample_gradient(network, responses, losses, share))
            if query is current:
                train_loss[t] = np.mean(losses)
            if project is not None:
                project(gradient)
            state = rule.update(state, gradient)
    return ReplicateTrajectory(
        train_loss,
        test_loss,
        gram,
        overlap,
        diverged_at,
        getattr(design, "met", 0),
        getattr(design, "dropped", 0.0),
        observations,
    )


def _sample_gradient(
    network: Network, responses: Array, losses: Array, share: Array | None
) -> Callable[[Array, slice], Array]:
    """F on a slice of samples; writes their losses on the way."""

    def gradient(h: Array, where: slice) -> Array:
        losses[where], slope = network.losses_and_gradient(h, responses[where])
        if share is not None:
            slope *= share[where]
        return slope

    return gradient
