"""Edges and the Stieltjes transform against closed forms, polynomial roots, freealg and symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.hessian.bulk import Bulk, stieltjes_transform


def scalar(values, weights, copies=20):
    """Samples (1, 1, N) of a discrete law with weights in twentieths, each value ``copies`` times its weight."""
    counts = np.rint(np.array(weights) * copies).astype(int)
    return np.repeat(np.array(values, float), counts)[None, None]


def rotated(curvature, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(curvature),) * 2))
    return np.einsum("ab,bcn,dc->adn", q, curvature, q)


def both_edges(curvature, delta):
    return Bulk(curvature, delta).edge().point.value, -Bulk(-curvature, delta).edge().point.value


def polynomial_edges(values, weights, delta):
    """z at all real critical points of z(s) = E[W/(1 + s W)] - 1/(delta s), by polynomial roots; pairs (s, z)."""
    # z'(s) = 0: 1/delta = E[(s W)^2/(1 + s W)^2], times prod (1 + s W_i)^2
    factors = [np.poly1d([w, 1.0]) for w in values]
    total = -np.poly1d([1.0 / delta])
    for f in factors:
        total = total * f * f
    for i, (w, p) in enumerate(zip(values, weights, strict=True)):
        term = np.poly1d([p * w * w, 0.0, 0.0])
        for j, f in enumerate(factors):
            if j != i:
                term = term * f * f
        total = total + term
    roots = [r.real for r in total.roots if abs(r.imag) < 1e-9 * (1 + abs(r.real))]
    return [
        (s, sum(p * w / (1 + s * w) for w, p in zip(values, weights, strict=True)) - 1 / (delta * s)) for s in roots
    ]


# ---- Marchenko-Pastur: W = 1


@pytest.mark.parametrize("delta", [1.2, 2.0, 9.0])
def test_marchenko_pastur_edges(delta):
    left, right = both_edges(np.ones((1, 1, 50)), delta)
    assert left == pytest.approx((1 - delta**-0.5) ** 2, rel=1e-8)
    assert right == pytest.approx((1 + delta**-0.5) ** 2, rel=1e-8)


@pytest.mark.parametrize("delta", [0.3, 0.9])
def test_marchenko_pastur_with_an_atom_at_zero(delta):
    """d > n: the spectrum starts at the atom, 0."""
    left, right = both_edges(np.ones((1, 1, 50)), delta)
    assert left == pytest.approx(0.0, abs=1e-9)
    assert right == pytest.approx((1 + delta**-0.5) ** 2, rel=1e-8)


@pytest.mark.parametrize("delta", [0.5, 2.0])
@pytest.mark.parametrize("z", [0.7 + 0.01j, 3.0 + 1e-3j, -1.0 + 0.5j])
def test_marchenko_pastur_transform(delta, z):
    """The root of z S^2/delta + (z + 1/delta - 1) S + 1 = 0 in the upper half plane."""
    roots = np.roots([z / delta, z + 1 / delta - 1, 1])
    assert stieltjes_transform(np.ones((1, 1, 7)), delta, z)[0, 0] == pytest.approx(
        roots[np.argmax(roots.imag)], rel=1e-7
    )


# ---- discrete laws


@pytest.mark.parametrize("delta", [0.4, 1.5, 6.0])
@pytest.mark.parametrize(
    ("values", "weights"),
    [((-1.0, 2.0), (0.25, 0.75)), ((-3.0, 1.0), (0.05, 0.95)), ((-1.0, 0.5, 4.0), (0.3, 0.5, 0.2))],
)
def test_edges_are_roots_of_a_polynomial(values, weights, delta):
    """Left: the maximum of z over 0 < s < 1/|min W|; right: the minimum over -1/max W < s < 0."""
    found = polynomial_edges(values, weights, delta)
    left, right = both_edges(scalar(values, weights), delta)
    assert left == pytest.approx(max(z for s, z in found if 0 < s < 1 / -min(values)), rel=1e-7)
    assert right == pytest.approx(min(z for s, z in found if -1 / max(values) < s < 0), rel=1e-7)


def test_a_gap_inside_the_bulk_is_not_its_outside():
    """Rare negative curvature at small delta: two bands. The end of the gap is a critical point too, but no left edge.

    A dense Hessian confirms which band is the lowest, and at m = 2 the same law twice, mixed, must give the same.
    """
    values, weights, delta = (-3.0, 1.0), (0.2, 0.8), 1.5
    points = sorted(z for _, z in polynomial_edges(values, weights, delta))
    assert len(points) == 4
    left, right = both_edges(scalar(values, weights), delta)
    assert (left, right) == pytest.approx((points[0], points[-1]), rel=1e-7)
    rng = np.random.default_rng(0)
    d = 500
    x, w = rng.standard_normal((int(delta * d), d)), np.repeat(values, (np.array(weights) * delta * d).astype(int))
    eigenvalues = np.linalg.eigvalsh((x * w[:, None]).T @ x / len(x))
    assert not np.any((eigenvalues > points[1] + 0.1) & (eigenvalues < points[2] - 0.1))
    scale = points[1] - points[0]
    assert eigenvalues[0] == pytest.approx(points[0], abs=5 * d ** (-2 / 3) * scale)
    one = scalar(values, weights, 400)
    two = np.zeros((2, 2, one.shape[2]))
    two[0, 0], two[1, 1] = one[0, 0], np.random.default_rng(1).permutation(one[0, 0])
    assert both_edges(rotated(two), delta) == pytest.approx((left, right), rel=1e-6)


def test_a_critical_point_beyond_the_infimum_of_the_curvature_is_no_edge():
    """One sample in 10^6 reaches W = -5: with it, or as part of the support, positivity ends the branch before."""
    w = scalar((-1.0, 2.0), (0.25, 0.75), 400)
    plain = Bulk(w, 1.5).edge()
    s = float(plain.point.root[0, 0] ** 2)
    assert plain.critical
    assert s > 1 / 5
    bounded = Bulk(w, 1.5, np.full((1, 1, 1), -5.0)).edge()
    assert not bounded.critical
    want = 0.25 * -1 / (1 - 0.2) + 0.75 * 2 / (1 + 0.4) - 1 / (1.5 * 0.2)
    assert bounded.point.value == pytest.approx(want, rel=1e-6)


# ---- freealg as an oracle, where curvature is positive: (1/n) sum W_i x_i x_i' is compound free Poisson


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # inside freealg
@pytest.mark.parametrize("delta", [0.8, 3.0])
@pytest.mark.parametrize(("values", "weights"), [((1.0, 4.0), (0.7, 0.3)), ((0.2, 1.0, 6.0), (0.3, 0.5, 0.2))])
def test_density_against_freealg(values, weights, delta):
    """The one root of freealg's spectral curve in the upper half plane; its own choice of root fails at some points."""
    distributions = pytest.importorskip("freealg").distributions
    law = distributions.CompoundFreePoisson(np.array(values) / delta, list(weights), delta)
    w = scalar(values, weights)
    left, right = both_edges(w, delta)
    z = np.linspace(left - 0.1, right + 0.1, 40) + 2e-4j
    for point, roots in zip(z, np.asarray(law.roots(z)), strict=True):
        (want,) = roots[roots.imag > 0]
        assert stieltjes_transform(w, delta, point)[0, 0] == pytest.approx(want, rel=1e-7)
    if delta > 1:
        inside = z.real[(z.real > left) & (z.real < right)]
        got = np.array([stieltjes_transform(w, delta, complex(x, 2e-4))[0, 0].imag / np.pi for x in inside])
        agreed = np.abs(law.density(inside, eta=2e-4) - got) < 1e-8
        assert np.mean(agreed) > 0.5


