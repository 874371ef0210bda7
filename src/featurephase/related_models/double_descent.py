"""Double descent of ridge regression: bias and variance over the number of features (arXiv:1903.08560, 2311.14646).

Four settings share one model. Without a spectrum the covariance is the identity and p/n the ``ratio``; with a spectrum
it has these eigenvalues; with ``features`` the inputs are seen through so many random linear features; with ``data``
"digits" the features are those of real images, random ReLU features of them if ``features`` is given.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np

from featurephase.foundation.errors import InputError, MissingDependencyError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model
from featurephase.related_models.parameters import choice, count, number, parameter, vector
from featurephase.related_models.ridge_risk import (
    Risk,
    best_ridge,
    general_risk,
    isotropic_risk,
    random_features_risk,
    risk_of_features,
)


def _fit(x: Array, y: Array, ridge: float) -> Array:
    """Minimiser of (1/n)|y - x b|^2 + ridge |b|^2, of least norm for ridge 0; several responses in columns of y."""
    if ridge == 0.0:
        return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0])
    n, p = x.shape
    if p <= n:
        return np.asarray(np.linalg.solve(x.T @ x + n * ridge * np.eye(p), x.T @ y))
    return np.asarray(x.T @ np.linalg.solve(x @ x.T + n * ridge * np.eye(n), y))


@functools.cache
def _digit_images() -> tuple[Array, Array]:
    """Centred images of scikit-learn's digits, of unit mean variance, and labels: 1 from the digit 5 on, else -1."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingDependencyError(
            "double-descent: data digits needs scikit-learn: pip install 'featurephase[torch]'"
        ) from None
    digits = load_digits()
    images = np.asarray(digits.data, dtype=np.float64)
    return (images - images.mean(axis=0)) / images.std(), np.where(np.asarray(digits.target) >= 5, 1.0, -1.0)


