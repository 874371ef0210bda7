"""The functions known by name: activations, losses and links, each an expression in the one language.

A name may carry parameters, ``leaky_relu(0.1)``; those left out take the value shown. What is said of an entry
(bounded, smooth, parity) is proved on paper and holds for every admissible parameter.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from featurephase.errors import InputError
from featurephase.functions.parser import refuse

__all__ = ["ACTIVATIONS", "LINKS", "LOSSES", "Entry", "lookup", "split_call"]


@dataclass(frozen=True)
class Entry:
    """One name of a catalogue.

    Attributes
    ----------
    expression : str
        In the variables and the parameters.
    parameters : mapping
        Name -> default. All must be positive numbers unless ``signed`` names them.
    facts : mapping
        What is proved: ``bounded``, ``bounded_first``, ``bounded_second``, ``smooth``, ``parity``, ``convex``.
    note : str
        A word on the function, for the documentation.
    """

    expression: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, bool | str | None] = field(default_factory=dict)
    note: str = ""
    signed: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()


def _facts(
    value: int, first: int, second: int, smooth: int, parity: str | None = None
) -> dict[str, bool | str | None]:
    return {
        "bounded": bool(value),
        "bounded_first": bool(first),
        "bounded_second": bool(second),
        "smooth": bool(smooth),
        "parity": parity,
    }


_ALPHA = 1.6732632423543772  # Klambauer et al. 2017: fixed point of mean 0, variance 1
_SCALE = 1.0507009873554805

ACTIVATIONS: dict[str, Entry] = {
    "linear": Entry("h", {}, _facts(0, 1, 1, 1, "odd")),
    "relu": Entry("relu(h)", {}, _facts(0, 1, 0, 0)),
    "leaky_relu": Entry("where(h > 0, h, a*h)", {"a": 0.01}, _facts(0, 1, 0, 0), signed=frozenset("a")),
    "abs": Entry("abs(h)", {}, _facts(0, 1, 0, 0, "even")),
    "relu_squared": Entry("relu(h)**2", {}, _facts(0, 0, 1, 0)),
    "elu": Entry("where(h > 0, h, a*expm1(h))", {"a": 1.0}, _facts(0, 1, 1, 0)),
    "celu": Entry("where(h > 0, h, a*expm1(h/a))", {"a": 1.0}, _facts(0, 1, 1, 0)),
    "selu": Entry(f"{_SCALE}*where(h > 0, h, {_ALPHA}*expm1(h))", {}, _facts(0, 1, 0, 0)),
    "softplus": Entry("softplus(b*h)/b", {"b": 1.0}, _facts(0, 1, 1, 1)),
    "gelu": Entry("h*normal_cdf(h)", {}, _facts(0, 1, 1, 1)),
    "gelu_tanh": Entry(
        "h*sigmoid(2*sqrt(2/pi)*(h + 0.044715*h**3))",
        {},
        _facts(0, 1, 1, 1),
        note="the tanh approximation of gelu",
    ),
    "silu": Entry("h*sigmoid(b*h)", {"b": 1.0}, _facts(0, 1, 1, 1), note="swish"),
    "mish": Entry("h*tanh(softplus(h))", {}, _facts(0, 1, 1, 1)),
    "tanh": Entry("tanh(h)", {}, _facts(1, 1, 1, 1, "odd")),
    "hard_tanh": Entry("clip(h, -1, 1)", {}, _facts(1, 1, 0, 0, "odd")),
    "erf": Entry("erf(h/sqrt(2))", {}, _facts(1, 1, 1, 1, "odd"), note="the scaling of Saad and Solla 1995"),
    "arctan": Entry("arctan(h)", {}, _facts(1, 1, 1, 1, "odd")),
    "softsign": Entry("h/(1 + abs(h))", {}, _facts(1, 1, 1, 0, "odd")),
    "sigmoid": Entry("sigmoid(h)", {}, _facts(1, 1, 1, 1)),
    "sin": Entry("sin(h)", {}, _facts(1, 1, 1, 1, "odd")),
    "cos": Entry("cos(h)", {}, _facts(1, 1, 1, 1, "even")),
    "gaussian": Entry("exp(-h**2/2)", {}, _facts(1, 1, 1, 1, "even")),
    "sqrt1p": Entry("sqrt(1 + h**2)", {}, _facts(0, 1, 1, 1, "even"), note="a smooth |h|"),
    "quadratic": Entry("h**2", {}, _facts(0, 0, 1, 1, "even")),
    "cubic": Entry("h**3", {}, _facts(0, 0, 0, 1, "odd")),
    "hermite": Entry(
        "hermite(n, h)", {"n": 2.0}, {"smooth": True}, "He_n, E[He_n(h)^2] = n!", whole=frozenset("n")
    ),
}

_ALIASES = {
    "identity": "linear",
    "swish": "silu",
    "square": "quadratic",
    "leakyrelu": "leaky_relu",
    "mse": "squared",
    "half_squared": "squared",
}

LOSSES: dict[str, Entry] = {
    "squared": Entry("(y - f)**2/2", {}),
    "absolute": Entry("abs(y - f)", {}),
    "huber": Entry("where(abs(y - f) <= c, (y - f)**2/2, c*abs(y - f) - c**2/2)", {"c": 1.0}),
    "pseudo_huber": Entry("c**2*((y - f)/c)**2/(1 + sqrt(1 + ((y - f)/c)**2))", {"c": 1.0}),
    "log_cosh": Entry("abs(y - f) + log1p(exp(-2*abs(y - f))) - log(2)", {}),
    "welsch": Entry("-c**2/2*expm1(-((y - f)/c)**2)", {"c": 1.0}),
    "cauchy": Entry("c**2/2*log1p(((y - f)/c)**2)", {"c": 1.0}),
    "tukey": Entry("where(abs(y - f) <= c, c**2/6*(1 - (1 - ((y - f)/c)**2)**3), c**2/6)", {"c": 4.685}),
    "logistic": Entry("softplus(-y*f)", {}),
    "cross_entropy": Entry("softplus(f) - y*f", {}),
    "exponential": Entry("exp(-y*f)", {}),
    "hinge": Entry("maximum(0, 1 - y*f)", {}),
    "squared_hinge": Entry("maximum(0, 1 - y*f)**2/2", {}),
    "smooth_hinge": Entry(
        "where(y*f >= 1, 0, where(y*f > 1 - c, (1 - y*f)**2/(2*c), 1 - y*f - c/2))", {"c": 1.0}
    ),
    "phase_retrieval": Entry("(y - f)**2/(a + y)", {"a": 1.0}),
}

LINKS: dict[str, Entry] = {
    "linear": Entry("g1"),
    "abs": Entry("abs(g1)"),
    "sign": Entry("sign(g1)"),
    "square": Entry("g1**2"),
    "tanh_square": Entry("tanh(g1**2)"),
    "product": Entry("g1*g2"),
    "sign_product": Entry("sign(g1*g2)"),
}

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.ASCII | re.DOTALL)


def split_call(text: str) -> tuple[str, str | None] | None:
    """``name`` -> (name, None), ``name(inside)`` -> (name, inside), anything else -> None."""
    match = _CALL.fullmatch(text)
    if match is None:
        return None
    name, inside = match.groups()
    depth = 0
    for c in inside or "":
        depth += {"(": 1, ")": -1}.get(c, 0)
        if depth < 0:
            return None
    return name, inside


def lookup(
    catalogue: Mapping[str, Entry], what: str, text: str
) -> tuple[str, Entry, dict[str, float]] | None:
    """Find ``name`` or ``name(1.5)`` in a catalogue: (canonical name, entry, parameters), or None."""
    call = split_call(text)
    if call is None:
        return None
    name, inside = call
    name = _ALIASES.get(name, name) if name not in catalogue else name
    entry = catalogue.get(name)
    if entry is None:
        return None
    values = dict(entry.parameters)
    if inside is not None:
        given = [part.strip() for part in inside.split(",")] if inside.strip() else []
        try:
            numbers = [float(part) for part in given]
        except ValueError:
            return None
        if len(numbers) > len(values):
            takes = ", ".join(f"{k} = {v:g}" for k, v in values.items()) or "none"
            raise refuse(what, text, None, f"{len(numbers)} parameters given; {name} takes: {takes}")
        for key, number in zip(values, numbers, strict=False):
            if not math.isfinite(number) or (number <= 0 and key not in entry.signed | entry.whole):
                raise refuse(
                    what, text, None, f"the parameter {key} = {number:g} must be a positive finite number"
                )
            if key in entry.whole and (number != int(number) or not 0 <= number <= 64):
                raise refuse(
                    what, text, None, f"the parameter {key} = {number:g} must be a whole number, 0 to 64"
                )
            values[key] = number
    return name, entry, values


def suggest(name: str, catalogue: Iterable[str]) -> str:
    """`` (did you mean ..?)`` or nothing."""
    close = difflib.get_close_matches(name, list(catalogue), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
