"""Claim 13: learning by rescaling."""

from __future__ import annotations

import numpy as np

from featurephase.analyses.latent import latent
from featurephase.claims.base import MECHANISMS, Claim, Finding, Number, Study, above, at_most
from featurephase.claims.networks import DESCENT_BOUND, followed
from featurephase.foundation.types import Array
from featurephase.results.related import Curve, Panel

STEPS = 20_000
#: Largest deviation of |cosine| from 1, and largest part of ln K that is no rescaling.
COSINE_BOUND, ROTATION_BOUND = 1e-9, 1e-6


def starts(rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    """Layers whose directions cannot change: one unit, no read-out yet, and parallel layers."""
    w = 0.3 * rng.standard_normal(20)
    return {"one unit": (np.array([0.02]), np.array([0.3])), "no read-out": (1e-12 * w, w), "parallel": (0.05 * w, w)}


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    rng = np.random.default_rng([study.seed, 13])
    changes: list[float] = []
    worst = {"cosine": 0.0, "rotation": 0.0, "budget": 0.0}
    for _ in range(study.size(6, 60)):
        curves, grown = [], []
        for name, (u, w) in starts(rng).items():
            end = 6.0 / float(latent(u, w, cross_moment=2.0).rates["asymptotic"]) + 2.0
            path, budget, _, error = followed(u, w, time=end, steps=STEPS, cross_moment=2.0)
            worst["cosine"] = max(worst["cosine"], float(np.max(np.abs(np.abs(path.alignment) - 1.0))))
            worst["rotation"] = max(worst["rotation"], abs(budget.alignment) + abs(budget.disalignment))
            worst["budget"] = max(worst["budget"], error)
            grown.append(budget.growth)
            curves.append(Curve(path.times[::100] / end, path.kernel[::100] / path.kernel[0], name))
        changes.append(min(grown))
    comparisons = [
        at_most("deviation of |cosine| from 1", worst["cosine"], COSINE_BOUND),
        at_most("part of ln K by rotation", worst["rotation"], ROTATION_BOUND),
        at_most("budget of the closed form against the path's", worst["budget"], DESCENT_BOUND),
        above("part of ln K by growth, the least of the three", Number.mean(changes), 0.3),
    ]
    panel = Panel("time, in units of the last", "kernel over its start", tuple(curves), "pure rescaling", log_y=True)
    return Finding(comparisons, panels=(panel,))


CLAIM = Claim(
    id="rescaling",
    number=13,
    statement="Where the directions of the layers cannot change (one unit, a layer at zero, parallel layers), "
    "features are learned by rescaling alone.",
    source=MECHANISMS,
    criterion="The cosine between the layers stays at 1 within 1e-9, no part of ln K above 1e-6 comes by rotation, "
    "growth makes more than 0.3 of ln K, and the budget, extrapolated to step 0, is that of the closed form "
    "within 1e-4.",
    experiment="Gradient descent in small steps on two samples from three kinds of starts with random weights; the "
    "parts of ln K by the trapezoidal rule along the path.",
    run=experiment,
)
