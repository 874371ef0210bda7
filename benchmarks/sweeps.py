"""What a sweep survives, and what a cell costs.

::

    python benchmarks/sweeps.py kill worker corrupt disk readonly dask cost

``kill``
    SIGKILL of the whole process group at 20 random moments, each run taken up by the next.
``worker``
    SIGKILL of single worker processes while the sweep runs.
``corrupt``
    Random bytes of random chunks flipped, and chunks cut or removed, 20 times.
``disk``, ``readonly``
    A store on a small tmpfs that becomes full, and one that is made read-only midway (needs the right to mount).
``dask``
    The same sweep under a scheduler with two worker processes on loopback, one killed midway.
``cost``
    10,000 trivial cells: what a cell costs beyond its own computing.

Every disturbed store is compared with that of an undisturbed run, values and labels exactly; no process may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import featurephase as fp

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE), str(HERE / "src")]
from tests import cases  # noqa: E402

BASE = cases.file_with(title="One neuron, coarsely", step_size=0.5, steps=6, samples=4000, delta=4.0, times=None)
SWEEP = """
base = "experiment.toml"
quantities = ["train_loss", "test_loss", "left_edge", "hard_outlier"]
[[axis]]
key = "student.activation"
values = ["gelu", "silu", "tanh"]
[[axis]]
key = "student.init_norm"
range = [0.5, 2.0, 4]
[[axis]]
key = "training.steps"
values = [4, 6]
"""
MARK = f"featurephase-benchmark-{os.getpid()}"
FEATUREPHASE = [sys.executable, "-m", "featurephase"]


def command(folder: Path, store: Path, *flags: str) -> list[str]:
    return [*FEATUREPHASE, "sweep", str(folder / "sweep.toml"), "--store", str(store), "--json", "--quiet", *flags]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"BENCHMARK_MARK": MARK},
    )


def ours() -> list[int]:
    """Processes that this benchmark started, directly or not."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"BENCHMARK_MARK={MARK}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def nobody_left(seconds: float = 5.0) -> None:
    end = time.perf_counter() + seconds
    while left := ours():
        if time.perf_counter() > end:
            raise SystemExit(f"processes are left: {left}")
        time.sleep(0.05)


def compare(store: Path, reference: Path) -> fp.sweeps.runs.Sweep:
    """The cells of a store must be those of the reference, as far as they are finished."""
    found, whole = fp.open_sweep(store), fp.open_sweep(reference)
    there = found.data["done"] > 0
    for name, wanted in whole.data.variables.items():
        if name in ("seconds", "memory", "done") or (name not in found.data and not there.any()):
            continue
        expected = whole.data[name].where(there) if set(there.dims) <= set(wanted.dims) else whole.data[name]
        if str(name).endswith("_count") or wanted.dtype.kind == "f" or wanted.dtype.kind == "i":
            if not expected.astype(float).equals(found.data[name].astype(float).reindex_like(expected)):
                raise SystemExit(f"{store}: {name} differs from the undisturbed run")
        elif found.cells.done == whole.cells.done and not (whole.data[name] == found.data[name]).all():
            raise SystemExit(f"{store}: {name} differs from the undisturbed run")
    return found


def finish(folder: Path, store: Path, reference: Path, *flags: str) -> dict[str, Any]:
    """Take a store up to its end, and compare."""
    process = start(command(folder, store, *flags))
    out, err = process.communicate(timeout=600)
    if process.returncode != 0:
        raise SystemExit(f"{store}: exit {process.returncode}: {err}")
    compare(store, reference)
    nobody_left()
    cells: dict[str, Any] = json.loads(out)["cells"]
    return cells


def cells_in(store: Path) -> int:
    return fp.open_sweep(store).cells.done if (store / "zarr.json").exists() else 0


