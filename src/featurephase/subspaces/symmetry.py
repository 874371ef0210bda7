"""What a link leaves unchanged, verified on its values: exact facts about its easy and hard directions.

If T is orthogonal and phi(T g, noise) = phi(g, noise), or with some of the noise reflected as well, then (T g, y) has
the law of (g, y). So E[g | y, g_U] is fixed by T whenever T fixes U pointwise, and every easy direction is fixed by
all symmetries that fix the start: an exact upper bound on the easy subspace, where samples give a lower one.

Candidates are the signed permutations of the coordinates (all of them up to five coordinates), and reflections through
a subspace that samples suggest. A candidate counts once the responses agree to rounding on a large set of points that
covers the tails of the Gaussian too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, permutations, product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array
from featurephase.functions.responses import class_probabilities
from featurephase.results.subspaces import Symmetry
from featurephase.subspaces.conditional import spawn

if TYPE_CHECKING:
    from featurephase.functions import Link

#: relative difference of two responses that counts as rounding
ROUNDING = 1e-9

#: up to this many coordinates all signed permutations are tried: 2^5 5! = 3840
ALL_SIGNED_PERMUTATIONS = 5

#: up to this many coordinates symmetric matrices (for the algorithmic threshold) are followed too
MATRICES = 8

SCREEN, VERIFY, POINTS_AT_ONCE = 64, 2**16, 2**18


# --------------------------------------------------------------------------------------------- linear algebra


def canonical_basis(span: Array) -> Array:
    """The same orthonormal basis for the same subspace, made of coordinate axes as far as they lie in it.

    Parameters
    ----------
    span
        Orthonormal columns (k, r).

    Notes
    -----
    Gram-Schmidt on the columns of the projector, longest first (the earlier coordinate where lengths agree to
    rounding), ordered by the coordinate they came from; round-off is set to zero, nothing else.
    """
    residual = span @ span.T
    columns: list[tuple[int, Array]] = []
    for _ in range(span.shape[1]):
        lengths = np.linalg.norm(residual, axis=0)
        pivot = int(np.flatnonzero(lengths >= lengths.max() - 1e-9)[0])
        column = residual[:, pivot] / lengths[pivot]
        columns.append((pivot, column))
        residual = residual - np.outer(column, column @ residual)
    if not columns:
        return np.empty((span.shape[0], 0))
    basis = np.column_stack([column for _, column in sorted(columns, key=lambda pair: pair[0])])
    basis[np.abs(basis) < 1e-12] = 0.0
    return np.asarray(basis / np.linalg.norm(basis, axis=0))


def complement(span: Array, within: Array | None = None) -> Array:
    """Orthonormal basis of the vectors orthogonal to the columns ``span`` (among those spanned by ``within``)."""
    space = np.eye(span.shape[0]) if within is None else within
    return canonical_basis(space @ _null_space(span.T @ space))


def _null_space(constraints: Array) -> Array:
    """Vectors that the rows of ``constraints`` (rows of order one, or zero) send to zero, to rounding."""
    _, values, right = np.linalg.svd(constraints, full_matrices=True)
    return np.asarray(right[int(np.sum(values > 1e-7)) :].T)


def fixed_space(maps: list[Array], dim: int) -> Array:
    """Orthonormal basis (dim, r) of the vectors that every one of the matrices (dim, dim) leaves alone."""
    if not maps:
        return np.eye(dim)
    return canonical_basis(_null_space(np.concatenate([matrix - np.eye(dim) for matrix in maps])))


def direction_name(direction: Array) -> str:
    """``"g2"`` for a coordinate, ``"0.707*g1 - 0.707*g2"`` for a combination; coefficients below 0.005 are left out."""
    terms = [(float(c), f"g{j + 1}") for j, c in enumerate(direction) if abs(c) >= 5e-3]
    if len(terms) == 1:
        return terms[0][1]
    words = " ".join(f"{'-' if c < 0 else '+'} {abs(c):.3g}*{name}" for c, name in terms)
    return words[2:] if words.startswith("+") else "-" + words[2:]


# --------------------------------------------------------------------------------------------- the link's values


class _Points:
    """Points (g, e, u) to compare responses at: Gaussian ones at one, two and three times their scale.

    Responses are (parts, n): a number has one part, a vector its components, a class the probabilities of all classes.
    """

    def __init__(self, link: Link, count: int, seed: int, key: int) -> None:
        rng = spawn(seed, 0, key)
        self.link = link
        self.g = rng.standard_normal((link.latent_dim, count)) * (1 + np.arange(count) % 3)
        self.e = rng.standard_normal((link.normals, count))
        self.u = rng.random((_uniforms(link), count))
        self.y = self.response(self.g)
        finite = [np.abs(row[np.isfinite(row)]) for row in self.y]
        self.scale = np.array([float(np.median(row)) if row.size else 0.0 for row in finite])

    def response(self, g: Array, flips: tuple[int, ...] = ()) -> Array:
        """y (parts, n) at other coordinates (k, n or a multiple), with the noise numbered in ``flips`` reflected."""
        copies = g.shape[1] // self.g.shape[1]
        e, u = np.tile(self.e, copies), np.tile(self.u, copies)
        for j in flips:
            if j < e.shape[0]:
                e[j] *= -1
            else:
                u[j - e.shape[0]] = 1 - u[j - e.shape[0]]
        with np.errstate(all="ignore"):
            if self.link.labels:
                return class_probabilities(self.link, g, e, u)
            return np.asarray(np.atleast_2d(self.link.evaluate(g, e, u).T), dtype=np.float64)

    def logits(self, g: Array) -> Array:
        """What a class depends on, the logits less the first, (K - 1, n); the response where it is no class."""
        if not self.link.labels:
            return self.response(g)
        with np.errstate(all="ignore"):
            parts = [p.evaluate(g, self.e[: p.normals], self.u[: p.uniforms]) for p in self.link.parts]
            return np.stack(parts[1:]) - parts[0]

    def agree(self, y: Array) -> NDArray[np.bool_]:
        """Whether responses (parts, n), or (parts, copies, n), equal those at the points, to rounding, in all parts.

        Infinite ones must be the same.
        """
        shape = (len(y), *[1] * (y.ndim - 2), -1)
        mine, scale = np.broadcast_to(self.y.reshape(shape), y.shape), self.scale.reshape(shape)
        with np.errstate(invalid="ignore"):
            close = np.abs(y - mine) <= ROUNDING * (np.abs(y) + 0.1 * scale)
        return np.asarray((close | (y == mine) | (np.isnan(y) & np.isnan(mine))).all(axis=(0, -1)))


def _uniforms(link: Link) -> int:
    """How many uniform numbers the response, or the law of the class, is a function of: not the one that draws it."""
    return link.uniforms - (link.decision == "softmax")


def _noise_flips(link: Link) -> list[tuple[int, ...]]:
    """Which noise variables to reflect along: none, every subset of up to three, one at a time beyond."""
    number = link.normals + _uniforms(link)
    if number > 3:
        return [(), *((j,) for j in range(number))]
    return [flips for size in range(number + 1) for flips in combinations(range(number), size)]


def _signed_permutations(dim: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Permutations with signs, g_i -> sign_i g_perm(i), reflections first and the identity left out."""
    identity = tuple(range(dim))

    def flip(*negative: int) -> tuple[int, ...]:
        return tuple(-1 if i in negative else 1 for i in range(dim))

    if dim <= ALL_SIGNED_PERMUTATIONS:
        for perm in permutations(range(dim)):
            for signs in sorted(product((1, -1), repeat=dim), key=lambda s: s.count(-1)):
                if (perm, signs) != (identity, flip()):
                    yield perm, signs
        return
    for i in range(dim):
        yield identity, flip(i)
    yield identity, flip(*identity)
    for i, j in combinations(range(dim), 2):
        yield identity, flip(i, j)
        swapped = tuple({i: j, j: i}.get(l, l) for l in range(dim))
        yield swapped, flip()
        yield swapped, flip(i, j)


