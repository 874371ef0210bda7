"""What every result has in common: status, provenance, JSON, xarray, files, and one door to its table and figure.

A result is a frozen dataclass whose fields carry the words of the JSON documents, with labels beside them
(:mod:`featurephase.results.labels`). Non-finite numbers become the strings ``"inf"``, ``"-inf"`` and ``"nan"`` in JSON,
because JSON has no such numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from featurephase._version import __version__
from featurephase.foundation.files import save_dataset
from featurephase.foundation.statistics import mean_and_se
from featurephase.results.labels import Variable, dataset, document, jsonable, labelled, record
from featurephase.results.status import FINE, OK

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Record", "Result", "averaged", "averaged_over", "jsonable", "labelled", "paired", "record", "same_value"]


def paired(**pairs: Any) -> dict[str, Any]:
    """Values with their standard errors, ``x=(value, error)``, as the fields ``x`` and ``x_se`` of a record."""
    return {key: x for name, pair in pairs.items() for key, x in zip((name, f"{name}_se"), pair, strict=True)}


def averaged(**replicates: ArrayLike) -> dict[str, Any]:
    """Value and standard error of quantities known from replicates, as the fields of a record.

    Examples
    --------
    >>> averaged(overlap=[0.2, 0.4])
    {'overlap': 0.30000000000000004, 'overlap_se': 0.1}
    """
    means = {name: mean_and_se(values) for name, values in replicates.items()}
    return paired(**{name: pair if np.ndim(pair[0]) else tuple(map(float, pair)) for name, pair in means.items()})


def averaged_over(entries: Sequence[Any], *names: str) -> dict[str, Any]:
    """The same of attributes that every replicate has."""
    return averaged(**{name: [getattr(entry, name) for entry in entries] for name in names})


# ---- values


def same_value(a: Any, b: Any) -> bool:
    """Whether two contents of a field are equal: arrays entry by entry, containers by what they hold, nan as nan."""
    if a is b:
        return True
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        numbers = all(x.dtype.kind in "fc" for x in (a, b))
        return bool(np.array_equal(a, b, equal_nan=numbers))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    if isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b):
        return True
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same_value, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_value(a[key], b[key]) for key in a)
    if is_dataclass(a) and is_dataclass(b) and type(a) is type(b):
        return all(same_value(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.compare)
    return bool(a == b)


def _read_only(value: Any) -> Any:
    """The same content with arrays that nobody can write to: copies, so that the caller keeps the own ones."""
    if isinstance(value, np.ndarray) and value.flags.writeable:
        value = value.copy()
        value.flags.writeable = False
    elif type(value) in (tuple, list):
        value = type(value)(_read_only(v) for v in value)
    elif type(value) is dict:
        value = {k: _read_only(v) for k, v in value.items()}
    return value


@record
class Record:
    """Frozen data with labels: a result, or a part of one.

    Records are equal if their types and all their values are, nan counting as equal to nan. Their arrays are read-only.
    They are not hashable, because arrays and mappings are not.
    """

    def __post_init__(self) -> None:
        self._make_read_only()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_read_only()  # unpickled arrays are not

    def _make_read_only(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _read_only(getattr(self, f.name)))

    def __eq__(self, other: object) -> bool:
        return same_value(self, other) if type(self) is type(other) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, as plain Python values."""
        return document(self)

    def more_variables(self) -> Mapping[str, Variable]:
        """Variables of the data set that no single field holds: name -> (dimensions, values, attributes)."""
        return {}


@record
class Result(Record):
    """Base of all results.

    Attributes
    ----------
    status
        ``"ok"`` or the reason why something asked for does not exist (:mod:`featurephase.results.status`).
    message
        The same for people: one or a few sentences, empty where there is nothing to say.
    seed
        Seed of the random numbers, ``None`` for a deterministic result.
    version
        Version of featurephase that made it.
    """

    #: Dimensions of the data set that get a coordinate that counts from 1.
    counted: ClassVar[tuple[str, ...]] = ()

    status: str = OK
    message: str = ""
    seed: int | None = None
    version: str = __version__

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for exists (exit code 0 rather than 3)."""
        return self.status in FINE

    def noted(self, note: str) -> Self:
        """The same result with a sentence added to its message."""
        return replace(self, message="; ".join(part for part in (self.message, note) if part))

    def to_xarray(self) -> xarray.Dataset:
        """The numbers as a labelled data set with provenance in its attributes."""
        return dataset(self, self.provenance(), self.counted)

    def provenance(self) -> dict[str, Any]:
        """What every file says of its origin: class, title, version, seed, status and the experiment file itself."""
        import scipy

        return {
            "result": type(self).__name__,
            "title": getattr(self, "title", ""),
            "source": f"featurephase {self.version}, numpy {np.__version__}, scipy {scipy.__version__}",
            "version": self.version,
            "seed": -1 if self.seed is None else self.seed,
            "status": str(self.status),
            "message": self.message,
            "experiment": getattr(self, "experiment", ""),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_xarray` to a ``.nc`` or ``.zarr`` file, whole or not at all."""
        return save_dataset(self.to_xarray(), path)

    # ---- the door to presentation: the one place where results look upwards

    def table(self) -> str:
        """The table that the command prints for people."""
        from featurephase.present import table_of

        return table_of(self)

    def figure(self, ax: Axes | None = None) -> Figure:
        """The figure people would look at.

        Parameters
        ----------
        ax
            Axes to draw on, in place of a figure of its own, where the figure has a single pair of axes.

        Raises
        ------
        InputError
            If ``ax`` is given and the figure has several pairs of axes.
        """
        from featurephase.present import figure_of

        return figure_of(self, ax)

    def cite(self) -> str:
        """BibTeX entries of what this result used: the software, the theory, its model."""
        from featurephase.present import bibtex_of

        return bibtex_of(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.table())}</pre>"
