"""``featurephase report``: an interactive page of a saved result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featurephase.cli.flags import Result, Shared, command, says


@command()
def report(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A result saved with --save (.nc, .zarr), or a sweep's store."),
    ],
    output: Annotated[Path, says("The page; a file of that name is replaced.", "-o", "--output", metavar="FILE.html")],
    *,
    shared: Shared,
) -> Result:
    """One self-contained, interactive page from a saved result: charts, inputs, how to make it again, citations.

    The page needs no network and loads nothing. Needs the extra `page`.

    Example, of a result saved by ``featurephase predict experiment.toml --save p.nc``:

    featurephase report p.nc -o p.html
    """
    from featurephase.present.report import report as write
    from featurephase.results.documents import WrittenPage

    page = write(path, output)
    return WrittenPage(page=str(output), source=str(path), bytes=page.stat().st_size)
