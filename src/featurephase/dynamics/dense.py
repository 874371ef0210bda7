"""Training on a real data matrix: what the theory is judged by.

Rows are processed in blocks that stay in cache between the two products of a step, on as many threads as BLAS may use,
so that the matrix is read from memory once per step (twice for one neuron). Features are Gaussian, or the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurephase.dynamics.implicit import TEST_SAMPLES
from featurephase.dynamics.network import Network
from featurephase.dynamics.products import BlockProducts
from featurephase.dynamics.start import start_weights
from featurephase.dynamics.training import Data, FixedData, FreshData, Moment, ReplicateTrajectory, TestSet, train
from featurephase.errors import InputError
from featurephase.memory import require_memory
from featurephase.threads import blas_on_one_thread, map_blocks

if TYPE_CHECKING:
    from featurephase.data import UserData
    from featurephase.problem import Problem

Array = NDArray[np.float64]
Precision = Literal["float64", "float32"]

__all__ = ["DenseDesign", "dense_bytes", "run_dense", "threads_for"]

#: Rows of X read twice in a row: so large that what Python adds to a block, and threads waiting for each other to add
#: it, do not count, and so small that they fit the cache that cores share (measured, 128 MiB: 10.2 ms with 8 MiB, 8.2
#: with 16, 7.6 with 32).
_BLOCK_BYTES = 16 * 1024 * 1024

#: Where X meets a single vector.
_BLOCK_BYTES_OF_ONE = 64 * 1024 * 1024

#: Sums over samples are taken in so many parts, each by one thread: fixed, so that threads do not change rounding.
_STRIPS = 16


class DenseDesign:
    """A data matrix in memory; weights are those of the network, (d, m).

    Parameters
    ----------
    matrix
        X, (n, d), float32 or float64, rows contiguous.

    Attributes
    ----------
    samples, dimension
        n and d.
    latent_frame
        Theta_star (d, k); ``None``: the first k axes.
    """

    def __init__(self, matrix: NDArray[Any], latent_frame: Array | None = None) -> None:
        self.matrix = np.ascontiguousarray(matrix)
        self.latent_frame = latent_frame
        self.samples, self.dimension = matrix.shape

    def preactivations(self, weights: Array) -> Array:
        """``(X Theta)'``, (m, n)."""
        products = BlockProducts(weights.T.astype(self.matrix.dtype))
        h = np.empty((weights.shape[1], self.samples))
        strips = self._strips()

        def fill(strip: int) -> None:
            for s in strips[strip]:
                h[:, s] = products.project(self.matrix[s])

        map_blocks(fill, len(strips))
        return h

    def gradient(self, weights: Array, sample_gradient: Callable[[Array, slice], Array]) -> Array:
        """``X'F/n`` (d, m), accumulated in float64 over blocks, for ``F = sample_gradient(h, where)``.

        ``sample_gradient`` is called from several threads, by one at a time.
        """
        gradient: Array = self._through(weights.T, sample_gradient).T
        return gradient

    def weighted_products(self, curvature: Array, directions: Array) -> Array:
        """``X' [W (X U)] / n`` for curvatures W (m, m, n) or (m, n) if diagonal, and U (m, d, c); (m, d, c)."""
        m, d, c = directions.shape
        pattern = "rn,rcn->rcn" if curvature.ndim == 2 else "rsn,scn->rcn"

        def weigh(flat: Array, s: slice) -> Array:
            weighted: Array = np.einsum(pattern, curvature[..., s], flat.reshape(m, c, -1))
            return weighted.reshape(m * c, -1)

        products = self._through(directions.transpose(0, 2, 1).reshape(m * c, d), weigh)
        return products.reshape(m, c, d).transpose(0, 2, 1)

    def _blocks(self, most: int, threads: int = 1) -> list[slice]:
        """The samples in blocks of equal size, of up to so many bytes; as many for each of several threads.

        Rows count as 2 KiB at least: what is computed of a sample takes memory too.
        """
        n, largest = self.samples, max(most // max(self.dimension * self.matrix.itemsize, 2048), 16)
        count = -(-n // largest)
        rounded = -(-count // threads) * threads
        rows = -(-n // max(count, min(rounded, 8 * n // largest)))
        return [slice(a, min(a + rows, n)) for a in range(0, n, rows)]

    def _strips(self) -> list[list[slice]]:
        """The blocks of each part of the samples."""
        blocks = self._blocks(_BLOCK_BYTES, threads=4)
        count = min(_STRIPS, len(blocks))
        bounds = [len(blocks) * i // count for i in range(count + 1)]
        return [blocks[a:b] for a, b in pairwise(bounds)]

    def _through(self, rows: Array, between: Callable[[Array, slice], Array]) -> Array:
        """``between(rows X', where) X / n``, (r, d), with X read from memory once."""
        low = rows.astype(self.matrix.dtype)
        if len(low) == 1:
            return self._through_one(low, between)
        products, strips = BlockProducts(low), self._strips()
        most = strips[0][0].stop
        idle: list[NDArray[Any]] = []
        # elementwise functions of a block are short: threads would hand the interpreter's lock to and fro in them, at
        # a higher price than that of waiting
        turn = Lock()

        def part(strip: int) -> Array:
            total = np.zeros(low.shape)
            room = idle.pop() if idle else products.room(most)
            for s in strips[strip]:
                h = products.project(self.matrix[s])
                with turn:
                    f = between(h, s)
                products.add_combination(total, f, self.matrix[s], room)
            idle.append(room)
            return total

        total, *others = map_blocks(part, len(strips))
        for other in others:
            total += other
        total /= self.samples
        return total

    def _through_one(self, low: NDArray[Any], between: Callable[[Array, slice], Array]) -> Array:
        """As :meth:`_through` for a single row, which is bound by memory: BLAS on its own threads is faster.

        Its threads meet at the end of every product, so that larger blocks pay, though X is read twice.
        """
        total = np.zeros(low.shape)
        for s in self._blocks(_BLOCK_BYTES_OF_ONE):
            h = (low @ self.matrix[s].T).astype(np.float64, copy=False)
            total += between(h, s).astype(low.dtype, copy=False) @ self.matrix[s]
        total /= self.samples
        return total


def threads_for(rows: int) -> AbstractContextManager[None]:
    """For long computations with products of so many rows: who has the threads, BLAS or the blocks."""
    return nullcontext() if rows == 1 else blas_on_one_thread()


def dense_bytes(samples: int, dimension: int, width: int, itemsize: int) -> float:
    """Memory of a dense run: the matrix, weights and the parts of a gradient, and a few numbers per sample."""
    return float(itemsize * samples * dimension + 8 * dimension * width * (6 + _STRIPS) + 8 * samples * (width + 4))


def _gaussian_matrix(
    samples: int, dimension: int, dtype: DTypeLike, rng: np.random.Generator
) -> NDArray[np.floating[Any]]:
    wanted = np.dtype(dtype)
    if wanted == np.float32:
        return rng.standard_normal((samples, dimension), dtype=np.float32)
    return rng.standard_normal((samples, dimension))


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
    network = Network(student.activation, student.readout, problem.loss)
    rng, noise_rng, test_rng, batch_rng, start_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(5)
    )
    if data is not None:
        return _run_on_user_data(
            problem, network, data, steps, start, precision, rng, noise_rng, batch_rng, start_rng, observers
        )
    batch = max(1, round(samples * training.batch_fraction)) if training.one_pass else samples
    itemsize = np.dtype(precision).itemsize
    require_memory(
        dense_bytes(batch, dimension, m, itemsize), f"a {batch} x {dimension} data matrix in {precision} (dense)"
    )

    def draw(_: int) -> tuple[DenseDesign, Array]:
        matrix = _gaussian_matrix(batch, dimension, precision, rng)
        latent = np.ascontiguousarray(matrix[:, :k].T, dtype=np.float64)
        return DenseDesign(matrix), link.sample(latent, noise_rng)

    latent = start_rng.standard_normal((k, m))
    rest = start_rng.standard_normal((max(dimension - k, 0), m))
    weights = start_weights(start, student.init_gram, student.init_overlap, latent, rest, dimension)
    source: Data = FreshData(draw, None) if training.one_pass else FixedData(*draw(dimension))
    with threads_for(m):
        return train(
            source,
            weights,
            network,
            training,
            steps,
            overlap_of=lambda theta: theta[:k],
            batch_rng=batch_rng,
            test=TestSet(network, link, test_samples, test_rng) if test_samples else None,
            observers=observers,
        )


def _run_on_user_data(
    problem: Problem,
    network: Network,
    data: UserData,
    steps: int,
    start: str,
    precision: Precision,
    rng: np.random.Generator,
    noise_rng: np.random.Generator,
    batch_rng: np.random.Generator,
    start_rng: np.random.Generator,
    observers: Mapping[int, Callable[[Moment], Any]] | None,
) -> ReplicateTrajectory:
    """Train on part of the user's rows and test on the others; latent directions are drawn if the link labels."""
    training, student = problem.training, problem.student
    if training.one_pass:
        raise InputError("training.batches = 'one-pass' needs fresh samples at every step; data in a file are finite")
    k, m = problem.teacher.latent_dim, student.width
    features, d = data.features, data.dimension
    kept, held = data.split(rng)
    latent_basis = np.linalg.qr(start_rng.standard_normal((d, k)))[0]
    if data.labels is None:
        responses = problem.teacher.link.sample((features @ latent_basis).T, noise_rng)
    else:
        responses = data.labels
    known = data.labels is None
    latent, rest = start_rng.standard_normal((k, m)), start_rng.standard_normal((d, m))
    rest -= latent_basis @ (latent_basis.T @ rest)
    rows = start_weights(start, student.init_gram, student.init_overlap, latent, rest, d)
    weights = latent_basis @ rows[:k] + rows[k:]
    design = DenseDesign(features[kept].astype(precision), latent_basis)
    held_features, held_responses = features[held], responses[held]

    def test(theta: Array, gram: Array, overlap: Array) -> float:
        return float(np.mean(network.losses((held_features @ theta).T, held_responses)))

    def overlap_of(theta: Array) -> Array:
        return latent_basis.T @ theta if known else np.full((k, m), np.nan)

    with threads_for(m):
        return train(
            FixedData(design, responses[kept]),
            weights,
            network,
            training,
            steps,
            overlap_of=overlap_of,
            batch_rng=batch_rng,
            test=test if len(held) else None,
            observers=observers,
        )
