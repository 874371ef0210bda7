"""The catapult: values in 40-digit arithmetic, gradient descent, boundaries, and limits that are hard to reach."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.related_models.catapult import Catapult, final_sharpness, trajectory

from .cases import assert_agrees, value

REFERENCE = [  # eta, width, f0, lambda0, steps, f, kernel, limit of the kernel: theory/related
    (1.0, 100, 0.1, 1.5, 10, 9.70676461984e-5, 1.49966672324, 1.4996667229301),
    (1.0, 100, 0.1, 3.0, 10, 0.461033058284, 0.242077784708, 0.22267832875809),
    (0.5, 50, 1.0, 5.0, 20, 3.62058338411e-7, 2.5416333957, 2.5416333956991),
    (1.0, 10, 0.1, 4.2, 6, 56.9559385619, 36.0221657292, math.inf),
]


@pytest.mark.parametrize(("eta", "width", "f0", "lambda0", "steps", "f", "kernel", "limit"), REFERENCE)
def test_reference_values(eta, width, f0, lambda0, steps, f, kernel, limit) -> None:
    q = Catapult(eta=eta, width=width, f0=f0, lambda0=lambda0, steps=steps).solve().quantities
    assert q["f"].value[-1] == pytest.approx(f, rel=1e-11)
    assert q["ntk"].value[-1] == pytest.approx(kernel, rel=1e-11)
    assert q["ntk_limit"].value == pytest.approx(limit, abs=1e-12)


@pytest.mark.parametrize(
    ("x0", "low", "high"), [(2.1, 1.8929, 1.8929), (2.5, 1.2823, 1.2824), (3.0, 0.1853, 0.2473), (3.5, 4e-4, 1.2724)]
)
def test_range_of_the_limit_over_one_logarithmic_period(x0, low, high) -> None:
    y = 1e-10 * np.exp(np.linspace(0.0, 2.0 * math.log(x0 - 1.0), 3000))
    limit, reached = final_sharpness(x0, y)
    assert reached.all()
    assert limit.min() == pytest.approx(low, abs=2e-4)
    assert limit.max() == pytest.approx(high, abs=2e-4)


def test_the_limit_repeats_with_the_period() -> None:
    y, period = 1e-10, 2.0 * math.log(2.0)
    a, b = final_sharpness(3.0, [y, y * math.exp(-period)])[0]
    assert a == pytest.approx(b, abs=1e-8)


def test_against_gradient_descent_in_random_cases() -> None:
    rng = np.random.default_rng(0)
    for case in range(120):
        width, x0, eta = int(rng.integers(1, 60)), float(rng.uniform(0.2, 4.3)), float(np.exp(rng.uniform(-3, 3)))
        largest = math.sqrt(width) * x0 / eta / 2.0
        model = Catapult(
            eta=eta, width=width, f0=largest * float(rng.uniform(-1, 1)), lambda0=x0 / eta, steps=15 if x0 < 4 else 4
        )
        assert_agrees(model.run(simulate=True, seed=case, replicates=2, workers=1))


def test_the_invariant_product_gives_the_limit_of_long_runs() -> None:
    rng = np.random.default_rng(1)
    x0 = rng.uniform(0.5, 3.9, 100)
    y0 = x0**2 / 4.0 * rng.uniform(1e-6, 1.0, 100)
    xs, cs = trajectory(x0, np.sqrt(y0), 4000)
    settled = (cs[-1] ** 2 < 1e-17) & (xs[-1] > 1e-3)
    assert settled.sum() > 60
    np.testing.assert_allclose(final_sharpness(x0, y0)[0][settled], xs[-1][settled], atol=1e-9)


def test_small_and_zero_limits() -> None:
    assert final_sharpness(3.0, 2.25)[0] == 0.0  # the largest output: one of the two conserved norms is 0
    xs, _ = trajectory(1e-3, math.sqrt(0.9 * 2.5e-7), 2_000)
    limit = float(final_sharpness(1e-3, 0.9 * 2.5e-7)[0])
    assert 0.0 < limit < xs[-1]
    far, _ = trajectory(1e-3, math.sqrt(0.9 * 2.5e-7), 60_000)
    assert limit == pytest.approx(far[-1], rel=1e-9)


def test_slow_is_not_divergent() -> None:
    q = Catapult(lambda0=2.0 + 1e-9, f0=1e-7).run()
    assert q.status == "slow"
    assert not q.ok
    assert "still moves" in q.message
    assert np.isnan(value(q, "ntk_limit"))


def test_boundaries_by_gradient_descent() -> None:
    """Bisect for the step size from which on the loss first grows, and from which on it diverges."""

    def grows(eta: float) -> bool:
        f = Catapult(eta=eta, lambda0=2.0, f0=1e-6, steps=1).train(np.random.default_rng(0))["f"]
        return bool(abs(f[1]) > abs(f[0]))

    def diverges(eta: float) -> bool:
        f = Catapult(eta=eta, lambda0=2.0, f0=1e-3, steps=4000).train(np.random.default_rng(0))["f"]
        return not np.isfinite(f[-1])

    stated = Catapult(lambda0=2.0).phase().boundaries
    for fails, low, high, edge in ((grows, 0.5, 1.5, "eta_catapult"), (diverges, 1.5, 2.5, "eta_divergent")):
        assert fails(high)
        assert not fails(low)
        for _ in range(12):
            middle = (low + high) / 2.0
            low, high = (low, middle) if fails(middle) else (middle, high)
        assert stated[edge] == pytest.approx(high, abs=2e-3)


def test_chaos_at_four() -> None:
    angle = 0.3
    xs, cs = trajectory(4.0, 2.0 * math.sin(angle), 8)
    np.testing.assert_allclose(xs, 4.0)
    np.testing.assert_allclose(cs**2, 4.0 * np.sin(3.0 ** np.arange(9) * angle) ** 2, atol=1e-9)
    assert Catapult(lambda0=4.0).phase().name == "chaotic"


@pytest.mark.parametrize("lambda0", [4.0, 3.999999999999, 4.000000000001])
def test_what_rounding_decides_is_not_said(lambda0) -> None:
    """Against 60 digits: what is said is right, and the rest is nan with a status."""
    result = Catapult(lambda0=lambda0, steps=40).run()
    f, ntk = value(result, "f"), value(result, "ntk")
    with mpmath.workdps(60):
        x, c = mpmath.mpf(lambda0), mpmath.mpf(0.1) / 10
        for n in range(41):
            assert np.isnan(f[n]) or f[n] == pytest.approx(float(10 * c), abs=1e-4)
            assert np.isnan(ntk[n]) or ntk[n] == pytest.approx(float(x), rel=1e-6)
            x, c = x + c**2 * (x - 4), c * (1 - x + c**2)
    assert result.status == "undetermined"
    assert "from step 2" in result.message
    assert np.isfinite(f[:22]).all()
    assert np.isnan(f[25:]).all()
    if lambda0 == 4.0:  # kept by the map, whatever is rounded
        assert (ntk == 4.0).all()
        assert value(result, "ntk_limit") == 4.0
    if lambda0 < 4.0:
        assert np.isnan(value(result, "ntk_limit"))
        assert "rounding decides the limit" in result.message


@pytest.mark.parametrize("lambda0", [4.0, 5.0])
def test_chaos_and_divergence_are_no_disagreement(lambda0) -> None:
    result = Catapult(lambda0=lambda0).run(simulate=True, replicates=3, workers=1)
    assert_agrees(result)
    assert result.status == ("undetermined" if lambda0 == 4.0 else "ok")
    if lambda0 > 4.0:
        np.testing.assert_array_equal(np.asarray(result.measured["f"].value)[-5:], value(result, "f")[-5:])


@pytest.mark.parametrize(
    ("lambda0", "f0", "name"),
    [(1.0, 0.1, "lazy"), (3.0, 0.1, "catapult"), (5.0, 0.1, "divergent"), (3.0, 0.0, "stationary")],
)
def test_phases(lambda0, f0, name) -> None:
    assert Catapult(lambda0=lambda0, f0=f0).phase().name == name


def test_an_output_that_no_network_has() -> None:
    with pytest.raises(InputError, match=r"at most sqrt\(width\) lambda0 / 2 = 15"):
        Catapult(f0=16.0)
