"""The user's own features and labels, as training data.

The theory is for isotropic Gaussian features: whether it holds on others is what a run on them shows.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.memory import require_memory
from featurephase.foundation.numbers import is_number, plain
from featurephase.foundation.types import Array
from featurephase.functions import Link

Header: TypeAlias = Literal["auto", "yes", "no"]

#: What reading a damaged file raises; RuntimeError: encrypted, or a compression that Python does not know.
_DAMAGED = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
#: Directions whose variance is below this fraction of the largest are not whitened but left out: they are round-off.
_NULL = 1e-10


@dataclass(frozen=True)
class UserData:
    """Features (n, d), labels or ``None`` where the link is to label them, and the share held out for testing.

    Labels are (n,) numbers or classes 0..K-1, or (n, C): vectors, or classes one-hot.

    Features and labels may be arrays of any real type, and what NumPy makes arrays of: tables of pandas, tensors.

    Attributes
    ----------
    notes
        What was taken for granted when a file was read, for people.

    Raises
    ------
    InputError
        If the shapes do not fit, or an entry is no finite number.
    """

    features: Array
    labels: Array | None = None
    held_out: float = 0.2
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _real("data", self.features))
        if self.labels is not None:
            labels = _real("labels", self.labels)
            one = labels.ndim == 2 and 1 in labels.shape
            object.__setattr__(self, "labels", labels.ravel() if one else labels)
        held_out = plain(self.held_out)
        if not is_number(held_out) or not 0 <= held_out < 1:
            raise InputError(f"held_out = {show(held_out)}: must be a number from 0 to 1, 1 excluded")
        object.__setattr__(self, "held_out", float(held_out))
        if self.features.ndim != 2 or min(self.features.shape, default=0) < 2:
            raise InputError(f"data: an array of n >= 2 rows and d >= 2 columns is needed; got {self.features.shape}")
        if self.labels is not None and (self.labels.ndim > 2 or self.labels.shape[:1] != (len(self.features),)):
            raise InputError(
                f"labels: one number for each of the {len(self.features)} rows is needed; got {self.labels.shape}"
            )
        for name, values in (("data", self.features), ("labels", self.labels)):
            if values is not None and not np.all(np.isfinite(values)):
                raise InputError(f"{name}: {np.count_nonzero(~np.isfinite(values))} entries are not finite")

    def responses(self, link: Link) -> Array:
        """The labels as the responses of a link: (n,) numbers or classes, (n, C) vectors.

        Raises
        ------
        InputError
            If they are no such responses, or a class never occurs.
        """
        assert self.labels is not None
        labels, rows, name = self.labels, len(self.features), self.labels.shape
        if link.classes and labels.ndim == 2 and labels.shape[1] == link.classes:
            one_hot = np.all((labels == 0.0) | (labels == 1.0)) and np.all(labels.sum(axis=1) == 1.0)
            labels = np.array(link.labels)[np.argmax(labels, axis=1)] if one_hot else labels
        shape = (rows, link.components) if link.components else (rows,)
        if labels.shape != shape:
            kind = f"one class of {link.classes} (or its one-hot row)" if link.classes else "one number"
            kind = f"{link.components} numbers" if link.components else kind
            raise InputError(f"labels: {kind} for each of the {rows} rows is needed; got {name}")
        if link.classes:
            there = np.unique(labels)
            if odd := np.setdiff1d(there, link.labels).tolist():
                raise InputError(f"labels: the classes are {_words(link.labels)}; {odd[0]:g} is none of them")
            if missing := np.setdiff1d(link.labels, there).tolist():
                raise InputError(f"labels: class {missing[0]:g} (of {_words(link.labels)}) never occurs in them")
        return labels

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
        white = centred @ (vectors[:, keep] / np.sqrt(values[keep]))
        return UserData(white, self.labels, self.held_out, self.notes)


def _words(labels: Sequence[float]) -> str:
    return ", ".join(f"{label:g}" for label in labels)


def _real(name: str, values: Any) -> Array:
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":  # a table of pandas with columns of several types
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: an array of real numbers is needed; {error}") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: an array of real numbers is needed; got {array.dtype}")
    return array.astype(np.float64)


def load_data(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    whiten: bool = False,
    held_out: float = 0.2,
    header: Header = "auto",
) -> UserData:
    """Features from a ``.npy``, ``.npz`` or ``.csv`` file, one row a sample.

    Parameters
    ----------
    path
        ``.npz``: the array ``x`` (or ``X``, ``features``, or the only one); ``.csv``: numbers separated by commas.
    labels
        A file with one number a row (``.npz``: the array ``y``, ``labels``, or the only one). ``None``: the array ``y``
        or ``labels`` of ``path`` if it is a ``.npz`` file with one; else the link labels the rows, with latent
        directions at random.
    whiten
        Whether to centre the features and turn their covariance into the identity.
    held_out
        The share of the rows that the test loss is measured on.
    header
        Whether the first row of a ``.csv`` file is a header: ``"yes"``, ``"no"``, or ``"auto"``: it is if none of its
        cells is a number, or if it counts 0, 1, 2, .. as pandas writes it for columns without names. A first column
        that has no name in the header is an index and left out. What was decided stands in ``notes``.

    Raises
    ------
    InputError
        If a file cannot be read or is not what is described here. Nothing in a file is ever executed.
    """
    if header not in ("auto", "yes", "no"):
        raise InputError(f"header = {show(header)}: must be auto, yes or no")
    table = _read(path, ("x", "X", "features"), header)
    assert table is not None
    column = _read(path if labels is None else labels, ("y", "labels"), header, optional=labels is None)
    if column is not None and header == "auto" and labels is not None and Path(labels).suffix.lower() == ".csv":
        column = _without_count(column, len(table.values))
    notes = table.notes + (() if column is None else column.notes)
    data = UserData(table.values, None if column is None else column.values, held_out, notes)
    return data.whitened() if whiten else data


class _Table(NamedTuple):
    """What was read from a file, and what was taken for granted."""

    values: Array
    notes: tuple[str, ...] = ()


def _without_count(labels: _Table, rows: int) -> _Table:
    """Labels of a .csv file without the header 0 that pandas writes for one column: the first of one too many."""
    values = labels.values.ravel()
    if labels.values.shape in ((rows + 1,), (rows + 1, 1)) and values[0] == 0.0:
        note = "the first label, 0, is taken as a header, for there is one more than rows; header='no' keeps it"
        return _Table(values[1:], (*labels.notes, note))
    return labels


def _read(
    path: str | os.PathLike[str], names: tuple[str, ...], header: Header, *, optional: bool = False
) -> _Table | None:
    """The array in a file; ``optional``: only an array of one of these names, ``None`` where there is none."""
    source = Path(path)
    notes: tuple[str, ...] = ()
    kind = source.suffix.lower()
    if optional and kind != ".npz":
        return None
    if kind not in (".npy", ".npz", ".csv"):
        raise InputError(f"data {str(source)!r}: the name must end in .npy, .npz or .csv")
    try:
        require_memory(3.0 * source.stat().st_size, f"reading {str(source)!r}")
        array: Any
        if kind == ".csv":
            array, notes = _read_csv(source, header)
        else:
            array = np.load(source, allow_pickle=False)
            if kind == ".npz":
                with array:
                    if optional and not set(names) & set(array.files):
                        return None
                    array = _member(array, names, source, optional)
    except OSError as error:
        raise InputError(f"cannot read {str(source)!r}: {error.strerror or error}") from error
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{str(source)!r} is not a {kind} file of numbers: {error}") from error
    if not (isinstance(array, np.ndarray) and array.dtype.kind in "fiub"):
        raise InputError(f"{str(source)!r}: an array of real numbers is needed")
    return _Table(array.astype(np.float64), notes)


def _member(archive: Any, names: tuple[str, ...], source: Path, named: bool) -> Any:
    if len(archive.files) == 1 and not named:
        return archive[archive.files[0]]
    for name in names:
        if name in archive.files:
            return archive[name]
    raise InputError(f"{str(source)!r}: one of the arrays {', '.join(names)} is needed; it has {archive.files}")


def _read_csv(source: Path, header: Header) -> _Table:
    """Numbers in rows, with or without a header and an index column."""
    with source.open(encoding="utf-8-sig") as file:  # a byte order mark is no part of the first cell
        first = [cell.strip().strip('"') for cell in file.readline().split(",")]
    index = len(first) > 1 and first[0] in ("", "Unnamed: 0")
    names = first[1:] if index else first
    counted = (index or len(names) > 1) and names == [str(i) for i in range(len(names))]
    numbers = any(map(_is_number, names))
    headed = header == "yes" or (header == "auto" and (counted or not numbers))
    notes = []
    if headed and numbers:
        other = "; --header no (header='no') reads it as a sample" if header == "auto" else ""
        notes.append(f"the first row of {source.name} ({show(','.join(first), 40)}) is taken as a header{other}")
    if headed and index:
        notes.append(f"the first column of {source.name} has no name and is left out as an index")
    columns = range(1, len(first)) if headed and index else None
    try:
        values = np.loadtxt(
            source, delimiter=",", skiprows=int(headed), ndmin=2, encoding="utf-8-sig", usecols=columns, quotechar='"'
        )
    except ValueError as error:
        raise ValueError(_bad_cell(source, int(headed)) or str(error)) from error
    return _Table(values, tuple(notes))


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
