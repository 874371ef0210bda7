"""Which weight layers a network has and which follow one another, read from its autograd graph.

A pair is reported only if everything between the two layers is known to act unit by unit (or to pool
positions) on the output of one layer alone. Anything else is named: a norm, a skip, attention, a
reordering. Nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor

from featurephase.probe.functional import State, Tensor, TorchNetwork, has_gradient
from featurephase.probe.trees import Batch, tensors_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
WEIGHT_LAYERS = (nn.Linear, *CONVOLUTIONS)

#: Autograd nodes (without "Backward" and digits) that multiply by constants or only reshape: a linear
#: chain stays linear.
_LINEAR = {
    "Alias", "Clone", "Div", "Mul", "Neg", "Reshape", "ReshapeAlias", "Squeeze", "ToCopy",
    "UnsafeView", "Unsqueeze", "View",
}  # fmt: skip
#: Unit-wise functions and pooling over positions: they keep channels apart.
_UNITWISE = _LINEAR | {
    "Abs", "Add", "Celu", "Clamp", "ClampMin", "Cos", "Elu", "Erf", "Exp", "Gelu", "Hardsigmoid",
    "Hardswish", "Hardtanh", "LeakyRelu", "Log", "LogSigmoid", "Mish", "Pow", "Relu", "Selu", "Sigmoid",
    "Silu", "Sin", "Softplus", "Sqrt", "Sub", "Tanh", "Threshold", "MaxPool1D", "MaxPool2DWithIndices",
    "MaxPool3DWithIndices", "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D",
    "MkldnnAdaptiveAvgPool2D",
}  # fmt: skip
_REASONS = (
    (r"BatchNorm|LayerNorm|GroupNorm|InstanceNorm|RmsNorm|RMSNorm", "a normalisation"),
    (r"Softmax|ScaledDotProduct|Attention|Bmm", "attention"),
    (r"Cat|Stack", "a concatenation"),
    (r"Permute|Transpose|^T$|Index|Slice|Select|Gather|Embedding", "a selection or reordering of units"),
)


@dataclass(frozen=True)
class Layer:
    """A weight layer: its module name, kind, and the name of its weight among the parameters."""

    name: str
    kind: str
    weight: str
    path: str  # in the module tree; the name too, but for a model that is one layer
    convolution: bool = False

    def matrix(self, values: Mapping[str, Tensor]) -> Tensor:
        """The weight as (units out, everything in)."""
        weight = values[self.weight]
        return weight.reshape(weight.shape[0], -1)


@dataclass(frozen=True)
class Pair:
    """Two adjacent layers and the dimension they share: units, or channels of a convolution."""

    lower: Layer
    upper: Layer
    shared: int
    linear: bool  # whether only constants and reshapes stand between them

    def matrices(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``(A, B)``, A (.., shared) of the upper layer and B (shared, ..) of the lower one, so that A B
        contracts it."""
        upper = values[self.upper.weight]
        # Units of the upper layer's input are (channel, position): the shared index is the slow one.
        grouped = upper.reshape(upper.shape[0], self.shared, -1).transpose(1, 2).reshape(-1, self.shared)
        return grouped, self.lower.matrix(values)


@dataclass(frozen=True)
class Structure:
    """The weight layers in the order they run, the adjacent pairs, and what is not handled, in words."""

    layers: tuple[Layer, ...]
    pairs: tuple[Pair, ...]
    unhandled: tuple[str, ...]


@dataclass
class Capture:
    """What one module saw in one forward pass."""

    name: str
    module: nn.Module
    inputs: Tensor
    outputs: Tensor
    node: Any
    calls: int = 1


