"""A closer look at a network's loss Hessian: trace, spectral density, diagonal blocks, and the Gauss-Newton matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from featurephase.foundation.errors import InputError
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.hessian.lanczos import quadrature
from featurephase.probe.derivatives import contracted
from featurephase.probe.functional import State, Tensor, TorchNetwork
from featurephase.probe.hessian import (
    HessianOperator,
    Objective,
    Pairs,
    Spectrum,
    described_ends,
    eigenpairs,
    unobtainable,
)
from featurephase.probe.trees import Batch, leaves, transform
from featurephase.results.base import averaged, paired
from featurephase.results.probe import BlockSpectrum, HessianSpectrum
from featurephase.results.status import OK, Status


@dataclass(frozen=True)
class DensityOptions:
    """Of stochastic Lanczos quadrature."""

    draws: int = 8  # random start vectors, at least 2: their spread is the error
    steps: int = 40  # Lanczos steps each; 0: no density, and the trace from products alone
    points: int = 200  # of the grid that the smoothed density is given on

    def __post_init__(self) -> None:
        if self.draws < 2 or self.steps < 0 or self.points < 2:
            raise InputError("density: expected draws >= 2, steps >= 0 and points >= 2")


class GaussNewtonOperator(HessianOperator):
    """``v -> J' (d^2 loss / d outputs^2) J v``: the Hessian less the curvature of the network itself.

    The outputs are all floating-point tensors that the model returns; what the loss reads besides counts as constant.
    """

    def by_batch(self, vector: Tensor) -> Iterator[Tensor]:
        """``share_b G_b v`` for every batch b."""
        self.products += 1
        direction = self.unflatten(vector)
        for batch, targets, share in self.objective.samples:
            yield share * self._flat(self._product(batch, targets, direction))

    def _product(self, batch: Batch, targets: Any, direction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        points = {name: self.state.parameters[name].detach().requires_grad_() for name in self.names}
        with self.network.running(self.state, points) as module:
            raw = self.network.raw(self.state, module, batch)
            outputs = [t for _, t in leaves(raw) if isinstance(t, torch.Tensor) and t.requires_grad]
            free = [t.detach().requires_grad_() for t in outputs]
            exchange = {id(t): f for t, f in zip(outputs, free, strict=True)}
            value = self.state.body.loss(transform(lambda leaf: exchange.get(id(leaf), leaf), raw), targets)
        duals = [torch.zeros_like(t, requires_grad=True) for t in outputs]
        leafs = list(points.values())
        pulled = torch.autograd.grad(
            outputs, leafs, duals, create_graph=True, materialize_grads=True, allow_unused=True
        )
        pushed = contracted(pulled, direction.values(), duals)
        slopes = torch.autograd.grad(value.reshape(()), free, create_graph=True)
        bent = contracted(slopes, pushed, free)  # zero for a loss that is linear in the outputs
        back = torch.autograd.grad(outputs, leafs, bent, allow_unused=True, materialize_grads=True)
        return dict(zip(points, back, strict=True))


def parameter_blocks(state: State, blocks: str | Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Name -> parameters of every block: ``"layers"`` (by module), ``"parameters"``, or a mapping.

    Raises
    ------
    InputError
        If a parameter is unknown or a block is empty.
    """
    if isinstance(blocks, Mapping):
        chosen = {name: (members,) if isinstance(members, str) else tuple(members) for name, members in blocks.items()}
        unknown = sorted({p for members in chosen.values() for p in members} - set(state.names))
        empty = sorted(name for name, members in chosen.items() if not members)
        if unknown or empty:
            raise InputError(
                f"blocks: unknown parameters {unknown}, empty blocks {empty}; known: {', '.join(state.names)}"
            )
        return chosen
    if blocks == "parameters":
        return {name: (name,) for name in state.names}
    if blocks != "layers":
        raise InputError(f"blocks {blocks!r}: expected 'layers', 'parameters' or a mapping of names")
    by_module: dict[str, list[str]] = {}
    for name in state.names:
        by_module.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return {name: tuple(members) for name, members in by_module.items()}


