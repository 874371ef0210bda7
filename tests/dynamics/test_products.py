"""Products of few rows, by panels and row by row, are the plain products."""

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
