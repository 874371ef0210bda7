"""How far responses go near poles and ends, and whether the mean of a loss exists."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.functions import class_link, link, loss, vector_link, vector_loss
from featurephase.functions.tails import missing_mean, responses_at_reaches


@pytest.mark.parametrize(
    ("teacher", "criterion", "where"),
    [
        ("e1/e2", "squared", "near a pole in e2"),  # Cauchy noise, spelt in three ways
        ("tan(pi*(u1 - 0.5))", "squared", "near u1 = 0"),
        ("tan(g1)", "squared", "near a pole in g1"),
        ("e1/e2", "huber", "near a pole in e2"),  # E|y| is infinite too
        ("e1/e2", "cauchy", ""),  # E log(1 + y^2) is not
        ("1/abs(g1 - 0.7)**0.6", "squared", "near a pole in g1"),
        ("1/abs(g1 - 0.7)**0.4", "squared", ""),  # E y^2 = E|g - .7|^-.8 is finite
        ("u1**-0.5", "squared", "near u1 = 0"),  # E y^2 = E 1/u
        ("u1**-0.45", "squared", ""),
        ("1/(u1 + 1e-300)", "squared", "near u1 = 0"),  # finite, and of no use to anybody
        ("(1 - u1)**-0.5", "squared", "near u1 = 1"),
        ("(1 - u1)**-0.5", "huber", ""),
        ("-log(u1)", "squared", ""),
        ("tanh(g1)/u1", "squared", "near u1 = 0"),
        ("exp(g1**2)", "huber", "far out in g and e"),
        ("exp(0.24*g1**2)", "squared", ""),  # E exp(2 c g^2) is finite below c = 1/4
        ("exp(0.26*g1**2)", "squared", "far out in g and e"),
        ("exp(0.45*g1*g2)", "squared", ""),  # E exp(2 c g1 g2) is finite below c = 1/2
        ("exp(0.55*g1*g2)", "squared", "far out in g and e"),
        ("exp(5*g1)", "squared", ""),
        ("exp(g1**2)", "welsch", ""),  # bounded
        ("hermite(3, g1) + 0.5*e1", "squared", ""),
        ("log(abs(g1))", "squared", ""),
        ("1/(g1**2 + 0.01)", "squared", ""),
    ],
)
def test_whether_the_loss_has_a_mean(teacher, criterion, where) -> None:
    assert missing_mean(loss(criterion), link(teacher, 2)) == where


def test_the_slope_may_have_a_variance_where_the_loss_has_no_mean() -> None:
    assert missing_mean(loss("huber"), link("e1/e2", 1), gradient=True) == ""
    assert missing_mean(loss("squared"), link("e1/e2", 1), gradient=True) == "near a pole in e2"


def test_vectors_and_classes() -> None:
    parts = [link("g1", 1), link("1/u1", 1)]
    assert missing_mean(vector_loss(loss("squared"), 2), vector_link(parts)) == "near u1 = 0"
    assert missing_mean(vector_loss(loss("cross_entropy"), 2), class_link(parts)) == ""


@pytest.mark.parametrize("teacher", ["1/(g1 - 1.234)", "1/(g1 - g2)", "tan(g1)", "1/u1", "1/(1 - u1)", "1/(u1 - 0.3)"])
def test_every_pole_is_met(teacher) -> None:
    """Towards a pole of order one the response grows like the inverse of the distance, 2^-3 at each reach."""
    sizes = [float(np.max(np.abs(y[np.isfinite(y)]))) for y in responses_at_reaches(link(teacher, 2))]
    assert sizes[-1] > 0.1 * 2.0**39
    assert sizes[-1] / sizes[-5] > 2.0**8
