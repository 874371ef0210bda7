"""What ``simulate`` returns: the training of finite networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import labelled, record
from featurephase.results.outer import OuterTrajectory
from featurephase.results.status import OK, Status


@record
class HessianMeasurement(Record):
    """Extreme eigenvalues of the Hessian of the full risk at one time, means over seeds.

    Attributes
    ----------
    smallest, largest
        Ascending, (c,); ``None`` where they cannot be had (``message`` says why).
    hard_overlaps
        Squared projections of the eigenvectors of ``smallest`` on R^m (x) U_H, (c,); nan where the labels are the
        user's, because nobody knows the latent directions.
    residual
        Largest |H v - lambda v| over eigenpairs and seeds.
    status, message
        ``"ok"``; ``"not-available"`` without a data matrix; ``"singular-curvature"``; ``"diverged at step t"``;
        ``"not-converged"``: the eigensolver did not reach its tolerance, and the values are good to ``residual``.
    """

    time: int = labelled(name="hessian_time", about="gradient step at which the Hessian is analysed", unit="step")
    status: Status = OK
    message: str = ""
    smallest: Array | None = labelled("eigenvalue", about="smallest eigenvalues", unit="loss", default=None)
    smallest_se: Array | None = None
    largest: Array | None = labelled("eigenvalue", about="largest eigenvalues", unit="loss", default=None)
    largest_se: Array | None = None
    hard_overlaps: Array | None = labelled(
        "eigenvalue",
        about="squared projections of the eigenvectors of the smallest on the hard directions",
        unit="1",
        default=None,
    )
    hard_overlaps_se: Array | None = None
    residual: float = np.nan


@record
class Grokking(Record):
    """Times at which the losses make half of their drop for good: medians over the seeds; nan: not in half of them.

    Attributes
    ----------
    train_time, test_time, delay
        See :class:`~featurephase.escape.detection.GrokkingTimes`; ``delay`` is the median over seeds of the difference.
    fraction
        Of the seeds in which the test loss drops.
    escape_time
        First step from which on |P_H Theta| stays above half of |Theta|.
    train_accuracy_time, test_accuracy_time, accuracy_delay
        The same of half of the rise of the accuracies, for classes; else ``None`` and not in JSON.
    predicted_time
        Median of the predicted law of ``escape_time``, and ``predicted_low``, ``predicted_high``, which hold 90 %; nan
        where none is predicted (``message`` says why).
    """

    train_time: float = labelled(about="step of half of the drop of the training loss", unit="step")
    train_time_se: float
    test_time: float = labelled(about="step of half of the drop of the test loss", unit="step")
    test_time_se: float
    delay: float = labelled(about="from the one to the other", unit="step")
    delay_se: float
    fraction: float = labelled(about="fraction of the seeds in which the test loss drops", unit="1")
    fraction_se: float
    escape_time: float = labelled(about="step from which on the hard overlap stays above one half", unit="step")
    escape_time_se: float
    predicted_time: float = labelled(about="median of the predicted law of that step", unit="step", default=np.nan)
    predicted_time_se: float = np.nan
    predicted_low: float = labelled(about="lower end of its 90 % interval", unit="step", default=np.nan)
    predicted_low_se: float = np.nan
    predicted_high: float = labelled(about="upper end of its 90 % interval", unit="step", default=np.nan)
    predicted_high_se: float = np.nan
    message: str = ""
    train_accuracy_time: float | None = labelled(
        about="step of half of the rise of the training accuracy", unit="step", optional=True, default=None
    )
    train_accuracy_time_se: float | None = labelled(saved=False, optional=True, default=None)
    test_accuracy_time: float | None = labelled(
        about="step of half of the rise of the test accuracy", unit="step", optional=True, default=None
    )
    test_accuracy_time_se: float | None = labelled(saved=False, optional=True, default=None)
    accuracy_delay: float | None = labelled(about="from the one to the other", unit="step", optional=True, default=None)
    accuracy_delay_se: float | None = labelled(saved=False, optional=True, default=None)


@record
class Recovery(Record):
    """Whether a hard direction is recovered, by the trend in d at fixed n/d.

    Attributes
    ----------
    direction
        Unit vector, (k,).
    verdict
        ``"none"``: the capture decays at least like d^(-1/4) (a start at random decays like d^(-1/2)); ``"strong"``: it
        does not, and is at least 0.9 at the largest d; ``"weak"``: anything between. ``"undetermined"`` where the
        exponent cannot be determined, or is within two standard errors of -1/4.
    capture
        Root mean square over seeds of the length of the direction's projection on the span of the weights after the
        last step, at ``dimension``.
    exponent, exponent_se
        Slope of log capture against log d, over ``dimensions``.
    """

    direction: Array
    verdict: str
    capture: float
    capture_se: float
    exponent: float
    exponent_se: float
    dimensions: tuple[int, ...]


@record
class SimulationRun(OuterTrajectory):
    """Means over seeds at one delta; arrays have the time first; ``x_se`` is the standard error of ``x``.

    Attributes
    ----------
    delta, dimension, samples
        n/d as asked, d and n.
    train_loss, test_loss
        (T + 1,), penalty excluded.
    gram, overlap
        (T + 1, m, m) and (T + 1, k, m).
    hard_overlap
        |P_H Theta|_F / |Theta|_F, (T + 1,).
    recovery
        One entry for each hard direction; in JSON their verdicts, the rest under ``recovery_evidence``.
    basis, dropped
        Visited directions of sample space, and the largest relative residual at which one was left out (implicit).
    """

    delta: float = labelled(about="samples over dimension, n/d", unit="1")
    dimension: int = labelled(about="d", unit="1")
    samples: int = labelled(about="n", unit="1")
    method: str
    status: Status = OK
    message: str = ""
    seed: int
    version: str
    replicates: int
    times: NDArray[np.int64] = labelled("time", name="time", about="gradient step", unit="step")
    train_loss: Array = labelled("time", about="training loss, penalty excluded", unit="loss")
    train_loss_se: Array
    test_loss: Array = labelled("time", about="test loss, penalty excluded", unit="loss")
    test_loss_se: Array
    gram: Array = labelled(
        "time", "neuron", "other_neuron", about="inner products of the neurons' weights, Theta'Theta", unit="1"
    )
    gram_se: Array
    overlap: Array = labelled(
        "time",
        "latent",
        "neuron",
        about="overlaps of the weights with the latent directions, Theta_star'Theta",
        unit="1",
    )
    overlap_se: Array
    hard_overlap: Array = labelled("time", about="share of the weights in the hard subspace", unit="1")
    hard_overlap_se: Array
    hessian: tuple[HessianMeasurement, ...] = labelled("hessian_time", name="", of=HessianMeasurement, stamped=True)
    grokking: Grokking = labelled(name="")
    recovery: tuple[Recovery, ...]
    basis: int
    dropped: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: verdicts of recovery apart from the evidence; null is what the method does not have."""
        document = super().to_dict()
        if self.method == "dense":
            for entry in document["hessian"]:
                for name in ("smallest", "largest", "hard_overlaps"):
                    if entry[name] is None:
                        entry[name] = entry[f"{name}_se"] = "nan"
        document["recovery_evidence"] = document["recovery"]
        document["recovery"] = [entry.verdict for entry in self.recovery]
        return document


@record
class Simulation(Result):
    """Training of finite networks, one run for each delta.

    Attributes
    ----------
    title
        Of the experiment.
    method, start, precision
        How it was simulated; both methods where some deltas had the one and some the other.
    replicates
        Seeds.
    easy_basis, hard_basis
        Orthonormal columns, (k, k_E) and (k, k_H).
    runs
        One for each delta.
    warnings
        What deserves attention though every number stands.
    """

    title: str
    method: str = labelled(attribute=True)
    start: str = labelled(attribute=True)
    precision: str
    replicates: int = labelled(attribute=True)
    easy_basis: Array
    hard_basis: Array
    runs: tuple[SimulationRun, ...] = labelled("delta", name="", of=SimulationRun)
    warnings: tuple[str, ...] = ()
    experiment: str = labelled(json=False, saved=False, default="")
