"""Windows of vector responses: cells of R^C with few draws each, in which all responses are near one another.

Conditioning on a number is sorting by it; a vector has no order. Its draws are cut in two at the median of the
component in which they are farthest apart, and each half again, until a cell has few of them (a k-d tree: Friedman,
Bentley & Finkel, ACM Trans. Math. Software 3, 1977). The bias is minus the variance of the conditional expectation
inside a cell, of the order of (draws in a cell / draws)^(2/C), where C is the number of dimensions that the responses
fill. Components that take equal values are cut between values, never through one; draws equal in all components are an
exact group.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array

IndexArray = NDArray[np.intp]

#: draws in a cell of the first level, at most; halved at each level after it
LARGEST = 64

#: number of wide cells
WIDE = 32

#: responses that differ by this part of their size are equal
ROUNDING = 1e-12

#: distance from the median, in interquartile ranges, from which on distances are logarithmic
FAR = 2.0

#: cells a dimension from which on they resolve how a conditional expectation depends on it
ENOUGH = 8


def varying(y: Array) -> Array:
    """The components of responses (rows, length, C) that are not constant in every row, at least one of them."""
    span, size = np.ptp(y, axis=1), np.max(np.abs(y), axis=1)
    moves = np.any(span > ROUNDING * size, axis=0)
    return y[:, :, moves] if moves.any() else y[:, :, :1]


def resolves(draws: int, dimensions: int) -> bool:
    """Whether the cells of so many draws are small in each of so many dimensions: only then may they show nothing."""
    return dimensions < 2 or draws >= LARGEST * ENOUGH**dimensions


def bias_left(dimensions: int) -> tuple[float, float]:
    """The bias left after cells were halved, over the change that this made: the middle of what it can be, and how far.

    Halving divides the bias by 2^(2/dimensions) where all of them matter, and by up to 4 where one does.
    """
    least, most = 1 / 3, 1 / (2 ** (2 / dimensions) - 1)
    return (least + most) / 2, (most - least) / 2


def cell_edges(y: Array, levels: int) -> tuple[IndexArray, tuple[IndexArray, ...], IndexArray]:
    """An order of the draws in which cells are contiguous, and where cells start: at every level, and wide ones.

    Parameters
    ----------
    y
        Responses (rows, length, C); no cell has draws of two rows.
    levels
        How many times the cells are halved, and one.

    Returns
    -------
    tuple
        Indices (rows length,) of the flattened draws in order; starts of the cells of each level; starts of wide cells.
    """
    rows, length, _ = y.shape
    z = _comparable(y.reshape(rows * length, -1))
    cells = [np.arange(row * length, (row + 1) * length) for row in range(rows)]
    cells, wide = _refined(z, cells, max(length // WIDE, LARGEST))
    largest = LARGEST
    # Wide cells first: every later cell lies in one of them, so that one order serves all levels.
    nested = [wide]
    for _ in range(levels):
        cells, sizes = _refined(z, cells, largest)
        nested.append(sizes)
        largest //= 2
    starts = [np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp) for sizes in nested]
    return np.concatenate(cells), tuple(starts[1:]), starts[0]


def _comparable(y: Array) -> Array:
    """Components on one scale, (n, C): in units of their spread, tails drawn in; equal values stay equal."""
    middle = np.median(y, axis=0)
    low, high = np.quantile(y, [0.25, 0.75], axis=0)
    spread = np.where(high > low, high - low, np.std(y, axis=0))
    return np.asarray(FAR * np.arcsinh((y - middle) / np.where(spread > 0, FAR * spread, 1.0)))


def _refined(z: Array, cells: list[IndexArray], largest: int) -> tuple[list[IndexArray], list[int]]:
    """Cells of at most ``largest`` draws, except where all draws are equal, and their sizes."""
    done, waiting = [], cells[::-1]
    while waiting:
        cell = waiting.pop()
        halves = _halved(z, cell) if len(cell) > largest else None
        if halves is None:
            done.append(cell)
        else:
            waiting += halves[::-1]
    return done, [len(cell) for cell in done]


def _halved(z: Array, cell: IndexArray) -> list[IndexArray] | None:
    """A cell cut at the median of its longest component, between two different values; None where all are equal."""
    values = z[cell]
    low, high = values.min(axis=0), values.max(axis=0)
    component = int(np.argmax(high - low))
    if high[component] - low[component] <= ROUNDING * max(abs(high[component]), abs(low[component]), 1.0):
        return None
    column = values[:, component]
    order = np.argsort(column)
    column = column[order]
    jumps = np.flatnonzero(np.diff(column) > ROUNDING * np.maximum(np.abs(column[1:]), 1.0)) + 1
    if not len(jumps):
        return None
    cut = jumps[np.argmin(np.abs(jumps - len(cell) // 2))]
    return [cell[order[:cut]], cell[order[cut:]]]
