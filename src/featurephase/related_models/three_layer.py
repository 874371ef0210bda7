"""Nonlinear features in three layers (Nichani, Damian, Lee, arXiv:2305.06986): functions g(h) of a quadratic feature h.

Inputs are uniform on the sphere of radius sqrt d, h = x'Ax with A traceless and E h^2 = 1, y = g(h). One gradient step
on the second of three layers turns every unit of it into a function of the learned feature

    phi(x) = (1/n) sum y_i k(x_i, x),

k being the kernel of the first layer. Means over the data of its overlap with h and of its norm are exact sums over
spherical harmonics, so that the squared cosine of phi and h grows like n/(n + n_half). The last layer then learns g
from one number. A kernel, to which g(h) is a polynomial of twice its degree in x, needs d^4 samples for h^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model
from featurephase.related_models.parameters import choice, count, number, parameter, vector
from featurephase.related_models.ridge_risk import general_risk
from featurephase.related_models.spherical import DEGREES, KERNELS, arc_cosine, zonal_coefficients
from featurephase.results.status import OK, UNDETERMINED


@model
class ThreeLayer(RelatedModel):
    """Parameters and sample complexity of hierarchical targets."""

    name: ClassVar[str] = "three-layer"
    title: ClassVar[str] = "three layers learn a quadratic feature, then a function of it; a kernel sees one polynomial"
    citation: ClassVar[str] = "Nichani, Damian, Lee, arXiv:2305.06986; rate d^2: Wang, Nichani, Lee, arXiv:2311.13774"
    validity: ClassVar[str] = "asymptotic"
    known: ClassVar[Known] = {
        "alignment": (("samples",), "squared cosine of the learned feature and h"),
        "error": (("samples",), "test error of three layers over the variance of the target"),
        "error_kernel": (("samples",), "the same of kernel ridge regression with the kernel of ReLU units"),
        "error_two_layer": (("samples",), "the same of two layers: one gradient step on the first, then ridge"),
        "half": (("dimension",), "samples at which the alignment is one half"),
        "exponent": ((), "d ln half / d ln dimension"),
        "half_kernel": (("dimension",), "samples at which a kernel has learned half of the square of h"),
        "exponent_kernel": ((), "the same slope for them"),
    }

    dimension: int = parameter(count(6, 64), "input dimension d", default=16)
    hermite: Array = parameter(vector(), "g in normalised Hermite polynomials of h from degree 1", default=(0.8, 0.6))
    kernel: str = parameter(choice(*KERNELS), "kernel of the first layer", default="quadratic")
    samples: Array = parameter(vector(count(10, 10**5)), "numbers of samples", default=(60, 120, 240, 500, 1000, 2000))
    dimensions: Array = parameter(vector(count(6, 64)), "dimensions of the exponents", default=(8, 12, 16, 24))
    ridge: float = parameter(number(0.0), "added to the diagonal of the kernel matrix", default=1e-3)
    width: int = parameter(count(10, 10**4), "units of the layers that are fitted in the simulation", default=300)

    def check(self) -> None:
        """A linear part, without which the first step sees nothing, at most four degrees and two dimensions."""
        if len(self.hermite) > 4 or abs(self.hermite[0]) <= 1e-3 * np.linalg.norm(self.hermite):
            raise InputError(
                "three-layer: hermite must be one to four coefficients with the first not 0: the feature is learned "
                "through E[y h]"
            )
        if len(np.unique(self.dimensions)) < 2:
            raise InputError("three-layer: dimensions must hold at least two different ones: an exponent needs two")

    def coordinates(self) -> dict[str, Array]:
        """Samples and dimensions."""
        return {"samples": self.samples, "dimension": self.dimensions}

    def phase(self) -> Phase:
        """Whether the largest number of samples is enough for the feature, and for a kernel."""
        n, half = float(self.samples.max()), self._half(self.dimension)
        kernel = self._half_kernel(self.dimension) if len(self.hermite) > 1 else math.nan
        word = "not learned" if n < half else "three layers only" if not n > kernel else "three layers and kernel"
        edges = {"half": half} | ({} if math.isnan(kernel) else {"half_kernel": kernel})
        return Phase(word, f"with {n:g} samples at d = {self.dimension}", edges)

    # ---- theory

    def _energies(self, d: int) -> Array:
        """Energy of the target in each degree: as d grows, g_k he_k(h) is of degree 2k.

        The largest correction is kept: of the energy of he_2(h) a part 4/d is in degree 2, along A^2, for A with
        semicircle eigenvalues (8 (tr A^4 - (tr A^2)^2/d)/(tr A^2)^2 of h^2).
        """
        energy = np.zeros(DEGREES + 1)
        for k, g in enumerate(self.hermite, 1):
            energy[2 * k] = g**2
        if len(self.hermite) > 1:
            moved = min(4.0 / d, 1.0) * energy[4]
            energy[2], energy[4] = energy[2] + moved, energy[4] - moved
        return energy

    def _alignment(self, d: int, n: float) -> float:
        """Squared cosine of phi and h, its constant taken off: ratio of the means over data sets."""
        zonal, energy = zonal_coefficients(self.kernel, d), self._energies(d)
        squares, total = zonal.eigenvalues**2, float(energy.sum())
        signal = squares[2] * ((1.0 - 1.0 / n) * self.hermite[0] ** 2 + self._fourth() / n)
        spread = float(squares[1:] @ zonal.multiplicity[1:]) * total / n
        return float(signal) / ((1.0 - 1.0 / n) * float(squares[1:] @ energy[1:]) + spread)

    def _fourth(self) -> float:
        """E[y^2 h^2] for a normal h."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        return float(weights @ (self._target(nodes) ** 2 * nodes**2)) / math.sqrt(2.0 * math.pi)

    def _target(self, h: Array) -> Array:
        scaled = [g / math.sqrt(math.factorial(k)) for k, g in enumerate(self.hermite, 1)]
        return np.asarray(np.polynomial.hermite_e.hermeval(h, [0.0, *scaled]))

    def _half(self, d: int) -> float:
        return _crossing(lambda log_n: self._alignment(d, math.exp(log_n)) - 0.5, 2.0)

    def _kernel_risk(self, d: int, n: float, energy: Array) -> float:
        """Error of kernel ridge regression for a target with these energies."""
        zonal = zonal_coefficients("relu", d)
        kept = zonal.eigenvalues > 0.0
        values, times = zonal.eigenvalues[kept], zonal.multiplicity[kept]
        lost = float(energy[~kept].sum())
        risk = general_risk(values, energy[kept] / values, n, (self.ridge + zonal.rest) / n, lost, times)
        return risk.bias + risk.variance + lost

    def _half_kernel(self, d: int) -> float:
        energy = np.eye(DEGREES + 1)[4]
        return _crossing(lambda log_n: 0.5 - self._kernel_risk(d, math.exp(log_n), energy), 10.0)

    def solve(self) -> Solution:
        """Alignment and errors over the samples, and the exponents over the dimension."""
        total = float(np.sum(self.hermite**2))
        alignment = np.array([self._alignment(self.dimension, float(n)) for n in self.samples])
        powers = np.arange(1, len(self.hermite) + 1)
        error = ((1.0 - alignment[:, None] ** powers) @ self.hermite**2) / total
        energies = self._energies(self.dimension)
        kernel = np.array([self._kernel_risk(self.dimension, float(n), energies) for n in self.samples]) / total
        half = np.array([self._half(int(d)) for d in self.dimensions])
        # h is normal only as d grows, and the last layer or the kernel costs something at few samples
        rough = 0.3 / math.sqrt(self.dimension) + 20.0 / self.samples
        logs = np.log(self.dimensions)
        values: dict[str, tuple[Any, Any]] = {
            "alignment": (alignment, 0.3 / math.sqrt(self.dimension)),
            "error": (error, rough),
            "error_kernel": (kernel, rough),
            "half": (half, 0.25 * half),
        }
        if len(self.hermite) > 1:
            values["half_kernel"] = np.array([self._half_kernel(int(d)) for d in self.dimensions]), 0.0
        missing = []
        for name, of, accuracy in (("exponent", "half", 0.3), ("exponent_kernel", "half_kernel", 0.0)):
            if of in values and np.isfinite(values[of][0]).all():
                values[name] = np.polyfit(logs, np.log(values[of][0]), 1)[0], accuracy
            elif of in values:
                missing.append(f"no {name}: {self.known[of][1]} do not exist at every dimension")
        return self.solution(values, UNDETERMINED if missing else OK, "; ".join(missing))

    # ---- training

    def _data(self, rng: np.random.Generator, d: int, count: int, a: Array) -> tuple[Array, Array, Array]:
        x = rng.standard_normal((count, d))
        x *= math.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)
        h = np.einsum("ni,ij,nj->n", x, a, x)
        return x, h, self._target(h)

    def _feature_matrix(self, rng: np.random.Generator, d: int) -> Array:
        a = rng.standard_normal((d, d))
        a = a + a.T - 2.0 * np.trace(a) / d * np.eye(d)
        return np.asarray(a / math.sqrt(2.0 * d / (d + 2.0) * float(np.sum(a * a))))

    def _learned(self, x: Array, y: Array, at: Array) -> Array:
        """The feature after one gradient step, of unit variance at the points given."""
        d = x.shape[1]
        parts = [(y - y.mean()) @ KERNELS[self.kernel](x @ block.T / d) for block in np.array_split(at, 4)]
        phi = np.concatenate(parts)
        return np.asarray((phi - phi.mean()) / phi.std())

    def training_memory(self) -> float:
        """The kernel matrix of the largest sample, a few times, and the units that are fitted."""
        n = float(self.samples.max())
        return 8.0 * (4.0 * n * (n + 1000.0) + 3.0 * (n + 1000.0) * self.width)

    def train(self, rng: np.random.Generator) -> dict[str, Any]:
        """Layer-wise training of three and of two layers and kernel regression, on fresh data at every size."""
        rows = np.array([self._errors(rng, int(n)) for n in self.samples])
        half = np.array([self._simulated_half(rng, int(d)) for d in self.dimensions])
        return {
            "alignment": rows[:, 0],
            "error": rows[:, 1],
            "error_kernel": rows[:, 2],
            "error_two_layer": rows[:, 3],
            "half": half,
            "exponent": np.polyfit(np.log(self.dimensions), np.log(half), 1)[0],
        }

    def _errors(self, rng: np.random.Generator, n: int) -> tuple[float, ...]:
        d, tests = self.dimension, 1000
        a = self._feature_matrix(rng, d)
        x, _, y = self._data(rng, d, n, a)
        again, _, y_again = self._data(rng, d, n + tests, a)  # fresh ones for the last layer, and tests
        h = np.einsum("ni,ij,nj->n", again, a, again)
        phi = self._learned(x, y, again)
        bias = rng.uniform(-3.0, 3.0, self.width)
        sign = rng.choice([-1.0, 1.0], self.width)
        top = np.maximum(sign * phi[:, None] + bias, 0.0)
        inputs = np.concatenate([x, again[n:]])
        gram = arc_cosine(inputs @ x.T / d)
        centre = y.mean()
        weights = np.linalg.solve(gram[:n] + self.ridge * np.eye(n), y - centre)
        scale = float(np.var(y_again[n:]))
        errors = (
            _ridge_error(top[:n], y_again[:n], top[n:], y_again[n:]),
            float(np.mean((gram[n:] @ weights + centre - y_again[n:]) ** 2)),
            self._two_layers(rng, x, y, again[n:], y_again[n:]),
        )
        return float(np.corrcoef(phi[n:], h[n:])[0, 1] ** 2), *(e / scale for e in errors)

    def _two_layers(self, rng: np.random.Generator, x: Array, y: Array, test: Array, target: Array) -> float:
        """One gradient step on the first layer, as long as its weights, then ridge on the second."""
        d = x.shape[1]
        w, b = rng.standard_normal((self.width, d)) / math.sqrt(d), rng.uniform(-1.0, 1.0, self.width)
        step = ((y - y.mean())[:, None] * (x @ w.T + b > 0.0)).T @ x / len(x)
        w = w + step * (np.linalg.norm(w) / np.linalg.norm(step))
        first, last = (np.maximum(z @ w.T + b, 0.0) for z in (x, test))
        return _ridge_error(first, y, last, target)

    def _simulated_half(self, rng: np.random.Generator, d: int) -> float:
        """Samples at which the alignment passes one half: one growing data set, interpolated in ln n."""
        a = self._feature_matrix(rng, d)
        largest = min(60.0 if self.kernel == "quadratic" else 20.0 * d, 40_000 / d**2)
        sizes = np.unique(np.round(d * d * np.geomspace(0.2, largest, 25)).astype(int))
        x, _, y = self._data(rng, d, sizes[-1], a)
        at, h, _ = self._data(rng, d, 600, a)
        squares: list[float] = []
        for n in sizes:
            squares.append(np.corrcoef(self._learned(x[:n], y[:n], at), h)[0, 1] ** 2)
            if len(squares) > 1 and squares[-1] > 0.5 >= squares[-2]:
                return float(np.exp(np.interp(0.5, squares[-2:], np.log(sizes[: len(squares)][-2:]))))
        return float(sizes[0]) if squares[0] > 0.5 else math.nan

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """Alignment, errors and sample complexity."""
        order, by_size = np.argsort(self.samples), np.argsort(self.dimensions)
        n = self.samples[order]

        def curves(names: tuple[str, ...], x: Array, places: NDArray[np.int_]) -> tuple[Curve, ...]:
            out = []
            for colour, name in enumerate(names):
                for part, style in ((theory, "line"), (simulated, "points")):
                    if part is not None and name in part.quantities:
                        q = part.quantities[name]
                        se = None if q.se is None else np.asarray(q.se)[places]
                        label = _LABELS[name] if style == "line" or name not in theory.quantities else ""
                        out.append(Curve(x, np.asarray(q.value)[places], label, style, se, colour=colour))
            return tuple(out)

        return (
            Panel("samples", "squared cosine with h", curves(("alignment",), n, order), log_x=True),
            Panel("samples", "test error", curves(("error", "error_kernel", "error_two_layer"), n, order), log_x=True),
            Panel(
                "dimension",
                "samples for one half",
                curves(("half", "half_kernel"), self.dimensions[by_size], by_size),
                log_x=True,
                log_y=True,
            ),
        )


def _crossing(excess: Callable[[float], float], low: float) -> float:
    """exp of the root of a function that rises with log n, from n = ``low``; infinite where it stays below 0."""
    high = math.log(1e12)
    if excess(high) <= 0.0:
        return math.inf
    return math.exp(brentq(excess, math.log(low), high)) if excess(math.log(low)) < 0.0 else low


#: How the figure names the curves.
_LABELS = {
    "alignment": "learned feature",
    "error": "three layers",
    "error_kernel": "kernel",
    "error_two_layer": "two layers",
    "half": "feature half aligned",
    "half_kernel": "kernel explains half",
}


def _ridge_error(features: Array, y: Array, test: Array, target: Array) -> float:
    """Test error of ridge regression with an intercept and a small ridge."""
    mean, centre = features.mean(axis=0), y.mean()
    x = features - mean
    size = 1e-3 * float(np.mean(np.sum(x**2, axis=1)))
    weights = x.T @ np.linalg.solve(x @ x.T + size * np.eye(len(x)), y - centre)
    return float(np.mean(((test - mean) @ weights + centre - target) ** 2))
