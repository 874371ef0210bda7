"""Products of few rows with many, compiled or not, are the plain ones up to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from featurephase.dynamics import products
from featurephase.foundation.errors import FeaturephaseWarning

#: (few, many, length): small enough for BLAS and not; in all cases what four does not divide is left over.
SIZES = [
    (2, 5, 10),
    (1, 17, 8192),
    (2, 40, 8191),
    (3, 90, 5000),
    (4, 150, 8192),
    (5, 301, 2049),
    (8, 256, 2000),
    (11, 33, 777),
]


@pytest.fixture(params=["as it comes", "all compiled"])
def ways(request, monkeypatch):
    if request.param == "all compiled":
        monkeypatch.setattr(products, "_SMALL", 0)
        monkeypatch.setattr(products, "_SHORT", 0)


def assert_product(found, left, right, dtype):
    """Every sum within eps of the sum of moduli, times the square root of its length."""
    bound = 4 * np.finfo(dtype).eps * np.sqrt(left.shape[1]) * (np.abs(left) @ np.abs(right))
    assert found.dtype == np.float64
    assert np.all(np.abs(found - left @ right) <= bound)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_with_a_basis(size):
    few, many, length = size
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((many + 3, length))[:many]
    rows, coefficients = rng.standard_normal((few, 2 * length))[:, length:], rng.standard_normal((many, few)).T
    assert_product(products.project(rows, basis), rows, basis.T, np.float64)
    expected = products.combine(coefficients, basis)
    assert_product(expected, coefficients, basis, np.float64)
    memory = np.full(few * length + 7, np.nan)
    found = products.combine(coefficients, basis, memory)
    np.testing.assert_array_equal(found, expected)
    assert np.shares_memory(found, memory)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_with_a_block_of_data(size, dtype):
    few, many, length = size
    rng = np.random.default_rng(0)
    block, rows = rng.standard_normal((many, length)).astype(dtype), rng.standard_normal((few, length)).astype(dtype)
    coefficients, before = rng.standard_normal((few, many)), rng.standard_normal((few, length))
    wide = block.astype(float)
    assert_product(products.project(rows, block), rows.astype(float), wide.T, dtype)
    total = before.copy()
    products.add_combination(total, coefficients, block)
    assert_product(total, np.c_[np.eye(few), coefficients], np.r_[before, wide], dtype)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("columns", [1, 4])
@pytest.mark.parametrize(("many", "length"), [(7, 5), (301, 700), (90, 40_000)])
def test_weighted_products(width, columns, many, length, dtype):
    rng = np.random.default_rng(0)
    block = rng.standard_normal((many, length)).astype(dtype)
    rows = rng.standard_normal((width * columns, length)).astype(dtype)
    weights, before = rng.standard_normal((width, width, 2 * many)), rng.standard_normal((width * columns, length))
    total = before.copy()
    products.add_weighted_products(total, rows, weights[..., many:], block)
    h = (rows.astype(float) @ block.T.astype(float)).reshape(width, columns, many)
    weighted = np.einsum("rsn,scn->rcn", weights[..., many:], h).reshape(width * columns, many)
    scale = np.sqrt(length) * np.max(np.abs(weighted)) * np.sqrt(many)
    np.testing.assert_allclose(total, before + weighted @ block, atol=20 * np.finfo(dtype).eps * scale)


@pytest.mark.usefixtures("ways")
def test_what_is_not_finite_stays_so():
    block = np.ones((6, 100))
    block[2, 50], block[5, 99] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(
            products.project(np.ones((2, 100)), block)[0], [100, 100, np.inf, 100, 100, np.nan]
        )
        found = products.combine(np.ones((2, 6)), block)[1]
    assert (found[0], found[50]) == (6.0, np.inf)
    assert np.isnan(found[99])


def test_numba_is_loaded_for_large_products_alone():
    code = """
