"""What training the second layer and the biases does to delta_NN and to grokking, for three problems.

    python benchmarks/trained_networks.py                  all of docs/trained-networks.md: five minutes of CPU
    python benchmarks/trained_networks.py --problems one   one of them

Each problem is trained three ways: the first layer alone, with the read-out, with the read-out and all biases. For each
way: delta_NN(t) at three times, and at one n/d above it the times at which the losses fall in runs at finite d. What is
finished is kept in a file (``--store``), which a restart reuses. Prints the tables and draws the figure of the page.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurephase.analyses.simulation import simulate
from featurephase.analyses.threshold import threshold
from featurephase.present.figures import PALETTE, house_style, new_figure
from featurephase.problem import Asymptotics, GradientDescent, Problem, Student, Teacher
from featurephase.subspaces import problem_subspaces
from featurephase.thresholds.algorithmic import algorithmic_threshold

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "trained-networks.png"
#: Which rates are on: of the read-out, and of the biases.
WAYS = {"first layer alone": (0, 0), "and read-out": (1, 0), "and read-out and biases": (1, 1)}


@dataclass(frozen=True)
class Setting:
    """A problem: ``rate`` is that of everything in the second layer where it is trained.

    ``times`` of delta_NN(t), ``paths`` and ``replicates`` of the limit; ``delta``, ``dimension``, ``steps`` and
    ``seeds`` of the runs at finite size.
    """

    title: str
    teacher: Teacher
    student: Student
    loss: str
    step_size: float
    steps: int
    rate: float = 0.2
    times: tuple[int, ...] = (10, 60)
    paths: int = 5_000
    replicates: int = 4
    delta: float = 24.0
    dimension: int = 200
    seeds: int = 8

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
        dimension=400,
        seeds=16,
    ),
    "three": Setting(
        "three classes, two neurons",
        Teacher(2, classes=3, logits=["1.5*g1", "2*(g2**2 - 1)", "0"]),
        Student("gelu", [[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]], bias=[0.1, -0.2]),
        "cross_entropy",
        step_size=1.5,
        steps=150,
    ),
    "xor": Setting(
        "exclusive or, four neurons",
        Teacher(2, classes=2, logits=["0", "g1*g2"], decision="argmax"),
        Student("gelu", [1.0, 1.0, -1.0, -1.0]),
        "logistic",
        step_size=1.0,
        steps=150,
    ),
}


def thresholds(setting: Setting, way: str) -> dict[str, Any]:
    """delta_NN at each time, with its error and its status; delta_alg is the same in all ways."""
    problem = setting.problem(way)
    spaces = problem_subspaces(problem)
    known = algorithmic_threshold(problem.teacher, spaces, quiet=True)
    answer = threshold(
        problem, times=setting.times, limit=False, subspaces=spaces, algorithmic=known, quiet=True, workers=1
    )
    return {
        "delta_alg": [known.delta_alg, known.error],
        "delta_nn": [[t.value, t.value_se, str(t.status)] for t in answer.delta_nn],
    }


def grokking(setting: Setting, way: str) -> dict[str, Any]:
    """Medians over the seeds of the steps at which the losses have made half of their drop, and the final losses."""
    run = simulate(
        setting.problem(way),
        dimension=setting.dimension,
        delta=setting.delta,
        method="implicit",
        seeds=setting.seeds,
        recovery=False,
        predicted=False,
        workers=1,
    ).runs[0]
    names = ("train_time", "test_time", "delay", "fraction", "escape_time")
    found = {n: [getattr(run.grokking, n), getattr(run.grokking, f"{n}_se")] for n in names}
    found |= {n: [getattr(run, n)[-1], getattr(run, f"{n}_se")[-1]] for n in ("train_loss", "test_loss")}
    if run.test_accuracy is not None:
        found |= {n: [getattr(run, n)[-1], getattr(run, f"{n}_se")[-1]] for n in ("train_accuracy", "test_accuracy")}
    return {n: [float(x) for x in pair] for n, pair in found.items()}


def measured(names: list[str], store: Path) -> dict[str, Any]:
    """Everything asked for, from the store where it is there."""
    found = json.loads(store.read_text()) if store.exists() else {}
    for name in names:
        for way in WAYS:
            for what in (thresholds, grokking):
                key = f"{name}, {way}, {what.__name__}"
                if key not in found:
                    found[key] = what(SETTINGS[name], way)
                    store.write_text(json.dumps(found, indent=1))
                    print(key, found[key], flush=True)
    return found


def _words(pair: list[Any]) -> str:
    value, error = pair[:2]
    if not np.isfinite(value):
        return "-"
    return f"{value:.3g} ± {error:.1g}"


def tables(names: list[str], found: dict[str, Any]) -> None:
    """The tables of the page, in Markdown."""
    for name in names:
        setting = SETTINGS[name]
        print(f"\n{setting.title}: delta_alg {_words(found[f'{name}, {next(iter(WAYS))}, thresholds']['delta_alg'])}\n")
        heads = [f"$t = {t}$" for t in setting.times]
        heads += ["training loss falls", "test loss falls", "hard directions learned"]
        print("| trained | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
        for way in WAYS:
            late = found[f"{name}, {way}, grokking"]
            cells = [_words(t) for t in found[f"{name}, {way}, thresholds"]["delta_nn"]]
            cells += [_words(late[n]) for n in ("train_time", "test_time", "escape_time")]
            print(f"| {way} | " + " | ".join(cells) + " |")


@house_style()
def draw(names: list[str], found: dict[str, Any]) -> None:
    """delta_NN(t) above, the times at which the losses fall below."""
    figure = new_figure(2.9 * len(names), 4.6)
    axes = figure.subplots(2, len(names), squeeze=False)
    for j, name in enumerate(names):
        setting = SETTINGS[name]
        for i, (way, colour) in enumerate(zip(WAYS, PALETTE, strict=False)):
            points = np.array([t[:2] for t in found[f"{name}, {way}, thresholds"]["delta_nn"]], dtype=float)
            axes[0, j].errorbar(setting.times, points[:, 0], points[:, 1], fmt="o-", ms=4, color=colour, label=way)
            late = found[f"{name}, {way}, grokking"]
            for key, marker in (("train_time", "o"), ("test_time", "s"), ("escape_time", "d")):
                axes[1, j].errorbar(*late[key][:1], i, xerr=late[key][1], fmt=marker, color=colour, ms=6, mfc="none")
            axes[1, j].plot([late["train_time"][0], late["test_time"][0]], [i, i], color=colour, lw=1)
        axes[0, j].set(title=setting.title, xlabel="step t", ylim=(0, None))
        axes[1, j].set(xlabel=f"step, n/d = {setting.delta:g}, d = {setting.dimension}", yticks=[], ylim=(-0.6, 2.6))
    axes[0, 0].set_ylabel(r"$\delta_{NN}(t)$")
    axes[0, -1].legend(fontsize=8, loc="lower right")
    axes[1, 0].set_ylabel("○ training, □ test loss falls\n◇ hard directions learned", fontsize=8)
    figure.savefig(FIGURE, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trained second layers: thresholds and grokking.")
    parser.add_argument("--problems", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--store", type=Path, default=Path("trained-networks.json"))
    options = parser.parse_args()
    found = measured(options.problems, options.store)
    tables(options.problems, found)
    draw(options.problems, found)


if __name__ == "__main__":
    main()
