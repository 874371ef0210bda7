"""The axes of a sweep: which keys change, through which values, and what the cells of their product are."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurephase.foundation.errors import InputError, show, suggest
from featurephase.foundation.numbers import is_number, is_whole, plain

#: Most cells of a sweep: one of trivial cells then takes some hours.
MAX_CELLS = 1_000_000
_SPACINGS = ("values", "range", "logrange")
_ACCEPTED = "key and one of values = [..], range = [first, last, count], logrange = [first, last, count]"


@dataclass(frozen=True)
class Axis:
    """Keys that change together, and their values."""

    keys: tuple[str, ...]  # the first one names the dimension
    values: tuple[tuple[Any, ...], ...]  # a row for each key, as long as the axis
    labels: tuple[str, ...] = ()  # names of the entries, where the values of the first key are no numbers or texts

    @property
    def name(self) -> str:
        """The dimension: the first key."""
        return self.keys[0]

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.values[0])

    def changes(self, index: int) -> dict[str, Any]:
        """The keys with their values at one entry."""
        return {key: row[index] for key, row in zip(self.keys, self.values, strict=True)}

    def coordinate(self, number: int) -> Any:
        """The values of one key as an array of numbers or of texts."""
        row = self.values[number]
        if number == 0 and self.labels:
            return np.array(self.labels, dtype=object)
        if all(is_number(value) for value in row):
            numbers = np.array(row, dtype=np.float64)
            whole = all(is_whole(value) and abs(value) < 2**53 for value in row)
            return numbers.astype(np.int64) if whole else numbers
        return np.array([v if isinstance(v, str) else json.dumps(v) for v in row], dtype=object)


@dataclass(frozen=True)
class Grid:
    """The product of axes; its cells are counted with the last axis fastest."""

    axes: tuple[Axis, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    def at(self, cell: int) -> tuple[int, ...]:
        """The place of a cell along each axis."""
        return tuple(int(i) for i in np.unravel_index(cell, self.shape)) if self.shape else ()

    def changes(self, place: Sequence[int]) -> dict[str, Any]:
        """The keys that change, with their values in one cell."""
        out: dict[str, Any] = {}
        for axis, index in zip(self.axes, place, strict=True):
            out |= axis.changes(index)
        return out


def axes_of(tables: Iterable[Mapping[str, Any]]) -> Grid:
    """The grid that the tables ``[[axis]]`` of a sweep file describe.

    Raises
    ------
    InputError
        For an unknown or missing word, a list of no values, paired lists of different lengths, a key that occurs
        twice, or more than :data:`MAX_CELLS` cells; the message says what was given.
    """
    given = [_checked(table) for table in tables]
    if not given:
        raise InputError(f"no axis: a sweep needs at least one table [[axis]] with {_ACCEPTED}")
    sizes = [_size(table) for table in given]
    total = math.prod(sizes)
    if total > MAX_CELLS:
        shape = " x ".join(f"{n:,}" for n in sizes)
        raise InputError(f"the axes make {total:,} cells ({shape}); at most {MAX_CELLS:,} are accepted")
    axes: dict[str, Axis] = {}
    for table in given:
        axis = _axis(table)
        _refuse_clashes(axes.values(), axis)
        partner = table.get("with")
        if isinstance(partner, str):
            owner = _owner(axes, partner, axis)
            axes[owner.name] = Axis(owner.keys + axis.keys, owner.values + axis.values, owner.labels)
        else:
            axes[axis.name] = axis
    return Grid(tuple(axes.values()))


def _checked(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"axis = {show(given)}: must be a table [[axis]] with {_ACCEPTED}")
    table = {word: _listed(value) for word, value in given.items()}
    accepted = ("key", *_SPACINGS, "with", "labels")
    for word in table:
        if word not in accepted:
            raise InputError(f"unknown key {show(word)} in [[axis]]: {suggest(str(word), accepted)}")
    key = table.get("key")
    paired = table.get("with")
    if key is None and isinstance(paired, Mapping) and paired:
        key = table["key"] = next(iter(paired))
    if not isinstance(key, str) or not key.strip():
        raise InputError(f'axis.key = {show(key)}: must be the name of a key, such as "student.activation"')
    ways = [word for word in _SPACINGS if word in table]
    inside = isinstance(paired, Mapping) and key in paired
    if ways and inside:
        raise InputError(f"axis {show(key)}: given {' and '.join(ways)}, and again in with: give its values once")
    if len(ways) + inside != 1:
        raise InputError(f"axis {show(key)}: given {' and '.join(ways) or 'no values'}; needs {_ACCEPTED}")
    if paired is not None and not isinstance(paired, (str, Mapping)):
        raise InputError(
            f"axis {show(key)}: with = {show(paired)}: must be a table of further keys and their values, "
            'such as {"training.steps" = [..]}, or the key of an axis above, along which this one changes'
        )
    return table


def _listed(value: Any) -> Any:
    """What can be gone through once only, such as a generator, as a list."""
    return list(itertools.islice(value, MAX_CELLS + 1)) if isinstance(value, Iterator) else value


def _spaced(key: str, word: str, value: Any) -> tuple[float, float, int]:
    """First, last and count of a range."""
    accepted = f"axis {show(key)}: {word} = {show(value)}: must be [first, last, count], count a whole number >= 1"
    if not (isinstance(value, (list, tuple)) and len(value) == 3 and all(map(is_number, value))):
        raise InputError(accepted)
    first, last, count = (plain(number) for number in value)
    if not (math.isfinite(first) and math.isfinite(last) and is_whole(count) and count >= 1):
        raise InputError(accepted)
    if word == "logrange" and not (first > 0 and last > 0):
        raise InputError(f"{accepted}; first and last above 0")
    return float(first), float(last), int(count)


def _size(table: Mapping[str, Any]) -> int:
    """Number of entries of an axis, before any list is made; an axis along another one adds none."""
    key = table["key"]
    for word in ("range", "logrange"):
        if word in table:
            return 1 if isinstance(table.get("with"), str) else _spaced(key, word, table[word])[2]
    values = table.get("values")
    if values is None:
        values = table["with"][key]
    if hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InputError(f"axis {show(key)}: values = {show(values)}: must be a list of at least one value")
    count = len(list(values))
    if not count:
        raise InputError(f"axis {show(key)}: values = []: must be a list of at least one value")
    return 1 if isinstance(table.get("with"), str) else count


def _row(key: str, table: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of an axis."""
    for word in ("range", "logrange"):
        if word in table:
            first, last, count = _spaced(key, word, table[word])
            if count > MAX_CELLS:
                raise InputError(f"axis {show(key)}: {word} of {count:,} values; at most {MAX_CELLS:,} are accepted")
            spaced = (np.linspace if word == "range" else np.geomspace)(first, last, count)
            rounded = (float(f"{x:.15g}") for x in spaced)  # 0.3, and not 0.30000000000000004
            return tuple(int(x) if x == int(x) and abs(x) < 2**53 else x for x in rounded)
    values = table["values"] if "values" in table else table["with"][key]
    return tuple(plain_value(f"axis {key}", value) for value in values)


