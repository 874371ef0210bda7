"""Speed of the related models: each closed form or reduction against the training or integration of its definition.

Run it with ``python benchmarks/related.py``. For every model it prints the processor time of the theory for one case
and of one training run at the same parameters, their ratio, and by how much the two differ in units of what is allowed.
Times are the least of a few interleaved runs, so that what else the machine does weighs little. A theory that does
many cases at once is timed on many, as it is meant to be used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from featurephase.related_models.base import RelatedModel
from featurephase.related_models.catapult import trajectory
from featurephase.related_models.interpolators import limit_predictors
from featurephase.related_models.registry import model_class
from featurephase.related_models.stepwise_ssl import singular_values

#: Parameters of each comparison, and what it leaves out.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "catapult": ({"width": 10_000, "lambda0": 3.0, "steps": 200}, "500 starts at once"),
    "diagonal": ({"alpha": 1e-3, "depth": 3}, "50 sizes of the start along one path"),
    "balanced-linear": ({"lam": 2.0, "time": [50.0]}, ""),
    "stepwise-ssl": ({"gamma": np.linspace(0.3, 2.0, 20).tolist(), "s0": 1e-4, "time": [10.0]}, ""),
    "double-descent": ({"ratio": 2.0, "samples": 1000}, ""),
    "teacher-student": ({"time": [0.0, 30.0], "dimension": 1000}, "with the two shifted starts of its accuracy"),
    "contrastive": ({"time": [30.0]}, ""),
    "three-layer": ({}, "exponents included"),
    "receptive-fields": ({}, "fourth cumulants of all pixels; training is only simulated"),
}


def theory(name: str, model: RelatedModel) -> tuple[Callable[[], object], int]:
    """The theory to be timed, and how many cases it does."""
    m: Any = model
    if name == "catapult":
        return lambda: trajectory(np.full(500, m.x0), np.linspace(0.1, 1.0, 500) * m.c0, m.steps), 500
    if name == "diagonal":
        return lambda: limit_predictors(m.x, m.y, m.depth, np.geomspace(10.0, m.alpha, 50)), 50
    if name == "stepwise-ssl":
        return lambda: singular_values(m.s0, m.gamma, m.time), 1
    return model.solve, 1


def seconds(action: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> None:
    print(f"{'model':18} {'theory [s]':>11} {'training [s]':>12} {'ratio':>9}  {'difference/allowed':>18}  remark")
    for name, (parameters, remark) in CASES.items():
        model = model_class(name)(**parameters)
        action, cases = theory(name, model)
        action()  # imports and caches

        def training(model: RelatedModel = model) -> object:
            return model.train(np.random.default_rng(0))

        pairs = [(seconds(action) / cases, seconds(training)) for _ in range(3)]
        fast, slow = (min(column) for column in zip(*pairs, strict=True))
        result = model.run(simulate=True, replicates=4, workers=1)
        worst = max((a.difference / a.allowed if a.allowed else 0.0 for a in result.comparison), default=float("nan"))
        print(f"{name:18} {fast:11.3g} {slow:12.3g} {slow / max(fast, 1e-9):9.3g}  {worst:18.2g}  {remark}", flush=True)


if __name__ == "__main__":
    main()
