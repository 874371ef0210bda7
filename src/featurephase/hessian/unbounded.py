r"""Whether the curvature of single samples is bounded: a fact about loss, activation, link and readout.

With ``W_rs = loss'' a_r a_s sigma'_r sigma'_s + [r = s] loss' a_r sigma''_r`` (theory/setting) the curvature is a
function of the pre-activations and the response. Where the weights of the neurons are linearly independent beyond the
latent directions, every h is possible whatever the response, so that the bounds of W follow from the functions alone:
they depend neither on weights and time nor on the number of sample paths. One neuron sees another only through the
output, so a scan of (own pre-activation, output of the others, response), each farther and farther out, is enough.

A loss may be curved within a thin strip only (where the residual is moderate, say), and the strip run out to infinity.
No grid of pre-activations meets it there: those are added at which the output is at given distances from the response.

Unbounded below means that the bulk of the Hessian has no left edge (theory/hessian), unless the tail is so thin
that no data set of realistic size has a sample in it: :data:`VISIBLE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from featurephase.foundation.types import Array
from featurephase.functions import Loss
from featurephase.functions.tails import REACHES, missing_mean, responses_at_reaches
from featurephase.results.status import Status, heavy_tails, unbounded_curvature

if TYPE_CHECKING:
    from featurephase.dynamics.network import Network
    from featurephase.functions import Activation, Link
    from featurephase.functions.vector_loss import VectorLoss

#: A tail is visible where fresh samples within so many standard deviations of their coordinates reach it: beyond, there
#: is one sample in three million. (Measured: edges drift with log N where it begins at 1.7 to 4.6; where the curvature
#: is unbounded but no edge moves, it begins at 5.3 for a noisy response and at 7 to 100 for several neurons.)
VISIBLE = 5.0

#: Within this distance from 0 a pre-activation is scanned densely; farther out at multiples by the factors above.
_NEAR = 8.0
_DENSE = 161
#: Distances of the output from the response, and from 0, at which pre-activations are added (a loss of the product of
#: both is curved where the output is about the inverse of the response); halvings that find them.
_FROM_RESPONSE = np.concatenate([[0.0], 2.0 ** np.arange(-7, 11), -(2.0 ** np.arange(-7, 11))])
_FROM_ZERO = np.concatenate([2.0 ** np.arange(-30, 11, 2), -(2.0 ** np.arange(-30, 11, 2))])
_HALVINGS = 50
#: An extreme must grow by this factor at each of the last doublings, on average, to count as unbounded (a logarithm
#: grows by 1.04 to 1.08 there).
_GROWTH = 1.02
_DOUBLINGS = 4

_CAUSES = {
    "response": "the response is unbounded",
    "output": "the output of the other neurons is unbounded",
    "slope": "the activation's slope is unbounded and the loss is concave where the output is near the response",
    "activation": "it grows with the neuron's own pre-activation",
}
_REMEDIES = {
    "response": "a bounded link (tanh(..))",
    "output": "a bounded activation (tanh, erf)",
    "slope": "an activation of bounded slope (gelu, tanh)",
    "activation": "an activation whose second derivative decays (gelu, tanh)",
}


@dataclass(frozen=True)
class CurvatureBounds:
    """What the functions say of the smallest and the largest eigenvalue of W over all samples.

    Attributes
    ----------
    below, above
        Whether they are unbounded; ``None`` where the functions alone do not decide.
    causes
        What makes it unbounded below: some of ``"response"``, ``"output"``, ``"slope"``, ``"activation"``.
    causes_above
        The same above.
    bounded_slope
        Whether a loss with bounded slope would have a bounded curvature here.
    """

    below: bool | None
    above: bool | None
    causes: tuple[str, ...] = ()
    causes_above: tuple[str, ...] = ()
    bounded_slope: bool = True

    @property
    def reason(self) -> str:
        """Why the curvature is unbounded below: ``"the response is unbounded"``; empty where it is not."""
        return " and ".join(_CAUSES[c] for c in self.causes)

    @property
    def advice(self) -> str:
        """What would bound it, in words; empty where nothing need be done."""
        if not self.causes:
            return ""
        remedy = " together with ".join(_REMEDIES[c] for c in self.causes)
        convex = "convex " if "slope" in self.causes else ""
        slope = f", or a {convex}loss with bounded slope (pseudo_huber, huber, log_cosh)" if self.bounded_slope else ""
        return remedy + slope


def curvature_bounds(network: Network, link: Link) -> CurvatureBounds:
    """Whether the curvature W of single samples is bounded below and above: one answer for every command.

    For neurons whose weights are linearly independent beyond the latent directions; a function of the activation, the
    readout, the loss and the link alone.
    """
    readout = tuple(tuple(map(float, row)) for row in network.outer.readout)
    return _bounds(network.activation, readout, network.loss, link)


def heavy_tails_status(network: Network, link: Link) -> Status | None:
    """Why training has no limit, where responses are so heavily tailed that gradients have no variance."""
    where = missing_mean(network.loss, link, gradient=True)
    return heavy_tails(where) if where else None


def unbounded_status(network: Network, link: Link) -> Status:
    """What every command says where the bulk has no left edge: why, and what would give it one."""
    bounds = curvature_bounds(network, link)
    return unbounded_curvature(bounds.reason, bounds.advice)


@lru_cache(maxsize=64)
def _bounds(
    activation: Activation, readout: tuple[tuple[float, ...], ...], loss: Loss | VectorLoss, link: Link
) -> CurvatureBounds:
    if activation.singular_curvature or loss.singular_curvature:
        return CurvatureBounds(None, None)
    with np.errstate(all="ignore"):
        scans = [_Scan(activation, np.array(readout), r, loss, link) for r in _different(readout)]
    below, above = _decided([s.below for s in scans]), _decided([s.above for s in scans])
    causes = tuple(c for c in _CAUSES if any(c in s.causes for s in scans)) if below else ()
    causes_above = tuple(c for c in _CAUSES if any(c in s.causes_above for s in scans)) if above else ()
    return CurvatureBounds(below, above, causes, causes_above, all(s.bounded_slope for s in scans))


def _different(readout: tuple[tuple[float, ...], ...]) -> list[int]:
    """One neuron for each value of the readout: neurons of one value have the same range of curvatures."""
    return [readout.index(a) for a in dict.fromkeys(readout)]


def _decided(verdicts: list[bool | None]) -> bool | None:
    if any(v for v in verdicts):
        return True
    return None if None in verdicts else False


class _Scan:
    """One neuron: bounds on its share in W over its own pre-activation, the output of the others, and the response.

    With several outputs, extreme outputs and responses are those along the neuron's readout a, because its share in W
    depends on them through a'l' and a'l''a. Biases only shift what is scanned without end.
    """

    def __init__(
        self, activation: Activation, readout: Array, neuron: int, loss: Loss | VectorLoss, link: Link
    ) -> None:
        a = readout[neuron]
        others = np.delete(readout, neuron, axis=0)
        along = a / np.linalg.norm(a) if len(a) > 1 and np.any(a) else np.ones(len(a))
        grid = _preactivations()
        c, c_reach = _outputs(activation, others, along, *grid)
        y, y_reach = _responses(link, along)
        h, h_reach = _with_matched(activation, grid, a, along, loss, y, c)
        value, slope = activation.value_and_first(h)
        bend = activation.second(h)
        outputs = [v * a[:, None, None] + c.T[:, :, None] for v in value]
        parts = [_along(loss, a, y[i : i + 1], f) for i, f in enumerate(outputs)]
        push, pull, lowest, highest = (np.stack(part) for part in zip(*parts, strict=True))
        pull = np.maximum(pull, 0.0) if loss.facts.convex else pull  # without the rounding of far residuals
        rest = _product(push, bend)
        of_slope = _product(pull, slope**2)
        own = of_slope + rest
        # The other neurons' slopes enter by loss'' alone: bounds of the eigenvalues of W from both sides.
        elsewhere = float(np.sum(others**2)) * _growing_maximum(slope**2, h_reach)[h_reach]
        slopes = float(np.sum(a**2)) * slope**2 + elsewhere
        lower = rest + np.minimum(_product(lowest, slopes), 0.0) if len(others) else own
        upper = rest + np.maximum(_product(highest, slopes), 0.0) if len(others) else own
        self._unmatched = len(grid[0])
        self._reaches = y_reach[:, None, None], c_reach[None, :, None], h_reach
        self.below = self._verdict(-lower, -own)
        self.above = self._verdict(upper, own)
        self.causes = self._causes(-own, -of_slope) if self.below else []
        self.causes_above = self._causes(own, of_slope) if self.above else []
        self.bounded_slope = not self._unbounded(np.abs(bend))

    def _verdict(self, bound: Array, reached: Array) -> bool | None:
        if not self._unbounded(bound):
            return False
        return True if self._unbounded(reached) else None

    def _unbounded(self, values: Array, free: tuple[bool, bool, bool] = (True, True, True)) -> bool:
        """Whether the largest value keeps growing as the arguments that are free go farther out.

        By itself where outputs are matched to nothing: there it may be smaller and yet grow for longer.
        """
        return any(self._grows(values, free, where) for where in (slice(self._unmatched), slice(None)))

    def _grows(self, values: Array, free: tuple[bool, bool, bool], where: slice) -> bool:
        values = values[..., where]
        last = len(REACHES) - 1
        reach = np.zeros(values.shape, dtype=np.intp)
        for part, moves in zip(self._reaches, free, strict=True):
            part = part[..., where] if part.shape[2] > 1 else part
            reach = np.maximum(reach, part if moves else np.where(part > 0, last + 1, 0))
        record = np.full(last + 2, -np.inf)
        np.maximum.at(record, reach, np.where(np.isnan(values), -np.inf, values))
        record = np.maximum.accumulate(np.maximum(record[:-1], 0.0))
        finite = np.isfinite(record)
        return keeps_growing(record[: int(np.argmin(finite))] if not finite.all() else record)

    def _causes(self, values: Array, of_slope: Array) -> list[str]:
        """Which arguments make values grow, each by itself; else the activation's slope; else without which none do."""
        names = ("response", "output", "activation")
        alone = [c for c in names if self._unbounded(values, (c == names[0], c == names[1], c == names[2]))]
        if alone or self._unbounded(of_slope):
            return alone or ["slope"]
        needed = [c for c in names if not self._unbounded(values, (c != names[0], c != names[1], c != names[2]))]
        return needed or ["activation"]


