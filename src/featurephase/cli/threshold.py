"""``featurephase threshold``: from which n/d on the hard directions are learned."""

from __future__ import annotations

from typing import Annotated

from featurephase.cli.flags import COMPUTING, FileArgument, Result, Shared, TimeFlag, command, says
from featurephase.cli.parsing import parse_times

DeltaRangeFlag = Annotated[
    str | None, says("Search from n/d = A to B instead of threshold.delta_range.", "--delta-range", metavar="A,B")
]


@command("samples", "replicates", "quick", *COMPUTING)
def threshold(
    file: FileArgument,
    time: TimeFlag = None,
    delta_range: DeltaRangeFlag = None,
    *,
    shared: Shared,
) -> Result:
    """From which n/d on the hard directions are learned: by this network, and by the best first-order method.

    Without --time: at run.times (default: the last step), and extrapolated to infinitely many steps, which --time inf
    asks for alone.

    Examples:

    featurephase threshold experiment.toml --time 1 --time 60 --figure threshold.png

    featurephase threshold experiment.toml --time inf --delta-range 1,100 --quick --json
    """
    times = parse_times("--time", time)
    problem = shared.experiment(file, times=times, delta_range=delta_range)
    from featurephase.analyses.threshold import threshold as compute

    steps, limit = (None, None) if times is None else times
    return compute(problem, times=steps, limit=limit, quiet=shared.quiet, workers=shared.executor)
