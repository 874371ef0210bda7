"""What a trajectory has besides where more than a first layer is trained, or responses are classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurephase.foundation.types import Array
from featurephase.results.base import Record, averaged_over
from featurephase.results.labels import labelled, record

#: Fields of a trajectory that it has only where more than the first layer is trained, or responses are classes.
OUTER = ("readout", "bias", "output_bias", "train_accuracy", "test_accuracy")


@record
class OuterTrajectory(Record):
    """Parameters of order one against time, and accuracies; ``None``, and not in JSON, where they say nothing.

    Attributes
    ----------
    readout, bias, output_bias
        A (T + 1, m, C), b (T + 1, m) and c (T + 1, C): with several outputs, classes, biases, or where any is trained.
    train_accuracy, test_accuracy
        Share of the samples whose class the outputs say, (T + 1,): for classes.
    """

    readout: Array | None = labelled(
        "time", "neuron", "output", about="weights of the second layer", unit="1", optional=True, default=None
    )
    readout_se: Array | None = labelled(saved=False, optional=True, default=None)
    bias: Array | None = labelled(
        "time", "neuron", about="biases of the neurons", unit="1", optional=True, default=None
    )
    bias_se: Array | None = labelled(saved=False, optional=True, default=None)
    output_bias: Array | None = labelled(
        "time", "output", about="biases of the outputs", unit="1", optional=True, default=None
    )
    output_bias_se: Array | None = labelled(saved=False, optional=True, default=None)
    train_accuracy: Array | None = labelled(
        "time", about="share of the training samples whose class the outputs say", unit="1", optional=True, default=None
    )
    train_accuracy_se: Array | None = labelled(saved=False, optional=True, default=None)
    test_accuracy: Array | None = labelled(
        "time", about="share of fresh samples whose class the outputs say", unit="1", optional=True, default=None
    )
    test_accuracy_se: Array | None = labelled(saved=False, optional=True, default=None)


def trajectory_averages(trajectories: Sequence[Any]) -> dict[str, Any]:
    """Means and standard errors of losses, Gram matrix, overlaps, and what these trajectories have of :data:`OUTER`."""
    outer = [name for name in OUTER if getattr(trajectories[0], name) is not None]
    return averaged_over(trajectories, "train_loss", "test_loss", "gram", "overlap", *outer)
