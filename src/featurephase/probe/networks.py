"""Networks to probe at once: multilayer perceptrons of any depth and a small convolutional network."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from featurephase.foundation.errors import InputError
from featurephase.probe.functional import Tensor
from featurephase.probe.parameterisations import LayerScale, layer_scales

__all__ = ["ACTIVATIONS", "NETWORKS", "Scale", "build_network"]

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


def build_network(
    kind: str,
    inputs: int,
    outputs: int,
    *,
    depth: int = 2,
    width: int = 256,
    activation: str = "relu",
    bias: bool = False,
    image: tuple[int, int, int] | None = None,
    parameterisation: str = "standard",
    init_scale: float = 1.0,
    output_scale: float = 1.0,
    layer_rates: list[float] | None = None,
    seed: int = 0,
) -> tuple[nn.Module, list[dict[str, object]]]:
    """A network on flat inputs, initialised from ``seed``, and its parameter groups with learning-rate factors ``lr``.

    Parameters
    ----------
    kind
        ``"mlp"``: ``depth`` hidden layers; ``"cnn"``: ``depth`` convolutions of 3x3, each followed by a
        pooling by 2 while the image allows, then a linear read-out.
    inputs, outputs
        Dimensions of the data.
    width
        Units (channels) of every hidden layer.
    image
        (channels, rows, columns) of the inputs; needed by the cnn.
    parameterisation, init_scale, output_scale, layer_rates
        See :func:`~featurephase.probe.parameterisations.layer_scales`.

    Raises
    ------
    InputError
        If a name is unknown or a number out of range.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")
    if depth < 0 or width < 1:
        raise InputError(f"depth {depth} and width {width}: expected depth >= 0 and width >= 1")
    make, gain = ACTIVATIONS[activation]
    modules: list[nn.Module] = []
    if kind == "mlp":
        sizes = [inputs, *[width] * depth, outputs]
        layers = [nn.Linear(a, b, bias=bias) for a, b in pairwise(sizes)]
        tails: list[list[nn.Module]] = [[make()] for _ in range(depth)]
    elif kind == "cnn":
        if image is None:
            raise InputError("cnn: this task has no images; use the mlp")
        channels, rows, columns = image
        modules.append(nn.Unflatten(1, image))
        layers, tails = [], []
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=bias))
            pool = min(rows, columns) >= 4
            tails.append([make(), *([nn.AvgPool2d(2)] if pool else [])])
            channels, rows, columns = width, rows // (2 if pool else 1), columns // (2 if pool else 1)
        if tails:
            tails[-1].append(nn.Flatten())
        else:
            modules.append(nn.Flatten())
        layers.append(nn.Linear(channels * rows * columns, outputs, bias=bias))
    else:
        raise InputError(f"network {kind!r}: expected one of {', '.join(NETWORKS)}")
    fan_ins = [math.prod(layer.weight.shape[1:]) for layer in layers]
    scales = layer_scales(
        parameterisation,
        fan_ins,
        width,
        gain=gain,
        init_scale=init_scale,
        output_scale=output_scale,
        layer_rates=layer_rates,
    )
    generator = torch.Generator().manual_seed(seed)
    groups: list[dict[str, object]] = []
    for layer, scale, tail in zip(layers, scales, [*tails, []], strict=True):
        _initialise(layer, scale, generator)
        groups.append({"params": list(layer.parameters()), "lr": scale.rate})
        modules += [layer, *([] if scale.multiplier == 1.0 else [Scale(scale.multiplier)]), *tail]
    return nn.Sequential(*modules), groups


def _initialise(layer: nn.Module, scale: LayerScale, generator: torch.Generator) -> None:
    with torch.no_grad():
        layer.weight.normal_(0.0, scale.deviation, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
