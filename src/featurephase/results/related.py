"""What a related solvable model returns: named numbers with their errors, and the picture of its phenomenon as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import Variable, jsonable, labelled, record


@dataclass(frozen=True, eq=False)
class Quantity(Record):
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


@dataclass(frozen=True, eq=False)
class Curve(Record):
    """One curve of a panel: ``style`` is "line", "dashed", "points" or "bars"; ``se`` draws error bars of two."""

    x: Array
    y: Array
    label: str = ""
    style: str = "line"
    se: Array | None = None
    colour: int | None = None


@dataclass(frozen=True, eq=False)
class Region(Record):
    """A filled polygon with its name at the point ``at``."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    at: tuple[float, float]
    label: str
    colour: int


@dataclass(frozen=True, eq=False)
class Panel(Record):
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


@record
class Agreement(Record):
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


@record
class RelatedResult(Result):
    """One related model at one set of parameters.

    Attributes
    ----------
    model, title
        Its name, and what it shows.
    validity
        "exact", "asymptotic" (exact in a stated limit), or "simulation only".
    parameters
        What was computed, every default included.
    phase, phase_note
        The regime of these parameters, and what happens there.
    boundaries
        Values of parameters (or of the quantity that decides) at which the regime changes.
    coordinates
        Values along the dimensions of the quantities (``step``, ``time`` ..).
    quantities
        The theory, and what only a simulation can tell: name -> :class:`Quantity`.
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

    model: str = labelled(attribute=True)
    title: str = labelled(attribute=True)
    validity: str = labelled(attribute=True)
    parameters: dict[str, Any] = labelled(saved=False)
    phase: str = labelled(attribute=True)
    phase_note: str = labelled(attribute=True, default="")
    boundaries: dict[str, float] = labelled(name="boundary", about="value at which the regime changes")
    coordinates: dict[str, Array] = labelled(saved=False)
    quantities: dict[str, Quantity] = labelled(saved=False)
    measured: dict[str, Quantity] = labelled(saved=False)
    comparison: tuple[Agreement, ...] = labelled(saved=False, default=())
    agree: bool | None = labelled(attribute=True, default=None)
    replicates: int | None = labelled(attribute=True, default=None)
    citation: str = labelled(attribute=True)
    panels: tuple[Panel, ...] = labelled(saved=False, json=False, repr=False, default=())

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: the quantities at its top, those of the simulation under ``measured``."""
        fields = super().to_dict()
        for name in ("coordinates", "quantities", "measured"):
            del fields[name]
        return {
            **fields,
            **jsonable(self.coordinates),
            **_with_errors(self.quantities),
            "measured": _with_errors(self.measured),
        }

    def provenance(self) -> dict[str, Any]:
        """The parameters besides, as JSON, and the quantities that are words."""
        words = {name: q.value for name, q in self.quantities.items() if isinstance(q.value, str)}
        return super().provenance() | words | {"parameters": json.dumps(jsonable(self.parameters))}

    def more_variables(self) -> Mapping[str, Variable]:
        """The quantities over the dimensions they name; those of the simulation as ``measured_..``."""
        out: dict[str, Variable] = {}
        for prefix, quantities in (("", self.quantities), ("measured_", self.measured)):
            for name, quantity in quantities.items():
                if not isinstance(quantity.value, str):
                    described = {"long_name": quantity.about} if quantity.about else {}
                    out[prefix + name] = (quantity.dims, np.asarray(quantity.value), described)
                    if quantity.se is not None:
                        out[f"{prefix}{name}_se"] = (quantity.dims, np.asarray(quantity.se), described)
        used = {dim for dims, _, _ in out.values() for dim in dims}
        return out | {name: ((name,), value, {}) for name, value in self.coordinates.items() if name in used}


@record
class ModelLine(Record):
    """One line of the list: name, what it shows, how its theory holds, its source, and its parameters."""

    name: str = labelled(name="model")
    title: str = labelled(name="title")
    validity: str = labelled(name="validity")
    citation: str = labelled(name="citation")
    parameters: tuple[str, ...] = labelled(saved=False)


@record
class RelatedList(Result):
    """All related models.

    Attributes
    ----------
    models
        One :class:`ModelLine` each.
    """

    models: tuple[ModelLine, ...] = labelled("number", name="")
