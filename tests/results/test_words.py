"""Numbers with the digits that their errors justify."""

from __future__ import annotations

import math

import pytest

from featurephase.results.words import with_error


@pytest.mark.parametrize(
    ("value", "se", "expected"),
    [
        (0.27432, 0.00123, "0.2743 +- 0.0012"),
        (0.27432, 0.00354, "0.2743 +- 0.0035"),
        (0.27432, 0.00356, "0.274 +- 0.004"),
        (0.5, 0.0949, "0.50 +- 0.09"),
        (0.5, 0.0951, "0.50 +- 0.10"),
        (-1.2345, 0.36, "-1.2 +- 0.4"),
        (12790.3, 512.0, "12800 +- 500"),
        (123.4, 9.7, "123 +- 10"),
        (1.23456e8, 3.1e6, "1.235e+08 +- 3.1e+06"),
        (1e-12, 3e-14, "1.000e-12 +- 3.0e-14"),
        (0.0, 0.001, "0.0000 +- 0.0010"),
        (5.0, 0.0, "5"),
        (0.123456, math.nan, "0.123"),
        (math.nan, 1.0, "-"),
        (math.inf, 0.0, "inf"),
        (-math.inf, math.nan, "-inf"),
    ],
)
def test_digits_follow_the_error(value: float, se: float, expected: str) -> None:
    assert with_error(value, se) == expected
