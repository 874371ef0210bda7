"""delta_NN: the root search on curves whose roots are known, closed cases at a random start, and what has no answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import stdtrit

from featurephase.analyses import network_threshold as module
from featurephase.analyses.threshold import NetworkThreshold, network_threshold, threshold
from featurephase.analyses.threshold_limit import threshold_limit
from featurephase.foundation.errors import InputError, Interrupted
from featurephase.foundation.executors import ThisProcess
from featurephase.problem import Problem
from featurephase.results.status import NO_TRANSITION, NOT_CONVERGED, NOT_NEGATIVE
from featurephase.results.threshold import Window
from featurephase.results.words import with_error
from featurephase.subspaces import problem_subspaces
from featurephase.thresholds.roots import (
    EdgeMargin,
    Target,
    ZeroMargin,
    joined_windows,
    last_crossing,
    negative_windows,
    replicate_roots,
)
from featurephase.thresholds.scan import MarginReading, SignChange, searched_range, sign_changes

from .. import cases


@dataclass
class KnownCurve:
    """A margin with known roots in delta, diverging below ``diverges``."""

    margin: object
    diverges: float = 0.0
    calls: int = 0

    def read(self, delta):
        self.calls += 1
        if delta < self.diverges:
            return None
        value = self.margin(delta)
        return MarginReading(np.array([value]), value, True, -1.0, False, np.array([value]))


def root_of(curve, guess, bounds=(0.05, 1000.0), rising=False):
    return replicate_roots(curve.read, [Target(EdgeMargin(0), guess, rising)], bounds)[0].delta


@pytest.mark.parametrize("guess", [4.0, 6.0, 7.3, 20.0, 100.0])
def test_root_of_a_smooth_margin(guess):
    curve = KnownCurve(lambda d: 1.0 - (d / 7.3) ** 0.7)
    # linear interpolation over 5 % in log delta: relative error at most .05^2/8 |m''/m'| = 2.2e-4 for this margin
    assert root_of(curve, guess) == pytest.approx(7.3, rel=2.5e-4)
    assert curve.calls <= 12


def test_nearest_of_two_roots():
    curve = KnownCurve(lambda d: np.log(d / 2.0) * np.log(d / 30.0))
    assert root_of(curve, 2.2) == pytest.approx(2.0, rel=1e-3)
    assert root_of(curve, 27.0, rising=True) == pytest.approx(30.0, rel=1e-3)


def test_an_upper_bound_is_not_mistaken_for_the_lower_one():
    """Evaluations near the lower root enclose it; the other, of the opposite direction, is sought on its own."""
    curve = KnownCurve(lambda d: np.log(d / 4.7) * np.log(d / 124.0))
    targets = [Target(EdgeMargin(0), 4.6), Target(EdgeMargin(0), 200.0, rising=True)]
    lower, upper = (root.delta for root in replicate_roots(curve.read, targets, (0.05, 1000.0)))
    assert lower == pytest.approx(4.7, rel=1e-3)
    assert upper == pytest.approx(124.0, rel=1e-3)


def test_no_root_is_nan():
    assert np.isnan(root_of(KnownCurve(lambda d: 1.0 + d), 5.0, bounds=(1.0, 100.0)))


def test_a_root_is_found_beside_a_region_that_diverges():
    assert root_of(KnownCurve(lambda d: np.log(8.0 / d), diverges=7.0), 12.0) == pytest.approx(8.0, rel=1e-3)


def test_windows_of_crossings_in_any_order():
    """Two searches that ended at one root count once; a margin that is negative at first has a window from 0 on."""
    crossings = [(13.0, 0.1, False), (30.0, 1.0, True), (130.0, 2.0, False), (30.5, 1.0, True)]
    first, second = negative_windows(crossings, starts_negative=False)
    assert (first.low, first.high, first.high_se) == (13.0, 30.0, 1.0)
    assert (second.low, second.high) == (130.0, np.inf)
    (only,) = negative_windows([(5.0, 0.2, True)], starts_negative=True)
    assert (only.low, only.high) == (0.0, 5.0)
    assert negative_windows([], starts_negative=False) == ()
    (always,) = negative_windows([], starts_negative=True)
    assert (always.low, always.high) == (0.0, np.inf)


def test_an_end_of_a_window_that_some_replicate_lacks_has_no_error():
    quantity = ZeroMargin()
    targets = [Target(quantity, 10.0), Target(quantity, 40.0, rising=True), Target(quantity, 90.0)]
    first, second = module._windows(targets, [(11.0, 0.5), (np.nan, np.nan), (95.0, 1.0)], quantity)
    assert (first.low, first.high) == (11.0, 40.0)
    assert np.isnan(first.high_se)
    assert (second.low, second.high) == (95.0, np.inf)
    assert first.contains(30.0) is None  # how far it is from the end is not known


def test_windows_of_several_margins_are_joined():
    def window(low, high):
        return Window(low=low, low_se=0.1 * low, high=high, high_se=0.0)

    assert joined_windows([window(5.0, np.inf), window(1.0, 3.0), window(2.0, 4.0), window(6.0, 9.0)]) == (
        Window(low=1.0, low_se=0.1, high=4.0, high_se=0.0),
        window(5.0, np.inf),
    )
    assert joined_windows([]) == ()


def test_of_several_directions_the_lowest_mean_counts_not_the_mean_of_the_lowest():
    """Two directions of one strength: in every replicate one of both has the lower root, by noise alone."""
    problem = small(latent_dim=2, link="tanh(g1**2) + 1.001*tanh(g2**2)").replace(asymptotics={"replicates": 3})
    found = network_threshold(problem, 1, problem_subspaces(problem), delta_range=(3.0, 40.0))
    first, second = found.sectors
    assert found.value == min(first.value, second.value) == found.directions[0] == found.crossings[-1]
    assert found.value_negative == min(first.value_negative, second.value_negative) == found.windows[-1].low


def searched(monkeypatch, margin, targets, replicates=4):
    """Roots of each target, and the deltas that were read; ``margin(log delta, replicate)``."""
    problem = small().replace(asymptotics={"replicates": replicates})
    search = module._Search(problem, 1, problem_subspaces(problem), (0.1, 1000.0), 5000, False, ThisProcess())
    seeds = {seed.spawn_key: number for number, seed in enumerate(search.seeds)}
    deltas: list[float] = []

    def read(curve, delta, seed, times):
        deltas.append(delta)
        value = margin(np.log(delta), seeds[seed.spawn_key])
        return [None if value is None else MarginReading(np.array([value]), value, True, -0.1, False, np.empty(0))]

    monkeypatch.setattr(module.MarginCurve, "read", read)
    return module._roots(search, targets), deltas


def shifted(x, replicate):
    """The root of replicate r of four is at log 10 + .02 (r - 1.5)."""
    return 1.2 * (np.log(10.0) + 0.02 * (replicate - 1.5) - x)


def test_with_a_slope_a_replicate_is_read_once(monkeypatch):
    targets = [Target(EdgeMargin(0), 10.1, slope=-1.2), Target(ZeroMargin(), 10.2, slope=-1.2)]
    found, deltas = searched(monkeypatch, shifted, targets)
    assert deltas == [10.1] * 4  # the second target lies so near that it shares them
    for roots in found:
        np.testing.assert_allclose([r.delta for r in roots], 10.0 * np.exp(0.02 * (np.arange(4) - 1.5)), rtol=1e-12)


def test_where_the_mean_root_is_far_from_where_it_was_read_it_is_read_again(monkeypatch):
    (roots,), deltas = searched(monkeypatch, shifted, [Target(EdgeMargin(0), 11.0, slope=-1.0)])  # not the right slope
    assert len(deltas) == 8
    assert deltas[4] == pytest.approx(10.0, rel=0.03)
    np.testing.assert_allclose(np.mean([r.delta for r in roots]), 10.0, rtol=0.005)


def test_without_a_slope_or_where_a_run_diverges_a_root_is_enclosed(monkeypatch):
    (roots,), deltas = searched(monkeypatch, shifted, [Target(EdgeMargin(0), 10.1)])
    assert len(deltas) > 8
    np.testing.assert_allclose([r.delta for r in roots], 10.0 * np.exp(0.02 * (np.arange(4) - 1.5)), rtol=1e-6)
    beside = lambda x, r: None if x < np.log(9.9) and r == 0 else shifted(x, r)  # noqa: E731
    (roots,), _ = searched(monkeypatch, beside, [Target(EdgeMargin(0), 9.8, slope=-1.2)])
    np.testing.assert_allclose(
        [r.delta for r in roots[1:]], 10.0 * np.exp(0.02 * np.array([-0.5, 0.5, 1.5])), rtol=1e-6
    )


def test_nothing_is_searched_far_below_what_the_data_allow():
    assert searched_range(0.05, 1000.0, 2.0) == (1.4, 1000.0)
    assert searched_range(0.05, 1.0, 2.0) == (0.05, 1.0)
    assert searched_range(0.05, 1000.0, np.nan) == (0.05, 1000.0)
    assert searched_range(3.0, 1000.0, 2.0) == (3.0, 1000.0)


def test_sign_changes_are_interpolated_in_log_delta():
    grid = np.array([1.0, 10.0, 100.0, 1000.0])
    down, up = sign_changes(grid, np.array([1.0, -1.0, -1.0, 3.0]))
    assert (down.delta, up.delta) == (pytest.approx(10**0.5), pytest.approx(10**2.25))
    assert (down, up) == (SignChange(down.delta, False), SignChange(up.delta, True))


def phase_retrieval(a: float, weight_decay: float = 0.0, **asymptotics: int) -> Problem:
    """Curvature 2 (3 h^2 - g^2)/(a + g^2) at a random start (theory/hessian, eq. hes-random-start)."""
    problem = Problem.from_toml(f"""
