"""Seconds of what people run first, beside a baseline: one table with the goals.

    python benchmarks/answers.py --baseline PATH            # everything; PATH is a checkout of the baseline
    python benchmarks/answers.py commands hessian           # some of it, without a baseline

Whole processes, interleaved: this checkout and the baseline take turns, `--repeats` times, and medians are compared. On
a machine that others use, CPU seconds (of the process and its children) say more than those of the clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE), str(HERE / "src")]
from tests import cases  # noqa: E402

#: No run may take longer than this; the baseline of some takes an hour.
LIMIT = 900.0

EIGHT = cases.file_with(
    link="flipped(sign, 0.1)",
    activation="tanh",
    readout=[0.125] * 8,
    name="logistic",
    step_size=2.0,
    steps=20,
    delta=[3.0],
    times=[20],
)
THREE = cases.file_with(
    latent_dim=3,
    link="1.5*tanh(g1**2) + 0.75*tanh(g2**2) + 0.3*tanh(g3**2)",
    readout=[0.5] * 3,
    step_size=1.0,
    steps=20,
    delta=[30.0],
    times=[20],
)
XOR = cases.file_with(
    latent_dim=2,
    link="sign(g1*g2)",
    readout=[0.5, 0.5, -0.5, -0.5],
    step_size=1.0,
    steps=30,
    delta=[20.0],
    times=[30],
)
FOUR = cases.file_with(latent_dim=2, link=cases.EASY_AND_HARD, readout=[0.6, 0.5, 0.4, 0.3], steps=60)

#: Hessians at the last step against the trajectory that led there: CPU seconds of one replicate with and without.
HESSIAN = """
import time, featurephase as fp
problem = fp.load({file!r}).replace(asymptotics={{"replicates": 2}})
fp.predict(problem.replace(asymptotics={{"samples": 20000}}), workers=1)
spent = []
for times in ((), (problem.training.steps,)):
    begin = time.process_time()
    fp.predict(problem, delta=problem.run.delta[-1], times=times, workers=1)
    spent.append(time.process_time() - begin)
print(spent[1] / spent[0] - 1.0)
"""

TANGENT = """
import time, numpy as np
try:
    from featurephase.escape.growth import hard_growth
    from featurephase.foundation.threads import blas_on_one_thread
except ImportError:  # before modules moved
    from featurephase.escape import hard_growth
    from featurephase.threads import blas_on_one_thread
from featurephase.problem import Problem
problem = Problem.from_toml('''{problem}''')
easy, hard = np.eye(2)[:, :1], np.eye(2)[:, 1:]
begin = time.process_time()
with blas_on_one_thread():
    hard_growth(problem, 12.0, np.random.SeedSequence(3), easy_basis=easy, hard_basis=hard)
print(time.process_time() - begin)
"""

NOTEBOOK = """
import time
begin = time.perf_counter()
import featurephase as fp
problem = fp.load({file!r}).replace(
    training={{"steps": 1}}, run={{"times": [1]}}, asymptotics={{"samples": 1000, "replicates": 2}}
)
found = fp.predict(problem, delta=4.0, times=[1])
first = time.perf_counter() - begin
begin = time.perf_counter()
fp.predict(problem, delta=4.0, times=[1])
print(first - (time.perf_counter() - begin))
"""


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes
    ----------
    what
        In words.
    command
        Arguments of ``python``.
    printed
        Whether the number is what the command prints; else it is the time of the whole process.
    ratio
        The baseline must take this many times longer; 0: there is no such goal.
    most
        The number may not be larger; inf: there is no such goal.
    """

    what: str
    command: tuple[str, ...]
    printed: bool = False
    ratio: float = 0.0
    most: float = float("inf")


def _featurephase(*arguments: str) -> tuple[str, ...]:
    return ("-m", "featurephase", *arguments, "--quiet")


def commands(folder: Path) -> Iterator[Measurement]:
    """What the README runs."""
    file = str(folder / "one-neuron.toml")
    for name, flags, ratio in (
        ("predict", (), 4.0),
        ("explain", ("--delta", "20"), 4.0),
        ("threshold", ("--time", "60"), 2.5),
    ):
        yield Measurement(" ".join((name, *flags)), _featurephase(name, file, *flags), ratio=ratio)
        yield Measurement(
            " ".join((name, *flags, "--quick")), _featurephase(name, file, *flags, "--quick"), ratio=5.0, most=5.0
        )


