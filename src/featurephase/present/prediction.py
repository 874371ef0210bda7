"""Table and figure of ``predict``: losses, overlaps and the spectrum of the Hessian, for each delta."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from featurephase.foundation.statistics import mean_and_se, student_interval, student_quantile
from featurephase.foundation.types import Array
from featurephase.present.figures import PALETTE, Axes, Figure, new_figure
from featurephase.present.outer import accuracies, accuracy_bands, loss_bands, outer_bands, outer_rows
from featurephase.present.tables import MOST, aligned, basis_words, ending, heading, number
from featurephase.results.prediction import HessianPrediction, Prediction, TrajectoryPrediction
from featurephase.results.words import with_error
from featurephase.subspaces.symmetry import direction_name

#: Columns that still can be read side by side.
MOST_COLUMNS = 6
BULK, HARD, VISITED = "0.6", PALETTE[1], PALETTE[0]


def latent_directions(prediction: Prediction) -> Iterator[tuple[str, bool, Array]]:
    """Name, whether easy, and unit vector (k,) of each direction of the easy and the hard basis."""
    for basis, easy in ((prediction.easy_basis, True), (prediction.hard_basis, False)):
        for column in basis.T:
            yield direction_name(column), easy, column


def share(run: TrajectoryPrediction, direction: Array) -> tuple[Array, Array]:
    """|e'Theta| / |Theta|_F of a latent direction e against time, with its standard error (first order)."""
    row, square = np.einsum("k,tkm->tm", direction, run.overlap), np.einsum("trr->t", run.gram)
    length, size = np.linalg.norm(row, axis=1), np.sqrt(square)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(length[:, None] > 0, row / length[:, None], 0.0)
        moved = [
            np.einsum("tm,k,tkm->t", unit, direction, r.overlap) - length / (2 * square) * np.einsum("trr->t", r.gram)
            for r in run.trajectories
        ]
        return length / size, mean_and_se(moved)[1] / size


# ---- the table


def table(prediction: Prediction) -> str:
    """The trajectory at a few times and the spectrum, for each delta; then messages and warnings."""
    lines = [*heading(prediction), basis_words(prediction)]
    for run in prediction.runs:
        lines += ["", f"delta = {run.delta:g}" + ("" if run.status == "ok" else f"  ({run.status})")]
        lines += _trajectory_rows(prediction, run)
        for entry in run.hessian:
            lines += _hessian_rows(entry, prediction.replicates)
    return "\n".join(lines + ending(prediction.message, prediction.warnings))


def _trajectory_rows(prediction: Prediction, run: TrajectoryPrediction) -> list[str]:
    easy = [(name, direction) for name, is_easy, direction in latent_directions(prediction) if is_easy][:MOST]
    columns = {"training loss": "train_loss", "test loss": "test_loss", **accuracies(run)}
    shares = {f"|{name}|/|Theta|": share(run, direction) for name, direction in easy}
    rows = []
    for t in _chosen_times(run):
        numbers = [number(run, name, t) for name in columns.values()]
        rows.append([str(t), *numbers, *(with_error(x[t], se[t]) for x, se in shares.values())])
    return [*aligned(rows, ["step", *columns, *shares]), *outer_rows(run)]


def _hessian_rows(entry: HessianPrediction, replicates: int) -> list[str]:
    if entry.status != "ok":
        return [f"  Hessian at t = {entry.time}: {entry.status}"]
    rows = [(entry.left_edge, ["left edge", number(entry, "left_edge")])]
    if not np.isnan(entry.right_edge):
        rows.append((entry.right_edge, ["right edge", number(entry, "right_edge")]))
    for name, outliers in (("hard outlier", entry.hard_outliers), ("outlier", entry.outliers)):
        for o in outliers:
            row = [name, number(o, "value"), "overlap " + number(o, "overlap")]
            if o.fraction < 1:
                row.append(f"in {round(o.fraction * replicates)} of {replicates} replicates")
            rows.append((o.value, row))
    rows.sort(key=lambda row: row[0])
    return [f"  Hessian at t = {entry.time}", *aligned([row for _, row in rows], indent="    ")]