[teacher]
latent_dim = 1
link = "g1**2"
[student]
activation = "h**2"
readout = [1.0]
[loss]
expression = "(y - f)**2/(2*({a} + y))"
[training]
step_size = 0.01
steps = 0
weight_decay = {weight_decay}
""")
    return problem.replace(asymptotics=asymptotics)


# source: theory/hessian, eq. hes-random-start: transitions 1.1349 (a = 1), continuous, and 2.2877 (a = 3),
# discontinuous
@pytest.mark.parametrize(("a", "delta", "continuous"), [(1.0, 1.1349, True), (3.0, 2.2877, False)])
def test_random_start(a, delta, continuous):
    problem = phase_retrieval(a, samples=60_000, replicates=6)
    found = network_threshold(problem, 0, problem_subspaces(problem), delta_range=(0.3, 10.0))
    assert abs(found.value - delta) < stdtrit(5, 0.999) * found.value_se
    assert found.value_se < 0.04 * delta
    assert found.negative
    assert found.continuous is continuous
    assert len(found.crossings) == 1


def delta_of_an_outlier_at_zero(a: float) -> float:
    """Where the hard outlier of a random start sits at 0, by quadrature: E[R g^2] = 0 and delta = 1/E[R]."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    g, h = np.meshgrid(nodes, nodes)
    pair = np.outer(weights, weights)
    curvature = 2 * (3 * h**2 - g**2) / (a + g**2)

    def response(s):
        return s * curvature / (1 + s * curvature)

    s = brentq(lambda s: np.sum(pair * response(s) * g**2), 1e-3, 0.4999)
    return 1 / np.sum(pair * response(s))