def _words(perm: tuple[int, ...], signs: tuple[int, ...], flips: tuple[int, ...], link: Link) -> str:
    moves = [
        f"g{i + 1} -> {'-' if s < 0 else ''}g{j + 1}"
        for i, (j, s) in enumerate(zip(perm, signs, strict=True))
        if i != j or s < 0
    ]
    moves += [
        f"e{j + 1} -> -e{j + 1}" if j < link.normals else f"u{j - link.normals + 1} -> 1 - u{j - link.normals + 1}"
        for j in flips
    ]
    return ", ".join(moves)


def symmetries(link: Link, fixed: Array, seed: int) -> list[Symmetry]:
    """Signed permutations of g (with reflections of the noise) that leave the response unchanged and ``fixed`` alone.

    Only as many as it takes: a symmetry is kept if it shrinks the space of vectors, or of symmetric matrices, that all
    symmetries found before leave alone.

    Parameters
    ----------
    link
        y = phi(g, noise).
    fixed
        Columns (k, s) that the symmetries have to leave alone.
    seed
        Seed of the points at which responses are compared.
    """
    dim = link.latent_dim
    screen = _Points(link, SCREEN, seed, 0)
    verify: _Points | None = None
    flips_to_try = _noise_flips(link)
    candidates = [
        (perm, signs)
        for perm, signs in _signed_permutations(dim)
        if np.allclose(np.array(signs)[:, None] * fixed[list(perm)], fixed, rtol=0, atol=1e-12)
    ]
    vectors, tensors = np.eye(dim), np.eye(dim * dim if dim <= MATRICES else 0)
    accepted: list[Symmetry] = []
    batch = max(POINTS_AT_ONCE // SCREEN, 1)
    for start in range(0, len(candidates), batch):
        some = candidates[start : start + batch]
        perms, signs = np.array([c[0] for c in some]), np.array([c[1] for c in some])
        g = signs[:, :, None] * screen.g[perms]  # (candidates, k, points)
        g = g.transpose(1, 0, 2).reshape(dim, -1)
        passed = [
            screen.agree(screen.response(g, flips).reshape(len(screen.y), len(some), -1)) for flips in flips_to_try
        ]
        for number, (perm, sign) in enumerate(some):
            if not any(ok[number] for ok in passed):
                continue
            matrix = np.array(sign)[:, None] * np.eye(dim)[list(perm)]
            moves_vector = not np.allclose(matrix @ vectors, vectors, rtol=0, atol=1e-9)
            square = np.kron(matrix, matrix) if tensors.size else tensors
            moves_tensor = not np.allclose(square @ tensors, tensors, rtol=0, atol=1e-9)
            if not (moves_vector or moves_tensor):
                continue
            for flips, ok in zip(flips_to_try, passed, strict=True):
                if not ok[number]:
                    continue
                verify = verify or _Points(link, VERIFY, seed, 1)
                if verify.agree(verify.response(matrix @ verify.g, flips)):
                    accepted.append(Symmetry(matrix, _words(perm, sign, flips, link)))
                    vectors = vectors @ _null_space(matrix @ vectors - vectors)
                    tensors = tensors @ _null_space(square @ tensors - tensors)
                    break
    return accepted


def _polished(link: Link, span: Array, fixed: Array, factor: float, flips: tuple[int, ...], seed: int) -> Array | None:
    """The subspace near ``span`` for which phi(P g + factor (1 - P) g) = phi(g) exactly, if there is one.

    P projects on the subspace; it keeps the columns ``fixed``. Least squares in the tangent coordinates of the
    subspace; the outcome counts only if the responses agree to rounding on new points.
    """
    points = _Points(link, 512, seed, 2)
    free, outside = complement(fixed, span), complement(span)
    scale = np.where(points.scale > 0, points.scale, 1.0)[:, None]

    def turned(z: Array) -> Array:
        moved_free = free + outside @ z.reshape(outside.shape[1], -1)
        return np.asarray(np.linalg.qr(np.column_stack([fixed, moved_free]))[0])

    def moved(basis: Array, g: Array) -> Array:
        inside: Array = basis @ (basis.T @ g)
        return inside + factor * (g - inside)

    def residual(z: Array) -> Array:
        y = points.response(moved(turned(z), points.g), flips)
        difference = np.arcsinh(y / scale) - np.arcsinh(points.y / scale)
        return np.asarray(np.nan_to_num(difference, posinf=1e3, neginf=-1e3)).ravel()

    start = np.zeros(outside.shape[1] * free.shape[1])
    if start.size:
        from scipy.optimize import least_squares  # a tenth of a second, and needed only where there is an angle to find

        start = least_squares(residual, start, jac="3-point", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=60).x
    basis = turned(start)
    verify = _Points(link, VERIFY, seed, 3)
    return basis if verify.agree(verify.response(moved(basis, verify.g), flips)) else None


def mirrored(link: Link, span: Array, fixed: Array, tolerance: float, seed: int) -> tuple[Array, Symmetry] | None:
    """An exact symmetry that reflects everything orthogonal to a subspace near ``span``, and that subspace.

    Parameters
    ----------
    span
        Orthonormal columns (k, p): an estimate of the easy subspace.
    fixed
        Orthonormal columns (k, s) that it contains exactly.
    tolerance
        Largest acceptable angle (radians) between the estimate and the exact subspace.

    Returns
    -------
    tuple or None
        The exact subspace (k, p) and its symmetry, if there is one.
    """
    for flips in _noise_flips(link):
        basis = _polished(link, span, fixed, -1.0, flips, seed)
        if basis is None:
            continue
        sine = np.linalg.norm(basis - span @ (span.T @ basis), 2) if span.size else 0.0
        if sine <= math.sin(min(tolerance, math.pi / 2)) + 1e-9:
            where = ", ".join(direction_name(column) for column in canonical_basis(basis).T) or "nothing"
            return basis, Symmetry(2 * basis @ basis.T - np.eye(basis.shape[0]), f"g -> -g except along {where}")
    return None


def scale_free(link: Link, hard: Array, seed: int) -> Array:
    """Directions (h, s), in the coordinates of the columns ``hard`` (k, h), on whose sign alone the response depends.

    The size of such a coordinate is independent of the response and of all other coordinates, so that
    E[ (w'g)^2 | y, .. ] = 1 exactly. Tried are the columns and the diagonals between any two of them.
    """
    size = hard.shape[1]
    points = _Points(link, VERIFY, seed, 5)
    stretch = np.exp(spawn(seed, 0, 6).standard_normal(VERIFY)) - 1

    def free(direction: Array) -> bool:
        w = hard @ direction
        return bool(points.agree(points.response(points.g + np.outer(w, stretch * (w @ points.g)))))

    axes = np.eye(size)
    diagonals = [(axes[i] + s * axes[j]) / math.sqrt(2) for i, j in combinations(range(size), 2) for s in (1, -1)]
    return np.array([w for w in (*axes, *diagonals) if free(w)]).reshape(-1, size).T


def relevant_space(link: Link, seed: int) -> Array:
    """Orthonormal basis (k, r) of the directions that the link depends on.

    Coordinates that the link does not name are out. So are combinations (g1 - g2 for a function of g1 + g2) on which
    its gradient vanishes, if its values at points moved along them stay the same to rounding.
    """
    dim = link.latent_dim
    used = np.eye(dim)[:, sorted(j - 1 for j in link.uses)]
    if used.shape[1] < 2:
        return used
    points = _Points(link, 2048, seed, 4)
    step = 1e-4
    gradient = np.stack(
        [
            (points.logits(points.g + step * axis[:, None]) - points.logits(points.g - step * axis[:, None])).ravel()
            for axis in used.T
        ]
    )
    lengths = np.linalg.norm(gradient, axis=0)
    kept = np.isfinite(lengths) & (lengths > 0)
    if not kept.any():
        return used
    unit = gradient[:, kept] / lengths[kept]
    values, vectors = np.linalg.eigh(unit @ unit.T / kept.sum())
    span = used @ vectors[:, values > 1e-6]
    if span.shape[1] == used.shape[1]:
        return used
    polished = _polished(link, span, np.empty((dim, 0)), 0.0, (), seed)
    return used if polished is None else canonical_basis(polished)
