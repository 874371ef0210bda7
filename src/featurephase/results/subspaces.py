"""The easy and the hard subspace of a teacher with the evidence, and what gradient descent reaches of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import labelled, record


@dataclass(frozen=True)
class Symmetry:
    """An orthogonal map of the latent space (k, k) that leaves the law of (g, y) unchanged, and its words."""

    matrix: Array
    words: str


@record
class Round(Record):
    """One step of the staircase: which directions the response shifts, given the easy ones of earlier steps.

    Attributes
    ----------
    conditioned_on
        Dimension of the easy subspace at the start of the round.
    directions
        Orthonormal columns (k, q): the eigenvectors of A, then those that a symmetry shows to be hard.
    eigenvalues, eigenvalues_se
        (q,): the share of each direction's variance that y and the easy coordinates explain, as far as the windows in
        y resolve it (a lower bound). Exactly zero ones come with their estimate too, as a check.
    bounds
        (q,): simultaneous bound on the sampling error of the eigenvalue and the smaller ones.
    decisions
        (q,): ``"nonzero"``, ``"zero"`` (known to be below the resolution), ``"zero by symmetry"`` or ``"ambiguous"``.
    angle_se
        Standard error (radians) of the angle of the span of the nonzero directions.
    resolution
        What counts as zero where no symmetry says so.
    samples, replicates
        Draws of the response in all, and into how many independent estimates they were split.
    """

    conditioned_on: int
    directions: Array
    eigenvalues: Array = labelled("direction", about="share of the variance explained by the response", unit="1")
    eigenvalues_se: Array
    bounds: Array = labelled("direction", about="simultaneous bound on their sampling error", unit="1")
    decisions: tuple[str, ...]
    angle_se: float
    resolution: float
    samples: int
    replicates: int


@record
class LatentSubspaces(Result):
    """U_E and U_H of a teacher, with the evidence.

    Attributes
    ----------
    status
        ``"ok"``; ``"given"``: the teacher came with its easy basis; ``"ambiguous-rank"``: some direction could be
        decided neither way.
    easy_basis, hard_basis
        Orthonormal columns (k, k_E) and (k, k_H). Where the rank is ambiguous, the directions that are known to be
        easy or hard; the rest is ``undecided_basis`` (k, .).
    irrelevant_basis
        (k, k_I): the last columns of the hard basis, on which the response does not depend at all.
    irrelevant
        Their names: ``"g3"`` for a coordinate.
    exact
        Whether symmetry proves the subspaces (no sampling error in the bases, no resolution).
    angle_se
        Standard error (radians) of the angle of the easy subspace; 0 where exact.
    rounds
        The steps of the staircase.
    symmetries
        Symmetries of the link that were used: orthogonal maps that leave the law of (g, y) unchanged.
    """

    counted: ClassVar[tuple[str, ...]] = ("latent",)

    easy_basis: Array = labelled("latent", "easy", about="orthonormal basis of the easy subspace", unit="1")
    hard_basis: Array = labelled("latent", "hard", about="orthonormal basis of the hard subspace", unit="1")
    irrelevant_basis: Array = labelled("latent", "irrelevant", about="what the response does not depend on", unit="1")
    undecided_basis: Array = labelled("latent", "undecided", about="directions decided neither way", unit="1")
    irrelevant: tuple[str, ...]
    exact: bool = labelled(attribute=True)
    angle_se: float = labelled(attribute=True)
    rounds: tuple[Round, ...] = labelled("round", name="", of=Round)
    symmetries: tuple[Symmetry, ...] = labelled(json=False, saved=False)

    @property
    def relevant_hard_basis(self) -> Array:
        """The hard directions (k, .) that the response depends on."""
        return self.hard_basis[:, : self.hard_basis.shape[1] - self.irrelevant_basis.shape[1]]

    @property
    def evidence(self) -> dict[str, Any]:
        """What the decision rests on, as in JSON documents: the rounds, the symmetries, and whether they prove it."""
        document = super().to_dict()
        kept = {key: document[key] for key in ("exact", "angle_se", "rounds")}
        return {**kept, "symmetries": [symmetry.words for symmetry in self.symmetries]}

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: the bases as k rows, and ``subspace_evidence``."""
        evidence = self.evidence
        document = {key: value for key, value in super().to_dict().items() if key not in evidence}
        return {**document, "subspace_evidence": evidence}


@record
class ReachedSubspace(Result):
    """The part of the easy subspace that gradient descent has reached by the last step.

    Attributes
    ----------
    status
        ``"ok"``; ``"ambiguous-rank"``: overlaps that may be there or not; ``"diverged"``.
    delta, steps
        n/d and T.
    reached_basis, missed_basis
        Orthonormal columns (k, r) and (k, k_E - r); their span is U_E. Undecided directions count as missed.
    overlaps, overlaps_se
        (k_E,): root mean square over the steps of ``|e'Theta|/|Theta|`` along each direction, reached ones first (0
        where the estimate of the square is negative).
    bounds
        (k_E,): the overlap is below this except with the probability of a false decision (1e-5).
    decisions
        (k_E,): ``"nonzero"``, ``"zero"`` or ``"ambiguous"``.
    samples, replicates
        Sample paths of a run, and runs.
    """

    counted: ClassVar[tuple[str, ...]] = ("latent",)

    delta: float = labelled(attribute=True)
    steps: int = labelled(attribute=True)
    reached_basis: Array = labelled("latent", "reached", about="easy directions that are reached", unit="1")
    missed_basis: Array = labelled("latent", "missed", about="easy directions that are not", unit="1")
    overlaps: Array = labelled("direction", about="share of the weights along each direction", unit="1")
    overlaps_se: Array
    bounds: Array = labelled("direction", about="the overlap is below this", unit="1")
    decisions: tuple[str, ...]
    samples: int = labelled(attribute=True)
    replicates: int = labelled(attribute=True)
