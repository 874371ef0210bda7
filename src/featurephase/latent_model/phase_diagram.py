r"""The phase diagram of the latent-variable model: which power laws of the width learn features, and how.

A scaling gives six exponents of one large number :math:`\kappa`: the prefactor :math:`\gamma = \kappa^{c_\gamma}`,
the two learning rates, the standard deviations of read-out and hidden weights, and the width
:math:`d = \kappa^{c_d}`. Four combinations decide everything: the coupling, the two sizes that the target is compared
with, and the initial output,

.. math::

   c_k = c_\gamma + \tfrac12 (c_{\eta u} + c_{\eta w}), \quad
   c_h = c_\gamma + c_d + \max\bigl(2 c_w + \tfrac12 (c_{\eta u} - c_{\eta w}),\;
                                    2 c_u + \tfrac12 (c_{\eta w} - c_{\eta u})\bigr), \\
   c_g = c_\gamma + c_d + c_u + c_w, \quad c_{s0} = c_\gamma + \tfrac12 c_d + c_u + c_w .

Multiplying u by a constant, its rate by the constant squared and gamma by its inverse changes nothing in the function
that is learned; a common factor of both rates only changes the unit of time. So every scaling has a normal form with
unit variances, and all scalings of one width exponent share one plane.

Source: arXiv:2401.07085, section 5 (equal scalings of the layers); the general case is derived from its solution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.errors import InputError
from featurephase.latent_model.solution import Flow

__all__ = [
    "PARAMETERISATIONS",
    "Exponents",
    "FiniteWidthMap",
    "Parameterisation",
    "Scaling",
    "Slice",
    "Verdict",
    "finite_width_map",
    "parameterisation",
]

Floats = NDArray[np.float64]

#: Exponents closer to 0 than this count as 0: a few roundings of sums of numbers of order 1.
_ZERO = 1e-9


def _sign(x: float) -> int:
    return 0 if abs(x) <= _ZERO else (1 if x > 0.0 else -1)


@dataclass(frozen=True, kw_only=True)
class Exponents:
    """The four combinations that decide: coupling, kernel size, size of the rotating part, initial output."""

    c_k: float
    c_h: float
    c_g: float
    c_s0: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a scaling does as the width grows.

    Attributes
    ----------
    phase
        ``"kernel"`` (the kernel stays), ``"feature-learning"`` (it changes by a factor of order one) or ``"rich"``
        (by a factor that diverges).
    stability
        ``"well-defined"`` (learning takes a time of order one, up to a logarithm), ``"frozen"`` (a diverging time) or
        ``"unstable"`` (no fixed step size is small enough).
    mechanism
        In the change of ln K: ``"none"``, ``"alignment and growth"``, ``"alignment then growth"``, ``"growth"``,
        ``"disalignment"`` or ``"all four"``.
    kernel_ratio_exponent
        K(inf)/K(0) grows like this power of kappa.
    kernel_change_exponent
        In the kernel phase ``|K(inf)/K(0) - 1|`` falls like this power; otherwise 0.
    learning_time_exponent, learning_time_logarithm
        The learning time grows like this power of kappa, times ln kappa if so.
    angle
        ``"right angle"`` (the final alignment falls like kappa^-c_g), ``"order one"`` or ``"aligned"``.
    initial_output
        ``"vanishing"``, ``"order one"`` or ``"diverging"``.
    description
        The same in a sentence or two.
    """

    phase: str
    stability: str
    mechanism: str
    kernel_ratio_exponent: float
    kernel_change_exponent: float
    learning_time_exponent: float
    learning_time_logarithm: bool
    angle: str
    initial_output: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Exponents of gamma, the rates, the standard deviations of u and w, and the width, in powers of kappa.

    Raises
    ------
    InputError
        If an exponent is not finite or the width's is negative.
    """

    c_gamma: float = 0.0
    c_eta_u: float = 0.0
    c_eta_w: float = 0.0
    c_sigma_u: float = 0.0
    c_sigma_w: float = 0.0
    c_width: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.isfinite(value):
                raise InputError(f"{field.name} must be a finite exponent, given {value}")
        if self.c_width < 0.0:
            raise InputError(f"c_width must be at least 0 (the width cannot shrink), given {self.c_width}")

    @property
    def exponents(self) -> Exponents:
        """The four combinations."""
        half = 0.5 * (self.c_eta_u - self.c_eta_w)
        base = self.c_gamma + self.c_width
        return Exponents(
            c_k=self.c_gamma + 0.5 * (self.c_eta_u + self.c_eta_w),
            c_h=base + max(2.0 * self.c_sigma_w + half, 2.0 * self.c_sigma_u - half),
            c_g=base + self.c_sigma_u + self.c_sigma_w,
            c_s0=base - 0.5 * self.c_width + self.c_sigma_u + self.c_sigma_w,
        )

    @property
    def imbalance(self) -> float:
        """``c_w - c_u + (c_eta_u - c_eta_w)/2``: exponent of |W|/|U|; 0 for balanced layers."""
        return self.c_sigma_w - self.c_sigma_u + 0.5 * (self.c_eta_u - self.c_eta_w)

    def normal_form(self) -> Scaling:
        """The equivalent scaling with unit variances."""
        # u -> kappa^-c u: gamma times kappa^c, its rate times kappa^-2c
        return Scaling(
            c_gamma=self.c_gamma + self.c_sigma_u + self.c_sigma_w,
            c_eta_u=self.c_eta_u - 2.0 * self.c_sigma_u,
            c_eta_w=self.c_eta_w - 2.0 * self.c_sigma_w,
            c_width=self.c_width,
        )

    def verdict(self, *, symmetrised: bool = False) -> Verdict:
        """Phase, stability and mechanism as kappa grows.

        Parameters
        ----------
        symmetrised
            Whether the initial output is made exactly 0 (pairs of units that cancel).
        """
        x = self.exponents
        h, g = _sign(x.c_h), _sign(x.c_g)
        balanced = _sign(self.imbalance) == 0
        fixed_width = _sign(self.c_width) == 0
        pace = _sign(x.c_k + max(x.c_h, 0.0))
        stability = {0: "well-defined", -1: "frozen", 1: "unstable"}[pace]
        angle = {1: "right angle", 0: "order one", -1: "aligned"}[g]
        change = 0.0
        if h > 0 and fixed_width and balanced and not symmetrised:
            phase, mechanism = "feature-learning", "disalignment"
            words = "the initial output is too large: the layers turn to a right angle and shrink"
        elif h > 0:
            phase, mechanism = "kernel", "none"
            change = 2.0 * max(0.0, -np.inf if symmetrised else x.c_s0) - 2.0 * x.c_h
            words = f"the kernel's relative change vanishes like kappa^{change:g}"
            if g <= 0:
                how = "completely" if g < 0 else "by an angle of order one"
                words += f", yet the smaller layer turns {how}"
        elif h == 0:
            phase = "feature-learning"
            mechanism = ("all four" if fixed_width else "alignment and growth") if balanced else "growth"
            words = "the kernel changes by a factor of order one"
        else:
            phase, mechanism = "rich", "alignment then growth" if balanced else "growth"
            words = f"the kernel grows by a factor kappa^{-x.c_h:g} after a plateau of order ln kappa"
        initial = "vanishing" if symmetrised else {1: "diverging", 0: "order one", -1: "vanishing"}[_sign(x.c_s0)]
        pacing = {
            0: "learning takes a time of order " + ("ln kappa" if h < 0 else "one"),
            -1: f"frozen: learning takes a time of order kappa^{-(x.c_k + max(x.c_h, 0.0)):g}",
            1: f"unstable: a step size must fall like kappa^{-(x.c_k + max(x.c_h, 0.0)):g}",
        }[pace]
        return Verdict(
            phase=phase,
            stability=stability,
            mechanism=mechanism,
            kernel_ratio_exponent=max(-x.c_h, 0.0),
            kernel_change_exponent=change,
            learning_time_exponent=-(x.c_k + max(x.c_h, 0.0)) + 0.0,
            learning_time_logarithm=h < 0,
            angle=angle,
            initial_output=initial,
            description=f"{phase}: {words}; {pacing}",
        )

    def start(
        self, kappa: float, *, samples: int = 1, seed: int = 0, cross_moment: float = 1.0, second_moment: float = 1.0
    ) -> Flow:
        """Random initialisations of this scaling at one kappa (all constants 1), as a flow of batch (samples,).

        Raises
        ------
        InputError
            If kappa is not above 1.
        """
        if not (np.isfinite(kappa) and kappa > 1.0):
            raise InputError(f"kappa must be a finite number above 1, given {kappa}")
        u, w = _draw(self._width(kappa), samples, seed)
        return Flow(
            kappa**self.c_sigma_u * u,
            kappa**self.c_sigma_w * w,
            gamma=kappa**self.c_gamma,
            eta_u=kappa**self.c_eta_u,
            eta_w=kappa**self.c_eta_w,
            cross_moment=cross_moment,
            second_moment=second_moment,
        )

    def _width(self, kappa: float) -> int:
        return _FIXED_WIDTH if _sign(self.c_width) == 0 else max(round(kappa**self.c_width), 1)


#: The width that "fixed width" stands for when one has to be drawn.
_FIXED_WIDTH = 10


def _draw(width: int, samples: int, seed: int) -> tuple[Floats, Floats]:
    """Standard normal u and w, shape (sample, unit)."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, width]))
    return rng.standard_normal((samples, width)), rng.standard_normal((samples, width))


