"""Biases, trained read-outs and several outputs against dense runs that import nothing of featurephase.

The reference is recorded (``trained_record``): means over dense runs at two dimensions or more, extrapolated to
d = infinity.
"""

from __future__ import annotations

import pytest

from .evidence import Comparison, assert_agree, compare
from .trained_cases import CASES
from .trained_record import limits, recorded, times
from .trained_theory import theory_hessian, theory_trajectory

#: An outlier of the reference is compared where its eigenvectors stand clear of those of the bulk, which have up to a
#: quarter on the directions at small d: beyond, the runs in which it shows are a selection.
CLEAR = 0.5


def trajectory(name: str, samples: int, replicates: int) -> list[Comparison]:
    theory = theory_trajectory(CASES[name], times(CASES[name]), samples, replicates)
    return compare(theory, limits(recorded()[name]["trajectory"]), f"{name}: ")


def hessian(name: str, samples: int, replicates: int) -> list[Comparison]:
    """Edges and outliers of the Theta block; of the whole Hessian its edges and hard outliers, which are the same."""
    theory = theory_hessian(CASES[name], samples, replicates)
    reference = limits(recorded()[name]["hessian"])
    found = []
    for title, kinds in (("Theta", ("left edge", "right edge", "hard", "visited")), ("whole", ("left edge", "hard"))):
        measured = {n.removeprefix(f"{title}: "): e for n, e in reference.items() if n.startswith(title)}
        clear = {
            n: e
            for n, e in measured.items()
            if (n.startswith(kinds) and measured.get(n.replace("outlier", "overlap"), e).value > CLEAR) or n in kinds
        }
        assert clear.keys() <= theory.keys(), f"{name}: the theory has no {clear.keys() - theory.keys()}"
        found += compare({n: theory[n] for n in clear}, clear, f"{name}, {title}: ")
    return found


@pytest.mark.parametrize("name", ["three classes", "trained read-out, one neuron", "vector, two neurons"])
def test_trajectory(name):
    assert_agree(trajectory(name, samples=6_000, replicates=5), resolution=0.05)


@pytest.mark.parametrize("name", ["three classes", "trained read-out, one neuron", "vector, two neurons"])
def test_hessian(name):
    assert_agree(hessian(name, samples=16_000, replicates=5), resolution=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_trajectory_of_many_paths(name):
    assert_agree(trajectory(name, samples=30_000, replicates=8), resolution=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.hessian is not None])
def test_hessian_of_many_paths(name):
    assert_agree(hessian(name, samples=30_000, replicates=8), resolution=0.05)
