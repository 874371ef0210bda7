"""The page of a sweep: the best and the worst cells, maps with values under the pointer, what each axis moves."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from featurephase.present.charts import Curve, curves_chart, map_chart
from featurephase.present.numbers import number
from featurephase.present.page import Block, Chart, Section, Table, Text
from featurephase.present.saved import Dataset, replicates_of
from featurephase.present.sweep_numbers import (
    Quantity,
    axes_of,
    borders,
    cell_words,
    effects,
    extremes,
    label,
    places,
    quantities,
    words_of,
)

#: Maps of one quantity: a place on the third axis each.
_MOST_MAPS = 12
#: Cells of a map up to which lines between different phases (or statuses) are drawn.
_BORDERED = 400


def sweep_sections(data: Dataset) -> list[Section]:
    """Counts, then for each quantity its extremes, its maps or its curve, and what each axis moves."""
    done = data["done"].values
    counts = [[str(done.size), *(str(int((done == state).sum())) for state in (1, 2, 0))]]
    summary: list[Block] = [Table(["cells", "finished", "failed", "not computed"], counts)]
    failures = _failures(data)
    if failures is not None:
        summary.append(failures)
    sections = [Section("Cells", summary)]
    return sections + [_quantity(data, quantity) for quantity in quantities(data)]


def _quantity(data: Dataset, quantity: Quantity) -> Section:
    about: list[Block] = [Text(f"{quantity.about}.")] if quantity.about else []
    if quantity.same:
        return Section(quantity.name, [*about, Text("It is the same in all cells."), *_extremes(data, quantity)[:1]])
    return Section(
        quantity.name, [*about, *_extremes(data, quantity), *_drawn(data, quantity), *_effects(data, quantity)]
    )


def _failures(data: Dataset) -> Table | None:
    """Every status that is not ok: how many cells have it, and what the first of them says."""
    status, message = (data[name].values.astype(str).reshape(-1) for name in ("status", "message"))
    seen = [word for word in dict.fromkeys(status) if word not in ("", "ok")]
    if not seen:
        return None
    rows = [[word, str(int((status == word).sum())), str(message[np.argmax(status == word)])] for word in seen]
    return Table(["status", "cells", "of the first"], rows)


def _extremes(data: Dataset, quantity: Quantity) -> list[Block]:
    low, high = extremes(data, quantity)
    header = [*map(label, axes_of(data)), f"`{quantity.name}`"]
    return [Table(header, low, "The smallest"), Table(header, high, "The largest")]


def _effects(data: Dataset, quantity: Quantity) -> list[Block]:
    """Median and range over all other axes, for each value of each axis."""
    header = ["median", "least", "largest", "cells with a number"]
    return [
        Table([label(axis), *header], rows, f"What {label(axis)} moves: over all other axes")
        for axis, rows in effects(data, quantity).items()
    ]


def _drawn(data: Dataset, quantity: Quantity) -> list[Block]:
    axes = axes_of(data)
    if len(axes) == 1:
        return [_curve(data, quantity)]
    others = list(product(*(range(data.sizes[axis]) for axis in axes[2:])))
    blocks: list[Block] = [_map(data, quantity, place) for place in others[:_MOST_MAPS]]
    if len(others) > _MOST_MAPS:
        blocks.append(Text(f"{_MOST_MAPS} of {len(others)} maps; all cells are in the table of all numbers."))
    return blocks


def _curve(data: Dataset, quantity: Quantity) -> Chart:
    (axis,) = axes_of(data)
    x: Any = np.asarray(places(data, axis))
    numeric = x.dtype.kind in "fiu"
    at = (x if numeric else np.arange(1, len(x) + 1)).astype(float)
    curve = Curve(at, quantity.values, quantity.se, points=not numeric)
    figure = curves_chart([curve], label(axis), quantity.name, replicates_of(data), log_y=quantity.wide)
    if not numeric:
        figure.update_xaxes(tickvals=curve.x, ticktext=[number(v) for v in x])
    return Chart(figure, f"{quantity.name} over {label(axis)}")


def _map(data: Dataset, quantity: Quantity, place: tuple[int, ...]) -> Chart:
    """The map of the first two axes at one place on the others."""
    axes = axes_of(data)
    at: tuple[Any, ...] = (slice(None), slice(None), *place)
    rows, columns = (range(data.sizes[axis]) for axis in axes[:2])
    hover = [[_said(data, quantity, (y, x, *place)) for x in columns] for y in rows]
    words = [f"{label(axis)} = {number(places(data, axis)[i])}" for axis, i in zip(axes[2:], place, strict=True)]
    known = quantity.values[np.isfinite(quantity.values)]
    figure = map_chart(
        quantity.values[at],
        (label(axes[1]), places(data, axes[1])),
        (label(axes[0]), places(data, axes[0])),
        hover,
        quantity.name,
        log=quantity.wide,
        limits=(known.min(), known.max()),
        lines=list(borders(words_of(data)[1][at])) if len(rows) * len(columns) <= _BORDERED else (),
    )
    return Chart(figure, f"{quantity.name} as a map. {', '.join(words)}", ", ".join(words))


def _said(data: Dataset, quantity: Quantity, index: tuple[int, ...]) -> str:
    """What stands under the pointer: where the cell is, its value with the error, its word and status."""
    name, words = words_of(data)
    where = [f"{label(axis)} = {word}" for axis, word in zip(axes_of(data), cell_words(data, index), strict=True)]
    se = None if quantity.se is None else float(quantity.se[index])
    lines = [*where, f"{quantity.name} = {number(float(quantity.values[index]), se)}"]
    lines += [f"{name}: {words[index]}"] if words[index] and name != "status" else []
    status = str(data["status"].values[index])
    return "\n".join([*lines, f"status: {status or 'not computed'}"])
