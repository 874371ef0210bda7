"""Hard directions that have nothing to do with each other: what symmetry decouples.

An orthogonal map T of the latent space that leaves the law of (g, y) and the easy directions alone commutes with every
matrix ``E[f(y, g_E) g_H g_H']``, hence with the margins of the hard outliers and with the growth of hard overlaps. All
these matrices are invariant matrices on U_H, so what every invariant matrix leaves apart is independent: a sector. Each
sector has thresholds, outliers and an escape of its own. A sector of several directions is either degenerate (rotations
among them change nothing, as for the response |g|^2) or coupled: no symmetry says which combinations of them go first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurephase.foundation.types import Array
from featurephase.subspaces.symmetry import canonical_basis, direction_name, fixed_space

if TYPE_CHECKING:
    from featurephase.subspaces.staircase import LatentSubspaces

_ROUND_OFF = 1e-7


@dataclass(frozen=True)
class HardSector:
    """Hard directions that symmetry decouples from all others."""

    basis: Array  # orthonormal columns, (k, s)
    coupled: bool  # whether several directions act in combinations that no symmetry tells

    @property
    def size(self) -> int:
        """s."""
        return int(self.basis.shape[1])

    @property
    def name(self) -> str:
        """``"g2"``; ``"a combination of g1, g2"`` where they are coupled."""
        names = ", ".join(direction_name(column) for column in self.basis.T)
        return f"a combination of {names}" if self.coupled else names


def hard_sectors(spaces: LatentSubspaces) -> tuple[HardSector, ...]:
    """The sectors of the hard directions that the response depends on, in the order of their coordinates."""
    hard = spaces.relevant_hard_basis
    size = hard.shape[1]
    if size == 0:
        return ()
    invariant = _invariant_matrices([hard.T @ s.matrix @ hard for s in spaces.symmetries], size)
    # Eigenspaces of a generic invariant matrix; those that some other invariant matrix connects belong together.
    generic = np.tensordot(np.random.default_rng(0).standard_normal(len(invariant)), invariant, axes=1)
    values, vectors = np.linalg.eigh(generic)
    spaces_of = _equal_values(values)
    groups: list[list[int]] = []
    for number, columns in enumerate(spaces_of):
        linked = [g for g in groups if any(_connected(invariant, vectors, columns, spaces_of[i]) for i in g)]
        groups = [g for g in groups if g not in linked] + [[*(i for g in linked for i in g), number]]
    sectors = []
    for group in groups:
        columns = [c for i in group for c in spaces_of[i]]
        sectors.append(HardSector(canonical_basis(hard @ vectors[:, columns]), coupled=len(group) > 1))
    return tuple(sorted(sectors, key=lambda sector: int(np.argmax(np.abs(sector.basis[:, 0]) > 1e-9))))


def _invariant_matrices(maps: list[Array], size: int) -> Array:
    """Orthonormal basis (c, size, size) of the symmetric matrices that commute with all maps."""
    rows, columns = np.triu_indices(size)
    weights = np.where(rows == columns, 1.0, np.sqrt(0.5))
    symmetric = np.zeros((rows.size, size, size))
    symmetric[np.arange(rows.size), rows, columns] = weights
    symmetric[np.arange(rows.size), columns, rows] = weights
    actions = [np.einsum("aij,bij->ab", symmetric, m @ symmetric @ m.T) for m in maps]
    return np.asarray(np.einsum("ac,aij->cij", fixed_space(actions, rows.size), symmetric))


def _equal_values(values: Array) -> list[list[int]]:
    """Indices of ascending values in groups of equal ones."""
    groups = [[0]]
    for i in range(1, len(values)):
        if values[i] - values[i - 1] < _ROUND_OFF:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _connected(matrices: Array, vectors: Array, first: list[int], second: list[int]) -> bool:
    """Whether some matrix has entries between two groups of columns."""
    blocks = np.einsum("ia,cij,jb->cab", vectors[:, first], matrices, vectors[:, second])
    return bool(np.max(np.abs(blocks)) > _ROUND_OFF)