def hessian_spectrum(
    network: TorchNetwork,
    state: State,
    objective: Objective,
    options: Spectrum,
    density: DensityOptions,
    *,
    blocks: Mapping[str, tuple[str, ...]],
    gauss_newton: bool,
    time: float,
) -> HessianSpectrum:
    """All of it at one state; what cannot be had is a status."""
    operator = HessianOperator(network, state, objective)
    status, why = unobtainable(operator, options)
    provenance: dict[str, Any] = {
        "time": time,
        "batches": len(objective.samples),
        "samples": sum(batch.samples for batch, _, _ in objective.samples),
        "seed": options.seed,
        "draws": density.draws,
    }
    if status != OK:
        nothing = _described(
            operator, Pairs.missing(options.count), options.count, paired(trace=(np.nan, np.nan)), status
        )
        return HessianSpectrum(whole=nothing, status=status, message=f"{status}: {why}", **provenance)
    measures = _measures(operator, density, options.seed)
    whole, pairs, message = _whole(operator, options, measures)
    count = min(options.count, len(pairs.values))
    kept = torch.cat([pairs.vectors[s] for s in pairs.ends(count).values()])
    rows = [operator.unflatten(vector) for vector in kept]
    vectors = {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in operator.names}

    def beside(other: HessianOperator) -> BlockSpectrum:
        return _whole(other, options, _measures(other, replace(density, steps=0), options.seed))[0]

    parts = {name: beside(HessianOperator(network, state, objective, members)) for name, members in blocks.items()}
    return HessianSpectrum(
        whole=whole,
        gauss_newton=beside(GaussNewtonOperator(network, state, objective)) if gauss_newton else None,
        blocks=tuple(replace(part, name=name) for name, part in parts.items()),
        vectors=vectors,
        message=message,
        **_smoothed(measures, density),
        **provenance,
    )


def _measures(operator: HessianOperator, density: DensityOptions, seed: int) -> list[tuple[Array, Array]]:
    """Nodes and weights of the spectral measure of each random vector; with no steps, their mean alone."""
    starts = operator.random(seed + 2, density.draws)
    eps = float(torch.finfo(operator.dtype).eps)
    shape = max(1, min(density.steps, operator.size)), operator.size
    return [quadrature(operator, start, start.new_empty(*shape), eps) for start in starts]


def _whole(
    operator: HessianOperator, options: Spectrum, measures: list[tuple[Array, Array]]
) -> tuple[BlockSpectrum, Pairs, str]:
    """Eigenvalues and trace, exact where all eigenvalues are there, else by Hutchinson's estimate from the measures."""
    pairs, status, why = eigenpairs(operator, options)
    if pairs.complete:
        trace = paired(trace=(float(pairs.values.sum()), 0.0))
    else:
        trace = averaged(trace=[operator.size * float(nodes @ weights) for nodes, weights in measures])
    return _described(operator, pairs, options.count, trace, status), pairs, why


def _described(
    operator: HessianOperator, pairs: Pairs, count: int, trace: Mapping[str, Any], status: Status
) -> BlockSpectrum:
    columns = described_ends(operator, pairs, count)
    return BlockSpectrum(parameters=operator.size, status=status, **trace, **columns)


def _smoothed(measures: list[tuple[Array, Array]], density: DensityOptions) -> dict[str, Any]:
    """Each measure convolved with a Gaussian of a hundredth of the spectrum's width; mean and error over draws."""
    if density.steps == 0:
        return {}
    nodes = np.concatenate([n for n, _ in measures])
    span = max(float(np.ptp(nodes)), 1e-12 * float(np.abs(nodes).max()), 1e-300)
    width = span / 100.0
    x = np.linspace(nodes.min() - 4 * width, nodes.max() + 4 * width, density.points)

    def curve(atoms: Array, weights: Array) -> Array:
        bumps = np.exp(-0.5 * ((x[:, None] - atoms) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        return np.asarray(bumps @ weights)

    mean, se = mean_and_se(np.stack([curve(*measure) for measure in measures]))
    return {"x": x, "density": mean, "density_se": se, "width": width}
