"""What tables and figures show of accuracies and of the parameters of order one, where a trajectory has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array
from featurephase.present.figures import PALETTE, Axes, band
from featurephase.results.outer import OuterTrajectory
from featurephase.results.words import with_error

#: Numbers of the readout or of the biases that a table and a figure still show one by one.
_MOST = 6


def accuracies(run: OuterTrajectory) -> dict[str, str]:
    """Name for people -> field with the accuracy against time; empty where responses are no classes."""
    names = {"training accuracy": "train_accuracy", "test accuracy": "test_accuracy"}
    return {words: name for words, name in names.items() if getattr(run, name) is not None}


def _numbers(run: OuterTrajectory) -> list[tuple[str, str, Array, Array]]:
    """Symbol, name of one entry, values and errors against time of all parameters of order one."""
    out = []
    for symbol, name in (("A", "readout"), ("b", "bias"), ("c", "output_bias")):
        values, errors = getattr(run, name), getattr(run, f"{name}_se")
        for index in () if values is None else np.ndindex(values.shape[1:]):
            place = ",".join(str(i + 1) for i in index)
            entry, at = f"{symbol}{place}" if len(index) == 1 else f"{symbol}({place})", (slice(None), *index)
            out.append((symbol, entry, values[at], errors[at]))
    return out


def _shown(run: OuterTrajectory) -> list[tuple[str, str, Array, Array]]:
    """Those that move, at most :data:`_MOST` of each kind."""
    moving = _moving(run)
    return [entry for symbol in "Abc" for entry in [e for e in moving if e[0] == symbol][:_MOST]]


def _moving(run: OuterTrajectory) -> list[tuple[str, str, Array, Array]]:
    """Those that do not stay as they are while they are numbers."""
    return [entry for entry in _numbers(run) if np.nanmax(np.abs(entry[2] - entry[2][0]), initial=0.0) > 0.0]


def outer_rows(run: OuterTrajectory) -> list[str]:
    """The trained parameters of order one at the start and the last step, for the table."""
    shown = _shown(run)
    if not shown:
        return []
    words = [f"{name} {x[0]:.4g} -> {with_error(x[-1], se[-1])}" for _, name, x, se in shown]
    count = len(_moving(run))
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    lines = [", ".join(words[i : i + 3]) for i in range(0, len(words), 3)]
    return ["  trained second layer and biases, from first to last step", *(f"    {line}" for line in lines + more)]


def loss_bands(axes: Axes, run: Any, replicates: int, *labels: str) -> None:
    """Training and test loss of a trajectory."""
    for name, colour, label in zip(("train_loss", "test_loss"), PALETTE, labels, strict=False):
        band(axes, run.times, getattr(run, name), getattr(run, f"{name}_se"), replicates, colour, label)


def accuracy_bands(axes: Axes, run: OuterTrajectory, times: NDArray[np.int64], replicates: int) -> None:
    """Training and test accuracy."""
    for (words, name), colour in zip(accuracies(run).items(), PALETTE, strict=False):
        value, se = getattr(run, name), getattr(run, f"{name}_se")
        band(axes, times, value, se, replicates, colour, words.removesuffix(" accuracy"))
    axes.set_xlabel("step")


def outer_bands(axes: Axes, run: OuterTrajectory, times: NDArray[np.int64], replicates: int) -> None:
    """The parameters of order one that move: readout solid, biases dashed, output biases dotted."""
    for i, (symbol, name, value, se) in enumerate(_shown(run)):
        band(axes, times, value, se, replicates, PALETTE[i % len(PALETTE)], name)
        axes.lines[-1].set_linestyle("-" if symbol == "A" else "--" if symbol == "b" else ":")
    axes.set_xlabel("step")
