"""simulate: methods agree, documents are complete, awkward cases are handled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featurephase.analyses.simulation import simulate
from featurephase.escape.detection import hard_overlap, median_and_se
from featurephase.escape.law import predicted_escape
from featurephase.foundation.errors import InputError, Interrupted, MemoryLimitError
from featurephase.foundation.executors import Processes, replicate_seeds
from featurephase.foundation.memory import require_memory
from featurephase.problem import Problem, Student
from featurephase.problem.data import UserData, load_data
from featurephase.subspaces import problem_subspaces

from .. import cases


def problem(link="1.5*tanh(g1**2)", activation="gelu", steps=5, k=1, **student) -> Problem:
    student = Student(activation, student.pop("readout", [1.0]), **student)
    return cases.problem(link, latent_dim=k, easy_basis=np.zeros((k, 0)), student=student, steps=steps)


QUICK = {"recovery": False, "predicted": False, "workers": 1}


def test_methods_agree_and_documents_are_complete():
    found = {
        m: simulate(problem(), dimension=40, delta=3.0, method=m, seeds=30, **QUICK) for m in ("dense", "implicit")
    }
    a, b = (found[m].runs[0] for m in found)
    for name in ("train_loss", "test_loss", "gram", "hard_overlap"):
        x, y = getattr(a, name), getattr(b, name)
        se = np.hypot(getattr(a, f"{name}_se"), getattr(b, f"{name}_se"))
        assert np.all(np.abs(x - y) <= 4.5 * se + 1e-12), name
    document = json.loads(json.dumps(found["dense"].to_dict(), allow_nan=False))
    run = document["runs"][0]
    assert (run["dimension"], run["samples"], run["replicates"], len(run["hard_overlap"])) == (40, 120, 30, 6)
    assert set(run["grokking"]) >= {"train_time", "test_time", "delay", "predicted_time"}
    assert all(
        f"{key}_se" in run["grokking"] for key in run["grokking"] if not key.endswith("_se") and key != "message"
    )
    (h,) = run["hessian"]
    assert len(h["smallest"]) == len(h["largest"]) == len(h["hard_overlaps"]) == 4
    assert found["implicit"].runs[0].hessian[0].smallest is None
    assert "dense" in found["implicit"].message
    assert found["implicit"].ok


def test_the_prediction_shares_no_random_numbers_with_any_run(monkeypatch):
    """Neither with the seeds of the same experiment, nor with those of one seeded next to it."""
    used = []

    def record(function, tasks, **_):
        used.extend(argument for task in tasks for argument in task if isinstance(argument, np.random.SeedSequence))
        raise ValueError("recorded")

    monkeypatch.setattr("featurephase.escape.law.run_tasks", record)
    with pytest.raises(ValueError, match="recorded"):
        predicted_escape(problem(), 8.0, 20, problem_subspaces(problem()))
    words = lambda seed: tuple(seed.generate_state(4))  # noqa: E731
    others = {words(s) for seed in range(4) for s in replicate_seeds(seed, 50)}
    assert len(used) == 4
    assert not {words(s) for s in used} & others
    assert len({words(s) for s in used} | {words(s) for s in replicate_seeds(0, 4, 2)}) == 8


def test_same_seed_same_bytes():
    a, b = (simulate(problem(), dimension=30, delta=2.0, seeds=2, **QUICK).to_dict() for _ in range(2))
    assert json.dumps(a) == json.dumps(b)


def test_hessian_is_that_of_the_full_risk():
    """Weight decay shifts every eigenvalue by its coefficient; the start is the same."""
    plain = problem(steps=0)
    decayed = plain.replace(training={"weight_decay": 0.5})
    a, b = (simulate(p, dimension=20, delta=3.0, seeds=2, **QUICK).runs[0].hessian[0] for p in (plain, decayed))
    np.testing.assert_allclose(b.smallest, a.smallest + 0.5, atol=1e-10)


def test_recovery_looks_at_the_trend_in_the_dimension():
    hard = simulate(problem(steps=3), dimension=640, delta=2.0, seeds=8, method="implicit", predicted=False, workers=1)
    (found,) = hard.runs[0].recovery
    assert found.verdict == "none"
    document = hard.to_dict()["runs"][0]
    assert document["recovery"] == ["none"]
    assert document["recovery_evidence"][0]["dimensions"] == [40, 160, 640]
    assert found.dimensions == (40, 160, 640)
    assert abs(found.exponent + 0.5) < 4 * found.exponent_se
    easy = problem("tanh(3*g1)", "tanh", steps=20)  # declared hard: the capture is what counts here
    (found,) = (
        simulate(easy, dimension=640, delta=20.0, seeds=2, method="implicit", predicted=False, workers=1)
        .runs[0]
        .recovery
    )
    assert found.verdict == "strong"
    assert found.capture > 0.95
    noisy = problem("tanh(g1) + 2*e1", "tanh", steps=20)
    (found,) = (
        simulate(noisy, dimension=640, delta=1.0, seeds=8, method="implicit", predicted=False, workers=1)
        .runs[0]
        .recovery
    )
    assert found.verdict == "weak"


@pytest.mark.slow
def test_grokking_is_timed_and_predicted():
    """Well above the transition every seed escapes; the measured median lies in the predicted interval."""
    p = problem(steps=150)
    run = simulate(p, dimension=300, delta=60.0, seeds=6, method="implicit", recovery=False, workers=1).runs[0]
    g = run.grokking
    assert g.fraction == 1.0
    assert 0 < g.train_time <= g.test_time
    assert g.fraction_se == 0.0
    assert g.predicted_low_se >= 0  # quantiles are whole steps: replicates may agree on one
    assert g.predicted_high_se > 0
    assert g.predicted_low <= g.escape_time <= g.predicted_high


def test_no_grokking_is_predicted_below_the_transition():
    """delta = 6: the outlier vanishes within a few steps and is looked at to step 120; the document has the reason."""
    found = simulate(problem(steps=40), dimension=2000, delta=6.0, seeds=2, method="implicit", recovery=False)
    g = found.to_dict()["runs"][0]["grokking"]
    assert g["predicted_time"] == "nan"
    assert "no hard outlier stands left of the bulk and below 0 at step 120" in g["message"]
    assert g["message"] in found.table()
    assert found.ok


@pytest.mark.parametrize(
    ("link", "keys"),
    [
        ("0.7 + 0*g1", {}),  # constant labels
        ("0*g1", {"init_norm": 0.0}),  # nothing at all: zero variance
        ("tanh(g1)", {"readout": [1.0, 1.0], "init_gram": [[1.0, 1.0], [1.0, 1.0]]}),  # duplicate neurons
    ],
)
@pytest.mark.parametrize("method", ["dense", "implicit"])
def test_degenerate_problems(link, keys, method):
    run = simulate(problem(link, **keys), dimension=12, delta=2.0, seeds=3, method=method, **QUICK).runs[0]
    assert run.status == "ok"
    assert np.all(np.isfinite(run.train_loss))
    assert np.all(np.isfinite(run.hard_overlap))


@pytest.mark.parametrize("method", ["dense", "implicit"])
@pytest.mark.parametrize(("d", "delta"), [(6, 3.0), (40, 0.1)])
def test_fewer_dimensions_than_steps_and_fewer_samples_than_dimensions(method, d, delta):
    run = simulate(problem(steps=40), dimension=d, delta=delta, seeds=2, method=method, **QUICK).runs[0]
    assert np.all(np.isfinite(run.gram))


def test_divergence_is_a_status():
    found = simulate(
        problem(activation="h**2", steps=30).replace(training={"step_size": 50.0}),
        dimension=20,
        delta=2.0,
        seeds=2,
        method="dense",
        **QUICK,
    )
    assert found.status.startswith("diverged at step")
    assert not found.ok
    assert found.runs[0].hessian[0].status == found.status


def test_one_seed_has_no_standard_error():
    found = simulate(problem(), dimension=20, delta=[2.0, 3.0], seeds=1, method="implicit", **QUICK)
    assert np.all(np.isnan(found.runs[0].train_loss_se))
    (warning,) = found.warnings
    assert "standard error" in warning


def test_interruption_keeps_what_was_finished(monkeypatch, tmp_path, capsys):
    from featurephase.analyses.seeds import FiniteSize
    from featurephase.cli.app import run

    whole = FiniteSize.run

    def interrupted(size, *arguments, **options):
        if size.delta == 4.0:
            raise KeyboardInterrupt
        return whole(size, *arguments, **options)

    monkeypatch.setattr(FiniteSize, "run", interrupted)
    with pytest.raises(Interrupted, match="not finished at delta = 4, 5") as stop:
        simulate(problem(), dimension=20, delta=[3.0, 4.0, 5.0], seeds=2, **QUICK)
    assert [r.delta for r in stop.value.result.runs] == [3.0]
    assert not stop.value.result.ok
    with pytest.raises(KeyboardInterrupt) as stop:
        simulate(problem(), dimension=20, delta=4.0, seeds=2, **QUICK)
    assert not isinstance(stop.value, Interrupted)

    path, kept = tmp_path / "p.toml", tmp_path / "kept.nc"
    path.write_text(problem().to_toml())
    flags = ["--dimension", "20", "--seeds", "2", "--no-recovery", "--no-prediction", "--quiet"]
    arguments = ["simulate", str(path), "--delta", "3", "--delta", "4", *flags]
    assert run([*arguments, "--json", "--save", str(kept)]) == 130
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "interrupted"
    assert [r["delta"] for r in document["runs"]] == [3.0]
    assert kept.exists()
    assert run(arguments) == 130
    assert "not finished at delta = 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"dimension": None}, "no dimension"),
        ({"dimension": 0}, "whole number"),
        ({"dimension": 1}, "at least latent_dim"),
        ({"delta": 0.001}, "at least 1"),
        ({"method": "exact"}, "dense or implicit"),
        ({"seeds": 0}, "seeds = 0"),
        ({"start": "zero"}, "orthonormal"),
        ({"times": [9]}, "from 0 to 5"),
    ],
)
def test_impossible_requests(keys, why):
    with pytest.raises(InputError, match=why):
        simulate(problem(), **({"dimension": 20, "delta": 2.0, **QUICK} | keys))


@pytest.mark.parametrize("method", ["dense", "implicit"])
def test_more_memory_than_there_is_is_refused_with_the_estimate(method):
    with pytest.raises(MemoryLimitError, match=r"needs .*iB .* and .* are available"):
        simulate(problem(steps=50), dimension=10**6, delta=10**5, method=method, **QUICK)


def test_every_delta_is_checked_before_the_first_runs(monkeypatch):
    monkeypatch.setattr(Processes, "run", lambda *_, **__: pytest.fail("something ran"))
    for impossible, why in ((1e6, "are available"), (1e-3, "at least 1"), (1e308, "at most")):
        with pytest.raises(InputError, match=why):
            simulate(problem(), dimension=60, delta=[4.0, impossible], method="dense", **QUICK)


def test_an_escape_prediction_that_does_not_fit_is_left_out_with_the_reason(monkeypatch):
    """It is an extra: what was asked for stands."""
    monkeypatch.setattr("featurephase.escape.law.require_growth_memory", lambda *_: require_memory(1e18, "the escape"))
    found = simulate(problem(), dimension=20, delta=3.0, seeds=2, recovery=False)
    assert found.ok
    assert np.isnan(found.runs[0].grokking.predicted_time)
    assert found.runs[0].grokking.message.startswith("no escape time: the escape needs 9.09e+05 TiB of memory and")
    assert "no escape time" in found.table()


def test_user_data(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 10)) @ rng.standard_normal((10, 10)) + 3.0
    y = np.tanh(x[:, 0])
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "xy.npz", x=x, y=y)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header=",".join("abcdefghij"), comments="")
    np.savetxt(tmp_path / "y.csv", y)
    data = load_data(tmp_path / "x.npy", labels=tmp_path / "y.csv", whiten=True)
    np.testing.assert_allclose(data.features.T @ data.features / 200, np.eye(10), atol=1e-10)
    np.testing.assert_allclose(load_data(tmp_path / "x.csv").features, x)
    np.testing.assert_allclose(load_data(tmp_path / "xy.npz", labels=tmp_path / "xy.npz").labels, y)
    np.testing.assert_allclose(load_data(tmp_path / "xy.npz").labels, y)  # without being asked for
    np.savez(tmp_path / "only.npz", x=x)
    assert load_data(tmp_path / "only.npz").labels is None
    run = simulate(problem(), data=data, seeds=3, **QUICK).runs[0]
    assert (run.dimension, run.samples, run.method) == (10, 160, "dense")
    assert np.all(np.isfinite(run.test_loss))
    assert np.all(np.isnan(run.overlap))  # labels from a file: nobody knows the latent directions
    assert np.all(np.isnan(run.hessian[0].hard_overlaps))
    assert np.all(np.isfinite(run.hessian[0].smallest))
    assert "nobody knows latent directions" in run.message
    by_link = simulate(problem(), data=UserData(data.features), seeds=3, **QUICK).runs[0]
    assert np.all(np.isfinite(by_link.overlap))
    assert np.all(np.isfinite(by_link.hessian[0].hard_overlaps))
    assert by_link.message == ""
    labelled = simulate(problem(), data=data, seeds=3, **QUICK)
    assert "U_H" not in labelled.table()
    assert "nobody knows" in labelled.message
    assert labelled.ok
    none = simulate(problem(), data=UserData(data.features, held_out=0.0), seeds=3, **QUICK)
    assert np.all(np.isnan(none.runs[0].test_loss))
    assert none.message == none.runs[0].message == "no row is held out (held_out = 0), so there is no test loss"


def test_methods_may_differ_from_delta_to_delta(tmp_path):
    """Each run keeps what its own method has: the spectrum, or nothing with a reason."""
    import xarray

    found = simulate(problem(), dimension=60, delta=[4.0, 2000.0], seeds=2, **QUICK)
    assert (found.method, [run.method for run in found.runs]) == ("dense, implicit", ["dense", "implicit"])
    dense, implicit = (run["hessian"][0] for run in found.to_dict()["runs"])
    assert len(dense["smallest"]) == len(dense["smallest_se"]) == 4
    for key in ("smallest", "smallest_se", "largest", "largest_se", "hard_overlaps", "hard_overlaps_se"):
        assert implicit[key] is None
    with xarray.open_dataset(found.save(tmp_path / "mix.nc"), engine="h5netcdf") as saved:
        np.testing.assert_array_equal(saved["smallest"][0, 0], found.runs[0].hessian[0].smallest)
        assert np.all(np.isnan(saved["smallest"][1]))


def test_an_eigensolver_that_does_not_converge_is_a_status(monkeypatch):
    from dataclasses import replace

    from featurephase.analyses import seeds

    def loose(*arguments, **keys):
        low, high = extreme_eigenpairs(*arguments, **keys)
        return replace(low, converged=False), high

    extreme_eigenpairs = seeds.extreme_eigenpairs
    monkeypatch.setattr(seeds, "extreme_eigenpairs", loose)
    found = simulate(problem(), dimension=20, delta=3.0, seeds=2, method="dense", **QUICK)
    (entry,) = found.runs[0].hessian
    assert (found.status, entry.status) == ("not-converged", "not-converged")
    assert "did not reach its tolerance" in entry.message
    assert np.all(np.isfinite(entry.smallest))
    assert entry.message in found.table()


def test_user_data_that_is_not_data(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(5.0))
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "flat.npy", np.ones((9, 4)))
    np.save(tmp_path / "object.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.save(tmp_path / "good.npy", np.eye(4))
    (tmp_path / "words.csv").write_text("a,b\nc,d\n")
    for name, why in (
        ("one.npy", "rows and d"),
        ("nan.npy", "not finite"),
        ("object.npy", "not a .npy"),
        ("words.csv", "not a .csv"),
        ("absent.npy", "cannot read"),
        ("x.txt", "must end in"),
    ):
        with pytest.raises(InputError, match=why):
            load_data(tmp_path / name)
    with pytest.raises(InputError, match="variance"):
        load_data(tmp_path / "flat.npy", whiten=True)
    with pytest.raises(InputError, match="one number for each"):
        load_data(tmp_path / "good.npy", labels=tmp_path / "one.npy")


def test_the_first_row_of_a_csv_file_is_never_lost(tmp_path):
    """It is names where no cell is a number; a bad cell among numbers is named, whatever its row."""
    path = tmp_path / "x.csv"
    numbers = "1,2,3\n4,5,6\n7,8,9\n"
    for text, encoding in ((numbers, "utf-8"), (numbers, "utf-8-sig"), ("a,b,c\n" + numbers, "utf-8-sig")):
        path.write_text(text, encoding=encoding)
        np.testing.assert_array_equal(load_data(path).features, np.arange(1.0, 10.0).reshape(3, 3))
    for text, where in (
        ("1,2,x\n" + numbers, r"row 1, cell 3: 'x' where a number is needed; a first row of names has no numbers"),
        ("1,,2\n" + numbers, "row 1, cell 2: '' where"),
        ("a,b,c\n\n" + numbers + "1,2 3,4\n", "row 6, cell 2: '2 3' where a number is needed$"),
        (numbers + "1,2\n", "number of columns"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=where):
            load_data(path)


def test_a_damaged_archive_is_refused_wherever_it_is_damaged(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal((20, 4)))
    whole = path.read_bytes()
    refused = set()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            load_data(path)
        except InputError as error:
            refused.add(type(error.__cause__).__name__)
    assert {"error", "BadZipFile"} <= refused  # zlib.error


def test_small_helpers():
    gram, overlap = np.array([[4.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert hard_overlap(gram, overlap, np.eye(2)[:, :1]) == 0.5
    assert hard_overlap(np.zeros((1, 1)), np.zeros((1, 1)), np.eye(1)) == 0.0
    assert median_and_se([1.0, 2.0, np.nan])[0] == 2.0
    assert np.isnan(median_and_se([1.0, np.nan, np.nan])[0])


def workers_of(parent: int) -> list[int]:
    """Its descendants that compute (Linux)."""
    found, waiting = [], [parent]
    while waiting:
        tasks = Path(f"/proc/{waiting.pop()}/task")  # any thread may have started one
        children = [child for thread in tasks.iterdir() for child in (thread / "children").read_text().split()]
        waiting += map(int, children)
        found += [int(c) for c in children if b"popen_loky" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return found


def started(folder, command: str, *flags: str) -> subprocess.Popen[bytes]:
    """A command of some minutes on a small experiment, when it computes in two processes."""
    (folder / "p.toml").write_text(problem(steps=STEPS[command]).replace(run={"delta": [4.0]}).to_toml())
    arguments = [command, "p.toml", "--dimension", "400", "--workers", "2", *flags, "--save", "out.nc"]
    process = subprocess.Popen(
        [sys.executable, "-m", "featurephase", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    end = time.monotonic() + 100
    while not workers_of(process.pid):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"no workers: {process.communicate()}")
        time.sleep(0.1)
    return process


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the workers in /proc")
LONG = {"simulate": ("--method", "dense", "--time", "0"), "compare": ("--seeds", "400")}
#: Single tasks are short: an error of one is said when those that run beside it are done.
STEPS = {"simulate": 4000, "compare": 400}


@needs_proc
@pytest.mark.parametrize("command", LONG)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_leaves_nothing_half_done(tmp_path, number, command):
    """Ctrl-C or a termination in the middle: exit code 130, no traceback, no file."""
    process = started(tmp_path, command, *LONG[command])
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert [f.name for f in tmp_path.iterdir()] == ["p.toml"]


@needs_proc
@pytest.mark.parametrize("command", LONG)
def test_workers_that_are_always_killed_are_one_line_and_no_file(tmp_path, command):
    """What the kernel does when memory runs out, time and again: exit code 1, and nothing that looks like a result."""
    process = started(tmp_path, command, *LONG[command])
    end = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < end:
        for worker in workers_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.2)
    process.kill()
    out, err = process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert b"Traceback" not in err
    assert err.count(b"error: ") == 1
    assert [f.name for f in tmp_path.iterdir()] == ["p.toml"]


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    found = simulate(problem(), dimension=20, delta=2.0, seeds=2, **QUICK)
    path = found.save(tmp_path / "a.nc")
    before = path.read_bytes()

    def half(target, content):
        with target.open("wb") as file:
            file.write(content[:4])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        found.save(path)
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["a.nc"]
