"""``featurephase simulate``: finite networks, on data matrices or exactly in law without them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from featurephase.cli.flags import COMPUTING, DeltaFlag, FileArgument, Shared, TimeFlag, command
from featurephase.cli.parsing import finite_times

if TYPE_CHECKING:
    from featurephase.results.base import Result

DimensionFlag = Annotated[
    int | None, typer.Option("--dimension", metavar="D", help="d, the dimension of the features.")
]
SeedsFlag = Annotated[int, typer.Option("--seeds", metavar="S", help="Independent runs.")]


@command(*COMPUTING)
def simulate(
    file: FileArgument,
    dimension: DimensionFlag = None,
    delta: DeltaFlag = None,
    method: Annotated[
        str | None, typer.Option("--method", help="dense (a data matrix) or implicit (exact in law without one).")
    ] = None,
    seeds: SeedsFlag = 8,
    time: TimeFlag = None,
    eigenvalues: Annotated[int, typer.Option("--eigenvalues", help="Of the Hessian, at each end.")] = 4,
    start: Annotated[str, typer.Option("--start", help="orthonormal, gaussian, sphere or prescribed.")] = "orthonormal",
    precision: Annotated[str, typer.Option("--precision", help="Of the data matrix: float64 or float32.")] = "float64",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Your features (.npy, .npz, .csv), a row a sample.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="Their labels; default: the link labels them.")
    ] = None,
    whiten: Annotated[
        bool, typer.Option("--whiten", help="Centre the features, turn their covariance into I.")
    ] = False,
    header: Annotated[
        str,
        typer.Option("--header", metavar="yes|no", help="Whether a .csv file begins with names; default: by its look."),
    ] = "auto",
    held_out: Annotated[float, typer.Option("--held-out", help="Share of the data kept for the test loss.")] = 0.2,
    recovery: Annotated[
        bool, typer.Option("--recovery/--no-recovery", help="Judge recovery by further runs at smaller d.")
    ] = True,
    prediction: Annotated[
        bool, typer.Option("--prediction/--no-prediction", help="Predict the escape time (tangent recursion).")
    ] = True,
    *,
    shared: Shared,
) -> Result:
    """Train finite networks and measure what predict predicts: losses, overlaps, Hessian, grokking, recovery.

    Examples:

    featurephase simulate experiment.toml --dimension 500 --delta 8 --figure simulation.png

    featurephase simulate experiment.toml --dimension 100000 --delta 10 --method implicit --seeds 2

    featurephase simulate experiment.toml --data features.npy --labels labels.csv --whiten
    """
    from featurephase.foundation.errors import InputError

    if precision not in ("float64", "float32"):
        raise InputError(f"--precision {precision!r}: must be float64 or float32")
    if data is None and (labels is not None or whiten):
        raise InputError("--labels and --whiten go with --data FILE")
    if data is not None and (delta or dimension is not None):
        raise InputError("--data FILE fixes n and d; --delta and --dimension do not go with it")
    times = finite_times("--time", time)
    problem = shared.experiment(file, delta=delta, times=times)
    from featurephase.analyses.simulation import simulate as compute
    from featurephase.problem.data import load_data

    features = (
        None
        if data is None
        else load_data(data, labels=labels, whiten=whiten, held_out=held_out, header=cast(Any, header))
    )
    return compute(
        problem,
        dimension=dimension,
        method=cast(Any, method),
        seeds=seeds,
        times=None if times is None else times.steps,
        eigenvalues=eigenvalues,
        start=start,
        precision=cast(Any, precision),
        data=features,
        recovery=recovery,
        predicted=prediction,
        quiet=shared.quiet,
        workers=shared.executor,
    )
