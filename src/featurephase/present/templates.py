"""The list of templates as text, and as a figure of that text."""

from __future__ import annotations

from featurephase.present.figures import Axes, Figure, axes_for
from featurephase.results.templates import TemplateList

__all__ = ["figure", "table"]


def table(listed: TemplateList) -> str:
    """The list, or what was written and what to do with it."""
    if listed.written is not None:
        return f"{listed.written} written; next: featurephase predict {listed.written}"
    width = max(map(len, listed.templates))
    lines = (f"{name:{width}}  {title}" for name, title in listed.templates.items())
    return "\n".join([*lines, "", "featurephase init NAME writes one of them to NAME.toml"])


def figure(listed: TemplateList, ax: Axes | None = None) -> Figure:
    """The same as a page."""
    fig, axes = axes_for(ax, 8.0, 0.6 + 0.25 * len(listed.templates))
    axes.axis("off")
    axes.text(0.0, 1.0, table(listed), family="monospace", va="top", transform=axes.transAxes)
    return fig
