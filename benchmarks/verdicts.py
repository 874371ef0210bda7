"""Are the verdicts of ``explain`` right? 24 problems against simulations of finite networks.

Even, odd and mixed links; one to three hard directions; one to four neurons; large steps; weight decay; both sides of
the limit. For each problem and each hard direction by itself:

* ``learned`` (if training goes on) against runs that go on, exact in law without a data matrix, at two dimensions. What
  is learned is to be found at both; what is not, at neither, except up to the dimension in which an instability that
  ends lets it escape all the same (``learned_up_to_dimension``).
* ``learned_by_last_step`` against the fraction of runs whose weights hold half of it by the last step.
* ``unstable_at_last_step`` against the lowest eigenvectors of the Hessian of dense runs.

Criteria: a fraction of runs of at least 3/4 counts as found, of at most 1/4 as not found. No evidence is: a fraction
between the two; a dimension within a factor of 2 of ``learned_up_to_dimension``; not found, but the median of the
predicted escape step is beyond two thirds of the run; a dense run that has already left the plateau, or whose
eigenvectors share the direction. A probability may be off by three of its standard errors and 0.15 (near one half the
growth is no longer linear). A verdict that is ``None`` is undecided, neither right nor wrong. A problem is decided
where ``learned`` of at least one of its directions is, with evidence. At least 20 problems must be decided, and no
verdict wrong.

    python benchmarks/verdicts.py                     # all that are not in the file of results yet, a minute each
    python benchmarks/verdicts.py --only 1,2,5        # some of them
    python benchmarks/verdicts.py --again             # explain again, beside the simulations that the file has
    python benchmarks/verdicts.py --summary           # count what the file has

Every problem is a line of the file (--results, default verdicts.jsonl), so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import featurephase as fp
from featurephase.analyses.seeds import FiniteSize
from featurephase.dynamics.implicit import run_implicit
from featurephase.foundation.executors import ThisProcess, replicate_seeds
from featurephase.problem import Problem
from featurephase.subspaces import problem_subspaces
from featurephase.subspaces.sectors import HardSector, hard_sectors

#: Fraction of runs from which a direction counts as found, and up to which as not found.
FOUND, MISSED = 0.75, 0.25
#: Share of the weights that counts as found, and up to which a run is still on the plateau.
LEVEL, PLATEAU = 0.5, 0.3
#: Squared overlap of an eigenvector with a direction from which on it is that direction's, and up to which it is not.
OWN, FOREIGN = 0.3, 0.1
#: Sample paths and replicates of the theory; seeds at the smaller and the larger dimension, and of dense runs.
PATHS, REPLICATES = 8192, 4
SEEDS, DENSE_SEEDS = (8, 3), 2


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
    long: int = 200

    @property
    def dimensions(self) -> tuple[int, int]:
        """Of the runs without a data matrix; the first one is that of the probability too."""
        return (1000, 3000) if self.delta < 100.0 else (500, 1500)

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
    Case("even, far above", EVEN, 60.0, long=60),
    Case("even, above", EVEN, 30.0, steps=8, long=120),
    Case("even, below", EVEN, 8.0, long=250),
    Case("even, far below", EVEN, 3.0),
    Case("weaker even, above", "tanh(g1**2)", 40.0, steps=8, long=100),
    Case("weaker even, below", "tanh(g1**2)", 5.0),
    Case("absolute value, above", "tanh(abs(g1))", 200.0, long=80),
    Case("absolute value, below", "tanh(abs(g1))", 4.0),
    Case("weight decay, above", EVEN, 60.0, weight_decay=0.01, steps=8, long=80),
    Case("weight decay, below", EVEN, 6.0, weight_decay=0.01, long=250),
    Case("weight decay that stabilises", EVEN, 40.0, weight_decay=0.5, long=80),
    Case("mixed, above", MIXED, 40.0, latent_dim=2, step_size=0.5, steps=8, long=120),
    Case("mixed, below", MIXED, 4.0, latent_dim=2, step_size=0.5),
    Case("three strengths, none", THREE, 10.0, latent_dim=3, step_size=1.0, long=200),
    Case("three strengths, one", THREE, 60.0, latent_dim=3, step_size=1.0, steps=8, long=100),
    Case("three strengths, one for a while", THREE, 30.0, latent_dim=3, step_size=1.0, steps=10, long=120),
    Case("product, above", "2*tanh(g1*g2)", 60.0, latent_dim=2, steps=8, long=80),
    Case("product, below", "2*tanh(g1*g2)", 2.0, latent_dim=2),
    Case("odd network, even link", EVEN, 20.0, activation="tanh", steps=8, long=120),
    Case("two tanh neurons", EVEN, 20.0, activation="tanh", readout=(0.7, -0.7), steps=8, long=100),
    Case("two neurons, mixed", MIXED, 40.0, 2, "erf", (0.6, 0.8), step_size=0.5, steps=8, long=80),
    Case("four neurons", EVEN, 60.0, readout=(0.25,) * 4, activation="sigmoid", step_size=2.0, steps=8, long=50),
    Case("large step", EVEN, 20.0, step_size=3.0, steps=12, long=100),
    Case("a positive outlier", "tanh(g1**2)", 300.0, steps=1, long=40),
)


def overlaps(problem: Problem, samples: int, dimension: int, seed: np.random.SeedSequence, bases: list) -> np.ndarray:
    """Share of the weights along each sector, (sectors, T + 1), of one run without a data matrix."""
    run = run_implicit(problem, samples, dimension, seed, test_samples=0)
    size = np.sqrt(np.einsum("trr->t", run.gram))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([np.linalg.norm(np.einsum("ks,tkm->tsm", b, run.overlap), axis=(1, 2)) / size for b in bases])


def found_by(shares: np.ndarray, step: int) -> np.ndarray:
    """Fraction of the runs (S, sectors, T + 1) that reach the level by a step; diverged runs count as not."""
    reached = np.nan_to_num(shares[:, :, : step + 1]) >= LEVEL
    return np.asarray(reached.any(axis=2).mean(axis=0))


# ---- what is said, and what is found


def said(case: Case) -> list[dict]:
    """What ``explain`` says of each hard direction."""
    problem = case.problem(PATHS, REPLICATES)
    explanation = fp.explain(problem, delta=case.delta, dimension=case.dimensions[0], workers=1)
    words = ("name", "learned", "learned_up_to_dimension", "learned_by_last_step", "unstable_at_last_step")
    numbers = ("delta_nn", "delta_nn_se", "escape_step")
    return [
        {word: getattr(e, word) for word in words}
        | {name: None if (x := getattr(e, name)) is None or np.isnan(x) else float(x) for name in numbers}
        for e in explanation.directions
        if e.kind == "hard"
    ]


def found(case: Case) -> list[dict]:
    """What finite networks do along each sector of hard directions."""
    problem = case.problem(PATHS, REPLICATES)
    sectors = hard_sectors(problem_subspaces(problem))
    bases = [s.basis for s in sectors]
    longer = problem.replace(training={"steps": case.long})
    runs = [
        np.array([overlaps(longer, round(case.delta * d), d, s, bases) for s in replicate_seeds(7, count, d)])
        for d, count in zip(case.dimensions, SEEDS, strict=True)
    ]
    # a run that has left the plateau tells nothing of its Hessian: none is looked at where some have
    on_plateau = np.nanmax(runs[0][:, :, case.steps], axis=0) < LEVEL
    return [
        {
            "name": sector.name,
            "fractions": [float(found_by(shares, case.long)[i]) for shares in runs],
            "by_last_step": float(found_by(runs[0], case.steps)[i]),
            "unstable": measured_instability(problem, case.delta, sector) if on_plateau[i] else None,
        }
        for i, sector in enumerate(sectors)
    ]


def measured_instability(problem: Problem, delta: float, sector: HardSector) -> bool | None:
    """Whether the lowest eigenvectors of dense runs at the last step say that a direction is unstable."""
    steps, dimension = problem.training.steps, 1000 if delta < 100.0 else 500
    size = FiniteSize(problem, dimension, delta, "dense", times=(steps,), precision="float32")
    runs = size.run(replicate_seeds(11, DENSE_SEEDS), sector.basis, label="dense", executor=ThisProcess())
    words = set()
    for run in runs:
        hessian = run.trajectory.observations.get(steps)
        if hessian is None or run.hard_overlap[-1] > PLATEAU:
            return None
        below = np.asarray(hessian.hard_overlaps)[np.asarray(hessian.smallest) < 0.0]
        words.add(True if np.any(below >= OWN) else None if np.any(below > FOREIGN) else False)
    return words.pop() if len(words) == 1 else None


# ---- judged


def judged_learned(case: Case, entry: dict, fractions: list[float]) -> str:
    """``learned`` against the fractions of runs that find it, by dimension."""
    if entry["learned"] is None:
        return "undecided"
    limit, words = entry["learned_up_to_dimension"], []
    for dimension, fraction in zip(case.dimensions, fractions, strict=True):
        here = True if fraction >= FOUND else False if fraction <= MISSED else None
        if entry["learned"]:
            slow = entry["escape_step"] is None or entry["escape_step"] > case.long / 1.5
            words.append("right" if here else "no evidence" if here is None or slow else "WRONG")
        elif here is None or (limit is not None and limit / 2 < dimension < limit * 2):
            words.append("no evidence")
        else:
            words.append("right" if here is (limit is not None and dimension <= limit) else "WRONG")
    return "WRONG" if "WRONG" in words else "right" if "right" in words else "no evidence"


def judged_probability(entry: dict, fraction: float) -> str:
    """``learned_by_last_step`` against the fraction of runs that have found it by then."""
    p = entry["learned_by_last_step"]
    if p is None:
        return "undecided"
    error = np.sqrt(max(p * (1.0 - p), 0.02) / SEEDS[0])
    return "right" if abs(p - fraction) <= 3.0 * error + 0.15 else "WRONG"


def judged_instability(entry: dict, unstable: bool | None) -> str:
    """``unstable_at_last_step`` against dense runs."""
    if entry["unstable_at_last_step"] is None:
        return "undecided"
    return "no evidence" if unstable is None else "right" if unstable is entry["unstable_at_last_step"] else "WRONG"


def judged(case: Case, record: dict) -> list[dict]:
    """The three judgements on each direction."""
    judgements = []
    for seen in record["found"]:
        entry = next(e for e in record["said"] if e["name"] == seen["name"] or e["name"] in seen["name"])
        judgements.append(
            {
                "learned": judged_learned(case, entry, seen["fractions"]),
                "learned_by_last_step": judged_probability(entry, seen["by_last_step"]),
                "unstable_at_last_step": judged_instability(entry, seen["unstable"]),
            }
            | {"entry": entry, "seen": seen}
        )
    return judgements


def printed(number: int, case: Case, record: dict) -> str:
    """A few lines for one problem."""
    lines = [f"{number}. {case.name}: {case.link}, n/d = {case.delta:g} ({record['seconds']} s)"]
    for judgement in judged(case, record):
        e, seen = judgement["entry"], judgement["seen"]
        p = "-" if e["learned_by_last_step"] is None else f"{e['learned_by_last_step']:.2f}"
        value = "-" if e["delta_nn"] is None else f"{e['delta_nn']:.3g} +- {e['delta_nn_se']:.2g}"
        for_a_time = (
            "" if e["learned_up_to_dimension"] is None else f" but up to d = {e['learned_up_to_dimension']:.2g}"
        )
        fractions = ", ".join(f"{f:.2f} at {d}" for f, d in zip(seen["fractions"], case.dimensions, strict=True))
        lines += [
            f"    {e['name']}: delta_NN {value}, learned {e['learned']}{for_a_time} (found {fractions}): "
            f"{judgement['learned']}",
            f"        by the last step {p} (found {seen['by_last_step']:.2f}): {judgement['learned_by_last_step']}",
            f"        unstable there {e['unstable_at_last_step']} (dense {seen['unstable']}): "
            f"{judgement['unstable_at_last_step']}",
        ]
    return "\n".join(lines)


def counted(records: list[tuple[Case, dict]]) -> tuple[int, int]:
    """How many problems are decided, and how many verdicts wrong."""
    judgements = [judged(case, record) for case, record in records]
    decided = sum(any(j["learned"] in ("right", "WRONG") for j in each) for each in judgements)
    wrong = 0
    for kind in ("learned", "learned_by_last_step", "unstable_at_last_step"):
        words = [j[kind] for each in judgements for j in each]
        print(f"{kind}: " + ", ".join(f"{words.count(w)} {w}" for w in ("right", "WRONG", "undecided", "no evidence")))
        wrong += words.count("WRONG")
    return decided, wrong


def main() -> None:
    """Judge what is not judged yet, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="numbers of cases, from 1, separated by commas")
    parser.add_argument("--results", type=Path, default=Path("verdicts.jsonl"), help="what was said and found")
    parser.add_argument("--again", action="store_true", help="explain again what was simulated before")
    parser.add_argument("--summary", action="store_true", help="compute nothing, count what is there")
    asked = parser.parse_args()
    known: dict[str, dict] = {}
    for line in asked.results.read_text().splitlines() if asked.results.exists() else []:
        record = json.loads(line)
        known[record["case"]] = known.get(record["case"], {}) | record  # what was said last counts
    chosen = [int(n) for n in asked.only.split(",")] if asked.only else range(1, len(CASES) + 1)
    for number in [] if asked.summary else chosen:
        case = CASES[number - 1]
        record = known.setdefault(repr(case), {"case": repr(case), "seconds": [0, 0]})
        for i, part in enumerate((said, found)):
            if part.__name__ not in record or (asked.again and part is said):
                start = time.process_time()
                record[part.__name__] = part(case)
                record["seconds"][i] = round(time.process_time() - start)
        with asked.results.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(printed(number, case, record), flush=True)
    records = [(case, known[repr(case)]) for case in CASES if repr(case) in known]
    if asked.summary:
        print("\n".join(printed(CASES.index(case) + 1, case, record) for case, record in records))
    decided, wrong = counted(records)
    print(f"{len(records)} of {len(CASES)} problems: {decided} decided, {wrong} wrong verdicts")
    sys.exit(wrong > 0 or (len(records) == len(CASES) and decided < 20))


if __name__ == "__main__":
    main()
