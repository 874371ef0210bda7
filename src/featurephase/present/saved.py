"""Saved results, read back as labelled data: what is refused, and what a file says of itself."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurephase.foundation.errors import InputError, one_line, show
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
    data = _of_store(place, name) if _is_store(place) else _read(place, name)
    if str(data.attrs.get("written_by", "")) != "featurephase":
        raise InputError(f"{name} was not written by featurephase; {_ACCEPTED}")
    match data.attrs.get("contents"):
        case None:
            return data
        case "sweep":
            return _sweep(data, name)
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
        reason = one_line(error)[:200] or type(error).__name__
        raise InputError(f"{name} cannot be read, it is damaged or no result: {reason}; {_ACCEPTED}") from None


def _is_store(place: Path) -> bool:
    """Whether it is the store of a sweep or of tasks, which may be unfinished or damaged."""
    from featurephase.sweeps.folder import is_store

    return place.is_dir() and is_store(place)


def _of_store(place: Path, name: str) -> Dataset:
    """The finished cells of a sweep's store, also where a run was stopped, or some cells are damaged."""
    from featurephase.sweeps import open_sweep
    from featurephase.sweeps.store import Store

    if (contents := Store.for_reading(place).attributes.get("contents")) != "sweep":
        raise InputError(
            f"{name} is a store of {contents}, in which a sweep with [boundary] and reproduce keep what is finished, "
            f"and no result; that of a boundary is what featurephase sweep writes with --save; {_ACCEPTED}"
        )
    return open_sweep(place).data


def _sweep(data: Dataset, name: str) -> Dataset:
    """The cells of a sweep, if there are any."""
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
