"""Claim 8: the transition in finite networks, without theory, lies where the theory says."""

from __future__ import annotations

import math

import numpy as np

from featurephase.claims.base import TRANSITIONS, Claim, Finding, Number, Study, above, equals
from featurephase.claims.neurons import decaying_neuron, entry, simulated, transition
from featurephase.foundation.types import Array
from featurephase.results.related import Curve, Panel

DELTAS = (10.0, 12.0, 14.0, 17.0, 21.0)
#: Between a decay like d^(-1/2), not learned, and a constant, learned.
HALFWAY = -0.25
#: Relative standard error of the location extrapolated to infinite time.
RESOLUTION = 0.1


def powers(run_small: Array, run_large: Array, factor: float) -> Array:
    """The power of d in an overlap, from two dimensions."""
    return np.log(run_large / run_small) / math.log(factor)


def crossing(values: Array) -> float:
    """The delta at which the power passes half way, by linear interpolation; nan if it does not."""
    over = np.flatnonzero(values > HALFWAY)
    if not over.size or over[0] == 0:
        return math.nan
    j = int(over[0])
    share = (HALFWAY - values[j - 1]) / (values[j] - values[j - 1])
    return float(DELTAS[j - 1] + share * (DELTAS[j] - DELTAS[j - 1]))


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    small, large = study.size((100, 400), (1000, 8000))
    times = study.size((50, 100, 200), (100, 200, 400, 800))
    batches, seeds = study.size(5, 8), study.size(4, 6)
    problem = decaying_neuron(max(times))
    located: dict[int, list[float]] = {t: [] for t in times}
    limits, table, last = [], [], []
    for batch in range(batches):
        pairs = [
            [simulated(problem, study, d, delta, seeds, stream=batch, method="implicit") for d in (small, large)]
            for delta in DELTAS
        ]
        overlaps = np.array([[run.hard_overlap[list(times)] for run in pair] for pair in pairs])  # delta, d, time
        power = powers(overlaps[:, 0], overlaps[:, 1], large / small)
        where = [crossing(power[:, i]) for i in range(len(times))]
        for t, value in zip(times, where, strict=True):
            located[t].append(value)
        limits.append(
            float(np.polyfit(1.0 / np.array(times, float), where, 1)[1]) if np.isfinite(where).all() else math.nan
        )
        table.append(power[:, -1])
        last.append(entry(pairs[-1][1], "hard_overlap", max(times)).value)
    found = transition(problem, study, 120, (6.0, 25.0), samples=study.size(6000, 50_000))
    delta_nn = Number.of(found.value_negative, found.value_negative_se, 6)
    power = np.array(table)
    comparisons = [
        equals("location at infinite time", Number.mean(limits), delta_nn, resolution=RESOLUTION * abs(delta_nn.value)),
        equals("power of d far below", Number.mean(power[:, 0]), -0.5, resolution=0.1, tolerance=0.15),
        above("power of d far above", Number.mean(power[:, -1]), HALFWAY),
        above("hard overlap far above", Number.mean(last), 0.5),
    ]
    means = [Number.mean(located[t]) for t in times]
    for early, late, a, b in zip(times[:-1], times[1:], means[:-1], means[1:], strict=True):
        comparisons.append(above(f"location at t = {early} against {late}", a, b))
    x = np.array(DELTAS)
    spread = [Number.mean(column) for column in power.T]
    curve = Curve(x, np.array([s.value for s in spread]), f"t = {max(times)}", "bars", np.array([s.se for s in spread]))
    marks = ((delta_nn.value, "predicted"), (Number.mean(limits).value, "located"))
    panel = Panel(
        "n/d", "power of d in the hard overlap", (curve,), "from -1/2, not learned, to 0, learned", vertical=marks
    )
    limits_said = f"one neuron; d = {small} and {large}; located by extrapolation to infinite time"
    return Finding(comparisons, limits_said, (panel,))


CLAIM = Claim(
    id="finite-size-scaling",
    number=8,
    statement="Finite networks show the transition without theory: the hard overlap after a large time changes from "
    "a decay with d to a constant, and the place sharpens and moves to the predicted delta_NN.",
    source=TRANSITIONS,
    criterion="The power of d in the hard overlap passes -1/4 at a delta that falls from each time to the next and, "
    "extrapolated linearly in one over the time, equals the predicted delta_NN (negative outlier, t = "
    "120; standard error below 10 %). Far below the power is -1/2 (within 0.15), far above larger than "
    "-1/4 with an overlap above 0.5.",
    experiment="GeLU neuron with weight decay in the exact law at two d, five values of delta, three times (full: "
    "larger d, four times); errors from independent batches of seeds.",
    run=experiment,
)
