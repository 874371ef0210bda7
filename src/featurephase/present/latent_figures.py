"""Figures of the latent-variable model: a trajectory with its budget, and slices of the phase diagram."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.latent_model.phase_diagram import PARAMETERISATIONS, FiniteWidthMap, Scaling, Slice
from featurephase.present.figures import PALETTE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurephase.latent_model.results import LatentResult

__all__ = ["phase_figure", "trajectory_figure"]

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK, _ = PALETTE

#: Colours of the mechanisms; rotation is warm, change of norm is cold, losses are the paler of each.
BUDGET = {"alignment": ORANGE, "growth": BLUE, "disalignment": YELLOW, "shrinkage": SKY}

LABELS = {
    "c_gamma": r"prefactor exponent  $c_\gamma$",
    "c_eta_u": r"read-out rate exponent  $c_{\eta u}$",
    "c_eta_w": r"hidden rate exponent  $c_{\eta w}$",
    "c_sigma_u": r"read-out size exponent  $c_u$",
    "c_sigma_w": r"hidden size exponent  $c_w$",
    "c_width": r"width exponent  $c_d$",
}


def trajectory_figure(result: LatentResult) -> Figure:
    """Output, kernel, alignment and the stacked budget of ln K over time, with measurements where there are any."""
    from featurephase.latent_model.mechanisms import mechanisms

    times = result.times[np.isfinite(result.times)]
    end = float(times.max(initial=0.0))
    logarithmic = times.size > 2 and end > 0 and times[times > 0].min() * 300 < end and np.all(np.diff(times) > 0)
    if end == 0.0:  # nothing but the start, or only the limit, was asked for: show the motion
        from featurephase.latent_model.results import default_times

        end = float(default_times(result.flow).max())
    fine = np.linspace(0.0, end, 400)
    if logarithmic:
        fine = np.geomspace(times[times > 0].min(), end, 400)
    x, budget = result.flow.at(fine), mechanisms(result.flow, fine)

    figure = new_figure(9.0, 6.4)
    axes = figure.subplots(2, 2, sharex=True)
    target = result.limit["output"]
    panels: list[tuple[Axes, str, Any, str]] = [
        (axes[0, 0], "output", x.output, "output  $s$"),
        (axes[0, 1], "kernel", x.kernel, "kernel  $K$"),
        (axes[1, 0], "alignment", x.alignment, r"alignment  $\zeta=\cos\angle(u,w)$"),
    ]
    measured = result.measured or {}
    for axis, name, values, label in panels:
        axis.plot(fine, values, color=BLUE, label="theory", zorder=2)
        for key, marker, colour, text in (
            ("descent", "o", ORANGE, "trained network"),
            ("flow", "x", BLACK, "integrated flow"),
        ):
            if key in measured:
                data = measured[key]
                pick = np.unique(np.linspace(0, len(data["times"]) - 1, 25).astype(int))
                axis.plot(
                    np.asarray(data["times"])[pick],
                    np.asarray(data[name])[pick],
                    linestyle="none",
                    marker=marker,
                    markersize=4.5,
                    markerfacecolor="none" if marker == "o" else None,
                    color=colour,
                    label=text,
                    zorder=3,
                )
        axis.set_ylabel(label)
    axes[0, 0].axhline(target, color="0.5", linewidth=0.8, linestyle="--", label=f"limit {target:.4g}")
    axes[0, 0].legend(loc="best", fontsize=8)
    if np.all(x.kernel > 0.0) and x.kernel.max() > 30 * x.kernel.min():
        axes[0, 1].set_yscale("log")
    axes[1, 0].set_ylim(-1.06, 1.06)
    _stack(axes[1, 1], fine, budget)
    for axis in axes[1]:
        axis.set_xlabel("time")
    if logarithmic:
        axes[0, 0].set_xscale("log")
    axes[0, 0].set_xlim(fine[0], fine[-1])
    words = result.regime.split(":")[0] if result.status == "ok" else f"{result.status}"
    figure.suptitle(f"Latent-variable model, width {result.u.shape[1]}: {words}", fontsize=11)
    return figure


def _stack(axis: Axes, times: np.ndarray, budget: Any) -> None:
    """Gains stacked upwards from 0, losses downwards; their sum is the black line."""
    for names in (("alignment", "growth"), ("disalignment", "shrinkage")):
        base = np.zeros_like(times)
        for name in names:
            part = getattr(budget, name)
            if np.any(part != 0.0):
                axis.fill_between(times, base, base + part, color=BUDGET[name], alpha=0.75, linewidth=0, label=name)
            base = base + part
    axis.plot(times, budget.log_kernel_ratio, color=BLACK, linewidth=1.4, label=r"sum $=\ln K(t)/K(0)$")
    axis.set_ylabel(r"budget of  $\ln K(t)/K(0)$")
    axis.legend(loc="best", fontsize=8)


def phase_figure(plane: Slice, *, scaling: Scaling | None = None, finite: FiniteWidthMap | None = None) -> Figure:
    """A slice of the phase diagram: regions, exact boundaries, named parameterisations; beside it a finite width."""
    figure = new_figure(9.6 if finite is None else 14.6, 5.0)
    axes = figure.subplots(1, 1 if finite is None else 2, squeeze=False)[0]
    _phases(axes[0], plane, scaling)
    if finite is not None:
        _map(figure, axes[1], plane, finite)
    return figure


def _boundaries(axis: Axes, plane: Slice) -> None:
    for i, (a, b) in enumerate(plane.phase_boundary()):
        axis.plot(
            *zip(a, b, strict=True),
            color=BLACK,
            linewidth=3,
            label=None if i else "feature learning ($c_h=0$)",
            zorder=3,
        )
    for i, (a, b) in enumerate(plane.stability_boundary()):
        label = None if i else r"learning time of order one ($c_k+\max(c_h,0)=0$)"
        axis.plot(*zip(a, b, strict=True), color=PINK, linewidth=1.8, linestyle="-.", label=label, zorder=2)
    if (segment := plane.disalignment_line()) is not None:
        ends = zip(*segment, strict=True)
        axis.plot(*ends, color=BLUE, linewidth=3, label="disalignment (balanced layers)", zorder=3)
    for line, colour, style, label in (
        (plane.rotation, GREEN, "--", "angle of order one ($c_g=0$)"),
        (plane.start, "0.35", ":", "initial output of order one ($c_{s0}=0$)"),
    ):
        segment = plane.segment(line, [])
        if segment is not None:
            a, b = segment
            axis.plot(*zip(a, b, strict=True), color=colour, linestyle=style, linewidth=1.5, label=label, zorder=2)


def _phases(axis: Axes, plane: Slice, scaling: Scaling | None) -> None:
    from matplotlib.patches import Polygon

    axis.grid(False)
    axis.add_patch(Polygon(plane.box, closed=True, facecolor="#DCE9F5", edgecolor="none", zorder=0))
    rich = plane.rich_region()
    if len(rich) > 2:
        axis.add_patch(Polygon(rich, closed=True, facecolor="#FBE3D0", edgecolor="none", zorder=1))
        _name(axis, rich, "rich")
    _name_kernel(axis, plane)
    _boundaries(axis, plane)
    _named_points(axis, plane)
    if scaling is not None:
        place = plane.place(scaling)
        x, y = place[:2] if place is not None else (getattr(scaling, plane.x), getattr(scaling, plane.y))
        axis.plot([x], [y], marker="*", markersize=26, color=ORANGE, markeredgecolor=BLACK, linestyle="none", zorder=4)
        axis.plot(
            [], [], marker="*", markersize=11, color=ORANGE, markeredgecolor=BLACK, linestyle="none", label="asked for"
        )
    axis.set_xlim(plane.x_range)
    axis.set_ylim(plane.y_range)
    axis.set_xlabel(LABELS[plane.x])
    axis.set_ylabel(LABELS[plane.y])
    others = [n for n in LABELS if n not in (plane.x, plane.y)]
    fixed = ", ".join(f"${LABELS[n].split('$')[1]}={getattr(plane.fixed, n):g}$" for n in others)
    axis.set_title(f"Phases at {fixed}", fontsize=10)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, borderaxespad=0.0, labelspacing=0.7)


def _name(axis: Axes, polygon: list[tuple[float, float]], text: str) -> None:
    x, y = np.mean(polygon, axis=0)
    axis.text(x, y, text, ha="center", va="center", fontsize=13, color="0.35", style="italic", zorder=2)


def _name_kernel(axis: Axes, plane: Slice) -> None:
    """Where the kernel phase is named: the grid point of the window deepest in it and off the edge."""
    xs, ys = (np.linspace(*r, 25)[3:-3] for r in (plane.x_range, plane.y_range))
    x, y = np.meshgrid(xs, ys)
    w, u = plane.kernel_sides
    size = np.maximum(w[0] * x + w[1] * y + w[2], u[0] * x + u[1] * y + u[2])
    i = np.unravel_index(np.argmax(size), size.shape)
    if size[i] > 0.0:
        axis.text(x[i], y[i], "kernel", ha="center", va="center", fontsize=13, color="0.35", style="italic", zorder=2)


def _named_points(axis: Axes, plane: Slice) -> None:
    """Numbered, because several share a place; the legend has the names. Hollow: at another unit of time."""
    places: dict[tuple[float, float], list[tuple[str, bool]]] = {}
    for known in PARAMETERISATIONS:
        place = plane.place(known.scaling)
        if place is None:
            continue
        x, y, own_time = place
        if plane.x_range[0] <= x <= plane.x_range[1] and plane.y_range[0] <= y <= plane.y_range[1]:
            places.setdefault((round(x, 9), round(y, 9)), []).append((known.label, own_time))
    for number, ((x, y), names) in enumerate(places.items(), start=1):
        filled = any(own for _, own in names)
        for xs, ys, label in (([x], [y], None), ([], [], ", ".join(name for name, _ in names))):
            axis.plot(
                xs,
                ys,
                marker="o",
                markersize=12,
                linestyle="none",
                color=BLACK,
                markerfacecolor=BLACK if filled else "white",
                zorder=5,
                label=None if label is None else f"{number}: {textwrap.fill(label, 44)}",
            )
        colour = "white" if filled else BLACK
        axis.text(x, y, str(number), color=colour, ha="center", va="center_baseline", fontsize=8, zorder=7)
    if any(not own for names in places.values() for _, own in names):
        axis.plot([], [], marker="None", linestyle="none", label="(white: at another unit of time)")


def _map(figure: Figure, axis: Axes, plane: Slice, finite: FiniteWidthMap) -> None:
    axis.grid(False)
    size = max(float(np.abs(finite.value).max()), 1e-3)
    image = axis.pcolormesh(
        finite.x, finite.y, finite.value, cmap="RdBu_r", vmin=-size, vmax=size, shading="nearest", rasterized=True
    )
    levels = [level for level in np.arange(0.25, 4.0, 0.25) if level < finite.limit.max()]
    if levels:
        axis.contour(finite.x, finite.y, finite.limit, levels=levels, colors="0.3", linewidths=0.7, linestyles=":")
    for a, b in plane.phase_boundary():
        axis.plot(*zip(a, b, strict=True), color=BLACK, linewidth=2)
    axis.set_xlim(plane.x_range)
    axis.set_ylim(plane.y_range)
    axis.set_xlabel(LABELS[plane.x])
    axis.set_ylabel(LABELS[plane.y])
    axis.set_title(rf"Finite networks, $\kappa={finite.kappa:g}$ (dotted: levels of the limit)", fontsize=10)
    figure.colorbar(image, ax=axis, label=r"$\ln(K_\infty/K_0)\,/\,\ln\kappa$")
