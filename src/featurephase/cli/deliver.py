"""How a result reaches the user: the one tail of all commands.

One JSON document on standard output with ``--json``, otherwise a table for people; progress and messages on standard
error. Files that cannot be written are refused before anything is computed; afterwards the numbers are printed first,
so that a full disk never costs a computation.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurephase.cli import exits
from featurephase.foundation.errors import FeaturephaseError, InputError, Interrupted

if TYPE_CHECKING:
    from featurephase.results.base import Result


def says(text: str, *names: str, **options: Any) -> Any:
    """A flag with its help; without names it is called like its parameter."""
    return typer.Option(*names, help=text, **options)


DebugFlag = Annotated[bool, says("Show the traceback of an unexpected error.", "--debug")]
_PAGE_HELP = "Write the result as one page, FILE.html."


@dataclass(frozen=True)
class Delivery:
    """Where a result goes: a JSON document or a table, files or none, messages or none; each field is a flag."""

    json: Annotated[bool, says("Print exactly one JSON document on standard output.", "--json")] = False
    figure: Annotated[Path | None, says("Draw the result to FILE (.png, .pdf or .svg).", metavar="FILE")] = None
    save: Annotated[Path | None, says("Save the labelled numbers to FILE (.nc or .zarr).", metavar="FILE")] = None
    page: Annotated[Path | None, says(_PAGE_HELP, "-o", "--output", metavar="FILE.html")] = None
    quiet: Annotated[bool, says("No progress, no messages on standard error.", "--quiet")] = False
    debug: DebugFlag = False

    def check(self) -> None:
        """Refuse impossible output files before any work is done.

        Raises
        ------
        InputError
            If one of them cannot be written, or must not be replaced.
        """
        from featurephase.foundation.files import FIGURES, TABLES, check_target

        if self.figure is not None:
            check_target("--figure", self.figure, FIGURES)
        if self.save is not None:
            check_target("--save", self.save, TABLES)
        if self.page is not None:
            from featurephase.present.page import PAGES

            check_target("--output", self.page, PAGES)


def say(text: str) -> None:
    """One line on standard error, if there is one that can still be written to."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def carry_out(compute: Callable[[], Result], where: Delivery) -> int:
    """Check the output files, compute, deliver; the exit code. An interruption delivers what is finished."""
    where.check()
    try:
        result = compute()
    except Interrupted as stopped:
        deliver(stopped.result, where)
        return exits.INTERRUPTED
    return deliver(result, where)


def deliver(result: Result, where: Delivery) -> int:
    """Print the document or the table, then write the files asked for; the exit code (3 if not ok).

    Raises
    ------
    OSError, FeaturephaseError
        If something cannot be written; everything else is then written all the same.
    """
    document = json.dumps(result.to_dict(), allow_nan=False) if where.json else result.table().rstrip("\n")
    failures: list[Exception] = []
    try:
        for step in (_print, _save, _draw, _write_page):
            try:
                step(document, result, where)
            except InputError as error:  # a folder that was there before computing: no bad input any more
                failures.append(FeaturephaseError(str(error)))
            except Exception as error:
                failures.append(error)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the numbers are printed") from None
    if result.message and not where.quiet and (where.json or (not result.ok and result.message not in document)):
        say(result.message)
    if failures:
        failures.sort(key=lambda error: isinstance(error, BrokenPipeError))  # a reader that left is no failure
        for other in failures[1:]:
            say(f"error: {other}")
        raise failures[0]
    return exits.OK if result.ok else exits.MISSING


def _print(document: str, result: Result, where: Delivery) -> None:
    with _whole():
        _write(document + "\n")


def _write(text: str) -> None:
    """All of ``text`` to standard output; without a buffer (PYTHONUNBUFFERED) Python drops what a signal cut off."""
    raw = getattr(sys.stdout, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    rest = memoryview(text.encode(sys.stdout.encoding, sys.stdout.errors or "strict"))
    while rest:
        rest = rest[raw.write(rest) or 0 :]


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """An interruption waits until what is inside has been done; a second one does not: perhaps nobody reads."""
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):  # neither ignored nor left to the system
                handlers[number] = handler
                signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _save(document: str, result: Result, where: Delivery) -> None:
    if where.save is not None:
        result.save(where.save)


def _draw(document: str, result: Result, where: Delivery) -> None:
    if where.figure is not None:
        from featurephase.present.figures import write_figure

        write_figure(result.figure(), where.figure)


def _write_page(document: str, result: Result, where: Delivery) -> None:
    if where.page is not None:
        from featurephase.present import page_of
        from featurephase.present.page import write_page

        write_page(where.page, page_of(result))
