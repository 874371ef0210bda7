"""Losses of several outputs against differences and against their own definition."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.functions import VectorLoss, loss, vector_loss

RNG = np.random.default_rng(0)
OUTPUTS = RNG.standard_normal((3, 40)) * 2
CLASSES = RNG.integers(3, size=40).astype(float)
VECTORS = RNG.standard_normal((40, 3))


@pytest.mark.parametrize("name", ["cross_entropy", "squared", "huber", "binary_cross_entropy", "logistic"])
@pytest.mark.parametrize("y", [CLASSES, VECTORS], ids=["classes", "vectors"])
def test_derivatives_are_those_of_the_value(name: str, y: np.ndarray) -> None:
    many = vector_loss(loss(name), 3)
    value, first = many.value_and_first(y, OUTPUTS)
    np.testing.assert_allclose(value, many.value(y, OUTPUTS), rtol=1e-13)
    again, second = many.first_and_second(y, OUTPUTS)
    np.testing.assert_array_equal(first, again)
    for c in range(3):
        step = np.zeros((3, 1))
        step[c] = 1e-5
        up, down = many.value_and_first(y, OUTPUTS + step), many.value_and_first(y, OUTPUTS - step)
        np.testing.assert_allclose(first[c], (up[0] - down[0]) / 2e-5, atol=1e-8)
        smooth = np.abs(np.abs(many.targets(y) - OUTPUTS) - 1.0).min(axis=0) > 1e-4  # the corners of huber
        np.testing.assert_allclose(second[c][:, smooth], ((up[1] - down[1]) / 2e-5)[:, smooth], atol=1e-8)


def test_softmax_by_its_definition() -> None:
    p = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(axis=0)
    expected = -np.log(p[CLASSES.astype(int), np.arange(40)])
    np.testing.assert_allclose(vector_loss(loss("cross_entropy"), 3).value(CLASSES, OUTPUTS), expected, rtol=1e-12)


def test_large_outputs_do_not_overflow() -> None:
    many = vector_loss(loss("cross_entropy"), 3)
    f = np.array([[1e4, -1e300], [0.0, 0.0], [-1e4, 1e300]])
    value, first = many.value_and_first(np.array([2.0, 2.0]), f)
    np.testing.assert_array_equal(value, [2e4, 0.0])
    np.testing.assert_array_equal(first, [[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    assert np.all(np.isfinite(many.first_and_second(np.array([2.0, 2.0]), f)[1]))


def _value(y, f):
    return np.sum((y - f) ** 4, axis=0)


def _first(y, f):
    return 4 * (f - y) ** 3


def _second(y, f):
    return 12 * np.eye(2)[:, :, None] * (f - y) ** 2


def test_own_functions_and_their_checks() -> None:
    own = VectorLoss.from_callables(_value, _first, _second, outputs=2, name="quartic")
    assert pickle.loads(pickle.dumps(own)) == own
    y, f = np.array([0.0, 1.0]), np.array([[0.5, 0.5], [0.2, 0.3]])
    np.testing.assert_allclose(own.value(y, f), [(0.5) ** 4 + 0.2**4, 0.5**4 + 0.7**4])
    with pytest.raises(InputError, match="no second derivative"):
        VectorLoss.from_callables(_value, _first, outputs=2).first_and_second(y, f)
    for wrong, words in (
        ((_value, lambda y, f: 3 * (f - y) ** 3, _second), "first derivative in output 1"),
        ((_value, _first, lambda y, f: 2 * _second(y, f)), "second derivative in output 1"),
        ((lambda y, f: (y - f) ** 4, _first, _second), r"must be finite of shape \(64,\)"),
        ((lambda y, f: np.full(f.shape[1], np.inf), _first, _second), "must be finite"),
    ):
        with pytest.raises(InputError, match=words):
            VectorLoss.from_callables(*wrong, outputs=2)
    for more, words in (
        ({"outputs": 1}, r"outputs = 1: must be a whole number >= 2; a loss of one output is a Loss"),
        ({"outputs": 2.5}, "outputs = 2.5"),
        ({"outputs": 2, "responses": np.ones((3, 4))}, r"responses of shape \(3, 4\)"),
    ):
        with pytest.raises(InputError, match=words):
            VectorLoss.from_callables(_value, _first, _second, **more)
