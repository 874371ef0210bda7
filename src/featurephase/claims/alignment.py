"""Claim 11: learning by alignment."""

from __future__ import annotations

import numpy as np

from featurephase.analyses.latent import latent
from featurephase.claims.base import MECHANISMS, Claim, Finding, Number, Study, above, at_most, below
from featurephase.claims.networks import descent, measured_budget, random_layers
from featurephase.results.related import Curve, Panel

#: Standard deviation of both layers, and time and steps of training.
SCALE, TIME, STEPS = 0.003, 10.0, 20_000
#: The budget of the closed form against that of the path.
BUDGET_BOUND = 2e-3


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    width, replicates = 100, study.size(12, 100)
    starts, ends, parts, growths, early, errors = [], [], [], [], [], []
    for u, w in random_layers(width, replicates, (study.seed, 11), SCALE, SCALE):
        path = descent(u, w, time=TIME, steps=STEPS)
        budget = measured_budget(path)
        exact = latent(u, w, cross_moment=1.0, times=[0.0, TIME]).mechanisms
        errors.append(max(abs(value - exact[name]) for name, value in budget._asdict().items()))
        turned = int(np.argmax(np.abs(path.alignment) > 0.9))
        starts.append(abs(path.alignment[0]))
        ends.append(path.alignment[-1])
        parts.append(budget.alignment)
        growths.append(budget.growth)
        early.append(path.loss[turned] / path.loss[0])
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
            below("|cosine| between the layers at the start", Number.mean(starts), 0.2),
            above("cosine at the end", Number.mean(ends), 0.999),
            above("part of ln K by alignment", Number.mean(parts), 0.4),
            above("part of ln K by growth", Number.mean(growths), 3.0),
            above("share of the loss left when the cosine passes 0.9", Number.mean(early), 0.95),
            at_most("budget of the closed form against the path's", max(errors), BUDGET_BOUND),
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
    "left when the cosine passes 0.9; the budget of the closed form is that of the path within 0.002.",
    experiment="Gradient descent in small steps on two samples from random starts; the parts of ln K by the "
    "trapezoidal rule along the path.",
    run=experiment,
)
