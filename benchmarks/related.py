"""Speed of the related models: each closed form or reduction against the training or integration of its definition.

Run it with ``python benchmarks/related.py``. For every model it prints the processor time of ``solve`` and of one
training run at the same parameters, their ratio, and by how much the two differ in units of what is allowed. Times are
the least of a few interleaved runs, so that what else the machine does weighs little.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from featurephase.related_models.registry import model_class

#: Parameters of each comparison.
CASES: dict[str, dict[str, object]] = {
    "catapult": {"width": 10_000, "lambda0": 3.0, "steps": 1000},
    "diagonal": {"alpha": 1e-3},
    "balanced-linear": {"lam": 2.0, "time": [50.0]},
    "stepwise-ssl": {"gamma": np.linspace(0.3, 2.0, 20).tolist(), "s0": 1e-4, "time": [10.0]},
    "double-descent": {"ratio": 2.0, "samples": 1000},
    "teacher-student": {"time": [0.0, 30.0], "dimension": 1000},
    "contrastive": {"time": [30.0]},
    "three-layer": {},
    "receptive-fields": {},
}


def seconds(action: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> None:
    print(f"{'model':18} {'theory [s]':>12} {'training [s]':>12} {'ratio':>9}  largest difference over what is allowed")
    for name, parameters in CASES.items():
        model = model_class(name)(**parameters)
        rng = np.random.default_rng(0)
        model.solve()  # imports and caches
        pairs = [(seconds(model.solve), seconds(lambda model=model, rng=rng: model.train(rng))) for _ in range(3)]
        theory, training = (min(column) for column in zip(*pairs, strict=True))
        result = model.run(simulate=True, replicates=4, workers=1)
        worst = max((a.difference / a.allowed if a.allowed else 0.0 for a in result.comparison), default=float("nan"))
        ratio = training / max(theory, 1e-9)
        print(f"{name:18} {theory:12.3g} {training:12.3g} {ratio:9.3g}  {worst:.2g}", flush=True)


if __name__ == "__main__":
    main()
