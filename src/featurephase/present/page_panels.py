"""Which numbers of a saved result are drawn together on its page, and in which words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One chart: variables of the data set over a common axis."""

    title: str  # above it
    y: tuple[str, ...]  # names of the variables; one without dimensions is a level line
    label: str  # of the vertical axis
    x: str = ""  # the dimension, or the variable, on the horizontal axis; empty: the longest dimension of numbers
    # Logarithmic axes.
    log_x: bool = False
    log_y: bool = False
    points: tuple[str, ...] = ()  # those of ``y`` that are marks rather than curves
    caption: str = ""  # what is to be known of it


_LOSSES = Panel("Training and test loss", ("train_loss", "test_loss"), "loss", "time")
_PARTS = ("mechanism_alignment", "mechanism_disalignment", "mechanism_growth", "mechanism_shrinkage")
_MECHANISMS = Panel("Mechanisms: parts of the change of ln(kernel)", _PARTS, "part of ln(kernel)", "time")
_ACCURACY = Panel("Training and test accuracy", ("train_accuracy", "test_accuracy"), "fraction right", "time")

#: Class of the result -> the charts of its page; of other classes every variable has a chart of its own.
PANELS: dict[str, tuple[Panel, ...]] = {
    "Prediction": (
        _LOSSES,
        _ACCURACY,
        Panel(
            "Overlap of the weights with the latent directions",
            ("overlap",),
            "overlap",
            "time",
            caption="In the limit n, d → ∞ the overlap with a hard direction stays 0 for any finite number of steps.",
        ),
        Panel(
            "Edges of the bulk and outliers of the Hessian",
            ("left_edge", "right_edge", "hard_outlier", "outlier"),
            "eigenvalue",
            "hessian_time",
            points=("hard_outlier", "outlier"),
            caption="A negative hard outlier left of the bulk: the hard direction is learned if training goes on.",
        ),
        Panel("Density of the bulk", ("density",), "density", "density_at"),
    ),
    "Threshold": (
        Panel(
            "δ_NN against the number of steps",
            ("delta_nn_history", "delta_nn", "delta_alg", "delta_nn_limit"),
            "n/d",
            log_x=True,
            log_y=True,
            points=("delta_nn",),
            caption="Level lines: the limit of infinitely many steps, and what the best first-order method needs.",
        ),
        Panel(
            "Margin of the hard directions",
            ("scan_margin",),
            "smallest eigenvalues of the margin",
            "scan_delta",
            log_x=True,
            caption="Below 0 a hard outlier stands left of the bulk.",
        ),
    ),
    "Simulation": (
        _LOSSES,
        _ACCURACY,
        Panel("Share of the weights in the hard subspace", ("hard_overlap",), "hard overlap", "time"),
        Panel("Smallest eigenvalues of the Hessian", ("smallest",), "eigenvalue", "hessian_time", points=("smallest",)),
    ),
    "Comparison": (
        Panel(
            "Differences between theory and simulation",
            ("z",),
            "difference over its standard error",
            "quantity",
            points=("z",),
            caption="One point a row of the table above; of a right theory 95 % lie within about ± 2.",
        ),
    ),
    "Explanation": (),
    "LatentResult": (
        Panel("Output and kernel", ("output", "kernel", "alignment"), "value", "time"),
        Panel("Loss", ("loss",), "loss", "time"),
        _MECHANISMS,
    ),
    "ProbeResult": (
        Panel("Loss", ("loss", "heldout_loss"), "loss", "time"),
        _ACCURACY,
        Panel("Change of the tangent kernel", ("kernel_change", "kernel_alignment"), "change, cosine", "time"),
        _MECHANISMS,
        Panel("How far each layer moved", ("layer_movement",), "distance over norm at the start", "time"),
        Panel("Smallest eigenvalues of the Hessian", ("hessian_smallest",), "eigenvalue", "hessian_time"),
    ),
}

#: Class of the result -> the variables of the tables at its top, besides the numbers that have no dimensions.
FIRST: dict[str, tuple[str, ...]] = {
    "Prediction": ("left_edge", "right_edge", "hard_outlier", "hard_outlier_overlap", "outlier", "outlier_overlap"),
    "Threshold": ("delta_nn", "delta_nn_negative", "delta_nn_block_minimum"),
    "Simulation": ("dimension", "samples", "train_time", "test_time", "delay", "escape_time", "predicted_time"),
    "Comparison": ("name", "time", "delta", "theory", "finite_size", "simulation", "z", "p"),
    "Explanation": (
        *("kind", "learned", "unstable_at_last_step"),
        *("delta_nn", "delta_alg", "samples_needed", "escape_step"),
    ),
    "LatentResult": (),
    "ProbeResult": (),
}
