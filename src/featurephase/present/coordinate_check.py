"""Table and figure of a coordinate check."""

from __future__ import annotations

from featurephase.present.figures import PALETTE, Figure, band, new_figure
from featurephase.present.tables import aligned, ending, number
from featurephase.results.probe import CoordinateCheck


def table(result: CoordinateCheck) -> str:
    """Exponents of every module."""
    lines = [
        f"Exponents in the width ({', '.join(f'{w:g}' for w in result.widths)}) after {result.steps} steps, "
        f"{result.replicates} seeds"
    ]
    rows = [
        [
            name,
            number(result, "activation_exponent", i),
            number(result, "update_exponent", i),
        ]
        for i, name in enumerate(result.modules)
    ]
    return "\n".join(
        [*lines, *aligned(rows, ["module", "activations at the start", "updates"]), *ending(result.message)]
    )


def figure(result: CoordinateCheck) -> Figure:
    """Root mean squares against the width, activations and updates."""
    drawn = new_figure(9.0, 4.0)
    panels = drawn.subplots(1, 2)
    for axes, name, title in zip(
        panels, ("activation", "update"), ("activations at the start", "updates"), strict=True
    ):
        values, errors = getattr(result, name), getattr(result, f"{name}_se")
        for i, module in enumerate(result.modules):
            colour = PALETTE[i % len(PALETTE)]
            band(axes, result.widths, values[:, i], errors[:, i], result.replicates, colour, module)
        axes.set(xscale="log", yscale="log", xlabel="width", ylabel="root mean square", title=title)
        axes.set_xticks(result.widths, [f"{w:g}" for w in result.widths])
        axes.xaxis.minorticks_off()
    panels[0].legend(fontsize=8)
    return drawn
