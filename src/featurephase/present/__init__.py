"""Tables, figures and pages: results made visible. They are asked for by :mod:`featurephase.results.base` alone.

A presenter is the module of one result (or of a few that belong together). It has ``table(result) -> str`` and
``figure(result) -> Figure``, the latter with ``ax=None`` where it needs a single pair of axes.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["PRESENTERS", "presenter"]

#: Class of the result -> module of this package that presents it, loaded when it is needed.
PRESENTERS = {
    "AlgorithmicThreshold": "algorithmic",
    "Comparison": "comparison",
    "Explanation": "explanation",
    "LatentPhaseResult": "latent_phase",
    "LatentResult": "latent",
    "LatentSubspaces": "subspaces",
    "ParameterisationTable": "latent_phase",
    "Prediction": "prediction",
    "ProbeResult": "probe",
    "ReachedSubspace": "reached",
    "Simulation": "simulation",
    "TemplateList": "templates",
    "Threshold": "threshold",
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
