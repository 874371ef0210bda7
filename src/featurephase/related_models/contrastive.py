"""The role of nonlinearity in contrastive learning (Tian, arXiv:2206.01342).

With uniform pair weights the contrastive energy of one unit is half the variance of its output over inputs. Inputs
are one of M orthonormal patterns with probabilities p, so w has coordinates w_m along them. A linear unit climbs
w'Aw/2, A = diag(p) - pp', to the top eigenvector of A: one mixed direction (PCA). A ReLU unit has A on its active
patterns alone, w' = A_S w_S: patterns below the mean sum p_m w_m fall out one by one and never come back, until one is
left. Every pattern is such a local optimum, so many units cover many patterns.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.active_patterns import follow, patterns_left, second_moments
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model, points
from featurephase.related_models.parameters import choice, count, number, parameter, times, vector
from featurephase.results.status import SADDLE


@model
class Contrastive(RelatedModel):
    """Parameters and quantities of contrastive learning on orthogonal patterns."""

    name: ClassVar[str] = "contrastive"
    title: ClassVar[str] = "contrastive learning: ReLU units find every pattern, linear ones a single mixture"
    citation: ClassVar[str] = "Tian, arXiv:2206.01342"
    fractions: ClassVar[frozenset[str]] = frozenset({"dead", "won", "covered"})
    known: ClassVar[Known] = {
        "direction": (("time", "pattern"), "unit vector of one ReLU unit along the patterns"),
        "linear_direction": (("pattern",), "where every linear unit ends: the top eigenvector, up to its sign"),
        "linear_optima": ((), "local optima of a linear unit, up to the sign"),
        "relu_optima": ((), "local optima of a ReLU unit: one a pattern"),
        "optimum": (("pattern",), "variance p(1-p) at the optimum of each pattern"),
        "linear_optimum": ((), "variance at the top eigenvector"),
        "dead": ((), "probability 2^-M that no pattern is active at a random start"),
        "won": (("pattern",), "fraction of units that end at each pattern"),
        "covered": ((), "fraction of the patterns found by the ReLU units together"),
        "covered_linear": ((), "the same with linear units"),
        "local_covered": ((), "two layers: fraction of local patterns found by ReLU filters"),
        "local_covered_linear": ((), "the same with linear filters"),
    }

    p: Array = parameter(vector(number(0.0, 1.0)), "probabilities of the patterns, sum 1", default=(0.4, 0.3, 0.2, 0.1))
    w0: Array | None = parameter(vector(), "start of the unit that is followed; default: drawn", default=None)
    units: int = parameter(count(1, 10**4), "units of one layer", default=20)
    time: Array = times(30.0, 61)
    fields: int = parameter(count(1, 16), "two layers: receptive fields, each with local patterns", default=4)
    local: int = parameter(count(2, 16), "two layers: local patterns of a field", default=5)
    filters: int = parameter(count(1, 64), "two layers: filters of a field", default=10)
    scenes: int = parameter(count(2, 256), "two layers: global patterns, a random local one in each field", default=20)
    activation: str = parameter(choice("relu", "linear"), "activation of the unit that is followed", default="relu")
    draw: int = parameter(count(0), "which random start", default=0)

    def check(self) -> None:
        """Probabilities that add to 1, and a start for every pattern."""
        if len(self.p) < 2 or abs(float(self.p.sum()) - 1.0) > 1e-9:
            raise InputError(
                f"contrastive: p: at least two probabilities that add to 1 are needed; these add to {self.p.sum():.12g}"
            )
        if self.w0 is not None and (len(self.w0) != len(self.p) or not np.any(self.w0)):
            raise InputError(f"contrastive: w0 must be {len(self.p)} numbers, not all 0")

    def _start(self) -> Array:
        if self.w0 is not None:
            return self.w0
        return np.asarray(np.random.default_rng(self.draw).standard_normal(len(self.p)))

    def phase(self) -> Phase:
        """Which pattern the followed unit ends at."""
        if self.activation == "linear":
            return Phase("principal component", "a linear unit ends at the top eigenvector of diag(p) - pp'")
        left = patterns_left(self.p, self._start())
        if not left:
            return Phase("dead", "no pattern is active at the start: the unit stays")
        if len(left) > 1:
            return Phase("saddle", f"the unit rests between the patterns {', '.join(str(m + 1) for m in left)}")
        return Phase("pattern", f"the unit ends at pattern {left[0] + 1}: a local optimum of variance p(1-p)")

    def coordinates(self) -> dict[str, Array]:
        """Times, and patterns from 1."""
        return {"time": self.time, "pattern": np.arange(1.0, len(self.p) + 1.0)}

    def solve(self) -> Solution:
        """Optima, and the exact path of the followed unit."""
        values, vectors = np.linalg.eigh(second_moments(self.p))
        top = vectors[:, -1] * np.sign(vectors[np.argmax(np.abs(vectors[:, -1])), -1])
        m = len(self.p)
        if self.activation == "relu":
            path = follow(self.p, self._start(), self.time)[0]
        else:
            moved = (np.exp((values - values[-1]) * self.time[:, None]) * (vectors.T @ self._start())) @ vectors.T
            path = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        known: dict[str, Any] = {
            "direction": (path, 2e-3),
            "linear_optima": 1,
            "relu_optima": m,
            "optimum": self.p * (1.0 - self.p),
            "linear_optimum": float(values[-1]),
            "dead": 2.0**-m,
        }
        if values[-1] - values[-2] > 1e-3 * values[-1]:  # one top eigenvector
            known["linear_direction"] = top, 1e-6
        if np.ptp(self.p) < 1e-12:  # by symmetry every pattern wins equally often
            share = (1.0 - 2.0**-m) / m
            known |= {"won": np.full(m, share), "covered": 1.0 - (1.0 - share) ** self.units}
        if self.activation == "relu" and len(patterns_left(self.p, self._start())) > 1:
            note = "the start leads to a saddle, up to rounding: the smallest perturbation lets the unit escape"
            return self.solution(known, SADDLE, note)
        return self.solution(known)

    def train(self, rng: np.random.Generator) -> dict[str, Any]:
        """Gradient ascent of the variance over inputs: one unit, many units, and two layers."""
        relu = self.activation == "relu"
        starts = rng.standard_normal((self.units, len(self.p)))
        ends, linear = _ascend(self.p, starts, relu=True), _ascend(self.p, starts, relu=False)
        winners = np.where(np.any(starts > 0.0, axis=1), np.argmax(ends, axis=1), -1)
        won = np.array([np.mean(winners == j) for j in range(len(self.p))])
        top = linear[0] * np.sign(linear[0, np.argmax(np.abs(linear[0]))])
        order = np.argsort(self.time, kind="stable")
        path = np.empty((len(self.time), len(self.p)))
        path[order] = _path(self.p, self._start(), self.time[order], relu=relu)
        return {
            "direction": path,
            "linear_direction": top,
            "dead": np.mean(winners < 0),
            "won": won,
            "covered": np.mean(won > 0.0),
            "covered_linear": np.mean(np.max(linear > 0.9, axis=0)),
            "local_covered": self._two_layers(rng, relu=True),
            "local_covered_linear": self._two_layers(rng, relu=False),
        }

    def _two_layers(self, rng: np.random.Generator, *, relu: bool, steps: int = 600) -> float:
        """Fraction of the local patterns to which some filter of their field is aligned (cosine above 0.9).

        An input shows one of the global patterns: in each field the local pattern that belongs to it. Filters of all
        fields are trained to the largest variance along the top components of the second layer's outputs, as many as
        there are filters of a field.
        """
        k, m, f = self.fields, self.local, self.filters
        shown = rng.integers(0, m, (self.scenes, k))
        x = np.eye(m)[shown]  # (global, field, local)
        w = rng.standard_normal((k, f, m))
        w /= np.linalg.norm(w, axis=2, keepdims=True)
        for _ in range(steps):
            hidden = np.einsum("gkm,kfm->gkf", x, w)
            gate = (hidden > 0.0).astype(np.float64) if relu else np.ones_like(hidden)
            features = (hidden * gate).reshape(self.scenes, -1)
            centred = features - features.mean(axis=0)
            top = np.linalg.svd(centred, full_matrices=False)[2][: min(f, self.scenes - 1)]
            # Half the variance along the top directions, its gradient by the features, and by the filters.
            pull = (centred @ top.T @ top / self.scenes).reshape(hidden.shape) * gate
            w = w + 2.0 * np.einsum("gkf,gkm->kfm", pull, x)
            w /= np.linalg.norm(w, axis=2, keepdims=True)
        there = np.array([[np.any(shown[:, i] == j) for j in range(m)] for i in range(k)])
        aligned = np.max(w, axis=1) > 0.9  # (field, local)
        return float(np.mean(aligned[there]))

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """The path of one unit, and which patterns are found."""
        curves = []
        for time, values, _, style in self.over_time("direction", theory, simulated):
            for j, row in enumerate(values.T[:6]):
                curves.append(Curve(time, row, f"p = {self.p[j]:g}" if style == "line" else "", style, colour=j))
        pattern = np.arange(1.0, len(self.p) + 1.0)
        found = []
        if (mixture := theory.quantities.get("linear_direction")) is not None:
            found.append(Curve(pattern, np.asarray(mixture.value) ** 2, "linear: one mixture, squared", "bars"))
        if simulated is not None:
            found.append(points(pattern, simulated.quantities["won"], "ReLU: fraction of units"))
        return (
            Panel("time", "one unit along the patterns", tuple(curves), title=self.phase().name),
            Panel("pattern", "share", tuple(found)),
        )


def _ascend(p: Array, w: Array, *, relu: bool, steps: int = 4000) -> Array:
    """Ends of projected gradient ascent of the variance over the M inputs, many units at once."""
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    for _ in range(steps):
        gate = (w > 0.0).astype(np.float64) if relu else np.ones_like(w)
        output = w * gate
        w = w + 0.5 * gate * p * (output - output @ p[:, None])
        w /= np.linalg.norm(w, axis=1, keepdims=True)
    return w


def _path(p: Array, w: Array, times: Array, *, relu: bool, step: float = 2e-3) -> Array:
    """Directions of one unit under small steps of gradient ascent, at the nearest steps."""
    w, out, now = w / np.linalg.norm(w), np.empty((len(times), len(p))), 0
    for i, target in enumerate(np.round(times / step).astype(int)):
        for _ in range(target - now):
            gate = (w > 0.0) if relu else True
            output = np.where(gate, w, 0.0)
            w = w + step * np.where(gate, p * (output - output @ p), 0.0)
        now = max(now, target)
        out[i] = w / np.linalg.norm(w)
    return out
