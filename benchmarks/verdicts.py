"""Are the verdicts of ``explain`` right? 24 problems against simulations of finite networks.

Even, odd and mixed links; one to three hard directions; one to four neurons; large steps; weight decay; both sides of
the limit. For each problem and each hard direction by itself:

* ``learned`` (if training goes on) against simulations that go on, at two dimensions: a direction that is learned is
  found in most runs at both, one that is not in few at the larger one.
* ``learned_by_last_step`` against the fraction of runs whose weights hold half of it by the last step.
* ``unstable_at_last_step`` against the direction of the smallest eigenvalue of dense runs, where ``--dense`` is given.

A verdict that is ``None`` counts as undecided, neither right nor wrong; a simulation between the two counts as no
evidence. At least 20 problems must be decided, and every decided one right.

    python benchmarks/verdicts.py                 # all 24: about an hour on 2 cores
    python benchmarks/verdicts.py --only 1,2,5    # some of them
    python benchmarks/verdicts.py --reduced       # smaller and shorter, for a look: about 15 minutes
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np

import featurephase as fp
from featurephase.dynamics.implicit import run_implicit
from featurephase.foundation.executors import replicate_seeds, run_tasks
from featurephase.problem import Problem
from featurephase.subspaces import problem_subspaces
from featurephase.subspaces.sectors import hard_sectors

#: Fraction of runs from which a direction counts as found, and up to which as not found.
FOUND, MISSED = 0.75, 0.25
#: Share of the weights that counts as found.
LEVEL = 0.5


@dataclass(frozen=True)
class Case:
    """A problem at one n/d.

    Attributes
    ----------
    steps
        T, the last step of the training that is explained; the simulations go on to ``long``.
    """

    name: str
    link: str
    delta: float
    latent_dim: int = 1
    activation: str = "gelu"
    readout: tuple[float, ...] = (1.0,)
    step_size: float = 0.8
    weight_decay: float = 0.0
    steps: int = 30
    long: int = 300

    def problem(self, samples: int, replicates: int) -> Problem:
        """The problem, with so many sample paths."""
        return Problem.from_toml(f"""
