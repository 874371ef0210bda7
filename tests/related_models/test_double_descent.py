"""Ridge regression: published values, special cases against each other, Gaussian data, random and real features."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.related_models.double_descent import DoubleDescent
from featurephase.related_models.ridge_risk import (
    best_ridge,
    general_risk,
    isotropic_risk,
    random_features_risk,
    risk_of_features,
)

from .cases import assert_agrees, value

SPECTRUM, SQUARES = np.array([1, 0.5, 0.25, 0.125]), np.array([1, 1, 0.5, 0.5])


@pytest.mark.parametrize(
    ("ratio", "ridge", "bias", "variance"),
    [
        (0.5, 0.0, 0.0, 0.25),
        (2.0, 0.0, 0.5, 0.25),
        (0.5, 0.1, 0.034522483825, 0.142261241912),
        (1.0, 0.1, 0.156173761889, 0.284956124958),
    ],
)
def test_isotropic_reference(ratio, ridge, bias, variance) -> None:
    risk = isotropic_risk(ratio, ridge, 1.0, 0.25)
    assert risk[:2] == pytest.approx((bias, variance), abs=1e-12)


@pytest.mark.parametrize(
    ("samples", "ridge", "expected"),
    [
        (2, 0.1, (0.590700418038, 0.193958568475, 0.542188066548)),
        (2, 0.0, (0.530330085890, 0.388678202770, 0.353553390593)),
        (8, 0.1, (0.106539331819, 0.095823985386, 0.151279266827)),
    ],
)
def test_general_reference(samples, ridge, expected) -> None:
    assert general_risk(SPECTRUM, SQUARES, samples, ridge, 0.3) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("samples", "features", "penalty", "expected"),
    [(3, 4, 0.1, 2.193413825505), (4, 2, 0.05, 2.427272463100), (10, 12, 0.5, 0.513562406473)],
)
def test_random_features_reference(samples, features, penalty, expected) -> None:
    spectrum, energies = 2.0 ** -np.arange(-1.0, 5.0), np.array([1, 0.5, 0.25, 0.25, 0.1, 0.1])
    risk = random_features_risk(spectrum, energies, samples, features, penalty, 0.2)
    assert risk.bias + risk.variance + 0.2 == pytest.approx(expected, abs=1e-12)


def test_the_formulas_contain_each_other_in_random_cases() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        samples, count = int(rng.integers(5, 60)), int(rng.integers(3, 80))
        ridge, noise = float(np.exp(rng.uniform(-7, 1))), float(rng.uniform(0, 1))
        flat = general_risk(np.ones(count), np.full(count, 1.0 / count), samples, ridge, noise)
        assert flat[:2] == pytest.approx(isotropic_risk(count / samples, ridge, 1.0, noise)[:2], rel=1e-9)
        spectrum = np.exp(rng.normal(size=count))
        squares = rng.uniform(size=count)
        exact = general_risk(spectrum, squares, samples, ridge, noise)
        many = random_features_risk(spectrum, spectrum * squares, samples, 1e9, samples * ridge, noise)
        assert many[:2] == pytest.approx(exact[:2], rel=1e-5)
        merged = general_risk(np.array([2.0]), np.array([1.0]), samples, ridge, noise, np.array([float(count)]))
        apart = general_risk(np.full(count, 2.0), np.full(count, 1.0 / count), samples, ridge, noise)
        assert merged == pytest.approx(apart, rel=1e-12)


def test_ridgeless_is_the_limit_of_a_small_ridge() -> None:
    for ratio in (0.3, 0.9, 1.5, 4.0):
        assert isotropic_risk(ratio, 1e-11, 1.0, 0.5)[:2] == pytest.approx(
            isotropic_risk(ratio, 0.0, 1.0, 0.5)[:2], rel=1e-6
        )
    spectrum = 2.0 ** -np.arange(6.0)
    for samples, features in ((3, 4), (4, 2), (10, 12), (12, 10)):
        small, none = (random_features_risk(spectrum, spectrum, samples, features, p, 0.2) for p in (1e-10, 0.0))
        assert small[:2] == pytest.approx(none[:2], rel=1e-4, abs=1e-8)


def test_the_peak_and_its_absence() -> None:
    """The risk of the interpolator diverges at p = n, located by the formula's own maximum; the best ridge has none."""
    ratios = np.geomspace(0.2, 5.0, 401)
    risks = np.array([sum(isotropic_risk(g, 1e-8, 1.0, 0.25)[:2]) for g in ratios])
    assert ratios[np.argmax(risks)] == pytest.approx(1.0, rel=0.01)
    assert math.isinf(isotropic_risk(1.0, 0.0, 1.0, 0.25).variance)
    assert np.all(np.diff([best_ridge(g, 1.0, 0.25)[1] for g in ratios]) > 0.0)
    for ratio in (0.5, 2.0):
        ridge, least = best_ridge(ratio, 1.0, 0.25)
        for factor in (0.9, 1.1):
            assert sum(isotropic_risk(ratio, factor * ridge, 1.0, 0.25)[:2]) > least