def test_an_outlier_that_is_negative_in_a_window_only():
    problem = phase_retrieval(1.0, samples=30_000, replicates=6)
    found = network_threshold(problem, 0, problem_subspaces(problem), delta_range=(0.3, 30.0))
    assert found.status == NOT_NEGATIVE
    assert np.isnan(found.value_negative)
    assert found.negative_crossings[0] == pytest.approx(found.value, rel=1e-3)
    error = found.negative_crossings[1] - delta_of_an_outlier_at_zero(1.0)
    assert abs(error) < stdtrit(5, 0.999) * found.negative_crossings_se[1]
    (window,) = found.windows
    assert (window.low, window.high, window.high_se) == (
        found.negative_crossings[0],
        found.negative_crossings[1],
        found.negative_crossings_se[1],
    )
    assert with_error(window.high, window.high_se) in found.message
    (sector,) = found.sectors
    assert sector.windows == found.windows
    assert np.isnan(sector.value_negative)


def test_weight_decay_closes_the_window():
    problem = phase_retrieval(1.0, weight_decay=2.0, samples=10_000, replicates=2)
    plain = phase_retrieval(1.0, samples=10_000, replicates=2)
    found = network_threshold(problem, 0, problem_subspaces(problem), delta_range=(0.5, 5.0))
    # common random numbers: the spectrum moves as a whole, so the outlier appears at the very same delta
    expected = network_threshold(plain, 0, problem_subspaces(plain), delta_range=(0.5, 5.0))
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.negative is False
    assert found.status == NOT_NEGATIVE
    assert "nowhere negative" in found.message


