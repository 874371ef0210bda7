r"""Scalings of the latent-variable model: which power laws of the width learn features, and how.

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

import math
from dataclasses import astuple, dataclass, fields

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.memory import require_memory
from featurephase.foundation.types import Array
from featurephase.latent_model.solution import Flow

#: Exponents closer to 0 than this count as 0: a few roundings of sums of numbers of order 1.
_ZERO = 1e-9
#: Exponents up to this size are known better than that.
_LARGEST = 1e6
#: The width that "fixed width" stands for when one has to be drawn.
_FIXED_WIDTH = 10
#: No network that is drawn has more units.
_WIDEST = 1e12

#: The combinations as sums of the six exponents in the order of :data:`AXES`; c_h is the larger of ``hidden`` and
#: ``readout``, and ``imbalance`` the exponent of |W|/|U|, 0 for balanced layers.
WEIGHTS = {
    "c_k": (1.0, 0.5, 0.5, 0.0, 0.0, 0.0),
    "hidden": (1.0, 0.5, -0.5, 0.0, 2.0, 1.0),
    "readout": (1.0, -0.5, 0.5, 2.0, 0.0, 1.0),
    "c_g": (1.0, 0.0, 0.0, 1.0, 1.0, 1.0),
    "c_s0": (1.0, 0.0, 0.0, 1.0, 1.0, 0.5),
    "imbalance": (0.0, 0.5, -0.5, -1.0, 1.0, 0.0),
}


def sign(x: float) -> int:
    """-1, 0 or 1; an exponent that is 0 up to rounding counts as 0."""
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

    The phase is ``"kernel"`` (the kernel stays), ``"feature-learning"`` (it changes by a factor of order one) or
    ``"rich"`` (by a factor that diverges). The stability is ``"well-defined"`` (learning takes a time of order one, up
    to a logarithm), ``"frozen"`` (a diverging time) or ``"unstable"`` (no fixed step size is small enough). The
    mechanism of the change of ln K is ``"none"``, ``"alignment and growth"``, ``"alignment then growth"``,
    ``"growth"``, ``"disalignment"`` or ``"all four"``.
    """

    phase: str
    stability: str
    mechanism: str
    kernel_ratio_exponent: float  # K(inf)/K(0) grows like this power of kappa
    kernel_change_exponent: float  # in the kernel phase |K(inf)/K(0) - 1| falls like this power; otherwise 0
    learning_time_exponent: float  # the learning time grows like this power of kappa
    learning_time_logarithm: bool  # .. times ln kappa, if so
    angle: str  # "right angle" (the final alignment falls like kappa^-c_g), "order one" or "aligned"
    initial_output: str  # "vanishing", "order one" or "diverging"
    description: str  # the same in a sentence or two


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Exponents of gamma, the rates, the standard deviations of u and w, and the width, in powers of kappa.

    Raises
    ------
    InputError
        If an exponent is not finite, or larger than 1e6 in size, or the width's is negative.
    """

    c_gamma: float = 0.0
    c_eta_u: float = 0.0
    c_eta_w: float = 0.0
    c_sigma_u: float = 0.0
    c_sigma_w: float = 0.0
    c_width: float = 1.0

    def __post_init__(self) -> None:
        for name, value in zip(AXES, astuple(self), strict=True):
            if not abs(value) <= _LARGEST:
                raise InputError(f"{name} must be a finite exponent, at most {_LARGEST:g} in size, given {value:g}")
        if self.c_width < 0.0:
            raise InputError(f"c_width must be at least 0 (the width cannot shrink), given {self.c_width}")

    def combination(self, name: str) -> float:
        """One of :data:`WEIGHTS`."""
        return math.fsum(w * x for w, x in zip(WEIGHTS[name], astuple(self), strict=True))

    @property
    def exponents(self) -> Exponents:
        """The four combinations."""
        c_k, hidden, readout, c_g, c_s0, _ = map(self.combination, WEIGHTS)
        return Exponents(c_k=c_k, c_h=max(hidden, readout), c_g=c_g, c_s0=c_s0)

    def normal_form(self) -> Scaling:
        """The equivalent scaling with unit variances."""
        # u -> kappa^-c u: gamma times kappa^c, its rate times kappa^-2c
        return Scaling(
            c_gamma=self.c_gamma + self.c_sigma_u + self.c_sigma_w,
            c_eta_u=self.c_eta_u - 2.0 * self.c_sigma_u,
            c_eta_w=self.c_eta_w - 2.0 * self.c_sigma_w,
            c_width=self.c_width,
        )

    def equivalent(self, other: Scaling) -> bool:
        """Whether both learn the same functions, up to the unit of time."""
        a, b = self.normal_form(), other.normal_form()
        gaps = (a.c_width - b.c_width, a.c_gamma - b.c_gamma, (a.c_eta_u - a.c_eta_w) - (b.c_eta_u - b.c_eta_w))
        return all(abs(gap) < _ZERO for gap in gaps)

    def verdict(self, *, symmetrised: bool = False) -> Verdict:
        """Phase, stability and mechanism as kappa grows; ``symmetrised``: pairs of units make the initial output 0."""
        x = self.exponents
        time = -(x.c_k + max(x.c_h, 0.0)) + 0.0
        stability, pace = {
            0: ("well-defined", "learning takes a time of order " + ("ln kappa" if sign(x.c_h) < 0 else "one")),
            1: ("frozen", f"frozen: learning takes a time of order kappa^{time:g}"),
            -1: ("unstable", f"unstable: a step size must fall like kappa^{time:g}"),
        }[sign(time)]
        phase, mechanism, words, change = self._phase(x, symmetrised)
        start = -1 if symmetrised else sign(x.c_s0)
        return Verdict(
            phase=phase,
            stability=stability,
            mechanism=mechanism,
            kernel_ratio_exponent=max(-x.c_h, 0.0),
            kernel_change_exponent=change,
            learning_time_exponent=time,
            learning_time_logarithm=sign(x.c_h) < 0,
            angle={1: "right angle", 0: "order one", -1: "aligned"}[sign(x.c_g)],
            initial_output={1: "diverging", 0: "order one", -1: "vanishing"}[start],
            description=f"{phase}: {words}; {pace}",
        )

    def _phase(self, x: Exponents, symmetrised: bool) -> tuple[str, str, str, float]:
        """Phase, mechanism, both in words, and the exponent of the kernel's change in the kernel phase."""
        h, fixed_width = sign(x.c_h), sign(self.c_width) == 0
        balanced = sign(self.combination("imbalance")) == 0
        if h < 0:
            words = f"the kernel grows by a factor kappa^{-x.c_h:g} after a plateau of order ln kappa"
            return "rich", "alignment then growth" if balanced else "growth", words, 0.0
        if h == 0:
            mechanism = ("all four" if fixed_width else "alignment and growth") if balanced else "growth"
            return "feature-learning", mechanism, "the kernel changes by a factor of order one", 0.0
        if fixed_width and balanced and not symmetrised:
            words = "the initial output is too large: the layers turn to a right angle and shrink"
            return "feature-learning", "disalignment", words, 0.0
        change = 2.0 * max(0.0, -np.inf if symmetrised else x.c_s0) - 2.0 * x.c_h
        words = f"the kernel's relative change vanishes like kappa^{change:g}"
        if sign(x.c_g) <= 0:
            how = "completely" if sign(x.c_g) < 0 else "by an angle of order one"
            words += f", yet the smaller layer turns {how}"
        return "kernel", "none", words, change

    def start(self, kappa: float, *, samples: int = 1, seed: int = 0) -> Flow:
        """Random initialisations of this scaling at one kappa (all constants 1), as a flow of batch (samples,).

        Raises
        ------
        InputError
            If kappa is not above 1.
        """
        u, w = draw(width_at(kappa, self.c_width), samples, seed)
        return Flow(
            kappa**self.c_sigma_u * u,
            kappa**self.c_sigma_w * w,
            gamma=kappa**self.c_gamma,
            eta_u=kappa**self.c_eta_u,
            eta_w=kappa**self.c_eta_w,
            cross_moment=1.0,
        )


