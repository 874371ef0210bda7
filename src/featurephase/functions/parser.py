"""Text to tape: a white-listed grammar, read by a small precedence parser. Nothing is ever executed.

Grammar (precedence as in Python, loosest first)::

    comparison  <  <=  >  >=  ==  !=      (1 where it holds, else 0; a < b < c is both)
    sum         +  -
    product     *  /
    sign        -x  +x
    power       **                        (right-associative, binds tighter than a sign on its left)
    atom        number, name, f(x, ..), (x)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

from featurephase.foundation.errors import InputError, suggest
from featurephase.functions.tape import MAX_DEGREE, IntricateError, Tape, UndefinedError

#: longest expression, in characters
MAX_LENGTH = 2000

#: deepest nesting (brackets, signs, powers)
MAX_DEPTH = 64

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<operator>\*\*|<=|>=|==|!=|[-+*/<>(),])|(?P<end>\Z))",
    re.ASCII,
)

_HINTS = {
    "^": "write ** for a power",
    "|": "write abs(..) for an absolute value, a product of comparisons for 'or'",
    "&": "write a product of comparisons for 'and'",
    "=": "write == to compare",
    "!": "write != to compare",
    "%": "there is no remainder",
    "[": "use round brackets",
    "{": "use round brackets",
}

_ALIASES = {"ln": "log", "max": "maximum", "min": "minimum", "sgn": "sign", "logistic": "sigmoid", "fabs": "abs"}


class Token(NamedTuple):
    """A piece of the text: its kind (number, name, operator, end), characters and position."""

    kind: str
    text: str
    at: int


def refuse(what: str, text: str, at: int | None, why: str) -> InputError:
    """The error for ``text``, quoting it with a caret under position ``at``."""
    if at is None:
        shown = text if len(text) <= 80 else text[:77] + "..."
        return InputError(f"{what} {shown!r}: {why}")
    start = max(0, at - 40)
    window = "".join(c if c.isprintable() else "?" for c in text[start : at + 40])
    head, tail = "..." if start else "", "..." if at + 40 < len(text) else ""
    caret = " " * (len(head) + at - start) + "^"
    return InputError(f"{what}: {why}, at character {at + 1}:\n  {head}{window}{tail}\n  {caret}")


class Function(NamedTuple):
    """A function of the language: fewest and most arguments, and how it becomes a node."""

    least: int
    most: int
    build: Callable[..., int]


def _folded(op: str) -> Callable[..., int]:
    """An operation on one argument, or on any number of them one after the other."""
    return lambda t, *x: reduce(partial(t.apply, op), x) if len(x) > 1 else t.apply(op, *x)


def _heaviside(t: Tape, x: int, at_zero: int | None = None) -> int:
    zero, one = t.constant(0.0), t.constant(1.0)
    below = zero if at_zero is None else t.where(t.compare("==", x, zero), at_zero, zero)
    return t.where(t.compare(">", x, zero), one, below)


def _hermite(t: Tape, degree: int, x: int) -> int:
    n = t.value(degree)
    if n is None or n != int(n) or not 0 <= n <= MAX_DEGREE:
        raise ValueError(f"hermite(n, x) needs a whole number n from 0 to {MAX_DEGREE} as its first argument")
    return t.hermite(int(n), x)


_ELEMENTARY = (
    *("abs", "sign", "floor", "exp", "expm1", "log", "log1p"),
    *("sin", "cos", "tan", "arctan", "sinh", "cosh", "tanh"),
    *("erf", "erfc", "normal_cdf", "normal_pdf", "softplus", "sigmoid"),
)

#: the functions of the language
FUNCTIONS: dict[str, Function] = {
    **{name: Function(1, 1, _folded(name)) for name in _ELEMENTARY},
    "sqrt": Function(1, 1, lambda t, x: t.pow(x, t.constant(0.5))),
    "relu": Function(1, 1, lambda t, x: t.apply("maximum", x, t.constant(0.0))),
    "heaviside": Function(1, 2, _heaviside),
    "minimum": Function(2, 64, _folded("minimum")),
    "maximum": Function(2, 64, _folded("maximum")),
    "clip": Function(3, 3, lambda t, x, low, high: t.apply("minimum", t.apply("maximum", x, low), high)),
    "where": Function(3, 3, Tape.where),
    "hermite": Function(2, 2, _hermite),
}

_BINARY = {"+": 2, "-": 2, "*": 3, "/": 3}
_COMPARE = {"<", "<=", ">", ">=", "==", "!="}


@dataclass
class _Parser:
    tape: Tape
    text: str
    what: str
    names: Mapping[str, int]
    unknown: Callable[[str], str]
    functions: Mapping[str, Function]
    next: int = 0

    def __post_init__(self) -> None:
        self.tokens = self._tokenise()

    def error(self, at: int, why: str) -> InputError:
        return refuse(self.what, self.text, at, why)

    def _tokenise(self) -> list[Token]:
        tokens: list[Token] = []
        at, depth = 0, 0
        while True:
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                bad = self.text[at]
                hint = _HINTS.get(bad)
                raise self.error(at, f"unexpected character {bad!r}" + (f" ({hint})" if hint else ""))
            kind = str(match.lastgroup)
            token = Token(kind, match.group(kind), match.start(kind))
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if depth > MAX_DEPTH:
                raise self.error(token.at, f"more than {MAX_DEPTH} levels of nesting")
            tokens.append(token)
            if kind == "end":
                return tokens
            at = match.end()

    def peek(self) -> Token:
        return self.tokens[self.next]

    def take(self, *texts: str) -> Token | None:
        token = self.tokens[self.next]
        if token.kind == "operator" and token.text in texts:
            self.next += 1
            return token
        return None

    def build(self, at: int, make: Callable[..., int], *args: Any) -> int:
        """Make a node, turning arithmetic that has no value into a refusal that points at ``at``."""
        try:
            return make(*args)
        except UndefinedError as error:
            value = error.args[0]
            why = "is not a real number" if math.isnan(value) else "is infinite (overflow or division by zero)"
            raise self.error(at, f"the value of a constant part {why}") from None
        except ValueError as error:
            raise self.error(at, str(error)) from None

    def whole(self) -> int:
        node = self.comparison(0)
        token = self.peek()
        if token.kind != "end":
            why = (
                "')' without '('"
                if token.text == ")"
                else "an operator is missing here (products are written with *)"
                if token.kind in ("name", "number") or token.text == "("
                else f"unexpected {token.text!r}"
            )
            raise self.error(token.at, why)
        return node

    def comparison(self, depth: int) -> int:
        left = self.sum(depth, 2)
        result: int | None = None
        while token := self.take(*_COMPARE):
            right = self.sum(depth, 2)
            holds = self.tape.number(self.build(token.at, self.tape.compare, token.text, left, right))
            result = holds if result is None else self.tape.mul(result, holds)
            left = right
        return left if result is None else result

    def sum(self, depth: int, level: int) -> int:
        """Left-associative chains of ``+ -`` (level 2) and ``* /`` (level 3), however long: one level deep."""
        operators = [op for op, own in _BINARY.items() if own == level]
        node = self.sum(depth, 3) if level == 2 else self.signed(depth)
        while token := self.take(*operators):
            right = self.sum(depth, 3) if level == 2 else self.signed(depth)
            make = {"+": self.tape.add, "-": self.tape.sub, "*": self.tape.mul, "/": self.tape.div}[token.text]
            node = self.build(token.at, make, node, right)
        return node

    def signed(self, depth: int) -> int:
        token = self.take("-", "+")
        if token is None:
            return self.power(depth)
        node = self.signed(self.deeper(depth, token))
        return self.tape.neg(node) if token.text == "-" else node

    def power(self, depth: int) -> int:
        base = self.atom(depth)
        token = self.take("**")
        if token is None:
            return base
        exponent = self.signed(self.deeper(depth, token))
        return self.build(token.at, self.tape.pow, base, exponent)

    def atom(self, depth: int) -> int:
        token = self.peek()
        if token.kind == "number":
            self.next += 1
            value = float(token.text)
            if math.isinf(value):
                raise self.error(token.at, f"the number {_short(token.text)} overflows (infinite)")
            return self.tape.constant(value)
        if token.kind == "name":
            self.next += 1
            return self.call(token, depth) if self.take("(") else self.named(token)
        if self.take("("):
            node = self.comparison(self.deeper(depth, token))
            self.close(token)
            return node
        instead = "the end" if token.kind == "end" else repr(token.text)
        raise self.error(token.at, f"expected a number, a name or '(' but found {instead}")

    def named(self, token: Token) -> int:
        name = token.text
        if name in self.names:
            return self.names[name]
        if name == "pi":
            return self.tape.constant(math.pi)
        if name in self.functions:
            raise self.error(token.at, f"{name!r} is a function: write {name}(..)")
        raise self.error(token.at, self.unknown(name))

    def call(self, token: Token, depth: int) -> int:
        name = token.text
        function = self.functions.get(name)
        if function is None:
            if name in self.names or name == "pi":
                raise self.error(token.at, f"{name!r} is not a function (products are written with *)")
            hint = f"did you mean {_ALIASES[name]!r}? accepted: " if name in _ALIASES else ""
            hint += ", ".join(self.functions) if hint else suggest(name, self.functions)
            raise self.error(token.at, f"unknown function {_short(name)!r}; {hint}")
        deeper = self.deeper(depth, token)
        args: list[int] = []
        if not self.take(")"):
            args.append(self.comparison(deeper))
            while self.take(","):
                args.append(self.comparison(deeper))
            self.close(token)
        if not function.least <= len(args) <= function.most:
            wanted = str(function.least) if function.least == function.most else f"at least {function.least}"
            raise self.error(token.at, f"{name} takes {wanted} argument(s), {len(args)} given")
        return self.build(token.at, function.build, self.tape, *args)

    def close(self, opened: Token) -> None:
        if not self.take(")"):
            token = self.peek()
            instead = "the text ends" if token.kind == "end" else f"found {token.text!r}"
            raise self.error(token.at, f"the bracket opened at character {opened.at + 1} is not closed: {instead}")

    def deeper(self, depth: int, token: Token) -> int:
        if depth >= MAX_DEPTH:
            raise self.error(token.at, f"more than {MAX_DEPTH} levels of nesting")
        return depth + 1


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def check_length(what: str, text: str) -> None:
    """Raise InputError if the text is longer than :data:`MAX_LENGTH`."""
    if len(text) > MAX_LENGTH:
        raise refuse(what, text, None, f"{len(text)} characters; at most {MAX_LENGTH} are accepted")


def parse(
    tape: Tape,
    text: str,
    what: str,
    names: Mapping[str, int],
    unknown: Callable[[str], str],
    functions: Mapping[str, Function] = FUNCTIONS,
) -> int:
    """Read the expression ``text`` onto ``tape`` and return its node.

    ``names`` are the nodes of the variables, ``functions`` those allowed; ``unknown`` says, given any other name, what
    is wrong with it. Messages call the expression ``what``, for example ``"activation"``.

    Raises
    ------
    InputError
        If the text is too long (:data:`MAX_LENGTH`), too deep (:data:`MAX_DEPTH`), not in the grammar, or a constant
        part of it has no finite value. The message quotes the text and points at the place.
    """
    check_length(what, text)
    if not text.strip():
        raise InputError(f"{what}: the expression is empty")
    try:
        return _Parser(tape, text, what, names, unknown, functions).whole()
    except IntricateError:
        raise refuse(what, text, None, "too intricate: too many operations") from None
    except RecursionError:
        raise refuse(what, text, None, "too deeply nested to be read here") from None
