"""Table and figure of ``compare``."""

from __future__ import annotations

import numpy as np

from featurephase.foundation.statistics import student_quantile
from featurephase.present.figures import PALETTE, Figure, band, new_figure
from featurephase.present.tables import aligned, ending, number
from featurephase.results.comparison import Comparison

#: Where the axis of the z-scores ends.
_HIGHEST_Z = 12


def table(result: Comparison) -> str:
    """Every quantity, and the verdict."""
    lines = [result.title] if result.title else []
    sizes = ", ".join(str(d) for d in result.dimensions)
    how = "extrapolated to 1/d = 0" if len(result.dimensions) > 1 else "bias of finite d taken off"
    lines.append(f"d = {sizes} ({how}); {result.replicates} seeds, seed {result.seed}; value +- standard error")
    rows = [
        [
            q.name,
            f"{q.time}",
            f"{q.delta:g}",
            number(q, "theory"),
            number(q, "finite_size"),
            number(q, "simulation"),
            f"{q.z:+.2f}",
        ]
        for q in result.quantities
    ]
    lines += aligned(rows, ("quantity", "t", "delta", "theory", "finite size", "simulation", "z"))
    verdict = "agree" if result.agree else "DISAGREE"
    lines += [
        "",
        f"theory and simulation {verdict}: smallest p {result.smallest_p:.2g} in {result.comparisons} comparisons",
    ]
    return "\n".join([*lines, *ending(result.message, result.warnings)])


def figure(result: Comparison) -> Figure:
    """Curves of theory (lines, bands) and simulation (points, bars) with 95 % intervals, and the z-scores below.

    The grey band holds 95 % of the z-scores of a correct theory; a triangle is a z-score beyond the axis.
    """
    runs = result.curves[:5]
    names = list(runs[0].curves)
    fig = new_figure(max(6.0, 3.4 * len(runs) + 1.0), 2.0 * len(names) + 2.2)
    grid = fig.add_gridspec(len(names) + 1, len(runs))
    for i, run in enumerate(runs):
        for j, name in enumerate(names):
            axes = fig.add_subplot(grid[j, i])
            theory, theory_se, simulation, simulation_se = run.curves[name]
            t = np.arange(len(theory))
            band(axes, t, theory, theory_se, result.theory_replicates, PALETTE[0], "theory")
            every = slice(None, None, max(1, len(t) // 30))
            half, label = student_quantile(result.replicates) * simulation_se[every], f"d = {result.dimensions[-1]}"
            axes.errorbar(t[every], simulation[every], half, fmt=".", ms=4, color=PALETTE[1], label=label)
            if i == 0:
                axes.set_ylabel(name, fontsize="small")
            if j == 0:
                axes.set_title(rf"$\delta = {run.delta:g}$")
                axes.legend(fontsize="small")
            if j == len(names) - 1:
                axes.set_xlabel("step")
                axes.locator_params(axis="x", integer=True)
    axes = fig.add_subplot(grid[len(names), :])
    z = np.array([q.z for q in result.quantities])
    place, inside = np.arange(len(z)), np.abs(z) <= _HIGHEST_Z
    usual = student_quantile(result.replicates)
    axes.axhspan(-usual, usual, color="0.5", alpha=0.12, lw=0)
    axes.plot(place[inside], z[inside], "o", ms=4, color=PALETTE[2])
    for side, marker in ((z > _HIGHEST_Z, "^"), (z < -_HIGHEST_Z, "v")):
        axes.plot(place[side], np.sign(z[side]) * _HIGHEST_Z, marker, ms=7, color=PALETTE[1])
    if np.any(np.abs(z) > _HIGHEST_Z):
        axes.set_title(rf"triangles: $|z| > {_HIGHEST_Z}$", loc="right", fontsize="small")
    axes.set_xticks(range(len(z)), [f"{q.name} {q.time}" for q in result.quantities], rotation=90, fontsize="xx-small")
    axes.set_ylabel("z")
    verdict = "agree" if result.agree else "disagree"
    fig.suptitle(f"{result.title or 'Comparison'}: theory and simulation {verdict}", wrap=True)
    return fig
