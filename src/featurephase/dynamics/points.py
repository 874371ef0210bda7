"""Sample paths of the limit as randomised quasi-Monte Carlo points.

In the limit n, d -> infinity an average over samples is an integral over the coordinates of a path: latent
coordinates, noise, projections on the first weights, then two fresh numbers a step. The first coordinates carry most of
the variance, so they come from a scrambled Sobol' sequence (Owen 1995; Joe & Kuo 2008) and integrate much faster than
1/sqrt N; all later ones are pseudo-random. Independent scrambles are independent replicates, so standard errors hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import ndtri

from featurephase.dynamics.sobol import sobol_points
from featurephase.foundation.types import Array

#: Coordinates of a path that are quasi-random.
QUASI_RANDOM = 24
#: How many of them integrate so well that they count as known exactly: from about the ninth on, averages of products
#: with a Sobol' coordinate fluctuate like pseudo-random ones (docs/validation.md, "Sample paths", measures it).
INTEGRATED = 8
#: Half the distance of points: none is 0 or 1 once it is moved to its cell's centre.
_HALF = 0.5**53


class PathCoordinates:
    """Rows of coordinates of N sample paths, each row a coordinate of its own; drawn from like a NumPy generator.

    Parameters
    ----------
    samples
        N; every row has this length. A power of two integrates best.
    rng
        Scrambles the points, puts the paths in random order (so that any subset of them is a fair sample), and draws
        the rows after the first ``quasi``.
    quasi
        Number of quasi-random coordinates.
    """

    def __init__(self, samples: int, rng: np.random.Generator, quasi: int = QUASI_RANDOM) -> None:
        self.samples, self.rng = samples, rng
        self._points: Array = np.empty((quasi, samples))
        if quasi:
            points = sobol_points(quasi, samples, rng)
            order = rng.permutation(samples)
            for row, point in zip(self._points, points, strict=True):
                row[order] = point
            self._points += _HALF

    def standard_normal(
        self, size: tuple[int, int] | None = None, dtype: DTypeLike = np.float64, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """The next rows as N(0, 1) variables, (rows, N); arguments as those of NumPy's generators."""
        rows = np.empty(size, dtype) if out is None and size is not None else out
        assert rows is not None
        quasi = self._take(len(rows))
        rows[: len(quasi)] = ndtri(quasi)
        self.rng.standard_normal(out=rows[len(quasi) :], dtype=rows.dtype)
        return rows

    def random(self, size: tuple[int, int]) -> Array:
        """The next rows as U(0, 1) variables, (rows, N)."""
        quasi = self._take(size[0])
        return np.concatenate([quasi, self.rng.random((size[0] - len(quasi), self.samples))])

    def _take(self, rows: int) -> Array:
        """The next quasi-random rows, as many as are left of those asked for."""
        taken, self._points = self._points[:rows], self._points[rows:]
        return taken
