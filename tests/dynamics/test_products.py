"""Products of few rows - by panels, row by row, by slabs - are the plain products."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.dynamics import products


@pytest.mark.parametrize("small_kernels", [False, True])
@pytest.mark.parametrize(
    ("few", "many", "length"), [(1, 5, 8192), (2, 1, 10), (3, 90, 8192), (4, 150, 8191), (9, 700, 600)]
)
def test_products_are_the_plain_ones(monkeypatch, small_kernels, few, many, length):
    monkeypatch.setattr(products, "_has_small_kernels", lambda: small_kernels)
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((many + 3, length))[:many]
    rows, coefficients = rng.standard_normal((few, length)), rng.standard_normal((few, many))
    np.testing.assert_allclose(products.project(rows, basis), rows @ basis.T, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(products.combine(coefficients, basis), coefficients @ basis, rtol=1e-12, atol=1e-10)


def test_panels_cover_wide_rows(monkeypatch):
    monkeypatch.setattr(products, "_has_small_kernels", lambda: True)
    assert products._panel(3, 90, 8192) == 3648  # 3 x 90 x 3648 < 10^6, a multiple of a cache line's numbers
    assert products._panel(3, 10, 8192) == 8192
    assert products._panel(9, 700, 8192) is None
    assert products._panel(1, 90, 8192) is None


@pytest.mark.parametrize("small_kernels", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("few", "length", "most"),
    [(1, 50, 40), (3, 100, 900), (4, 2000, 130), (8, 2000, 113), (16, 900, 75), (40, 3000, 9)],
)
def test_block_products_are_the_plain_ones(monkeypatch, small_kernels, dtype, few, length, most):
    monkeypatch.setattr(products, "_has_small_kernels", lambda: small_kernels)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((few, length)).astype(dtype)
    found = products.BlockProducts(rows)
    room, eps = found.room(most), np.finfo(dtype).eps
    for size in (most, most // 2 + 1, 1):
        block = rng.standard_normal((size, length)).astype(dtype)
        coefficients, total = rng.standard_normal((few, size)), rng.standard_normal((few, length))
        wide, before = block.astype(float), total.copy()
        error = np.abs(found.project(block) - rows.astype(float) @ wide.T)
        assert np.all(error <= 4 * eps * np.sqrt(length) * (np.abs(rows) @ np.abs(wide).T))
        found.add_combination(total, coefficients, block, room)
        error = np.abs(total - before - coefficients @ wide)
        assert np.all(error <= 4 * eps * (np.abs(before) + np.sqrt(size) * (np.abs(coefficients) @ np.abs(wide))))


def test_slabs_stay_small(monkeypatch):
    monkeypatch.setattr(products, "_has_small_kernels", lambda: True)
    assert products._slab_rows(8, 2000, 8) == 56  # 8 x 2000 x 62 < 10^6
    assert products._slab_rows(3, 100, 8) == 400  # results of the kernel along the length: 3 x 400 <= 1200
    assert products._slab_rows(8, 100, 8) == 1248  # along the rows there is no such limit
    assert products._slab_rows(64, 2000, 8) is None
    assert products._slab_rows(1, 2000, 8) is None
    monkeypatch.setattr(products, "_has_small_kernels", lambda: False)
    assert products._slab_rows(8, 2000, 8) is None
