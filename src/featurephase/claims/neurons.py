"""The problems that claims share, and how numbers with their errors are read from simulations and predictions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from featurephase.analyses.prediction import predict
from featurephase.analyses.simulation import simulate
from featurephase.analyses.threshold import network_threshold
from featurephase.claims.base import Comparison, Number, Study, equals
from featurephase.problem import GradientDescent, Problem, Student, Teacher
from featurephase.results.prediction import HessianPrediction, TrajectoryPrediction
from featurephase.results.simulation import SimulationRun
from featurephase.results.threshold import NetworkThreshold
from featurephase.subspaces import latent_subspaces

#: One direction, met through its square alone: it is hard.
EVEN = "1.5*tanh(g1**2)"


def gelu_neuron(steps: int, *, link: str = EVEN, latent_dim: int = 1, **training: Any) -> Problem:
    """One GeLU neuron of norm 1 with squared loss and step size 0.8."""
    return Problem(
        teacher=Teacher(latent_dim, link),
        student=Student("gelu", [1.0]),
        loss="squared",
        training=GradientDescent(**({"step_size": 0.8, "steps": steps} | training)),
    )


def decaying_neuron(steps: int) -> Problem:
    """The same with weight decay, which makes the plateau a fixed point, and a start near that fixed point's norm."""
    return gelu_neuron(steps, weight_decay=0.3).replace(student={"init_norm": 0.6})


def simulated(
    problem: Problem, study: Study, dimension: int, delta: float, seeds: int, *, stream: int = 0, **options: Any
) -> SimulationRun:
    """Training of finite networks; other dimensions and streams have other random numbers."""
    own = problem.replace(asymptotics={"seed": study.seed + 1000 * dimension + stream})
    extras: dict[str, Any] = {"recovery": False, "predicted": False, "times": []} | options
    run: SimulationRun = simulate(own, dimension=dimension, delta=delta, seeds=seeds, workers=1, **extras).runs[0]
    return run


def predicted(
    problem: Problem, study: Study, delta: float, times: list[int], *, samples: int, replicates: int = 6
) -> TrajectoryPrediction:
    """The limit n, d -> infinity."""
    own = problem.replace(asymptotics={"samples": samples, "replicates": replicates, "seed": study.seed})
    run: TrajectoryPrediction = predict(own, delta=delta, times=times, workers=1).runs[0]
    return run


def entry(run: SimulationRun | TrajectoryPrediction, name: str, *index: int) -> Number:
    """One entry of an array of a run, with its error."""
    return Number.of(getattr(run, name)[index], getattr(run, f"{name}_se")[index], run.replicates)


def extrapolated(half: Number, full: Number) -> Number:
    """From dimensions d and 2d to the limit, where the difference falls like 1/d."""
    return Number.sum([(2.0, full), (-1.0, half)])


def size_of(overlap: Number) -> Number:
    """The root mean square over seeds of a number with mean 0, from its mean and error over so many seeds.

    A Gaussian number's is known to within itself over the root of twice the seeds.
    """
    seeds = overlap.degrees + 1.0
    square = overlap.value**2 + overlap.se**2 * (seeds - 1.0)
    size = math.sqrt(square) if np.isfinite(square) else math.nan
    return Number(size, size / math.sqrt(2.0 * seeds), overlap.degrees)


def lowest(run: SimulationRun) -> tuple[Number, Number]:
    """Smallest eigenvalue of finite networks' Hessians at the first time, and its vector's squared overlap with U_H."""
    h = run.hessian[0]
    read = [(h.smallest, h.smallest_se), (h.hard_overlaps, h.hard_overlaps_se)]
    value, overlap = (
        Number.of(np.nan if x is None else x[0], np.nan if s is None else s[0], run.replicates) for x, s in read
    )
    return value, overlap


def escape(name: str, run: SimulationRun, *, resolution: float, tolerance: float) -> Comparison:
    """That the median time at which the hard direction takes over is the predicted one, as their ratio."""
    found, scale = run.grokking, 1.0 / run.grokking.predicted_time
    return equals(
        f"{name}: escape time over the predicted one",
        Number.of(scale * found.escape_time, scale * found.escape_time_se, run.replicates),
        Number.of(1.0, scale * found.predicted_time_se, 4),
        resolution=resolution,
        tolerance=tolerance,
    )


def outlier(theory: HessianPrediction) -> tuple[Number, Number]:
    """The lowest hard outlier of the limit and its overlap; nan if there is none; of six replicates."""
    if not theory.hard_outliers:
        return Number(np.nan, np.nan), Number(np.nan, np.nan)
    x = theory.hard_outliers[0]
    return Number.of(x.value, x.value_se, 6), Number.of(x.overlap, x.overlap_se, 6)


def transition(
    problem: Problem, study: Study, time: int, delta_range: tuple[float, float], *, samples: int, replicates: int = 6
) -> NetworkThreshold:
    """delta_NN at one time."""
    own = problem.replace(asymptotics={"samples": samples, "replicates": replicates, "seed": study.seed})
    spaces = latent_subspaces(own.teacher, quiet=True)
    return network_threshold(own, time, spaces, delta_range=delta_range, workers=1)
