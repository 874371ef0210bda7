"""Claim 8: the transition in finite networks, without theory, lies where the theory says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from featurephase.claims.base import TRANSITIONS, Claim, Finding, Number, Study, above, curve, equals, power_law, slope
from featurephase.claims.neurons import decaying_neuron, simulated, transition
from featurephase.foundation.types import Array
from featurephase.results.related import Panel
from featurephase.subspaces import problem_subspaces

#: Around the transition; far below it, where the overlap is noise and needs more seeds; and far above.
DELTAS, BELOW, ABOVE, MORE = (8.0, 9.5, 11.0, 12.5, 14.0), 5.0, 34.0, 3
#: Overlap with the hard direction at the start, in units of what is there by chance: so much more can shrink.
START = 2.0
#: Of the location, relative to it: standard error, and what d and the finite time may still add.
RESOLUTION, TOLERANCE = 0.05, 0.05
#: Before the first time the network comes to its plateau, on which the prediction is made.
FIRST, PLATEAU = 20, 120


def overlaps(study: Study, delta: float, steps: int, dimension: int, seeds: int) -> Array:
    """The share of the weights in U_H in finite networks, (seed, time)."""
    plain = decaying_neuron(steps)
    start = START * plain.student.init_gram[0, 0] ** 0.5 / math.sqrt(dimension)
    problem = plain.replace(student={"init_overlap": [[start]]})
    options: dict[str, Any] = {"method": "implicit", "subspaces": problem_subspaces(plain)}
    runs = [simulated(problem, study, dimension, delta, 1, stream=200 + i, **options) for i in range(seeds)]
    return np.array([run.hard_overlap for run in runs])


def jackknife(estimate: Callable[[list[Array]], Array], samples: list[Array]) -> list[Number]:
    """What is estimated from samples (seed, ..), with the errors found by leaving out one seed in all of them."""
    count = len(samples[0])
    without = np.array([estimate([np.delete(s, i, axis=0) for s in samples]) for i in range(count)])
    errors = np.sqrt((count - 1) * without.var(axis=0))
    return [Number.of(v, e, count) for v, e in zip(estimate(samples), errors, strict=True)]


def growth(samples: list[Array], time: int) -> Array:
    """ln of the growth of the mean overlap from the first time to this one, at each delta."""
    return np.array([math.log(s[:, time].mean() / s[:, FIRST].mean()) for s in samples])


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    sizes, seeds = study.size((1600, 6400), (2000, 16_000)), study.size(8, 24)
    times = study.size((35, 50), (60, 120))

    def estimate(samples: list[Array]) -> Array:
        grown = [growth(samples, t) for t in times]
        return np.array([np.polyfit(grown[-1], DELTAS, 2)[-1], *np.ravel(grown)])  # delta at growth 0, by a parabola

    found = [jackknife(estimate, [overlaps(study, delta, times[-1], d, seeds) for delta in DELTAS]) for d in sizes]
    ratio = sizes[1] / sizes[0]
    place = Number.sum([(ratio / (ratio - 1.0), found[1][0]), (-1.0 / (ratio - 1.0), found[0][0])])  # linear in 1/d
    short, long = (slope(DELTAS, found[1][1 + i * len(DELTAS) :][: len(DELTAS)]) for i in (0, 1))
    low, high = (
        [Number.mean(overlaps(study, delta, times[0], d, count)[:, -1]) for d in sizes]
        for delta, count in ((BELOW, MORE * seeds), (ABOVE, seeds))
    )
    theory = transition(decaying_neuron(PLATEAU), study, PLATEAU, (5.0, 16.0), samples=study.size(10_000, 100_000))
    delta_nn = Number.of(theory.value_negative, theory.value_negative_se, 6)
    allowed, added = RESOLUTION * delta_nn.value, TOLERANCE * delta_nn.value
    what = f"slope in delta of the growth until t = {times[1]}, against t = {times[0]}"
    comparisons = [
        equals(
            "delta at which the overlap neither grows nor shrinks", place, delta_nn, resolution=allowed, tolerance=added
        ),
        above(what, long, short),
        equals(f"power of d, delta = {BELOW:g}", power_law(sizes, low), -0.5, resolution=0.15, tolerance=0.15),
        above(f"power of d, delta = {ABOVE:g}", power_law(sizes, high), -0.25),
        above(f"hard overlap, delta = {ABOVE:g}", high[-1], 0.5),
    ]
    curves = tuple(curve(DELTAS, one[-len(DELTAS) :], f"d = {d}") for d, one in zip(sizes, found, strict=True))
    marks = ((delta_nn.value, "predicted"), (place.value, "located"))
    title = f"growth from t = {FIRST} to {times[1]}"
    panel = Panel("n/d", "ln of the growth of the hard overlap", curves, title, horizontal=((0.0, ""),), vertical=marks)
    return Finding(comparisons, f"one neuron; d = {sizes[0]} and {sizes[1]}, up to t = {times[1]}", (panel,))


CLAIM = Claim(
    id="finite-size-scaling",
    number=8,
    statement="Finite networks show the transition without theory: the hard overlap after a large time changes from "
    "a decay with d to a constant, and the change sharpens with time at the predicted delta_NN.",
    source=TRANSITIONS,
    criterion="From twice the overlap of chance, once on its plateau, the mean hard overlap shrinks below some delta "
    "and grows above it: that delta, extrapolated in 1/d, equals the predicted delta_NN (negative outlier on the "
    "plateau) within 5 %, with a standard error below 5 %. The longer the time, the steeper the growth in delta. Far "
    "below, at delta = 5, the overlap falls with a power of d of -1/2 (within 0.15, standard error below 0.15); far "
    "above, at 34, the power is above -1/4 and the overlap above 0.5.",
    experiment="GeLU neuron with weight decay in the exact law at two d, five values of delta around the transition, "
    "two times; a parabola through growth and delta; errors by leaving out one seed.",
    run=experiment,
)
