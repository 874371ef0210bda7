"""Results that are words, for people: the templates there are, a page that was written, entries of a bibliography."""

from __future__ import annotations

from featurephase.foundation.memory import format_bytes
from featurephase.present.figures import Axes, Figure, text_figure
from featurephase.results.documents import Citations, WrittenPage
from featurephase.results.templates import TemplateList


def table(result: WrittenPage | Citations | TemplateList) -> str:
    """The entries; or what was written; or the list, and what to do with it."""
    if isinstance(result, Citations):
        return result.bibtex
    if isinstance(result, WrittenPage):
        return f"{result.page} written ({format_bytes(result.bytes)}); open it in a browser"
    if result.written is not None:
        return f"{result.written} written; next: featurephase predict {result.written}"
    width = max(map(len, result.templates))
    lines = (f"{name:{width}}  {title}" for name, title in result.templates.items())
    return "\n".join([*lines, "", "featurephase init NAME writes one of them to NAME.toml"])


def figure(result: WrittenPage | Citations | TemplateList, ax: Axes | None = None) -> Figure:
    """The same as a picture of text."""
    text = table(result).rstrip()
    if isinstance(result, TemplateList):
        return text_figure(text, ax, 8.0, 0.6 + 0.25 * len(result.templates))
    return text_figure(text.replace("$", r"\$"), ax, 9.0, 0.6 + 0.2 * (text.count("\n") + 1), "small")
