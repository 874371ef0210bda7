"""Stepwise self-supervised learning: published values, the flow of W from aligned and generic starts, extremes."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.related_models.stepwise_ssl import StepwiseSSL, critical_time, singular_values

from .cases import assert_agrees, value

REFERENCE = [  # theory/related: s(0), gamma, t, s(t), critical time
    (0.001, 1.0, 1.0, 0.05451698130109, 1.726938819746),
    (0.001, 1.0, 2.0, 0.9480759863461, 1.726938819746),
    (0.01, 0.5, 2.0, 0.5093523453816, 2.475871888134),
    (2.0, 1.5, 0.1, 0.943435172422, -0.1493132891023),
]


@pytest.mark.parametrize(("s0", "gamma", "time", "s", "tau"), REFERENCE)
def test_reference_values(s0, gamma, time, s, tau) -> None:
    assert singular_values([s0], [gamma], [time])[0, 0] == pytest.approx(s, rel=1e-12)
    assert critical_time(s0, gamma) == pytest.approx(tau, rel=1e-12)


def test_extremes() -> None:
    s0 = np.array([1e-70, 1e-3, 1e-3, 0.0, 5.0])
    gamma = np.array([1.0, 0.0, -1.0, 1.0, 1e-3])
    path = singular_values(s0, gamma, [0.0, 1e6, np.inf])
    np.testing.assert_allclose(path[0], s0)
    np.testing.assert_allclose(path[1], [1.0, 1e-3, 0.0, 0.0, 1.0 / np.sqrt(1e-3)])
    np.testing.assert_allclose(path[2], [1.0, 1e-3, 0.0, 0.0, 1.0 / np.sqrt(1e-3)])
    assert np.isinf(critical_time(s0, gamma)[1:4]).all()


def test_at_the_critical_time() -> None:
    rng = np.random.default_rng(0)
    s0, gamma = np.exp(rng.uniform(-9, -1, 100)), rng.uniform(0.05, 3, 100)
    s = np.array(
        [singular_values([a], [g], [t])[0, 0] for a, g, t in zip(s0, gamma, critical_time(s0, gamma), strict=True)]
    )
    np.testing.assert_allclose(gamma * s**2, 1.0 / (2.0 - gamma * s0**2), rtol=1e-12)


def test_aligned_starts_against_the_flow_in_random_cases() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        modes = int(rng.integers(1, 6))
        s0, gamma = np.exp(rng.uniform(np.log(1e-4), np.log(2), modes)), rng.uniform(-1, 2, modes)
        assert_agrees(StepwiseSSL(s0=s0, gamma=gamma, time=np.linspace(0, 4, 9)).run(simulate=True, workers=1))


def _generic(seed: int, cases: int) -> int:
    """Small generic starts against the flow; the number of those inside the theory."""
    rng, inside = np.random.default_rng(seed), 0
    for case in range(cases):
        modes = int(rng.integers(2, 6))
        model = StepwiseSSL(
            s0=float(rng.choice([1e-2, 1e-3, 1e-4, 1e-6, 1e-8])),
            gamma=rng.uniform(-0.5, 2, modes),
            start="generic",
            embedding=int(rng.integers(1, modes + 1)),
            draw=case,
            time=np.linspace(0, 8, 17),
        )
        if not model.outside():
            inside += 1
            result = model.run(simulate=True, workers=1)
            assert result.validity == "asymptotic"
            assert_agrees(result)
    return inside


@pytest.mark.parametrize("start", ["aligned", "generic"])
def test_a_mode_that_is_not_learned_leaves_the_errors_of_the_others(start) -> None:
    model = StepwiseSSL(gamma=[1.0, 0.6, 0.0], start=start, s0=[1e-4])
    q = model.theory.quantities["critical_time"]
    assert np.isfinite(np.asarray(q.value)[:2]).all()
    assert (np.asarray(q.accuracy)[:2] < 0.1).all()
    assert (np.asarray(StepwiseSSL(gamma=[-1.0, 0.0]).theory.quantities["critical_time"].accuracy) == 0.0).all()


def test_generic_starts_against_the_flow() -> None:
    assert _generic(0, 60) > 30


@pytest.mark.slow
def test_generic_starts_against_the_flow_in_300_cases() -> None:
    assert _generic(1, 300) > 150


@pytest.mark.parametrize(("scale", "error"), [(1e-2, 6e-3), (1e-4, 3e-4), (1e-8, 1e-7)])
def test_accuracy_for_separate_modes(scale, error) -> None:
    model = StepwiseSSL(
        s0=scale,
        gamma=[1.0, 0.5, 0.2, -0.3],
        start="generic",
        embedding=3,
        time=np.linspace(0, 2.6 * np.log(1 / scale), 100),
    )
    by_name = {a.name: a for a in model.run(simulate=True).comparison}
    assert by_name["embedding"].difference < error
    assert by_name["critical_time"].difference < 2e-3 * by_name["critical_time"].theory


def test_one_scale_for_all_modes_would_be_worse() -> None:
    """|R_jj| rather than the scale of the start: the steps come a few percent away otherwise."""
    model = StepwiseSSL(s0=1e-4, gamma=[1.0, 0.5, 0.2], start="generic", draw=3, time=[0.0])
    exact = value(model.run(), "critical_time")
    crude = critical_time(1e-4, [1.0, 0.5, 0.2])
    assert np.max(np.abs(crude / exact - 1.0)) > 0.01


def test_modes_that_mix_are_refused_or_only_simulated() -> None:
    model = StepwiseSSL(s0=0.1, gamma=[1.0, 0.97], start="generic", draw=1, time=[0.0, 1.0])
    with pytest.raises(InputError, match="eigenvalues further apart"):
        model.run()
    assert model.run(simulate=True).validity == "simulation only"


@pytest.mark.parametrize(
    ("gamma", "s0", "name"),
    [
        ([1.0, 0.4], 1e-6, "stepwise"),
        ([1.0, 0.999], 1e-2, "overlapping"),
        ([-1.0], 0.1, "nothing learned"),
        ([1.0], 2.0, "learned"),
    ],
)
def test_phases(gamma, s0, name) -> None:
    assert StepwiseSSL(gamma=gamma, s0=s0).phase().name == name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"s0": [1.0, 2.0]}, "must be 1 or as many"),
        ({"start": "generic", "s0": 0.0}, "one scale s0 > 0"),
        ({"embedding": 2}, "only for a generic start"),
        ({"start": "random"}, "one of aligned, generic"),
        ({"time": [-1.0]}, "or inf"),
    ],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        StepwiseSSL(**changes)
