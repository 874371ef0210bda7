"""Independent repetitions: their random streams, and the executor that says where they run.

An executor is a value: :class:`ThisProcess`, :class:`Processes` of this machine (the default) or a :class:`Dask`
cluster. It is made where a command or a public function begins (:func:`as_executor`) and handed down. Which one it is
changes no result: each task has a random stream of its own, and sums do not depend on the number of threads.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

import numpy as np

from featurephase.foundation.cluster import run_on_cluster
from featurephase.foundation.errors import FeaturephaseWarning, InputError, show
from featurephase.foundation.memory import available_memory
from featurephase.foundation.numbers import is_whole
from featurephase.foundation.progress import progress_bar
from featurephase.foundation.threads import blas_on_one_thread, core_count, thread_count
from featurephase.foundation.workers import NotSentError, Worker, WorkerError, dismiss, hire, running

D = TypeVar("D")
T = TypeVar("T")

#: Seconds until a new worker process has imported what it needs (measured: 1.5 to 2 on two cores).
_START = 2.0
#: The same for a worker that is there already.
_WARM = 0.1
#: How often it is asked again whether processes pay, in seconds.
_INTERVAL = 0.5
#: Share of the available memory that tasks side by side may fill.
_MEMORY_SHARE = 0.8
#: How many processes a task may cost: whoever kills one is hardly to blame for three.
_ATTEMPTS = 3

#: The arguments of each task.
Tasks: TypeAlias = Sequence[tuple[Any, ...]]
#: What is called in this process as soon as a task is finished, with its number and its result.
Keep: TypeAlias = Callable[[int, Any], object]
#: What stands in place of the result of a task whose workers died again and again; without it the whole list fails.
Lost: TypeAlias = Callable[[WorkerError], Any]


def replicate_seeds(seed: int, replicates: int, stream: int = 0) -> list[np.random.SeedSequence]:
    """Independent random streams, one for each replicate; the first ones do not depend on how many there are.

    ``stream``: 0 for the runs themselves; other runs of the same experiment take one of their own, which no run of an
    experiment with another seed shares.
    """
    # Keys count down from the last one: those of the replicates, and of what they spawn, count up from 0.
    root = np.random.SeedSequence(seed, spawn_key=(2**32 - stream,) if stream else ())
    return root.spawn(replicates)


class Executor(ABC):
    """Where independent tasks run: every finished one is kept, and moves the bar.

    ``progress``: whether a bar on standard error shows how far they are.
    """

    progress: bool

    def run(
        self,
        function: Callable[..., T],
        tasks: Sequence[tuple[Any, ...]],
        *,
        label: str = "",
        memory: float = 0.0,
        keep: Keep | None = None,
        lost: Lost | None = None,
    ) -> list[T]:
        """``[function(*task) for task in tasks]``.

        Parameters
        ----------
        label
            What the progress bar says.
        memory
            Bytes that one task needs, as far as that is known.
        keep
            Called in this process as soon as a task is finished, one at a time, with its number and its result.
        lost
            Gives what stands in place of the result of a task whose worker processes died again and again; without it
            the whole list fails with a :class:`WorkerError`.
        """
        with progress_bar(len(tasks), label, quiet=not self.progress) as bar:

            def finished(index: int, result: Any) -> None:
                if keep is not None:
                    keep(index, result)
                bar.update()

            return self._run(function, tasks, memory, finished, lost)

    @abstractmethod
    def _run(
        self, function: Callable[..., T], tasks: Tasks, memory: float, finished: Keep, lost: Lost | None
    ) -> list[T]:
        """The same, with ``finished`` to be called with the number of every finished task and its result."""


@dataclass(frozen=True)
class ThisProcess(Executor):
    """One task after another in this process, each on all its threads."""

    progress: bool = False

    def _run(
        self, function: Callable[..., T], tasks: Tasks, memory: float, finished: Keep, lost: Lost | None
    ) -> list[T]:
        with blas_on_one_thread():
            results = []
            for index, task in enumerate(tasks):
                results.append(function(*task))
                finished(index, results[-1])
            return results


@dataclass(frozen=True)
class Processes(Executor):
    """Processes of this machine, as soon as they pay.

    The first task begins in this process, on all its threads. While it and its successors run, a second thread asks
    twice a second whether the tasks that have not begun would be finished earlier on several processes: from the time
    per task so far, from how many cores this process keeps busy already (:func:`_processes_pay`), and from what workers
    would have saved in earlier lists. If so workers are started, share the cores with this process and take tasks until
    none is left. A task whose worker dies is begun again in a new one.

    Parameters
    ----------
    count
        Number of processes, this one included, started at once; 1 is :class:`ThisProcess`. ``None``: as many as pay, at
        most one for each core that this process may use (affinity, control group, ``LOKY_MAX_CPU_COUNT``,
        ``SLURM_CPUS_PER_TASK``).
    progress
        Whether a bar on standard error shows how far the tasks are.

    Raises
    ------
    InputError
        If ``count`` is no whole number >= 1.
    """

    count: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.count is not None and not (is_whole(self.count) and self.count >= 1):
            raise InputError(f"workers = {show(self.count)}: must be a whole number >= 1, the number of processes")

    def _run(
        self, function: Callable[..., T], tasks: Tasks, memory: float, finished: Keep, lost: Lost | None
    ) -> list[T]:
        most = min(self.count or core_count(), len(tasks))
        if memory > 0:
            most = min(most, int(_MEMORY_SHARE * available_memory() / memory))
        if most < 2 or multiprocessing.current_process().daemon:  # which may have no children
            return ThisProcess()._run(function, tasks, memory, finished, lost)
        return _Crew(function, tasks, most, at_once=self.count is not None, keep=finished, lost=lost).run()


def _processes_pay(
    *, seconds: float, busy: float, done: int, left: int, workers: int, threads: int, start: float
) -> bool:
    """Whether processes beside this one would end the tasks that have not begun clearly earlier.

    Parameters
    ----------
    seconds, busy
        How long this process has run, and how many cores it kept busy on average.
    done, left
        Tasks that it has finished, and those that have not begun.
    workers, threads
        Processes beside this one, and threads in each.
    start
        Seconds until they are ready, on a core of their own.
    """
    task = seconds / (done + 0.5)  # the one that runs now is half done, for all that is known
    alone = left * task
    ready = start / min(1.0, max(busy, 0.05))  # this process has a share of a core, on a machine that others use too
    busy = max(busy, 1.0)
    one = task * max(1.0, busy / threads)
    together = (alone - ready) * busy / ((workers + 1) * threads)  # of what is left when they are ready
    return ready < alone and ready + max(one, together) < 0.9 * alone


class _Crew(Generic[T]):
    """One list of tasks, this process, and the processes that may join it.

    The main thread computes. A thread decides whether to start workers, and one thread for each of them hands it tasks.

    A command is several lists, one after the other, each of them perhaps too short for workers to pay. What workers
    would have saved in those that went without counts towards the time they take to start: so a command is never much
    slower than one that had started them at once, or never.
    """

    missed: ClassVar[float] = 0.0  # seconds that workers would have saved since some were last started

    def __init__(
        self,
        function: Callable[..., T],
        tasks: Sequence[tuple[Any, ...]],
        most: int,
        *,
        at_once: bool,
        keep: Keep,
        lost: Lost | None,
    ) -> None:
        self.function, self.tasks, self.at_once, self.keep, self.lost = function, tasks, at_once, keep, lost
        self.workers = most - 1
        self.threads = max(1, min(core_count() // most, thread_count()))
        self.waiting = deque(range(len(tasks)))
        self.results: list[Any] = [None] * len(tasks)
        self.errors: dict[int, BaseException] = {}
        self.done, self.hired = 0, False
        self.note = ""
        self.lock = threading.Lock()
        self.over = threading.Event()  # nothing waits any more
        self.limit_threads: Callable[[int], None] = lambda count: None
        self.began = self.cpu = 0.0

    def run(self) -> list[T]:
        recruiter = threading.Thread(target=self._recruit, name="featurephase-recruiter", daemon=True)
        try:
            with blas_on_one_thread() as self.limit_threads:
                self._begun(recruiter)
                self._work_here()
                while recruiter.is_alive() and not self.errors:
                    recruiter.join(0.1)
                self._account()
                self._work_here()  # what could not be sent to another process
                if self.errors:
                    raise self.errors[min(self.errors)]
        except BaseException:
            self.waiting.clear()
            self.over.set()
            dismiss()
            with self.lock:  # a result that is just being kept is kept to its end
                raise
        if self.note:
            warnings.warn(self.note, FeaturephaseWarning, stacklevel=5)
        return self.results

    def _take(self) -> int | None:
        try:
            return None if self.errors else self.waiting.popleft()
        except IndexError:
            return None

    def _finish(self, index: int, result: T) -> None:
        with self.lock:
            self.results[index] = result
            self.done += 1
            self.keep(index, result)

    # ---- in this process

    def _work_here(self) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()
        while (index := self._take()) is not None:
            self._finish(index, self.function(*self.tasks[index]))
        self.over.set()

    def _effort(self) -> tuple[float, float]:
        """How long this process has worked on the list, and how many cores it kept busy."""
        seconds = max(time.perf_counter() - self.began, 1e-3)
        return seconds, (time.process_time() - self.cpu) / seconds

    def _account(self) -> None:
        """What workers would have saved in this list, if it had none."""
        seconds, busy = self._effort()
        share = max(busy, 1.0) / ((self.workers + 1) * self.threads)
        _Crew.missed = 0.0 if self.hired else _Crew.missed + max(0.0, seconds * (1.0 - share))

    def _start(self) -> float:
        """Seconds until workers are ready, less what earlier lists have paid for."""
        return _WARM if running(self.workers, self.threads) else max(_WARM, _START - _Crew.missed)

    def _pays(self) -> bool:
        seconds, busy = self._effort()
        return _processes_pay(
            seconds=seconds,
            busy=busy,
            done=self.done,
            left=len(self.waiting),
            workers=self.workers,
            threads=self.threads,
            start=self._start(),
        )

    # ---- in other processes

    def _recruit(self) -> None:
        """Wait until processes pay, then start them and hand them tasks."""
        if not self.at_once:
            while not self.over.wait(min(_INTERVAL, self._start())):
                if self._pays():
                    break
            else:
                return
        self.hired = True
        self.limit_threads(self.threads)
        feeders = [
            threading.Thread(target=self._feed, args=(worker,), name="featurephase-feeder", daemon=True)
            for worker in hire(self.workers, self.threads)
        ]
        for feeder in [feeder for feeder in feeders if self._begun(feeder)]:
            feeder.join()

    def _begun(self, thread: threading.Thread) -> bool:
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no further thread (ulimit -u)
            self.note = f"no worker processes could be started ({error}); this process worked alone"
            return False
        return True

    def _feed(self, worker: Worker) -> None:
        """Start a worker, and then, as no task waits for that, hand it one after the other."""
        if self.over.is_set():  # asked after the worker was hired: whoever gives up sends away all that are there
            return
        try:
            worker.start()
        except (OSError, ImportError) as error:  # no semaphores (/dev/shm), no more processes
            self.note = f"no worker processes could be started ({error}); this process worked alone"
            return
        except WorkerError:  # the first task says why
            pass
        except CancelledError:
            return
        while (index := self._take()) is not None:
            try:
                self._finish(index, self._call(worker, index))
            except (NotSentError, CancelledError):  # it has no form for another process; the worker was dismissed
                self.waiting.appendleft(index)
                return
            except BaseException as error:
                self.errors[index] = error
                return

    def _call(self, worker: Worker, index: int) -> T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return worker.call(self.function, self.tasks[index])
            except WorkerError as error:
                if attempt == _ATTEMPTS and self.lost is None:
                    raise
                last = error
        assert self.lost is not None
        return cast(T, self.lost(last))


# ---- a cluster


@dataclass(frozen=True)
class Dask(Executor):
    """A Dask cluster, by the address of its scheduler; its workers need this version of featurephase.

    Needs the extra ``dask``. Threads of one worker are one core each.

    Raises
    ------
    MissingDependencyError
        In :meth:`run`, without ``dask.distributed``.
    InputError
        In :meth:`run`, if no scheduler answers at the address.
    """

    address: str
    progress: bool = False

    def _run(
        self, function: Callable[..., T], tasks: Tasks, memory: float, finished: Keep, lost: Lost | None
    ) -> list[T]:
        results: list[Any] = [None] * len(tasks)

        def received(index: int, result: T) -> None:
            results[index] = result
            finished(index, result)

        run_on_cluster(self.address, function, tasks, received, lost)
        return results


# ---- the public door

#: What public functions accept as ``workers``: a number of processes, an executor, or ``None`` for the default.
Workers: TypeAlias = int | Executor | None


def as_executor(workers: Workers = None, *, quiet: bool = True, dask: str | None = None) -> Executor:
    """The executor that ``workers`` stands for: an executor itself, which keeps its progress bar, or a number.

    Raises
    ------
    InputError
        If it is neither, or ``dask`` is given too.
    """
    if dask is not None:
        if workers is not None:
            raise InputError(f"workers = {show(workers)} and dask = {show(dask)} exclude each other: give one")
        return Dask(dask, progress=not quiet)
    if workers is None or isinstance(workers, (int, np.integer)):
        return Processes(None if workers is None else workers, progress=not quiet)
    if isinstance(workers, Executor):
        return workers
    raise InputError(f"workers = {show(workers)}: must be a number of processes or an executor, such as Dask(address)")


def until_interrupted(function: Callable[[D], T], items: Sequence[D], deltas: Sequence[float]) -> tuple[list[T], str]:
    """``function`` of each item; at Ctrl-C of those that are finished, and in words at which delta others are not.

    With none finished the interruption goes on.
    """
    done: list[T] = []
    try:
        for item in items:
            done.append(function(item))
    except KeyboardInterrupt:
        if not done:
            raise
    left = ", ".join(f"{delta:g}" for delta in deltas[len(done) :])
    return done, f"interrupted: not finished at delta = {left}" if left else ""


def run_tasks(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    *,
    label: str = "",
    memory: float = 0.0,
    quiet: bool = True,
    workers: Workers = None,
) -> list[T]:
    """``[function(*task) for task in tasks]`` where ``workers`` says (:func:`as_executor`)."""
    return as_executor(workers, quiet=quiet).run(function, tasks, label=label, memory=memory)
