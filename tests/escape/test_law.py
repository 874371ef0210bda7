"""The law of the escape time: of a pure exponential, at stable and unstable plateaus, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.escape.growth import HardGrowth, hard_growth
from featurephase.escape.law import escape_law, predicted_escape
from featurephase.problem import Problem
from featurephase.subspaces import problem_subspaces

from .. import cases


def problem(steps=20, activation="gelu", **training) -> Problem:
    return cases.problem(activation=activation, steps=steps, **training)


EASY, HARD = cases.NOTHING_EASY, cases.ALL_HARD


def growths(p, delta, replicates=6, samples=20_000, **keys):
    seeds = np.random.SeedSequence(3).spawn(replicates)
    return [hard_growth(p, delta, s, easy_basis=EASY, hard_basis=HARD, samples=samples, **keys) for s in seeds]


def test_law_of_the_escape_time_of_a_pure_exponential():
    """c(t) = c(0) 1.1^t with Gaussian c(0): P(T <= t) = P(|N| > level sqrt(d)/1.1^t), and no end where it shrinks."""
    t = np.arange(41)
    paths = (1.1**t)[:, None, None, None]
    growth = HardGrowth(paths, np.zeros((41, 0, 1, 1)), np.ones(41), True)
    law = escape_law([growth] * 2, 10_000, draws=20_000)
    median = np.ceil(np.log(0.5 * 100 / 0.67449) / np.log(1.1))
    assert abs(law.median - median) <= 1
    assert law.rate == pytest.approx(1.1)
    assert law.low < law.median < law.high
    late = escape_law([growth] * 2, 10**9)  # some 100 steps: the rate is not trusted for more than 80
    assert (late.status, np.isnan(late.median), late.by_end) == ("undecided", True, 0.0)
    assert "most runs leave the plateau after step 80, if at all" in late.message
    shrinking = HardGrowth((0.9**t)[:, None, None, None], np.zeros((41, 0, 1, 1)), np.ones(41), True)
    assert escape_law([shrinking] * 2, 10_000).median == np.inf
    assert law.largest_dimension == np.inf


def test_no_escape_is_predicted_where_the_plateau_is_stable():
    """Left of the transition (delta = 16 at t = 60) the linear theory grows too, from the edge of the bulk."""
    below = growths(problem(60), 10.0, replicates=3, samples=5000)
    assert not any(g.unstable for g in below)  # the outlier is negative early, then vanishes
    law = escape_law(below, 100_000)
    assert (law.status, law.median, law.low) == ("stable", np.inf, np.inf)
    assert "no hard outlier stands left of the bulk and below 0 at step 60" in law.message
    sizes = [np.median(g.relative_sizes(100_000, 500, np.random.default_rng(1)), axis=0) for g in below]
    assert all(size.max() > 2.0 * size[0] for size in sizes)  # 3.6 +- .3 times by t = 20, and no faster after that
    above = growths(problem(60), 40.0, replicates=3, samples=5000)
    assert all(g.unstable for g in above)
    law = escape_law(above, 1000)
    assert (law.status, law.message) == ("ok", "")
    assert np.isfinite(law.high)
    decayed = growths(problem(20, weight_decay=1.0), 40.0, replicates=2, samples=5000)
    assert [g.unstable for g in decayed] == [False, False]  # the same outlier, shifted above 0


def test_an_early_instability_counts_though_it_is_gone_at_the_end():
    """A path that crosses the level and shrinks again: the runs that cross it have escaped."""
    t = np.arange(41)
    paths = np.where(t < 20, 1.5**t, 1.5 ** (40 - t))[:, None, None, None]
    growth = [HardGrowth(paths, np.zeros((41, 0, 1, 1)), np.ones(41), False)] * 2
    law = escape_law(growth, 10_000, draws=20_000)
    # the largest size is |N(0,1)| 1.5^20/100 = 33 |N|: below the level 1/2 with probability .012
    assert law.by_end == pytest.approx(0.988, abs=0.004)
    assert escape_law(growth, 10_000, draws=20_000, until=40).by_end == law.by_end
    assert escape_law(growth, 10_000, draws=20_000, until=5).by_end < 0.01
    assert (law.status, law.high < 20) == ("ok", True)
    # half of the runs reach it where .67449 1.5^20/sqrt(d) = 1/2; the median of 20 000 draws is known to 1 %
    assert law.largest_dimension == pytest.approx((0.67449 * 1.5**20 / 0.5) ** 2, rel=0.06)
    elsewhere = escape_law(growth, 100, draws=20_000).largest_dimension
    assert elsewhere == pytest.approx(law.largest_dimension)  # whatever the dimension it is computed at


def test_replicates_decide_whether_there_is_an_escape_time():
    t = np.arange(41)

    def growth(goes_on: bool | None) -> HardGrowth:
        return HardGrowth((1.2**t)[:, None, None, None], np.zeros((41, 0, 1, 1)), np.ones(41), goes_on)

    split = escape_law([growth(True), growth(False)], 10**10)
    assert split.status == "undecided"
    assert np.isnan(split.median)
    assert np.isnan(split.largest_dimension)
    assert "1 of 2 replicates" in split.message
    # at a dimension so small that all is over by the last step it does not matter
    early, sure = (escape_law([growth(True), growth(u)], 16) for u in (False, True))
    assert (early.status, early.low, early.median) == ("ok", sure.low, sure.median)
    assert early.median < 20
    assert escape_law([growth(False)] * 2, 10**10).status == "stable"
    unbounded = escape_law([growth(None)] * 2, 10**10)
    assert (unbounded.status, np.isnan(unbounded.median)) == ("undecided", True)
    assert "no edge" in unbounded.message


def test_why_there_is_no_law_is_its_status():
    """What the theory does not cover, nothing hard, divergence: an answer, no exception."""
    for p, words in (
        (problem(activation="relu"), "singular"),
        (problem(batches="one-pass", batch_fraction=0.5), "fresh samples"),
        (problem().replace(teacher={"link": "g1"}), "nothing is hard"),
    ):
        law = predicted_escape(p, 4.0, 100, problem_subspaces(p))
        assert law.status == "not-predicted"
        assert words in law.message
        assert law.times.size == 0
        assert np.isnan(law.median)
    p = problem(30).replace(training={"step_size": 1e3})
    law = predicted_escape(p, 4.0, 100, problem_subspaces(p), samples=2000, replicates=2, workers=1)
    assert law.status.kind == "diverged"
    assert law.message == f"the trajectory diverges at step {law.status.step}"


def test_what_is_no_failure_of_the_theory_is_not_taken_for_one(monkeypatch):
    """LinAlgError is a ValueError: a defect, not a reason why there is no escape time."""

    def fail(*_, **__):
        raise np.linalg.LinAlgError("eigenvalues did not converge")

    monkeypatch.setattr("featurephase.escape.law.hard_growth", fail)
    p = problem()
    with pytest.raises(np.linalg.LinAlgError):
        predicted_escape(p, 4.0, 100, problem_subspaces(p), workers=1)


def test_a_law_takes_no_more_paths_than_the_problem(monkeypatch):
    """Who asks for few sample paths wants an answer soon; who asks for many gets 20,000, which are enough."""
    taken = []
    monkeypatch.setattr("featurephase.escape.law.hard_growth", lambda *_, samples, **__: taken.append(samples))
    monkeypatch.setattr("featurephase.escape.law.escape_law", lambda *_, **__: None)
    for asked in (400, 20_000, 100_000):
        p = problem().replace(asymptotics={"samples": asked})
        predicted_escape(p, 4.0, 100, problem_subspaces(p), replicates=1, workers=1)
    assert taken == [400, 20_000, 20_000]
