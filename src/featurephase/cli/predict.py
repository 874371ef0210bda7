"""``featurephase predict``: trajectory and Hessian of gradient descent in the limit n, d -> infinity."""

from __future__ import annotations

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


@app.command("predict")
def predict(
    file: FileArgument,
    delta: DeltaFlag = None,
    time: TimeFlag = None,
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
    """Losses, overlaps and the spectrum of the Hessian in the limit of large dimension, with standard errors.

    Examples:

    featurephase predict experiment.toml --figure prediction.png

    featurephase predict experiment.toml --delta 4 --delta 20 --time 0 --time 60 --quick --json
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
    from featurephase.analyses.prediction import predict as compute

    result = compute(problem, density=figure is not None or save is not None, quiet=quiet)
    if quick:
        result = result.noted(quick_note(problem))
    raise typer.Exit(deliver(result, as_json=json, figure=figure, save=save, quiet=quiet))
