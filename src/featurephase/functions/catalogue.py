"""The functions known by name: activations, losses and links, each an expression in the one language.

A name may carry parameters, ``leaky_relu(0.1)``; those left out take the value shown. What is said of an entry
(bounded, smooth, parity, convex) is proved on paper and holds for every admissible parameter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from featurephase.foundation.errors import InputError
from featurephase.functions.parser import FUNCTIONS, Function, parse, refuse
from featurephase.functions.tape import MAX_DEGREE, Tape

Fact = bool | str | None


@dataclass(frozen=True)
class Entry:
    """One name of a catalogue, with an expression in the variables and the parameters.

    That of a link may be a function of the number of coordinates it involves, by default all.
    """

    expression: str | Callable[[int], str]
    facts: Mapping[str, Fact] = field(default_factory=dict)  # what is proved of it, by the names of the facts
    parameters: Mapping[str, float] = field(default_factory=dict)  # name -> default value
    #: parameter -> what it must be, for those that may be other than positive: "real", "degree", "fraction"
    accepted: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # a word on it, for the documentation


_KINDS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "positive": ("a positive number", lambda p: 0 < p < math.inf),
    "real": ("a finite number", math.isfinite),
    "degree": (f"a whole number from 0 to {MAX_DEGREE}", lambda p: p == int(p) and 0 <= p <= MAX_DEGREE),
    "fraction": ("a number between 0 and 1", lambda p: 0 < p < 1),
}


def _facts(bounds: str, smooth: bool, **more: Fact) -> dict[str, Fact]:
    """Facts from a word such as "nyy": f not bounded, f' and f'' bounded."""
    names = ("bounded", "bounded_first", "bounded_second")
    return {n: b == "y" for n, b in zip(names, bounds, strict=True)} | {"smooth": smooth} | more


_ODD, _EVEN, _NEITHER = {"parity": "odd"}, {"parity": "even"}, {"parity": None}

ACTIVATIONS: dict[str, Entry] = {
    "linear": Entry("h", _facts("nyy", True, **_ODD)),
    "relu": Entry("relu(h)", _facts("nyn", False, **_NEITHER)),
    "leaky_relu": Entry("where(h > 0, h, a*h)", {}, {"a": 0.01}, {"a": "real"}),
    "abs": Entry("abs(h)", _facts("nyn", False, **_EVEN)),
    "relu_squared": Entry("relu(h)**2", _facts("nny", False, **_NEITHER)),
    "elu": Entry("where(h > 0, h, a*expm1(h))", {"parity": None}, {"a": 1.0}, note="singular unless a = 1"),
    "celu": Entry("where(h > 0, h, a*expm1(h/a))", _facts("nyy", False, **_NEITHER), {"a": 1.0}),
    "selu": Entry(
        "1.0507009873554805*where(h > 0, h, 1.6732632423543772*expm1(h))",
        _facts("nyn", False, **_NEITHER),
        note="Klambauer et al. 2017",
    ),
    "softplus": Entry("softplus(b*h)/b", _facts("nyy", True, **_NEITHER), {"b": 1.0}),
    "gelu": Entry("h*normal_cdf(h)", _facts("nyy", True, **_NEITHER)),
    "gelu_tanh": Entry(
        "h*sigmoid(2*sqrt(2/pi)*(h + 0.044715*h**3))",
        _facts("nyy", True, **_NEITHER),
        note="the tanh approximation of gelu",
    ),
    "silu": Entry("h*sigmoid(b*h)", _facts("nyy", True, **_NEITHER), {"b": 1.0}, note="also called swish"),
    "mish": Entry("h*tanh(softplus(h))", _facts("nyy", True, **_NEITHER)),
    "tanh": Entry("tanh(h)", _facts("yyy", True, **_ODD)),
    "hard_tanh": Entry("clip(h, -1, 1)", _facts("yyn", False, **_ODD)),
    "erf": Entry("erf(h/sqrt(2))", _facts("yyy", True, **_ODD), note="the scaling of Saad and Solla 1995"),
    "arctan": Entry("arctan(h)", _facts("yyy", True, **_ODD)),
    "softsign": Entry("h/(1 + abs(h))", _facts("yyy", False, **_ODD)),
    "sigmoid": Entry("sigmoid(h)", _facts("yyy", True, **_NEITHER)),
    "sin": Entry("sin(h)", _facts("yyy", True, **_ODD)),
    "cos": Entry("cos(h)", _facts("yyy", True, **_EVEN)),
    "gaussian": Entry("exp(-h**2/2)", _facts("yyy", True, **_EVEN)),
    "sqrt1p": Entry("sqrt(1 + h**2)", _facts("nyy", True, **_EVEN), note="a smooth |h|"),
    "quadratic": Entry("h**2", _facts("nny", True, **_EVEN)),
    "cubic": Entry("h**3", _facts("nnn", True, **_ODD)),
    "hermite": Entry(
        "hermite(n, h)",
        {"smooth": True},
        {"n": 2.0},
        {"n": "degree"},
        note="probabilists' He_n, E[He_n(g)^2] = n!",
    ),
}

