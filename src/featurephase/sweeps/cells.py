"""One cell of a sweep: which numbers it holds, how they are computed, and how they are taken from results."""

from __future__ import annotations

import math
import resource
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featurephase.foundation.errors import FeaturephaseError, FeaturephaseWarning, InputError, show, suggest
from featurephase.foundation.types import Array
from featurephase.results.base import Result
from featurephase.results.labels import attributes, variables
from featurephase.results.status import FINE, OK
from featurephase.sweeps.bases import Base

#: Status of a cell that ended in an error, which its message says.
ERROR = "error"


@dataclass(frozen=True)
class Layout:
    """What every cell of a sweep holds."""

    # Names of its scalars, which are packed in one array: quantities with their standard errors, how many entries
    # it has along each inner dimension, seconds and memory.
    numbers: tuple[str, ...]
    words: tuple[str, ...]  # names of its texts: status, message, and quantities that are words
    # Name -> inner dimensions; ``time_at`` holds the places of the entries along ``time``.
    arrays: dict[str, tuple[str, ...]] = field(default_factory=dict)
    about: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> attributes

    def __post_init__(self) -> None:
        """Tuples, also of the lists that a document of JSON has."""
        for name in ("numbers", "words"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "arrays", {name: tuple(dims) for name, dims in self.arrays.items()})

    @property
    def inner(self) -> tuple[str, ...]:
        """The dimensions beside the axes."""
        return tuple(dict.fromkeys(dim for dims in self.arrays.values() for dim in dims))


@dataclass(frozen=True)
class Cell:
    """The content of one cell; ``failed``: it ended in an error, or something asked for does not exist."""

    numbers: Mapping[str, float]
    words: Mapping[str, str]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    failed: bool = False


def layout_of(base: Base, quantities: Any) -> Layout:
    """What cells hold that have these quantities.

    Raises
    ------
    InputError
        For a quantity that the base does not have, or none at all.
    """
    if not isinstance(quantities, (list, tuple)) or not quantities:
        raise InputError(f"quantities = {show(quantities)}: must be a list of at least one name")
    known = base.known()
    taken = (*_BESIDES, "done", "numbers", "number", "words", "word", "key")
    askable = [
        name
        for name, (dims, _, _) in known.items()
        if name and not name.endswith("_se") and dims != (name,) and name not in taken
    ]
    numbers: list[str] = []
    words = ["status", "message"]
    arrays: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(quantities):
        if not isinstance(name, str) or name not in askable:
            raise InputError(f"unknown quantity {show(name)}: {suggest(str(name), askable)}")
        dims = tuple(dim for dim in known[name][0] if dim not in base.single())
        text = known[name][1].dtype.kind in "OU"
        if text and dims:
            raise InputError(f"quantity {show(name)}: a list of words has no place in a sweep")
        both = [name, *([f"{name}_se"] if f"{name}_se" in known else [])]
        if text:
            words.append(name)
        elif dims:
            arrays |= dict.fromkeys(both, dims)
        else:
            numbers += both
    for dim in dict.fromkeys(dim for dims in arrays.values() for dim in dims):
        numbers.append(f"{dim}_count")
        if dim in known and known[dim][0] == (dim,) and known[dim][1].dtype.kind not in "OU":
            arrays[f"{dim}_at"] = (dim,)
    about = {name: known[name][2] for name in (*numbers, *words, *arrays) if name in known and known[name][2]}
    return Layout((*numbers, "seconds", "memory"), tuple(words), arrays, about | _BESIDES)


_BESIDES = {
    "seconds": {"long_name": "time that the cell took", "units": "s"},
    "memory": {"long_name": "peak memory of the process that computed it", "units": "byte"},
    "status": {"long_name": "ok, or why something asked for does not exist"},
    "message": {"long_name": "the same for people"},
}


def compute(base: Base, changes: Mapping[str, Any], quantities: tuple[str, ...], layout: Layout) -> Cell:
    """One cell; whatever goes wrong is kept in it."""
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FeaturephaseWarning)
            results = base.results(changes, quantities)
        cell = _taken(results, base, quantities, layout)
    except Exception as error:  # also a defect of one cell costs that cell alone
        cell = failed_cell(error)
    spent = {"seconds": time.perf_counter() - began, "memory": _peak_memory()}
    return Cell({**cell.numbers, **spent}, cell.words, cell.arrays, cell.failed)


def failed_cell(error: Exception) -> Cell:
    """A cell that ended in an error; a defect says its kind."""
    message = str(error) if isinstance(error, FeaturephaseError) else f"{type(error).__name__}: {error}"
    return Cell({"seconds": math.nan, "memory": math.nan}, {"status": ERROR, "message": message}, failed=True)


def _peak_memory() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _taken(results: Sequence[Result], base: Base, quantities: tuple[str, ...], layout: Layout) -> Cell:
    """The quantities of a cell from its results."""
    table: dict[str, tuple[tuple[str, ...], Any]] = {}
    for result in reversed(results):
        said: dict[str, Any] = result.provenance() | attributes(result)
        table |= {name: ((), word) for name, word in said.items()}
        table |= {name: (dims, values) for name, (dims, values, _) in variables(result).items()}
    bad = [result for result in results if result.status not in FINE]
    messages = dict.fromkeys(result.message for result in (bad or results) if result.message)
    status = bad[0].status if bad else OK
    texts = {name: str(table[name][1]) for name in layout.words[2:] if name in table}
    numbers: dict[str, float] = {}
    arrays: dict[str, Array] = {}
    for name in layout.numbers:
        if name in table:
            values = np.asarray(table[name][1], dtype=np.float64)
            numbers[name] = float(values.item()) if values.size == 1 else math.nan
    for name, wanted in layout.arrays.items():
        source = name.removesuffix("_at") if name.endswith("_at") and name not in table else name
        if source in table:
            arrays[name] = _squeezed(*table[source], wanted)
            numbers |= {f"{d}_count": float(n) for d, n in zip(wanted, arrays[name].shape, strict=True)}
    missing = [name for name in quantities if _is_missing(name, numbers, arrays, texts)]
    texts |= {"status": str(status), "message": "; ".join(messages)}
    return Cell(numbers, texts, arrays, failed=bool(bad and missing))


def _squeezed(dims: tuple[str, ...], values: Any, wanted: tuple[str, ...]) -> Array:
    """Without the dimensions along which every cell has one entry; an entry that is not there leaves nothing."""
    array = np.asarray(values, dtype=np.float64)
    where = tuple(slice(None) if dim in wanted else 0 for dim in dims)
    if any(dim not in wanted and n == 0 for dim, n in zip(dims, array.shape, strict=True)):
        return np.empty((0,) * len(wanted))
    return array[where]


def _is_missing(name: str, numbers: Mapping[str, float], arrays: Mapping[str, Array], words: Mapping[str, str]) -> bool:
    if name in words:
        return False
    return bool(np.isnan(arrays[name]).any()) if name in arrays else math.isnan(numbers.get(name, math.nan))
