"""Table and figure of delta_alg."""

from __future__ import annotations

import numpy as np

from featurephase.present.figures import Axes, Figure, axes_for
from featurephase.results.algorithmic import AlgorithmicThreshold


def table(threshold: AlgorithmicThreshold) -> str:
    """One line: the value, its error, where it comes from."""
    if threshold.exact:
        return f"delta_alg  {threshold.delta_alg:g}  (exact)"
    if not threshold.ok:
        return f"delta_alg  > {threshold.lower_bound:.4g}"
    return f"delta_alg  {threshold.delta_alg:.5g} +- {threshold.delta_alg_se:.1g}  ({threshold.samples:.3g} samples)"


def figure(threshold: AlgorithmicThreshold, ax: Axes | None = None) -> Figure:
    """The second moment along which the weak signal grows first, (k, k), and delta_alg in the title."""
    fig, axes = axes_for(ax, 5.2, 4.4)
    size = max(float(np.abs(threshold.direction).max(initial=0.0)), 1e-12)
    image = axes.imshow(threshold.direction, cmap="RdBu_r", vmin=-size, vmax=size)
    names = [f"g{j + 1}" for j in range(len(threshold.direction))]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    fig.colorbar(image, ax=axes, label="second moment of the first signal")
    axes.set_title(" ".join(table(threshold).split()))
    return fig
