"""``featurephase init``: a commented experiment file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featurephase.cli.app import app
from featurephase.cli.output import DebugFlag, JsonFlag, QuietFlag, deliver, write_text


@app.command("init")
def init(
    name: Annotated[str | None, typer.Argument(help="Which one; without it they are listed.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write it (default: NAME.toml here)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a commented experiment file to start from.

    Example: featurephase init one-neuron -o experiment.toml
    """
    from featurephase.cli.templates import read_template, template_list

    if name is None:
        if output is not None or force:
            raise typer.BadParameter("-o and --force need the NAME of a template")
        raise typer.Exit(deliver(template_list(), as_json=json, quiet=quiet))
    text = read_template(name)
    target = Path(f"{name}.toml") if output is None else output
    write_text(target, text, overwrite=force)
    raise typer.Exit(deliver(template_list(str(target)), as_json=json, quiet=quiet))
