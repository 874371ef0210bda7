"""What a situation is, how it is tried, and what holds in all of them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(HERE), str(HERE / "src")]
from tests import cases  # noqa: E402

EXPERIMENT = cases.file_with(title="Ein Neuron für δ → ∞", steps=3, max_steps=8, delta=[20.0], times=[3])
LATENT = "featurephase latent --u=0.5,-0.3 --w=0.2,0.7 --cross-moment 1 --time 1"
PREDICT = "featurephase predict one.toml"
PROGRAM = f"{sys.executable} -m featurephase"

#: What Bash knows in each situation: the command, and a user who owns nothing.
PRELUDE = f"""
featurephase() {{ {PROGRAM} "$@"; }}
python() {{ {sys.executable} "$@"; }}
open_python() {{  # for other users too, where it lies in somebody's home; in the mounts of this situation alone
    prefix={sys.base_prefix}; top=/$(echo $prefix | cut -d/ -f2)
    mount --bind $prefix /mnt && mount -t tmpfs -o mode=755 none $top && mkdir -p $prefix && mount --bind /mnt $prefix
}}
as_nobody() {{ setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all env "$@"; }}
"""


def _module(names: str) -> Callable[[], bool]:
    return lambda: subprocess.run([sys.executable, "-c", f"import {names}"], capture_output=True).returncode == 0


#: What a situation may need, and whether it is here.
AVAILABLE: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0 and shutil.which("setpriv") is not None,
    "mounts": lambda: subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0,
    "faketime": lambda: shutil.which("faketime") is not None,
    "terminal": lambda: shutil.which("script") is not None,
    "notebook": _module("nbclient, ipykernel"),
    "torch": _module("torch"),
}


@dataclasses.dataclass(frozen=True)
class Situation:
    """A program in Bash or Python, and what is expected of it.

    ``expected``: exit codes, separated by bars, and then perhaps ``json`` (standard output is one document) or
    ``silent`` (nothing on standard output). ``lines``: most lines on standard error. ``needs``: keys of ``AVAILABLE``.
    """

    title: str
    program: str
    expected: str
    lines: int = 1
    python: bool = False
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        return [name for name in self.needs if not AVAILABLE[name]()]

    @property
    def command(self) -> list[str]:
        if self.python:
            return [sys.executable, "-c", textwrap.dedent(self.program)]
        inside = ["unshare", "-m"] if "mounts" in self.needs else []
        return [*inside, "bash", "-c", PRELUDE + self.program]

    def attempt(self) -> tuple[str, str]:
        """What happened, and what was wrong with it; empty if nothing was."""
        with folder() as here:
            done = finish(start(self.command, here))
            return done.words, "; ".join(self.faults(done, here))

    def faults(self, done: Done, here: Path) -> Iterator[str]:
        """What is not as expected."""
        codes, _, output = self.expected.partition(" ")
        if str(done.code) not in codes.split("|"):
            yield f"exit {done.code}"
        if output == "json" and done.code in (0, 1, 3) and not is_document(done.out):
            yield "standard output is no document"
        if output == "silent" and done.out:
            yield f"standard output {done.out[:80]!r}"
        yield from common_faults(done, here, self.lines)


@dataclasses.dataclass(frozen=True)
class Done:
    """How a program ended."""

    code: int
    out: str
    err: str
    seconds: float
    left: frozenset[int]

    @property
    def words(self) -> str:
        last = self.err.strip().splitlines()[-1:]
        return f"exit {self.code}" + "".join(f", `{line[:150]}`" for line in last)


def common_faults(done: Done, here: Path, lines: int = 1) -> Iterator[str]:
    """What must not happen anywhere."""
    if "Traceback" in done.err:
        yield f"a traceback: {done.err[-600:]!r}"
    if done.err.count("\n") > lines:
        yield f"{done.err.count(chr(10))} lines on standard error"
    if scratch := [str(path.relative_to(here)) for path in here.rglob(".featurephase-*")]:
        yield f"left {scratch}"
    if done.left:
        yield f"{len(done.left)} processes left behind"


def is_document(text: str) -> bool:
    try:
        return text.count("\n") == 1 and "status" in json.loads(text)
    except ValueError:
        return False


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder with the experiment in it, which other users may read."""
    with tempfile.TemporaryDirectory(prefix="situation-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        (Path(name) / "one.toml").write_text(EXPERIMENT, encoding="utf-8")
        yield Path(name)


def start(command: list[str], here: Path, environment: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that whatever it leaves behind can be told."""
    return subprocess.Popen(
        command,
        cwd=here,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | environment,
    )


def finish(process: subprocess.Popen[bytes], seconds: float = 180.0) -> Done:
    """Wait for its end; end what it leaves behind."""
    begin = time.perf_counter()
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += b"\n(did not end)\n\n"
    spent = time.perf_counter() - begin
    deadline = time.perf_counter() + 5.0
    while (left := _members(process.pid)) and time.perf_counter() < deadline:  # workers need a moment to go
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"), spent, frozenset(left))


def _members(session: int) -> set[int]:
    """The processes of a session, as /proc has them."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, member = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            except OSError:
                continue
            if int(member) == session and state != "Z":
                found.add(int(entry.name))
    return found