LOSSES: dict[str, Entry] = {
    "squared": Entry("(y - f)**2/2", _facts("nny", True, convex=True)),
    "absolute": Entry("abs(y - f)", _facts("nyn", False, convex=True)),
    "huber": Entry(
        "where(abs(y - f) <= c, (y - f)**2/2, c*abs(y - f) - c**2/2)",
        _facts("nyy", False, convex=True),
        {"c": 1.0},
    ),
    "pseudo_huber": Entry(
        "(y - f)**2/(1 + sqrt(1 + ((y - f)/c)**2))",
        _facts("nyy", True, convex=True),
        {"c": 1.0},
        note="c^2 (sqrt(1 + ((y-f)/c)^2) - 1), free of cancellation",
    ),
    "log_cosh": Entry("softplus(2*(y - f)) - (y - f) - log(2)", _facts("nyy", True, convex=True)),
    "cauchy": Entry("c**2/2*log1p(((y - f)/c)**2)", _facts("nyy", True, convex=False), {"c": 1.0}),
    "welsch": Entry("-c**2/2*expm1(-((y - f)/c)**2)", _facts("yyy", True, convex=False), {"c": 1.0}),
    "tukey": Entry(
        "c**2/6*(1 - maximum(0, 1 - ((y - f)/c)**2)**3)",
        _facts("yyy", False, convex=False),
        {"c": 4.685},
        note="biweight",
    ),
    "logistic": Entry("softplus(-y*f)", _facts("nyy", True, convex=True), note="y = +1 or -1"),
    "cross_entropy": Entry(
        "softplus(f) - y*f",
        _facts("nyy", True, convex=True),
        note="y = 0 or 1; with several outputs that of their softmax",
    ),
    "binary_cross_entropy": Entry(
        "softplus(f) - y*f", _facts("nyy", True, convex=True), note="y = 0 or 1; the logistic loss of 2 y - 1"
    ),
    "exponential": Entry("exp(-y*f)", _facts("nnn", True, convex=True), note="y = +1 or -1"),
    "hinge": Entry("maximum(0, 1 - y*f)", _facts("nyn", False, convex=True), note="y = +1 or -1"),
    "squared_hinge": Entry("maximum(0, 1 - y*f)**2/2", _facts("nny", False, convex=True), note="y = +1 or -1"),
    "smooth_hinge": Entry(
        "where(y*f >= 1, 0, where(y*f > 1 - c, (1 - y*f)**2/(2*c), 1 - y*f - c/2))",
        _facts("nyy", False, convex=True),
        {"c": 1.0},
        note="hinge with a parabola of width c at its corner",
    ),
    "phase_retrieval": Entry(
        "(y - f)**2/(a + y)", _facts("nny", True, convex=None), {"a": 1.0}, note="convex where y > -a"
    ),
}


#: Losses of two classes -> the responses that they are meant for.
LABELS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("logistic", "exponential", "hinge", "squared_hinge", "smooth_hinge"), (-1.0, 1.0)),
    **dict.fromkeys(("cross_entropy", "binary_cross_entropy"), (0.0, 1.0)),
}


def _coordinates(p: int) -> list[str]:
    return [f"g{i + 1}" for i in range(p)]


LINKS: dict[str, Entry] = {
    "linear": Entry("g1"),
    "abs": Entry("abs(g1)"),
    "sign": Entry("sign(g1)"),
    "square": Entry("g1**2"),
    "cubic": Entry("g1**3"),
    "tanh_square": Entry("tanh(g1**2)"),
    "norm_square": Entry(lambda p: " + ".join(f"{g}**2" for g in _coordinates(p))),
    "product": Entry(lambda p: "*".join(_coordinates(p))),
    "parity": Entry(lambda p: f"sign({'*'.join(_coordinates(p))})", note="also called sign_product"),
    "staircase": Entry(lambda p: " + ".join("*".join(_coordinates(i + 1)) for i in range(p)), note="Abbe et al. 2022"),
    "sign_staircase": Entry(
        lambda p: " + ".join(f"sign({'*'.join(_coordinates(i + 1))})" for i in range(p)),
    ),
    "random_staircase": Entry("where(u1 < 0.5, g1, 100 + sign(g1*g2))", note="easy in two rounds: g1, then g2"),
    "tanh_hermite": Entry("tanh(g1 + hermite(3, g2))", note="Dandi et al. 2024"),
    "linear_tanh_square": Entry("g1 + tanh(g2**2)", note="g1 easy, g2 hard"),
    "committee": Entry(lambda p: f"sign({' + '.join(f'sign({g})' for g in _coordinates(p))})"),
    "soft_committee": Entry(
        lambda p: f"({' + '.join(f'erf({g}/sqrt(2))' for g in _coordinates(p))})/sqrt({p})",
        note="Saad and Solla 1995",
    ),
    "logistic": Entry(
        "where(u1 < sigmoid(b*g1), 1, -1)", {}, {"b": 1.0}, note="a random label, more often the sign of g1"
    ),
}

