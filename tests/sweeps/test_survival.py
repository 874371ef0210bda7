"""A sweep whose workers are killed, here and on a cluster, and whose disk is full: the same cells in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import featurephase as fp

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

SWEEP = """
base = "experiment.toml"
quantities = ["train_loss", "left_edge"]
[[axis]]
key = "student.activation"
values = ["gelu", "tanh"]
[[axis]]
key = "student.init_norm"
range = [0.5, 2.0, 6]
"""
FEATUREPHASE = [sys.executable, "-m", "featurephase"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep of cells that take some tenths of a second, and its undisturbed store."""
    from ..cases import file_text

    place = tmp_path_factory.mktemp("survival")
    (place / "experiment.toml").write_text(file_text())
    (place / "sweep.toml").write_text(SWEEP)
    assert finish(place, place / "reference", "--workers", "1")["done"] == 12
    return place


def start(arguments, mark):
    return subprocess.Popen(
        [str(a) for a in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"SURVIVAL_MARK": mark},
    )


def sweep(folder, store, *flags):
    samples = ("--samples", "8000")
    arguments = [*FEATUREPHASE, "sweep", folder / "sweep.toml", "--store", store, "--json", "--quiet", *samples, *flags]
    return start(arguments, str(store))


def finish(folder, store, *flags):
    process = sweep(folder, store, *flags)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)["cells"]


def marked(mark):
    """Processes that were started for a store, directly or not."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"SURVIVAL_MARK={mark}".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


def wait_for(condition, seconds=120.0):
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "not within the time"
        time.sleep(0.05)


def finished(store):
    return fp.open_sweep(store).cells.done if (store / "zarr.json").exists() else 0


def assert_same(store, reference):
    a, b = (fp.open_sweep(path).data.drop_vars(["seconds", "memory"]) for path in (store, reference))
    assert a.equals(b)


def test_the_whole_group_is_killed(folder):
    store = folder / "group"
    for cells in (1, 5):
        process = sweep(folder, store, "--workers", "2")
        wait_for(lambda least=cells: finished(store) >= least)
        before = finished(store)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        wait_for(lambda: not marked(store), 10.0)
        assert finished(store) >= before
    assert finish(folder, store, "--workers", "2")["reused"] >= 5
    assert_same(store, folder / "reference")


def test_a_worker_is_killed(folder):
    store = folder / "worker"
    process = sweep(folder, store, "--workers", "2")

    def workers():
        return [pid for pid, line in marked(store).items() if b"loky" in line and b"resource_tracker" not in line]

    wait_for(lambda: workers() and finished(store) >= 2)
    os.kill(workers()[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["cells"] == {"total": 12, "done": 12, "failed": 0, "reused": 0}
    assert_same(store, folder / "reference")


def test_two_processes_on_one_store(folder):
    store = folder / "two"
    both = [sweep(folder, store, "--workers", "1") for _ in range(2)]
    ends = [(process.communicate(timeout=300), process.returncode) for process in both]
    assert sorted(code for _, code in ends) in ([0, 2], [0, 0])  # the second may come when the first is done
    for (_, err), code in ends:
        assert code == 0 or "is in use by process" in err
    assert_same(store, folder / "reference")


def test_a_cluster_that_loses_a_worker(folder):
    pytest.importorskip("distributed")
    store, file = folder / "dask", folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    local = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    processes = [start([*dask, "scheduler", *local, "--scheduler-file", file], "scheduler")]
    try:
        wait_for(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        address = json.loads(file.read_text())["address"]
        flags = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", folder]
        processes += [start([*dask, "worker", address, *flags], "worker") for _ in range(2)]
        process = sweep(folder, store, "--dask", address)
        wait_for(lambda: finished(store) >= 3)
        os.killpg(processes[1].pid, signal.SIGKILL)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert json.loads(out)["cells"]["done"] == 12
    finally:
        for process in processes:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert_same(store, folder / "reference")


def test_a_full_disk(folder, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    pages = sum(-(-path.stat().st_size // 4096) for path in (folder / "reference").rglob("*") if path.is_file())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={pages // 2 * 4}k", "tmpfs", str(place)]  # half of what it takes
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        store = place / "store"
        process = sweep(folder, store, "--workers", "1")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "No space left on device" in err
        assert "Traceback" not in err
        before = finished(store)
        subprocess.run(["mount", "-o", "remount,size=50m", str(place)], check=True)
        assert finish(folder, store, "--workers", "1")["reused"] == before
        assert_same(store, folder / "reference")
    finally:
        subprocess.run(["umount", str(place)], check=True)
