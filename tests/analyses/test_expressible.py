"""What the parity of an activation keeps a network from expressing."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.expressible import expressible, why_not
from featurephase.problem import Problem

from .. import cases

G1, G2 = np.eye(2)[:, :1], np.eye(2)[:, 1:]


def problem(activation: str, link: str, loss: str = "squared") -> Problem:
    return cases.problem(link, latent_dim=2, activation=activation, loss=loss, steps=1)


@pytest.mark.parametrize(
    ("activation", "link", "first", "second"),
    [
        ("tanh", "tanh(g1**2) + g2**2", False, False),
        ("tanh", "tanh(g1) + tanh(g2**2)", True, False),
        ("tanh", "g1*g2", False, False),
        ("tanh", "g1*tanh(g2**2)", True, True),
        ("gelu", "tanh(g1**2) + g2**2", True, True),
        ("h**2", "tanh(g1) + tanh(g2**2)", False, True),
    ],
)
def test_squared_loss(activation, link, first, second):
    found = problem(activation, link)
    assert (expressible(found, G1), expressible(found, G2)) == (first, second)


def test_other_losses_say_no_where_the_right_part_vanishes_altogether():
    assert not expressible(problem("tanh", "tanh(g1**2)", "pseudo_huber"), G1)
    assert expressible(problem("tanh", "tanh(g1) + tanh(g2**2)", "pseudo_huber"), G2)  # not known: nothing is claimed


def test_the_words_name_both_parities():
    words = why_not(problem("tanh", "tanh(g1**2)"), "g1")
    assert "odd" in words
    assert "even part" in words
