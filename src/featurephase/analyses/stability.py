"""Whether steps are too large for the Hessian, its bulk or a hard outlier: said by every command in the same words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from featurephase.dynamics.optimisers import FirstOrderRule
from featurephase.problem import Problem
from featurephase.results.prediction import HessianPrediction, OutlierPrediction, TrajectoryPrediction
from featurephase.results.simulation import SimulationRun

#: From a part of 1/sqrt(d) to one that matters takes at least such a factor.
_LEAVES = 10.0


def step_size_words(problem: Problem, run: TrajectoryPrediction) -> Iterator[str]:
    """One sentence for each time at which directions inside the bulk grow from step to step.

    Gradient descent multiplies a direction of curvature lambda by ``1 - eta lambda``: where the step size times the
    right edge is above 2, directions of the bulk grow. They have no part in the limit, which visits finitely many
    directions; a finite network has a part of order 1/sqrt(d) of them.
    """
    for entry in run.hessian:
        grown = _growth(problem, entry.right_edge, entry.time)
        if grown is not None:
            yield (
                f"delta = {run.delta:g}, t = {entry.time}: step size times right edge = {grown[0]:.3g}: directions of "
                f"the bulk grow by a factor {grown[1]:.3g} a step, which the limit does not show; finite networks may "
                "leave it or diverge (featurephase simulate finds out)"
            )
        outlier = alternating_outlier(problem, entry)
        times = None if grown is not None or outlier is None else _growth(problem, outlier.value, entry.time)
        if times is not None:
            yield (
                f"delta = {run.delta:g}, t = {entry.time}: step size times hard outlier = {times[0]:.3g}: gradient "
                f"descent grows along it by a factor {times[1]:.3g} a step, with alternating sign, which delta_NN "
                "does not count: it is of outliers below 0"
            )


def measured_words(problem: Problem, run: SimulationRun) -> Iterator[str]:
    """The same of finite networks, whose largest eigenvalue is measured."""
    for entry in run.hessian:
        grown = None if entry.largest is None else _growth(problem, float(entry.largest[-1]), entry.time)
        if grown is not None:
            yield (
                f"delta = {run.delta:g}, t = {entry.time}: step size times largest eigenvalue = {grown[0]:.3g}: its "
                f"direction grows by a factor {grown[1]:.3g} a step"
            )


def bulk_grows(problem: Problem, entry: HessianPrediction) -> bool:
    """Whether directions of the bulk grow so fast at the time of a Hessian that finite networks leave the limit.

    That is by a factor of :data:`_LEAVES` in the course of this training: such as hard directions need to be learned.
    """
    grown = _growth(problem, entry.right_edge, entry.time)
    return grown is not None and problem.training.steps * np.log(grown[1]) > np.log(_LEAVES)


def alternating_outlier(problem: Problem, entry: HessianPrediction) -> OutlierPrediction | None:
    """The largest hard outlier right of the bulk, if it is so large that steps overshoot and grow along it."""
    right = [o for o in entry.hard_outliers if o.side == "right" and _growth(problem, o.value, entry.time) is not None]
    return right[-1] if right else None


def _growth(problem: Problem, curvature: float, time: int) -> tuple[float, float] | None:
    """Step size times curvature, and the factor of growth a step; ``None`` where the direction does not grow."""
    if not (np.isfinite(curvature) and curvature > 0.0):
        return None
    rule, step = FirstOrderRule.of(problem.training), min(time, max(problem.training.steps - 1, 0))
    factor = rule.growth_factor(curvature, step)
    return (rule.step_size * rule.schedule(step) * curvature, factor) if factor > 1.0 else None
