"""What ``threshold`` returns: thresholds in delta = n/d, of the data and of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import Variable, labelled, record
from featurephase.results.status import OK


def _none() -> Array:
    return np.empty(0)


@record
class Window(Record):
    """An interval of delta in which a hard outlier is negative: gradient descent is unstable along its direction.

    Attributes
    ----------
    low, high
        Its ends. ``low`` 0: it begins below every delta that was searched. ``high`` inf: it does not end in the range.
    low_se, high_se
        Their errors. ``low_se`` inf: below ``low`` gradient descent diverges, or did in the scan, and nothing is known.
    """

    low: float
    low_se: float
    high: float
    high_se: float

    @property
    def open_below(self) -> bool:
        """Whether nothing is known below its lower end, where gradient descent diverges."""
        return bool(np.isinf(self.low_se))

    def contains(self, delta: float, clear: float = 2.0) -> bool | None:
        """Whether a delta lies inside; ``None`` within ``clear`` standard errors of an end (or an error unknown)."""
        sides = [_above(delta, self.low, self.low_se, clear), _above(self.high, delta, self.high_se, clear)]
        if False in sides:
            return False
        return None if None in sides else True


def _above(a: float, b: float, se: float, clear: float) -> bool | None:
    """Whether a > b, with a standard error of their difference."""
    if np.isinf(a) or b == 0.0 or (np.isinf(se) and a > b):
        return True
    if not np.isfinite(a - b) or not np.isfinite(se) or abs(a - b) <= clear * se:
        return None
    return bool(a > b)


@record
class DirectionThreshold(Record):
    """Thresholds of one hard direction, or of several that belong together.

    Attributes
    ----------
    name
        ``"g2"``; ``"g1, g2"`` where rotations between them change nothing; ``"a combination of g1, g2"`` where no
        symmetry tells which combination goes first.
    basis
        Orthonormal columns, (k, s).
    value
        From this delta on a hard outlier of this direction stands left of the bulk; nan if there is none.
    value_negative
        From this delta on it is negative, to the end of the range: feature learning. nan where it is not so.
    windows
        All intervals of delta in which it is negative, ascending.
    """

    name: str
    basis: Array
    value: float
    value_se: float
    value_negative: float
    value_negative_se: float
    windows: tuple[Window, ...] = ()


@record
class DirectionLimit(DirectionThreshold):
    """The same as the number of steps grows without bound: each number is extrapolated, with its error.

    Attributes
    ----------
    status, message
        ``"ok"``, or why there is no limit.
    form
        ``"power"`` or ``"exponential"``: how the first threshold approaches it; empty without one.
    exponent
        gamma of ``t^-gamma``, or tau of ``exp(-t/tau)``: mean over the fits.
    history, history_se
        delta_NN(t) of this direction, at ``history_time`` of the whole; nan where there was none.
    negative_history, negative_history_se
        The same for ``value_negative``.
    moves_on
        Whether the first threshold moves as fast as ever at the last time, so that there is no limit in sight.
    """

    status: str = OK
    message: str = ""
    form: str = ""
    exponent: float = np.nan
    history: Array = labelled(json=True, saved=False, default_factory=_none)
    history_se: Array = labelled(json=True, saved=False, default_factory=_none)
    negative_history: Array = labelled(json=False, saved=False, default_factory=_none)
    negative_history_se: Array = labelled(json=False, saved=False, default_factory=_none)
    moves_on: bool = labelled(json=False, saved=False, default=False)


@record
class BlockThreshold(Record):
    """Threshold delta*_r of one neuron in the block approximation.

    Attributes
    ----------
    neuron
        r, from 1.
    value
        From this delta on its own block of the Hessian has a hard outlier.
    directions
        The same for the j-th hard direction: where the j-th smallest eigenvalue of its Delta(edge) crosses 0, (k_H,).
    """

    neuron: int
    value: float = labelled(name="", about="n/d from which on the block of one neuron has a hard outlier", unit="1")
    value_se: float
    directions: Array
    directions_se: Array


@record
class NetworkThreshold(Record):
    """delta_NN at one time.

    Attributes
    ----------
    value
        From this delta on a hard outlier stands left of the bulk; nan if there is none in the range.
    crossings
        All deltas at which one appears or disappears, ascending.
    negative
        Whether the outlier is negative (instability of gradient descent, feature learning) where it appears.
    value_negative
        From this delta on it is negative; nan if it is not so at the end of the range (see ``windows``).
    negative_crossings
        All deltas at which a negative hard outlier appears or disappears, ascending.
    windows
        All intervals of delta in which a hard outlier is negative, ascending.
    continuous
        Whether its overlap with the hard subspace grows from 0 (True) or jumps (False).
    directions
        delta at which the j-th smallest eigenvalue of Delta(edge) crosses 0, (m k_H,); nan where none in the range.
    sectors
        The thresholds of each hard direction by itself, or of several together that belong together.
    blocks
        delta*_r of each neuron by itself (block approximation).
    block_minimum
        min over r of delta*_r.
    block_gap
        (block_minimum - delta_NN)/delta_NN with delta_NN of the full matrix equation, on the same samples; nan where
        that was not solved.
    scan_delta, scan_margin
        The coarse scan: the eigenvalues of the margin at each delta, ascending, (points, m k_H).
    """

    time: int = labelled(name="threshold_time", about="gradient step at which the threshold is sought", unit="step")
    status: str = labelled(name="threshold_status", default=OK)
    message: str = ""
    value: float = labelled(
        name="delta_nn", about="n/d from which on a hard outlier stands left of the bulk", unit="1", default=np.nan
    )
    value_se: float = np.nan
    crossings: Array = labelled(
        "crossing", about="every n/d at which a hard outlier appears or disappears", unit="1", default_factory=_none
    )
    crossings_se: Array = labelled("crossing", default_factory=_none)
    negative: bool | None = None
    value_negative: float = labelled(
        name="delta_nn_negative",
        about="n/d from which on that outlier is negative: feature learning",
        unit="1",
        default=np.nan,
    )
    value_negative_se: float = np.nan
    negative_crossings: Array = labelled(
        "negative_crossing",
        about="every n/d at which a negative hard outlier appears or disappears",
        unit="1",
        default_factory=_none,
    )
    negative_crossings_se: Array = labelled("negative_crossing", default_factory=_none)
    windows: tuple[Window, ...] = ()
    continuous: bool | None = None
    directions: Array = labelled(
        "direction",
        name="delta_nn_directions",
        about="n/d at which the j-th eigenvalue of the margin crosses 0",
        unit="1",
        default_factory=_none,
    )
    directions_se: Array = labelled("direction", name="delta_nn_directions_se", default_factory=_none)
    sectors: tuple[DirectionThreshold, ...] = ()
    blocks: tuple[BlockThreshold, ...] = labelled("neuron", name="delta_nn_blocks", of=BlockThreshold, default=())
    block_minimum: float = labelled(
        name="delta_nn_block_minimum", about="the lowest threshold of a block", unit="1", default=np.nan
    )
    block_minimum_se: float = np.nan
    block_gap: float = labelled(
        name="delta_nn_block_gap",
        about="its relative distance from that of the full matrix equation",
        unit="1",
        default=np.nan,
    )
    block_gap_se: float = np.nan
    scan_delta: Array = labelled("scan_point", about="n/d of the coarse scan", unit="1", default_factory=_none)
    scan_margin: Array = labelled(
        "scan_point",
        "direction",
        about="eigenvalues of the margin; negative: a hard outlier left of the bulk",
        unit="1",
        default_factory=lambda: np.empty((0, 0)),
    )
    scan_margin_se: Array = labelled("scan_point", "direction", default_factory=lambda: np.empty((0, 0)))


@record
class ThresholdLimit(Record):
    """delta_NN as the number of steps grows without bound.

    Attributes
    ----------
    value
        delta_NN, extrapolated: the lowest over the hard directions. Its error contains that of the extrapolation.
    value_negative
        From this delta on a hard outlier is negative as training goes on; nan if it is not so at the end of the range.
    time
        The last time that was followed.
    drift
        value(t) - value(t/2) there.
    form
        How delta_NN(t) approaches its limit: ``"power"`` or ``"exponential"``; empty where there is no limit.
    converged
        Whether two standard errors of ``value`` are below 2 % of it or two standard errors at the last time.
    history_time, history, history_se
        delta_NN(t) along the way.
    sectors
        The limits of each hard direction by itself, or of several together that belong together.
    samples
        Sample paths of a run.
    bounded
        How far it was followed, in words, where a bound on the time has ended that early; else empty.
    """

    status: str = OK
    message: str = ""
    value: float = labelled(
        name="", about="delta_NN as the number of steps grows without bound", unit="1", default=np.nan
    )
    value_se: float = np.nan
    value_negative: float = np.nan
    value_negative_se: float = np.nan
    time: int = 0
    drift: float = np.nan
    drift_se: float = np.nan
    form: str = ""
    converged: bool = False
    history_time: tuple[int, ...] = ()
    history: Array = labelled(json=True, saved=False, default_factory=_none)
    history_se: Array = labelled(json=True, saved=False, default_factory=_none)
    sectors: tuple[DirectionLimit, ...] = ()
    samples: int = 0
    bounded: str = ""

    def at(self, time: int) -> DirectionThreshold | None:
        """The lowest thresholds at one of ``history_time``; ``None`` where no direction was followed to it."""
        if time not in self.history_time or not self.sectors:
            return None
        t = self.history_time.index(time)
        lowest = min(self.sectors, key=lambda s: np.nan_to_num(s.history[t], nan=np.inf))
        negative = min(self.sectors, key=lambda s: np.nan_to_num(s.negative_history[t], nan=np.inf))
        return DirectionThreshold(
            name=lowest.name,
            basis=lowest.basis,
            value=float(lowest.history[t]),
            value_se=float(lowest.history_se[t]),
            value_negative=float(negative.negative_history[t]),
            value_negative_se=float(negative.negative_history_se[t]),
        )


@record
class Threshold(Result):
    """All thresholds of a problem: the data's and the network's.

    Attributes
    ----------
    easy_basis, hard_basis
        Orthonormal columns, (k, k_E) and (k, k_H).
    subspace_evidence
        How they were told apart.
    delta_alg
        What the best polynomial-time first-order method needs.
    delta_nn
        One entry for each time.
    delta_nn_limit
        As t grows; ``None`` unless asked for.
    """

    counted: ClassVar[tuple[str, ...]] = ("latent",)

    title: str
    samples: int = labelled(attribute=True)
    replicates: int = labelled(attribute=True)
    delta_range: tuple[float, float]
    easy_basis: Array = labelled("latent", "easy")
    hard_basis: Array = labelled("latent", "hard")
    subspace_evidence: Any
    delta_alg: float = labelled(about="samples over dimension that the best first-order method needs", unit="1")
    delta_alg_se: float
    delta_nn: tuple[NetworkThreshold, ...] = labelled("threshold_time", name="", of=NetworkThreshold, default=())
    delta_nn_limit: ThresholdLimit | None = labelled(default=None)
    experiment: str = labelled(json=False, saved=False, default="")

    def more_variables(self) -> Mapping[str, Variable]:
        """The way to the limit, over (limit_time)."""
        limit = self.delta_nn_limit
        if limit is None:
            return {}
        dims = ("limit_time",)
        about = {"long_name": "delta_NN(t) along the way to the limit", "units": "1"}
        steps = {"long_name": "gradient steps along which the limit was followed", "units": "step"}
        scalars: dict[str, Variable] = {
            name: ((), np.asarray(getattr(limit, name)), {}) for name in ("drift", "drift_se")
        }
        return {
            "limit_time": (dims, np.array(limit.history_time, dtype=np.int64), steps),
            "delta_nn_history": (dims, limit.history, about),
            "delta_nn_history_se": (dims, limit.history_se, about),
            **scalars,
        }

    def provenance(self) -> dict[str, Any]:
        """With the state of the limit."""
        limit = self.delta_nn_limit
        state = {} if limit is None else {"limit_status": str(limit.status), "limit_converged": int(limit.converged)}
        return super().provenance() | state