def _chosen_times(run: TrajectoryPrediction) -> list[int]:
    """1, 2, 5, 10, 20 .. besides the first and last step and the times of the Hessian."""
    last = int(run.times[-1])
    steps = {0, last, *(h.time for h in run.hessian)}
    return sorted(steps | {s * 10**e for e in range(7) for s in (1, 2, 5) if s * 10**e < last})


# ---- the figure


def figure(prediction: Prediction) -> Figure:
    """Losses, overlaps and spectra; bands are 95 % intervals over the replicates.

    Each column is one delta. Top: training and test loss. Middle: the share of the weights along each latent direction,
    |e'Theta|/|Theta|, easy ones solid, hard ones dashed. Bottom: the spectrum of the Hessian at the times analysed,
    later ones higher; the bulk with its density (if it was computed) and edges, and the outliers by their kind. Between
    them accuracies, for classes, and the second layer and the biases, where they are trained.
    """
    runs = prediction.runs[:MOST_COLUMNS]
    spectra = max((len(run.hessian) for run in runs), default=0)
    met = any(np.any(run.overlap) for run in runs)
    more = _more_rows(runs)
    between = [2.3 if draw is outer_bands else 1.8 for draw in more.values()]
    heights = [2.3, 2.0 if met else 0.7, *between, *([1.2 + 0.75 * min(spectra, 8)] if spectra else [])]
    fig = new_figure(max(4.6, 3.5 * len(runs) + 0.9), sum(heights) + 0.9)
    axes = fig.subplots(len(heights), len(runs), squeeze=False, height_ratios=heights, sharey="row")
    for column, run in zip(axes.T, runs, strict=True):
        column[0].set_title(rf"$\delta = {run.delta:g}$" + ("" if run.status == "ok" else f"\n{run.status}"))
        loss_bands(column[0], run, prediction.replicates, "training", "test")
        column[0].set_xlabel("step")
        _overlaps(column[1], run, prediction)
        for panel, draw in zip(column[2:], more.values(), strict=False):
            draw(panel, run, run.times, prediction.replicates)
        if spectra:
            _spectra(column[-1], run, prediction.replicates)
    for row, least in ((axes[0], 0.0), (axes[1], 0.05)):
        row[0].set_ylim(0.0, max(least, 1.05 * max(a.dataLim.y1 for a in row if np.isfinite(a.dataLim.y1))))
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel(r"$|e^\top\Theta|\,/\,|\Theta|$")
    for row, name in zip(axes[2:], more, strict=False):
        row[0].set_ylabel(name)
    kinds: list[Any] = [loss_bands, _overlaps, *more.values(), _spectra]
    for row, kind in zip(axes, kinds, strict=False):
        _legend(row, kind)
    beyond = len(prediction.runs) - len(runs)
    shown = f" (first {len(runs)} of {len(prediction.runs)} values of delta)" if beyond else ""
    fig.suptitle((prediction.title or "Prediction") + shown, wrap=True)
    return fig


