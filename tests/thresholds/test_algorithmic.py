"""delta_alg: published values, conditional laws in closed form, quadrature, and brute force with bins."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import k0, k1
from scipy.stats import chi2
from scipy.stats import t as student_t

from featurephase.foundation.errors import InputError
from featurephase.problem import Teacher
from featurephase.subspaces import latent_subspaces
from featurephase.thresholds.algorithmic import (
    AlgorithmicThreshold,
    _extrapolated,
    _widest_consistent,
    algorithmic_threshold,
)


def solve(spec: str, dim: int, start: object = None, **options: object) -> AlgorithmicThreshold:
    teacher = Teacher(dim, spec)
    subspaces = latent_subspaces(teacher, start=start, samples=2**17, quiet=True)  # type: ignore[arg-type]
    return algorithmic_threshold(teacher, subspaces, quiet=True, **options)  # type: ignore[arg-type]


def check(result: AlgorithmicThreshold, value: float) -> None:
    """Within the two-sided 1e-4 quantile of Student's t, and the bound on the bias of the windows."""
    assert result.status == "ok"
    errors = student_t.isf(5e-5, result.replicates - 1) * result.delta_alg_se
    assert abs(result.delta_alg - value) <= errors + result.window_bias


def test_a_response_that_nears_its_bound_is_sorted_as_far_as_it_has_digits():
    """tanh(g^2) is as good as g^2; where tanh(3 g^2) is 1.0 exactly, for g^2 > 6.2, nothing tells draws apart."""
    check(solve("tanh(g1**2)", 1), 0.5)
    values = np.linspace(0.0, 60.0, 600_001)
    tied = np.tanh(3 * values) == 1.0
    density = chi2.pdf(values, 1)
    share = chi2.sf(values[tied][0], 1)
    mean, square = (np.trapezoid((values[tied] - 1) ** power * density[tied], values[tied]) / share for power in (1, 2))
    check(solve("tanh(3*g1**2)", 1), 1 / (2 - share * (square - mean**2)))


# -------------------------------------------------------------------- exact values, by means that share no code


def product_law(power: int) -> float:
    """E[ (E[g1^2 | y] - 1)^2 ] for y = g1 g2: the density of y is K0(|y|)/pi and E[g1^2 | y] = |y| K1(|y|)/K0(|y|)."""
    return 2 * quad(lambda y: (y * k1(y) / k0(y) - 1) ** power * k0(y) / math.pi, 0, 60, limit=400)[0]


