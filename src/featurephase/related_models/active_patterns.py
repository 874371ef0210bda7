"""The exact flow of a ReLU unit that climbs the variance of its output over orthogonal patterns.

With coordinates w_m along patterns of probabilities p, the active ones (w_m > 0) obey w' = A w with A = diag(p) - pp'
on them, the others stand still. A pattern whose coordinate reaches 0 falls out and never comes back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from featurephase.foundation.types import Array

#: Components of a start along an eigenvector that are smaller than this share of it are rounding, and count as 0.
_ROUNDING = 1e-14


def second_moments(p: Array) -> Array:
    """A = diag(p) - pp', the covariance of the pattern indicators."""
    return np.asarray(np.diag(p) - np.outer(p, p))


class _Segment(NamedTuple):
    """A stretch of time with fixed active patterns, on which the flow is linear.

    ``idle`` holds the inactive coordinates, which stand still; the active ones are exp(``log_size``) times as large as
    ``start`` (their coordinates in the eigenvectors of A on the active patterns) says.
    """

    begin: float
    length: float
    active: NDArray[np.int_]
    values: Array
    vectors: Array
    start: Array
    idle: Array
    log_size: float

    def at(self, gap: float) -> tuple[Array, float]:
        """Active coordinates after a while, and the logarithm of their unit."""
        top = _fastest(self.values, self.start)
        sizes = np.exp(np.minimum(self.values - top, 0.0) * gap)
        return self.vectors @ (sizes * self.start), self.log_size + top * gap


def _fastest(values: Array, start: Array) -> float:
    """The largest rate among the eigenvectors that the start has a component along."""
    return float(values[start != 0.0].max(initial=0.0))


def _segments(p: Array, w0: Array) -> list[_Segment]:
    """The flow of one ReLU unit from start to end; the last segment has no end."""
    w, begin, log_size = np.array(w0, dtype=np.float64), 0.0, 0.0
    active, out = np.flatnonzero(w > 0.0), []
    while True:
        if len(active):
            values, vectors = np.linalg.eigh(second_moments(p)[np.ix_(active, active)])
        else:
            values, vectors = np.zeros(0), np.zeros((0, 0))
        start = vectors.T @ w[active]
        start[np.abs(start) <= _ROUNDING * np.linalg.norm(start)] = 0.0
        length, leaver = _next_exit(values, vectors, start) if len(active) > 1 else (math.inf, -1)
        idle = w.copy()
        idle[active] = 0.0
        out.append(_Segment(begin, length, active, values, vectors, start, idle, log_size))
        if not math.isfinite(length):
            return out
        w[active], log_size = out[-1].at(length)
        w[active[leaver]] = 0.0
        active, begin = np.delete(active, leaver), begin + length


def follow(p: Array, w0: Array, times: Array) -> tuple[Array, int]:
    """The flow of one ReLU unit, exactly: matrix exponentials between the moments at which a pattern falls out.

    From the probabilities p of the patterns and the weight's coordinates along them at the start, both (pattern,): its
    direction at the times, (time, pattern), and the pattern left in the end (-1: none was active from the start).
    """
    segments = _segments(p, w0)
    ends = np.array([s.begin + s.length for s in segments])
    out = np.empty((len(times), len(p)))
    for i, time in enumerate(times):
        segment = segments[int(np.searchsorted(ends, time))]
        inner, log_size = segment.at(float(time) - segment.begin)
        row = segment.idle * math.exp(-min(log_size, 700.0))
        row[segment.active] = inner
        out[i] = row / np.linalg.norm(row)
    last = segments[-1]
    return out, int(last.active[np.argmax(last.vectors @ last.start)]) if len(last.active) else -1


def patterns_left(p: Array, w0: Array) -> list[int]:
    """The patterns that are active in the end: one, none where none was, or several where the unit rests on a saddle.

    Up to rounding: a start that is off the stable manifold of the saddle by a relative 1e-14 counts as one on it.
    """
    return [int(m) for m in _segments(p, w0)[-1].active]


def _next_exit(values: Array, vectors: Array, start: Array) -> tuple[float, int]:
    """When the first active coordinate reaches 0, and which; infinite if none does.

    Steps of a twentieth of the fastest time find the sign change, root finding its place.
    """
    top, fastest = float(values.max()), _fastest(values, start)

    def coordinates(gap: float) -> Array:
        return np.asarray(vectors @ (np.exp(np.minimum(values - fastest, 0.0) * gap) * start))

    low, high = 0.0, 0.05 / top
    while coordinates(high).min() > 0.0:
        low, high = high, 1.1 * high + 0.05 / top
        if high * top > 1e5:  # equal coordinates stay equal: the unit rests on a saddle
            return math.inf, -1
    leaver = int(np.argmin(coordinates(high)))
    if coordinates(low)[leaver] <= 0.0:  # at the border already, up to rounding
        return low, leaver
    return float(brentq(lambda t: coordinates(t)[leaver], low, high, xtol=1e-14 / top, rtol=1e-14)), leaver
