"""The tangent recursion against published numbers and the exact law."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from featurephase.dynamics.implicit import run_implicit
from featurephase.escape import growth as escape
from featurephase.escape.growth import escape_available, growth_bytes, hard_growth
from featurephase.foundation.errors import InputError, MemoryLimitError
from featurephase.problem import Problem, Student

from .. import cases


def problem(steps=20, activation="gelu", **training) -> Problem:
    return cases.problem(activation=activation, steps=steps, **training)


EASY, HARD = cases.NOTHING_EASY, cases.ALL_HARD


def growths(p, delta, replicates=6, samples=20_000, **keys):
    seeds = np.random.SeedSequence(3).spawn(replicates)
    return [hard_growth(p, delta, s, easy_basis=EASY, hard_basis=HARD, samples=samples, **keys) for s in seeds]


def test_growth_and_injected_noise_of_the_worked_example():
    """theory/escape, eqs. esc-step, esc-covariance, delta = 8: growth 1.546, 1.898, 2.053 and d times the injected
    variance .759, 2.37, 4.80."""
    found = growths(problem(), 8.0)
    for t, growth, injected in ((5, 1.546, 0.759), (10, 1.898, 2.37), (20, 2.053, 4.80)):
        g = np.array([x.growth()[t, 0, 0] for x in found])
        v = np.array([x.covariance(initial=False)[t, 0, 0] for x in found])
        for measured, reference in ((g, growth), (v, injected)):
            se = measured.std(ddof=1) / np.sqrt(len(measured))
            assert abs(measured.mean() - reference) < 4 * np.hypot(se, 0.01 * reference), (
                t,
                measured.mean(),
                reference,
            )


@pytest.mark.parametrize(
    "keys",
    [
        {"optimiser": "nesterov", "momentum": 0.5},
        {"batch_fraction": 0.5, "batches": "reshuffled"},
        {"gradient_scaling": "normalise", "step_size": 0.3},
    ],
    ids=str,
)
def test_variance_of_the_overlap_under_other_rules(keys):
    """d Var c(t) of the exact law at d = 600 over 250 runs: relative error sqrt(2/250), finite-size allowance 10 %."""
    p = problem(6).replace(training=keys)
    predicted = np.array([x.covariance()[6, 0, 0] for x in growths(p, 8.0, replicates=3)])
    runs = np.random.SeedSequence(1).spawn(250)
    c = np.array([run_implicit(p, 4800, 600, s, test_samples=0).overlap[6, 0, 0] for s in runs])
    measured = 600 * np.mean(c**2)
    assert abs(measured / predicted.mean() - 1) < 4 * np.hypot(np.sqrt(2 / 250), 0.03) + 0.1


def test_several_neurons_and_directions():
    """m = k_H = 2: the covariance matrix of vec c(3) against the exact law at d = 400."""
    student = Student("gelu", [1.0, -0.7], [[1.0, 0.3], [0.3, 0.8]])
    p = cases.problem("tanh(g1**2) + 0.6*tanh(g2**2)", latent_dim=2, student=student, step_size=0.6, steps=3)
    found = [
        hard_growth(p, 6.0, s, easy_basis=np.zeros((2, 0)), hard_basis=np.eye(2), samples=20_000)
        for s in np.random.SeedSequence(0).spawn(3)
    ]
    predicted = np.mean([x.covariance()[3] for x in found], axis=0)
    c = np.array(
        [run_implicit(p, 2400, 400, s, test_samples=0).overlap[3].ravel() for s in np.random.SeedSequence(1).spawn(400)]
    )
    measured = 400 * c.T @ c / 400
    size = np.sqrt(np.outer(np.diag(predicted), np.diag(predicted)))
    assert np.max(np.abs(measured - predicted) / size) < 4.5 * np.sqrt(2 / 400) + 0.08


def test_few_sample_paths_grow_like_many():
    """log G(60, 0) at delta = 20: 3000 paths without the K/N of the tangent's own law give 3.75 +- .13."""
    found = growths(problem(60), 20.0, replicates=32, samples=3000)
    size = np.log([abs(x.growth()[60, 0, 0]) for x in found])
    reference, error = 2.980, 0.052  # ten replicates of 60 000 paths
    assert abs(size.mean() - reference) < 3 * np.hypot(size.std(ddof=1) / np.sqrt(len(size)), error)


def test_what_has_no_linear_theory_says_so():
    assert "singular" in escape_available(problem(activation="relu"))
    assert "fresh" in escape_available(problem(batches="one-pass", batch_fraction=0.5))
    assert escape_available(problem()) == ""
    with pytest.raises(InputError, match="nothing is hard"):
        hard_growth(problem(), 2.0, np.random.SeedSequence(0), easy_basis=np.eye(1), hard_basis=np.zeros((1, 0)))


def test_memory_is_bounded_and_refused_with_both_figures(monkeypatch):
    """Ten neurons, 60 steps: gradients of all steps at once would be 80 MB; in parts they are what is reckoned."""
    wide = problem(steps=60).replace(student={"readout": [0.1] * 10})
    one = {"easy_basis": EASY, "hard_basis": HARD, "samples": 20_000}
    monkeypatch.setattr(escape, "_tangent", lambda path, *rest: (rest[3][:, :0], rest[3]))
    monkeypatch.setattr(escape, "_unstable_at_end", lambda *_: [True])
    whole = hard_growth(wide, 4.0, np.random.SeedSequence(0), **one)
    monkeypatch.setattr(escape, "_PRODUCT_BYTES", 2**20)
    traced = escape._Path.injected
    peak = []

    def measured(*arguments):
        tracemalloc.start()
        found = traced(*arguments)
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        return found

    monkeypatch.setattr(escape._Path, "injected", measured)
    parts = hard_growth(wide, 4.0, np.random.SeedSequence(0), **one)
    covariance, again = (np.einsum("tjhr,sjhr->ts", g.noise, g.noise) for g in (whole, parts))
    np.testing.assert_allclose(again, covariance, atol=2 * escape._NOISE_LEFT * np.trace(covariance))
    assert peak[0] < 40 * 600**2 + 8 * 2**20
    monkeypatch.setattr("featurephase.foundation.memory.available_memory", lambda: 2**20)
    with pytest.raises(MemoryLimitError, match=r"60 steps of 10 neurons .* needs .* and 1 MiB are available"):
        hard_growth(wide, 4.0, np.random.SeedSequence(0), **one)
    assert growth_bytes(wide, 1, 300, 20_000) > 8 * 3000**2


def test_sectors_grow_as_if_they_were_alone():
    """Two directions of different strength: each part has the rows of its own direction."""
    both = problem(12).replace(teacher={"latent_dim": 2, "link": "1.5*tanh(g1**2) + 0.5*tanh(g2**2)"})
    found = hard_growth(
        both,
        30.0,
        np.random.SeedSequence(3),
        easy_basis=np.zeros((2, 0)),
        hard_basis=np.eye(2),
        samples=4000,
        sectors=[np.eye(2)[:, :1], np.eye(2)[:, 1:]],
    )
    first, second = found.parts
    np.testing.assert_array_equal(first.start[:, :, 0], found.start[:, :, 0])
    np.testing.assert_array_equal(second.noise[:, :, 0], found.noise[:, :, 1])
    size = [np.sqrt(np.sum(part.start[-1] ** 2)) for part in found.parts]
    assert size[0] > 1.5 * size[1]
    assert first.unstable