#: The names of the six exponents.
AXES = tuple(field.name for field in fields(Scaling))


def width_at(kappa: float, c_width: float) -> int:
    """The width of a network at one kappa, which must be above 1."""
    if not (np.isfinite(kappa) and kappa > 1.0):
        raise InputError(f"kappa must be a finite number above 1, given {kappa}")
    if sign(c_width) == 0:
        return _FIXED_WIDTH
    if c_width * math.log(kappa) > math.log(_WIDEST):
        raise InputError(
            f"kappa {kappa:g} to the power {c_width:g} is a network of more than {_WIDEST:g} units: give a smaller "
            "kappa or width exponent"
        )
    return max(round(float(kappa**c_width)), 1)


def draw(width: int, samples: int, seed: int) -> tuple[Array, Array]:
    """Standard normal u and w, shape (sample, unit).

    Raises
    ------
    InputError
        If the seed is no whole number >= 0, or the weights do not fit in memory.
    """
    if seed < 0:
        raise InputError(f"seed = {seed}: must be a whole number >= 0")
    require_memory(32.0 * samples * width, f"drawing {samples:,} networks of {width:,} units")
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


_STANDARD = (0.0, -1.0, -1.0, -0.5, 0.0, 1.0)

_TABLE = (
    ("ntk", "NTK", (-0.5, 0, 0, 0, 0, 1.0), "gamma = d^-1/2, weights N(0, 1), rates 1"),
    ("standard", "standard", _STANDARD, "u ~ N(0, 1/d), w of order 1, rates 1/d"),
    ("pytorch", "PyTorch default", _STANDARD, "uniform within 1/sqrt(fan in), rates 1/d"),
    ("lecun", "LeCun", _STANDARD, "variance 1/fan in, rates 1/d"),
    ("kaiming", "Kaiming", _STANDARD, "variance 2/fan in, rates 1/d"),
    ("standard-unit-rate", "standard, rate 1", (0, 0, 0, -0.5, 0, 1.0), "as standard, rates 1"),
    (
        "standard-layerwise",
        "standard, layer-wise rates",
        (0, -1, 0, -0.5, 0, 1.0),
        "as standard, eta_u = 1/d, eta_w = 1",
    ),
    ("xavier", "Xavier", (0, 0, 0, -0.5, -0.5, 1.0), "variance 2/(fan in + fan out) ~ 1/d in both layers, rates 1"),
    ("mean-field", "mean-field", (-1, 1, 1, 0, 0, 1.0), "gamma = 1/d, weights N(0, 1), rates d"),
    ("mup", "muP (SGD)", (0, -1, 1, -1, 0, 1.0), "u ~ N(0, 1/d^2), w of order 1, eta_u = 1/d, eta_w = d"),
    ("yang-hu", "muP (Yang-Hu)", (0, 0, 0, -0.5, -0.5, 1.0), "u and w ~ N(0, 1/d), rates 1"),
    (
        "small-readout",
        "NTK, small read-out",
        (-0.5, 0, 0, -0.5, 0, 1.0),
        "gamma = d^-1/2, u ~ N(0, 1/d), w ~ N(0, 1), rates 1",
    ),
    ("tiny", "tiny initialisation", (0, 0, 0, -1, -1, 0.0), "fixed width, weights of order 1/kappa, rates 1"),
    ("large", "large initialisation", (0, 0, 0, 1, 1, 0.0), "fixed width, weights of order kappa, rates 1"),
)

#: All with a fixed number of inputs. Constants (the 2 of Kaiming, uniform or normal) do not change an exponent.
PARAMETERISATIONS = tuple(
    Parameterisation(name=name, label=label, scaling=Scaling(**dict(zip(AXES, exponents, strict=True))), rule=rule)
    for name, label, exponents, rule in _TABLE
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
