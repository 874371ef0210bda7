"""What ``predict`` returns: trajectories and Hessians in the limit n, d -> infinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import Variable, labelled, record
from featurephase.results.outer import OuterTrajectory
from featurephase.results.status import OK, Status


@record
class OutlierPrediction(Record):
    """An eigenvalue outside the bulk.

    Attributes
    ----------
    value, overlap
        The eigenvalue, and the squared projection of its unit eigenvector on R^m (x) the directions in question: means
        over the replicates that show it, with standard errors (nan where only one does).
    fraction
        Of the replicates that show it.
    side
        ``"left"`` or ``"right"`` of the bulk.
    """

    value: float = labelled(name="", about="eigenvalue outside the bulk", unit="loss")
    value_se: float
    overlap: float = labelled(about="squared projection of its eigenvector on the directions in question", unit="1")
    overlap_se: float
    fraction: float = labelled(about="fraction of the replicates that show it", unit="1")
    fraction_se: float
    side: str


@record
class BlockComparison(Record):
    """How good the block approximation is: against the full matrix equation, on the same samples of a few replicates.

    Attributes
    ----------
    left_edge
        ``(edge by blocks - edge)/|edge|``, weight decay left out: positive where the blocks are too high.
    lowest
        The same for the lowest hard outlier, or for the edge where there is none.
    samples, replicates
        What it was computed on.
    """

    left_edge: float
    left_edge_se: float
    lowest: float
    lowest_se: float
    samples: int
    replicates: int


@record
class HessianPrediction(Record):
    """The Hessian of the full risk (weight decay included) at one time.

    Attributes
    ----------
    left_edge, right_edge
        Edges of the bulk; ``right_edge`` inf: curvature unbounded above, nan: not described by the block approximation.
    hard_outliers, outliers
        Aligned with U_H, and on the visited directions; ascending.
    drifting
        Fraction of replicates in which unbounded curvature makes the left edge drift; above one half there is none.
    continuous
        Whether the left edge is a critical point, so that an outlier leaves the bulk with an overlap that starts at 0.
    paths_needed
        0, or from how many sample paths on outliers on visited directions are told from noise: with fewer only those
        are counted that clearly stand out.
    blocks
        Whether this is the block approximation: so beyond 8 neurons.
    block_gap
        Its distance from the full equation, at the last time asked for and up to 16 neurons; ``None`` elsewhere.
    density
        Abscissae and density of the bulk, (2, points), of the first replicate; ``None`` unless asked for. Not in JSON.
    """

    time: int = labelled(name="hessian_time", about="gradient step at which the Hessian is analysed", unit="step")
    status: Status = labelled(name="hessian_status", default=OK)
    message: str = ""
    left_edge: float = labelled(about="left edge of the bulk of the Hessian", unit="loss", default=np.nan)
    left_edge_se: float = np.nan
    right_edge: float = labelled(about="right edge of the bulk of the Hessian", unit="loss", default=np.nan)
    right_edge_se: float = np.nan
    drifting: float = np.nan
    drifting_se: float = np.nan
    continuous: bool | None = None
    hard_outliers: tuple[OutlierPrediction, ...] = labelled(
        "hard_outlier_number", name="hard_outlier", of=OutlierPrediction, default=()
    )
    outliers: tuple[OutlierPrediction, ...] = labelled(
        "outlier_number", name="outlier", of=OutlierPrediction, default=()
    )
    paths_needed: int = 0
    blocks: bool = False
    block_gap: BlockComparison | None = None
    density: Array | None = labelled(json=False, saved=False, default=None)

    def more_variables(self) -> Mapping[str, Variable]:
        """The two rows of ``density`` by name."""
        if self.density is None:
            return {}
        dims, at = ("density_point",), {"long_name": "eigenvalue at which the density is given", "units": "loss"}
        return {
            "density_at": (dims, self.density[0], at),
            "density": (dims, self.density[1], {"long_name": "density of the bulk", "units": "1/loss"}),
        }


@record
class TrajectoryPrediction(OuterTrajectory):
    """The trajectory at one delta. All arrays have the time first; ``x_se`` is the standard error of ``x``.

    Attributes
    ----------
    delta
        n/d.
    times
        0 .. T.
    train_loss, test_loss
        (T + 1,), penalty excluded.
    gram
        Theta'Theta, (T + 1, m, m).
    overlap
        Theta_star'Theta, (T + 1, k, m).
    hessian
        One entry for each time asked for.
    basis, dropped
        Visited directions of sample space, and the largest relative residual at which one was left out.
    trajectories
        What the means are over (:class:`~featurephase.dynamics.training.ReplicateTrajectory`), without Hessians: for
        errors of what is made of several numbers. Not in JSON.
    """

    delta: float = labelled(about="samples over dimension, n/d", unit="1")
    status: Status = labelled(default=OK)
    message: str = ""
    seed: int
    version: str
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
    hessian: tuple[HessianPrediction, ...] = labelled("hessian_time", name="", of=HessianPrediction, stamped=True)
    basis: int
    dropped: float
    replicates: int
    trajectories: tuple[Any, ...] = labelled(json=False, saved=False, default=(), repr=False)


@record
class Prediction(Result):
    """Trajectories and Hessians in the limit n, d -> infinity, one run for each delta.

    Attributes
    ----------
    title
        Of the experiment.
    samples, replicates
        Sample paths per replicate, and replicates.
    easy_basis, hard_basis
        Orthonormal columns, (k, k_E) and (k, k_H); rows of k numbers in JSON.
    runs
        One for each delta.
    warnings
        What deserves attention though every number stands.
    readout, experiment
        a (m,) where it is fixed (else each run has it), and the experiment file; not in JSON.
    """

    counted: ClassVar[tuple[str, ...]] = ("latent", "neuron", "other_neuron", "output")

    title: str
    samples: int = labelled(attribute=True)
    replicates: int = labelled(attribute=True)
    easy_basis: Array = labelled("latent", "easy", about="orthonormal basis of the easy subspace", unit="1")
    hard_basis: Array = labelled("latent", "hard", about="orthonormal basis of the hard subspace", unit="1")
    runs: tuple[TrajectoryPrediction, ...] = labelled("delta", name="", of=TrajectoryPrediction)
    warnings: tuple[str, ...] = labelled(attribute=True, default=())
    readout: Array | None = labelled(
        "neuron", about="weights of the second layer", unit="1", json=False, default_factory=lambda: np.empty(0)
    )
    experiment: str = labelled(json=False, saved=False, default="")
