"""``featurephase predict``: trajectory and Hessian of gradient descent in the limit n, d -> infinity."""

from __future__ import annotations

from typing import Annotated

from featurephase.cli.flags import COMPUTING, DeltaFlag, FileArgument, Result, Shared, TimeFlag, command, says
from featurephase.cli.parsing import finite_times


@command("samples", "replicates", "quick", *COMPUTING)
def predict(
    file: FileArgument,
    delta: DeltaFlag = None,
    time: TimeFlag = None,
    no_hessian: Annotated[bool, says("Trajectories only.", "--no-hessian")] = False,
    *,
    shared: Shared,
) -> Result:
    """Losses, overlaps and the spectrum of the Hessian in the limit of large dimension, with standard errors.

    Examples:

    featurephase predict experiment.toml --figure prediction.png

    featurephase predict experiment.toml --delta 4 --delta 20 --time 0 --time 60 --quick --json
    """
    problem = shared.experiment(file, delta=delta, times=finite_times("--time", time))
    from featurephase.analyses.prediction import predict as compute

    density = shared.figure is not None or shared.save is not None
    times = () if no_hessian else None
    return compute(problem, times=times, density=density, quiet=shared.quiet, workers=shared.executor)
