"""The phase diagram of wide two-layer ReLU networks (Luo, Xu, Ma, Zhang, arXiv:2007.07497).

f(x) = (1/alpha) sum_k a_k relu(w_k . x), k = 1..m, a_k ~ N(0, b1^2), w_k ~ N(0, b2^2). With kappa = b1 b2/alpha =
m^-gamma and kappa' = b1/b2 = m^-gamma', the relative distance RD of the input weights vanishes, stays or diverges.
The exponents are exact in the rank-one linear surrogate, whose RD has a closed form (docs/related/relu-phase).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.latent_model.scaling import sign
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model, points
from featurephase.related_models.parameters import count, number, parameter, vector
from featurephase.results.related import Region

#: Slopes of ln RD over ln m that count as zero at widths up to about a thousand.
CRITICAL_SLOPE = 0.15
#: Bins of the orientations of the input weights.
BINS = 90
#: Four inputs with a constant appended, and their responses.
INPUTS = np.column_stack([[-1.0, -0.5, 0.5, 1.0], np.ones(4)]) / math.sqrt(2.0)
TARGETS = np.array([0.5, -0.2, 0.6, -0.4])


def regime(gamma: float, gamma_prime: float) -> str:
    """ "linear", "critical" or "condensed": what RD of the input weights does as the width grows."""
    return {1: "linear", 0: "critical", -1: "condensed"}[sign(_exponents(gamma, gamma_prime)[0])]


def _exponents(gamma: float, gamma_prime: float) -> tuple[float, float]:
    """Those of the input weights and of the read-out: the larger layer has c_h, the other c_g (0 up to rounding: 0)."""
    own, balance = (x if sign(x) else 0.0 for x in (1.0 - gamma, 1.0 - gamma + abs(gamma_prime)))
    return (balance, own) if gamma_prime >= 0.0 else (own, balance)


def surrogate_distance(
    u: ArrayLike,
    w: ArrayLike,
    *,
    cross_moment: float,
    second_moment: float = 1.0,
    gamma: float = 1.0,
    eta_u: float = 1.0,
    eta_w: float = 1.0,
) -> tuple[float, float, float]:
    """Relative distances |w - w0|/|w0| and |u - u0|/|u0| that the layers of the linear surrogate travel, and psi.

    The surrogate f(a) = gamma u.w a starts at read-out and input weights u and w, (unit,), with gamma not 0 and rates
    > 0, and is trained until convergence on data with E[a y] and E[a^2]; psi is the hyperbolic angle between its start
    and its end (theory/latent-mechanisms, eq. mec-motion).

    Raises
    ------
    InputError
        If the two layers are parallel or opposed unit by unit, where psi is infinite or not defined by them.
    """
    a, b = np.asarray(u, dtype=np.float64) / math.sqrt(eta_u), np.asarray(w, dtype=np.float64) / math.sqrt(eta_w)
    gamma *= math.sqrt(eta_u * eta_w)  # in these units the rates are equal
    p, q = float(np.sum((b + a) ** 2)) / 4.0, float(np.sum((b - a) ** 2)) / 4.0
    h = 2.0 * abs(gamma) * math.sqrt(p * q)
    if h == 0.0:
        raise InputError("relu-phase: the surrogate needs layers that are neither equal nor opposite, and gamma != 0")
    target, start = cross_moment / second_moment, gamma * float(a @ b)
    psi = 0.5 * math.copysign(1.0, gamma) * (math.asinh(target / h) - math.asinh(start / h))
    grow, turn = 2.0 * math.sinh(psi / 2.0) ** 2, math.sinh(psi)
    uu, ww, uw = float(a @ a), float(b @ b), float(a @ b)

    def distance(own: float, other: float) -> float:
        return math.sqrt((grow**2 * own + turn**2 * other + 2.0 * grow * turn * uw) / own) if own > 0.0 else math.inf

    return distance(ww, uu), distance(uu, ww), psi


class _Network:
    """Weights theta = (a, w) of 2 m units, whose output is 0 at the start because every unit has a mirror image."""

    def __init__(self, width: int, gamma: float, gamma_prime: float, rng: np.random.Generator) -> None:
        b1, b2 = width ** (-gamma_prime / 2.0), width ** (gamma_prime / 2.0)
        a, w = b1 * rng.standard_normal(width), b2 * rng.standard_normal((width, 2))
        self.units, self.scale = 2 * width, float(width) ** -gamma
        self.start = np.concatenate([a, -a, w.ravel(), w.ravel()])

    def layers(self, theta: Array) -> tuple[Array, Array]:
        """Read-out (unit,) and input weights (unit, 2)."""
        return theta[: self.units], theta[self.units :].reshape(-1, 2)

    def linearised(self, theta: Array) -> tuple[Array, Array]:
        """Errors at the inputs, and their derivatives by all weights, shape (sample, weight)."""
        a, w = self.layers(theta)
        hidden = INPUTS @ w.T
        active = np.maximum(hidden, 0.0)
        inner = ((hidden > 0.0) * a)[:, :, None] * INPUTS[:, None, :]
        slopes = self.scale * np.hstack([active, inner.reshape(len(TARGETS), -1)])
        return self.scale * (active @ a) - TARGETS, slopes


def _move(errors: Array, slopes: Array, time: float) -> Array:
    """How far the flow goes in this time if the slopes stay: -J' K^-1 (1 - exp(-2 K t/n)) e with K = J J'."""
    values, vectors = np.linalg.eigh(slopes @ slopes.T)
    rate = 2.0 / len(errors) * np.maximum(values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(rate * time > 1e-12, -np.expm1(-rate * time) / rate, time)
    return np.asarray(-2.0 / len(errors) * (slopes.T @ (vectors @ (factor * (vectors.T @ errors)))))


def _train(network: _Network, loss: float, tolerance: float = 1e-2) -> Array:
    """Gradient flow to a mean squared error: exponential midpoint steps, second order, with the step chosen by error.

    The few samples make the tangent kernel a small matrix, so that its fast modes, which would force tiny steps on an
    explicit method, are integrated exactly. Returns the weights, nan if the loss is not reached.
    """
    theta, time = network.start, 1e-3 / network.scale**2 / network.units
    errors, slopes = network.linearised(theta)
    for _ in range(20_000):
        if float(np.mean(errors**2)) <= loss:
            return theta
        middle = network.linearised(theta + _move(errors, slopes, time / 2.0))[1]
        first, second = _move(errors, slopes, time), _move(errors, middle, time)
        error = float(np.linalg.norm(second - first)) / (tolerance * float(np.linalg.norm(theta + second)))
        if error <= 1.0:
            theta = theta + second
            errors, slopes = network.linearised(theta)
        time *= min(3.0, max(0.3, 0.8 / math.sqrt(max(error, 1e-12))))
    return np.full_like(theta, np.nan)


def _outcome(network: _Network, loss: float) -> tuple[float, ...]:
    """Relative distances of both layers, and the effective numbers of orientations before and after training."""
    before, after = network.layers(network.start), network.layers(_train(network, loss))
    distances = [float(np.linalg.norm(y - x) / np.linalg.norm(x)) for x, y in zip(before, after, strict=True)]
    return distances[1], distances[0], _orientations(*before), _orientations(*after)


def _orientations(a: Array, w: Array) -> float:
    """Effective number of orientations: the exponential of the entropy of |a_k| |w_k| over bins of the angle of w_k."""
    weight = np.abs(a) * np.linalg.norm(w, axis=1)
    if not np.isfinite(weight).all():
        return math.nan
    angle = np.arctan2(w[:, 1], w[:, 0])
    share = np.histogram(angle, BINS, (-math.pi, math.pi), weights=weight / weight.sum())[0]
    share = share[share > 0.0]
    return float(np.exp(-np.sum(share * np.log(share))))


@model
class ReluPhase(RelatedModel):
    """Parameters and quantities of the phase diagram; its exponents hold as the width grows."""

    name: ClassVar[str] = "relu-phase"
    title: ClassVar[str] = "two-layer ReLU networks: linear, critical and condensed by the scaling of the start"
    citation: ClassVar[str] = "Luo, Xu, Ma, Zhang, arXiv:2007.07497"
    validity: ClassVar[str] = "asymptotic"

    known: ClassVar[Known] = {
        "regime": ((), "what RD of the input weights does as the width grows"),
        "exponent_w": ((), "RD of the input weights vanishes with the width iff positive"),
        "exponent_u": ((), "RD of the read-out vanishes with the width iff positive"),
        "kernel_exponent": ((), "c_h: the tangent kernel changes iff not positive"),
        "rd": (("width",), "relative distance that the input weights travel"),
        "rd_readout": (("width",), "relative distance that the read-out travels"),
        "slope": ((), "d ln RD / d ln m of the input weights"),
        "slope_readout": ((), "d ln RD / d ln m of the read-out"),
        "orientations_start": (("width",), "effective number of orientations at the start"),
        "orientations": (("width",), "effective number of orientations after training"),
        "measured_regime": ((), f"by the slope; |slope| < {CRITICAL_SLOPE:g} counts as critical"),
    }

    gamma: float = parameter(number(), "exponent of the scale: kappa = m^-gamma", default=1.0)
    gamma_prime: float = parameter(number(), "exponent of the imbalance: kappa' = m^-gamma'", default=0.0)
    widths: Array = parameter(vector(count(2, 10**5)), "widths of the simulation", default=(64, 256, 1024))
    loss: float = parameter(number(0.0), "mean squared error at which a simulation stops", default=1e-4)

    def check(self) -> None:
        """At least two different widths, and moderate exponents."""
        if len(np.unique(self.widths)) < 2:
            raise InputError("relu-phase: widths must be at least two different whole numbers: a slope needs two")
        if max(abs(self.gamma), abs(self.gamma_prime)) > 10.0:
            raise InputError("relu-phase: gamma and gamma_prime must be at most 10 in size: beyond, weights underflow")

    def phase(self) -> Phase:
        """The regime in the limit of wide networks."""
        notes = {
            "linear": "RD of the input weights vanishes with the width: the kernel regime",
            "critical": "RD of the input weights stays of order one: the mean-field boundary",
            "condensed": "RD of the input weights diverges with the width: neurons condense on few orientations",
        }
        word = regime(self.gamma, self.gamma_prime)
        return Phase(word, notes[word], {"gamma": max(1.0, 1.0 + self.gamma_prime)})

    def solve(self) -> Solution:
        """Regime and exponents; the sign of each exponent decides what the layer does."""
        inner, outer = _exponents(self.gamma, self.gamma_prime)
        return self.solution(
            {
                "regime": regime(self.gamma, self.gamma_prime),
                "exponent_w": inner,
                "exponent_u": outer,
                "kernel_exponent": max(inner, outer),
            }
        )

    def coordinates(self) -> dict[str, Array]:
        """The widths."""
        return {"width": self.widths}

    def train(self, rng: np.random.Generator) -> dict[str, Array]:
        """Gradient flow of one network of every width, and the slopes of both distances over the width."""
        runs = [_outcome(_Network(int(m), self.gamma, self.gamma_prime, rng), self.loss) for m in self.widths]
        rd, rd_readout, before, after = np.array(runs).T
        slopes = [np.polyfit(np.log(self.widths), np.log(x), 1)[0] for x in (rd, rd_readout)]
        return {
            "rd": rd,
            "rd_readout": rd_readout,
            "slope": np.asarray(slopes[0]),
            "slope_readout": np.asarray(slopes[1]),
            "orientations_start": before,
            "orientations": after,
        }

    def summary(self, runs: dict[str, Array]) -> Solution:
        """The means, and the regime that the mean slope stands for."""
        found = super().summary(runs)
        slope = float(found.quantities["slope"].value)
        word = "critical" if abs(slope) < CRITICAL_SLOPE else "linear" if slope < 0.0 else "condensed"
        simulated = {"measured_regime": self.quantity("measured_regime", word)}
        return Solution(found.quantities | simulated, found.status, found.message)

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """The plane of exponents with this point, and RD over the width."""
        edge = Curve(np.array([1.0, 1.0, 2.5]), np.array([-1.5, 0.0, 1.5]), "critical", colour=6)
        here = Curve(np.array([self.gamma]), np.array([self.gamma_prime]), "here", "points", colour=1)
        named = (("NTK", 0.5, 0.0), ("LeCun, He", 0.5, 0.5), ("mean-field", 1.0, 0.0))
        marks = tuple(
            Curve(np.array([g]), np.array([p]), n, "points", colour=3 + i) for i, (n, g, p) in enumerate(named)
        )
        plane = Panel(
            r"$\gamma$",
            r"$\gamma'$",
            (edge, *marks, here),
            regions=(
                Region((0.0, 1.0, 1.0, 2.5, 0.0), (-1.5, -1.5, 0.0, 1.5, 1.5), (0.3, -0.8), "linear", 0),
                Region((1.0, 2.5, 2.5, 1.0), (-1.5, -1.5, 1.5, 0.0), (1.7, -0.8), "condensed", 2),
            ),
            limits=((0.0, 2.5), (-1.5, 1.5)),
        )
        if simulated is None:
            return (plane,)
        shown = {n: points(self.widths, q, q.about) for n, q in simulated.quantities.items() if q.dims == ("width",)}
        distances, orientations = (
            (shown["rd"], shown["rd_readout"]),
            (shown["orientations_start"], shown["orientations"]),
        )
        return (
            plane,
            Panel("width m", "relative distance RD", distances, log_x=True, log_y=True),
            Panel("width m", "orientations", orientations, log_x=True),
        )
