"""The exact latent-variable model: solution, mechanisms, phase diagram (arXiv:2401.07085).

The package shares its name with its main function and can be called like it: ``featurephase.latent(u=.., w=..)``.
"""

import sys
from types import ModuleType
from typing import Any

from featurephase.latent.mechanisms import Mechanisms, mechanisms, regime
from featurephase.latent.moments import Moments, moments_from_data
from featurephase.latent.phase_diagram import (
    PARAMETERISATIONS,
    Exponents,
    FiniteWidthMap,
    Scaling,
    Slice,
    Verdict,
    finite_width_map,
    parameterisation,
)
from featurephase.latent.results import LatentPhaseResult, LatentResult, latent, latent_phase
from featurephase.latent.solution import Descent, Flow, Trajectory

__all__ = [
    "PARAMETERISATIONS",
    "Descent",
    "Exponents",
    "FiniteWidthMap",
    "Flow",
    "LatentPhaseResult",
    "LatentResult",
    "Mechanisms",
    "Moments",
    "Scaling",
    "Slice",
    "Trajectory",
    "Verdict",
    "finite_width_map",
    "latent",
    "latent_phase",
    "mechanisms",
    "moments_from_data",
    "parameterisation",
    "regime",
]


class _Callable(ModuleType):
    """A module that is called as its main function."""

    def __call__(self, *args: Any, **kwargs: Any) -> LatentResult:
        return latent(*args, **kwargs)


_Callable.__call__.__doc__ = latent.__doc__
sys.modules[__name__].__class__ = _Callable
