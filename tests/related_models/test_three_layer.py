"""Three layers: zonal kernels, identities of the learned feature, and sample complexity against training."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import comb

from featurephase.foundation.errors import InputError
from featurephase.related_models.spherical import KERNELS, zonal_coefficients
from featurephase.related_models.three_layer import ThreeLayer

from .cases import assert_agrees, error, value


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [6, 16, 40])
def test_zonal_coefficients(kernel, d) -> None:
    eigenvalues, multiplicity, rest = zonal_coefficients(kernel, d)
    degrees = np.arange(len(multiplicity))
    exact = comb(d + degrees - 1, degrees) - comb(d + degrees - 3, degrees - 2)
    np.testing.assert_allclose(multiplicity, exact, rtol=1e-9)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 40_000, d))
    cosine = np.sum(x[0] * x[1], axis=1) / np.prod(np.linalg.norm(x, axis=2), axis=0)
    squares = KERNELS[kernel](cosine) ** 2
    assert eigenvalues**2 @ multiplicity == pytest.approx(squares.mean(), abs=5 * squares.std() / 200 + 1e-6)
    assert rest < 0.02 * KERNELS[kernel](np.ones(1))[0]
    if kernel == "quadratic":
        np.testing.assert_allclose(eigenvalues[[1, 3, 4]], 0.0, atol=1e-14)
        assert eigenvalues[2] == pytest.approx(2 / (d * (d + 2)))


def test_the_mean_square_of_the_feature_is_exact() -> None:
    """E|phi|^2 = (1 - 1/n)|K f|^2 + E y^2 |k|^2/n for y = h, which is of degree 2 exactly."""
    d, n = 10, 60
    model, rng = ThreeLayer(dimension=d, hermite=[1.0]), np.random.default_rng(0)
    means = []
    for _ in range(300):
        a = model._feature_matrix(rng, d)
        x, _, y = model._data(rng, d, n, a)
        at, _, _ = model._data(rng, d, 400, a)
        phi = (at @ x.T / d) ** 2 @ y / n
        means.append(np.mean(phi**2))
    zonal = zonal_coefficients("quadratic", d)
    squares = zonal.eigenvalues**2
    exact = (1 - 1 / n) * squares[2] + squares @ zonal.multiplicity / n
    assert np.mean(means) == pytest.approx(exact, abs=4 * np.std(means) / np.sqrt(300))


def test_theory_and_training_agree() -> None:
    for hermite in ((0.8, 0.6), (1.0,)):
        model = ThreeLayer(hermite=hermite, dimension=12, samples=(120, 480), dimensions=(8, 12))
        assert_agrees(model.run(simulate=True, replicates=6, workers=1))


def test_exponents() -> None:
    result = ThreeLayer(dimensions=(16, 24, 40, 64)).run()
    assert value(result, "exponent") == pytest.approx(2.0, abs=0.1)
    assert value(result, "exponent_kernel") == pytest.approx(4.0, abs=0.4)
    relu = ThreeLayer(kernel="relu", dimensions=(16, 24, 40, 64)).run()
    assert value(relu, "exponent") == pytest.approx(3.0, abs=0.2)


@pytest.mark.slow
def test_exponents_by_training() -> None:
    result = ThreeLayer(dimensions=(8, 12, 18, 27)).run(simulate=True, replicates=6)
    assert_agrees(result)
    found = result.measured["exponent"]
    assert float(found.value) == pytest.approx(2.0, abs=0.15 + 3 * float(found.se))


@pytest.mark.slow
def test_three_layers_beat_two() -> None:
    result = ThreeLayer(dimension=24, samples=(500, 2000), dimensions=(8, 12)).run(simulate=True, replicates=6)
    three, two = result.measured["error"], result.quantities["error_two_layer"]
    assert np.all(
        np.asarray(three.value) + 3 * np.asarray(three.se)
        < np.asarray(two.value) - 3 * error(result, "error_two_layer")
    )


def test_phases() -> None:
    assert ThreeLayer(samples=(20,)).phase().name == "not learned"
    assert ThreeLayer(samples=(1000,)).phase().name == "three layers only"
    assert ThreeLayer(samples=(20_000,)).phase().name == "three layers and kernel"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hermite": [0.0, 1.0]}, "first not 0"),
        ({"dimensions": [8]}, "two different ones"),
        ({"samples": [1]}, "from 10"),
    ],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        ThreeLayer(**changes)
