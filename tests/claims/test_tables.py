"""The published tables are those of the runs that stand beside them, of criteria as they are now."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from featurephase.claims.registry import claim

SCRIPT = Path(__file__).parents[2] / "docs" / "claims" / "tables.py"
_spec = importlib.util.spec_from_file_location("ledger_tables", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tables)


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_pages_show_the_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- quick table -->" in text
    assert tables.written(text) == text, "run python docs/claims/tables.py"


@pytest.mark.parametrize("name", ["quick", "full"])
def test_verdicts_are_those_of_the_evidence(name: str) -> None:
    for entry in tables.run(name):
        held = all(e["holds"] for e in entry["evidence"] if e["core"])
        assert (entry["verdict"] in ("confirmed", "confirmed within limits")) == held


def test_a_run_that_met_another_criterion_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(entry["id"] == "closed-form" for entry in tables.run("quick"))
    monkeypatch.setattr(tables, "claim", lambda name: replace(claim(name), criterion="another one"))
    assert tables.run("quick") == []
    assert "Not run in their present form yet: hard-directions, " in tables.table(tables.run("quick"))
