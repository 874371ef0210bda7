"""Crossings followed in time, on margins whose roots are known."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.thresholds.follow import (
    Crossing,
    MarginTable,
    enclosing_deltas,
    followed_times,
    missing_deltas,
    replicate_crossings,
)
from featurephase.thresholds.scan import MarginReading


def root(t: float, replicate: int = 0) -> float:
    return (20.0 - 30.0 * t**-0.5) * np.exp(0.05 * replicate)


def readings(delta: float, times, until: int, replicates: int, rising: bool):
    sign = 1.0 if rising else -1.0

    def reading(t, r):
        margin = sign * (0.8 * np.log(delta / root(t, r)) + 0.1 * np.log(delta / root(t, r)) ** 2)
        return MarginReading(np.array([margin]), margin, True, -0.1, False, np.empty(0), np.array([[margin, margin]]))

    return [[reading(t, r) if t <= until else None for t in times] for r in range(replicates)]


def table(plan, times, replicates=3, rising=False) -> MarginTable:
    rows = [(d, readings(d, times, until, replicates, rising)) for d, until in plan.items()]
    return MarginTable.of(times, 1, rows)


def test_times_are_a_grid_with_the_last_one_and_its_half():
    assert followed_times(240) == [15, 21, 30, 42, 60, 85, 120, 170, 240]
    assert followed_times(20) == [5, 7, 10, 14, 20]
    assert followed_times(1) == [0, 1] or followed_times(1)[-1] == 1


@pytest.mark.parametrize("rising", [False, True])
def test_a_crossing_is_enclosed_and_found_in_every_replicate(rising):
    scan_times, times = [15, 30, 60, 120], followed_times(480)
    grid = dict.fromkeys(np.geomspace(1.0, 100.0, 9), 120)
    scan = table(grid, scan_times, replicates=2, rising=rising)
    (change,) = scan.changes(0, False, 3)
    assert change.rising is rising
    crossing = Crossing.backwards(scan, 0, False, change)
    np.testing.assert_allclose(crossing.way, [root(t, 0.5) for t in scan_times], rtol=0.06)
    plan = enclosing_deltas(crossing, scan.times.astype(float), 480, (0.1, 1000.0))
    assert min(plan) < root(15) < root(480, 2) < max(plan) * 1.1
    assert plan[max(plan)] == 480
    assert plan[min(plan)] < 120  # an early delta need not run to the end
    full = table(plan, times, rising=rising)
    found = replicate_crossings(full, crossing, sorted(plan))
    expected = np.array([[root(t, r) for t in times] for r in range(3)])
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_more_deltas_are_asked_for_where_a_crossing_has_moved_on():
    times = [60, 120, 240]
    known = {10.0: 240, 12.0: 240, 14.0: 240}
    short = table(known, times)
    crossing = Crossing(0, False, False, (root(60), root(120), root(240)))
    more = missing_deltas(short, crossing, sorted(known), (0.1, 1000.0))
    assert len(more) == 1
    ((delta, until),) = more.items()
    assert 14.0 < delta < 18.0
    assert until == 240
    enough = {**known, 16.0: 240, 18.0: 240, 20.0: 240}
    assert missing_deltas(table(enough, times), crossing, sorted(enough), (0.1, 1000.0)) == {}
    # at the end of the range there is nothing more to ask for
    assert missing_deltas(short, crossing, sorted(known), (1.0, 14.0)) == {}


def test_crossings_share_the_deltas_that_enclose_them():
    times = np.array([60.0, 120.0])
    first, second = (
        enclosing_deltas(Crossing(0, False, False, way), times, 240, (0.1, 1000.0))
        for way in ((17.0, 18.0), (16.3, 17.1))
    )
    assert set(second) <= set(first) or set(first) <= set(second) or len(set(first) & set(second)) >= 3


def test_a_crossing_that_has_come_from_far_is_enclosed_at_late_times_only():
    times = np.array([15.0, 30.0, 60.0, 120.0])
    plan = enclosing_deltas(Crossing(0, False, False, (2.0, 8.0, 30.0, 100.0)), times, 120, (0.1, 1000.0))
    assert 25.0 < min(plan) < 38.0
    assert 100.0 < max(plan) < 130.0
    # nor are deltas asked for where it was early
    late = table(dict.fromkeys(np.exp(0.13 * np.arange(21, 26)), 240), [15, 240])
    assert missing_deltas(late, Crossing(0, False, False, (root(15), root(240))), list(late.delta), (0.1, 1e3)) != {}
    far = table(dict.fromkeys(np.exp(0.13 * np.arange(15, 26)), 240), [3, 240])
    assert missing_deltas(far, Crossing(0, False, False, (root(3), root(240))), list(far.delta), (0.1, 1e3)) == {}


def test_noise_that_hides_a_crossing_in_a_replicate_does_not_lose_it():
    rng = np.random.default_rng(1)
    times = [240]
    rows = []
    for delta in np.geomspace(14.0, 24.0, 5):
        margins = [-0.1 * np.log(delta / 18.0) + 0.02 * rng.standard_normal() for _ in range(6)]
        one = [MarginReading(np.array([m]), m, True, -0.1, False, np.empty(0), np.array([[m, m]])) for m in margins]
        rows.append((float(delta), [[reading] for reading in one]))
    noisy = MarginTable.of(times, 1, rows)
    found = replicate_crossings(noisy, Crossing(0, False, False, (18.0,)), list(noisy.delta))
    assert np.all(np.isfinite(found))
    assert abs(np.log(found).mean() - np.log(18.0)) < 4 * np.log(found).std(ddof=1) / np.sqrt(6) + 0.02


def test_a_delta_that_was_not_run_far_enough_is_run_farther():
    """The way was expected to lead upwards; at the end it lies below the deltas that were run so far."""
    below, above, beyond = (float(np.exp(0.13 * n)) for n in (22, 23, 24))
    assert below < root(480) < above
    plan = {below: 60, above: 480, beyond: 480}
    crossing = Crossing(0, False, False, (18.0,))
    more = missing_deltas(table(plan, followed_times(480)), crossing, sorted(plan), (0.1, 1000.0))
    assert more[below] == 480
