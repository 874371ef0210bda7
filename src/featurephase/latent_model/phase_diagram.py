"""The phase diagram of the latent-variable model: planes of scalings with their exact boundaries, and finite networks.

Every combination of exponents that decides (:data:`~featurephase.latent_model.scaling.WEIGHTS`) is an affine function
on a plane, so that boundaries are segments. Source: arXiv:2401.07085, section 5; theory/latent-phases.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, replace

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.memory import require_memory
from featurephase.foundation.types import Array
from featurephase.latent_model.scaling import AXES, WEIGHTS, Scaling, draw, sign, width_at

Point = tuple[float, float]
Segment = tuple[Point, Point]

#: A half-plane is left by less than this through rounding.
_EDGE = 1e-9
#: Most points of a map on each axis: no screen shows more.
_MOST_POINTS = 2000


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A plane of scalings: the two exponents on the axes vary in a window, the others stay at ``fixed``.

    Raises
    ------
    InputError
        If the axes are unknown or equal, or a range is empty.
    """

    x: str = "c_gamma"
    y: str = "c_eta_w"
    fixed: Scaling = field(default_factory=Scaling)
    x_range: tuple[float, float] = (-2.0, 0.5)
    y_range: tuple[float, float] = (-1.5, 1.5)

    def __post_init__(self) -> None:
        for axis in (self.x, self.y):
            if axis not in AXES:
                raise InputError(f"unknown axis {axis!r}; known: {', '.join(AXES)}")
        if self.x == self.y:
            raise InputError(f"the two axes must differ, given {self.x!r} twice")
        for name in ("x_range", "y_range"):
            low, high = getattr(self, name)
            if not low < high:
                raise InputError(f"{name} must be increasing, given {low}, {high}")

    def at(self, x: float, y: float) -> Scaling:
        """The scaling at a point of the plane."""
        return replace(self.fixed, **{self.x: x, self.y: y})

    def affine(self, name: str) -> Array:
        """A combination of exponents as ``a x + b y + c`` on the plane: the array (a, b, c)."""
        weights = np.array(WEIGHTS[name])
        on_axes = [AXES.index(self.x), AXES.index(self.y)]
        others = np.delete(weights * astuple(self.fixed), on_axes)
        return np.array([*weights[on_axes], others.sum()])

    @property
    def kernel_sides(self) -> tuple[Array, Array]:
        """The two affine functions whose maximum is c_h: the hidden layer larger, the read-out larger."""
        return self.affine("hidden"), self.affine("readout")

    @property
    def box(self) -> list[Point]:
        """Corners of the window, anticlockwise."""
        (a, b), (c, d) = self.x_range, self.y_range
        return [(a, c), (b, c), (b, d), (a, d)]

    def phase_boundary(self) -> list[Segment]:
        """The segments on which ``c_h = 0``, exactly."""
        w, u = self.kernel_sides
        return self._segments((w, [-u]), (u, [-w]))

    def stability_boundary(self) -> list[Segment]:
        """The segments on which ``c_k + max(c_h, 0) = 0``, exactly."""
        w, u = self.kernel_sides
        k = self.affine("c_k")
        return self._segments((k + w, [w, w - u]), (k + u, [u, u - w]), (k, [-w, -u]))

    def _segments(self, *lines: tuple[Array, list[Array]]) -> list[Segment]:
        return [s for line, conditions in lines if (s := self.segment(line, conditions)) is not None]

    def disalignment_line(self) -> Segment | None:
        """At fixed width: where balanced layers with ``c_h > 0`` disalign instead of staying in the kernel phase."""
        fixed_width = "c_width" not in (self.x, self.y) and sign(self.fixed.c_width) == 0
        return self.segment(self.affine("imbalance"), [self.kernel_sides[0]]) if fixed_width else None

    def rich_region(self) -> list[Point]:
        """Corners of the region ``c_h < 0`` (convex: two half-planes and the window); empty if there is none."""
        polygon = self.box
        for side in self.kernel_sides:
            polygon = _clip(polygon, -side)
        return polygon

    def segment(self, line: Array, conditions: list[Array]) -> Segment | None:
        """The part of ``line = 0`` inside the window on which all ``conditions >= 0``; None if there is none."""
        a, b, c = line
        square = a * a + b * b
        if square == 0.0:
            return None
        foot, along = np.array([-a * c, -b * c]) / square, np.array([-b, a])
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        p, q, r = np.array([(1, 0, -x0), (-1, 0, x1), (0, 1, -y0), (0, -1, y1), *conditions]).T
        value, slope = p * foot[0] + q * foot[1] + r, p * along[0] + q * along[1]
        flat = np.abs(slope) < 1e-12
        ends = -value / np.where(flat, 1.0, slope)
        low = ends[~flat & (slope > 0.0)].max(initial=-np.inf)
        high = ends[~flat & (slope < 0.0)].min(initial=np.inf)
        if (value[flat] < -_EDGE).any() or not low < high:
            return None
        (ax, ay), (bx, by) = foot + low * along, foot + high * along
        return (float(ax), float(ay)), (float(bx), float(by))

    def place(self, scaling: Scaling) -> tuple[float, float, bool] | None:
        """Where an equivalent of ``scaling`` lies on this plane, and whether with its own unit of time.

        Equivalent: the size of u, of w and, if need be, the common factor of the rates (the unit of time) are free.
        None where there is no unique place.
        """
        distance = np.subtract(astuple(scaling), astuple(self.at(0.0, 0.0)))
        axes = np.eye(len(AXES))[[AXES.index(self.x), AXES.index(self.y)]]
        # u -> kappa^c u: gamma - c, eta_u + 2c, sigma_u + c; the same for w
        sizes, time = [(-1, 2, 0, 1, 0, 0), (-1, 0, 2, 0, 1, 0)], [(0, 1, 1, 0, 0, 0)]
        for own_time in (True, False):
            columns = np.array([*axes, *sizes, *([] if own_time else time)], dtype=np.float64).T
            solution, _, rank, _ = np.linalg.lstsq(columns, distance, rcond=None)
            if rank == columns.shape[1] and np.abs(columns @ solution - distance).max() < _EDGE:
                return float(solution[0]), float(solution[1]), own_time
        return None


