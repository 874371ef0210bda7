"""``featurephase compare``: theory against simulation, number by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featurephase.cli.flags import COMPUTING, DeltaFlag, FileArgument, Shared, TimeFlag, command
from featurephase.cli.parsing import finite_times

if TYPE_CHECKING:
    from featurephase.results.base import Result


@command("samples", "replicates", "quick", *COMPUTING)
def compare(
    file: FileArgument,
    dimension: Annotated[
        list[int],
        typer.Option("--dimension", metavar="D", help="d. Two or more: simulations are extrapolated to 1/d = 0."),
    ],
    delta: DeltaFlag = None,
    seeds: Annotated[int, typer.Option("--seeds", metavar="S", help="Simulations (at least 2).")] = 16,
    time: TimeFlag = None,
    start: Annotated[str, typer.Option("--start", help="orthonormal, gaussian, sphere or prescribed.")] = "orthonormal",
    escape: Annotated[bool, typer.Option("--escape/--no-escape", help="Compare the escape time too.")] = True,
    *,
    shared: Shared,
) -> Result:
    """Confront the theory with simulations on real data matrices: z-scores and a verdict.

    Examples:

    featurephase compare experiment.toml --dimension 500 --seeds 16 --figure comparison.png

    featurephase compare experiment.toml --dimension 300 --dimension 600 --delta 4 --json
    """
    problem = shared.experiment(file, delta=delta, times=finite_times("--time", time))
    from featurephase.analyses.comparison import compare as compute

    return compute(
        problem,
        dimension=dimension,
        seeds=seeds,
        start=start,
        escape=escape,
        quiet=shared.quiet,
        workers=shared.executor,
    )
