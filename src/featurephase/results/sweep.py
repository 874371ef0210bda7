"""What ``sweep`` returns: the labelled numbers of all cells, and how many of them are finished."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.foundation.files import CSV, write_bytes
from featurephase.results.base import Record, Result
from featurephase.results.labels import labelled, record

if TYPE_CHECKING:
    import xarray


@record
class CellCounts(Record):
    """How many cells there are.

    Attributes
    ----------
    total, done, failed
        All cells; those that are finished; those that ended in an error, or in which something asked for does not
        exist.
    reused
        How many of the finished ones were in the store before.
    """

    total: int
    done: int
    failed: int
    reused: int


@record
class SweepAxis(Record):
    """One dimension: its name, the keys that change along it, and the values of the first as texts or numbers."""

    name: str
    keys: tuple[str, ...]
    values: tuple[Any, ...]


@record
class CostEstimate(Record):
    """What the cells that were left would cost, from a few that were timed.

    Attributes
    ----------
    timed
        How many.
    seconds
        A cell takes so long, on average; nan where none was timed.
    memory
        Bytes that the process took which computed the largest of them.
    left
        Cells that were not finished.
    processes
        How many would work on them.
    total_seconds
        ``seconds`` times ``left`` over ``processes``.
    """

    timed: int
    seconds: float
    memory: float
    left: int
    processes: int
    total_seconds: float


def _nothing() -> xarray.Dataset:
    import xarray

    return xarray.Dataset()


@record
class Sweep(Result):
    """A sweep over a grid of problems.

    Attributes
    ----------
    cells
        How many are finished.
    store
        The folder that holds them; empty where there is none.
    kind
        What was swept: ``"experiment"``, ``"latent"``, ``"related"`` or ``"probe"``.
    axes, quantities
        What was asked.
    estimate
        What it would cost, where that was asked; else ``None``.
    data
        All numbers, as an ``xarray.Dataset`` with a dimension for each axis; not in JSON.
    """

    title: str = ""
    cells: CellCounts = labelled(saved=False)
    store: str
    kind: str
    axes: tuple[SweepAxis, ...] = labelled(saved=False)
    quantities: tuple[str, ...]
    estimate: CostEstimate | None = labelled(saved=False, default=None)
    data: xarray.Dataset = labelled(json=False, saved=False, repr=False, compare=False, default_factory=_nothing)

    def __getitem__(self, name: str) -> xarray.DataArray:
        """A variable of :attr:`data`: ``result["delta_nn"]``."""
        return self.data[name]

    def to_xarray(self) -> xarray.Dataset:
        """:attr:`data`: the quantities over the axes, with standard errors, status and message of each cell."""
        return self.data

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write a table with a line for each cell to a ``.csv`` file; entries of lists have columns of their own.

        Raises
        ------
        InputError
            If the file cannot be written there.
        OSError
            If the disk is full.
        """
        return write_bytes(path, _csv(self.data).encode(), CSV)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :attr:`data` to a ``.nc``, ``.zarr`` or ``.csv`` file, whole or not at all."""
        return self.to_csv(path) if str(path).lower().endswith(CSV) else super().save(path)


def _csv(data: xarray.Dataset) -> str:
    """A line for each cell, in the order of the axes; what is a list in a cell has a column for each entry."""
    import csv
    import io

    axes = data["done"].dims
    cells = data["done"].size
    grids = np.meshgrid(*(data[axis].values for axis in axes), indexing="ij")
    columns: dict[str, Any] = {str(axis): grid.reshape(-1) for axis, grid in zip(axes, grids, strict=True)}
    for name, variable in data.variables.items():
        outer = [axis for axis in axes if axis in variable.dims]
        if name in axes or not outer:
            continue
        inner = [dim for dim in variable.dims if dim not in axes]
        whole = data[name].broadcast_like(data["done"])
        values = whole.transpose(*axes, *inner).values
        for place in np.ndindex(values.shape[len(axes) :]):
            label = f"{name}[{','.join(map(str, place))}]" if place else str(name)
            columns[label] = values[(..., *place)].reshape(cells)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        table.writerow([repr(float(x)) if isinstance(x, (float, np.floating)) else str(x) for x in row])
    return out.getvalue()
