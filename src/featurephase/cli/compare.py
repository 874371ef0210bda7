"""``featurephase compare``: theory against simulation, number by number."""

from __future__ import annotations

from typing import Annotated

import typer

from featurephase.cli.app import app
from featurephase.cli.output import (
    DebugFlag,
    FigureFlag,
    JsonFlag,
    QuickFlag,
    QuietFlag,
    ReplicatesFlag,
    SamplesFlag,
    SaveFlag,
    SeedFlag,
    check_targets,
    deliver,
)
from featurephase.cli.parsing import DeltaFlag, FileArgument, TimeFlag, experiment, finite_times, quick_note


@app.command("compare")
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
    samples: SamplesFlag = None,
    replicates: ReplicatesFlag = None,
    seed: SeedFlag = None,
    quick: QuickFlag = False,
    json: JsonFlag = False,
    figure: FigureFlag = None,
    save: SaveFlag = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Confront the theory with simulations on real data matrices: z-scores and a verdict.

    Examples:

    featurephase compare experiment.toml --dimension 500 --seeds 16 --figure comparison.png

    featurephase compare experiment.toml --dimension 300 --dimension 600 --delta 4 --json
    """
    check_targets(figure, save)
    problem = experiment(
        file,
        delta=delta,
        times=finite_times("--time", time),
        samples=samples,
        replicates=replicates,
        seed=seed,
        quick=quick,
    )
    from featurephase.analyses.comparison import compare as compute

    result = compute(problem, dimension=dimension, seeds=seeds, start=start, escape=escape, quiet=quiet)
    if quick:
        result = result.noted(quick_note(problem))
    raise typer.Exit(deliver(result, as_json=json, figure=figure, save=save, quiet=quiet))
