"""Tables for people: aligned columns, and what all tables begin and end with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from featurephase.results.prediction import Prediction
from featurephase.results.threshold import Threshold
from featurephase.results.words import with_error
from featurephase.subspaces.symmetry import direction_name

#: Directions and neurons that a table still shows one by one.
MOST = 4


def aligned(rows: Iterable[Sequence[str]], header: Sequence[str] = (), indent: str = "  ") -> list[str]:
    """Rows of words as lines with columns two spaces apart, no trailing blanks."""
    table = [list(header)] * bool(header) + [list(row) for row in rows]
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(max(map(len, table), default=0))]
    return [indent + "  ".join(word.ljust(w) for word, w in zip(row, widths, strict=False)).rstrip() for row in table]


def number(record: Any, name: str, index: Any = ()) -> str:
    """A number of a record with its error, or one entry of an array of it."""
    return with_error(*(np.asarray(getattr(record, field))[index] for field in (name, f"{name}_se")))


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
