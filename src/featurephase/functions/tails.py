"""How far responses go: far out in coordinates and noise, near the ends of uniform noise, and near poles.

A pole is met by no draw, and a draw that happens to come near it decides nothing; so poles are located on lines along
single coordinates, and responses are taken at given distances from them. Everything here is deterministic.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array
from featurephase.functions.link import Link
from featurephase.functions.loss import Loss
from featurephase.functions.vector_loss import VectorLoss

#: Factors by which normal coordinates are taken farther out; the distances from a pole or an end shrink with them.
REACHES: Array = 2.0 ** np.arange(13, dtype=np.float64)
_DISTANCES: Array = 2.0 ** (-3.0 * np.arange(1.0, len(REACHES) + 1.0))
#: Draws at each reach.
_DRAWS = 2000
#: Lines on which poles are looked for: how many along each coordinate, points on each, and how far they go.
_LINES, _POINTS, _LENGTH = 8, 513, 6.0
#: Places examined on each line, points and rounds of the search around them, and by how much it narrows each time.
_PLACES, _AROUND, _ROUNDS, _NARROWED = 6, 17, 25, 0.25
#: Radii and directions in which a Gaussian mean is examined.
_RADII: Array = 0.5 * 1.05 ** np.arange(203.0)
_DIRECTIONS = 256
#: A mean is missing where its terms fall off as a power of this size, or faster than the density; 1 is the limit.
_CRITICAL = 0.99
#: Responses proved to be no larger than this leave every mean; a proved bound may be 1e300.
_MODERATE = 1e3
#: Outputs of the network at which a loss is examined.
_OUTPUTS = (-1.0, 0.0, 1.0)


class _Approach(NamedTuple):
    """Responses nearer and nearer to a pole or an end, (reaches, n) or (reaches, n, C), and what is approached."""

    responses: Array
    what: str


@lru_cache(maxsize=64)
def responses_at_reaches(link: Link) -> tuple[Array, ...]:
    """Responses (n,) or (n, C) at each of the :data:`REACHES`: coordinates far out, or as near to poles and ends."""
    rng = np.random.default_rng(0)
    count = link.latent_dim + link.normals
    out = []
    with np.errstate(all="ignore"):
        near = [a.responses for a in _approaches(link)]
        for i, scale in enumerate(REACHES):
            far = rng.random((count, _DRAWS)) < 0.5
            x = rng.standard_normal((count, _DRAWS)) * np.where(far, scale, 1.0)
            drawn = _evaluate(link, np.concatenate([x, _uniforms(rng, link.uniforms, float(_DISTANCES[i]))]))
            out.append(np.concatenate([drawn, *(part[i] for part in near)]))
    return tuple(out)


def _uniforms(rng: np.random.Generator, count: int, distance: float) -> Array:
    """Uniform noise: one half of it as it is, one quarter at a distance from either end."""
    u, side = rng.random((count, _DRAWS)), rng.random((count, _DRAWS))
    return np.where(side < 0.5, u, np.where(side < 0.75, distance, 1.0 - distance))


def _evaluate(link: Link, x: Array) -> Array:
    """Responses at rows g, e, u of any further shape: of that shape, with C at the end for vectors."""
    k, normals = link.latent_dim, link.latent_dim + link.normals
    flat = x.reshape(len(x), -1)
    y = link.evaluate(flat[:k], flat[k:normals], flat[normals:])
    return y.reshape(x.shape[1:] + y.shape[1:])


def _size(y: Array, shape: tuple[int, ...]) -> Array:
    """The largest component of responses of a shape."""
    return np.asarray(np.max(np.abs(y.reshape(*shape, -1)), axis=-1))


@lru_cache(maxsize=64)
def _approaches(link: Link) -> tuple[_Approach, ...]:
    """Every coordinate that the response depends on towards its poles, uniform noise also towards its ends."""
    rng = np.random.default_rng(1)
    found: list[_Approach] = []
    normals = link.latent_dim + link.normals
    base = np.concatenate([rng.standard_normal((normals, _LINES)), rng.random((link.uniforms, _LINES))])
    names = [f"g{j + 1}" for j in range(link.latent_dim)] + [f"e{j + 1}" for j in range(link.normals)]
    names += [f"u{j + 1}" for j in range(link.uniforms)]
    for row in range(len(base)):
        if row < link.latent_dim and row + 1 not in link.uses:
            continue
        if row >= normals:
            ends = [np.broadcast_to(_DISTANCES, (_LINES, len(REACHES))).T, 1.0 - _DISTANCES[:, None] + np.zeros(_LINES)]
            for end, places in enumerate(ends):
                found.append(_Approach(_moved(link, base, row, places), f"{names[row]} = {end}"))
        at, places = _suspects(link, base, row, row >= normals)
        steps = np.concatenate([_DISTANCES[:, None], -_DISTANCES[:, None]], axis=1)[:, :, None]
        inside = _inside(places + steps, row >= normals, _DISTANCES[:, None, None])
        y = _moved(link, base[:, at], row, inside)
        found.append(_Approach(y.reshape(len(REACHES), -1, *y.shape[3:]), f"a pole in {names[row]}"))
    return tuple(found)


def _inside(places: Array, uniform: bool, distance: Array | float = 2.0**-45) -> Array:
    """Places of uniform noise at no less than a distance from its ends."""
    return np.clip(places, distance, 1.0 - distance) if uniform else places


def _moved(link: Link, base: Array, row: int, places: Array) -> Array:
    """Responses where one coordinate of the base points (count, n) is at places (.., n)."""
    x = np.broadcast_to(base.reshape(len(base), *(1,) * (places.ndim - 1), -1), (len(base), *places.shape)).copy()
    x[row] = places
    return _evaluate(link, x)


def _suspects(link: Link, base: Array, row: int, uniform: bool) -> tuple[NDArray[np.intp], Array]:
    """Where poles may be on lines along a coordinate: the base points they run through, and the places.

    The line is bent most there, absolutely or for its size; the place is where the response differs most from what is
    usual nearby, closer and closer.
    """
    line = np.linspace(0.0, 1.0, _POINTS + 2)[1:-1] if uniform else np.linspace(-_LENGTH, _LENGTH, _POINTS)
    places = np.broadcast_to(line[:, None], (_POINTS, base.shape[1]))
    y = _size(_moved(link, base, row, places), places.shape)
    bend = np.abs(y[2:] - 2.0 * y[1:-1] + y[:-2])
    bend = np.where(np.isnan(bend), np.inf, bend)
    relative = bend / (y[2:] + y[1:-1] + y[:-2] + np.finfo(float).tiny)
    relative = np.where(np.isnan(relative), np.inf, relative)
    chosen = np.concatenate([np.argsort(-r, axis=0, kind="stable")[: _PLACES // 2] for r in (relative, bend)])
    at = np.broadcast_to(np.arange(base.shape[1]), chosen.shape).ravel()
    centre, reach = line[1:-1][chosen.ravel()], line[1] - line[0]
    offsets = np.linspace(-1.0, 1.0, _AROUND)[:, None]
    for _ in range(_ROUNDS):
        tried = _inside(centre + reach * offsets, uniform)
        y = _size(_moved(link, base[:, at], row, tried), tried.shape)
        unusual = np.abs(y - np.median(y, axis=0))
        best = np.argmax(np.where(np.isnan(unusual), np.where(np.isinf(y), np.inf, -1.0), unusual), axis=0)
        centre, reach = tried[best, np.arange(len(at))], reach * _NARROWED
    return at, centre


def missing_mean(loss: Loss | VectorLoss, link: Link, *, gradient: bool = False) -> str:
    """Where the response goes so far that E[loss] (the square of its slope) is infinite, in words; "" if nowhere.

    Decided by how the loss grows: towards a pole or an end of uniform noise as a power of the distance, of which
    the mean exists below the power 1; far out as an exponential of the squared radius, below one half.
    """
    if link.labels or (link.facts.bound <= _MODERATE and not link.facts.measured):
        return ""
    if not gradient and loss.facts.bounded:
        return ""
    with np.errstate(all="ignore"):
        for responses, what in _approaches(link):
            heights = _heights(loss, responses, gradient)
            if any(_steep(column, -np.log(_DISTANCES)) for column in heights.T):
                return f"near {what}"
        far = np.max(_heights(loss, _extremes(_rays(link)), gradient), axis=1)
        return "far out in g and e" if _steep(far, _RADII**2 / 2.0) else ""


def _extremes(y: Array) -> Array:
    """Of each row of responses, those with the largest and the smallest of each component."""
    components = y.reshape(*y.shape[:2], -1)
    known = [np.nan_to_num(s * components, nan=-np.inf, posinf=np.inf, neginf=-np.inf) for s in (1.0, -1.0)]
    at = np.concatenate([np.argmax(k, axis=1) for k in known], axis=1)
    return np.take_along_axis(y, at.reshape(*at.shape, *(1,) * (y.ndim - 2)), axis=1)


def _heights(loss: Loss | VectorLoss, y: Array, gradient: bool) -> Array:
    """Logarithms (rows, n) of the loss, or of its squared slope, at responses (rows, n) or (rows, n, C)."""
    flat = y.reshape(-1, *y.shape[2:])
    best = np.full(len(flat), -np.inf)
    for f in _OUTPUTS:
        if isinstance(loss, Loss):
            value, slope = loss.value_and_first(flat, np.full(len(flat), f))
            square = slope**2
        else:
            value, first = loss.value_and_first(flat, np.full((loss.outputs, len(flat)), f))
            square = np.sum(first**2, axis=0)
        size = np.abs(square if gradient else value)
        best = np.maximum(best, np.log(np.where(np.isnan(size), np.inf, size) + np.finfo(float).tiny))
    return best.reshape(y.shape[:2])


def _steep(heights: Array, scale: Array) -> bool:
    """Whether logarithms grow like the scale or faster over the last half of where they are finite."""
    finite = np.isfinite(heights)
    last = len(heights) if finite.all() else int(np.argmin(finite))
    if last < 2:
        return False
    first = min(last // 2, last - 2)
    return bool(heights[last - 1] - heights[first] >= _CRITICAL * (scale[last - 1] - scale[first]))


def _rays(link: Link) -> Array:
    """Responses (radii, directions) or (radii, directions, C) of normal coordinates on rays, with ordinary noise u."""
    rng = np.random.default_rng(2)
    count = link.latent_dim + link.normals
    axes = np.eye(count)
    pairs = [axes[i] + s * axes[j] for i in range(min(count, 12)) for j in range(i) for s in (1.0, -1.0)]
    rows = np.concatenate([axes, np.array(pairs).reshape(-1, count), rng.standard_normal((_DIRECTIONS, count))])
    rows = np.concatenate([rows, -rows])
    directions = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    u = rng.random((link.uniforms, directions.shape[1]))
    shape = (len(_RADII), directions.shape[1])
    x = directions[:, None, :] * _RADII[:, None]
    return _evaluate(link, np.concatenate([x, np.broadcast_to(u[:, None, :], (link.uniforms, *shape))]))
