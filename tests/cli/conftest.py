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

ONE_NEURON = """
title = "One neuron, small"
[teacher]
latent_dim = 1
link = "1.5*tanh(g1**2)"
[student]
activation = "gelu"
readout = [1.0]
[loss]
name = "squared"
[training]
step_size = 0.8
steps = 4
[asymptotics]
samples = 2000
replicates = 2
[threshold]
delta_range = [1, 40]
max_steps = 30
[run]
delta = [4.0, 20.0]
times = [0, 4]
"""


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
    return ONE_NEURON


@pytest.fixture(scope="session")
def experiment_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the small experiment with some texts replaced."""

    def write(*changes: tuple[str, str]) -> Path:
        text = ONE_NEURON
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path_factory.mktemp("experiment") / "experiment.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
