"""The tangent recursion with several outputs and a trained second layer, against pairs of nearby trajectories."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.dynamics.asymptotic import run_replicate
from featurephase.escape.growth import hard_growth
from featurephase.problem import GradientDescent, Problem, Student, Teacher

EASY, HARD = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
EPSILON = 0.005
CASES = {
    "classes": (
        {"classes": 3, "logits": ["1.5*g1", "2*(g2**2 - 1)", "0"]},
        Student("gelu", [[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]], bias=[0.1, -0.2]),
        "cross_entropy",
        {"optimiser": "nesterov", "momentum": 0.4, "step_size": 1.2},
    ),
    "vector": (
        {"link": ["g1 + 0.3*e1", "tanh(g2**2)"]},
        Student("tanh", [[1.0, 0.3], [-0.2, 0.8]], bias=[0.3, -0.4]),
        "squared",
        {"batch_fraction": 0.5, "step_size": 0.5},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_growth_is_the_difference_of_nearby_trajectories(name: str) -> None:
    response, student, loss, training = CASES[name]
    rates = {"readout_step_size": 0.3, "bias_step_size": 0.2, "output_bias_step_size": 0.25}
    problem = Problem(
        teacher=Teacher(2, **response),
        student=student,
        loss=loss,
        training=GradientDescent(steps=5, **rates, **training),
    )

    def overlaps(sign: int, seed: np.random.SeedSequence) -> np.ndarray:
        start = np.zeros((2, 2))
        start[1, 0] = sign * EPSILON
        moved = problem.replace(student={"init_overlap": start})
        return run_replicate(moved, 8.0, seed, samples=20_000, test=False).overlap[:, 1]

    pairs = np.random.SeedSequence(8).spawn(5)
    direct = np.array([(overlaps(1, s) - overlaps(-1, s)) / (2 * EPSILON) for s in pairs])
    tangent = np.array(
        [
            hard_growth(problem, 8.0, s, easy_basis=EASY, hard_basis=HARD, samples=20_000).growth()[:, :, 0]
            for s in np.random.SeedSequence(7).spawn(5)
        ]
    )
    difference = tangent.mean(axis=0) - direct.mean(axis=0)
    error = np.sqrt((tangent.var(axis=0, ddof=1) + direct.var(axis=0, ddof=1)) / 5)
    assert np.all(np.abs(difference) <= 5.0 * error + 1e-12)
    assert np.all(error[1:] < 0.02)
