"""The user's own features and labels, as training data.

The theory is for isotropic Gaussian features: whether it holds on others is what a run on them shows.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.memory import require_memory
from featurephase.foundation.types import Array

__all__ = ["UserData", "load_data"]

#: What reading a damaged file raises; RuntimeError: encrypted, or a compression that Python does not know.
_DAMAGED = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
#: Directions whose variance is below this fraction of the largest are not whitened but left out: they are round-off.
_NULL = 1e-10


@dataclass(frozen=True)
class UserData:
    """Features (n, d), labels (n,) or ``None`` where the link is to label them, and the share held out for testing."""

    features: Array
    labels: Array | None = None
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or min(self.features.shape, default=0) < 2:
            raise InputError(f"data: an array of n >= 2 rows and d >= 2 columns is needed; got {self.features.shape}")
        if not 0 <= self.held_out < 1:
            raise InputError(f"held_out = {self.held_out}: must be a number from 0 to 1, 1 excluded")
        if self.labels is not None and self.labels.shape != (len(self.features),):
            raise InputError(
                f"labels: one number for each of the {len(self.features)} rows is needed; got {self.labels.shape}"
            )
        for name, values in (("data", self.features), ("labels", self.labels)):
            if values is not None and not np.all(np.isfinite(values)):
                raise InputError(f"{name}: {np.count_nonzero(~np.isfinite(values))} entries are not finite")

    @property
    def dimension(self) -> int:
        """d."""
        return int(self.features.shape[1])

    @property
    def training_samples(self) -> int:
        """n, what remains after the held-out rows."""
        return len(self.features) - int(self.held_out * len(self.features))

    def split(self, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows to train on and rows held out, at random."""
        order = rng.permutation(len(self.features))
        return order[: self.training_samples], order[self.training_samples :]

    def whitened(self) -> UserData:
        """The features centred and turned to unit covariance; directions without variance are left out.

        Raises
        ------
        InputError
            If no direction varies.
        """
        centred = self.features - self.features.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
        keep = values > _NULL * max(float(values[-1]), 0.0)
        if values[-1] <= 0.0 or np.count_nonzero(keep) < 2:
            raise InputError("data: features cannot be whitened, for fewer than two directions have any variance")
        return UserData(centred @ (vectors[:, keep] / np.sqrt(values[keep])), self.labels, self.held_out)


def load_data(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    whiten: bool = False,
    held_out: float = 0.2,
) -> UserData:
    """Features from a ``.npy``, ``.npz`` or ``.csv`` file, one row a sample.

    Parameters
    ----------
    path
        ``.npz``: the array ``x`` (or ``X``, ``features``, or the only one); ``.csv``: numbers separated by commas, with
        or without a first line of names.
    labels
        A file with one number a row (``.npz``: the array ``y``, ``labels``, or the only one). ``None``: the array ``y``
        or ``labels`` of ``path`` if it is a ``.npz`` file with one; else the link labels the rows, with latent
        directions at random.
    whiten
        Whether to centre the features and turn their covariance into the identity.
    held_out
        The share of the rows that the test loss is measured on.

    Raises
    ------
    InputError
        If a file cannot be read or is not what is described here. Nothing in a file is ever executed.
    """
    features = _read(path, ("x", "X", "features"))
    assert features is not None
    column = _read(path if labels is None else labels, ("y", "labels"), optional=labels is None)
    if column is not None and column.ndim == 2 and 1 in column.shape:
        column = column.ravel()
    data = UserData(features, column, held_out)
    return data.whitened() if whiten else data


def _read(path: str | os.PathLike[str], names: tuple[str, ...], *, optional: bool = False) -> Array | None:
    """The array in a file; ``optional``: only an array of one of these names, ``None`` where there is none."""
    source = Path(path)
    if optional and source.suffix != ".npz":
        return None
    if source.suffix not in (".npy", ".npz", ".csv"):
        raise InputError(f"data {str(source)!r}: the name must end in .npy, .npz or .csv")
    try:
        require_memory(3.0 * source.stat().st_size, f"reading {str(source)!r}")
        if source.suffix == ".csv":
            array: Any = _read_csv(source)
        else:
            array = np.load(source, allow_pickle=False)
            if source.suffix == ".npz":
                with array:
                    if optional and not set(names) & set(array.files):
                        return None
                    array = _member(array, names, source, optional)
    except OSError as error:
        raise InputError(f"cannot read {str(source)!r}: {error.strerror or error}") from error
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{str(source)!r} is not a {source.suffix} file of numbers: {error}") from error
    if not (isinstance(array, np.ndarray) and array.dtype.kind in "fiub"):
        raise InputError(f"{str(source)!r}: an array of real numbers is needed")
    return array.astype(np.float64)


def _member(archive: Any, names: tuple[str, ...], source: Path, named: bool) -> Any:
    if len(archive.files) == 1 and not named:
        return archive[archive.files[0]]
    for name in names:
        if name in archive.files:
            return archive[name]
    raise InputError(f"{str(source)!r}: one of the arrays {', '.join(names)} is needed; it has {archive.files}")


def _read_csv(source: Path) -> Array:
    """Numbers in rows; the first row is names if none of its cells is a number, and data otherwise."""
    with source.open(encoding="utf-8-sig") as file:  # a byte order mark is no part of the first cell
        first = [_is_number(cell) for cell in file.readline().split(",")]
    header = 0 if any(first) else 1
    try:
        return np.loadtxt(source, delimiter=",", skiprows=header, ndmin=2, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(_bad_cell(source, header) or str(error)) from error


def _bad_cell(source: Path, header: int) -> str:
    """Which cell is not a number, counted from 1 as in the file; empty where that is not what is wrong."""
    with source.open(encoding="utf-8-sig") as file:
        for row, line in enumerate(file, 1):
            cells = line.split("#")[0].strip().split(",")
            if row <= header or cells == [""]:
                continue
            for column, cell in enumerate(cells, 1):
                if not _is_number(cell):
                    other = "; a first row of names has no numbers" if row == 1 else ""
                    return f"row {row}, cell {column}: {show(cell.strip())} where a number is needed{other}"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
