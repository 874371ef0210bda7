"""The numbers of a data set as tables: a row an entry, a column a variable, with their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from featurephase.present.page import Table
from featurephase.present.saved import DataArray, Dataset
from featurephase.results.words import with_error

#: Rows that a table shows; of more, every so-manieth.
MOST_ROWS = 200
#: Columns that a table shows side by side.
_COLUMNS = 8
#: How a place along a dimension is written, ``{}`` being the coordinate.
_PLACES = {
    "delta": "δ = {}",
    "hessian_time": "t = {}",
    "threshold_time": "t = {}",
    "latent": "{}",
    "direction": "{}",
    "layer": "layer {}",
    "pair": "layers {}",
}


def number(value: Any, se: float | None = None) -> str:
    """A number with its error, a word, or ``–`` where there is none."""
    if isinstance(value, (str, bytes)):
        return str(value) or "–"
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(value)
    x = float(value)
    if math.isnan(x):
        return "–"
    return f"{x:.6g}" if se is None else with_error(x, se).replace("+-", "±")


def short(values: Iterable[Any]) -> list[str]:
    """Words for the marks of an axis: numbers with four digits."""
    return [f"{v:.4g}" if isinstance(v, (float, np.floating)) else str(v) for v in values]


def measured_variables(data: Dataset) -> list[str]:
    """Names of the variables with entries, errors apart: they belong to what they are the errors of."""
    errors = {f"{name}_se" for name in data.data_vars}
    return [str(name) for name, v in data.data_vars.items() if name not in errors and v.size]


def error_of(data: Dataset, name: str) -> DataArray | None:
    """The standard errors of a variable, if it has any."""
    return data[f"{name}_se"] if f"{name}_se" in data.data_vars else None


def place(data: Dataset, dim: str, index: int) -> str:
    """Where an entry stands along a dimension: ``"δ = 4"``, ``"g1"``, ``"neuron 2"``."""
    word = _coordinate(data, dim, index)
    return _PLACES.get(dim, dim.replace("_", " ") + " {}").format(word)


def tables(data: Dataset, names: Sequence[str] | None = None) -> list[Table]:
    """All variables (or those named): those over the same dimensions in one table, single numbers first."""
    chosen = measured_variables(data) if names is None else [n for n in names if n in data.data_vars and data[n].size]
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in chosen:
        groups.setdefault(tuple(map(str, data[name].dims)), []).append(name)
    ordered = sorted(groups.items(), key=lambda item: len(item[0]))
    return [table for dims, group in ordered for table in _group(data, dims, group)]


def _group(data: Dataset, dims: tuple[str, ...], names: list[str]) -> Iterator[Table]:
    if not dims:
        rows = [[f"`{n}`", _entry(data, n, ()), str(data[n].attrs.get("long_name", "")), _unit(data, n)] for n in names]
        yield _without_empty(Table(["quantity", "value", "meaning", "unit"], rows))
        return
    entries, note = _entries([data.sizes[dim] for dim in dims])
    for start in range(0, len(names), _COLUMNS):
        part = names[start : start + _COLUMNS]
        rows = []
        for index in entries:
            places = [_coordinate(data, dim, i) for dim, i in zip(dims, index, strict=True)]
            rows.append([*places, *(_entry(data, name, index) for name in part)])
        yield Table([*(dim.replace("_", " ") for dim in dims), *(f"`{name}`" for name in part)], rows, note)


def _without_empty(table: Table) -> Table:
    """The table without the columns in which nothing stands."""
    kept = [i for i in range(len(table.header)) if any(row[i] for row in table.rows)]
    return Table([table.header[i] for i in kept], [[row[i] for i in kept] for row in table.rows], table.caption)


def _coordinate(data: Dataset, dim: str, index: int) -> str:
    return number(data[dim].values[index]) if dim in data.coords else str(index + 1)


def _entry(data: Dataset, name: str, index: tuple[int, ...]) -> str:
    se = error_of(data, name)
    return number(data[name].values[index], None if se is None else float(se.values[index]))


def _entries(shape: Sequence[int]) -> tuple[list[tuple[int, ...]], str]:
    """Index of each row, and a note where the longest dimension is thinned out or the end is left away."""
    total = math.prod(shape)
    axes: list[Sequence[int]] = [range(size) for size in shape]
    longest = int(np.argmax(shape))
    if total > MOST_ROWS:
        kept = max(2, MOST_ROWS * shape[longest] // total)
        axes[longest] = sorted({round(i) for i in np.linspace(0, shape[longest] - 1, kept)})
    rows = list(product(*axes))
    if total == len(rows):
        return rows, ""
    shown = rows[:MOST_ROWS]
    return shown, f"{len(shown)} of {total} rows; the saved file holds all of them."


def _unit(data: Dataset, name: str) -> str:
    unit = str(data[name].attrs.get("units", ""))
    return "" if unit == "1" else unit


def glossary(data: Dataset) -> Table:
    """What each variable is, over which dimensions and in which unit."""
    rows = [
        [f"`{n}`", str(data[n].attrs.get("long_name", "")), ", ".join(map(str, data[n].dims)), _unit(data, n)]
        for n in measured_variables(data)
    ]
    return Table(["variable", "meaning", "over", "unit"], rows, "± is the standard error; – is no value.")