import sys
import numpy as np
from featurephase.dynamics.products import project
project(np.ones((2, 100)), np.ones((3, 100)))
assert "numba" not in sys.modules
project(np.ones((2, 10_000)), np.ones((30, 10_000)))
assert "numba" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_machine_code_is_not_kept_where_there_is_no_folder_for_it(monkeypatch):
    from featurephase.dynamics import kernels

    asked, njit = [], kernels.numba.njit

    def without_folder(**options):
        asked.append(options.get("cache", False))
        if asked[-1]:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(kernels, "numba", SimpleNamespace(njit=without_folder))
    monkeypatch.setattr(kernels, "_WRITTEN", {})
    kernels._say_where_to_keep_them.cache_clear()
    with pytest.warns(FeaturephaseWarning, match="NUMBA_CACHE_DIR"):
        assert kernels._compiled()(lambda x: x + 1)(1) == 2
    assert asked == [True, False]


@pytest.mark.usefixtures("ways")
def test_sums_over_many_short_rows_are_taken_in_float64():
    rng = np.random.default_rng(0)
    block, rows, weights = rng.standard_normal((50_000, 8), np.float32), np.ones((1, 8)), np.ones((1, 1, 50_000))
    found, expected = np.zeros((1, 8)), block.astype(float).sum(axis=1) @ block
    products.add_weighted_products(found, rows, weights, block)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_responses_of_small_matrices(width, count):
    """1 - (1 + A)^-1 of each, and whether 1 + A is positive definite, which one that is not decides for all."""
    rng = np.random.default_rng(width)
    factors = rng.standard_normal((count, width, width))
    matrices = factors @ factors.swapaxes(1, 2) - 0.4 * np.eye(width)
    rows, columns = np.triu_indices(width)
    index = np.empty((width, width), dtype=np.intp)
    index[rows, columns] = index[columns, rows] = np.arange(len(rows))
    packed = np.ascontiguousarray(matrices[:, rows, columns].T)
    indefinite = packed.copy()
    assert products.respond(packed, index)
    expected = np.eye(width) - np.linalg.inv(np.eye(width) + matrices)
    np.testing.assert_allclose(packed.T, expected[:, rows, columns], rtol=1e-9, atol=1e-9)
    if count:
        indefinite[index[-1, -1], -1] -= 1.0 + np.linalg.eigvalsh(matrices[-1])[-1]
        assert not products.respond(indefinite, index)


@pytest.mark.usefixtures("ways")
def test_shapes_that_do_not_match_are_refused():
    """The compiled loops would read past the ends of arrays."""
    x, w = np.ones((100, 400)), np.ones((3, 3, 100))
    wrong = [
        lambda: products.project(np.ones((3, 500)), x),
        lambda: products.combine(np.ones((3, 120)), x),
        lambda: products.add_combination(np.zeros((3, 400)), np.ones((1, 100)), x),
        lambda: products.add_combination(np.zeros((3, 400)), np.ones((3, 101)), x),
        lambda: products.add_weighted_products(np.zeros((3, 400)), np.ones((3, 400)), w[..., :10], x),
        lambda: products.add_weighted_products(np.zeros((5, 400)), np.ones((5, 400)), w, x),
        lambda: products.add_weighted_products(np.zeros((3, 400)), np.ones((3, 300)), w, x),
        lambda: products.add_weighted_products(np.zeros((3, 400)), np.ones((6, 400)), w, x),
        lambda: products.respond(np.ones((5, 100)), np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])),
        lambda: products.respond(np.ones((100, 3)).T, np.array([[0, 1], [1, 2]])),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match="do not match"):
            call()


def test_a_damaged_folder_of_machine_code_does_no_harm(tmp_path):
    code = """
import numpy as np
from featurephase.dynamics.products import combine
x, rows = np.arange(2e5).reshape(100, 2000), np.ones((2, 2000))
np.testing.assert_allclose(combine(rows[:, :100], x), rows[:, :100] @ x)
"""
    run = [sys.executable, "-c", code]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run(run, check=True, env=environment)
    kept = [p for p in tmp_path.rglob("*") if p.suffix in (".nbi", ".nbc")]
    assert kept
    for path in kept:
        path.write_bytes(b"")
    subprocess.run(run, check=True, env=environment)
