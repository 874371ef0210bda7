"""A student from the weights of a two-layer PyTorch network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.functions import Activation
from featurephase.problem.values import Student

_SHAPE = "a network of two linear layers with an activation between them: Sequential(Linear, activation, Linear)"

#: On so many inputs the network and what is made of it are compared.
_INPUTS = 32


def student_from_torch(model: Any, directions: ArrayLike | None = None, activation: Activation | str = "") -> Student:
    """The student that a PyTorch network is: Gram matrix, overlaps, readout and biases of its present weights.

    Parameters
    ----------
    model
        Two ``Linear`` layers and an activation between them, for inputs x ~ N(0, I_d); f(x) = A'sigma(Theta'x + b) + c.
    directions
        Latent directions, orthonormal columns (d, k): the network's overlaps with them are then those of the start.
        ``None``: they are independent of the weights, which have no overlap with them in the limit.
    activation
        In place of that of the network, where the catalogue has none of its name.

    Raises
    ------
    InputError
        If the model is no such network, does anything else with its inputs, or the directions do not fit.
    """
    from torch import nn

    if not isinstance(model, nn.Module):
        raise InputError(f"model: {_SHAPE} is needed; got {type(model).__name__}")
    leaves = [module for module in model.modules() if not list(module.children())]
    kinds = ", ".join(type(module).__name__ for module in leaves) or "no modules"
    linear = [module for module in leaves if isinstance(module, nn.Linear)]
    between = [module for module in leaves[1:-1] if not isinstance(module, nn.Identity)]
    in_order = len(linear) == 2 and leaves[0] is linear[0] and leaves[-1] is linear[1] and len(between) <= 1
    if not in_order:
        raise InputError(f"model: {_SHAPE} is needed; got {kinds}")
    first, second = linear
    theta = _numbers(first.weight).T  # (d, m)
    width = theta.shape[1]
    if second.in_features != width:
        raise InputError(f"model: {_SHAPE} is needed; the second takes {second.in_features} of {width} numbers")
    overlap = None
    if directions is not None:
        frame = np.asarray(directions, dtype=np.float64)
        if frame.ndim != 2 or len(frame) != len(theta) or not np.allclose(frame.T @ frame, np.eye(frame.shape[1])):
            raise InputError(f"directions: orthonormal columns of {len(theta)} numbers are needed; got {frame.shape}")
        overlap = frame.T @ theta
    student = Student(
        activation or _activation(between),
        _numbers(second.weight).T,
        theta.T @ theta,
        overlap,
        bias=0.0 if first.bias is None else _numbers(first.bias),
        output_bias=0.0 if second.bias is None else _numbers(second.bias),
    )
    _require_same_function(model, first.weight, student, theta)
    return student


def _require_same_function(model: Any, weight: Any, student: Student, theta: Array) -> None:
    """The layers do not say what ``forward`` does with them: an activation, a scale or a shortcut may stand there."""
    import torch

    x = np.random.default_rng(0).standard_normal((_INPUTS, len(theta)))
    hidden = student.activation.value(x @ theta + student.bias)
    ours = hidden @ student.readout_matrix + student.output_bias
    try:
        with torch.no_grad():
            theirs = _numbers(model(torch.as_tensor(x).to(weight))).reshape(ours.shape)
    except Exception as error:
        raise InputError(f"model: it failed on inputs of shape {x.shape}: {error}") from error
    off = float(np.max(np.abs(theirs - ours)))
    if not off <= np.sqrt(torch.finfo(weight.dtype).eps) * (1.0 + np.max(np.abs(ours))):
        raise InputError(
            f"model: its outputs are not A'sigma(Theta'x + b) + c with the weights of its layers and sigma = "
            f"{student.activation.name}: they differ by {off:.2g}; if forward applies another activation, give it as "
            "activation=; anything else, such as dropout or a shortcut, is not covered"
        )


def _numbers(parameter: Any) -> Array:
    return np.asarray(parameter.detach().cpu().double().numpy())


def _activation(between: list[Any]) -> str:
    """The catalogue's name of an activation of PyTorch."""
    if not between:
        return "linear"
    module = between[0]
    kind = type(module).__name__
    if kind == "GELU":
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    parameters = {"ELU": ("elu", "alpha"), "CELU": ("celu", "alpha"), "LeakyReLU": ("leaky_relu", "negative_slope")}
    if kind in parameters:
        name, parameter = parameters[kind]
        return f"{name}({getattr(module, parameter)!r})"
    if kind == "Softplus":
        return f"softplus({module.beta!r})"
    if kind not in ("ReLU", "Tanh", "Sigmoid", "SiLU", "Mish", "SELU", "Softsign"):
        raise InputError(f"model: the catalogue has no activation like {kind}; give one as activation=")
    return kind.lower()
