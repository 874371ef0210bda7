"""Claim 5: delta_NN depends on every detail of network and training, and is never below delta_alg."""

from __future__ import annotations

from functools import cache
from typing import Any

from featurephase.claims.base import TRANSITIONS, Claim, Comparison, Finding, Number, Study, above, curve
from featurephase.claims.neurons import gelu_neuron, transition
from featurephase.problem import Teacher
from featurephase.results.related import Panel
from featurephase.subspaces import latent_subspaces
from featurephase.thresholds.algorithmic import algorithmic_threshold

TIME = 5
REPLICATES = 14
#: What is changed in the GeLU neuron: in a quick run the first two of each are looked at.
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "loss": tuple({"loss": name} for name in ("squared", "pseudo_huber", "log_cosh", "cauchy", "welsch")),
    "activation": tuple({"student": {"activation": name}} for name in ("gelu", "softplus", "silu", "mish", "sqrt1p")),
    "initialisation": tuple({"student": {"init_norm": norm}} for norm in (1.0, 2.0, 0.5, 0.7, 1.5)),
    "width": tuple({"student": {"readout": [1.0 / m] * m}, "training": {"step_size": m / 2}} for m in (1, 2, 3, 4, 6)),
    "target": tuple(
        {"teacher": {"link": link}}
        for link in ("1.5*tanh(g1**2)", "tanh(3*g1**2)", "cos(2*g1)", "1.5*tanh(abs(g1))", "1.5*tanh(g1**2) + 0.3*e1")
    ),
    "momentum": tuple(
        {"training": {"optimiser": "heavy-ball", "momentum": b} if b else {}} for b in (0.0, 0.5, 0.2, 0.7, 0.9)
    ),
    "batches": tuple({"training": {"batch_fraction": 1.0 / b}} for b in (1, 5, 2, 3, 4)),
    "weight decay": tuple({"training": {"weight_decay": decay}} for decay in (0.0, 0.3, 0.05, 0.1, 0.5)),
    "step size": tuple({"training": {"step_size": size}} for size in (0.8, 0.3, 0.1, 1.2, 1.6)),
}


@cache
def algorithmic(teacher: Teacher, seed: int) -> Number:
    """delta_alg of a target, from fewer draws than the command's, with the error that this leaves."""
    spaces = latent_subspaces(teacher, quiet=True)
    found = algorithmic_threshold(teacher, spaces, samples=2**17, max_samples=2**19, seed=seed, quiet=True)
    return Number.of(found.delta_alg, found.error, 16)


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    samples = study.size(10_000, 40_000)
    comparisons: list[Comparison] = []
    curves, message = [], []
    for number, (factor, variants) in enumerate(VARIANTS.items()):
        values: list[Number] = []
        for change in variants[: study.size(2, len(variants))]:
            problem = gelu_neuron(TIME).replace(**change)
            found = transition(problem, study, TIME, (0.5, 60.0), samples=samples, replicates=REPLICATES)
            value = Number.of(found.value, found.value_se, REPLICATES)
            name = f"{factor} {len(values) + 1}: delta_NN above delta_alg"
            comparisons.append(above(name, value, algorithmic(problem.teacher, study.seed)))
            values.append(value)
        low, high = min(values, key=lambda v: v.value), max(values, key=lambda v: v.value)
        comparisons.append(above(f"{factor}: ln of the largest over the smallest", _ratio(high, low), 0.01))
        message.append(f"{factor}: {low.value:.2f} to {high.value:.2f}")
        curves.append(curve([number] * len(values), values, factor, "points"))
    panel = Panel(
        "what is changed", "delta_NN(5)", tuple(curves), horizontal=((0.5, "delta_alg of squares"),), log_y=True
    )
    limits = f"delta_NN after {TIME} steps, {study.size('two', 'five')} values of each"
    return Finding(comparisons, limits, (panel,), "delta_NN(5) by " + "; ".join(message))


def _ratio(high: Number, low: Number) -> Number:
    return Number.sum([(1.0, high.log()), (-1.0, low.log())])


CLAIM = Claim(
    id="training-details",
    number=5,
    statement="delta_NN depends on loss, activation, initialisation, width, target and training details (momentum, "
    "batches, weight decay, step size); it is never below delta_alg.",
    source=TRANSITIONS,
    criterion="For each of the nine, among two (full: five) values, the largest delta_NN(5) exceeds the smallest by "
    "more than 1 %, and each exceeds the delta_alg of its target.",
    experiment="Thresholds of one GeLU neuron after 5 steps with one thing changed at a time.",
    run=experiment,
)
