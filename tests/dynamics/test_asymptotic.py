"""Long runs in the limit: no bias that grows with time, whatever the tolerance and the capacity of the basis."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.dynamics.asymptotic import PATH_TOLERANCE, PathAccuracy, TestSet, run_replicate
from featurephase.dynamics.network import Network
from featurephase.dynamics.points import PathCoordinates
from featurephase.foundation.executors import replicate_seeds
from featurephase.foundation.statistics import mean_and_se

from .. import cases

ONE_NEURON = cases.problem(steps=1000)
HARD = np.zeros((1, 0))


def norms(delta, steps, samples, replicates, seed, **accuracy):
    """|theta|^2 at the last step, (replicates,)."""
    return np.array(
        [
            run_replicate(
                ONE_NEURON,
                delta,
                s,
                easy_basis=HARD,
                steps=steps,
                samples=samples,
                test=False,
                accuracy=PathAccuracy(**accuracy),
            ).gram[-1, 0, 0]
            for s in replicate_seeds(seed, replicates)
        ]
    )


def gelu(h):
    from scipy.special import erf

    c = (1 + erf(h / np.sqrt(2))) / 2
    return h * c, c + h * np.exp(-h * h / 2) / np.sqrt(2 * np.pi)


def dense_norm(delta, steps, d, seed):
    """The same at finite d, the overlap with the teacher held at its limit, 0."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((round(delta * d), d))
    y = 1.5 * np.tanh(x[:, 0] ** 2)
    theta = np.eye(d)[1]
    for _ in range(steps):
        s, ds = gelu(x @ theta)
        theta = theta - 0.8 * x.T @ ((s - y) * ds) / len(x)
        theta[0] = 0.0
    return float(theta @ theta)


@pytest.mark.slow
def test_long_runs_with_few_paths_agree_with_dense_ones():
    """t = 250, delta = 20: with R = 1/sqrt(delta) throughout, 3000 paths gave 1.0 where dense runs give .85."""
    theory, theory_se = mean_and_se(norms(20.0, 250, 3000, 16, 1))
    dense, dense_se = mean_and_se([dense_norm(20.0, 250, 200, s) for s in range(10)])
    assert abs(theory - dense) < 4 * np.hypot(theory_se, dense_se)
    assert np.hypot(theory_se, dense_se) < 0.03


@pytest.mark.slow
def test_tolerance_and_capacity_of_the_basis_hardly_matter():
    """t = 1000: a tolerance of 1e-10 or 1e-6, or less capacity, changes less than the error of 8 replicates."""
    reference = norms(20.0, 1000, 3000, 8, 2)
    se = float(mean_and_se(reference)[1])
    for options in ({"tolerance": 1e-10, "capacity": None}, {"tolerance": 1e-6}, {"capacity": 150}):
        other = norms(20.0, 1000, 3000, 8, 2, **options)
        assert abs(float(np.mean(other - reference))) < 3 * np.hypot(se, float(mean_and_se(other)[1])), options


def test_single_precision_changes_nothing(monkeypatch):
    """The same random numbers in double precision: they differ by less than 1 % of the noise."""
    monkeypatch.setattr(
        PathCoordinates, "standard_normal", lambda self, size=None, dtype=None, out=None: _double(self, size, out)
    )
    single, double = (norms(4.0, 30, 8_000, 2, 3, tolerance=t) for t in (PATH_TOLERANCE, 0.99 * PATH_TOLERANCE))
    np.testing.assert_allclose(single, double, rtol=1e-4)
    assert np.all(single != double)


_drawn = PathCoordinates.standard_normal


def _double(paths, size, out):
    """Numbers drawn in double precision, whatever they are for."""
    rows = _drawn(paths, out.shape if size is None else size)
    if out is not None:
        out[:] = rows
    return rows if out is None else out


def test_the_test_loss_takes_a_power_of_two_of_samples():
    """Its scatter over replicates is no larger than with as many samples as paths."""
    seeds = replicate_seeds(4, 12)
    found = [run_replicate(ONE_NEURON, 4.0, s, easy_basis=HARD, steps=0, samples=12_000) for s in seeds]
    network = Network(ONE_NEURON.student.activation, ONE_NEURON.student.readout, ONE_NEURON.loss)
    start = found[0]
    whole = [
        TestSet(network, ONE_NEURON.teacher.link, 12_000, PathCoordinates(12_000, np.random.default_rng(s)))
        .along(start)
        .test_loss[0]
        for s in seeds
    ]
    own, others = np.var([f.test_loss[0] for f in found], ddof=1), np.var(whole, ddof=1)
    assert own < 3.0 * others
    assert abs(np.mean([f.test_loss[0] for f in found]) - np.mean(whole)) < 4 * np.sqrt((own + others) / 12)


@pytest.mark.parametrize("delta", [0.05, 36.84])
def test_directions_that_are_round_off_are_left_out_of_the_basis(delta):
    """Three nearly dependent neurons over 120 steps: what another orthogonalisation removes is no new direction.

    Kept, such directions lose the orthogonality of the basis, which is an error (it was, at both of these n/d).
    """
    link = "1.5*tanh(g1**2) + 0.75*tanh(g2**2) + 0.3*tanh(g3**2)"
    problem = cases.problem(link, latent_dim=3, readout=[0.5, 0.5, 0.5], step_size=1.0, steps=120)
    (seed,) = np.random.SeedSequence(0).spawn(1)
    run = run_replicate(problem, delta, seed, easy_basis=np.zeros((3, 0)), samples=4096, test=False)
    assert run.diverged_at is None
    assert np.all(np.isfinite(run.gram))
    assert run.basis < 360  # of 360 that three neurons could add
