"""The related models by name. A line here and a file beside it add one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featurephase.foundation.errors import InputError, show, suggest

if TYPE_CHECKING:
    from featurephase.foundation.executors import Workers
    from featurephase.related_models.base import RelatedModel
    from featurephase.results.related import RelatedList, RelatedResult

#: Name -> module of this package and class in it.
MODELS = {
    "catapult": ("catapult", "Catapult"),
    "diagonal": ("diagonal", "Diagonal"),
    "balanced-linear": ("balanced_linear", "BalancedLinear"),
    "relu-phase": ("relu_phase", "ReluPhase"),
    "stepwise-ssl": ("stepwise_ssl", "StepwiseSSL"),
    "double-descent": ("double_descent", "DoubleDescent"),
    "teacher-student": ("teacher_student", "TeacherStudent"),
    "receptive-fields": ("receptive_fields", "ReceptiveFields"),
    "contrastive": ("contrastive", "Contrastive"),
    "three-layer": ("three_layer", "ThreeLayer"),
}


def model_class(name: str) -> type[RelatedModel]:
    """The class of a model, loaded when it is asked for.

    Raises
    ------
    InputError
        For an unknown name.
    """
    if name not in MODELS:
        raise InputError(f"no related model {show(name)}; {suggest(str(name), MODELS)}")
    module, kind = MODELS[name]
    found: type[RelatedModel] = getattr(importlib.import_module(f"featurephase.related_models.{module}"), kind)
    return found


def model_list() -> RelatedList:
    """All models, with what they show and their parameters."""
    from dataclasses import fields

    from featurephase.results.related import ModelLine, RelatedList

    lines = []
    for name in MODELS:
        kind = model_class(name)
        words = tuple(f"{f.name}: {f.metadata['about']} ({f.metadata['domain'].accepted})" for f in fields(kind))
        line = ModelLine(name=name, title=kind.title, validity=kind.validity, citation=kind.citation, parameters=words)
        lines.append(line)
    return RelatedList(models=tuple(lines))


def related(
    model: str | None = None,
    *,
    simulate: bool = False,
    seed: int = 0,
    replicates: int = 8,
    workers: Workers = None,
    quiet: bool = True,
    **parameters: Any,
) -> RelatedResult | RelatedList:
    """Solve a related model, and on request simulate it and compare.

    Parameters
    ----------
    model
        Its name; without one the models are listed.
    simulate
        Also train the network of its definition, and compare.
    seed, replicates
        Of the simulation: its random numbers, and how often it is repeated (at least twice).
    workers, quiet
        Where the repetitions run, and whether progress is shown.
    **parameters
        Those of the model; ``fp.related()`` lists them.

    Returns
    -------
    RelatedResult or RelatedList
        Quantities by name in ``quantities``, those of the simulation in ``measured``.

    Raises
    ------
    InputError
        For an unknown model or parameter, a value outside its domain, or parameters outside the theory when no
        simulation is asked for.

    Examples
    --------
    >>> result = related("catapult", eta=1.0, width=100, f0=0.1, lambda0=3.0)
    >>> result.phase, round(float(result.quantities["ntk_limit"].value), 6)
    ('catapult', 0.222678)
    """
    if model is None:
        if parameters or simulate:
            raise InputError(f"which related model? one of {', '.join(MODELS)}")
        return model_list()
    from featurephase.related_models.base import construct

    made = construct(model_class(model), parameters)
    return made.run(simulate=simulate, seed=seed, replicates=replicates, workers=workers, quiet=quiet)
