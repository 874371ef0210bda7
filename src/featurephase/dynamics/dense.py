"""Training on a real data matrix: what the theory is judged by.

Rows are processed in blocks, on as many threads as BLAS may use: the matrix is read from memory once per step if the
cache that cores share holds a block for each of them. Features are Gaussian, or the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurephase.dynamics.implicit import TEST_SAMPLES
from featurephase.dynamics.network import Network
from featurephase.dynamics.outer import outer_rows
from featurephase.dynamics.products import add_combination, add_weighted_products, project
from featurephase.dynamics.start import start_weights
from featurephase.dynamics.training import (
    Data,
    FixedData,
    FreshData,
    Measured,
    Moment,
    ReplicateTrajectory,
    TestSet,
    measured,
    train,
)
from featurephase.foundation.errors import InputError
from featurephase.foundation.memory import require_memory
from featurephase.foundation.threads import PARTS, in_turn, map_blocks, map_parts
from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.problem import Problem
    from featurephase.problem.data import UserData

Precision = Literal["float64", "float32"]

#: Rows of X read twice in a row: so large that what Python adds to a block, and threads waiting for each other to add
#: it, do not count (measured, in float64 with m = 1 and 8: 16 MiB cost up to a tenth more, 2 MiB half as much again).
_BLOCK_BYTES = 32 * 1024 * 1024


class DenseDesign:
    """A data matrix in memory; weights are those of the network, (d, m).

    Parameters
    ----------
    matrix
        X, (n, d), float32 or float64, rows contiguous; other numbers become float64.

    Attributes
    ----------
    samples, dimension
        n and d.
    latent_frame
        Theta_star (d, k); ``None``: the first k axes.
    """

    def __init__(self, matrix: NDArray[Any], latent_frame: Array | None = None) -> None:
        self.matrix = np.ascontiguousarray(matrix, matrix.dtype if matrix.dtype == np.float32 else np.float64)
        self.latent_frame = latent_frame
        self.samples, self.dimension = matrix.shape

    def preactivations(self, weights: Array) -> Array:
        """``(X Theta)'``, (m, n)."""
        rows = weights.T.astype(self.matrix.dtype)
        h = np.empty((weights.shape[1], self.samples))

        def fill(b: int) -> None:
            s = self._blocks[b]
            h[:, s] = project(rows, self.matrix[s])

        map_blocks(fill, len(self._blocks))
        return h

    def gradient(self, weights: Array, sample_gradient: Callable[[Array, slice], Array]) -> Array:
        """``X'F/n`` (d, m), accumulated in float64 over blocks, for ``F = sample_gradient(h, where)``.

        ``sample_gradient`` is called from several threads, by one at a time.
        """
        rows = weights.T.astype(self.matrix.dtype)
        sample_gradient = in_turn(sample_gradient)

        def add(total: Array, s: slice) -> None:
            block = self.matrix[s]
            add_combination(total, sample_gradient(project(rows, block), s), block)

        return self._mean(rows.shape, add).T

    def weighted_products(self, curvature: Array, directions: Array) -> Array:
        """``X' [W (X U)] / n`` for curvatures W (m, m, n) and U (m, d, c); (m, d, c)."""
        m, d, c = directions.shape
        rows = directions.transpose(0, 2, 1).reshape(m * c, d).astype(self.matrix.dtype)

        def add(total: Array, s: slice) -> None:
            add_weighted_products(total, rows, curvature[..., s], self.matrix[s])

        return self._mean(rows.shape, add).reshape(m, c, d).transpose(0, 2, 1)

    def _mean(self, shape: tuple[int, ...], add: Callable[[Array, slice], None]) -> Array:
        """What ``add(total, where)`` adds up to over all samples, divided by n."""

        def sums(part: range) -> Array:
            total = np.zeros(shape)
            for b in part:
                add(total, self._blocks[b])
            return total

        total, *others = map_parts(sums, len(self._blocks))
        for other in others:
            total += other
        total /= self.samples
        return total

    @cached_property
    def _blocks(self) -> list[slice]:
        """The samples in blocks of equal size; as many for each of four threads.

        Rows count as 2 KiB at least: what is computed of a sample takes memory too.
        """
        n, largest = self.samples, max(_BLOCK_BYTES // max(self.dimension * self.matrix.itemsize, 2048), 16)
        count = -(-n // largest)
        rounded = -(-count // 4) * 4
        rows = -(-n // max(count, min(rounded, 8 * n // largest)))
        return [slice(a, min(a + rows, n)) for a in range(0, n, rows)]


def dense_bytes(samples: int, dimension: int, width: int, itemsize: int, outputs: int = 1) -> float:
    """Memory of a dense run: the matrix, weights and the parts of a gradient, and a few numbers per sample."""
    rows = 4 * width + 4 + outer_rows(outputs)
    return float(itemsize * samples * dimension + 8 * dimension * width * (6 + 2 * PARTS) + 8 * samples * rows)


def _gaussian_matrix(
    samples: int, dimension: int, dtype: DTypeLike, rng: np.random.Generator
) -> NDArray[np.floating[Any]]:
    wanted = np.dtype(dtype)
    if wanted == np.float32:
        return rng.standard_normal((samples, dimension), dtype=np.float32)
    return rng.standard_normal((samples, dimension))


class _Streams(NamedTuple):
    """The random numbers of one run, by what they are for."""

    data: np.random.Generator
    noise: np.random.Generator
    test: np.random.Generator
    batches: np.random.Generator
    start: np.random.Generator

    @classmethod
    def of(cls, seed: np.random.SeedSequence) -> Self:
        """Five independent streams; the seed is left as it is."""
        streams = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(5)
        return cls(*(np.random.default_rng(s) for s in streams))


def run_dense(
    problem: Problem,
    samples: int,
    dimension: int,
    seed: np.random.SeedSequence,
    *,
    start: str = "orthonormal",
    steps: int | None = None,
    precision: Precision = "float64",
    test_samples: int = TEST_SAMPLES,
    observers: Mapping[int, Callable[[Moment], Any]] | None = None,
    data: UserData | None = None,
) -> ReplicateTrajectory:
    """One run on a Gaussian matrix of n = ``samples`` rows and d = ``dimension`` columns, or on the user's features.

    The latent directions are the first k axes of R^d for Gaussian features (they are isotropic), and random ones of
    ``data``. The matrix is held in ``precision``; sums over samples and the weights are float64.

    Raises
    ------
    InputError
        If d < k + m, or more memory is needed than there is.
    """
    training = problem.training
    steps = training.steps if steps is None else steps
    link, k, student = problem.teacher.link, problem.teacher.latent_dim, problem.student
    m = student.width
    streams = _Streams.of(seed)
    if data is not None:
        return _run_on_user_data(problem, data, streams, steps, start, precision, observers)
    network = Network.of(problem)
    batch = max(1, round(samples * training.batch_fraction)) if training.one_pass else samples
    itemsize = np.dtype(precision).itemsize
    require_memory(
        dense_bytes(batch, dimension, m, itemsize, problem.outputs),
        f"a {batch} x {dimension} data matrix in {precision} (dense)",
    )

    def draw(_: int) -> tuple[DenseDesign, Array]:
        matrix = _gaussian_matrix(batch, dimension, precision, streams.data)
        latent = np.ascontiguousarray(matrix[:, :k].T, dtype=np.float64)
        return DenseDesign(matrix), link.sample(latent, streams.noise)

    latent = streams.start.standard_normal((k, m))
    rest = streams.start.standard_normal((max(dimension - k, 0), m))
    weights = start_weights(start, student.init_gram, student.init_overlap, latent, rest, dimension)
    source: Data = FreshData(draw, None) if training.one_pass else FixedData(*draw(dimension))
    path = train(
        source,
        weights,
        network,
        training,
        steps,
        overlap_of=lambda theta: theta[:k],
        batch_rng=streams.batches,
        observers=observers,
    )
    return TestSet(network, link, test_samples, streams.test).along(path) if test_samples else path


def _run_on_user_data(
    problem: Problem,
    data: UserData,
    streams: _Streams,
    steps: int,
    start: str,
    precision: Precision,
    observers: Mapping[int, Callable[[Moment], Any]] | None,
) -> ReplicateTrajectory:
    """Train on part of the user's rows and test on the others; latent directions are drawn if the link labels."""
    training, student = problem.training, problem.student
    if training.one_pass:
        raise InputError("training.batches = 'one-pass' needs fresh samples at every step; data in a file are finite")
    network, k, m = Network.of(problem), problem.teacher.latent_dim, student.width
    features, d = data.features, data.dimension
    kept, held = data.split(streams.data)
    latent_basis = np.linalg.qr(streams.start.standard_normal((d, k)))[0]
    if data.labels is None:
        responses = problem.teacher.link.sample((features @ latent_basis).T, streams.noise)
    else:
        responses = data.responses(problem.teacher.link)
    known = data.labels is None
    latent, rest = streams.start.standard_normal((k, m)), streams.start.standard_normal((d, m))
    rest -= latent_basis @ (latent_basis.T @ rest)
    rows = start_weights(start, student.init_gram, student.init_overlap, latent, rest, d)
    weights = latent_basis @ rows[:k] + rows[k:]
    design = DenseDesign(features[kept].astype(precision), latent_basis)
    held_features, held_responses = features[held], responses[held]

    def test(network: Network, theta: Array, gram: Array, overlap: Array) -> Measured:
        return measured(network, (held_features @ theta).T, held_responses)

    def overlap_of(theta: Array) -> Array:
        return latent_basis.T @ theta if known else np.full((k, m), np.nan)

    return train(
        FixedData(design, responses[kept]),
        weights,
        network,
        training,
        steps,
        overlap_of=overlap_of,
        batch_rng=streams.batches,
        test=test if len(held) else None,
        observers=observers,
    )
