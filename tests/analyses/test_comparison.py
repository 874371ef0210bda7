"""compare: correct problems agree, wrong ones do not, the verdict is Bonferroni's."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom, cauchy
from scipy.stats import t as student

from featurephase.analyses.compared_escape import escaped_fraction
from featurephase.analyses.comparison import compare
from featurephase.analyses.finite_size import eigenvalue_shift, extrapolated, judged, law_shift
from featurephase.analyses.observables import Observable, trajectory_observables
from featurephase.analyses.prediction import predict
from featurephase.dynamics.asymptotic import run_replicate
from featurephase.escape.law import EscapeLaw
from featurephase.foundation.errors import InputError, Interrupted, MemoryLimitError
from featurephase.foundation.executors import replicate_seeds
from featurephase.problem import Problem, Student
from featurephase.problem.data import UserData
from featurephase.subspaces import problem_subspaces

from .. import cases


def problem(activation="gelu", loss="squared", steps=4) -> Problem:
    small = cases.problem(easy_basis=cases.NOTHING_EASY, activation=activation, loss=loss, steps=steps)
    return small.replace(asymptotics={"samples": 20_000, "replicates": 4}, run={"delta": [3.0]})


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
    monkeypatch.setattr("featurephase.analyses.comparison.predict", lambda *_, **__: pytest.fail("the theory ran"))
    for keys, why in (
        ({"delta": [3.0, 1e6]}, "are available"),
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

    monkeypatch.setattr("featurephase.escape.law.require_growth_memory", refuse)
    found = compare(problem(), times=[], **(KEYS | {"dimension": [20, 40], "seeds": 2, "escape": True}))
    assert "escape time not compared: the escape needs too much" in found.warnings


def test_samples_are_those_of_every_delta():
    found = compare(problem(), times=[], delta=[2.0, 5.0], **(KEYS | {"dimension": [20, 40], "seeds": 2}))
    assert found.deltas == (2.0, 5.0)
    assert found.samples == ((40, 80), (100, 200))


@dataclass(frozen=True)
class Stand:
    """A run that is known by its dimension alone."""

    dimension: int

    @property
    def trajectory(self):
        return self.dimension


def constant(value):
    return lambda dimension: value[dimension]


def test_an_interruption_keeps_the_deltas_that_are_finished(monkeypatch):
    from featurephase.analyses.seeds import FiniteSize

    whole = FiniteSize.run

    def interrupted(size, *arguments, **options):
        if size.delta == 4.0:
            raise KeyboardInterrupt
        return whole(size, *arguments, **options)

    monkeypatch.setattr(FiniteSize, "run", interrupted)
    keys = {"dimension": 100, "seeds": 2, "times": [], "escape": False, "workers": 1}
    small = problem(steps=2).replace(asymptotics={"samples": 2000, "replicates": 2})
    with pytest.raises(Interrupted, match="not finished at delta = 4") as stop:
        compare(small, delta=[3.0, 4.0], **keys)
    kept = stop.value.result
    assert kept.deltas == (3.0,)
    assert {q.delta for q in kept.quantities} == {3.0}
    assert kept.status == "interrupted"
    assert not kept.ok
    with pytest.raises(KeyboardInterrupt) as stop:
        compare(small, delta=4.0, **keys)
    assert not isinstance(stop.value, Interrupted)


@pytest.mark.slow
def test_what_has_left_the_plateau_is_not_compared_with_the_limit_that_stays_on_it():
    """Above delta_NN every run of d = 60 has learned its direction by step 40; the limit never does."""
    far = problem(steps=40).replace(asymptotics={"samples": 4000, "replicates": 2})
    found = compare(far, dimension=60, delta=40.0, seeds=3, times=[], curve_times=[1, 40], workers=1)
    assert {q.time for q in found.quantities if not q.name.startswith("escape")} == {1}
    (escaped,) = [q for q in found.quantities if q.name == "escaped_fraction"]
    assert escaped.simulation == 1.0
    assert any("left the plateau" in w for w in found.warnings)


def test_a_number_of_samples_that_is_rounded_is_said():
    small = problem(steps=2).replace(asymptotics={"samples": 2000, "replicates": 2})
    keys = {"seeds": 2, "times": [], "escape": False, "workers": 1}
    found = compare(small, dimension=33, delta=1.5, **keys)
    assert found.samples == ((50,),)
    assert any("n = 50 samples, n/d = 1.51515" in w for w in found.warnings)
    assert not any("n/d" in w for w in compare(small, dimension=34, delta=1.5, **keys).warnings)


def test_corrections_are_exact_where_their_law_is():
    """x(d) = 2 + 3 d^(-e): every estimate of the limit gives 2."""
    for exponent in (1.0, 2 / 3):
        value = {d: 2 + 3 * d**-exponent for d in (100, 200, 400)}
        q = Observable("x", 1, 2.0, 0.0, constant(value), exponent)
        assert extrapolated(q, {d: [Stand(d)] * 2 for d in value})[0] == pytest.approx(2.0)
        shift, _ = eigenvalue_shift(q, [Stand(400)] * 2, [Stand(200)] * 2)
        assert value[400] - shift == pytest.approx(2.0)
    value = {d: 2 + 3 / d for d in (200, 400)}
    q = Observable("x", 1, 2.0, 0.0, constant(value))
    assert value[400] - law_shift(q, [Stand(200)] * 2, [Stand(400)] * 2)[0] == pytest.approx(2.0)


def test_zero_variance_isjudged_exactly():
    q = Observable("x", 1, 1.0, 0.0, lambda r: 1.0)
    nothing = (0.0, 7)
    assert judged(q, 1.0, 1.0, nothing, 0.0, [nothing]).p == 1.0
    assert judged(q, 1.0, 1.1, nothing, 0.0, [nothing]).p == 0.0


def test_a_theory_that_exists_does_not_agree_with_a_simulation_that_does_not():
    nothing = (0.0, 7)
    q = Observable("x", 1, 1.0, 0.0, lambda r: 1.0)
    assert judged(q, 1.0, np.nan, (np.nan, 7), 0.0, [nothing]).p == 0.0
    assert judged(q, 1.0, 1.0, nothing, np.nan, [nothing]).p == 0.0
    q = Observable("x", 1, np.nan, 0.0, lambda r: 1.0)
    assert np.isnan(judged(q, 1.0, 1.0, nothing, 0.0, [nothing]).p)


def test_degrees_of_freedom_are_those_of_the_error_that_counts():
    """Two replicates of a theory of little precision: its t has one degree of freedom, whatever the seeds."""
    q = Observable("x", 1, 0.0, 1.0, lambda r: 1.0)
    assert judged(q, 1.0, 3.0, (1e-6, 47), 0.0, [(1.0, 1)]).p == pytest.approx(2 * cauchy.sf(3.0), rel=1e-6)
    assert judged(q, 1.0, 3.0, (1.0, 47), 0.0, [(1e-6, 1)]).p == pytest.approx(2 * student.sf(3.0, 47), rel=1e-6)


def test_simulations_that_diverge_disagree_and_are_named():
    student = Student("h**2", [1.0], init_norm=0.5)
    p = cases.problem("g1**2", easy_basis=cases.NOTHING_EASY, student=student, step_size=0.3, steps=12)
    p = p.replace(asymptotics={"samples": 2000, "replicates": 4}, run={"delta": [6.0]})
    found = compare(p, dimension=12, seeds=16, times=(), escape=False, workers=1)
    assert found.status == "ok"  # the limit does not diverge
    assert not found.agree
    assert any("diverges at d = 12" in w for w in found.warnings)


def test_error_along_an_oblique_direction():
    """tanh(g1 + g2): both overlaps are one number, and their errors do not average out."""
    training = {"step_size": 0.5, "steps": 3}
    p = cases.problem("tanh(g1 + g2)", latent_dim=2, easy_basis=[[1.0], [1.0]], activation="tanh", **training)
    p = p.replace(asymptotics={"samples": 1000, "replicates": 8}, run={"times": []})
    spaces = problem_subspaces(p)
    run = predict(p, delta=2.0, subspaces=spaces, workers=1).runs[0]
    along = [
        spaces.easy_basis[:, 0] @ run_replicate(p, 2.0, s, easy_basis=spaces.easy_basis).overlap[3, :, 0]
        for s in replicate_seeds(0, 8)
    ]
    (q,) = [q for q in trajectory_observables(run, [3], spaces.easy_basis) if q.name.startswith("overlap")]
    assert q.theory == pytest.approx(np.mean(along), rel=1e-9)
    assert q.theory_se == pytest.approx(np.std(along, ddof=1) / np.sqrt(8), rel=1e-9)


def law(times):
    ends = {"low": 5.0, "low_se": 0.5, "high": 20.0, "high_se": 0.5}
    return EscapeLaw(500, np.sort(np.array(times, dtype=float)), 1.5, median=10.0, median_se=0.5, **ends)


def test_a_predicted_escape_that_does_not_happen_is_a_disagreement():
    early = law(range(1, 21))
    assert escaped_fraction(early, 0, 16, 30, 1.0, 8.0).p < 1e-6
    assert escaped_fraction(early, 16, 16, 30, 1.0, 8.0).p == 1.0
    never = law([np.inf] * 15 + [100.0] * 5)
    assert escaped_fraction(never, 16, 16, 30, 1.0, 8.0).p < 1e-6
    halfway = law(range(1, 41))
    found = escaped_fraction(halfway, 3, 16, 20, 0.0, 8.0)
    assert found.p == pytest.approx(2 * binom.cdf(3, 16, 0.5))
    assert found.z < 0
    assert escaped_fraction(halfway, 3, 16, 20, 1e9, 8.0).p == 1.0  # a law without precision decides nothing


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


@pytest.mark.slow
def test_the_users_features_beside_the_theory():
    """Gaussian features agree; heavy tails do not, nor do labels that have nothing to do with the features."""
    p = cases.easy_and_hard(steps=8).replace(asymptotics={"samples": 8192, "replicates": 4})
    rng = np.random.default_rng(5)
    gaussian = rng.standard_normal((750, 100))
    keys = {"seeds": 6, "workers": 1, "escape": False}
    found = compare(p, data=UserData(gaussian), **keys)
    assert found.agree
    assert (found.dimensions, found.deltas, found.samples) == ((100,), (6.0,), ((600,),))
    assert any("600 samples of 100 features" in warning for warning in found.warnings)
    assert not compare(p, data=UserData(rng.standard_t(2.2, size=(750, 100)) / 3**0.5), **keys).agree
    labelled = compare(p, data=UserData(gaussian, labels=rng.standard_normal(750)), **keys)
    assert not labelled.agree
    assert not any(q.name.startswith("overlap") for q in labelled.quantities)  # nobody knows the directions
    unheld = compare(p, data=UserData(gaussian, held_out=0.0), **keys)
    assert not any(q.name == "test_loss" for q in unheld.quantities)
    with pytest.raises(InputError, match="fix n and d"):
        compare(p, data=UserData(gaussian), dimension=100)
    with pytest.raises(InputError, match="no dimension"):
        compare(p)
