"""Cores are shared out among the processes that run the tests: `pytest -n auto` uses each of them once."""

from __future__ import annotations

import os
import signal
import threading

import pytest

#: What the libraries that a test, or a program that it starts, may use reads the number of its threads from.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


def pytest_xdist_auto_num_workers() -> int:
    """As many as this process may use: those of the machine are not always all ours."""
    from featurephase.foundation.threads import core_count

    return core_count()


def pytest_configure(config: pytest.Config) -> None:
    """In the process that starts the others, before it does: they inherit the environment."""
    os.environ["MPLBACKEND"] = "Agg"
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored and threading.current_thread() is threading.main_thread():  # in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or programs that tests interrupt would ignore it too
    processes = getattr(config.option, "numprocesses", None)
    if processes:
        from featurephase.foundation.threads import core_count

        share = str(max(1, core_count() // processes))
        os.environ.update(dict.fromkeys(_THREADS, share))
