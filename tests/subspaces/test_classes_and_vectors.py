"""Subspaces and delta_alg where the response is a class or a vector, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import roots_hermitenorm

from featurephase.problem import Teacher
from featurephase.subspaces import latent_subspaces
from featurephase.subspaces.cells import cell_edges, resolves
from featurephase.subspaces.symmetry import relevant_space, symmetries
from featurephase.thresholds.algorithmic import algorithmic_threshold

#: Three directions of the plane, 120 degrees apart.
SECTORS = ("g1", "-0.5*g1 + 0.75**0.5*g2", "-0.5*g1 - 0.75**0.5*g2")
SQUARES = tuple(f"({s})**2" for s in SECTORS)


def classes(dim: int, *logits: str, decision: str = "argmax") -> Teacher:
    return Teacher(dim, classes=len(logits), logits=list(logits), decision=decision)


def vector(dim: int, *components: str) -> Teacher:
    return Teacher(dim, list(components))


def span(basis: np.ndarray) -> np.ndarray:
    return basis @ basis.T


@pytest.mark.parametrize(
    ("teacher", "easy"),
    [
        (classes(1, "g1", "-g1"), [1]),
        (classes(1, "2*g1", "0", decision="softmax"), [1]),
        (classes(2, "g1*g2", "0"), []),
        (classes(2, "g1*g2", "-g1*g2", decision="softmax"), []),
        (classes(2, *SECTORS), [1, 2]),
        (classes(2, *SQUARES), []),
        (classes(2, "1.5*g1", "2*(g2**2 - 1)", "0", decision="softmax"), [1]),
        (classes(3, "g1", "abs(g2*g3)", "g1 + 100*sign(g2*g3)"), [1]),
        (vector(2, "g1", "g2**2"), [1]),
        (vector(2, "g1**2", "g2**2"), []),
        (vector(2, "sign(g1)", "sign(g1*g2)"), [1, 2]),  # neither alone tells g2, both together do
        (vector(3, "tanh(g1) + 0.3*e1", "g2*g3"), [1]),
        (vector(2, "g1*g2", "g1*g2 + g1**2"), []),
    ],
    ids=str,
)
def test_easy_directions(teacher, easy):
    found = latent_subspaces(teacher, samples=2**16, quiet=True)
    assert found.status == "ok"
    expected = np.eye(teacher.latent_dim)[:, [j - 1 for j in easy]]
    np.testing.assert_allclose(span(found.easy_basis), span(expected), atol=1e-12)
    assert found.exact


def test_eigenvalues_of_sectors():
    """E[g | sector] = sqrt(pi/2) sin(pi/3)/(pi/3) along its middle: A = (27/(16 pi)) I. For sign(g1) it is 2/pi."""
    for teacher, expected in ((classes(2, *SECTORS), 27 / (16 * math.pi)), (classes(1, "g1", "-g1"), 2 / math.pi)):
        first = latent_subspaces(teacher, quiet=True).rounds[0]
        assert np.all(np.abs(first.eigenvalues - expected) < 4.5 * first.eigenvalues_se)
        assert np.all(first.eigenvalues_se < 5e-3)


def softmax_reference() -> float:
    """1/E[(E[g2^2 | class, g1] - 1)^2] for the classes of theory/trained-layers, by quadrature."""
    x, w = roots_hermitenorm(80)
    w = w / w.sum()
    a, b = np.meshgrid(x, x, indexing="ij")
    logits = np.stack([1.5 * a, 2 * (b**2 - 1), np.zeros_like(a)])
    p = np.exp(logits - logits.max(axis=0))
    p /= p.sum(axis=0)
    shift = (p * (b**2 - 1)) @ w  # (classes, g1)
    return 1 / float(np.sum((shift**2 / (p @ w)) @ w))


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        (classes(2, "g1*g2", "0"), math.pi**2 / 4),
        (classes(2, *SQUARES), 4 * math.pi**2 / 27),  # G = sin(pi/3)/(pi/3) times a reflection in each double sector
        (classes(2, "1.5*g1", "2*(g2**2 - 1)", "0", decision="softmax"), softmax_reference()),
        (vector(2, "g1", "g2**2"), 0.5),
        (vector(2, "g1**2", "g2**2"), 0.5),
        (vector(3, "g1", "g2", "abs(g3)"), 0.5),
        (vector(2, "sign(g1)", "exp(g2**2)"), 0.5),  # a component of two values, one with a long tail
    ],
    ids=str,
)
def test_algorithmic_threshold(teacher, expected):
    subspaces = latent_subspaces(teacher, samples=2**16, quiet=True)
    found = algorithmic_threshold(teacher, subspaces, samples=2**19 if teacher.classes else 2**18, quiet=True)
    assert found.status == "ok"
    assert abs(found.delta_alg - expected) < 4.5 * found.delta_alg_se + found.window_bias
    assert found.delta_alg_se + found.window_bias < 0.02 * expected


def test_nothing_hard_and_nothing_learnable():
    easy = classes(1, "g1", "-g1")
    assert algorithmic_threshold(easy, latent_subspaces(easy, quiet=True), quiet=True).delta_alg == 0
    parity = classes(3, "g1*g2*g3", "0")
    assert algorithmic_threshold(parity, latent_subspaces(parity, quiet=True), quiet=True).delta_alg == math.inf


def test_symmetries_are_those_of_the_law_of_the_class():
    """A class that is drawn has the symmetries of its probabilities; a vector those that all components share."""
    drawn = classes(2, "g1", "g2**2", "0", decision="softmax").link
    assert [s.matrix.tolist() for s in symmetries(drawn, np.empty((2, 0)), 0)] == [[[1, 0], [0, -1]]]
    shared = symmetries(vector(2, "g1**2", "g1 + g2**2").link, np.empty((2, 0)), 0)
    assert [found.matrix.tolist() for found in shared] == [[[1, 0], [0, -1]]]
    assert symmetries(vector(1, "g1**2", "g1").link, np.empty((1, 0)), 0) == []


def test_relevant_directions_are_those_of_the_logits_differences():
    found = relevant_space(classes(3, "g1 + g2 + exp(g3)", "exp(g3)", decision="argmax").link, 0)
    np.testing.assert_allclose(span(found), np.outer([1, 1, 0], [1, 1, 0]) / 2, atol=1e-8)


def test_cells_hold_neighbours():
    rng = np.random.default_rng(0)
    y = np.stack([rng.standard_normal(4096), rng.integers(0, 2, 4096), np.zeros(4096)], axis=1)
    order, levels, wide = cell_edges(y[None], 4)
    assert np.array_equal(np.sort(order), np.arange(4096))
    for starts, largest in zip((wide, *levels), (128, 64, 32, 16, 8), strict=True):
        assert np.diff(starts, append=4096).max() <= largest
    assert set(wide) <= set(levels[0]) <= set(levels[1]) <= set(levels[2]) <= set(levels[3])
    cells = np.split(y[order], levels[3][1:])
    assert np.mean([np.ptp(cell[:, 1]) > 0 for cell in cells]) < 0.01  # two values are cut apart but in the tails
    assert np.median([np.ptp(cell[:, 0]) for cell in cells]) < 0.02


def test_equal_vectors_are_one_cell():
    y = np.repeat(np.array([[0.0, 1.0], [2.0, 3.0]]), 500, axis=0)
    _, levels, _ = cell_edges(y[None], 4)
    assert all(starts.tolist() == [0, 500] for starts in levels)


def test_too_few_draws_for_many_components_show_nothing_to_be_zero():
    assert resolves(10, 1)
    assert resolves(64 * 8**2, 2)
    assert not resolves(64 * 8**2, 3)
