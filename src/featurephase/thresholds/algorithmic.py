"""delta_alg: from how many samples per dimension on the best first-order method finds a hard direction.

A property of the data alone (theory/thresholds, eq. thr-algorithmic; Montanari and Wang, arXiv 2602.01434). With
G(y, g_E) = E[ g_H g_H' | y, g_E ] - I, 1/delta_alg is the largest eigenvalue of the linear map M -> E[ G M G ]
on symmetric matrices. The map preserves positive matrices, so that its top eigenvector M is one, and commutes with
every symmetry of the link, so that M and G have those symmetries too.

With G = sum_a G_a B_a in an orthonormal basis B of the symmetric matrices that G can be, all that the map needs is
E[ G_a G_b ]: the second moment of the conditional expectation of f_a = <B_a, g_H g_H' - I>.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from featurephase.foundation.progress import progress_bar
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.results.algorithmic import AlgorithmicThreshold
from featurephase.results.status import OK, UNRESOLVED
from featurephase.subspaces.cells import bias_left
from featurephase.subspaces.conditional import (
    IndexArray,
    check_draws,
    dimensions,
    pair_moment,
    sorted_draws,
    spawn,
    window_means,
)
from featurephase.subspaces.rank import decide_rank
from featurephase.subspaces.staircase import BLUR
from featurephase.subspaces.symmetry import fixed_space, scale_free

if TYPE_CHECKING:
    from featurephase.functions import Link
    from featurephase.problem import Teacher
    from featurephase.subspaces import LatentSubspaces

__all__ = ["AlgorithmicThreshold", "algorithmic_threshold"]


#: the map acts on symmetric matrices of this size at most
MAX_HARD = 8


def algorithmic_threshold(
    teacher: Teacher,
    subspaces: LatentSubspaces,
    *,
    samples: int = 2**21,
    max_samples: int = 2**25,
    replicates: int = 16,
    resolution: float = 1e-4,
    seed: int = 0,
    quiet: bool = False,
) -> AlgorithmicThreshold:
    """Compute delta_alg = 1 / (largest eigenvalue of M -> E[ G M G ]), G = E[ g_H g_H' | y, g_E ] - I.

    The conditional expectations come from pairs of draws with neighbouring responses (no noise bias), of the same class
    where responses are classes; the errors from independent replicates, reduced by polynomials of g_H of known mean as
    control variates. The default gives about three digits where 1/delta_alg is of order one.

    "inf" is returned only where the symmetries of the link prove G = 0. Where 1/delta_alg is merely known to be below
    the resolution, or cannot be told from zero after ``max_samples`` draws, the result is a lower bound.

    Parameters
    ----------
    teacher
        The link and the latent dimension.
    subspaces
        Its easy and hard subspaces, from :func:`~featurephase.subspaces.latent_subspaces`.
    samples, max_samples
        Draws of the response at first; they are quadrupled until the eigenvalue differs from zero, up to the maximum.
    replicates
        Independent parts of the samples, from which the errors come.
    resolution
        Sampling ends where 1/delta_alg is known to be below this.
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
    estimated = subspaces.ok and 0 < subspaces.relevant_hard_basis.shape[1] <= MAX_HARD
    family = _Family(teacher.link, subspaces, seed) if estimated else None
    if family is None or family.responses.shape[0] == 0:
        return _known(teacher, subspaces, seed, replicates)
    return _Estimator(teacher.link, subspaces, family, replicates, resolution, seed).run(samples, max_samples, quiet)


def _known(teacher: Teacher, subspaces: LatentSubspaces, seed: int, replicates: int) -> AlgorithmicThreshold:
    """What is known without a draw: 0, infinity, or why there is no value."""
    hard = subspaces.relevant_hard_basis.shape[1]
    if not subspaces.ok:
        value, status, message, bound = math.nan, subspaces.status, subspaces.message, 0.0
    elif hard == 0:
        value, status, bound = 0.0, OK, 0.0
        message = "no direction that the response depends on is hard: delta_alg is 0"
    elif hard > MAX_HARD:
        value, status, bound = math.nan, UNRESOLVED, 0.0
        message = f"delta_alg is computed for up to {MAX_HARD} hard directions"
    else:
        value, status, bound = math.inf, OK, math.inf
        message = "symmetries of the link make E[ g_H g_H' | y, g_E ] the identity: no first-order method learns U_H"
    return AlgorithmicThreshold(
        status=status,
        message=message,
        seed=seed,
        delta_alg=value,
        delta_alg_se=0.0 if status == OK else math.nan,
        lower_bound=bound,
        window_bias=0.0,
        exact=status == OK,
        direction=np.zeros((teacher.latent_dim,) * 2),
        samples=0,
        replicates=replicates,
    )


class _Family:
    """What G and M can be, by the symmetries of the link.

    Attributes
    ----------
    hard
        Relevant hard directions (k, h).
    matrices
        Orthonormal basis (c, h, h) of the symmetric matrices that all symmetries leave alone: M lies there.
    responses
        Orthonormal basis (d, h, h) of those among them that are zero on every direction whose size the response
        does not depend on: G lies there.
    """

    def __init__(self, link: Link, subspaces: LatentSubspaces, seed: int) -> None:
        self.hard = subspaces.relevant_hard_basis
        size = self.hard.shape[1]
        rows, columns = np.triu_indices(size)
        weights = np.where(rows == columns, 1.0, math.sqrt(0.5))
        symmetric = np.zeros((rows.size, size, size))
        symmetric[np.arange(rows.size), rows, columns] = weights
        symmetric[np.arange(rows.size), columns, rows] = weights
        maps = []
        for symmetry in subspaces.symmetries:
            inside = self.hard.T @ symmetry.matrix @ self.hard
            maps.append(np.einsum("aij,bij->ab", symmetric, inside @ symmetric @ inside.T))
        invariant = fixed_space(maps, rows.size)
        self.matrices = np.einsum("ac,aij->cij", invariant, symmetric)
        signs = scale_free(link, self.hard, seed)
        sizes = np.einsum("is,cij,js->sc", signs, self.matrices, signs)
        count = len(self.matrices)
        free = fixed_space([np.eye(count) - np.outer(row, row) for row in sizes], count)
        self.responses = np.einsum("cd,cij->dij", free, self.matrices)
        products = np.einsum(
            "pij,ajk,qkl,bli->abpq", self.matrices, self.responses, self.matrices, self.responses, optimize=True
        )
        #: tr(M_p B_a M_q B_b), made symmetric in (a, b): (d, d, c, c)
        self.products = (products + products.transpose(1, 0, 2, 3)) / 2

    def features(self, b: Array) -> Array:
        """f_a = <B_a, g_H g_H' - I> (d, n) from the hard coordinates (h, n)."""
        rows = []
        for matrix in self.responses:
            row = np.full(b.shape[1], -np.trace(matrix))
            for i, j in zip(*np.nonzero(np.triu(matrix)), strict=True):
                row += (matrix[i, j] if i == j else 2 * matrix[i, j]) * b[i] * b[j]
            rows.append(row)
        return np.stack(rows)

    def maps(self, moments: Array) -> Array:
        """The map M -> E[ G M G ] (.., c, c) from E[ G_a G_b ] (.., d, d)."""
        return np.asarray(np.einsum("...ab,abpq->...pq", moments, self.products))

    def top(self, maps: Array) -> Array:
        """Unit coefficients (c,) of the top eigenvector of a map known from replicates (R, c, c).

        Among the eigenvectors whose eigenvalue is within three standard errors of the largest it is the one that the
        powers of the map lead to from the identity. Where the largest eigenvalue is degenerate (M = I and
        M = e_1 e_2' + e_2 e_1' for g1 g2) the largest of the estimates would be biased, this one is not.
        """
        vectors = np.linalg.eigh(maps.mean(axis=0))[1]
        values = np.einsum("rpq,pj,qj->rj", maps, vectors, vectors)
        gap, gap_se = mean_and_se(values[:, -1:] - values)
        first = vectors[:, gap <= 3 * gap_se + 1e-9 * np.abs(values).max()]
        projected = first @ (first.T @ np.trace(self.matrices, axis1=1, axis2=2))
        return np.asarray(projected / np.linalg.norm(projected))


def _extrapolated(levels: Array, share: float = 0.5) -> Array:
    """Estimates (R, L - 1, c, c) from those with halved and halved windows (R, L, c, c), with a share of the change.

    For a number, halving the windows divides the bias by two where E[f | y] jumps or ends in a tail, by four where it
    is smooth in the rank of y. The last change is thus one to three times the bias left, and half of it leaves half of
    that bias. For vectors see :func:`~featurephase.subspaces.cells.bias_left`.
    """
    return levels[:, 1:] + np.diff(levels, axis=1) * share


def _widest_consistent(values: Array) -> int:
    """The widest windows whose eigenvalue agrees with those of all narrower ones within two standard errors.

    Wide windows have less noise, narrow ones less bias: the choice is Lepski's (Theory Probab. Appl. 35, 1990).

    Parameters
    ----------
    values
        (R, L), from wide to narrow.
    """
    for level in range(values.shape[1]):
        difference, se = mean_and_se(values[:, level:] - values[:, level, None])
        if np.all(np.abs(difference) <= 2 * se):
            break
    return level


class _Estimator:
    """Replicates of the map M -> E[ G M G ], and its top eigenvalue."""

    def __init__(
        self, link: Link, subspaces: LatentSubspaces, family: _Family, replicates: int, resolution: float, seed: int
    ) -> None:
        self.link, self.given, self.family = link, subspaces.easy_basis, family
        self.inner = subspaces.hard_basis  # the relevant directions come first
        self.replicates, self.resolution, self.seed = replicates, resolution, seed
        #: an inexact easy subspace is conditioned on with a blur, so that its error reveals nothing (see staircase)
        self.blur = 0.0 if subspaces.exact else min(BLUR, max(30 * subspaces.angle_se, BLUR / 10))
        self.pilot: Array | None = None
        filled = dimensions(link, self.given.shape[1])
        #: the bias that windows leave, over their last change, and how far from that it may be
        self.share, self.doubt = bias_left(filled) if filled > 1 else (0.5, 0.5)

    def run(self, samples: int, max_samples: int, quiet: bool) -> AlgorithmicThreshold:
        """Draw until the eigenvalue differs from zero, or the budget is spent."""
        total, stage, size = 0, 0, samples
        levels = np.zeros(())
        with progress_bar(samples, "delta_alg", quiet=quiet, unit="draws") as bar:
            while True:
                new = []
                for r in range(self.replicates):
                    new.append(self._replicate(stage, r, size // self.replicates))
                    bar.update(size // self.replicates)
                levels = (total * levels + size * np.stack(new)) / (total + size)
                total += size
                maps = _extrapolated(levels, self.share)
                decision = decide_rank(maps[:, 0], resolution=self.resolution)
                if decision.rank > 0 or decision.status == OK or total >= max_samples:
                    break
                stage, size = stage + 1, min(3 * total, max_samples - total)
                bar.total = total + size
        bound = float(1 / (decision.eigenvalues[0] + decision.bounds[0]))
        return self._resolved(levels, bound, total) if decision.rank else self._unresolved(bound, total)

    def _unresolved(self, bound: float, total: int) -> AlgorithmicThreshold:
        return AlgorithmicThreshold(
            status=UNRESOLVED,
            message=(
                f"1/delta_alg cannot be told from zero with {total:.3g} samples, and no symmetry shows that it is: "
                f"delta_alg is above {bound:.3g}"
            ),
            seed=self.seed,
            delta_alg=math.nan,
            delta_alg_se=math.nan,
            lower_bound=bound,
            window_bias=math.nan,
            exact=False,
            direction=np.zeros((self.given.shape[0],) * 2),
            samples=total,
            replicates=self.replicates,
        )

    def _resolved(self, levels: Array, bound: float, total: int) -> AlgorithmicThreshold:
        """The value from maps (R, L, c, c) with ever narrower windows."""
        maps = _extrapolated(levels, self.share)

        def quotients(top: Array) -> Array:
            return np.asarray(np.einsum("rlpq,p,q->rl", maps, top, top))

        level = _widest_consistent(quotients(self.family.top(maps[:, 0])))
        top = self.family.top(maps[:, level])
        values, errors = mean_and_se(quotients(top))
        value, se = float(values[level]), float(errors[level])
        changes = np.abs(np.diff(np.einsum("rlpq,p,q->l", levels, top, top) / self.replicates))
        matrix = np.einsum("c,cij->ij", top, self.family.matrices)
        matrix /= np.trace(matrix)
        blurred = self.blur and self.given.size
        return AlgorithmicThreshold(
            message=(
                f"the easy subspace is not known exactly: it is conditioned on with a blur of {self.blur:.2g}, which "
                "can only raise the value"
                if blurred
                else ""
            ),
            seed=self.seed,
            delta_alg=1 / value,
            delta_alg_se=se / value**2,
            lower_bound=bound,
            window_bias=float(changes.max()) * max(self.doubt, 1.0) / value**2,
            exact=False,
            direction=self.family.hard @ matrix @ self.family.hard.T,
            samples=total,
            replicates=self.replicates,
        )

    def _replicate(self, stage: int, number: int, samples: int) -> Array:
        """One independent estimate (levels, c, c) of the map from so many draws."""
        rng = spawn(self.seed, 2, stage, number)
        size = self.family.hard.shape[1]
        chunks = []
        for draws in sorted_draws(self.link, self.given, self.inner, samples, rng, self.blur):
            f = self.family.features(draws.b[:size])
            maps = self.family.maps(np.stack([pair_moment(f, starts) for starts in draws.levels]))
            if self.pilot is None:
                self.pilot = self._pilot(maps[0])
            chunks.append(maps - self._excess(f, draws.levels[0], self.pilot))
        return np.asarray(np.mean(chunks, axis=0))

    @staticmethod
    def _pilot(map_: Array) -> Array:
        """Top eigenvectors (c, at most 3) of a first estimate, those within a tenth of the first."""
        values, vectors = np.linalg.eigh(map_)
        return np.asarray(vectors[:, -3:][:, values[-3:] >= 0.9 * values[-1]])

    def _excess(self, f: Array, starts: IndexArray, pilot: Array) -> Array:
        """Sampling error of the map (c, c) that the sample means of known polynomials of g_H explain.

        To first order a draw moves <M, E[ G N G ]> by 2 <f, v> - <v, v> with v = E[ f | y, g_E ] and
        <f, v> = sum tr(M B_a N B_b) f_a v_b. Its regression on f_a, f_a^2 - 2 and <f, f> - E<f, f>, all of mean
        zero, times their sample means, is a control variate: subtracting it adds no bias beyond O(1/n). Only the
        block of the top eigenvectors is treated; how well the pilot knows them matters for the variance alone.
        """
        v = window_means(f, starts)
        pairs = list(combinations_with_replacement(range(pilot.shape[1]), 2))
        influences, controls = [], [f, f**2 - 2]
        for i, j in pairs:
            form = np.einsum("abpq,p,q->ab", self.family.products, pilot[:, i], pilot[:, j])
            influences.append(np.einsum("an,an->n", form @ (2 * f - v), v))
            if f.shape[0] > 1:
                controls.append(np.einsum("an,an->n", form @ f, f)[None] - 2 * np.trace(form))
        known = np.concatenate(controls)
        means = known.mean(axis=1)
        known -= means[:, None]
        slopes = np.linalg.lstsq(known @ known.T, known @ np.stack(influences).T, rcond=1e-9)[0]
        block = np.zeros((pilot.shape[1],) * 2)
        for (i, j), share in zip(pairs, means @ slopes, strict=True):
            block[i, j] = block[j, i] = share
        return np.asarray(pilot @ block @ pilot.T)
