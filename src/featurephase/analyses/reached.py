"""What gradient descent itself reaches of the easy subspace: U_GD(T).

U_E depends on the data alone. The latent rows of the weights up to step T span U_GD(T), a subspace of U_E for every
network (theory/subspaces, eq. sub-reached). They are equal in general, because reusing the data puts the response into
the pre-activations from the second step on, but not under a symmetry: y = g with an even activation has U_E = R, and
gradient descent from a random start never leaves overlap 0 in the limit n, d -> infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from featurephase.analyses.prediction import check_problem_memory
from featurephase.dynamics.asymptotic import run_replicate
from featurephase.dynamics.training import ReplicateTrajectory
from featurephase.foundation.errors import InputError
from featurephase.foundation.executors import Workers, replicate_seeds, run_tasks
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.problem import Problem
from featurephase.problem.asked import asked_deltas
from featurephase.results.status import AMBIGUOUS_RANK, DIVERGED, OK
from featurephase.results.subspaces import ReachedSubspace
from featurephase.subspaces import LatentSubspaces, problem_subspaces
from featurephase.subspaces.rank import decide_rank
from featurephase.subspaces.symmetry import canonical_basis, direction_name

__all__ = ["ReachedSubspace", "reached_subspace"]

#: Independent runs; two make one estimate of a product without noise bias, 16 estimates make useful bounds.
_RUNS = 32
_FEWEST_SAMPLES = 2000
#: Overlaps below this share of the weights count as none, if they are known to be.
RESOLUTION = 0.02


def _shares(run: ReplicateTrajectory, easy_basis: Array) -> Array:
    """Latent rows in the easy basis over the size of the weights, (T + 1, k_E, m)."""
    size = np.sqrt(np.trace(run.gram, axis1=1, axis2=2))
    return np.asarray(np.einsum("ke,tkm->tem", easy_basis, run.overlap) / size[:, None, None])


def _products(runs: Sequence[Array]) -> Array:
    """mean_t M(t) M(t)' from pairs of independent runs, without the bias that noise gives to squares; (R/2, q, q)."""
    product = np.array([np.einsum("tem,tfm->ef", a, b) / len(a) for a, b in zip(runs[::2], runs[1::2], strict=True)])
    return np.asarray((product + product.transpose(0, 2, 1)) / 2)


def reached_subspace(
    problem: Problem,
    delta: float,
    *,
    subspaces: LatentSubspaces | None = None,
    resolution: float = RESOLUTION,
    quiet: bool = True,
    workers: Workers = None,
) -> ReachedSubspace:
    """U_GD(T): which easy directions gradient descent has reached by the last step, decided with errors.

    The latent rows of U_E are kept in the recursion, whatever their size; those of U_H are 0 in the limit. The sample
    paths of ``problem.asymptotics`` are spread over 32 independent runs.

    Parameters
    ----------
    problem
        The experiment; T is ``training.steps``.
    delta
        n/d > 0.
    subspaces
        U_E and U_H if they are known already.
    resolution
        An overlap (share of the weights, root mean square over the steps) known to be smaller counts as none.

    Raises
    ------
    InputError
        If delta is not a finite number > 0, or the easy subspace could not be decided.
    """
    (delta,) = asked_deltas(problem, delta)
    spaces = problem_subspaces(problem) if subspaces is None else subspaces
    if not spaces.ok:
        raise InputError(f"the easy subspace is not known ({spaces.message}); give teacher.easy_basis")
    easy, asymptotics = spaces.easy_basis, problem.asymptotics
    samples = max(_FEWEST_SAMPLES, problem.training.batch_count, asymptotics.samples * asymptotics.replicates // _RUNS)
    result = partial(
        ReachedSubspace,
        seed=asymptotics.seed,
        delta=delta,
        steps=problem.training.steps,
        samples=samples,
        replicates=_RUNS,
    )
    if easy.shape[1] == 0:
        return result(message="no direction is easy", **_undecided(easy))
    check_problem_memory(problem.replace(asymptotics={"samples": samples}), problem.training.steps)
    runs = run_tasks(
        partial(run_replicate, easy_basis=easy, samples=samples, test=False),
        [(problem, delta, seed) for seed in replicate_seeds(asymptotics.seed, _RUNS)],
        label="reached directions",
        quiet=quiet,
        workers=workers,
    )
    if ends := [run.diverged_at for run in runs if run.diverged_at is not None]:
        message = f"delta = {delta:g}: gradient descent diverges at step {min(ends)}"
        return result(status=DIVERGED, message=message, **_undecided(easy))
    return result(**_decided(runs, easy, resolution, problem.training.steps))


def _undecided(easy: Array) -> dict[str, Any]:
    """The fields of a result where no overlap is known."""
    unknown = np.full(easy.shape[1], np.nan)
    return {
        "reached_basis": easy[:, :0],
        "missed_basis": easy,
        "overlaps": unknown,
        "overlaps_se": unknown,
        "bounds": unknown,
        "decisions": ("ambiguous",) * easy.shape[1],
    }


def _decided(runs: Sequence[ReplicateTrajectory], easy: Array, resolution: float, steps: int) -> dict[str, Any]:
    """The fields of a result: the rank of the overlaps, and the size of each with its error."""
    products = _products([_shares(run, easy) for run in runs])
    decision = decide_rank(products, resolution=resolution**2)
    reached = canonical_basis(easy @ decision.basis[:, : decision.rank])
    missed = canonical_basis(easy @ decision.basis[:, decision.rank :])
    inside = easy.T @ np.concatenate([reached, missed], axis=1)
    squares, squares_se = mean_and_se(np.einsum("ei,ref,fi->ri", inside, products, inside))
    overlaps = np.sqrt(np.maximum(squares, 0.0))
    names = ", ".join(direction_name(column) for column in missed.T)
    words = {
        OK: f"easy, but not reached by gradient descent by step {steps}: {names}" if names else "",
        AMBIGUOUS_RANK: f"overlaps along {names} are too small to be told from none: more samples are needed",
    }
    return {
        "status": decision.status,
        "message": words[decision.status],
        "reached_basis": reached,
        "missed_basis": missed,
        "overlaps": overlaps,
        # first order where the overlap is known, the size of the error itself where it is not
        "overlaps_se": squares_se / np.maximum(2 * overlaps, np.sqrt(squares_se)),
        "bounds": np.sqrt(np.maximum(squares + decision.bounds, 0.0)),
        "decisions": decision.decisions,
    }
