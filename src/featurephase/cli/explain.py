"""``featurephase explain``: what is learned from given data, by which mechanism, and what would change it."""

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
from featurephase.cli.parsing import FileArgument, experiment, parse_positive, quick_note

OneDeltaFlag = Annotated[
    str | None,
    typer.Option("--delta", metavar="X", help="Samples over dimension, n/d; default: the largest of run.delta."),
]
SamplesNFlag = Annotated[
    int | None, typer.Option("--samples-n", metavar="N", help="Number of samples n (with --dimension).", min=1)
]
DimensionFlag = Annotated[
    int | None,
    typer.Option("--dimension", metavar="D", help="Dimension d: says how many samples and steps it takes.", min=1),
]


@app.command("explain")
def explain(
    file: FileArgument,
    delta: OneDeltaFlag = None,
    samples_n: SamplesNFlag = None,
    dimension: DimensionFlag = None,
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
    """In words: which directions are easy or hard, which are learned, why, and what would change it.

    Examples:

    featurephase explain experiment.toml --delta 20 --quick

    featurephase explain experiment.toml --samples-n 100000 --dimension 5000 --json
    """
    check_targets(figure, save)
    ratio = None if delta is None else parse_positive("--delta", delta)
    problem = experiment(file, samples=samples, replicates=replicates, seed=seed, quick=quick)
    from featurephase.analyses.explanation import explain as compute

    result = compute(problem, delta=ratio, samples_n=samples_n, dimension=dimension, quiet=quiet)
    if quick:
        result = result.noted(quick_note(problem))
    raise typer.Exit(deliver(result, as_json=json, figure=figure, save=save, quiet=quiet))
