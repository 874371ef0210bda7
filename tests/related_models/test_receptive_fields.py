"""The ring model: its moments against samples, and localisation against the Gaussian control."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from featurephase.foundation.errors import InputError
from featurephase.related_models.receptive_fields import ReceptiveFields, participation

from .cases import assert_agrees, error, value

SMALL = {"pixels": 16, "steps": 30, "batch": 20}


def test_participation() -> None:
    d = 40
    assert participation(np.eye(d)[3]) == 1.0
    assert participation(np.ones(d)) == pytest.approx(1 / d)
    assert participation(np.cos(2 * np.pi * 3 * np.arange(d) / d)) == pytest.approx(1.5 / d)


def test_moments_against_samples_in_random_cases() -> None:
    rng = np.random.default_rng(0)
    for case in range(6):
        model = ReceptiveFields(
            gain=float(np.exp(rng.uniform(-2, 3))),
            xi1=float(rng.uniform(0.3, 3)),
            xi2=float(rng.uniform(3.5, 8)),
            kernel=("exponential", "squared-exponential")[case % 2],
            **SMALL,
        )
        assert_agrees(model.run(simulate=True, replicates=5, seed=case, workers=1))


@pytest.mark.parametrize("kernel", ["squared-exponential", "exponential"])
def test_the_covariance_of_the_page(kernel) -> None:
    """And it is one: its Fourier coefficients are not negative."""
    d, xi = np.arange(30), 15.0
    if kernel == "exponential":
        expected = np.exp(-np.minimum(d, 30 - d) / xi)
    else:
        expected = sum(np.exp(-(((d + 30 * k) / xi) ** 2)) for k in range(-9, 10))
    z = ReceptiveFields(kernel=kernel)._process(xi)
    np.testing.assert_allclose(z, expected / expected[0], rtol=1e-12)
    assert np.fft.fft(z).real.min() > -1e-12


def test_the_kurtosis_by_quadrature() -> None:
    x, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    for gain in (0.05, 0.3, 1.0):
        moments = [float(w @ erf(gain * x) ** k) for k in (2, 4)]
        kurtosis = moments[1] / moments[0] ** 2 - 3.0
        found = ReceptiveFields(gain=gain, **SMALL).solve().quantities["kurtosis"].value
        assert found == pytest.approx(kurtosis, abs=1e-6)


def test_the_fourth_cumulant_against_samples() -> None:
    model = ReceptiveFields(**(SMALL | {"pixels": 8}))
    rng = np.random.default_rng(0)
    x = model._inputs(rng, model._roots(control=False), 200_000, control=False)[200_000:]
    tensor = model._cumulant(model.xi2)
    for which in ((0, 0, 0, 0), (0, 1, 2, 3), (0, 0, 2, 5), (1, 1, 3, 3)):
        a, b, c, d = (x[:, i] for i in which)
        found, influence = np.mean(a * b * c * d), a * b * c * d
        for left, right in ((a * b, c * d), (a * c, b * d), (a * d, b * c)):
            found -= np.mean(left) * np.mean(right)
            influence = influence - np.mean(left) * right - left * np.mean(right)
        assert tensor[which] == pytest.approx(found, abs=5 * influence.std() / np.sqrt(len(x)))
    np.testing.assert_allclose(tensor, tensor.transpose(1, 0, 3, 2), atol=1e-12)
    np.testing.assert_allclose(tensor, tensor.transpose(2, 1, 0, 3), atol=1e-9)


def test_the_cumulant_prefers_localised_fields() -> None:
    q = ReceptiveFields().solve().quantities
    assert q["ipr_cumulant"].value > 2.5 * q["ipr_wave"].value
    field = np.asarray(q["field_cumulant"].value)
    assert np.argmax(np.abs(field)) == len(field) // 2
    assert np.sum(np.abs(field) > 0.1) < len(field) / 2


@pytest.mark.slow
def test_training_localises_and_the_control_does_not() -> None:
    """The published phenomenon, and its end where the inputs become Gaussian (gain -> 0)."""
    sharp = ReceptiveFields().run(simulate=True, replicates=8)
    ratio, se = float(value(sharp, "ipr_ratio")), float(error(sharp, "ipr_ratio"))
    assert ratio - 3 * se > 1.15
    assert value(sharp, "ipr") == pytest.approx(value(sharp, "ipr_cumulant"), rel=0.35)
    smooth = ReceptiveFields(gain=0.1).run(simulate=True, replicates=8)
    assert smooth.phase == "nearly Gaussian"
    assert abs(float(value(smooth, "ipr_ratio")) - 1.0) < 3 * float(error(smooth, "ipr_ratio")) + 0.05


@pytest.mark.slow
def test_localisation_sets_in_with_the_kurtosis() -> None:
    ratios = [
        float(value(ReceptiveFields(gain=g).run(simulate=True, replicates=6), "ipr_ratio")) for g in (0.1, 1.0, 3.0)
    ]
    assert ratios[0] < ratios[1] < ratios[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"xi1": 2.0, "xi2": 2.0}, "must differ"), ({"pixels": 100}, "from 8 to 48"), ({"gain": 0.0}, "> 0")],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        ReceptiveFields(**changes)