def _product(x: Array, y: Array) -> Array:
    """A product in which 0 is nothing, whatever the other factor."""
    return np.where((x == 0.0) | (y == 0.0), 0.0, x * y)


def _preactivations() -> tuple[Array, np.ndarray]:
    near = np.linspace(-_NEAR, _NEAR, _DENSE)
    far = _NEAR * REACHES[1:]
    h = np.concatenate([near, far, -far])
    steps = np.arange(1, len(REACHES))
    return h, np.concatenate([np.zeros(_DENSE, dtype=np.intp), steps, steps])


def _with_matched(
    activation: Activation,
    grid: tuple[Array, np.ndarray],
    a: Array,
    along: Array,
    loss: Loss | VectorLoss,
    y: Array,
    c: Array,
) -> tuple[Array, np.ndarray]:
    """Pre-activations (responses, outputs of the others, H) and their reach: the grid, and where outputs are matched.

    Outputs along the neuron's readout are matched to the response, at all the distances, and to 0.
    """
    shape = (len(y), len(c), len(grid[0]))
    h, reach = np.broadcast_to(grid[0], shape), np.broadcast_to(grid[1], shape)
    if not np.any(a):
        return h, reach
    target = y if isinstance(loss, Loss) else along @ loss.targets(y)
    wanted = np.concatenate([target[:, None] + _FROM_RESPONSE, np.tile(_FROM_ZERO, (len(y), 1))], axis=1)
    levels = (wanted[:, None, :] - (c @ along)[None, :, None]) / float(a @ along)
    matched = _outermost(activation, levels)
    steps = np.ceil(np.log2(np.fmax(np.abs(matched) / _NEAR, 1.0))).astype(np.intp)
    return np.concatenate([h, matched], axis=2), np.concatenate([reach, steps], axis=2)


