"""Losses loss(y, f) with exact first and second derivatives in f."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.errors import InputError
from featurephase.functions.catalogue import LOSSES, lookup, suggest
from featurephase.functions.parser import parse, refuse
from featurephase.functions.program import Program
from featurephase.functions.tape import Tape

Array = NDArray[np.float64]

__all__ = ["Loss", "loss"]


class Loss:
    """A loss, its derivatives in f and what is known of it; made by :func:`loss`."""

    def __init__(self, spec: str, is_expression: bool) -> None:
        self.spec = self.name = spec.strip()
        self.is_expression = is_expression
        self._tape = Tape()
        names = {n: self._tape.variable(n) for n in ("y", "f")}
        text = spec
        if not is_expression:
            found = lookup(LOSSES, "loss", spec)
            if found is None:
                accepted = ", ".join(LOSSES)
                why = f"unknown name{suggest(spec, LOSSES)}; accepted: {accepted}; or expression = '..' in y and f"
                raise refuse("loss", spec, None, why)
            self.name, entry, parameters = found
            text = entry.expression
            names |= {k: self._tape.constant(v) for k, v in parameters.items()}

        def unknown(name: str) -> str:
            return f"unknown name {name!r}; a loss is an expression in y (response) and f (network output)"

        self._node = parse(self._tape, text, "loss", names, unknown)
        self._first = self._tape.derivative(self._node, "f")
        self._second = self._tape.derivative(self._first, "f")

    @property
    def singular_curvature(self) -> bool:
        """Whether the first derivative jumps, so that the second is not a function."""
        return self.name in ("absolute", "hinge")

    def _program(self, *nodes: int) -> Program:
        return Program(self._tape, nodes, ("y", "f"))

    @cached_property
    def _value_program(self) -> Program:
        return self._program(self._node)

    @cached_property
    def _first_program(self) -> Program:
        return self._program(self._first)

    @cached_property
    def _second_program(self) -> Program:
        return self._program(self._second)

    @cached_property
    def _both_program(self) -> Program:
        return self._program(self._first, self._second)

    def value(self, y: ArrayLike, f: ArrayLike) -> Array:
        """loss(y, f), elementwise."""
        return self._value_program(y, f)[0]

    def first(self, y: ArrayLike, f: ArrayLike) -> Array:
        """The derivative in f, elementwise."""
        return self._first_program(y, f)[0]

    def second(self, y: ArrayLike, f: ArrayLike) -> Array:
        """The second derivative in f, elementwise."""
        return self._second_program(y, f)[0]

    def first_and_second(self, y: ArrayLike, f: ArrayLike) -> tuple[Array, Array]:
        """Both derivatives in f, sharing what they have in common."""
        first, second = self._both_program(y, f)
        return first, second

    def to_spec(self) -> str:
        """The text that gives this loss back (a name, or an expression if ``is_expression``)."""
        return self.spec

    def __reduce__(self) -> tuple[Any, ...]:
        return _loss, (self.spec, self.is_expression)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and (self.spec, self.is_expression) == (
            other.spec,
            other.is_expression,
        )

    def __hash__(self) -> int:
        return hash((Loss, self.spec, self.is_expression))

    def __repr__(self) -> str:
        return f"loss(expression={self.spec!r})" if self.is_expression else f"loss({self.spec!r})"


@lru_cache(maxsize=256)
def _loss(spec: str, is_expression: bool) -> Loss:
    return Loss(spec, is_expression)


def loss(name: str | None = None, *, expression: str | None = None) -> Loss:
    """The loss of that name, or given by an expression in ``y`` (response) and ``f`` (network output)."""
    if (name is None) == (expression is None):
        raise InputError("loss: give either a name or an expression in y and f, not both")
    spec = name if name is not None else expression
    if not isinstance(spec, str):
        raise InputError(f"loss: expected text, got {spec!r:.60}")
    return _loss(spec, expression is not None)
