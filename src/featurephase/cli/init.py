"""``featurephase init``: a commented experiment file to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from featurephase.cli import exits
from featurephase.cli.flags import Result, Shared, command, says


@command()
def init(
    name: Annotated[str | None, typer.Argument(help="Which one; without it they are listed.")] = None,
    output: Annotated[
        Path | None,
        says("Where to write it (default: NAME.toml here; - is standard output).", "-o", "--output", metavar="FILE"),
    ] = None,
    force: Annotated[bool, says("Overwrite the file if it exists.", "--force")] = False,
    *,
    shared: Shared,
) -> Result:
    """Write a commented experiment file to start from.

    Example: featurephase init one-neuron -o experiment.toml
    """
    from featurephase.cli.templates import read_template, template_list
    from featurephase.foundation.errors import InputError
    from featurephase.foundation.files import write_text

    if name is None:
        if output is not None or force:
            raise InputError("-o and --force need the NAME of a template")
        return template_list()
    text = read_template(name)
    if output is not None and str(output) == "-":
        if shared.json:
            raise InputError("-o - writes the file to standard output, and --json its document: give one of them")
        sys.stdout.write(text)
        raise typer.Exit(exits.OK)
    target = Path(f"{name}.toml") if output is None else output
    write_text(target, text, overwrite=force)
    return template_list(str(target))
