"""What every result has in common: status, provenance, JSON, xarray, files and figures.

A result is a frozen dataclass whose fields carry the words of the JSON documents. Non-finite numbers become the
strings ``"inf"``, ``"-inf"`` and ``"nan"`` in JSON, because JSON has no such numbers.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from featurephase._version import __version__
from featurephase.foundation.errors import InputError

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["Result", "jsonable", "save_dataset"]


def jsonable(value: Any) -> Any:
    """Turn ``value`` into what the ``json`` module writes without loss or complaint.

    Arrays become nested lists (first index first), dataclasses and mappings become objects, non-finite floats the
    strings ``"inf"``, ``"-inf"``, ``"nan"``.

    Raises
    ------
    TypeError
        If ``value`` has no JSON form.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return value
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, Result):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def save_dataset(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write an xarray data set to ``path`` (``.nc``: netCDF4 by h5netcdf; ``.zarr``: zarr), whole or not at all.

    Raises
    ------
    InputError
        If the name ends otherwise or the folder does not exist.
    """
    target = Path(path)
    if target.suffix not in (".nc", ".zarr"):
        raise InputError(f"cannot save to {str(target)!r}: the name must end in .nc or .zarr")
    folder = target.parent
    if not folder.is_dir():
        raise InputError(f"cannot save to {str(target)!r}: the folder {str(folder)!r} does not exist")
    scratch = Path(tempfile.mkdtemp(prefix=".featurephase-", dir=folder))
    try:
        part = scratch / target.name
        if target.suffix == ".nc":
            dataset.to_netcdf(part, engine="h5netcdf")
        else:
            dataset.to_zarr(part, mode="w")
            if target.is_dir():
                shutil.rmtree(target)
        os.replace(part, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


@dataclass(frozen=True, kw_only=True)
class Result:
    """Base of all results.

    Attributes
    ----------
    status
        ``"ok"`` or the reason why something asked for does not exist.
    message
        The same for people: one or a few sentences, empty where there is nothing to say.
    seed
        Seed of the random numbers, ``None`` for a deterministic result.
    version
        Version of featurephase that made it.
    """

    status: str = "ok"
    message: str = ""
    seed: int | None = None
    version: str = __version__

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for exists (exit code 0 rather than 3)."""
        return self.status == "ok"

    def noted(self, note: str) -> Self:
        """The same result with a sentence added to its message."""
        return replace(self, message="; ".join(part for part in (self.message, note) if part))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document, as plain Python values."""
        return {f.name: jsonable(getattr(self, f.name)) for f in fields(self) if f.metadata.get("json", True)}

    def stamp(self, entry: dict[str, Any]) -> None:
        """Give an entry of the document the result's seed and version, so that it can be quoted on its own."""
        entry["seed"], entry["version"] = self.seed, self.version

    def to_xarray(self) -> xarray.Dataset:
        """The numbers as a labelled data set with provenance in its attributes."""
        raise NotImplementedError(f"{type(self).__name__} has no labelled form")

    def figure(self) -> Figure:
        """The figure people would look at."""
        raise NotImplementedError(f"{type(self).__name__} has no figure")

    def table(self) -> str:
        """The table that the command prints for people."""
        raise NotImplementedError(f"{type(self).__name__} has no table")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_xarray` to a ``.nc`` or ``.zarr`` file, whole or not at all."""
        return save_dataset(self.to_xarray(), path)

    def _repr_html_(self) -> str:
        from html import escape

        try:
            body = self.table()
        except NotImplementedError:
            body = repr(self)
        return f"<pre>{escape(body)}</pre>"
