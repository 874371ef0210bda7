"""The training loop, written once: in the limit, at finite size without a data matrix, and on real data.

The loop needs of the data only products with it (:class:`Design`) and of the optimiser only its rule. What differs
between the three is the design and the basis in which the weights are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from featurephase.dynamics.network import Network, Outer
from featurephase.dynamics.optimisers import BatchSequence, FirstOrderRule, OptimiserState
from featurephase.dynamics.outer import OuterGradient, OuterTraining, queried
from featurephase.dynamics.points import PathCoordinates
from featurephase.foundation.threads import blas_on_one_thread, map_blocks
from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.functions import Link
    from featurephase.problem import GradientDescent


#: Weights whose norm has grown by this factor are reported as diverged: no bounded trajectory does that.
DIVERGENCE_FACTOR = 1e6

#: Fresh samples that are evaluated at a time, which stay in cache, and numbers of several steps together.
_TEST_BLOCK, _TEST_NUMBERS = 8192, 65536


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


@dataclass(frozen=True)
class FixedData:
    """The same samples at every step."""

    design: Design
    responses: Array

    def draw(self, state: OptimiserState) -> tuple[Design, Array, OptimiserState]:
        """Design and responses of the next step, and the state in the basis of that design, which is untouched."""
        return self.design, self.responses, state


@dataclass(frozen=True)
class FreshData:
    """New samples at every step: ``make(rows)`` draws a design whose basis has that many visited directions.

    ``latent_dim`` None: the weights are written in all of R^d and are not compressed.
    """

    make: Callable[[int], tuple[Design, Array]]
    latent_dim: int | None

    def draw(self, state: OptimiserState) -> tuple[Design, Array, OptimiserState]:
        """New samples, and the state in the smallest basis."""
        if self.latent_dim is not None:
            state = state.compressed(self.latent_dim)
        return *self.make(len(state.weights)), state


#: Where the samples of a step come from.
Data: TypeAlias = FixedData | FreshData


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
        y, (N,), or (N, C) of vectors.
    network
        The network with its outer parameters at that time.
    """

    time: int
    weights: Array
    design: Any
    responses: Array
    network: Network


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
    readout, bias, output_bias
        A (T + 1, m, C), b (T + 1, m) and c (T + 1, C); ``None`` where they are fixed, biases zero, and there is one
        output that is no class.
    train_accuracy, test_accuracy
        (T + 1,), for classes; else ``None``.
    """

    train_loss: Array
    test_loss: Array
    gram: Array
    overlap: Array
    diverged_at: int | None
    basis: int
    dropped: float
    observations: dict[int, Any]
    readout: Array | None = None
    bias: Array | None = None
    output_bias: Array | None = None
    train_accuracy: Array | None = None
    test_accuracy: Array | None = None


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

    @blas_on_one_thread()
    def along(self, path: ReplicateTrajectory) -> ReplicateTrajectory:
        """The trajectory with its losses and accuracy on the fresh samples, as far as training came.

        The weights enter through their Gram matrices and overlaps alone.
        """
        steps = len(path.train_loss) if path.diverged_at is None else path.diverged_at
        networks, together = self._networks(path, steps)
        overlap = path.overlap[:steps].transpose(0, 2, 1)
        values, vectors = np.linalg.eigh(path.gram[:steps] - overlap @ path.overlap[:steps])
        root = (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]) @ vectors.transpose(0, 2, 1)
        combined = np.concatenate([overlap, root], axis=2)

        def sums(i: int) -> Array:
            """Of the losses and of the hits in one block of samples, at each step."""
            block, y, out = self.blocks[i], self.responses[i], np.full((2, len(path.gram)), np.nan)
            for start in range(0, steps, together):
                some = combined[start : start + together]
                h = (some @ block).transpose(1, 0, 2).reshape(some.shape[1], -1)
                each = np.array(evaluated(networks[start], h, np.concatenate([y] * len(some))))
                out[:, start : start + len(some)] = each.reshape(2, len(some), -1).sum(axis=2)
            return out

        with np.errstate(over="ignore", invalid="ignore"):
            total: Array = np.sum(map_blocks(sums, len(self.blocks)), axis=0)
        loss, accuracy = total / sum(len(y) for y in self.responses)
        return replace(path, test_loss=loss, test_accuracy=accuracy if self.network.labels else None)

    def _networks(self, path: ReplicateTrajectory, steps: int) -> tuple[Sequence[Network], int]:
        """The network at each step, and how many steps may be evaluated together because theirs is the same."""
        outer = path.readout, path.bias, path.output_bias
        if all(x is None or np.array_equal(x[:steps], np.broadcast_to(x[:1], x[:steps].shape)) for x in outer):
            return [self.network] * steps, max(1, _TEST_NUMBERS // (len(self.responses[0]) * self.network.width))
        return [self.network.at(Outer(*(x[t] for x in outer if x is not None))) for t in range(steps)], 1


class Measured(NamedTuple):
    """Mean loss, and the share of samples whose class the outputs say (nan where responses are no classes)."""

    loss: float
    accuracy: float


def evaluated(network: Network, h: Array, y: Array) -> tuple[Array, Array]:
    """The loss of each sample, and whether the outputs say its class (nan where responses are no classes)."""
    if not network.labels:
        losses = network.losses(h, y)
        return losses, np.full_like(losses, np.nan)
    output = network.output(h)
    return network.loss.value(y, output), network.hits(output, y)


def measured(network: Network, h: Array, y: Array) -> Measured:
    """Means over the samples."""
    losses, hits = evaluated(network, h, y)
    return Measured(float(np.mean(losses)), float(np.mean(hits)))


class _Record:
    """What is written down at every step; nan where training did not come.

    Outer parameters only where they move, or there are more than the readout of one output that is no class.
    """

    def __init__(self, steps: int, network: Network, latent_dim: int, outer_moves: bool) -> None:
        m, outputs = network.width, network.outputs
        outer = outer_moves or network.bias is not None or outputs > 1 or bool(network.labels)

        def empty(*shape: int) -> Array:
            return np.full((steps + 1, *shape), np.nan)

        self.train_loss, self.test_loss = empty(), empty()
        self.gram, self.overlap = empty(m, m), empty(latent_dim, m)
        self.outer = (empty(m, outputs), empty(m), empty(outputs)) if outer else (None, None, None)
        self.accuracy = (empty(), empty()) if network.labels else (None, None)

    def state(self, t: int, weights: Array, overlap: Array, network: Network) -> None:
        self.gram[t], self.overlap[t] = weights.T @ weights, overlap
        for kept, now in zip(self.outer, network.outer, strict=True):
            if kept is not None:
                kept[t] = now

    def write(self, t: int, seen: Measured, *, test: bool) -> None:
        (self.test_loss if test else self.train_loss)[t] = seen.loss
        accuracy = self.accuracy[test]
        if accuracy is not None:
            accuracy[t] = seen.accuracy

    def trajectory(self, diverged_at: int | None, design: Any, observations: dict[int, Any]) -> ReplicateTrajectory:
        basis, dropped = getattr(design, "met", 0), getattr(design, "dropped", 0.0)
        losses = (self.train_loss, self.test_loss, self.gram, self.overlap)
        return ReplicateTrajectory(*losses, diverged_at, basis, dropped, observations, *self.outer, *self.accuracy)


class _Shares:
    """The weights of the samples in the gradient of each step; ``None`` where a step uses all it has."""

    def __init__(self, training: GradientDescent, rng: np.random.Generator) -> None:
        self.training, self.rng = training, rng
        self.batches: BatchSequence | None = None

    def __call__(self, t: int, samples: int) -> Array | None:
        """(n,); steps must come in order."""
        if not self.training.reuses_batches:
            return None
        if self.batches is None:
            reshuffled = self.training.batches == "reshuffled"
            self.batches = BatchSequence(samples, self.training.batch_count, reshuffled, self.rng)
        return self.batches.weights(t)


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
    test: Callable[[Network, Array, Array, Array], Measured] | None = None,
    project: Callable[[Array], None] | None = None,
    observers: Mapping[int, Callable[[Moment], Any]] | None = None,
) -> ReplicateTrajectory:
    """Train from ``weights`` and record what happens.

    Parameters
    ----------
    data
        Where samples come from.
    weights, network
        Theta(0) in the basis of the first design, (K, m), and the network at the start.
    training, batch_rng
        The rules and the batches, and what decides who is in which batch.
    overlap_of
        Theta_star'Theta (k, m) of weights (K, m).
    test
        What is measured on fresh samples of (network, weights, Gram, overlap).
    project
        Changes a gradient in place before the rule sees it.
    observers
        Called at their times with the :class:`Moment`; what they return is kept.
    """
    rule, observers, shares = FirstOrderRule.of(training), observers or {}, _Shares(training, batch_rng)
    state, outer = rule.start(weights), OuterTraining.of(network, training)
    record = _Record(steps, network, len(overlap_of(weights)), outer.moves)
    observations: dict[int, Any] = {}
    limits = tuple(DIVERGENCE_FACTOR * max(1.0, size) for size in (float(np.linalg.norm(weights)), outer.size()))
    diverged_at: int | None = None
    design: Any = None
    losses = np.empty(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps + 1):
            if not (np.linalg.norm(state.weights) <= limits[0] and (not outer.moves or outer.size() <= limits[1])):
                diverged_at = t
                break
            design, responses, state = data.draw(state)
            current, present = state.weights, outer.network
            record.state(t, current, overlap_of(current), present)
            if t in observers:
                observations[t] = observers[t](Moment(t, current, design, responses, present))
            if test is not None:
                record.write(t, test(present, current, record.gram[t], record.overlap[t]), test=True)
            query = rule.query(state)
            if t == steps or query is not current:  # a query elsewhere says nothing of the loss here
                record.write(t, measured(present, design.preactivations(current), responses), test=False)
            if t == steps:
                break
            share = shares(t, design.samples)
            losses = np.empty(design.samples) if len(losses) != design.samples else losses
            samples = _Samples(queried(rule, present, outer.previous), responses, losses, share, outer.moves)
            gradient = design.gradient(query, samples.gradient)
            if query is current:
                record.write(t, samples.measured(), test=False)
            if project is not None:
                project(gradient)
            state = rule.update(state, gradient)
            if outer.moves:
                outer = outer.updated(samples.outer.mean(design.samples))
    return record.trajectory(diverged_at, design, observations)


class _Samples:
    """The samples of one step: F on slices of them, and on the way their losses, hits and what moves A, b and c."""

    def __init__(
        self, network: Network, responses: Array, losses: Array, share: Array | None, trains_outer: bool
    ) -> None:
        self.network, self.responses, self.losses, self.share = network, responses, losses, share
        self.trains_outer = trains_outer
        self.outer = OuterGradient()
        self.hits = np.zeros(len(losses), dtype=np.bool_) if network.labels else None

    def gradient(self, h: Array, where: slice) -> Array:
        """F (m, block); writes the losses of the block."""
        y, share = self.responses[where], None if self.share is None else self.share[where]
        if not self.trains_outer and self.hits is None:
            self.losses[where], slope = self.network.losses_and_gradient(h, y)
            if share is not None:
                slope *= share
            return slope
        passed = self.network.passed(h, y)
        self.losses[where] = passed.losses
        if self.hits is not None:
            self.hits[where] = self.network.hits(passed.output, y)
        slope = passed.gradient
        if share is not None:
            slope *= share
        if self.trains_outer:
            self.outer.add(where.start, passed, share)
        return slope

    def measured(self) -> Measured:
        """Loss and accuracy of all samples, once their gradients are taken."""
        accuracy = np.nan if self.hits is None else float(np.mean(self.hits))
        return Measured(float(np.mean(self.losses)), accuracy)
