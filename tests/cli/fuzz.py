"""Mutated experiment files: an answer or one clear error for each, never a traceback, a hang or a flood.

Run by `test_fuzz.py`, and by hand for longer::

    python tests/cli/fuzz.py --seconds 3600 --seed 7

The stream of files is a function of the seed. The process limits its own memory; a file that takes longer than a
few seconds, raises anything but an `InputError`, or makes a command leave the contract stops the run and is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import FrameType

import numpy as np
import typer

from featurephase.cli.app import app, run
from featurephase.cli.templates import read_template, template_names
from featurephase.foundation.errors import InputError
from featurephase.foundation.tomlfile import MAX_BYTES, parse
from featurephase.problem import Problem

MEMORY = 4 << 30
SECONDS_A_FILE = 5
SECONDS_A_COMMAND = 60
#: The same where the response is computed beyond double precision.
SECONDS_BEYOND = 300

#: Pieces that have broken parsers, or that mean something here in the wrong place.
PIECES = [
    *"[]{}()\"'=,.#\\\n+-*/ ",
    *("[[", "]]", '"""', "'''", "\\u0000", "\\U0010FFFF", "\x00", "\x1b[31m", "\u202e", "é", "\r", "\ufeff"),
    *("nan", "inf", "-inf", "true", "1979-05-27", "07:32:00", "0x_1", "1e999", "-0.0", "1e-320", "1_000", "0o7"),
    *("9" * 5000, "0x" + "f" * 5000, "a." * 30, "[" * 2000, "{a=" * 500, "(" * 200, "(" * 3000, "-" * 1000),
    *("g1", "g2", "g3", "g99", "e1", "u1", "h", "y", "f", "**", "**1e9", "/0", "**-1", "<", "==", " and ", "if"),
    *("tanh(", "hermite(3, ", "where(g1>0, ", "log(", "sqrt(", "exp(", "exp(exp(exp(", "minimum(g1, ", "sign("),
    *("import os", "__class__", "lambda: 0", "f'{g1}'", "eval(", "open('/etc/passwd')", "relu", "expression"),
    *("teacher", "student", "loss", "training", "run", "[run]", "[latent]", "[[axis]]", "latent_dim", "readout"),
    *("width = 1024", "{width = 1000, value = 1}", "init_norm = 0", "init_norm = 1e100", "steps = 1000000"),
    *("samples = 100", "samples = 1000000000", "easy_basis = [[1.0]]", "init_overlap = [[0.5]]"),
]  # fmt: skip

NUMBERS = ["0", "-1", "1", "2", "0.5", "1e-9", "1e9", "1e300", "1e-300", "nan", "inf", "65", "1024", "1000000"]


def mutate(text: str, rng: random.Random) -> str:
    """``text`` with one random change."""
    i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    j = min(j, i + rng.choice([1, 4, 40, 400]))
    match rng.randrange(8):
        case 0:
            return text[:i] + text[j:]
        case 1:
            return text[:i] + text[i:j] * rng.choice([2, 3, 50]) + text[j:]
        case 2:
            return text[:i] + rng.choice(PIECES) + text[i:]
        case 3:
            return text[:i] + rng.choice(PIECES) + text[j:]
        case 4:
            return text[:i] + chr(rng.choice([rng.randrange(128), rng.randrange(0xD7FF)])) + text[i + 1 :]
        case 5:
            lines = text.splitlines(keepends=True)
            rng.shuffle(lines)
            return "".join(lines)
        case 6:
            other = read_template(rng.choice(template_names()))
            k = rng.randrange(len(other))
            return text[:i] + other[k : k + rng.choice([10, 100, 1000])] + text[j:]
        case _:
            spots = [k for k, c in enumerate(text) if c.isdigit()]
            if not spots:
                return text
            k = rng.choice(spots)
            return text[:k] + rng.choice(NUMBERS) + text[k + 1 :]


def files(seed: int) -> Iterator[str]:
    """The stream of files: a few mutations of a template each."""
    rng = random.Random(seed)
    templates = [stripped(name) for name in template_names()]
    while True:
        text = rng.choice(templates)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            text = mutate(text, rng)
        yield text[:MAX_BYTES]


def stripped(name: str) -> str:
    """A template without its comments, so that most changes change something."""
    lines = (line.partition("#")[0].rstrip() for line in read_template(name).splitlines())
    return "\n".join(line for line in lines if line) + "\n"