def small(**keys: object) -> Problem:
    return cases.problem(**({"steps": 8} | keys)).replace(asymptotics={"samples": 2000, "replicates": 2})


def test_an_interruption_keeps_the_times_that_are_finished(monkeypatch):
    def at(problem, time, *_, **__):
        if time == 2:
            raise KeyboardInterrupt
        return NetworkThreshold(time=time, value=7.0, value_se=0.1)

    monkeypatch.setattr("featurephase.analyses.threshold.network_threshold", at)
    problem = small()
    with pytest.raises(Interrupted, match="not finished at t = 2, the limit") as stop:
        threshold(problem, times=[1, 2, np.inf])
    kept = stop.value.result
    assert (kept.status, [e.time for e in kept.delta_nn]) == ("interrupted", [1])
    with pytest.raises(KeyboardInterrupt) as stop:
        threshold(problem, times=[2])
    assert not isinstance(stop.value, Interrupted)


def test_no_transition_in_the_range():
    found = threshold(small(), times=[1], delta_range=(0.2, 1.0))
    entry = found.delta_nn[0]
    assert found.status == entry.status == NO_TRANSITION
    assert np.isnan(entry.value)
    assert "up to delta = 1" in entry.message


def test_a_range_above_the_transition():
    entry = threshold(small(), times=[1], delta_range=(100.0, 1000.0)).delta_nn[0]
    assert entry.status == NO_TRANSITION
    assert "lies below" in entry.message


def test_an_outlier_that_always_stands_may_change_its_sign():
    """No crossing at the edge in the range searched, though one at 0: there is no delta_NN in it."""
    assert last_crossing([Target(ZeroMargin(), 10.0)]) is None
    assert last_crossing([Target(EdgeMargin(0), 9.0, rising=True), Target(ZeroMargin(), 10.0)]) is None
    assert last_crossing([Target(ZeroMargin(), 10.0), Target(EdgeMargin(0), 9.0)]) == 1
    problem = cases.problem(weight_decay=0.3, steps=40).replace(
        student={"init_norm": 0.6}, asymptotics={"samples": 3000, "replicates": 2}
    )
    entry = threshold(problem, times=[40], delta_range=(8.0, 14.0)).delta_nn[0]
    assert entry.status == NO_TRANSITION
    assert "lies below" in entry.message


def test_singular_curvature_has_no_threshold():
    found = threshold(small(activation="relu"), times=[1])
    assert found.status == "singular-curvature"
    assert found.delta_alg == pytest.approx(0.5, rel=0.01)
    assert "gelu" in found.message


def test_nothing_hard():
    found = threshold(small(link="tanh(g1)"), times=[1])
    assert found.ok
    assert found.delta_alg == 0.0
    assert found.delta_nn == ()
    assert "nothing is hard" in found.message


def test_limit_reports_how_far_it_came():
    problem = small().replace(threshold={"max_steps": 60})
    limit = threshold(problem, times=[np.inf]).delta_nn_limit
    assert limit.history_time == (15, 21, 30, 42, 60)
    assert limit.time == 60
    assert np.all(np.diff(limit.history) > 0)
    # five times up to 60 say little of infinity, and the error says so
    assert limit.status == NOT_CONVERGED
    assert not limit.converged
    assert limit.value_se > 0.02 * limit.value
    assert limit.value > limit.history[-1]


