"""Saved results, read back as labelled data: what is refused, and what a file says of itself."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.memory import require_memory

if TYPE_CHECKING:
    from xarray import DataArray, Dataset
else:  # names for annotations: xarray takes its time
    DataArray = Dataset = Any


__all__ = ["SWEEP", "DataArray", "Dataset", "kind_of", "open_saved", "replicates_of", "said"]

#: What :func:`kind_of` says of a sweep.
SWEEP = "Sweep"
_ACCEPTED = "a result saved with --save FILE.nc or FILE.zarr, or the store of a sweep, is needed"


def open_saved(path: str | os.PathLike[str]) -> Dataset:
    """The labelled numbers of a saved result or of a sweep's store, in memory.

    Raises
    ------
    InputError
        If there is nothing, something else than a result of featurephase, a damaged file, or a store without a cell.
    """
    name = show(os.fspath(path), 400)
    place = Path(path)
    try:
        there = place.exists()
    except (OSError, ValueError) as error:  # too long, a zero byte
        raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    if not there:
        raise InputError(f"{name} does not exist; {_ACCEPTED}")
    if not place.is_dir() and not place.is_file():
        raise InputError(f"{name} is neither a file nor a folder; {_ACCEPTED}")
    if place.suffix.lower() in (".json", ".toml", ".csv"):
        raise InputError(f"{name}: a {place.suffix} file holds no labelled numbers; {_ACCEPTED}")
    data = _read(place, name)
    if str(data.attrs.get("written_by", "")) != "featurephase":
        raise InputError(f"{name} was not written by featurephase; {_ACCEPTED}")
    match data.attrs.get("contents"):
        case None:
            return data
        case "sweep":
            return _sweep(data, place, name)
        case contents:
            raise InputError(f"{name} holds {show(contents)}, not a result; {_ACCEPTED}")


def _read(place: Path, name: str) -> Dataset:
    """The data set of a file or folder; whatever the libraries complain of, it is no file that can be read."""
    import xarray

    if place.is_dir() and not (place / "zarr.json").is_file():
        raise InputError(f"{name} is a folder without a zarr store in it; {_ACCEPTED}")
    engine: Any = "zarr" if place.is_dir() else "h5netcdf"
    options: dict[str, Any] = {"decode_times": False, "decode_timedelta": False}
    if place.is_dir():
        options["consolidated"] = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Object at")  # the lock of a sweep's store is no array
            with xarray.open_dataset(place, engine=engine, **options) as data:
                require_memory(2 * data.nbytes, name)
                return data.load()
    except (InputError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name} cannot be read, it is damaged or no result: {reason}; {_ACCEPTED}") from None


def _sweep(data: Dataset, place: Path, name: str) -> Dataset:
    """The cells of a sweep: of a store also those that a run left which was stopped."""
    if place.is_dir() and place.suffix.lower() != ".zarr":
        from featurephase.sweeps import open_sweep

        data = open_sweep(place).data
    if "done" not in data or not bool((data["done"] > 0).any()):
        raise InputError(f"{name}: no cell of this sweep is finished yet; featurephase sweep FILE --store continues it")
    return data


def kind_of(data: Dataset) -> str:
    """Class of the result, ``"Sweep"``, or ``""`` where the file does not say."""
    return SWEEP if data.attrs.get("contents") == "sweep" else said(data, "result")


def said(data: Dataset, name: str) -> str:
    """An attribute as text, empty where there is none."""
    value = data.attrs.get(name, "")
    return "" if value is None else str(value)


def replicates_of(data: Dataset) -> int:
    """Over how many replicates means were taken; 0 where nothing is stochastic or the file does not say."""
    text = said(data, "replicates")
    return int(text) if text.isdecimal() else 0
