"""The numbers of the dense reference, made once and kept in ``trained_networks.json``::

    python -m tests.validation.trained_record [--trajectories SEEDS] [--hessians SEEDS]

Each number is ``[mean, standard error, runs]`` at one dimension; :func:`limits` extrapolates them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .evidence import Estimate, extrapolated
from .trained_cases import CASES
from .trained_reference import Trained, spectrum_numbers, trajectory_numbers

RECORD = Path(__file__).with_name("trained_networks.json")


def times(case: Trained) -> tuple[int, ...]:
    return (0, 1, 5, case.steps)


def repeated(numbers: Callable[..., dict[str, float]], seeds: int, seed: int, d: int) -> dict[str, list[float]]:
    """``[mean, standard error, runs that have it]`` of each number that more than half of the runs have."""
    rows = [numbers(d, np.random.default_rng(s)) for s in np.random.SeedSequence([seed, d]).spawn(seeds)]
    summary = {}
    for name in dict.fromkeys(n for row in rows for n in row):
        values = np.array([row[name] for row in rows if name in row])
        if len(values) > seeds / 2:
            mean, se = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
            summary[name] = [float(f"{mean:.6g}"), float(f"{se:.2g}"), len(values)]
    return summary


def recorded() -> dict[str, Any]:
    """What the file holds: for each case ``trajectory`` and ``hessian``, {dimension: {name: [mean, se, runs]}}."""
    found: dict[str, Any] = json.loads(RECORD.read_text())["cases"]
    return found


def limits(by_dimension: dict[str, dict[str, list[float]]]) -> dict[str, Estimate]:
    """Limits d -> infinity from the two largest dimensions, d and 2 d: x + c/d, and x + c d^(-2/3) for edges."""
    small, large = (by_dimension[d] for d in sorted(by_dimension, key=int)[-2:])
    found = {}
    for name in small.keys() & large.keys():
        a, b = (Estimate(mean, se, runs - 1) for mean, se, runs in (small[name], large[name]))
        factor = 2.0 ** (2 / 3)
        edge = b.scaled(factor / (factor - 1)).combined(-1 / (factor - 1), a)
        found[name] = edge if name.endswith("edge") else extrapolated(a, b)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the dense reference and writes its numbers.")
    parser.add_argument("--trajectories", type=int, default=160)
    parser.add_argument("--hessians", type=int, default=80)
    options = parser.parse_args()
    cases = {}
    for name, case in CASES.items():
        of_trajectory = partial(trajectory_numbers, case, times(case))
        cases[name] = {
            "trajectory": {str(d): repeated(of_trajectory, options.trajectories, 1, d) for d in case.dimensions}
        }
        if case.hessian is not None:
            of_spectrum = partial(spectrum_numbers, case)
            cases[name]["hessian"] = {str(d): repeated(of_spectrum, options.hessians, 2, d) for d in case.hessian[2]}
        print(name, flush=True)
    source = "tests/validation/trained_record.py: plain NumPy on real data matrices, nothing of featurephase"
    document = {"source": source, "date": date.today().isoformat(), "cases": cases}
    lines = json.dumps(document).replace(' "trajectory":', '\n"trajectory":').replace('], "', '],\n"')
    RECORD.write_text(lines + "\n")


if __name__ == "__main__":
    main()
