"""Table and figure of what gradient descent reaches of the easy subspace."""

from __future__ import annotations

import numpy as np

from featurephase.foundation.statistics import student_quantile
from featurephase.present.figures import PALETTE, Axes, Figure, axes_for
from featurephase.present.tables import aligned, ending
from featurephase.results.subspaces import ReachedSubspace
from featurephase.results.words import with_error
from featurephase.subspaces.symmetry import direction_name

_COLOURS = {"nonzero": PALETTE[2], "zero": PALETTE[1], "ambiguous": PALETTE[3]}


def _names(reached: ReachedSubspace) -> list[str]:
    columns = np.concatenate([reached.reached_basis, reached.missed_basis], axis=1)
    return [direction_name(column) for column in columns.T]


def table(reached: ReachedSubspace) -> str:
    """One line for each easy direction."""
    rows = [
        [name, with_error(value, se), f"below {bound:.2g}", decision]
        for name, value, se, bound, decision in zip(
            _names(reached), reached.overlaps, reached.overlaps_se, reached.bounds, reached.decisions, strict=True
        )
    ]
    header = ["easy direction", "overlap", "bound", "decision"]
    return "\n".join([*aligned(rows, header, indent=""), *ending(reached.message)])


def figure(reached: ReachedSubspace, ax: Axes | None = None) -> Figure:
    """The overlap along each easy direction with its 95 % interval, and the bound that it is below (a dash)."""
    fig, axes = axes_for(ax)
    names = _names(reached)
    quantile = student_quantile(reached.replicates // 2)  # pairs of runs make one estimate each
    for place, (value, se, bound, decision) in enumerate(
        zip(reached.overlaps, reached.overlaps_se, reached.bounds, reached.decisions, strict=True)
    ):
        colour = _COLOURS[decision]
        axes.errorbar(place, value, yerr=quantile * se, fmt="o", color=colour, capsize=3)
        axes.plot(place, bound, marker="_", markersize=18, color=colour, linestyle="none")
    axes.set_xticks(range(len(names)), [f"{n}\n{d}" for n, d in zip(names, reached.decisions, strict=True)])
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel(r"$|e^\top\Theta|\,/\,|\Theta|$, root mean square over the steps")
    axes.set_title(rf"Easy directions reached by step {reached.steps} at $\delta = {reached.delta:g}$")
    if not names:
        axes.text(0.5, 0.5, reached.message, transform=axes.transAxes, ha="center", color="0.4")
    return fig
