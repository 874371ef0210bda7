"""What a related solvable model returns: named numbers with their errors, and the picture of its phenomenon as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featurephase.foundation.types import Array
from featurephase.results.base import Result, jsonable

__all__ = ["Agreement", "Curve", "ModelLine", "Panel", "Quantity", "Region", "RelatedList", "RelatedResult"]


@dataclass(frozen=True)
class Quantity:
    """A number or an array with the names of its dimensions.

    Attributes
    ----------
    value
        A number, an array or a word.
    dims
        One name a dimension of ``value``.
    se
        Standard error in the same shape; ``None`` for what is not stochastic.
    accuracy
        How far a simulation may lie from this value apart from its own standard error: rounding, an integrator's
        tolerance, or the finite-size term of an asymptotic formula. A number or an array in the same shape.
    about
        What it is, in words.
    """

    value: Any
    dims: tuple[str, ...] = ()
    se: Any = None
    accuracy: Any = 0.0
    about: str = ""


@dataclass(frozen=True)
class Curve:
    """One curve of a panel: ``style`` is "line", "dashed", "points" or "bars"; ``se`` draws error bars of two."""

    x: Array
    y: Array
    label: str = ""
    style: str = "line"
    se: Array | None = None
    colour: int | None = None


@dataclass(frozen=True)
class Region:
    """A filled polygon with its name at a point of it."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str
    colour: int


@dataclass(frozen=True)
class Panel:
    """One pair of axes: what is drawn, without how.

    ``vertical`` and ``horizontal`` are marked values with their labels; ``limits`` are x and y ranges.
    """

    x_label: str
    y_label: str
    curves: tuple[Curve, ...] = ()
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    vertical: tuple[tuple[float, str], ...] = ()
    horizontal: tuple[tuple[float, str], ...] = ()
    regions: tuple[Region, ...] = ()
    limits: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Theory against simulation in one quantity, where they differ most.

    Attributes
    ----------
    name
        The quantity.
    theory, simulation, simulation_se
        Both values at the entry with the largest difference in units of what is allowed, and its standard error.
    difference
        The size of that difference.
    allowed
        What is allowed at that entry: the stated accuracy plus a Student quantile of the standard error.
    agree
        Whether every entry is within what is allowed.
    """

    name: str
    theory: float
    simulation: float
    simulation_se: float
    difference: float
    allowed: float
    agree: bool


def _with_errors(quantities: Mapping[str, Quantity]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, quantity in quantities.items():
        out[name] = jsonable(quantity.value)
        if quantity.se is not None:
            out[f"{name}_se"] = jsonable(quantity.se)
    return out


@dataclass(frozen=True, kw_only=True)
class RelatedResult(Result):
    """One related model at one set of parameters.

    Attributes
    ----------
    model
        Its name.
    validity
        "exact", "asymptotic" (exact in a stated limit), or "simulation only".
    parameters
        What was computed, every default included.
    phase, boundaries
        The regime of these parameters, and the values at which it changes.
    coordinates
        Values along the dimensions of the quantities (``step``, ``time`` ..).
    quantities
        The theory, and what only a simulation can tell.
    measured
        The quantities of the theory as a simulation found them; empty without one.
    comparison
        One :class:`Agreement` a quantity that both know.
    agree
        Whether all of them agree; ``None`` without a simulation.
    replicates
        Independent repetitions of the simulation; ``None`` without one.
    citation
        Where the model comes from.
    panels
        The picture.
    """

    model: str
    title: str
    validity: str
    parameters: dict[str, Any]
    phase: str
    phase_note: str = ""
    boundaries: dict[str, float]
    coordinates: dict[str, Array]
    quantities: dict[str, Quantity]
    measured: dict[str, Quantity]
    comparison: tuple[Agreement, ...] = ()
    agree: bool | None = None
    replicates: int | None = None
    citation: str
    panels: tuple[Panel, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: the quantities at its top, those of the simulation under ``measured``."""
        return {
            "model": self.model,
            "status": jsonable(self.status),
            "message": self.message,
            "version": self.version,
            "seed": self.seed,
            "replicates": self.replicates,
            "validity": self.validity,
            "phase": self.phase,
            "phase_note": self.phase_note,
            "boundaries": jsonable(self.boundaries),
            "parameters": jsonable(self.parameters),
            **jsonable(self.coordinates),
            **_with_errors(self.quantities),
            "measured": _with_errors(self.measured),
            "comparison": jsonable(list(self.comparison)),
            "agree": self.agree,
            "citation": self.citation,
        }

    def to_xarray(self) -> Any:
        """The numbers over the dimensions they name; those of the simulation as ``measured_..``."""
        import xarray

        variables: dict[str, Any] = {}
        for prefix, quantities in (("", self.quantities), ("measured_", self.measured)):
            for name, quantity in quantities.items():
                if not isinstance(quantity.value, str):
                    described = {"long_name": quantity.about} if quantity.about else {}
                    variables[prefix + name] = (quantity.dims, np.asarray(quantity.value), described)
                    if quantity.se is not None:
                        variables[f"{prefix}{name}_se"] = (quantity.dims, np.asarray(quantity.se), described)
        used = {dim for value in variables.values() for dim in value[0]}
        words = {name: q.value for name, q in self.quantities.items() if isinstance(q.value, str)}
        attributes: dict[str, Any] = words | {
            "model": self.model,
            "validity": self.validity,
            "phase": self.phase,
            "status": str(self.status),
            "message": self.message,
            "version": self.version,
            "seed": -1 if self.seed is None else self.seed,
            "citation": self.citation,
            "parameters": str(jsonable(self.parameters)),
        }
        coordinates = {name: ((name,), value) for name, value in self.coordinates.items() if name in used}
        return xarray.Dataset(variables, coords=coordinates, attrs=attributes)


@dataclass(frozen=True, kw_only=True)
class ModelLine:
    """One line of the list: name, what it shows, its source, and its parameters with what they accept."""

    name: str
    title: str
    validity: str
    citation: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RelatedList(Result):
    """All related models."""

    models: tuple[ModelLine, ...]

    def to_xarray(self) -> Any:
        """The list as a data set over ``model``."""
        import xarray

        columns = {name: ("model", [getattr(m, name) for m in self.models]) for name in ("title", "citation")}
        return xarray.Dataset(columns, coords={"model": [m.name for m in self.models]})
