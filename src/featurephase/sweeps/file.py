"""The sweep file: the base, the axes and the quantities, and its text again for provenance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featurephase.foundation import tomlfile
from featurephase.foundation.errors import InputError, show, suggest
from featurephase.foundation.tomlfile import toml_value
from featurephase.sweeps.axes import Grid, axes_of
from featurephase.sweeps.bases import Base, base_of

_KEYS = ("title", "base", "quantities", "axis", "simulate", "boundary")


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says: a grid and its quantities, or a ``boundary`` that is followed."""

    base: Base
    grid: Grid
    quantities: tuple[str, ...]
    boundary: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, base_only: bool = False) -> SweepFile:
        """Read a file; its base is found beside it.

        ``base_only``: an experiment file will do, whose axes come from elsewhere.

        Raises
        ------
        InputError
            If it cannot be read, or says something that is not accepted.
        """
        source = "standard input" if os.fspath(path) == "-" else show(os.fspath(path), 400)
        document = tomlfile.parse(tomlfile.read_text(path), source)
        if base_only and not {"base", "axis", "quantities"} & document.keys():
            return cls(base_of(document), Grid(()), ())
        for key in document:
            if key not in _KEYS:
                raise InputError(f"{source}: unknown key {show(key)} in a sweep file: {suggest(key, _KEYS)}")
        base = _base(document, Path(path).parent, source)
        if "boundary" in document:
            if also := {"axis", "quantities"} & document.keys():
                raise InputError(f"{source}: [boundary] and {min(also)} exclude each other: give one")
            return cls(base, Grid(()), (), document["boundary"])
        quantities = document.get("quantities")
        if not isinstance(quantities, list):
            raise InputError(f'{source}: quantities = {show(quantities)}: must be a list, such as ["delta_nn"]')
        tables = document.get("axis", [])
        if not isinstance(tables, list):
            raise InputError(f"{source}: axis = {show(tables)}: must be tables [[axis]], with double brackets")
        return cls(base, axes_of(tables), tuple(quantities))

    def with_samples(
        self, samples: int | None, replicates: int | None, seed: int | None, *, quick: bool = False
    ) -> SweepFile:
        """The same with other numbers of samples and another seed in the base.

        Raises
        ------
        InputError
            If the base does not have them.
        """
        given = {"samples": samples, "replicates": replicates, "seed": seed}
        changes = {key: value for key, value in given.items() if value is not None}
        if not changes and not quick:
            return self
        return replace(self, base=self.base.with_samples(changes, quick))


def _base(document: Mapping[str, Any], folder: Path, source: str) -> Base:
    name = document.get("base")
    if not isinstance(name, str) or not name:
        raise InputError(f'{source}: base = {show(name)}: must be the name of a file, such as "experiment.toml"')
    path = folder / name
    own = tomlfile.parse(tomlfile.read_text(path), show(os.fspath(path), 400))
    if {"axis", "quantities", "base"} & own.keys():
        raise InputError(f"{source}: base {show(name)} is a sweep file itself; an experiment file is needed")
    return base_of(own, {key: document[key] for key in ("simulate",) if key in document})


def sweep_text(base: Base, grid: Grid, quantities: tuple[str, ...]) -> str:
    """A sweep file that says the same, its base in ``experiment.toml``."""
    lines = ['base = "experiment.toml"', f"quantities = {toml_value(list(quantities))}"]
    options = getattr(base, "options", {})
    lines += [f"{name} = {toml_value(table)}" for name, table in options.items()]
    for axis in grid.axes:
        lines += ["", "[[axis]]", f"key = {toml_value(axis.name)}", f"values = {toml_value(list(axis.values[0]))}"]
        if axis.labels:
            lines.append(f"labels = {toml_value(list(axis.labels))}")
        if axis.keys[1:]:
            pairs = {key: list(row) for key, row in zip(axis.keys[1:], axis.values[1:], strict=True)}
            lines.append(f"with = {toml_value(pairs)}")
    return "\n".join(lines) + "\n"