@model
class DoubleDescent(RelatedModel):
    """Parameters and quantities of ridge regression on Gaussian, random or real features."""

    name: ClassVar[str] = "double-descent"
    title: ClassVar[str] = "the test risk peaks where a model just interpolates, and falls again beyond"
    citation: ClassVar[str] = (
        "Hastie, Montanari, Rosset, Tibshirani, arXiv:1903.08560; Simon, Karkada, Ghosh, Belkin, arXiv:2311.14646"
    )
    validity: ClassVar[str] = "asymptotic"
    known: ClassVar[Known] = {
        "bias": ((), "excess test risk without noise"),
        "variance": ((), "excess test risk that the noise causes"),
        "risk": ((), "their sum"),
        "test_error": ((), "mean squared test error: the risk plus the noise"),
        "effective_ridge": ((), "kappa: directions with eigenvalues well above it are learned"),
        "best_ridge": ((), "ridge of least risk for covariance I"),
        "best_risk": ((), "risk at that ridge"),
    }

    ratio: float = parameter(number(0.0), "features over samples, p/n (covariance I)", default=0.5)
    ridge: float = parameter(number(0.0, open_low=False), "lambda; 0 is the interpolator", default=0.1)
    signal: float = parameter(number(0.0), "|beta|^2", default=1.0)
    noise: float = parameter(number(0.0, open_low=False), "variance of the noise", default=0.25)
    spectrum: Array | None = parameter(vector(number(0.0)), "eigenvalues of the covariance", default=None)
    squares: Array | None = parameter(
        vector(number(0.0, open_low=False)), "beta_i^2 in its eigenbasis; default: signal in equal parts", default=None
    )
    samples: int = parameter(count(2, 10**5), "n: of the simulation, and wherever ratio is not used", default=200)
    features: int | None = parameter(count(1, 10**5), "number of random features", default=None)
    data: str = parameter(choice("gaussian", "digits"), "Gaussian inputs, or scikit-learn's digits", default="gaussian")
    draw: int = parameter(count(0), "which random features of the digits", default=0)

    def check(self) -> None:
        """A spectrum where it is needed, as many squares as eigenvalues, and few enough images."""
        if self.features is not None and self.spectrum is None and self.data == "gaussian":
            raise InputError("double-descent: features needs spectrum (the eigenvalues of the inputs), or data digits")
        if self.squares is not None and (self.spectrum is None or len(self.squares) != len(self.spectrum)):
            have = 0 if self.spectrum is None else len(self.spectrum)
            raise InputError(
                f"double-descent: squares has {len(self.squares)} values for {have} eigenvalues of spectrum"
            )
        if self.data == "digits":
            if self.spectrum is not None:
                raise InputError("double-descent: spectrum and data digits exclude each other")
            if self.samples > 900:
                raise InputError(
                    f"double-descent: samples = {self.samples}: the digits are 1797 images, of which half are for the "
                    "test; must be at most 900"
                )

    def phase(self) -> Phase:
        """Under- or overparametrised; the peak of the interpolator lies between."""
        p = self._feature_count()
        g = self.ratio if self._isotropic() else p / self.samples
        word = "underparametrised" if g < 1.0 else "overparametrised" if g > 1.0 else "interpolation threshold"
        note = "fewer features than samples" if g < 1.0 else "the training data can be fitted exactly"
        return Phase(word, note, {"ratio": 1.0})

    def _isotropic(self) -> bool:
        return self.spectrum is None and self.data == "gaussian"

    def _feature_count(self) -> int:
        if self._isotropic():
            return max(round(self.ratio * self.samples), 1)
        if self.features is not None:
            return self.features
        return 64 if self.spectrum is None else len(self.spectrum)

    def _coefficients(self) -> Array:
        assert self.spectrum is not None
        if self.squares is not None:
            return self.squares
        return np.full(len(self.spectrum), self.signal / len(self.spectrum))

    def _theory(self, samples: float) -> tuple[Risk, float]:
        """Risk at this number of samples, and the noise (the misfit of real data)."""
        if self.data == "digits":
            return risk_of_features(*self._digits(), samples, self.ridge)
        if self.spectrum is None:
            ratio = self.ratio * self.samples / samples
            return isotropic_risk(ratio, self.ridge, self.signal, self.noise), self.noise
        beta = self._coefficients()
        if self.features is None:
            return general_risk(self.spectrum, beta, samples, self.ridge, self.noise), self.noise
        energies, penalty = self.spectrum * beta, samples * self.ridge
        risk = random_features_risk(self.spectrum, energies, samples, self.features, penalty, self.noise)
        return risk, self.noise

    def _digits(self) -> tuple[Array, Array]:
        """Features of all images, random ones if asked for, and the labels."""
        images, labels = _digit_images()
        if self.features is not None:
            rng = np.random.default_rng(self.draw)
            directions = rng.standard_normal((images.shape[1], self.features)) / np.sqrt(images.shape[1])
            images = np.maximum(images @ directions, 0.0) / np.sqrt(self.features)
        return images, labels

    def solve(self) -> Solution:
        """Asymptotic bias and variance; their accuracy is what a shift by two samples changes, and 4/n besides."""
        (bias, variance, kappa), noise = self._theory(float(self.samples))
        around = (max(self.samples - 2.0, 1.0), self.samples + 2.0)
        shifted = [self._theory(samples)[0] for samples in around]
        fewest = min(self.samples, self._feature_count())

        def allowed(value: float, around: list[float]) -> float:
            with np.errstate(invalid="ignore"):
                moved = max(abs(x - value) for x in around)
            if self.data == "digits":  # a finite population, and features that are not Gaussian
                return 0.05 * value + moved
            return float(np.nan_to_num(moved + 4.0 * value / fewest, nan=np.inf, posinf=np.inf)) + 1e-12

        errors = [allowed(bias, [r.bias for r in shifted]), allowed(variance, [r.variance for r in shifted])]
        values: dict[str, Any] = {
            "bias": (bias, errors[0]),
            "variance": (variance, errors[1]),
            "risk": (bias + variance, sum(errors)),
            "test_error": (bias + variance + noise, sum(errors)),
        }
        if not np.isnan(kappa):
            values["effective_ridge"] = kappa
        if self._isotropic():
            values["best_ridge"], values["best_risk"] = best_ridge(self.ratio, self.signal, self.noise)
        return self.solution(values)

    def training_memory(self) -> float:
        """The matrix of the data, a few times."""
        p = self._feature_count()
        inputs = p if self.spectrum is None else len(self.spectrum)
        return 8.0 * (3.0 * self.samples * max(p, inputs) + min(self.samples, p) ** 2 + inputs * p * (p != inputs))

    def train(self, rng: np.random.Generator) -> dict[str, Any]:
        """Regression on one data set, of the responses, of their noise-free part and of their noise."""
        if self.data == "digits":
            features, targets = self._digits()
            order = rng.permutation(len(targets))
            train, test = order[: self.samples], order[900:]
            fitted = _fit(features[train], targets[train], self.ridge)
            return {"test_error": np.mean((features[test] @ fitted - targets[test]) ** 2)}
        n, p = self.samples, self._feature_count() if self.spectrum is None else len(self.spectrum)
        s = np.ones(p) if self.spectrum is None else self.spectrum
        squares = np.full(p, self.signal / p) if self.spectrum is None else self._coefficients()
        beta = np.sqrt(squares) * rng.choice([-1.0, 1.0], p)
        x = rng.standard_normal((n, p)) * np.sqrt(s)
        seen = np.eye(p)
        if self.features is not None:
            seen = rng.standard_normal((p, self.features)) / np.sqrt(self.features)
        parts = np.column_stack([x @ beta, np.sqrt(self.noise) * rng.standard_normal(n)])
        clean, pure = (seen @ _fit(x @ seen, parts, self.ridge)).T
        errors = [clean - beta, pure, clean + pure - beta]
        bias, variance, risk = (float(np.sum(s * error**2)) for error in errors)
        return {"bias": bias, "variance": variance, "risk": risk, "test_error": risk + self.noise}

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """Bias, variance and risk over the number of features per sample, or over the samples."""
        if self._isotropic():
            grid = np.geomspace(0.1, 10.0, 240)
            risks = [isotropic_risk(g, self.ridge, self.signal, self.noise) for g in grid]
            place, label, mark = self.ratio, "features over samples, $p/n$", 1.0
            best = [best_ridge(g, self.signal, self.noise)[1] for g in grid]
        else:
            grid = np.unique(np.geomspace(max(self.samples / 10, 2), self.samples * 10, 120).round())
            risks = [self._theory(float(n))[0] for n in grid]
            place, label, mark = float(self.samples), "samples $n$", float(self._feature_count())
            best = []
        table = np.array([[r.bias, r.variance, r.bias + r.variance] for r in risks]).T
        table = np.where(np.isfinite(table), table, np.nan)
        names = ("bias", "variance", "risk")
        curves = [Curve(grid, row, name, colour=i) for i, (name, row) in enumerate(zip(names, table, strict=True))]
        if best:
            curves.append(Curve(grid, np.array(best), "risk at the best ridge", "dashed", colour=6))
        if simulated is not None:
            for i, name in enumerate(names):
                if (found := simulated.quantities.get(name)) is not None:
                    se = np.atleast_1d(np.asarray(found.se))
                    curves.append(Curve(np.array([place]), np.atleast_1d(found.value), "", "points", se, colour=i))
        top = 3.0 * float(np.nanmedian(table[2])) + 3.0 * float(theory.quantities["risk"].value)
        limits = (None, (0.0, top)) if np.isfinite(top) and top > 0.0 else (None, None)
        return (
            Panel(label, "excess test risk", tuple(curves), log_x=True, vertical=((mark, "p = n"),), limits=limits),
        )
