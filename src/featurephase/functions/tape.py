"""An expression as a tape: a list of operations on earlier entries, every distinct one stored once.

A node is the index of its entry, arguments come before what uses them, so that evaluation and differentiation are
loops (no recursion, however deep the expression) and common sub-expressions are shared by construction, between a
function and its derivatives too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from featurephase.functions.operations import COMPARISONS, OPERATIONS

#: more distinct operations than this, in a function and its two derivatives, are refused
MAX_NODES = 20_000

#: highest degree of a Hermite polynomial: He_64(1e4) = 1e256 is still a float
MAX_DEGREE = 64


class UndefinedError(ArithmeticError):
    """A constant sub-expression has no finite value."""


class IntricateError(ArithmeticError):
    """The tape grew beyond :data:`MAX_NODES`."""


class Tape:
    """Builder of expressions; its methods return nodes (indices), folding constants on the way."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, tuple[int, ...]]] = []
        self._index: dict[object, int] = {}
        self._values: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._derivatives: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self.entries)

    # leaves

    def constant(self, value: float) -> int:
        """The node of a number."""
        value = float(value) + 0.0  # -0.0 becomes 0.0
        if not math.isfinite(value):
            raise UndefinedError(value)
        node = self._enter(("constant", value), "constant", ())
        self._values[node] = value
        return node

    def variable(self, name: str) -> int:
        """The node of a variable."""
        node = self._enter(("variable", name), "variable", ())
        self._names[node] = name
        return node

    def value(self, node: int) -> float | None:
        """The number that ``node`` is, or None."""
        return self._values.get(node)

    def name(self, node: int) -> str | None:
        """The name of the variable that ``node`` is, or None."""
        return self._names.get(node)

    # arithmetic: the identities below also keep derivatives short

    def neg(self, x: int) -> int:
        """-x."""
        op, args = self.entries[x]
        if op == "neg":
            return args[0]
        if op == "sub":
            return self.sub(args[1], args[0])
        return self.apply("neg", x)

    def add(self, x: int, y: int) -> int:
        """x + y."""
        if self.value(x) == 0.0:
            return y
        if self.value(y) == 0.0:
            return x
        if self.entries[y][0] == "neg":
            return self.sub(x, self.entries[y][1][0])
        if self.entries[x][0] == "neg":
            return self.sub(y, self.entries[x][1][0])
        return self.apply("add", min(x, y), max(x, y))

    def sub(self, x: int, y: int) -> int:
        """x - y."""
        if x == y:
            return self.constant(0.0)
        if self.value(y) == 0.0:
            return x
        if self.value(x) == 0.0:
            return self.neg(y)
        if self.entries[y][0] == "neg":
            return self.add(x, self.entries[y][1][0])
        return self.apply("sub", x, y)

    def mul(self, x: int, y: int) -> int:
        """The product of x and y."""
        if self.value(y) is not None:
            x, y = y, x
        c = self.value(x)
        if c is not None:
            if c == 0.0:
                return x
            if c == 1.0:
                return y
            if c == -1.0:
                return self.neg(y)
            op, args = self.entries[y]
            if op == "neg":
                return self.mul(self.constant(-c), args[0])
            if op == "mul" and (inner := self.value(args[0])) is not None:
                return self.mul(self.apply("mul", x, args[0]), args[1]) if inner * c else self.apply("mul", x, y)
            if op == "where" and any(self.value(a) is not None for a in args[1:]):
                return self.where(args[0], self.mul(x, args[1]), self.mul(x, args[2]))
            return self.apply("mul", x, y)
        for factor, other in ((x, y), (y, x)):
            op, args = self.entries[factor]
            if op == "neg":
                return self.neg(self.mul(args[0], other))
            if self._masked(factor):
                return self._within(factor, self.mul, other)
        if x == y:
            return self.pow(x, self.constant(2.0))
        return self.apply("mul", min(x, y), max(x, y))

    def div(self, x: int, y: int) -> int:
        """x / y."""
        if self.value(y) == 1.0:
            return x
        if self.value(x) == 0.0 and self.value(y) != 0.0:
            return x
        if self.entries[x][0] == "neg":
            return self.neg(self.div(self.entries[x][1][0], y))
        if self._masked(x):
            return self._within(x, self.div, y)
        return self.apply("div", x, y)

    def _masked(self, node: int) -> bool:
        """Whether ``node`` selects between 0 and something else."""
        op, args = self.entries[node]
        return op == "number" or (op == "where" and 0.0 in (self.value(args[1]), self.value(args[2])))

    def _within(self, masked: int, act: Callable[[int, int], int], other: int) -> int:
        """``act(masked, other)`` carried out where ``masked`` is not switched off: 0 times infinity does not arise."""
        zero = self.constant(0.0)
        op, args = self.entries[masked]
        if op == "number":
            return self.where(args[0], act(self.constant(1.0), other), zero)
        x, y = (zero if branch == zero else act(branch, other) for branch in args[1:])
        return self.where(args[0], x, y)

    def pow(self, base: int, exponent: int) -> int:
        """base ** exponent; integer exponents up to 64 become products, 1/2 a square root."""
        p = self.value(exponent)
        if p is None or self.value(base) is not None:
            return self.apply("pow", base, exponent)
        if p == 0.0:
            return self.constant(1.0)
        if p == 1.0:
            return base
        op, args = self.entries[base]
        if op == "powi" and p != int(p) and (inner := self.value(args[1])) is not None and inner % 2 == 0:
            return self.pow(self.apply("abs", args[0]), self.constant(inner * p))  # sqrt(x**2) is abs(x)
        if p == 0.5:
            return self.apply("sqrt", base)
        if p == int(p) and abs(p) <= 64:
            if p < 0:
                return self.div(self.constant(1.0), self.pow(base, self.constant(-p)))
            if p % 2 == 0 and op in ("neg", "abs"):
                base = args[0]
            return self.apply("powi", base, exponent)
        return self.apply("pow", base, exponent)

    def hermite(self, degree: int, x: int) -> int:
        """The probabilists' Hermite polynomial He_degree(x)."""
        if degree == 0:
            return self.constant(1.0)
        return x if degree == 1 else self.apply("hermite", self.constant(degree), x)

    # selection

    def number(self, condition: int) -> int:
        """A comparison as a number: 1.0 where it holds, else 0.0."""
        if self.value(condition) is not None:
            return condition
        return self.apply("number", condition)

    def compare(self, op: str, x: int, y: int) -> int:
        """``x op y`` with op one of ``< <= > >= == !=``, as a condition for :meth:`where`."""
        if op in (">", ">="):
            x, y, op = y, x, {">": "<", ">=": "<="}[op]
        return self.apply({"<": "lt", "<=": "le", "==": "eq", "!=": "ne"}[op], x, y)

    def where(self, condition: int, x: int, y: int) -> int:
        """Selects x where the condition holds (is a true comparison or a number other than 0), else y."""
        if x == y:
            return x
        known = self.value(condition)
        if known is not None:
            return x if known else y
        op, args = self.entries[condition]
        if op == "number":
            condition = args[0]
        elif op not in COMPARISONS:
            condition = self.compare("!=", condition, self.constant(0.0))
        op, args = self.entries[condition]
        if op == "lt" and {x, y} == set(args):  # the first argument wins where strictly less, or greater
            return self.apply("minimum", x, y) if args == (x, y) else self.apply("maximum", x, y)
        return self.apply("where", condition, x, y)

    def apply(self, op: str, *args: int) -> int:
        """The node of an operation on nodes, a number if all arguments are numbers."""
        values = [self._values.get(a) for a in args]
        if all(v is not None for v in values):
            with np.errstate(all="ignore"):
                result = float(OPERATIONS[op].compute(*(np.float64(v) for v in values)))
            return self.constant(result)
        return self._enter((op, args), op, args)

    def _enter(self, key: object, op: str, args: tuple[int, ...]) -> int:
        node = self._index.get(key)
        if node is None:
            if len(self.entries) >= MAX_NODES:
                raise IntricateError
            node = self._index[key] = len(self.entries)
            self.entries.append((op, args))
        return node

    # what is done with a finished expression

    def ancestry(self, nodes: Iterable[int]) -> list[int]:
        """All nodes that ``nodes`` are made of, themselves included, arguments first."""
        needed: set[int] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack.extend(self.entries[node][1])
        return sorted(needed)

    def variables(self, node: int) -> list[str]:
        """The names of the variables in ``node``, in order of first appearance."""
        return [self._names[i] for i in self.ancestry([node]) if i in self._names]

    def derivative(self, node: int, variable: str) -> int:
        """The derivative in ``variable``, branch by branch; the forward mode, on nodes instead of numbers."""
        for i in self.ancestry([node]):
            if (i, variable) in self._derivatives:
                continue
            op, args = self.entries[i]
            if not args:
                slope = self.constant(1.0 if self._names.get(i) == variable else 0.0)
            else:
                parts = [self._derivatives[a, variable] for a in args]
                zero = self.constant(0.0)
                slope = zero if all(p == zero for p in parts) else OPERATIONS[op].rule(self, i, args, parts)
            self._derivatives[i, variable] = slope
        return self._derivatives[node, variable]
