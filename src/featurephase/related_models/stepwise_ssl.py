"""Stepwise self-supervised learning: linear Barlow Twins (Simon et al., arXiv:2303.15438).

The loss |W G W' - I|^2, G the symmetric cross-correlation of two views, is minimised by gradient flow of W. From a
start along the eigenvectors V of G every singular value s_j moves alone: s_j^-2 - g_j decays like exp(-8 g_j t). From a
generic small start the same holds with s_j(0) = |R_jj|, W(0) V = Q R, up to terms that vanish with the start.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model
from featurephase.related_models.parameters import choice, count, number, parameter, times, vector

#: Error of a prediction for a generic start over the admixture of other modes, an upper bound (largest of 500 seen: 8).
FACTOR = 20.0


def singular_values(s0: ArrayLike, gamma: ArrayLike, times: ArrayLike) -> Array:
    """Singular values of W along the eigenvectors of G, (time, mode).

    ``s0`` >= 0 are those at the start, ``gamma`` the eigenvalues of G, of either sign; both (mode,). The times (time,)
    are >= 0; infinity is the limit.
    """
    s, g = np.broadcast_arrays(np.asarray(s0, dtype=np.float64), np.asarray(gamma, dtype=np.float64))
    t = np.asarray(times, dtype=np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = s**-2.0
        exponent = np.where(g == 0.0, 0.0, 8.0 * g * t)
        decay = np.exp(-np.abs(exponent))
        rising = 1.0 / np.sqrt(g * -np.expm1(-np.abs(exponent)) + inverse * decay)
        falling = np.exp(0.5 * exponent) / np.sqrt(inverse + np.expm1(exponent) * g)
    return np.where(s == 0.0, 0.0, np.where(g > 0.0, rising, falling))


def critical_time(s0: ArrayLike, gamma: ArrayLike) -> Array:
    """When g s^2 = 1/(2 - g s0^2), about half of its limit: -ln(s0^2 g)/(8 g).

    Infinite for modes that are never learned (g <= 0 or s0 = 0), negative where the step lies in the past.
    """
    s, g = np.broadcast_arrays(np.asarray(s0, dtype=np.float64), np.asarray(gamma, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        times = -(2.0 * np.log(s) + np.log(g)) / (8.0 * g)
    return np.where((g > 0.0) & (s > 0.0), times, np.inf)


def _triangle(weights: Array) -> Array:
    """R of the QR factorisation."""
    return np.asarray(np.linalg.qr(weights)[1])


@model
class StepwiseSSL(RelatedModel):
    """Parameters and quantities of linear Barlow Twins."""

    name: ClassVar[str] = "stepwise-ssl"
    title: ClassVar[str] = "self-supervised learning learns one eigenmode at a time"
    citation: ClassVar[str] = "Simon, Knutins, Ziyin, Geisz, Fetterman, Albrecht, arXiv:2303.15438"
    stochastic: ClassVar[bool] = False
    known: ClassVar[Known] = {
        "s": (("time", "mode"), "singular values of W along the eigenvectors, by decreasing eigenvalue if generic"),
        "embedding": (("time", "mode"), "eigenvalues of W G W', 1 when learned; descending if generic"),
        "loss": (("time",), "|W G W' - I|^2 of the modes given"),
        "critical_time": (("mode",), "when a mode (generic: the next) is half learned; inf: never; negative: before"),
    }

    s0: Array = parameter(
        vector(number(0.0, open_low=False)), "singular values at the start, or its scale", default=(1e-3,)
    )
    gamma: Array = parameter(vector(), "eigenvalues of the cross-correlation", default=(1.0, 0.6, 0.35))
    time: Array = times(8.0, 81, infinite=True)
    start: str = parameter(choice("aligned", "generic"), "along the eigenvectors, or Gaussian", default="aligned")
    embedding: int | None = parameter(count(1, 1000), "rows of W for a generic start; default: all modes", default=None)
    draw: int = parameter(count(0), "which Gaussian start", default=0)

    def check(self) -> None:
        """One singular value, or one a mode; a generic start has one scale > 0."""
        if len(self.s0) not in (1, len(self.gamma)):
            raise InputError(
                f"stepwise-ssl: s0 has {len(self.s0)} values for {len(self.gamma)} modes of gamma; must be 1 or as many"
            )
        if self.start == "generic" and (len(self.s0) > 1 or self.s0[0] == 0.0):
            raise InputError("stepwise-ssl: a generic start has one scale s0 > 0")
        if self.embedding is not None and (self.start != "generic" or self.embedding > len(self.gamma)):
            raise InputError(
                f"stepwise-ssl: embedding = {self.embedding}: only for a generic start, from 1 to {len(self.gamma)}"
            )

    def outside(self) -> str:
        """A generic start has to be small, the smaller the closer the eigenvalues are."""
        if self.start == "aligned" or (found := self.admixture()) <= 0.05:
            return ""
        return (
            f"s0 = {self.s0[0]:g}: the prediction for generic starts needs modes that are learned one after the other; "
            f"they mix by {found:.2g}, must be at most 0.05: take a smaller s0 or eigenvalues further apart"
        )

    def admixture(self) -> float:
        """What other modes have grown to when a mode is learned: sum of g_k R_jk^2 (g_j R_jj^2)^(-g_k/g_j), k > j."""
        if self.start == "aligned":
            return 0.0
        triangle, g = _triangle(self._weights()), np.sort(self.gamma)[::-1]
        total = 0.0
        for j in range(len(triangle)):
            later = g[j + 1 :]
            if g[j] > 0.0 and triangle[j, j] != 0.0:
                grown = triangle[j, j + 1 :] ** 2 * (g[j] * triangle[j, j] ** 2) ** (-later / g[j])
                total += float(np.sum(np.maximum(later, 0.0) * grown))
        return total

    def scope(self) -> str:
        """Exact from an aligned start, asymptotic for a small generic one."""
        return "exact" if self.start == "aligned" else "asymptotic"

    def phase(self) -> Phase:
        """Stepwise if every step is over before the next one is half done."""
        s, g = self._modes()
        steps = np.sort(critical_time(s, g)[(g > 0.0) & (s > 0.0)])
        if not steps.size:
            return Phase("nothing learned", "no mode has gamma > 0 and a start above 0")
        edges = {f"critical_time_{j + 1}": float(t) for j, t in enumerate(steps[:8])}
        if steps[-1] <= 0.0:
            return Phase("learned", "every mode is past its step at the start", edges)
        width = 1.0 / (8.0 * g[g > 0.0].min())
        apart = len(steps) == 1 or float(np.diff(steps).min()) > width
        word = "stepwise" if apart else "overlapping"
        return Phase(word, "a step lasts about 1/(8 gamma)", edges)

    def _weights(self) -> Array:
        """W(0) V of a generic start, columns by decreasing eigenvalue."""
        rng = np.random.default_rng(self.draw)
        rows = len(self.gamma) if self.embedding is None else self.embedding
        return np.asarray(self.s0[0] * rng.standard_normal((rows, len(self.gamma))))

    def _modes(self) -> tuple[Array, Array]:
        """Effective singular values at the start and eigenvalues."""
        if self.start == "aligned":
            return np.broadcast_to(self.s0, self.gamma.shape), self.gamma
        triangle = _triangle(self._weights())
        return np.abs(np.diag(triangle)), np.sort(self.gamma)[::-1][: len(triangle)]

    def coordinates(self) -> dict[str, Array]:
        """The times, and the eigenvalues that stand for the modes."""
        return {"time": self.time, "mode": self._modes()[1]}

    def solve(self) -> Solution:
        """Every mode by its closed form."""
        s, g = self._modes()
        path = singular_values(s, g, self.time)
        learned = g * path**2
        error, tau = 1e-8, critical_time(s, g)  # of the integrator
        if self.start == "generic":  # what other modes add; eigenvalues of a matrix have no names: in order
            early = float(np.abs(self.gamma).max() * np.sum(self._weights() ** 2))
            error = 1e-6 + early + FACTOR * self.admixture()
            learned, tau = -np.sort(-learned, axis=1), np.sort(tau)
        late = error * (1.0 + np.abs(tau) + 1.0 / g[g > 0.0].min(initial=np.inf))
        return self.solution(
            {
                "s": (path, error * (1.0 + path)),
                "embedding": (learned, error * (1.0 + np.abs(learned))),
                "loss": (np.sum((1.0 - learned) ** 2, axis=1), 4.0 * error * len(g)),
                "critical_time": (tau, np.where(np.isfinite(tau), late, 0.0)),
            }
        )

    def train(self, rng: np.random.Generator) -> dict[str, Array]:
        """The gradient flow of the whole matrix W, its eigenvectors turned at random, by numerical integration."""
        s, g = self._modes()
        aligned = self.start == "aligned"
        spectrum = g if aligned else np.sort(self.gamma)[::-1]
        views = np.linalg.qr(rng.standard_normal((len(spectrum), len(spectrum))))[0]
        rows = np.diag(s) if aligned else self._weights()
        start = np.linalg.qr(rng.standard_normal((len(rows), len(rows))))[0] @ rows @ views.T
        correlation = (views * spectrum) @ views.T

        def flow(_: float, flat: Array) -> Array:
            w = flat.reshape(start.shape)
            seen = w @ correlation
            return np.asarray(-4.0 * ((seen @ w.T - np.eye(len(w))) @ seen)).ravel()

        tau = critical_time(s, g) if aligned else np.sort(critical_time(s, g))
        finite = tau[np.isfinite(tau)]
        end = max(float(self.time[np.isfinite(self.time)].max(initial=0.0)), 1.5 * float(finite.max(initial=0.0)), 1e-3)
        smallest = 1e-12 * max(float(s[s > 0.0].min(initial=1.0)), 1e-200)
        run = solve_ivp(flow, (0.0, end), start.ravel(), method="DOP853", rtol=1e-11, atol=smallest, dense_output=True)
        path: Any = run.sol

        def embedding(t: float) -> Array:
            w = path(t).reshape(start.shape) @ views
            inner = (w * spectrum) @ w.T
            return np.diag(rows.T @ rows > 0) * g * np.sum(w**2, axis=0) if aligned else np.linalg.eigvalsh(inner)[::-1]

        def crossing(j: int) -> float:
            level = 1.0 / (2.0 - g[j] * s[j] ** 2) if aligned else 0.5
            if not 0.0 < tau[j] < np.inf:
                return float(tau[j])
            inside = (embedding(0.0)[j] - level) * (embedding(end)[j] - level) < 0.0
            return float(brentq(lambda t: embedding(t)[j] - level, 0.0, end, xtol=1e-12)) if inside else np.nan

        learned = np.array([embedding(t) if np.isfinite(t) else np.full(len(g), np.nan) for t in self.time])
        values = [np.sum((path(t).reshape(start.shape) @ views) ** 2, axis=0) for t in self.time if np.isfinite(t)]
        lengths = np.full((len(self.time), len(spectrum)), np.nan)
        lengths[np.isfinite(self.time)] = np.sqrt(np.array(values).reshape(-1, len(spectrum)))
        return ({"s": lengths} if aligned else {}) | {
            "embedding": learned,
            "loss": np.sum((1.0 - learned) ** 2, axis=1),
            "critical_time": np.array([crossing(j) for j in range(len(g))]),
        }

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """The eigenvalues of the embedding and the loss over time."""
        modes, losses = [], []
        for time, values, _, style in self.over_time("embedding", theory, simulated):
            for j, (row, g) in enumerate(zip(values.T, self._modes()[1], strict=True)):
                modes.append(Curve(time, row, rf"$\gamma={g:.3g}$" if style == "line" else "", style, colour=j))
        for time, values, _, style in self.over_time("loss", theory, simulated):
            losses.append(Curve(time, values, "theory" if style == "line" else "trained", style, colour=0))
        end = max((float(c.x.max()) for c in losses if len(c.x)), default=0.0)
        steps = tuple((float(t), "") for t in critical_time(*self._modes()) if 0.0 < t <= end)
        return (
            Panel("time", r"eigenvalues of $W\Gamma W^\top$", tuple(modes), vertical=steps),
            Panel("time", "loss", tuple(losses), vertical=steps),
        )
