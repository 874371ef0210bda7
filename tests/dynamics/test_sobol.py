"""Sobol' points against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from featurephase.dynamics.sobol import MOST_COORDINATES, sobol_points


@pytest.mark.parametrize(("coordinates", "count"), [(1, 8), (2, 5), (7, 1), (MOST_COORDINATES, 1000), (5, 4096)])
def test_the_points_are_scipys(coordinates, count):
    """The same points, in the same order, from a generator in the same state, which is left in the same state."""
    own, theirs = np.random.default_rng(5), np.random.default_rng(5)
    sequence = qmc.Sobol(coordinates, scramble=True, bits=52, rng=theirs)
    first = 1 << (count.bit_length() - 1)
    expected = np.concatenate([sequence.random(first), sequence.random(count - first)]).T
    np.testing.assert_array_equal(sobol_points(coordinates, count, own), expected)
    assert own.random() == theirs.random()


@pytest.mark.parametrize("coordinates", [0, MOST_COORDINATES + 1])
def test_other_numbers_of_coordinates_are_refused(coordinates):
    with pytest.raises(ValueError, match="coordinates"):
        sobol_points(coordinates, 8, np.random.default_rng(0))
