"""``featurephase sweep``: quantities over a grid of problems, in a store that a run takes up where it was left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featurephase.cli.deliver import say
from featurephase.cli.flags import Result, Shared, command, says


@command("samples", "replicates", "seed", "quick", "workers", "dask", "figure", "save")
def sweep(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The sweep file (TOML); - is standard input.", show_default=False)
    ],
    store: Annotated[
        Path | None, says("Folder that keeps the cells; finished ones are not computed again.", metavar="DIR")
    ] = None,
    dry_run: Annotated[
        bool, says("Print the plan and what it would cost; compute no more than a few cells.", "--dry-run")
    ] = False,
    retry: Annotated[bool, says("Compute cells again that failed.", "--retry")] = False,
    force: Annotated[bool, says("Drop finished cells of the store that are not in this sweep.", "--force")] = False,
    *,
    shared: Shared,
) -> Result:
    """Compute quantities over a grid of experiments (or of runs of latent, related, probe), cell by cell.

    With a table [boundary] in the file: follow a threshold along one parameter.

    Run it again to go on: after an interruption, a crash, or with more values in the file.

    Examples:

    featurephase sweep sweep.toml --store results --dry-run

    featurephase sweep sweep.toml --store results --workers 4 --save results.nc --figure results.png
    """
    from featurephase.foundation.errors import InputError
    from featurephase.sweeps.boundaries import plan_from, run_boundary
    from featurephase.sweeps.file import SweepFile
    from featurephase.sweeps.runs import dry_run as plan_only
    from featurephase.sweeps.runs import plan_of, run_sweep

    if store is None:
        raise InputError("--store DIR is missing: the folder that keeps the cells")
    asked = SweepFile.read(file).with_samples(shared.samples, shared.replicates, shared.seed, quick=shared.quick)
    if shared.quick:
        shared.notes.append("quick: a tenth of the samples")

    def report(line: str) -> None:
        if not shared.quiet:
            say(line)

    if asked.boundary is not None:
        if dry_run or force:
            raise InputError("--dry-run and --force do not go with [boundary]: its points are not known before")
        followed = plan_from(asked.base, asked.boundary)
        return run_boundary(followed, store, executor=shared.executor, retry=retry, report=report)
    plan = plan_of(asked.base, asked.grid, asked.quantities)
    if dry_run:
        return plan_only(asked.base, plan, asked.quantities, store, shared.executor)
    return run_sweep(
        asked.base,
        plan,
        asked.quantities,
        store,
        executor=shared.executor,
        retry=retry,
        force=force,
        report=report,
    )
