"""The self-contained page: what is in it is escaped, needs nobody else, and is drawn without a complaint."""

from __future__ import annotations

import base64
import builtins
import re
from pathlib import Path

import pytest

from featurephase.foundation.errors import InputError, MissingDependencyError
from featurephase.present.figures import new_figure
from featurephase.present.page import Chart, Code, Marked, Picture, Section, Table, Text, page, write_page

from .browser import needs_browser, visit

HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"


def picture() -> Picture:
    figure = new_figure(2, 1)
    figure.add_subplot().plot([0, 1])
    return Picture(figure, "a line", "Caption")


def chart(name: str = "curve") -> Chart:
    return Chart({"data": [{"x": [1, 2], "y": [1, 3], "name": name}], "layout": {"height": 300}}, "a curve")


def test_blocks_become_what_they_say() -> None:
    table = Table(["verdict", "value"], [[Marked("holds", "good", link="#b"), "1.0 +- 0.2"], ["`x`", "-3e-5"]], "Two")
    blocks = [
        Text("One `code`.\n\nTwo: https://arxiv.org/abs/2602.01434."),
        table,
        Code("a = 1\n", "a.toml"),
        picture(),
    ]
    html = page(
        "Title", [Section("A b", blocks), Section("B", [Text("end")], folded=True, name="b")], "Lead.", {"seed": "3"}
    )
    assert "<p>One <code>code</code>.</p>" in html
    assert '<a href="https://arxiv.org/abs/2602.01434">https://arxiv.org/abs/2602.01434</a>.' in html
    assert '<span class="good"><a href="#b">✓ holds</a></span>' in html
    assert html.count('class="number"') == 3, "the column of numbers and its header"
    saved = re.search(r'download="a.toml" href="data:text/plain;base64,([^"]+)"', html)
    assert saved is not None
    assert base64.b64decode(saved[1]) == b"a = 1\n"
    assert '<section id="a-b">' in html
    assert '<details id="b"><summary>B</summary>' in html
    assert "plotly" not in html.lower(), "no chart, no library"


def test_nothing_written_by_others_is_markup() -> None:
    table = Table([HOSTILE], [[HOSTILE], [Marked(HOSTILE, "bad")]], HOSTILE)
    blocks = [Text(HOSTILE), table, Code(HOSTILE, HOSTILE), Chart({"layout": {"title": {"text": HOSTILE}}}, HOSTILE)]
    html = page(HOSTILE, [Section(HOSTILE, blocks)], HOSTILE, {HOSTILE: HOSTILE})
    assert "<script>window" not in html
    assert "<img src=x" not in html


def test_a_page_is_written_whole_or_refused(tmp_path: Path) -> None:
    target = tmp_path / "p.html"
    for text in ("one", "two"):
        write_page(target, text)
        assert target.read_text() == text
    with pytest.raises(InputError, match=r"must end in \.html"):
        write_page(tmp_path / "p.txt", "one")
    with pytest.raises(InputError, match="does not exist"):
        write_page(tmp_path / "none" / "p.html", "one")
    assert [p.name for p in tmp_path.iterdir()] == ["p.html"]


def test_a_chart_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object, **named: object) -> object:
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependencyError, match=r"featurephase\[page\]"):
        page("T", [Section("A", [chart()])])
    assert "<table>" in page("T", [Section("A", [Table([], [["1"]])])])


@needs_browser
def test_a_browser_draws_it_silently_and_asks_nobody(tmp_path: Path) -> None:
    sections = [Section("A", [chart(HOSTILE), picture()]), Section("B", [chart()], folded=True)]
    path = write_page(tmp_path / "p.html", page(HOSTILE, sections))
    seen = visit(path, tmp_path)
    assert seen.console == []
    assert seen.requests == []
    assert seen.dom.count('class="chart js-plotly-plot"') == 1, "the folded one waits until it is opened"
    assert re.search(r'<path class="js-line"', seen.dom), "a curve is drawn"
    assert path.stat().st_size < 6e6


@needs_browser
def test_a_browser_would_tell(tmp_path: Path) -> None:
    """Complaints and requests of a page are seen."""
    path = tmp_path / "p.html"
    path.write_text("<img src='https://example.org/x.png'><script>console.error('bad')</script>")
    seen = visit(path, tmp_path)
    assert seen.console == ['"bad"']
    assert seen.requests == ["https://example.org/x.png"]
