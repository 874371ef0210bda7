"""Does the limit of delta_NN that early times predict hold at late ones?

For the worked example (theory/thresholds) and three other problems: the limit is predicted from t <= 240, and again,
with other random numbers, from runs to t = 4000. Both must agree within three of their errors; the thresholds at the
last time and at half of it are printed beside them.

    python benchmarks/limit.py                      # to t = 4000 with 2^16 paths, 8 replicates: hours on 2 cores
    python benchmarks/limit.py --reduced            # to t = 2000 (the example) or 1000, 2^14 paths, 4 replicates:
                                                    # some five minutes of one core
    python benchmarks/limit.py --only "weight decay"
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from featurephase.analyses.threshold_limit import threshold_limit
from featurephase.problem import Problem
from featurephase.subspaces import problem_subspaces

EXAMPLE = "the worked example"
PROBLEMS = {
    EXAMPLE: ("1.5*tanh(g1**2)", "gelu", "[1.0]", 1, 0.8, 0.0),
    "weaker response": ("tanh(g1**2)", "gelu", "[1.0]", 1, 0.8, 0.0),
    "weight decay": ("1.5*tanh(g1**2)", "gelu", "[1.0]", 1, 0.8, 0.02),
    "an easy direction beside": ("tanh(g1) + 1.5*tanh(g2**2)", "gelu", "[1.0]", 2, 0.5, 0.0),
}


def problem(name: str, samples: int, replicates: int) -> Problem:
    """One of the problems, with so many sample paths."""
    link, activation, readout, latent, step, decay = PROBLEMS[name]
    return Problem.from_toml(f"""
title = "{name}"
[teacher]
latent_dim = {latent}
link = "{link}"
[student]
activation = "{activation}"
readout = {readout}
[loss]
name = "squared"
[training]
step_size = {step}
steps = 60
weight_decay = {decay}
[asymptotics]
samples = {samples}
replicates = {replicates}
""")


def main() -> None:
    """Predict from early times, compute late ones, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reduced", action="store_true", help="to t = 2000 or 1000 with fewer paths")
    parser.add_argument("--only", default="", help="the name of one problem")
    parser.add_argument("--samples", type=int, help="sample paths, in place of 2^16 or 2^14")
    asked = parser.parse_args()
    samples, replicates = (2**14, 4) if asked.reduced else (2**16, 8)
    samples = asked.samples or samples
    worst = 0.0
    for name in [asked.only] if asked.only else PROBLEMS:
        start = time.process_time()
        late = 4000 if not asked.reduced else 2000 if name == EXAMPLE else 1000
        early_problem = problem(name, samples, replicates)
        spaces = problem_subspaces(early_problem)
        early = threshold_limit(early_problem, spaces, rounds=[(samples, 240)], quiet=False, workers=1, longest=np.inf)
        # other random numbers: the late runs know nothing of the early ones
        late_problem = early_problem.replace(asymptotics={"seed": 1})
        there = threshold_limit(late_problem, spaces, rounds=[(samples, late)], quiet=False, workers=1, longest=np.inf)
        z = (early.value - there.value) / np.hypot(early.value_se, there.value_se)
        worst = max(worst, abs(z))
        half = there.history_time.index(late // 2)
        print(f"{name}: from t <= 240: {early.value:.3f} +- {early.value_se:.3f} ({early.form})")
        print(f"   at t = {late // 2}: {there.history[half]:.3f} +- {there.history_se[half]:.3f}", end="")
        print(f", at t = {late}: {there.history[-1]:.3f} +- {there.history_se[-1]:.3f}")
        print(f"   from t <= {late}: {there.value:.3f} +- {there.value_se:.3f} ({there.form}); z = {z:+.2f}", end="")
        print(f" ({time.process_time() - start:.0f} s of one core)", flush=True)
    sys.exit(int(worst > 3.0))


if __name__ == "__main__":
    main()
