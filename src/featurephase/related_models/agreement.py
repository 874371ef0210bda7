"""Theory against simulation: where they differ most, in units of what is allowed there."""

from __future__ import annotations

import numpy as np

from featurephase.foundation.statistics import student_quantile
from featurephase.foundation.types import Array
from featurephase.results.related import Agreement, Quantity

#: Probability with which a simulation that follows the theory is said to disagree, over all entries of a quantity.
FALSE_ALARM = 1e-3


def agreement(name: str, theory: Quantity, found: Quantity, replicates: int, *, fraction: bool = False) -> Agreement:
    """Where theory and simulation differ most, in units of what is allowed there.

    Nothing is compared where the theory says nothing (nan). ``fraction``: of events in one run, between 0 and 1.
    """
    a, b = (np.atleast_1d(np.asarray(q.value, dtype=np.float64)).ravel() for q in (theory, found))
    se = np.zeros_like(b) if found.se is None else np.atleast_1d(np.asarray(found.se, dtype=np.float64)).ravel()
    accuracy = np.broadcast_to(np.asarray(theory.accuracy, dtype=np.float64), np.shape(theory.value)).ravel()
    false_alarm = FALSE_ALARM / max(b.size, 1)
    allowed = accuracy + student_quantile(replicates, 1.0 - false_alarm) * se
    if fraction:
        allowed = allowed + np.where(se == 0.0, _unseen(a, b, replicates, false_alarm), 0.0)
    same = (a == b) | np.isnan(a)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
        ratio = np.where(same, 0.0, difference / allowed)
    worst = int(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)))
    there = {"theory": a, "simulation": b, "simulation_se": se, "difference": difference, "allowed": allowed}
    agree = bool(np.all(same | (difference <= allowed)))
    return Agreement(name=name, agree=agree, **{key: float(values[worst]) for key, values in there.items()})


def _unseen(mean: Array, same: Array, replicates: int, false_alarm: float) -> Array:
    """How far a fraction may lie from its mean if all runs found the same one.

    A number between 0 and 1 of mean a is b with probability min(a/b, (1-a)/(1-b)) at most (Markov): all runs can find
    b as long as the power ``replicates`` of that is not below ``false_alarm``.
    """
    return np.asarray((1.0 - false_alarm ** (1.0 / replicates)) * np.where(mean < same, same, 1.0 - same))
