"""Table and figure of a scaling's place in the phase diagram: regions, exact boundaries, named parameterisations."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurephase.latent_model.phase_diagram import FiniteWidthMap, Slice
from featurephase.latent_model.scaling import PARAMETERISATIONS, Scaling
from featurephase.present.figures import PALETTE, Axes, Figure, new_figure
from featurephase.present.tables import aligned
from featurephase.results.latent import LatentPhaseResult, ParameterisationTable

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK, _ = PALETTE

LABELS = {
    "c_gamma": r"prefactor exponent  $c_\gamma$",
    "c_eta_u": r"read-out rate exponent  $c_{\eta u}$",
    "c_eta_w": r"hidden rate exponent  $c_{\eta w}$",
    "c_sigma_u": r"read-out size exponent  $c_u$",
    "c_sigma_w": r"hidden size exponent  $c_w$",
    "c_width": r"width exponent  $c_d$",
}


def table(result: LatentPhaseResult | ParameterisationTable) -> str:
    """The verdict; or one line per named parameterisation, and the rule behind each."""
    if isinstance(result, ParameterisationTable):
        return _named(result.parameterisations)
    names = " ".join(f"{name} = {value:g}" for name, value in result.exponents.items())
    lines = [
        f"phase        {result.phase}",
        f"stability    {result.stability}",
        f"mechanism    {result.mechanism}",
        f"exponents    {names}",
        f"angle        {result.verdict['angle']}",
        f"start        {result.verdict['initial_output']} initial output",
        "",
        str(result.verdict["description"]),
    ]
    if result.equivalent:
        lines.append(f"Same as: {', '.join(result.equivalent)} (up to the unit of time)")
    if result.message:
        lines.append(result.message)
    return "\n".join(lines)


def _named(every: Sequence[Mapping[str, Any]]) -> str:
    columns = ("name", "c_k", "c_h", "c_g", "c_s0", "phase", "stability", "mechanism")
    rows = [
        [p["name"], *(f"{p['exponents'][c]:g}" for c in columns[1:5]), *(str(p[c]) for c in columns[5:])] for p in every
    ]
    return "\n".join([*aligned(rows, columns, indent=""), "", *(f"  {p['name']}: {p['rule']}" for p in every)])


def figure(result: LatentPhaseResult | ParameterisationTable) -> Figure:
    """The slice of the phase diagram through this scaling; or that with the named parameterisations alone."""
    if isinstance(result, ParameterisationTable):
        return phase_figure(Slice())
    return phase_figure(result.plane, scaling=Scaling(**result.scaling), finite=result.finite_width)


def phase_figure(plane: Slice, *, scaling: Scaling | None = None, finite: FiniteWidthMap | None = None) -> Figure:
    """A slice of the phase diagram: regions, exact boundaries, named parameterisations; beside it a finite width."""
    figure = new_figure(9.6 if finite is None else 14.6, 5.0)
    axes = figure.subplots(1, 1 if finite is None else 2, squeeze=False)[0]
    _phases(axes[0], plane, scaling)
    if finite is not None:
        _map(figure, axes[1], plane, finite)
    return figure


def _boundaries(axis: Axes, plane: Slice) -> None:
    learning_time = r"learning time of order one ($c_k+\max(c_h,0)=0$)"
    angle, output = (plane.segment(plane.affine(name), []) for name in ("c_g", "c_s0"))
    for segments, label, colour, line, width, order in (
        (plane.phase_boundary(), "feature learning ($c_h=0$)", BLACK, "-", 3, 3),
        (plane.stability_boundary(), learning_time, PINK, "-.", 1.8, 2),
        ([plane.disalignment_line()], "disalignment (balanced layers)", BLUE, "-", 3, 3),
        ([angle], "angle of order one ($c_g=0$)", GREEN, "--", 1.5, 2),
        ([output], "initial output of order one ($c_{s0}=0$)", "0.35", ":", 1.5, 2),
    ):
        for i, segment in enumerate(filter(None, segments)):
            ends = zip(*segment, strict=True)
            axis.plot(*ends, color=colour, linewidth=width, linestyle=line, label=None if i else label, zorder=order)


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
        star: dict[str, Any] = {"marker": "*", "color": ORANGE, "markeredgecolor": BLACK, "linestyle": "none"}
        axis.plot([x], [y], markersize=26, zorder=4, **star)
        axis.plot([], [], markersize=11, label="asked for", **star)
    axis.set(xlim=plane.x_range, ylim=plane.y_range, xlabel=LABELS[plane.x], ylabel=LABELS[plane.y])
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
        look: dict[str, Any] = {"marker": "o", "markersize": 12, "linestyle": "none", "color": BLACK, "zorder": 5}
        look["markerfacecolor"] = BLACK if filled else "white"
        axis.plot([x], [y], **look)
        label = textwrap.fill(", ".join(name for name, _ in names), 44)
        axis.plot([], [], label=f"{number}: {label}", **look)
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
    axis.set(xlim=plane.x_range, ylim=plane.y_range, xlabel=LABELS[plane.x], ylabel=LABELS[plane.y])
    axis.set_title(rf"Finite networks, $\kappa={finite.kappa:g}$ (dotted: levels of the limit)", fontsize=10)
    figure.colorbar(image, ax=axis, label=r"$\ln(K_\infty/K_0)\,/\,\ln\kappa$")
