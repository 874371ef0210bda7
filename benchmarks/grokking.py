"""Grokking of a hard direction: test error against time from just below to well above the transition.

    python benchmarks/grokking.py                         d = 2000, 8000, 32000, 16 seeds (hours)
    python benchmarks/grokking.py --dimensions 500 2000 --seeds 8     about twenty minutes

Prints, for each delta and d, the median delay between the fall of the training and of the test loss, the median escape
time, and the predicted interval; draws the figure of docs/escape.md. Runs are implicit, with a basis that keeps
directions of relative size above 1e-5: far below the 1/sqrt(n) that drives the escape.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from featurephase.dynamics.implicit import run_implicit
from featurephase.escape import ESCAPE_LEVEL, HardGrowth, escape_law, grokking_times, hard_growth, level_time
from featurephase.present.figures import PALETTE, new_figure, write_figure
from featurephase.problem import GradientDescent, Problem, Student, Teacher
from featurephase.replicates import replicate_seeds, run_tasks
from featurephase.simulation import hard_overlap, median_and_se


def one(problem: Problem, n: int, d: int, seed: np.random.SeedSequence) -> tuple[np.ndarray, np.ndarray, float]:
    found = run_implicit(problem, n, d, seed, tolerance=1e-5)
    share = hard_overlap(found.gram, found.overlap, np.eye(1))
    return found.train_loss, found.test_loss, level_time(share, ESCAPE_LEVEL)


def growth(problem: Problem, delta: float, seed: np.random.SeedSequence, steps: int) -> HardGrowth:
    return hard_growth(
        problem, delta, seed, easy_basis=np.zeros((1, 0)), hard_basis=np.eye(1), steps=steps, samples=20_000
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2000, 8000, 32000])
    parser.add_argument("--deltas", type=float, nargs="+", default=[10.0, 18.0, 24.0, 36.0, 60.0])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--figure", type=Path, default=Path("grokking.svg"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    problem = Problem(
        teacher=Teacher(1, "1.5*tanh(g1**2)"),
        student=Student("gelu", [1.0]),
        loss="squared",
        training=GradientDescent(0.8, arguments.steps),
    )
    figure = new_figure(3.3 * len(arguments.dimensions) + 1.2, 3.6)
    panels = figure.subplots(1, len(arguments.dimensions), squeeze=False, sharey=True)[0]
    rows = []
    horizon = min(arguments.steps, 150)
    growths = {  # the law depends on d through a factor alone
        delta: run_tasks(growth, [(problem, delta, s, horizon) for s in replicate_seeds(1, 4)], work=60.0)
        for delta in arguments.deltas
    }
    for axes, d in zip(panels, arguments.dimensions, strict=True):
        for colour, delta in zip(PALETTE, arguments.deltas, strict=False):
            n = round(delta * d)
            tasks = [(problem, n, d, s) for s in replicate_seeds(d, arguments.seeds)]
            found = run_tasks(one, tasks, work=1e-8 * n * arguments.steps * 30, label=f"d = {d}, delta = {delta:g}")
            law = escape_law(growths[delta], d)
            times = [grokking_times(train, test) for train, test, _ in found]
            row = {
                "dimension": d,
                "delta": delta,
                "delay": median_and_se(t.delay for t in times)[0],
                "drops": float(np.mean([np.isfinite(t.test_time) for t in times])),
                "escape": median_and_se(t for _, _, t in found)[0],
                "predicted": (law.low, law.median, law.high),
            }
            rows.append(row)
            print(
                f"d = {d:6d} delta = {delta:5.1f}: test loss drops in {row['drops']:4.0%}, delay {row['delay']:6.1f}, "
                f"escape {row['escape']:6.1f}, predicted {law.median:6.1f} (90 %: {law.low:.0f} to {law.high:.0f})",
                flush=True,
            )
            for _, test, _ in found:
                axes.plot(test, color=colour, lw=0.5, alpha=0.35)
            median = np.median([test for _, test, _ in found], axis=0)
            axes.plot(median, color=colour, label=rf"$\delta = {delta:g}$")
        axes.set_title(rf"$d = {d}$")
        axes.set_xlabel("step")
        axes.set_xscale("symlog", linthresh=10)
    panels[0].set_ylabel("test loss")
    panels[0].legend(fontsize="small")
    write_figure(figure, arguments.figure)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, default=str))


if __name__ == "__main__":
    main()
