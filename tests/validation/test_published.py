"""Numbers of the literature and of independent programs; see published.py for their sources."""

from __future__ import annotations

from dataclasses import replace

import pytest

from . import published
from .cases import CASES
from .evidence import assert_agree


def test_table_of_dandi_et_al():
    found = published.dandi_comparison(100_000, 20)
    assert_agree(found, resolution=1.6e-3)
    for c in found:
        assert abs(c.z) < 3, c.row()


@pytest.mark.slow
def test_late_overlap_of_dandi_et_al():
    """Response-function solvers give .36 at t = 19 where the recursion gives .313: ten standard errors apart."""
    found = published.dandi_late_comparison(30_000, 8, dimension=400, seeds=24)
    assert_agree(found, resolution=4e-2)
    (overlap,) = (c for c in found if "M11" in c.name)
    assert overlap.theory.value < 0.36 - 10 * overlap.theory.se


def test_one_neuron_trajectory():
    assert_agree(published.one_neuron_trajectory(50_000, 8), resolution=6e-3)


@pytest.mark.slow
def test_one_neuron_edges():
    assert_agree(published.one_neuron_edges(15_000, 5), resolution=6e-3)


@pytest.mark.parametrize(
    ("time", "below", "above"), [(1, 4.0, 5.0), pytest.param(60, 13.0, 19.0, marks=pytest.mark.slow)]
)
def test_one_neuron_transition_lies_between(time, below, above):
    """theory/thresholds: between 4 and 5 at t = 1, near 16 at t = 60."""
    case = CASES["one neuron"]
    low = published.hard_margin(replace(case, steps=time), below, time, 40_000, 6)
    high = published.hard_margin(replace(case, steps=time), above, time, 40_000, 6)
    assert low.value > 3 * low.se
    assert high.value < -3 * high.se


@pytest.mark.parametrize("a", published.RANDOM_START)
def test_random_start_thresholds_to_one_percent(a):
    delta, critical = published.random_start_threshold(a, 17)
    assert delta == pytest.approx(published.RANDOM_START[a], rel=0.01)
    assert critical == (a < published.RANDOM_START_CONTINUOUS_UP_TO)


def test_random_start_spectrum():
    """Five digits are given; 2^18 quasi-random points reach 1e-3."""
    edge, value, overlap = published.random_start_spectrum(18)
    want = published.RANDOM_START_SPECTRUM
    assert edge == pytest.approx(want[0], abs=1e-3)
    assert value == pytest.approx(want[1], abs=1e-3)
    assert overlap == pytest.approx(want[2], abs=3e-3)
