"""Contrastive learning: the exact flow against small steps, optima, and which patterns are found."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.related_models.active_patterns import follow, second_moments
from featurephase.related_models.contrastive import Contrastive, _ascend

from .cases import assert_agrees, error, value


def test_two_patterns_in_closed_form() -> None:
    """tan of the angle to the diagonal grows like exp(2 p1 p2 t) until the smaller coordinate reaches 0."""
    p, w0 = np.array([0.3, 0.7]), np.array([1.0, 0.8])
    tangent, rate = (w0[0] - w0[1]) / (w0[0] + w0[1]), 2 * p[0] * p[1]
    times = np.linspace(0.0, 2.0, 9) * -np.log(tangent) / rate
    direction, winner = follow(p, w0, times)
    found = (direction[:, 0] - direction[:, 1]) / (direction[:, 0] + direction[:, 1])
    np.testing.assert_allclose(found, np.minimum(tangent * np.exp(rate * times), 1.0), rtol=1e-9)
    assert winner == 0


def test_every_pattern_is_a_local_optimum_and_a_linear_unit_has_one() -> None:
    p = np.array([0.4, 0.3, 0.2, 0.1])
    rng = np.random.default_rng(0)

    def variance(w: np.ndarray) -> float:
        output = np.maximum(w, 0.0)
        return float(p @ output**2 - (p @ output) ** 2)

    for j in range(4):
        best = variance(np.eye(4)[j])
        assert best == pytest.approx(p[j] * (1 - p[j]))
        for _ in range(50):
            w = np.eye(4)[j] + 0.05 * rng.normal(size=4)
            assert variance(w / np.linalg.norm(w)) < best
    ends = _ascend(p, rng.normal(size=(40, 4)), relu=False)
    top = np.linalg.eigh(second_moments(p))[1][:, -1]
    np.testing.assert_allclose(np.abs(ends @ top), 1.0, atol=1e-9)


def test_the_exact_flow_against_small_steps_in_random_cases() -> None:
    """Directions on the way, and the winner, for 40 units."""
    rng = np.random.default_rng(1)
    times = np.array([0.5, 2.0, 5.0])
    for _ in range(40):
        p = rng.dirichlet(np.ones(int(rng.integers(2, 6))))
        w0 = rng.normal(size=len(p))
        direction, winner = follow(p, w0, times)
        w, step, seen = w0.copy(), 5e-3, []
        for n in range(1000):
            w = w + step * np.where(w > 0, p * (np.maximum(w, 0) - p @ np.maximum(w, 0)), 0.0)
            if n + 1 in (100, 400, 1000):
                seen.append(w / np.linalg.norm(w))
        np.testing.assert_allclose(direction, seen, atol=5e-3)
        assert winner == (np.argmax(_ascend(p, w0[None], relu=True)[0]) if np.any(w0 > 0) else -1) or p[winner] < 0.01


def test_equal_probabilities_the_largest_coordinate_wins() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        w0 = rng.normal(size=5)
        assert follow(np.full(5, 0.2), w0, np.zeros(0))[1] == (np.argmax(w0) if w0.max() > 0 else -1)


@pytest.mark.parametrize(
    ("p", "w0", "left", "end"),
    [
        ([0.5, 0.5], [1.0, 1.0], "1, 2", [1.0, 1.0]),
        ([0.3, 0.7], [2.0, 2.0], "1, 2", [1.0, 1.0]),
        ([0.4, 0.3, 0.3], [0.1, 1.0, 1.0], "2, 3", [0.0, 1.0, 1.0]),
        ([0.1, 0.3, 0.3, 0.3], [-1e-3, 1.0, 1.0, 0.2], "2, 3", [0.0, 1.0, 1.0, 0.0]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_ties_stay_and_are_a_saddle(p, w0, left, end) -> None:
    result = Contrastive(p=p, w0=w0, time=[1.0, 50.0, 200.0, 1e3, 1e5]).run()
    assert (result.status, result.phase) == ("saddle", "saddle")
    assert result.phase_note.endswith(f"patterns {left}")
    expected = np.array(end) / np.linalg.norm(end)
    np.testing.assert_allclose(value(result, "direction")[2:], np.tile(expected, (3, 1)), atol=1e-4)
    assert result.ok


def test_what_is_no_tie_is_decided() -> None:
    result = Contrastive(p=[0.5, 0.5], w0=[1.0, 1.0 + 1e-12], time=[10.0, 1e4]).run()
    assert (result.status, result.phase) == ("ok", "pattern")
    np.testing.assert_allclose(value(result, "direction")[1], [0.0, 1.0], atol=1e-9)


def test_theory_and_training_agree() -> None:
    assert_agrees(Contrastive(p=[0.25] * 4, units=6).run(simulate=True, replicates=8, workers=1))
    assert_agrees(Contrastive(activation="linear").run(simulate=True, replicates=4, workers=1))


def test_relu_covers_and_linear_does_not_in_one_and_two_layers() -> None:
    result = Contrastive().run(simulate=True, replicates=6, workers=1)
    assert_agrees(result)
    for relu, linear in (("covered", "covered_linear"), ("local_covered", "local_covered_linear")):
        assert value(result, relu) - 4 * error(result, relu) > value(result, linear) + 0.3
    assert value(result, "won") @ np.ones(4) > 0.8


def test_phases() -> None:
    assert Contrastive(w0=[-1.0, -1.0, -1.0, -1.0]).phase().name == "dead"
    assert Contrastive(w0=[1.0, 0.1, 0.1, 0.1]).phase().name == "pattern"
    assert Contrastive(activation="linear").phase().name == "principal component"


def test_the_border_between_two_basins_by_training() -> None:
    """With two patterns the one with the larger coordinate wins: the border is the diagonal, whatever p."""
    p, low, high = np.array([0.2, 0.8]), 0.5, 2.0
    for _ in range(12):
        middle = (low + high) / 2
        first = np.argmax(_ascend(p, np.array([[1.0, middle]]), relu=True)[0]) == 0
        low, high = (middle, high) if first else (low, middle)
    assert high == pytest.approx(1.0, abs=1e-3)
    assert [follow(p, np.array([1.0, x]), np.zeros(0))[1] for x in (0.999, 1.001)] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"p": [0.5, 0.4]}, "add to 0.9"),
        ({"p": [0.5, 0.5000001]}, r"add to 1\.0000001"),
        ({"p": [1.0]}, "at least two"),
        ({"w0": [1.0]}, "must be 4 numbers"),
    ],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        Contrastive(**changes)
