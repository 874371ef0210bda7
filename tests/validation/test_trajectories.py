"""The limit dynamics against gradient descent on real data matrices, extrapolated to d = infinity."""

from __future__ import annotations

import pytest

from .cases import CASES
from .evidence import assert_agree
from .experiments import trajectory_comparison


def times(case):
    return [0, 1, 3, case.steps]


@pytest.mark.parametrize("name", ["one neuron", "noisy", "two relus", "four neurons"])
def test_small_dimensions(name):
    case = CASES[name]
    found = trajectory_comparison(case, times(case), samples=10_000, replicates=6, dimension=100, seeds=16)
    assert_agree(found, resolution=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES.values() if c.delta <= 8], ids=lambda c: c.name)
def test_larger_dimensions(case):
    found = trajectory_comparison(case, times(case), samples=20_000, replicates=8, dimension=200, seeds=30)
    assert_agree(found, resolution=0.12)
