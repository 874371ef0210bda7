"""Blocks of a large array on several threads: each takes whole blocks, and calls compiled loops, or BLAS on one thread.

BLAS on two threads splits every product, which does not pay where products are small enough to stay in cache; NumPy
lets go of the interpreter's lock in products and in elementwise functions, so that blocks run side by side. Results
come in the order of the blocks: sums of them in that order are the same bytes whichever thread took which.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

import numpy as np
import scipy.linalg  # noqa: F401  (loads its own BLAS, which the controller is to find)

from featurephase.foundation.errors import InputError, show

Result = TypeVar("Result")

#: Sums over blocks are taken in so many parts, each by one thread: fixed, so that threads do not change rounding.
PARTS = 16


class _Team:
    """What a process keeps: the BLAS libraries it loaded, and the threads beside the calling one."""

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController

        blas = ThreadpoolController().select(user_api="blas")
        self.libraries: list[Any] = blas.lib_controllers
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0
        self.taken_over = 0  # threads that BLAS gave up to blocks

    def limit(self) -> list[int]:
        """Hold BLAS to one thread; the limits it had."""
        limits = [library.num_threads for library in self.libraries]
        for library in self.libraries:
            library.set_num_threads(1)
        return limits

    def restore(self, limits: list[int]) -> None:
        for library, limit in zip(self.libraries, limits, strict=True):
            library.set_num_threads(limit)

    def threads(self, size: int) -> ThreadPoolExecutor:
        if self.pool is None or self.size < size:
            if self.pool is not None:
                self.pool.shutdown(wait=False)
            self.pool, self.size = ThreadPoolExecutor(size, thread_name_prefix="featurephase"), size
        return self.pool


_team: _Team | None = None
_busy = threading.Lock()


def _forget() -> None:
    """A forked process has none of its parent's threads, and a lock that nobody will release."""
    global _team, _busy
    _team, _busy = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _get_team() -> _Team:
    global _team
    if _team is None:
        _team = _Team()
    return _team


@cache
def core_count() -> int:
    """Cores that this process may use: affinity, the control group's quota, ``LOKY_MAX_CPU_COUNT``, Slurm's share.

    Raises
    ------
    InputError
        If ``LOKY_MAX_CPU_COUNT`` is no whole number.
    """
    from loky import cpu_count

    most = os.environ.get("LOKY_MAX_CPU_COUNT", "1")
    if not most.strip().isdecimal():
        raise InputError(f"LOKY_MAX_CPU_COUNT = {show(most)} in the environment: must be a number of cores")
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    count: int = cpu_count()
    return min(count, max(1, int(given))) if given.isdecimal() else count


def _available(team: _Team) -> int:
    if team.taken_over:
        return team.taken_over
    cores = core_count()
    given = os.environ.get("OMP_NUM_THREADS", "")
    unknown = int(given) if given.isdecimal() else cores  # of a BLAS that cannot be asked, such as Accelerate
    limit = min((library.num_threads or 1 for library in team.libraries), default=unknown)
    return max(1, min(limit, cores))


def thread_count() -> int:
    """Threads that may be used now: as many as BLAS may (``OMP_NUM_THREADS``, threadpoolctl), within the affinity.

    Inside :func:`map_blocks` 1. Where BLAS cannot be asked, ``OMP_NUM_THREADS`` or all.
    """
    return 1 if _busy.locked() else _available(_get_team())


def hold_blas() -> None:
    """BLAS on one thread from now on, in a process where several tasks may run at once."""
    _get_team().limit()


@contextmanager
def blas_on_one_thread() -> Iterator[Callable[[int], None]]:
    """BLAS on one thread throughout, and :func:`map_blocks` on as many as BLAS might use.

    For long computations in blocks: threads of OpenBLAS that have worked spin for some 30 ms, on the cores that blocks
    need (measured: 22 ms a step of training in place of 11). What it yields lowers the number of threads from the next
    call of :func:`map_blocks` on, where other processes are to have some of the cores.
    """
    team = _get_team()
    threads = _available(team)
    if team.taken_over or threads <= 1 or _busy.locked():
        yield lambda count: None
        return
    limits = team.limit()
    team.taken_over = threads

    def lower(count: int) -> None:
        team.taken_over = max(1, min(count, threads))

    try:
        yield lower
    finally:
        team.taken_over = 0
        team.restore(limits)


def map_blocks(function: Callable[[int], Result], count: int) -> list[Result]:
    """``[function(0), ..., function(count - 1)]``, on :func:`thread_count` threads, BLAS on one thread in each.

    The caller's thread works too. Calls from inside ``function``, or from a second thread meanwhile, run inline. What
    the caller's context holds (``np.errstate``) holds in all threads. The first exception stops what has not begun, and
    is raised when no block is running any more.
    """
    if (
        count == 1
    ):  # nothing to share, and asking the libraries how many threads there are takes longer than a short step
        return [function(0)]
    team = _get_team()
    workers = min(_available(team), count)
    if workers <= 1 or not _busy.acquire(blocking=False):
        return [function(i) for i in range(count)]
    lock = _busy  # the module's is another one in a forked process
    limits: list[int] = []
    results: list[Any] = [None] * count
    blocks = itertools.count()  # next() is atomic
    stop = threading.Event()
    errors = np.geterr()  # of the thread, not of the context, before NumPy 2

    def work() -> None:
        try:
            with np.errstate(**errors):
                while not stop.is_set() and (i := next(blocks)) < count:
                    results[i] = function(i)
        except BaseException:
            stop.set()
            raise

    others: list[Future[None]] = []
    try:
        limits = team.limit()
        pool = team.threads(workers - 1)
        with contextlib.suppress(RuntimeError):  # the system gives no further thread: this one does it all
            others.extend(pool.submit(copy_context().run, work) for _ in range(workers - 1))
        work()
        for other in others:
            other.result()
    finally:
        stop.set()
        try:
            for other in others:
                if not other.cancel():
                    other.exception()  # waits
        finally:
            if limits:
                team.restore(limits)
            lock.release()
    return results


def map_parts(function: Callable[[range], Result], count: int) -> list[Result]:
    """``function`` of consecutive parts of ``range(count)``, on threads like :func:`map_blocks`.

    For sums over blocks: there are as many parts whatever the number of threads.
    """
    parts = min(PARTS, count)
    return map_blocks(lambda i: function(range(count * i // parts, count * (i + 1) // parts)), parts)


def in_turn(function: Callable[..., Result]) -> Callable[..., Result]:
    """``function`` for several threads, called by one at a time.

    For elementwise functions of a block, which are short: threads would hand the interpreter's lock to and fro in them,
    at a higher price than that of waiting.
    """
    turn = threading.Lock()

    def alone(*arguments: Any) -> Result:
        with turn:
            return function(*arguments)

    return alone
