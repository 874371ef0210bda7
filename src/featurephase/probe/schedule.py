"""When a probe records: on a linear or logarithmic schedule, at given steps, or only on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TypeAlias

from featurephase.foundation.errors import InputError

Schedule: TypeAlias = Callable[[int], bool]

#: Records per factor of ten in training steps of the default schedule.
PER_DECADE = 3


def _logarithmic(per_decade: int) -> Schedule:
    """Steps 0, 1 and the integers nearest to ``10**(k/per_decade)``."""

    def due(step: int) -> bool:
        if step < 2:
            return True
        nearest = round(per_decade * math.log10(step))
        return any(round(10 ** ((nearest + k) / per_decade)) == step for k in (-1, 0, 1))

    return due


def make_schedule(spec: str | Collection[int]) -> Schedule:
    """Return the predicate ``step -> record now?`` that ``spec`` names.

    Parameters
    ----------
    spec
        ``"logarithmic"`` or ``"logarithmic:K"`` (K records per factor of ten; 3), ``"linear:M"`` (every M
        steps), ``"demand"`` (never by itself), or the steps themselves.

    Raises
    ------
    InputError
        If it is none of these.
    """
    accepted = "'logarithmic', 'logarithmic:K', 'linear:M', 'demand' or a collection of steps"
    if not isinstance(spec, str):
        steps = frozenset(spec)
        if any(int(step) != step or step < 0 for step in steps):
            raise InputError(f"schedule: steps must be integers >= 0, not {sorted(steps)}")
        return steps.__contains__
    kind, _, text = spec.partition(":")
    if kind == "demand" and not text:
        return lambda step: False
    if kind in ("logarithmic", "linear") and (text.isdecimal() or (kind == "logarithmic" and not text)):
        number = int(text) if text else PER_DECADE
        if number >= 1:
            return _logarithmic(number) if kind == "logarithmic" else lambda step: step % number == 0
    raise InputError(f"schedule {spec!r}: expected {accepted}")
