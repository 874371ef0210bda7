"""Every citation of the theory leads to a page of docs/theory and to an equation on it.

A citation is written ``theory/dynamics, eq. dyn-step``, or ``theory/dynamics, eqs. dyn-step, dyn-fresh``, or without an
equation where a whole page is meant; it may run over a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
THEORY = ROOT / "docs" / "theory"
PAGE = re.compile(r"(?<![\w./])theory/([a-z][a-z-]*)")
LABELS = re.compile(r",? eqs?\. ((?:[a-z]{3}-[a-z-]+(?:, | and )?)+)")
#: How the theory was cited before it had pages.
OLD = re.compile(r"[Tt]heory (?:[123]\b|1\.\d)")


def labels(page: str) -> list[str]:
    """Labels of the numbered equations of a page."""
    text = (THEORY / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^\$\$ \(([a-z-]+)\)$", text, re.M)


EQUATIONS = {path.stem: labels(path.stem) for path in THEORY.glob("*.md")}


def plain(text: str) -> str:
    """The text on one line, without the marks of comments."""
    return re.sub(r"\s*\n\s*(?:#:?|>)?\s*", " ", text)


def citations(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Pages cited in a file, each with the labels of its equations."""
    text = plain(path.read_text(encoding="utf-8"))
    for page in PAGE.finditer(text):
        equations = LABELS.match(text, page.end())
        yield page[1], re.findall(r"[a-z]{3}-[a-z-]+", equations[1]) if equations else []


def citing_files() -> list[Path]:
    """Sources, tests, benchmarks and documentation, the theory and this file apart."""
    files = [path for folder in ("src", "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.*")]
    return [p for p in files if p.suffix in (".py", ".md", ".toml") and THEORY not in p.parents and p != Path(__file__)]


def test_equations_are_labelled_once() -> None:
    counts = Counter(label for page in EQUATIONS.values() for label in page)
    assert [label for label, count in counts.items() if count > 1] == []
    assert len(counts) > 100


@pytest.mark.parametrize("page", sorted(EQUATIONS))
def test_every_displayed_equation_has_a_label(page: str) -> None:
    text = (THEORY / f"{page}.md").read_text(encoding="utf-8")
    assert 2 * len(EQUATIONS[page]) == len(re.findall(r"^\$\$", text, re.M))


def test_citations_resolve() -> None:
    cited = [(path, page, equations) for path in citing_files() for page, equations in citations(path)]
    for path, page, equations in cited:
        assert page in EQUATIONS or page == "index", f"{path}: no page docs/theory/{page}.md"
        for label in equations:
            assert label in EQUATIONS[page], f"{path}: no equation {label} in docs/theory/{page}.md"
    assert len(cited) > 30, "the citations are read"


def test_no_citation_of_what_is_not_here() -> None:
    for path in citing_files():
        match = OLD.search(plain(path.read_text(encoding="utf-8")))
        assert match is None, f"{path}: {match and match[0]!r} is no page of docs/theory"


def test_a_wrong_citation_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("# see theory/dynamics, eqs. dyn-step and\n# dyn-nowhere; theory/hessian\n")
    assert list(citations(path)) == [("dynamics", ["dyn-step", "dyn-nowhere"]), ("hessian", [])]


def test_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([a-z_]+/(?:\w+\.py)?)`", text)
    assert len(paths) > 25
    assert [path for path in paths if not (ROOT / "src" / "featurephase" / path).exists()] == []
