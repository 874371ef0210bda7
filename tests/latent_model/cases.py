"""Random models of every kind: generic, degenerate, cancelling, extreme; and times on which their motion depends."""

from __future__ import annotations

import math

import numpy as np

from .reference import Model

KINDS = (
    "generic",
    "equal rates",
    "balanced",
    "read-out zero",
    "hidden zero",
    "width one",
    "parallel",
    "no target",
    "no target, one mode",
    "one mode, right sign",
    "saddle",
    "saddle by irrational rates",
    "P cancels",
    "Q cancels",
    "P cancels but for one unit",
    "output cancels",
    "residual cancels",
    "at the optimum",
    "frozen read-out",
    "frozen hidden",
    "frozen both",
    "no gamma",
    "no input",
    "all zero",
    "tiny",
    "huge",
    "tiny, no target",
    "mixed scales",
    "unbalanced",
    "moderate",
    "moderate, small start",
    "moderate, no target",
)


def random_model(rng: np.random.Generator, kind: str, max_width: int) -> Model:
    def decades(low: float, high: float) -> float:
        return float(10.0 ** rng.uniform(low, high))

    d = round(10.0 ** rng.uniform(0.0, math.log10(max_width)))
    scale_u = decades(-6, 6)
    scale_w = scale_u * decades(-3, 3)
    u, w = scale_u * rng.standard_normal(d), scale_w * rng.standard_normal(d)
    x = Model(
        u,
        w,
        cross_moment=float(rng.standard_normal() * decades(-3, 3)),
        second_moment=decades(-3, 3),
        eta_u=decades(-6, 6),
        eta_w=decades(-6, 6),
        gamma=float(rng.choice([-1.0, 1.0]) * decades(-3, 3)),
        loss_factor=float(rng.choice([1.0, 0.5])),
        kind=kind,
    )
    ratio = math.sqrt(x.eta_w / x.eta_u)
    toward = math.copysign(1.0, x.gamma * x.cross_moment)
    if kind in ("equal rates", "tiny", "huge", "tiny, no target", "P cancels but for one unit"):
        x.eta_w, ratio = x.eta_u, 1.0
    if kind == "balanced":
        x.w = ratio * np.abs(u) * rng.choice([-1.0, 1.0], d)
    elif kind == "read-out zero":
        x.u = np.zeros(d)
    elif kind == "hidden zero":
        x.w = np.zeros(d)
    elif kind == "width one":
        x.u, x.w = u[:1], w[:1]
    elif kind == "parallel":
        x.w = u * float(2.0 ** rng.integers(-10, 10)) * rng.choice([-1.0, 1.0])
    elif kind == "no target":
        x.cross_moment = 0.0
    elif kind == "no target, one mode":
        x.cross_moment, x.eta_w = 0.0, x.eta_u
        x.w = u * rng.choice([-1.0, 1.0])
    elif kind == "one mode, right sign":
        x.eta_w = 4.0 * x.eta_u
        x.w = 2.0 * toward * u
    elif kind == "saddle":
        x.eta_w = x.eta_u / 16.0
        x.w = -0.25 * toward * u
    elif kind == "saddle by irrational rates":  # ratio 3/7 held by rates that are not powers of two apart
        x.eta_u, x.eta_w = 49.0 * 2.0 ** int(rng.integers(-9, 9)), 9.0 * 2.0 ** int(rng.integers(-9, 9) * 2)
        x.eta_u = 49.0 * x.eta_w / 9.0 if (49.0 * x.eta_w / 9.0) * 9.0 == 49.0 * x.eta_w else 49.0
        x.eta_w = 9.0 if x.eta_u == 49.0 else x.eta_w
        whole = rng.integers(1, 1000, d) * rng.choice([-1.0, 1.0], d)
        x.u, x.w = 7.0 * whole, -3.0 * toward * whole
    elif kind == "P cancels":
        x.w = -u * ratio
    elif kind == "Q cancels":
        x.w = u * ratio
    elif kind == "P cancels but for one unit":
        x.w = -toward * u
        x.w[0] *= 1.0 + 2.0**-52
    elif kind == "output cancels" and d > 1:
        x.w[-1] = -np.dot(u[:-1], w[:-1]) / u[-1]
    elif kind == "residual cancels":
        x.cross_moment = x.second_moment * x.gamma * math.fsum(u * w)
    elif kind == "at the optimum":
        x.u, x.w = np.round(8 * rng.standard_normal(d)), np.round(8 * rng.standard_normal(d))
        x.second_moment, x.gamma = 2.0, 0.5
        x.cross_moment = float(np.dot(x.u, x.w))
    elif kind == "frozen read-out":
        x.eta_u = 0.0
    elif kind == "frozen hidden":
        x.eta_w = 0.0
    elif kind == "frozen both":
        x.eta_u = x.eta_w = 0.0
    elif kind == "no gamma":
        x.gamma = 0.0
    elif kind == "no input":
        x.second_moment = x.cross_moment = 0.0
    elif kind == "all zero":
        x.u, x.w = np.zeros(d), np.zeros(d)
    elif kind.startswith("tiny"):
        size = decades(-150, -100)
        x.u, x.w = size * rng.standard_normal(d), size * rng.standard_normal(d)
        if kind == "tiny, no target":
            x.cross_moment = 0.0
    elif kind == "huge":
        size = decades(60, 98)
        x.u, x.w = size * rng.standard_normal(d), size * rng.standard_normal(d)
    elif kind == "mixed scales":
        x.u = rng.standard_normal(d) * 10.0 ** rng.uniform(-150, 50, d)
        x.w = rng.standard_normal(d) * 10.0 ** rng.uniform(-150, 50, d)
    elif kind.startswith("moderate"):  # float64 does without exponents here
        size = 1e-4 if kind == "moderate, small start" else 1.0
        x.u, x.w = size * rng.standard_normal(d), size * rng.standard_normal(d)
        x.eta_u, x.eta_w, x.gamma, x.second_moment = decades(-0.5, 0.5), decades(-0.5, 0.5), decades(-1, 0), 1.5
        x.cross_moment = 0.0 if kind == "moderate, no target" else float(rng.standard_normal())
    elif kind == "unbalanced":
        x.w = w * 1e-100
    return x


def random_times(rng: np.random.Generator, time_scale: float, kind: str = "") -> list[float]:
    """0, one of the motion's own scale, one anywhere, and infinity; more where the evaluation changes its means."""
    if kind.startswith("moderate"):
        edges = [
            1e-40,
            1e-20,
            1e-8,
            1e-3,
            0.1,
            1.0,
            5.0,
            12.0,
            25.0,
            60.0,
            149.0,
            151.0,
            400.0,
            600.0,
            899.0,
            901.0,
            1e4,
        ]
        return [0.0, *(time_scale * x for x in edges), math.inf]
    own = float(min(max(time_scale, 1e-300), 1e300) * 10.0 ** rng.uniform(-4.0, 2.5))
    return [0.0, min(own, 1e300), float(10.0 ** rng.uniform(-300.0, 300.0)), math.inf]
