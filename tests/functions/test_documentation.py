"""The tables of docs/functions.md are the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurephase.functions import activation, link, loss
from featurephase.functions.catalogue import ACTIVATIONS, LANGUAGE, LINKS, LOSSES, Entry
from featurephase.functions.parser import FUNCTIONS

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
WORDS = {True: "yes", False: "no", None: "-"}

pytestmark = pytest.mark.skipif(not TEXT, reason="no documentation here")


def rows(heading: str) -> dict[str, list[str]]:
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [
        [c.strip() for c in line.replace(r"\|", "¦").split("|")[1:-1]] for line in section.splitlines() if "|" in line
    ]
    return {row[0]: row[1:] for row in cells if row and row[0].startswith("`")}


def signature(name: str, entry: Entry) -> str:
    if callable(entry.expression):
        return f"`{name}(p)`"
    inside = ", ".join(f"{k}={v:g}" for k, v in entry.parameters.items())
    return f"`{name}({inside})`" if inside else f"`{name}`"


def test_activations() -> None:
    table = rows("Activations")
    assert len(table) == len(ACTIVATIONS)
    for name, entry in ACTIVATIONS.items():
        sigma = activation(name)
        formula, bounds, smooth, parity, _ = table[signature(name, entry)]
        f = sigma.facts
        assert formula == f"`{entry.expression}`"
        second = "singular" if sigma.singular_curvature else WORDS[f.bounded_second]
        assert bounds == f"{WORDS[f.bounded]}, {WORDS[f.bounded_first]}, {second}"
        assert (smooth, parity) == (WORDS[f.smooth], f.parity or "-")


def test_losses() -> None:
    table = rows("Losses")
    assert len(table) == len(LOSSES)
    for name, entry in LOSSES.items():
        function = loss(name)
        formula, bounds, smooth, convex, _ = table[signature(name, entry)]
        f = function.facts
        assert formula == f"`{entry.expression}`"
        second = "singular" if function.singular_curvature else WORDS[f.bounded_second]
        assert bounds == f"{WORDS[f.bounded]}, {WORDS[f.bounded_first]}, {second}"
        assert (smooth, convex) == (WORDS[f.smooth], WORDS[f.convex])


def test_links() -> None:
    table = rows("Links")
    assert len(table) == len(LINKS)
    for name, entry in LINKS.items():
        phi = link(name, 3)
        formula, bounded, _ = table[signature(name, entry)]
        assert formula == f"`{phi.source if callable(entry.expression) else entry.expression}`"
        assert bounded.startswith(WORDS[phi.facts.bounded])


def test_the_language_is_documented() -> None:
    section = TEXT.split("\n## Expressions\n")[1].split("\n## ")[0]
    for name in FUNCTIONS:
        assert name in section, name
    assert set(LANGUAGE) == set(FUNCTIONS) | set(ACTIVATIONS)
