"""Activations sigma(h) with exact first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.errors import InputError
from featurephase.functions.catalogue import ACTIVATIONS, lookup
from featurephase.functions.parser import parse
from featurephase.functions.program import Program
from featurephase.functions.tape import Tape

Array = NDArray[np.float64]

__all__ = ["Activation", "activation"]


class Activation:
    """An activation sigma(h), its derivatives and what is known of it; made by :func:`activation`."""

    def __init__(self, spec: str) -> None:
        self.spec = self.name = spec.strip()
        self._tape = Tape()
        h = self._tape.variable("h")
        found = lookup(ACTIVATIONS, "activation", spec)
        names = {"h": h}
        text = spec
        if found is not None:
            self.name, entry, parameters = found
            text = entry.expression
            names |= {k: self._tape.constant(v) for k, v in parameters.items()}

        def unknown(name: str) -> str:
            return f"unknown name {name!r}; an activation is an expression in h, or one of {', '.join(ACTIVATIONS)}"

        self._node = parse(self._tape, text, "activation", names, unknown)
        self._first = self._tape.derivative(self._node, "h")
        self._second = self._tape.derivative(self._first, "h")

    @property
    def singular_curvature(self) -> bool:
        """Whether sigma' jumps (relu), so that sigma'' is not a function."""
        return self.name in ("relu", "leaky_relu", "abs", "hard_tanh", "selu")

    def _program(self, *nodes: int) -> Program:
        return Program(self._tape, nodes, ("h",))

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
        return self._program(self._node, self._first)

    def value(self, h: ArrayLike) -> Array:
        """sigma(h), elementwise."""
        return self._value_program(h)[0]

    def first(self, h: ArrayLike) -> Array:
        """sigma'(h), elementwise."""
        return self._first_program(h)[0]

    def second(self, h: ArrayLike) -> Array:
        """sigma''(h), elementwise."""
        return self._second_program(h)[0]

    def value_and_first(self, h: ArrayLike) -> tuple[Array, Array]:
        """(sigma(h), sigma'(h)), sharing what they have in common."""
        value, first = self._both_program(h)
        return value, first

    def to_spec(self) -> str:
        """The text that gives this activation back."""
        return self.spec

    def __reduce__(self) -> tuple[Any, ...]:
        return activation, (self.spec,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash((Activation, self.spec))

    def __repr__(self) -> str:
        return f"activation({self.spec!r})"


@lru_cache(maxsize=256)
def activation(spec: str) -> Activation:
    """The activation of that name, or given by an expression in ``h``."""
    if not isinstance(spec, str):
        raise InputError(f"activation: expected text, got {spec!r:.60}")
    return Activation(spec)
