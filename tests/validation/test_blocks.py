"""The block approximation is exact for one neuron and closes in on the full equation like 1/m."""

from __future__ import annotations

import pytest

from . import blocks
from .blocks import QUOTED_GAP, RESOLUTION, THRESHOLD_RESOLUTION, Sizes
from .evidence import assert_agree


@pytest.mark.slow
def test_single_neurons_have_their_own_thresholds():
    """delta*_r per direction and their minimum against quadrature; the network's is below the minimum."""
    found = blocks.distinct_threshold(2, 8000, 4)
    assert_agree(blocks.threshold_comparison(found, 2, 4), resolution=THRESHOLD_RESOLUTION)
    assert found.block_minimum == min(b.value for b in found.blocks)
    assert found.value < found.block_minimum
    assert found.block_gap == pytest.approx(found.block_minimum / found.value - 1, abs=3 * found.block_gap_se)


def test_two_neurons_at_the_start():
    """Blocks, full equation, dense Hessians, quadrature, and two unknowns."""
    found = blocks.measure(2, 0, Sizes(8000, 4, 8000, 4, 120, 10))
    assert_agree(found.comparisons(), resolution=RESOLUTION)
    assert 0.0 < found.gap.value < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("width", "time"), [(4, 0), (4, 5), (8, 0)])
def test_wider(width, time):
    found = blocks.measure(width, time, Sizes(10_000, 4, 3000, 4, 80, 8))
    assert_agree(found.comparisons(), resolution=RESOLUTION)
    assert 0.0 < found.gap.value < 1.0 / width


@pytest.mark.slow
def test_the_quoted_gap():
    """lambda_min at readout 1.5/m, delta = 6: 5.5 % apart at 16 neurons, so 11 % at 8 if the gap falls like 1/m."""
    gaps = []
    for width in (2, 4, 8):
        case = blocks.wide(width, strength=1.5, delta=6.0)
        own, whole = (blocks.symmetric(case, 0, 20_000, 4)[0].outlier, blocks.scalar(case).edge_and_outlier(6.0)[1])
        gaps.append(1 - width * whole / own.value)
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(2 * QUOTED_GAP, rel=0.25)