def _outermost(activation: Activation, levels: Array) -> Array:
    """The outermost pre-activations, (.., 2 n), at which the activation has given values (.., n); NaN if nowhere."""
    far = _NEAR * 2.0 ** np.arange(1.0 / 16, np.log2(REACHES[-1]) + 1.0 / 32, 1.0 / 16)
    places = np.concatenate([-far[::-1], np.linspace(-_NEAR, _NEAR, _DENSE), far])
    wanted, which = np.unique(levels, return_inverse=True)
    above = activation.value(places) > wanted[:, None]
    changes = above[:, 1:] != above[:, :-1]
    first = np.argmax(changes, axis=1)
    last = changes.shape[1] - 1 - np.argmax(changes[:, ::-1], axis=1)
    found = np.full((2, len(wanted)), np.nan)
    for side, (at, rows) in enumerate(((first, changes.any(axis=1)), (last, first < last))):
        at, goal = at[rows], wanted[rows]
        low, high, start = places[at], places[at + 1], above[rows, at]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            stays = (activation.value(middle) > goal) == start
            low, high = np.where(stays, middle, low), np.where(stays, high, middle)
        found[side, rows] = low
    return np.concatenate(list(found[:, which.reshape(levels.shape)]), axis=-1)


def _growing_maximum(values: Array, reach: np.ndarray) -> Array:
    """Largest value within each reach."""
    record = np.zeros(len(REACHES))
    np.maximum.at(record, reach, np.where(np.isnan(values), 0.0, values))
    return np.asarray(np.maximum.accumulate(record))


