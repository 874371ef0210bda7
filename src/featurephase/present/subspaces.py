"""Table and figure of the easy and the hard subspace: the eigenvalues behind the decision."""

from __future__ import annotations

from featurephase.foundation.types import Array
from featurephase.present.figures import PALETTE, Axes, Figure, axes_for
from featurephase.results.subspaces import LatentSubspaces
from featurephase.subspaces.symmetry import direction_name

#: Colour, marker and label of each decision.
LOOKS = {
    "nonzero": (PALETTE[0], "o", "nonzero: easy"),
    "zero": (PALETTE[1], "s", "zero to the resolution"),
    "zero by symmetry": (PALETTE[2], "D", "zero by symmetry: hard"),
    "ambiguous": (PALETTE[3], "X", "undecided"),
}


def table(subspaces: LatentSubspaces) -> str:
    """The subspaces and the eigenvalues behind them."""

    def span(basis: Array) -> str:
        return ", ".join(direction_name(column) for column in basis.T) or "-"

    lines = [
        f"easy        {span(subspaces.easy_basis)}",
        f"hard        {span(subspaces.relevant_hard_basis)}",
        f"irrelevant  {span(subspaces.irrelevant_basis)}",
    ]
    if subspaces.undecided_basis.size:
        lines.append(f"undecided   {span(subspaces.undecided_basis)}")
    for number, step in enumerate(subspaces.rounds, start=1):
        lines.append(f"round {number}, given {step.conditioned_on} easy, {step.samples:.3g} samples:")
        for j, decision in enumerate(step.decisions):
            lines.append(
                f"  {direction_name(step.directions[:, j]):32} {step.eigenvalues[j]:10.3g} +- "
                f"{step.eigenvalues_se[j]:.1g}  {decision}"
            )
    return "\n".join(lines)


def figure(subspaces: LatentSubspaces, ax: Axes | None = None) -> Figure:
    """Eigenvalues of every round with their simultaneous bounds, against the resolution."""
    fig, axes = axes_for(ax)
    names: list[str] = []
    shown: set[str] = set()
    for number, step in enumerate(subspaces.rounds, start=1):
        for j, decision in enumerate(step.decisions):
            colour, marker, words = LOOKS[decision]
            value, bound, label = step.eigenvalues[j], step.bounds[j], None if words in shown else words
            axes.errorbar(len(names), value, yerr=bound, color=colour, marker=marker, capsize=3, label=label)
            shown.add(words)
            names.append(f"{direction_name(step.directions[:, j])}\nround {number}")
    resolution = subspaces.rounds[0].resolution if subspaces.rounds else 1e-3
    axes.axhline(resolution, color="0.5", linewidth=1, linestyle="--", label="resolution")
    axes.set_yscale("symlog", linthresh=resolution)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    lowest = min((float((step.eigenvalues - step.bounds).min()) for step in subspaces.rounds), default=0.0)
    axes.set_ylim(1.5 * min(lowest, -2 * resolution), 1.5)
    axes.set_ylabel("share of the variance explained by the response")
    axes.set_title("Easy and hard latent directions")
    if ax is None:
        fig.legend(loc="outside lower center", ncols=4)
    else:
        axes.legend(fontsize="small")
    return fig
