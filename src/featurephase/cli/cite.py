"""``featurephase cite``: BibTeX of what a saved result used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featurephase.cli.flags import Result, Shared, command


@command()
def cite(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", help="A saved result (.nc, .zarr) or a sweep's store.", show_default=False),
    ] = None,
    *,
    shared: Shared,
) -> Result:
    """BibTeX entries of what a saved result used; without PATH those of featurephase and its theory.

    Example: featurephase cite prediction.nc > references.bib
    """
    from featurephase.present.citations import cite as cite_

    return cite_(path)
