"""The contract's exit codes; every failure is one line on standard error and nothing on standard output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from featurephase._version import __version__
from featurephase.cli.app import app, run
from featurephase.foundation.errors import FeaturephaseWarning, InputError, MemoryLimitError

FEATUREPHASE = [sys.executable, "-m", "featurephase"]


@pytest.fixture
def command() -> Iterator[object]:
    """Add a command `boom` that does what a test wants; take it away again."""
    before = list(app.registered_commands)

    def add(function) -> None:
        app.command("boom")(function)

    yield add
    app.registered_commands[:] = before


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("x = 1: must be 2"), 2, "error: x = 1: must be 2"),
        (InputError("two\nlines \x1b[31m"), 2, r"error: two lines \x1b[31m"),
        (MemoryLimitError("needs 2 GiB, has 1 GiB"), 2, "error: needs 2 GiB, has 1 GiB"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            2,
            "error: more memory is needed than there is: Unable to allocate 9 TiB; ",
        ),
        (MemoryError(), 2, "error: more memory is needed than there is: "),
        (RecursionError("maximum recursion depth"), 2, "error: an expression or value is nested too deeply"),
        (OSError(28, "No space left on device", "x.nc"), 1, "error: No space left on device: 'x.nc'"),
        (OSError("odd"), 1, "error: OSError: odd (--debug shows the traceback)"),
        (ValueError("defect"), 1, "error: ValueError: defect (--debug shows the traceback)"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was printed, and every file is whole or as it was"),
        (typer.Abort(), 130, "interrupted; nothing was printed, and every file is whole or as it was"),
        (typer.BadParameter("bad"), 2, "error: Invalid value: bad"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_failure_is_one_line(
    error: BaseException, code: int, message: str, command, capsys: pytest.CaptureFixture[str]
) -> None:
    @command
    def boom() -> None:
        raise error

    assert run(["boom"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(message)


def test_debug_shows_the_traceback(command, capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def boom() -> None:
        raise ValueError("defect")

    assert run(["--debug", "boom"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_exit_code_of_a_command_is_passed_on(command) -> None:
    @command
    def boom() -> None:
        raise typer.Exit(3)

    assert run(["boom"]) == 3


def test_only_our_warnings_reach_people(command, capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def boom() -> None:
        warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
        warnings.warn("the edge\ndrifts", FeaturephaseWarning, stacklevel=1)

    assert run(["boom"]) == 0
    assert capsys.readouterr().err == "warning: the edge drifts\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["init", "-h"]])
def test_help_goes_to_standard_output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert "Usage: featurephase" in out
    assert err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"featurephase {__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["init", "--nonsense"], ["init", "--\x1b[31m"]])
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: No such")
    assert len(err.splitlines()) == 1
    assert err.rstrip("\n").isprintable()


def test_every_command_has_an_example_and_answers_help(capsys: pytest.CaptureFixture[str]) -> None:
    run(["-h"])
    capsys.readouterr()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in commands:
        assert run([name, "-h"]) == 0
        assert "featurephase " + name in capsys.readouterr().out.split("Usage:")[1].partition("\n")[2], name


# -- as a process --


def test_help_is_immediate_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; from featurephase.cli.app import run; run(['--help']);"
        "names = {'numpy', 'scipy', 'sympy', 'xarray', 'matplotlib', 'torch', 'zarr', 'pydantic'};"
        "heavy = names & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {' '.join(FEATUREPHASE)} init | true; echo $?"],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*FEATUREPHASE, "init"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_closed_standard_output_is_an_error() -> None:
    done = subprocess.run(["bash", "-c", f"{' '.join(FEATUREPHASE)} init >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: standard output is closed\n")


def test_an_interruption_in_a_callback_of_a_library_is_not_lost() -> None:
    """Python can only print it there: llvmlite has such callbacks, while it compiles."""
    program = (
        "import ctypes, time\n"
        "from featurephase.cli import app\n"
        "@app.app.command('wait')\n"
        "def wait() -> None:\n"
        "    def callback(): raise KeyboardInterrupt\n"
        "    ctypes.CFUNCTYPE(None)(callback)()\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
        "import sys; sys.argv[1:] = ['wait']\n"
        "app.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted; nothing was printed, and every file is whole or as it was\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption(number: signal.Signals) -> None:
    program = (
        "import time\n"
        "from featurephase.cli import app\n"
        "@app.app.command('wait')\n"
        "def wait() -> None:\n"
        "    print('ready', flush=True)\n"
        "    while True:  # one long sleep could begin between the signal and its handler\n"
        "        time.sleep(0.05)\n"
        "import sys; sys.argv[1:] = ['wait']\n"
        "app.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "interrupted; nothing was printed, and every file is whole or as it was\n")
