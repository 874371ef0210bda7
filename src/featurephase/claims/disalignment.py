"""Claim 12: learning by disalignment."""

from __future__ import annotations

import numpy as np

from featurephase.analyses.latent import latent
from featurephase.claims.base import MECHANISMS, Claim, Finding, Number, Study, above, at_most, below
from featurephase.claims.networks import descent, measured_budget, random_layers
from featurephase.results.related import Curve, Panel

#: Units, their size at the start, and steps of training.
WIDTH, SCALE, STEPS = 3, 30.0, 5000
#: K(inf)/K(0) against its limit for large starts, and the budget of the closed form against that of the path.
RATIO_BOUND, BUDGET_BOUND = 5e-3, 5e-3


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    starts, ends, parts, others, ratios, norms, budgets = [], [], [], [], [], [], []
    for u, w in random_layers(WIDTH, study.size(60, 400), (study.seed, 12), SCALE, SCALE):
        end = 14.0 / float(latent(u, w, cross_moment=1.0).rates["asymptotic"])
        path = descent(u, w, time=end, steps=STEPS)
        budget = measured_budget(path)
        exact = latent(u, w, cross_moment=1.0, times=[0.0, end]).mechanisms
        budgets.append(max(abs(value - exact[name]) for name, value in budget._asdict().items()))
        rho = 2.0 * abs(u @ w) / (u @ u + w @ w)
        ratios.append(abs(path.kernel[-1] / path.kernel[0] - np.sqrt(1.0 - rho**2)))
        starts.append(abs(path.alignment[0]))
        ends.append(abs(path.alignment[-1]))
        parts.append(budget.disalignment)
        others.append(budget.alignment + budget.growth)
        product = [np.linalg.norm(path.u[i]) * np.linalg.norm(path.w[i]) for i in (0, -1)]
        norms.append(product[1] / product[0])
    every = slice(None, None, 100)
    panel = Panel(
        "time",
        "",
        (
            Curve(path.times[every], path.alignment[every], "cosine between the layers"),
            Curve(path.times[every], path.kernel[every] / path.kernel[0], "kernel over its start", "dashed"),
        ),
        "a large start: the layers turn to a right angle",
    )
    return Finding(
        [
            above("|cosine| between the layers at the start", Number.mean(starts), 0.2),
            below("|cosine| at the end", Number.mean(ends), 0.02),
            below("part of ln K by disalignment", Number.mean(parts), 0.0),
            below("part of ln K by alignment and growth", Number.mean(others), 0.01),
            below("|u||w| at the end over that at the start", Number.mean(norms), 1.0),
            at_most("K(inf)/K(0) against its limit for large starts", max(ratios), RATIO_BOUND),
            at_most("budget of the closed form against the path's", max(budgets), BUDGET_BOUND),
        ],
        panels=(panel,),
    )


CLAIM = Claim(
    id="disalignment",
    number=12,
    statement="From a large initialisation at finite width the layers turn away from each other and shrink: "
    "features are learned by disalignment.",
    source=MECHANISMS,
    criterion="3 units of size 30: the |cosine| between the layers is above 0.2 at the start and below 0.02 at the "
    "end; the part of ln K by disalignment is negative, those by alignment and growth below 0.01; |u||w| "
    "shrinks; K(inf)/K(0) is that of the limit of large starts and the budget that of the closed form, "
    "both within 0.005.",
    experiment="Gradient descent in small steps on two samples from random starts; the parts of ln K by the "
    "trapezoidal rule along the path.",
    run=experiment,
)
