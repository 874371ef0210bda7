"""The phase diagram of ReLU networks: the table of regimes, the linear surrogate, and slopes measured by training."""

from __future__ import annotations

import numpy as np
import pytest

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.related_models.relu_phase import (
    BINS,
    CRITICAL_SLOPE,
    ReluPhase,
    _Network,
    _train,
    regime,
    surrogate_distance,
)

from .cases import error, value

TABLE = [  # theory/related: gamma, gamma', RD at 1024, slope, regime
    (0.5, 0.0, 0.046, -0.60, "linear"),
    (0.5, -0.5, 0.054, -0.73, "linear"),
    (1.5, 1.0, 0.036, -0.57, "linear"),
    (1.0, 0.0, 0.970, -0.04, "critical"),
    (1.0, -0.5, 4.12, 0.08, "critical"),
    (1.5, 0.5, 0.877, -0.04, "critical"),
    (1.5, 0.0, 7.57, 0.26, "condensed"),
    (1.75, 0.0, 18.7, 0.38, "condensed"),
    (1.5, -0.5, 43.6, 0.49, "condensed"),
]


@pytest.mark.parametrize(("gamma", "gamma_prime", "rd", "slope", "name"), TABLE)
def test_regimes(gamma, gamma_prime, rd, slope, name) -> None:
    result = fp.related("relu-phase", gamma=gamma, gamma_prime=gamma_prime)
    assert result.phase == name
    assert result.to_dict()["regime"] == name
    # The surrogate's exponent of the input weights has the sign that the table says.
    sign = {"linear": 1.0, "critical": 0.0, "condensed": -1.0}[name]
    assert np.sign(value(result, "exponent_w")) == sign


@pytest.mark.parametrize("gamma", [1.1, 1.2, 1.3, 1.4, 1.7, 2.1])
def test_decimals_on_the_boundary_are_critical(gamma) -> None:
    result = fp.related("relu-phase", gamma=gamma, gamma_prime=round(gamma - 1.0, 1))
    assert result.phase == "critical"
    assert value(result, "exponent_w") == value(result, "kernel_exponent") == 0.0
    assert regime(gamma, gamma - 1.0 + 1e-6) == "linear"
    assert regime(gamma, gamma - 1.0 - 1e-6) == "condensed"
    assert regime(1.0 + 1e-6, -0.5) == "condensed"
    assert regime(1.0 - 1e-6, -0.5) == "linear"


def test_named_parameterisations() -> None:
    assert [regime(*x) for x in ((0.5, 0.0), (0.5, 0.5), (1.0, 0.0))] == ["linear", "linear", "critical"]


def test_the_surrogate() -> None:
    first = surrogate_distance([0.5, -0.3, 0.8], [0.2, 0.7, -0.4], cross_moment=1.0)
    np.testing.assert_allclose(first, (0.99809618525, 0.687590818027, 0.852882482911), rtol=1e-11)
    second = surrogate_distance(
        [0.5, -0.3, 0.8], [0.2, 0.7, -0.4], cross_moment=-0.9, second_moment=1.3, gamma=0.7, eta_u=0.5, eta_w=2.0
    )
    np.testing.assert_allclose(second, (0.535649412268, 0.106409485418, -0.217631601169), rtol=1e-11)


def test_the_surrogate_is_the_latent_model_in_random_cases() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        u, w = rng.normal(size=(2, 4))
        rates = dict(zip(("eta_u", "eta_w", "gamma"), np.exp(rng.normal(size=3)).tolist(), strict=True))
        cross = float(rng.normal())
        found = surrogate_distance(u, w, cross_moment=cross, **rates)
        flow = fp.latent(u, w, cross_moment=cross, times=[np.inf], **rates)
        end_w, end_u = np.asarray(flow.w[-1]), np.asarray(flow.u[-1])
        assert found[0] == pytest.approx(np.linalg.norm(end_w - w) / np.linalg.norm(w), rel=1e-8)
        assert found[1] == pytest.approx(np.linalg.norm(end_u - u) / np.linalg.norm(u), rel=1e-8)


def test_steps_with_a_frozen_kernel_are_the_flow() -> None:
    """The own integrator against an explicit method of SciPy with small tolerances."""
    from scipy.integrate import solve_ivp

    network = _Network(10, 1.0, 0.0, np.random.default_rng(3))
    end = _train(network, 3e-3)

    def flow(_, theta):
        errors, slopes = network.linearised(theta)
        return -2.0 / len(errors) * slopes.T @ errors

    def left(_, theta):
        return float(np.mean(network.linearised(theta)[0] ** 2)) - 3e-3

    left.terminal = True
    run = solve_ivp(flow, (0, 1e9), network.start, events=left, rtol=1e-5, atol=1e-7)
    travelled = np.linalg.norm(run.y[:, -1] - network.start)
    assert np.linalg.norm(end - run.y[:, -1]) < 0.03 * travelled


def test_slopes_of_small_networks() -> None:
    """Lazy and condensed slopes have their signs, and condensed networks have few orientations left."""
    lazy, rich = (
        fp.related("relu-phase", gamma=g, widths=[32, 128], simulate=True, replicates=6, workers=1) for g in (0.5, 1.5)
    )
    assert value(lazy, "slope") < -0.3
    assert value(rich, "slope") - 4.0 * error(rich, "slope") > 0.0
    assert lazy.to_dict()["measured_regime"] == "linear"
    assert rich.to_dict()["measured_regime"] == "condensed"
    assert value(rich, "orientations")[-1] < 0.2 * value(rich, "orientations_start")[-1] < BINS
    assert value(lazy, "orientations")[-1] > 0.8 * value(lazy, "orientations_start")[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "gamma_prime", "rd", "slope", "name"), TABLE)
def test_the_table_by_training(gamma, gamma_prime, rd, slope, name) -> None:
    """RD within a tenth and the slope within 0.1 (the table has few seeds) beyond their own errors; the regime."""
    result = fp.related("relu-phase", gamma=gamma, gamma_prime=gamma_prime, simulate=True, replicates=4)
    assert value(result, "rd")[-1] == pytest.approx(rd, abs=0.12 * rd + 3.0 * float(error(result, "rd")[-1]))
    assert value(result, "slope") == pytest.approx(slope, abs=0.11 + 3.0 * float(error(result, "slope")))
    assert result.to_dict()["measured_regime"] == name


@pytest.mark.slow
def test_the_boundary_located_by_training() -> None:
    """The measured slope changes its sign where gamma = 1 (gamma' = 0)."""
    gammas = np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    slopes = [
        float(value(fp.related("relu-phase", gamma=g, simulate=True, replicates=4), "slope")) for g in gammas.tolist()
    ]
    assert np.all(np.diff(slopes) > 0.0)
    assert np.interp(0.0, slopes, gammas) == pytest.approx(1.0, abs=0.06)
    assert abs(slopes[2]) < CRITICAL_SLOPE


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"widths": [64]}, "a slope needs two"), ({"gamma": 20.0}, "at most 10"), ({"widths": [64, 1.5]}, "whole number")],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        ReluPhase(**changes)


def test_equal_layers_have_no_surrogate() -> None:
    with pytest.raises(InputError, match="neither equal nor opposite"):
        surrogate_distance([1.0, 2.0], [1.0, 2.0], cross_moment=1.0)