# --- named parameterisations ---


@dataclass(frozen=True, kw_only=True)
class Parameterisation:
    """A named scaling, kappa being the width (but for the two at fixed width)."""

    name: str
    label: str
    scaling: Scaling
    rule: str


def _named(name: str, label: str, exponents: tuple[float, ...], rule: str, c_width: float = 1.0) -> Parameterisation:
    keys = ("c_gamma", "c_eta_u", "c_eta_w", "c_sigma_u", "c_sigma_w")
    scaling = Scaling(**dict(zip(keys, exponents, strict=True)), c_width=c_width)
    return Parameterisation(name=name, label=label, scaling=scaling, rule=rule)


_STANDARD = (0.0, -1.0, -1.0, -0.5, 0.0)

#: All with a fixed number of inputs. Constants (the 2 of Kaiming, uniform or normal) do not change an exponent.
PARAMETERISATIONS: tuple[Parameterisation, ...] = (
    _named("ntk", "NTK", (-0.5, 0, 0, 0, 0), "gamma = d^-1/2, weights N(0, 1), rates 1"),
    _named("standard", "standard", _STANDARD, "u ~ N(0, 1/d), w of order 1, rates 1/d"),
    _named("pytorch", "PyTorch default", _STANDARD, "uniform within 1/sqrt(fan in), rates 1/d"),
    _named("lecun", "LeCun", _STANDARD, "variance 1/fan in, rates 1/d"),
    _named("kaiming", "Kaiming", _STANDARD, "variance 2/fan in, rates 1/d"),
    _named("standard-unit-rate", "standard, rate 1", (0, 0, 0, -0.5, 0), "as standard, rates 1"),
    _named(
        "standard-layerwise", "standard, layer-wise rates", (0, -1, 0, -0.5, 0), "as standard, eta_u = 1/d, eta_w = 1"
    ),
    _named("xavier", "Xavier", (0, 0, 0, -0.5, -0.5), "variance 2/(fan in + fan out) ~ 1/d in both layers, rates 1"),
    _named("mean-field", "mean-field", (-1, 1, 1, 0, 0), "gamma = 1/d, weights N(0, 1), rates d"),
    _named("mup", "muP (SGD)", (0, -1, 1, -1, 0), "u ~ N(0, 1/d^2), w of order 1, eta_u = 1/d, eta_w = d"),
    _named("yang-hu", "muP (Yang-Hu)", (0, 0, 0, -0.5, -0.5), "u and w ~ N(0, 1/d), rates 1"),
    _named(
        "small-readout",
        "NTK, small read-out",
        (-0.5, 0, 0, -0.5, 0),
        "gamma = d^-1/2, u ~ N(0, 1/d), w ~ N(0, 1), rates 1",
    ),
    _named("tiny", "tiny initialisation", (0, 0, 0, -1, -1), "fixed width, weights of order 1/kappa, rates 1", 0.0),
    _named("large", "large initialisation", (0, 0, 0, 1, 1), "fixed width, weights of order kappa, rates 1", 0.0),
)


