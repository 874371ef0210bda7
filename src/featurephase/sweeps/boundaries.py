"""A phase boundary followed along one parameter: thresholds are computed where the curve is uncertain, and only there.

A heat map over the parameter and delta would spend most of its cells far from the boundary. Here each point is a search
for the threshold itself, near where its neighbours lead to expect it, and points are added where straight lines between
those that are known may be wrong.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.executors import Executor, Workers, as_executor
from featurephase.foundation.numbers import is_number, is_whole
from featurephase.foundation.types import Array
from featurephase.problem import Problem
from featurephase.results.boundary import Boundary
from featurephase.results.status import NOT_CONVERGED, OK, cells_failed
from featurephase.results.sweep import CellCounts
from featurephase.sweeps.axes import axes_of
from featurephase.sweeps.bases import Base, ExperimentBase
from featurephase.sweeps.tasks import TaskOutcome, run_keyed

#: Points that are computed first, over the whole range searched; new points of one round.
_FIRST, _ROUND = 5, 4
#: A search begins within this factor of where the neighbours lead to expect the threshold.
_NEAR = 2.0
#: Where the threshold ceases to exist is known to this share of the range of the parameter.
_RESOLUTION = 1 / 64
_QUANTITIES = ("delta_nn", "delta_nn_negative")


@dataclass(frozen=True)
class BoundaryPlan:
    """What is followed, from ``low`` to ``high``; the other fields are the arguments of :func:`boundary`."""

    problem: Problem
    key: str
    low: float
    high: float
    logarithmic: bool = False
    quantity: str = "delta_nn"
    tolerance: float = 0.02
    points: int = 40

    def __post_init__(self) -> None:
        given = f"boundary: {'logrange' if self.logarithmic else 'range'} = {show([self.low, self.high])}"
        if not all(is_number(x) and math.isfinite(x) for x in (self.low, self.high)) or not self.low < self.high:
            raise InputError(f"{given}: must be two numbers [low, high], low < high")
        if self.logarithmic and self.low <= 0:
            raise InputError(f"{given}: must be above 0")
        if self.quantity not in _QUANTITIES:
            raise InputError(f"boundary: quantity = {show(self.quantity)}: must be {' or '.join(_QUANTITIES)}")
        if not (is_number(self.tolerance) and 0 < self.tolerance < 1):
            raise InputError(f"boundary: tolerance = {show(self.tolerance)}: must be a number between 0 and 1")
        if not (is_whole(self.points) and self.points >= _FIRST):
            raise InputError(f"boundary: points = {show(self.points)}: must be a whole number >= {_FIRST}")
        for end in (self.low, self.high):
            self.at(end)

    def at(self, value: float) -> Problem:
        """The problem at one value of the parameter."""
        return self.problem.replace(**{self.key: value})

    def scale(self, value: Any) -> Any:
        """Distance along the parameter."""
        return np.log(value) if self.logarithmic else np.asarray(value, dtype=np.float64)

    def first(self) -> list[float]:
        """The points computed first."""
        word = "logrange" if self.logarithmic else "range"
        (axis,) = axes_of([{"key": self.key, word: [self.low, self.high, _FIRST]}]).axes
        return [float(value) for value in axis.values[0]]

    def middle(self, a: float, b: float) -> float:
        """The point half way."""
        return float(f"{math.sqrt(a * b) if self.logarithmic else (a + b) / 2:.12g}")


def plan_from(base: Base, table: Mapping[str, Any]) -> BoundaryPlan:
    """The plan that the table ``[boundary]`` of a sweep file describes.

    Raises
    ------
    InputError
        For an unknown or missing key, or a value that is not accepted.
    """
    if not isinstance(base, ExperimentBase):
        raise InputError(f"boundary: the base is a run of {base.kind}; thresholds are those of an experiment")
    accepted = ("key", "range", "logrange", "quantity", "tolerance", "points")
    if not isinstance(table, Mapping):
        raise InputError(f"boundary = {show(table)}: must be a table [boundary] with {', '.join(accepted)}")
    for word in table:
        if word not in accepted:
            raise InputError(f"unknown key boundary.{word}; accepted: {', '.join(accepted)}")
    key = table.get("key")
    if not isinstance(key, str):
        raise InputError(f'boundary.key = {show(key)}: must be the name of a key, such as "student.init_norm"')
    ends = [word for word in ("range", "logrange") if word in table]
    pair = table[ends[0]] if len(ends) == 1 else None
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise InputError("boundary: needs one of range = [low, high] and logrange = [low, high]")
    rest = {name: table[name] for name in ("quantity", "tolerance", "points") if name in table}
    return BoundaryPlan(base.problem, key, pair[0], pair[1], logarithmic=ends[0] == "logrange", **rest)


# ---- one point


def _point(experiment: str, quantity: str, near: float) -> dict[str, Any]:
    """One task: the threshold, searched near where it is expected (nan: in the whole range)."""
    from featurephase.analyses.threshold import threshold

    problem = Problem.from_toml(experiment)
    low, high = problem.threshold.delta_range
    ranges = [(low, high)]
    if math.isfinite(near):
        ranges.insert(0, (max(low, near / _NEAR), min(high, near * _NEAR)))
    for bounds in ranges:
        found = threshold(problem, limit=False, delta_range=bounds, workers=1)
        entry = found.delta_nn[-1] if found.delta_nn else None
        name = {"delta_nn": "value", "delta_nn_negative": "value_negative"}[quantity]
        value = math.nan if entry is None else float(getattr(entry, name))
        if math.isfinite(value):
            break
    return {
        "value": value,
        "se": math.nan if entry is None else float(getattr(entry, f"{name}_se")),
        "status": str(found.status),
        "message": found.message,
        "crossings": 0 if entry is None else len(entry.crossings),
        "delta_alg": found.delta_alg,
    }


# ---- where the curve is uncertain


def interpolation_errors(x: Array, y: Array, se: Array) -> Array:
    """How wrong the straight line between neighbours may be, in the middle of each interval, (points - 1,).

    ``h^2/8 |y''|`` with the larger second difference of the two ends, less twice its standard error: curvature that is
    within the noise is none.
    """
    h = np.diff(x)
    slopes = np.diff(y) / h
    wide = h[1:] + h[:-1]
    second = 2 * np.diff(slopes) / wide
    weights = np.stack([2 / (h[:-1] * wide), -2 / (h[:-1] * h[1:]), 2 / (h[1:] * wide)])
    noise = np.sqrt(np.sum((weights * np.stack([se[:-2], se[1:-1], se[2:]])) ** 2, axis=0))
    bend = np.maximum(np.abs(second) - 2 * noise, 0.0)
    ends = np.concatenate([[0.0], bend, [0.0]])
    return np.asarray(h**2 / 8 * np.maximum(ends[:-1], ends[1:]))


def _next(plan: BoundaryPlan, points: Mapping[float, Mapping[str, Any]]) -> list[float]:
    """The points to compute next: in the middle of the intervals where most is unknown; none where all is known."""
    values = np.array(sorted(points))
    y = np.log([float(points[v]["value"]) for v in values])
    se = np.array([float(points[v]["se"]) / float(points[v]["value"]) for v in values])
    there = np.isfinite(y)
    x = plan.scale(values)
    doubt = np.zeros(len(values) - 1)
    if np.sum(there) > 2:
        inner = np.flatnonzero(there)
        errors = interpolation_errors(x[inner], y[inner], np.nan_to_num(se[inner]))
        for left, right, error in zip(inner[:-1], inner[1:], errors, strict=True):
            if right == left + 1:
                doubt[left] = error / plan.tolerance
    edge = there[1:] != there[:-1]
    doubt[edge] = np.diff(x)[edge] / (x[-1] - x[0]) / _RESOLUTION
    order = [int(i) for i in np.argsort(-doubt, kind="stable") if doubt[i] > 1.0]
    room = min(_ROUND, plan.points - len(points))
    return [plan.middle(values[i], values[i + 1]) for i in sorted(order[: max(room, 0)])]


def _expected(plan: BoundaryPlan, points: Mapping[float, Mapping[str, Any]], value: float) -> float:
    """Where the neighbours lead to expect the threshold; nan where one has none, or several crossings."""
    known = sorted(points)
    neighbours = [*[v for v in known if v < value][-1:], *[v for v in known if v > value][:1]]
    if len(neighbours) < 2 or any(points[v]["crossings"] != 1 for v in neighbours):
        return math.nan
    logs = [math.log(float(points[v]["value"])) for v in neighbours]
    return float(f"{math.exp(sum(logs) / 2):.6g}")


# ---- the run


def run_boundary(
    plan: BoundaryPlan,
    folder: Path,
    *,
    executor: Executor | None = None,
    retry: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> Boundary:
    """Follow a boundary; points in the store ``folder`` are not computed again.

    Which points are added depends on numbers alone, never on where they are computed.

    Raises
    ------
    InputError
        As :func:`.run_keyed`.
    """
    points: dict[float, dict[str, Any]] = {}
    outcomes: dict[float, TaskOutcome] = {}
    wanted = plan.first()
    while wanted:
        near = {v: _expected(plan, points, v) for v in wanted}
        tasks = {repr(v): (_point, (plan.at(v).to_toml(), plan.quantity, near[v])) for v in wanted}
        done = run_keyed(folder, tasks, executor=executor, retry=retry)
        outcomes |= {v: done[repr(v)] for v in wanted}
        points |= {v: outcomes[v].document or _nothing(outcomes[v]) for v in wanted}
        wanted = _next(plan, points)
        report(f"{len(points)} points known, {len(wanted)} more are uncertain" if wanted else f"{len(points)} points")
    return _assembled(plan, folder, points, outcomes)


def _nothing(outcome: TaskOutcome) -> dict[str, Any]:
    numbers = {"value": math.nan, "se": math.nan, "crossings": 0, "delta_alg": math.nan}
    return numbers | {"status": outcome.status, "message": outcome.message}


def _assembled(
    plan: BoundaryPlan,
    folder: Path,
    points: Mapping[float, Mapping[str, Any]],
    outcomes: Mapping[float, TaskOutcome],
) -> Boundary:
    values = np.array(sorted(points))
    columns = {name: np.array([float(points[v][name]) for v in values]) for name in ("value", "se", "delta_alg")}
    statuses = tuple(str(points[v]["status"]) for v in values)
    reused = sum(outcome.reused for outcome in outcomes.values())
    failed = sum(outcome.status != OK for outcome in outcomes.values())
    missing = int(np.sum(~np.isfinite(columns["value"])))
    short = _next(replace(plan, points=len(points) + _ROUND), points)
    if failed:
        status, message = cells_failed(failed, len(points)), f"{failed} of {len(points)} points failed"
    elif short:
        status = NOT_CONVERGED
        message = f"after {len(points)} points straight lines between them may still be off by more than the tolerance"
    else:
        status, message = OK, ""
    if missing and not failed:
        without = ", ".join(f"{v:g}" for v, y in zip(values, columns["value"], strict=True) if not np.isfinite(y))
        message = "; ".join(filter(None, [message, f"no threshold in the range searched at {plan.key} = {without}"]))
    return Boundary(
        status=status,
        message=message,
        seed=plan.problem.asymptotics.seed,
        title=plan.problem.title,
        cells=CellCounts(total=len(points), done=len(points) - failed, failed=failed, reused=reused),
        store=os.fspath(folder),
        key=plan.key,
        logarithmic=plan.logarithmic,
        quantity=plan.quantity,
        tolerance=plan.tolerance,
        values=values,
        threshold=columns["value"],
        threshold_se=columns["se"],
        delta_alg=columns["delta_alg"],
        statuses=statuses,
        experiment=plan.problem.to_toml(),
    )


def boundary(
    problem: Problem,
    key: str,
    bounds: Sequence[float],
    *,
    logarithmic: bool = False,
    quantity: str = "delta_nn",
    tolerance: float = 0.02,
    points: int = 40,
    store: str | os.PathLike[str] | None = None,
    workers: Workers = None,
    quiet: bool = True,
) -> Boundary:
    """How a threshold in delta = n/d moves with one parameter, computed where the curve is uncertain.

    Parameters
    ----------
    problem
        The experiment; its last time (``run.times``, else the last step) is the one of the threshold.
    key
        Of the experiment file, with a number for its value: ``"student.init_norm"``, ``"training.step_size"``.
    bounds
        (lowest, highest) value.
    logarithmic
        Whether points are spread over the logarithm of the parameter.
    quantity
        ``"delta_nn"``, or ``"delta_nn_negative"``: from where on the outlier is negative too.
    tolerance
        Relative error of straight lines between points (in log delta) that is small enough.
    points
        Most points that are computed.
    store
        Folder that keeps the points; ``None``: nothing is kept.
    workers, quiet
        As in :func:`.sweep`.

    Returns
    -------
    Boundary
        Points with standard errors; ``status`` is ``"not-converged"`` where ``points`` did not suffice.

    Raises
    ------
    InputError
        For a key or a value that is not accepted, or a store in use.

    Notes
    -----
    Five points are searched over the whole of ``threshold.delta_range``. The others are searched within a factor of two
    of what their neighbours lead to expect, and in the whole range if nothing is there; where a neighbour has several
    crossings (a hard outlier that leaves the bulk, returns, and leaves it again) in the whole range at once.
    """
    ends = list(bounds)
    if len(ends) != 2:
        raise InputError(f"bounds = {show(bounds)}: must be two numbers, the lowest and the highest value")
    plan = BoundaryPlan(problem, key, ends[0], ends[1], logarithmic, quantity, tolerance, points)
    run = functools.partial(run_boundary, plan, executor=as_executor(workers, quiet=quiet))
    if store is not None:
        return run(Path(store))
    with tempfile.TemporaryDirectory(prefix="featurephase-") as folder:
        return replace(run(Path(folder) / "store"), store="")
