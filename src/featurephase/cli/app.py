"""The entry point: the application, its exit codes, and how errors reach people.

Nothing heavy is imported here: a command imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from featurephase._version import __version__
from featurephase.errors import FeaturephaseError

EXIT_OK = 0
EXIT_DEFECT = 1
EXIT_INPUT = 2
EXIT_UNDETERMINED = 3
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="featurephase",
    help="Whether, when and by which mechanism a neural network learns features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"featurephase {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Whether, when and by which mechanism a neural network learns features."""


def _register() -> None:
    """Import the command groups: each registers its commands on :data:`app` and imports nothing heavy."""
    from featurephase.cli import groups  # noqa: F401


def _message(error: BaseException) -> str:
    """One line for people, whatever the error."""
    format_message = getattr(error, "format_message", None)  # usage errors of the command-line parser
    text = str(format_message()) if callable(format_message) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _exit_code(error: BaseException) -> int:
    if isinstance(error, FeaturephaseError):
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return EXIT_INTERRUPTED
    if callable(getattr(error, "format_message", None)):
        return EXIT_INPUT
    return EXIT_DEFECT


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (the contract's table); never raises for a user's mistake."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args
    if not args:
        args = ["--help"]
    try:
        _register()
        code = app(args, standalone_mode=False, prog_name="featurephase")
        sys.stdout.flush()
        return int(code) if isinstance(code, int) else EXIT_OK
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of ours; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except BaseException as error:
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else EXIT_DEFECT
        if isinstance(error, typer.Exit):
            return error.exit_code
        code = _exit_code(error)
        if debug:
            traceback.print_exc()
        if code == EXIT_INTERRUPTED:
            print("interrupted; what was finished is kept", file=sys.stderr)
        elif code == EXIT_DEFECT:
            hint = "" if debug else " (run again with --debug for the traceback)"
            print(f"error: {type(error).__name__}: {_message(error)}{hint}", file=sys.stderr)
        else:
            print(f"error: {_message(error)}", file=sys.stderr)
        return code


def main() -> None:
    """Console entry point."""
    sys.exit(run())
