"""``featurephase threshold``: from which n/d on the hard directions are learned."""

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
from featurephase.cli.parsing import FileArgument, TimeFlag, experiment, parse_times, quick_note

DeltaRangeFlag = Annotated[
    str | None,
    typer.Option("--delta-range", metavar="A,B", help="Search from n/d = A to B instead of threshold.delta_range."),
]


@app.command("threshold")
def threshold(
    file: FileArgument,
    time: TimeFlag = None,
    delta_range: DeltaRangeFlag = None,
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
    """From which n/d on the hard directions are learned: by this network, and by the best first-order method.

    Without --time: at the last step, and followed as the number of steps grows (which --time inf asks for alone).

    Examples:

    featurephase threshold experiment.toml --time 1 --time 60 --figure threshold.png

    featurephase threshold experiment.toml --time inf --delta-range 1,100 --quick --json
    """
    check_targets(figure, save)
    times = parse_times("--time", time)
    problem = experiment(
        file,
        times=times,
        delta_range=delta_range,
        samples=samples,
        replicates=replicates,
        seed=seed,
        quick=quick,
    )
    from featurephase.analyses.threshold import threshold as compute

    steps, limit = ((), True) if times is None else times
    result = compute(problem, times=steps, limit=limit, quiet=quiet)
    if quick:
        result = result.noted(quick_note(problem))
    raise typer.Exit(deliver(result, as_json=json, figure=figure, save=save, quiet=quiet))
