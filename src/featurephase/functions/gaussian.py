"""Gaussian means of functions of one variable, to rounding error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array

#: the density of N(0, 1) underflows beyond
_END = 38.0


def gaussian_mean(function: Callable[[Array], Array], breaks: Iterable[float], what: str) -> float:
    """E[function(g)], g ~ N(0, 1), by Gauss-Legendre quadrature between breakpoints, refined until it stands still.

    The function is analytic between the ``breaks``; panels shrink towards the first few of them, so that roots and
    powers there do no harm. ``what`` is what messages call it.

    Raises
    ------
    InputError
        If the mean does not exist or is not found.
    """
    inside = [b for b in breaks if abs(b) < _END]
    edges = {*inside, *np.arange(-_END, _END + 0.25, 0.5).tolist()}
    for place in inside[:8]:
        for j in range(1, 50):
            edges |= {place - 2.0**-j, place + 2.0**-j}
    panels = np.unique([e for e in edges if abs(e) <= _END])
    previous = math.inf
    for _ in range(6):
        for nodes in (24, 40):
            mean, size = _rule(function, panels, nodes, what)
            if abs(mean - previous) <= 2e-15 * size:
                return mean if abs(mean) > 1e-15 * size else 0.0
            previous = mean
        panels = np.unique(np.concatenate([panels, (panels[1:] + panels[:-1]) / 2]))
    raise InputError(f"{what}: its Gaussian mean could not be computed to rounding error")


def _rule(function: Callable[[Array], Array], panels: Array, nodes: int, what: str) -> tuple[float, float]:
    """The mean, and the mean of the absolute value."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(panels)[:, None] / 2
    points = panels[:-1, None] + half * (1 + x)
    with np.errstate(all="ignore"):
        density = np.exp(-0.5 * points**2) / math.sqrt(2 * math.pi)
        terms = half * w * density * function(points)
    if not np.isfinite(terms).all():
        raise InputError(f"{what}: it grows too fast to have a Gaussian mean")
    size = float(np.abs(terms).sum())
    if np.abs(terms[[0, -1]]).sum() > 1e-15 * size:
        raise InputError(f"{what}: it grows too fast to have a Gaussian mean")
    return math.fsum(terms.sum(axis=1)), size
