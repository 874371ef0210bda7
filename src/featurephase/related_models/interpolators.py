"""Interpolators of a diagonal network of any depth, from a start of any size (theory/related, eqs. rel-diagonal,
rel-dual).

The limit of training from u_+ = u_- = alpha is beta_i = alpha^D h_D(z_i), z = X' nu, with X beta = y, h_2 = 2 sinh and
h_D(z) = (1-z)^-e - (1+z)^-e, e = D/(D-2), |z| < 1. The equation for nu is the stationarity of a convex function, and is
followed by Newton's method from a large alpha, where it is linear, down to the alpha asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.optimize import linprog

from featurephase.foundation.types import Array

#: Residual, in units of the largest response, at which Newton's method has converged.
CONVERGED = 4e-15
#: Distance of some |z_i| from 1 at which depths above 2 go over to coordinates relative to the limit.
NEAR = 1e-3


@dataclass
class _Dual:
    """The point nu of the dual at one alpha, with z = X' nu kept as a base plus X' mu.

    On the ``face`` (the coordinates that survive alpha -> 0) the base is the sign they end with, so that 1 - |z| is
    -sign x_i.mu with full relative accuracy however small it is.
    """

    x: Array
    y: Array
    depth: int
    log_alpha: float
    mu: Array
    base: Array
    face: NDArray[np.bool_]
    project: Array | None = None
    exponent: float = field(init=False)

    def __post_init__(self) -> None:
        self.exponent = self.depth / (self.depth - 2.0) if self.depth > 2 else math.inf

    def parts(self, mu: Array) -> tuple[Array, Array, Array]:
        """Signs of z, |z| and 1 - |z|."""
        move = mu @ self.x
        z = self.base + move
        return np.where(z < 0.0, -1.0, 1.0), np.abs(z), np.where(self.face, -self.base * move, 1.0 - np.abs(z))

    def inside(self, mu: Array) -> bool:
        """Whether all |z| are below 1 (depth 2 has no such bound)."""
        return self.depth == 2 or bool(np.all(self.parts(mu)[2] > 0.0))

    def predictor(self, mu: Array) -> tuple[Array, Array, float]:
        """beta, its derivative by z, and the convex function whose gradient is X beta - y."""
        sign, size, gap = self.parts(mu)
        scale = self.depth * self.log_alpha
        if self.depth == 2:
            beta = sign * np.exp(size + scale) * -np.expm1(-2.0 * size)
            slope = np.hypot(beta, 2.0 * math.exp(scale))
            potential = np.exp(size + scale) * np.expm1(-size) ** 2
        else:
            e, unit = self.exponent, math.exp(scale)
            near, far = np.log(gap), np.log1p(size)  # logarithms of 1 - |z| and 1 + |z|
            near[~self.face] = np.log1p(-size[~self.face])
            with np.errstate(over="ignore"):
                beta = sign * unit * (np.expm1(-e * near) - np.expm1(-e * far))
                slope = e * (np.exp(scale - (e + 1) * near) + np.exp(scale - (e + 1) * far))
                sides = np.expm1(-(e - 1) * near) + np.expm1(-(e - 1) * far)
            potential = unit * sides / (e - 1.0)
        return beta, slope, float(potential.sum() - mu @ self.y)

    def solve(self, slope: Array, right: Array) -> Array:
        """(X C X')^-1 right by a QR of the rows of C^(1/2) X', largest first: its accuracy survives any range of C."""
        rows = np.sqrt(slope)[:, None] * self.x.T
        order = np.argsort(-np.abs(rows).max(axis=1), kind="stable")
        r, pivots = linalg.qr(rows[order], mode="r", pivoting=True)[:2]
        r = r[: len(pivots)]
        step = np.empty_like(right)
        step[pivots] = linalg.solve_triangular(r, linalg.solve_triangular(r, right[pivots], trans="T"))
        return step

    def newton(self) -> Array:
        """Newton's method with backtracking; returns beta."""
        beta, slope, value = self.predictor(self.mu)
        best, stagnant = np.inf, 0
        for _ in range(60):
            residual = self.y - self.x @ beta
            size = float(np.abs(residual).max())
            stagnant = 0 if size < 0.5 * best else stagnant + 1
            best = min(best, size)
            if size <= CONVERGED or stagnant >= 8:
                break
            step = self.solve(slope, residual)
            decrease, length = float(step @ residual), 1.0
            while length > 1e-12:
                trial = self.mu + length * step
                if self.inside(trial):
                    found = self.predictor(trial)
                    near = float(np.abs(self.y - self.x @ found[0]).max())
                    if found[2] <= value - 1e-4 * length * decrease or (size < 1e-6 and near < size):
                        break
                length *= 0.5
            else:
                break
            self.mu, (beta, slope, value) = trial, found
        return beta

    def follow(self, log_alpha: float) -> Array:
        """Go down to this alpha in steps short enough for the tangent of the path to lead there."""
        longest = 1.0 if self.depth == 2 else 0.35
        beta = self.newton()
        while self.log_alpha > log_alpha:
            self._recentre(beta)
            step = max(log_alpha - self.log_alpha, -longest)
            tangent = -self.depth * self.solve(self.predictor(self.mu)[1], self.y)
            while not self.inside(self.mu + step * tangent):
                step *= 0.5
            self.mu = self.mu + step * tangent
            self.log_alpha += step
            beta = self.newton()
        return beta

    def _recentre(self, beta: Array) -> None:
        """Keep the small part of nu apart from the large one (depths above 2, once some |z| is close to 1)."""
        if self.depth == 2:
            return
        if self.project is None:
            if self.parts(self.mu)[2].min() > NEAR:
                return
            self.face, columns = _face(self.x, self.y)
            self.project = columns @ np.linalg.pinv(columns)
            signs = np.sign(self.parts(self.mu)[0]) * self.face
            start = self.mu + np.linalg.pinv(columns.T) @ (signs - self.mu @ self.x)[self.face]
            self.base, self.mu = np.where(self.face, signs, start @ self.x), self.mu - start
        small = self.project @ self.mu
        large = self.mu - small
        self.base, self.mu = np.where(self.face, self.base, self.base + large @ self.x), small


def limit_predictors(x: Array, y: Array, depth: int, alphas: Array) -> Array:
    """The limits of training for several sizes alpha > 0 of the start, (case, input).

    Inputs (sample, input) have full row rank, responses are (sample,), the depth D is at least 2.
    """
    scale = float(np.abs(y).max())
    out = np.zeros((len(alphas), x.shape[1]))
    if scale == 0.0:
        return out
    logs = np.log(np.asarray(alphas, dtype=np.float64)) - math.log(scale) / depth
    linear = minimum_l2(x, y / scale)
    # At ten times the size of the predictor the problem is linear: a start that Newton's method takes in its stride.
    start = max(float(logs.max()), math.log(10.0 * max(1.0, np.abs(linear).max())) / depth)
    weight = 2.0 * math.exp(depth * start) * (1.0 if depth == 2 else depth / (depth - 2.0))
    nu = np.asarray(np.linalg.solve(x @ x.T, y / scale) / weight, dtype=np.float64)
    dual = _Dual(x, y / scale, depth, start, nu, np.zeros(x.shape[1]), np.zeros(x.shape[1], dtype=bool))
    for case in np.argsort(-logs, kind="stable"):
        out[case] = scale * dual.follow(float(logs[case])) + 0.0  # no negative zeros
    return out


def minimum_l2(x: Array, y: Array) -> Array:
    """The interpolator of least Euclidean norm, the limit alpha -> infinity."""
    return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0], dtype=np.float64)


