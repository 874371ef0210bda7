"""Claim 18: increments along the path track grokking, the linearisation at the start does not."""

from __future__ import annotations

import numpy as np

from featurephase.claims.base import Claim, Finding, Number, Study, above, below
from featurephase.results.related import Curve, Panel

REPLICATES = 6


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    from featurephase.probe.experiment import Experiment, run

    base = Experiment(
        task="modular-addition",
        modulus=23,
        train_fraction=0.7,
        optimiser="adamw",
        weight_decay=2.0,
        step_size=0.01,
        loss="cross-entropy",
        batch_size=0,
        width=128,
        steps=study.size(1000, 6000),
        schedule=study.size("linear:10", "linear:2"),
        hessian="none",
        seed=study.seed,
    )
    runs = [run(Experiment(**(vars(base) | {"seed": study.seed + i}))) for i in range(study.size(REPLICATES, 8))]
    telescoping = [r.telescoping.telescoping_error[-1] for r in runs]
    linearised = [r.telescoping.linearisation_error[-1] for r in runs]
    fitted = [r.times[int(np.argmax(r.train_accuracy > 0.99))] for r in runs]
    grokked = [r.times[int(np.argmax(r.test_accuracy > 0.5))] for r in runs]
    before = [int(np.argmax(r.test_accuracy > 0.1)) for r in runs]
    kernel = Number.mean([r.kernel_change[i] for r, i in zip(runs, before, strict=True)])
    labels = Number.mean([r.label_alignment[i] / r.label_alignment[0] for r, i in zip(runs, before, strict=True)])
    late = Number.mean(np.log(np.maximum(grokked, 1) / np.maximum(fitted, 1)))
    comparisons = [
        above("ln of the step of half the test accuracy over that of the training accuracy", late, 1.0),
        above("test accuracy at the end", Number.mean([r.test_accuracy[-1] for r in runs]), 0.5),
        below(
            "error of the increments over that of the linearisation", Number.mean(_ratio(telescoping, linearised)), 0.5
        ),
        above("error of the linearisation", Number.mean(linearised), 0.5),
        above("kernel change before the test accuracy rises", kernel, 0.5, core=False),
        above("label alignment then, over its start", labels, 1.0, core=False),
    ]
    t, r = runs[0].times, runs[0]
    curves = (
        Curve(t, r.telescoping.telescoping_error, "increments along the path"),
        Curve(t, r.telescoping.linearisation_error, "linearisation at the start"),
        Curve(t, r.test_accuracy, "test accuracy", "dashed"),
    )
    panel = Panel("step", "error relative to the motion of the outputs", curves, "modular addition", log_x=True)
    limits = f"modular addition, one recipe, an increment every {study.size(10, 2)} steps"
    return Finding(comparisons, limits, (panel,))


def _ratio(a: list[float], b: list[float]) -> list[float]:
    return [x / y for x, y in zip(a, b, strict=True)]


CLAIM = Claim(
    id="telescoping",
    number=18,
    statement="First-order increments along the path track a network through grokking, where the linearisation at "
    "its start fails.",
    source="Jeffares, Curth & van der Schaar, Deep Learning Through A Telescoping Lens, arXiv 2411.00247",
    criterion="Modular addition: the test accuracy is half much later (ln ratio above 1) than the training accuracy "
    "is 0.99, and above 0.5 at the end; there the error of the increments is less than half that of the "
    "linearisation, which is above 0.5. Beside it, what the probe shows before: when the test accuracy "
    "passes 0.1 the kernel has changed by more than 0.5 and is better aligned with the labels than at the "
    "start.",
    experiment="A two-layer network with weight decay, AdamW, full batches, 6 (full: 8) seeds under the probe.",
    run=experiment,
    needs=("torch",),
)
