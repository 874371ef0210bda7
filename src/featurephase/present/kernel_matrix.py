"""Table and figure of a neural tangent kernel."""

from __future__ import annotations

import numpy as np

from featurephase.present.figures import Axes, Figure, axes_for
from featurephase.present.tables import aligned, ending
from featurephase.results.probe import KernelMatrix


def table(result: KernelMatrix) -> str:
    """Size, trace by outputs, and top eigenvalues of the traced kernel."""
    samples, outputs = result.matrix.shape[:2]
    lines = [f"Neural tangent kernel at step {result.time:g}: {samples} samples, {outputs} outputs"]
    rows = [[f"output {i}", f"{np.trace(block):.4g}"] for i, block in enumerate(result.per_output[:12])]
    lines += aligned(rows, ["", "trace"])
    top = np.linalg.eigvalsh(result.traced)[::-1][:5]
    lines.append("  top eigenvalues of the mean over outputs: " + ", ".join(f"{value:.4g}" for value in top))
    return "\n".join([*lines, *ending(result.message)])


def figure(result: KernelMatrix, ax: Axes | None = None) -> Figure:
    """The mean over outputs, samples against samples; held-out points below."""
    drawn, axes = axes_for(ax, 5.4, 4.6)
    rows = result.traced if result.cross_traced is None else np.vstack([result.traced, result.cross_traced])
    image = axes.imshow(rows, cmap="viridis", aspect="auto", interpolation="nearest")
    axes.grid(False)
    if result.cross_traced is not None:
        axes.axhline(len(result.traced) - 0.5, color="white", lw=1)
    axes.set_xlabel("probe sample")
    axes.set_ylabel("probe sample" + ("" if result.cross_traced is None else ", then held out"))
    axes.set_title(f"Kernel, mean over outputs, step {result.time:g}")
    drawn.colorbar(image, ax=axes)
    return drawn