def smooth_law(noise: float) -> float:
    """E[ (E[g^2 | z] - 1)^2 ] for z = g^2 + noise e, by Gauss-Hermite in g and a grid in z."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(300)
    weights = weights / weights.sum()
    z = np.linspace(-8 * noise, 60, 40_001)
    density, moment = np.zeros_like(z), np.zeros_like(z)
    for g, w in zip(nodes, weights, strict=True):
        if w > 1e-30:
            kernel = w * np.exp(-((z - g * g) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))
            density += kernel
            moment += g * g * kernel
    ratio = np.divide(moment, density, out=np.ones_like(z), where=density > 1e-300)
    return float(np.trapezoid((ratio - 1) ** 2 * density, z))


#: G = a(y) I + y (e1 e2' + e2 e1') for y = g1 g2, so the eigenvalue is E[a^2] + E[y^2]
PRODUCT = 1 / (product_law(2) + 1)

#: P(y = 1) = sigmoid(g1 g2): G is constant, E[ x tanh(x/2) ] off the diagonal, with x = g1 g2
LOGISTIC = 1 / (2 * quad(lambda x: x * math.tanh(x / 2) * k0(x) / math.pi, 0, 60)[0]) ** 2


def test_the_closed_form_of_the_product_is_the_published_value() -> None:
    assert_allclose(PRODUCT, 0.593751, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "dim", "value"),
    [
        ("g1**2", 1, 1 / 2),
        ("abs(g1)", 1, 1 / 2),
        ("1.5*tanh(g1**2)", 1, 1 / 2),
        ("g1**2 + g2**2", 2, 1),
        ("g1**2 + g2**2 + g3**2", 3, 3 / 2),
        ("g1**2 + g2**2 + g3**2 + g4**2 + g5**2", 5, 5 / 2),
        ("g1*g2", 2, PRODUCT),
        ("g1 + g2*g3", 3, PRODUCT),
        ("sign(g1*g2)", 2, math.pi**2 / 4),
        ("g1 + tanh(g2**2)", 2, 1 / 2),
        ("tanh(g1) + 1.5*tanh(g2**2)", 2, 1 / 2),
        ("(g1 + g2)**2", 2, 1 / 2),
        ("g1*e1", 1, 1 / product_law(2)),
        ("where(u1 < 1/(1 + exp(-g1*g2)), 1, -1)", 2, LOGISTIC),
        ("where(u1 < 0.25, g1**2, 40 + e1)", 1, 2),
        ("where(u1 < 0.5, g1 + 2*g2, 100 + (2*g1 - g2)**2)", 2, 1),
    ],
)
def test_values(spec: str, dim: int, value: float) -> None:
    result = solve(spec, dim, samples=2**19)
    check(result, value)
    assert result.delta_alg_se + result.window_bias < 0.02 * value


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_noisy_even_links_against_quadrature(noise: float) -> None:
    value = 1 / smooth_law(noise)
    check(solve(f"g1**2 + {noise}*e1", 1, samples=2**19), value)
    check(solve(f"g1 + g2**2 + {noise}*e1", 2, samples=2**19), value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "dim", "value"),
    [("g1**2", 1, 0.5), ("g1*g2", 2, PRODUCT), ("sign(g1*g2)", 2, math.pi**2 / 4), ("g1**2 + g2**2 + g3**2", 3, 1.5)],
)
def test_three_digits_from_ten_million_draws(spec: str, dim: int, value: float) -> None:
    result = solve(spec, dim, samples=10_000_000)
    check(result, value)
    assert result.delta_alg_se + result.window_bias < 5e-4 * value


# -------------------------------------------------------------------- brute force, which shares nothing


def brute_force(response: np.ndarray, hard: np.ndarray, bins: int = 400, blocks: int = 20) -> tuple[float, float]:
    """delta_alg with nothing easy: quantile bins of y, G from two independent halves, the map as a matrix."""
    k, eigenvalues = hard.shape[0], []
    for block in range(blocks):
        y, g = response[block::blocks], hard[:, block::blocks]
        edges = np.quantile(y, np.linspace(0, 1, bins + 1)[1:-1])
        halves = []
        for half in (slice(0, None, 2), slice(1, None, 2)):
            label = np.searchsorted(edges, y[half], side="right")
            count = np.maximum(np.bincount(label, minlength=bins), 1)
            matrix = np.empty((bins, k, k))
            for i in range(k):
                for j in range(k):
                    matrix[:, i, j] = np.bincount(label, g[i, half] * g[j, half], minlength=bins) / count
            halves.append((matrix - np.eye(k), count / count.sum()))
        (first, share), (second, _) = halves
        table = np.zeros((k * k, k * k))
        for weight, a, b in zip(share, first, second, strict=True):
            table += weight * (np.kron(a, b) + np.kron(b, a)) / 2
        eigenvalues.append(np.linalg.eigvals(table).real.max())
    values = np.array(eigenvalues)
    return 1 / values.mean(), values.std(ddof=1) / math.sqrt(blocks) / values.mean() ** 2


@pytest.mark.parametrize(
    ("spec", "formula", "dim"),
    [
        ("g1*g2 + e1", lambda g, e: g[0] * g[1] + e, 2),
        ("g1**2 - g2**2 + 0.3*e1", lambda g, e: g[0] ** 2 - g[1] ** 2 + 0.3 * e, 2),
        ("g1*g2 + g3**2 + e1", lambda g, e: g[0] * g[1] + g[2] ** 2 + e, 3),
    ],
)
def test_against_brute_force(spec: str, formula: object, dim: int) -> None:
    rng = np.random.default_rng(11)
    g, e = rng.standard_normal((dim, 2_000_000)), rng.standard_normal(2_000_000)
    value, se = brute_force(formula(g, e), g)  # type: ignore[operator]
    coarser, _ = brute_force(formula(g, e), g, bins=200)  # type: ignore[operator]
    result = solve(spec, dim, samples=2**19)
    # doubling the bins at least halves what they lose (the share of the outermost ones), so the rest is less than this
    assert abs(coarser - value) < 0.02 * value
    assert abs(result.delta_alg - value) < 5 * math.hypot(se, result.delta_alg_se) + abs(coarser - value)


# -------------------------------------------------------------------- nothing hard, infinity, undecided


@pytest.mark.parametrize(("spec", "dim"), [("g1", 1), ("tanh(g1 + g2**3 - 3*g2)", 2), ("g1", 3)])
def test_nothing_hard_is_zero(spec: str, dim: int) -> None:
    result = solve(spec, dim)
    assert (result.delta_alg, result.delta_alg_se, result.exact, result.status) == (0.0, 0.0, True, "ok")


@pytest.mark.parametrize(
    ("spec", "dim"),
    [
        ("sign(g1*g2*g3)", 3),
        ("sign(g1*g2*g3) + 0.5*e1", 3),
        ("g4 + sign(g1*g2*g3)", 4),
        ("sign(g1*(g2**2 - g3**2))", 3),
    ],
)
def test_parities_are_infinite_by_proof(spec: str, dim: int) -> None:
    result = solve(spec, dim)
    assert result.delta_alg == math.inf
    assert result.exact
    assert result.to_dict()["delta_alg"] == "inf"


def test_a_warm_start_makes_a_parity_finite() -> None:
    check(solve("sign(g1*g2*g3)", 3, start=[[0.5], [0], [0]], samples=2**19), math.pi**2 / 4)


def test_an_unproved_infinity_is_a_lower_bound() -> None:
    # three-parity in rotated coordinates: no symmetry that is looked for shows it
    result = solve("sign((g1 + 2*g2)*(2*g1 - g2)*g3)", 3, samples=2**18, max_samples=2**20)
    assert result.status == "unresolved"
    assert not result.ok
    assert math.isnan(result.delta_alg)
    assert math.isnan(result.delta_alg_se)
    assert result.lower_bound > 100
    assert "above" in result.message
    assert result.to_dict()["delta_alg"] == "nan"


def test_an_unknown_subspace_gives_no_threshold() -> None:
    teacher = Teacher(1, "g1**2 + 0.02*g1")
    subspaces = latent_subspaces(teacher, samples=2**15, max_samples=2**15)
    result = algorithmic_threshold(teacher, subspaces)
    assert result.status == "ambiguous-rank"
    assert math.isnan(result.delta_alg)
    given = Teacher(1, "g1**2 + 0.02*g1", easy_basis=np.empty((1, 0)))
    check(algorithmic_threshold(given, latent_subspaces(given), samples=2**18), 0.5)


@pytest.mark.slow
def test_a_weak_signal_is_found_with_more_draws() -> None:
    # G = (g^2 - 1) on a branch of 2 %: eigenvalue .04
    result = solve("where(u1 < 0.02, g1**2, 40 + e1)", 1, samples=2**15)
    check(result, 25)
    assert result.samples > 2**15


def test_too_many_hard_directions_are_said() -> None:
    result = solve(" + ".join(f"abs(g{j})**{j}" for j in range(1, 10)), 9, samples=2**15)
    assert result.status == "unresolved"
    assert "up to 8" in result.message


@pytest.mark.parametrize(
    ("options", "words"), [({"replicates": 1}, "replicates = 1"), ({"samples": 10}, "samples = 10")]
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        solve("g1**2", 1, **options)


# -------------------------------------------------------------------- errors, choice of windows, the result


def test_the_standard_error_is_honest() -> None:
    teacher = Teacher(2, "sign(g1*g2)")
    subspaces = latent_subspaces(teacher, samples=2**17)
    trials = 60
    runs = [algorithmic_threshold(teacher, subspaces, samples=2**15, seed=seed) for seed in range(trials)]
    z = np.array([(run.delta_alg - math.pi**2 / 4) / run.delta_alg_se for run in runs])
    # Student's t with 15 degrees of freedom has variance 15/13
    low, high = chi2.ppf([1e-4, 1 - 1e-4], trials) / trials * 15 / 13
    assert low < np.mean(z**2) < 1.15 * high  # the kurtosis of t widens the upper end


def test_the_top_eigenvector_is_a_positive_matrix_on_the_hard_space() -> None:
    result = solve("g1 + g2**2 + g3*g4", 4, samples=2**18)
    assert_allclose(np.trace(result.direction), 1)
    assert_allclose(result.direction[0], 0, atol=0)
    assert np.linalg.eigvalsh(result.direction)[0] > -1e-9


@pytest.mark.parametrize("order", [1, 1.5, 2])
def test_the_extrapolation_halves_the_bias_at_least(order: float) -> None:
    bias = -(0.5 ** (order * np.arange(4)))[None, :, None, None]
    left = _extrapolated(1 + bias)[0, :, 0, 0] - 1
    assert np.all(np.abs(left) <= np.abs(bias[0, 1:, 0, 0]) / 2 + 1e-12)


def test_widest_consistent_windows() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((16, 3)) * [1e-3, 1e-2, 3e-2]
    assert _widest_consistent(1 + noise) == 0
    assert _widest_consistent(np.array([0.5, 1, 1]) + noise) == 1
    assert _widest_consistent(np.array([0.0, 0.5, 1]) + noise) == 2


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again, other = (solve("g1*g2", 2, samples=2**15, seed=seed).delta_alg for seed in (1, 1, 2))
    assert first == again != other


def test_forms() -> None:
    result = solve("g1**2", 1, samples=2**16)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert {"delta_alg", "delta_alg_se", "replicates", "status", "seed"} <= document.keys()
    assert result.to_xarray()["delta_alg"].item() == result.delta_alg
    assert result.table().startswith("delta_alg  0.5")
    assert "inf" in solve("sign(g1*g2*g3)", 3).table()
