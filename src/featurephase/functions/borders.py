"""What is made of the borders of an activation or a loss: refused, a kink, or a value to correct."""

from __future__ import annotations

import math
from collections.abc import Iterable

from featurephase.functions.analysis import Border, Survey
from featurephase.functions.formula import Formula
from featurephase.functions.parser import refuse


def _place(formula: Formula, point: Iterable[float]) -> str:
    return ", ".join(f"{name} = {x:.6g}" for name, x in zip(formula.variables, point, strict=True))


def refuse_discontinuity(formula: Formula, text: str, survey: Survey) -> None:
    """Raise InputError if the formula is undefined where it should not be, jumps, or has an infinite slope."""
    what, x = formula.what, formula.variable
    if survey.undefined is not None:
        raise refuse(
            what, text, None, f"no finite value or derivative at {_place(formula, survey.undefined)}; it must be finite"
        )
    for border in survey.borders:
        where = _place(formula, (*border.parameters, border.x))
        values = (border.left[0], border.right[0])
        slopes = (border.left[1], border.right[1])
        if not all(map(math.isfinite, values)):
            raise refuse(what, text, None, f"not finite near {where}")
        isolated = border.exact and not border.jumps[0] and border.apart(0, border.at[0], border.left[0])
        if border.jumps[0] or isolated:
            steps = f"from {values[0]:.6g} to {values[1]:.6g}" if border.jumps[0] else f"at {border.at[0]:.6g} only"
            raise refuse(what, text, None, f"jumps at {where} ({steps}); it must be continuous in {x}")
        if not all(map(math.isfinite, slopes)):
            raise refuse(what, text, None, f"its slope is infinite at {where}; the first derivative must be finite")


def limits_at(borders: Iterable[Border], order: int) -> tuple[tuple[float, float], ...]:
    """(place, value) of the derivatives of an order that the compiled expression gets wrong exactly at a border.

    There the derivative is that of no branch: ``where(h == 0, 0, h)`` would have slope 0 at 0, and 1 everywhere else.
    Its value is the common limit; at a kink the one of least size between the one-sided ones, the convention that makes
    the slope of relu 0 at 0 however it is spelt.
    """
    corrections = []
    for border in borders:
        left, right, at = border.left[order], border.right[order], border.at[order]
        if not border.exact or order == 0:
            continue
        if order == 1 and border.jumps[1]:
            wanted = 0.0 if left * right <= 0 else min(left, right, key=abs)
        elif border.jumps[order]:
            wanted = at if min(left, right) <= at <= max(left, right) else left
        else:
            wanted = right if math.isinf(right) else 0.5 * (left + right)
        if at != wanted and border.apart(order, at, wanted):
            corrections.append((border.x, wanted))
    return tuple(corrections)
