"""Second moments of conditional expectations given the response, from samples.

For features f of the latent coordinates this module estimates S = E[ E[f | y, a] E[f | y, a]' ], where a are the
latent coordinates conditioned on. With f = g_perp it is the matrix A of the staircase of easy directions, with
f = vec(g_H g_H' - I) it holds everything that the algorithmic threshold needs.

The response is a scalar, so conditioning on it is sorting by it. A window of m neighbours contributes
f_i f_j' averaged over its pairs i != j: given the sorted responses these are independent draws with means
E[f | y_i] and E[f | y_j], so noise does not bias S (the average of v1 v2' over all splits of the window in two
halves). What remains is minus the variance of E[f | y] inside a window. Conditional expectations vary fastest where the
density of y falls off (its tails, the gap between two branches), so the sorted responses are first cut into stretches
of roughly even density, as many and as short as that takes, and then each stretch of m draws into windows of about
sqrt(8 m): the bias is O(log(n)/n) for a conditional expectation that is smooth in the rank of y and
O(1/sqrt(n)) for one that jumps. Every window is also cut in halves, quarters and eighths: two successive estimates
differ by at least the bias of the second. The windows depend on the responses alone, so they bias nothing else.

The bias of S is minus a positive semidefinite matrix, so that windows of any width show whether S vanishes. A few
wide ones, equal shares of the draws, have far less noise: they find weak but smooth dependence on y.

Equal responses (a class, a discrete link, a saturated one) are one exact group: no window, no bias. Responses in R^C
have no order; their windows are cells (:mod:`featurephase.subspaces.cells`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from featurephase.dynamics.sobol import MOST_COORDINATES, sobol_points
from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.subspaces.cells import cell_edges, resolves, varying

if TYPE_CHECKING:
    from featurephase.functions import Link

IndexArray = NDArray[np.intp]

#: Responses given conditioned coordinates whose relative difference is below this count as equal. One that depends on
#: those alone is constant given them, but the rotation of the basis leaves rounding errors of about 1e-16 in it;
#: sorting by these errors would make windows of draws that have nothing in common. No more than a few units of double
#: precision: where tanh(g^2) nears 1, draws of very different g are within 1e-12.
EQUAL = 1e-14

#: This many equal responses, or more, form a window of their own. Fewer are sorted into windows like all others.
ATOM = 16

#: A stretch is cut in two while one quarter of its draws spans more than this many times the range of another quarter.
UNEVEN = 3.0

#: Number of window widths: whole windows, their halves, quarters and eighths.
LEVELS = 4

#: Number of wide windows.
WIDE = 32

#: Largest number of draws handled at once, for up to eight coordinates (fewer for more), so that memory is bounded:
#: with five hard directions some 50 arrays of this length are held, 200 MB.
CHUNK = 2**19


class SortedDraws(NamedTuple):
    """Draws of the inner coordinates in the order of their responses, and the windows they fall into."""

    b: Array  # (k - p, n)
    levels: tuple[IndexArray, ...]  # starts of windows, of their halves, of their quarters, ..
    wide: IndexArray  # starts of windows of a share of the draws


def check_draws(samples: int, max_samples: int, replicates: int) -> None:
    """Refuse numbers of draws from which no standard error comes."""
    if replicates < 2:
        raise InputError(f"replicates = {replicates}: at least 2 are needed for standard errors")
    if samples < 1024 * replicates:
        raise InputError(f"samples = {samples}: at least 1024 per replicate are needed, {1024 * replicates}")
    if max_samples < samples:
        raise InputError(f"max_samples = {max_samples} is less than samples = {samples}")


def spawn(seed: int, *key: int) -> np.random.Generator:
    """The random stream number ``key`` of ``seed``, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _window_starts(y: Array) -> IndexArray:
    """Starts of windows of sorted responses: sqrt(8 m) draws in stretches of m whose density is roughly even.

    A stretch is cut in the middle until each quarter of its draws spans at most ``UNEVEN`` times what another does.
    """
    stretches, starts = [(0, y.size)], []
    while stretches:
        start, stop = stretches.pop()
        size = stop - start
        spans = np.diff(y[[start, start + size // 4, start + size // 2, start + 3 * size // 4, stop - 1]])
        if size > 8 and spans.max() > UNEVEN * spans.min():
            stretches += [(start, start + size // 2), (start + size // 2, stop)]
        else:
            windows = max(round(math.sqrt(size / 8)), 1)
            starts.append(start + np.arange(windows) * size // windows)
    return np.sort(np.concatenate(starts))


def _wide_starts(y: Array) -> IndexArray:
    """Starts of equal windows, at most ``WIDE`` of them, of sorted responses."""
    windows = min(WIDE, max(y.size // ATOM, 1))
    return np.arange(windows) * y.size // windows


def _equal_runs(y: Array, equal: float, atom: int) -> IndexArray:
    """Starts of the runs of responses that are equal, up to so much of their size, in the flattened sorted rows.

    A chain of ``atom`` or more neighbours is cut where it leaves the first of its run by more than that.
    """
    new = np.ones(y.shape, dtype=bool)
    apart = equal * np.abs(y)
    np.greater(y[:, 1:] - y[:, :-1], apart[:, 1:], out=new[:, 1:])
    flat, runs = y.ravel(), np.flatnonzero(new)
    further = []
    if equal:
        stops = np.append(runs[1:], y.size)
        long = (stops - runs >= atom) & (flat[stops - 1] - flat[runs] > apart.ravel()[runs])
        for start, stop in zip(runs[long].tolist(), stops[long].tolist(), strict=True):
            while start < stop:
                start += int(np.searchsorted(flat[start:stop], flat[start] + apart.ravel()[start], "right"))
                further.append(start)
            further.pop()  # where the next run starts
    return np.sort(np.concatenate([runs, np.array(further, dtype=np.intp)]))


def _window_edges(y: Array, equal: float = 0.0, atom: int = ATOM) -> tuple[tuple[IndexArray, ...], IndexArray]:
    """Starts of the windows of every level, and of wide windows, in the flattened rows of ``y``, each row sorted.

    From ``atom`` equal responses on they are a group of their own.
    """
    rows, length = y.shape
    offsets = np.arange(rows) * length
    runs = _equal_runs(y, equal, atom)
    sizes = np.diff(runs, append=y.size)
    atoms, stops = runs[sizes >= atom], (runs + sizes)[sizes >= atom]
    edges = np.unique(np.concatenate([offsets, atoms, stops, [y.size]]))
    flat, single = y.ravel(), np.zeros(1, dtype=np.intp)
    pieces = list(zip(edges[:-1].tolist(), edges[1:].tolist(), np.isin(edges[:-1], atoms), strict=True))
    coarse, wide = (
        np.concatenate([start + (single if group else cut(flat[start:stop])) for start, stop, group in pieces])
        for cut in (_window_starts, _wide_starts)
    )
    levels = [np.asarray(coarse)]
    while len(levels) < LEVELS:
        starts = levels[-1]
        widths = np.diff(starts, append=y.size)
        halved = (widths >= 4) & ~np.isin(starts, atoms)
        levels.append(np.sort(np.concatenate([starts, starts[halved] + widths[halved] // 2])))
    return tuple(levels), wide


def pair_moment(features: Array, starts: IndexArray) -> Array:
    """Mean of f_i f_j' over the pairs i != j of each window, averaged over windows by their size.

    Parameters
    ----------
    features
        Features (d, n) of n draws in window order.
    starts
        Where each window starts; windows of one draw have no pair and are left out.

    Returns
    -------
    ndarray
        (d, d), symmetric.
    """
    sizes = np.diff(starts, append=features.shape[1])
    weights = np.where(sizes > 1, 1.0 / np.maximum(sizes - 1, 1), 0.0)
    sums = np.add.reduceat(features, starts, axis=1)
    own = (features * np.repeat(weights, sizes)) @ features.T
    paired = max(int(sizes[sizes > 1].sum()), 1)
    moment = ((sums * weights) @ sums.T - own) / paired
    return np.asarray((moment + moment.T) / 2)


def window_means(features: Array, starts: IndexArray) -> Array:
    """Mean of each draw's window without the draw itself: an independent estimate (d, n) of E[f | y] at it."""
    sizes = np.diff(starts, append=features.shape[1])
    sums = np.repeat(np.add.reduceat(features, starts, axis=1), sizes, axis=1)
    return np.asarray((sums - features) / np.repeat(np.maximum(sizes - 1, 1), sizes))


def _outer_normals(dim: int, count: int, rng: np.random.Generator) -> Array:
    """``count`` points (dim, count) of N(0, I) from one scrambled Sobol sequence (count a power of two)."""
    if dim <= MOST_COORDINATES:
        points = sobol_points(dim, count, rng)
    else:
        from scipy.stats import qmc

        points = qmc.Sobol(dim, scramble=True, seed=rng).random(count).T
    return np.asarray(ndtri(np.clip(points, 2.0**-40, 1 - 2.0**-40)))


def _shape(samples: int, dim: int, conditioned: int) -> tuple[int, int, int]:
    """Chunks of bounded memory, outer draws in each, and inner draws for each of those."""
    chunks = -(-samples * max(dim, 8) // (8 * CHUNK))
    samples //= chunks
    rows = 2 ** max(int(math.log2(samples) / 2) - 5 + conditioned, 0) if conditioned else 1
    return chunks, rows, samples // rows


def resolved(link: Link, conditioned: int, samples: int) -> bool:
    """Whether so many draws make windows fine enough to show that E[f | y] = 0; for scalar responses they always do."""
    return resolves(_shape(samples, link.latent_dim, conditioned)[2], dimensions(link, conditioned))


def dimensions(link: Link, conditioned: int) -> int:
    """Dimension of the set of responses when ``conditioned`` latent coordinates are given."""
    free = link.latent_dim - conditioned + link.normals + link.uniforms
    return max(min(link.components, free), 1)


def sorted_draws(
    link: Link,
    given: Array,
    inner: Array,
    samples: int,
    rng: np.random.Generator,
    blur: float = 0.0,
) -> Iterator[SortedDraws]:
    """Draw g = given a + inner b ~ N(0, I_k) and y, and sort by y for each value of a.

    Conditioning on a is by outer draws, each with an inner sample of (b, noise) of its own. The outer draws are a
    randomised Sobol set, which keeps their number small and the inner samples (and so the windows) fine.

    Parameters
    ----------
    link
        y = phi(g, noise).
    given, inner
        Orthonormal columns (k, p) and (k, k - p) that together span R^k.
    samples
        Number of draws of y in all; they come in chunks of bounded memory.
    rng
        The random stream.
    blur
        Above 0: the outer draws are those of sqrt(1 - blur^2) a + blur z with independent normal z, so that only a part
        of a is conditioned on. Where E[f | y, a] vanishes, so does the expectation given that part.

    Raises
    ------
    InputError
        If the link is not finite on some draw.
    """
    chunks, rows, length = _shape(samples, inner.shape[0], given.shape[1])
    conditioned = given.shape[1]
    for _ in range(chunks):
        b = rng.standard_normal((inner.shape[1], rows * length))
        g = inner @ b
        if conditioned:
            a = np.repeat(_outer_normals(conditioned, rows, rng), length, axis=1)
            if blur:
                a = math.sqrt(1 - blur**2) * a + blur * rng.standard_normal(a.shape)
            g += given @ a
        y = varying(link.sample(g, rng).reshape(rows, length, -1))
        if y.shape[2] > 1:
            order, levels, wide = cell_edges(y, LEVELS)
            yield SortedDraws(b[:, order], levels, wide)
            continue
        y = y[:, :, 0]
        order = np.argsort(y, axis=1)  # equal responses may stay as drawn: the draws are independent
        levels, wide = _window_edges(
            np.take_along_axis(y, order, axis=1), EQUAL if conditioned else 0.0, 1 if link.labels else ATOM
        )
        yield SortedDraws(b[:, (order + np.arange(rows)[:, None] * length).ravel()], levels, wide)
