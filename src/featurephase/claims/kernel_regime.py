"""Claim 14: no mechanism in the kernel regime of balanced layers; unbalanced layers are the exception."""

from __future__ import annotations

import numpy as np

from featurephase.claims.base import MECHANISMS, Claim, Finding, Number, Study, above, below, curve, power_law
from featurephase.claims.networks import descent, measured_budget, random_layers
from featurephase.latent_model.training import Measurement
from featurephase.results.related import Panel

WIDTHS = (16, 64, 256, 1024)
#: Gradient descent until this many inverse rates of the kernel at the start, in so many steps.
TIMES, STEPS = 4.0, 2000


def trained(width: int, scale_u: float, replicates: int, seed: tuple[int, ...]) -> list[Measurement]:
    """Networks in the NTK parameterisation whose read-out starts at ``scale_u``."""
    return [
        descent(u, w, time=TIMES / (1.0 + scale_u**2), steps=STEPS, gamma=width**-0.5)
        for u, w in random_layers(width, replicates, seed, scale_u)
    ]


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    replicates = study.size(16, 200)
    parts = ("alignment", "disalignment", "growth", "shrinkage")
    means: dict[str, list[Number]] = {name: [] for name in (*parts, "cosine", "kernel")}
    for width in WIDTHS:
        paths = trained(width, 1.0, replicates, (study.seed, 14, width))
        budgets = [measured_budget(path) for path in paths]
        for name in parts:
            means[name].append(Number.mean([abs(getattr(b, name)) for b in budgets]))
        means["cosine"].append(Number.mean([abs(p.alignment[-1]) for p in paths]))
        means["kernel"].append(Number.mean([abs(np.log(p.kernel[-1] / p.kernel[0])) for p in paths]))
    comparisons = [
        below(f"power of the width in the part of ln K by {name}", power_law(WIDTHS, means[name]), -0.5)
        for name in parts
    ]
    comparisons.append(below("power of the width in the change of ln K", power_law(WIDTHS, means["kernel"]), -0.5))
    comparisons.append(below("power of the width in the final cosine", power_law(WIDTHS, means["cosine"]), -0.25))
    width = WIDTHS[-1]
    exception = trained(width, 1.0 / width, replicates, (study.seed, 14))
    turned = Number.mean([abs(p.alignment[-1]) for p in exception])
    kept = Number.mean([abs(np.log(p.kernel[-1] / p.kernel[0])) for p in exception])
    comparisons += [
        above("unbalanced layers: cosine at the end", turned, 0.99),
        below("unbalanced layers: change of ln K", kept, 0.01),
    ]
    curves = tuple(curve(WIDTHS, means[name], name) for name in (*parts, "cosine"))
    panel = Panel("width", "part of ln K; final cosine", curves, "NTK parameterisation", log_x=True, log_y=True)
    return Finding(comparisons, panels=(panel,))


CLAIM = Claim(
    id="kernel-regime",
    number=14,
    statement="None of the mechanisms acts in the kernel regime of balanced layers; in that of unbalanced layers "
    "the small layer turns completely while the kernel stays.",
    source=MECHANISMS,
    criterion="NTK parameterisation, widths 16 to 1024: all four parts of ln K and its change fall with a power of "
    "the width below -1/2, the final cosine below -1/4. Read-out smaller by the width: cosine above 0.99, "
    "change of ln K below 0.01.",
    experiment="Gradient descent in small steps on two samples from random starts; the parts of ln K by the "
    "trapezoidal rule along the path.",
    run=experiment,
)
