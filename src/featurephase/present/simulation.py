"""Table and figure of ``simulate``."""

from __future__ import annotations

import numpy as np

from featurephase.present.figures import PALETTE, Figure, band, new_figure
from featurephase.present.outer import accuracies, accuracy_bands, loss_bands, outer_rows
from featurephase.present.tables import aligned, ending, number
from featurephase.results.simulation import Grokking, HessianMeasurement, Simulation, SimulationRun
from featurephase.subspaces.symmetry import direction_name


def _shown_times(steps: int) -> list[int]:
    """A few times, closer together at the start."""
    return sorted({t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if t < steps} | {steps})


def table(result: Simulation) -> str:
    """What was measured, for people."""
    lines = [result.title] if result.title else []
    lines.append(f"{result.replicates} seeds, seed {result.seed}; value +- standard error")
    for run in result.runs:
        lines += ["", *_run(run, result.hard_basis.shape[1] > 0)]
    return "\n".join([*lines, *ending(result.message, result.warnings)])


def _run(run: SimulationRun, hard: bool) -> list[str]:
    accuracy = accuracies(run)
    columns = {"training loss": "train_loss", "test loss": "test_loss", **accuracy}
    if hard:
        columns["hard overlap"] = "hard_overlap"
    rows = [[f"{t}", *(number(run, name, t) for name in columns.values())] for t in _shown_times(len(run.times) - 1)]
    lines = [f"delta = {run.delta:g}: d = {run.dimension}, n = {run.samples}, {run.method} ({run.status})"]
    lines += [*aligned(rows, ("t", *columns)), *outer_rows(run)]
    for h in run.hessian:
        lines += _hessian(h)
    lines += _grokking(run.grokking)
    for r in run.recovery:
        trend = f"~ d^({number(r, 'exponent')})" if np.isfinite(r.exponent) else "(one dimension only)"
        lines.append(
            f"  recovery of {direction_name(r.direction)}: {r.verdict}; capture {number(r, 'capture')} {trend}"
        )
    return lines


def _hessian(h: HessianMeasurement) -> list[str]:
    where = f"  Hessian at t = {h.time}: "
    if h.smallest is None or h.largest is None:
        words = h.message or str(h.status)
        return [where + words.removeprefix(where.lstrip())]
    lines = [f"{where}smallest eigenvalue {number(h, 'smallest', 0)}, largest {number(h, 'largest', -1)}"]
    if h.status != "ok":
        lines.append(f"    {h.message}")
    if h.hard_overlaps is not None and np.isfinite(h.hard_overlaps[0]):
        lines.append(f"    squared overlap of the smallest with U_H {number(h, 'hard_overlaps', 0)}")
    return lines


def _grokking(g: Grokking) -> list[str]:
    lines = ["  the test loss does not drop for good in most of the seeds: no grokking to time"]
    if np.isfinite(g.delay):
        lines = [
            f"  half of the drop, medians of the seeds: training loss at step {number(g, 'train_time')}, test loss at "
            f"step {number(g, 'test_time')}; from one to the other {number(g, 'delay')} steps"
        ]
    if g.accuracy_delay is not None and np.isfinite(g.accuracy_delay):
        delay = number(g, "accuracy_delay")
        lines.append(f"  half of the rise of the accuracy: from training to test {delay} steps")
    if not np.isnan(g.predicted_time):
        lines.append(
            f"  escape: measured at step {number(g, 'escape_time')}, predicted at {number(g, 'predicted_time')} "
            f"(90 %: {g.predicted_low:.4g} to {g.predicted_high:.4g})"
        )
    elif g.message:
        lines.append(f"  {g.message}")
    return lines


def figure(result: Simulation) -> Figure:
    """One column for each delta: losses above, hard overlap below with the predicted escape; 95 % bands."""
    runs = result.runs[:6]
    classes = any(accuracies(run) for run in runs)
    fig = new_figure(max(4.8, 3.6 * len(runs) + 0.8), 8.0 if classes else 5.6)
    axes = fig.subplots(3 if classes else 2, len(runs), squeeze=False, sharex="col", sharey="row")
    if classes:
        for panel, run in zip(axes[2], runs, strict=True):
            accuracy_bands(panel, run, run.times, run.replicates)
        axes[2, 0].set_ylabel("accuracy")
        axes[2, 0].legend(fontsize="small")
    for column, run in zip(axes.T, runs, strict=True):
        t = run.times
        column[0].set_title(rf"$\delta = {run.delta:g}$, $d = {run.dimension}$")
        loss_bands(column[0], run, run.replicates, "training loss", "test loss")
        label = r"$|P_H\Theta|/|\Theta|$"
        band(column[1], t, run.hard_overlap, run.hard_overlap_se, run.replicates, PALETTE[2], label)
        g = run.grokking
        if np.isfinite(g.predicted_time) and g.predicted_low <= t[-1]:
            high, label = min(g.predicted_high, t[-1]), "predicted escape, 90 %"
            column[1].axvspan(g.predicted_low, high, color="0.5", alpha=0.15, lw=0, label=label)
            if g.predicted_time <= t[-1]:
                column[1].axvline(g.predicted_time, color="0.4", ls="--", lw=1)
        column[-1].set_xlabel("step")
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set(ylabel="hard overlap", ylim=(0.0, 1.02))
    axes[0, 0].legend(fontsize="small")
    max(axes[1], key=lambda a: len(a.get_legend_handles_labels()[0])).legend(fontsize="small", loc="upper left")
    fig.suptitle(f"{result.title or 'Simulation'} ({result.method}, {result.replicates} seeds)", wrap=True)
    return fig
