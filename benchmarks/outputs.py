"""What several outputs and a trained second layer cost: CPU time of a replicate over that of one output, fixed.

    python benchmarks/outputs.py               all rows, five rounds: two minutes of CPU
    python benchmarks/outputs.py --rounds 1    half a minute

Each round times all ways one after the other, in CPU seconds of one thread; the table has the median over the rounds of
their ratios, so that a machine that is slower for a while is slower for both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from time import process_time

import numpy as np

from featurephase.dynamics.asymptotic import run_replicate
from featurephase.foundation.threads import hold_blas
from featurephase.problem import GradientDescent, Problem, Student, Teacher

SEED = np.random.SeedSequence(0)
RATES = {"readout_step_size": 0.1, "bias_step_size": 0.1, "output_bias_step_size": 0.1}


@dataclass(frozen=True)
class Size:
    """Neurons m, outputs C, gradient steps and sample paths of a replicate."""

    width: int
    outputs: int
    steps: int
    paths: int

    def problem(self, loss: str, outputs: int, *, trained: bool) -> Problem:
        """A response of two directions, one easy and one hard; C outputs are C classes, one is a number or a sign."""
        readout = np.random.default_rng(1).choice([-0.5, 0.5], (self.width, outputs))
        logits = ["1.5*g1", "2*(g2**2 - 1)", *(f"{c}*g1/{outputs}" for c in range(outputs - 2))]
        link = "tanh(g1) + 1.5*tanh(g2**2)"
        easy = np.array([[1.0], [0.0]])
        if outputs > 1:
            teacher = Teacher(2, classes=outputs, logits=logits, easy_basis=easy)
        else:
            teacher = Teacher(2, link if loss == "squared" else f"sign({link} - 0.7)", easy_basis=easy)
        return Problem(
            teacher=teacher,
            student=Student("gelu", readout if outputs > 1 else readout[:, 0]),
            loss=loss,
            training=GradientDescent(0.5, self.steps, **(RATES if trained else {})),
        )

    def seconds(self, problem: Problem) -> float:
        """CPU time of one replicate."""
        began = process_time()
        run_replicate(problem, 8.0, SEED, easy_basis=problem.teacher.easy_basis, samples=self.paths)
        return process_time() - began


SIZES = (Size(2, 2, 40, 100_000), Size(2, 3, 40, 100_000), Size(4, 3, 30, 100_000), Size(32, 10, 8, 40_000))


def ratios(size: Size, rounds: int) -> tuple[float, dict[str, float]]:
    """CPU seconds of one output with the squared loss, and of the other ways relative to it."""
    ways = {
        "one output, squared": size.problem("squared", 1, trained=False),
        "one output, logistic": size.problem("logistic", 1, trained=False),
        "one output, logistic, all trained": size.problem("logistic", 1, trained=True),
        f"{size.outputs} outputs, softmax": size.problem("cross_entropy", size.outputs, trained=False),
        f"{size.outputs} outputs, softmax, all trained": size.problem("cross_entropy", size.outputs, trained=True),
    }
    for problem in ways.values():  # compile, and fill the caches
        Size(size.width, size.outputs, 1, 2_000).seconds(problem)
    times = np.array([[size.seconds(problem) for problem in ways.values()] for _ in range(rounds)])
    middle = np.median(times / times[:, :1], axis=0)
    return float(np.median(times[:, 0])), dict(zip(ways, middle.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of several outputs and of a trained second layer.")
    parser.add_argument("--rounds", type=int, default=5)
    hold_blas()
    rounds = parser.parse_args().rounds
    print("| neurons, steps | one output, squared, s | | ratio |\n|---|---|---|---|")
    for size in SIZES:
        base, found = ratios(size, rounds)
        for way, ratio in list(found.items())[1:]:
            print(f"| {size.width}, {size.steps} | {base:.2f} | {way} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
