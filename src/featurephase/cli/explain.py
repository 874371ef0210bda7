"""``featurephase explain``: what is learned from given data, by which mechanism, and what would change it."""

from __future__ import annotations

from typing import Annotated

from featurephase.cli.flags import COMPUTING, FileArgument, Result, Shared, command, says
from featurephase.cli.parsing import parse_positive

OneDeltaFlag = Annotated[
    str | None, says("Samples over dimension, n/d; default: the largest of run.delta.", "--delta", metavar="X")
]
SamplesNFlag = Annotated[int | None, says("Number of samples n (with --dimension).", "--samples-n", metavar="N", min=1)]
DimensionFlag = Annotated[
    int | None, says("Dimension d: says how many samples and steps it takes.", "--dimension", metavar="D", min=1)
]


@command("samples", "replicates", "quick", *COMPUTING)
def explain(
    file: FileArgument,
    delta: OneDeltaFlag = None,
    samples_n: SamplesNFlag = None,
    dimension: DimensionFlag = None,
    *,
    shared: Shared,
) -> Result:
    """In words: which directions are easy or hard, which are learned, why, and what would change it.

    Examples:

    featurephase explain experiment.toml --delta 40 --quick

    featurephase explain experiment.toml --samples-n 100000 --dimension 5000 --json
    """
    ratio = None if delta is None else parse_positive("--delta", delta)
    problem = shared.experiment(file)
    from featurephase.analyses.explanation import explain as compute

    return compute(
        problem,
        delta=ratio,
        samples_n=samples_n,
        dimension=dimension,
        quiet=shared.quiet,
        workers=shared.executor,
    )