def _clip(polygon: list[Point], keep: Array) -> list[Point]:
    """The part of a convex polygon on which ``keep >= 0`` (Sutherland and Hodgman)."""
    result: list[Point] = []
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        v0, v1 = (float(keep @ (x, y, 1.0)) for x, y in ((x0, y0), (x1, y1)))
        if v0 >= 0.0:
            result.append((x0, y0))
        if (v0 > 0.0 > v1) or (v0 < 0.0 < v1):
            s = v0 / (v0 - v1)
            result.append((x0 + s * (x1 - x0), y0 + s * (y1 - y0)))
    return result


@dataclass(frozen=True, kw_only=True)
class FiniteWidthMap:
    """``ln(K(inf)/K(0)) / ln kappa`` on a slice at one kappa, and its limit ``max(-c_h, 0)``."""

    plane: Slice
    kappa: float
    x: Array  # (points,)
    y: Array  # (points,)
    value: Array  # (y, x), mean over initialisations
    value_se: Array  # (y, x), its standard error
    limit: Array  # (y, x)
    replicates: int
    seed: int


def _sums(u: Array, w: Array) -> list[Array]:
    """The sums over units of u^2, u w and w^2."""
    return [np.sum(a * b, axis=-1) for a, b in ((u, u), (u, w), (w, w))]


def finite_width_map(
    plane: Slice, kappa: float, *, points: int = 41, replicates: int = 4, seed: int = 0
) -> FiniteWidthMap:
    """The change of the kernel of finite networks on a slice, for A = 1 and the target B = 1.

    Parameters
    ----------
    kappa
        The large number, above 1; the width is ``kappa**c_width``.
    points
        Grid points on each axis.
    replicates, seed
        Random initialisations per point, at least 2; the same at every point, so that the map is smooth.

    Raises
    ------
    InputError
        If kappa, points or replicates are too small, points are more than 2000, the seed is negative, or the networks
        do not fit in memory.
    """
    if not 2 <= points <= _MOST_POINTS or replicates < 2:
        raise InputError(
            f"points must be from 2 to {_MOST_POINTS} and replicates at least 2, given {points} and {replicates}"
        )
    # Measured: a dozen arrays of float64 over (y, x, replicate).
    require_memory(
        100.0 * points**2 * replicates, f"a map of {points:,} x {points:,} points, {replicates:,} networks each"
    )
    x, y = np.linspace(*plane.x_range, points), np.linspace(*plane.y_range, points)
    at = dict(zip(AXES, astuple(plane.fixed), strict=True)) | {plane.x: x[None, :, None], plane.y: y[:, None, None]}
    # only three sums of the weights enter, each (y, x, replicate)
    exponents = np.asarray(at["c_width"], dtype=np.float64)
    widths, place = np.unique([width_at(kappa, c) for c in exponents.flat], return_inverse=True)
    sums = np.array([_sums(*draw(int(width), replicates, seed)) for width in widths])
    place = np.broadcast_to(place.reshape(exponents.shape or (1, 1, 1))[..., 0], (points, points))
    uu, uw, ww = np.moveaxis(sums[place], 2, 0)
    # K(inf)/K(0) = sqrt(1 - rho^2 + sigma^2) in logarithms
    unit, half = np.log(kappa), 0.5 * (at["c_eta_u"] - at["c_eta_w"])
    hidden = np.log(ww) + unit * (2.0 * at["c_sigma_w"] + half)
    readout = np.log(uu) + unit * (2.0 * at["c_sigma_u"] - half)
    log_h = unit * at["c_gamma"] + np.logaddexp(hidden, readout) - np.log(2.0)
    log_rho = unit * (at["c_gamma"] + at["c_sigma_u"] + at["c_sigma_w"]) + np.log(np.abs(uw)) - log_h
    stays = np.log1p(-np.exp(np.minimum(2.0 * log_rho, 0.0)))
    value = 0.5 * np.logaddexp(stays, -2.0 * log_h) / unit
    sides = [a * x + b * y[:, None] + c for a, b, c in plane.kernel_sides]
    limit = np.maximum(-np.maximum(*sides), 0.0)
    mean, se = value.mean(axis=-1), value.std(axis=-1, ddof=1) / np.sqrt(replicates)
    return FiniteWidthMap(
        plane=plane, kappa=kappa, x=x, y=y, value=mean, value_se=se, limit=limit, replicates=replicates, seed=seed
    )
