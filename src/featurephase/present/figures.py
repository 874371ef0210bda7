"""What all figures share: the style, the palette, and how a figure reaches a file.

The style holds while a figure is made (:func:`house_style`); the settings of whoever calls are left as they were.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurephase.foundation.errors import InputError
from featurephase.foundation.files import FIGURES, write_bytes
from featurephase.foundation.statistics import student_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:  # names for annotations: a table must not wait for Matplotlib
    Axes = Figure = Any

#: Okabe-Ito, readable with every kind of colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "figure.dpi": 110.0,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The style of the house for what is drawn inside; as a decorator, of a function that draws."""
    import matplotlib as mpl
    from cycler import cycler

    style: Any = STYLE | {"axes.prop_cycle": cycler(color=PALETTE)}
    with mpl.rc_context(style):
        yield


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """An empty figure (inches), without touching pyplot's global state; notebooks show it."""
    from featurephase.present.notebook_figure import NotebookFigure

    return NotebookFigure(figsize=(width, height), layout="constrained")


def axes_for(ax: Axes | None, width: float = 7.0, height: float = 4.2) -> tuple[Figure, Axes]:
    """The axes given and the figure they are in, or those of a new figure (inches)."""
    if ax is None:
        figure = new_figure(width, height)
        return figure, figure.add_subplot()
    root = ax.get_figure(root=True)
    if root is None:
        raise InputError("ax: these axes are in no figure")
    return root, ax


def text_figure(text: str, ax: Axes | None, width: float, height: float, size: str = "medium") -> Figure:
    """A picture of text, for results that have nothing to draw (inches)."""
    fig, axes = axes_for(ax, width, height)
    axes.axis("off")
    axes.text(0.0, 1.0, text, family="monospace", size=size, va="top", transform=axes.transAxes)
    return fig


def band(axes: Axes, x: Any, mean: Any, se: Any, replicates: int, colour: str, label: str | None = None) -> None:
    """A curve and its 95 % interval of Student's t over the replicates; no band where one replicate has no error."""
    axes.plot(x, mean, color=colour, label=label)
    if replicates > 1:
        axes.fill_between(x, *student_interval(mean, se, replicates), color=colour, alpha=0.25, linewidth=0)


def drawn(figure: Figure, kind: str, **options: Any) -> bytes:
    """The bytes of a picture: "png", "pdf" or "svg"."""
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, **options)
    return picture.getvalue()


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Draw ``figure`` to ``path`` (.png, .pdf, .svg), whole or not at all.

    Raises
    ------
    InputError
        If the name ends otherwise, or nothing can be written there.
    """
    return write_bytes(path, drawn(figure, Path(path).suffix[1:].lower(), dpi=160), FIGURES)
