"""The easy and the hard subspace of a teacher: the staircase, its evidence, and what symmetry makes exact.

An easy direction is one along which the response, together with the easy directions found before, shifts the mean of
the latent coordinates. The staircase (theory/subspaces, eq. sub-stair) starts from nothing, or from the overlap of a
warm start, and adds the range of A = E[v v'], v = E[g_perp | y, g_U], until A vanishes. Samples can show that an
eigenvalue of A is not zero; that it is exactly zero takes a symmetry of the link. Both are used, and the result says
which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError
from featurephase.foundation.progress import progress_bar
from featurephase.foundation.types import Array
from featurephase.results.status import AMBIGUOUS_RANK, GIVEN, OK
from featurephase.results.subspaces import LatentSubspaces, Round, Symmetry
from featurephase.subspaces.conditional import check_draws, pair_moment, resolved, sorted_draws, spawn
from featurephase.subspaces.rank import RankDecision, decide_rank, sampling_quantile
from featurephase.subspaces.symmetry import (
    canonical_basis,
    complement,
    direction_name,
    fixed_space,
    mirrored,
    relevant_space,
    symmetries,
)

if TYPE_CHECKING:
    from featurephase.functions import Link
    from featurephase.problem import Problem, Teacher

__all__ = ["LatentSubspaces", "Round", "latent_subspaces", "problem_subspaces"]


#: largest standard error (radians) of the angle of the easy subspace that ends the sampling early
ANGLE = 1e-3

#: from this standard error of the angle on the easy subspace counts as undetermined
USELESS_ANGLE = 0.1

#: how much an inexact easy subspace is blurred when conditioned on (standard deviation, of 1). Without it the smallest
#: error counts: given g1 + 0.001 g2, the response y = g1 reveals g2. With it a direction is revealed to (error/blur)^2.
BLUR = 0.3


def latent_subspaces(
    teacher: Teacher,
    *,
    start: ArrayLike | None = None,
    samples: int = 2**19,
    max_samples: int = 2**24,
    replicates: int = 16,
    resolution: float = 1e-3,
    seed: int = 0,
    quiet: bool = False,
) -> LatentSubspaces:
    """Compute the easy subspace U_E and its complement U_H from the law of (g, y) alone.

    U_E is the smallest subspace U that contains the start and has E[g_perp | y, g_U] = 0 (theory/subspaces, eq.
    sub-easy; Montanari and Wang, arXiv 2602.01434). Eigenvalues of A are estimated without noise bias, by pairs of
    draws with neighbouring responses, and decided by :func:`~featurephase.subspaces.decide_rank`; samples are
    quadrupled until every eigenvalue is decided. Symmetries of the link that are verified exactly bound U_E from above:
    where samples fill that bound, the subspaces are exact, and coordinate axes come out as such.

    Parameters
    ----------
    teacher
        Its ``easy_basis``, where given, is taken as it is.
    start
        Initial overlap M0 (k, m): its column space is easy from the beginning. Zero, or None: a random start.
    samples, max_samples
        Draws of the response in a round at first, and at most.
    replicates
        Independent parts of the samples, from which the errors come (at least 2; below 8 the bounds are wide).
    resolution
        An eigenvalue of A (a share of variance, at most 1) known to be below this is zero, if no symmetry says so.
    seed
        Seed of all random numbers.
    quiet
        No progress bar.

    Raises
    ------
    InputError
        If the link is not finite on some draw, or a number is out of range.
    """
    check_draws(samples, max_samples, replicates)
    if not 0 < resolution < 1:
        raise InputError(f"resolution = {resolution}: a share of variance strictly between 0 and 1 is needed")
    link, dim = teacher.link, teacher.latent_dim
    if teacher.easy_basis is not None:
        return _given(link, np.asarray(teacher.easy_basis, dtype=np.float64), seed)
    first = _column_space(start, dim)
    staircase = _Staircase(link, first, samples, max_samples, replicates, resolution, seed)
    staircase.climb(quiet)
    return staircase.result()


def problem_subspaces(problem: Problem) -> LatentSubspaces:
    """U_E and U_H of a problem, from its teacher and the overlap that training starts with.

    Raises
    ------
    InputError
        If the start overlaps with a direction that ``teacher.easy_basis`` says is hard.
    """
    start = problem.student.init_overlap
    spaces = latent_subspaces(problem.teacher, start=start, seed=problem.asymptotics.seed)
    outside = start - spaces.easy_basis @ (spaces.easy_basis.T @ start)
    if spaces.status == GIVEN and np.max(np.abs(outside), initial=0.0) > 1e-9:
        raise InputError(
            "teacher.easy_basis does not contain the overlap that training starts with (student.init_overlap): "
            "a direction with overlap at the start is easy; add the columns of init_overlap to easy_basis"
        )
    return spaces


def _ceiling(link: Link, fixed: Array, link_symmetries: list[Symmetry], seed: int) -> Array:
    """What symmetry leaves of R^k for easy directions: all that is orthogonal is hard, given ``fixed`` (k, s) is easy.

    Fixed by the symmetries found, which leave ``fixed`` alone, and orthogonal to what the response does not depend on.
    """
    idle = complement(fixed, complement(relevant_space(link, seed)))
    dim = fixed.shape[0]
    return fixed_space([*(symmetry.matrix for symmetry in link_symmetries), np.eye(dim) - 2 * idle @ idle.T], dim)


def _given(link: Link, easy: Array, seed: int) -> LatentSubspaces:
    """The subspaces of a teacher that brings its easy basis; exact if a symmetry shows that all else is hard."""
    link_symmetries = symmetries(link, easy, seed)
    exact = _ceiling(link, easy, link_symmetries, seed).shape[1] == easy.shape[1]
    exact = exact or mirrored(link, easy, easy, 0.0, seed) is not None
    return _assemble(link, easy, np.empty((easy.shape[0], 0)), GIVEN, exact, 0.0, [], link_symmetries, seed)


def _column_space(start: ArrayLike | None, dim: int) -> Array:
    """Orthonormal basis of the latent directions of a warm start, to a relative 1e-10 of the largest overlap."""
    overlap = np.zeros((dim, 1)) if start is None else np.asarray(start, dtype=np.float64)
    if overlap.ndim != 2 or overlap.shape[0] != dim or not np.isfinite(overlap).all():
        raise InputError(f"the start must be a finite matrix of {dim} rows (latent_dim); got shape {overlap.shape}")
    left, values, _ = np.linalg.svd(overlap, full_matrices=False)
    return canonical_basis(left[:, values > 1e-10 * max(values.max(initial=0.0), 1e-300)])


@dataclass
class _Staircase:
    """The easy subspace so far, the bound that symmetry puts on it, and the rounds behind it."""

    link: Link
    first: Array
    samples: int
    max_samples: int
    replicates: int
    resolution: float
    seed: int
    rounds: list[Round] = field(default_factory=list)
    angle_se: float = 0.0
    status: str = OK

    def __post_init__(self) -> None:
        self.easy = self.first
        self.symmetries = symmetries(self.link, self.first, self.seed)
        self.ceiling = _ceiling(self.link, self.first, self.symmetries, self.seed)

    def climb(self, quiet: bool) -> None:
        """Rounds until nothing is left, or nothing more is found."""
        dim = self.link.latent_dim
        with progress_bar(dim, "easy directions", quiet=quiet, initial=self.first.shape[1]) as bar:
            while self.easy.shape[1] < dim and not (self.rounds and self.full):
                added = self._round()
                bar.update(added)
                if added == 0:
                    break
        if self.angle_se > USELESS_ANGLE:
            self.status = AMBIGUOUS_RANK

    @property
    def full(self) -> bool:
        """Whether the easy subspace has reached the bound: then it is that bound, exactly."""
        return bool(self.easy.shape[1] == self.ceiling.shape[1])

    def _round(self) -> int:
        """One round: samples until it is decided. Returns the number of easy directions found."""
        open_, shut = complement(self.easy, self.ceiling), complement(self.ceiling)
        inner = np.column_stack([open_, shut])
        total, estimates = 0, np.zeros((2, self.replicates, inner.shape[1], inner.shape[1]))
        stage, size, tried = 0, self.samples, {0} if self.full or not self.easy.shape[1] else set()
        while True:
            for r in range(self.replicates):
                rng = spawn(self.seed, 1, len(self.rounds), stage, r)
                new = [
                    (pair_moment(draws.b, draws.levels[0]), pair_moment(draws.b, draws.wide))
                    for draws in sorted_draws(
                        self.link, self.easy, inner, size // self.replicates, rng, BLUR if self.angle_se else 0.0
                    )
                ]
                estimates[:, r] = (total * estimates[:, r] + size * np.mean(new, axis=0)) / (total + size)
            total += size
            decision = self._decide(estimates[:, :, : open_.shape[1], : open_.shape[1]])
            if not resolved(self.link, self.easy.shape[1], size // self.replicates):
                decision = decision.without_zeros()
            if decision.rank not in tried and decision.rank < open_.shape[1]:
                tried.add(decision.rank)
                if self._reflect(open_, decision):
                    break
            enough = decision.rank > 0 or decision.status == OK
            if (enough and decision.angle_se <= ANGLE) or total >= self.max_samples:
                break
            stage, size = stage + 1, min(3 * total, self.max_samples - total)
        return self._record(decision, estimates[0], open_, shut, total)

    def _decide(self, estimates: Array) -> RankDecision:
        """Rank of A from narrow and from wide windows (2, replicates, q, q).

        Either can show that an eigenvalue is not zero: the one that shows more, or shows it with less error, is taken.
        That the rest is zero is left to the narrow windows, which miss no dependence on y.
        """
        leak = (sampling_quantile(self.replicates) * self.angle_se / BLUR) ** 2
        narrow, wide = (decide_rank(part, resolution=self.resolution, floor=leak) for part in estimates)
        if (narrow.rank, -narrow.angle_se) >= (wide.rank, -wide.angle_se):
            return narrow
        rest = wide.basis[:, wide.rank :]
        return wide.joined(decide_rank(rest.T @ estimates[0] @ rest, resolution=self.resolution, floor=leak))

    def _extended(self, open_: Array, decision: RankDecision) -> tuple[Array, float]:
        """The easy subspace with the nonzero directions of a round, and its angle error."""
        added = open_ @ decision.basis[:, : decision.rank]
        span = np.linalg.qr(np.column_stack([self.easy, added]))[0]
        return canonical_basis(span), float(np.hypot(self.angle_se, decision.angle_se))

    def _reflect(self, open_: Array, decision: RankDecision) -> bool:
        """Whether an exact symmetry reflects all that is not easy so far; if so it and its subspace are adopted."""
        span, angle_se = self._extended(open_, decision)
        mirror = mirrored(self.link, span, self.first, 6 * angle_se + 1e-3, self.seed)
        if mirror is None:
            return False
        self.ceiling = canonical_basis(mirror[0])
        self.symmetries.append(mirror[1])
        return True

    def _record(self, decision: RankDecision, estimates: Array, open_: Array, shut: Array, total: int) -> int:
        """Add the round to the evidence and its nonzero directions to the easy subspace."""
        count = open_.shape[1]
        conditioned_on = self.easy.shape[1]
        check = np.diagonal(estimates, axis1=1, axis2=2)[:, count:]  # zero by symmetry: (replicates, .)
        check_se = check.std(axis=0, ddof=1) / np.sqrt(self.replicates)
        self.easy, self.angle_se = self._extended(open_, decision)
        decisions = list(decision.decisions)
        if self.full:
            self.easy, self.angle_se = self.ceiling, 0.0
            decisions[decision.rank :] = ["zero by symmetry"] * (count - decision.rank)
        elif decision.rank == 0:
            self.status = decision.status
        self.rounds.append(
            Round(
                conditioned_on=conditioned_on,
                directions=np.column_stack([open_ @ decision.basis, shut]),
                eigenvalues=np.concatenate([decision.eigenvalues, check.mean(axis=0)]),
                eigenvalues_se=np.concatenate([decision.eigenvalues_se, check_se]),
                bounds=np.concatenate([decision.bounds, check_se * sampling_quantile(self.replicates)]),
                decisions=(*decisions, *["zero by symmetry"] * shut.shape[1]),
                angle_se=decision.angle_se,
                resolution=self.resolution,
                samples=total,
                replicates=self.replicates,
            )
        )
        return decision.rank

    def result(self) -> LatentSubspaces:
        """What the rounds amount to."""
        easy, undecided = self.easy, np.empty((self.link.latent_dim, 0))
        if self.status != OK and self.angle_se > USELESS_ANGLE:
            easy, undecided = self.first, complement(self.first, self.ceiling)
        elif self.status != OK:
            last = self.rounds[-1]
            undecided = last.directions[:, [decision == "ambiguous" for decision in last.decisions]]
        return _assemble(
            self.link,
            easy,
            undecided,
            self.status,
            self.full,
            self.angle_se,
            self.rounds,
            self.symmetries,
            self.seed,
        )


def _assemble(
    link: Link,
    easy: Array,
    undecided: Array,
    status: str,
    exact: bool,
    angle_se: float,
    rounds: list[Round],
    link_symmetries: list[Symmetry],
    seed: int,
) -> LatentSubspaces:
    """The result, its hard basis with the irrelevant directions last, and the message that goes with it."""
    relevant = relevant_space(link, seed)
    known = np.column_stack([easy, undecided])
    idle = complement(known, complement(relevant))
    hard = complement(np.column_stack([known, idle]))
    names = tuple(direction_name(column) for column in idle.T)
    words = [f"the response does not depend on {', '.join(names)}"] if names else []
    if status == AMBIGUOUS_RANK:
        words.append(
            f"whether {', '.join(direction_name(column) for column in undecided.T)} is easy cannot be decided with "
            f"{rounds[-1].samples:.3g} samples: give more, or the easy basis"
        )
    elif status == OK and not exact:
        words.append(
            "no symmetry of the link proves the hard directions: the response explains less than "
            f"{rounds[-1].resolution:g} of their variance"
            + (f", and the easy subspace is known to an angle of {angle_se:.2g}" if easy.size else "")
        )
    return LatentSubspaces(
        status=status,
        message="; ".join(words),
        seed=seed,
        easy_basis=easy,
        hard_basis=np.column_stack([hard, idle]),
        irrelevant_basis=idle,
        undecided_basis=undecided,
        irrelevant=names,
        exact=exact,
        angle_se=angle_se,
        rounds=tuple(rounds),
        symmetries=tuple(link_symmetries),
    )
