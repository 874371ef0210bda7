"""Roots of a margin from few evaluations."""

from dataclasses import replace

import numpy as np
import pytest

from featurephase.thresholds.roots import (
    BRACKET,
    EdgeMargin,
    Target,
    ZeroMargin,
    bracketed_root,
    negative_windows,
    scanned_targets,
    sloped,
    sloped_roots,
)
from featurephase.thresholds.scan import MarginReading, Scan


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


def reading(margin: float) -> MarginReading:
    return MarginReading(np.array([margin]), margin, True, -0.1, False, np.empty(0))


def around(function, deltas, noise=(0.0, 0.0)):
    """What two replicates read whose margins are a little more and a little less."""
    return [(d, [reading(function(d) + shift) for shift in noise]) for d in deltas]


def test_a_line_through_means_gives_guess_and_slope():
    margin = lambda d: 1.1 * np.log(16.0 / d)  # noqa: E731
    found = sloped(Target(EdgeMargin(0), 14.0), around(margin, [12.0, 15.0, 18.0], noise=(0.02, -0.02)))
    assert found.guess == pytest.approx(16.0, rel=1e-12)
    assert found.slope == pytest.approx(-1.1, rel=1e-12)
    high, low = sloped_roots(found, 15.5, [reading(margin(15.5) + 0.02), reading(margin(15.5) - 0.02)])
    assert (high.delta, low.delta) == pytest.approx((16.0 * np.exp(0.02 / 1.1), 16.0 * np.exp(-0.02 / 1.1)), rel=1e-12)


def test_a_line_that_tells_nothing_leaves_the_target_as_it_was():
    falling = lambda d: np.log(16.0 / d)  # noqa: E731
    target = Target(EdgeMargin(0), 14.0)
    assert sloped(Target(EdgeMargin(0), 14.0, rising=True), around(falling, [12.0, 15.0])).slope is np.nan
    assert sloped(target, around(lambda d: np.log(40.0 / d), [12.0, 15.0])) == target  # farther than a third away
    diverged = [(12.0, [None, reading(0.1)]), (15.0, [reading(0.0), reading(0.1)])]
    assert sloped(target, diverged) == target
    assert sloped(target, around(lambda d: 0.0, [12.0, 15.0])) == target


def test_a_replicate_that_diverged_or_leads_nowhere_has_no_root():
    target = Target(EdgeMargin(0), 10.0, slope=-1e-4)
    first, second, third = sloped_roots(target, 10.0, [None, reading(0.0), reading(0.5)])
    assert np.isnan(first.delta)
    assert second.delta == 10.0
    assert np.isnan(third.delta)


def test_where_small_ratios_diverge_a_margin_that_begins_negative_is_sought_there():
    """Nothing says that it is negative below: so neither does a window, and neither "inside" nor "outside" is said."""
    grid = np.array([1.0, 10.0, 100.0])
    readings = [[None, None], [reading(-0.1)] * 2, [reading(-0.2)] * 2]
    for entry in readings[1:]:
        entry[:] = [replace(r, sectors=np.array([[r.at_edge[0], r.at_zero]])) for r in entry]
    targets = scanned_targets(Scan.of(grid, readings), 1.0, directions=True, neurons=False)
    assert [t.quantity for t in targets] == [EdgeMargin(0), ZeroMargin()]
    assert {t.guess for t in targets} == {10.0}
    (window,) = negative_windows([], True, (10.0, np.inf))
    assert (window.contains(20.0), window.contains(5.0)) == (True, None)
    (everywhere,) = negative_windows([], True)
    assert everywhere.contains(5.0) is True
