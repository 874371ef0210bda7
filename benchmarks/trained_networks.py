"""What training the second layer and the biases does to delta_NN and to grokking, for three problems.

    python benchmarks/trained_networks.py                  all of docs/trained-networks.md: an hour of CPU
    python benchmarks/trained_networks.py --problems one   one of them

Each problem is trained three ways: the first layer alone, with the read-out, with the read-out and all biases. For each
way: delta_NN(t) at two times, and at three values of n/d the times at which the losses fall in runs at finite d. A cell
that is finished is kept in a file (``--store``), which a restart reuses; a Ctrl-C loses the cell that runs. Prints the
tables and draws the figure of the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featurephase.analyses.simulation import simulate
from featurephase.analyses.threshold import threshold
from featurephase.foundation.files import write_text
from featurephase.present.figures import PALETTE, house_style, new_figure
from featurephase.problem import Asymptotics, GradientDescent, Problem, Student, Teacher
from featurephase.results.words import with_error
from featurephase.subspaces import problem_subspaces
from featurephase.thresholds.algorithmic import algorithmic_threshold

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "trained-networks.png"
#: Which rates are on: of the read-out, and of the biases.
WAYS = {"first layer alone": (0, 0), "and read-out": (1, 0), "and read-out and biases": (1, 1)}
#: Where delta_NN is looked for.
SEARCHED = (1.0, 200.0)


@dataclass(frozen=True)
class Setting:
    """A problem: ``rate`` is that of everything in the second layer where it is trained.

    ``times`` of delta_NN(t), ``paths`` and ``replicates`` of the limit, for standard errors of 1 % (exclusive or, which
    costs most: 5 % at the later time); ``deltas``, ``dimension``, ``steps`` and ``seeds`` of the runs at
    finite size.
    """

    title: str
    teacher: Teacher
    student: Student
    loss: str
    step_size: float
    steps: int
    paths: int
    deltas: tuple[float, ...]
    rate: float = 0.2
    times: tuple[int, ...] = (10, 60)
    replicates: int = 8
    dimension: int = 200
    seeds: int = 24

    def problem(self, way: str) -> Problem:
        """The problem trained in one of the :data:`WAYS`."""
        readout, biases = (self.rate * on for on in WAYS[way])
        training = GradientDescent(
            step_size=self.step_size,
            steps=self.steps,
            readout_step_size=readout,
            bias_step_size=biases,
            output_bias_step_size=biases,
        )
        asymptotics = Asymptotics(samples=self.paths, replicates=self.replicates)
        return Problem(
            teacher=self.teacher, student=self.student, loss=self.loss, training=training, asymptotics=asymptotics
        )


SETTINGS = {
    "one": Setting(
        "one neuron on an even response",
        Teacher(1, "1.5*tanh(g1**2)"),
        Student("gelu", [1.0]),
        "squared",
        step_size=0.8,
        steps=300,
        paths=12_000,
        deltas=(24.0, 36.0, 60.0),
    ),
    "three": Setting(
        "three classes, two neurons",
        Teacher(2, classes=3, logits=["1.5*g1", "2*(g2**2 - 1)", "0"]),
        Student("gelu", [[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]], bias=[0.1, -0.2]),
        "cross_entropy",
        step_size=1.5,
        steps=150,
        paths=20_000,
        deltas=(16.0, 24.0, 48.0),
    ),
    "xor": Setting(
        "exclusive or, four neurons",
        Teacher(2, classes=2, logits=["0", "g1*g2"], decision="argmax"),
        Student("gelu", [1.0, 1.0, -1.0, -1.0]),
        "logistic",
        step_size=1.0,
        steps=100,
        paths=4_000,
        deltas=(24.0, 48.0),
        seeds=16,
    ),
}


def thresholds(setting: Setting, way: str, workers: int) -> dict[str, Any]:
    """delta_NN at each time, with its error and its status; delta_alg is the same in all ways."""
    problem = setting.problem(way)
    spaces = problem_subspaces(problem)
    known = algorithmic_threshold(problem.teacher, spaces, quiet=True)
    answer = threshold(
        problem,
        times=setting.times,
        limit=False,
        delta_range=SEARCHED,
        subspaces=spaces,
        algorithmic=known,
        quiet=True,
        workers=workers,
    )
    return {
        "delta_alg": [known.delta_alg, known.error],
        "delta_nn": [[t.value, t.value_se, str(t.status)] for t in answer.delta_nn],
    }


def grokking(setting: Setting, way: str, delta: float, workers: int) -> dict[str, Any]:
    """Medians over the seeds of the steps at which losses and accuracies have made half of their way; the last ones."""
    run = simulate(
        setting.problem(way),
        dimension=setting.dimension,
        delta=delta,
        method="implicit",
        seeds=setting.seeds,
        recovery=False,
        predicted=False,
        workers=workers,
    ).runs[0]
    medians = ("train_time", "test_time", "delay", "fraction", "escape_time", "accuracy_delay")
    found = {n: [getattr(run.grokking, n), getattr(run.grokking, f"{n}_se")] for n in medians}
    means = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    found |= {n: [getattr(run, n)[-1], getattr(run, f"{n}_se")[-1]] for n in means if getattr(run, n) is not None}
    return {n: [float(x) for x in pair] for n, pair in found.items() if pair[0] is not None}


def measured(names: list[str], store: Path, workers: int) -> dict[str, Any]:
    """Everything asked for, from the store where it is there."""
    found: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    for name in names:
        setting = SETTINGS[name]
        cells: dict[str, Callable[[], dict[str, Any]]] = {}
        for way in WAYS:
            cells[f"{name}, {way}, thresholds"] = partial(thresholds, setting, way, workers)
            for delta in setting.deltas:
                cells[f"{name}, {way}, grokking at {delta:g}"] = partial(grokking, setting, way, delta, workers)
        for key, cell in cells.items():
            if key not in found:
                found[key] = cell()
                write_text(store, json.dumps(found, indent=1), overwrite=True)
                print(key, found[key], flush=True)
    return found


def _words(pair: list[Any]) -> str:
    value, error = pair[:2]
    return with_error(value, error).replace("+-", "±") if np.isfinite(value) else "-"


def _table(heads: list[str], rows: dict[str, list[str]]) -> None:
    print("\n| trained | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
    for way, cells in rows.items():
        print(f"| {way} | " + " | ".join(cells) + " |")


def tables(names: list[str], found: dict[str, Any]) -> None:
    """The tables of the page, in Markdown."""
    for name in names:
        setting = SETTINGS[name]
        late = {
            (way, delta): found[f"{name}, {way}, grokking at {delta:g}"] for way in WAYS for delta in setting.deltas
        }
        limits = {way: found[f"{name}, {way}, thresholds"] for way in WAYS}
        print(f"\n{setting.title}: delta_alg {_words(next(iter(limits.values()))['delta_alg'])}")
        _table(
            [f"$\\delta_{{NN}}({t})$" for t in setting.times],
            {way: [_words(t) for t in limits[way]["delta_nn"]] for way in WAYS},
        )
        for n in late[next(iter(late))]:
            rows = {way: [_words(late[way, delta][n]) for delta in setting.deltas] for way in WAYS}
            print(f"\n{n}", end="")
            _table([f"$n/d = {delta:g}$" for delta in setting.deltas], rows)


@house_style()
def draw(names: list[str], found: dict[str, Any]) -> None:
    """delta_NN(t); below, against n/d, the delay of the test loss, and the step from which hard directions dominate."""
    figure = new_figure(2.9 * len(names), 6.6)
    axes = figure.subplots(3, len(names), squeeze=False)
    for j, name in enumerate(names):
        setting = SETTINGS[name]
        for i, (way, colour) in enumerate(zip(WAYS, PALETTE, strict=False)):
            points = np.array([t[:2] for t in found[f"{name}, {way}, thresholds"]["delta_nn"]], dtype=float)
            style: dict[str, Any] = {"fmt": "o-", "ms": 4, "color": colour, "label": way, "capsize": 2}
            axes[0, j].errorbar(setting.times, points[:, 0], points[:, 1], **style)
            aside = np.array(setting.deltas) * 1.02 ** (i - 1)  # so that error bars do not cover each other
            for row, key in ((1, "delay"), (2, "escape_time")):
                late = np.array([found[f"{name}, {way}, grokking at {delta:g}"][key] for delta in setting.deltas])
                axes[row, j].errorbar(aside, late[:, 0], late[:, 1], **style)
        axes[0, j].set(title=setting.title, xlabel="step t", ylim=(0, None))
        for row in (1, 2):
            axes[row, j].set(xscale="log", xlabel=f"n/d, d = {setting.dimension}", xticks=setting.deltas)
            axes[row, j].set_xticks([], minor=True)
            axes[row, j].set_xticklabels([f"{delta:g}" for delta in setting.deltas])
        axes[2, j].set(ylim=(0, None))
    axes[0, 0].set_ylabel(r"$\delta_{NN}(t)$")
    axes[1, 0].set_ylabel("from training loss\nto test loss, steps")
    axes[2, 0].set_ylabel("hard directions\nlearned, step")
    axes[0, -1].legend(fontsize=8, loc="lower right")
    figure.savefig(FIGURE, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trained second layers: thresholds and grokking.")
    parser.add_argument("--problems", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--store", type=Path, default=Path("trained-networks.json"))
    options = parser.parse_args()
    found = measured(options.problems, options.store, options.workers)
    tables(options.problems, found)
    draw(options.problems, found)


if __name__ == "__main__":
    main()
