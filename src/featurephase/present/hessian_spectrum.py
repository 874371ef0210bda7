"""Table and figure of a closer look at a network's Hessian."""

from __future__ import annotations

from featurephase.present.figures import PALETTE, Axes, Figure, axes_for, band
from featurephase.present.tables import aligned, ending, number
from featurephase.results.probe import BlockSpectrum, HessianSpectrum


def _row(name: str, block: BlockSpectrum) -> list[str]:
    lowest = number(block, "smallest", 0)
    highest = number(block, "largest", -1)
    return [name, str(block.parameters), lowest, highest, number(block, "trace")]


def table(result: HessianSpectrum) -> str:
    """Extreme eigenvalues and traces of the whole, of the Gauss-Newton matrix, and of the blocks."""
    rows = [_row("Hessian", result.whole)]
    rows += [_row("Gauss-Newton", result.gauss_newton)] if result.gauss_newton is not None else []
    rows += [_row(f"block {block.name}", block) for block in result.blocks]
    lines = [f"Hessian at step {result.time:g} over {result.samples} samples in {result.batches} batches"]
    lines += aligned(rows, ["", "parameters", "smallest", "largest", "trace"])
    return "\n".join([*lines, *ending(result.message)])


def figure(result: HessianSpectrum, ax: Axes | None = None) -> Figure:
    """The spectral density on a logarithmic scale, and the extreme eigenvalues found."""
    drawn, axes = axes_for(ax)
    if result.x.size:
        band(axes, result.x, result.density, result.density_se, result.draws, PALETTE[0], "density")
        floor = float(result.density.max()) * 1e-6
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor)
    for name, colour in (("smallest", PALETTE[1]), ("largest", PALETTE[2])):
        for place, value in enumerate(getattr(result.whole, name)):
            axes.axvline(value, color=colour, lw=1, ls="--", label=name if place == 0 else None)
    axes.set(xlabel="eigenvalue", ylabel="spectral density", title=f"Hessian at step {result.time:g}")
    axes.legend(fontsize=8)
    return drawn
