"""Classes and vectors as responses."""

from __future__ import annotations

import pickle

import numpy as np

from featurephase.functions import class_link, link, vector_link
from featurephase.functions.responses import class_probabilities

LOGITS = [link(text, 2) for text in ("1.5*g1", "2*(g2**2 - 1) + 0.5*e1", "u1")]


def test_a_class_is_drawn_with_the_probabilities_of_its_logits() -> None:
    rng = np.random.default_rng(0)
    drawn = class_link(LOGITS)
    g, e, u = np.repeat([[0.7], [-0.4]], 200_000, axis=1), np.full((1, 200_000), 0.3), np.full((1, 200_000), 0.9)
    y = drawn.evaluate(g, e, np.concatenate([u, rng.random((1, 200_000))]))
    p = np.exp([1.5 * 0.7, 2 * (0.4**2 - 1) + 0.15, 0.9])
    p /= p.sum()
    np.testing.assert_allclose(class_probabilities(drawn, g[:, :1], e[:, :1], u[:, :1])[:, 0], p, rtol=1e-12)
    counts = np.array([np.mean(y == c) for c in range(3)])
    assert np.all(np.abs(counts - p) < 4 * np.sqrt(p * (1 - p) / 200_000))
    assert drawn.classes == 3
    assert drawn.uniforms == 2
    assert drawn.normals == 1
    assert drawn.uses == (1, 2)


def test_argmax_and_labels() -> None:
    largest = class_link([link("g1", 1), link("0", 1)], "argmax", (-1.0, 1.0))
    np.testing.assert_array_equal(largest.evaluate([[2.0, -2.0]]), [-1.0, 1.0])
    assert largest.uniforms == 0
    assert pickle.loads(pickle.dumps(largest)) == largest


def test_a_vector_shares_its_noise() -> None:
    pair = vector_link([link("g1 + e1", 1), link("g1 - e1", 1)])
    y = pair.sample(np.array([[1.0, 2.0, 3.0]]), np.random.default_rng(0))
    assert y.shape == (3, 2)
    assert pair.components == 2
    np.testing.assert_allclose(y.sum(axis=1), [2.0, 4.0, 6.0])
    assert pickle.loads(pickle.dumps(pair)) == pair
    assert not pair.facts.bounded