def parameterisation(name: str) -> Parameterisation:
    """A named parameterisation.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    for known in PARAMETERISATIONS:
        if known.name == name.lower():
            return known
    raise InputError(f"unknown parameterisation {name!r}; known: {', '.join(p.name for p in PARAMETERISATIONS)}")


# --- two-dimensional slices ---

AXES = ("c_gamma", "c_eta_u", "c_eta_w", "c_sigma_u", "c_sigma_w", "c_width")

#: Affine function ``a x + b y + c`` on a slice.
Affine = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A plane of scalings: two exponents vary, the others stay at ``fixed``.

    Attributes
    ----------
    x, y
        Names of the exponents on the axes.
    fixed
        The scaling that gives the others.
    x_range, y_range
        The window.

    Raises
    ------
    InputError
        If the axes are unknown or equal, or a range is empty.
    """

    x: str = "c_gamma"
    y: str = "c_eta_w"
    fixed: Scaling = Scaling()
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
        values = {name: getattr(self.fixed, name) for name in AXES}
        return Scaling(**(values | {self.x: x, self.y: y}))

    def _affine(self, weights: dict[str, float]) -> Affine:
        constant = sum(w * getattr(self.fixed, n) for n, w in weights.items() if n not in (self.x, self.y))
        return weights.get(self.x, 0.0), weights.get(self.y, 0.0), constant

    @property
    def kernel_sides(self) -> tuple[Affine, Affine]:
        """The two affine functions whose maximum is c_h: the hidden layer larger, the read-out larger."""
        w = {"c_gamma": 1.0, "c_width": 1.0, "c_sigma_w": 2.0, "c_eta_u": 0.5, "c_eta_w": -0.5}
        u = {"c_gamma": 1.0, "c_width": 1.0, "c_sigma_u": 2.0, "c_eta_u": -0.5, "c_eta_w": 0.5}
        return self._affine(w), self._affine(u)

    @property
    def coupling(self) -> Affine:
        """c_k."""
        return self._affine({"c_gamma": 1.0, "c_eta_u": 0.5, "c_eta_w": 0.5})

    @property
    def rotation(self) -> Affine:
        """c_g."""
        return self._affine({"c_gamma": 1.0, "c_width": 1.0, "c_sigma_u": 1.0, "c_sigma_w": 1.0})

    @property
    def start(self) -> Affine:
        """c_s0."""
        return self._affine({"c_gamma": 1.0, "c_width": 0.5, "c_sigma_u": 1.0, "c_sigma_w": 1.0})

    @property
    def box(self) -> list[Point]:
        """Corners of the window, anticlockwise."""
        (a, b), (c, d) = self.x_range, self.y_range
        return [(a, c), (b, c), (b, d), (a, d)]

    def phase_boundary(self) -> list[tuple[Point, Point]]:
        """The segments on which ``c_h = 0``, exactly."""
        w, u = self.kernel_sides
        segments = (self.segment(w, [_negative(u)]), self.segment(u, [_negative(w)]))
        return [s for s in segments if s is not None]

    def stability_boundary(self) -> list[tuple[Point, Point]]:
        """The segments on which ``c_k + max(c_h, 0) = 0``, exactly."""
        w, u = self.kernel_sides
        k = self.coupling
        candidates = (
            (_add(k, w), [w, _add(w, _negative(u))]),
            (_add(k, u), [u, _add(u, _negative(w))]),
            (k, [_negative(w), _negative(u)]),
        )
        segments = (self.segment(line, where) for line, where in candidates)
        return [s for s in segments if s is not None]

    def disalignment_line(self) -> tuple[Point, Point] | None:
        """At fixed width: where balanced layers with ``c_h > 0`` disalign instead of staying in the kernel phase."""
        if "c_width" in (self.x, self.y) or _sign(self.fixed.c_width) != 0:
            return None
        balance = self._affine({"c_sigma_w": 1.0, "c_sigma_u": -1.0, "c_eta_u": 0.5, "c_eta_w": -0.5})
        return self.segment(balance, [self.kernel_sides[0]])

    def rich_region(self) -> list[Point]:
        """Corners of the region ``c_h < 0`` (convex: two half-planes and the window); empty if there is none."""
        polygon = self.box
        for side in self.kernel_sides:
            polygon = _clip(polygon, _negative(side))
        return polygon

    def segment(self, line: Affine, conditions: list[Affine]) -> tuple[Point, Point] | None:
        """The part of ``line = 0`` inside the window on which all ``conditions >= 0``; None if there is none."""
        a, b, c = line
        square = a * a + b * b
        if square == 0.0:
            return None
        px, py = -a * c / square, -b * c / square
        dx, dy = -b, a
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        window: list[Affine] = [(1, 0, -x0), (-1, 0, x1), (0, 1, -y0), (0, -1, y1)]
        low, high = -np.inf, np.inf
        for p, q, r in [*window, *conditions]:
            value, slope = p * px + q * py + r, p * dx + q * dy
            if abs(slope) < 1e-12:
                if value < -_ZERO:
                    return None
            elif slope > 0.0:
                low = max(low, -value / slope)
            else:
                high = min(high, -value / slope)
        if not low < high:
            return None
        return (px + low * dx, py + low * dy), (px + high * dx, py + high * dy)

    def place(self, scaling: Scaling) -> tuple[float, float, bool] | None:
        """Where an equivalent of ``scaling`` lies on this plane, and whether with its own unit of time.

        Equivalent: the size of u, of w and, if need be, the common factor of the rates (the unit of time) are free.
        None where there is no unique place.
        """
        origin = np.array([getattr(self.at(0.0, 0.0), name) for name in AXES])
        target = np.array([getattr(scaling, name) for name in AXES])
        directions = np.zeros((6, 4))
        directions[AXES.index(self.x), 0] = directions[AXES.index(self.y), 1] = 1.0
        # u -> kappa^c u: gamma - c, eta_u + 2c, sigma_u + c; the same for w
        directions[:, 2] = [-1, 2, 0, 1, 0, 0]
        directions[:, 3] = [-1, 0, 2, 0, 1, 0]
        time = np.array([0.0, 1, 1, 0, 0, 0])[:, None]
        for own_time, columns in ((True, directions), (False, np.hstack([directions, time]))):
            solution, _, rank, _ = np.linalg.lstsq(columns, target - origin, rcond=None)
            if rank < columns.shape[1]:
                continue
            if np.abs(columns @ solution - (target - origin)).max() < 1e-9:
                return float(solution[0]), float(solution[1]), own_time
        return None

    def grid(self, points: int) -> Iterator[tuple[int, int, Scaling]]:
        """Scalings on a regular grid of the window: row (y), column (x), scaling."""
        for i, y in enumerate(np.linspace(*self.y_range, points)):
            for j, x in enumerate(np.linspace(*self.x_range, points)):
                yield i, j, self.at(float(x), float(y))


