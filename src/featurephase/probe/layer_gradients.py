"""Per-sample gradients of plain linear and convolutional layers, from what they read and what reaches them back.

The gradient of a linear layer's weight is an outer product of the two, so that its part of the kernel is the product
of two small Gram matrices. That holds if the weight is used once, through its module, as a plain linear map; whether
it does is never assumed: every kernel is compared with autograd (:mod:`featurephase.probe.kernel`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featurephase.probe.derivatives import gradients
from featurephase.probe.functional import Parameters, State, Tensor, TorchNetwork
from featurephase.probe.structure import canonical_names, capture
from featurephase.probe.trees import Batch


def owned_parameters(network: TorchNetwork, state: State, batch: Batch) -> dict[str, dict[str, str]]:
    """Module -> {"weight": parameter, "bias": ..} of the plain layers whose parameters nothing else owns.

    Linear layers, and two-dimensional convolutions without groups and with zero padding, that run once and keep the
    samples in the first dimension, which two batch sizes tell (a transposed sequence does not).
    """
    modules = {
        name: module
        for name, module in state.body.module.named_modules()
        if module._parameters.get("weight") is not None
        and module.weight.numel()
        and (
            type(module) is nn.Linear
            or (type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros")
        )
    }
    for samples in (2, 3):
        with torch.no_grad(), capture(modules) as seen:
            network.call(state, {}, batch.take([0] * samples))
        modules = {
            name: modules[name]
            for name, layer in seen.items()
            if layer.calls == 1 and layer.inputs.dim() >= 2 and layer.inputs.shape[0] == samples
        }
    aliases = canonical_names(network)
    uses = list(aliases.values())
    owned: dict[str, dict[str, str]] = {}
    for name in modules:
        parts = {}
        for kind in ("weight", "bias"):
            alias = aliases.get(f"{name}.{kind}".lstrip("."), "")
            if alias in state.names and uses.count(alias) == 1 and not state.body.parameters[alias].is_complex():
                parts[kind] = alias
        if parts:
            owned[name] = parts
    return owned


@dataclass(frozen=True)
class Rows:
    """Per-sample gradients of one parameter, (n C, entries)."""

    values: Tensor

    @staticmethod
    def joined(parts: list[Rows]) -> Rows:
        """Those of several chunks of samples."""
        return Rows(torch.cat([part.values for part in parts])) if len(parts) > 1 else parts[0]

    def rows(self) -> Rows:
        """The gradients themselves."""
        return self

    def gram(self) -> Tensor:
        """Their inner products."""
        return self.values @ self.values.T

    def trace(self) -> float:
        """The sum of their squares."""
        return float(self.values.double().square().sum())


@dataclass(frozen=True)
class Factors:
    """Per-sample gradients as sums over positions of signals times features."""

    features: Tensor  # what is read: (n, features, positions), or an image (n, channels, rows, columns) to be unfolded
    signals: Tensor  # gradients at the layer's outputs, (n C, units, positions)
    module: Any  # the layer
    block_bytes: int  # size of a block of the Jacobian held at once

    @staticmethod
    def joined(parts: list[Factors]) -> Factors:
        """Those of several chunks of samples."""
        if len(parts) == 1:
            return parts[0]
        features, signals = (torch.cat([getattr(p, name) for p in parts]) for name in ("features", "signals"))
        return Factors(features, signals, parts[0].module, parts[0].block_bytes)

    def gram(self) -> Tensor:
        """Inner products of the gradients: of outer products directly, of others in blocks of units."""
        outputs = self.signals.shape[0] // self.features.shape[0]
        if self.signals.shape[2] == 1 and self.features.dim() == 3:
            below = self.features[:, :, 0] @ self.features[:, :, 0].T
            back = self.signals[:, :, 0] @ self.signals[:, :, 0].T
            return back * below.repeat_interleave(outputs, 0).repeat_interleave(outputs, 1)
        rows, units, _ = self.signals.shape
        entries = _entries(self.module)
        step = max(1, self.block_bytes // (rows * entries * self.signals.element_size()))
        total = self.signals.new_zeros(rows, rows)
        for start in range(0, units, step):
            block = self._rows(slice(start, start + step), outputs)
            total += block @ block.T
        return total

    def trace(self) -> float:
        """The sum of the gradients' squares."""
        outputs = self.signals.shape[0] // self.features.shape[0]
        if self.signals.shape[2] == 1 and self.features.dim() == 3:
            below = self.features.double().square().sum((1, 2)).repeat_interleave(outputs)
            return float(below @ self.signals.double().square().sum((1, 2)))
        return self.rows().trace()

    def rows(self) -> Rows:
        """The gradients themselves."""
        return Rows(self._rows(slice(None), self.signals.shape[0] // self.features.shape[0]))

    def _rows(self, units: slice, outputs: int) -> Tensor:
        """Gradients of some units' weights, a few samples at a time so that unfolded images stay small."""
        samples = self.features.shape[0]
        size = _entries(self.module) * self.signals.shape[2] * self.signals.element_size()
        step = max(1, self.block_bytes // size)
        parts = []
        for start in range(0, samples, step):
            features = _patches(self.module, self.features[start : start + step])
            signals = self.signals[start * outputs : (start + step) * outputs, units]
            signals = signals.reshape(features.shape[0], outputs, signals.shape[1], signals.shape[2])
            parts.append(torch.einsum("ncop,nip->ncoi", signals, features).flatten(0, 1).flatten(1))
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def joined(pieces: list[Factors | Rows]) -> Factors | Rows:
    """The gradients of several chunks of samples; plain ones where a chunk has no factors."""
    factors = [piece for piece in pieces if isinstance(piece, Factors)]
    if len(factors) == len(pieces):
        return Factors.joined(factors)
    return Rows.joined([piece.rows() for piece in pieces])


def _entries(module: nn.Module) -> int:
    """Weights per unit."""
    return int(module.weight.numel() // module.weight.shape[0])


def _patches(module: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer multiplies its weight with, (n, weights per unit, positions)."""
    if not isinstance(module, nn.Conv2d):
        return inputs
    padding = module.padding
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if padding == "same" and any(reach):
            inputs = nn.functional.pad(
                inputs, (reach[1] // 2, reach[1] - reach[1] // 2, reach[0] // 2, reach[0] - reach[0] // 2)
            )
        padding = 0
    return nn.functional.unfold(inputs, module.kernel_size, module.dilation, padding, module.stride)


def _flat(module: nn.Module, values: Tensor) -> Tensor:
    """(n, channels, positions) of a layer's inputs or outputs; an image to be unfolded keeps its form."""
    if isinstance(module, nn.Conv2d):
        return values
    return values.reshape(values.shape[0], -1, values.shape[-1]).transpose(1, 2)


def layer_parts(
    network: TorchNetwork, state: State, batch: Batch, owned: dict[str, dict[str, str]], block_bytes: int
) -> tuple[Tensor, dict[str, Factors | Rows]]:
    """The outputs (n, C), and per owned parameter what its part of the kernel is made of.

    A layer that is routed to some of these samples only, or runs a number of times that depends on them, is left out.
    """
    modules = {name: module for name, module in state.body.module.named_modules() if name in owned}
    points = {name: value.detach().requires_grad_() for name, value in state.trainable.items()}
    with capture(modules) as seen:
        outputs = network.call(state, points, batch)
    tensors = {
        name: layer.outputs
        for name, layer in seen.items()
        if layer.outputs.requires_grad and layer.calls == 1 and layer.inputs.shape[0] == batch.samples
    }
    signals: dict[str, list[Tensor]] = {name: [] for name in tensors}
    for column in outputs.unbind(1) if tensors else ():
        for name, gradient in gradients(column.sum(), tensors, retain_graph=True).items():
            signals[name].append(gradient)
    parts: dict[str, Factors | Rows] = {}
    for name, per_output in signals.items():
        module = modules[name]
        back = network.wide(torch.stack(per_output, 1).flatten(0, 1))  # (n C, *output shape)
        back = back.flatten(2) if isinstance(module, nn.Conv2d) else _flat(module, back)
        if "weight" in owned[name]:
            read = network.wide(seen[name].inputs.detach())
            factors = Factors(_flat(module, read), back, module, block_bytes)
            kept = factors.features.numel() + factors.signals.numel()
            entries = back.shape[0] * module.weight.numel()
            parts[owned[name]["weight"]] = factors.rows() if back.shape[2] > 1 and entries < kept else factors
        if "bias" in owned[name]:
            parts[owned[name]["bias"]] = Rows(back.sum(2))
    return outputs.detach(), parts


def sample_rows(network: TorchNetwork, state: State, batch: Batch, names: tuple[str, ...]) -> dict[str, Rows]:
    """Per-sample gradients of any parameters, by ``torch.func``, or one output at a time where that cannot run."""
    chosen = {name: state.parameters[name] for name in names}
    axes = tuple(0 if own else None for own in batch.batched)

    def single(values: Parameters, *tensors: Tensor) -> Tensor:
        alone = [t.unsqueeze(0) if axis == 0 else t for t, axis in zip(tensors, axes, strict=True)]
        return network.call(state, values, batch.with_tensors(alone, 1))[0]

    try:
        jacobians = torch.func.vmap(torch.func.jacrev(single), in_dims=(None, *axes))(chosen, *batch.tensors)
        return {
            name: Rows(network.wide(value.detach().reshape(value.shape[0] * value.shape[1], chosen[name].numel())))
            for name, value in jacobians.items()
        }
    except Exception:  # an operation without a batching rule, or control flow that reads a value: many error types
        return one_by_one(network, state, batch, names)


def one_by_one(network: TorchNetwork, state: State, batch: Batch, names: tuple[str, ...]) -> dict[str, Rows]:
    """The same with one call of autograd per sample and output: slow, and nothing to be clever about."""
    gathered: dict[str, list[Tensor]] = {name: [] for name in names}
    for row in range(batch.samples):
        points = {name: state.parameters[name].detach().requires_grad_() for name in names}
        outputs = network.call(state, points, batch.take([row]))[0]
        for value in outputs.unbind():
            for name, gradient in gradients(value, points, retain_graph=True).items():
                gathered[name].append(gradient.reshape(-1))
    return {name: Rows(network.wide(torch.stack(rows))) for name, rows in gathered.items()}
