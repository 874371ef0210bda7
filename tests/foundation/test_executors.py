"""Where tasks run: the same results anywhere, processes only where they pay, and what happens to those that die."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import featurephase as fp
from featurephase.foundation import cluster, executors, threads, workers
from featurephase.foundation.errors import FeaturephaseWarning, InputError
from featurephase.foundation.executors import (
    Dask,
    Processes,
    ThisProcess,
    WorkerError,
    _processes_pay,
    as_executor,
    run_tasks,
)
from featurephase.foundation.threads import core_count, thread_count

from .. import cases

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def meet(folder, count=2, seconds=120.0):
    """Wait until ``count`` processes have begun a task, however long a busy machine takes to start them."""
    (folder / str(os.getpid())).touch()
    end = time.perf_counter() + seconds
    while len(list(folder.iterdir())) < count and time.perf_counter() < end:
        time.sleep(0.02)
    return os.getpid()


def draw(seed, folder=None):
    if folder is not None:
        meet(folder)
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((300, 300))
    return os.getpid(), (a @ a.T).tobytes()


def where(seconds):
    time.sleep(seconds)
    return os.getpid()


def fail(index, folder=None):
    if folder is not None:
        (folder / str(index)).touch()
    if index == 2:
        raise InputError(f"task {index}")
    time.sleep(0.05)
    return index


def die(parent, folder):
    meet(folder)
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)


def test_the_same_bytes_in_one_process_and_in_several(tmp_path):
    here = ThisProcess().run(draw, [(seed,) for seed in range(10)])
    there = Processes(2).run(draw, [(seed, tmp_path) for seed in range(10)])
    assert {pid for pid, _ in here} == {os.getpid()}
    assert len({pid for pid, _ in there}) == 2
    assert [x for _, x in here] == [x for _, x in there]


def test_workers_asked_for_are_started_at_once_and_kept(tmp_path):
    folders = tmp_path / "first", tmp_path / "again"
    first, again = (set(Processes(2).run(meet, [(folder,)] * 6)) for folder in folders if folder.mkdir() is None)
    assert os.getpid() in first
    assert len(first) == 2
    assert first == again


def test_short_tasks_stay_in_this_process(monkeypatch):
    """Starting a process is given a price that no machine is slow enough for."""
    executors.dismiss()
    monkeypatch.setattr(executors, "_START", 600.0)
    assert set(Processes().run(where, [(0.05,)] * 20)) == {os.getpid()}


@pytest.mark.skipif(core_count() < 2, reason="one core")
def test_long_tasks_go_to_other_processes(tmp_path, monkeypatch):
    """The first task waits for a second process: it comes, without having been asked for."""
    executors.dismiss()
    monkeypatch.setattr(executors, "_START", 0.01)
    found = Processes().run(meet, [(tmp_path,)] * (4 * core_count()))
    assert 2 <= len(set(found)) <= core_count()


def spin(seconds):
    """Keep a core busy for so long; in which process."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


@pytest.mark.skipif(core_count() < 2, reason="one core")
def test_many_short_lists_start_processes_in_the_end(monkeypatch):
    """What workers would have saved in lists that were too short for them pays for their start."""
    executors.dismiss()
    monkeypatch.setattr(executors, "_START", 1.0)
    monkeypatch.setattr(executors, "_WARM", 0.001)
    monkeypatch.setattr(executors._Crew, "missed", 0.0)
    seen = []
    for _ in range(100):
        seen.append(len(set(Processes().run(spin, [(0.05,)] * 8))))
        if seen[-1] > 1:
            break
    assert seen[0] == 1
    assert seen[-1] > 1
    assert executors._Crew.missed == 0.0


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # 8 tasks of 10 s on one thread each, two cores
        ({"seconds": 1.0, "busy": 1.0, "done": 0, "left": 7, "workers": 1, "threads": 1, "start": 2.0}, True),
        # the same tasks keep both cores busy already
        ({"seconds": 9.0, "busy": 1.9, "done": 0, "left": 7, "workers": 1, "threads": 1, "start": 2.0}, False),
        # 8 seeds of 0.37 s: they are done before workers have started
        ({"seconds": 1.0, "busy": 1.0, "done": 2, "left": 5, "workers": 1, "threads": 1, "start": 2.0}, False),
        # the last task waits while the first one runs: worth a process only if it is long
        ({"seconds": 0.5, "busy": 1.0, "done": 0, "left": 1, "workers": 1, "threads": 1, "start": 2.0}, False),
        # 8 tasks of 1 s of work on a busy machine that gives this process a fifth of a core: starting takes long, too
        ({"seconds": 5.0, "busy": 0.2, "done": 1, "left": 3, "workers": 1, "threads": 1, "start": 2.0}, False),
        ({"seconds": 5.0, "busy": 0.2, "done": 1, "left": 60, "workers": 1, "threads": 1, "start": 2.0}, True),
        # one short task on eight cores, in which threads keep four of them busy
        ({"seconds": 4.0, "busy": 4.0, "done": 2, "left": 4, "workers": 7, "threads": 1, "start": 2.0}, False),
        ({"seconds": 40.0, "busy": 4.0, "done": 2, "left": 60, "workers": 7, "threads": 1, "start": 2.0}, True),
    ],
)
def test_the_policy(case, expected):
    assert _processes_pay(**case) is expected


