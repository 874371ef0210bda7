"""featurephase: whether, when and by which mechanism a neural network learns features.

The public names are loaded on first use, so that ``import featurephase`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

from featurephase._version import __version__

#: public name -> module that defines it
_PUBLIC: dict[str, str] = {
    "InputError": "featurephase.errors",
    "FeaturephaseError": "featurephase.errors",
    "FeaturephaseWarning": "featurephase.errors",
    "Problem": "featurephase.problem",
    "load": "featurephase.problem",
}

__all__ = ["__version__", *sorted(_PUBLIC)]  


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'featurephase' has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return __all__
