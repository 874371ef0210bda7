"""``featurephase simulate``: finite networks, on data matrices or exactly in law without them."""

from __future__ import annotations

from typing import Annotated, Any, cast

from featurephase.cli.features import DataFlag, HeaderFlag, HeldOutFlag, LabelsFlag, WhitenFlag, user_data
from featurephase.cli.flags import COMPUTING, DeltaFlag, FileArgument, Result, Shared, TimeFlag, command, says
from featurephase.cli.parsing import finite_times

DimensionFlag = Annotated[int | None, says("d, the dimension of the features.", "--dimension", metavar="D")]
SeedsFlag = Annotated[int, says("Independent runs.", "--seeds", metavar="S")]


@command(*COMPUTING)
def simulate(
    file: FileArgument,
    dimension: DimensionFlag = None,
    delta: DeltaFlag = None,
    method: Annotated[str | None, says("dense (a data matrix) or implicit (exact in law without one).")] = None,
    seeds: SeedsFlag = 8,
    time: TimeFlag = None,
    eigenvalues: Annotated[int, says("Of the Hessian, at each end.")] = 4,
    start: Annotated[str, says("orthonormal, gaussian, sphere or prescribed.")] = "orthonormal",
    precision: Annotated[str, says("Of the data matrix: float64 or float32.")] = "float64",
    data: DataFlag = None,
    labels: LabelsFlag = None,
    whiten: WhitenFlag = False,
    header: HeaderFlag = "auto",
    held_out: HeldOutFlag = 0.2,
    recovery: Annotated[bool | None, says("Judge recovery by further runs at smaller d.", show_default="yes")] = None,
    prediction: Annotated[bool | None, says("Predict the escape time (tangent recursion).", show_default="yes")] = None,
    quick: Annotated[
        bool,
        says("A quarter of the seeds, no recovery, no prediction unless asked for; the result says so.", "--quick"),
    ] = False,
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
    if data is not None and (delta or dimension is not None):
        raise InputError("--data FILE fixes n and d; --delta and --dimension do not go with it")
    features = user_data(data, labels, whiten, header, held_out)
    times = finite_times("--time", time)
    problem = shared.experiment(file, delta=delta, times=times)
    from featurephase.analyses.simulation import simulate as compute

    fewer = max(2, seeds // 4) if quick else seeds
    result = compute(
        problem,
        dimension=dimension,
        method=cast(Any, method),
        seeds=fewer,
        times=None if times is None else times.steps,
        eigenvalues=eigenvalues,
        start=start,
        precision=cast(Any, precision),
        data=features,
        recovery=not quick if recovery is None else recovery,
        predicted=not quick if prediction is None else prediction,
        workers=shared.executor,
    )
    return result.noted(f"quick: {fewer} seeds in place of {seeds}") if quick else result
