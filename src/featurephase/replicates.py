"""Independent repetitions: their random streams, and how they are spread over the cores of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from featurephase.threads import blas_on_one_thread

T = TypeVar("T")

__all__ = ["replicate_seeds", "run_tasks"]


def replicate_seeds(seed: int, replicates: int, stream: int = 0) -> list[np.random.SeedSequence]:
    """Independent random streams, one for each replicate; the first ones do not depend on how many there are.

    ``stream``: 0 for the runs themselves; other runs of the same experiment take one of their own, which no run of an
    experiment with another seed shares.
    """
    # Keys count down from the last one: those of the replicates, and of what they spawn, count up from 0.
    root = np.random.SeedSequence(seed, spawn_key=(2**32 - stream,) if stream else ())
    return root.spawn(replicates)


def run_tasks(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    *,
    work: float,
    label: str = "",
    quiet: bool = False,
    workers: int | None = None,
) -> list[T]:
    """``[function(*task) for task in tasks]``, on all cores when it is worth it, with progress on standard error.

    Parameters
    ----------
    work
        Estimated seconds for one task: below about two seconds in all the tasks run in this process, because
        starting workers costs that.
    workers
        Number of processes; default: the cores this process may use.

    Notes
    -----
    One BLAS thread in each process: more would fight for the same cores. What runs in this process has them for its
    blocks (:func:`featurephase.threads.map_blocks`).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    workers = min(workers or cores, len(tasks))
    show = not quiet and sys.stderr.isatty() and work * len(tasks) > 2.0
    if workers < 2 or work * len(tasks) < 3.0:
        with blas_on_one_thread():
            return list(_progress((function(*task) for task in tasks), len(tasks), label, show))
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=workers, return_as="generator", inner_max_num_threads=1, backend="loky")
    calls = (delayed(_single_threaded)(function, task) for task in tasks)
    return list(_progress(pool(calls), len(tasks), label, show))


def _single_threaded(function: Callable[..., T], task: tuple[Any, ...]) -> T:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return function(*task)


def _progress(items: Iterable[T], total: int, label: str, show: bool) -> Iterable[T]:
    if not show:
        return items
    from tqdm import tqdm

    shown: Iterable[T] = tqdm(items, total=total, desc=label, file=sys.stderr, leave=False)
    return shown
