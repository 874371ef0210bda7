"""Training at finite (n, d), exact in law, without a data matrix.

The recursion of :mod:`featurephase.dynamics.conditioning` with the law of a Gaussian matrix of n rows and d columns:
memory O(n T m) where the matrix would take O(n d) (theory: Montanari & Wang, arXiv 2602.01434; Y. M. Lu, "Householder
Dice", 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.dynamics.conditioning import (
    BLOCK,
    RESIDUAL_TOLERANCE,
    ConditionedDesign,
    FiniteLaw,
    gaussian_triangle,
)
from featurephase.dynamics.network import Network
from featurephase.dynamics.outer import outer_rows
from featurephase.dynamics.start import start_weights
from featurephase.dynamics.training import Data, FixedData, FreshData, Moment, ReplicateTrajectory, TestSet, train
from featurephase.foundation.memory import available_memory, require_memory
from featurephase.foundation.threads import PARTS
from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.problem import Problem


#: Fresh samples behind the test loss of one run.
TEST_SAMPLES = 20_000
#: Below this many visited directions a run is not worth starting: gradient descent alone needs that many.
_LEAST_CAPACITY = 64


def implicit_bytes(samples: int, width: int, latent_dim: int, directions: int, outputs: int = 1) -> float:
    """Memory of a run that visits so many directions of sample space: two histories and the work of a step."""
    blocks = min(samples, PARTS * BLOCK)  # in work, at the most
    rows = 2 * directions + latent_dim + width * 7 + 6 + outer_rows(outputs)
    return 8.0 * (samples * rows + 3 * width * blocks)


def implicit_capacity(problem: Problem, samples: int, dimension: int, steps: int) -> int | None:
    """How many directions of sample space a run may visit in the memory there is; ``None``: as many as it likes.

    Raises
    ------
    MemoryLimitError
        If not even a basis that has stopped growing would fit; says what is needed and what there is.
    """
    m, k, outputs = problem.student.width, problem.teacher.latent_dim, problem.outputs
    if problem.training.one_pass:
        samples = max(1, round(samples * problem.training.batch_fraction))
        most = 2 * m
    else:
        most = min(steps * m, samples, dimension)
    least = min(most, _LEAST_CAPACITY * m)
    free = available_memory()
    if implicit_bytes(samples, m, k, most, outputs) <= free:
        return None
    require_memory(
        implicit_bytes(samples, m, k, least, outputs),
        f"training on {samples} samples without a data matrix ({least} visited directions at the least)",
    )
    fixed = implicit_bytes(samples, m, k, 0, outputs)
    return int((0.9 * free - fixed) / (16.0 * samples)) if 0.9 * free > fixed else least


def run_implicit(
    problem: Problem,
    samples: int,
    dimension: int,
    seed: np.random.SeedSequence,
    *,
    start: str = "orthonormal",
    steps: int | None = None,
    test_samples: int = TEST_SAMPLES,
    observers: Mapping[int, Callable[[Moment], Any]] | None = None,
    tolerance: float = RESIDUAL_TOLERANCE,
    capacity: int | None = None,
) -> ReplicateTrajectory:
    """One run at n = ``samples`` and d = ``dimension``, from the exact law of training on Gaussian data.

    Parameters
    ----------
    start
        One of :data:`~featurephase.dynamics.start.STARTS`.
    test_samples
        Fresh samples behind the test loss; 0 for none.
    tolerance
        Relative residual below which a gradient counts as inside the visited space: what the law is exact to.
    capacity
        Bound on the visited directions of sample space (see :class:`ConditionedDesign`).

    Raises
    ------
    InputError
        If d < k + m.

    Notes
    -----
    When the visited directions reach d the data are fully known and nothing is added; when they reach n the residual
    is zero and nothing is added.
    """
    training = problem.training
    steps = training.steps if steps is None else steps
    link, k = problem.teacher.link, problem.teacher.latent_dim
    student = problem.student
    network = Network.of(problem)
    rng, noise_rng, test_rng, batch_rng, start_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(5)
    )
    batch = max(1, round(samples * training.batch_fraction)) if training.one_pass else samples
    law = FiniteLaw(batch, dimension, rng)

    expected = network.width * (1 if training.one_pass else min(steps, (capacity or steps) // network.width))

    def draw(visited: int) -> tuple[ConditionedDesign, Array]:
        rows = rng.standard_normal((visited, batch))
        responses = link.sample(rows[:k], noise_rng)
        design = ConditionedDesign(rows, law, rng, tolerance=tolerance, capacity=capacity, expected=expected)
        return design, responses

    latent = start_rng.standard_normal((k, student.width))
    rest = gaussian_triangle(max(dimension - k, 0), student.width, start_rng)
    weights = start_weights(start, student.init_gram, student.init_overlap, latent, rest, dimension)
    data: Data = FreshData(draw, k) if training.one_pass else FixedData(*draw(len(weights)))
    path = train(
        data,
        weights,
        network,
        training,
        steps,
        overlap_of=lambda c: c[:k],
        batch_rng=batch_rng,
        observers=observers,
    )
    return TestSet(network, link, test_samples, test_rng).along(path) if test_samples else path
