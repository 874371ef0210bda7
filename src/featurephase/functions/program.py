"""A tape compiled for arrays: straight-line NumPy code, run in blocks that stay in cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.functions.operations import OPERATIONS
from featurephase.functions.tape import Tape

Array = NDArray[np.float64]

__all__ = ["Program"]

#: samples a block: 64 KiB an intermediate result, so that a handful of them stays in the L2 cache
BLOCK = 8192


class Program:
    """Vectorised evaluation of some nodes of a tape as functions of named variables.

    Parameters
    ----------
    tape : Tape
    outputs : sequence of int
        The nodes to evaluate; sub-expressions they share are computed once.
    variables : sequence of str
        The order of the arguments.
    """

    def __init__(self, tape: Tape, outputs: Sequence[int], variables: Sequence[str]) -> None:
        order = tape.ancestry(outputs)
        self._constants = {i: v for i in order if (v := tape.value(i)) is not None}
        self._inputs = {i: variables.index(n) for i in order if (n := tape.name(i)) is not None}
        self._outputs = tuple(outputs)
        last_use: dict[int, int] = {}
        for i in order:
            for a in tape.entries[i][1]:
                last_use[a] = i
        kept = {*outputs, *self._constants, *self._inputs}
        self._steps: list[tuple[int, Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = []
        for i in order:
            op, args = tape.entries[i]
            if args:
                spent = tuple({a for a in args if last_use[a] == i and a not in kept})
                self._steps.append((i, OPERATIONS[op].compute, args, spent))

    def __call__(self, *arguments: ArrayLike) -> tuple[Array, ...]:
        """Evaluate at the arguments, broadcast against each other; one array of that shape per output."""
        arrays = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in arguments))
        shape = arrays[0].shape
        flat = [a.ravel() for a in arrays]
        size = flat[0].size
        results = tuple(np.empty(size) for _ in self._outputs)
        with np.errstate(all="ignore"):
            for start in range(0, size, BLOCK):
                part = slice(start, start + BLOCK)
                for result, value in zip(results, self._block([a[part] for a in flat]), strict=True):
                    result[part] = value
        return tuple(r.reshape(shape)[()] for r in results)

    def _block(self, columns: Sequence[Array]) -> list[Any]:
        """Evaluate on one block of one-dimensional columns."""
        memory: dict[int, Any] = dict(self._constants)
        for node, column in self._inputs.items():
            memory[node] = columns[column]
        for node, compute, args, spent in self._steps:
            memory[node] = compute(*[memory[a] for a in args])
            for a in spent:
                del memory[a]
        return [memory[i] for i in self._outputs]
