"""A tape compiled for arrays: straight-line NumPy code, run in blocks that stay in cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.types import Array
from featurephase.functions.operations import OPERATIONS
from featurephase.functions.tape import Tape
from featurephase.functions.wide import Wide

__all__ = ["Program"]

#: samples a block: 64 KiB an intermediate result, so that a handful of them stays in the L2 cache
BLOCK = 8192

#: operations that can underflow
_SHRINKING = frozenset({"mul", "div", "powi", "pow", "exp"})

_SMALLEST_NORMAL = np.finfo(np.float64).tiny


class Program:
    """Vectorised evaluation of some nodes of a tape as functions of named variables.

    Parameters
    ----------
    tape : Tape
    outputs : sequence of int
        The nodes to evaluate; sub-expressions they share are computed once.
    variables : sequence of str
        The order of the arguments.
    careful : bool
        Whether to repeat with :class:`~featurephase.functions.wide.Wide` numbers what overflows or underflows.
    """

    def __init__(self, tape: Tape, outputs: Sequence[int], variables: Sequence[str], *, careful: bool = True) -> None:
        self._on_error: Any = "raise" if careful else "ignore"
        order = tape.ancestry(outputs)
        self._constants = {i: v for i in order if (v := tape.value(i)) is not None}
        self._inputs = {i: variables.index(n) for i in order if (n := tape.name(i)) is not None}
        self._outputs = tuple(outputs)
        last_use: dict[int, int] = {}
        for i in order:
            for a in tape.entries[i][1]:
                last_use[a] = i
        kept = {*outputs, *self._constants, *self._inputs}
        self._steps: list[tuple[int, str, Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = []
        for i in order:
            op, args = tape.entries[i]
            if args:
                spent = tuple({a for a in args if last_use[a] == i and a not in kept})
                self._steps.append((i, op, OPERATIONS[op].compute, args, spent))

    def __call__(self, *arguments: ArrayLike) -> tuple[Array, ...]:
        """Evaluate at the arguments, broadcast against each other; one array of that shape per output."""
        arrays = [np.asarray(a, dtype=np.float64) for a in arguments]
        if len({a.shape for a in arrays}) > 1:
            arrays = list(np.broadcast_arrays(*arrays))
        shape = arrays[0].shape
        flat = [a.ravel() for a in arrays]
        size = flat[0].size
        results = tuple(np.empty(size) for _ in self._outputs)
        with np.errstate(all=self._on_error):
            for start in range(0, size, BLOCK):
                columns = [a[start : start + BLOCK] for a in flat]
                for result, value in zip(results, self._block(columns), strict=True):
                    result[start : start + BLOCK] = value
        return tuple(r.reshape(shape)[()] for r in results)

    def _block(self, columns: Sequence[Array]) -> list[Any]:
        """Evaluate on one block of one-dimensional columns."""
        try:
            return self._run(columns)
        except FloatingPointError:
            with np.errstate(all="ignore"):
                return self._careful(columns)

    def _memory(self, columns: Sequence[Any]) -> dict[int, Any]:
        return self._constants | {node: columns[i] for node, i in self._inputs.items()}

    def _run(self, columns: Sequence[Any]) -> list[Any]:
        memory = self._memory(columns)
        for node, _, compute, args, spent in self._steps:
            memory[node] = compute(*[memory[a] for a in args])
            for a in spent:
                del memory[a]
        return [memory[i] for i in self._outputs]

    def _careful(self, columns: Sequence[Array]) -> list[Any]:
        """As :meth:`_run`, but where the result rests on an overflow or underflow, repeat it with wide numbers.

        An unselected branch of ``where`` casts no doubt on the selected one.
        """
        memory = self._memory(columns)
        doubt: dict[int, Any] = {}  # nodes without an entry are trusted everywhere
        for node, op, compute, args, _ in self._steps:
            values = [memory[a] for a in args]
            memory[node] = result = compute(*values)
            doubts = [doubt.get(a, False) for a in args]
            if op == "where" and (doubts[1] is not False or doubts[2] is not False):
                doubts = [doubts[0], np.where(values[0], doubts[1], doubts[2])]
            elif op != "where":
                lost = ~np.isfinite(result)
                if op in _SHRINKING:
                    small = np.abs(result) < _SMALLEST_NORMAL
                    for value in values:
                        small &= value != 0.0
                    lost |= small
                if lost.any():
                    doubts.append(lost)
            for other in doubts:
                if other is not False:
                    doubt[node] = doubt.get(node, False) | other
        outputs = [np.array(np.broadcast_to(memory[i], columns[0].shape)) for i in self._outputs]
        repeat = np.zeros(columns[0].shape, dtype=np.bool_)
        for i in self._outputs:
            repeat |= doubt.get(i, False)
        for column in columns:
            repeat &= np.isfinite(column)
        if repeat.any():
            wide = self._run([Wide(column[repeat]) for column in columns])
            for output, value in zip(outputs, wide, strict=True):
                output[repeat] = value.double() if isinstance(value, Wide) else value
        return outputs