def _face(x: Array, y: Array) -> tuple[NDArray[np.bool_], Array]:
    """Coordinates that are not zero in every interpolator of least l1 norm, and their columns of X.

    One linear program finds the least norm, a second one a multiple of an interpolator of that norm whose every entry
    that can differ from zero reaches 1.
    """
    samples, inputs = x.shape
    both = np.hstack([x, -x])
    first = linprog(np.ones(2 * inputs), A_eq=both, b_eq=y, method="highs")
    least = float(np.sum(np.asarray(first.x)))
    width = 2 * inputs
    equal = np.hstack([both, -y[:, None], np.zeros((samples, width))])  # unknowns: beta+-, multiple, min(beta+-, 1)
    above = np.hstack([-np.eye(width), np.zeros((width, 1)), np.eye(width)])
    norm = np.concatenate([np.ones(width), [-least * (1.0 + 1e-11)], np.zeros(width)])[None]
    bounds = [(0.0, None)] * width + [(0.0, 1e6)] + [(0.0, 1.0)] * width
    second = linprog(
        np.concatenate([np.zeros(width + 1), -np.ones(width)]),
        A_ub=np.vstack([above, norm]),
        b_ub=np.zeros(width + 1),
        A_eq=equal,
        b_eq=np.zeros(samples),
        bounds=bounds,
        method="highs",
    )
    reached = np.asarray(second.x)[-width:] > 0.5
    face = reached[:inputs] | reached[inputs:]
    return face, x[:, face]


def minimum_l1(x: Array, y: Array, depth: int = 2) -> Array:
    """The limit alpha -> 0: of all interpolators of least l1 norm the one that this depth selects.

    Where there are several, depth 2 minimises the sum of |b|(ln|b| - 1) among them, a larger depth maximises the sum of
    |b|^(2/D).
    """
    out = np.zeros(x.shape[1])
    scale = float(np.abs(y).max())
    if scale == 0.0:
        return out
    face, columns = _face(x, y / scale)
    left, values, right = np.linalg.svd(columns, full_matrices=False)
    rank = int(np.sum(values > 1e-10 * values[0]))
    rows, response = values[:rank, None] * right[:rank], left[:, :rank].T @ (y / scale)
    # On the face alone the limit is reached up to terms of order alpha^4 (depth 2) or alpha^D.
    out[face] = limit_predictors(rows, response, depth, np.array([10.0 ** (-60.0 / depth)]))[0] * scale
    return out
