"""margin(delta): how far the hard outliers are from leaving the bulk, and the coarse scan that finds where they do.

Every point of the curve is a run of the asymptotic dynamics (Montanari & Wang, arXiv 2602.01434). Common random numbers
make the curve of one replicate continuous in delta, so each replicate has roots of its own
(:mod:`featurephase.thresholds.roots`); the scan says near which deltas to look for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from featurephase.dynamics.asymptotic import PathAccuracy, run_replicate
from featurephase.dynamics.network import Network
from featurephase.dynamics.training import Moment
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import HardMargins, hard_margins
from featurephase.hessian.support import curvature_support
from featurephase.hessian.unbounded import heavy_tails_status
from featurephase.results.status import IDENTICAL_NEURONS, ONE_PASS, SINGULAR_CURVATURE, Status

if TYPE_CHECKING:
    from featurephase.problem import Problem


#: Of the basis of visited directions in runs whose margins are read. What a looser one leaves out is below the noise of
#: the paths: the margins of the worked example (theory/thresholds), 24 replicates of 4096 paths, agree within their
#: errors for tolerances of 1e-7 to 3e-4.
MARGIN_TOLERANCE = 1e-4
#: The search begins at this share of delta_alg, where that is known.
_BELOW_ALG = 0.7
#: Points per decade of the coarse scan in delta.
_PER_DECADE = 4


def decided_elsewhere(problem: Problem) -> Status | None:
    """Why the Hessian does not decide what is learned, or has no limit; ``None`` where it does."""
    if problem.singular_curvature:
        return SINGULAR_CURVATURE
    if problem.training.one_pass:
        return ONE_PASS
    heavy = heavy_tails_status(Network.of(problem), problem.teacher.link)
    return heavy or (IDENTICAL_NEURONS if problem.student.identical else None)


@dataclass(frozen=True)
class MarginReading:
    """The margins of one replicate at one delta.

    Attributes
    ----------
    at_edge
        Eigenvalues of the margin at the left edge, ascending, (m k_H,): of the whole network, or of all its blocks
        together. Negative ones are hard outliers left of the bulk.
    at_zero
        The smallest eigenvalue of the margin at lambda = 0, or at the edge if that is negative.
    critical, left_edge, drifts
        Of the edge: see :class:`~featurephase.hessian.spectrum.HardMargins`.
    neurons
        Margins at the edges of the blocks one by one, (m k_H,), those of a neuron ascending; empty unless asked for.
    sectors
        The smallest margin of each sector of hard directions at the left edge and at 0, (sectors, 2).
    outer
        Readout, bias and output bias in one row, where one of them is trained; else empty.
    """

    at_edge: Array
    at_zero: float
    critical: bool
    left_edge: float
    drifts: bool
    neurons: Array
    sectors: Array = field(default_factory=lambda: np.empty((0, 2)))
    outer: Array = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class _Observer:
    """Reads the margins of one replicate; a class, so that worker processes can receive it."""

    curve: MarginCurve
    delta: float

    def __call__(self, moment: Moment) -> MarginReading:
        curve, training = self.curve, self.curve.problem.training
        link = curve.problem.teacher.link
        support = curvature_support(moment.network, link, moment.weights)

        def margins(blocks: bool) -> list[HardMargins]:
            return hard_margins(
                link,
                moment,
                delta=training.data_ratio(self.delta),
                weight_decay=training.weight_decay,
                hard_basis=curve.hard_basis,
                blocks=blocks,
                groups=curve.problem.student.exchangeable,
                support=support,
                sectors=curve.sectors,
            )

        by_neuron = margins(True) if curve.blocks else []
        own = np.concatenate([b.at_edge for b in by_neuron]) if by_neuron else np.empty(0)
        if curve.full:
            whole = margins(False)[0]
            at_edge, at_zero, edges, parts = whole.at_edge, whole.at_zero, whole, [whole]
        else:
            at_edge, at_zero = np.sort(own), min(b.at_zero for b in by_neuron)
            edges, parts = min(by_neuron, key=lambda b: b.left_edge), by_neuron
        sectors = np.array([[(s.at_edge[0], s.at_zero[0]) for s in part.sectors] for part in parts])
        lowest = sectors.min(axis=0).reshape(-1, 2)
        trained = training.trains_outer
        outer = np.concatenate([np.ravel(x) for x in moment.network.outer]) if trained else np.empty(0)
        return MarginReading(at_edge, at_zero, edges.critical, edges.left_edge, edges.drifts, own, lowest, outer)


@dataclass(frozen=True)
class MarginCurve:
    """margin(delta) of one problem.

    Attributes
    ----------
    easy_basis, hard_basis
        Orthonormal columns, (k, k_E) and (k, k_H).
    samples
        Sample paths of a run.
    full, blocks
        Whether the matrix equation of the whole network is read, and the blocks of single neurons.
    sectors
        Orthonormal columns (k, s) of each sector of hard directions that is read by itself.
    tolerance
        Of the basis of visited directions (:class:`~featurephase.dynamics.conditioning.ConditionedDesign`).
    """

    problem: Problem
    easy_basis: Array
    hard_basis: Array
    samples: int
    full: bool
    blocks: bool
    sectors: tuple[Array, ...] = ()
    tolerance: float = MARGIN_TOLERANCE

    def observer(self, delta: float) -> Callable[[Moment], MarginReading]:
        """Reads the margins of a run at this delta."""
        return _Observer(self, delta)

    def read(self, delta: float, seed: np.random.SeedSequence, times: Sequence[int]) -> list[MarginReading | None]:
        """One run of one replicate, read at some times; ``None`` where it diverges before."""
        problem = self.problem
        trajectory = run_replicate(
            problem,
            delta,
            seed,
            easy_basis=self.easy_basis,
            steps=max(times),
            samples=self.samples,
            observers=dict.fromkeys(times, self.observer(delta)),
            test=False,
            accuracy=PathAccuracy(tolerance=self.tolerance),
        )
        return [trajectory.observations.get(t) for t in times]


def searched_range(low: float, high: float, delta_alg: float) -> tuple[float, float]:
    """The range of delta without what lies far below the data's threshold (0 or nan: not known).

    No first-order method learns anything there, so that no outlier is aligned with a hard direction.
    """
    least = _BELOW_ALG * delta_alg
    return (max(low, least), high) if least < high else (low, high)


def scan_grid(low: float, high: float) -> Array:
    """The deltas of the coarse scan, equidistant in log delta."""
    return np.geomspace(low, high, max(3, 1 + int(np.ceil(_PER_DECADE * np.log10(high / low)))))


@dataclass(frozen=True)
class Scan:
    """The margins on a grid of deltas, means over a few replicates.

    Attributes
    ----------
    grid
        All deltas of the scan.
    delta
        Those at which no replicate diverged, (points,).
    edge, edge_se
        Margins at the left edge, ascending, (points, m k_H).
    zero
        The smallest margin at lambda = 0, or at the edge if that is negative, (points,).
    neurons
        Margins of single neurons, (points, m k_H); no columns unless asked for.
    sectors
        The smallest margins of each sector at the edge and at 0, (points, sectors, 2).
    drifting
        Share of the readings whose edge drifts because the curvature is unbounded.
    """

    grid: Array
    delta: Array
    edge: Array
    edge_se: Array
    zero: Array
    neurons: Array
    sectors: Array
    drifting: float = 0.0

    @classmethod
    def of(cls, grid: Array, readings: Sequence[Sequence[MarginReading | None]]) -> Scan:
        """From the readings of all replicates at each point of the grid."""
        alive: list[tuple[float, list[MarginReading]]] = []
        for delta, replicates in zip(grid, readings, strict=True):
            present = [r for r in replicates if r is not None]
            if len(present) == len(replicates):
                alive.append((float(delta), present))
        if not alive:
            empty = np.empty((0, 0))
            return cls(grid, np.empty(0), empty, empty, np.empty(0), empty, np.empty((0, 0, 2)))
        edges = [mean_and_se([r.at_edge for r in present]) for _, present in alive]
        return cls(
            grid,
            np.array([delta for delta, _ in alive]),
            np.array([mean for mean, _ in edges]),
            np.array([se for _, se in edges]),
            np.array([np.mean([r.at_zero for r in present]) for _, present in alive]),
            np.array([np.mean([r.neurons for r in present], axis=0) for _, present in alive]),
            np.array([np.mean([r.sectors for r in present], axis=0) for _, present in alive]),
            float(np.mean([r.drifts for _, present in alive for r in present])),
        )

    @property
    def diverged(self) -> bool:
        """Whether gradient descent diverges at every delta of the grid."""
        return len(self.grid) > 0 and len(self.delta) == 0

    @property
    def ends_outside(self) -> bool:
        """Whether a hard outlier stands left of the bulk at the largest delta."""
        return bool(self.edge[-1, 0] < 0)

    @property
    def ends_negative(self) -> bool:
        """Whether a hard outlier is negative at the largest delta."""
        return bool(self.zero[-1] < 0)


@dataclass(frozen=True)
class SignChange:
    """Where a margin crosses 0 between two deltas, and whether it rises there: an outlier disappears."""

    delta: float
    rising: bool


def sign_changes(grid: Array, margin: Array) -> list[SignChange]:
    """Interpolated deltas at which the margin changes sign, ascending."""
    log = np.log(grid)
    where = np.flatnonzero((margin[:-1] < 0) != (margin[1:] < 0))
    crossing = log[where] - margin[where] * (log[where + 1] - log[where]) / (margin[where + 1] - margin[where])
    return [SignChange(float(np.exp(c)), bool(margin[i] < 0)) for c, i in zip(crossing, where, strict=True)]
