"""Products with a data matrix, block by block on threads: against whole products, and the same bytes every time."""

import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from featurephase.dynamics.dense import DenseDesign

#: (n, d, m): one block and several, a last one that is not full, fewer samples than parts, rows short and long.
SIZES = [
    (1, 1, 1),
    (5, 3, 2),
    (8191, 7, 3),
    (20_001, 40, 8),
    (2300, 4000, 1),
    (1003, 2000, 8),
    (300, 500, 64),
    (37, 20_000, 9),
]


def case(n, d, m, dtype):
    rng = np.random.default_rng(n + d + m)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((d, m)), rng.standard_normal((m, n))


def assert_product(found, left, right, dtype):
    """Up to rounding: every sum within eps of the sum of moduli, times the square root of its length."""
    eps, length = np.finfo(dtype).eps, left.shape[1]
    bound = 4 * eps * np.sqrt(length) * (np.abs(left) @ np.abs(right))
    difference = np.abs(found - left @ right)
    assert np.all(difference <= bound), np.max(difference / bound)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_are_those_of_whole_matrices(size, dtype):
    n = size[0]
    x, theta, f = case(*size, dtype)
    design = DenseDesign(x)
    wide = x.astype(np.float64)
    assert_product(design.preactivations(theta), theta.T, wide.T, dtype)
    seen = np.zeros(n, dtype=int)

    def sample_gradient(h, where):
        seen[where] += 1
        assert_product(h, theta.T, wide[where].T, dtype)
        return f[:, where]

    assert_product(n * design.gradient(theta, sample_gradient).T, f, wide, dtype)
    assert np.all(seen == 1)


@pytest.mark.parametrize("size", [(5, 3, 1), (1003, 200, 4), (3000, 500, 2)], ids=str)
def test_weighted_products(size):
    n, d, m = size
    x, _, _ = case(*size, np.float64)
    rng = np.random.default_rng(1)
    w, u = rng.standard_normal((m, m, n)), rng.standard_normal((m, d, 3))
    expected = np.einsum("ni,rsn,nj,sjc->ric", x, w, x, u, optimize=True) / n
    np.testing.assert_allclose(DenseDesign(x).weighted_products(w, u), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("m", [1, 8])
def test_the_same_bytes_whatever_the_threads_do(m, dtype):
    x, theta, _ = case(5003, 300, m, dtype)
    design, rng = DenseDesign(x), np.random.default_rng(0)

    def late(h, where):
        time.sleep(rng.uniform(0, 2e-3))
        return np.tanh(h)

    def both():
        return design.preactivations(theta).tobytes(), design.gradient(theta, late).tobytes()

    first = both()
    assert all(both() == first for _ in range(5))
    with threadpool_limits(limits=1):
        assert both() == first


def test_numbers_of_other_kinds_become_float64():
    x, theta, _ = case(300, 400, 2, np.float64)
    expected = DenseDesign(x.astype(np.float16).astype(float)).preactivations(theta)
    np.testing.assert_array_equal(DenseDesign(x.astype(np.float16)).preactivations(theta), expected)
    np.testing.assert_array_equal(
        DenseDesign(x.astype(">f8")).preactivations(theta), DenseDesign(x).preactivations(theta)
    )


def test_sample_gradients_are_asked_for_one_at_a_time():
    x, theta, _ = case(8003, 600, 4, np.float64)
    inside = []

    def alone(h, where):
        inside.append(where)
        time.sleep(2e-3)
        assert inside == [where]
        inside.clear()
        return h

    DenseDesign(x).gradient(theta, alone)


def test_overflow_is_reported_as_the_caller_asked_in_all_threads():
    """A run that diverges is not to warn; elsewhere an overflow is an error of the test-suite."""
    x, theta, _ = case(5003, 300, 2, np.float64)

    def overflow(h, where):
        return np.exp(1e4 + h)

    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.any(np.isfinite(DenseDesign(x).gradient(theta, overflow)))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        DenseDesign(x).gradient(theta, overflow)