def test_memory_limits_the_number_of_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(executors, "available_memory", lambda: 1000)
    assert set(Processes(3).run(where, [(0.2,)] * 4, memory=700)) == {os.getpid()}
    assert len(set(Processes(3).run(meet, [(tmp_path,)] * 6, memory=400))) == 2


def test_the_first_error_is_raised_and_nobody_goes_on(tmp_path):
    with pytest.raises(InputError, match="task 2"):
        Processes(2).run(fail, [(i, tmp_path) for i in range(400)])
    begun = len(list(tmp_path.iterdir()))
    assert begun < 400
    assert not workers.running(1, 1)
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == begun


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals here")
def test_a_worker_that_dies_is_reported_in_words(tmp_path):
    executors.dismiss()
    with pytest.raises(WorkerError, match=r"a worker process ended before its task did \(SIGKILL\(-9\)\)"):
        Processes(2).run(die, [(os.getpid(), tmp_path)] * 20)
    assert Processes(2).run(where, [(0.0,)] * 2)[0] == os.getpid()  # and the next list is computed


def die_once(parent, folder, index):
    meet(folder)
    mark = folder / "died"
    if os.getpid() != parent and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return index


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals here")
def test_a_task_whose_worker_dies_is_begun_again_and_finished_ones_are_kept(tmp_path):
    kept = []
    tasks = [(os.getpid(), tmp_path, i) for i in range(12)]
    assert Processes(2).run(die_once, tasks, keep=lambda i, result: kept.append((i, result))) == list(range(12))
    assert (tmp_path / "died").exists()
    assert sorted(kept) == [(i, i) for i in range(12)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals here")
def test_a_task_that_kills_its_workers_can_be_replaced(tmp_path):
    done = Processes(2).run(die, [(os.getpid(), tmp_path)] * 20, lost=lambda error: str(error)[:16])
    assert set(done) == {None, "a worker process"}


def test_what_cannot_be_sent_runs_here():
    lock = threading.Lock()  # has no form for another process

    def locked(index):
        with lock:
            return index, os.getpid()

    assert Processes(2).run(locked, [(i,) for i in range(5)]) == [(i, os.getpid()) for i in range(5)]


def test_without_semaphores_everything_runs_here(monkeypatch):
    def broken(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(workers.Worker, "_new_pool", broken)
    executors.dismiss()
    with pytest.warns(FeaturephaseWarning, match="no worker processes could be started"):
        assert set(Processes(2).run(where, [(0.3,)] * 4)) == {os.getpid()}


def test_without_further_threads_everything_runs_here(monkeypatch):
    def broken(self):
        raise RuntimeError("can't start new thread")

    executors.dismiss()
    monkeypatch.setattr(threading.Thread, "start", broken)
    with pytest.warns(FeaturephaseWarning, match="can't start new thread"):
        assert set(Processes(2).run(where, [(0.0,)] * 4)) == {os.getpid()}


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    core_count.cache_clear()
    usual = core_count()
    assert usual <= len(os.sched_getaffinity(0))
    for name in ("LOKY_MAX_CPU_COUNT", "SLURM_CPUS_PER_TASK"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            core_count.cache_clear()
            assert core_count() == 1
    with monkeypatch.context() as patch:
        patch.setenv("LOKY_MAX_CPU_COUNT", "none")
        core_count.cache_clear()
        with pytest.raises(InputError, match="LOKY_MAX_CPU_COUNT = 'none' in the environment"):
            core_count()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1000000")
    core_count.cache_clear()
    assert core_count() == usual
    core_count.cache_clear()


def test_processes_share_out_the_cores(tmp_path):
    expected = max(1, min(core_count() // 2, thread_count()))
    assert Processes(2).run(_threads_later, [(tmp_path,)] * 4) == [expected] * 4
    assert ThisProcess().run(thread_count, [()]) == [thread_count()]


def _threads_later(folder):
    meet(folder)
    return thread_count()


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "many"])
def test_a_bad_number_of_workers_is_refused(bad):
    with pytest.raises(InputError, match="workers = "):
        as_executor(bad)


def test_the_public_door():
    assert as_executor(None) == Processes(None, progress=False)
    assert as_executor(np.int64(3), quiet=False) == Processes(3, progress=True)
    assert as_executor(Dask("tcp://here:1")) == Dask("tcp://here:1")
    assert as_executor(None, dask="tcp://here:1", quiet=False) == Dask("tcp://here:1", progress=True)
    with pytest.raises(InputError, match="exclude each other"):
        as_executor(2, dask="tcp://here:1")
    assert fp.Dask is Dask


def test_a_thread_that_is_not_the_main_one():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run_tasks, fail, [(0,), (1,)], workers=2).result(timeout=300) == [0, 1]


# -- as programs --

#: Each task waits until two processes have begun one, and then for some time.
PROGRAM = """
    import os, pathlib, time
    from featurephase.foundation.executors import Processes

    def slow(index, parent):
        (folder := pathlib.Path({folder!r})).joinpath(str(os.getpid())).touch()
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.02)
        time.sleep({seconds})
        if os.getpid() != parent:
            print("not part of the document", flush=True)
        return index

    if __name__ == "__main__":
        print("begin", flush=True)
        print(Processes(2).run(slow, [(i, os.getpid()) for i in range(6)]), flush=True)
"""


def program(folder: Path, seconds: float = 0.0) -> Path:
    (folder / "met").mkdir()
    path = folder / "script.py"
    path.write_text(textwrap.dedent(PROGRAM.format(folder=str(folder / "met"), seconds=seconds)))
    return path


def children(pid: int) -> set[int]:
    """Processes whose parent is ``pid``, and theirs, as /proc has them."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=120.0):
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "not within the time"
        time.sleep(0.05)


def test_modules_of_the_working_folder_are_not_imported(tmp_path):
    for name in ("random", "numpy", "queue", "signal"):
        (tmp_path / f"{name}.py").write_text("print('not this one'); raise SystemExit(7)")
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-P", str(program(tmp_path / "elsewhere"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "begin\n[0, 1, 2, 3, 4, 5]\n"), done.stderr
    assert "not this one" not in done.stderr
    assert "not part of the document" in done.stderr  # a worker took part, and what it prints is kept apart


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda n: n.name)
def test_whoever_ends_leaves_no_process_behind(number, tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(program(tmp_path, seconds=60.0))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    wait_for(lambda: len(list((tmp_path / "met").iterdir())) == 2)  # the worker has a task
    family = children(process.pid)
    assert len(family) >= 2  # the worker and the tracker of its semaphores
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    process.wait(timeout=120)
    wait_for(lambda: not any(map(alive, family)))


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.3, 0.6])
def test_an_interruption_while_workers_start_prints_one_traceback(pause, tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(program(tmp_path, seconds=5.0))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    time.sleep(0.2 + pause)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=120)
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


# -- a cluster --


def test_dask_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(fp.InputError, match=r"pip install 'featurephase\[dask\]'"):
        Dask("tcp://127.0.0.1:9").run(fail, [(0,)])


def test_no_scheduler_at_the_address():
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="no scheduler answers there"):
        Dask("nonsense://127.0.0.1:9").run(fail, [(0,)])


def test_a_cluster_computes_the_same_bytes(monkeypatch):
    distributed = pytest.importorskip("distributed")
    tasks = [(seed,) for seed in range(4)]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, silence_logs=50) as local:
        remote = Dask(local.scheduler_address)
        found = remote.run(draw, tasks)
        with pytest.raises(InputError, match="task 2"):
            remote.run(fail, [(i,) for i in range(4)])
        cluster._client(remote.address).close()
        cluster._client.cache_clear()
        monkeypatch.setattr(cluster, "__version__", "another")
        with pytest.raises(InputError, match=f"workers have featurephase {fp.__version__}, here is another"):
            remote.run(fail, [(0,)])
    assert [x for _, x in found] == [x for _, x in ThisProcess().run(draw, tasks)]
    assert os.getpid() not in {pid for pid, _ in found}


def test_threads_are_lowered_while_others_compute():
    if thread_count() < 2:
        pytest.skip("one thread")
    with threads.blas_on_one_thread() as lower:
        lower(1)
        assert thread_count() == 1
    assert thread_count() > 1


def test_problems_can_be_sent_to_other_processes():
    """Where they cannot, all is computed in this process, and nothing else would tell."""
    problem = cases.problem(steps=1)
    message = workers.packed(len, (problem, problem.student.activation, problem.loss, problem.teacher.link))
    assert workers.unpacked(message)[1][0] == problem
