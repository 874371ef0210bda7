"""Lambda-balanced networks: published values, the flow of both layers, long times, and starts without a solution."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.related_models.balanced_linear import BalancedLinear
from featurephase.related_models.riccati import balanced_partner, factors

from .cases import assert_agrees, value

REFERENCE = [  # theory/related: lambda, time, W2 W1, W1'W1 and the digits given
    (
        0.5,
        0.5,
        (0.529363470518, 0.244693729729, -0.143748887028, 0.007226992098),
        (0.335886789011, 0.141866475615, 0.141866475615, 0.069845515648),
    ),
    (
        0.5,
        3.0,
        (0.982583372991, 0.521360129860, -0.046138734764, -0.730846725520),
        (0.721348284424, 0.294247137747, 0.294247137747, 0.634235230659),
    ),
    (
        2.0,
        1.0,
        (0.958261070371, 0.487237669705, -0.050668475613, -0.645960593433),
        (0.373011575955, 0.188867111228, 0.188867111228, 0.272397284399),
    ),
    (
        0.0,
        1.0,
        (0.492305701346, 0.253466806810, -0.147121114408, -0.031784110507),
        (0.467999118011, 0.212099861912, 0.212099861912, 0.142370293292),
    ),
]
SIGMA = np.array([[1.0, 0.5], [0.0, -0.8]])


@pytest.mark.parametrize(("lam", "time", "product", "gram"), REFERENCE)
def test_reference_values(lam, time, product, gram) -> None:
    q = BalancedLinear(lam=lam, time=[time]).solve().quantities
    np.testing.assert_allclose(q["product"].value[0].ravel(), product, rtol=0, atol=1.1e-12)
    np.testing.assert_allclose(q["gram1"].value[0].ravel(), gram, rtol=0, atol=1.1e-12)
    assert q["lambda"].value == pytest.approx(lam, abs=1e-14)


def _random(rng: np.random.Generator) -> BalancedLinear:
    inputs, outputs = (int(x) for x in rng.integers(1, 5, 2))
    lam = float(rng.choice([0.0, rng.normal(), 10.0 * rng.normal()]))
    hidden = int(rng.integers(1, (min(inputs, outputs) if lam < 0 else outputs) + 1))
    columns = inputs if lam < 0 else outputs
    basis = np.linalg.qr(rng.normal(size=(columns, hidden)))[0]
    if lam < 0:
        w2 = 0.4 * rng.normal(size=(outputs, hidden))
        w1 = balanced_partner(w2.T, -lam, basis).T
    else:
        w1 = 0.4 * rng.normal(size=(hidden, inputs))
        w2 = balanced_partner(w1, lam, basis)
    return BalancedLinear(w1=w1, w2=w2, sigma=rng.normal(size=(outputs, inputs)), time=[0.0, 0.3, 1.0, 2.5])


def test_against_the_flow_in_random_cases() -> None:
    rng = np.random.default_rng(1)
    for _ in range(110):
        assert_agrees(_random(rng).run(simulate=True, workers=1))


@pytest.mark.parametrize("lam", [-5.0, -0.2, 0.0, 0.5, 50.0])
def test_times_to_1e6_with_both_signs(lam) -> None:
    first = np.array([[0.3, 0.1], [0.2, -0.4]])
    w1, w2 = (balanced_partner(first.T, -lam).T, first) if lam < 0 else (first, balanced_partner(first, lam))
    result = BalancedLinear(w1=w1, w2=w2, time=[1e6, 1e3, 50.0]).run()
    for product in value(result, "product"):
        np.testing.assert_allclose(product, SIGMA, atol=1e-12)
    # X = F + |F| in the limit
    f = np.block([[-lam / 2 * np.eye(2), SIGMA.T], [SIGMA, lam / 2 * np.eye(2)]])
    values, vectors = np.linalg.eigh(f)
    limit = (vectors * 2.0 * np.maximum(values, 0.0)) @ vectors.T
    np.testing.assert_allclose(value(result, "gram1")[0], limit[:2, :2], atol=1e-12)


def test_a_saddle_is_said_and_not_left_by_rounding() -> None:
    """At lambda 0 no layer becomes singular: a target whose determinant has the other sign is out of reach."""
    result = BalancedLinear(lam=0.0, time=[1.0, 1e6]).run()
    assert result.status == "undetermined"
    assert "saddle" in result.message
    assert np.isfinite(value(result, "product")[0]).all()
    assert np.isnan(value(result, "product")[1]).all()


def test_a_narrow_network_keeps_the_strongest_mode() -> None:
    w1, w2 = np.array([[0.3, 0.1]]), np.array([[0.2], [np.sqrt(0.06)]])
    product = value(BalancedLinear(w1=w1, w2=w2, sigma=[[1.0, 0.0], [0.0, 1e-7]], time=[1e6]).run(), "product")
    np.testing.assert_allclose(product[0], [[1.0, 0.0], [0.0, 0.0]], atol=1e-12)


def test_a_plateau_is_not_the_end() -> None:
    """A tiny start with a slow mode: it is learned long after the fast one has come to rest."""
    model = BalancedLinear(
        w1=1e-12 * np.array([[1.0, 0.3], [0.2, 0.9]]), lam=0.0, sigma=np.diag([1.0, 1e-3]), time=[1e3, 3e4, 1e6]
    )
    slow = value(model.run(), "product")[:, 1, 1]
    assert slow[0] < 1e-20
    assert slow[1] == pytest.approx(1e-3, rel=1e-2)
    assert slow[2] == pytest.approx(1e-3, rel=1e-12)


def test_an_aligned_mode_obeys_its_own_equation() -> None:
    """w' = (sigma - w) sqrt(lambda^2 + 4 w^2), and the kernel of a mode is sqrt(lambda^2 + 4 w^2)."""
    from scipy.integrate import solve_ivp

    lam, sigma, a = 0.7, 1.3, 0.2
    b = np.sqrt(a * a + lam)
    times = np.linspace(0.0, 3.0, 7)
    q = factors(np.array([[a]]), np.array([[b]]), np.array([[sigma]]), times)
    product = np.sum(q[:, 0] * q[:, 1], axis=1)
    run = solve_ivp(
        lambda _, w: (sigma - w) * np.sqrt(lam**2 + 4 * w**2), (0, 3), [a * b], t_eval=times, rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(product, run.y[0], atol=1e-11)
    np.testing.assert_allclose(np.sum(q**2, axis=(1, 2)), np.sqrt(lam**2 + 4 * product**2), atol=1e-12)


def test_lazy_and_rich() -> None:
    assert BalancedLinear(lam=50.0).phase().name == "lazy"
    w1 = [[0.3, 0.1], [0.2, -0.4]]
    assert BalancedLinear(w1=w1, lam=0.0).phase().name == "rich"
    changes = [
        float(value(BalancedLinear(w1=w1, lam=x, time=[30.0]).run(), "kernel_change")[0]) for x in (0.0, 1.0, 5.0, 30.0)
    ]
    assert np.all(np.diff(changes) < 0)


def test_the_boundary_of_the_lazy_regime_by_training() -> None:
    """For a mode that starts at 0 the kernel changes by a tenth at lambda = 2 sigma/sqrt(1.1^2 - 1)."""
    sigma = 1.3

    def change(lam: float) -> float:
        model = BalancedLinear(w1=[[1e-9]], w2=[[np.sqrt(lam)]], sigma=[[sigma]], time=[40.0])
        return float(model.train(np.random.default_rng(0))["kernel_change"][0])

    low, high = 1.0, 20.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if change(middle) > 0.1 else (low, middle)
    stated = BalancedLinear(w1=[[1e-9]], w2=[[1.0]], sigma=[[sigma]]).phase().boundaries["lambda_lazy"]
    assert stated == pytest.approx(high, rel=1e-3)


def test_an_unbalanced_start_is_refused_or_only_simulated() -> None:
    model = BalancedLinear(w1=[[0.3, 0.1], [-0.2, 0.4]], w2=[[1.0, 0.0], [0.3, 0.2]], time=[0.0, 1.0])
    with pytest.raises(InputError, match=r"not lambda-balanced.*solution holds for"):
        model.run()
    result = model.run(simulate=True)
    assert result.validity == "simulation only"
    assert result.message.startswith("simulation only")
    assert value(result, "product").shape == (2, 2, 2)
    assert result.agree is None
    result.figure()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lam": -1.0}, "positive semidefinite"),
        ({"lam": 1.0, "w2": [[1.0, 0.0], [0.0, 1.0]]}, "exclude each other"),
        ({"sigma": [[1.0]]}, "1 columns for 2 inputs"),
        ({"w2": [[1.0, 0.0]]}, "must be 2 x 2"),
        ({"w1": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]}, "give w2"),
        ({"time": [-1.0]}, "each a finite number >= 0"),
    ],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        BalancedLinear(**changes)


