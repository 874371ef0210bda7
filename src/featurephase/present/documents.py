"""``report`` and ``cite`` for people: a line on the page that was written, and the entries as they stand in a file."""

from __future__ import annotations

from featurephase.foundation.memory import format_bytes
from featurephase.present.figures import Axes, Figure, axes_for
from featurephase.results.documents import Citations, WrittenPage

__all__ = ["figure", "table"]


def table(result: WrittenPage | Citations) -> str:
    """The entries; or what was written."""
    if isinstance(result, Citations):
        return result.bibtex
    return f"{result.page} written ({format_bytes(result.bytes)}); open it in a browser"


def figure(result: WrittenPage | Citations, ax: Axes | None = None) -> Figure:
    """The same as a picture of text."""
    text = table(result).rstrip()
    fig, axes = axes_for(ax, 9.0, 0.6 + 0.2 * (text.count("\n") + 1))
    axes.axis("off")
    axes.text(0.0, 1.0, text.replace("$", r"\$"), family="monospace", size="small", va="top", transform=axes.transAxes)
    return fig
