"""Easy and hard subspaces: the examples of the theory, closed-form eigenvalues, no silent decisions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binom

from featurephase.foundation.errors import InputError
from featurephase.functions import link
from featurephase.problem import Teacher
from featurephase.subspaces import LatentSubspaces, decide_rank, latent_subspaces
from featurephase.subspaces.conditional import (
    ATOM,
    EQUAL,
    _window_edges,
    _window_starts,
    pair_moment,
    sorted_draws,
    spawn,
    window_means,
)
from featurephase.subspaces.symmetry import (
    canonical_basis,
    complement,
    direction_name,
    relevant_space,
    scale_free,
    symmetries,
)

#: the eigenvalue on which E[g | y] = g1 with probability 1/2 leaves g2 to be found only given g1
STAIRCASE = "where(u1 < 0.5, g1, 100 + sign(g1*g2))"

#: a set of g, not symmetric, with E[g 1_set] = 0: density(t) + density(1.5) = density(0.3)
UPPER = math.sqrt(-2 * math.log(math.exp(-0.045) - math.exp(-1.125)))


def balanced(expression: str) -> str:
    """A response in {0, 1} that no symmetry makes uncorrelated with the expression, but the set itself does."""
    return f"where(({expression}) > {UPPER!r}, 1, where((({expression}) < -0.3)*(({expression}) > -1.5), 1, 0))"


def axes(*numbers: int, dim: int) -> np.ndarray:
    return np.eye(dim)[:, [number - 1 for number in numbers]]


def solve(spec: str, dim: int, **options: object) -> LatentSubspaces:
    return latent_subspaces(Teacher(dim, spec), quiet=True, **options)  # type: ignore[arg-type]


def eigenvalue_brute_force(response: np.ndarray, coordinate: np.ndarray) -> tuple[float, float]:
    """E[ E[g | y]^2 ] by quantile bins of y, means of two independent halves multiplied; with a standard error."""
    parts = []
    for y, g in zip(np.split(response, 40), np.split(coordinate, 40), strict=True):
        half = y.size // 2
        edges = np.quantile(y[half:], np.linspace(0, 1, 101)[1:-1])
        means = []
        for some in (slice(half), slice(half, None)):
            bins = np.searchsorted(edges, y[some])
            count = np.bincount(bins, minlength=100)
            means.append((np.bincount(bins, g[some], minlength=100), count))
        (first, n), (second, m) = means
        parts.append(np.sum(first * second / np.maximum(m, 1)) / n.sum())
    return float(np.mean(parts)), float(np.std(parts, ddof=1) / math.sqrt(40))


# ------------------------------------------------------------------------------------- examples of the theory


@pytest.mark.parametrize(
    ("spec", "dim", "easy"),
    [
        ("g1", 1, [1]),
        ("g1**3", 1, [1]),
        ("g1**2", 1, []),
        ("abs(g1)", 1, []),
        ("tanh(g1**2)", 1, []),
        ("g1 + tanh(g2**2)", 2, [1]),
        ("tanh(g1 + g2**2)", 2, [1]),
        ("exp(g1)*g2**2", 2, [1]),
        ("g1*g2", 2, []),
        ("sign(g1*g2)", 2, []),
        ("tanh(g1 + g2**3 - 3*g2)", 2, [1, 2]),
        ("sign(g1*g2*g3)", 3, []),
        ("g1*g2*g3", 3, []),
        ("g1**2 + g2**2 + g3**2 + g4**2 + g5**2", 5, []),
        ("g1 + g2**2 + g3*g4 + abs(g5)", 5, [1]),
        ("tanh(g1*e1)", 1, []),
        ("g1 + e1*(g2 + 1)", 2, [1, 2]),
        ("where(u1 < 1/(1 + exp(-g1)), 1, -1)", 1, [1]),
        ("where(u1 < 1/(1 + exp(-g1*g2)), 1, -1)", 2, []),
    ],
)
def test_examples(spec: str, dim: int, easy: list[int]) -> None:
    result = solve(spec, dim)
    assert result.ok
    assert result.exact
    assert result.angle_se == 0
    hard = [j for j in range(1, dim + 1) if j not in easy]
    assert_allclose(result.easy_basis, axes(*easy, dim=dim), atol=0, rtol=0)
    assert_allclose(result.hard_basis, axes(*hard, dim=dim), atol=0, rtol=0)
    assert result.irrelevant == ()


@pytest.fixture(scope="module")
def staircase() -> LatentSubspaces:
    return solve(STAIRCASE, 2)


def test_a_genuine_staircase(staircase: LatentSubspaces) -> None:
    result = staircase
    assert [step.decisions for step in result.rounds] == [("nonzero", "zero"), ("nonzero",)]
    first = result.rounds[0]
    assert abs(first.directions[0, 0]) > math.cos(6 * first.angle_se)
    assert_allclose(first.eigenvalues[0], 0.5, atol=6 * first.eigenvalues_se[0])
    # given g1 the second eigenvalue is half of 2/pi; given g1 blurred by 0.3 it is a little less
    assert 0.6 / math.pi < result.rounds[1].eigenvalues[0] < 1 / math.pi
    assert_allclose(result.easy_basis, np.eye(2), atol=0)
    assert result.exact


def test_a_rotated_teacher_and_its_irrelevant_direction() -> None:
    result = solve("(g1 + g2)**2", 2)
    half = math.sqrt(0.5)
    assert_allclose(result.relevant_hard_basis, [[half], [half]], atol=1e-9)
    assert_allclose(result.irrelevant_basis, [[half], [-half]], atol=1e-9)
    assert result.irrelevant == ("0.707*g1 - 0.707*g2",)


def test_ignored_coordinates_are_named() -> None:
    result = solve("tanh(g2)", 3)
    assert result.irrelevant == ("g1", "g3")
    assert_allclose(result.easy_basis, axes(2, dim=3))
    assert result.relevant_hard_basis.shape == (3, 0)
    assert solve("e1", 2).irrelevant == ("g1", "g2")


@pytest.mark.parametrize(
    "spec",
    ["tanh(g1 + 2*g2) + (2*g1 - g2)**2", "where(u1 < 0.5, g1 + 2*g2, 100 + (2*g1 - g2)**2)"],
)
def test_a_mirror_that_only_samples_suggest_makes_the_basis_exact(spec: str) -> None:
    result = solve(spec, 2)
    assert result.exact
    assert_allclose(result.easy_basis, np.array([[1], [2]]) / math.sqrt(5), atol=1e-8)


def test_all_directions_of_a_generic_sum_are_easy() -> None:
    result = solve("tanh(g1) + tanh(2*g2) + tanh(3*g3)", 3)
    assert result.exact
    assert result.easy_basis.shape == (3, 3)


def test_a_weakly_odd_link_is_found_out() -> None:
    # E[g | y] = c (r^2 - 1) with y = (g + c)^2 - c^2, r^2 = y + c^2: eigenvalue 2 c^2 + O(c^4), here 1.25e-3
    result = solve("g1**2 + 0.05*g1", 1)
    assert_allclose(result.easy_basis, [[1.0]])
    step = result.rounds[-1]
    assert_allclose(step.eigenvalues[0], 2 * 0.025**2, atol=6 * step.eigenvalues_se[0] + 2e-4)


# ------------------------------------------------------------------------------------- warm starts


def test_a_warm_start_makes_the_rest_of_a_product_easy() -> None:
    result = solve("g1*g2", 2, start=[[0.3, 0.1], [0.0, 0.0]])
    assert_allclose(result.easy_basis, np.eye(2))
    assert result.rounds[0].conditioned_on == 1


def test_a_warm_start_leaves_a_parity_hard() -> None:
    result = solve("sign(g1*g2*g3)", 3, start=[[0.5], [0.0], [0.0]])
    assert_allclose(result.easy_basis, axes(1, dim=3))
    assert_allclose(result.hard_basis, axes(2, 3, dim=3))
    assert result.exact


def test_an_irrelevant_warm_direction_is_easy_but_teaches_nothing() -> None:
    result = solve("g1**2", 2, start=[[0.0], [0.4]])
    assert_allclose(result.easy_basis, axes(2, dim=2))
    assert_allclose(result.hard_basis, axes(1, dim=2))
    assert result.irrelevant == ()


# ------------------------------------------------------------------------------------- what samples cannot settle


def test_hard_without_a_symmetry_is_hard_to_the_resolution() -> None:
    result = solve(balanced("g1"), 1)
    assert result.ok
    assert not result.exact
    assert result.rounds[-1].decisions == ("zero",)
    assert result.rounds[-1].eigenvalues[0] + result.rounds[-1].bounds[0] <= 1e-3
    assert "no symmetry" in result.message


@pytest.mark.slow
def test_an_inexact_easy_direction_reveals_nothing() -> None:
    # given g1 + theta g2, y = g1 reveals g2 however small theta is: the blur keeps that out
    rotated = balanced("(2*g1 - g2)/sqrt(5)")
    result = solve(f"where(u1 < 0.5, g1 + 2*g2, 100 + {rotated})", 2)
    assert result.ok
    assert not result.exact
    assert result.easy_basis.shape == (2, 1)
    true = np.array([1, 2]) / math.sqrt(5)
    sine = abs(true[0] * result.easy_basis[1, 0] - true[1] * result.easy_basis[0, 0])
    assert sine < 6 * result.angle_se
    assert result.angle_se < 1e-3


def test_an_undecided_rank_is_said() -> None:
    result = solve("g1**2 + 0.02*g1", 1, samples=2**15, max_samples=2**15)
    assert result.status == "ambiguous-rank"
    assert not result.ok
    assert result.rounds[-1].decisions == ("ambiguous",)
    assert result.undecided_basis.shape == (1, 1)
    assert result.easy_basis.shape == result.hard_basis.shape == (1, 0)
    assert "g1" in result.message


def test_a_given_basis_is_taken() -> None:
    given = latent_subspaces(Teacher(1, "g1**2 + 0.02*g1", easy_basis=[[1.0]]))
    assert given.status == "given"
    assert given.ok
    assert given.rounds == ()
    assert given.exact  # all of R^1
    teacher = Teacher(2, "g1 + g2**2", easy_basis=[[1.0], [0.0]])
    assert latent_subspaces(teacher).exact
    wrong = latent_subspaces(Teacher(2, "g1 + exp(g2)", easy_basis=[[1.0], [0.0]]))
    assert not wrong.exact


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicates": 1}, "replicates = 1"),
        ({"samples": 100}, "samples = 100"),
        ({"max_samples": 2**16, "samples": 2**17}, "max_samples"),
        ({"resolution": 0.0}, "resolution"),
        ({"start": [[1.0], [0.0]]}, "1 rows"),
        ({"start": [[math.nan]]}, "finite"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        solve("g1", 1, **options)


def test_a_link_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        solve("log(g1)", 1)


# ------------------------------------------------------------------------------------- eigenvalues


@pytest.mark.parametrize(
    ("spec", "dim", "value"),
    [
        ("sign(g1)", 1, 2 / math.pi),
        ("g1 + e1", 1, 1 / 2),
        ("g1 + 2*e1", 1, 1 / 5),
        ("relu(g1)", 1, 1 / 2 + 2 / (2 * math.pi)),  # E[g^2; g > 0] and an atom: (1/2) E[g | g < 0]^2
    ],
)
def test_eigenvalues_in_closed_form(spec: str, dim: int, value: float) -> None:
    step = solve(spec, dim).rounds[0]
    # the window's bias is of order log(n)/n = 4e-4 with n = 2^15 draws a replicate, always downwards
    assert_allclose(step.eigenvalues[0], value - 2e-4, atol=6 * step.eigenvalues_se[0] + 3e-4)


def test_a_jump_in_y_costs_at_most_its_window() -> None:
    # at y = 0 the response passes from noise to g1 with E[g | y = 0+] = 0.. to -E|g| below: one window, of at most
    # sqrt(8 n) of the n = 2^15 draws, mixes 0 and E[g | g < 0]
    step = solve("where(g1 > 0, g1, -abs(e1))", 1).rounds[0]
    error, se = step.eigenvalues[0] - (1 / 2 + 1 / math.pi), step.eigenvalues_se[0]
    assert -6 * se - 2 / math.pi * math.sqrt(8 / 2**15) < error < 6 * se


def test_two_branches_far_apart_do_not_mix() -> None:
    step = solve("where(u1 < 0.25, g1, 30 + e1)", 1).rounds[0]
    assert_allclose(step.eigenvalues[0], 0.25, atol=6 * step.eigenvalues_se[0] + 1e-3)


def test_eigenvalue_against_brute_force() -> None:
    rng = np.random.default_rng(5)
    g, e = rng.standard_normal((2, 2_000_000))
    value, se = eigenvalue_brute_force(np.tanh(g + g**3) + e, g)
    step = solve("tanh(g1 + g1**3) + e1", 1).rounds[0]
    assert_allclose(step.eigenvalues[0], value, atol=6 * math.hypot(se, step.eigenvalues_se[0]))


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones() -> None:
    first, again, other = (solve("g1 + g2**2", 2, seed=seed).rounds[0].eigenvalues for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# ------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("length", [*range(1, 40), 1000, 12345])
def test_windows_partition_the_draws(length: int) -> None:
    starts = _window_starts(np.sort(np.random.default_rng(length).standard_normal(length)))
    sizes = np.diff(starts, append=length)
    assert starts[0] == 0
    assert sizes.sum() == length
    assert sizes.min() >= min(length, 4)
    assert sizes.max() <= 1.5 * math.sqrt(8 * length)


def test_windows_are_small_in_tails_and_at_gaps() -> None:
    rng = np.random.default_rng(0)
    y = np.sort(np.concatenate([rng.standard_normal(20_000), 30 + rng.standard_normal(20_000)]))
    starts = _window_starts(y)
    sizes = np.diff(starts, append=y.size)
    for edge in (0, 20_000, y.size):
        near = (starts < edge + 100) & (starts + sizes > edge - 100)
        assert sizes[near].max() <= 64
    assert sizes.max() > 100


def test_equal_responses_are_a_window_of_their_own() -> None:
    y = np.sort(np.concatenate([np.linspace(-1, 1, 100), np.full(ATOM, 0.123), np.full(ATOM, 3.0)]))[None]
    levels, wide = _window_edges(np.concatenate([y, y]))
    for edges in (*levels, wide):
        for value in (0.123, 3.0):
            for row in (0, 1):
                start = row * y.size + int(np.searchsorted(y[0], value))
                assert start in edges
                assert edges[np.searchsorted(edges, start) + 1 :][:1].tolist() in ([start + ATOM], [])


def test_rounding_makes_no_order() -> None:
    y = np.sort(1 + 1e-15 * np.random.default_rng(0).standard_normal((1, 500)), axis=1)
    levels, wide = _window_edges(y, EQUAL)
    assert [edges.tolist() for edges in (*levels, wide)] == [[0]] * 5


def test_pairs_in_a_window_by_hand() -> None:
    rng = np.random.default_rng(1)
    f, starts = rng.standard_normal((3, 9)), np.array([0, 4, 8])  # the last window has no pair
    expected = np.zeros((3, 3))
    for a, b in ((0, 4), (4, 8)):
        pairs = [np.outer(f[:, i], f[:, j]) for i in range(a, b) for j in range(a, b) if i != j]
        expected += np.mean(pairs, axis=0) * 4 / 8
    assert_allclose(pair_moment(f, starts), expected, atol=1e-14)
    means = window_means(f, starts)
    assert_allclose(means[:, 5], (f[:, 4] + f[:, 6] + f[:, 7]) / 3, atol=1e-14)


def test_noise_does_not_bias_the_moment() -> None:
    # independent of y: the mean over replicates is zero although a single window mean squared is not
    teacher = link("e1", 1)
    none = np.empty((1, 0))
    parts = [
        pair_moment(draws.b, draws.levels[0])[0, 0]
        for r in range(64)
        for draws in sorted_draws(teacher, none, np.eye(1), 4096, spawn(0, r))
    ]
    assert abs(np.mean(parts)) < 4 * np.std(parts, ddof=1) / 8


def test_conditioning_repeats_the_outer_draw_and_keeps_the_law() -> None:
    teacher = link("g1", 2)
    (draws,) = sorted_draws(teacher, axes(1, dim=2), axes(2, dim=2), 2**14, spawn(0, 9))
    # y = g1 is constant in each row, so each row is one group and its draws of g2 are untouched
    assert all(starts.tolist() == draws.wide.tolist() for starts in draws.levels)
    assert draws.b.shape == (1, 2**14)
    assert abs(draws.b.var() - 1) < 6 * math.sqrt(2 / 2**14)


# ------------------------------------------------------------------------------------- symmetries


def fixed_by(spec: str, dim: int) -> list[str]:
    return [symmetry.words for symmetry in symmetries(link(spec, dim), np.empty((dim, 0)), 0)]


def test_symmetries_are_found_and_named() -> None:
    assert fixed_by("g1 + g2**2", 2) == ["g2 -> -g2"]
    assert fixed_by("g1*e1", 1) == ["g1 -> -g1, e1 -> -e1"]
    assert fixed_by("where(u1 < 0.5, g1, -g1)", 1) == ["g1 -> -g1, u1 -> 1 - u1"]
    assert fixed_by("g1 - g2", 2) == ["g1 -> -g2, g2 -> -g1"]
    assert fixed_by("tanh(g1 + g2**3 - 3*g2)", 2) == []


@pytest.mark.parametrize(
    "spec", ["where(g1 > 4, g1, g1**2)", "where(g1 > 9, g1, g1**2)", "g1**2 + 1e-6*g1", "abs(g1 + 1e-7)"]
)
def test_a_symmetry_broken_rarely_or_slightly_is_none(spec: str) -> None:
    assert fixed_by(spec, 1) == []


def test_every_symmetry_leaves_the_response_alone() -> None:
    rng = np.random.default_rng(7)
    for spec, dim in (("g1**2*g2*g3 + g4", 4), ("g1*g2 + g3*g4 + abs(g5)", 5), ("g1*g2 + g9**2", 9)):
        phi, g = link(spec, dim), rng.standard_normal((dim, 1000))
        found = symmetries(phi, np.empty((dim, 0)), 0)
        assert found
        for symmetry in found:
            assert_allclose(symmetry.matrix @ symmetry.matrix.T, np.eye(dim), atol=1e-12)
            assert_allclose(phi.evaluate(symmetry.matrix @ g), phi.evaluate(g), rtol=1e-9, atol=1e-12)


def test_the_relevant_space_of_a_function_of_few_combinations() -> None:
    span = relevant_space(link("tanh(g1 + 2*g2 - g3) * (g2 + g3)", 4), 0)
    truth = np.linalg.qr(np.array([[1.0, 0], [2, 1], [-1, 1], [0, 0]]))[0]
    assert span.shape == (4, 2)
    assert_allclose(span @ span.T, truth @ truth.T, atol=1e-9)
    # a gradient that vanishes almost everywhere proves nothing
    assert_allclose(relevant_space(link("sign(g1 + g2) + tanh(g3)", 3), 0), np.eye(3))


def test_scale_free_directions() -> None:
    assert scale_free(link("sign(g1)*g2", 2), np.eye(2), 0).T.tolist() == [[1, 0]]
    assert scale_free(link("g1*g2", 2), np.eye(2), 0).shape == (2, 0)
    assert scale_free(link("sign(g1*g1 - g2*g2)", 2), np.eye(2), 0).shape[1] == 2  # the two diagonals


def test_canonical_bases() -> None:
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    assert_allclose(canonical_basis(axes(3, 1, dim=4) @ turn), axes(1, 3, dim=4), atol=1e-12)
    half = math.sqrt(0.5)
    assert_allclose(complement(np.array([[half], [half], [0]])), [[half, 0], [-half, 0], [0, 1]], atol=1e-12)
    assert direction_name(np.array([0.0, -1.0])) == "g2"
    assert direction_name(np.array([0.6, -0.8])) == "0.6*g1 - 0.8*g2"


# ------------------------------------------------------------------------------------- the rank decision


def replicates_of(matrix: np.ndarray, noise: float, count: int, rng: np.random.Generator) -> np.ndarray:
    draws = rng.standard_normal((count, *matrix.shape)) * noise
    return matrix + (draws + draws.transpose(0, 2, 1)) / 2


def test_rank_of_a_clear_case() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    matrix = turn @ np.diag([1.0, 0.5, 0, 0]) @ turn.T
    decision = decide_rank(replicates_of(matrix, 1e-4, 16, rng), resolution=1e-2)
    assert decision.decisions == ("nonzero", "nonzero", "zero", "zero")
    assert decision.rank == 2
    assert decision.status == "ok"
    found, true = decision.basis[:, :2], turn[:, :2]
    sine = np.linalg.norm(found - true @ (true.T @ found))
    assert 0 < decision.angle_se < 1e-3
    assert sine < 5 * decision.angle_se


def test_rank_that_cannot_be_told() -> None:
    rng = np.random.default_rng(1)
    decision = decide_rank(replicates_of(np.diag([1.0, 0.01]), 0.05, 16, rng), resolution=1e-3)
    assert decision.decisions == ("nonzero", "ambiguous")
    assert decision.status == "ambiguous-rank"
    floored = decide_rank(replicates_of(np.diag([1.0, 0.01]), 1e-5, 16, rng), resolution=1e-3, floor=0.02)
    assert floored.decisions == ("nonzero", "ambiguous")


@pytest.mark.parametrize(("size", "count"), [(1, 8), (3, 16), (5, 16)])
def test_a_zero_matrix_is_seldom_called_nonzero(size: int, count: int) -> None:
    rng = np.random.default_rng(size)
    level, trials = 0.02, 2000
    wrong = sum(
        decide_rank(replicates_of(np.zeros((size, size)), 1.0, count, rng), resolution=1.0, level=level).rank > 0
        for _ in range(trials)
    )
    assert wrong <= binom.isf(1e-4, trials, level)
    if size == 1:  # there the bound is Student's, exactly
        assert wrong >= binom.isf(1 - 1e-4, trials, level)


def test_bounds_cover_the_eigenvalue_error() -> None:
    rng = np.random.default_rng(3)
    truth = np.diag([0.5, 0.3, 0.0])
    level, trials = 0.05, 1000
    missed = 0
    for _ in range(trials):
        decision = decide_rank(replicates_of(truth, 0.02, 16, rng), resolution=1.0, level=level)
        missed += bool(np.any(np.abs(decision.eigenvalues - np.diag(truth)) > decision.bounds))
    assert missed <= binom.isf(1e-4, trials, 2 * level)


def test_rank_of_nothing_and_of_nonsense() -> None:
    assert decide_rank(np.empty((4, 0, 0)), resolution=1e-3).rank == 0
    with pytest.raises(InputError, match="two replicates"):
        decide_rank(np.zeros((1, 2, 2)), resolution=1e-3)


# ------------------------------------------------------------------------------------- the result


def test_the_document() -> None:
    result = solve("g1 + tanh(g2**2) + 0*g3", 3)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["status"] == "ok"
    assert document["easy_basis"] == [[1.0], [0.0], [0.0]]
    assert document["hard_basis"][1] == [1.0, 0.0]
    step = document["subspace_evidence"]["rounds"][0]
    assert len(step["eigenvalues"]) == len(step["eigenvalues_se"]) == len(step["decisions"]) == 3
    assert step["replicates"] == 16
    assert "g2 -> -g2" in document["subspace_evidence"]["symmetries"]
    nothing = solve("g1", 1).to_dict()
    assert nothing["hard_basis"] == [[]]


def test_other_forms(staircase: LatentSubspaces) -> None:
    result = staircase
    data = result.to_xarray()
    assert dict(data.sizes) == {
        "latent": 2,
        "easy": 2,
        "hard": 0,
        "irrelevant": 0,
        "undecided": 0,
        "round": 2,
        "direction": 2,
    }
    assert math.isnan(data["eigenvalues"].values[1, 1])
    assert "round 2, given 1 easy" in result.table()
    assert len(result.figure().axes[0].get_xticklabels()) == 3
