"""Commented experiment files to start from: what ``featurephase init`` writes.

They are the project's only examples: ``examples/`` and the documentation point here.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib.resources import files

from featurephase.foundation.errors import InputError, show, suggest
from featurephase.results.base import Result

__all__ = ["TemplateList", "read_template", "template_names"]


def template_names() -> tuple[str, ...]:
    """Names of the templates, in alphabetical order."""
    names = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def read_template(name: str) -> str:
    """Text of the template ``name``.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in template_names():
        raise InputError(f"unknown template {show(name)}: {suggest(name, template_names())}")
    return (files(__package__) / f"{name}.toml").read_text(encoding="utf-8")


def _titles() -> dict[str, str]:
    return {name: str(tomllib.loads(read_template(name))["title"]) for name in template_names()}


@dataclass(frozen=True, kw_only=True)
class TemplateList(Result):
    """The templates there are, and the file that was written, if any.

    Attributes
    ----------
    templates
        Name -> title.
    written
        The file written, or ``None``.
    """

    templates: dict[str, str] = field(default_factory=_titles)
    written: str | None = None

    def table(self) -> str:
        """The list, or what was written and what to do with it."""
        if self.written is not None:
            return f"{self.written} written; next: featurephase predict {self.written}"
        width = max(map(len, self.templates))
        lines = (f"{name:{width}}  {title}" for name, title in self.templates.items())
        return "\n".join([*lines, "", "featurephase init NAME writes one of them to NAME.toml"])