_ALIASES = {
    "identity": "linear",
    "swish": "silu",
    "square": "quadratic",
    "sign_product": "parity",
    "quadratic": "square",
}


def _macro(name: str, entry: Entry) -> Function:
    """An activation of the catalogue as a function of the language: ``elu(x)``, ``elu(x, 0.5)``."""

    def build(tape: Tape, x: int, *given: int) -> int:
        nodes = {"h": x}
        for key, default in entry.parameters.items():
            nodes[key] = tape.constant(default)
        for key, node in zip(entry.parameters, given, strict=False):
            meaning, holds = _KINDS[entry.accepted.get(key, "positive")]
            value = tape.value(node)
            if value is None or not holds(value):
                raise ValueError(f"the parameter {key} of {name} must be {meaning}")
            nodes[key] = node
        assert isinstance(entry.expression, str)
        try:
            return parse(tape, entry.expression, name, nodes, str)
        except InputError:
            raise ValueError(f"{name} has no finite value there") from None

    return Function(1, 1 + len(entry.parameters), build)


#: the functions of expressions: those of the parser, and activations by name
LANGUAGE: dict[str, Function] = {name: _macro(name, entry) for name, entry in ACTIVATIONS.items()} | FUNCTIONS

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.ASCII | re.DOTALL)


def split_arguments(inside: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for c in inside:
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts] if inside.strip() else []


def split_call(text: str) -> tuple[str, list[str] | None] | None:
    """``name`` -> (name, None), ``name(a, b)`` -> (name, [a, b]), anything else -> None."""
    match = _CALL.fullmatch(text)
    if match is None:
        return None
    name, inside = match.groups()
    depth = 0
    for c in inside or "":
        depth += {"(": 1, ")": -1}.get(c, 0)
        if depth < 0:
            return None
    return name, None if inside is None else split_arguments(inside)


def number(text: str) -> float | None:
    """The value of a constant expression, None if it is none."""
    tape = Tape()
    try:
        return tape.value(parse(tape, text, "parameter", {}, str))
    except InputError:
        return None


def expand(
    catalogue: Mapping[str, Entry], what: str, text: str, dimension: int = 0
) -> tuple[str, Mapping[str, Fact]] | None:
    """The expression and the facts behind ``name`` or ``name(1.5)``; None if the text is no such reference.

    ``dimension`` is the number of coordinates available to links that come in every number of them.

    Raises
    ------
    InputError
        If the name is known but its parameters are not acceptable.
    """
    call = split_call(text)
    if call is None:
        return None
    name, given = call
    entry = catalogue.get(name) or catalogue.get(_ALIASES.get(name, ""))
    if entry is None:
        return None
    numbers = [number(part) for part in given or []]
    if any(n is None for n in numbers):
        return None
    family = callable(entry.expression)
    parameters = {"p": float(dimension)} if family else dict(entry.parameters)
    if len(numbers) > len(parameters):
        takes = ", ".join(f"{k} = {v:g}" for k, v in parameters.items()) or "none"
        raise refuse(what, text, None, f"{len(numbers)} parameter(s) given; {name} takes {takes}")
    for key, value in zip(parameters, numbers, strict=False):
        assert value is not None
        if family:
            if value != int(value) or not 1 <= value <= dimension:
                raise refuse(
                    what,
                    text,
                    None,
                    f"{value:g} coordinates asked for; accepted: a whole number from 1 to latent_dim = {dimension}",
                )
        else:
            meaning, holds = _KINDS[entry.accepted.get(key, "positive")]
            if not holds(value):
                raise refuse(what, text, None, f"the parameter {key} = {value:g} must be {meaning}")
        parameters[key] = value
    if callable(entry.expression):
        return entry.expression(int(parameters["p"])), entry.facts
    expression = entry.expression
    for key, value in parameters.items():
        expression = re.sub(rf"\b{key}\b", f"{value!r}" if value >= 0 else f"({value!r})", expression)
    return expression, entry.facts