def _axis(table: Mapping[str, Any]) -> Axis:
    key = table["key"]
    keys, rows = [key], [_row(key, table)]
    size = len(rows[0])
    paired = table.get("with")
    for other, values in paired.items() if isinstance(paired, Mapping) else ():
        if other == key:
            continue
        if not isinstance(values, (list, tuple, np.ndarray)) or len(values) != size:
            raise InputError(
                f"axis {show(key)}: with {other} = {show(values)}: must be a list of {size} values, as many as "
                f"{key} has"
            )
        keys.append(str(other))
        rows.append(tuple(plain_value(f"axis {other}", value) for value in values))
    labels = table.get("labels", ())
    words = isinstance(labels, (list, tuple)) and all(isinstance(word, str) for word in labels)
    if "labels" in table and not (words and len(set(labels)) == len(labels) == size):
        raise InputError(f"axis {show(key)}: labels = {show(labels)}: must be {size} different texts, one a value")
    seen: set[str] = set()
    for entry in zip(*rows, strict=True):
        text = json.dumps([float(value) if is_number(value) else value for value in entry])
        if text in seen:
            raise InputError(f"axis {show(key)}: the value {show(entry[0])} is given twice")
        seen.add(text)
    return Axis(tuple(keys), tuple(rows), tuple(labels))


def _owner(axes: Mapping[str, Axis], partner: str, axis: Axis) -> Axis:
    """The axis that has the key ``partner``."""
    owner = next((other for other in axes.values() if partner in other.keys), None)
    if owner is None:
        raise InputError(f"axis {show(axis.name)}: with = {show(partner)}: no axis above has that key")
    if owner.size != axis.size:
        raise InputError(
            f"axis {show(axis.name)}: {axis.size} values with {show(partner)}, which has {owner.size}: "
            "keys that change together need as many values"
        )
    return owner


#: Keys that exclude each other in one table.
_EXCLUDING = (("student.init_gram", "student.init_norm"), ("loss.name", "loss.expression"))


def _refuse_clashes(before: Iterable[Axis], axis: Axis) -> None:
    others = [key for other in before for key in other.keys]
    for number, key in enumerate(axis.keys):
        if key in others or key in axis.keys[:number]:
            raise InputError(f"axis {show(key)}: two axes change the same key")
        for pair in _EXCLUDING:
            if key in pair and set(pair) <= {*others, *axis.keys}:
                raise InputError(f"axes {pair[0]} and {pair[1]} clash: they exclude each other")


def plain_value(key: str, value: Any) -> Any:
    """A value as the experiment file would have it: numbers, texts, lists and tables of Python.

    Raises
    ------
    InputError
        If it is anything else, such as a Python function, which cannot be written down.
    """
    if hasattr(value, "to_spec"):
        return value.to_spec()
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, Mapping):
        return {str(name): plain_value(key, entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(key, entry) for entry in value]
    if isinstance(value, (bool, str)) or (is_number(value) and not isinstance(value, complex)):
        return value if isinstance(value, (bool, str)) else plain(value)
    raise InputError(f"{key} = {show(value)}: must be a number, a text, a list or a table")
