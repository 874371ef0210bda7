"""The table of a sweep: its axes, how far it is, and the numbers of its cells; its figure is that of the maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from featurephase.present.sweep_maps import figure
from featurephase.present.tables import aligned, ending
from featurephase.results.sweep import Sweep
from featurephase.results.words import with_error

__all__ = ["figure", "table"]

#: Cells, and values of an axis, that the table shows.
_CELLS, _VALUES = 40, 8


def table(result: Sweep) -> str:
    """How far it is, the axes, and the scalars of the first cells."""
    cells = result.cells
    counts = f"{cells.total} cells: {cells.done} finished ({cells.reused} of them before), {cells.failed} failed"
    lines = [result.title, counts] if result.title else [counts]
    lines += [f"  {', '.join(axis.keys)}: {_values(axis.values)}" for axis in result.axes]
    if result.data.sizes:
        names = [name for name in result.quantities if result.data[name].dims == result.data["done"].dims]
        rows = [row for row, _ in zip(_rows(result, names), range(_CELLS), strict=False)]
        lines += ["", *aligned(rows, (*(axis.name for axis in result.axes), *names, "status"))]
        if cells.total > _CELLS:
            lines.append(f"  .. {cells.total - _CELLS} more cells in the store")
    return "\n".join([*lines, *ending(result.message)])


def _values(values: tuple[Any, ...]) -> str:
    words = [_word(value) for value in values]
    return ", ".join(words if len(words) <= _VALUES else [*words[: _VALUES - 2], "..", words[-1]])


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rows(result: Sweep, names: list[str]) -> Iterator[list[str]]:
    """A line for each cell, its last entry the status."""
    data = result.data
    for place in np.ndindex(*data["done"].shape):
        row = [_word(axis.values[i]) for axis, i in zip(result.axes, place, strict=True)]
        for name in names:
            value: Any = data[name].values[place]
            se = data[f"{name}_se"].values[place] if f"{name}_se" in data else np.nan
            row.append(str(value) if isinstance(value, str) else with_error(float(value), float(se)))
        yield [*row, str(data["status"].values[place]) or "-"]
