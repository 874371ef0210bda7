"""A figure that a notebook shows, without pyplot; imported where one is made, since Matplotlib takes its time."""

from __future__ import annotations

from matplotlib.figure import Figure

from featurephase.present.figures import drawn


class NotebookFigure(Figure):
    """A Matplotlib figure with a picture of its own as the value of a cell."""

    def _repr_png_(self) -> bytes:
        return drawn(self, "png")
