"""Parameters of the related models: where each lives, in a form that a message and a command line can use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import Any

import numpy as np

from featurephase.foundation.types import Array


@dataclass(frozen=True)
class Domain:
    """Where a parameter lives."""

    accepted: str  # the same in words, for messages and for the help of the command
    convert: Callable[[Any], Any]  # from what was given to the value; ValueError or TypeError where it is not accepted
    kind: str  # "number", "whole", "word", "vector" or "matrix": how a command line writes it


#: Sizes of the numbers that the models take (or 0): their squares and products stay within floating point.
SMALLEST, LARGEST = 1e-100, 1e100


class SizeError(ValueError):
    """A number that is too large or too small for the models."""


def _real(value: Any) -> float:
    if isinstance(value, (bool, str)):
        raise ValueError
    if not math.isfinite(x := float(value)):
        raise ValueError
    if x != 0.0 and not SMALLEST <= abs(x) <= LARGEST:
        raise SizeError(f"0 or between {SMALLEST:g} and {LARGEST:g} in size")
    return x


def number(low: float = -math.inf, high: float = math.inf, *, open_low: bool = True) -> Domain:
    """A finite number between two bounds; the lower one is excluded unless ``open_low`` is false."""

    def convert(value: Any) -> float:
        x = _real(value)
        if x > high or x < low or (open_low and x == low):
            raise ValueError
        return x

    bounds = [f"{'>' if open_low else '>='} {low:g}"] * math.isfinite(low) + [f"<= {high:g}"] * math.isfinite(high)
    return Domain(" ".join(["a finite number", " and ".join(bounds)]).strip(), convert, "number")


def count(low: int = 1, high: int = 10**9) -> Domain:
    """A whole number."""

    def convert(value: Any) -> int:
        x = int(value)
        if isinstance(value, (bool, str)) or x != value or not low <= x <= high:
            raise ValueError
        return x

    return Domain(f"a whole number from {low} to {high}", convert, "whole")


def choice(*words: str) -> Domain:
    """One of a few words."""

    def convert(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Domain("one of " + ", ".join(words), convert, "word")


def vector(of: Domain | None = None, *, infinite: bool = False) -> Domain:
    """One or several numbers, each in the domain ``of``; ``infinite`` admits infinity besides."""
    entry = number() if of is None else of

    def convert(value: Any) -> Array:
        items = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if items.ndim != 1 or not items.size:
            raise ValueError
        for item in items[~np.isposinf(items)] if infinite else items:
            entry.convert(item)
        return items

    words = f"numbers, each {entry.accepted}" + (" or inf" if infinite else "")
    return Domain(words, convert, "vector")


def matrix() -> Domain:
    """A matrix of finite numbers."""

    def convert(value: Any) -> Array:
        rows = np.asarray(value, dtype=np.float64)
        if rows.ndim != 2 or not rows.size:
            raise ValueError
        for entry in rows.flat:
            _real(entry)
        return rows

    return Domain("a matrix of finite numbers", convert, "matrix")


def times(last: float, count: int, about: str = "times", *, infinite: bool = False) -> Any:
    """A field of times >= 0, by default evenly spaced from 0 to ``last``."""
    default = tuple(np.linspace(0.0, last, count).tolist())
    return parameter(vector(number(0.0, open_low=False), infinite=infinite), about, default=default)


def parameter(domain: Domain, about: str, *, default: Any = MISSING) -> Any:
    """A field of a model: where it lives and what it is. ``default`` of ``None`` means: not given."""
    if isinstance(default, (list, tuple)):
        value = tuple(default)
        return field(default_factory=lambda: value, metadata={"domain": domain, "about": about})
    return field(default=default, metadata={"domain": domain, "about": about})
