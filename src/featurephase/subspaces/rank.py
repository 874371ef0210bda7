"""The rank of a matrix that is known from independent noisy replicates: a decision with errors, never a silent cut."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.results.status import AMBIGUOUS_RANK, OK, Status

#: one-sided error probability of a single decision. A staircase takes at most a few dozen of them.
LEVEL = 1e-5


@dataclass(frozen=True, kw_only=True)
class RankDecision:
    """Which eigenvalues of a positive semidefinite matrix differ from zero.

    Attributes
    ----------
    eigenvalues, eigenvalues_se
        Of the mean matrix, descending (q,), and their standard errors over replicates.
    bounds
        (q,): with probability 1 - ``level`` no eigenvalue from the j-th on is off by more than ``bounds[j]``.
    decisions
        Per eigenvalue ``"nonzero"`` (larger than its bound and the ``floor``), ``"zero"`` (not so, and eigenvalue and
        bound together are at most the resolution) or ``"ambiguous"`` (more samples are needed).
    basis
        Orthonormal eigenvectors as columns (q, q), in the order of the eigenvalues.
    angle_se
        Standard error (radians) of the angle between the span of the nonzero eigenvectors and its estimate; 0 where
        that span is nothing or everything.
    resolution, level
        What counts as zero; the error probability of each decision.
    """

    eigenvalues: Array
    eigenvalues_se: Array
    bounds: Array
    decisions: tuple[str, ...]
    basis: Array
    angle_se: float
    resolution: float
    level: float

    @property
    def rank(self) -> int:
        """Number of eigenvalues known to be nonzero: the rank where the status is ok, a lower bound otherwise."""
        return self.decisions.count("nonzero")

    @property
    def status(self) -> Status:
        """``"ok"``, or ``"ambiguous-rank"`` if some eigenvalue could not be decided."""
        return AMBIGUOUS_RANK if "ambiguous" in self.decisions else OK

    def without_zeros(self) -> RankDecision:
        """The same where the estimates may miss part of the matrix: nothing is known to be zero then."""
        return replace(self, decisions=tuple("ambiguous" if d == "zero" else d for d in self.decisions))

    def joined(self, rest: RankDecision) -> RankDecision:
        """The nonzero eigenvalues of this decision, and another one's in place of the others.

        Parameters
        ----------
        rest
            Decision on (another estimate of) the matrix in the coordinates ``basis[:, rank:]``.
        """
        rank = self.rank
        return replace(
            self,
            eigenvalues=np.concatenate([self.eigenvalues[:rank], rest.eigenvalues]),
            eigenvalues_se=np.concatenate([self.eigenvalues_se[:rank], rest.eigenvalues_se]),
            bounds=np.concatenate([self.bounds[:rank], rest.bounds]),
            decisions=(*self.decisions[:rank], *rest.decisions),
            basis=np.column_stack([self.basis[:, :rank], self.basis[:, rank:] @ rest.basis]),
        )


def sampling_quantile(replicates: int, level: float = LEVEL) -> float:
    """How many standard errors, estimated from so many replicates, an error exceeds with probability ``level``."""
    return -float(stdtrit(replicates - 1, level))


def decide_rank(replicates: ArrayLike, *, resolution: float, level: float = LEVEL, floor: float = 0.0) -> RankDecision:
    """Decide which eigenvalues of a matrix are zero, from independent unbiased estimates of it.

    The estimates must not be biased by noise: products of independent halves (v1 v2', symmetrised), or of two
    replicates, rather than the square of one. Their mean differs from the matrix by N with |N|_op <= |N|_F, so by
    Weyl's inequality every eigenvalue is within |N|_F of its estimate: one bound for all of them, so that choosing
    the largest needs no further correction. For the j-th eigenvalue the noise is restricted to the eigenvectors
    j, .., q: the error that this choice makes is of second order in N. The bound is t s with s^2 = E |N|_F^2 from the
    scatter of the replicates and Student's quantile t.

    Parameters
    ----------
    replicates
        (R, q, q), symmetric, R >= 2; eight or more give useful bounds.
    resolution
        An eigenvalue known to be smaller than this is called zero.
    level
        One-sided error probability of a single decision.
    floor
        What the replicates' mean may exceed the matrix by for reasons other than sampling: an eigenvalue is nonzero
        if it is larger than its bound and this together.

    Raises
    ------
    InputError
        If there are fewer than two replicates, or they are not square matrices.
    """
    estimates = np.asarray(replicates, dtype=np.float64)
    if estimates.ndim != 3 or estimates.shape[1] != estimates.shape[2] or estimates.shape[0] < 2:
        raise InputError(
            f"decide_rank needs at least two replicates of a square matrix, (R, q, q); got {estimates.shape}"
        )
    count, size = estimates.shape[:2]
    values, vectors = np.linalg.eigh((estimates.mean(axis=0) + estimates.mean(axis=0).T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(size)] if size else np.ones(0)
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    rotated = vectors.T @ estimates @ vectors
    variances = rotated.var(axis=0, ddof=1) / count  # of each entry of the mean, in the eigenbasis
    quantile = sampling_quantile(count, level)
    bounds = np.array([quantile * math.sqrt(variances[j:, j:].sum()) for j in range(size)])
    rank = 0
    while rank < size and values[rank] > bounds[rank] + floor:
        rank += 1
    rest = bounds[rank] if rank < size else 0.0
    decisions = ["nonzero"] * rank
    decisions += ["zero" if value + rest <= resolution else "ambiguous" for value in values[rank:]]
    tilt = variances[rank:, :rank] / values[:rank] ** 2
    return RankDecision(
        eigenvalues=values,
        eigenvalues_se=np.sqrt(np.diag(variances)),
        bounds=bounds,
        decisions=tuple(decisions),
        basis=vectors,
        angle_se=math.sqrt(tilt.sum()),
        resolution=resolution,
        level=level,
    )
