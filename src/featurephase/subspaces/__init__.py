"""The easy and the hard subspace of the latent space: which directions a first-order method can find at all."""

from featurephase.results.subspaces import Symmetry
from featurephase.subspaces.rank import RankDecision, decide_rank
from featurephase.subspaces.staircase import LatentSubspaces, Round, latent_subspaces, problem_subspaces

__all__ = [
    "LatentSubspaces",
    "RankDecision",
    "Round",
    "Symmetry",
    "decide_rank",
    "latent_subspaces",
    "problem_subspaces",
]
