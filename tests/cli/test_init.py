"""`featurephase init`: lists, writes, and never destroys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurephase.cli.app import run
from featurephase.cli.templates import read_template, template_names


def test_alone_it_lists_the_templates(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(name in out for name in template_names())
    assert run(["init", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sorted(document["templates"]) == list(template_names())
    assert (document["status"], document["written"]) == ("ok", None)


def test_there_is_a_template_for_every_regime() -> None:
    assert {
        "one-neuron",
        "two-neurons",
        "staircase",
        "phase-retrieval",
        "single-index-easy",
        "parity",
    } <= set(template_names())


def test_it_writes_name_toml_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init", "two-neurons"]) == 0
    assert (tmp_path / "two-neurons.toml").read_text(encoding="utf-8") == read_template("two-neurons")
    assert "two-neurons.toml" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["two-neurons.toml"]


def test_it_overwrites_only_when_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine.toml"
    target.write_text("my work")
    assert run(["init", "parity", "-o", str(target)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "--force" in err
    assert target.read_text() == "my work"
    assert run(["init", "parity", "-o", str(target), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == str(target)
    assert target.read_text() == read_template("parity")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]


def test_it_writes_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    target = tmp_path / "a.toml"
    assert run(["init", "parity", "-o", str(target)]) == 0
    assert target.read_text() == read_template("parity")
    assert run(["init", "one-neuron", "-o", str(target)]) == 2
    assert target.read_text() == read_template("parity")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one-neurons"], "did you mean 'one-neuron'"),
        (["../secret"], "unknown template"),
        (["parity", "-o", "{tmp}"], "folder"),
        (["parity", "-o", "{tmp}/no/where.toml"], "does not exist"),
        (["--force"], "NAME"),
        (["parity", "extra"], "extra"),
    ],
)
def test_mistakes(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", *(a.format(tmp=tmp_path) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []
