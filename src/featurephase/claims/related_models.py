"""Claim 19: the headline findings of the ten related models."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurephase.claims.base import Claim, Comparison, Finding, Number, Study, above, at_most, below
from featurephase.related_models.base import construct
from featurephase.related_models.registry import MODELS, model_class
from featurephase.results.related import Curve, Panel, RelatedResult

#: Exponents of the initialisation: the linear and the condensed side of the phase diagram of wide ReLU networks.
LINEAR: dict[str, Any] = {"gamma": 0.5, "gamma_prime": 0.0}
CONDENSED: dict[str, Any] = {"gamma": 1.75, "gamma_prime": 0.0}


def run(name: str, study: Study, parameters: dict[str, Any]) -> RelatedResult:
    """Theory and simulation of one model."""
    model = construct(model_class(name), parameters)
    return model.run(simulate=True, seed=study.seed, replicates=study.size(8, 32), workers=1)


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    comparisons: list[Comparison] = []
    worst = []
    for name in MODELS:
        if name == "relu-phase":  # its theory is an exponent, its simulation a slope
            continue
        result = run(name, study, {})
        ratios = [a.difference / a.allowed if a.allowed else float(a.difference > 0.0) for a in result.comparison]
        failed = [a.name for a in result.comparison if not a.agree]
        what = f"{name} ({result.phase}): quantities that differ" + (f": {', '.join(failed)}" if failed else "")
        comparisons.append(at_most(what, len(failed) if result.comparison else 1.0, 0.0))
        worst.append(max(ratios, default=np.nan))
    for side, parameters, relation in (("linear", LINEAR, below), ("condensed", CONDENSED, above)):
        found = run("relu-phase", study, parameters)
        slope = Number.of(found.quantities["slope"].value, found.quantities["slope"].se, found.replicates or 1)
        comparisons.append(
            relation(f"relu-phase ({side}): slope of the weights' relative motion in the width", slope, 0.0)
        )
    curve = Curve(np.arange(len(worst), dtype=float), np.array(worst), "", "points")
    panel = Panel("model", "largest difference over what is allowed", (curve,), horizontal=((1.0, "allowed"),))
    return Finding(comparisons, "one set of parameters a model; others in docs/related", (panel,))


CLAIM = Claim(
    id="related-models",
    number=19,
    statement="Ten related models of lazy and rich training: catapults, implicit bias of diagonal networks, "
    "balanced linear networks, the phases of wide ReLU networks, stepwise self-supervised learning, "
    "double descent, specialisation of soft committees, localised receptive fields, contrastive learning, "
    "three layers.",
    source="the papers cited by `featurephase related NAME`",
    criterion="For nine of them every quantity that theory and simulation both know agrees by the rule of `related` "
    "(stated accuracy plus Student's t at 0.1 %); for wide ReLU networks the relative motion of the "
    "weights falls with the width on the linear side of the diagram and grows on the condensed side.",
    experiment="`featurephase related NAME --simulate` at the default parameters, each network trained from its "
    "definition.",
    run=experiment,
)
