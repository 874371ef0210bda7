"""Tables for people: aligned columns, numbers with as many digits as their standard errors justify."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurephase.present.prediction import latent_directions, share
from featurephase.results.words import with_error as measured

if TYPE_CHECKING:
    from featurephase.analyses.prediction import HessianPrediction, Prediction, TrajectoryPrediction
    from featurephase.analyses.threshold import NetworkThreshold, Threshold

__all__ = ["aligned", "ending", "measured", "prediction_table", "threshold_table"]

#: Directions and neurons that a table still shows one by one.
_MOST = 4


def aligned(rows: Iterable[Sequence[str]], header: Sequence[str] = (), indent: str = "  ") -> list[str]:
    """Rows of words as lines with columns two spaces apart, no trailing blanks."""
    table = [list(header)] * bool(header) + [list(row) for row in rows]
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(max(map(len, table), default=0))]
    return [indent + "  ".join(word.ljust(w) for word, w in zip(row, widths, strict=False)).rstrip() for row in table]


def ending(message: str, warnings: Iterable[str] = ()) -> list[str]:
    """The last lines of a table: what is to be known of the numbers above."""
    lines = [f"note: {message}"] if message else []
    return ["", *lines, *(f"warning: {w}" for w in warnings)] if lines or warnings else []


def _heading(result: Prediction | Threshold) -> list[str]:
    lines = [result.title] if result.title else []
    lines.append(
        f"limit n, d -> infinity; {result.samples} sample paths, {result.replicates} replicates, seed {result.seed}; "
        "value +- standard error"
    )
    return lines


def _names(result: Prediction | Threshold) -> str:
    from featurephase.subspaces.symmetry import direction_name

    def words(basis: np.ndarray) -> str:
        return ", ".join(direction_name(column) for column in basis.T) or "none"

    return f"easy: {words(result.easy_basis)}; hard: {words(result.hard_basis)}"


def _chosen_times(run: TrajectoryPrediction) -> list[int]:
    """1, 2, 5, 10, 20 .. besides the first and last step and the times of the Hessian."""
    last = int(run.times[-1])
    steps = {0, last, *(h.time for h in run.hessian)}
    return sorted(steps | {s * 10**e for e in range(7) for s in (1, 2, 5) if s * 10**e < last})


def prediction_table(prediction: Prediction) -> str:
    """The trajectory at a few times and the spectrum, for each delta; then messages and warnings."""
    lines = [*_heading(prediction), _names(prediction)]
    for run in prediction.runs:
        lines += ["", f"delta = {run.delta:g}" + ("" if run.status == "ok" else f"  ({run.status})")]
        lines += _trajectory(prediction, run)
        for entry in run.hessian:
            lines += _hessian(entry, prediction.replicates)
    return "\n".join(lines + ending(prediction.message, prediction.warnings))


def _trajectory(prediction: Prediction, run: TrajectoryPrediction) -> list[str]:
    easy = [(name, direction) for name, is_easy, direction in latent_directions(prediction) if is_easy][:_MOST]
    columns = [share(run, direction) for _, direction in easy]
    header = ["step", "training loss", "test loss", *(f"|{name}|/|Theta|" for name, _ in easy)]
    rows = []
    for t in _chosen_times(run):
        numbers = [(run.train_loss, run.train_loss_se), (run.test_loss, run.test_loss_se), *columns]
        rows.append([str(t), *(measured(float(x[t]), float(se[t])) for x, se in numbers)])
    return aligned(rows, header)


def _hessian(entry: HessianPrediction, replicates: int) -> list[str]:
    if entry.status != "ok":
        return [f"  Hessian at t = {entry.time}: {entry.status}"]
    rows = [(entry.left_edge, ["left edge", measured(entry.left_edge, entry.left_edge_se)])]
    if not np.isnan(entry.right_edge):
        rows.append((entry.right_edge, ["right edge", measured(entry.right_edge, entry.right_edge_se)]))
    for name, outliers in (("hard outlier", entry.hard_outliers), ("outlier", entry.outliers)):
        for o in outliers:
            row = [name, measured(o.value, o.value_se), "overlap " + measured(o.overlap, o.overlap_se)]
            if o.fraction < 1:
                row.append(f"in {round(o.fraction * replicates)} of {replicates} replicates")
            rows.append((o.value, row))
    rows.sort(key=lambda row: row[0])
    return [f"  Hessian at t = {entry.time}", *aligned([row for _, row in rows], indent="    ")]


def threshold_table(threshold: Threshold) -> str:
    """delta_alg, delta_NN at each time and its limit, with their errors; then messages."""
    lines = [*_heading(threshold), _names(threshold), ""]
    rows = [["delta_alg", measured(threshold.delta_alg, threshold.delta_alg_se), "best first-order method; data only"]]
    rows += [_threshold_row(entry) for entry in threshold.delta_nn]
    limit = threshold.delta_nn_limit
    if limit is not None:
        state = "converged" if limit.converged else limit.status
        value = measured(limit.value, limit.value_se)
        rows.append(
            ["delta_NN(t -> inf)", value, f"{state}, t = {limit.time}, drift {measured(limit.drift, limit.drift_se)}"]
        )
    lines += aligned(rows)
    for entry in threshold.delta_nn:
        lines += _details(entry)
    if limit is not None and len(limit.history) > 1:
        pairs = zip(limit.history_time, limit.history, limit.history_se, strict=True)
        rows = [[str(t), measured(float(value), float(se))] for t, value, se in pairs]
        lines += ["", *aligned(rows, ["step", "delta_NN(t)"])]
    return "\n".join(lines + ending(threshold.message))


def _threshold_row(entry: NetworkThreshold) -> list[str]:
    words = []
    if entry.status != "ok":
        words.append(entry.status)
    if entry.continuous is not None:
        words.append("continuous" if entry.continuous else "discontinuous: the overlap jumps")
    if entry.negative:
        words.append("negative: learned from here on")
    elif entry.negative is False:
        words.append(f"negative from {measured(entry.value_negative, entry.value_negative_se)} on")
    return [f"delta_NN(t = {entry.time})", measured(entry.value, entry.value_se), ", ".join(words)]


def _details(entry: NetworkThreshold) -> list[str]:
    """All crossings, directions and blocks where there is more than the value itself."""

    def several(values: Iterable[float], errors: Iterable[float]) -> str:
        shown = [measured(float(v), float(se)) for v, se in zip(values, errors, strict=True)]
        return ", ".join(shown[:_MOST]) + (f" .. ({len(shown)} in all)" if len(shown) > _MOST else "")

    rows = []
    if len(entry.crossings) > 1:
        rows.append(["crossings", several(entry.crossings, entry.crossings_se)])
    if len(entry.directions) > 1:
        rows.append(["directions", several(entry.directions, entry.directions_se)])
    if len(entry.blocks) > 1:
        values, errors = (np.array([getattr(b, n) for b in entry.blocks]).T for n in ("directions", "directions_se"))
        for j, (value, se) in enumerate(zip(values, errors, strict=True)):
            name = f"single neurons, direction {j + 1}" if len(values) > 1 else "single neurons"
            rows.append([name, several(value, se)])
        rows.append(["their minimum", measured(entry.block_minimum, entry.block_minimum_se)])
    if not np.isnan(entry.block_gap):
        rows.append(["its distance from the full equation", measured(entry.block_gap, entry.block_gap_se)])
    return [f"  t = {entry.time}", *aligned(rows, indent="    ")] if rows else []
