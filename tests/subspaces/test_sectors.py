"""Sectors of hard directions: what symmetry decouples, and what it leaves together."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.problem import Teacher
from featurephase.subspaces import latent_subspaces
from featurephase.subspaces.sectors import hard_sectors


def sectors(dimension: int, link: str):
    spaces = latent_subspaces(Teacher(dimension, link), samples=2**15, max_samples=2**17, quiet=True)
    return hard_sectors(spaces)


@pytest.mark.parametrize(
    ("dimension", "link", "names", "coupled"),
    [
        (3, "1.5*tanh(g1**2) + 0.75*tanh(g2**2) + 0.3*tanh(g3**2)", ["g1", "g2", "g3"], False),
        (2, "g1*g2", ["0.707*g1 + 0.707*g2", "0.707*g1 - 0.707*g2"], False),
        (2, "tanh(g1**2 + g2**2)", ["g1, g2"], False),
        (3, "tanh(g1**2 + g2**2) + tanh(g3**2)", ["g1, g2", "g3"], False),
        (2, "tanh(g1) + 1.5*tanh(g2**2)", ["g2"], False),
        (2, "tanh((g1 + 2*g2)**2) + 0.3*tanh(g1*g2)", ["a combination of g1, g2"], True),
        (1, "tanh(g1)", [], False),
    ],
)
def test_sectors(dimension, link, names, coupled):
    found = sectors(dimension, link)
    assert [s.name for s in found] == names
    assert all(s.coupled is coupled for s in found)
    if found:
        basis = np.concatenate([s.basis for s in found], axis=1)
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
