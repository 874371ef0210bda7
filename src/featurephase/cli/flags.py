"""The flags that commands share, declared once, and the decorator that gives them to a command.

A command is a function of its own flags and of :class:`Shared`, what the shared ones were given; it returns a result.
The rest is the same for all: output files are checked first, the result reaches the user, an interruption keeps what
is finished (:mod:`featurephase.cli.deliver`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from featurephase.cli.deliver import DebugFlag, Delivery, carry_out, says
from featurephase.cli.parsing import Times, experiment

if TYPE_CHECKING:
    from featurephase.foundation.executors import Executor
    from featurephase.problem import Problem
    from featurephase.results.base import Result
else:
    Result = Any  # what a command returns; its class is loaded when it runs

__all__ = ["COMPUTING", "DebugFlag", "DeltaFlag", "FileArgument", "Result", "Shared", "TimeFlag", "command", "says"]

FileArgument = Annotated[
    str,
    typer.Argument(metavar="FILE", help="The experiment file (TOML); - is standard input.", show_default=False),
]
DeltaFlag = Annotated[list[str] | None, says("Samples over dimension, n/d. May be repeated.", "--delta", metavar="D")]
TimeFlag = Annotated[list[str] | None, says("A step. May be repeated.", "--time", metavar="T")]

#: Of a command that computes with random numbers, on several cores.
COMPUTING = ("seed", "workers", "dask", "figure", "save")


@dataclass(frozen=True)
class Shared(Delivery):
    """What the shared flags were given; those that a command does not have keep the default."""

    samples: Annotated[int | None, says("Sample paths per replicate.")] = None
    replicates: Annotated[int | None, says("Independent repetitions (at least 2).")] = None
    seed: Annotated[int | None, says("Seed of all random numbers.")] = None
    quick: Annotated[bool, says("A tenth of the samples; the result says so.", "--quick")] = False
    workers: Annotated[int | None, says("Processes; default: as many as pay, at most one a core.", metavar="N")] = None
    dask: Annotated[str | None, says("Compute on the Dask cluster with this scheduler.", metavar="ADDRESS")] = None

    @functools.cached_property
    def notes(self) -> list[str]:
        """What the message of a ``--quick`` result says of itself; a command adds it."""
        return []

    @functools.cached_property
    def executor(self) -> Executor:
        """Where independent tasks run.

        Raises
        ------
        InputError
            If ``--workers`` is no number of processes, or ``--dask`` is given too.
        """
        from featurephase.foundation.executors import as_executor

        return as_executor(self.workers, quiet=self.quiet, dask=self.dask)

    def experiment(
        self, file: str, *, delta: list[str] | None = None, times: Times | None = None, delta_range: str | None = None
    ) -> Problem:
        """The problem of an experiment file with the flags in place of its keys (:func:`.parsing.experiment`)."""
        numbers = {"samples": self.samples, "replicates": self.replicates, "seed": self.seed}
        problem = experiment(file, delta=delta, times=times, delta_range=delta_range, **numbers)
        if self.quick:
            problem = problem.quick()
            self.notes.append(f"quick: a tenth of the samples ({problem.asymptotics.samples})")
        return problem


#: Shared flag -> its declaration, in the order of ``--help``.
_DECLARED = get_type_hints(Shared, include_extras=True)
SHARED = {name: _DECLARED[name] for name in (*Shared.__annotations__, *Delivery.__annotations__)}


def command(*flags: str) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """Make a command of a function that takes ``shared`` and returns a result: give it shared flags and the one tail.

    ``flags``: names in :data:`SHARED`; ``--json``, ``--quiet`` and ``--debug`` come by themselves.
    """
    names = [name for name in SHARED if name in (*flags, "json", "quiet", "debug")]

    def decorate(function: Callable[..., Result]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            shared = Shared(**{name: values.pop(name) for name in names})

            def compute() -> Result:
                if "workers" in names:
                    shared.executor  # noqa: B018  a number of workers that makes no sense is refused first
                result = function(**values, shared=shared)
                for note in shared.notes:
                    result = result.noted(note)
                return result

            raise typer.Exit(carry_out(compute, shared))

        own = inspect.signature(function, eval_str=True).parameters.values()
        added = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=getattr(Shared, name), annotation=SHARED[name]
            )
            for name in names
        ]
        kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != "shared"]
        run.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*kept, *added)}
        del run.__wrapped__  # or the parser would read its annotations
        return run

    return decorate
