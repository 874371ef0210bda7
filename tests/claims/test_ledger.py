"""The ledger: its command, its files, what is missing, and a build with a wrong sign."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featurephase as fp
from featurephase.claims import ledger, registry
from featurephase.claims.base import Claim, Finding, Number, Study, above, fact
from featurephase.claims.registry import CLAIMS, claim
from featurephase.cli.app import run
from featurephase.foundation.errors import InputError
from featurephase.results.related import Curve, Panel


def invented(holds: bool = True, **changes: Any) -> Claim:
    """A claim that costs nothing."""

    def experiment(study: Study) -> Finding:
        noise = Number.mean(np.random.default_rng(study.seed).standard_normal(8) + 9.0)
        panel = Panel("x", "y", (Curve(np.arange(3.0), np.array([1.0, np.nan, 3.0]), "curve"),))
        return Finding([fact("so", holds), above("above", noise, 1.0)], panels=(panel,))

    base = Claim("invented", 1, "It holds.", "nobody", "It must hold.", "Looked at.", experiment)
    return replace(base, **changes)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a claim in the place of all others."""

    def put(one: Claim) -> None:
        for module in (registry, ledger):
            monkeypatch.setattr(module, "claim", lambda name: one, raising=True)
        monkeypatch.setattr(ledger, "selected", lambda names: [one])

    return put


def test_every_claim_is_complete() -> None:
    """Numbers in order, names as in the table, and every part in words."""
    found = [claim(name) for name in CLAIMS]
    assert [c.number for c in found] == list(range(1, 20))
    assert [c.id for c in found] == list(CLAIMS)
    for c in found:
        assert all(len(text) > 20 for text in (c.statement, c.criterion, c.experiment, c.source)), c.id


def test_claims_are_known_by_name_and_number() -> None:
    assert claim("9") is claim("closed-form")
    assert [c.number for c in registry.selected(["closed-form", "1", "9"])] == [1, 9]
    for wrong in ("nothing", "0", "20", "9" * 5000, "-1", "١"):
        with pytest.raises(InputError, match="accepted: hard-directions"):
            claim(wrong)


def test_verdicts_statuses_and_exit_codes(stage: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stage(invented())
    page, figure, saved = (tmp_path / name for name in ("ledger.html", "ledger.png", "ledger.nc"))
    options = ["--json", "--quick", "-o", str(page), "--figure", str(figure), "--save", str(saved)]
    assert run(["reproduce", *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "ok"
    entry = document["claims"][0]
    assert {"id", "statement", "criterion", "evidence", "verdict", "seconds", "command", "date"} <= entry.keys()
    assert entry["verdict"] == "confirmed"
    assert entry["command"] == "featurephase reproduce invented --quick"
    assert entry["evidence"][1]["observed_se"] > 0
    text = page.read_text(encoding="utf-8")
    assert "It must hold." in text
    assert "<svg" in text or "data:image/svg" in text
    assert figure.stat().st_size > 1000
    assert saved.is_file()

    stage(invented(holds=False))
    assert run(["reproduce", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["status"], document["claims"][0]["verdict"]) == ("not-confirmed", "not confirmed")


def test_what_is_missing_is_said_and_never_confirmed(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(invented(needs=("torch",)))
    monkeypatch.setattr(ledger.importlib.util, "find_spec", lambda name: None)
    result = fp.reproduce(workers=1)
    assert (result.status, result.claims[0].verdict) == ("not-determined", "not determined")
    assert "PyTorch" in result.claims[0].message


def test_an_experiment_that_fails_confirms_nothing(stage: Any) -> None:
    def broken(study: Study) -> Finding:
        raise FloatingPointError("overflow")

    stage(invented(run=broken))
    result = fp.reproduce(workers=1)
    assert (result.status, result.claims[0].verdict) == ("not-confirmed", "not confirmed")
    assert "FloatingPointError: overflow" in result.claims[0].message


def test_unknown_claims_and_impossible_seeds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "hard-direction"]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert "did you mean 'hard-directions'" in caught.err
    assert run(["reproduce", "9", "--seed", "-1"]) == 2


def test_a_document_is_the_same_for_the_same_seed() -> None:
    """Through JSON, as a store keeps it."""
    first, second = (ledger.execute("closed-form", True, 3) for _ in range(2))
    again = json.loads(json.dumps(first))
    made = [ledger.assembled([claim("closed-form")], [d], quick=True, seed=3) for d in (first, second, again)]
    assert made[0].claims[0].verdict == "confirmed"
    assert made[0].claims[0].evidence == made[1].claims[0].evidence == made[2].claims[0].evidence
    assert made[0].claims[0].panels == made[2].claims[0].panels


def test_a_store_keeps_what_is_finished(stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run twice, until the seed, the size, or what is missing changes."""
    runs: list[int] = []
    base = invented()

    def counted(study: Study) -> Finding:
        runs.append(study.seed)
        return base.run(study)

    stage(replace(base, run=counted, needs=("torch",)))
    store = tmp_path / "ledger"
    first, again = (fp.reproduce(store=store, workers=1) for _ in range(2))
    assert runs == [0]
    assert first.claims[0] == again.claims[0]
    fp.reproduce(store=store, seed=1, workers=1)
    fp.reproduce(store=store, quick=True, workers=1)
    assert runs == [0, 1, 0]
    monkeypatch.setattr(ledger.importlib.util, "find_spec", lambda name: None)
    assert fp.reproduce(store=store, workers=1).status == "not-determined"
