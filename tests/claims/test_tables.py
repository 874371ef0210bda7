"""The published tables are those of the runs that stand beside them, and these met the criteria as they are now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from featurephase.claims.registry import CLAIMS, claim

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
def test_runs_met_the_criteria_as_they_are(name: str) -> None:
    for entry in tables.run(name):
        now = claim(entry["id"])
        assert (entry["criterion"], entry["statement"]) == (now.criterion, now.statement), f"run {entry['id']} again"
        held = all(e["holds"] for e in entry["evidence"] if e["core"])
        assert (entry["verdict"] in ("confirmed", "confirmed within limits")) == held


def test_every_claim_was_run() -> None:
    assert [entry["id"] for entry in tables.run("quick")] == list(CLAIMS)
