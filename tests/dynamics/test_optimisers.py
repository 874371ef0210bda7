"""The rules: written out by hand on dense weights, independent of the basis, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.prediction import predict
from featurephase.analyses.simulation import simulate
from featurephase.analyses.threshold import network_threshold, threshold
from featurephase.dynamics.optimisers import BatchSequence, FirstOrderRule, OptimiserState, Schedule
from featurephase.foundation.errors import InputError
from featurephase.problem import GradientDescent, Problem
from featurephase.subspaces import problem_subspaces

from .. import cases


def walk(rule: FirstOrderRule, start: np.ndarray, steps: int, gradient) -> np.ndarray:
    state = rule.start(start)
    for _ in range(steps):
        state = rule.update(state, gradient(rule.query(state)))
    return state.weights


RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((7, 7))
QUADRATIC = MATRIX @ MATRIX.T / 7 + np.eye(7)
START = RNG.standard_normal((7, 2))


def bowl(weights):
    return QUADRATIC @ weights


def test_heavy_ball_by_hand():
    rule = FirstOrderRule(0.1, 0.3, momentum=0.6)
    c, previous = START, START
    for _ in range(5):
        c, previous = c - 0.1 * (bowl(c) + 0.3 * c) + 0.6 * (c - previous), c
    np.testing.assert_allclose(walk(rule, START, 5, bowl), c, rtol=1e-12)


def test_nesterov_by_hand():
    rule = FirstOrderRule(0.1, 0.3, momentum=0.6, nesterov=True)
    c, previous = START, START
    for _ in range(5):
        y = c + 0.6 * (c - previous)
        c, previous = y - 0.1 * (bowl(y) + 0.3 * y), c
    np.testing.assert_allclose(walk(rule, START, 5, bowl), c, rtol=1e-12)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.6, False), (0.6, True)])
def test_growth_along_a_negative_eigenvector(momentum, nesterov):
    """On a saddle of curvature -.2, penalty .05 included, the last of a hundred steps grows by the factor."""
    rule = FirstOrderRule(0.5, 0.05, momentum, nesterov, Schedule("cosine", 200, final=1.0))
    before, after = (walk(rule, np.ones((1, 1)), t, lambda w: -0.25 * w)[0, 0] for t in (99, 100))
    assert rule.growth_factor(-0.2, 99) == pytest.approx(after / before, rel=1e-8)
    assert np.isnan(FirstOrderRule(0.5, scaling="normalise").growth_factor(-0.2, 0))


@pytest.mark.parametrize("scaling", ["none", "clip", "normalise", "orthogonalise"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_every_rule_commutes_with_rotations(scaling, nesterov):
    rule = FirstOrderRule(0.1, 0.2, 0.5, nesterov, Schedule("cosine", 8, warmup=2), scaling, 0.5)
    rotation = np.linalg.qr(RNG.standard_normal((7, 7)))[0]
    turned = walk(rule, rotation @ START, 6, lambda w: rotation @ bowl(rotation.T @ w))
    np.testing.assert_allclose(turned, rotation @ walk(rule, START, 6, bowl), atol=1e-12)


def test_shaping_of_gradients():
    g = RNG.standard_normal((9, 3))
    apply = lambda rule: g @ rule.shaping(g.T @ g)  # noqa: E731
    np.testing.assert_allclose(np.linalg.norm(apply(FirstOrderRule(1, scaling="normalise"))), 1.0)
    np.testing.assert_allclose(np.linalg.norm(apply(FirstOrderRule(1, scaling="clip", clip_norm=0.5))), 0.5)
    np.testing.assert_allclose(apply(FirstOrderRule(1, scaling="clip", clip_norm=1e3)), g)
    q = apply(FirstOrderRule(1, scaling="orthogonalise"))
    np.testing.assert_allclose(q.T @ q, np.eye(3), atol=1e-12)
    zero = np.zeros((3, 3))
    for scaling in ("clip", "normalise", "orthogonalise"):
        assert np.all(np.isfinite(FirstOrderRule(1, scaling=scaling, clip_norm=1.0).shaping(zero)))


def test_schedules():
    cosine = Schedule("cosine", 10, final=0.2)
    assert [cosine(t) for t in (0, 5, 10, 99)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert Schedule("power", exponent=0.5, time=3.0)(9) == pytest.approx(0.5)
    assert [Schedule(warmup=3)(t) for t in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


@pytest.mark.parametrize("reshuffled", [False, True])
def test_every_sample_is_used_once_a_pass(reshuffled):
    batches = BatchSequence(103, 4, reshuffled, np.random.default_rng(0))
    passes = [[batches.weights(4 * p + t) for t in range(4)] for p in range(2)]
    for four in passes:
        np.testing.assert_array_equal(sum(w > 0 for w in four), np.ones(103))
        for w in four:
            assert w.sum() == pytest.approx(103)
    assert np.array_equal(passes[0][0], passes[1][0]) != reshuffled


def test_compressed_states_are_rotated_states():
    state = OptimiserState(RNG.standard_normal((12, 2)), RNG.standard_normal((10, 2)), 3)
    small = state.compressed(3)
    assert len(small.weights) == 3 + 4
    both = lambda s: np.concatenate([s.weights, np.pad(s.previous, ((0, len(s.weights) - len(s.previous)), (0, 0)))], 1)  # noqa: E731
    np.testing.assert_allclose(both(small).T @ both(small), both(state).T @ both(state), atol=1e-12)
    np.testing.assert_array_equal(small.weights[:3], state.weights[:3])


@pytest.mark.parametrize("name", ["adam", "AdamW", "signsgd", "lion"])
def test_coordinatewise_rules_are_refused_with_the_reason(name):
    with pytest.raises(InputError, match="rotation-invariant"):
        GradientDescent(0.1, 3, optimiser=name)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("batch_fraction", 0.3, "1 over a whole number"),
        ("batch_fraction", 0.0, "1 over a whole number"),
        ("batches", "shuffled", "fixed, reshuffled or one-pass"),
        ("momentum", 0.5, "only there"),
        ("momentum", 1.0, "1 excluded"),
        ("optimiser", "heavy-ball", "above 0"),
        ("optimiser", "sgd", "gradient-descent, heavy-ball or nesterov"),
        ("schedule", "linear", "constant, cosine or power"),
        ("gradient_scaling", "clip", "clip_norm"),
        ("clip_norm", 1.0, "only there"),
        ("warmup", -1, "whole number"),
    ],
)
def test_impossible_keys_are_refused(key, value, why):
    with pytest.raises(InputError, match=why):
        GradientDescent(0.1, 3, **{key: value})


def test_a_batch_of_a_fixed_number_of_samples_is_refused_with_the_reason():
    text = cases.problem(steps=2).to_toml()
    with pytest.raises(InputError, match="vanishing share of n"):
        Problem.from_toml(text.replace("steps = 2", "steps = 2\nbatch_size = 32"))


def test_optimiser_keys_survive_the_file():
    training = GradientDescent(
        0.1,
        9,
        0.1,
        "nesterov",
        0.9,
        0.25,
        "reshuffled",
        "cosine",
        0.1,
        warmup=2,
        gradient_scaling="clip",
        clip_norm=2.0,
    )
    p = cases.problem().replace(training=training)
    assert Problem.from_toml(p.to_toml()) == p


@pytest.mark.parametrize(
    "keys",
    [
        {"optimiser": "heavy-ball", "momentum": 0.5},
        {"optimiser": "nesterov", "momentum": 0.5},
        {"batch_fraction": 0.5, "batches": "reshuffled"},
        {"batch_fraction": 0.5, "batches": "one-pass"},
        {"gradient_scaling": "normalise", "step_size": 0.3},
        {"schedule": "cosine"},
    ],
    ids=str,
)
def test_the_limit_is_where_large_simulations_go(keys):
    """Theory against 24 runs of the exact law at d = 1000, five standard errors and an O(1/d) allowance of 3/d."""
    from featurephase.dynamics.asymptotic import run_replicate
    from featurephase.dynamics.implicit import run_implicit

    p = cases.problem("tanh(g1) + tanh(g2**2)", latent_dim=2, **({"step_size": 0.7} | keys))
    theory = [
        run_replicate(p, 3.0, s, samples=20_000, easy_basis=np.eye(2)[:, :1])
        for s in np.random.SeedSequence(0).spawn(4)
    ]
    runs = [run_implicit(p, 3000, 1000, s, test_samples=2000) for s in np.random.SeedSequence(1).spawn(24)]
    for read in (lambda r: r.train_loss[-1], lambda r: r.gram[-1, 0, 0], lambda r: abs(r.overlap[-1, 0, 0])):
        a, b = np.array([read(r) for r in theory]), np.array([read(r) for r in runs])
        se = np.hypot(a.std(ddof=1) / 2, b.std(ddof=1) / np.sqrt(24))
        assert abs(a.mean() - b.mean()) < 5 * se + 3 / 1000


def in_batches(count: int, samples: int, steps: int) -> Problem:
    small = cases.problem(easy_basis=cases.NOTHING_EASY, step_size=0.01, steps=steps, batch_fraction=1 / count)
    return small.replace(asymptotics={"samples": samples, "replicates": 2})


def test_batches_without_samples_are_refused():
    """More batches than samples or sample paths: some steps would have no gradient at all."""
    p = in_batches(120, 100, 2)
    with pytest.raises(InputError, match="59 samples cannot be split into 60 batches"):
        BatchSequence(59, 60, False, np.random.default_rng(0))
    BatchSequence(60, 60, False, np.random.default_rng(0))
    for method in ("dense", "implicit"):
        with pytest.raises(InputError, match=r"training.batch_fraction = 0.008333: 40 samples .* at least 1/40"):
            simulate(p, dimension=10, delta=4.0, seeds=2, method=method)
    for command in (predict, threshold):
        with pytest.raises(InputError, match=r"100 sample paths .* at least 120 sample paths"):
            command(p, **({"delta": 4.0} if command is predict else {}))


def test_runs_with_fewer_sample_paths_still_have_some_for_every_batch():
    """The scan of a threshold takes fewer sample paths than asked for, but no fewer than there are batches."""
    p = in_batches(5000, 6000, 1)
    found = network_threshold(p, 1, problem_subspaces(p), delta_range=(1, 40), value_only=True)
    assert found.status == "ok"
