"""The exact latent-variable model: solution, mechanisms, phase diagram (arXiv:2401.07085)."""

from featurephase.latent_model.mechanisms import Mechanisms, mechanisms, regime
from featurephase.latent_model.model import DataMoments, moments_from_data
from featurephase.latent_model.phase_diagram import FiniteWidthMap, Slice, finite_width_map
from featurephase.latent_model.scaling import PARAMETERISATIONS, Exponents, Scaling, Verdict, parameterisation
from featurephase.latent_model.solution import Descent, Flow, Trajectory

__all__ = [
    "PARAMETERISATIONS",
    "DataMoments",
    "Descent",
    "Exponents",
    "FiniteWidthMap",
    "Flow",
    "Mechanisms",
    "Scaling",
    "Slice",
    "Trajectory",
    "Verdict",
    "finite_width_map",
    "mechanisms",
    "moments_from_data",
    "parameterisation",
    "regime",
]
