"""Implicit and dense training have one law, under every optimiser; the brute-force reference judges dense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from featurephase.dynamics.conditioning import gaussian_triangle
from featurephase.dynamics.dense import DenseDesign, run_dense
from featurephase.dynamics.implicit import run_implicit
from featurephase.dynamics.start import start_weights
from featurephase.escape.detection import level_time
from featurephase.foundation.errors import InputError
from featurephase.problem import Problem, Student

from .. import cases

OPTIMISERS = {
    "gradient descent": {},
    "weight decay": {"weight_decay": 0.2},
    "heavy ball": {"optimiser": "heavy-ball", "momentum": 0.5},
    "nesterov": {"optimiser": "nesterov", "momentum": 0.5, "weight_decay": 0.1},
    "fixed batches": {"batch_fraction": 0.5},
    "reshuffled batches": {"batch_fraction": 0.25, "batches": "reshuffled"},
    "one pass": {"batch_fraction": 0.5, "batches": "one-pass", "optimiser": "heavy-ball", "momentum": 0.4},
    "clipped": {"gradient_scaling": "clip", "clip_norm": 0.1},
    "normalised": {"gradient_scaling": "normalise", "step_size": 0.2},
    "orthogonalised": {"gradient_scaling": "orthogonalise", "step_size": 0.2},
    "cosine with warm-up": {"schedule": "cosine", "warmup": 2},
    "power": {"schedule": "power", "schedule_time": 2.0},
}
STUDENTS = {
    1: Student("gelu", [1.0]),
    3: Student("gelu", [1.0, -0.7, 0.5], [[1, 0.3, 0], [0.3, 0.8, 0.1], [0, 0.1, 0.9]]),
}


def problem(width: int = 1, **training) -> Problem:
    return cases.problem(cases.EASY_AND_HARD, latent_dim=2, student=STUDENTS[width], **({"steps": 6} | training))


def numbers(found) -> list[float]:
    """Losses, Gram, sizes of the overlaps at three times, and the first lasting hard overlap of one tenth."""
    out = []
    for t in (1, 3, 6):
        upper = np.triu_indices(found.gram.shape[1])
        out += [found.train_loss[t], found.test_loss[t], *found.gram[t][upper], *np.abs(found.overlap[t]).ravel()]
    share = np.linalg.norm(found.overlap[:, 1], axis=1) / np.sqrt(np.einsum("trr->t", found.gram))
    return [*out, level_time(np.nan_to_num(share), 0.1)]


def smallest_p(p: Problem, n: int, d: int, runs: int) -> tuple[float, int]:
    """Smallest p of a Kolmogorov-Smirnov test for each number, and how many there are."""
    seeds = np.random.SeedSequence(n + d).spawn(2 * runs)
    a = np.array([numbers(run_implicit(p, n, d, s, test_samples=500)) for s in seeds[:runs]])
    b = np.array([numbers(run_dense(p, n, d, s, test_samples=500)) for s in seeds[runs:]])
    a, b = np.nan_to_num(a, nan=99.0), np.nan_to_num(b, nan=99.0)
    values = [stats.ks_2samp(x, y).pvalue for x, y in zip(a.T, b.T, strict=True)]
    values += [stats.levene(x, y).pvalue for x, y in zip(a.T, b.T, strict=True) if np.ptp(x) > 0]
    return min(values), len(values)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_one_law_at_small_size(name):
    """(n, d) = (40, 20), both widths: the size at which mistakes of order 1/sqrt(n) are largest."""
    for width in (1, 3):
        p, count = smallest_p(problem(width, **OPTIMISERS[name]), 40, 20, 50)
        assert p * count * 2 * len(OPTIMISERS) > 0.01, (name, width, p)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 20), (400, 100), (6000, 300)])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_one_law_at_three_sizes(name, size):
    runs = 200 if size[0] < 1000 else 24
    for width in (1, 3):
        p, count = smallest_p(problem(width, **OPTIMISERS[name]), *size, runs)
        assert p * count * 6 * len(OPTIMISERS) > 0.01, (name, width, size, p)


@pytest.mark.parametrize("rows", [2, 5, 30])
def test_the_triangle_has_the_law_of_a_gaussian_matrix(rows):
    """R'R is a Wishart matrix: mean rows I, variances rows off the diagonal and 2 rows on it. Chi's alone have less."""
    rng, draws = np.random.default_rng(rows), 20_000
    triangles = [gaussian_triangle(rows, 3, rng) for _ in range(draws)]
    square = np.array([r.T @ r for r in triangles])
    expected = rows * (1 + np.eye(3))
    assert np.all(np.abs(square.mean(axis=0) - rows * np.eye(3)) < 5 * np.sqrt(expected / draws))
    error = np.sqrt(np.var((square - rows * np.eye(3)) ** 2, axis=0) / draws)
    assert np.all(np.abs(square.var(axis=0) - expected) < 5 * error)


@pytest.mark.parametrize(("n", "d"), [(6, 40), (40, 5), (5, 5), (12, 12)])
def test_visited_directions_reach_the_dimension_or_the_samples(n, d):
    """More steps than dimensions, fewer samples than dimensions: the law stays that of dense training."""
    p = problem(1, steps=6, step_size=0.3)
    assert smallest_p(p, n, d, 150)[0] * 60 > 0.01
    found = run_implicit(p, n, d, np.random.SeedSequence(0), steps=60, test_samples=0)
    assert np.all(np.isfinite(found.train_loss))
    assert found.basis <= n


def test_dense_is_the_brute_force_reference():
    """The same matrix and start: the plain two-line step gives the same numbers to rounding."""
    p = problem(3, steps=5, weight_decay=0.1)
    rng = np.random.default_rng(0)
    x, theta = rng.standard_normal((50, 12)), rng.standard_normal((12, 3)) / 4
    y = np.tanh(x[:, 0]) + 1.5 * np.tanh(x[:, 1] ** 2)
    from featurephase.dynamics.network import Network
    from featurephase.dynamics.training import FixedData, train

    network = Network(p.student.activation, p.student.readout, p.loss)
    found = train(
        FixedData(DenseDesign(x), y), theta, network, p.training, 5, overlap_of=lambda w: w[:2], batch_rng=rng
    )
    for t in range(6):
        np.testing.assert_allclose(found.gram[t], theta.T @ theta, rtol=1e-12)
        h = x @ theta
        c = 0.5 * (1 + np.vectorize(__import__("math").erf)(h / np.sqrt(2)))
        slope = c + h * np.exp(-h * h / 2) / np.sqrt(2 * np.pi)
        residual = (h * c) @ p.student.readout - y
        np.testing.assert_allclose(found.train_loss[t], np.mean(residual**2) / 2, rtol=1e-12)
        gradient = x.T @ (residual[:, None] * slope * p.student.readout) / len(y)
        theta = (1 - 0.8 * 0.1) * theta - 0.8 * gradient


def test_single_precision_follows_double():
    p = problem(3)
    a, b = (run_dense(p, 300, 60, np.random.SeedSequence(1), precision=q).gram[-1] for q in ("float64", "float32"))
    assert not np.array_equal(a, b)  # other random numbers: the law is the same, the draw is not
    x = np.random.default_rng(0).standard_normal((200, 30))
    theta = np.random.default_rng(1).standard_normal((30, 3))
    double, single = DenseDesign(x), DenseDesign(x.astype(np.float32))
    np.testing.assert_allclose(single.preactivations(theta), double.preactivations(theta), atol=30 * 6e-8 * 40)


@pytest.mark.parametrize("kind", ["orthonormal", "prescribed"])
def test_start_has_the_gram_asked_for(kind):
    rng = np.random.default_rng(0)
    gram, overlap = np.array([[1.0, 0.3], [0.3, 0.8]]), np.array([[0.3, -0.2], [0.0, 0.0]])
    for rows in (rng.standard_normal((30, 2)), np.triu(rng.standard_normal((2, 2))) * 5):
        weights = start_weights(kind, gram, overlap, rng.standard_normal((2, 2)), rows, 32)
        np.testing.assert_allclose(weights.T @ weights, gram, atol=1e-12)
        np.testing.assert_allclose(weights[0], overlap[0], atol=1e-12)
        assert np.allclose(weights[1], 0, atol=1e-12) == (kind == "prescribed")


def test_random_starts_have_the_right_moments():
    """E|theta|^2, and d times the variance of the overlap, over 4000 draws at d = 50."""
    rng, gram = np.random.default_rng(0), np.array([[1.0, 0.3], [0.3, 0.8]])
    for kind in ("gaussian", "sphere", "orthonormal"):
        draws = np.array(
            [
                start_weights(kind, gram, np.zeros((1, 2)), *(rng.standard_normal((r, 2)) for r in (1, 49)), 50)
                for _ in range(4000)
            ]
        )
        square = np.einsum("idr,ids->irs", draws, draws)
        if kind == "sphere":
            np.testing.assert_allclose(np.einsum("irr->ir", square), np.tile([1.0, 0.8], (4000, 1)), rtol=1e-12)
        else:
            se = square.std(axis=0) / np.sqrt(4000) + 1e-12
            assert np.all(np.abs(square.mean(axis=0) - gram) < 4 * se)
        variance = 50 * np.mean(draws[:, 0, 0] ** 2)
        assert abs(variance - 1.0) < 4 * np.sqrt(2 / 4000) + 0.03  # chi^2 with one degree of freedom, O(1/d) bias


def test_too_small_a_dimension_is_refused():
    with pytest.raises(InputError, match="at least latent_dim \\+ width = 5"):
        run_implicit(problem(3), 10, 4, np.random.SeedSequence(0))


@pytest.mark.slow
def test_hard_overlaps_shrink_like_the_root_of_the_dimension():
    """Exponent of the root mean square over d = 250 .. 16000 at t = 5."""
    p = cases.problem()
    x, y, weight = [], [], []
    for d, runs in ((250, 300), (2000, 200), (16000, 60)):
        seeds = np.random.SeedSequence(d).spawn(runs)
        c = np.array([run_implicit(p, 4 * d, d, s, test_samples=0).overlap[5, 0, 0] for s in seeds])
        square, se = np.mean(c**2), np.std(c**2, ddof=1) / np.sqrt(runs)
        x.append(np.log(d)), y.append(np.log(square) / 2), weight.append((2 * square / se) ** 2)
    x, y, weight = map(np.array, (x, y, weight))
    centre = np.sum(weight * x) / weight.sum()
    spread = np.sum(weight * (x - centre) ** 2)
    exponent = np.sum(weight * (x - centre) * y) / spread
    assert abs(exponent + 0.5) < 3 * spread**-0.5
