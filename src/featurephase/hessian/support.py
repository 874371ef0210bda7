"""What curvatures the law can reach: unbounded tails, and the edge of its support.

A sample of N curvatures never shows the infimum of their law. Whether the bulk has an edge at all, and whether the edge
is set by the infimum (a non-critical edge), is a matter of the support: given y, the pre-activations have a density on
the whole space spanned by the weights, so the support is explored with samples drawn far wider than the Gaussian ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.dynamics.network import Network
    from featurephase.functions import Link


__all__ = ["CurvatureSupport", "curvature_support"]

_SCALES = 2.0 ** np.arange(0, 13)
_DRAWS = 3000
_LARGEST_PREACTIVATION = 1e4
#: The extreme curvature must keep growing by this factor at the last doublings, on average, to count as unbounded
#: (a logarithm grows by 1.04 to 1.08 there, and 3000 draws find its extremes to 2 %).
_GROWTH = 1.02
_DOUBLINGS = 4
_KEPT = 2048


@dataclass(frozen=True)
class CurvatureSupport:
    """Extreme curvatures of the law of W.

    Attributes
    ----------
    lowest, highest
        Curvatures (m, m, N') among the most negative and the most positive that the law can reach.
    unbounded_below, unbounded_above
        Whether the smallest (largest) eigenvalue of W keeps growing with the range explored.
    """

    lowest: Array
    highest: Array
    unbounded_below: bool
    unbounded_above: bool


def curvature_support(network: Network, link: Link, weights: Array, *, seed: int = 0) -> CurvatureSupport:
    """Explore the support of the curvature at weights C (K, m), whose first k rows are the latent overlaps.

    A deterministic function of its arguments: the draws have a fixed seed and are no part of any average.
    """
    k, m = link.latent_dim, network.width
    rng = np.random.default_rng(seed)
    factor = np.linalg.qr(weights[k:], mode="r") if len(weights) > k else np.zeros((0, m))
    singular = np.linalg.svd(factor, compute_uv=False)
    if len(factor) == m and singular[-1] > 1e-6 * singular[0]:
        # Whatever the latent coordinates, every h is possible: each neuron is explored at a scale of its own.
        sizes = np.sqrt(np.einsum("kr,kr->r", weights, weights))
        combined = np.concatenate([np.zeros((k, m)), np.diag(sizes)])
    else:
        combined = np.concatenate([weights[:k], factor])
    visible = len(combined)
    count = visible + link.normals

    def curvature(coordinates: Array, uniforms: Array) -> Array:
        v, e = coordinates[:visible], coordinates[visible:]
        with np.errstate(all="ignore"):
            h = np.clip(combined.T @ v, -_LARGEST_PREACTIVATION, _LARGEST_PREACTIVATION)
            return network.curvature(h, link.evaluate(v[:k], e, uniforms))

    lowest: list[Array] = []
    highest: list[Array] = []
    low_record, high_record = np.zeros(len(_SCALES)), np.zeros(len(_SCALES))
    best: tuple[float, Array, Array] = (0.0, np.zeros((count, 1)), np.zeros((link.uniforms, 1)))
    explored = len(_SCALES)
    for i, scale in enumerate(_SCALES):
        wide = rng.random((count, _DRAWS)) < 0.5
        draws = rng.standard_normal((count, _DRAWS)) * np.where(wide, scale, 1.0)
        uniforms = rng.random((link.uniforms, _DRAWS))
        w = curvature(draws, uniforms)
        finite = np.all(np.isfinite(w), axis=(0, 1))
        if not finite.all():
            explored = min(explored, i)  # overflow: growth is judged on the range before it
        if not finite.any():
            break
        w, draws, uniforms = w[:, :, finite], draws[:, finite], uniforms[:, finite]
        eigenvalues = np.linalg.eigvalsh(np.moveaxis(w, 2, 0))
        low, high = eigenvalues[:, 0], eigenvalues[:, -1]
        if low.min() < best[0]:
            j = int(np.argmin(low))
            best = (float(low[j]), draws[:, [j]], uniforms[:, [j]])
        lowest.append(w[:, :, np.argsort(low)[: _KEPT // len(_SCALES)]])
        highest.append(w[:, :, np.argsort(-high)[: _KEPT // len(_SCALES)]])
        low_record[i] = max(low_record[max(i - 1, 0)], -low.min())
        high_record[i] = max(high_record[max(i - 1, 0)], high.max())
    if network.width == 1 and best[0] < 0.0:
        lowest.append(_polished(curvature, best))
    empty = np.empty((network.width, network.width, 0))
    return CurvatureSupport(
        np.concatenate([empty, *lowest], axis=2),
        np.concatenate([empty, *highest], axis=2),
        _keeps_growing(low_record[:explored]),
        _keeps_growing(high_record[:explored]),
    )


def _polished(function: Callable[[Array, Array], Array], best: tuple[float, Array, Array]) -> Array:
    """The most negative curvature near the best draw, (1, 1, 1)."""
    _, start, uniforms = best

    def objective(x: Array) -> float:
        value = float(function(x[:, None], uniforms)[0, 0, 0])
        return value if np.isfinite(value) else np.inf

    found = minimize(
        objective, start[:, 0], method="Nelder-Mead", options={"maxfev": 400, "xatol": 1e-6, "fatol": 1e-10}
    )
    x = found.x if found.fun < best[0] else start[:, 0]
    return function(x[:, None], uniforms)


def _keeps_growing(record: Array) -> bool:
    """Growth over the last doublings together and over either half: one alone may show none by chance."""
    last = record[-_DOUBLINGS - 1 :]
    first, middle, end = last[0], last[len(last) // 2], last[-1]
    if len(last) < 3:
        return bool(len(last) < 2 or end > _GROWTH * first)
    return bool(0.0 < _GROWTH * first < middle and _GROWTH * middle < end and _GROWTH ** (len(last) - 1) * first < end)
