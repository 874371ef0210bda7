"""Labels beside the fields of a result, and what is made of them: JSON documents and xarray data sets.

A field of a record says with :func:`labelled` over which dimensions its numbers run, in which unit, under which name
they are saved and whether they are in the JSON document. The field ``x_se`` is the standard error of ``x`` and shares
its label. A field without a label is in the JSON document alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, dataclass_transform

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray


T = TypeVar("T")

#: Dimensions, values, and attributes, as xarray takes them.
Variable: TypeAlias = tuple[tuple[str, ...], NDArray[Any], dict[str, str]]


@dataclass(frozen=True)
class _Label:
    """What :func:`labelled` was told about a field."""

    dims: tuple[str, ...]
    name: str | None
    about: str
    unit: str
    attribute: bool
    of: type | None
    stamped: bool

    @property
    def described(self) -> dict[str, str]:
        return {key: text for key, text in (("long_name", self.about), ("units", self.unit)) if text}


def labelled(
    *dims: str,
    name: str | None = None,
    about: str = "",
    unit: str = "",
    json: bool = True,
    saved: bool = True,
    optional: bool = False,
    attribute: bool = False,
    of: type | None = None,
    stamped: bool = False,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    repr: bool = True,
    compare: bool = True,
) -> Any:
    """A field of a record, with its label; it takes the place of :func:`dataclasses.field`.

    Parameters
    ----------
    dims
        The dimensions of the value, outermost first; none: a number or a word. A tuple of records has one, and each
        record is one entry along it: what they hold is stacked, with nan where an entry has less than another.
    name
        Under which the value is saved; default: that of the field. In front of the names of what a record, a tuple of
        records or a mapping holds (``""``: nothing in front). A variable named like its only dimension is the
        coordinate of that dimension.
    about, unit
        What it is, and in which unit: ``long_name`` and ``units`` of the variable.
    json, saved
        Whether it is in the JSON document, and in the data set.
    optional
        Whether it is left out of the JSON document where it is ``None``.
    attribute
        Saved as an attribute of the data set rather than as a variable.
    of
        For a tuple of records: their type, so that the variables exist, without entries, where the tuple is empty
        (those whose default is ``None`` do not). Without it an empty tuple saves nothing.
    stamped
        For a tuple of records: in JSON each says the seed and the version of the record that holds it.
    default, default_factory, repr, compare
        As in :func:`dataclasses.field`.
    """
    metadata: dict[str, Any] = {"json": json, "optional": optional}
    if saved:
        metadata["label"] = _Label(dims, name, about, unit, attribute, of, stamped)
    if default_factory is not MISSING:
        return field(default_factory=default_factory, repr=repr, compare=compare, metadata=metadata)
    return field(default=default, repr=repr, compare=compare, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(field, labelled))
def record(cls: type[T]) -> type[T]:
    """Make a subclass of :class:`~featurephase.results.base.Record` a frozen dataclass with keyword arguments.

    How records are compared is written there, because arrays have no single truth value.
    """
    return dataclass(frozen=True, kw_only=True, eq=False)(cls)


# ---- JSON


def jsonable(value: Any) -> Any:
    """Turn ``value`` into what the ``json`` module writes without loss or complaint.

    Arrays become nested lists (first index first), records and mappings become objects, non-finite floats the
    strings ``"inf"``, ``"-inf"``, ``"nan"``.

    Raises
    ------
    TypeError
        If ``value`` has no JSON form.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
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
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return document(value)
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def document(value: Any) -> dict[str, Any]:
    """The JSON object of a dataclass: every field that is not marked otherwise, in the order of the class."""
    out: dict[str, Any] = {}
    for f in fields(value):
        left_out = f.metadata.get("optional", False) and getattr(value, f.name) is None
        if f.metadata.get("json", True) and not left_out:
            out[f.name] = jsonable(getattr(value, f.name))
            label = _label(f)
            if label is not None and label.stamped:
                for entry in out[f.name]:
                    entry |= {"seed": value.seed, "version": value.version}
    return out


# ---- xarray


def _label(f: Field[Any]) -> _Label | None:
    label: _Label | None = f.metadata.get("label")
    return label


def _labelled_fields(kind: type) -> Iterator[tuple[Field[Any], _Label, str]]:
    """Fields with labels, and the names under which they are saved; ``x_se`` after the rules of ``x``."""
    every = {f.name: f for f in fields(kind)}
    for f in every.values():
        label = _label(f)
        if label is not None:
            yield f, label, f.name if label.name is None else label.name
            continue
        base = every.get(f.name.removesuffix("_se")) if f.name.endswith("_se") else None
        of_base = None if base is None else _label(base)
        if base is not None and of_base is not None:
            name = base.name if of_base.name is None else of_base.name
            about = f"standard error: {of_base.about}" if of_base.about else ""
            error = _Label(of_base.dims, None, about, of_base.unit, of_base.attribute, None, False)
            yield f, error, f"{name}_se" if name else "se"


def _joined(front: str, name: str) -> str:
    """``front_name``; the standard error of what is called ``front`` itself is ``front_se``."""
    return "_".join(part for part in (front, name) if part)


def variables(value: Any) -> dict[str, Variable]:
    """The labelled numbers of a record by name, those of the records it holds included.

    What a record adds in ``more_variables()`` comes last.

    Raises
    ------
    ValueError
        If entries stand at different places of the same coordinate.
    """
    out: dict[str, Variable] = {}
    for f, label, name in _labelled_fields(type(value)):
        if not label.attribute:
            out |= _variables_of(getattr(value, f.name), label, name)
    return out | dict(getattr(value, "more_variables", dict)())