@pytest.mark.parametrize("sigma", [[[1.0, 0.5], [0.0, -0.8]], np.zeros((2, 2))])
def test_a_network_at_zero_does_not_move(sigma) -> None:
    result = BalancedLinear(w1=np.zeros((2, 2)), lam=0.0, sigma=sigma).run()
    assert (value(result, "kernel_change") == 0.0).all()
    assert (result.phase, result.phase_note) == ("lazy", "the tangent kernel changes by 0 % up to the last time")


def test_a_time_out_of_reach(monkeypatch) -> None:
    monkeypatch.setattr("featurephase.related_models.riccati.MOST_STEPS", 200)
    w = 1e-3 * np.eye(2)
    model = BalancedLinear(w1=w, w2=w, sigma=np.diag([1e3, 1e-9]), time=[1e9])
    with pytest.raises(InputError, match="too long"):
        model.run()


def test_a_mode_without_target_decays_like_one_over_time() -> None:
    w = np.diag([1e-3, 0.5])
    model = BalancedLinear(w1=w, w2=w, sigma=np.diag([1e3, 0.0]), time=[1e6, 1e9])
    # w' = -2 w^2 for the product of the second mode
    np.testing.assert_allclose(
        value(model.run(), "product")[:, 1, 1], 0.25 / (1.0 + 0.5 * np.array([1e6, 1e9])), rtol=1e-9
    )