title = "{self.name}"
[teacher]
latent_dim = {self.latent_dim}
link = "{self.link}"
[student]
activation = "{self.activation}"
readout = {list(self.readout)}
[loss]
name = "squared"
[training]
step_size = {self.step_size}
steps = {self.steps}
weight_decay = {self.weight_decay}
[asymptotics]
samples = {samples}
replicates = {replicates}
""")


EVEN = "1.5*tanh(g1**2)"
THREE = "1.5*tanh(g1**2) + 0.75*tanh(g2**2) + 0.3*tanh(g3**2)"
MIXED = "tanh(g1) + 1.5*tanh(g2**2)"

CASES = (
    Case("even, far above", EVEN, 60.0),
    Case("even, above", EVEN, 30.0, long=600),
    Case("even, below", EVEN, 8.0),
    Case("even, far below", EVEN, 3.0),
    Case("weaker even, above", "tanh(g1**2)", 40.0),
    Case("weaker even, below", "tanh(g1**2)", 5.0),
    Case("absolute value, above", "tanh(abs(g1))", 200.0),
    Case("absolute value, below", "tanh(abs(g1))", 4.0),
    Case("weight decay, above", EVEN, 60.0, weight_decay=0.01),
    Case("weight decay, below", EVEN, 6.0, weight_decay=0.01),
    Case("weight decay that stabilises", EVEN, 40.0, weight_decay=0.5),
    Case("mixed, above", MIXED, 40.0, latent_dim=2, step_size=0.5),
    Case("mixed, below", MIXED, 4.0, latent_dim=2, step_size=0.5),
    Case("three strengths, none", THREE, 10.0, latent_dim=3, step_size=1.0),
    Case("three strengths, one", THREE, 60.0, latent_dim=3, step_size=1.0, long=400),
    Case("three strengths, two", THREE, 200.0, latent_dim=3, step_size=1.0, long=400),
    Case("product, above", "2*tanh(g1*g2)", 60.0, latent_dim=2),
    Case("product, below", "2*tanh(g1*g2)", 2.0, latent_dim=2),
    Case("odd network, even link", EVEN, 20.0, activation="tanh"),
    Case("two tanh neurons", "1.5*tanh(g1**2)", 20.0, activation="tanh", readout=(0.7, -0.7)),
    Case("two neurons, mixed", MIXED, 40.0, latent_dim=2, readout=(0.6, 0.8), activation="erf", step_size=0.5),
    Case("four neurons", EVEN, 60.0, readout=(0.25,) * 4, activation="sigmoid", step_size=2.0),
    Case("large step", EVEN, 20.0, step_size=3.0, steps=12),
    Case("large step, below", EVEN, 6.0, step_size=2.0),
)


def overlaps(problem: Problem, samples: int, dimension: int, seed: np.random.SeedSequence, bases: list) -> np.ndarray:
    """Share of the weights along each sector, (sectors, T + 1), of one run without a data matrix."""
    run = run_implicit(problem, samples, dimension, seed)
    size = np.sqrt(np.einsum("trr->t", run.gram))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([np.linalg.norm(np.einsum("ks,tkm->tsm", b, run.overlap), axis=(1, 2)) / size for b in bases])


def found_by(shares: np.ndarray, step: int) -> np.ndarray:
    """Fraction of the runs (S, sectors, T + 1) that reach the level by a step; diverged runs count as not."""
    reached = np.nan_to_num(shares[:, :, : step + 1]) >= LEVEL
    return np.asarray(reached.any(axis=2).mean(axis=0))


def judged(case: Case, samples: int, replicates: int, dimensions: tuple[int, int], seeds: int) -> tuple[list[str], int]:
    """Lines for one case, and how many of its directions are (decided and) wrong; -1 where nothing is decided."""
    problem = case.problem(samples, replicates)
    spaces = problem_subspaces(problem)
    bases = [sector.basis for sector in hard_sectors(spaces)]
    names = [sector.name for sector in hard_sectors(spaces)]
    explanation = fp.explain(problem, delta=case.delta, dimension=dimensions[0])
    longer = problem.replace(training={"steps": case.long})
    runs = {
        d: np.array(
            run_tasks(
                overlaps,
                [(longer, round(case.delta * d), d, seed, bases) for seed in replicate_seeds(7, seeds, d)],
            )
        )
        for d in dimensions
    }
    lines, wrong, decided = [], 0, 0
    entries = [e for e in explanation.directions if e.kind == "hard"]
    for number, name in enumerate(names):
        entry = next(e for e in entries if e.name == name or e.name in name)
        small, large = (float(found_by(runs[d], case.long)[number]) for d in dimensions)
        by_then = float(found_by(runs[dimensions[0]], case.steps)[number])
        truth = True if min(small, large) >= FOUND else False if large <= MISSED else None
        state = "undecided" if entry.learned is None else "no evidence" if truth is None else "right"
        if entry.learned is not None and truth is not None:
            decided += 1
            if entry.learned is not truth:
                state = "WRONG"
                wrong += 1
        p = entry.learned_by_last_step
        error = np.sqrt(0.25 / seeds) if p is None else np.sqrt(max(p * (1 - p), 0.02) / seeds)
        close = p is None or abs(p - by_then) <= 3 * error + 0.15  # near the level growth is no longer linear
        wrong += not close
        probability = "-" if p is None else f"{p:.2f}"
        mark = "" if close else " WRONG"
        lines += [
            f"  {name}: learned {entry.learned} (found {small:.2f}, {large:.2f} by {case.long}: {state}); delta_NN "
            f"{entry.delta_nn:.3g} +- {entry.delta_nn_se:.2g}",
            f"    by step {case.steps} with probability {probability} (found {by_then:.2f}{mark}); "
            f"unstable there: {entry.unstable_at_last_step}",
        ]
    return lines, wrong if decided or wrong else -1


def main() -> None:
    """Judge all cases, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="numbers of cases, from 1, separated by commas")
    parser.add_argument("--reduced", action="store_true", help="fewer paths and seeds, smaller dimensions")
    asked = parser.parse_args()
    size = (8192, 4, (500, 2000), 8) if asked.reduced else (2**15, 8, (1000, 8000), 16)
    chosen = [int(n) for n in asked.only.split(",")] if asked.only else range(1, len(CASES) + 1)
    undecided = wrong = 0
    for number in chosen:
        case, start = CASES[number - 1], time.perf_counter()
        lines, bad = judged(case, *size)
        undecided += bad < 0
        wrong += max(bad, 0)
        print(f"{number}. {case.name}: {case.link}, n/d = {case.delta:g} ({time.perf_counter() - start:.0f} s)")
        print("\n".join(lines), flush=True)
    decided = len(list(chosen)) - undecided
    print(f"{decided} of {len(list(chosen))} problems decided, {wrong} wrong verdicts")
    sys.exit(wrong > 0 or (len(list(chosen)) == len(CASES) and decided < 20))


if __name__ == "__main__":
    main()
