"""compare: correct problems agree, wrong ones do not, the verdict is Bonferroni's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featurephase.comparison import _eigenvalue_shift, _extrapolated, _judged, _law_shift, _Measured, compare
from featurephase.errors import InputError, MemoryLimitError
from featurephase.problem import GradientDescent, Problem, Student, Teacher


def problem(activation="gelu", loss="squared", steps=4) -> Problem:
    return Problem(
        teacher=Teacher(1, "1.5*tanh(g1**2)", easy_basis=np.zeros((1, 0))),
        student=Student(activation, [1.0]),
        loss=loss,
        training=GradientDescent(0.8, steps),
    ).replace(asymptotics={"samples": 20_000, "replicates": 4}, run={"delta": [3.0]})


KEYS = {"dimension": 200, "seeds": 10, "workers": 1, "escape": False}


def test_a_correct_problem_agrees_and_the_document_is_complete():
    found = compare(problem(), times=[4], **KEYS)
    assert found.agree
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    names = {q["name"] for q in document["quantities"]}
    assert names >= {"train_loss", "test_loss", "gram[0][0]", "left_edge", "right_edge"}
    assert set(document["quantities"][0]) >= {"theory", "theory_se", "simulation", "simulation_se", "z", "time"}
    assert document["comparisons"] == len(document["quantities"])
    assert "agree" in found.table()


@pytest.mark.parametrize("wrong", [{"activation": "tanh"}, {"loss": "pseudo_huber"}], ids=str)
def test_a_wrong_problem_does_not(wrong):
    assert not compare(problem(), simulated=problem(**wrong), times=[], **KEYS).agree


def test_extrapolation_in_the_dimension():
    found = compare(problem(), times=[], **(KEYS | {"dimension": [60, 120, 240]}))
    assert found.agree
    assert found.dimensions == (60, 120, 240)
    assert all(q.finite_size == 0 for q in found.quantities)


def test_what_cannot_be_simulated_is_refused_before_the_theory_runs(monkeypatch):
    monkeypatch.setattr("featurephase.comparison.predict", lambda *_, **__: pytest.fail("the theory ran"))
    for keys, why in (
        ({"delta": [3.0, 1e9]}, "are available"),
        ({"dimension": [60, 10**8]}, "are available"),
        ({"dimension": 0}, "dimension = 0: must be whole numbers >= 1"),
        ({"dimension": [-20, 40]}, "dimension = -20, 40: must be"),
        ({"dimension": 3}, r"dimension = 3: what finite d adds is found by further runs at d/2 .* dimension = 1: must"),
        ({"dimension": 2, "delta": 0.4}, "dimension = 2: .* delta = 0.4 at dimension 1"),
        ({"start": "zero"}, "orthonormal"),
    ):
        with pytest.raises(InputError, match=why):
            compare(problem(), **(KEYS | keys))


def test_an_escape_prediction_that_does_not_fit_is_left_out_with_the_reason(monkeypatch):
    def refuse(*_):
        raise MemoryLimitError("the escape needs too much")

    monkeypatch.setattr("featurephase.simulation.require_growth_memory", refuse)
    found = compare(problem(), times=[], **(KEYS | {"dimension": [20, 40], "seeds": 2, "escape": True}))
    assert "escape time not compared: the escape needs too much" in found.warnings


def test_samples_are_those_of_every_delta():
    found = compare(problem(), times=[], delta=[2.0, 5.0], **(KEYS | {"dimension": [20, 40], "seeds": 2}))
    assert found.deltas == (2.0, 5.0)
    assert found.samples == ((40, 80), (100, 200))


def constant(value):
    return lambda run: value[run]


def test_corrections_are_exact_where_their_law_is():
    """x(d) = 2 + 3 d^(-e): every estimate of the limit gives 2."""
    for exponent in (1.0, 2 / 3):
        value = {d: 2 + 3 * d**-exponent for d in (100, 200, 400)}
        q = _Measured("x", 1, 2.0, 0.0, constant(value), exponent)
        assert _extrapolated(q, {d: [d, d] for d in value})[0] == pytest.approx(2.0)
        shift, _ = _eigenvalue_shift(q, [400, 400], [200, 200])
        assert value[400] - shift == pytest.approx(2.0)
    value = {d: 2 + 3 / d for d in (200, 400)}
    q = _Measured("x", 1, 2.0, 0.0, constant(value))
    assert value[400] - _law_shift(q, [200, 200], [400, 400])[0] == pytest.approx(2.0)


def test_zero_variance_is_judged_exactly():
    q = _Measured("x", 1, 1.0, 0.0, lambda r: 1.0)
    assert _judged(q, 1.0, 1.0, 0.0, 0.0, 0.0, 8).p == 1.0
    assert _judged(q, 1.0, 1.1, 0.0, 0.0, 0.0, 8).p == 0.0
    assert np.isnan(_judged(q, 1.0, np.nan, 0.0, 0.0, 0.0, 8).z)


@pytest.mark.parametrize(
    ("link", "student"),
    [
        ("0.7 + 0*g1", {}),  # constant labels
        ("0*g1", {"init_norm": 0.0}),  # nothing at all: zero variance
    ],
)
def test_degenerate_problems_agree(link, student):
    p = problem().replace(teacher={"link": link}, student=student)
    found = compare(p, times=[], **KEYS)
    assert found.agree
    assert not any(np.isnan(q.z) for q in found.quantities)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("d", "delta", "steps"), [(6, 4.0, 12), (300, 0.4, 4)])
def test_fewer_dimensions_than_steps_and_fewer_samples_than_dimensions(d, delta, steps):
    """Whatever the verdict at d = 6, everything is compared and every number is one."""
    found = compare(problem(steps=steps), delta=delta, times=[], **(KEYS | {"dimension": d}))
    assert {q.name for q in found.quantities} >= {"train_loss", "test_loss", "gram[0][0]"}
    assert all(np.isfinite(q.simulation) and np.isfinite(q.theory) for q in found.quantities)
    assert found.agree or d == 6


def test_more_memory_than_there_is_is_refused_with_the_estimate():
    with pytest.raises(MemoryLimitError, match=r"needs .*iB .* and .* are available"):
        compare(problem(), delta=1e5, times=[], **(KEYS | {"dimension": 10**6}))


def test_too_few_seeds():
    with pytest.raises(InputError, match="at least 2"):
        compare(problem(), dimension=20, seeds=1)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["activation", "loss", "delta"])
def test_power_and_false_alarms(wrong):
    """Eight repeats at d = 500: at most one false alarm (chance 5 % each), at least seven detections (90 %)."""
    right, alarms, detected = problem(steps=8), 0, 0
    other = {"activation": problem("silu", steps=8), "loss": problem(loss="pseudo_huber", steps=8)}.get(wrong, right)
    for seed in range(8):
        p = right.replace(asymptotics={"seed": seed})
        keys = {"dimension": 500, "seeds": 48, "times": [], "escape": False, "quiet": True}
        if wrong == "delta":
            detected += not compare(p, simulated=p, simulated_delta=2.7, **keys).agree
            alarms += not compare(p, **keys).agree
        else:
            detected += not compare(p, simulated=other, **keys).agree
    assert detected >= 7
    assert alarms <= 1
