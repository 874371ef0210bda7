"""What curvatures the law can reach: unbounded tails, and the edge of its support.

A sample of N curvatures never shows the infimum of their law. Whether the bulk has an edge at all, and whether the edge
is set by the infimum (a non-critical edge), is a matter of the support: given y, the pre-activations have a density on
the whole space spanned by the weights, so the support is explored with samples drawn far wider than the Gaussian ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from featurephase.dynamics.network import Network
from featurephase.foundation.types import Array
from featurephase.hessian.unbounded import curvature_bounds, keeps_growing

if TYPE_CHECKING:
    from featurephase.functions import Activation, Link, Loss
    from featurephase.functions.vector_loss import VectorLoss


_SCALES = 2.0 ** np.arange(0, 13)
_DRAWS = 3000
_LARGEST_PREACTIVATION = 1e4
#: Uniform noise comes no nearer to its ends: one step of a generator's.
_END = 2.0**-53
_KEPT = 2048
#: Search for the infimum: first spread of the draws around the best one, and how it shrinks.
_POLISH_SPREAD, _POLISH_SHRINKS, _POLISH_ROUNDS = 0.3, 0.6, 24
#: Scales that the search for a tail begins with.
_TAIL_SCALES = 6
#: Search for the nearest point of a tail: candidates, rounds that draw closer around the best, halvings along a ray.
_CANDIDATES, _ROUNDS, _HALVINGS = 256, 6, 16


@dataclass(frozen=True)
class _Law:
    """The law of the curvature at weights C: W as a function of independent normal coordinates.

    Attributes
    ----------
    latent, rest
        M (k, m) and an upper triangle (q, m): h = M'g + rest'v, where (g, v, e, z) are the coordinates, N(0, I), and
        the distribution function makes z uniform noise.
    """

    network: Network
    link: Link
    latent: Array
    rest: Array

    @classmethod
    def of(cls, network: Network, link: Link, weights: Array) -> _Law:
        k, m = link.latent_dim, network.width
        rest = np.asarray(np.linalg.qr(weights[k:], mode="r")) if len(weights) > k else np.zeros((0, m))
        return cls(network, link, weights[:k], rest)

    @property
    def independent(self) -> bool:
        """Whether every h is possible whatever the latent coordinates."""
        singular = np.linalg.svd(self.rest, compute_uv=False)
        return len(self.rest) == self.network.width and bool(singular[-1] > 1e-6 * singular[0])

    def curvature(self, coordinates: Array) -> Array:
        """W (m, m, n) for coordinates (count, n)."""
        counts = len(self.latent), len(self.rest), self.link.normals
        g, v, e, z = np.split(coordinates, np.cumsum(counts))
        with np.errstate(all="ignore"):
            h = np.clip(self.latent.T @ g + self.rest.T @ v, -_LARGEST_PREACTIVATION, _LARGEST_PREACTIVATION)
            return self.network.curvature(h, self.link.evaluate(g, e, np.clip(ndtr(z), _END, 1.0 - _END)))

    def draws(self, scale: float, rng: np.random.Generator) -> Array:
        """Coordinates, about one half of them ``scale`` times as large as the law has them."""
        k, m = len(self.latent), self.network.width
        count = k + len(self.rest) + self.link.normals + self.link.uniforms
        wide = rng.random((count, _DRAWS)) < 0.5
        x = rng.standard_normal((count, _DRAWS)) * np.where(wide, scale, 1.0)
        if self.independent:  # each neuron at a scale of its own, whatever the others do
            sizes = np.sqrt(np.sum(self.latent**2, axis=0) + np.sum(self.rest**2, axis=0))
            x[k : k + m] = np.linalg.solve(self.rest.T, sizes[:, None] * x[k : k + m] - self.latent.T @ x[:k])
        return x


@dataclass(frozen=True)
class CurvatureSupport:
    """Extreme curvatures of the law of W.

    Attributes
    ----------
    lowest, highest
        Curvatures (m, m, N') among the most negative and the most positive that the law can reach; none where nobody
        needs them: more than one neuron whose bounds are known.
    unbounded_below, unbounded_above
        Whether the smallest (largest) eigenvalue of W is unbounded: as
        :func:`~featurephase.hessian.unbounded.curvature_bounds` says, or where that is silent because it keeps growing
        with the range explored.
    """

    lowest: Array
    highest: Array
    unbounded_below: bool
    unbounded_above: bool
    _law: _Law = field(repr=False, compare=False)

    def tail_distance(self, root: Array, sign: float = 1.0, neuron: int | None = None, *, far: float = np.inf) -> float:
        """Smallest norm of a sample's coordinates at which I + sign L'WL > 0 fails, for L = ``root``; inf if nowhere.

        With a ``neuron``, its own W_rr takes the place of W, and L is a number. Beyond ``far`` the search ends.

        The probability of such a sample falls off like that of a normal variable beyond this distance (the first-order
        reliability method: Hasofer & Lind 1974). Draws far beyond the Gaussian scale are moved towards the origin along
        their rays as far as positivity fails, then drawn anew around the nearest of them. Deterministic.
        """
        rng = np.random.default_rng(0)
        x = np.concatenate([self._law.draws(scale, rng) for scale in _SCALES[:_TAIL_SCALES]], axis=1)

        def fails_at(x: Array) -> NDArray[np.bool_]:
            w = self._law.curvature(x)
            w = np.moveaxis(w if neuron is None else w[neuron, neuron][None, None], 2, 0)
            finite = np.all(np.isfinite(w), axis=(1, 2))
            inner = sign * (root.T @ np.where(finite[:, None, None], w, 0.0) @ root)
            return np.asarray(np.linalg.eigvalsh(inner)[:, 0] < -1.0)

        x = x[:, fails_at(x)]
        if not x.size:
            return np.inf
        x = _drawn_in(fails_at, x[:, np.argsort(np.linalg.norm(x, axis=0))[:_CANDIDATES]])
        spread = 0.5
        for _ in range(_ROUNDS):
            best = int(np.argmin(np.linalg.norm(x, axis=0)))
            around = x[:, [best]] + spread * rng.standard_normal((len(x), _CANDIDATES))
            around = np.column_stack([x[:, best], around])
            fails = fails_at(around)
            fails[0] = True
            x = _drawn_in(fails_at, around[:, fails])
            spread *= 0.6
            if np.linalg.norm(x, axis=0).min() > far:
                break
        return float(np.linalg.norm(x, axis=0).min())


def _drawn_in(fails_at: Callable[[Array], NDArray[np.bool_]], x: Array) -> Array:
    """Points at which positivity fails, moved towards the origin by halvings as long as it does."""
    low, high = np.zeros(x.shape[1]), np.ones(x.shape[1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fails = fails_at(x * middle)
        low, high = np.where(fails, low, middle), np.where(fails, middle, high)
    return x * high


def curvature_support(network: Network, link: Link, weights: Array, *, seed: int = 0) -> CurvatureSupport:
    """The support of the curvature at weights C (K, m), whose first k rows are the latent overlaps.

    A deterministic function of its arguments: the draws have a fixed seed and are no part of any average. Where every
    pre-activation is possible whatever the response, the support does not depend on the weights: it is explored once.
    """
    law = _Law.of(network, link, weights)
    if not law.independent:
        return _explored(law, seed)
    known = curvature_bounds(network, link)
    if network.width > 1 and known.below is not None and known.above is not None:
        none = np.empty((network.width, network.width, 0))
        return CurvatureSupport(none, none, known.below, known.above, law)
    if network.width > 1:
        found = _explored(law, seed)
    else:
        found = _of_one_neuron(
            network.activation,
            tuple(map(float, network.outer.readout[0])),
            None if network.output_bias is None else tuple(map(float, network.output_bias)),
            network.loss,
            link,
            seed,
        )
    below, above = (
        seen if fact is None else fact
        for seen, fact in ((found.unbounded_below, known.below), (found.unbounded_above, known.above))
    )
    return replace(found, unbounded_below=below, unbounded_above=above, _law=law)


@lru_cache(maxsize=64)
def _of_one_neuron(
    activation: Activation,
    readout: tuple[float, ...],
    output_bias: tuple[float, ...] | None,
    loss: Loss | VectorLoss,
    link: Link,
    seed: int,
) -> CurvatureSupport:
    """Where every pre-activation is possible, a bias of the neuron changes nothing."""
    a = np.array(readout) if len(readout) == 1 else np.array([readout])
    network = Network(activation, a, loss, output_bias=None if output_bias is None else np.array(output_bias))
    return _explored(_Law(network, link, np.zeros((link.latent_dim, 1)), np.ones((1, 1))), seed)


def _explored(law: _Law, seed: int) -> CurvatureSupport:
    """Draws far wider than the law has them: extreme curvatures, and whether they grow with the range."""
    rng = np.random.default_rng(seed)
    lowest: list[Array] = []
    highest: list[Array] = []
    low_record, high_record = np.zeros(len(_SCALES)), np.zeros(len(_SCALES))
    best: tuple[float, Array] | None = None
    explored = len(_SCALES)
    for i, scale in enumerate(_SCALES):
        draws = law.draws(scale, rng)
        w = law.curvature(draws)
        finite = np.all(np.isfinite(w), axis=(0, 1))
        if not finite.all():
            explored = min(explored, i)  # overflow: growth is judged on the range before it
        if not finite.any():
            break
        w, draws = w[:, :, finite], draws[:, finite]
        eigenvalues = np.linalg.eigvalsh(np.moveaxis(w, 2, 0))
        low, high = eigenvalues[:, 0], eigenvalues[:, -1]
        if low.min() < (best[0] if best else 0.0):
            j = int(np.argmin(low))
            best = (float(low[j]), draws[:, [j]])
        lowest.append(w[:, :, np.argsort(low)[: _KEPT // len(_SCALES)]])
        highest.append(w[:, :, np.argsort(-high)[: _KEPT // len(_SCALES)]])
        low_record[i] = max(low_record[max(i - 1, 0)], -low.min())
        high_record[i] = max(high_record[max(i - 1, 0)], high.max())
    width = law.network.width
    if width == 1 and best is not None:
        lowest.append(_polished(law.curvature, best))
    empty = np.empty((width, width, 0))
    return CurvatureSupport(
        np.concatenate([empty, *lowest], axis=2),
        np.concatenate([empty, *highest], axis=2),
        keeps_growing(low_record[:explored]),
        keeps_growing(high_record[:explored]),
        law,
    )


def _polished(function: Callable[[Array], Array], best: tuple[float, Array]) -> Array:
    """The most negative curvature near the best draw, (1, 1, 1): drawn anew around the best, closer and closer."""
    value, x = best
    rng = np.random.default_rng(0)
    spread = _POLISH_SPREAD * max(1.0, float(np.max(np.abs(x))))
    for _ in range(_POLISH_ROUNDS):
        near = x + spread * rng.standard_normal((len(x), _CANDIDATES))
        found = function(near)[0, 0]
        j = int(np.nanargmin(np.where(np.isfinite(found), found, np.inf)))
        if found[j] < value:
            value, x = float(found[j]), near[:, [j]]
        spread *= _POLISH_SHRINKS
    return function(x)
