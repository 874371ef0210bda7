"""Interactive charts of a page: curves with their bands, and maps; readable on a dark and on a light ground.

They are figures of plotly (extra ``page``) without colours for text and axes: the page gives them those of the
reader's scheme.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from featurephase.foundation.statistics import student_interval
from featurephase.foundation.types import Array
from featurephase.present.figures import PALETTE
from featurephase.present.numbers import short

#: The colours of the palette that can be told from black and from white.
COLOURS = tuple(colour for colour in PALETTE if colour not in ("#000000", "#F0E442"))
#: Curves from which on the legend stands beside the chart, and that the pointer shows one at a time.
_MANY = 7
_DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Curve:
    """One curve: values over ``x``, standard errors or ``None``, a name; ``points``: marks in place of a line.

    Curves of the same ``colour`` (a number) differ by ``dash``.
    """

    x: Array
    y: Array
    se: Array | None = None
    name: str = ""
    colour: int = 0
    dash: int = 0
    points: bool = False


def curves_chart(
    curves: Sequence[Curve],
    x_title: str,
    y_title: str,
    replicates: int,
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> Any:
    """Curves with 95 % bands of Student's t over the replicates; with fewer than two of these there are no bands."""
    from plotly.graph_objects import Figure

    figure = Figure()
    for curve in curves:
        figure.add_traces(_traces(curve, replicates))
    figure.update_layout(**_layout(len(curves)))
    for update, title, log in ((figure.update_xaxes, x_title, log_x), (figure.update_yaxes, y_title, log_y)):
        update(title_text=escape(title), type="log" if log else None)
    return figure


def _traces(curve: Curve, replicates: int) -> list[Any]:
    from plotly.graph_objects import Scatter

    colour, name = COLOURS[curve.colour % len(COLOURS)], escape(curve.name)
    same: dict[str, Any] = {"x": curve.x, "legendgroup": name}
    error = "" if curve.se is None else " ± %{customdata:.2g}"
    main = Scatter(
        **same,
        y=curve.y,
        customdata=curve.se,
        name=name,
        showlegend=bool(name),
        mode="markers" if curve.points or np.size(curve.x) == 1 else "lines",
        line={"color": colour, "dash": _DASHES[curve.dash % len(_DASHES)], "width": 2},
        marker={"color": colour, "size": 7, "symbol": ("circle", "diamond", "square", "x")[curve.dash % 4]},
        hovertemplate=f"%{{y:.5g}}{error}<extra>{name}</extra>",
    )
    if curve.se is None or replicates < 2:
        return [main]
    low, high = student_interval(curve.y, curve.se, replicates)
    if curve.points or np.size(curve.x) == 1:
        up, down = np.nan_to_num(high - curve.y), np.nan_to_num(curve.y - low)
        main.error_y = {"array": up, "arrayminus": down, "color": colour, "thickness": 1.5, "width": 3}
        return [main]
    edge = same | {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    faint = f"rgba({red},{green},{blue},0.25)"
    return [Scatter(**edge, y=low), Scatter(**edge, y=high, fill="tonexty", fillcolor=faint), main]


def _layout(curves: int) -> dict[str, Any]:
    axis = {"automargin": True, "zeroline": False, "showline": True, "ticks": "outside"}
    above = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    return {
        "template": "none",
        "height": 400,
        "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "modebar": {"bgcolor": "rgba(0,0,0,0)"},
        "hovermode": "closest" if curves >= _MANY else "x unified",
        "legend": {} if curves >= _MANY else above,
        "xaxis": axis,
        "yaxis": axis,
    }


def map_chart(
    values: Array,
    x: tuple[str, Sequence[Any]],
    y: tuple[str, Sequence[Any]],
    hover: Sequence[Sequence[str]],
    title: str,
    *,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    lines: Iterable[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> Any:
    """A map of ``values`` (y, x): colours, with the words of ``hover`` under the pointer; nan stays empty.

    Parameters
    ----------
    x, y
        Name and places of each axis; numbers keep their distances unless they are few, words are categories.
    hover
        What is said of each cell, in the shape of ``values``.
    title
        Of the scale of colours.
    log
        Whether colours follow the logarithm.
    limits
        Smallest and largest value of the scale, which several maps may share; default: those of ``values``.
    lines
        Borders drawn over the map, in units of cells: (x, x), (y, y).
    """
    from plotly.graph_objects import Figure, Heatmap

    def scaled(numbers: Any) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(numbers) if log else np.asarray(numbers, dtype=float)

    shown = np.where(np.isfinite(scaled(values)), scaled(values), np.nan)
    known = shown[np.isfinite(shown)]
    low, high = scaled(limits) if limits else (known.min(initial=0.0), known.max(initial=1.0))
    figure = Figure(
        Heatmap(
            z=shown,
            zmin=low,
            zmax=high,
            x=_places(x[1]),
            y=_places(y[1]),
            text=[[escape(word).replace("\n", "<br>") for word in row] for row in hover],
            hovertemplate="%{text}<extra></extra>",
            colorscale="Cividis",
            colorbar={"title": {"text": escape(title), "side": "right"}, **(_powers(low, high) if log else {})},
        )
    )
    for xs, ys in lines:
        figure.add_shape(type="line", x0=xs[0], x1=xs[1], y0=ys[0], y1=ys[1], line={"color": "#D55E00", "width": 2})
    layout = _layout(1) | {"hovermode": "closest", "height": max(260, min(60 + 34 * len(y[1]), 640))}
    figure.update_layout(**layout)
    for update, (name, values_there) in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        update(title_text=escape(name), showgrid=False, type=None if _far(values_there) else "category")
    return figure


def _powers(low: float, high: float) -> Mapping[str, Any]:
    """Marks of a scale whose colours are logarithms, written as the numbers themselves."""
    marks = np.linspace(low, high, 5 if high > low else 1)
    return {"tickvals": marks, "ticktext": [f"{10.0**mark:.3g}" for mark in marks]}


def _places(values: Sequence[Any]) -> list[Any]:
    """Many numbers stand where they are, few of them and words side by side."""
    return list(values) if _far(values) else [escape(word) for word in short(values)]


def _far(values: Sequence[Any]) -> bool:
    return len(values) > 12 and np.asarray(values).dtype.kind in "fiu"