@pytest.mark.parametrize("eta", [1e-3, 1e-5])
def test_transform_on_a_path_through_a_gap(eta):
    """Two bands with a gap between them: continued from one to the other, the iteration must not get stuck."""
    values, weights, delta = (-3.0, 1.0), (0.2, 0.8), 1.5
    w = scalar(values, weights)
    left, right = both_edges(w, delta)
    guess = None
    for x in np.linspace(left - 0.2, right + 0.2, 80):
        z = complex(x, eta)
        guess = stieltjes_transform(w, delta, z, guess)
        s = guess[0, 0] / delta
        assert s.imag > 0
        assert sum(p * v / (1 + s * v) for v, p in zip(values, weights, strict=True)) - 1 / (
            delta * s
        ) == pytest.approx(z)


# ---- matrices


def two_laws(samples=4000):
    """Diagonal (2, 2, N) curvature whose entries are dependent: only their own laws matter."""
    h = np.random.default_rng(3).standard_normal((2, samples))
    w = np.zeros((2, 2, samples))
    w[0, 0], w[1, 1] = 1 - np.tanh(h[0]) ** 2 * 2, 0.5 + np.cos(2 * h[0] + h[1])
    return w


@pytest.mark.parametrize("delta", [0.7, 5.0])
def test_block_diagonal_curvature_is_two_scalar_problems(delta):
    w = two_laws()
    pairs = [both_edges(w[r : r + 1, r : r + 1], delta) for r in (0, 1)]
    left, right = both_edges(w, delta)
    assert left == pytest.approx(min(p[0] for p in pairs), rel=1e-6)
    assert right == pytest.approx(max(p[1] for p in pairs), rel=1e-6)
    z = 0.5 * (left + right) + 0.05j
    s = stieltjes_transform(w, delta, z)
    np.testing.assert_allclose(
        np.diag(s), [stieltjes_transform(w[r : r + 1, r : r + 1], delta, z)[0, 0] for r in (0, 1)], rtol=1e-7
    )
    np.testing.assert_allclose(s[0, 1], 0.0, atol=1e-8)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_orthogonal_invariance(m):
    """The search takes other ways, some of which step onto another solution, to the same critical points."""
    rng = np.random.default_rng(4)
    h = rng.standard_normal((m, 800))
    w = np.einsum("an,bn->abn", np.tanh(h), np.tanh(h)) - 0.4 * np.eye(m)[:, :, None] * np.cos(h)[:, None, :]
    want = both_edges(w, 3.0)
    for seed in range(4):
        edge = Bulk(rotated(w, seed), 3.0).edge()
        assert edge.critical
        assert edge.point.radius == pytest.approx(1.0, abs=1e-3)
        assert edge.point.value == pytest.approx(want[0], rel=1e-6)
    assert both_edges(rotated(w), 3.0) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_both_edges_contain_all_eigenvalues_of_a_dense_hessian(m):
    """d = 300: the outermost eigenvalue stands within a few d^(-2/3) of the bulk's width inside or outside its edge."""
    rng = np.random.default_rng(5)
    d, delta = 300, 4.0
    n = int(delta * d)
    h = rng.standard_normal((m, n))
    w = np.einsum("an,bn->abn", np.tanh(h), np.tanh(h)) - 0.4 * np.eye(m)[:, :, None] * np.cos(h)[:, None, :]
    left, right = both_edges(w, delta)
    x = rng.standard_normal((n, d))
    blocks = [[(x * w[a, b][:, None]).T @ x / n for b in range(m)] for a in range(m)]
    eigenvalues = np.linalg.eigvalsh(np.block(blocks))
    allowance = 3 * d ** (-2 / 3) * (right - left)
    assert eigenvalues[0] == pytest.approx(left, abs=allowance)
    assert eigenvalues[-1] == pytest.approx(right, abs=allowance)
    z = complex((left + right) / 2, (right - left) / 10)
    trace = np.mean(1 / (eigenvalues - z))  # a linear statistic: its fluctuations and its bias are O(1/d)
    assert np.trace(stieltjes_transform(w, delta, z)) / m == pytest.approx(trace, abs=5 * abs(trace) / d)


def test_points_below_the_edge():
    """On the branch, S^-1 = E[K] - lambda and the radius falls below 1."""
    w = two_laws()
    bulk = Bulk(w, 3.0)
    edge = bulk.edge()
    assert edge.point.radius == pytest.approx(1.0, abs=1e-3)
    point = bulk.at(edge.point.value - 0.3, edge)
    assert point.value == pytest.approx(edge.point.value - 0.3, abs=1e-9)
    assert point.radius < 1
    s = 3.0 * point.root @ point.root.T
    k = np.mean([np.linalg.solve(np.eye(2) + a @ s / 3.0, a) for a in np.moveaxis(w, 2, 0)], axis=0)
    np.testing.assert_allclose(np.linalg.inv(s), k - point.value * np.eye(2), rtol=1e-8, atol=1e-9)
    with pytest.raises(ValueError, match="above the left edge"):
        bulk.at(edge.point.value + 0.1, edge)


def test_curvature_that_vanishes_has_no_edge():
    assert Bulk(np.zeros((2, 2, 10)), 2.0).edge() is None
