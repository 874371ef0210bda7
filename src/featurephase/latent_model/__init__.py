"""The exact latent-variable model: solution, mechanisms, phase diagram (arXiv:2401.07085)."""

from featurephase.latent_model.mechanisms import Mechanisms, mechanisms, regime
from featurephase.latent_model.moments import Moments, moments_from_data
from featurephase.latent_model.phase_diagram import (
    PARAMETERISATIONS,
    Exponents,
    FiniteWidthMap,
    Scaling,
    Slice,
    Verdict,
    finite_width_map,
    parameterisation,
)
from featurephase.latent_model.phases import latent_phase, parameterisation_table
from featurephase.latent_model.solution import Descent, Flow, Trajectory
from featurephase.latent_model.trajectory import latent
from featurephase.results.latent import LatentPhaseResult, LatentResult

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
    "parameterisation_table",
    "regime",
]
