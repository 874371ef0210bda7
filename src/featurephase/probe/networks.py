"""Networks to probe at once: multilayer perceptrons of any depth and a small convolutional network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import nn

from featurephase.foundation.errors import InputError
from featurephase.probe.functional import Tensor
from featurephase.probe.parameterisations import layer_scales

NETWORKS = ("mlp", "cnn")


class Scale(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Multiply by a fixed number: the forward factor of a parameterisation."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """``factor x``."""
        return x * self.factor

    def extra_repr(self) -> str:
        """Shown in the printed network."""
        return f"{self.factor:.4g}"


#: Activation -> (module, gain that keeps the mean square of standard normal pre-activations for relu).
ACTIVATIONS: dict[str, tuple[type[nn.Module], float]] = {
    "relu": (nn.ReLU, 2.0),
    "gelu": (nn.GELU, 1.0),
    "silu": (nn.SiLU, 1.0),
    "tanh": (nn.Tanh, 1.0),
    "linear": (nn.Identity, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Form and scales of a network to be built."""

    depth: int = 2  # hidden layers
    width: int = 256  # units (channels) of every one
    activation: str = "relu"  # a name of ACTIVATIONS
    bias: bool = False  # whether layers have biases
    image: tuple[int, int, int] | None = None  # (channels, rows, columns) of the inputs; needed by the cnn
    parameterisation: str = "standard"  # this and the rest: see layer_scales
    init_scale: float = 1.0
    output_scale: float = 1.0
    layer_rates: list[float] | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation {self.activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        if self.depth < 0 or self.width < 1:
            raise InputError(f"depth {self.depth} and width {self.width}: expected depth >= 0 and width >= 1")


def build_network(
    kind: str, inputs: int, outputs: int, *, seed: int = 0, **options: Any
) -> tuple[nn.Module, list[dict[str, object]]]:
    """A network on flat inputs, initialised from ``seed``, and its parameter groups with learning-rate factors ``lr``.

    ``"mlp"``: ``depth`` hidden layers; ``"cnn"``: ``depth`` convolutions of 3x3, each followed by a pooling by 2 while
    the image allows, then a linear read-out. ``options`` are fields of :class:`NetworkOptions`.

    Raises
    ------
    InputError
        If a name is unknown or a number out of range.
    """
    given = NetworkOptions(**options)
    if kind not in NETWORKS:
        raise InputError(f"network {kind!r}: expected one of {', '.join(NETWORKS)}")
    parts = _perceptron(inputs, outputs, given) if kind == "mlp" else _convolutional(outputs, given)
    head, layers, tails = parts
    scales = layer_scales(
        given.parameterisation,
        [math.prod(layer.weight.shape[1:]) for layer in layers],
        given.width,
        gain=ACTIVATIONS[given.activation][1],
        init_scale=given.init_scale,
        output_scale=given.output_scale,
        layer_rates=given.layer_rates,
    )
    generator = torch.Generator().manual_seed(seed)
    groups: list[dict[str, object]] = []
    modules = list(head)
    for layer, scale, tail in zip(layers, scales, [*tails, []], strict=True):
        with torch.no_grad():
            layer.weight.normal_(0.0, scale.deviation, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        groups.append({"params": list(layer.parameters()), "lr": scale.rate})
        modules += [layer, *([] if scale.multiplier == 1.0 else [Scale(scale.multiplier)]), *tail]
    return nn.Sequential(*modules), groups


#: What comes first, the weight layers, and what follows each hidden one.
_Parts: TypeAlias = tuple[list[nn.Module], list[nn.Module], list[list[nn.Module]]]


def _perceptron(inputs: int, outputs: int, given: NetworkOptions) -> _Parts:
    make, _ = ACTIVATIONS[given.activation]
    sizes = [inputs, *[given.width] * given.depth, outputs]
    layers = [nn.Linear(a, b, bias=given.bias) for a, b in pairwise(sizes)]
    return [], layers, [[make()] for _ in range(given.depth)]


def _convolutional(outputs: int, given: NetworkOptions) -> _Parts:
    make, _ = ACTIVATIONS[given.activation]
    if given.image is None:
        raise InputError("cnn: this task has no images; use the mlp")
    channels, rows, columns = given.image
    head: list[nn.Module] = [nn.Unflatten(1, given.image)]
    layers: list[nn.Module] = []
    tails: list[list[nn.Module]] = []
    for _ in range(given.depth):
        layers.append(nn.Conv2d(channels, given.width, 3, padding=1, bias=given.bias))
        pool = min(rows, columns) >= 4
        tails.append([make(), *([nn.AvgPool2d(2)] if pool else [])])
        channels, rows, columns = given.width, rows // (2 if pool else 1), columns // (2 if pool else 1)
    (tails[-1] if tails else head).append(nn.Flatten())
    layers.append(nn.Linear(channels * rows * columns, outputs, bias=given.bias))
    return head, layers, tails
