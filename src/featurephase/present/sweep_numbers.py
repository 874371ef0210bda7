"""What is read off a sweep: its quantities over the axes, the best and the worst cells, and what each axis moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurephase.foundation.types import Array
from featurephase.present.numbers import number
from featurephase.present.saved import Dataset

#: Variables over the axes that are no answers.
_BOOKS = {"done", "status", "message", "seconds", "memory"}


@dataclass(frozen=True)
class Quantity:
    """A number in each cell, in the shape of the axes; ``nan`` where a cell has none. ``se``: ``None`` if exact."""

    name: str
    about: str
    values: Array
    se: Array | None = None

    @property
    def same(self) -> bool:
        """Whether it is one number in all cells."""
        known = self.values[np.isfinite(self.values)]
        return bool(np.ptp(known) == 0)

    @property
    def wide(self) -> bool:
        """Whether it is positive and spans so much that its logarithm is shown."""
        known = self.values[np.isfinite(self.values)]
        return bool(known.size and known.min() > 0 and known.max() > 20 * known.min())


def axes_of(data: Dataset) -> tuple[str, ...]:
    """Names of the axes, in their order."""
    return tuple(map(str, data["done"].dims))


def label(axis: str) -> str:
    """The last part of the name of an axis, ``student.activation`` is ``activation``; but ``loss.name`` is ``loss``."""
    return axis.removesuffix(".name").rpartition(".")[2].replace("_", " ")


def places(data: Dataset, axis: str) -> list[Any]:
    """Values along an axis: numbers, or words."""
    return list(data[axis].values) if axis in data.coords else list(range(1, data.sizes[axis] + 1))


def quantities(data: Dataset) -> list[Quantity]:
    """The numbers that cells have; last the ratio of delta_NN to delta_alg where both were asked for.

    A cell that counts as failed may have some: it lacks another quantity that was asked for.
    """
    axes, names = axes_of(data), list(map(str, data.data_vars))
    errors = {f"{name}_se" for name in names}
    out = []
    for name in names:
        variable = data[name]
        if name in _BOOKS | errors or variable.dims != axes or variable.dtype.kind not in "fiu":
            continue
        about = str(variable.attrs.get("long_name", ""))
        se = data[f"{name}_se"].values.astype(float) if f"{name}_se" in data else None
        values = np.where(data["done"].values > 0, variable.values.astype(float), np.nan)
        out.append(Quantity(name, about, values, se))
    by_name = {q.name: q for q in out}
    if "delta_nn" in by_name and "delta_alg" in by_name:
        out.append(_ratio(by_name["delta_nn"], by_name["delta_alg"]))
    return [q for q in out if np.isfinite(q.values).any()]


def _ratio(above: Quantity, below: Quantity) -> Quantity:
    """above / below, with the error to first order; nan where ``below`` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(below.values > 0, above.values / below.values, np.nan)
        parts = [np.zeros_like(value) if q.se is None else q.se / q.values for q in (above, below)]
        se = value * np.hypot(*parts)
    return Quantity(f"{above.name} / {below.name}", "what gradient descent needs over what is needed at all", value, se)


def words_of(data: Dataset) -> tuple[str, Any]:
    """The word that each cell has: a phase or another answer in words, else its status; name and array."""
    axes = axes_of(data)
    for name in data.data_vars:
        variable = data[name]
        if name not in _BOOKS and variable.dims == axes and variable.dtype.kind in "OU":
            return str(name), variable.values.astype(str)
    return "status", data["status"].values.astype(str)


def borders(words: Any) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Lines between neighbours with different words in a map (y, x): ends in units of cells, cell i from i - 1/2 on."""
    rows, columns = words.shape
    for y in range(rows):
        for x in range(columns):
            if x + 1 < columns and words[y, x] != words[y, x + 1]:
                yield (x + 0.5, x + 0.5), (y - 0.5, y + 0.5)
            if y + 1 < rows and words[y, x] != words[y + 1, x]:
                yield (x - 0.5, x + 0.5), (y + 0.5, y + 0.5)


def cell_words(data: Dataset, index: tuple[int, ...]) -> list[str]:
    """Where a cell stands, one word an axis."""
    return [number(places(data, axis)[i]) for axis, i in zip(axes_of(data), index, strict=True)]


def extremes(data: Dataset, quantity: Quantity, count: int = 5) -> tuple[list[list[str]], list[list[str]]]:
    """The cells with the smallest and with the largest finite values: place and value with its error, a row each."""
    flat = quantity.values.reshape(-1)
    known = np.flatnonzero(np.isfinite(flat))
    ordered = known[np.argsort(flat[known], kind="stable")]

    def row(where: int) -> list[str]:
        index = tuple(int(i) for i in np.unravel_index(where, quantity.values.shape))
        se = None if quantity.se is None else float(quantity.se[index])
        return [*cell_words(data, index), number(flat[where], se)]

    shown = min(count, len(ordered))
    return [row(w) for w in ordered[:shown]], [row(w) for w in ordered[::-1][:shown]]


def effects(data: Dataset, quantity: Quantity) -> dict[str, list[list[str]]]:
    """For each axis and value on it: median, least, largest over the other axes, and the number of cells with one."""
    out: dict[str, list[list[str]]] = {}
    for position, axis in enumerate(axes_of(data)):
        rows = []
        for i, value in enumerate(places(data, axis)):
            values = np.take(quantity.values, i, axis=position).reshape(-1)
            known = values[np.isfinite(values)]
            if not known.size:
                rows.append([number(value), "–", "–", "–", f"0 of {values.size}"])
                continue
            middle = [f"{x:.4g}" for x in (np.median(known), known.min(), known.max())]
            rows.append([number(value), *middle, f"{known.size} of {values.size}"])
        out[axis] = rows
    return out
