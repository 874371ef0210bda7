"""What the tests of the commands share: running one, and a small experiment."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from featurephase.cli.app import run

from .. import cases


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output; non-standard constants are refused."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        assert self.out.count("\n") == 1
        found: dict[str, Any] = json.loads(self.out, parse_constant=refuse)
        return found


def invoke(*arguments: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session", name="invoke")
def _invoke() -> Callable[..., Outcome]:
    return invoke


@pytest.fixture(scope="session")
def one_neuron() -> str:
    return cases.file_text()


@pytest.fixture(scope="session")
def experiment_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the small experiment with some texts replaced."""

    def write(*changes: tuple[str, str]) -> Path:
        path = tmp_path_factory.mktemp("experiment") / "experiment.toml"
        path.write_text(cases.file_text(*changes), encoding="utf-8")
        return path

    return write
