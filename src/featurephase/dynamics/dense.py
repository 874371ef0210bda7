"""Training on a real data matrix: what the theory is judged by.

Rows are processed in blocks that stay in cache between the two products of a step, on as many threads as BLAS may use,
so that the matrix is read from memory once per step (twice for one neuron). Features are Gaussian, or the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurephase.dynamics.implicit import TEST_SAMPLES
from featurephase.dynamics.network import Network
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
#: it, do not count (measured: 6 ms of 17 with blocks of 2 MiB), and so small that they fit the cache that cores share.
_BLOCK_BYTES = 8 * 1024 * 1024

#: Blocks that are taken as one where X meets a single vector.
_JOINED = 8

#: Multiplications in one call of BLAS. Up to a million of them OpenBLAS multiplies as the matrices lie; above, it
#: copies both to a layout of its own first, which costs more than the product if one of them has only a few rows
#: (measured: 20 GFlop/s a core with 8 rows in float64, against 30 to 60).
_SMALL_PRODUCT = 1_000_000

#: Rows below which such calls cost more than they save.
_FEWEST_ROWS = 8

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
        rows = _power_of_two(np.clip(_BLOCK_BYTES / max(self.dimension * self.matrix.itemsize, 1), 16, 8192))
        self.slices = [slice(a, min(a + rows, self.samples)) for a in range(0, self.samples, rows)]

    def preactivations(self, weights: Array) -> Array:
        """``(X Theta)'``, (m, n)."""
        rows = np.ascontiguousarray(weights.T, dtype=self.matrix.dtype)
        h = np.empty((len(rows), self.samples))

        def fill(strip: int) -> None:
            for s in self._strip(strip):
                h[:, s] = _times_transpose(rows, self.matrix[s])

        map_blocks(fill, _STRIPS)
        return h

    def gradient(self, weights: Array, sample_gradient: Callable[[Array, slice], Array]) -> Array:
        """``X'F/n`` (d, m), accumulated in float64 over blocks, for ``F = sample_gradient(h, where)``.

        ``sample_gradient`` may be called on several slices at the same time, from several threads.
        """
        gradient: Array = self._through(weights.T, sample_gradient).T
        return gradient

    def weighted_products(self, curvature: Array, directions: Array) -> Array:
        """``X' [W (X U)] / n`` for curvatures W (m, m, n) or (m, n) if diagonal, and U (m, d, c); (m, d, c)."""
        m, d, c = directions.shape

        def weigh(flat: Array, s: slice) -> Array:
            p = flat.reshape(m, c, -1)
            if curvature.ndim == 2:
                q = curvature[:, None, s] * p
            else:
                q = curvature[:, 0, None, s] * p[0]
                for r in range(1, m):
                    q += curvature[:, r, None, s] * p[r]
            return q.reshape(m * c, -1)

        products = self._through(directions.transpose(0, 2, 1).reshape(m * c, d), weigh)
        return products.reshape(m, c, d).transpose(0, 2, 1)

    def _strip(self, strip: int) -> list[slice]:
        """The blocks of one part of the samples."""
        first, stop = (len(self.slices) * i // _STRIPS for i in (strip, strip + 1))
        return self.slices[first:stop]

    def _through(self, rows: Array, between: Callable[[Array, slice], Array]) -> Array:
        """``between(rows X', where) X / n``, (r, d), with X read from memory once."""
        dtype = self.matrix.dtype
        low = np.ascontiguousarray(rows, dtype=dtype)

        if len(rows) == 1:
            return self._through_one(low, between)
        room = len(_slabs(len(low), self.matrix[self.slices[0]])[0][1])

        def part(strip: int) -> Array:
            total = np.zeros(low.shape)
            products = np.empty((room, *low.shape), dtype=dtype)
            for s in self._strip(strip):
                block = self.matrix[s]
                h = _times_transpose(low, block).astype(np.float64, copy=False)
                _add_product(total, between(h, s).astype(dtype, copy=False), block, products)
            return total

        total, *others = map_blocks(part, _STRIPS)
        for other in others:
            total += other
        total /= self.samples
        return total

    def _through_one(self, low: NDArray[Any], between: Callable[[Array, slice], Array]) -> Array:
        """As :meth:`_through` for a single row, which is bound by memory: BLAS on its own threads is faster.

        Its threads meet at the end of every product, so that larger blocks pay, though X is read twice.
        """
        total = np.zeros(low.shape)
        for first in range(0, len(self.slices), _JOINED):
            joined = self.slices[first : first + _JOINED]
            s = slice(joined[0].start, joined[-1].stop)
            h = (low @ self.matrix[s].T).astype(np.float64, copy=False)
            total += between(h, s).astype(low.dtype, copy=False) @ self.matrix[s]
        total /= self.samples
        return total


def threads_for(rows: int) -> AbstractContextManager[None]:
    """For long computations with products of so many rows: who has the threads, BLAS or the blocks."""
    return nullcontext() if rows == 1 else blas_on_one_thread()


def _power_of_two(number: float) -> int:
    """The largest one that is not above ``number``: blocks are whole numbers of slabs."""
    return int(2 ** np.floor(np.log2(number)))


def _slabs(rows: int, block: NDArray[Any]) -> list[tuple[slice, NDArray[Any]]]:
    """A block as stacks (count, slab, d) of slabs of rows that are small products: whole slabs, and what is left."""
    n, d = block.shape
    allowed = _SMALL_PRODUCT / max(rows * d, 1)
    slab = min(_power_of_two(allowed), n) if allowed >= _FEWEST_ROWS else n
    whole = n - n % slab
    parts = [(slice(0, whole), slab), (slice(whole, n), n - whole)]
    return [(s, block[s].reshape(-1, size, d)) for s, size in parts if size]


def _times_transpose(rows: NDArray[Any], block: NDArray[Any]) -> NDArray[Any]:
    """``rows block'``, (r, rows of the block)."""
    out = np.empty((len(rows), len(block)), dtype=block.dtype)
    for s, slabs in _slabs(len(rows), block):
        product = rows @ slabs.transpose(0, 2, 1)
        out[:, s] = product.transpose(1, 0, 2).reshape(len(rows), -1)
    return out


def _add_product(total: Array, f: NDArray[Any], block: NDArray[Any], room: NDArray[Any]) -> None:
    """``total += f block``; ``room`` (count, r, d) takes the products of slabs: fresh memory is slow."""
    for s, slabs in _slabs(len(f), block):
        stack = f[:, s].reshape(len(f), *slabs.shape[:2]).transpose(1, 0, 2)
        total += np.add.reduce(np.matmul(stack, slabs, out=room[: len(slabs)]), axis=0)


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