def test_a_second_layer_that_moves_on_leaves_no_limit_in_sight():
    """Its biases grow faster with every doubling of the time, and delta_NN follows later: 7 at t = 120, 10 at 480."""
    rates = {"readout_step_size": 0.2, "bias_step_size": 0.2, "output_bias_step_size": 0.2}
    problem = small().replace(training=rates, threshold={"max_steps": 120}, asymptotics={"replicates": 6})
    limit = threshold(problem, times=[np.inf], delta_range=(2.0, 20.0)).delta_nn_limit
    assert limit.status == NOT_CONVERGED
    assert "or the second layer with it" in limit.message
    assert limit.sectors[0].moves_on
    assert np.isnan(limit.value)
    assert np.isnan(limit.value_negative)
    assert limit.history[-1] == pytest.approx(7.0, abs=1.0)
    assert limit.sectors[0].windows[-1].contains(12.0) is None  # where it will end is open


def test_a_limit_that_would_take_too_long_is_located_by_the_scan_and_says_so():
    problem = small()
    limit = threshold_limit(problem, problem_subspaces(problem), delta_alg=0.5, longest=0.0)
    assert limit.status == NOT_CONVERGED
    assert limit.bounded.startswith("not followed")
    assert limit.bounded in limit.message
    assert "allowed here" in limit.bounded
    assert limit.time == 120
    assert np.isnan(limit.history).all()
    # at t = 240 and beyond it lies at 17 to 20 (theory/thresholds), within the error that the scan claims
    assert limit.value_se >= 0.25 * limit.value
    assert abs(limit.value - 18.5) < 2.0 * limit.value_se
    (window,) = limit.sectors[0].windows
    assert (window.contains(18.0), window.contains(200.0), window.contains(1.0)) == (None, True, False)


def test_too_few_steps_have_no_limit():
    limit = threshold(small().replace(threshold={"max_steps": 2}), times=[np.inf]).delta_nn_limit
    assert limit.status == NOT_CONVERGED
    assert "cannot be followed" in limit.message
    assert np.isnan(limit.value)


def test_bad_arguments():
    with pytest.raises(InputError, match="time 9"):
        threshold(small(), times=[9])
    with pytest.raises(InputError, match="delta_range"):
        threshold(small(), times=[1], delta_range=(5.0, 1.0))


@pytest.mark.slow
def test_distance_of_the_blocks_from_the_full_equation(monkeypatch):
    """A wide network's, from two evaluations, is that of the roots on the same samples; and the message has it."""
    problem = small(readout=[0.5, 0.3])
    narrow = threshold(problem, times=[0], delta_range=(2.0, 5.0))
    assert narrow.message == ""
    for name in ("network_threshold", "threshold"):
        monkeypatch.setattr(f"featurephase.analyses.{name}.FULL_WIDTH", 1)
    wide = threshold(problem, times=[0], delta_range=(2.0, 5.0))
    whole, blocks = narrow.delta_nn[0], wide.delta_nn[0]
    assert [b.value for b in blocks.blocks] == pytest.approx([b.value for b in whole.blocks], rel=1e-3)
    assert blocks.value == blocks.block_minimum == min(b.value for b in blocks.blocks)
    assert blocks.value in blocks.crossings
    assert blocks.value == blocks.value_negative
    assert blocks.block_gap == pytest.approx(whole.block_gap, abs=3e-3)
    assert f"{blocks.block_gap:+.1%}" in wide.message


def test_negative_for_good_is_where_the_last_window_begins():
    """At a large step size noise opens and closes windows: their ends and ``value_negative`` say the same."""
    problem = cases.problem(step_size=6.0, steps=10).replace(asymptotics={"samples": 200, "replicates": 2})
    (entry,) = threshold(problem, times=[10], limit=False).delta_nn
    assert entry.windows
    if np.isinf(entry.windows[-1].high):
        assert entry.value_negative == entry.windows[-1].low
    else:
        assert np.isnan(entry.value_negative)
