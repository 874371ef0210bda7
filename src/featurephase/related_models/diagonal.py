"""Kernel and rich regimes of diagonal linear networks of any depth (Woodworth et al., arXiv:2002.09277).

The predictor is beta = u_+^D - u_-^D (entrywise) from u_+ = u_- = alpha, trained by gradient flow on |X beta - y|^2 to
zero loss. A large alpha leads to the interpolator of least l2 norm, a small one to least l1 norm.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from scipy.integrate import solve_ivp

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model
from featurephase.related_models.interpolators import limit_predictors, minimum_l1, minimum_l2
from featurephase.related_models.parameters import count, matrix, number, parameter, vector


@model
class Diagonal(RelatedModel):
    """Parameters and quantities of the diagonal network."""

    name: ClassVar[str] = "diagonal"
    title: ClassVar[str] = "diagonal linear networks: the size of the start chooses between small l2 and small l1 norm"
    citation: ClassVar[str] = "Woodworth, Gunasekar, Lee, Moroshko, Savarese, Golan, Soudry, Srebro, arXiv:2002.09277"
    stochastic: ClassVar[bool] = False

    known: ClassVar[Known] = {
        "beta": (("input",), "predictor after training"),
        "limit_l1": (("input",), "limit alpha -> 0"),
        "limit_l2": (("input",), "limit alpha -> infinity"),
        "residual": ((), "largest |X beta - y|"),
    }

    x: Array = parameter(matrix(), "inputs, one row a sample", default=((1.0, 2.0, 0.5, -1.0), (0.0, 1.0, -1.0, 2.0)))
    y: Array = parameter(vector(), "responses", default=(1.0, 0.7))
    alpha: float = parameter(number(0.0), "size of every weight at the start", default=0.1)
    depth: int = parameter(count(2, 100), "number D of layers", default=2)

    def check(self) -> None:
        """As many responses as rows, independent rows, and an alpha^D that float64 holds."""
        if len(self.y) != len(self.x):
            raise InputError(f"diagonal: y has {len(self.y)} responses for {len(self.x)} rows of x; must have as many")
        rank = int(np.linalg.matrix_rank(self.x))
        if rank < len(self.x):
            consistent = np.linalg.matrix_rank(np.column_stack([self.x, self.y])) == rank
            cause = "drop the rows that depend on others" if consistent else "no beta fits all responses"
            raise InputError(
                f"diagonal: x has {len(self.x)} rows of rank {rank}; the limit is known for independent rows: {cause}"
            )
        if not -680.0 < self.depth * math.log(self.alpha) < 680.0:
            raise InputError(
                f"diagonal: alpha = {self.alpha:g} at depth {self.depth}: alpha^depth must be between 1e-295 and 1e295 "
                "(beyond, limit_l1 or limit_l2 is the answer to all digits)"
            )

    def _richness(self, beta: Array) -> Array:
        """How far the l1 norm has gone from that of the l2 solution (0) to the least one (1)."""
        l1, l2 = minimum_l1(self.x, self.y, self.depth), minimum_l2(self.x, self.y)
        ends = [float(np.abs(b).sum()) for b in (l2, l1)]
        if ends[0] - ends[1] <= 1e-9 * ends[0]:
            return np.full(beta.shape[:-1], np.nan)
        return np.asarray((ends[0] - np.abs(beta).sum(axis=-1)) / (ends[0] - ends[1]))

    def phase(self) -> Phase:
        """Kernel, intermediate or rich, by the l1 norm of the predictor."""
        alphas = np.geomspace(10.0, 1e-3, 60)
        rich = self._richness(limit_predictors(self.x, self.y, self.depth, alphas))
        if np.isnan(rich).any():
            return Phase("kernel", "the interpolators of least l1 and l2 norm coincide: alpha makes no difference")
        edges = {
            name: float(np.exp(np.interp(level, rich, np.log(alphas))))
            for name, level in (("alpha_kernel", 0.1), ("alpha_rich", 0.9))
            if rich[0] < level < rich[-1]
        }
        here = float(self._richness(limit_predictors(self.x, self.y, self.depth, np.array([self.alpha])))[0])
        name = "kernel" if here < 0.1 else "rich" if here > 0.9 else "intermediate"
        return Phase(name, f"the l1 norm went {100 * here:.3g} % of the way from least l2 to least l1", edges)

    def solve(self) -> Solution:
        """The limit of training, and its own limits for large and small alpha."""
        beta = limit_predictors(self.x, self.y, self.depth, np.array([self.alpha]))[0]
        error = 1e-8 * float(np.abs(beta).max(initial=0.0))
        l1, l2 = minimum_l1(self.x, self.y, self.depth), minimum_l2(self.x, self.y)
        residual = float(np.abs(self.x @ beta - self.y).max())
        return self.solution({"beta": (beta, error), "limit_l1": l1, "limit_l2": l2, "residual": residual})

    def train(self, rng: np.random.Generator) -> dict[str, Array]:
        """The gradient flow of all 2 d weights, in their logarithms, until the residual is 1e-11."""
        d, scale = self.x.shape[1], max(float(np.abs(self.y).max()), 1e-300)

        def predictor(logs: Array) -> Array:
            return np.asarray(np.exp(self.depth * logs[:d]) - np.exp(self.depth * logs[d:]))

        def flow(_: float, logs: Array) -> Array:
            pull = self.x.T @ (self.y - self.x @ predictor(logs))
            signed = np.concatenate([pull, -pull])
            return np.asarray(self.depth * np.exp((self.depth - 2) * logs) * signed)

        def left(_: float, logs: Array) -> float:
            return float(np.abs(self.x @ predictor(logs) - self.y).max()) / scale - 1e-11

        left.terminal = True  # type: ignore[attr-defined]
        start = np.full(2 * d, math.log(self.alpha))
        run = solve_ivp(flow, (0.0, 1e30), start, method="LSODA", events=left, rtol=1e-11, atol=1e-12)
        reached = run.status == 1 or left(0.0, run.y[:, -1]) <= 1e-8
        return {"beta": predictor(run.y[:, -1]) if reached else np.full(d, np.nan)}

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """The predictor and its richness over alpha."""
        alphas = np.geomspace(10.0, 1e-4, 80)
        betas = limit_predictors(self.x, self.y, self.depth, alphas)
        curves = [Curve(alphas, b, rf"$\beta_{{{i + 1}}}$", colour=i) for i, b in enumerate(betas.T[:6])]
        if simulated is not None:
            values = np.asarray(simulated.quantities["beta"].value)[:6]
            at = np.array([self.alpha])
            curves += [Curve(at, np.array([v]), "", "points", colour=i) for i, v in enumerate(values)]
        rich = Curve(alphas, self._richness(betas))
        here = ((self.alpha, "here"),)
        label = r"size of the start, $\alpha$"
        return (
            Panel(label, r"predictor $\beta_\infty$", tuple(curves), log_x=True, vertical=here),
            Panel(label, "from least l2 (0) to least l1 norm (1)", (rich,), log_x=True, vertical=here),
        )