def hessian(folder: Path) -> Iterator[Measurement]:
    """The Hessian at one time against the trajectory that led to it."""
    for name, width in (("one-neuron", 1), ("two-neurons", 2)):
        script = HESSIAN.format(file=str(folder / f"{name}.toml"))
        yield Measurement(f"Hessian over trajectory, m = {width}", ("-c", script), printed=True, most=1.0)


def several(folder: Path) -> Iterator[Measurement]:
    """Several neurons with few sample paths: seconds."""
    for name, text, samples in (
        ("eight neurons, 2000 paths", EIGHT, 2000),
        ("three neurons, 2000 paths", THREE, 2000),
        ("three neurons, 8192 paths", THREE, 8192),
        ("XOR, four neurons, 2000 paths", XOR, 2000),
    ):
        file = folder / f"{name.replace(' ', '-').replace(',', '')}.toml"
        file.write_text(text)
        yield Measurement(name, _featurephase("predict", str(file), "--samples", str(samples)), most=10.0)


def tangent(_: Path) -> Iterator[Measurement]:
    """The tangent recursion of a wide network, one replicate."""
    yield Measurement("tangent recursion, m = 4, T = 60", ("-c", TANGENT.format(problem=FOUR)), printed=True, most=10.0)


def notebook(folder: Path) -> Iterator[Measurement]:
    """What import and a first call take outside the computation."""
    script = NOTEBOOK.format(file=str(folder / "one-neuron.toml"))
    yield Measurement("import and first predict, without the computation", ("-c", script), printed=True, most=1.0)


GROUPS = {f.__name__: f for f in (commands, hessian, several, tangent, notebook)}


def _run(measurement: Measurement, source: Path) -> tuple[float, float]:
    """The number of a measurement, and CPU seconds of the process and its children; nan, nan beyond the limit."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *measurement.command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return float("nan"), float("nan")
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(measurement.command)}: {done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (float(done.stdout) if measurement.printed else seconds), cpu


def _line(measurement: Measurement, sources: list[Path], repeats: int) -> str:
    values = [[_run(measurement, source) for source in sources] for _ in range(repeats)]
    number, cpu = ([statistics.median(row[i][j] for row in values) for i in range(len(sources))] for j in range(2))
    cells, goals = [f"{number[0]:.3g}", f"{cpu[0]:.3g}"], []
    if len(sources) > 1:
        beyond = number[1] != number[1]
        cells += ["-" if beyond else f"{number[1]:.3g}", "-" if beyond else f"{cpu[1]:.3g}"]
        cells += [f"> {LIMIT / number[0]:.0f}"] if beyond else [f"{number[1] / number[0]:.2f}, {cpu[1] / cpu[0]:.2f}"]
    if measurement.ratio:
        goals.append(f"ratio {measurement.ratio:g}")
    if measurement.most < float("inf"):
        goals.append(f"at most {measurement.most:g}")
    return f"| {measurement.what} | {' | '.join(cells)} | {', '.join(goals)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--baseline", metavar="PATH", type=Path, help="a checkout to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if unknown := [n for n in options.names if n not in GROUPS]:
        parser.error(f"unknown measurement {unknown[0]!r}; there are {', '.join(GROUPS)}")
    sources = [HERE / "src"]
    head = ["", "number", "CPU s"]
    if options.baseline is not None:
        sources.append(options.baseline.resolve() / "src")
        head += ["baseline", "CPU s", "ratio (number, CPU)"]
    print(f"| {' | '.join([*head, 'goal'])} |\n|{'---|' * (len(head) + 1)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for template in ("one-neuron", "two-neurons"):
            target = str(folder / f"{template}.toml")
            made = (sys.executable, "-m", "featurephase", "init", template, "-o", target)
            subprocess.run(made, env={**os.environ, "PYTHONPATH": str(sources[0])}, check=True, capture_output=True)
        for group in options.names or GROUPS:
            for measurement in GROUPS[group](folder):
                print(_line(measurement, sources, options.repeats), flush=True)


if __name__ == "__main__":
    main()
