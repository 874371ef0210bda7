"""The limit n, d -> infinity: time and memory against the ceiling, and against what a user would use instead.

    python benchmarks/asymptotic.py                        # everything; prints one table
    python benchmarks/asymptotic.py recursion threshold    # some
    python benchmarks/asymptotic.py reference --reference PATH

Each measurement runs in a process of its own, so that its peak memory is its own. `--reference PATH` is a clone of
github.com/IdePHICS/benefit-reusing-batch, whose dmft.py solves the response-function equations of the same limit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE), str(HERE / "src")]
from tests import cases  # noqa: E402


def _peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _stream(steps: int, samples: int, *, growing: bool) -> float:
    """Seconds to read two (T, N) float64 histories once per step: whole, or as far as they have grown."""
    first, second = np.ones((steps, samples)), np.ones((steps, samples))
    begin = time.perf_counter()
    for t in range(1, steps + 1):
        rows = t if growing else steps
        first[:rows].sum()
        second[:rows].sum()
    return time.perf_counter() - begin


def recursion(_: argparse.Namespace) -> list[tuple[str, str]]:
    """N = 2e5, T = 200, m = 1 against streaming its two histories."""
    from featurephase.dynamics.asymptotic import PathAccuracy, run_replicate

    problem = cases.problem(steps=60)
    samples, steps = 200_000, 200
    begin = time.perf_counter()
    run = run_replicate(
        problem,
        4.0,
        np.random.SeedSequence(1),
        easy_basis=np.zeros((1, 0)),
        steps=steps,
        samples=samples,
        test=False,
        accuracy=PathAccuracy(capacity=None),
    )
    seconds, peak = time.perf_counter() - begin, _peak_gigabytes()
    whole, growing = _stream(steps, samples, growing=False), _stream(steps, samples, growing=True)
    return [
        ("N = 2e5, T = 200, m = 1", f"{seconds:.1f} s, {run.basis} directions, peak {peak:.2f} GB (bound 1.2)"),
        ("ratio to streaming two (T, N) histories once per step", f"{seconds / whole:.2f} (bound 4)"),
        ("ratio to streaming them as far as they have grown", f"{seconds / growing:.2f}"),
    ]


def threshold(_: argparse.Namespace) -> list[tuple[str, str]]:
    """delta_NN(60) of the one-neuron example to 2 % standard error."""
    from featurephase.analyses.threshold import threshold as solve

    problem = cases.problem(steps=60).replace(asymptotics={"samples": 40_000, "replicates": 8})
    begin = time.perf_counter()
    found = solve(problem, times=[60]).delta_nn[0]
    seconds = time.perf_counter() - begin
    relative = found.value_se / found.value
    return [
        ("delta_NN(60) of one neuron", f"{found.value:.2f} +- {found.value_se:.2f} ({relative:.1%}, bound 2 %)"),
        ("time", f"{seconds:.0f} s on {os.cpu_count()} cores (bound 180)"),
    ]


def hessian(_: argparse.Namespace) -> list[tuple[str, str]]:
    """m = 4, N = 1e5, T = 100, the Hessian at five times."""
    from featurephase.analyses.prediction import predict

    four = cases.problem(cases.EASY_AND_HARD, latent_dim=2, readout=[0.6, 0.5, 0.4, 0.3], steps=100)
    problem = four.replace(asymptotics={"samples": 100_000, "replicates": 2})
    begin = time.perf_counter()
    found = predict(problem, delta=12.0, times=[0, 10, 25, 50, 100])
    seconds = time.perf_counter() - begin
    run = found.runs[0]
    return [
        ("m = 4, N = 1e5, T = 100, 5 Hessians, 2 replicates", f"{seconds:.0f} s (bound 300), {run.basis} directions"),
        ("statuses", ", ".join(sorted({h.status for h in run.hessian}))),
    ]


def blocks(_: argparse.Namespace) -> list[tuple[str, str]]:
    """m = 32, N = 5e4, T = 50 with the block-diagonal Hessian."""
    from featurephase.analyses.prediction import predict

    mean_field = cases.problem(readout=[1 / 32] * 32, step_size=8.0, steps=50)
    problem = mean_field.replace(asymptotics={"samples": 50_000, "replicates": 2})
    begin = time.perf_counter()
    found = predict(problem, delta=8.0, times=[50])
    seconds = time.perf_counter() - begin
    return [
        ("m = 32, N = 5e4, T = 50, block Hessian, 2 replicates", f"{seconds:.0f} s (bound 600)"),
        ("directions, status", f"{found.runs[0].basis}, {found.status}"),
    ]


def reference(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Response-function code at equal standard error of theta_1 . e1 (dense runs at t = 19: .316 +- .002)."""
    if options.reference is None or not (Path(options.reference) / "dmft.py").is_file():
        return [("response-function code", "skipped: give a clone of IdePHICS/benefit-reusing-batch by --reference")]
    from featurephase.dynamics.asymptotic import run_replicate

    spec = importlib.util.spec_from_file_location("dmft", Path(options.reference) / "dmft.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = []
    for steps, theirs, ours in ((19, 20_000, 40_000), (39, 8_000, 40_000)):
        repeats = 16
        begin = time.process_time()
        stderr, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115 (its progress bars)
        try:
            values = [
                module.DMFT(3.0, 0.2, 0.0, steps + 1, 2, 2, "TEST", theirs)[0][steps, 0, 0] for _ in range(repeats)
            ]
        finally:
            sys.stderr.close()
            sys.stderr = stderr
        their_cost = (time.process_time() - begin) / repeats * np.var(values, ddof=1)
        problem = cases.problem(
            "tanh(g1 + g2**3 - 3*g2)",
            latent_dim=2,
            activation="relu",
            readout=[0.5**0.5, -(0.5**0.5)],
            step_size=0.6,
            steps=steps,
        )
        begin = time.process_time()
        runs = [
            run_replicate(problem, 3.0, np.random.SeedSequence(i), samples=ours, test=False).overlap[steps, 0, 0]
            for i in range(4 * repeats)
        ]
        our_cost = (time.process_time() - begin) / len(runs) * np.var(runs, ddof=1)
        rows += [
            (
                f"theta_1 . e1 at t = {steps}: response functions, recursion",
                f"{np.mean(values):.3f} (sd {np.std(values, ddof=1):.3f}), "
                f"{np.mean(runs):.4f} (sd {np.std(runs, ddof=1):.4f})",
            ),
            ("time at equal standard error, ratio", f"{their_cost / our_cost:.0f} (bound 50)"),
        ]
    return rows


MEASUREMENTS = {f.__name__: f for f in (recursion, threshold, hessian, blocks, reference)}


def main() -> None:
    """Run the measurements asked for, each in its own process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--reference", metavar="PATH", help="clone of IdePHICS/benefit-reusing-batch")
    parser.add_argument("--inside", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(MEASUREMENTS[options.inside](options)))
        return
    if unknown := [n for n in options.names if n not in MEASUREMENTS]:
        parser.error(f"unknown measurement {unknown[0]!r}; there are {', '.join(MEASUREMENTS)}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for name in options.names or MEASUREMENTS:
        command = [sys.executable, __file__, "--inside", name]
        command += ["--reference", options.reference] if options.reference else []
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        print(f"{name}: {MEASUREMENTS[name].__doc__}")
        for label, figure in json.loads(done.stdout.splitlines()[-1]):
            print(f"    {label:<58} {figure}")


if __name__ == "__main__":
    main()
