"""Edges, outliers, overlaps and density of the Hessian against dense Hessians, extrapolated to d = infinity."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .cases import CASES, SPECTRA
from .evidence import assert_agree
from .experiments import spectrum_comparison


def compared(key, **sizes):
    name, delta, time = key
    return spectrum_comparison(replace(CASES[name], delta=delta), time, **sizes)


@pytest.mark.parametrize("key", [SPECTRA[0], SPECTRA[1], SPECTRA[4]], ids=lambda k: k[0])
def test_small_dimensions(key):
    density = len(CASES[key[0]].readout) == 1
    found = compared(key, samples=6_000, replicates=5, dimension=80, seeds=16, density=density)
    assert_agree(found, resolution=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("key", SPECTRA, ids=lambda k: k[0])
def test_larger_dimensions(key):
    width = len(CASES[key[0]].readout)
    found = compared(key, samples=6_000, replicates=6, dimension=200 // width, seeds=16, density=width != 3)
    assert_agree(found, resolution=0.1)
