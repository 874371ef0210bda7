"""Gaussian averages against independent numerics, and the flow of order parameters against one-pass training."""

from __future__ import annotations

import itertools
import math

import mpmath as mp
import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.related_models.gaussian_averages import ERF, RELU, four_signs
from featurephase.related_models.teacher_student import TeacherStudent

from .cases import assert_agrees, value

UNITS = {"erf": ERF, "relu": RELU}


def _covariance(rng: np.random.Generator, size: int = 4) -> np.ndarray:
    root = rng.normal(size=(size, size + 2))
    return root @ root.T / (size + 2)


@pytest.mark.parametrize("name", UNITS)
def test_averages_of_two_and_three_by_quadrature(name) -> None:
    """E[g(a) g(b)], E[g'(a) g'(b)] and E[g'(a) b g(c)] in 30 random covariances against a polar quadrature."""
    u, rng = UNITS[name], np.random.default_rng(0)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    radius, angle = (nodes + 1) * 4.5, np.linspace(0, 2 * np.pi, 6000, endpoint=False) + 1e-4
    measure = (weights * 4.5 * radius * np.exp(-(radius**2) / 2))[:, None] / 6000
    disc = radius[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    for _ in range(30):
        c = _covariance(rng, 3)
        root = np.linalg.cholesky(c[np.ix_([0, 2], [0, 2])])
        x = disc @ root.T
        slope = np.linalg.solve(c[np.ix_([0, 2], [0, 2])], c[[0, 2], 1])  # E[b | a, c]
        two = np.sum(measure * u.value(x[..., 0]) * u.value(x[..., 1]))
        slopes = np.sum(measure * u.slope(x[..., 0]) * u.slope(x[..., 1]))
        three = np.sum(measure * u.slope(x[..., 0]) * (x @ slope) * u.value(x[..., 1]))
        assert u.two(c[0, 0], c[2, 2], c[0, 2]) == pytest.approx(two, abs=2e-4)
        assert u.slopes(c[0, 0], c[2, 2], c[0, 2]) == pytest.approx(slopes, abs=2e-4)
        assert u.three(c[0, 0], c[2, 2], c[0, 1], c[0, 2], c[1, 2]) == pytest.approx(three, abs=5e-4)


@pytest.mark.parametrize("name", UNITS)
def test_averages_of_four_by_monte_carlo(name) -> None:
    u, rng = UNITS[name], np.random.default_rng(1)
    every = np.array(list(itertools.product(range(4), repeat=4)))
    for _ in range(1):
        c = _covariance(rng)
        exact = u.four(c, every)
        x = rng.normal(size=(40, 2000, 4)) @ np.linalg.cholesky(c).T
        g, s = u.value(x), u.slope(x)
        samples = np.mean(
            np.prod([s[..., every[:, 0]], s[..., every[:, 1]], g[..., every[:, 2]], g[..., every[:, 3]]], 0), 1
        )
        z = (samples.mean(axis=0) - exact) / (samples.std(axis=0, ddof=1) / np.sqrt(40))
        assert np.abs(z).max() < 5.0


def test_relu_averages_of_coinciding_variables() -> None:
    c = _covariance(np.random.default_rng(2))
    two = RELU.two(np.diagonal(c)[:, None], np.diagonal(c)[None], c)
    for i, j in itertools.product(range(4), repeat=2):
        for which in ((i, i, i, j), (i, j, i, j), (j, i, i, j)):
            assert RELU.four(c, np.array([which]))[0] == pytest.approx(two[i, j], rel=1e-12)


def test_four_signs() -> None:
    r = np.eye(4)
    r[0, 1] = r[1, 0] = 0.7
    r[2, 3] = r[3, 2] = -0.4
    assert four_signs(r) == pytest.approx((2 / np.pi) ** 2 * np.arcsin(0.7) * np.arcsin(-0.4), abs=1e-14)
    same = np.array([[1, 1, 0.2, 0.4], [1, 1, 0.2, 0.4], [0.2, 0.2, 1, 0.9], [0.4, 0.4, 0.9, 1]])
    assert four_signs(same) == pytest.approx(2 / np.pi * np.arcsin(0.9), abs=1e-10)
    # Equal correlations a^2: the four signs are independent given one variable.
    with mp.workdps(20):
        a = mp.sqrt(mp.mpf("0.36"))

        def density(z):
            return mp.npdf(z) * mp.erf(a * z / mp.sqrt(2 * (1 - a**2))) ** 4

        exact = mp.quad(density, [-12, -4, 0, 4, 12])
    assert four_signs(np.full((4, 4), 0.36) + 0.64 * np.eye(4)) == pytest.approx(float(exact), abs=1e-13)


def test_the_known_critical_rate_of_one_unit() -> None:
    """Biehl and Schwarze (1995): 4.06 for one erf unit."""
    assert TeacherStudent(hidden=1, teacher=1).critical_rate() == pytest.approx(4.06, abs=0.005)


def test_the_critical_rate_by_training() -> None:
    """Near the solution the error of one unit decays below the critical rate and grows above it."""
    eta = TeacherStudent(hidden=1, teacher=1).critical_rate()

    def end(factor: float) -> float:
        model = TeacherStudent(
            hidden=1, teacher=1, eta=factor * eta, norm=1.0, overlap=0.3, time=[0.0, 80.0], dimension=100
        )
        errors = [model.train(np.random.default_rng(s))["error"] for s in range(3)]
        return float(np.mean([e[1] for e in errors]))

    assert end(0.7) < 1e-4 < 1e-2 < end(1.3)


def test_the_fixed_point_stands_still() -> None:
    for activation in ("erf", "relu"):
        model = TeacherStudent(activation=activation)
        flow = model._flow(np.ones((1, 2)))
        from featurephase.related_models.order_parameters import State

        derivative = flow(State(np.eye(2), np.eye(2), np.ones((1, 2))))
        assert max(np.abs(x).max() for x in derivative) < 1e-9


def _random(rng: np.random.Generator, case: int) -> TeacherStudent:
    readout = ("fixed", "trained", "adapted")[case % 3]
    return TeacherStudent(
        activation="erf" if case % 4 else "relu",
        hidden=int(rng.integers(1, 4)),
        teacher=int(rng.integers(1, 4)),
        eta=float(rng.uniform(0.1, 0.6)),
        noise=float(rng.choice([0.0, 0.3])),
        tasks=1 if readout == "fixed" else int(rng.integers(1, 4)),
        readout=readout,
        eta_readout=float(rng.uniform(0.2, 1.0)),
        time=[0.0, 1.0, 3.0],
        dimension=150,
        overlap=0.08,
        draw=case,
    )


@pytest.mark.slow
def test_against_training_in_random_cases() -> None:
    rng = np.random.default_rng(0)
    for case in range(12):
        assert_agrees(_random(rng, case).run(simulate=True, replicates=6, seed=case, workers=1))


@pytest.mark.slow
def test_against_training_in_120_cases() -> None:
    rng = np.random.default_rng(1)
    for case in range(120):
        assert_agrees(_random(rng, case).run(simulate=True, replicates=6, seed=case))


def test_plateau_and_specialisation() -> None:
    """From small overlaps there is a plateau, which is longer the smaller they are; the units end specialised."""
    ends = []
    for overlap in (0.1, 0.01, 0.001):
        result = TeacherStudent(overlap=overlap, time=np.linspace(0, 250, 251)).run()
        assert result.phase == "specialised"
        ends.append(float(value(result, "plateau_end")))
        assert value(result, "error")[-1] < 1e-3
    steps = np.diff(ends)
    assert np.all(steps > 10)
    assert steps[1] == pytest.approx(steps[0], rel=0.25)  # logarithmic in the overlap
    assert TeacherStudent(overlap=0.001, time=np.linspace(0, 60, 31)).phase().name == "plateau"


def test_the_end_of_the_plateau_does_not_depend_on_the_times_asked_for() -> None:
    ends = [TeacherStudent(time=time).theory.quantities["plateau_end"].value for time in ([0, 200], [100.0, 0.0, 60.0])]
    assert ends == pytest.approx([30.525, 30.525], abs=2e-3)
    model = TeacherStudent(time=[0.0, 2.0], norm=1.0, overlap=0.2, dimension=200)
    measured = model.train(np.random.default_rng(0))
    assert measured["plateau_end"] == math.inf or measured["plateau_end"] < 2.0


def test_overlaps_of_relu_units_stay_symmetric_to_the_end() -> None:
    """The two halves of Q must not part by rounding: beyond time 30 they grew apart, and the steps went to 0."""
    model = TeacherStudent(activation="relu", time=[0.0, 36.0])
    flow = model._solved(*model.start(), 1e-6)
    q = flow.y[:4].T.reshape(-1, 2, 2)
    np.testing.assert_array_equal(q, np.swapaxes(q, 1, 2))
    assert len(flow.t) < 100
    assert flow.y[4, -1] == pytest.approx(1.0, abs=5e-3)


def test_units_that_are_equal_part_by_rounding_alone() -> None:
    result = TeacherStudent(overlap=0.0, time=[0.0, 100.0, 800.0]).run()
    assert result.status == result.phase == "undetermined"
    assert "rounding decides how they part" in result.message
    special = np.asarray(value(result, "specialisation"))
    assert special[1] == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(special[2])
    assert np.isnan(value(result, "plateau_end"))


def test_several_tasks_break_the_symmetry_sooner() -> None:
    """Tasks with different read-outs tell the units apart, which one task with equal read-outs does not."""
    kinds = {"readout": "trained", "overlap": 0.001, "time": np.linspace(0, 60, 31)}
    one, many = (TeacherStudent(tasks=t, **kinds).run() for t in (1, 12))
    assert value(many, "specialisation")[-1] > 0.5 > value(one, "specialisation")[-1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": 3}, "read-outs of their own"),
        ({"overlap": 0.4}, "at most 0.112"),
        ({"hidden": 0}, "from 1 to 8"),
        ({"activation": "tanh"}, "one of erf, relu"),
        ({"dimension": 20, "hidden": 4, "teacher": 4, "overlap": 0.01}, "at least 32"),
    ],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        TeacherStudent(**changes)
