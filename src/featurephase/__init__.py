"""featurephase: whether, when and by which mechanism a neural network learns features.

The public names are loaded on first use, so that ``import featurephase`` costs nothing.
"""

from __future__ import annotations

import importlib

from featurephase._version import __version__

TYPE_CHECKING = False  # what checkers take for that of typing, which takes a while to import
if TYPE_CHECKING:
    from typing import Any

#: public name -> module that defines it
_PUBLIC: dict[str, str] = {
    **dict.fromkeys(("FeaturephaseError", "FeaturephaseWarning", "InputError"), "featurephase.foundation.errors"),
    **dict.fromkeys(("Activation", "Link", "Loss", "activation", "link", "loss"), "featurephase.functions"),
    "Probe": "featurephase.probe",
    "Problem": "featurephase.problem",
    "latent_subspaces": "featurephase.subspaces",
    "algorithmic_threshold": "featurephase.thresholds.algorithmic",
    "load": "featurephase.problem",
    "predict": "featurephase.analyses.prediction",
    "threshold": "featurephase.analyses.threshold",
    "explain": "featurephase.analyses.explanation",
    "simulate": "featurephase.analyses.simulation",
    "compare": "featurephase.analyses.comparison",
    "Dask": "featurephase.foundation.executors",
    "load_data": "featurephase.problem.data",
    "latent": "featurephase.analyses.latent",
    "latent_phase": "featurephase.analyses.latent_phase",
    "related": "featurephase.related_models",
    "report": "featurephase.present.report",
    "cite": "featurephase.present.citations",
    **dict.fromkeys(("boundary", "open_sweep", "sweep"), "featurephase.sweeps"),
    "reproduce": "featurephase.claims.ledger",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'featurephase' has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return __all__
