"""Worker processes of this machine: each takes one task after the other, and one that dies takes none with it.

They are kept for the next list of tasks, and end with the process that started them, however that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from featurephase.foundation.errors import FeaturephaseError
from featurephase.foundation.threads import blas_on_one_thread

T = TypeVar("T")

#: Idle workers leave after so many seconds; a notebook keeps its memory.
_IDLE = 120.0
#: Environment of a worker: its threads, which libraries read when they are imported.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class WorkerError(FeaturephaseError):
    """A worker process, or a cluster, ended before its task did: exit code 1."""


class NotSentError(Exception):
    """A task, or its result, has no form that another process understands."""


# ---- what is sent


def packed(function: Callable[..., Any], task: tuple[Any, ...]) -> bytes:
    """A call as bytes.

    Raises
    ------
    NotSentError
        If it has no such form.
    """
    import cloudpickle

    try:
        message: bytes = cloudpickle.dumps((function, task))
    except Exception as error:  # whatever __reduce__ of the user's objects raises
        raise NotSentError(str(error)) from error
    return message


def unpacked(message: bytes) -> Any:
    """The function and its arguments.

    Raises
    ------
    NotSentError
        If they need a module that only the sender can import.
    """
    try:
        return pickle.loads(message)
    except Exception as error:
        raise NotSentError(str(error)) from None


def _carry_out(message: bytes) -> Any:
    function, task = unpacked(message)
    with blas_on_one_thread():
        return function(*task)


def _ready() -> None:
    """A first task: whoever reads it has imported what it takes."""


# ---- the workers


class Worker:
    """One process, started when its first task comes and again after it died.

    A pool of one process each, rather than one pool: where a process of a pool dies, all tasks in it are lost.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: Any = None

    def start(self) -> None:
        """Start the process, and wait until it is there.

        Raises
        ------
        OSError, ImportError
            If the system has no semaphores (/dev/shm) or no process to give.
        """
        self.call(_ready, ())

    def call(self, function: Callable[..., T], task: tuple[Any, ...]) -> T:
        """``function(*task)`` over there.

        Raises
        ------
        NotSentError
            If the call or its result has no form for another process.
        WorkerError
            If the process died.
        CancelledError
            If the worker was dismissed.
        """
        from loky.process_executor import ShutdownExecutorError

        message = packed(function, task)
        try:
            with _lock, _careful_start():
                if self not in _staff:  # whoever dismisses workers wants none to start after that
                    raise CancelledError
                if self._pool is None:
                    self._pool = self._new_pool()
                future = self._pool.submit(_carry_out, message)
            result: T = future.result()
        except pickle.PicklingError as error:
            raise NotSentError(str(error)) from error
        except ShutdownExecutorError:
            raise CancelledError from None
        except BrokenExecutor as error:
            with _lock:
                if self not in _staff:
                    raise CancelledError from None
                self.stop(kill=True)
            raise _in_words(error) from error
        return result

    def _new_pool(self) -> Any:
        from loky import ProcessPoolExecutor

        return ProcessPoolExecutor(
            1,
            timeout=_IDLE,
            initializer=_begin,
            initargs=(os.getpid(),),
            env=dict.fromkeys(_THREADS, str(self.threads)),
        )

    def stop(self, kill: bool) -> None:
        """Let the process go; ``kill``: also if it has a task or is just starting."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if kill:
            for process in list(pool._processes.values()):
                with contextlib.suppress(OSError, ValueError):
                    process.terminate()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pool.shutdown(wait=kill, kill_workers=kill)


def _in_words(error: BrokenExecutor) -> WorkerError:
    codes = str(error).partition("exit codes of the workers are ")[2].split("}")[0].lstrip("{")
    how = f" ({codes})" if codes else ""
    return WorkerError(
        f"a worker process ended before its task did{how}; often the memory ran out: --workers 1 needs the least"
    )


_staff: list[Worker] = []
_lock = threading.RLock()


def _forget() -> None:
    """A forked process has not its parent's workers."""
    global _staff, _lock
    _staff, _lock = [], threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def hire(count: int, threads: int) -> list[Worker]:
    """``count`` workers with so many threads each: those that are there already, and new ones."""
    with _lock:
        if any(worker.threads != threads for worker in _staff):
            dismiss(kill=False)
        while len(_staff) < count:
            _staff.append(Worker(threads))
        return _staff[:count]


def running(count: int, threads: int) -> bool:
    """Whether so many workers are there already."""
    return sum(worker.threads == threads and worker._pool is not None for worker in _staff) >= count


def dismiss(kill: bool = True) -> None:
    """Send the worker processes away, if there are any; ``kill``: also those that have a task or are just starting."""
    with _lock:
        gone = list(_staff)
        _staff.clear()
    for worker in gone:
        worker.stop(kill)


@atexit.register
def _leave() -> None:
    """Let go of the pools while their module still works, which at the very end of the interpreter it does not."""
    dismiss(kill=False)


# ---- how a process starts and ends


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


def _begin(parent: int) -> None:
    """First of all in a worker: it ends with its parent, and nothing it prints gets into the parent's document."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what is meant for people is said in the parent
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # or it takes a semaphore of the system, which a killed worker leaves behind


def _end_with(parent: int) -> None:
    """Whoever is killed cannot tell its children."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