def _negative(a: Affine) -> Affine:
    return -a[0], -a[1], -a[2]


def _add(a: Affine, b: Affine) -> Affine:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _clip(polygon: list[Point], keep: Affine) -> list[Point]:
    """The part of a convex polygon on which ``keep >= 0`` (Sutherland and Hodgman)."""
    result: list[Point] = []
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        v0, v1 = keep[0] * x0 + keep[1] * y0 + keep[2], keep[0] * x1 + keep[1] * y1 + keep[2]
        if v0 >= 0.0:
            result.append((x0, y0))
        if (v0 > 0.0 > v1) or (v0 < 0.0 < v1):
            s = v0 / (v0 - v1)
            result.append((x0 + s * (x1 - x0), y0 + s * (y1 - y0)))
    return result


# --- finite width ---


@dataclass(frozen=True, kw_only=True)
class FiniteWidthMap:
    """``ln(K(inf)/K(0)) / ln kappa`` on a slice at one kappa, and its limit ``max(-c_h, 0)``.

    Attributes
    ----------
    plane
        The slice.
    kappa
        The large number.
    x, y
        Grid, shape (points,).
    value, value_se
        Mean over initialisations and its standard error, shape (y, x).
    limit
        Shape (y, x).
    replicates, seed
        Number of initialisations and their seed.
    """

    plane: Slice
    kappa: float
    x: Floats
    y: Floats
    value: Floats
    value_se: Floats
    limit: Floats
    replicates: int
    seed: int