@contextmanager
def capture(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Capture]]:
    """Record inputs and outputs of ``modules`` (of the probe's own copy) in forward passes inside the
    block."""
    seen: dict[str, Capture] = {}

    def keep(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if name in seen:
            seen[name].calls += 1
        elif args and isinstance(args[0], torch.Tensor) and isinstance(output, torch.Tensor):
            seen[name] = Capture(name, module, args[0], output, output.grad_fn)
            # Hand on a copy: an in-place activation that follows must not rewrite what was captured.
            return output.clone() if torch.is_grad_enabled() else None
        return None

    with hooked(modules, keep):
        yield seen


@contextmanager
def hooked(modules: Mapping[str, nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """Within it, ``hook(name, module, args, output)`` is called after the forward of each of ``modules``.

    Not so inside ``torch.func`` (an ensemble by ``vmap``): tensors there have no meaning outside.
    """

    def outside(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if any(is_functorch_wrapped_tensor(tensor) for tensor in tensors_of((args, output))):
            return None
        return hook(name, module, args, output)

    handles = [module.register_forward_hook(partial(outside, name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def weight_layers(network: TorchNetwork, state: State) -> dict[str, nn.Module]:
    """The linear and convolutional modules of a state's copy whose weight is a real parameter of the model."""
    known = {name for name, value in network.model.named_parameters(remove_duplicate=False) if not value.is_complex()}
    return {
        name: module
        for name, module in state.body.module.named_modules()
        if isinstance(module, WEIGHT_LAYERS) and f"{name}.weight".lstrip(".") in known and module.weight.numel()
    }


def canonical_names(network: TorchNetwork) -> dict[str, str]:
    """Every name of every parameter -> the one name it has in the state (they differ for tied weights)."""
    first: dict[int, str] = {}
    names = {}
    for name, value in network.model.named_parameters(remove_duplicate=False):
        names[name] = first.setdefault(id(value), name)
    return names


def _reason(operations: set[str]) -> str:
    named = sorted({words for op in operations for pattern, words in _REASONS if re.search(pattern, op)})
    rest = sorted(op for op in operations if not any(re.search(pattern, op) for pattern, _ in _REASONS))
    return ", ".join(named + rest)


def walked(start: Any, stops: Container[Any] = ()) -> Iterator[Any]:
    """The nodes of an autograd graph from one back to its leaves, or to ``stops``, each once."""
    stack, seen = [start], set()
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            if node not in stops:
                stack.extend(parent for parent, _ in node.next_functions)


def _walk_back(start: Any, stops: Mapping[Any, str]) -> tuple[set[str], set[str]]:
    """Operations passed and sources reached when walking the graph back from a node to known ones."""
    operations: set[str] = set()
    sources: set[str] = set()
    for node in walked(start, stops):
        if node in stops:
            sources.add(stops[node])
        elif type(node).__name__ == "AccumulateGrad":
            sources.add("")  # the network's input, or a parameter that acts outside the weight layers
        else:
            operations.add(re.sub(r"Backward\d*$", "", type(node).__name__))
    return operations, sources


def _shared_dimension(lower: Layer, upper: Layer, values: Mapping[str, Tensor]) -> int | None:
    """How many units (channels) the upper layer reads of the lower one; None if the shapes do not tell."""
    out, into = values[lower.weight].shape[0], values[upper.weight].shape[1]
    if into == out:
        return int(out)
    flattened = lower.convolution and not upper.convolution and into % out == 0
    return int(out) if flattened else None


def find_structure(network: TorchNetwork, state: State, batch: Batch) -> Structure:
    """Weight layers, adjacent pairs and unhandled parts of ``network``, from one forward pass on one
    sample."""
    modules = weight_layers(network, state)
    canonical = canonical_names(network)
    values = state.parameters
    # Frozen parameters take part, so that their layers appear in the graph too; buffers do not.
    points = {name: value.detach().requires_grad_() for name, value in values.items() if has_gradient(value)}
    sample = batch.take([0])
    tensors = [t.clone().requires_grad_() if t.is_floating_point() else t for t in sample.tensors]
    with capture(modules) as seen:
        network.call(state, points, sample.with_tensors(tensors, 1))

    unhandled: list[str] = []
    layers: dict[str, Layer] = {}
    for name, use in seen.items():
        kind = type(use.module).__name__
        layer = Layer(name or kind, kind, canonical[f"{name}.weight".lstrip(".")], name,
                      isinstance(use.module, CONVOLUTIONS))  # fmt: skip
        if getattr(use.module, "groups", 1) != 1 or getattr(use.module, "transposed", False):
            unhandled.append(f"{layer.name}: grouped or transposed convolution")
        elif use.calls > 1:
            unhandled.append(f"{layer.name}: used {use.calls} times in one forward pass")
        layers[name] = layer
    for name, module in state.body.module.named_modules():
        own = [p for p, _ in module.named_parameters(recurse=False)]
        if own and name not in layers and "parametrizations" not in name.split("."):
            unused = "not run as a module on the first sample of the probe batch"
            what = unused if name in modules else "no alignment is defined for its kind"
            unhandled.append(f"{name or type(module).__name__} ({type(module).__name__}): {what}")

    stops = {use.node: name for name, use in seen.items()}
    pairs: list[Pair] = []
    for name, use in seen.items():
        operations, sources = _walk_back(use.inputs.grad_fn, stops)
        below = sources - {""}
        if not below:
            continue
        label = f"{' + '.join(sorted(below))} -> {name}"
        foreign = operations - _UNITWISE
        if foreign:
            unhandled.append(f"{label}: {_reason(foreign)} in between")
        elif len(sources) > 1:
            unhandled.append(f"{label}: a skip (several paths meet)")
        else:
            lower, upper = layers[next(iter(below))], layers[name]
            excluded = any(text.startswith((f"{lower.name}:", f"{upper.name}:")) for text in unhandled)
            shared = _shared_dimension(lower, upper, values)
            if shared is None:
                unhandled.append(f"{label}: the shapes do not tell which units are shared")
            elif not excluded:
                pairs.append(Pair(lower, upper, shared, linear=operations <= _LINEAR))
    return Structure(tuple(layers.values()), tuple(pairs), tuple(dict.fromkeys(unhandled)))
