"""Roots of a margin from few evaluations."""

import numpy as np
import pytest

from featurephase.thresholds.roots import BRACKET, bracketed_root


def solved(function, guess, **given):
    """The root, and where the function was evaluated."""
    known: dict[float, float] = {}

    def once(x: float) -> float:
        return known.setdefault(x, function(x))

    return bracketed_root(once, known, guess, (-5.0, 9.0), **given), sorted(known)


@pytest.mark.parametrize("off", [0.0, 0.05, -0.05, 0.08])
def test_three_evaluations_find_the_root_of_a_smooth_margin(off):
    found, evaluated = solved(lambda x: 1.0 - np.exp(0.8 * (x - 2.8)), 2.8 + off)
    assert found == pytest.approx(2.8, abs=3e-4)
    assert len(evaluated) <= 3


@pytest.mark.parametrize("guess", [2.70, 2.75, 2.78, 2.90])
def test_a_kink_costs_half_a_bracket_at_most(guess):
    """The smallest of two eigenvalues that change places near the root, where no curve is the margin."""
    found, _ = solved(lambda x: min(0.2 * (2.81 - x), 3.0 * (2.805 - x)), guess)
    assert found == pytest.approx(2.805, abs=0.5 * BRACKET)


def test_a_rising_root_and_none():
    assert solved(lambda x: np.sin(x - 2.0), 2.03, rising=True)[0] == pytest.approx(2.0, abs=3e-4)
    assert np.isnan(solved(lambda x: 1.0, 2.0)[0])
