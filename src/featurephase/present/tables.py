"""Tables for people: aligned columns, and what all tables begin and end with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurephase.results.words import with_error
from featurephase.subspaces.symmetry import direction_name

if TYPE_CHECKING:
    from featurephase.analyses.threshold import NetworkThreshold, Threshold
    from featurephase.results.prediction import Prediction

__all__ = ["MOST", "aligned", "basis_words", "ending", "heading", "threshold_table"]

#: Directions and neurons that a table still shows one by one.
MOST = 4


def aligned(rows: Iterable[Sequence[str]], header: Sequence[str] = (), indent: str = "  ") -> list[str]:
    """Rows of words as lines with columns two spaces apart, no trailing blanks."""
    table = [list(header)] * bool(header) + [list(row) for row in rows]
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(max(map(len, table), default=0))]
    return [indent + "  ".join(word.ljust(w) for word, w in zip(row, widths, strict=False)).rstrip() for row in table]


def ending(message: str, warnings: Iterable[str] = ()) -> list[str]:
    """The last lines of a table: what is to be known of the numbers above."""
    lines = [f"note: {message}"] if message else []
    return ["", *lines, *(f"warning: {w}" for w in warnings)] if lines or warnings else []


def heading(result: Prediction | Threshold) -> list[str]:
    """Title and what the numbers of an analysis in the limit rest on."""
    lines = [result.title] if result.title else []
    lines.append(
        f"limit n, d -> infinity; {result.samples} sample paths, {result.replicates} replicates, seed {result.seed}; "
        "value +- standard error"
    )
    return lines


def basis_words(result: Prediction | Threshold) -> str:
    """The easy and the hard directions by name."""

    def words(basis: np.ndarray) -> str:
        return ", ".join(direction_name(column) for column in basis.T) or "none"

    return f"easy: {words(result.easy_basis)}; hard: {words(result.hard_basis)}"


def threshold_table(threshold: Threshold) -> str:
    """delta_alg, delta_NN at each time and its limit, with their errors; then messages."""
    lines = [*heading(threshold), basis_words(threshold), ""]
    rows = [
        ["delta_alg", with_error(threshold.delta_alg, threshold.delta_alg_se), "best first-order method; data only"]
    ]
    rows += [_threshold_row(entry) for entry in threshold.delta_nn]
    limit = threshold.delta_nn_limit
    if limit is not None:
        state = "converged" if limit.converged else limit.status
        value = with_error(limit.value, limit.value_se)
        drift = f", drift {with_error(limit.drift, limit.drift_se)}" if np.isfinite(limit.drift) else ""
        rows.append(["delta_NN(t -> inf)", value, f"{state}, t = {limit.time}{drift}"])
    lines += aligned(rows)
    for entry in threshold.delta_nn:
        lines += _details(entry)
    if limit is not None and len(limit.history) > 1:
        pairs = zip(limit.history_time, limit.history, limit.history_se, strict=True)
        rows = [[str(t), with_error(float(value), float(se))] for t, value, se in pairs]
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
        words.append(f"negative from {with_error(entry.value_negative, entry.value_negative_se)} on")
    return [f"delta_NN(t = {entry.time})", with_error(entry.value, entry.value_se), ", ".join(words)]


def _details(entry: NetworkThreshold) -> list[str]:
    """All crossings, directions and blocks where there is more than the value itself."""

    def several(values: Iterable[float], errors: Iterable[float]) -> str:
        shown = [with_error(float(v), float(se)) for v, se in zip(values, errors, strict=True)]
        return ", ".join(shown[:MOST]) + (f" .. ({len(shown)} in all)" if len(shown) > MOST else "")

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
        rows.append(["their minimum", with_error(entry.block_minimum, entry.block_minimum_se)])
    if not np.isnan(entry.block_gap):
        rows.append(["its distance from the full equation", with_error(entry.block_gap, entry.block_gap_se)])
    return [f"  t = {entry.time}", *aligned(rows, indent="    ")] if rows else []
