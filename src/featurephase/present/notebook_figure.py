"""A figure that a notebook shows, without pyplot; imported where one is made, since Matplotlib takes its time."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A Matplotlib figure with a picture of its own as the value of a cell."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png")
        return drawn.getvalue()
