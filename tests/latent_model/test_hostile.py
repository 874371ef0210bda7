"""Models whose numbers lie anywhere between 1e-150 and 1e150, against 1500 digits; and the ways they take."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurephase.latent_model import Flow, mechanisms

from .reference import Model
from .test_solution_against_mpmath import check


def hostile_model(rng: np.random.Generator) -> Model:
    """Up to five units and parameters within a random number of decades; nearly or exactly parallel layers included."""
    span = float(rng.choice([0.3, 6.0, 25.0, 40.0, 75.0, 150.0]))  # the reference needs 4 span < 750 digits

    def numbers(n: int) -> np.ndarray:
        return rng.standard_normal(n) * 10.0 ** rng.uniform(-span, span, n)

    d = int(rng.integers(1, 6))
    u, w, (B, gamma) = numbers(d), numbers(d), numbers(2)
    A, eta_u, eta_w = np.abs(numbers(3))
    kind = str(
        rng.choice(["any", "equal rates", "no target", "parallel", "saddle but for one digit", "optimum", "empty"])
    )
    if kind in ("equal rates", "parallel"):
        eta_w = eta_u
    if kind == "no target":
        B = 0.0
    elif kind == "parallel":
        w = u * float(rng.choice([1.0, -1.0, 2.0, -0.5]))
    elif kind == "saddle but for one digit":
        eta_w = 4.0 * eta_u
        w = -2.0 * u * math.copysign(1.0, gamma * B)
        w[0] = np.nextafter(w[0], 0.0)
    elif kind == "optimum":
        B = np.clip(A * gamma * np.dot(u, w), -1e300, 1e300)
    elif kind == "empty":
        u, w = (u, np.zeros(d)) if rng.random() < 0.5 else (np.zeros(d), w)
    values = {"cross_moment": B, "second_moment": A, "gamma": gamma, "eta_u": eta_u, "eta_w": eta_w}
    return Model(u, w, **{name: float(x) for name, x in values.items()}, kind=f"hostile, {kind}, 1e{span:g}")


def hostile_times(rng: np.random.Generator, rate: float) -> list[float]:
    own = 1.0 / rate if 1e-300 < rate < 1e300 else 1.0
    factors = 10.0 ** np.array([rng.uniform(-75.0, -5.0), rng.uniform(-5.0, 2.0), rng.uniform(2.0, 2.9)])
    return [0.0, *np.minimum(own * factors, 1e308).tolist(), float(10.0 ** rng.uniform(-300, 300)), math.inf]


@pytest.mark.parametrize("seed", range(40))
def test_hostile_models_against_mpmath(seed: int) -> None:
    rng = np.random.default_rng([seed, 20])
    model = hostile_model(rng)
    check(model, hostile_times(rng, float(Flow(**model.arguments()).asymptotic_rate)))


@pytest.mark.slow
def test_many_hostile_models_against_mpmath() -> None:
    for seed in range(100, 700):
        rng = np.random.default_rng([seed, 20])
        model = hostile_model(rng)
        check(model, hostile_times(rng, float(Flow(**model.arguments()).asymptotic_rate)))


def test_rates_that_differ_by_one_digit_are_not_equal() -> None:
    """``sqrt(eta_w/eta_u)`` rounds to 1, yet p is not ``(w + u)/2`` where that cancels."""
    rate = np.nextafter(1.0, 2.0)
    flow = Flow([1.0, 2.0], [-1.0 + 2.0**-40, -2.0 + 2.0**-41], cross_moment=1.0, eta_w=rate)
    model = Model(
        np.array([1.0, 2.0]), np.array([-1.0 + 2.0**-40, -2.0 + 2.0**-41]), cross_moment=1.0, eta_w=rate, kind="rates"
    )
    check(model, [0.0, 5.0, 10.0, 13.0, 14.0, 15.0, 20.0])
    assert not flow.saddle


def test_the_angle_is_right_on_the_plateau_of_a_saddle() -> None:
    """One digit from the saddle the output passes 1e-16 of the target; its sign and the angle stay right."""
    u = np.array([0.1, 0.7, -0.3])
    w = -u.copy()
    w[1] = np.nextafter(w[1], 0.0)
    flow = Flow(u, w, cross_moment=1.0)
    times = np.linspace(0.0, 30.0, 61)
    x, (us, ws) = flow.at(times), flow.weights(times)
    cosine = np.sum(us * ws, -1) / np.sqrt(np.sum(us**2, -1) * np.sum(ws**2, -1))
    np.testing.assert_allclose(x.alignment, cosine, atol=1e-9)
    np.testing.assert_allclose(x.output, np.sum(us * ws, -1), rtol=1e-9)
    ratio = np.log(x.kernel[1:] / x.kernel[0])
    np.testing.assert_allclose(mechanisms(flow, times[1:]).log_kernel_ratio, ratio, rtol=1e-12)


def test_answers_do_not_depend_on_the_other_rows() -> None:
    """Rows that need mpmath leave the others untouched."""
    rng = np.random.default_rng(3)
    u, w = rng.standard_normal((2, 6, 4))
    w[1], u[2], w[3], u[4] = -u[1], 0.0, 1e-200, 1e150
    times = np.array([0.0, 0.3, 5.0, 300.0, np.inf])
    together = Flow(u, w, cross_moment=1.0)
    for i in range(len(u)):
        alone = Flow(u[i], w[i], cross_moment=1.0)
        for name in ("output", "kernel", "residual", "alignment"):
            np.testing.assert_array_equal(getattr(together.at(times), name)[i], getattr(alone.at(times), name))
        np.testing.assert_array_equal(together.weights(times)[0][i], alone.weights(times)[0])
