"""A self-contained HTML page: text, tables, code, pictures and interactive charts in one file that asks nobody.

A page is a title and sections, a section a heading and blocks. All text is escaped. A policy inside the page forbids
the browser to load anything from elsewhere. Tables, code and pictures need no JavaScript; charts are drawn by plotly,
which is put inside where there is a chart (extra ``page``).
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from featurephase.foundation.errors import MissingDependencyError
from featurephase.foundation.files import write_bytes
from featurephase.present.figures import Figure, drawn

#: Endings of pages.
PAGES = (".html", ".htm")
#: Sections from which on there is a list of contents.
_CONTENTS = 4
#: Symbol in front of a marked word, besides its colour.
_SYMBOLS = {"good": "✓ ", "fair": "≈ ", "bad": "✗ ", "none": "", "": ""}
_NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|inf|nan)( ?(±|\+-) ?\S+)?( ?%| s)?|-|–|", re.I)
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True)
class Marked:
    """A word in a table with a tone (``"good"``, ``"fair"``, ``"bad"``, ``"none"``), or that leads to an anchor."""

    text: str
    tone: str = ""
    link: str = ""


Cell: TypeAlias = str | Marked


@dataclass(frozen=True)
class Text:
    """Sentences; an empty line starts a paragraph, `backticks` mark code, https addresses become links."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; columns of numbers are aligned on the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Text to copy; with a ``name`` it can be saved as a file of that name."""

    text: str
    name: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of matplotlib; ``about`` says in words what it shows."""

    figure: Figure
    about: str
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of plotly, with values where the pointer is; ``about`` stands in its place without JavaScript."""

    figure: Any
    about: str
    caption: str = ""


Block: TypeAlias = Text | Table | Code | Picture | Chart


@dataclass(frozen=True)
class Section:
    """A heading and its blocks; ``folded``: shown when opened; ``name``: its anchor (default: made of the title)."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False
    name: str = ""

    @property
    def anchor(self) -> str:
        """The word after ``#`` that leads here."""
        return self.name or re.sub(r"\W+", "-", self.title.lower()).strip("-")


def page(title: str, sections: Sequence[Section], lead: str = "", facts: Mapping[str, str] | None = None) -> str:
    """The HTML of a page.

    Parameters
    ----------
    title, lead
        Its heading, and the sentences under it.
    sections
        In the order in which they are read.
    facts
        Short things to know at once, name -> value: seed, version, ..

    Raises
    ------
    MissingDependencyError
        If there is a chart and plotly is not installed.
    """
    charts = any(isinstance(block, Chart) for section in sections for block in section.blocks)
    drawing = _plotly() if charts else ""
    body = [f"<h1>{escape(title)}</h1>", _paragraphs(lead)]
    if facts:
        body.append("<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>")
    if charts:
        body.append("<noscript><p>The charts need JavaScript; their numbers are in the tables.</p></noscript>")
    if len(sections) >= _CONTENTS:
        links = (f'<a href="#{quote(s.anchor)}">{escape(s.title)}</a>' for s in sections)
        body.append(f"<nav>{''.join(links)}</nav>")
    body += map(_section, sections)
    if charts:
        body += [f"<script>{drawing}</script>", f"<script>{_own('page.js')}</script>"]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="generator" content="featurephase">'
        f"<title>{escape(title)}</title><style>{_own('page.css')}</style>"
        "<noscript><style>.chart{display:none}</style></noscript>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def write_page(path: str | os.PathLike[str], html: str) -> Path:
    """Write a page to ``path`` (.html), whole or not at all; a file of that name is replaced.

    Raises
    ------
    InputError
        If the name ends otherwise, the folder does not exist, or something that is no file has that name.
    """
    return write_bytes(path, html.encode(), PAGES)


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The drawing library itself."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingDependencyError(
            "an interactive page needs plotly; install the extra: pip install 'featurephase[page]'"
        ) from None
    source: str = get_plotlyjs()
    return source.replace("</script", r"<\/script")


# ---- blocks


def _section(section: Section) -> str:
    inside = "\n".join(map(_block, section.blocks))
    title, anchor = escape(section.title), escape(section.anchor)
    if section.folded:
        return f'<details id="{anchor}"><summary>{title}</summary>\n{inside}\n</details>'
    return f'<section id="{anchor}"><h2>{title}</h2>\n{inside}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return _paragraphs(text)
        case Table(header, rows, caption):
            return _table(header, rows, caption)
        case Code(text, name):
            return _code(text, name)
        case Picture(figure, about, caption):
            address = _address(drawn(figure, "svg", metadata={"Date": None}), "image/svg+xml")
            return _figure(f'<img class="plate" alt="{escape(about)}" src="{address}">', caption)
        case Chart(figure, about, caption):
            return _figure(_chart(figure, about), caption)


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in re.split(r"\n\s*\n", text.strip()) if part)


def _inline(text: str) -> str:
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"(https://[^\s<>&]+[^\s<>&.,;:)])", r'<a href="\1">\1</a>', marked)


def _text_of(cell: Cell) -> str:
    return cell.text if isinstance(cell, Marked) else cell


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _inline(cell)
    text = f"{_SYMBOLS[cell.tone]}{escape(cell.text)}"
    if cell.link:
        text = f'<a href="{escape(cell.link)}">{text}</a>'
    return f'<span class="{cell.tone}">{text}</span>' if cell.tone else text


def _table(header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str) -> str:
    width = max([len(header), *map(len, rows)])
    numbers = [all(_NUMBER.fullmatch(_text_of(row[i])) for row in rows if i < len(row)) for i in range(width)]

    def line(tag: str, cells: Iterable[str]) -> str:
        kinds = (' class="number"' if number else "" for number in numbers)
        inside = "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=False))
        return f"<tr>{inside}</tr>"

    top = f"<caption>{_inline(caption)}</caption>" if caption else ""
    head = f"<thead>{line('th', map(_inline, header))}</thead>" if header else ""
    body = "".join(line("td", map(_cell, row)) for row in rows)
    return f'<div class="wide"><table>{top}{head}<tbody>{body}</tbody></table></div>'


def _code(text: str, name: str) -> str:
    block = f"<pre><code>{escape(text.rstrip())}</code></pre>"
    if not name:
        return block
    link = f'<a download="{escape(name)}" href="{_address(text.encode(), "text/plain")}">Save as {escape(name)}</a>'
    return f"{block}<p>{link}</p>"


def _figure(inside: str, caption: str) -> str:
    words = f"<figcaption>{_inline(caption)}</figcaption>" if caption else ""
    return f"<figure>{inside}{words}</figure>"


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _chart(figure: Any, about: str) -> str:
    from plotly.graph_objects import Figure as PlotlyFigure

    figure = PlotlyFigure(figure)
    height = figure.layout.height or 420
    data = figure.to_json().replace("<", r"\u003c")  # nothing inside may end the element
    return (
        f'<div class="chart" role="img" aria-label="{escape(about)}" style="min-height:{height}px"></div>'
        f'<script type="application/json">{data}</script><noscript><p>{escape(about)}</p></noscript>'
    )
