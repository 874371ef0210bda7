"""Outliers against the spiked models of Baik, Ben Arous, Peche and others, and the scalar transition in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtri

from featurephase.dynamics.asymptotic import run_replicate
from featurephase.dynamics.network import Network
from featurephase.hessian.bulk import Bulk
from featurephase.hessian.outliers import Directions, margins, outliers, search_outliers
from featurephase.problem import Student

from .. import cases


def directions(bulk, rows, visible=None):
    return Directions(lambda i: rows[:, bulk.slices[i]], bulk.slices, len(rows), visible or len(rows))


def spiked(variance, delta, sign, m=1):
    """W = 1 (times the identity): covariance 1 but for one direction of the given variance."""
    bulk = Bulk(np.tile(sign * np.eye(m)[:, :, None], (1, 1, 64)), delta)
    return bulk, directions(bulk, np.full((1, 64), np.sqrt(variance)))


@pytest.mark.parametrize("delta", [2.0, 10.0])
@pytest.mark.parametrize(("variance", "sign"), [(4.0, -1), (2.2, -1), (0.02, 1), (0.25, 1)])
def test_bbp_outlier_and_overlap(delta, variance, sign):
    """l (1 + y/(l - 1)) with squared overlap (1 - y/(l-1)^2)/(1 + y/(l-1)), y = 1/delta, where |l - 1| > sqrt y."""
    y = 1 / delta
    bulk, spike = spiked(variance, delta, sign)
    found, at_edge = outliers(bulk, bulk.edge(), spike)
    if abs(variance - 1) < np.sqrt(y):
        assert found == []
        assert at_edge[0] > 0
        return
    (o,) = found
    assert sign * o.value == pytest.approx(variance * (1 + y / (variance - 1)), rel=1e-6)
    assert o.overlap == pytest.approx((1 - y / (variance - 1) ** 2) / (1 + y / (variance - 1)), rel=1e-5)


def test_bbp_transition():
    """The margin at the edge changes sign at variance 1 -+ 1/sqrt delta."""
    for sign, factor in ((1, -1), (-1, 1)):
        critical = 1 + factor * 3.0**-0.5
        for shift in (-1e-3, 1e-3):
            bulk, spike = spiked(critical + shift, 3.0, sign)
            outside = (shift > 0) == (factor > 0)
            assert (margins(bulk, bulk.edge().point, spike)[0] < 0) == outside


def test_equal_neurons_have_one_outlier_each():
    """m = 3 blocks with W = 1: a threefold outlier, each with the overlap of the scalar problem."""
    scalar_bulk, scalar_spike = spiked(4.0, 2.0, -1)
    (one,), _ = outliers(scalar_bulk, scalar_bulk.edge(), scalar_spike)
    bulk, spike = spiked(4.0, 2.0, -1, m=3)
    found, _ = outliers(bulk, bulk.edge(), spike)
    assert [o.value for o in found] == pytest.approx([one.value] * 3, rel=1e-6)
    assert [o.overlap for o in found] == pytest.approx([one.overlap] * 3, rel=1e-5)


def test_margins_are_one_far_below_the_bulk():
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal((1, 1, 2000)), rng.standard_normal((1, 2000))
    bulk = Bulk(w, 2.0)
    point = bulk.at(-1e6, bulk.edge())
    assert margins(bulk, point, directions(bulk, g))[0] == pytest.approx(1.0, abs=1e-5)


# ---- the scalar transition (theory/thresholds, eqs. thr-scalar, thr-jump): W = w(g), g on a grid of equal
# probabilities

G = ndtri((np.arange(200_000) + 0.5) / 200_000)
W = 1 - 3 * np.tanh(G**2)  # inf W = -2, negative at large |g|


def closed_form_transition(w, infimum):
    """delta at which an outlier aligned with g appears, and whether its overlap starts from 0."""

    def excess(s):
        r = s * w / (1 + s * w)
        return np.mean(r**2) - np.mean((1 - G**2) * r)

    largest = 1 / -infimum
    if excess(largest * (1 - 1e-9)) > 0 > excess(1e-3):
        s = brentq(excess, 1e-3, largest * (1 - 1e-9))
        return 1 / np.mean((s * w / (1 + s * w)) ** 2), True
    s = largest
    return 1 / np.mean((1 - G**2) * s * w / (1 + s * w)), False


@pytest.mark.parametrize(
    ("w", "infimum"), [(W, -2.0), (np.where(np.abs(G) > 1.2, -1.0, 1.0), -1.0), (np.cos(2 * G), -1.0)]
)
def test_scalar_transition_in_closed_form(w, infimum):
    transition, continuous = closed_form_transition(w, infimum)
    for factor in (0.999, 1.001):
        bulk = Bulk(w[None, None], transition * factor, np.full((1, 1, 1), infimum))
        edge = bulk.edge()
        found, at_edge = outliers(bulk, edge, directions(bulk, G[None]))
        assert (at_edge[0] < 0) == (factor > 1)
        assert len(found) == (factor > 1)
        assert edge.critical == continuous


@pytest.mark.parametrize("m", [1, 2])
def test_outliers_of_a_dense_hessian(m):
    """Curvature that depends on g, one dense matrix: an outlier of gap a fluctuates by ~ (2/n)^(1/2) of its size.

    Allowed: 5 of these. The theory uses the very same samples' law, so that only the matrix is random.
    """
    rng = np.random.default_rng(1)
    d, delta = 600 // m, 12.0
    n = int(delta * d)
    x = rng.standard_normal((n, d))
    g = x[:, 0]
    w = np.zeros((m, m, n))
    for r in range(m):
        w[r, r] = 1.0 - (1.0 + 0.5 * r) * np.tanh(g**2)
        for s in range(r):
            w[r, s] = w[s, r] = 0.2 * np.cos(g)
    bulk = Bulk(w, delta)
    found, _ = outliers(bulk, bulk.edge(), directions(bulk, g[None]))
    assert found
    h = np.block([[(x * w[a, b][:, None]).T @ x / n for b in range(m)] for a in range(m)])
    values, vectors = np.linalg.eigh(h)
    for j, o in enumerate(found):
        assert values[j] == pytest.approx(o.value, abs=5 * np.sqrt(2 / n) * abs(o.value))
        assert np.sum(vectors[::d, j] ** 2) == pytest.approx(o.overlap, abs=5 * np.sqrt(2 / n))


# ---- on visited directions: the search in a subspace against the formulas of theory/hessian, eq. hes-all, word for
# word


class Direct:
    """Gamma(lambda) from whole matrices K, M_VV, M_VP, M_PP and D, with nothing condensed, projected or searched."""

    def __init__(self, w, delta, v, phi, bulk):
        self.w, self.delta, self.v, self.phi, self.bulk = np.moveaxis(w, 2, 0), delta, v, phi, bulk
        self.edge = bulk.edge()
        self.size = len(w) * len(v)

    def gamma(self, value):
        root = self.bulk.at(value, self.edge).root
        s = self.delta * root @ root.T
        m = len(s)
        k = self.w @ np.linalg.inv(np.eye(m) + s @ self.w / self.delta)
        vv, vp, pp = (
            np.einsum("nrs,jn,ln->rjsl", k, a, b, optimize=True).reshape(m * len(a), m * len(b)) / len(k)
            for a, b in ((self.v, self.v), (self.v, self.phi), (self.phi, self.phi))
        )
        d = self.delta * np.kron(np.linalg.inv(s), np.eye(len(self.phi))) - pp
        return vv + vp @ np.linalg.solve(d, vp.T)

    def outliers(self):
        """Roots of the eigenvalues of Gamma - lambda below the edge, and 1/(1 - v'Gamma'v) by a central difference."""
        top = self.edge.point.value * (1 + 1e-9 * np.sign(-self.edge.point.value))
        count = int(np.sum(np.linalg.eigvalsh(self.gamma(top) - top * np.eye(self.size)) < 0))
        low, found = top - 10.0 * abs(top) - 1.0, []
        for j in range(count):

            def excess(x, j=j):
                return np.linalg.eigvalsh(self.gamma(x) - x * np.eye(self.size))[j]

            x = brentq(excess, low, top, xtol=1e-13)
            vector = np.linalg.eigh(self.gamma(x) - x * np.eye(self.size))[1][:, j]
            h = 1e-4 * (top - x)
            slope = vector @ (self.gamma(x + h) - self.gamma(x - h)) @ vector / (2 * h)
            found.append((x, 1 / (1 - slope)))
        return sorted(found)


def visited(width, sign):
    """Curvature, V and Phi of a short run that learns two easy directions, all rows of V kept."""
    student = Student("gelu", list(np.linspace(1.0, -0.6, width) if width > 1 else [1.0]))
    problem = cases.problem("tanh(3*g1) + 0.5*g2*tanh(g2)", latent_dim=2, student=student, step_size=0.7)
    network = Network(problem.student.activation, problem.student.readout, problem.loss)

    def look(moment):
        design, blocks = moment.design, range(len(moment.design.slices))
        v = np.concatenate([design.projections(b) for b in blocks], axis=1)
        phi = np.concatenate([design.sample_basis(b) for b in blocks], axis=1)
        return sign * network.curvature(moment.design.preactivations(moment.weights), moment.responses), v, phi

    seed = np.random.SeedSequence(width)
    return run_replicate(problem, 16.0, seed, samples=3000, observers={5: look}, test=False).observations[5]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("width", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_outliers_on_visited_directions_are_those_of_the_formulas(width, sign):
    w, v, phi = visited(width, sign)
    bulk = Bulk(w, 16.0)
    expected = Direct(w, 16.0, v, phi, bulk).outliers()
    rows = np.concatenate([v, phi])
    found, at_edge = outliers(bulk, bulk.edge(), directions(bulk, rows, len(v)))
    assert expected
    assert np.sum(at_edge < 0) == len(found) == len(expected)
    for o, (value, overlap) in zip(found, expected, strict=True):
        assert o.value == pytest.approx(value, rel=1e-8)
        assert o.overlap == pytest.approx(overlap, rel=1e-5)


# ---- what few samples cannot tell


def noisy(samples, rows, delta, spike=0.0, seed=0):
    """W = -1 for every sample, and rows of independent Gaussians, the first of them perhaps with more variance."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((rows, samples))
    if spike:
        y[0] *= np.sqrt((1.0 + spike) / np.mean(y[0] ** 2))
    bulk = Bulk(-np.ones((1, 1, samples)), delta)
    return bulk, directions(bulk, y)


