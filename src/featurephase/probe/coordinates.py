"""The coordinate check of a parameterisation: size of activations and of their updates against the width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from featurephase.foundation.errors import InputError
from featurephase.foundation.statistics import mean_and_se
from featurephase.probe.functional import LossFunction, TorchNetwork
from featurephase.probe.structure import hooked
from featurephase.probe.trees import Batch, tensors_of
from featurephase.results.probe import CoordinateCheck


def coordinate_check(
    build: Callable[[int], Any],
    inputs: Any,
    targets: Any,
    *,
    loss: LossFunction,
    widths: Sequence[int] = (64, 128, 256, 512),
    steps: int = 3,
    replicates: int = 3,
    rate: float = 0.1,
    seed: int = 0,
) -> CoordinateCheck:
    """Train networks of several widths for a few steps, and see how their activations and updates scale.

    Parameters
    ----------
    build
        ``build(width)`` -> the model, or ``(model, optimiser)``; initialised from torch's random state. Without an
        optimiser it is plain SGD with ``rate``.
    inputs, targets
        One batch, as a :class:`~featurephase.probe.Probe` takes it.
    widths
        At least two.
    steps, replicates
        Gradient steps, and seeds (at least 2).

    Returns
    -------
    CoordinateCheck
        Root mean squares and exponents of every module without children, with errors over the seeds (Yang et al.,
        arXiv 2203.03466, appendix D.1).

    Raises
    ------
    InputError
        If there are too few widths or seeds, or the modules differ between widths.
    """
    if len(set(widths)) < 2 or replicates < 2 or steps < 1:
        raise InputError("coordinate_check: expected two or more widths, two or more replicates, and a step")
    names: tuple[str, ...] = ()
    found = []
    for replicate in range(replicates):
        for width in widths:
            before, after = _run(build, width, seed + replicate, (inputs, targets, loss), steps, rate)
            names = names or tuple(before)
            if tuple(before) != names:
                raise InputError(
                    f"width {width} has modules {', '.join(before)}; width {widths[0]}: {', '.join(names)}"
                )
            moved = [_rms(after[name] - before[name]) for name in names]
            found.append(([_rms(before[name]) for name in names], moved))
    sizes = np.reshape(found, (replicates, len(widths), 2, len(names)))
    exponents = _slopes(np.log(np.asarray(widths, float)), sizes)
    mean, se = mean_and_se(sizes)
    slope, slope_se = mean_and_se(exponents)
    return CoordinateCheck(
        widths=np.asarray(widths, float), modules=names, steps=steps, replicates=replicates, seed=seed,
        activation=mean[:, 0], activation_se=se[:, 0], update=mean[:, 1], update_se=se[:, 1],
        activation_exponent=slope[0], activation_exponent_se=slope_se[0],
        update_exponent=slope[1], update_exponent_se=slope_se[1],
    )  # fmt: skip


def _run(
    build: Callable[[int], Any], width: int, seed: int, data: tuple[Any, Any, LossFunction], steps: int, rate: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Activations of one network before and after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build(width)
        model, optimiser = built if isinstance(built, tuple) else (built, None)
        network = TorchNetwork(model)
        optimiser = optimiser or torch.optim.SGD(model.parameters(), lr=rate)
        inputs, targets, loss = data
        batch, wanted = Batch.of(network.own(inputs, "inputs"), "inputs"), network.own(targets, "targets")
        before = _activations(network, batch)
        for _ in range(steps):
            optimiser.zero_grad()
            loss(network.raw(network.state(), model, batch), wanted).backward()
            optimiser.step()
        return before, _activations(network, batch)


def _activations(network: TorchNetwork, batch: Batch) -> dict[str, Any]:
    """Outputs of every module without children, in evaluation mode."""
    seen: dict[str, Any] = {}

    def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
        tensors = tensors_of(output)
        if tensors and name not in seen:
            seen[name] = tensors[0].detach().double().cpu().numpy()

    with network.isolated():
        state = network.state()
        childless = {n or type(m).__name__: m for n, m in state.body.module.named_modules() if not list(m.children())}
        with hooked(childless, keep):
            network.evaluate(state, batch)
    return seen


def _rms(values: Any) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _slopes(x: Any, sizes: Any) -> Any:
    """Least squares of log size on log width, (replicates, 2, modules); nan where a size is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(sizes)
        centred = x - x.mean()
        slopes = np.einsum("w,rwkm->rkm", centred, y) / (centred @ centred)
    return np.where(np.isfinite(slopes), slopes, np.nan)
