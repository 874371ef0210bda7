"""Interruptions: SIGINT and SIGTERM at ten moments of each command, and what else ends or stops a process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from base import Done, common_faults, finish, folder, is_document, start

#: Each command with enough to do for some seconds, its file last.
COMMANDS: dict[str, str] = {
    "init": "init parity -o parity.toml",
    "predict": "predict one.toml --workers 2 --samples 20000 --json --save a.nc",
    "threshold": "threshold one.toml --time 3 --quiet --json --save a.nc",
    "explain": "explain one.toml --quiet --json --save a.zarr",
    "simulate": "simulate one.toml --dimension 60 --seeds 3 --workers 2 --json --save a.nc",
    "compare": "compare one.toml --dimension 40 --seeds 4 --json --figure a.png",
    "latent": "latent --width 2000 --cross-moment 1 --time 1 --json --save a.nc --figure a.png",
    "latent-phase": "latent-phase --c-gamma=-0.5 --kappa 100 --json --save a.nc",
    "related": "related catapult --steps 200 --simulate --json --figure a.png",
    "probe": "probe --task wine --width 12 --steps 10 --train-samples 60 --probe-samples 8 --replicates 2 "
    "--hessian none --json",
}
MOMENTS = 10
#: Python itself ends in this way before our first line has run.
BEFORE_OURS = {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: -signal.SIGTERM}
MESSAGE = "interrupted; "


def _run(arguments: str, here: Path, number: int | None = None, moment: float = 0.0, again: bool = False) -> Done:
    process = start([sys.executable, "-m", "featurephase", *arguments.split()], here)
    if number is not None:
        time.sleep(moment)
        for _ in range(2 if again else 1):
            os.killpg(process.pid, number)  # as a terminal does: to all processes
            time.sleep(0.03)
    return finish(process)


def _faults(done: Done, here: Path, number: int) -> list[str]:
    """What must not happen at an interruption: a file in halves, numbers in halves, more than a line."""
    if done.err.endswith("KeyboardInterrupt\n") and "in main" not in done.err:
        return []  # Python was starting, before the first line of our main function, and prints its own traceback
    faults = list(common_faults(done, here))
    if done.code == 130 and not done.err.startswith(MESSAGE) and "interrupted" not in done.err:
        faults.append(f"exit 130 without a word: {done.err!r}")
    if done.code not in (0, 3, 130, BEFORE_OURS[signal.Signals(number)]):
        faults.append(f"exit {done.code}: {done.err[-200:]!r}")
    if done.out.startswith("{") and not is_document(done.out):
        faults.append(f"a document of {len(done.out)} characters that is cut off")
    if (here / "a.zarr").exists() and not (here / "a.zarr" / "zarr.json").exists():
        faults.append("a.zarr is not whole")
    for name in ("a.nc", "a.png"):
        if (here / name).exists() and (here / name).read_bytes()[:4] not in (b"\x89HDF", b"\x89PNG"):
            faults.append(f"{name} is not whole")
    return faults


def interrupt(name: str, number: signal.Signals, again: bool = False) -> tuple[str, str]:
    """One command, one signal, ten moments; what happened, and what was wrong."""
    with folder() as here:
        whole = _run(COMMANDS[name], here)
    if whole.code not in (0, 3):
        return f"exit {whole.code}", f"does not run: {whole.err[-300:]}"
    codes: Counter[int] = Counter()
    faults = []
    for k in range(MOMENTS):
        moment = whole.seconds * (k + 0.5) / MOMENTS
        with folder() as here:
            done = _run(COMMANDS[name], here, number, moment, again)
            codes[done.code] += 1
            faults += [f"after {moment:.2f} s: {fault}" for fault in _faults(done, here, number)]
    return ", ".join(f"{count} times exit {code}" for code, count in sorted(codes.items())), "; ".join(faults)


def stopped_and_continued() -> tuple[str, str]:
    """SIGSTOP for a while, then SIGCONT: the same bytes."""
    with folder() as here:
        whole = _run(COMMANDS["predict"], here)
        process = start([sys.executable, "-m", "featurephase", *COMMANDS["predict"].split()], here)
        for _ in range(3):
            time.sleep(whole.seconds / 5)
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGCONT)
        done = finish(process)
        return done.words, "" if done.out == whole.out else "another document"


def killed(number: signal.Signals) -> tuple[str, str]:
    """The parent alone is ended without a chance to tidy up: no process is left behind."""
    with folder() as here:
        process = start(
            [sys.executable, "-m", "featurephase", *["predict", "one.toml", "--workers", "2", "--samples", "900000"]],
            here,
        )
        time.sleep(5.0)
        os.kill(process.pid, number)
        done = finish(process)
        faults = list(common_faults(done, here))
        return done.words, "; ".join(faults if done.code == -number else [*faults, f"exit {done.code}"])


#: Title, what is expected, and what tries it.
SITUATIONS = [
    *(
        (
            f"{number.name} at {MOMENTS} moments of `{name}`",
            "exit 130 and one line, or the whole answer",
            interrupt,
            (name, number),
        )
        for name in COMMANDS
        for number in (signal.SIGINT, signal.SIGTERM)
    ),
    (
        "SIGINT twice in a row at ten moments of `simulate`",
        "exit 130 and one line, or the whole answer",
        interrupt,
        ("simulate", signal.SIGINT, True),
    ),
    ("SIGSTOP and SIGCONT, three times", "the same document", stopped_and_continued, ()),
    ("SIGKILL of the parent", "no process left", killed, (signal.SIGKILL,)),
    ("SIGHUP of the parent: the terminal is closed", "no process left", killed, (signal.SIGHUP,)),
]
