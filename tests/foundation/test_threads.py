"""Blocks on threads: order, exceptions, error state, no nesting, limits of BLAS and their return, forks."""

import multiprocessing
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from featurephase.foundation import threads
from featurephase.foundation.threads import blas_on_one_thread, map_blocks, thread_count

several = pytest.mark.skipif(thread_count() < 2, reason="one core, or BLAS held to one thread")


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_results_come_in_the_order_of_the_blocks():
    def late_if_even(i):
        time.sleep(0.002 * (i % 2 == 0))
        return i * i

    assert map_blocks(late_if_even, 20) == [i * i for i in range(20)]
    assert map_blocks(late_if_even, 0) == []


@several
def test_threads_work_at_the_same_time_and_blas_is_held_to_one_in_each():
    meeting = threading.Barrier(2, timeout=20.0)  # broken unless two blocks run at once

    def block(_):
        meeting.wait()
        return threading.get_ident(), max(blas_threads()), thread_count()

    before = blas_threads()
    found = map_blocks(block, 2)
    assert len({ident for ident, _, _ in found}) == 2
    assert {(limit, count) for _, limit, count in found} == {(1, 1)}
    assert blas_threads() == before


@several
def test_blocks_where_no_further_thread_can_be_started(monkeypatch):
    def broken(self):
        raise RuntimeError("can't start new thread")

    threads._forget()  # the threads that there are
    monkeypatch.setattr(threading.Thread, "start", broken)
    assert map_blocks(lambda i: (i, threading.get_ident()), 3) == [(i, threading.get_ident()) for i in range(3)]
    threads._forget()


@several
def test_blocks_take_over_the_threads_of_blas():
    before, count = blas_threads(), thread_count()
    meeting = threading.Barrier(2, timeout=20.0)
    with blas_on_one_thread(), blas_on_one_thread():
        assert (set(blas_threads()), thread_count()) == ({1}, count)
        map_blocks(lambda _: meeting.wait(), 2)
        assert set(map_blocks(lambda _: thread_count(), 4)) == {1}
        assert set(blas_threads()) == {1}
    assert (blas_threads(), thread_count()) == (before, count)
    with pytest.raises(ValueError, match="here"), blas_on_one_thread():
        raise ValueError("here")
    assert (blas_threads(), thread_count()) == (before, count)


def test_one_thread_where_blas_is_held_to_one():
    with threadpool_limits(limits=1):
        assert thread_count() == 1
        assert set(map_blocks(lambda _: threading.get_ident(), 8)) == {threading.get_ident()}


def test_calls_inside_a_block_run_inline():
    def outer(i):
        inner = map_blocks(lambda _: threading.get_ident(), 4)
        return set(inner) == {threading.get_ident()}

    assert all(map_blocks(outer, 8))


def test_a_second_thread_meanwhile_runs_inline_and_limits_come_back():
    before = blas_threads()
    sums = [None] * 4

    def caller(j):
        sums[j] = [sum(map_blocks(lambda i: i, 50)) for _ in range(50)]

    callers = [threading.Thread(target=caller, args=(j,)) for j in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert sums == [[1225] * 50] * 4
    assert blas_threads() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_stops_the_rest_and_limits_come_back(error):
    before, done = blas_threads(), []

    def block(i):
        if i == 3:
            raise error("here")
        time.sleep(0.001)
        done.append(i)

    with pytest.raises(error, match="here"):
        map_blocks(block, 1000)
    assert len(done) < 100
    assert blas_threads() == before
    assert map_blocks(lambda i: i, 3) == [0, 1, 2]


def test_the_error_state_of_the_caller_holds_in_all_threads():
    def divide(i):
        time.sleep(0.001)
        return np.geterr()["divide"], (np.ones(600) / np.zeros(600))[0]

    with np.errstate(divide="ignore"):
        assert set(map_blocks(divide, 20)) == {("ignore", np.inf)}
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        map_blocks(divide, 20)


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_its_own_threads():
    map_blocks(lambda i: i, 4)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_in_a_fork).get(timeout=60) == [0, 1, 4, 9]


def _in_a_fork():
    return map_blocks(lambda i: i * i, 4)


def test_blocks_have_all_cores_where_blas_cannot_be_asked(monkeypatch):
    team = threads._get_team()
    monkeypatch.setattr(team, "libraries", [])
    monkeypatch.setattr(threads, "core_count", lambda: 6)
    for given, expected in (("3", 3), ("40", 6), ("", 6), ("2,1", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert thread_count() == expected