def _legend(row: Sequence[Axes], draw: Any) -> None:
    """What any panel of the row shows, in the one that shows most."""
    handles: dict[str, Any] = {}
    for axes in row:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if not handles:
        return
    style: dict[str, Any] = {"loc": "upper right", "ncols": 2} if draw is _spectra else {"loc": "best"}
    if draw is outer_bands:  # so many that they need room of their own
        style = {"loc": "upper center", "ncols": 4}
        low, high = row[0].get_ylim()
        row[0].set_ylim(low, high + 0.25 * -(-len(handles) // 4) * (high - low))
    busiest = max(row, key=lambda axes: len(axes.get_legend_handles_labels()[0]))
    busiest.legend(list(handles.values()), list(handles), fontsize="small", **style)


def _more_rows(runs: Sequence[TrajectoryPrediction]) -> dict[str, Callable[..., None]]:
    """Panels that only some trajectories have: label of the axis -> what draws it."""
    rows: dict[str, Callable[..., None]] = {}
    if any(accuracies(run) for run in runs):
        rows["accuracy"] = accuracy_bands
    if any(outer_rows(run) for run in runs):
        rows["second layer, biases"] = outer_bands
    return rows


def _overlaps(axes: Axes, run: TrajectoryPrediction, prediction: Prediction) -> None:
    for index, (name, easy, direction) in enumerate(latent_directions(prediction)):
        value, se = share(run, direction)
        colour = PALETTE[2 + index % (len(PALETTE) - 2)]
        label = f"{name} ({'easy' if easy else 'hard'})" if index < 6 else None
        axes.plot(run.times, value, color=colour, linestyle="-" if easy else "--", label=label)
        low, high = student_interval(value, se, prediction.replicates)
        axes.fill_between(run.times, np.maximum(low, 0.0), high, color=colour, alpha=0.25, linewidth=0)
    if not np.any(run.overlap):
        axes.text(0.04, 0.5, "no overlap: 0 in this limit", transform=axes.transAxes, va="center", color="0.4")
    axes.set_xlabel("step")


def _spectra(axes: Axes, run: TrajectoryPrediction, replicates: int) -> None:
    """One baseline for each time, later ones higher; densities share one scale within the panel."""
    labels: set[str] = set()

    def once(label: str) -> str | None:
        fresh = label not in labels
        labels.add(label)
        return label if fresh else None

    for level, entry in enumerate(run.hessian):
        if entry.status == "ok":
            _spectrum(axes, level, entry, replicates, once)
        else:
            axes.annotate(
                entry.status, (0.5, level + 0.15), xycoords=("axes fraction", "data"), ha="center", color="0.4"
            )
    axes.set_yticks(range(len(run.hessian)), [f"t = {h.time}" for h in run.hessian])
    axes.set_ylim(-0.3, len(run.hessian) + 0.6)  # the legend is above
    axes.grid(False, axis="y")
    axes.axvline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel("eigenvalue of the Hessian")


def _spectrum(axes: Axes, level: int, entry: HessianPrediction, replicates: int, once: Any) -> None:
    quantile = student_quantile(replicates)
    right = entry.right_edge if np.isfinite(entry.right_edge) else None
    if entry.density is not None:
        x, density = entry.density
        inside = (x >= entry.left_edge) & (x <= (x[-1] if right is None else right))
        x = np.concatenate([[entry.left_edge], x[inside], [x[-1] if right is None else right]])
        height = 0.8 * np.concatenate([[0.0], density[inside], [0.0]]) / density.max()
        axes.fill_between(x, level, level + height, color=BULK, alpha=0.45, linewidth=0.8, label=once("bulk"))
    elif right is not None:
        axes.plot(
            [entry.left_edge, right], [level, level], color=BULK, linewidth=5, solid_capstyle="butt", label=once("bulk")
        )
    edges = [entry.left_edge] if right is None else [entry.left_edge, right]
    bars = quantile * np.array([entry.left_edge_se, entry.right_edge_se][: len(edges)])
    axes.errorbar(edges, [level] * len(edges), xerr=bars, fmt="|", markersize=11, color="0.25", label=once("edge"))
    for outliers, colour, marker, name in (
        (entry.outliers, VISITED, "o", "outlier"),
        (entry.hard_outliers, HARD, "v", "hard outlier"),
    ):
        for outlier in outliers:
            shown = round(outlier.fraction * replicates)  # of one replicate there is no error
            half = student_quantile(shown) * outlier.value_se if shown > 1 else None
            x, top = outlier.value, level + 0.12
            look: dict[str, Any] = {"color": colour, "alpha": max(0.25, outlier.fraction)}
            axes.errorbar(x, top, xerr=half, fmt=marker, markersize=6, label=once(name), **look)
            axes.plot([x, x], [level, top], linewidth=1, **look)
