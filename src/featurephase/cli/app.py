"""The entry point: the application, its exit codes, and how errors reach people.

Nothing heavy is imported here: a command imports what it needs when it runs, so that ``--help`` answers at
once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any, Never, TextIO

import typer

from featurephase._version import __version__
from featurephase.cli import exits
from featurephase.cli.cite import cite
from featurephase.cli.compare import compare
from featurephase.cli.deliver import say
from featurephase.cli.explain import explain
from featurephase.cli.flags import DebugFlag, says
from featurephase.cli.init import init
from featurephase.cli.latent import latent, latent_phase
from featurephase.cli.predict import predict
from featurephase.cli.probe import probe
from featurephase.cli.related import related_app
from featurephase.cli.report import report
from featurephase.cli.reproduce import reproduce
from featurephase.cli.simulate import simulate
from featurephase.cli.sweep import sweep
from featurephase.cli.threshold import threshold
from featurephase.foundation.errors import FeaturephaseError, FeaturephaseWarning

app = typer.Typer(
    name="featurephase",
    help="Whether, when and by which mechanism a neural network learns features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


#: The commands, in the order of ``--help``; a name has dashes for underscores.
COMMANDS = (
    *(init, predict, threshold, explain, simulate, compare, latent, latent_phase, probe),
    *(sweep, report, reproduce, cite),
)

for _command in COMMANDS:
    app.command()(_command)
app.add_typer(related_app, name="related")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"featurephase {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, says("Print the version and stop.", "--version", callback=_print_version, is_eager=True)
    ] = False,
    debug: DebugFlag = False,
) -> None:
    """Whether, when and by which mechanism a neural network learns features."""


def _invoke(args: list[str]) -> int:
    """Parse and run; errors come out as they are (the parser's own ``main`` makes exits of some)."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("featurephase", args or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    return exits.OK


def _one_line(text: str) -> str:
    """``text`` on one line, without control characters: they could come from a file or the command line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


def _failure(error: BaseException) -> tuple[int, str]:
    """Exit code (the contract's table) and one line for people, whatever the error."""
    format_message = getattr(error, "format_message", None)
    if callable(format_message):  # a usage error of the command-line parser
        return exits.INPUT, f"error: {format_message()}"
    match error:
        case FeaturephaseError():
            return error.exit_code, f"error: {error}"
        case KeyboardInterrupt() | typer.Abort():
            done = str(error) or "nothing was printed"
            return exits.INTERRUPTED, f"interrupted; {done}, and every file is whole or as it was"
        case MemoryError():
            return exits.INPUT, f"error: {_out_of_memory(error)}"
        case RecursionError():
            return exits.INPUT, "error: an expression or value is nested too deeply"
        case OSError() if error.strerror:
            where = f": {os.fsdecode(error.filename)!r}" if isinstance(error.filename, (str, bytes)) else ""
            return exits.DEFECT, f"error: {error.strerror}{where}"
        case _:
            return exits.DEFECT, f"error: {type(error).__name__}: {error} (--debug shows the traceback)"


def _out_of_memory(error: MemoryError) -> str:
    from featurephase.foundation.memory import available_memory, format_bytes

    asked = str(error) or "an allocation failed"  # NumPy says how much was asked for
    return (
        f"more memory is needed than there is: {asked}; {format_bytes(available_memory())} are available; "
        "ask for fewer samples, steps or neurons"
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(_one_line(f"warning: {message}"))


def _abandon_stdout() -> None:
    """Send what is still buffered nowhere, or the interpreter would fail a second time when it exits."""
    with contextlib.suppress(OSError, ValueError):  # where it is not a file of the system (tests, notebooks)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (the contract's table); never raises."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args
    with warnings.catch_warnings():
        if not debug:  # of all warnings, only ours are meant for people
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", FeaturephaseWarning)
            warnings.showwarning = _show_warning
            logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its list of fonts
        try:
            code = _invoke(args)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of our output went away (`| head`): not an error of ours
            _abandon_stdout()
            return exits.OK
        except BaseException as error:
            if isinstance(error, OSError):
                _abandon_stdout()
            if debug:
                traceback.print_exc()
            if isinstance(error, KeyboardInterrupt):
                exec("")  # forgets an interruption inside exec (imports use it), for which Python would kill itself
            code, text = _failure(error)
            say(_one_line(text))
            return code


def _terminate(number: int, frame: FrameType | None) -> Never:
    raise KeyboardInterrupt


def _not_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """An interruption that met a callback of a compiled library, which cannot pass it on, comes again in a moment."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    import _thread
    import threading

    again = threading.Timer(0.05, _thread.interrupt_main)
    again.daemon = True
    again.start()


def _open_standard_streams() -> None:
    """Give numbers 0 to 2 to something, where the caller closed them: a data file or a pipe would get them.

    What the system or a worker process writes to "standard error" would then land in it.
    """
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)


def main() -> None:
    """Console entry point."""
    _open_standard_streams()
    if sys.stdout is None:  # closed by the caller
        say("error: standard output is closed")
        sys.exit(exits.DEFECT)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a table must not fail in a locale without its characters
            reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _not_lost
    code = run()
    if "featurephase.foundation.workers" in sys.modules:  # or leaving would wait for workers that are just starting
        from featurephase.foundation.workers import dismiss

        dismiss()
    sys.exit(code)
