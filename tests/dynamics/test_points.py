"""Quasi-random sample paths: every row has its law, averages beat independent paths, replicates are independent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from featurephase.dynamics.asymptotic import PathAccuracy, run_replicate
from featurephase.dynamics.points import QUASI_RANDOM, PathCoordinates

from .. import cases


@pytest.mark.parametrize("samples", [1, 2, 1000, 4096])
def test_rows_come_in_any_portions_and_run_on_into_pseudo_random_ones(samples):
    one = PathCoordinates(samples, np.random.default_rng(0))
    first = one.standard_normal((3, samples))
    second = np.empty((QUASI_RANDOM, samples))
    assert one.standard_normal(out=second) is second
    third = one.random((2, samples))
    assert third.shape == (2, samples)
    again = PathCoordinates(samples, np.random.default_rng(0)).standard_normal((QUASI_RANDOM, samples))
    np.testing.assert_array_equal(np.concatenate([first, second[:-3]]), again)
    for rows in (first, second, third):
        assert np.all(np.isfinite(rows))


def test_every_row_is_standard_normal_and_rows_are_uncorrelated():
    n = 4096
    rows = PathCoordinates(n, np.random.default_rng(1)).standard_normal((QUASI_RANDOM + 6, n))
    p = [stats.kstest(row, "norm").pvalue for row in rows]
    assert min(p) * len(p) > 0.01
    gram = rows @ rows.T / n - np.eye(len(rows))
    assert np.max(np.abs(gram)) < 5 / np.sqrt(n)
    assert np.max(np.abs(np.diag(gram)[:QUASI_RANDOM])) < 0.2 / np.sqrt(n)  # far more regular than independent paths


def test_uniform_rows_are_uniform():
    rows = PathCoordinates(1000, np.random.default_rng(2)).random((QUASI_RANDOM + 2, 1000))
    assert min(stats.kstest(row, "uniform").pvalue for row in rows) * len(rows) > 0.01


def test_any_subset_of_the_paths_is_a_fair_sample():
    """Every fourth point of a Sobol' sequence lies in one quarter of the unit interval; paths are in random order."""
    quarters = [PathCoordinates(4096, np.random.default_rng(3)).random((3, 4096))[:, i::4] for i in range(4)]
    assert min(stats.kstest(q[j], "uniform").pvalue for q in quarters for j in range(3)) * 12 > 0.01


def test_an_integral_has_its_value_and_a_smaller_error():
    """E[tanh(g1 + g2)^2 cos(g3)] by 40 scrambles, against Gauss-Hermite quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    exact = w @ np.tanh(np.sqrt(2) * x) ** 2 * (w @ np.cos(x))

    def estimate(quasi, seed):
        g = PathCoordinates(2000, np.random.default_rng(seed), quasi).standard_normal((3, 2000))
        return np.mean(np.tanh(g[0] + g[1]) ** 2 * np.cos(g[2]))

    scrambled = np.array([estimate(QUASI_RANDOM, s) for s in range(40)])
    independent = np.array([estimate(0, s) for s in range(40)])
    assert abs(scrambled.mean() - exact) < 4 * scrambled.std(ddof=1) / np.sqrt(40)
    assert scrambled.std() < 0.3 * independent.std()


def test_replicates_are_independent_and_beat_independent_paths():
    """|theta|^2 after 8 steps: the mean is that of independent paths within errors, its variance a tenth at most."""
    problem = cases.problem(steps=8)

    def sizes(seed, **accuracy):
        common = {"easy_basis": cases.NOTHING_EASY, "samples": 2000, "test": False}
        common["accuracy"] = PathAccuracy(**accuracy)
        runs = (run_replicate(problem, 8.0, s, **common) for s in np.random.SeedSequence(seed).spawn(60))
        return np.array([r.gram[-1, 0, 0] for r in runs])

    quasi = sizes(0)
    assert abs(stats.pearsonr(quasi[1:], quasi[:-1]).statistic) < 4 / np.sqrt(59)
    plain = sizes(1, quasi=0)
    error = np.sqrt((quasi.var(ddof=1) + plain.var(ddof=1)) / 60)
    assert abs(quasi.mean() - plain.mean()) < 4 * error
    assert quasi.var() < 0.1 * plain.var()