def finite_width_map(
    plane: Slice, kappa: float, *, points: int = 41, replicates: int = 4, seed: int = 0, cross_moment: float = 1.0
) -> FiniteWidthMap:
    """The change of the kernel of finite networks on a slice.

    Parameters
    ----------
    plane
        The slice.
    kappa
        The large number, above 1; the width is ``kappa**c_width``.
    points
        Grid points on each axis.
    replicates
        Random initialisations per point, at least 2.
    seed
        Their seed; the same at every point, so that the map is smooth.
    cross_moment
        ``B``, and with A = 1 the target of the output.

    Raises
    ------
    InputError
        If kappa, points or replicates are too small.
    """
    if points < 2 or replicates < 2:
        raise InputError(f"points and replicates must be at least 2, given {points} and {replicates}")
    if not (np.isfinite(kappa) and kappa > 1.0):
        raise InputError(f"kappa must be a finite number above 1, given {kappa}")
    value, limit = np.empty((points, points, replicates)), np.empty((points, points))
    draws: dict[int, tuple[Floats, Floats, Floats]] = {}
    unit = np.log(kappa)
    for i, j, c in plane.grid(points):
        width = c._width(kappa)
        if width not in draws:
            u, w = _draw(width, replicates, seed)
            draws[width] = np.sum(u * u, axis=-1), np.sum(w * w, axis=-1), np.sum(u * w, axis=-1)
        uu, ww, uw = draws[width]
        # K(inf)/K(0) = sqrt(1 - rho^2 + sigma^2) in logarithms; only three sums of the weights enter
        half = 0.5 * (c.c_eta_u - c.c_eta_w)
        larger = np.logaddexp(
            np.log(ww) + unit * (2.0 * c.c_sigma_w + half), np.log(uu) + unit * (2.0 * c.c_sigma_u - half)
        )
        log_h = unit * c.c_gamma + larger - np.log(2.0)
        log_rho = unit * (c.c_gamma + c.c_sigma_u + c.c_sigma_w) + np.log(np.abs(uw)) - log_h
        log_sigma = np.log(abs(cross_moment)) - log_h if cross_moment else np.full(replicates, -np.inf)
        stays = np.log1p(-np.exp(np.minimum(2.0 * log_rho, 0.0)))
        value[i, j] = 0.5 * np.logaddexp(stays, 2.0 * log_sigma) / unit
        limit[i, j] = max(-c.exponents.c_h, 0.0)
    return FiniteWidthMap(
        plane=plane,
        kappa=kappa,
        x=np.linspace(*plane.x_range, points),
        y=np.linspace(*plane.y_range, points),
        value=value.mean(axis=-1),
        value_se=value.std(axis=-1, ddof=1) / np.sqrt(replicates),
        limit=limit,
        replicates=replicates,
        seed=seed,
    )
