"""Broken experiment files of many kinds: exit code 2, one clear message that names the culprit, at once."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from featurephase.cli.app import app, run
from featurephase.foundation.errors import InputError
from featurephase.problem import load

from .broken_files import BROKEN, GOOD

#: Commands that read an experiment file; what they are asked beyond it makes no difference here.
COMMANDS = {
    "predict": (),
    "threshold": (),
    "explain": (),
    "simulate": ("--dimension", "50"),
    "compare": ("--dimension", "50"),
}
LIMIT = 5.0  # seconds of CPU: the machine may be busy

CASES = [
    pytest.param(content, expected, id=f"{kind}-{i}")
    for kind, cases in BROKEN.items()
    for i, (content, expected) in enumerate(cases)
]


def test_there_are_enough_of_enough_kinds() -> None:
    assert len(BROKEN) >= 12
    assert sum(map(len, BROKEN.values())) >= 60
    assert max(map(len, BROKEN.values())) <= 8


def test_the_file_they_are_made_from_is_good(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD)).student.width == 2


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "experiment.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def check(code: int, out: str, err: str, expected: str) -> None:
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1, "one message"
    assert err.startswith("error: ")
    assert expected in err
    assert err[:-1].isprintable()
    assert len(err) < 1500


@pytest.mark.parametrize(("content", "expected"), CASES)
def test_load_refuses_with_a_clear_message(content: str | bytes, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        load(path)
    assert time.process_time() - start < LIMIT
    assert expected in str(caught.value)


def every_case_once_and_every_kind_with_every_command() -> list[object]:
    cases = []
    for kind, files in BROKEN.items():
        for i, (content, expected) in enumerate(files):
            for command in COMMANDS if i == 0 else ["predict"]:
                cases.append(pytest.param(command, content, expected, id=f"{kind}-{i}-{command}"))
    return cases


@pytest.mark.parametrize(("command", "content", "expected"), every_case_once_and_every_kind_with_every_command())
def test_commands_refuse_with_exit_code_2(
    command: str, content: str | bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(command)
    path = write(tmp_path, content)
    start = time.process_time()
    code = run([command, str(path), *COMMANDS[command], "--json"])
    assert time.process_time() - start < LIMIT
    check(code, *capsys.readouterr(), expected)
    assert list(tmp_path.iterdir()) == [path], "nothing is written"


@pytest.mark.parametrize("kind", list(BROKEN)[::3])
def test_processes_refuse_with_exit_code_2(kind: str, tmp_path: Path) -> None:
    require("predict")
    content, expected = BROKEN[kind][-1]
    before = children_cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "featurephase", "predict", str(write(tmp_path, content)), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert children_cpu_seconds() - before < LIMIT
    check(done.returncode, done.stdout, done.stderr, expected)


def children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.mkdir(), "folder"),
        (lambda path: os.mkfifo(path), "pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: None, "No such file"),
    ],
    ids=["folder", "pipe", "device", "circular link", "missing"],
)
def test_what_is_not_a_file(make, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("predict")
    path = tmp_path / "experiment.toml"
    make(path)
    assert run(["predict", str(path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert expected in err


def require(command: str) -> None:
    if command not in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        pytest.skip(f"no command {command} yet")
