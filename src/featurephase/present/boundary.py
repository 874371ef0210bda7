"""Table and figure of a boundary: a threshold against one parameter."""

from __future__ import annotations

import numpy as np

from featurephase.present.figures import PALETTE, Axes, Figure, axes_for
from featurephase.present.tables import aligned, ending
from featurephase.results.boundary import Boundary
from featurephase.results.words import with_error


def table(result: Boundary) -> str:
    """A line for each point."""
    lines = [result.title] if result.title else []
    lines.append(f"{result.cells.total} points, {result.cells.reused} of them computed before; value +- standard error")
    points = zip(result.values, result.threshold, result.threshold_se, result.statuses, strict=True)
    rows = [[f"{x:g}", with_error(y, se), status] for x, y, se, status in points]
    lines += ["", *aligned(rows, (result.key, result.quantity, "status"))]
    return "\n".join([*lines, *ending(result.message)])


def figure(result: Boundary, ax: Axes | None = None) -> Figure:
    """The threshold with two standard errors, and that of the best first-order method."""
    drawn, axes = axes_for(ax)
    x, y, two = result.values, result.threshold, 2 * result.threshold_se
    axes.errorbar(x, y, yerr=two, marker="o", markersize=3, capsize=2, color=PALETTE[0], label=result.quantity)
    if np.any(result.delta_alg > 0):
        axes.plot(result.values, result.delta_alg, color=PALETTE[1], linestyle="--", label="delta_alg")
    axes.set_yscale("log")
    if result.logarithmic:
        axes.set_xscale("log")
    axes.set(xlabel=result.key, ylabel="n/d")
    axes.legend()
    return drawn
