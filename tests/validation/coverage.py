"""Are the errors honest? Coverage of the 95 % intervals, and the O(1/N) bias of the recursion against its errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featurephase.analyses.threshold import network_threshold
from featurephase.dynamics.asymptotic import PathAccuracy, run_replicate
from featurephase.foundation.executors import replicate_seeds
from featurephase.foundation.statistics import mean_and_se, student_interval
from featurephase.hessian.spectrum import spectrum
from featurephase.subspaces import problem_subspaces

from .cases import CASES, Case
from .evidence import Estimate

#: A hard outlier well clear of the bulk, on the example of theory/thresholds.
CASE, TIME = replace(CASES["one neuron"], delta=20.0), 6


def numbers(case: Case, time: int, samples: int, seed: np.random.SeedSequence) -> dict[str, float]:
    """Losses, norm, edges, hard outlier and overlap of one replicate; nan for an outlier that it does not show."""
    link = case.problem.teacher.link

    def look(moment):
        return spectrum(
            link,
            moment,
            delta=case.delta,
            weight_decay=case.lam,
            easy_basis=case.easy_basis,
            hard_basis=case.hard_basis,
        )

    r = run_replicate(
        case.problem,
        case.delta,
        seed,
        easy_basis=case.easy_basis,
        steps=time,
        samples=samples,
        observers={time: look},
    )
    s = r.observations[time]
    first = s.hard_left[0] if s.hard_left else None
    return {
        "train loss": r.train_loss[time],
        "test loss": r.test_loss[time],
        "Q11": r.gram[time, 0, 0],
        "left edge": s.left_edge,
        "right edge": s.right_edge,
        "hard outlier": first.value if first else np.nan,
        "hard overlap": first.overlap if first else np.nan,
    }


@dataclass(frozen=True)
class Coverage:
    """How often the interval of one repetition held the truth; ``bias`` in standard errors of a repetition."""

    name: str
    truth: float
    truth_se: float
    hits: int
    repetitions: int
    bias: float

    def row(self) -> str:
        return (
            f"| {self.name} | {self.truth:.5f} ± {self.truth_se:.5f} | {self.hits}/{self.repetitions} "
            f"| {100 * self.hits / self.repetitions:.0f} % | {self.bias:+.2f} |"
        )


HEADER = (
    "| quantity | truth ± se | intervals that hold it | coverage | bias / se of a repetition |\n|---|---|---|---|---|"
)


def _covered(
    name: str, truth: float, truth_se: float, means: np.ndarray, errors: np.ndarray, replicates: int
) -> Coverage:
    low, high = student_interval(means, errors, replicates)
    hits = int(np.count_nonzero((low <= truth) & (truth <= high)))
    return Coverage(name, truth, truth_se, hits, len(means), float((means.mean() - truth) / np.mean(errors)))


def trajectory_and_spectrum_coverage(
    repetitions: int, samples: int, replicates: int, truth_samples: int, truth_replicates: int
) -> list[Coverage]:
    large = [numbers(CASE, TIME, truth_samples, s) for s in replicate_seeds(1000, truth_replicates)]
    small = [
        [numbers(CASE, TIME, samples, s) for s in replicate_seeds(2000 + r, replicates)] for r in range(repetitions)
    ]
    found = []
    for name in large[0]:
        truth, truth_se = mean_and_se([x[name] for x in large])
        stats = [mean_and_se([x[name] for x in rep]) for rep in small]
        means, errors = (np.array([float(s[i]) for s in stats]) for i in (0, 1))
        found.append(_covered(name, float(truth), float(truth_se), means, errors, replicates))
    return found


def threshold_coverage(
    repetitions: int, sizes: Sequence[int], replicates: int, truth_samples: int, truth_replicates: int
) -> Iterator[Coverage]:
    """delta_NN(1) of the same neuron, between 4 and 5, with each number of sample paths."""
    spaces = problem_subspaces(CASE.problem)

    def found(seed: int, count: int, size: int):
        problem = CASE.problem.replace(asymptotics={"seed": seed, "replicates": count, "samples": size})
        return network_threshold(problem, 1, spaces, delta_range=(2.0, 10.0), value_only=True, workers=1)

    truth = found(1, truth_replicates, truth_samples)
    for samples in sizes:
        small = [found(100 + r, replicates, samples) for r in range(repetitions)]
        means, errors = np.array([t.value for t in small]), np.array([t.value_se for t in small])
        name = f"delta_NN(1), {samples} paths"
        yield _covered(name, truth.value, truth.value_se, means, errors, replicates)


#: The run whose bias is asked for: the defaults of an experiment file.
DEFAULT_SAMPLES, DEFAULT_REPLICATES = 100_000, 8


@dataclass(frozen=True)
class Bias:
    """The mean at few paths less that at many, and the bias implied for a default run, in its standard errors."""

    name: str
    difference: float
    difference_se: float
    implied: float
    implied_se: float

    def row(self) -> str:
        measured = f"{self.difference:+.6f} ± {self.difference_se:.6f}"
        return f"| {self.name} | {measured} | {self.implied:+.3f} ± {self.implied_se:.3f} |"


BIAS_HEADER = (
    "| quantity | mean at few paths - at many | implied bias of a default run, in standard errors |\n|---|---|---|"
)


def bias(time: int, few: int, replicates: int, many: int, many_replicates: int) -> Iterator[Bias]:
    """If the mean at N is x + b/N, the difference is b (1/few - 1/many), and the bias of a default run b/N_0.

    Its standard error is that at ``many`` paths, which falls at least like 1/sqrt N from there on.
    """
    small = [numbers(CASE, time, few, s) for s in replicate_seeds(4000, replicates)]
    large = [numbers(CASE, time, many, s) for s in replicate_seeds(3000, many_replicates)]
    for name in large[0]:
        a, a_se = mean_and_se([x[name] for x in small])
        b, b_se = mean_and_se([x[name] for x in large])
        difference, se = float(a - b), float(np.hypot(a_se, b_se))
        default_se = float(b_se) * np.sqrt(many_replicates * many / (DEFAULT_REPLICATES * DEFAULT_SAMPLES))
        factor = 1.0 / (1.0 / few - 1.0 / many) / DEFAULT_SAMPLES / default_se
        yield Bias(name, difference, se, difference * factor, se * factor)


PATHS_HEADER = (
    "| N | sample paths | \\|theta\\|^2, t = 10 | t = 60 | t = 150 | training loss, t = 150 |\n"
    "|---|---|---|---|---|---|"
)


def long_runs(rows: list[tuple[int, int]], replicates: int) -> Iterator[str]:
    """delta = 20: what is left of the O(1/N) bias after many steps, by number and kind of paths.

    ``rows``: N and the number of quasi-random coordinates; the law counts directions beyond the eighth of these.
    """
    for samples, quasi in rows:
        runs = [
            run_replicate(
                CASE.problem,
                CASE.delta,
                s,
                easy_basis=CASE.easy_basis,
                steps=150,
                samples=samples,
                accuracy=PathAccuracy(quasi=quasi),
                test=False,
            )
            for s in replicate_seeds(5000, replicates)
        ]
        columns = [[r.gram[t, 0, 0] for r in runs] for t in (10, 60, 150)] + [[r.train_loss[150] for r in runs]]
        cells = [Estimate.of(np.array(c)) for c in columns]
        kind = f"{quasi} quasi-random coordinates" if quasi else "independent"
        yield f"| {samples} | {kind} | " + " | ".join(f"{c.value:.5f} ± {c.se:.5f}" for c in cells) + " |"
