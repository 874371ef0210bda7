"""Draw the figures of docs/claims/concepts.md: ``python docs/claims/figures.py [NAME]..``, a minute."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import featurephase as fp
from featurephase.present.figures import PALETTE, house_style, new_figure
from featurephase.problem import GradientDescent, Problem, Student, Teacher

IMAGES = Path(__file__).parents[1] / "images"


def problem(link: str, latent_dim: int, steps: int, **changes: object) -> Problem:
    base = Problem(
        teacher=Teacher(latent_dim, link),
        student=Student("gelu", [1.0]),
        loss="squared",
        training=GradientDescent(0.8, steps),
    )
    return base.replace(asymptotics={"samples": 10_000, "replicates": 4}, **changes)


def write(figure: Figure, name: str) -> None:
    """A PNG of few colours, which is small."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=90, format="png")
    picture = Image.open(drawn).convert("RGB").quantize(48)
    picture.save(IMAGES / f"concept-{name}.png", optimize=True)


def directions() -> Figure:
    figure = new_figure(6.4, 3.4)
    axes = figure.add_subplot()
    both = problem("tanh(g1) + 1.5*tanh(g2**2)", 2, 10)
    for d, style in ((200, "-"), (3200, "--")):
        run = fp.simulate(
            both, dimension=d, delta=4.0, method="implicit", seeds=32, times=[], recovery=False, predicted=False
        ).runs[0]
        axes.plot(run.times, run.overlap[:, 0, 0], style, color=PALETTE[0], label=f"easy, d = {d}")
        axes.plot(run.times, run.hard_overlap, style, color=PALETTE[1], label=f"hard, d = {d}")
    axes.set(xlabel="step", ylabel="overlap")
    axes.legend()
    return figure


def bulk() -> Figure:
    figure = new_figure(8.0, 3.2)
    even = problem("1.5*tanh(g1**2)", 1, 10)
    for axes, delta in zip(figure.subplots(1, 2), (2.0, 20.0), strict=True):
        hessian = fp.predict(even, delta=delta, times=[10], density=True).runs[0].hessian[0]
        run = fp.simulate(
            even,
            dimension=400,
            delta=delta,
            method="dense",
            seeds=1,
            eigenvalues=400,
            recovery=False,
            predicted=False,
            times=[10],
        ).runs[0]
        axes.hist(run.hessian[0].smallest, 60, density=True, color="0.8", label="one network, d = 400")
        axes.plot(hessian.density[0], hessian.density[1], color=PALETTE[0], label="theory")
        for outlier in hessian.hard_outliers:
            axes.axvline(outlier.value, color=PALETTE[1], label="hard outlier")
        axes.set(xlabel="eigenvalue", title=f"n/d = {delta:g}", yticks=[])
        axes.legend(fontsize=8)
    return figure


def threshold() -> Figure:
    figure = new_figure(6.4, 3.4)
    axes = figure.add_subplot()
    even = problem("1.5*tanh(g1**2)", 1, 10)
    deltas = np.array([2.0, 4.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0])
    theory = [run.hessian[0].hard_outliers for run in fp.predict(even, delta=deltas, times=[10]).runs]
    axes.plot(deltas, [x[0].overlap if x else 0.0 for x in theory], color=PALETTE[0], label="theory")
    measured = fp.simulate(
        even,
        dimension=300,
        delta=deltas,
        method="dense",
        seeds=8,
        eigenvalues=1,
        times=[10],
        recovery=False,
        predicted=False,
    ).runs
    overlaps = [run.hessian[0].hard_overlaps[0] for run in measured]
    axes.plot(deltas, overlaps, "o", color=PALETTE[1], label="networks, d = 300")
    found = fp.threshold(even, times=[10], delta_range=(1.0, 40.0))
    axes.axvline(found.delta_nn[0].value, color="0.5", linestyle="--")
    axes.text(found.delta_nn[0].value, 0.7, " delta_NN(10)")
    axes.axvline(found.delta_alg, color="0.5", linestyle=":")
    axes.text(found.delta_alg, 0.7, " delta_alg")
    axes.set(xscale="log", xlabel="n/d", ylabel="squared overlap")
    axes.legend(loc="center left")
    return figure


def escape() -> Figure:
    figure = new_figure(6.4, 3.4)
    axes = figure.add_subplot()
    even = problem("1.5*tanh(g1**2)", 1, 120, student={"init_norm": 0.6}, training={"weight_decay": 0.3})
    run = fp.simulate(
        even, dimension=1000, delta=20.0, method="implicit", seeds=1, times=[], recovery=False, predicted=False
    ).runs[0]
    axes.plot(run.times, run.train_loss / run.train_loss[0], color=PALETTE[0], label="training loss")
    axes.plot(run.times, run.test_loss / run.test_loss[0], color=PALETTE[1], label="test loss")
    axes.plot(run.times, run.hard_overlap, color=PALETTE[2], label="hard overlap")
    axes.set(xlabel="step", ylabel="loss over its start; overlap", title="n/d = 20, d = 1000")
    axes.legend()
    return figure


def mechanisms() -> Figure:
    figure = new_figure(8.0, 3.2)
    kernel, angle = figure.subplots(1, 2)
    u, w = np.random.default_rng(2).standard_normal((2, 50))
    for number, (name, scale) in enumerate((("small", 0.02), ("medium", 0.15), ("large", 3.0))):
        end = float(fp.latent(scale * u, scale * w, cross_moment=1.0).rates["asymptotic"])
        last = (6.0 if name != "small" else 14.0) / end
        result = fp.latent(scale * u, scale * w, cross_moment=1.0, times=np.linspace(0.0, last, 200))
        x, colour = result.times / last, PALETTE[number]
        kernel.plot(x, result.kernel / result.kernel[0], color=colour, label=f"{name} start")
        angle.plot(x, result.alignment, color=colour)
    kernel.set(xlabel="time, in units of the last", ylabel="kernel over its start", yscale="log")
    angle.set(xlabel="time, in units of the last", ylabel="cosine between the layers")
    kernel.legend()
    return figure


if __name__ == "__main__":
    with house_style():
        for draw in (directions, bulk, threshold, escape, mechanisms):
            if draw.__name__ in sys.argv[1:] or len(sys.argv) == 1:
                write(draw(), draw.__name__)
