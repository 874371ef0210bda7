"""A function of one variable, and its first two derivatives, as compiled programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from featurephase.foundation.types import Array
from featurephase.functions.catalogue import LANGUAGE
from featurephase.functions.parser import parse, refuse
from featurephase.functions.program import Program
from featurephase.functions.tape import IntricateError, Tape, UndefinedError


class Formula:
    """An expression in some variables, differentiated twice in the last of them.

    ``variables`` says of each name what it is, in the order of the arguments. Messages call the formula ``what``
    ("activation", "loss"), and offer ``names`` besides variables and functions where a name is unknown. The nodes of
    the function, of its first and of its second derivative on the ``tape`` are ``orders``.

    Raises
    ------
    InputError
        If the expression is refused (see :func:`featurephase.functions.parser.parse`).
    """

    def __init__(self, what: str, expression: str, variables: Mapping[str, str], names: str = "") -> None:
        self.what = what
        self.variables = tuple(variables)
        self.variable = self.variables[-1]
        self.tape = Tape()
        nodes = {name: self.tape.variable(name) for name in self.variables}

        def unknown(name: str) -> str:
            meanings = ", ".join(f"{name} ({meaning})" for name, meaning in variables.items())
            return f"unknown name {name!r}; accepted: {meanings}, pi, {', '.join(sorted(LANGUAGE))}{names}"

        node = parse(self.tape, expression, what, nodes, unknown, LANGUAGE)
        try:
            first = self.tape.derivative(node, self.variable)
            self.orders = (node, first, self.tape.derivative(first, self.variable))
        except IntricateError:
            raise refuse(what, expression, None, "too intricate: its derivatives are too long") from None
        except UndefinedError:
            raise refuse(what, expression, None, "a constant in its derivatives overflows") from None
        self._programs: dict[tuple[int, ...], Program] = {}

    def evaluate(self, orders: Sequence[int], *arguments: ArrayLike) -> tuple[Array, ...]:
        """The derivatives of these orders (0: the function itself) at the arguments, broadcast against each other."""
        key = tuple(orders)
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = Program(self.tape, [self.orders[k] for k in key], self.variables)
        return program(*arguments)
