"""``featurephase related``: the related solvable models, a subcommand each, made from the model's parameters."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from featurephase.cli.deliver import Delivery, carry_out
from featurephase.cli.flags import COMPUTING, DebugFlag, Result, Shared, command, says
from featurephase.cli.parsing import parse_matrix, parse_vector
from featurephase.foundation.errors import InputError
from featurephase.related_models.registry import MODELS, model_class, model_list, related

if TYPE_CHECKING:
    from featurephase.related_models.base import RelatedModel


#: How the command line writes a parameter of each kind, and what it is then called.
_TYPES: dict[str, tuple[Any, str]] = {
    "number": (float | None, "X"),
    "whole": (int | None, "N"),
    "word": (str | None, "WORD"),
    "vector": (list[str] | None, "X1,X2.."),
    "matrix": (str | None, "ROW;ROW.."),
}


def _shown(value: Any) -> str:
    """A default in the words of the command line."""
    if isinstance(value, tuple):
        if value and isinstance(value[0], tuple):
            return ";".join(_shown(row) for row in value)
        numbers = [f"{x:g}" for x in value]
        return ",".join(numbers if len(numbers) <= 8 else [*numbers[:3], "..", numbers[-1]])
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flags(kind: type[RelatedModel]) -> dict[str, inspect.Parameter]:
    """One flag a parameter of the model; what it accepts and its default are in its help."""
    out = {}
    for f in fields(kind):
        domain = f.metadata["domain"]
        annotation, metavar = _TYPES[domain.kind]
        default = f.default if f.default_factory is MISSING else f.default_factory()
        known = "" if default is None or default is MISSING else f"; default {_shown(default)}"
        words = f"{f.metadata['about']}: {domain.accepted}{known}."
        option = typer.Option(f"--{f.name.replace('_', '-')}", metavar=metavar, help=words[0].upper() + words[1:])
        out[f.name] = inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, option]
        )
    return out


def _value(name: str, kind: str, given: Any) -> Any:
    flag = f"--{name.replace('_', '-')}"
    if kind == "vector":
        return [x for text in given for x in parse_vector(flag, text, infinite=True)]
    return parse_matrix(flag, given) if kind == "matrix" else given


def _command_of(name: str) -> Any:
    """The command that runs one model."""
    kind = model_class(name)
    flags = _flags(kind)

    def run(*, shared: Shared, simulate: bool, **values: Any) -> Result:
        domains = {f.name: f.metadata["domain"].kind for f in fields(kind)}
        given = {key: _value(key, domains[key], value) for key, value in values.items() if value is not None}
        return related(
            name,
            simulate=simulate,
            seed=0 if shared.seed is None else shared.seed,
            replicates=8 if shared.replicates is None else shared.replicates,
            workers=shared.executor,
            **given,
        )

    wish = Annotated[bool, says("Also train the network, and compare with the theory.", "--simulate")]
    own = inspect.Parameter("simulate", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=wish)
    last = inspect.Parameter("shared", inspect.Parameter.KEYWORD_ONLY, annotation=Shared)
    run.__signature__ = inspect.Signature([*flags.values(), own, last])  # type: ignore[attr-defined]
    title = kind.title[0].upper() + kind.title[1:]
    run.__doc__ = f"{title}.\n\n{kind.citation}\n\nExample: featurephase related {name} --simulate"
    group = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    group.command(name)(command("replicates", *COMPUTING)(run))
    return typer.main.get_command(group)


class _Models(TyperGroup):
    """The models as subcommands, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(MODELS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a model; an unknown name is refused with the nearest one."""
        return _command_of(cmd_name)


related_app = typer.Typer(
    cls=_Models,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@related_app.callback()
def _list(
    ctx: typer.Context,
    json: Annotated[bool, says("The list as one JSON document.", "--json")] = False,
    quiet: Annotated[bool, says("No messages on standard error.", "--quiet")] = False,
    debug: DebugFlag = False,
) -> None:
    """Related solvable models of lazy and rich training; alone: a list of them.

    Example: featurephase related catapult --eta 1 --lambda0 3 --simulate --figure catapult.png
    """
    if ctx.invoked_subcommand is not None:
        if json or quiet:
            raise InputError("related: flags of a model come after its name")
        return
    raise typer.Exit(carry_out(model_list, Delivery(json=json, quiet=quiet)))
