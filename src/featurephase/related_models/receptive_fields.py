"""Localised receptive fields from inputs that are not Gaussian (Ingrosso and Goldt, arXiv:2202.00565).

A Gaussian process z on a ring of D pixels, with one of two correlation lengths, becomes the input x = erf(gain z)/Z
of unit variance; a two-layer network learns to tell the lengths apart. Covariance and fourth moments of x are known,
because erf(gain z) is the mean sign of sqrt(2) gain z plus standard noise. Covariances alone prefer plane waves, spread
over the ring; the fourth cumulant has localised extrema, and so have the weights that training finds. The control,
Gaussian inputs of the same covariance, stays spread.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import numpy as np
from scipy.special import erf, expit

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model, points
from featurephase.related_models.gaussian_averages import four_signs
from featurephase.related_models.parameters import choice, count, number, parameter

#: Inputs from which a training run estimates moments.
SAMPLE = 20_000


def participation(weights: Array) -> Array:
    """Inverse participation sum w^4 / (sum w^2)^2 along the last axis: 1 for one pixel, 1.5/D for a plane wave."""
    return np.asarray(np.sum(weights**4, axis=-1) / np.sum(weights**2, axis=-1) ** 2)


@model
class ReceptiveFields(RelatedModel):
    """Parameters and moments of the ring model; what training does with it is simulated only."""

    name: ClassVar[str] = "receptive-fields"
    title: ClassVar[str] = "inputs with higher-order statistics make localised receptive fields, Gaussian ones do not"
    citation: ClassVar[str] = "Ingrosso, Goldt, arXiv:2202.00565"
    known: ClassVar[Known] = {
        "covariance": (("class", "lag"), "covariance of the inputs at a distance on the ring"),
        "kurtosis": ((), "excess kurtosis of a pixel; 0 for Gaussian inputs"),
        "ipr_wave": ((), "participation of a plane wave, what the covariances prefer"),
        "ipr_cumulant": ((), "participation of the extremum of the difference of the fourth cumulants"),
        "field_cumulant": (("pixel",), "that extremum, centred"),
        "ipr": ((), "participation of the trained weights, mean over the units"),
        "ipr_control": ((), "the same with Gaussian inputs of equal covariance"),
        "ipr_ratio": ((), "their ratio"),
        "ipr_of_unit": (("unit",), "participation of each trained unit, ascending"),
        "field": (("pixel",), "the most localised unit, centred, of norm 1"),
        "loss": ((), "mean squared error after training; the labels are -1 and 1"),
        "loss_control": ((), "the same of the control"),
    }

    pixels: int = parameter(count(8, 48), "pixels D on the ring", default=30)
    gain: float = parameter(number(1e-3, 100.0), "gain of the error function: large means nearly binary", default=3.0)
    xi1: float = parameter(number(0.0, 1e3), "correlation length of the class -1, in pixels", default=1.0)
    xi2: float = parameter(number(0.0, 1e3), "correlation length of the class +1", default=4.0)
    kernel: str = parameter(
        choice("squared-exponential", "exponential"),
        "of z: exp(-(d/xi)^2) at lag d, summed over all turns of the ring and divided by its value at lag 0; or "
        "exp(-d/xi) in the shorter distance d",
        default="squared-exponential",
    )
    units: int = parameter(count(1, 64), "sigmoid units of the simulation", default=8)
    steps: int = parameter(count(1, 10**6), "steps of stochastic gradient descent", default=2000)
    batch: int = parameter(count(2, 10**5), "new inputs a step, half of each class", default=200)
    rate: float = parameter(number(0.0), "learning rate", default=0.1)

    def check(self) -> None:
        """Two different lengths."""
        if self.xi1 == self.xi2:
            raise InputError("receptive-fields: xi1 and xi2 must differ: the classes are told apart by their lengths")

    def phase(self) -> Phase:
        """Whether the inputs have fourth cumulants to speak of."""
        kurtosis = abs(float(self.theory.quantities["kurtosis"].value))
        word = "localising" if kurtosis > 0.3 else "nearly Gaussian"
        return Phase(word, f"excess kurtosis {-kurtosis:.3g}; localised fields need higher-order statistics")

    # ---- moments

    def _process(self, xi: float) -> Array:
        """Covariance of z over the lag; the sum over all turns of the ring is positive at any length."""
        d = np.arange(self.pixels, dtype=np.float64)
        if self.kernel == "exponential":
            return np.asarray(np.exp(-np.minimum(d, self.pixels - d) / xi))
        turns = np.arange(-(math.ceil(6.0 * xi / self.pixels) + 1), math.ceil(6.0 * xi / self.pixels) + 2)
        wrapped = np.exp(-(((d[:, None] + turns * self.pixels) / xi) ** 2)).sum(axis=1)
        return np.asarray(wrapped / wrapped[0])

    def _signs(self, xi: float) -> Array:
        """Correlations over the lag of sqrt(2) gain z plus noise, the variables whose signs make erf(gain z)."""
        return 2.0 * self.gain**2 * self._process(xi) / (1.0 + 2.0 * self.gain**2)

    def _covariance(self, xi: float) -> Array:
        inner = np.arcsin(self._signs(xi))
        return np.asarray(inner / inner[0])

    def _moments(self, lags: Array, xi: float) -> Array:
        """E[x x x x] at four pixels, shape (case,) for lags (case, 4)."""
        rho = self._signs(xi)
        correlation = rho[(lags[:, :, None] - lags[:, None, :]) % self.pixels]
        correlation[:, range(4), range(4)] = 1.0  # the noise is another one at every factor, of the same pixel too
        return four_signs(correlation) / (2.0 / math.pi * math.asin(rho[0])) ** 2

    def _cumulant(self, xi: float) -> Array:
        """The fourth cumulant of all pixels, shape (D, D, D, D): it depends on three lags, in any order."""
        d = self.pixels
        lags = np.array([(0, *x) for x in itertools.combinations_with_replacement(range(d), 3)])
        cov = self._covariance(xi)
        pairs = sum(
            cov[(lags[:, a] - lags[:, b]) % d] * cov[(lags[:, e] - lags[:, f]) % d]
            for a, b, e, f in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))
        )
        first = np.empty((d, d, d))
        for order in itertools.permutations((1, 2, 3)):
            first[tuple(lags[:, order].T)] = self._moments(lags, xi) - pairs
        return np.stack([np.roll(first, (s, s, s), (0, 1, 2)) for s in range(d)])

    def _extremum(self, tensor: Array) -> Array:
        """The unit vector of largest |T(w, w, w, w)|: power iteration with a shift that makes it monotone."""
        d = self.pixels
        flat = tensor.reshape(d * d, d * d)
        shift = 0.1 * float(np.linalg.norm(flat, 2))
        best, found = 0.0, np.ones(d) / math.sqrt(d)
        for sign in (1.0, -1.0):
            for start in range(6):
                w = np.random.default_rng(start).standard_normal(d)
                w /= np.linalg.norm(w)
                for _ in range(2000):
                    before, square = w, np.outer(w, w).ravel()
                    w = sign * (flat @ square).reshape(d, d) @ w + shift * w
                    w /= np.linalg.norm(w)
                    if np.abs(w - before).max() < 1e-12:
                        break
                value = sign * float(np.outer(w, w).ravel() @ flat @ np.outer(w, w).ravel())
                if value > best:
                    best, found = value, w
        return found

    def coordinates(self) -> dict[str, Array]:
        """Classes, lags and pixels."""
        d = np.arange(float(self.pixels))
        return {"class": np.array([-1.0, 1.0]), "lag": d, "pixel": d - self.pixels // 2}

    def solve(self) -> Solution:
        """Covariances, kurtosis, and the participation that second and fourth moments prefer."""
        waves = np.fft.fft(self._covariance(self.xi2) - self._covariance(self.xi1)).real
        top = int(np.argmax(np.abs(waves)))
        single = top in (0, self.pixels / 2)  # a constant or an alternating sign has equal sizes
        field = self._extremum(self._cumulant(self.xi2) - self._cumulant(self.xi1))
        values = {
            "covariance": np.stack([self._covariance(self.xi1), self._covariance(self.xi2)]),
            "kurtosis": float(self._moments(np.zeros((1, 4), dtype=int), self.xi1)[0]) - 3.0,
            "ipr_wave": (1.0 if single else 1.5) / self.pixels,
            "ipr_cumulant": float(participation(field)),
            "field_cumulant": _centred(field),
        }
        return self.solution({name: (value, 1e-9) for name, value in values.items()})

    # ---- training

    def _inputs(self, rng: np.random.Generator, roots: list[Array], count: int, *, control: bool) -> Array:
        """``count`` inputs of each class, the class -1 first; roots of the covariances of z (of x for the control)."""
        drawn = [rng.standard_normal((count, self.pixels)) @ root.T for root in roots]
        x = np.concatenate(drawn)
        if control:
            return x
        scale = math.sqrt(2.0 / math.pi * math.asin(self._signs(self.xi1)[0]))
        return np.asarray(erf(self.gain * x) / scale)

    def _roots(self, *, control: bool) -> list[Array]:
        found = []
        for xi in (self.xi1, self.xi2):
            lags = self._covariance(xi) if control else self._process(xi)
            full = np.stack([np.roll(lags, s) for s in range(self.pixels)])
            values, vectors = np.linalg.eigh(full)
            found.append(vectors * np.sqrt(np.maximum(values, 0.0)))
        return found

    def _trained(self, rng: np.random.Generator, *, control: bool) -> tuple[Array, float]:
        """Weights of the units and the last loss, averaged over a hundred steps."""
        roots, half = self._roots(control=control), self.batch // 2
        labels = np.repeat([-1.0, 1.0], half)
        w = 0.1 * rng.standard_normal((self.units, self.pixels))
        b, v, c = np.full(self.units, -1.0), rng.choice([-1.0, 1.0], self.units) / self.units, 0.0
        losses = []
        for _ in range(self.steps):
            x = self._inputs(rng, roots, half, control=control)
            active = expit(x @ w.T + b)
            error = active @ v + c - labels
            inner = error[:, None] * v * active * (1.0 - active) / len(x)
            w -= self.rate * self.units * inner.T @ x
            b -= 0.1 * self.rate * self.units * inner.sum(axis=0)
            v -= self.rate * error @ active / len(x)
            c -= self.rate * float(error.mean())
            losses.append(float(np.mean(error**2)))
        return w, float(np.mean(losses[-100:]))

    def train(self, rng: np.random.Generator) -> dict[str, Any]:
        """Moments of a sample, and training on the inputs and on the control."""
        sample = self._inputs(rng, self._roots(control=False), SAMPLE, control=False).reshape(2, SAMPLE, -1)
        products = [np.mean(np.fft.ifft(np.abs(np.fft.fft(x, axis=1)) ** 2, axis=1).real, axis=0) for x in sample]
        fourth = float(np.mean(sample[0] ** 4)) - 3.0
        (w, loss), (w0, loss0) = (self._trained(rng, control=control) for control in (False, True))
        ipr, ipr0 = participation(w), participation(w0)
        return {
            "covariance": np.stack(products) / self.pixels,
            "kurtosis": fourth,
            "ipr": ipr.mean(),
            "ipr_control": ipr0.mean(),
            "ipr_ratio": ipr.mean() / ipr0.mean(),
            "ipr_of_unit": np.sort(ipr),
            "field": _centred(w[np.argmax(ipr)]),
            "loss": loss,
            "loss_control": loss0,
        }

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """Receptive fields, and the participation of the units."""
        pixel = self.coordinates()["pixel"]
        q = theory.quantities
        fields = [Curve(pixel, np.asarray(q["field_cumulant"].value), "extremum of the fourth cumulant")]
        lag = np.arange(self.pixels // 2 + 1.0)
        covariance = np.asarray(q["covariance"].value)[:, : len(lag)]
        lengths = (self.xi1, self.xi2)
        curves = tuple(Curve(lag, row, rf"$\xi={xi:g}$") for row, xi in zip(covariance, lengths, strict=True))
        panels = [Panel("distance on the ring", "covariance", curves)]
        if simulated is not None:
            fields.append(points(pixel, simulated.quantities["field"], "most localised unit"))
            trained = points(np.arange(1.0, self.units + 1.0), simulated.quantities["ipr_of_unit"], "trained")
            control = float(simulated.quantities["ipr_control"].value)
            levels = ((float(q["ipr_wave"].value), "plane wave"), (control, "Gaussian control"))
            panels.append(Panel("unit, sorted", "participation ratio", (trained,), horizontal=levels))
        return (*panels[:1], Panel("pixel", "weight", tuple(fields)), *panels[1:])


def _centred(field: Array) -> Array:
    """Norm 1, the largest entry positive and in the middle."""
    peak = int(np.argmax(np.abs(field)))
    return np.asarray(np.roll(field, len(field) // 2 - peak) * np.sign(field[peak]) / np.linalg.norm(field))
