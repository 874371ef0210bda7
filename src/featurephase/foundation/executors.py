"""Independent repetitions: their random streams, and the executor that says where they run.

An executor is a value: :class:`ThisProcess`, :class:`Processes` of this machine (the default) or a :class:`Dask`
cluster. It is made where a command or a public function begins (:func:`as_executor`) and handed down. Which one it is
changes no result: each task has a random stream of its own, and sums do not depend on the number of threads.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from featurephase._version import __version__
from featurephase.foundation.errors import (
    FeaturephaseError,
    FeaturephaseWarning,
    InputError,
    MissingDependencyError,
    show,
)
from featurephase.foundation.memory import available_memory
from featurephase.foundation.progress import progress_bar
from featurephase.foundation.threads import blas_on_one_thread, core_count, hold_blas, thread_count

T = TypeVar("T")

__all__ = [
    "Dask",
    "Executor",
    "Processes",
    "ThisProcess",
    "WorkerError",
    "Workers",
    "as_executor",
    "dismiss",
    "replicate_seeds",
    "run_tasks",
]

#: Seconds until a new worker process has imported what it needs (measured: 1.5 to 2 on two cores).
_START = 2.0
#: The same for a worker that is there already.
_WARM = 0.1
#: How often it is asked again whether processes pay, in seconds.
_INTERVAL = 0.5
#: Idle workers leave after so many seconds; a notebook keeps its memory.
_IDLE = 120.0
#: Share of the available memory that tasks side by side may fill.
_MEMORY_SHARE = 0.8


class WorkerError(FeaturephaseError):
    """A worker process, or a cluster, ended before its task did: exit code 1."""


def replicate_seeds(seed: int, replicates: int, stream: int = 0) -> list[np.random.SeedSequence]:
    """Independent random streams, one for each replicate; the first ones do not depend on how many there are.

    ``stream``: 0 for the runs themselves; other runs of the same experiment take one of their own, which no run of an
    experiment with another seed shares.
    """
    # Keys count down from the last one: those of the replicates, and of what they spawn, count up from 0.
    root = np.random.SeedSequence(seed, spawn_key=(2**32 - stream,) if stream else ())
    return root.spawn(replicates)


@runtime_checkable
class Executor(Protocol):
    """Where independent tasks run."""

    @property
    def progress(self) -> bool:
        """Whether a bar on standard error shows how far they are."""

    def run(
        self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, label: str = "", memory: float = 0.0
    ) -> list[T]:
        """``[function(*task) for task in tasks]``; ``memory``: bytes that one task needs, as far as that is known."""


@dataclass(frozen=True)
class ThisProcess:
    """One task after another in this process, each on all its threads."""

    progress: bool = False

    def run(
        self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, label: str = "", memory: float = 0.0
    ) -> list[T]:
        """``[function(*task) for task in tasks]``."""
        with blas_on_one_thread(), progress_bar(len(tasks), label, quiet=not self.progress) as bar:
            results = []
            for task in tasks:
                results.append(function(*task))
                bar.update()
            return results


@dataclass(frozen=True)
class Processes:
    """Processes of this machine, as soon as they pay.

    The first task begins in this process, on all its threads. While it and its successors run, a second thread asks
    twice a second whether the tasks that have not begun would be finished earlier on several processes: from the time
    per task so far, and from how many cores this process keeps busy already (:func:`_processes_pay`). If so workers
    are started, share the cores with this process and take tasks until none is left.

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
        whole = isinstance(self.count, (int, np.integer)) and not isinstance(self.count, bool)
        if self.count is not None and not (whole and self.count >= 1):
            raise InputError(f"workers = {show(self.count)}: must be a whole number >= 1, the number of processes")

    def run(
        self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, label: str = "", memory: float = 0.0
    ) -> list[T]:
        """``[function(*task) for task in tasks]``."""
        most = min(self.count or core_count(), len(tasks))
        if memory > 0:
            most = min(most, int(_MEMORY_SHARE * available_memory() / memory))
        if most < 2 or multiprocessing.current_process().daemon:  # which may have no children
            return ThisProcess(self.progress).run(function, tasks, label=label, memory=memory)
        with progress_bar(len(tasks), label, quiet=not self.progress) as bar:
            return _Crew(function, tasks, most, at_once=self.count is not None, tick=bar.update).run()


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
    share = min(1.0, max(busy, 0.05))  # of a core, on a machine that others use too
    busy = max(busy, 1.0)
    one = task * max(1.0, busy / threads)
    together = left * task * busy / ((workers + 1) * threads)
    return start / share + max(one, together) < 0.9 * left * task


class _NotSent(Exception):
    """A task, or its result, has no form that another process understands."""


