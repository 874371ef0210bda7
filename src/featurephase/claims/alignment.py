"""Claim 11: learning by alignment."""

from __future__ import annotations

import numpy as np

from featurephase.claims.base import MECHANISMS, Claim, Finding, Number, Study, above, at_most, below
from featurephase.claims.networks import DESCENT_BOUND, followed, random_layers
from featurephase.results.related import Curve, Panel

#: Standard deviation of both layers, and time and steps of training.
SCALE, TIME, STEPS = 0.003, 10.0, 20_000


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    layers = random_layers(100, study.size(12, 100), (study.seed, 11), SCALE, SCALE)
    runs = [followed(u, w, time=TIME, steps=STEPS) for u, w in layers]
    cosines = [np.abs(run.path.alignment) for run in runs]
    early = [r.path.loss[np.argmax(c > 0.9)] / r.path.loss[0] for r, c in zip(runs, cosines, strict=True)]
    path = runs[-1].path
    every = slice(None, None, 100)
    panel = Panel(
        "time",
        "cosine between the layers; loss over its start",
        (
            Curve(path.times[every], path.alignment[every], "cosine"),
            Curve(path.times[every], path.loss[every] / path.loss[0], "loss", "dashed"),
        ),
        "a small start: the layers align, then grow",
    )
    return Finding(
        [
            below("|cosine| between the layers at the start", Number.mean([c[0] for c in cosines]), 0.2),
            above("cosine at the end", Number.mean([r.path.alignment[-1] for r in runs]), 0.999),
            above("part of ln K by alignment", Number.mean([r.budget.alignment for r in runs]), 0.4),
            above("part of ln K by growth", Number.mean([r.budget.growth for r in runs]), 3.0),
            above("share of the loss left when the cosine passes 0.9", Number.mean(early), 0.95),
            at_most("budget of the closed form against the path's", max(r.error for r in runs), DESCENT_BOUND),
        ],
        panels=(panel,),
    )


CLAIM = Claim(
    id="alignment",
    number=11,
    statement="From a small initialisation the layers align first, then grow: features are learned by alignment.",
    source=MECHANISMS,
    criterion="100 units of size 0.003: the cosine between the layers is below 0.2 at the start and above 0.999 at "
    "the end; alignment makes more than 0.4 of ln K, growth more than 3; more than 95 % of the loss is "
    "left when the cosine passes 0.9; the budget of the closed form is that of the path, extrapolated to step 0, "
    "within 1e-4.",
    experiment="Gradient descent in small steps on two samples from random starts; the parts of ln K by the "
    "trapezoidal rule along the path.",
    run=experiment,
)
