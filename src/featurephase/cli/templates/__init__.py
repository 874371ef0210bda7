"""Commented experiment files to start from: what ``featurephase init`` writes.

They are the project's only examples: ``examples/`` and the documentation point here.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files

from featurephase.foundation.errors import InputError, show, suggest
from featurephase.results.templates import TemplateList


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


def template_list(written: str | None = None) -> TemplateList:
    """The templates there are, and the file that was written, if any."""
    titles = {name: str(tomllib.loads(read_template(name))["title"]) for name in template_names()}
    return TemplateList(templates=titles, written=written)
