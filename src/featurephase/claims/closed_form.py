"""Claim 9: the closed form of the latent-variable model, against training at several widths."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurephase.analyses.latent import latent
from featurephase.claims.base import MECHANISMS, Claim, Comparison, Finding, Study, at_most
from featurephase.claims.networks import DESCENT_BOUND, descent
from featurephase.latent_model.training import Measurement, Setting, integrate_flow
from featurephase.results.latent import LatentResult
from featurephase.results.related import Curve, Panel

#: Width -> rates of the two layers, prefactor, and scale of the start.
SETTINGS = {1: (1.0, 1.0, 1.0, 0.5), 3: (0.5, 2.0, 0.7, 0.8), 30: (2.0, 0.3, 0.4, 0.2), 1000: (1.0, 1.0, 0.05, 0.5)}
#: Relative error of a numerical integration at its tolerance.
FLOW_BOUND = 1e-8
QUANTITIES = ("output", "loss", "kernel", "alignment", "u", "w")


def relative_error(exact: LatentResult, found: Measurement | dict[str, np.ndarray]) -> float:
    """The largest over quantities of the largest error over times, in units of the largest value."""
    read = found.__getitem__ if isinstance(found, dict) else lambda name: getattr(found, name)
    pairs = [(getattr(exact, name), read(name)) for name in QUANTITIES]
    return float(max(np.max(np.abs(a - b)) / np.max(np.abs(a)) for a, b in pairs))


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    rng = np.random.default_rng([study.seed, 9])
    comparisons: list[Comparison] = []
    curves: list[Curve] = []
    steps = study.size(1000, 10_000)
    for width, (eta_u, eta_w, gamma, scale) in SETTINGS.items():
        u, w = scale * rng.standard_normal((2, width))
        rates: dict[str, Any] = {"eta_u": eta_u, "eta_w": eta_w, "gamma": gamma}
        end = 4.0 / float(latent(u, w, cross_moment=1.0, **rates).rates["asymptotic"])
        times = np.linspace(0.0, end, 11)
        exact = latent(u, w, cross_moment=1.0, times=times, **rates)
        flow = integrate_flow(u, w, times, Setting(cross_moment=1.0, response_moment=1.0, **rates))
        comparisons.append(at_most(f"width {width}: error of the flow", relative_error(exact, flow), FLOW_BOUND))
        coarse, fine = (descent(u, w, time=end, steps=count, **rates) for count in (steps, 2 * steps))
        every = steps // 10
        limit = {n: 2.0 * getattr(fine, n)[:: 2 * every] - getattr(coarse, n)[::every] for n in QUANTITIES}
        comparisons.append(
            at_most(f"width {width}: error of descent, extrapolated", relative_error(exact, limit), DESCENT_BOUND)
        )
        curves.append(Curve(times / end, exact.output, f"width {width}", colour=len(curves) // 2))
        curves.append(
            Curve(coarse.times[::every] / end, coarse.output[::every], style="points", colour=len(curves) // 2)
        )
    panel = Panel(
        "time, in units of the last", "output for a unit input", tuple(curves), "closed form; points: trained"
    )
    return Finding(comparisons, panels=(panel,))


CLAIM = Claim(
    id="closed-form",
    number=9,
    statement="A linear network with one hidden layer on a one-dimensional latent input learns by a closed form, at "
    "any finite width, with any layer-wise rates and any initialisation.",
    source=MECHANISMS,
    criterion="At widths 1, 3, 30 and 1000, each with other rates and another scale: output, loss, kernel, "
    "alignment and all weights within 1e-8 of a numerical integration of the flow of all weights, and "
    "within 1e-4 of gradient descent extrapolated to step 0.",
    experiment="The closed form at 11 times against SciPy's integration and against plain gradient descent on two "
    "samples with a step and half of it; neither knows the closed form.",
    run=experiment,
)
