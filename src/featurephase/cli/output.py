"""What all commands share: the common flags, and how a result reaches the user.

One JSON document on standard output with ``--json``, otherwise a table for people; progress and messages on
standard error. Figures and data files are written before anything is printed, so that a failure leaves no
half document.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurephase.foundation.errors import InputError

if TYPE_CHECKING:
    from featurephase.results.base import Result

__all__ = [
    "DebugFlag",
    "FigureFlag",
    "JsonFlag",
    "QuickFlag",
    "QuietFlag",
    "ReplicatesFlag",
    "SamplesFlag",
    "SaveFlag",
    "SeedFlag",
    "check_targets",
    "deliver",
    "say",
    "write_text",
]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on standard output.")]
FigureFlag = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", help="Draw the result to FILE (.png, .pdf or .svg)."),
]
SaveFlag = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Save the labelled numbers to FILE (.nc or .zarr)."),
]
SeedFlag = Annotated[int | None, typer.Option("--seed", help="Seed of all random numbers.")]
SamplesFlag = Annotated[int | None, typer.Option("--samples", help="Sample paths per replicate.")]
ReplicatesFlag = Annotated[int | None, typer.Option("--replicates", help="Independent repetitions (at least 2).")]
QuickFlag = Annotated[bool, typer.Option("--quick", help="A tenth of the samples; the result says so.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", help="No progress, no messages on standard error.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
SAVE_SUFFIXES = (".nc", ".zarr")


def say(text: str) -> None:
    """One line on standard error, if there is one."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def _check_target(flag: str, path: Path | None, suffixes: tuple[str, ...]) -> None:
    if path is None:
        return
    if path.suffix not in suffixes:
        raise InputError(f"{flag} {str(path)!r}: the name must end in {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InputError(f"{flag} {str(path)!r}: the folder {str(path.parent)!r} does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{flag} {str(path)!r}: no permission to write in the folder {str(path.parent)!r}")
    if path.is_dir() and path.suffix != ".zarr":
        raise InputError(f"{flag} {str(path)!r}: is a folder; the name of a file is needed")


def check_targets(figure: Path | None, save: Path | None) -> None:
    """Refuse impossible output files before any work is done.

    Raises
    ------
    InputError
        If a suffix is unknown, a folder does not exist or is not writable, or the name is that of a folder.
    """
    _check_target("--figure", figure, FIGURE_SUFFIXES)
    _check_target("--save", save, SAVE_SUFFIXES)


def _link(part: Path, path: Path, text: str) -> None:
    """Give ``part`` the name ``path`` too; unlike a rename this fails where the name is taken."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("x", encoding="utf-8") as file:
            file.write(text)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a text file whole or not at all, and never over another one unless ``overwrite``.

    Raises
    ------
    InputError
        If the file exists, or its folder does not.
    """
    if path.is_dir():
        raise InputError(f"cannot write {str(path)!r}: it is a folder; the name of a file is needed")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {str(path)!r}: the folder {str(path.parent)!r} does not exist")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        if overwrite:
            os.replace(part, path)
        else:
            _link(part, path, text)
    except FileExistsError:
        raise InputError(f"{str(path)!r} exists already; --force overwrites it") from None
    finally:
        part.unlink(missing_ok=True)


def deliver(
    result: Result,
    *,
    as_json: bool = False,
    figure: Path | None = None,
    save: Path | None = None,
    quiet: bool = False,
) -> int:
    """Write the files asked for, print the document or the table, return the exit code (3 if not ok)."""
    document = json.dumps(result.to_dict(), allow_nan=False) if as_json else result.table().rstrip("\n")
    if save is not None:
        result.save(save)
    if figure is not None:
        from featurephase.present.figures import write_figure

        write_figure(result.figure(), figure)
    sys.stdout.write(document + "\n")
    if result.message and not quiet and (as_json or (not result.ok and result.message not in document)):
        say(result.message)
    return 0 if result.ok else 3
