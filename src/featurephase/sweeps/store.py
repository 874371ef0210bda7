"""The store of a sweep: a zarr group with labelled dimensions, written cell by cell, so that a run can be taken up.

A cell is one chunk of each array. Every chunk ends in its CRC-32C, so that damage is seen; the flag ``done`` is written
last, and only what it marks is finished. Scalars are packed in ``numbers`` and texts in ``words``, because each array
costs about a millisecond a cell. At the end of a run they are also written under their names, with the consolidated
metadata that readers open fastest.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.sweeps.axes import Grid
from featurephase.sweeps.cells import Cell, Layout
from featurephase.sweeps.folder import (
    forget_consolidated,
    is_sound,
    is_store,
    locked,
    named,
    put_in_place,
    put_new,
    refuse_others,
    scratch_beside,
)

if TYPE_CHECKING:
    import xarray


#: Values of the flag ``done``; 0: not finished.
DONE, FAILED = 1, 2
_MEANINGS = "not_finished finished failed"


@dataclass(frozen=True)
class Plan:
    """What a store is to hold."""

    # The cells, and what each holds.
    grid: Grid
    layout: Layout
    keys: tuple[str, ...]  # a hash of the full input of each cell, in the order of the grid
    attributes: dict[str, Any]  # of the data set: what is swept, and from what

    @property
    def form(self) -> str:
        """The form of the store as text: two plans with the same form and the same keys can share one as it is."""
        form = {"axes": [[a.name, a.keys, a.values, a.labels] for a in self.grid.axes], "layout": asdict(self.layout)}
        return json.dumps(form, sort_keys=True)


class Store:
    """An open store; make one with :meth:`for_writing` or :meth:`for_reading`."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        import zarr

        self.folder = folder
        self._opened: dict[str, Any] = {}
        try:
            self.group = zarr.open_group(folder, mode="r+" if write else "r", use_consolidated=False)
            self.attributes: dict[str, Any] = dict(self.group.attrs)
            form = json.loads(self.attributes["form"])
            self.layout = Layout(**form["layout"])
            self.axes = tuple(axis[0] for axis in form["axes"])
            self.done = self._array("done")
            self.numbers = self._array("numbers")
            self.words = self._array("words")
        except OSError:
            raise
        except Exception as error:
            reason = f"its metadata are damaged or of another program ({error}); give another --store"
            raise InputError(f"{named(folder)}: {reason}") from error

    # ---- opening

    @staticmethod
    def for_reading(folder: Path) -> Store:
        """Open what is there.

        Raises
        ------
        InputError
            If it is no store of a sweep.
        """
        if not is_store(folder):
            raise InputError(f"{named(folder)}: is no store that featurephase sweep has written")
        return Store(folder, write=False)

    @staticmethod
    @contextlib.contextmanager
    def for_writing(folder: Path, plan: Plan, *, force: bool = False) -> Iterator[Store]:
        """Make or take up the store in ``folder``, alone: finished cells of the plan are kept.

        Raises
        ------
        InputError
            If another process uses it, the folder holds something else, or, without ``force``, finished cells that are
            not in the plan.
        OSError
            If it cannot be written.
        """
        if not is_store(folder):
            refuse_others(folder)
            put_new(_new_store(folder, plan), folder)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(folder))
            store = Store(folder, write=True)
            if store.attributes["form"] != plan.form or store.keys() != list(plan.keys):
                fresh = _rebuilt(store, plan, force)
                stack.enter_context(locked(fresh))
                put_in_place(fresh, folder)
                store = Store(folder, write=True)
            store.clean()
            yield store

    def _array(self, name: str) -> Any:
        import zarr

        if name not in self._opened:
            with zarr.config.set({"array.write_empty_chunks": True}):  # a chunk that is not there is one that was lost
                self._opened[name] = self.group[name]
        return self._opened[name]

    def keys(self) -> list[str]:
        """The hash of each cell."""
        return self.texts("key")

    def texts(self, name: str) -> list[str]:
        """An array of texts, cells in the order of the grid."""
        return [str(text) for text in np.asarray(self._array(name)[...]).reshape(-1)]

    # ---- cells

    def _chunks(self, place: Sequence[int], sizes: Mapping[str, int]) -> Iterator[Path]:
        """The files of a finished cell, as far as it has entries in them."""
        at = [str(i) for i in place]
        for name, inner in (("done", ()), ("numbers", ("0",)), ("words", ("0",))):
            yield self.folder.joinpath(name, "c", *at, *inner)
        for name, dims in self.layout.arrays.items():
            if sizes and name in self.group:
                chunks = self._array(name).chunks[len(place) :]
                blocks = [max(1, -(-sizes.get(dim, 0) // n)) for dim, n in zip(dims, chunks, strict=True)]
                for block in np.ndindex(*blocks):
                    yield self.folder.joinpath(name, "c", *at, *map(str, block))

    def flags(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """``done`` of each cell; 0 where any of its chunks is damaged or lost."""
        shape = self.done.shape
        out = np.zeros(shape, dtype=np.int8)
        folder = self.folder / "done"
        for place in np.ndindex(*shape):
            flag = folder.joinpath("c", *map(str, place))
            if is_sound(flag):
                value = int.from_bytes(flag.read_bytes()[:1], "little", signed=True)
                if value in (DONE, FAILED) and all(map(is_sound, self._chunks(place, self._sizes(place)))):
                    out[place] = value
        return out

    def _sizes(self, place: Sequence[int]) -> dict[str, int]:
        """Entries that a cell has along each inner dimension."""
        if not self.layout.arrays or not is_sound(self.folder.joinpath("numbers", "c", *map(str, place), "0")):
            return {}
        numbers = dict(zip(self.layout.numbers, self.numbers[tuple(place)], strict=True))
        counts = {dim: numbers[f"{dim}_count"] for dim in self.layout.inner}
        return {dim: int(count) for dim, count in counts.items() if np.isfinite(count)}

    def write(self, place: tuple[int, ...], cell: Cell) -> None:
        """Write a cell, its flag last.

        Raises
        ------
        OSError
            If the disk is full or may not be written any more; the cell is then not finished.
        """
        with self._faults():
            self.done[place] = 0
            self._write_arrays(place, cell)
            self.numbers[place] = np.array([cell.numbers.get(name, np.nan) for name in self.layout.numbers])
            self.words[place] = np.array([cell.words.get(name, "") for name in self.layout.words], dtype=object)
            self.done[place] = FAILED if cell.failed else DONE

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Faults of the system name the store."""
        try:
            yield
        except OSError as error:
            if error.errno is None:
                raise
            words = f"{os.strerror(error.errno)} (cells that are finished are kept; run it again to go on)"
            raise OSError(error.errno, words, os.fspath(self.folder)) from error

    @property
    def shaped(self) -> bool:
        """Whether the arrays of lists are there: the first finished cell says how long their chunks are."""
        return all(name in self.group for name in self.layout.arrays)

    def _write_arrays(self, place: tuple[int, ...], cell: Cell) -> None:
        if not cell.arrays:
            return
        for name, dims in self.layout.arrays.items():
            values = cell.arrays.get(name, np.empty((0,) * len(dims)))
            outer = self.done.shape
            if name not in self.group:
                chunk = tuple(max(1, n) for n in values.shape)
                own = (*(1 for _ in outer), *chunk)
                _create(self.group, name, (*self.axes, *dims), (*outer, *chunk), cell=own)
            array = self._array(name)
            inner = tuple(max(a, b) for a, b in zip(array.shape[len(outer) :], values.shape, strict=True))
            if inner != array.shape[len(outer) :]:
                array.resize((*outer, *inner))
            block = tuple(-(-max(1, n) // c) * c for n, c in zip(values.shape, array.chunks[len(outer) :], strict=True))
            padded = np.full(tuple(min(a, b) for a, b in zip(block, inner, strict=True)), np.nan)
            padded[tuple(slice(n) for n in values.shape)] = values
            array[(*place, *(slice(n) for n in padded.shape))] = padded

    def read(self, place: tuple[int, ...], flag: int) -> Cell:
        """A finished cell."""
        sizes = self._sizes(place)
        arrays = {}
        for name, dims in self.layout.arrays.items():
            if name in self.group and all(dim in sizes for dim in dims):
                arrays[name] = self._array(name)[(*place, *(slice(sizes[dim]) for dim in dims))]
        numbers = dict(zip(self.layout.numbers, map(float, self.numbers[place]), strict=True))
        words = dict(zip(self.layout.words, map(str, self.words[place]), strict=True))
        return Cell(numbers, words, arrays, failed=flag == FAILED)

    # ---- before and after a run

    def clean(self) -> None:
        """Take away what a killed run has left: files that were never renamed."""
        for part in self.folder.rglob("*.partial"):
            part.unlink(missing_ok=True)

    def begin(self) -> None:
        """Before cells are computed: what was made of the older ones goes."""
        with self._faults():
            forget_consolidated(self.folder)
            for name in self._made_names():
                if name in self.group:
                    del self.group[name]

    def _made_names(self) -> list[str]:
        return [*self.layout.numbers, *self.layout.words, *self.layout.inner]

    def finish(self, data: xarray.Dataset, attributes: Mapping[str, Any]) -> None:
        """Write the variables under their names, the attributes, and the consolidated metadata."""
        import zarr

        with self._faults():
            for name in self._made_names():
                if name in data.variables:
                    variable = data[name].variable
                    self._opened.pop(name, None)
                    array = _create(self.group, name, variable.dims, variable.shape, values=variable.values)
                    array.attrs.update(variable.attrs)
            for name in self.layout.arrays:
                if name in self.group:
                    self._array(name).attrs.update(self.layout.about.get(name, {}))
            self.group.attrs.update(dict(attributes))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(self.group.store)

    def dataset(self, flags: np.ndarray[Any, np.dtype[np.int8]] | None = None) -> xarray.Dataset:
        """The finished cells as a labelled data set; the others are nan, or empty words."""
        import xarray

        flags = self.flags() if flags is None else flags
        there = flags > 0
        data = xarray.Dataset(attrs={k: v for k, v in self.attributes.items() if k not in ("form", "coordinates")})
        for name in str(self.attributes["coordinates"]).split():
            array = self._array(name)
            values = np.asarray(array[...])
            values = values if values.dtype.kind in "biuf" else values.astype(object)
            data = data.assign_coords({name: (array.metadata.dimension_names, values)})
        table: dict[str, Any] = {"done": (self.axes, flags, dict(self.done.attrs))}
        for names, packed, empty in (
            (self.layout.numbers, self.numbers, np.nan),
            (self.layout.words, self.words, ""),
        ):
            columns = np.moveaxis(self._packed(packed, there, empty), -1, 0)
            for name, column in zip(names, columns, strict=True):
                table[name] = (self.axes, column, self.layout.about.get(name, {}))
        for name, dims in self.layout.arrays.items():
            if name in self.group:
                values = self._packed(self._array(name), there, np.nan)
                table[name] = ((*self.axes, *dims), values, self.layout.about.get(name, {}))
        return _with_common_places(data.assign(table), self.layout, there)

    def _packed(self, array: Any, there: np.ndarray[Any, Any], empty: Any) -> np.ndarray[Any, Any]:
        """An array, read at the finished cells alone: the others may be damaged."""
        out: np.ndarray[Any, Any] = np.full(array.shape, empty, dtype=object if empty == "" else np.float64)
        if there.all():
            out[...] = array[...]
        else:
            for place in np.argwhere(there):
                out[tuple(place)] = array[tuple(int(i) for i in place)]
        return out


def _with_common_places(data: xarray.Dataset, layout: Layout, there: np.ndarray[Any, Any]) -> xarray.Dataset:
    """Places along an inner dimension become its coordinate, where all cells agree on them."""
    for name in layout.arrays:
        dim = name.removesuffix("_at")
        if dim == name or name not in data or data[name].dims[-1] != dim:
            continue
        rows = data[name].values[there]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no cell is so long
            common = np.nanmax(rows, axis=0) if len(rows) else np.empty(0)
        if len(rows) and np.all((rows == common) | np.isnan(rows)) and not np.isnan(common).any():
            data = data.assign_coords({dim: ((dim,), common)}).drop_vars(name)
    return data


def open_dataset(folder: Path) -> tuple[Store, xarray.Dataset]:
    """A store that nobody need have finished, and its data set."""
    store = Store.for_reading(folder)
    return store, store.dataset()


# ---- files


def _create(
    group: Any,
    name: str,
    dims: Sequence[Any],
    shape: Sequence[int],
    *,
    cell: Sequence[int] | None = None,
    kind: Any = np.float64,
    values: Any = None,
) -> Any:
    """A new array whose chunks, ``cell`` or all of it, end in their CRC-32C; ``kind`` object: texts in UTF-8."""
    from zarr.codecs import Crc32cCodec

    kind = np.dtype(kind if values is None else values.dtype)
    text = kind.kind not in "biuf"
    array = group.create_array(
        name,
        shape=tuple(shape),
        chunks=tuple(max(1, n) for n in (shape if cell is None else cell)),
        dtype="string" if text else kind,
        fill_value="" if text else (np.nan if kind.kind == "f" else 0),
        compressors=[Crc32cCodec()],
        dimension_names=tuple(map(str, dims)),
        overwrite=True,
    )
    if values is not None:
        array[...] = values
    return array


def _new_store(folder: Path, plan: Plan) -> Path:
    """A store without cells, under another name beside ``folder``."""
    import zarr

    with scratch_beside(folder) as scratch:
        group = zarr.open_group(scratch, mode="w", zarr_format=3)
        names, outer, layout = plan.grid.names, plan.grid.shape, plan.layout
        coordinates: dict[str, Any] = {}
        for axis in plan.grid.axes:
            coordinates |= {key: ((axis.name,), axis.coordinate(i)) for i, key in enumerate(axis.keys)}
        for name, (dims, values) in coordinates.items():
            _create(group, name, dims, values.shape, values=values)
        for name, of, kind, columns in (
            ("numbers", "number", np.float64, layout.numbers),
            ("words", "word", object, layout.words),
        ):
            _create(group, of, (of,), (len(columns),), values=np.array(columns, dtype=object))
            cell = (*(1 for _ in outer), len(columns))
            _create(group, name, (*names, of), (*outer, len(columns)), cell=cell, kind=kind)
        _create(group, "key", names, outer, values=np.array(plan.keys, dtype=object).reshape(outer))
        done = _create(group, "done", names, outer, cell=[1 for _ in outer], kind=np.int8)
        done.attrs.update(
            {"flag_values": [0, DONE, FAILED], "flag_meanings": _MEANINGS, "long_name": "state of the cell"}
        )
        group.attrs.update({**plan.attributes, "form": plan.form, "coordinates": " ".join(coordinates)})
    return scratch


def _rebuilt(store: Store, plan: Plan, force: bool) -> Path:
    """A store of another form, under another name, with the finished cells of the old one that are in the plan.

    Raises
    ------
    InputError
        If finished cells are not in the plan, unless ``force``.
    """
    if store.attributes.get("contents") != plan.attributes["contents"]:
        raise InputError(f"{named(store.folder)} holds something else: give another --store")
    flags = store.flags()
    old = dict(zip(store.keys(), np.ndindex(*flags.shape), strict=True))
    wanted = {key: plan.grid.at(i) for i, key in enumerate(plan.keys)}
    finished = {key: place for key, place in old.items() if flags[place] == DONE}
    lost = finished.keys() - wanted.keys()
    if lost and not force:
        raise InputError(
            f"{named(store.folder)} holds {len(lost):,} finished cells that are not in this sweep "
            "(other axes, quantities or base, or an older version of the numbers): give another --store, or --force to "
            "drop them"
        )
    fresh = _new_store(store.folder, plan)
    copy = Store(fresh, write=True)
    for key in [key for key in plan.keys if key in old and flags[old[key]] > 0]:
        copy.write(wanted[key], store.read(old[key], int(flags[old[key]])))
    return fresh