def _along(loss: Loss | VectorLoss, a: Array, y: Array, f: Array) -> tuple[Array, Array, Array, Array]:
    """a'l', a'l''a, and bounds of the eigenvalues of l'' (by Gershgorin's circles), for one response and f (C, ..)."""
    if isinstance(loss, Loss):
        first, second = loss.first_and_second(y, f[0])
        return first * a[0], second * a[0] ** 2, second, second
    shape = f.shape[1:]
    flat = f.reshape(len(a), -1)
    first, second = loss.first_and_second(np.repeat(y, flat.shape[1], axis=0), flat)
    diagonal = np.einsum("ccn->cn", second)
    radius = np.sum(np.abs(second), axis=1) - np.abs(diagonal)
    lowest = np.zeros(flat.shape[1]) if loss.facts.convex else np.min(diagonal - radius, axis=0)
    parts = a @ first, np.einsum("c,cdn,d->n", a, second, a), lowest, np.max(diagonal + radius, axis=0)
    return parts[0].reshape(shape), parts[1].reshape(shape), parts[2].reshape(shape), parts[3].reshape(shape)


def _outputs(
    activation: Activation, others: Array, along: Array, h: Array, reach: np.ndarray
) -> tuple[Array, np.ndarray]:
    """Extreme outputs (n, C) of the other neurons, along a direction, within each reach, and what lies between."""
    if not len(others):
        return np.zeros((1, len(along))), np.zeros(1, dtype=np.intp)
    highest, lowest = _extremes(activation.value(h), reach)
    upward = (others @ along > 0)[:, None]
    top = np.where(upward, highest, lowest).T @ others
    bottom = np.where(upward, lowest, highest).T @ others
    between = np.linspace(bottom[0], top[0], 5)
    steps = np.arange(len(REACHES))
    return np.concatenate([between, top, bottom]), np.concatenate([np.zeros(5, dtype=np.intp), steps, steps])


def _extremes(values: Array, reach: np.ndarray) -> tuple[Array, Array]:
    highest, lowest = np.full(len(REACHES), -np.inf), np.full(len(REACHES), np.inf)
    np.maximum.at(highest, reach, values)
    np.minimum.at(lowest, reach, values)
    return np.maximum.accumulate(highest), np.minimum.accumulate(lowest)


def _responses(link: Link, along: Array) -> tuple[Array, np.ndarray]:
    """Ordinary responses, and within each reach of the coordinates and the noise the extreme ones along a direction.

    A class has its values and no others.
    """
    if link.labels:
        return np.array(link.labels), np.zeros(link.classes, dtype=np.intp)
    ordinary: list[Array] = []
    extremes: list[list[Array]] = [[], []]
    between: dict[tuple[float, int], tuple[Array, int]] = {}
    for i, y in enumerate(responses_at_reaches(link)):
        projected = y @ along if link.components else y
        order = np.argsort(projected)[: np.count_nonzero(~np.isnan(projected))]  # NaN is sorted to the end
        if not len(order):  # where the response overflows, growth is judged on the reaches before
            break
        y, projected = y[order], projected[order]
        if i == 0:
            # Responses of a few values are taken as they are: no loss for classes knows what lies between.
            ordinary = [y[round(q * (len(y) - 1))] for q in (0.0, 0.25, 0.5, 0.75, 1.0)]
        extremes[0].append(max([*extremes[0][-1:], y[-1]], key=lambda v: float(np.sum(v * along))))
        extremes[1].append(min([*extremes[1][-1:], y[0]], key=lambda v: float(np.sum(v * along))))
        for key, j in _one_of_each_size(projected).items():
            between.setdefault(key, (y[j], i))
    steps = np.arange(len(extremes[0]))
    more, reaches = [y for y, _ in between.values()], np.array([i for _, i in between.values()], dtype=np.intp)
    reach = np.concatenate([np.zeros(len(ordinary), dtype=np.intp), steps, steps, reaches])
    return np.array([*ordinary, *extremes[0], *extremes[1], *more]), reach


def _one_of_each_size(values: Array) -> dict[tuple[float, int], int]:
    """The place of one value of each sign and power of 8 from 8 to 8^15."""
    power = np.floor(np.log2(np.maximum(np.abs(values), 1.0)) / 3.0)
    places = np.flatnonzero((power >= 1) & (power <= 15))
    keys = zip(np.sign(values[places]).tolist(), power[places].astype(int).tolist(), strict=True)
    return {key: int(place) for key, place in zip(keys, places, strict=True)}


def keeps_growing(record: Array) -> bool:
    """Whether extremes at doubling reaches grow over the last doublings together and over either half of them.

    One doubling alone may show none by chance.
    """
    last = record[-_DOUBLINGS - 1 :]
    if len(last) < 3:
        return bool(len(last) < 2 or last[-1] > _GROWTH * last[0])
    first, middle, end = last[0], last[len(last) // 2], last[-1]
    return bool(0.0 < _GROWTH * first < middle and _GROWTH * middle < end and _GROWTH ** (len(last) - 1) * first < end)