def test_margins_that_noise_makes_negative_are_not_counted():
    """Marchenko-Pastur: the sample covariance of 60 rows has eigenvalues far from 1, but the population has none."""
    bulk, rows = noisy(400, 60, 12.0)
    edge = bulk.edge()
    counted = search_outliers(bulk, edge, rows)
    assert counted.found
    found = search_outliers(bulk, edge, rows, sure=True)
    assert found.found == []
    assert found.doubtful == len(counted.found)
    assert found.needed > 400
    enough, many = noisy(found.needed, 60, 12.0)
    assert search_outliers(enough, enough.edge(), many).found == []


def test_what_stands_out_of_the_noise_is_counted():
    bulk, rows = noisy(400, 60, 12.0, spike=30.0)
    found = search_outliers(bulk, bulk.edge(), rows, sure=True)
    assert len(found.found) == 1
    assert found.doubtful > 0
    assert found.complete


def test_noise_rows_move_no_outlier():
    """The value of BBP with one row; without the correction those of noise push it out by many standard errors."""
    variance, delta = 3.0, 12.0
    exact = -variance * (1 + 1 / delta / (variance - 1))
    values = []
    for seed in range(16):
        bulk, noise = noisy(24_000, 60, delta, variance - 1, seed)
        edge = bulk.edge()
        values.append([search_outliers(bulk, edge, noise, sure=sure).found[0].value for sure in (True, False)])
    corrected, raw = np.mean(values, axis=0) - exact
    error = np.std(values, axis=0, ddof=1) / 4
    assert abs(corrected) < 3 * error[0]
    assert raw < -5 * error[1]


def test_a_bounded_number_of_outliers_is_sought():
    bulk, rows = noisy(400, 60, 12.0)
    few = search_outliers(bulk, bulk.edge(), rows, most=2)
    assert len(few.found) == 2
    assert not few.complete