class TooSlow(BaseException):
    """Not an `Exception`: nothing may swallow it."""


def limit(seconds: float) -> None:
    """Give up after so much CPU time (a busy machine is no fault of the file); 0: no limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def give_up(number: int, frame: FrameType | None) -> None:
    """The alarm went off."""
    raise TooSlow


KINDS = ("loaded", "not TOML", "not an experiment")


def try_load(text: str) -> tuple[str, Problem | None]:
    """What became of a file (one of `KINDS`); anything but an answer or an `InputError` comes out as it is."""
    kind = "not TOML"
    limit(SECONDS_A_FILE)
    try:
        parse(text)
        kind = "not an experiment"
        problem = Problem.from_toml(text)
        if Problem.from_toml(problem.to_toml()) != problem:
            raise AssertionError("the file written is not the file read")
        return "loaded", problem
    except InputError as error:
        message = str(error)
        if not message or len(message) > 3000 or "\n" in message:
            raise AssertionError(f"not one clear message: {message!r}") from error
        return kind, None
    finally:
        limit(0)


def tiny(problem: Problem) -> Problem:
    """The same problem, quick to run."""
    steps = min(problem.training.steps, 2)
    return problem.replace(
        training={"steps": steps},
        asymptotics={"samples": 400, "replicates": 2},
        threshold={"max_steps": 8},
        run={"delta": problem.run.delta[:1] or [3.0], "times": [steps]},
    )


def in_range(problem: Problem) -> bool:
    """Whether the response is computed in double precision, which is some thousand times faster than beyond it."""
    link, draws, rng = problem.teacher.link, 400, np.random.default_rng(0)
    start = time.process_time()
    with np.errstate(all="ignore"):
        link.evaluate(
            rng.standard_normal((link.latent_dim, draws)),
            rng.standard_normal((link.normals, draws)),
            rng.random((link.uniforms, draws)),
        )
    return time.process_time() - start < 0.004


def try_command(command: str, extra: tuple[str, ...], problem: Problem) -> int:
    """Run a command on a problem as a file on standard input, and check what the contract promises."""
    stdin, out, err = sys.stdin, io.StringIO(), io.StringIO()
    limit(SECONDS_A_COMMAND if in_range(problem) else SECONDS_BEYOND)
    try:
        sys.stdin = io.TextIOWrapper(io.BytesIO(tiny(problem).to_toml().encode()))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([command, "-", *extra, "--json"])
    finally:
        limit(0)
        sys.stdin = stdin
    if code not in (0, 2, 3):
        raise AssertionError(f"{command}: exit code {code}: {err.getvalue()}")
    if code == 2 and (out.getvalue() or not err.getvalue().startswith("error: ")):
        raise AssertionError(f"{command}: {out.getvalue()[:200]!r} {err.getvalue()!r}")
    if code != 2:
        json.loads(out.getvalue(), parse_constant=lambda name: sys.exit(f"{name} in the JSON"))
    return code


#: command -> what it needs beyond a file; together they get half of the time
COMMANDS = {
    "predict": ("--quiet",),
    "threshold": ("--time", "1", "--delta-range", "1,4", "--quiet"),
    "explain": ("--quiet",),
    "simulate": ("--dimension", "8", "--quiet"),
}


def main() -> None:
    """Mutate, load and run until the time is over; print a summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, give_up)
    there = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands = [name for name in COMMANDS if name in there]
    summary: Counter[str] = Counter()
    start = time.monotonic()
    in_commands = slowest = 0.0
    for number, text in enumerate(files(options.seed)):
        begin = time.monotonic()
        if begin - start > options.seconds:
            break
        command = commands[number % len(commands)] if commands else ""
        try:
            kind, problem = try_load(text)
            summary[kind] += 1
            loaded = time.monotonic()
            slowest = max(slowest, loaded - begin)
            if command in ("explain", "threshold") and problem is not None and not in_range(problem):
                command = "predict"  # these draw a few hundred times as many samples
            if problem is not None and command and in_commands < (loaded - start) / 2:
                summary[f"{command}: exit {try_command(command, COMMANDS[command], problem)}"] += 1
                in_commands += time.monotonic() - loaded
        except BaseException:
            print(f"seed {options.seed}, file {number}, command {command!r}:\n{text}\n", file=sys.stderr)
            raise
    print(json.dumps({**summary, "files": sum(summary[k] for k in KINDS), "slowest_load": round(slowest, 3)}))


if __name__ == "__main__":
    main()
