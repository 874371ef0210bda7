"""The operator against the whole matrix and finite differences; Lanczos against dense; quadrature against moments."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.dynamics.dense import DenseDesign
from featurephase.dynamics.network import Network
from featurephase.foundation.errors import SingularCurvatureError
from featurephase.functions import activation, loss
from featurephase.hessian import empirical
from featurephase.hessian.empirical import EmpiricalHessian, extreme_eigenpairs, spectral_density


def case(n=300, d=40, m=3, dtype=np.float64, decay=0.07, name="gelu"):
    rng = np.random.default_rng(0)
    x, theta = rng.standard_normal((n, d)), rng.standard_normal((d, m)) / np.sqrt(d)
    y = 1.5 * np.tanh(x[:, 0] ** 2)
    network = Network(activation(name), np.array([1.0, -0.8, 0.6, 1.3])[:m], loss("squared"))
    return EmpiricalHessian(DenseDesign(x.astype(dtype)), network, theta, y, decay), x, y, theta, network


@pytest.mark.parametrize("m", [1, 3])
def test_operator_is_the_derivative_of_the_gradient(m):
    """Central differences of step 1e-5: truncation 1e-10, round-off 1e-11."""
    operator, x, y, theta, network = case(m=m)

    def gradient(w):
        f = network.losses_and_gradient((x @ w).T, y)[1]
        return ((f @ x).T / len(y) + 0.07 * w).T.ravel()

    v = np.random.default_rng(1).standard_normal(theta.T.size)
    move = v.reshape(theta.T.shape).T
    measured = (gradient(theta + 1e-5 * move) - gradient(theta - 1e-5 * move)) / 2e-5
    np.testing.assert_allclose(operator @ v, measured, atol=1e-7)
    np.testing.assert_allclose(operator.to_matrix() @ v, operator @ v, atol=1e-12)
    block = np.stack([v, 2 * v[::-1]], axis=1)
    np.testing.assert_allclose(operator @ block, operator.to_matrix() @ block, atol=1e-12)


def test_lanczos_finds_what_the_whole_matrix_has(monkeypatch):
    operator = case(n=900, d=150)[0]
    exact = np.linalg.eigvalsh(operator.to_matrix())
    monkeypatch.setattr(empirical, "DENSE_SIZE", 0)
    low, high = extreme_eigenpairs(operator, 3, 3)
    np.testing.assert_allclose(low.values, exact[:3], rtol=1e-7)
    np.testing.assert_allclose(high.values, exact[-3:], rtol=1e-7)
    assert max(low.residuals.max(), high.residuals.max()) < 1e-6
    only = extreme_eigenpairs(operator, 2, 0)
    np.testing.assert_allclose(only[0].values, exact[:2], rtol=1e-7)
    assert len(only[1].values) == 0
    assert extreme_eigenpairs(operator, 2, 0)[0].vectors.tobytes() == only[0].vectors.tobytes()


def test_asking_for_more_than_there_is():
    operator = case(d=3, m=1)[0]
    low, high = extreme_eigenpairs(operator, 5, 5)
    np.testing.assert_allclose(low.values, high.values)
    assert len(low.values) == 3


def test_single_precision_data():
    double, single = case()[0], case(dtype=np.float32)[0]
    v = np.random.default_rng(1).standard_normal(double.shape[0])
    np.testing.assert_allclose(single @ v, double @ v, atol=2e-5)


def test_quadrature_has_the_moments_of_the_spectrum():
    """Traces of H and H^2 are sums over probes: Hutchinson's estimator, whose error is known from the matrix."""
    operator = case(n=400, d=60)[0]
    matrix = operator.to_matrix()
    size, probes = len(matrix), 40
    found = spectral_density(operator, probes=probes, steps=30, seed=3)
    assert found.weights.sum() == pytest.approx(1.0)
    for power in (1, 2):
        value = np.linalg.matrix_power(matrix, power)
        error = np.sqrt(2 * np.sum((value - np.eye(size) * np.trace(value) / size) ** 2) / probes) / size
        assert abs(np.sum(found.weights * found.nodes**power) - np.trace(value) / size) < 5 * error
    assert np.trapezoid(found.density, found.x) == pytest.approx(1.0, abs=1e-3)


def test_quadrature_of_a_few_atoms_is_exact():
    """Three eigenvalues: the Krylov space is exhausted after three steps, and no ghost may appear."""
    from scipy.sparse.linalg import aslinearoperator

    atoms = np.repeat([-1.0, 0.5, 2.0], 20)
    found = spectral_density(aslinearoperator(np.diag(atoms)), probes=1, steps=30)
    np.testing.assert_allclose(np.sort(found.nodes), [-1.0, 0.5, 2.0], atol=1e-10)


def test_overlaps_of_known_vectors():
    operator = case(d=5, m=2)[0]
    vectors = np.zeros((10, 2))
    vectors[5, 0] = 1.0
    vectors[[1, 6], 1] = np.sqrt(0.5)
    np.testing.assert_allclose(operator.overlaps(vectors, np.eye(5)[:, :1]), [1.0, 0.0])
    np.testing.assert_allclose(operator.overlaps(vectors, np.eye(5)[:, :2] @ [[0.6], [0.8]]), [0.36, 0.64])


def test_a_relu_has_no_hessian():
    with pytest.raises(SingularCurvatureError):
        case(name="relu")