def kill(folder: Path, reference: Path, times: int = 20) -> None:
    store = folder / "killed"
    finished, kills, runs = 0, 0, 0
    while kills < times:
        if cells_in(store) > 20:
            finish(folder, store, reference)
            store, finished, runs = folder / f"killed{kills}", 0, runs + 1
        process = start(command(folder, store, "--workers", "2"))
        least, end = finished + random.randint(0, 4), time.perf_counter() + 60
        while cells_in(store) < least and time.perf_counter() < end:
            time.sleep(0.1)
        time.sleep(random.uniform(0.0, 1.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
        nobody_left()
        if (store / "zarr.json").exists():
            found = compare(store, reference)
            if found.cells.done < finished:
                raise SystemExit(f"{store}: {finished - found.cells.done} finished cells are lost")
            finished = found.cells.done
    cells = finish(folder, store, reference)
    print(
        f"kill: {kills} times, {runs + 1} stores; all equal to the undisturbed run; the last reused {cells['reused']}"
    )


def worker(folder: Path, reference: Path) -> None:
    store = folder / "workers"
    process = start(command(folder, store, "--workers", "2"))
    killed, before = 0, 0
    while process.poll() is None:
        time.sleep(0.2)
        if killed == 2 or cells_in(store) < before + 3:  # a cell that loses three workers fails
            continue
        for pid in ours():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if pid != process.pid and b"loky" in line and b"resource_tracker" not in line:
                    os.kill(pid, signal.SIGKILL)
                    killed, before = killed + 1, cells_in(store)
                    break
    out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"exit {process.returncode}: {err}")
    compare(store, reference)
    nobody_left()
    print(f"worker: {killed} workers killed; cells {json.loads(out)['cells']}; equal to the undisturbed run")


def corrupt(folder: Path, reference: Path, times: int = 20) -> None:
    import shutil

    store = folder / "corrupt"
    shutil.copytree(reference, store)
    chunks = [
        p for name in ("numbers", "words", "done", "train_loss", "hard_outlier") for p in (store / name).rglob("*")
    ]
    chunks = [p for p in chunks if p.is_file() and p.name != "zarr.json"]
    recomputed, whole = 0, cells_in(reference)
    for number in range(times):
        chunk = random.choice(chunks)
        content = bytearray(chunk.read_bytes())
        if number % 4 == 3:
            chunk.unlink()
        elif number % 4 == 2:
            chunk.write_bytes(content[: random.randrange(len(content))])
        else:
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
            chunk.write_bytes(content)
        if cells_in(store) != whole - 1:
            raise SystemExit(f"damage to {chunk} was not seen")
        recomputed += whole - finish(folder, store, reference, "--workers", "1")["reused"]
    print(f"corrupt: {times} chunks damaged, {recomputed} cells computed again; equal to the undisturbed run")


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    place = folder / "tmpfs"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def disk(folder: Path, reference: Path) -> None:
    with mounted(folder, "1m") as place:
        store = place / "store"
        process = start(command(folder, store, "--workers", "2"))
        _, err = process.communicate(timeout=600)
        if process.returncode != 1 or "No space left on device" not in err or "Traceback" in err:
            raise SystemExit(f"full disk: exit {process.returncode}: {err}")
        nobody_left()
        found = compare(store, reference)
        remount(place, "size=50m")
        cells = finish(folder, store, reference)
        if cells["reused"] != found.cells.done:
            raise SystemExit(f"full disk: {found.cells.done} were finished, {cells['reused']} reused")
        print(f"disk: full after {found.cells.done} cells, exit 1: {err.strip()}; then taken up, equal")


def readonly(folder: Path, reference: Path) -> None:
    with mounted(folder, "50m") as place:
        store = place / "store"
        process = start(command(folder, store, "--workers", "2"))
        while cells_in(store) < 4:
            time.sleep(0.1)
        done = None
        for _ in range(400):  # refused while a file is open for writing
            done = subprocess.run(["mount", "-o", "remount,ro", str(place)], capture_output=True)
            if done.returncode == 0:
                break
            time.sleep(0.02)
        _, err = process.communicate(timeout=600)
        if process.returncode != 1 or "Read-only file system" not in err or "Traceback" in err:
            raise SystemExit(f"read-only: exit {process.returncode}: {err} {done}")
        nobody_left()
        found = compare(store, reference)
        remount(place, "rw")
        cells = finish(folder, store, reference)
        if cells["reused"] != found.cells.done:
            raise SystemExit(f"read-only: {found.cells.done} were finished, {cells['reused']} reused")
        print(f"readonly: after {found.cells.done} cells, exit 1: {err.strip()}; then taken up, equal")


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A scheduler and two workers of one thread each, as one starts them on a command line."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    scheduler = start(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    )
    processes = [scheduler]
    try:
        while not file.exists():
            time.sleep(0.1)
        address = ""
        while not address:
            with contextlib.suppress(ValueError, KeyError):
                address = json.loads(file.read_text())["address"]
            time.sleep(0.1)
        flags = ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder), "--no-nanny"]
        workers = [start([*dask, "worker", address, *flags]) for _ in range(2)]
        processes += workers
        yield address, workers
    finally:
        for process in processes:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def dask(folder: Path, reference: Path) -> None:
    with cluster(folder) as (address, workers):
        store = folder / "dask"
        process = start(command(folder, store, "--dask", address))
        while not (store / "zarr.json").exists() or fp.open_sweep(store).cells.done < 20:
            if process.poll() is not None:
                raise SystemExit(process.communicate()[1])
            time.sleep(0.2)
        os.killpg(workers[0].pid, signal.SIGKILL)
        before = fp.open_sweep(store).cells.done
        out, err = process.communicate(timeout=900)
        if process.returncode != 0:
            raise SystemExit(f"dask: exit {process.returncode}: {err}")
        compare(store, reference)
    nobody_left()
    print(f"dask: a worker killed after {before} cells; {json.loads(out)['cells']}; equal to the undisturbed run")


def cost(folder: Path, reference: Path) -> None:
    related = {"related": {"model": "catapult", "steps": 2}}
    axes = {"related.eta": {"range": [0.01, 1.0, 100]}, "related.lambda0": {"range": [0.5, 1.5, 100]}}

    def measured(name: str, workers: Any) -> None:
        began = time.perf_counter()
        found = fp.sweep(related, axes=axes, quantities=["ntk_limit"], store=folder / f"cost{name}", workers=workers)
        wall = time.perf_counter() - began
        own = float(found["seconds"].sum())
        print(
            f"cost, {name}: {wall:.1f} s for {found.cells.total} cells, {own:.1f} s of them computing: "
            f"{1e3 * (wall - own) / found.cells.total:.2f} ms a cell",
            flush=True,
        )

    measured("one process", 1)
    measured("two processes", 2)
    with cluster(folder) as (address, _):
        measured("dask", fp.Dask(address))


CASES = {f.__name__: f for f in (kill, worker, corrupt, disk, readonly, dask, cost)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="featurephase-sweeps-") as name:
        folder = Path(name)
        (folder / "experiment.toml").write_text(BASE)
        (folder / "sweep.toml").write_text(SWEEP)
        reference = folder / "reference"
        if set(options.cases) != {"cost"}:
            began = time.perf_counter()
            out, err = start(command(folder, reference, "--workers", "1")).communicate()
            print(
                f"undisturbed: {json.loads(out)['cells'] if out else err}, {time.perf_counter() - began:.1f} s",
                flush=True,
            )
        for case in options.cases:
            CASES[case](folder, reference)


if __name__ == "__main__":
    main()
