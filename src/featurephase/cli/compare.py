"""``featurephase compare``: theory against simulation, number by number."""

from __future__ import annotations

from typing import Annotated

from featurephase.cli.features import DataFlag, HeaderFlag, HeldOutFlag, LabelsFlag, WhitenFlag, user_data
from featurephase.cli.flags import COMPUTING, DeltaFlag, FileArgument, Result, Shared, TimeFlag, command, says
from featurephase.cli.parsing import finite_times


@command("samples", "replicates", "quick", *COMPUTING)
def compare(
    file: FileArgument,
    dimension: Annotated[
        list[int] | None, says("d. Two or more: simulations are extrapolated to 1/d = 0.", metavar="D")
    ] = None,
    delta: DeltaFlag = None,
    seeds: Annotated[int, says("Simulations (at least 2).", metavar="S")] = 16,
    time: TimeFlag = None,
    start: Annotated[str, says("orthonormal, gaussian, sphere or prescribed.")] = "orthonormal",
    escape: Annotated[bool, says("Compare the escape time too.")] = True,
    data: DataFlag = None,
    labels: LabelsFlag = None,
    whiten: WhitenFlag = False,
    header: HeaderFlag = "auto",
    held_out: HeldOutFlag = 0.2,
    *,
    shared: Shared,
) -> Result:
    """Confront the theory with simulations on real data matrices: z-scores and a verdict.

    Examples:

    featurephase compare experiment.toml --dimension 500 --seeds 16 --figure comparison.png

    featurephase compare experiment.toml --dimension 300 --dimension 600 --delta 4 --json

    featurephase compare experiment.toml --data features.npy --whiten
    """
    from featurephase.foundation.errors import InputError

    features = user_data(data, labels, whiten, header, held_out)
    if features is not None and (delta or dimension):
        raise InputError("--data FILE fixes n and d; --delta and --dimension do not go with it")
    if features is None and not dimension:
        raise InputError("no dimension: give d (--dimension D, once or more often), or --data FILE")
    problem = shared.experiment(file, delta=delta, times=finite_times("--time", time))
    from featurephase.analyses.comparison import compare as compute

    return compute(
        problem,
        dimension=dimension,
        seeds=seeds,
        start=start,
        escape=escape,
        data=features,
        workers=shared.executor,
    )
