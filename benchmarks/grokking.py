"""Grokking of a hard direction: test error against time from just below to well above the transition.

    python benchmarks/grokking.py                         d = 2000, 8000, 32000, 16 seeds: an hour or two on two cores
    python benchmarks/grokking.py --dimensions 300 --seeds 4 --store small     a minute
    python benchmarks/grokking.py --weight-decay 0        the same neuron without weight decay: hours

Above the transition (where the predicted law says that the plateau ends) a seed runs for one and a half predicted
medians, then longer by rounds, until its test loss has dropped and has had time to settle. Below, a seed runs for five
times the longest delay seen above at that dimension. Runs are implicit, with a basis that keeps directions of relative
size above 1e-5, far below the 1/sqrt(n) that drives escape.

With weight decay the plateau is a fixed point: just below the transition (10.8 at t = 120) an isolated outlier stands
left of the bulk and right of 0. Without, the edge of the bulk tends to 0 from below: the plateau is marginal, and below
the transition (16.3 at t = 60) finite runs leave it too, so that criterion fails there at delta = 14.

Each finished pair of d and delta is a file in the folder of ``--store``, which a restart reuses. Prints a row for each
pair and a verdict on each criterion (exit code 1 if one fails), and draws the figure of docs/escape.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurephase.dynamics.implicit import implicit_bytes, run_implicit
from featurephase.escape.detection import ESCAPE_LEVEL, grokking_times, hard_overlap, level_time, median_and_se
from featurephase.escape.growth import HardGrowth, hard_growth
from featurephase.escape.law import escape_law
from featurephase.foundation.executors import replicate_seeds, run_tasks
from featurephase.foundation.memory import available_memory, format_bytes
from featurephase.foundation.threads import core_count
from featurephase.present.figures import PALETTE, new_figure, write_figure
from featurephase.problem import GradientDescent, Problem, Student, Teacher

TOLERANCE = 1e-5
#: Of the tangent run: steps, sample paths, replicates.
LAW = {"steps": 200, "samples": 20_000, "replicates": 4}
#: The first horizon in predicted medians, and what a seed that has not dropped is given more.
FIRST, LONGER = 1.5, 1.6
#: Below the transition: in longest delays seen above.
BELOW = 5
#: What all runs at once may take.
MEMORY = 10e9
COLOURS_OF_PNG = 128


@dataclass(frozen=True)
class Setting:
    """The neuron's weight decay, its norm at the start, the transition, and five deltas from just below it.

    ``transition`` is for the figure only: ``featurephase threshold`` at t = 120 and 60.
    """

    weight_decay: float
    init_norm: float
    transition: float
    deltas: tuple[float, ...]

    def problem(self, steps: int) -> Problem:
        return Problem(
            teacher=Teacher(1, "1.5*tanh(g1**2)"),
            student=Student("gelu", [1.0], init_norm=self.init_norm),
            loss="squared",
            training=GradientDescent(0.8, steps, weight_decay=self.weight_decay),
        )


#: Starting near the norm of the plateau: else shrinking alone is a drop of the test loss.
SETTINGS = (
    Setting(0.3, 0.6, 10.8, (9.2, 13.0, 16.0, 23.0, 36.0)),
    Setting(0.0, 1.0, 16.3, (14.0, 22.0, 28.0, 40.0, 60.0)),
)


@dataclass(frozen=True)
class Seed:
    """One seed: its horizon, its times (nan: not within it), and its test loss."""

    horizon: int
    train_time: float
    test_time: float
    escape_time: float
    basis: int
    test_loss: list[float]

    @property
    def delay(self) -> float:
        return self.test_time - self.train_time

    @property
    def settled(self) -> bool:
        """Whether it has dropped, and long enough ago for the end of the curve to be the end of the drop."""
        return all(self.horizon >= 1.25 * t + 20 for t in (self.test_time, self.escape_time))  # False for nan


def one(setting: Setting, n: int, d: int, seed: np.random.SeedSequence, horizon: int) -> Seed:
    found = run_implicit(setting.problem(horizon), n, d, seed, tolerance=TOLERANCE)
    share = hard_overlap(found.gram, found.overlap, np.eye(1))
    times = grokking_times(found.train_loss, found.test_loss)
    losses = [float(f"{x:.5g}") for x in found.test_loss]
    escape = level_time(share, ESCAPE_LEVEL)
    return Seed(horizon, times.train_time, times.test_time, escape, found.basis, losses)


def run(setting: Setting, d: int, delta: float, seeds: list[Any], horizon: int) -> list[Seed]:
    """All seeds in as many processes as memory allows."""
    n = round(delta * d)
    directions = min(horizon, 40 + horizon // 3)  # measured at this tolerance: 59 in 100 steps, 114 in 300
    each = implicit_bytes(n, 1, 1, directions)
    allowed = min(MEMORY, available_memory())
    workers = max(1, min(core_count(), int(allowed / each)))
    print(
        f"  d = {d}, delta = {delta:g}: {len(seeds)} seeds for {horizon} steps, about {format_bytes(each)} each, "
        f"{workers} at once",
        file=sys.stderr,
        flush=True,
    )
    return run_tasks(one, [(setting, n, d, s, horizon) for s in seeds], label=f"d = {d}", workers=workers)


def until_dropped(setting: Setting, d: int, delta: float, seeds: list[Any], median: float, cap: int) -> list[Seed]:
    """Rounds of growing horizons (the same seed walks the same path again, further), each for those still waiting."""
    horizon = min(cap, math.ceil(FIRST * median) + 30)
    found = dict(enumerate(run(setting, d, delta, seeds, horizon)))
    while horizon < cap and (waiting := [i for i, s in found.items() if not s.settled]):
        horizon = min(cap, math.ceil(LONGER * horizon))
        found |= zip(waiting, run(setting, d, delta, [seeds[i] for i in waiting], horizon), strict=True)
    return list(found.values())


def growth(setting: Setting, delta: float, seed: np.random.SeedSequence) -> HardGrowth:
    return hard_growth(
        setting.problem(LAW["steps"]),
        delta,
        seed,
        easy_basis=np.zeros((1, 0)),
        hard_basis=np.eye(1),
        samples=LAW["samples"],
    )


def described(setting: Setting) -> dict[str, Any]:
    return {"weight_decay": setting.weight_decay, "init_norm": setting.init_norm}


def stored(path: Path, key: dict[str, Any]) -> Any:
    """What a file holds if it was made under the same key, else None."""
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    return document["found"] if document["key"] == key else None


def store(path: Path, key: dict[str, Any], found: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"key": key, "found": found}))
    os.replace(part, path)


def laws(folder: Path, setting: Setting, delta: float, dimensions: list[int]) -> dict[int, dict[str, Any]]:
    """The predicted law at each d."""
    path, key = folder / f"law-{delta:g}.json", LAW | described(setting) | {"delta": delta, "dimensions": dimensions}
    found = stored(path, key)
    if found is None:
        print(f"  tangent recursion at delta = {delta:g}", file=sys.stderr, flush=True)
        tasks = [(setting, delta, s) for s in replicate_seeds(1, LAW["replicates"])]
        growths = run_tasks(growth, tasks)
        found = {}
        for d in dimensions:
            law = escape_law(growths, d)
            found[str(d)] = {name: getattr(law, name) for name in ("status", "low", "median", "high")}
        store(path, key, found)
    return {int(d): law for d, law in found.items()}


def pair(setting: Setting, d: int, delta: float, arguments: argparse.Namespace, law: Any, longest: float) -> list[Seed]:
    """All seeds of one d and delta, from the store if they are there."""
    below = law["status"] == "stable"
    horizon = max(100, math.ceil(BELOW * longest)) if below else arguments.steps
    path = arguments.store / f"runs-{d}-{delta:g}.json"
    key = described(setting) | {
        "d": d,
        "delta": delta,
        "seeds": arguments.seeds,
        "tolerance": TOLERANCE,
        "below": below,
        "steps": horizon,
    }
    found = stored(path, key)
    if found is not None:
        return [Seed(**s) for s in found]
    seeds = replicate_seeds(d, arguments.seeds)
    if below:
        result = run(setting, d, delta, seeds, horizon)
    else:
        result = until_dropped(setting, d, delta, seeds, law["median"], horizon)
    store(path, key, [asdict(s) for s in result])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2000, 8000, 32000])
    decays = [s.weight_decay for s in SETTINGS]
    parser.add_argument("--weight-decay", type=float, choices=decays, default=decays[0])
    parser.add_argument("--deltas", type=float, nargs="+", help="default: five, fitting the weight decay")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1500, help="the longest horizon above the transition")
    parser.add_argument("--store", type=Path, default=Path("grokking-runs"))
    parser.add_argument("--figure", type=Path, default=Path("grokking.png"))
    arguments = parser.parse_args()
    arguments.store.mkdir(parents=True, exist_ok=True)
    setting = SETTINGS[decays.index(arguments.weight_decay)]
    deltas = sorted(arguments.deltas or setting.deltas)
    law = {delta: laws(arguments.store, setting, delta, arguments.dimensions) for delta in deltas}
    verdicts: list[tuple[bool, str]] = []
    runs: dict[tuple[int, float], list[Seed]] = {}
    print("|      d | delta | drops | median delay | median escape | predicted (90 %) | steps | basis |", flush=True)
    for d in arguments.dimensions:
        longest, delays = 0.0, []
        for delta in reversed(deltas):  # from above, because what is below waits for the longest delay
            predicted = law[delta][d]
            if not np.isfinite(predicted["median"]) and predicted["status"] != "stable":
                verdicts.append(
                    (False, f"d = {d}, delta = {delta:g}: {predicted['status']}, so there is no prediction")
                )
                continue
            found = runs[d, delta] = pair(setting, d, delta, arguments, predicted, longest)
            drops = float(np.mean([np.isfinite(s.test_time) for s in found]))
            delay, escape = (median_and_se(getattr(s, name) for s in found)[0] for name in ("delay", "escape_time"))
            low, middle, high = (predicted[name] for name in ("low", "median", "high"))
            words = "none: stable" if predicted["status"] == "stable" else f"{middle:.0f} ({low:.0f} to {high:.0f})"
            steps, basis = max(s.horizon for s in found), max(s.basis for s in found)
            print(
                f"| {d:6d} | {delta:5g} | {drops:4.0%} | {delay:.1f} | {escape:.1f} | {words} | {steps} | {basis} |",
                flush=True,
            )
            if predicted["status"] == "stable":
                words = f"d = {d}, delta = {delta:g}: no drop in {steps} steps ({drops:.0%})"
                verdicts.append((drops == 0.0 and longest > 0, words))
                continue
            longest = max([longest, *(s.delay for s in found if np.isfinite(s.delay))])
            delays.append(delay)
            verdicts.append(
                (low <= escape <= high, f"d = {d}, delta = {delta:g}: median escape in the predicted interval")
            )
        grows = len(delays) > 1 and all(np.diff(delays) >= 0) and delays[-1] > delays[0]
        verdicts.append(
            (bool(grows), f"d = {d}: the delay grows as delta falls ({', '.join(f'{x:g}' for x in delays)})")
        )
    draw(arguments.figure, setting, runs, law, arguments.dimensions, deltas)
    for passed, words in verdicts:
        print(f"{'ok  ' if passed else 'FAIL'} {words}")
    return 0 if all(passed for passed, _ in verdicts) else 1


def draw(
    path: Path,
    setting: Setting,
    runs: dict[tuple[int, float], list[Seed]],
    law: dict[float, dict[int, dict[str, Any]]],
    dimensions: list[int],
    deltas: list[float],
) -> None:
    """One panel for each d, the predicted escapes (median, 90 %) at its bottom.

    A run that ended early is continued at its last value for the median only.
    """
    figure = new_figure(2.9 * len(dimensions) + 0.8, 3.4)
    panels = figure.subplots(1, len(dimensions), squeeze=False, sharex=True, sharey=True)[0]
    for axes, d in zip(panels, dimensions, strict=True):
        for row, (colour, delta) in enumerate(zip(PALETTE, deltas, strict=False)):
            found = runs.get((d, delta), [])
            if not found:
                continue
            length = max(len(s.test_loss) for s in found)
            whole = [np.pad(s.test_loss, (0, length - len(s.test_loss)), mode="edge") for s in found]
            for s in found:
                axes.plot(s.test_loss, color=colour, lw=0.4, alpha=0.35)
            predicted = law[delta][d]
            axes.plot(np.median(whole, axis=0), color=colour, label=rf"$\delta = {delta:g}$")
            if np.isfinite(predicted["median"]):
                low, middle, high, height = *(predicted[q] for q in ("low", "median", "high")), 0.02 + 0.03 * row
                style = {"color": colour, "lw": 1.0, "marker": "o", "ms": 3.5, "transform": axes.get_xaxis_transform()}
                axes.plot([low, middle, min(high, 10 * length)], [height] * 3, markevery=[1], **style)
        axes.set_title(rf"$d = {d}$")
        axes.set_xlabel("step")
        axes.set_xscale("symlog", linthresh=10)
        axes.margins(y=0.12)
    panels[0].set_ylabel("test loss")
    title = rf"$\delta_{{\rm NN}} = {setting.transition:g}$"
    panels[0].legend(fontsize="small", title=title, alignment="left", loc="lower left", bbox_to_anchor=(0.0, 0.1))
    panels[0].annotate(
        "predicted escape\n(median, 90 %)", (0.03, 0.02), xycoords="axes fraction", fontsize="x-small", va="bottom"
    )
    write_figure(figure, path)
    if path.suffix == ".png":  # a few colours are enough, and half of the bytes
        from PIL import Image

        with Image.open(path) as image:
            small = image.convert("RGB").quantize(COLOURS_OF_PNG)
        small.save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
