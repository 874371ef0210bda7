"""``featurephase reproduce``: findings of the literature as experiments, and the ledger of their verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featurephase.cli.flags import COMPUTING, Result, Shared, command, says


@command("page", *COMPUTING)
def reproduce(
    claims: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLAIM]..", help="Names or numbers of claims; default: all.", show_default=False),
    ] = None,
    quick: Annotated[bool, says("Reduced experiments: all in ten minutes on two cores.", "--quick")] = False,
    store: Annotated[
        Path | None, says("Keep every claim as it is finished in DIR, and go on from there.", metavar="DIR")
    ] = None,
    *,
    shared: Shared,
) -> Result:
    """Run findings of the literature as experiments: statement, criterion, evidence with errors, verdict.

    Examples:

    featurephase reproduce hard-directions closed-form --quick

    featurephase reproduce --quick -o ledger.html

    featurephase reproduce --store ledger

    The exit code is 3 if a claim is not confirmed, or cannot be determined here (its status says what it needs).
    """
    from featurephase.claims.ledger import reproduce as compute

    return compute(
        claims or (), quick=quick, seed=shared.seed or 0, store=store, quiet=shared.quiet, workers=shared.executor
    )
