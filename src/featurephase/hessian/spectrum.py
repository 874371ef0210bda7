"""The Hessian at one moment of one replicate: edges, hard outliers, other outliers, density.

Formulas are for the unpenalised risk; weight decay shifts every edge and outlier by its coefficient, which is done here
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.foundation.types import Array
from featurephase.hessian.bulk import Bulk, Edge, stieltjes_transform
from featurephase.hessian.outliers import Directions, Outlier, OutlierSearch, margin_matrix, outliers, search_outliers
from featurephase.hessian.support import CurvatureSupport, curvature_support
from featurephase.hessian.unbounded import VISIBLE, curvature_bounds
from featurephase.results.status import OK, SINGULAR_CURVATURE, Status

if TYPE_CHECKING:
    from featurephase.dynamics.network import Network
    from featurephase.dynamics.training import Moment
    from featurephase.functions import Link

#: Up to this width the matrix-valued equation is solved whole; beyond, neuron by neuron (the block approximation, exact
#: as m grows at readout O(1/m)).
FULL_WIDTH = 8
#: Up to this width the block approximation is compared with the whole equation on request, at a cost that grows like
#: m^4 per sample and m^6 per step (half a minute at 16 neurons, a quarter of an hour at 32) ...
CHECKED_WIDTH = 16
#: ... and on so many samples.
CHECK_SAMPLES = 2048
#: Samples that the density uses: it is drawn, not compared.
_DENSITY_SAMPLES = 20_000
#: Where curvature is unbounded: the share of one sample in E[tr R^2] from which the edge is suspected to drift ...
_EXTREME_SHARE = 0.01
#: ... and the relative fall between N/4 and N samples from which there is no edge. Measured: 1e-4 where tails are
#: invisible, 0.03 to 0.4 where they rule; the noise of few samples lets the edge rise.
_DRIFT = 0.01


@dataclass(frozen=True)
class BlockGap:
    """The block approximation against the full matrix equation, on the same samples and without weight decay.

    Attributes
    ----------
    left_edge
        ``(edge by blocks - edge)/|edge|``: positive where the blocks are too high.
    lowest
        The same for the lowest hard outlier (the edge where there is none).
    samples
        How many.
    """

    left_edge: float
    lowest: float
    samples: int


def block_words(width: int, what: str, checked: Sequence[str]) -> str:
    """What the block approximation is and how good, for people; ``checked``: distances from the full equation."""
    words = (
        f"width {width} > {FULL_WIDTH}: {what} in the block approximation (one neuron at a time), right up to a "
        "relative O(1/m) at readout O(1/m)"
    )
    if checked:
        return f"{words}; compared: {', '.join(checked)}"
    if width <= CHECKED_WIDTH:
        return f"{words}; not compared with the full matrix equation here"
    return f"{words}; not compared with the full matrix equation, which is solved up to width {CHECKED_WIDTH}"


@dataclass(frozen=True)
class Spectrum:
    """What one replicate says of the Hessian at one time, weight decay included.

    Attributes
    ----------
    status
        ``"ok"``, or why there is no spectrum to the left of which anything could stand.
    left_edge, right_edge
        Edges of the bulk; ``right_edge`` is nan in the block approximation.
    left_critical
        Whether the left edge is a critical point of the transform (False: the overlap of an outlier jumps).
    left_drifts, right_drifts
        Whether unbounded curvature makes the edge drift with the number of samples: then the bulk has none.
    hard_left, hard_right, visited_left, visited_right
        Outliers aligned with U_H and on visited directions, the outermost first.
    doubtful, needed
        Whether margins on visited directions are negative by no more than noise, and are not counted therefore; and
        the number of sample paths that would decide.
    complete
        Whether all outliers were found within the budget of the search.
    density
        Abscissae and density (2, points), if asked for.
    gap
        How good the block approximation is, if it was used and is to be compared.
    """

    status: Status
    left_edge: float = np.nan
    right_edge: float = np.nan
    left_critical: bool = True
    left_drifts: bool = False
    right_drifts: bool = False
    hard_left: list[Outlier] = field(default_factory=list)
    hard_right: list[Outlier] = field(default_factory=list)
    visited_left: list[Outlier] = field(default_factory=list)
    visited_right: list[Outlier] = field(default_factory=list)
    doubtful: bool = False
    needed: int = 0
    complete: bool = True
    density: Array | None = None
    gap: BlockGap | None = None


@dataclass(frozen=True)
class SectorMargins:
    """Margins of the hard outliers on some of the hard directions, all neurons together.

    Attributes
    ----------
    at_edge, at_zero
        As in :class:`HardMargins`, but all eigenvalues, ascending, (m s,).
    """

    at_edge: Array
    at_zero: Array


@dataclass(frozen=True)
class HardMargins:
    """How far the hard outliers are from existing, at one time of one replicate.

    Attributes
    ----------
    at_edge
        Eigenvalues of delta Delta(left edge), ascending, (m k_H,): as many negative ones as there are hard outliers
        left of the bulk.
    at_zero
        The smallest such eigenvalue where the full risk has lambda = 0, or at the left edge if that is negative: it is
        negative where a hard outlier is.
    critical
        Whether the left edge is a critical point.
    left_edge
        Left edge, weight decay included.
    drifts
        Whether unbounded curvature makes that edge drift with the number of samples: then there is none.
    sectors
        The same for each of the sectors asked for.
    """

    at_edge: Array
    at_zero: float
    critical: bool
    left_edge: float
    drifts: bool = False
    sectors: tuple[SectorMargins, ...] = ()


def _rows(design_block: Array, basis: Array) -> Array:
    rows: Array = basis.T @ design_block[: len(basis)]
    return rows if rows.dtype == np.float64 else rows.astype(np.float64)


def hard_directions(moment: Moment, hard_basis: Array) -> Directions:
    """g_H on all samples, for orthonormal columns ``hard_basis`` (k, k_H)."""
    design, count = moment.design, hard_basis.shape[1]
    return Directions(lambda i: _rows(design.projections(i), hard_basis), design.slices, count, count)


def visited_directions(moment: Moment, easy_basis: Array) -> Directions:
    """Easy latent directions, all other visited directions of R^d, and those of sample space."""
    design, k = moment.design, len(easy_basis)

    def block(i: int) -> list[Any]:
        v = design.projections(i)
        return [_rows(v, easy_basis).astype(v.dtype, copy=False), v[k:], design.sample_basis(i)]

    visible = easy_basis.shape[1] + design.visited - k
    integrated = getattr(design.law, "integrated", 0)
    return Directions(block, design.slices, visible + design.met, visible, max(design.visited - integrated, 0))


def _beyond_samples(extreme: Array, unbounded: bool) -> Array:
    """The curvatures (m, m, N') that no sample reached but on which the branch must stay positive too.

    One neuron: all of them, because inf W sets the non-critical edges and samples approach it only like 1/log N. More
    neurons: none. There the extremes take several rare pre-activations at once, and the strip of spectrum that they add
    holds so little mass that no Hessian shows it (four tanh neurons: edge -.22 with them, -.139 without, dense -.134).
    """
    return extreme[:, :, :0] if unbounded or len(extreme) > 1 else extreme


def _repeated(directions: Directions, samples: int, times: int) -> Directions:
    """The same rows for each of several neurons whose samples are one after the other."""
    count = len(directions.slices)
    slices = [slice(s.start + r * samples, s.stop + r * samples) for r in range(times) for s in directions.slices]
    return replace(directions, block=lambda i: directions.block(i % count), slices=slices)


def _first(directions: Directions, samples: int) -> Directions:
    """The same rows on the first samples only."""
    slices = [slice(s.start, min(s.stop, samples)) for s in directions.slices if s.start < samples]

    def block(i: int) -> Array:
        return directions.whole(i)[:, : slices[i].stop - slices[i].start]

    return replace(directions, block=block, slices=slices)


def _block_bulks(
    diagonal: Array, delta: float, lowest: Array, groups: Sequence[Sequence[int]]
) -> list[tuple[Sequence[int], Bulk]]:
    """The scalar problems of the block approximation, from W_rr (m, N): one for each group of neurons of one law.

    The samples of all neurons of a group count, so that equal neurons have equal edges, and the lowest of them is not
    the luckiest.
    """
    beyond = np.einsum("rrn->rn", lowest)
    return [(g, Bulk(diagonal[list(g)].reshape(1, 1, -1), delta, beyond[list(g)].reshape(1, 1, -1))) for g in groups]


def _each(width: int) -> list[list[int]]:
    return [[r] for r in range(width)]


def hard_margins(
    link: Link,
    moment: Moment,
    *,
    delta: float,
    weight_decay: float,
    hard_basis: Array,
    blocks: bool = False,
    groups: Sequence[Sequence[int]] | None = None,
    support: CurvatureSupport | None = None,
    sectors: Sequence[Array] = (),
) -> list[HardMargins]:
    """Margins of the hard outliers: one entry for the whole network, or with ``blocks`` one for each neuron.

    The caller has made sure that the curvature is regular.

    Parameters
    ----------
    groups
        The neurons in groups of one law; default: each by itself.
    support
        If known already.
    sectors
        Orthonormal columns (k, s) inside the hard subspace, one array for each sector.
    """
    network, inside = moment.network, [hard_basis.T @ sector for sector in sectors]
    support = curvature_support(network, link, moment.weights) if support is None else support
    h, directions = moment.design.preactivations(moment.weights), hard_directions(moment, hard_basis)
    lowest = _beyond_samples(support.lowest, support.unbounded_below)
    groups = _each(network.width) if groups is None else groups
    if not blocks:
        bulk = Bulk(network.curvature(h, moment.responses), delta, lowest, groups)
        return [_margins_of(bulk, directions, weight_decay, _left_tail(network, link, support), inside)]
    result: dict[int, HardMargins] = {}
    for group, bulk in _block_bulks(network.block_curvature(h, moment.responses), delta, lowest, groups):
        rows = _repeated(directions, h.shape[1], len(group))
        tail = _left_tail(network, link, support, group[0])
        result |= dict.fromkeys(group, _margins_of(bulk, rows, weight_decay, tail, inside))
    return [result[r] for r in range(network.width)]


def _margins_of(
    bulk: Bulk, directions: Directions, weight_decay: float, tail: _Tail | None, sectors: Sequence[Array]
) -> HardMargins:
    if not np.any(bulk.curvature):  # the bulk is one atom at 0 and nothing stands left of it
        flat = [np.ones(bulk.width * sector.shape[1]) for sector in sectors]
        parts = tuple(SectorMargins(ones, ones) for ones in flat)
        return HardMargins(np.ones(bulk.width * directions.visible), 1.0, True, weight_decay, sectors=parts)
    edge = edge_of(bulk)
    drifts = tail is not None and tail.moves(bulk, edge)
    at_edge = at_zero = margin_matrix(bulk, edge.point, directions)
    if edge.point.value > -weight_decay:
        at_zero = margin_matrix(bulk, bulk.at(-weight_decay, edge), directions)
    parts = tuple(SectorMargins(_within(at_edge, sector), _within(at_zero, sector)) for sector in sectors)
    values = np.asarray(np.linalg.eigvalsh(_decoupled(at_edge, sectors)))
    lowest = float(np.linalg.eigvalsh(_decoupled(at_zero, sectors))[0])
    return HardMargins(values, lowest, edge.critical, edge.point.value + weight_decay, drifts, parts)


def _lifted(sector: Array, size: int) -> Array:
    """The columns (k_H, s) of a sector for all neurons, (m k_H, m s)."""
    return np.asarray(np.kron(np.eye(size // len(sector)), sector))


def _decoupled(matrix: Array, sectors: Sequence[Array]) -> Array:
    """A margin matrix without the entries between sectors, and between them and the rest: they are noise."""
    if len(sectors) == 0:
        return matrix
    out, rest = np.zeros_like(matrix), np.eye(len(matrix))
    for sector in sectors:
        lifted = _lifted(sector, len(matrix))
        projector = lifted @ lifted.T
        out += projector @ matrix @ projector
        rest -= projector
    return np.asarray(out + rest @ matrix @ rest)


def _within(matrix: Array, sector: Array) -> Array:
    """Eigenvalues of a margin matrix (m k_H, m k_H) on the columns (k_H, s) of a sector, ascending, (m s,)."""
    lifted = _lifted(sector, len(matrix))
    return np.asarray(np.linalg.eigvalsh(lifted.T @ matrix @ lifted))


def spectrum(
    link: Link,
    moment: Moment,
    *,
    delta: float,
    weight_decay: float,
    easy_basis: Array,
    hard_basis: Array,
    blocks: bool | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    compared: bool = False,
    density_points: int = 0,
) -> Spectrum:
    """Edges, outliers and density at one moment (theory/hessian).

    Parameters
    ----------
    easy_basis, hard_basis
        Orthonormal columns, (k, k_E) and (k, k_H).
    blocks
        Whether to use the block approximation; default: for widths above :data:`FULL_WIDTH`.
    groups
        The neurons in groups of one law: averages are those over the permutations in each, so that they have equal
        outliers and edges, and the lowest is not the luckiest. Default: each by itself.
    compared
        Whether to compare the block approximation, where it is used, with the full equation: see :class:`BlockGap`.
    density_points
        Number of abscissae of the density, 0 for none.
    """
    network = moment.network
    if network.singular_curvature:
        return Spectrum(SINGULAR_CURVATURE)
    support = curvature_support(network, link, moment.weights)
    blocks = network.width > FULL_WIDTH if blocks is None else blocks
    if blocks:
        groups = _each(network.width) if groups is None else groups
        found = _block_spectrum(link, moment, delta, weight_decay, hard_basis, support, groups)
        gap = _block_gap(moment, delta, hard_basis, groups) if compared and not found.left_drifts else None
        return replace(found, gap=gap)
    curvature = network.curvature(moment.design.preactivations(moment.weights), moment.responses)
    if not np.any(curvature):
        return Spectrum(OK, weight_decay, weight_decay)
    hard = hard_directions(moment, hard_basis) if hard_basis.shape[1] else None
    visited = visited_directions(moment, easy_basis)
    lowest = _beyond_samples(support.lowest, support.unbounded_below)
    highest = _beyond_samples(support.highest, support.unbounded_above)
    tail = _left_tail(network, link, support)
    left = _side(Bulk(curvature, delta, lowest, groups), tail, hard, visited)
    right = _side(Bulk(-curvature, delta, -highest, groups), _right_tail(network, link, support), hard, visited)
    result = _both_sides(left, right, weight_decay)
    if not density_points:
        return result
    edges = result.left_edge, result.right_edge
    return replace(result, density=_density(curvature, delta, weight_decay, *edges, density_points))


@dataclass(frozen=True)
class _Side:
    edge: Edge
    drifts: bool
    hard: list[Outlier]
    visited: OutlierSearch


def edge_of(bulk: Bulk) -> Edge:
    """The left edge of a Hessian that has curvature."""
    edge = bulk.edge()
    if edge is None:
        raise ArithmeticError("a Hessian without curvature has no bulk")
    return edge


@dataclass(frozen=True)
class _Tail:
    """The tail of a curvature that is unbounded on one side, and whether an edge can stand in spite of it.

    Curvature that is unbounded in law need not matter: a tail that no data set of a realistic size shows moves no edge.
    Where fresh samples reach it (:data:`~featurephase.hessian.unbounded.VISIBLE`) because the response is unbounded, so
    do the samples of training. Where it takes an extreme output of the other neurons, training may have adapted the
    samples that would reach it: then the edge itself must move as samples become more, and single ones decide on it.
    """

    support: CurvatureSupport
    sign: float
    adapted: bool
    neuron: int | None = None

    def moves(self, bulk: Bulk, edge: Edge) -> bool:
        """Whether the edge drifts with the logarithm of the number of samples."""
        if self.support.tail_distance(edge.point.root, self.sign, self.neuron, far=3.0 * VISIBLE) >= VISIBLE:
            return False
        if not self.adapted:
            return True
        share = bulk.extreme_share(edge.point)
        return share > _EXTREME_SHARE and not bulk.drift(edge) > -_DRIFT * abs(edge.point.value)


def _left_tail(network: Network, link: Link, support: CurvatureSupport, neuron: int | None = None) -> _Tail | None:
    """The tail on the left, if there is one."""
    if not support.unbounded_below:
        return None
    causes = curvature_bounds(network, link).causes
    return _Tail(support, 1.0, not causes or causes == ("output",), neuron)


def _right_tail(network: Network, link: Link, support: CurvatureSupport) -> _Tail | None:
    """The tail on the right, if there is one."""
    if not support.unbounded_above:
        return None
    causes = curvature_bounds(network, link).causes_above
    return _Tail(support, -1.0, not causes or causes == ("output",))


def _side(bulk: Bulk, tail: _Tail | None, hard: Directions | None, visited: Directions) -> _Side:
    edge = edge_of(bulk)
    aligned = outliers(bulk, edge, hard)[0] if hard is not None else []
    others = OutlierSearch([], np.empty(0))
    if visited.visible:
        others = search_outliers(bulk, edge, visited, sure=True)
    return _Side(edge, tail is not None and tail.moves(bulk, edge), aligned, others)


def _both_sides(left: _Side, right: _Side, weight_decay: float) -> Spectrum:
    """The spectrum from its left side and from that of the negative Hessian."""
    shifted, mirrored = _shift(1.0, weight_decay), _shift(-1.0, weight_decay)
    return Spectrum(
        OK,
        left.edge.point.value + weight_decay,
        -right.edge.point.value + weight_decay,
        left.edge.critical,
        left.drifts,
        right.drifts,
        shifted(left.hard),
        mirrored(right.hard),
        shifted(left.visited.found),
        mirrored(right.visited.found),
        bool(left.visited.doubtful or right.visited.doubtful),
        max(left.visited.needed, right.visited.needed),
        left.visited.complete and right.visited.complete,
    )


def _shift(sign: float, weight_decay: float) -> Callable[[list[Outlier]], list[Outlier]]:
    return lambda found: [Outlier(sign * o.value + weight_decay, o.overlap) for o in found]


def _block_spectrum(
    link: Link,
    moment: Moment,
    delta: float,
    weight_decay: float,
    hard_basis: Array,
    support: CurvatureSupport,
    groups: Sequence[Sequence[int]],
) -> Spectrum:
    """The lower edge and the hard outliers left of it, neuron by neuron (theory/thresholds, eq. thr-blocks)."""
    network = moment.network
    h, hard = moment.design.preactivations(moment.weights), hard_directions(moment, hard_basis)
    lowest_w = _beyond_samples(support.lowest, support.unbounded_below)
    edges: list[tuple[Edge, bool]] = []
    found: list[Outlier] = []
    for group, bulk in _block_bulks(network.block_curvature(h, moment.responses), delta, lowest_w, groups):
        if not np.any(bulk.curvature):
            continue
        edge, tail = edge_of(bulk), _left_tail(network, link, support, group[0])
        edges.append((edge, tail is not None and tail.moves(bulk, edge)))
        if hard.visible:
            found += outliers(bulk, edge, _repeated(hard, h.shape[1], len(group)))[0] * len(group)
    if not edges:
        return Spectrum(OK, weight_decay, np.nan)
    lowest, drifts = min(edges, key=lambda e: e[0].point.value)
    # An outlier of one neuron that stands inside the bulk of another is no eigenvalue of the whole.
    outside = sorted((o for o in found if o.value < lowest.point.value), key=lambda o: o.value)
    return Spectrum(
        OK,
        lowest.point.value + weight_decay,
        np.nan,
        lowest.critical,
        left_drifts=drifts,
        hard_left=_shift(1.0, weight_decay)(outside),
    )


def _block_gap(moment: Moment, delta: float, hard_basis: Array, groups: Sequence[Sequence[int]]) -> BlockGap | None:
    h = moment.design.preactivations(moment.weights)[:, :CHECK_SAMPLES]
    curvature = moment.network.curvature(h, moment.responses[: h.shape[1]])
    hard = _first(hard_directions(moment, hard_basis), h.shape[1])

    def lowest(bulk: Bulk, directions: Directions) -> tuple[float, float]:
        edge = bulk.edge()
        if edge is None:
            return 0.0, 0.0
        found = outliers(bulk, edge, directions, most=1)[0] if directions.visible else []
        return edge.point.value, min([edge.point.value, *(o.value for o in found)])

    whole = lowest(Bulk(curvature, delta), hard)
    if whole[0] == 0.0:
        return None
    parts = [
        lowest(bulk, _repeated(hard, h.shape[1], len(group)))
        for group, bulk in _block_bulks(np.einsum("rrn->rn", curvature), delta, curvature[:, :, :0], groups)
    ]
    edge, bottom = (min(values) for values in zip(*parts, strict=True))
    return BlockGap((edge - whole[0]) / abs(whole[0]), (bottom - whole[1]) / abs(whole[1]), h.shape[1])


def _density(curvature: Array, delta: float, weight_decay: float, left: float, right: float, points: int) -> Array:
    """Density of the bulk, Im tr S(x + i0)/(pi m), on a grid that is finer towards the edges, (2, points)."""
    m = len(curvature)
    sample = curvature[:, :, :_DENSITY_SAMPLES]
    if not np.isfinite(right):
        right = left + 4.0 * float(np.quantile(np.einsum("rrn->n", sample), 0.999) / m - left)
    span = right - left
    x = (left + right - (span * 1.06) * np.cos(np.linspace(0.0, np.pi, points))) / 2.0
    smoothing = 1e-4 * span
    values = np.empty(points)
    guess = None
    for i, abscissa in enumerate(x):
        z = complex(abscissa - weight_decay, smoothing)
        guess = stieltjes_transform(sample, delta, z, guess)
        values[i] = np.trace(guess).imag / (np.pi * m)
    return np.array([x, values])