def _variables_of(content: Any, label: _Label, name: str) -> dict[str, Variable]:
    if content is None:
        return {}
    if isinstance(content, Mapping):
        items = ((k, _variable(v, label)) for k, v in content.items())
        return {_joined(name, k): v for k, v in items}
    if is_dataclass(content):
        return _named_after(name, variables(content))
    if label.of is not None or (isinstance(content, (tuple, list)) and content and is_dataclass(content[0])):
        tables = [variables(entry) for entry in content]
        return _named_after(name, _stacked(tables or [schema(label.of)], label.dims[0], len(tables)))
    return {name: _variable(content, label)}


def _variable(content: Any, label: _Label) -> Variable:
    values = np.asarray(content)
    return label.dims, values, label.described


def _named_after(front: str, table: Mapping[str, Variable]) -> dict[str, Variable]:
    """The variables with a word in front; a coordinate keeps the name of its dimension."""
    return {name if _is_coordinate(name, v) else _joined(front, name): v for name, v in table.items()}


def _is_coordinate(name: str, variable: Variable) -> bool:
    return variable[0] == (name,)


def schema(kind: type | None) -> dict[str, Variable]:
    """The variables that records of this type have, of size 0; those that may be absent (default ``None``) left out."""
    if kind is None:
        return {}
    out: dict[str, Variable] = {}
    for f, label, name in _labelled_fields(kind):
        if label.attribute or f.default is None:
            continue
        if label.of is not None:
            out |= _named_after(name, _stacked([schema(label.of)], label.dims[0], 0))
        elif is_dataclass(part := cast(Any, f.default_factory)):
            out |= _named_after(name, schema(cast(type, part)))
        else:
            dtype = {"int": np.int64, "str": object, "Status": object}.get(str(f.type), np.float64)
            out[name] = label.dims, np.empty((0,) * len(label.dims), dtype=dtype), label.described
    return out


def _stacked(tables: Sequence[Mapping[str, Variable]], dim: str, count: int) -> dict[str, Variable]:
    """The variables of ``count`` entries along a new first dimension, nan (or no word) where an entry has none."""
    out: dict[str, Variable] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        present = [table[name] for table in tables if name in table]
        dims, _, described = present[0]
        if _is_coordinate(name, present[0]):
            out[name] = dims, _common([values for _, values, _ in present], name), described
            continue
        columns = [table[name][1] if name in table else None for table in tables]
        out[name] = (dim, *dims), _padded(columns, len(dims))[:count], described
    return out


def _common(coordinates: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    longest = max(coordinates, key=len)
    if any(not np.array_equal(c, longest[: len(c)]) for c in coordinates):
        raise ValueError(f"entries stand at different places along {name}: they cannot be stacked")
    return longest


def _padded(columns: Sequence[NDArray[Any] | None], dimensions: int) -> NDArray[Any]:
    """Arrays of the same number of dimensions as one array (columns, ..), nan or empty words beyond their ends."""
    given = [c for c in columns if c is not None]
    shape = tuple(max((c.shape[axis] for c in given), default=0) for axis in range(dimensions))
    if len(given) == len(columns) and all(c.shape == shape for c in given):
        return np.stack(given)
    words = any(c.dtype.kind in "UO" for c in given)
    out = np.full((len(columns), *shape), "" if words else np.nan, dtype=object if words else np.float64)
    for target, column in zip(out, columns, strict=True):
        if column is not None:
            target[tuple(slice(n) for n in column.shape)] = column
    return out


def attributes(value: Any) -> dict[str, Any]:
    """What the fields marked ``attribute=True`` say, as netCDF takes it, those of the records it holds included."""
    out: dict[str, Any] = {}
    for f, label, name in _labelled_fields(type(value)):
        content = getattr(value, f.name)
        if is_dataclass(content) and not label.attribute:
            out |= {_joined(name, key): word for key, word in attributes(content).items()}
        elif label.attribute and isinstance(content, Mapping):
            out |= {_joined(name, str(key)): _attribute(word) for key, word in content.items()}
        elif label.attribute and content is not None:
            out[name] = _attribute(content)
    return out


def _attribute(content: Any) -> Any:
    if isinstance(content, (bool, np.bool_)):
        return int(content)
    if isinstance(content, (tuple, list)):
        words = all(isinstance(word, str) for word in content)
        return "\n".join(content) if words else list(content)
    return str(content) if isinstance(content, str) else content


def dataset(value: Any, provenance: Mapping[str, Any], counted: Iterable[str] = ()) -> xarray.Dataset:
    """The labelled numbers of a record as a data set.

    Parameters
    ----------
    provenance
        Attributes besides those that the fields declare.
    counted
        Dimensions that get a coordinate that counts from 1: ``latent`` as g1, g2, .., others as numbers.
    """
    import xarray

    table = {
        name: (dims, values.astype(object) if values.dtype.kind == "U" else values, described)
        for name, (dims, values, described) in variables(value).items()
    }
    data = xarray.Dataset(table, attrs={**provenance, **attributes(value)})
    for dim in counted:
        if dim in data.sizes:
            numbers = np.arange(1, data.sizes[dim] + 1)
            names = np.array([f"g{j}" for j in numbers], dtype=object)
            data = data.assign_coords({dim: names if dim == "latent" else numbers})
    return data
