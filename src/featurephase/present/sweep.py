"""Table and figure of a sweep: curves over one axis, maps over two, small multiples over three; where phases meet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.statistics import student_quantile
from featurephase.foundation.types import Array
from featurephase.present.figures import PALETTE, Axes, Figure, axes_for, new_figure
from featurephase.present.numbers import number, short
from featurephase.present.saved import Dataset, replicates_of
from featurephase.present.sweep_numbers import Quantity, axes_of, borders, label, places, quantities, words_of
from featurephase.present.tables import aligned, ending
from featurephase.results.sweep import Sweep
from featurephase.results.words import with_error

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


# ---- the figure

#: Panels of small multiples, and values of a map up to which each is written into its cell.
_MOST_PANELS, _WRITTEN = 9, 80


def figure(sweep: Sweep, ax: Axes | None = None, quantity: str | None = None) -> Figure:
    """One quantity over the axes: a curve, a map, or a map for each value of the third axis (of a fourth, the first).

    Empty cells have no value: they are not finished, failed, or there is none (their status says which). White lines
    separate cells of different phases (or statuses). Bars of curves are 95 % intervals of Student's t.

    Parameters
    ----------
    ax
        Axes to draw on, for a sweep over one or two axes.
    quantity
        Its name; default: the first one.

    Raises
    ------
    InputError
        If the quantity is unknown, or ``ax`` is given for small multiples.
    """
    data = sweep.data
    known = quantities(data) if "done" in data else []
    if not known and quantity is None:
        return _nothing(ax, sweep)
    chosen, axes = _chosen(known, quantity), axes_of(data)
    outer = axes[2] if len(axes) > 2 else None
    panels = min(data.sizes[outer], _MOST_PANELS) if outer else 1
    if ax is not None and outer:
        raise InputError("ax: a sweep over three axes has several panels; call figure() without ax")
    if ax is not None:
        fig = ax.get_figure(root=True)
        grid = [ax]
    else:
        columns = 2 if panels == 4 else min(panels, 3)
        rows = -(-panels // columns)
        width = 1.8 + 0.42 * (data.sizes[axes[1]] if len(axes) > 1 else 10)
        height = 1.4 + (min(0.36 * data.sizes[axes[0]], 4.2) if len(axes) > 1 else 2.4)
        fig = new_figure(max(5.6, min(width, 4.4) * columns + 1.0), max(3.2, height * rows + 0.5))
        grid = list(fig.subplots(rows, columns, squeeze=False).flat)
    assert fig is not None
    for unused in grid[panels:]:
        unused.set_axis_off()
    if len(axes) == 1:
        _curve(grid[0], data, chosen, replicates_of(data))
    else:
        _maps(fig, grid[:panels], data, chosen)
    if ax is None:
        fig.suptitle(sweep.title or "Sweep", wrap=True)
    return fig


def _nothing(ax: Axes | None, sweep: Sweep) -> Figure:
    """In place of a figure, why there is none."""
    fig, axes = axes_for(ax, 5.6, 2.0)
    axes.set_axis_off()
    words = "no cell has a number" + (f": {sweep.message}" if sweep.message else "")
    axes.text(0.5, 0.5, words, ha="center", va="center", wrap=True, transform=axes.transAxes)
    return fig


def _chosen(known: list[Quantity], name: str | None) -> Quantity:
    if name is None:
        return known[0]
    for quantity in known:
        if quantity.name == name:
            return quantity
    raise InputError(f"quantity {name!r}: must be one of {', '.join(q.name for q in known)}")


def _curve(axes: Axes, data: Dataset, quantity: Quantity, replicates: int) -> None:
    (axis,) = axes_of(data)
    x = places(data, axis)
    numbers = np.asarray(x).dtype.kind in "fiu"
    at = np.asarray(x, dtype=float) if numbers else np.arange(len(x))
    # half of the 95 % interval in standard errors; 2 where the file does not say over how many they are
    width = student_quantile(replicates) if replicates > 1 else 2.0
    half = None if quantity.se is None else np.nan_to_num(quantity.se * width)
    line = "-" if numbers else "none"
    axes.errorbar(at, quantity.values, yerr=half, marker="o", markersize=5, linestyle=line, capsize=3, color=PALETTE[0])
    if not numbers:
        axes.set_xticks(at, [number(v) for v in x], rotation=30 if len(x) > 6 else 0)
    elif at.min() > 0 and at.max() > 20 * at.min():
        axes.set_xscale("log")
    if quantity.wide:
        axes.set_yscale("log")
    axes.set(xlabel=label(axis), ylabel=_name(quantity))


def _maps(fig: Figure, grid: list[Axes], data: Dataset, quantity: Quantity) -> None:
    """A map of the first two axes for each place on the third; all share one scale of colours."""
    from matplotlib.colors import LogNorm, Normalize

    axes, (name, words) = axes_of(data), words_of(data)
    known = quantity.values[np.isfinite(quantity.values)]
    norm = (LogNorm if quantity.wide else Normalize)(known.min(), known.max())
    rest = (0,) * max(0, len(axes) - 3)
    image: Any = None
    for i, panel in enumerate(grid):
        at: tuple[Any, ...] = (slice(None), slice(None), *((i, *rest) if len(axes) > 2 else ()))
        image = draw_map(panel, quantity.values[at], words[at], norm)
        if name != "status":
            _name_regions(panel, words[at])
        _tick(panel, data, axes)
        titles = [
            f"{label(axis)} = {short(places(data, axis))[j]}" for axis, j in zip(axes[2:], (i, *rest), strict=False)
        ]
        panel.set_title(", ".join(titles), fontsize="medium")
    fig.colorbar(image, ax=grid, label=_name(quantity), shrink=0.9)


def draw_map(axes: Axes, values: Array, words: Any, norm: Any) -> Any:
    """Colours of the values (y, x), the values written in where they are few, and lines where the words differ."""
    image = axes.imshow(np.ma.masked_invalid(values), norm=norm, cmap="cividis", aspect="auto", origin="lower")
    axes.set_facecolor("0.88")
    axes.grid(False)
    if values.size <= _WRITTEN:
        for y, x in product(*map(range, values.shape)):
            if np.isfinite(values[y, x]):
                dark = norm(values[y, x]) < 0.6
                text = f"{values[y, x]:.3g}"
                axes.text(x, y, text, ha="center", va="center", fontsize="x-small", color="white" if dark else "black")
    for xs, ys in borders(words):
        axes.plot(xs, ys, color="white", linewidth=2.4, solid_capstyle="butt", clip_on=True)
        axes.plot(xs, ys, color="#D55E00", linewidth=1.2, solid_capstyle="butt", clip_on=True)
    return image


def _name_regions(axes: Axes, words: Any) -> None:
    """Each word in the middle of the cells that have it."""
    plate = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
    for word in filter(None, np.unique(words)):
        y, x = np.nonzero(words == word)
        middle = int(np.argmin(np.hypot(x - x.mean(), y - y.mean())))  # a cell of its own, also of a bent region
        axes.text(x[middle], y[middle], word, ha="center", va="center", fontsize="small", style="italic", bbox=plate)


def _tick(panel: Axes, data: Dataset, axes: tuple[str, ...]) -> None:
    """Every place of an axis by its word, or some of many."""
    for axis, set_ticks, rotation in ((axes[0], panel.set_yticks, 0), (axes[1], panel.set_xticks, 45)):
        words = short(places(data, axis))
        every = max(1, -(-len(words) // 12))
        crowded = rotation and max(map(len, words)) * len(words) > 40
        set_ticks(range(0, len(words), every), words[::every], rotation=rotation if crowded else 0)
    panel.set(xlabel=label(axes[1]), ylabel=label(axes[0]))


def _name(quantity: Quantity) -> str:
    symbols = {"delta_nn": r"$\delta_{\rm NN}$", "delta_alg": r"$\delta_{\rm alg}$"}
    return " / ".join(symbols.get(part, part.replace("_", " ")) for part in quantity.name.split(" / "))