class _Crew(Generic[T]):
    """One list of tasks, this process, and the processes that may join it."""

    def __init__(
        self,
        function: Callable[..., T],
        tasks: Sequence[tuple[Any, ...]],
        most: int,
        *,
        at_once: bool,
        tick: Callable[[], object],
    ) -> None:
        self.function, self.tasks, self.at_once, self.tick = function, tasks, at_once, tick
        self.workers = most - 1
        self.threads = max(1, min(core_count() // most, thread_count()))
        self.waiting = deque(range(len(tasks)))
        self.results: list[Any] = [None] * len(tasks)
        self.errors: dict[int, BaseException] = {}
        self.done = 0
        self.note = ""
        self.lock = threading.Lock()
        self.over = threading.Event()  # nothing waits any more
        self.given_up = threading.Event()  # after an error or an interruption
        self.limit_threads: Callable[[int], None] = lambda count: None
        self.began = self.cpu = 0.0

    def run(self) -> list[T]:
        recruiter = threading.Thread(target=self._recruit, name="featurephase-recruiter", daemon=True)
        try:
            with blas_on_one_thread() as self.limit_threads:
                recruiter.start()
                self._work_here()
                recruiter.join()
                self._work_here()  # what could not be sent to another process
        except BaseException:
            self.waiting.clear()
            self.over.set()
            self.given_up.set()
            dismiss()
            raise
        if self.errors:
            self.given_up.set()
            dismiss()  # the other workers need not finish
            raise self.errors[min(self.errors)]
        if self.note:
            warnings.warn(self.note, FeaturephaseWarning, stacklevel=4)
        return self.results

    def _take(self) -> int | None:
        try:
            return None if self.errors else self.waiting.popleft()
        except IndexError:
            return None

    def _keep(self, index: int, result: T) -> None:
        with self.lock:
            self.results[index] = result
            self.done += 1
            self.tick()

    def _work_here(self) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()
        while (index := self._take()) is not None:
            self._keep(index, self.function(*self.tasks[index]))
        self.over.set()

    def _pays(self) -> bool:
        seconds = max(time.perf_counter() - self.began, 1e-3)
        return _processes_pay(
            seconds=seconds,
            busy=(time.process_time() - self.cpu) / seconds,
            done=self.done,
            left=len(self.waiting),
            workers=self.workers,
            threads=self.threads,
            start=_WARM if _is_warm(self.workers, self.threads) else _START,
        )

    def _recruit(self) -> None:
        """In a thread of its own: wait until processes pay, start them, and hand them tasks."""
        if not self.at_once:
            interval = _WARM if _is_warm(self.workers, self.threads) else _INTERVAL
            while not self.over.wait(interval):
                if self._pays():
                    break
            else:
                return
        self.limit_threads(self.threads)
        feeders = [
            threading.Thread(target=self._feed, name="featurephase-feeder", daemon=True) for _ in range(self.workers)
        ]
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            feeder.join()

    def _feed(self) -> None:
        """In a thread for each worker: wait until it is there, then hand it one task after the other."""
        if not self._started():
            return
        while (index := self._take()) is not None:
            try:
                future = _submit(self.workers, self.threads, self.function, self.tasks[index], self.given_up)
                self._keep(index, future.result())
            except (_NotSent, pickle.PicklingError):  # it has no form for another process
                self.waiting.appendleft(index)
                return
            except CancelledError:
                return
            except BaseException as error:
                with self.lock:
                    self.errors.setdefault(index, _in_words(error))
                return

    def _started(self) -> bool:
        """Start the workers, if they are not there, and wait for the first one; no task waits for it meanwhile.

        False if all tasks are taken before, or no process can be started.
        """
        try:
            ready = _submit(self.workers, self.threads, _import_module, (self.function,), self.given_up)
        except (OSError, ImportError) as error:  # no semaphores (/dev/shm), no more processes
            self.note = f"no worker processes could be started ({error}); everything ran in one process"
            return False
        except (_NotSent, CancelledError):
            return False
        while not self.over.wait(0.02):
            if ready.done():
                try:
                    ready.result()
                except (_NotSent, CancelledError):
                    return False
                except BaseException as error:
                    with self.lock:
                        self.errors[0] = _in_words(error)
                    return False
                return True
        return False


def _import_module(function: Callable[..., Any]) -> None:
    """Reading the message with ``function`` in it has imported what it needs."""


def _in_words(error: BaseException) -> BaseException:
    from concurrent.futures import BrokenExecutor

    if not isinstance(error, BrokenExecutor):
        return error
    codes = str(error).partition("exit codes of the workers are ")[2].split("}")[0].lstrip("{")
    how = f" ({codes})" if codes else ""
    return WorkerError(
        f"a worker process ended before its task did{how}; often the memory ran out: --workers 1 needs the least"
    )


# ---- the worker processes of this machine: one pool, kept for the next list of tasks

_pool: Any = None
_pool_shape = (0, 0)
_pool_lock = threading.RLock()


def _forget() -> None:
    """A forked process has not its parent's workers."""
    global _pool, _pool_shape, _pool_lock
    _pool, _pool_shape, _pool_lock = None, (0, 0), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _leave() -> None:
    """Let go of the pool while its module still works, which at the very end of the interpreter it does not."""
    dismiss(kill=False)


def _is_warm(workers: int, threads: int) -> bool:
    return _pool is not None and _pool_shape[0] >= workers and _pool_shape[1] == threads


def _submit(
    workers: int, threads: int, function: Callable[..., T], task: tuple[Any, ...], given_up: threading.Event
) -> Any:
    """A future of ``function(*task)`` in a worker process; workers are started where there are too few."""
    global _pool, _pool_shape
    message = _message(function, task)
    with _pool_lock, _careful_start():
        if given_up.is_set():  # whoever gives up sends the workers away; none is to start after that
            raise CancelledError
        if not _is_warm(workers, threads):
            dismiss(kill=False)
            from loky import ProcessPoolExecutor

            _pool = ProcessPoolExecutor(
                workers,
                timeout=_IDLE,
                initializer=_begin_worker,
                initargs=(os.getpid(),),
                env=dict.fromkeys(_THREADS, str(threads)),
            )
            _pool_shape = (workers, threads)
        return _pool.submit(_in_worker, message)


def dismiss(kill: bool = True) -> None:
    """Send the worker processes away, if there are any; ``kill``: also those that have a task or are just starting."""
    global _pool, _pool_shape
    with _pool_lock:
        pool, _pool, _pool_shape = _pool, None, (0, 0)
    if pool is not None:
        if kill:
            for process in list(pool._processes.values()):
                with contextlib.suppress(OSError, ValueError):
                    process.terminate()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pool.shutdown(wait=False, kill_workers=kill)


#: Environment of a worker: its threads.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@contextlib.contextmanager
def _careful_start() -> Iterator[None]:
    """Processes that start inside import nothing from the working folder, and leave Ctrl-C to this process.

    A user's ``random.py`` or ``numpy.py`` would be imported in place of the real one (``PYTHONSAFEPATH``); a child that
    is interrupted while it imports prints a traceback (signals that are blocked in a thread are blocked in its
    children).
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    mask = None
    try:
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # starting this child of multiprocessing lifts the mask (Python 3.11)
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONSAFEPATH", None)
        else:
            os.environ["PYTHONSAFEPATH"] = before
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin_worker(parent: int) -> None:
    """First of all in a worker: it ends with its parent, and nothing it prints gets into the parent's document."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what is meant for people is said in the parent
    with contextlib.suppress(OSError):
        os.dup2(2, 1)


def _end_with(parent: int) -> None:
    """Whoever is killed cannot tell its children."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _message(function: Callable[..., Any], task: tuple[Any, ...]) -> bytes:
    import cloudpickle

    try:
        message: bytes = cloudpickle.dumps((function, task))
    except Exception as error:  # whatever __reduce__ of the user's objects raises
        raise _NotSent(str(error)) from error
    return message


def _read(message: bytes) -> Any:
    try:
        return pickle.loads(message)
    except Exception as error:  # a module that only the parent can import
        raise _NotSent(str(error)) from None


def _in_worker(message: bytes) -> Any:
    function, task = _read(message)
    with blas_on_one_thread():
        return function(*task)


# ---- a cluster


@dataclass(frozen=True)
class Dask:
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

    def run(
        self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, label: str = "", memory: float = 0.0
    ) -> list[T]:
        """``[function(*task) for task in tasks]``."""
        if not tasks:
            return []
        try:
            from distributed import CancelledError as Lost
            from distributed import KilledWorker, as_completed
        except ImportError:
            raise MissingDependencyError("--dask needs dask.distributed: pip install 'featurephase[dask]'") from None
        client = _dask_client(self.address)
        futures = [client.submit(_in_dask, _message(function, task), pure=False) for task in tasks]
        try:
            with client.as_current(), progress_bar(len(tasks), label, quiet=not self.progress) as bar:
                for _ in as_completed(futures):
                    bar.update()
            return [future.result() for future in futures]
        except (KilledWorker, Lost) as error:
            raise WorkerError(f"the Dask cluster at {self.address} lost a worker: {error}") from error
        except _NotSent as error:
            raise WorkerError(f"the Dask workers at {self.address} cannot read a task: {error}") from error
        except BaseException:
            client.cancel(futures)
            raise


@functools.lru_cache(maxsize=1)
def _dask_client(address: str) -> Any:
    """The connection, kept for the next list of tasks."""
    from distributed import Client

    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"dask = {show(address)}: no scheduler answers there ({str(error) or type(error).__name__}); the address "
            "that `dask scheduler` prints is needed, such as tcp://127.0.0.1:8786"
        ) from error

    workers = client.get_versions(packages=["featurephase"])["workers"].values()
    versions = {str(worker["packages"].get("featurephase")) for worker in workers} - {__version__}
    if versions:
        client.close()
        raise InputError(
            f"dask = {show(address)}: its workers have featurephase {min(versions)}, here is {__version__}"
        )
    return client


def _in_dask(message: bytes) -> Any:
    """BLAS on one thread for good: a worker may run several tasks at once, and threads of BLAS change rounding."""
    function, task = _read(message)
    hold_blas()
    return function(*task)


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
