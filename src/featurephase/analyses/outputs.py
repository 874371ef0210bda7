"""What predict, simulate and compare share about outputs, biases and trained readouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featurephase.foundation.errors import InputError
from featurephase.results.base import averaged

if TYPE_CHECKING:
    from featurephase.problem import Problem
    from featurephase.results.prediction import Trajectory

__all__ = ["OUTER", "outer_averages", "require_hessian"]

#: Fields of a trajectory that it has only where more than the first layer is trained, or responses are classes.
OUTER = ("readout", "bias", "output_bias", "train_accuracy", "test_accuracy")


def outer_averages(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Means and standard errors of what these trajectories have of :data:`OUTER`."""
    present = [name for name in OUTER if getattr(trajectories[0], name) is not None]
    return averaged(**{name: [getattr(r, name) for r in trajectories] for name in present})


def require_hessian(problem: Problem) -> None:
    """Refuse what the theory of the Hessian does not cover yet.

    Raises
    ------
    InputError
        With several outputs or an output bias.
    """
    what = ""
    if problem.outputs > 1:
        what = f"{problem.outputs} outputs"
    elif problem.training.output_bias_step_size > 0 or problem.student.output_bias.any():
        what = "an output bias"
    if what:
        raise InputError(
            f"the Hessian of a network with {what} is not computed in this version, nor what rests on it (thresholds, "
            "explain, the escape time): ask for trajectories alone (run.times = [], or predict --no-hessian)"
        )
