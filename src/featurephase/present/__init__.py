"""Tables, figures and pages: results made visible. They are asked for by :mod:`featurephase.results.base` alone.

A presenter is the module of one result (or of a few that belong together). It has ``table(result) -> str`` and
``figure(result) -> Figure``, the latter with ``ax=None`` where it needs a single pair of axes.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import TYPE_CHECKING

from featurephase.foundation.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurephase.results.base import Result

__all__ = ["PRESENTERS", "bibtex_of", "figure_of", "page_of", "presenter", "table_of"]

#: Class of the result -> module of this package that presents it, loaded when it is needed.
PRESENTERS = {
    "AlgorithmicThreshold": "algorithmic",
    "Boundary": "boundary",
    "Citations": "documents",
    "Comparison": "comparison",
    "CoordinateCheck": "coordinate_check",
    "Explanation": "explanation",
    "HessianSpectrum": "hessian_spectrum",
    "KernelMatrix": "kernel_matrix",
    "LatentPhaseResult": "latent_phase",
    "LatentResult": "latent",
    "LatentSubspaces": "subspaces",
    "Ledger": "ledger",
    "ParameterisationTable": "latent_phase",
    "Prediction": "prediction",
    "ProbeResult": "probe",
    "ReachedSubspace": "reached",
    "RelatedList": "related",
    "RelatedResult": "related",
    "Simulation": "simulation",
    "Sweep": "sweep",
    "TemplateList": "documents",
    "Threshold": "threshold",
    "WrittenPage": "documents",
}


def presenter(kind: type) -> ModuleType:
    """The module that presents results of this class, or of the nearest class it derives from.

    Raises
    ------
    LookupError
        If there is none: a new result needs a line in :data:`PRESENTERS`.
    """
    for ancestor in kind.__mro__:
        if ancestor.__name__ in PRESENTERS:
            return import_module(f"{__name__}.{PRESENTERS[ancestor.__name__]}")
    raise LookupError(f"no presenter for {kind.__name__}: featurephase.present.PRESENTERS has no line for it")


def table_of(result: Result) -> str:
    """The table that the command prints for people."""
    return str(presenter(type(result)).table(result))


def figure_of(result: Result, ax: Axes | None = None) -> Figure:
    """The figure people would look at, on the axes given if it needs no more than one pair.

    Raises
    ------
    InputError
        If axes are given and the figure has several.
    """
    from featurephase.present.figures import house_style

    draw = presenter(type(result)).figure
    if ax is not None and "ax" not in signature(draw).parameters:
        raise InputError(f"ax: the figure of a {type(result).__name__} has several axes; call figure() without ax")
    with house_style():
        drawn: Figure = draw(result) if ax is None else draw(result, ax=ax)
    return drawn


def bibtex_of(result: Result) -> str:
    """BibTeX entries of what the result used."""
    from featurephase.present.citations import cite

    return cite(result).bibtex


def page_of(result: Result) -> str:
    """The self-contained HTML page of a ledger."""
    return str(import_module(f"{__name__}.ledger_page").ledger_page(result))
