"""Whether steps are too large for the bulk of the Hessian: said by every command in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from featurephase.dynamics.optimisers import FirstOrderRule

if TYPE_CHECKING:
    from featurephase.problem import Problem
    from featurephase.results.prediction import TrajectoryPrediction

__all__ = ["step_size_words"]


def step_size_words(problem: Problem, run: TrajectoryPrediction) -> Iterator[str]:
    """One sentence for each time at which directions inside the bulk grow from step to step.

    Gradient descent multiplies a direction of curvature lambda by ``1 - eta lambda``: where the step size times the
    right edge is above 2, directions of the bulk grow. They have no part in the limit, which visits finitely many
    directions; a finite network has a part of order 1/sqrt(d) of them.
    """
    rule, last = FirstOrderRule.of(problem.training), max(problem.training.steps - 1, 0)
    for entry in run.hessian:
        if not (np.isfinite(entry.right_edge) and entry.right_edge > 0.0):
            continue
        step = min(entry.time, last)
        factor = rule.growth_factor(entry.right_edge, step)
        if factor > 1.0:
            size = rule.step_size * rule.schedule(step) * entry.right_edge
            yield (
                f"delta = {run.delta:g}, t = {entry.time}: step size times right edge = {size:.3g}: directions of the "
                f"bulk grow by a factor {factor:.3g} a step, which the limit does not show; finite networks may leave "
                "it or diverge (featurephase simulate finds out)"
            )
