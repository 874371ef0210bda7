"""What can be said of a function: proved where interval arithmetic or the catalogue proves it, else seen in a scan.

A scan evaluates the function at arguments up to 1e4; the facts that rest on one are listed in ``measured``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurephase.foundation.types import Array
from featurephase.functions.analysis import REACH, Survey
from featurephase.functions.formula import Formula
from featurephase.functions.intervals import enclosure

#: from |x| = NEAR to |x| = REACH an unbounded function grows by more than GROWTH (log log x grows by 15 %)
_NEAR = 1e3
_GROWTH = 1.05

_ORDERS = ("bounded", "bounded_first", "bounded_second")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a function of one variable on the real line; None: nothing.

    Attributes
    ----------
    bounded, bounded_first, bounded_second : bool or None
        Whether the function and its derivatives are bounded. A jump of the first derivative makes the second unbounded.
    smooth : bool or None
        Whether all derivatives exist; None: it switches branch, without a jump in the derivatives up to the second.
    measured : frozenset of str
        The names of the facts that rest on a scan of arguments up to 1e4; the others are proved.
    """

    bounded: bool | None = None
    bounded_first: bool | None = None
    bounded_second: bool | None = None
    smooth: bool | None = None
    measured: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class ActivationFacts(Facts):
    """What is known of an activation; its ``parity`` is "even", "odd" or None."""

    parity: str | None = None


@dataclass(frozen=True, kw_only=True)
class LossFacts(Facts):
    """What is known of a loss as a function of f, for every fixed y, and whether it is ``convex`` in f.

    All facts are None where the domain ends, as in ``f - y*log(f)``, unless proved.
    """

    convex: bool | None = None


@dataclass(frozen=True, kw_only=True)
class LinkFacts:
    """What is known of a link: whether |y| is ``bounded``, and by what ``bound``.

    If that is proved, the bound is an upper one (not always the least) and ``measured`` is empty. If it rests on a scan
    of arguments up to 1e4, the bound is the largest |y| seen, or inf, and ``measured`` names both.
    """

    bounded: bool
    bound: float
    measured: frozenset[str] = frozenset()


def grows(near: float, far: float) -> bool:
    """Whether a largest value ``near``, ``far`` farther out, betrays an unbounded function."""
    return not (np.isfinite(far) and far <= _GROWTH * near + np.finfo(np.float64).tiny)


def _sizes(values: Array, x: Array) -> tuple[float, float]:
    size = np.where(np.isnan(values), 0.0, np.abs(values))
    return float(np.max(size, where=np.abs(x) <= _NEAR, initial=0.0)), float(np.max(size, initial=0.0))


def _bounds(survey: Survey, x: Array, rows: int) -> dict[str, bool]:
    """Boundedness of f, f', f'' in the last variable as a scan shows it, at every row of the others."""
    bounded = {}
    alive = np.isfinite(survey.values[0]).reshape(rows, -1).any(axis=1)  # the others are outside the domain
    for order, name in enumerate(_ORDERS):
        values, places = (v.reshape(rows, -1)[alive] for v in (survey.values[order], x))
        unbounded = any(grows(*_sizes(v, at)) for v, at in zip(values, places, strict=True))
        for border in survey.borders:
            unbounded |= order > 0 and any(border.jumps[:order])
            unbounded |= bool(np.isinf([border.left[order], border.right[order]]).any())
        bounded[name] = not unbounded
    return bounded


def _common(
    formula: Formula, survey: Survey, rows: int, declared: Mapping[str, Any]
) -> tuple[dict[str, Any], set[str]]:
    """Bounds and smoothness: from the catalogue, else by intervals, else by a scan (the names of those)."""
    facts: dict[str, Any] = _bounds(survey, survey.points[-1], rows)
    facts["smooth"] = False if any(any(b.jumps) for b in survey.borders) else None if survey.borders else True
    scanned = set(facts)
    if survey.ends:
        facts = dict.fromkeys(facts)
    ranges = dict.fromkeys(formula.variables, (-np.inf, np.inf))
    singular = any(b.jumps[1] for b in survey.borders)
    for order, name in enumerate(_ORDERS):
        if np.isfinite(enclosure(formula.tape, formula.orders[order], ranges)).all() and not (singular and order == 2):
            facts[name] = True
            scanned.discard(name)
    facts |= declared
    return facts, scanned - set(declared)


def _parity(x: Array, values: Array) -> str | None:
    """The symmetry of values at points symmetric about 0."""
    size = np.maximum(np.abs(values), np.max(np.abs(values), where=np.abs(x) <= 1.0, initial=0.0))
    for name, mirrored in (("even", values[::-1]), ("odd", -values[::-1])):
        with np.errstate(invalid="ignore"):
            if np.all((np.abs(values - mirrored) <= 1e-12 * size) | (values == mirrored)):
                return name
    return None


def activation_facts(formula: Formula, survey: Survey, declared: Mapping[str, Any]) -> ActivationFacts:
    """Gather the facts about an activation; ``declared`` ones (the catalogue's) take precedence."""
    facts, scanned = _common(formula, survey, 1, declared)
    if "parity" not in facts:
        facts["parity"] = _parity(survey.points[0], survey.values[0])
        scanned.add("parity")
    return ActivationFacts(**facts, measured=frozenset(scanned))


def loss_facts(formula: Formula, survey: Survey, rows: int, declared: Mapping[str, Any]) -> LossFacts:
    """Gather the facts about a loss surveyed at ``rows`` values of y."""
    facts, scanned = _common(formula, survey, rows, declared)
    if "convex" not in facts:
        second = survey.values[2]
        with np.errstate(invalid="ignore"):
            bent = bool(np.any(second < -1e-12 * np.max(np.abs(second), where=np.isfinite(second), initial=0.0)))
        concave = any(b.jumps[1] and b.right[1] < b.left[1] for b in survey.borders)  # at a kink
        facts["convex"] = None if survey.ends else not bent and not concave
        scanned.add("convex")
    return LossFacts(**facts, measured=frozenset(scanned))


def scan_points(rng: np.random.Generator, dimension: int, count: int, scale: float) -> Array:
    """(dimension, count) arguments of a link, some coordinates of size ``scale`` and others of size 1."""
    far = rng.random((dimension, count)) < 0.7
    return np.clip(rng.standard_normal((dimension, count)) * np.where(far, scale, 1.0), -REACH, REACH)