def test_the_peak_located_by_simulation() -> None:
    rng = np.random.default_rng(0)
    features = (60, 80, 95, 100, 105, 125, 160)
    means = []
    for p in features:
        model = DoubleDescent(ratio=p / 100, ridge=0.0, samples=100)
        means.append(np.mean([model.train(rng)["risk"] for _ in range(12)]))
    assert features[int(np.argmax(means))] == 100


def _random(rng: np.random.Generator, kind: int) -> DoubleDescent:
    ratio, ridge = float(np.exp(rng.uniform(-1.5, 1.5))), float(rng.choice([0.0, 0.01, 0.1, 1.0]))
    if kind == 0:
        return DoubleDescent(ratio=ratio, ridge=ridge, noise=float(rng.uniform(0, 1)), samples=150)
    count = max(int(150 * ratio), 3)
    return DoubleDescent(
        spectrum=np.arange(1.0, count + 1.0) ** -float(rng.uniform(0.2, 1)),
        squares=rng.uniform(0, 1, count) / count,
        ridge=ridge,
        samples=150,
        features=int(rng.integers(20, 400)) if kind == 2 else None,
    )


def test_against_gaussian_data_in_random_cases() -> None:
    rng = np.random.default_rng(0)
    for case in range(102):
        assert_agrees(_random(rng, case % 3).run(simulate=True, replicates=8, seed=case, workers=1))


@pytest.mark.parametrize(("features", "ridge"), [(None, 1e-2), (50, 1e-3), (200, 1e-3)])
def test_against_real_features(features, ridge) -> None:
    pytest.importorskip("sklearn")
    model = DoubleDescent(data="digits", samples=150, features=features, ridge=ridge)
    assert_agrees(model.run(simulate=True, replicates=8, workers=1))


@pytest.mark.slow
def test_the_double_descent_of_real_features() -> None:
    """At 150 digits: 400 random features err less than 50, and 150 by far the most, in theory and measured."""
    pytest.importorskip("sklearn")
    predicted, measured = [], []
    for features in (50, 150, 400):
        result = DoubleDescent(data="digits", samples=150, features=features, ridge=1e-6).run(
            simulate=True, replicates=4, workers=1
        )
        predicted.append(float(value(result, "test_error")))
        measured.append(float(result.measured["test_error"].value))
    for errors in (predicted, measured):
        assert errors[1] > 2.0 * errors[0] > 2.0 * errors[2]


def test_features_that_explain_everything_have_no_misfit() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 5))
    risk, misfit = risk_of_features(x, x @ np.ones(5), 100.0, 0.0)
    assert misfit == pytest.approx(0.0, abs=1e-12)
    assert risk.bias == 0.0


def test_an_infinite_asymptotic_risk_is_no_disagreement() -> None:
    result = DoubleDescent(ratio=1.0, ridge=0.0, samples=20).run(simulate=True, replicates=3, workers=1)
    assert value(result, "risk") == math.inf
    assert_agrees(result)


@pytest.mark.parametrize("changes", [{}, {"spectrum": [1.0, 0.5]}, {"data": "digits"}])
def test_two_samples_are_enough(changes) -> None:
    model = DoubleDescent(samples=2, **changes)
    q = model.theory.quantities["risk"]
    assert np.isfinite(q.value)
    assert q.accuracy > 0.0
    assert model.panels(model.theory, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ratio": 0.0}, "> 0"),
        ({"ridge": -1.0}, ">= 0"),
        ({"features": 10}, "needs spectrum"),
        ({"squares": [1.0]}, "0 eigenvalues"),
        ({"data": "digits", "samples": 1000}, "at most 900"),
        ({"data": "digits", "spectrum": [1.0]}, "exclude"),
    ],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        DoubleDescent(**changes)
