"""The numbers that ``compare`` compares: each known from theory, and read off single runs of a simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from featurephase.dynamics.training import ReplicateTrajectory
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.results.outer import OUTER
from featurephase.results.prediction import HessianPrediction, OutlierPrediction, TrajectoryPrediction

#: An outlier is compared if every replicate shows it, and its distance from the edge is this share of the bulk's width.
_CLEAR = 0.02


@dataclass(frozen=True)
class Observable:
    """One number in theory and in single runs."""

    # What it is, and at which step.
    name: str
    time: int
    # In the limit.
    theory: float
    theory_se: float
    read: Callable[[ReplicateTrajectory], float]  # reads it off one run; nan where the run does not have it
    exponent: float = 1.0  # it approaches its limit like d^(-exponent)
    eigenvalue: bool = False  # whether it is an eigenvalue, which takes a data matrix


def trajectory_observables(run: TrajectoryPrediction, times: Sequence[int], easy_basis: Array) -> Iterable[Observable]:
    """Losses, Gram matrix and easy overlaps at some steps; at step 0 theory and simulation agree by construction.

    And accuracies, readout and biases, where they are there and move.
    """
    m = run.gram.shape[1]

    def over_replicates(name: str, t: int, read: Callable[[ReplicateTrajectory], float]) -> Observable:
        value, se = mean_and_se([read(r) for r in run.trajectories])
        return Observable(name, t, float(value), float(se), read)

    for t in (t for t in times if t > 0):
        for name in ("test_loss", "train_loss"):
            yield over_replicates(name, t, _entry(name, t))
        # The draw of the labels moves the whole curve: its fall is known far better than its height.
        yield over_replicates("train_loss_change", t, _change(t))
        for r in range(m):
            for s in range(r, m):
                yield over_replicates(f"gram[{r}][{s}]", t, _entry("gram", t, r, s))
        for j, direction in enumerate(easy_basis.T):
            for r in range(m):
                yield over_replicates(f"overlap[easy {j + 1}][{r}]", t, _along(direction, t, r))
        for name in OUTER:  # what it has beyond the first layer
            values = getattr(run, name)
            for index in () if values is None else np.ndindex(values.shape[1:]):
                if values[t][index] != values[0][index]:
                    place = "".join(f"[{i}]" for i in index)
                    yield over_replicates(f"{name}{place}", t, _entry(name, t, *index))


def _entry(name: str, *index: int) -> Callable[[ReplicateTrajectory], float]:
    """Reads one entry of an array of the trajectory."""
    return lambda run: float(getattr(run, name)[index])


def _change(t: int) -> Callable[[ReplicateTrajectory], float]:
    return lambda run: float(run.train_loss[t] - run.train_loss[0])


def _along(direction: Array, t: int, neuron: int) -> Callable[[ReplicateTrajectory], float]:
    return lambda run: float(direction @ run.overlap[t, :, neuron])


def hessian_observables(h: HessianPrediction) -> tuple[list[Observable], list[str]]:
    """Edges and outliers, each matched to an eigenvalue by its rank from its end of the spectrum; and what is not."""
    outliers = sorted((*h.hard_outliers, *h.outliers), key=lambda o: o.value)
    span = h.right_edge - h.left_edge
    observables: list[Observable] = []
    notes: list[str] = []
    for side, edge, edge_se in (("left", h.left_edge, h.left_edge_se), ("right", h.right_edge, h.right_edge_se)):
        mine = [o for o in (outliers if side == "left" else reversed(outliers)) if o.side == side]
        if not np.isfinite(edge):
            continue
        if all(o.fraction == 1.0 and abs(o.value - edge) > _CLEAR * span for o in mine):
            observables += _eigenvalues(h.time, side, mine, edge, edge_se)
        else:
            notes.append(
                f"t = {h.time}: an outlier {side} of the bulk is too close to the edge for eigenvalues to be told "
                "apart; nothing is compared there"
            )
    return observables, notes


def _eigenvalues(
    time: int, side: str, outliers: Sequence[OutlierPrediction], edge: float, edge_se: float
) -> Iterable[Observable]:
    """One side of the spectrum from its end: outliers, whose bias goes like 1/d, and the edge, like d^(-2/3)."""
    for rank, o in enumerate(outliers):
        name = f"{side}_outlier[{rank}]"
        yield Observable(name, time, o.value, o.value_se, _eigenvalue(time, side, rank), 1.0, True)
    read = _eigenvalue(time, side, len(outliers))
    yield Observable(f"{side}_edge", time, edge, edge_se, read, 2.0 / 3.0, True)


def _eigenvalue(time: int, side: str, rank: int) -> Callable[[ReplicateTrajectory], float]:
    """Reads the eigenvalue of that rank from its end of the spectrum; nan after divergence."""

    def read(run: ReplicateTrajectory) -> float:
        if time not in run.observations:
            return float("nan")
        sample = run.observations[time]
        return float(sample.smallest[rank] if side == "left" else sample.largest[-1 - rank])

    return read
