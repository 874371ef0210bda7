"""The budget of the kernel's change: published numbers, quadrature, sum rule, and each mechanism alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from featurephase.latent_model.mechanisms import NAMES, mechanisms, regime
from featurephase.latent_model.solution import Flow

from .cases import KINDS, random_model

ONE = {"u": [0.5, -0.3, 0.8], "w": [0.2, 0.7, -0.4], "cross_moment": 1.0}
TWO = ONE | {"eta_u": 0.5, "eta_w": 2.0, "second_moment": 1.3, "cross_moment": -0.9, "gamma": 0.7}


def total(budget) -> np.ndarray:
    return sum(getattr(budget, name) for name in NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_budget_adds_up_and_has_its_signs(kind: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(5):
        flow = Flow(**random_model(rng, kind, 30).arguments())
        rate = float(flow.asymptotic_rate) or 1.0
        budget = mechanisms(flow, [0.0, 1e-3 / rate, 1.0 / rate, 30.0 / rate, 1e4 / rate])
        scale = 1.0 + sum(np.abs(getattr(budget, name)) for name in NAMES)
        assert np.all(np.abs(total(budget) - budget.log_kernel_ratio) <= 1e-12 * scale)
        assert (budget.alignment >= 0.0).all()
        assert (budget.growth >= 0.0).all()
        assert (budget.disalignment <= 0.0).all()
        assert (budget.shrinkage <= 0.0).all()


@pytest.mark.parametrize("kind", ["generic", "equal rates", "balanced", "unbalanced", "width one", "no target"])
def test_the_logarithm_is_that_of_the_kernel(kind: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(10):
        flow = Flow(**random_model(rng, kind, 30).arguments())
        times = np.array([0.1, 1.0, 10.0]) / float(flow.asymptotic_rate)
        kernel, start = flow.at(times).kernel, flow.at(0.0).kernel
        expected = np.log(kernel) - np.log(start)
        np.testing.assert_allclose(mechanisms(flow, times).log_kernel_ratio, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "arguments", [ONE, TWO, ONE | {"cross_moment": -2.0}, ONE | {"cross_moment": 0.01, "eta_w": 30.0}]
)
def test_against_quadrature_along_the_trajectory(arguments: dict) -> None:
    """The rotation integrates ``(1 - zeta^2) d ln K/dt = -(1 - zeta^2) 2 K s (A s - B)/(s^2 + h^2)``."""
    flow = Flow(**arguments)
    h2 = float(flow.conserved["kernel_gap"])

    def rotation(t: float) -> float:
        x = flow.at(t)
        return float(-2.0 * x.misalignment * x.kernel * x.output * x.residual / (x.output**2 + h2))

    value = quad(rotation, 0.0, 1.5, limit=200, epsabs=1e-13, epsrel=1e-12)[0]
    budget = mechanisms(flow, 1.5)
    assert float(budget.alignment + budget.disalignment) == pytest.approx(value, abs=1e-11)


def test_kernel_phase_has_no_mechanism() -> None:
    rng = np.random.default_rng(0)
    width = 10_000
    flow = Flow(rng.standard_normal(width), rng.standard_normal(width), cross_moment=1.0, gamma=width**-0.5)
    budget = mechanisms(flow, np.inf)
    assert all(abs(getattr(budget, name)) < 1e-3 for name in NAMES)
    assert regime(flow).startswith("kernel phase")


def test_growth_alone() -> None:
    budget = mechanisms(Flow([0.1, 0.2], [0.1, 0.2], cross_moment=1.0), np.inf)
    assert budget.growth == pytest.approx(float(budget.log_kernel_ratio), rel=1e-13)
    assert budget.log_kernel_ratio == pytest.approx(np.log(1.0 / 0.05), rel=1e-12)
    assert (budget.alignment, budget.disalignment, budget.shrinkage) == (0.0, 0.0, 0.0)


def test_shrinkage_alone() -> None:
    budget = mechanisms(Flow([3.0, 1.0], [3.0, 1.0], cross_moment=1.0), np.inf)
    assert budget.shrinkage == pytest.approx(-np.log(10.0), rel=1e-12)
    assert (budget.alignment, budget.disalignment, budget.growth) == (0.0, 0.0, 0.0)


def test_alignment_alone_to_leading_order() -> None:
    """Balanced layers at right angles and a small target: ``ln K`` changes by ``s*^2/2`` and all of it is rotation."""
    target = 1e-4
    budget = mechanisms(Flow([1.0, 0.0], [0.0, 1.0], cross_moment=target), np.inf)
    assert budget.alignment == pytest.approx(target**2 / 2, rel=1e-6)
    assert abs(float(budget.growth)) < 1e-6 * float(budget.alignment)
    assert (budget.disalignment, budget.shrinkage) == (0.0, 0.0)
    assert budget.output_angle == pytest.approx(target, rel=1e-6)


def test_disalignment_alone_to_leading_order() -> None:
    """The same start pushed back from a slightly aligned one."""
    tilt = 1e-4
    budget = mechanisms(Flow([1.0, tilt], [0.0, 1.0], cross_moment=0.0), np.inf)
    assert budget.disalignment == pytest.approx(-(tilt**2) / 2, rel=1e-3)
    assert abs(float(budget.shrinkage)) < 1e-3 * abs(float(budget.disalignment))
    assert (budget.alignment, budget.growth) == (0.0, 0.0)


def test_mean_field_constants() -> None:
    """gamma = 1/d, rates d, unit variances, s* = 1: alignment 1/4, growth (ln 2)/2 - 1/4 (theory/latent-phases)."""
    d = 400_000
    rng = np.random.default_rng(1)
    flow = Flow(rng.standard_normal(d), rng.standard_normal(d), cross_moment=1.0, gamma=1 / d, eta_u=d, eta_w=d)
    budget = mechanisms(flow, np.inf)
    sampling = 10 / np.sqrt(d)
    assert budget.alignment == pytest.approx(0.25, abs=sampling)
    assert budget.growth == pytest.approx(np.log(2) / 2 - 0.25, abs=sampling)
    assert budget.end_alignment == pytest.approx(np.sqrt(0.5), abs=sampling)


def test_unbalanced_layers_turn_without_changing_the_kernel() -> None:
    rng = np.random.default_rng(2)
    flow = Flow(1e-3 * rng.standard_normal(100), 30.0 * rng.standard_normal(100), cross_moment=50.0)
    budget = mechanisms(flow, np.inf)
    assert abs(float(budget.log_kernel_ratio)) < 0.01
    assert budget.relative_motion_u > 10.0
    assert budget.end_alignment > 0.99
    assert "smaller layer" in regime(flow)
