"""Independent repetitions: their random streams, and how they are spread over the cores of this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from featurephase.foundation.threads import blas_on_one_thread, core_count, thread_count

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
        Number of processes; default: the cores this process may use. 1: one task after another, in this process.

    Notes
    -----
    The cores are shared out among the processes, for the blocks of each
    (:func:`featurephase.foundation.threads.map_blocks`), and BLAS has one of them: more of its threads would fight for
    them.
    """
    cores = core_count()
    workers = min(workers or cores, len(tasks))
    show = not quiet and sys.stderr.isatty() and work * len(tasks) > 2.0
    if workers < 2 or work * len(tasks) < 3.0:
        with blas_on_one_thread():
            return list(_progress((function(*task) for task in tasks), len(tasks), label, show))
    from joblib import Parallel, delayed

    threads = max(1, min(cores // workers, thread_count()))
    pool = Parallel(n_jobs=workers, return_as="generator", inner_max_num_threads=threads, backend="loky")
    calls = (delayed(_on_threads)(threads, function, task) for task in tasks)
    return list(_progress(pool(calls), len(tasks), label, show))


def _on_threads(threads: int, function: Callable[..., T], task: tuple[Any, ...]) -> T:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads), blas_on_one_thread():
        return function(*task)


def _progress(items: Iterable[T], total: int, label: str, show: bool) -> Iterable[T]:
    if not show:
        return items
    from tqdm import tqdm

    shown: Iterable[T] = tqdm(items, total=total, desc=label, file=sys.stderr, leave=False)
    return shown
