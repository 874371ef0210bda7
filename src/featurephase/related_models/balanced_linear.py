"""Deep linear networks from lazy to rich: two layers with a lambda-balanced start (Domine et al., arXiv:2409.14623).

The flow W1' = W2'(S - W2 W1), W2' = (S - W2 W1) W1' keeps W2'W2 - W1 W1' = lambda I, and has a closed form at every
lambda: large ones are lazy, 0 is rich (docs/related/balanced-linear).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from scipy.integrate import solve_ivp

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model
from featurephase.related_models.parameters import matrix, number, parameter, times
from featurephase.related_models.riccati import balanced_partner, determined_until, factors, imbalance
from featurephase.results.status import UNDETERMINED


@model
class BalancedLinear(RelatedModel):
    """Parameters and quantities of the lambda-balanced network."""

    name: ClassVar[str] = "balanced-linear"
    title: ClassVar[str] = "two-layer linear networks: the imbalance lambda leads from rich to lazy"
    citation: ClassVar[str] = "Domine, Anguita, Proca, Braun, Kunin, Mediano, Saxe, arXiv:2409.14623"
    stochastic: ClassVar[bool] = False

    known: ClassVar[Known] = {
        "product": (("time", "output", "input"), "W2 W1"),
        "gram1": (("time", "input", "input2"), "W1'W1"),
        "gram2": (("time", "output", "output2"), "W2 W2'"),
        "kernel_change": (("time",), "relative change of the tangent kernel"),
        "lambda": ((), "W2'W2 - W1 W1' = lambda I"),
    }

    w1: Array = parameter(matrix(), "first layer at the start, hidden x input", default=((0.3, 0.1), (-0.2, 0.4)))
    w2: Array | None = parameter(matrix(), "second layer, output x hidden; default: balanced by lam", default=None)
    lam: float | None = parameter(number(), "lambda; w2 is made from it (default 0.5)", default=None)
    sigma: Array = parameter(matrix(), "input-output correlation, output x input", default=((1.0, 0.5), (0.0, -0.8)))
    time: Array = times(8.0, 33)

    def check(self) -> None:
        """Shapes that fit, and a second layer."""
        hidden, inputs = self.w1.shape
        outputs = len(self.sigma)
        if self.sigma.shape[1] != inputs:
            raise InputError(f"balanced-linear: sigma has {self.sigma.shape[1]} columns for {inputs} inputs of w1")
        if self.w2 is not None:
            if self.lam is not None:
                raise InputError("balanced-linear: w2 and lam exclude each other: lambda follows from the weights")
            if self.w2.shape != (outputs, hidden):
                raise InputError(
                    f"balanced-linear: w2 is {self.w2.shape[0]} x {self.w2.shape[1]}; must be {outputs} x {hidden}"
                )
            return
        if outputs < hidden:
            raise InputError(
                f"balanced-linear: {outputs} outputs for {hidden} hidden units: w2 cannot be made from lam; give w2"
            )
        lam = 0.5 if self.lam is None else self.lam
        made = balanced_partner(self.w1, lam, np.eye(outputs, hidden))
        object.__setattr__(self, "w2", made)
        object.__setattr__(self, "lam", None)

    @property
    def second(self) -> Array:
        """The second layer."""
        assert self.w2 is not None
        return self.w2

    def outside(self) -> str:
        """The solution needs a lambda-balanced start."""
        lam, error = imbalance(self.w1, self.second)
        if error <= 1e-9:
            return ""
        return (
            f"the start is not lambda-balanced: W2'W2 - W1 W1' differs from {lam:.4g} I by {error:.3g} of its size; "
            "the solution holds for W2'W2 - W1 W1' = lambda I (at most 1e-9)"
        )

    def kernel_change(self, q: Array, start: Array) -> Array:
        """Relative change of the tangent kernel W1'W1 (x) I + I (x) W2 W2', in Frobenius norm, shape (time,)."""
        inputs = self.w1.shape[1]

        def parts(x: Array) -> tuple[Array, Array]:
            first, second = x[..., :inputs, :], x[..., inputs:, :]
            return first @ np.swapaxes(first, -1, -2), second @ np.swapaxes(second, -1, -2)

        def squared(a: Array, b: Array) -> Array:
            outputs = b.shape[-1]
            traces = np.trace(a, axis1=-2, axis2=-1) * np.trace(b, axis1=-2, axis2=-1)
            return np.asarray(outputs * np.sum(a**2, (-1, -2)) + inputs * np.sum(b**2, (-1, -2)) + 2.0 * traces)

        (a, b), (a0, b0) = parts(q), parts(start)
        size = squared(a0, b0)
        change = squared(a - a0, b - b0)
        return np.sqrt(change / size) if size > 0.0 else np.where(change > 0.0, np.inf, 0.0)

    def _start(self) -> Array:
        return np.vstack([self.w1.T, self.second])

    def phase(self) -> Phase:
        """Lazy or rich by the change of the tangent kernel at the last time."""
        if self.outside():
            return Phase("not balanced")
        size = float(np.linalg.norm(self.sigma, 2))
        end = min(float(self.time.max()), determined_until(self.w1, self.second, self.sigma))
        last = factors(self.w1, self.second, self.sigma, np.array([end]))
        change = float(self.kernel_change(last, self._start())[0])
        name = "lazy" if change < 0.1 else "rich" if change > 1.0 else "intermediate"
        note = f"the tangent kernel changes by {100 * change:.3g} % up to the last time"
        return Phase(name, note, {"lambda_lazy": 2.0 * size / math.sqrt(1.1**2 - 1.0)})

    def _values(self, q: Array) -> dict[str, Array]:
        inputs = self.w1.shape[1]
        x = q @ np.swapaxes(q, -1, -2)
        return {
            "product": x[:, inputs:, :inputs],
            "gram1": x[:, :inputs, :inputs],
            "gram2": x[:, inputs:, inputs:],
            "kernel_change": self.kernel_change(q, self._start()),
        }

    def solve(self) -> Solution:
        """The closed form at every time."""
        last = determined_until(self.w1, self.second, self.sigma)
        q = factors(self.w1, self.second, self.sigma, np.minimum(self.time, last))
        q[self.time > last] = np.nan
        values: dict[str, Any] = {
            name: (value, 1e-9 * np.nanmax(np.abs(value), initial=1e-3)) for name, value in self._values(q).items()
        }
        values["lambda"] = imbalance(self.w1, self.second)[0]
        if np.all(self.time <= last):
            return self.solution(values)
        note = f"the start leads to a saddle, up to rounding: after time {last:.3g} rounding decides, not the start"
        return self.solution(values, UNDETERMINED, note)

    def train(self, rng: np.random.Generator) -> dict[str, Array]:
        """The gradient flow of both layers by numerical integration."""
        hidden, inputs = self.w1.shape
        cut = hidden * inputs

        def layers(flat: Array) -> tuple[Array, Array]:
            return flat[:cut].reshape(hidden, inputs), flat[cut:].reshape(-1, hidden)

        def flow(_: float, flat: Array) -> Array:
            a, b = layers(flat)
            error = self.sigma - b @ a
            return np.concatenate([(b.T @ error).ravel(), (error @ a.T).ravel()])

        order = np.unique(self.time)
        start = np.concatenate([self.w1.ravel(), self.second.ravel()])
        paths = np.repeat(start[None], len(order), axis=0)
        if order[-1] > 0.0:
            run = solve_ivp(flow, (0.0, order[-1]), start, method="DOP853", t_eval=order, rtol=1e-12, atol=1e-14)
            paths = run.y.T
        stacked = np.stack([np.vstack([a.T, b]) for a, b in map(layers, paths)])
        return self._values(stacked[np.searchsorted(order, self.time)])

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """The product over time, and the change of the kernel against lambda."""
        curves = []
        for time, values, _, style in self.over_time("product", theory, simulated):
            for i, row in enumerate(values.reshape(len(values), -1).T[:6]):
                curves.append(Curve(time, row, f"entry {i + 1}" if style == "line" else "", style, colour=i))
        first = Panel("time", r"$W_2W_1$", tuple(curves), title=self.phase().name)
        lams = np.concatenate([-np.geomspace(100, 0.01, 25), [0.0], np.geomspace(0.01, 100, 25)])
        size = float(np.linalg.norm(self.sigma, 2))
        aligned = [
            Curve(lams, np.sqrt((lams**2 + 4 * size**2) / (lams**2 + 4 * w0**2)) - 1.0, f"$w_0={w0:g}$")
            for w0 in (1e-3 * size, 0.1 * size)
            if size > 0.0
        ]
        here = () if self.outside() else ((imbalance(self.w1, self.second)[0], "here"),)
        second = Panel(
            r"imbalance $\lambda$",
            "relative change of the kernel of a mode",
            tuple(aligned),
            log_y=True,
            vertical=here,
            limits=((-30.0, 30.0), None),
        )
        return first, second
