"""A tape compiled for arrays: straight-line NumPy code, run in blocks that stay in cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.precise import Precise
from featurephase.foundation.types import Array
from featurephase.functions.operations import OPERATIONS
from featurephase.functions.tape import Tape

#: samples a block: 64 KiB an intermediate result, so that a handful of them stays in the L2 cache
BLOCK = 8192

#: operations that can underflow
_SHRINKING = frozenset({"mul", "div", "powi", "pow", "exp"})

#: operations that SciPy offers in float64 alone
_FLOAT64_ONLY = frozenset({"erf", "erfc", "normal_cdf"})

#: whether the processor has floating-point numbers of greater range (1e4932 on x86; on ARM they are float64)
_HAS_EXTENDED = np.finfo(np.longdouble).maxexp > np.finfo(np.float64).maxexp


class Program:
    """Vectorised evaluation of some nodes of a tape as functions of ``variables``, in the order of the arguments.

    Sub-expressions that the nodes share are computed once. If ``careful``, what overflows or underflows on the way is
    repeated in numbers of greater range: ``h/(1 + exp(-h))`` is a harmless function, but its second derivative as it
    stands is infinity/infinity in float64 at h = -800.
    """

    def __init__(self, tape: Tape, outputs: Sequence[int], variables: Sequence[str], *, careful: bool = True) -> None:
        self._on_error: Any = "raise" if careful else "ignore"
        order = tape.ancestry(outputs)
        self._constants = {i: v for i in order if (v := tape.value(i)) is not None}
        self._inputs = {i: variables.index(n) for i in order if (n := tape.name(i)) is not None}
        self._outputs = tuple(outputs)
        self._extended = _HAS_EXTENDED and not _FLOAT64_ONLY.intersection(tape.entries[i][0] for i in order)
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
        """As :meth:`_run`, but repeat in extended precision, then in mpmath, what rests on an overflow or underflow."""
        results, doubtful = self._tracked(columns)
        outputs = [np.array(np.broadcast_to(x, columns[0].shape)) for x in results]
        rows = np.flatnonzero(doubtful)
        if rows.size and self._extended:
            results, doubtful = self._tracked([column[rows].astype(np.longdouble) for column in columns])
            for output, value in zip(outputs, results, strict=True):
                output[rows] = value
            rows = rows[doubtful]
        if rows.size:
            results = self._run([Precise(column[rows]) for column in columns])
            for output, value in zip(outputs, results, strict=True):
                output[rows] = value.double() if isinstance(value, Precise) else value
        return outputs

    def _tracked(self, columns: Sequence[Any]) -> tuple[list[Any], Any]:
        """The outputs, and at which of the finite arguments one of them rests on an overflow or underflow.

        A value that leaves the range (infinite, or too small to be normal) is right as it stands; what is computed from
        it is in doubt. An unselected branch of ``where`` casts no doubt on the selected one.
        """
        tiny = np.finfo(columns[0].dtype).tiny
        memory = self._memory(columns)
        doubt: dict[int, Any] = {}  # nodes without an entry are trusted everywhere
        outside: dict[int, Any] = {}  # where the value has left the range
        for node, op, compute, args, _ in self._steps:
            values = [memory[a] for a in args]
            memory[node] = result = compute(*values)
            doubts, left = ([known.get(a, False) for a in args] for known in (doubt, outside))
            if op == "where":
                doubt[node] = doubts[0] | np.where(values[0], doubts[1], doubts[2]) | left[0]
                outside[node] = np.where(values[0], left[1], left[2])
                continue
            large, small = np.isinf(result), np.zeros_like(result, dtype=np.bool_)
            if op in _SHRINKING:
                small = reduce(np.logical_and, (value != 0.0 for value in values), np.abs(result) < tiny)
            rests = reduce(np.logical_or, left)
            if op in ("neg", "add", "sub"):  # what is computed from an infinite number and still infinite is right
                rests &= ~large
            elif op == "mul":  # unless the other factor might have brought it back into the range
                sizes = [np.abs(value) for value in values]
                rests &= ~(large & (reduce(np.minimum, sizes) >= 1.0) | small & (reduce(np.maximum, sizes) <= 1.0))
            lost = reduce(np.logical_or, doubts) | rests | np.isnan(result)
            doubt[node], outside[node] = lost, (large | small) & ~lost
        doubtful = reduce(np.logical_or, (doubt.get(i, False) for i in self._outputs))
        finite = reduce(np.logical_and, map(np.isfinite, columns))
        return [memory[i] for i in self._outputs], np.broadcast_to(doubtful, finite.shape) & finite
