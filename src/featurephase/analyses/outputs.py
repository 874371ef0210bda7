"""What predict, simulate and compare share about outputs, biases and trained readouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurephase.dynamics.training import ReplicateTrajectory
from featurephase.results.base import averaged

#: Fields of a trajectory that it has only where more than the first layer is trained, or responses are classes.
OUTER = ("readout", "bias", "output_bias", "train_accuracy", "test_accuracy")


def outer_averages(trajectories: Sequence[ReplicateTrajectory]) -> dict[str, Any]:
    """Means and standard errors of what these trajectories have of :data:`OUTER`."""
    present = [name for name in OUTER if getattr(trajectories[0], name) is not None]
    return averaged(**{name: [getattr(r, name) for r in trajectories] for name in present})
