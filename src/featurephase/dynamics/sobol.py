"""Scrambled Sobol' points, the same as :class:`scipy.stats.qmc.Sobol`'s: importing that takes longer than a short run.

Direction numbers: Joe & Kuo, SIAM J. Sci. Comput. 30 (2008), the first rows of their table. Scrambling: a random linear
map of the digits of each coordinate and a digital shift (Matousek, J. Complexity 14, 1998).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array

#: Binary digits of a point: all that a float64 holds.
_BITS = 52
#: Of each coordinate after the first: the primitive polynomial, and the first direction numbers.
_TABLE: tuple[tuple[int, tuple[int, ...]], ...] = (
    (3, (1,)),
    (7, (1, 3)),
    (11, (1, 3, 1)),
    (13, (1, 1, 1)),
    (19, (1, 1, 3, 3)),
    (25, (1, 3, 5, 13)),
    (37, (1, 1, 5, 5, 17)),
    (41, (1, 1, 5, 5, 5)),
    (47, (1, 1, 7, 11, 19)),
    (55, (1, 1, 5, 1, 1)),
    (59, (1, 1, 1, 3, 11)),
    (61, (1, 3, 5, 5, 31)),
    (67, (1, 3, 3, 9, 7, 49)),
    (91, (1, 1, 1, 15, 21, 21)),
    (97, (1, 3, 1, 13, 27, 49)),
    (103, (1, 1, 1, 15, 7, 5)),
    (109, (1, 3, 1, 15, 13, 25)),
    (115, (1, 1, 5, 5, 19, 61)),
    (131, (1, 3, 7, 11, 23, 15, 103)),
    (137, (1, 3, 7, 13, 13, 15, 69)),
    (143, (1, 1, 3, 13, 7, 35, 63)),
    (145, (1, 3, 5, 9, 1, 25, 53)),
    (157, (1, 3, 1, 13, 9, 35, 107)),
)
MOST_COORDINATES = len(_TABLE) + 1


@lru_cache(maxsize=8)
def _directions(coordinates: int) -> NDArray[np.uint64]:
    """Direction numbers (coordinates, digits), the most significant digit first."""
    numbers = np.zeros((coordinates, _BITS), dtype=object)
    numbers[0] = 1
    for row, (polynomial, first) in zip(numbers[1:], _TABLE, strict=False):
        degree = len(first)
        row[:degree] = first
        for j in range(degree, _BITS):
            value = row[j - degree]
            for k in range(degree):
                if polynomial >> (degree - 1 - k) & 1:
                    value ^= row[j - k - 1] << (k + 1)
            row[j] = value
    shifted = numbers * np.array([1 << (_BITS - 1 - j) for j in range(_BITS)], dtype=object)
    return np.asarray(shifted, dtype=np.uint64)


def sobol_points(coordinates: int, count: int, rng: np.random.Generator) -> Array:
    """The first ``count`` points of a scrambled Sobol' sequence, one row for each coordinate, (coordinates, count).

    In [0, 1), multiples of 2^-52. At most :data:`MOST_COORDINATES` coordinates.
    """
    if not 1 <= coordinates <= MOST_COORDINATES:
        raise ValueError(f"{coordinates} coordinates: from 1 to {MOST_COORDINATES} are there")
    own = rng.spawn(1)[0]
    place = np.uint64(1) << np.arange(_BITS, dtype=np.uint64)
    shift = own.integers(2, size=(coordinates, _BITS), dtype=np.uint64) @ place
    maps = np.tril(own.integers(2, size=(coordinates, _BITS, _BITS), dtype=np.uint64))
    maps[:, np.arange(_BITS), np.arange(_BITS)] = 1
    digits = _directions(coordinates)[:, :, None] >> np.arange(_BITS - 1, -1, -1, dtype=np.uint64) & np.uint64(1)
    sums = digits.astype(np.float64) @ np.swapaxes(maps, 1, 2).astype(np.float64)  # exact, and BLAS has no integers
    scrambled = (sums.astype(np.uint64) & np.uint64(1)) @ place[::-1]
    points = np.empty((coordinates, count), dtype=np.uint64)
    points[:, 0] = shift
    done = 1
    for j in range(_BITS):  # Gray code: each doubling runs through what there is backwards
        if done == count:
            break
        new = min(done, count - done)
        points[:, done : done + new] = points[:, done - 1 : (done - new - 1 if done > new else None) : -1]
        points[:, done : done + new] ^= scrambled[:, j, None]
        done += new
    return np.asarray(points * 0.5**_BITS, dtype=np.float64)
