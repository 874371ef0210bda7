"""What a claim is: a statement, the criterion that it must meet, and the experiment that decides.

A file of this room holds one claim. Its experiment composes public analyses and returns a :class:`Finding`: comparisons
of numbers with their errors, and pictures. How comparisons become a verdict is written once, in
:mod:`featurephase.claims.verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.statistics import mean_and_se, welch_degrees
from featurephase.results.related import Curve, Panel

TRANSITIONS = "Montanari & Wang, Phase Transitions for Feature Learning in Neural Networks, arXiv 2602.01434"
MECHANISMS = "Xu & Ziyin, Three Mechanisms of Feature Learning in the Exact Solution .., arXiv 2401.07085"


class NotDeterminedError(Exception):
    """The experiment cannot be run here; the message says what it needs."""


@dataclass(frozen=True)
class Number:
    """A number, its standard error (0: exact), and the degrees of freedom of that error."""

    value: float
    se: float = 0.0
    degrees: float = math.inf

    @classmethod
    def mean(cls, replicates: ArrayLike) -> Number:
        """The mean of independent replicates."""
        values = np.asarray(replicates, dtype=np.float64)
        mean, se = mean_and_se(values)
        return cls(float(mean), float(se), len(values) - 1)

    @classmethod
    def of(cls, value: Any, se: Any, replicates: int) -> Number:
        """A mean over so many replicates that an analysis has already formed."""
        return cls(float(value), float(se), replicates - 1)

    @classmethod
    def sum(cls, terms: Sequence[tuple[float, Number]]) -> Number:
        """A linear combination of independent numbers, with Welch's degrees of freedom."""
        errors = [factor * number.se for factor, number in terms]
        return cls(
            sum(factor * number.value for factor, number in terms),
            float(np.hypot.reduce(errors)) if errors else 0.0,
            welch_degrees(errors, [min(number.degrees, 1e9) for _, number in terms]),
        )

    def log(self) -> Number:
        """Its logarithm, for errors that are small beside it."""
        if not self.value > 0.0:
            return Number(math.nan, math.nan, self.degrees)
        return Number(math.log(self.value), self.se / self.value, self.degrees)


@dataclass(frozen=True)
class Comparison:
    """One piece of evidence, not judged yet: see :class:`~featurephase.results.ledger.Evidence`."""

    name: str
    observed: Number
    relation: str
    expected: Number
    resolution: float = 0.0
    tolerance: float = 0.0
    core: bool = True


def _number(value: Number | float) -> Number:
    return value if isinstance(value, Number) else Number(float(value))


def equals(
    name: str,
    observed: Number,
    expected: Number | float,
    *,
    resolution: float,
    tolerance: float = 0.0,
    core: bool = True,
) -> Comparison:
    """That two numbers are equal, known to within a standard error of ``resolution``.

    ``tolerance``: what finite sizes may add to one of them, besides its error.
    """
    return Comparison(name, observed, "equals", _number(expected), resolution, tolerance, core)


def above(name: str, observed: Number, expected: Number | float, *, core: bool = True) -> Comparison:
    """That one number is larger than another."""
    return Comparison(name, observed, "above", _number(expected), core=core)


def below(name: str, observed: Number, expected: Number | float, *, core: bool = True) -> Comparison:
    """That one number is smaller than another."""
    return Comparison(name, observed, "below", _number(expected), core=core)


def at_most(name: str, observed: float, bound: float, *, core: bool = True) -> Comparison:
    """That a number that is not stochastic, such as an error, is within a bound."""
    return Comparison(name, Number(float(observed)), "at most", Number(float(bound)), core=core)


def fact(name: str, holds: bool, *, core: bool = True) -> Comparison:
    """That something is so: the number of exceptions, 0 or 1, is at most 0."""
    return at_most(name, 0.0 if holds else 1.0, 0.0, core=core)


def slope(x: ArrayLike, numbers: Sequence[Number]) -> Number:
    """The slope of independent numbers over ``x``, by least squares."""
    values = np.asarray(x, dtype=np.float64)
    centred = values - values.mean()
    factors = centred / np.sum(centred**2)
    return Number.sum([(float(f), number) for f, number in zip(factors, numbers, strict=True)])


def power_law(x: ArrayLike, numbers: Sequence[Number]) -> Number:
    """The exponent of ``x`` in independent positive numbers, by least squares of their logarithms."""
    return slope(np.log(np.asarray(x, dtype=np.float64)), [number.log() for number in numbers])


def curve(x: ArrayLike, numbers: Sequence[Number], label: str = "", style: str = "bars") -> Curve:
    """Numbers over ``x`` with their errors."""
    values, errors = np.array([(n.value, n.se) for n in numbers]).T
    return Curve(np.array(x, dtype=np.float64), values, label, style, errors)


@dataclass(frozen=True)
class Finding:
    """What an experiment found."""

    comparisons: Sequence[Comparison]  # all that the criterion asks for
    limits: str = ""  # what of the statement was not tested; empty if nothing
    panels: tuple[Panel, ...] = ()  # the figure
    message: str = ""  # what else is to be known


@dataclass(frozen=True)
class Study:
    """How an experiment is to be run: the reduced one or the full one, and with which seed."""

    quick: bool = True
    seed: int = 0

    def size(self, quick: Any, full: Any) -> Any:
        """One of two sizes."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Claim:
    """One finding of the literature."""

    # What is claimed, and by whom.
    id: str
    number: int
    statement: str
    source: str
    # What must be seen, and how it is looked for: both fixed before the run.
    criterion: str
    experiment: str
    run: Callable[[Study], Finding]  # the experiment
    needs: tuple[str, ...] = field(default=())  # of what not everybody has: "torch", "fashion-mnist"
