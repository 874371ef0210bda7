"""The closed form: conserved quantities, symmetries, limits, inverse, descent, degenerate kinds, wrong input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.latent_model import Flow, moments_from_data
from featurephase.latent_model.training import Setting, integrate_flow, train_network, two_point_data

from .cases import KINDS, random_model

ONE = {"u": [0.5, -0.3, 0.8], "w": [0.2, 0.7, -0.4], "cross_moment": 1.0}
TWO = ONE | {"eta_u": 0.5, "eta_w": 2.0, "second_moment": 1.3, "cross_moment": -0.9, "gamma": 0.7}
MOVING = [k for k in KINDS if k not in ("frozen both", "no gamma", "no input", "all zero", "at the optimum")]

seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(KINDS)


def model(seed: int, kind: str, max_width: int = 8):
    return random_model(np.random.default_rng(seed), kind, max_width)


def own_times(flow: Flow) -> np.ndarray:
    return np.array([0.0, 0.01, 0.3, 1.0, 3.0, 10.0]) / (float(flow.asymptotic_rate) or 1.0)


# --- properties ---


@given(seeds, st.sampled_from([k for k in MOVING if not k.startswith(("tiny", "huge", "mixed", "frozen"))]))
@settings(max_examples=60, deadline=None)
def test_conserved_quantities(seed: int, kind: str) -> None:
    """From the weights at later times, within their rounding: 16 eps of ``|p_i| sqrt(xi) + |q_i| / sqrt(xi)``."""
    m = model(seed, kind)
    flow = Flow(**m.arguments())
    u, w = flow.weights(own_times(flow))
    kernel = flow.at(own_times(flow)).kernel[:, None] / m.gamma**2
    slack = 16 * 2.3e-16 * kernel  # sum over units of eta_u eta_w (2 scale)^2 is at most this kernel over eps
    unbalance = m.eta_u * w**2 - m.eta_w * u**2
    assert np.all(np.abs(unbalance - flow.conserved["unbalance"]) <= slack)
    gram = np.sum(u**2, -1) * np.sum(w**2, -1) - np.sum(u * w, -1) ** 2
    assert np.all(np.abs(gram - flow.conserved["gram"]) <= (slack * kernel)[:, 0] / (m.eta_u * m.eta_w))


@given(seeds, kinds)
@settings(max_examples=60, deadline=None)
def test_residual_shrinks_and_output_is_monotone(seed: int, kind: str) -> None:
    flow = Flow(**model(seed, kind).arguments())
    x = flow.at(own_times(flow))
    assert np.all(np.abs(np.diff(np.abs(x.residual))) >= 0.0)
    assert np.all(np.abs(x.residual[1:]) <= np.abs(x.residual[:-1]) * (1 + 1e-13))
    steps = np.diff(x.output)
    slack = 1e-14 * np.abs(x.output).max()
    assert np.all(steps >= -slack) or np.all(steps <= slack)


@given(seeds, st.sampled_from(["generic", "balanced", "unbalanced", "equal rates", "no target", "width one"]))
@settings(max_examples=60, deadline=None)
def test_alignment_is_monotone_in_the_output_and_rises_exactly_with_the_norms(seed: int, kind: str) -> None:
    """``|u||w||sin|`` of the angle is constant: both sides are computed from different formulas."""
    m = model(seed, kind)
    flow = Flow(**m.arguments())
    x = flow.at(own_times(flow))
    signs = -np.sign(x.residual[0] * m.gamma)
    assert np.all(signs * np.diff(x.alignment) >= -1e-13)
    u, w = flow.weights(own_times(flow))
    product = np.sqrt(np.sum(u**2, -1) * np.sum(w**2, -1))
    assert np.allclose(product * np.sqrt(x.misalignment), np.sqrt(flow.conserved["gram"]), rtol=1e-11, atol=0.0)


@given(seeds, st.sampled_from(["generic", "balanced", "tiny", "huge", "unbalanced", "residual cancels"]))
@settings(max_examples=40, deadline=None)
def test_sign_rule(seed: int, kind: str) -> None:
    """The kernel grows exactly when the target is larger than the initial output."""
    flow = Flow(**model(seed, kind).arguments())
    s0, s1 = float(flow.at(0.0).output), float(flow.at(np.inf).output)
    k0, k1 = float(flow.at(0.0).kernel), float(flow.at(np.inf).kernel)
    if abs(abs(s1) - abs(s0)) > 1e-13 * abs(s0):
        assert (k1 - k0) * (abs(s1) - abs(s0)) >= -1e-15 * k0


@given(seeds, st.sampled_from(MOVING))
@settings(max_examples=40, deadline=None)
def test_semigroup(seed: int, kind: str) -> None:
    """Continuing from the weights at t1 for t2 is the flow at t1 + t2, within the conditioning of a restart.

    A restart from rounded weights moves the start by eps of the natural scale, which the flow amplifies by exp(4 D t)
    at most: times stay short.
    """
    m = model(seed, kind)
    flow = Flow(**m.arguments())
    t1, t2 = 0.3 / (float(flow.asymptotic_rate) or 1.0), 0.4 / (float(flow.asymptotic_rate) or 1.0)
    if t1 + t2 == np.inf:  # a rate below 1e-308
        return
    u, w = flow.weights(t1)
    again = Flow(**(m.arguments() | {"u": u, "w": w}))
    expected = flow.weights(t1 + t2)
    scale = np.abs(m.u).max() * np.sqrt(m.eta_w) + np.abs(m.w).max() * np.sqrt(m.eta_u)
    scale += sum(np.abs(x).max() * np.sqrt(r) for x, r in zip(expected, (m.eta_w, m.eta_u), strict=True))
    for got, want, rate in zip(again.weights(t2), expected, (m.eta_w, m.eta_u), strict=True):
        assert np.all(np.abs(got - want) * np.sqrt(rate) <= 1e-13 * scale)


@given(seeds, kinds, st.integers(-20, 20), st.integers(-20, 20))
@settings(max_examples=40, deadline=None)
def test_scaling_symmetries_hold_bit_for_bit(seed: int, kind: str, i: int, j: int) -> None:
    """u by a, w by b, gamma by 1/ab, rates by a^2 and b^2: same function; by powers of two, the same bits."""
    m = model(seed, kind)
    a, b = 2.0**i, 2.0**j
    flow = Flow(**m.arguments())
    other = Flow(
        **(
            m.arguments()
            | {
                "u": a * m.u,
                "w": b * m.w,
                "gamma": m.gamma / (a * b),
                "eta_u": m.eta_u * a * a,
                "eta_w": m.eta_w * b * b,
            }
        )
    )
    times = own_times(flow)
    x, y = flow.at(times), other.at(times)
    for name in ("output", "residual", "loss", "kernel"):
        np.testing.assert_allclose(getattr(x, name), getattr(y, name), rtol=1e-14, atol=0.0)
    for got, want, factor in zip(other.weights(times), flow.weights(times), (a, b), strict=True):
        np.testing.assert_allclose(got, factor * want, rtol=1e-11, atol=1e-14 * np.abs(factor * want).max())


@given(seeds, kinds, seeds)
@settings(max_examples=40, deadline=None)
def test_permutation_of_units(seed: int, kind: str, order: int) -> None:
    m = model(seed, kind, 50)
    p = np.random.default_rng(order).permutation(len(m.u))
    flow, other = Flow(**m.arguments()), Flow(**(m.arguments() | {"u": m.u[p], "w": m.w[p]}))
    times = own_times(flow)
    for name in ("output", "kernel", "residual", "loss"):
        a, b = getattr(flow.at(times), name), getattr(other.at(times), name)
        scale = np.abs(a).max() if name == "output" else 0.0
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14 * scale)
    for a, b in zip(flow.weights(times), other.weights(times), strict=True):
        np.testing.assert_allclose(a[:, p], b, rtol=1e-12, atol=1e-14 * np.abs(a).max())


@given(seeds, st.sampled_from(MOVING), st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_inverse(seed: int, kind: str, part: float) -> None:
    """The output at ``time_at(s)`` is s."""
    flow = Flow(**model(seed, kind).arguments())
    s0, s1 = float(flow.at(0.0).output), float(flow.at(np.inf).output)
    s = s0 + part * (s1 - s0)
    if s in (s0, s1):
        return
    t = float(flow.time_at(s))
    assert 0.0 < t < np.inf
    # an error of a few eps in t moves the output by rate * t * eps of the way
    rate = float(flow.asymptotic_rate) + float(flow.initial_rate)
    slack = 1e-12 * (abs(s0) + abs(s1)) + 1e-15 * rate * t * abs(s1 - s0)
    assert float(flow.at(t).output) == pytest.approx(s, abs=slack)


def test_inverse_outside_the_path() -> None:
    flow = Flow(**ONE)
    times = flow.time_at([-1.0, -0.43, 0.0, 1.0, 1.5])
    assert np.isnan(times[[0, 4]]).all()
    assert times[1] < 1e-15  # the exact u . w is not the float -0.43
    assert times[3] == np.inf
    assert 0.0 < times[2] < 0.5


# --- against other numerics ---


@pytest.mark.parametrize(
    "arguments", [ONE, TWO, ONE | {"eta_u": 0.0}, TWO | {"eta_w": 0.0}, ONE | {"loss_factor": 0.5}]
)
def test_against_numerical_integration(arguments: dict) -> None:
    flow = Flow(**arguments, response_moment=3.0)
    times = np.array([0.0, 0.2, 0.7, 2.0])
    parameters = {name: value for name, value in arguments.items() if name not in ("u", "w")}
    setting = Setting(**parameters, response_moment=3.0)
    numeric = integrate_flow(arguments["u"], arguments["w"], times, setting)
    x = flow.at(times)
    for name in ("output", "loss", "kernel", "alignment"):
        np.testing.assert_allclose(getattr(x, name), getattr(numeric, name), rtol=1e-10, atol=1e-10)
    for got, want in zip(flow.weights(times), (numeric.u, numeric.w), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-10)


@pytest.mark.parametrize("arguments", [ONE, TWO, TWO | {"eta_u": 0.0}, ONE | {"eta_w": 0.0}, ONE | {"gamma": 0.0}])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_descent_is_the_training_of_a_network(arguments: dict, factor: float) -> None:
    """The two-scalar map against matrix gradients of a network with three inputs, 25 steps of visible size."""
    arguments = arguments | {"loss_factor": factor}
    rates = {"eta_u": 0.05 * arguments.get("eta_u", 1.0), "eta_w": 0.05 * arguments.get("eta_w", 1.0)}
    arguments = arguments | rates
    flow = Flow(**arguments, response_moment=2.5)
    map_ = flow.descend(25)
    data = two_point_data(arguments.get("second_moment", 1.0), arguments["cross_moment"], 2.5, dimension=3)
    hidden = np.outer(arguments["w"], data[2])
    setting = Setting(**rates, gamma=arguments.get("gamma", 1.0), loss_factor=factor)
    network = train_network(data, arguments["u"], hidden, setting, steps=25, step_size=1.0)
    for name in ("output", "loss", "kernel", "alignment"):
        np.testing.assert_allclose(getattr(map_, name), getattr(network, name), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(map_.u, network.u[-1], rtol=1e-11)
    np.testing.assert_allclose(map_.w, network.w[-1], rtol=1e-11)


def test_descent_is_stable_up_to_the_curvature_bound() -> None:
    """``c A K(inf) < 1``: just below it descent settles on the target, just above it does not."""
    for factor, settles in ((0.9, True), (1.15, False)):
        flow = Flow(u=[1.0, 0.2], w=[0.9, -0.1], cross_moment=1.0)
        rate = factor / float(flow.curvature())
        start = Flow(u=[1.0, 0.2], w=[0.9, -0.1], cross_moment=1.0, eta_u=rate, eta_w=rate)
        assert float(start.curvature()) == pytest.approx(factor, rel=1e-12)
        run = start.descend(3000)
        assert (abs(float(run.residual[-1])) < 1e-9) is settles


def test_small_start_half_time() -> None:
    """theory/latent-solution, eq. lat-plateau: ``ln(|s*|/(|k| P))/(4|beta|)`` to 1e-8 for a balanced start of size
    1e-4."""
    u = 1e-4 * np.array([0.5, -0.3, 0.8])
    w = 1e-4 * np.array([0.2, 0.7, -0.4])
    flow = Flow(u, w, cross_moment=1.0)
    P = np.sum(((u + w) / 2) ** 2)
    assert float(flow.time_at(0.5)) == pytest.approx(np.log(1.0 / P) / 4.0, rel=2e-8)
    # half of the growth of the logistic curve is also its saturation time, to the same order
    assert float(flow.saturation_time) == pytest.approx(np.log(1.0 / P) / 4.0, rel=2e-8)


def test_rates() -> None:
    flow = Flow(**TWO)
    x = flow.at([0.0, np.inf])
    np.testing.assert_allclose(flow.initial_rate, 2 * 1.3 * x.kernel[0], rtol=1e-14)
    np.testing.assert_allclose(flow.asymptotic_rate, 2 * 1.3 * x.kernel[1], rtol=1e-14)
    late = flow.at([20.0, 21.0]).residual
    assert np.log(late[0] / late[1]) == pytest.approx(float(flow.asymptotic_rate), rel=1e-12)


# --- batches ---


def test_batches_equal_single_evaluations() -> None:
    rng = np.random.default_rng(0)
    models = [random_model(rng, kind, 1) for kind in KINDS for _ in range(3)]
    names = ("cross_moment", "second_moment", "eta_u", "eta_w", "gamma")
    together = Flow(
        np.array([m.u[:1] for m in models]),
        np.array([m.w[:1] for m in models]),
        **{name: [getattr(m, name) for m in models] for name in names},
    )
    times = [0.0, 1e-3, 1.0, 1e5, np.inf]
    x, (u, w) = together.at(times), together.weights(times)
    for i, m in enumerate(models):
        one = Flow(m.u[:1], m.w[:1], **{name: getattr(m, name) for name in names})
        y = one.at(times)
        for name in ("output", "kernel", "residual", "loss", "alignment", "log_xi"):
            np.testing.assert_array_equal(getattr(x, name)[i], getattr(y, name))
        np.testing.assert_array_equal(u[i], one.weights(times)[0])
        np.testing.assert_array_equal(w[i], one.weights(times)[1])


def test_shapes_and_pairwise_times() -> None:
    rng = np.random.default_rng(0)
    flow = Flow(rng.standard_normal((3, 2, 5)), rng.standard_normal(5), cross_moment=rng.standard_normal((3, 1)))
    grid = flow.at(np.ones((4, 6)))
    assert grid.output.shape == (3, 2, 4, 6)
    assert flow.weights(np.ones(4))[0].shape == (3, 2, 4, 5)
    times = rng.uniform(size=(3, 2))
    np.testing.assert_array_equal(flow.at(times, grid=False).output[1, 1], flow.at(times[1, 1]).output[1, 1])
    assert flow.at([]).output.shape == (3, 2, 0)


# --- the ends of the range ---


def test_beyond_float64_is_zero_or_infinite_and_said() -> None:
    flow = Flow([1e100], [-1e100], cross_moment=1.0, gamma=1e120)
    x = flow.at(0.0)
    assert x.output == -np.inf
    assert "output" in x.out_of_range
    tiny = Flow([1e-150], [1e-150], cross_moment=1.0, gamma=1e-20, eta_u=1e-12, eta_w=1e-12).at(0.0)
    assert tiny.kernel == 0.0
    assert "kernel" in tiny.out_of_range
    result = fp.latent(u=[1e-150], w=[1e-150], cross_moment=1.0, gamma=1e-20, eta_u=1e-12, eta_w=1e-12, times=[0.0])
    assert "range of float64" in result.message
    assert set(Flow(**ONE).at([0.0, 1e300, np.inf]).out_of_range) == {"residual", "excess_loss", "loss"}
    assert fp.latent(**ONE, times=[0.0, 1e300, np.inf]).message == ""


def test_the_angle_of_one_unit_outlives_its_output() -> None:
    """Width 1 without a target: the output falls below the range, its sign does not."""
    flow = Flow([0.8], [0.5], cross_moment=0.0)
    assert flow.at([1e3, 1e6]).alignment.tolist() == [1.0, 1.0]
    assert np.isnan(flow.at(np.inf).alignment)


def test_start_and_end_are_exact() -> None:
    flow = Flow(**TWO)
    u, w = flow.weights(0.0)
    np.testing.assert_array_equal(u, TWO["u"])
    np.testing.assert_array_equal(w, TWO["w"])
    assert flow.at(1e300).output == -0.9 / 1.3
    assert flow.at(1e300).residual == 0.0


# --- saddles ---


def test_a_saddle_is_decided_exactly() -> None:
    """One unit in the last place decides whether the flow stays at the saddle."""
    u = np.array([0.1, 0.7, -0.3])
    base = {"cross_moment": 1.0, "eta_u": 49.0, "eta_w": 9.0}  # irrational-looking rates, ratio of roots 7/3
    opposed = Flow(7 * np.arange(1.0, 4.0), -3 * np.arange(1.0, 4.0), **(base | {"eta_u": 49.0, "eta_w": 9.0}))
    assert opposed.saddle
    assert not Flow(7 * np.arange(1.0, 4.0), -3 * np.arange(1.0, 4.0) * (1 + 2**-52), **base).saddle
    assert Flow(u, -u, cross_moment=1.0).saddle
    nudged = -u.copy()
    nudged[1] = np.nextafter(nudged[1], 0.0)
    flow = Flow(u, nudged, cross_moment=1.0)
    assert not flow.saddle
    assert flow.at(np.inf).output == 1.0
    assert 8.0 < float(flow.time_at(0.5)) < 25.0  # ln(1/eps^2)/4 for eps of one unit in the last place
    assert Flow(u, nudged, cross_moment=1.0, saddle_tolerance=1e-12).saddle
    assert not Flow(u, -u, cross_moment=-1.0).saddle  # the target has their sign


def test_starting_on_the_saddle_and_frozen_models() -> None:
    zero = np.zeros(3)
    assert Flow(zero, zero, cross_moment=1.0).saddle
    frozen = {
        "no gamma": Flow(**(ONE | {"gamma": 0.0})),
        "no rates": Flow(**ONE, eta_u=0.0, eta_w=0.0),
        "no input": Flow(**(ONE | {"cross_moment": 0.0}), second_moment=0.0, response_moment=2.0),
        "already there": Flow(zero, zero, cross_moment=0.0),
    }
    for name, flow in frozen.items():
        assert flow.frozen, name
        assert not flow.saddle, name
        u, _ = flow.weights([0.0, 1.0, np.inf])
        assert np.ptp(u, axis=0).max() == 0.0, name
    assert frozen["no input"].at(5.0).loss == 2.0


# --- moments ---


def test_moments_of_rank_one_data() -> None:
    rng = np.random.default_rng(3)
    n = np.array([3.0, -4.0, 12.0]) / 13.0
    a, y = rng.standard_normal(50), rng.standard_normal(50)
    m = moments_from_data(np.outer(a, n), y)
    np.testing.assert_allclose(m.direction, n, atol=1e-14)
    np.testing.assert_allclose((m.second, m.cross, m.response), (np.mean(a * a), np.mean(a * y), np.mean(y * y)))
    assert m.singular_ratio < 1e-14
    hidden = rng.standard_normal((4, 3))
    moments = {"second_moment": m.second, "cross_moment": m.cross, "response_moment": m.response}
    flow = Flow(np.ones(4), m.project(hidden), **moments, eta_u=0.01, eta_w=0.01)
    network = train_network((np.outer(a, n), y, n), np.ones(4), hidden, Setting(), steps=50, step_size=0.01)
    np.testing.assert_allclose(flow.descend(50).loss, network.loss, rtol=1e-12)


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0], "not multiples of one vector"),
        ([[1.0, 0.0]], [1.0, 1.0], "same number of samples"),
        ([[0.0, 0.0]], [1.0], "zero"),
        ([[np.nan, 0.0]], [1.0], "finite"),
        (np.empty((0, 2)), [], "at least one"),
    ],
)
def test_wrong_data(inputs, labels, words: str) -> None:
    with pytest.raises(InputError, match=words):
        moments_from_data(inputs, labels)


# --- wrong input ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"second_moment": -1.0}, "second_moment must be at least 0"),
        ({"response_moment": 0.5}, "Cauchy-Schwarz"),
        ({"response_moment": -1.0}, "at least 0"),
        ({"second_moment": 0.0}, "cross_moment 0"),
        ({"w": [1.0]}, "same number"),
        ({"u": [], "w": []}, "at least 1"),
        ({"eta_u": -1.0}, "eta_u must be at least 0"),
        ({"eta_w": np.nan}, "eta_w must be finite"),
        ({"u": [np.inf, 0.0, 0.0]}, "u must be finite"),
        ({"gamma": "x"}, "gamma must be numbers"),
        ({"loss_factor": 0.0}, "loss_factor"),
        ({"saddle_tolerance": 1.0}, "saddle_tolerance"),
        ({"eta_u": [1.0, 2.0], "eta_w": [1.0, 2.0, 3.0]}, "broadcast"),
    ],
)
def test_wrong_input(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Flow(**(ONE | change))


@pytest.mark.parametrize("times", [[-1.0], [np.nan], ["x"]])
def test_wrong_times(times: list) -> None:
    with pytest.raises(InputError, match="times"):
        Flow(**ONE).at(times)
    with pytest.raises(InputError, match="times"):
        fp.latent(**ONE, times=times)


def test_response_moment_rounded_down_is_accepted() -> None:
    """C typed as the float nearest to B^2/A may violate Cauchy-Schwarz by a rounding."""
    rng = np.random.default_rng(0)
    for A, B in rng.uniform(0.1, 10.0, size=(200, 2)):
        loss = Flow([1.0], [1.0], second_moment=A, cross_moment=B, response_moment=B * B / A).at(np.inf).loss
        assert 0.0 <= loss <= 4e-16 * B * B / A


def test_the_package_is_its_function() -> None:
    from featurephase import latent

    assert fp.latent is latent
