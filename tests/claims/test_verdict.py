"""Comparisons become verdicts by the rules that are written in one place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from featurephase.claims.base import Comparison, Finding, Number, above, at_most, below, equals, fact, power_law
from featurephase.claims.verdict import CONFIRMED, LIMITED, NOT_CONFIRMED, judged, verdict

EXACT = Number(2.0)


def judge(*comparisons: Comparison, limits: str = "") -> tuple[str, str]:
    return verdict(judged(comparisons), Finding(comparisons, limits))


def test_p_is_welchs() -> None:
    """Against SciPy's t-test of two samples with unequal variances."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 9), rng.normal(1.4, 3.0, 5)
    found = judged([equals("means", Number.mean(a), Number.mean(b), resolution=10.0)])[0]
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx(expected.statistic)
    assert found.degrees == pytest.approx(expected.df)
    one_sided = judged([above("means", Number.mean(a), Number.mean(b))])[0]
    assert one_sided.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Of true equalities about one in a thousand is rejected, though there are three in a claim."""
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(3000):
        claims = [equals("", Number.mean(rng.standard_normal(6)), 0.0, resolution=10.0) for _ in range(3)]
        rejected += judge(*claims)[0] == NOT_CONFIRMED
    assert rejected <= stats.binom.ppf(0.9999, 3000, 0.001)
    assert judge(equals("", Number(1.0, 0.1, 20), 0.0, resolution=1.0))[0] == NOT_CONFIRMED


def test_imprecision_is_no_agreement() -> None:
    vague = Number(2.1, 1.0, 10)
    assert judge(equals("", vague, EXACT, resolution=0.5))[0] == NOT_CONFIRMED
    assert judge(equals("", vague, EXACT, resolution=2.0))[0] == CONFIRMED


def test_a_tolerance_is_taken_off_first() -> None:
    near = Number(2.06, 0.001, 20)
    assert judge(equals("", near, EXACT, resolution=0.01))[0] == NOT_CONFIRMED
    assert judge(equals("", near, EXACT, resolution=0.01, tolerance=0.1))[0] == CONFIRMED


def test_an_inequality_must_be_shown() -> None:
    """Being on the right side is not enough."""
    assert judge(above("", Number(2.1, 0.1, 10), EXACT))[0] == NOT_CONFIRMED
    assert judge(above("", Number(2.5, 0.1, 10), EXACT))[0] == CONFIRMED
    assert judge(below("", Number(2.5, 0.1, 10), EXACT))[0] == NOT_CONFIRMED
    assert judge(below("", Number(1.5, 0.1, 10), EXACT))[0] == CONFIRMED


def test_few_replicates_need_larger_differences() -> None:
    """Student's t: five standard errors show something with 20 degrees of freedom, not with one."""
    assert judge(above("", Number(2.5, 0.1, 20), EXACT))[0] == CONFIRMED
    assert judge(above("", Number(2.5, 0.1, 1), EXACT))[0] == NOT_CONFIRMED


@pytest.mark.parametrize("relation", [above, below, lambda n, a, b: equals(n, a, b, resolution=9.0)])
@pytest.mark.parametrize("number", [Number(math.nan, math.nan, 5), Number(2.0, math.nan, 5), Number(math.nan)])
def test_what_is_not_a_number_confirms_nothing(relation: object, number: Number) -> None:
    assert judge(relation("", number, 2.0))[0] == NOT_CONFIRMED  # type: ignore[operator]
    assert judge(at_most("", math.nan, 1.0))[0] == NOT_CONFIRMED


def test_exact_numbers() -> None:
    assert judge(at_most("", 0.1, 0.2), fact("", True))[0] == CONFIRMED
    assert judge(at_most("", 0.3, 0.2))[0] == NOT_CONFIRMED
    assert judge(fact("", False))[0] == NOT_CONFIRMED
    assert judge(equals("", Number(3.0), 3.0, resolution=0.0))[0] == CONFIRMED
    assert judge(equals("", Number(3.0), 3.1, resolution=0.0))[0] == NOT_CONFIRMED


def test_limits_are_stated() -> None:
    beside = above("the other size", Number(2.0, 0.1, 10), 3.0, core=False)
    assert judge(fact("", True), beside) == (LIMITED, "not so for: the other size")
    assert judge(fact("", True), limits="one width") == (LIMITED, "one width")
    assert judge(fact("", False), limits="one width")[0] == NOT_CONFIRMED


def test_no_evidence_confirms_nothing() -> None:
    assert judge()[0] == NOT_CONFIRMED


def test_powers_and_their_errors() -> None:
    x = np.array([1.0, 4.0, 16.0])
    exact = power_law(x, [Number(3.0 * v**-0.5) for v in x])
    assert (exact.value, exact.se) == (pytest.approx(-0.5), 0.0)
    rng = np.random.default_rng(2)
    draws = [power_law(x, [Number(v + 0.02 * rng.standard_normal(), 0.02, 50) for v in x]) for _ in range(400)]
    assert np.std([d.value for d in draws]) == pytest.approx(draws[0].se, rel=0.2)
    assert math.isnan(power_law(x, [Number(-1.0, 0.1, 5)] * 3).value)
