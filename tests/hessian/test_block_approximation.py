"""The block approximation: neurons of one law pool their samples; its distance from the full equation is reported."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from featurephase.analyses import prediction as module
from featurephase.analyses.prediction import predict
from featurephase.dynamics.asymptotic import run_replicate
from featurephase.dynamics.network import Network
from featurephase.foundation.executors import replicate_seeds
from featurephase.hessian import spectrum as spectra
from featurephase.hessian.bulk import Bulk
from featurephase.hessian.outliers import Directions, margins

from .. import cases

PROBLEM = cases.problem(readout=[0.5, 0.5], step_size=1.0, steps=2, weight_decay=0.05).replace(
    asymptotics={"samples": 2000, "replicates": 2}
)
NETWORK = Network(PROBLEM.student.activation, PROBLEM.student.readout, PROBLEM.loss)
NONE, ALL = np.zeros((1, 0)), np.eye(1)


@pytest.fixture(scope="module")
def moment():
    seed = replicate_seeds(0, 1)[0]
    run = run_replicate(PROBLEM, 20.0, seed, easy_basis=NONE, observers={2: lambda m: m}, test=False)
    return run.observations[2]


def analysed(moment, **options):
    return spectra.spectrum(
        PROBLEM.teacher.link,
        moment,
        delta=20.0,
        weight_decay=0.05,
        easy_basis=NONE,
        hard_basis=ALL,
        **options,
    )


def test_neurons_of_one_law_pool_their_samples(moment) -> None:
    found = analysed(moment, blocks=True, groups=[[0, 1]])
    own = NETWORK.block_curvature(moment.design.preactivations(moment.weights), moment.responses)
    pooled = Bulk(own.reshape(1, 1, -1), 20.0).edge()
    assert found.left_edge == pytest.approx(pooled.point.value + 0.05, rel=1e-9)
    assert len({o.value for o in found.hard_left}) == 1
    assert len(found.hard_left) == 2
    alone = analysed(moment, blocks=True)
    assert len({o.value for o in alone.hard_left}) == 2
    assert alone.left_edge < found.left_edge  # the lowest of two fluctuating edges


def test_the_gap_is_that_of_both_equations_on_the_same_samples(moment) -> None:
    blocks, full = analysed(moment, blocks=True, groups=[[0, 1]], compared=True), analysed(moment, blocks=False)
    edge = (blocks.left_edge - full.left_edge) / abs(full.left_edge - 0.05)
    assert blocks.gap.left_edge == pytest.approx(edge, rel=1e-6)
    lowest = (blocks.hard_left[0].value - full.hard_left[0].value) / abs(full.hard_left[0].value - 0.05)
    assert blocks.gap.lowest == pytest.approx(lowest, rel=1e-6)
    assert blocks.gap.samples == 2000
    assert analysed(moment, blocks=True).gap is None


def test_the_gap_is_in_the_document_and_in_words(monkeypatch) -> None:
    monkeypatch.setattr(spectra, "FULL_WIDTH", 1)
    monkeypatch.setattr(module, "FULL_WIDTH", 1)
    found = predict(PROBLEM, delta=20.0, times=[0, 2])
    first, last = found.to_dict()["runs"][0]["hessian"]
    assert first["blocks"] is last["blocks"] is True
    assert first["block_gap"] is None
    assert last["block_gap"].keys() == {"left_edge", "left_edge_se", "lowest", "lowest_se", "samples", "replicates"}
    assert 0 < last["block_gap"]["left_edge"] < 0.5
    (warning,) = found.warnings
    assert f"left edge {last['block_gap']['left_edge']:+.1%}" in warning

    monkeypatch.setattr(module, "CHECKED_WIDTH", 1)
    monkeypatch.setattr(spectra, "CHECKED_WIDTH", 1)
    found = predict(PROBLEM, delta=20.0, times=[2])
    assert found.runs[0].hessian[0].block_gap is None
    assert "not compared with the full matrix equation, which is solved up to width 1" in found.warnings[0]


def test_a_full_hessian_is_no_approximation() -> None:
    (entry,) = predict(PROBLEM, delta=20.0, times=[0]).runs[0].hessian
    assert entry.blocks is False
    assert entry.block_gap is None


def test_neurons_of_one_law_are_averaged_over_their_permutations() -> None:
    """The same as the six permutations of the samples, put together: edge and margins, and these are equal."""
    network = Network(PROBLEM.student.activation, np.full(3, 1 / 3), PROBLEM.loss)
    rng = np.random.default_rng(0)
    h, g = rng.standard_normal((3, 1000)), rng.standard_normal(1000)
    curvature = network.curvature(h, 1.5 * np.tanh(g * g))
    orders = [list(p) for p in itertools.permutations(range(3))]
    every = np.concatenate([curvature[np.ix_(p, p)] for p in orders], axis=2)

    def found(bulk: Bulk, rows: np.ndarray) -> tuple[float, np.ndarray]:
        point = bulk.edge().point
        return point.value, margins(bulk, point, Directions(lambda i: rows[None], [slice(0, len(rows))], 1, 1))

    edge, pooled = found(Bulk(curvature, 20.0, groups=((0, 1, 2),)), g)
    expected, all_margins = found(Bulk(every, 20.0), np.tile(g, 6))
    assert edge == pytest.approx(expected, rel=1e-6)
    assert pooled == pytest.approx(all_margins, rel=1e-4)
    assert pooled[0] == pytest.approx(pooled[1], rel=1e-9)
    assert found(Bulk(curvature, 20.0, groups=[[0], [1], [2]]), g)[1] == pytest.approx(
        found(Bulk(curvature, 20.0), g)[1]
    )
