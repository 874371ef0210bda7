"""The network as a pure function of its parameters, read from the user's model without ever touching it.

A structural copy of the model is made once, with empty parameters; values are read from the live model
and handed to the copy by :func:`torch.func.functional_call`. The live model is never run, so that no hook
fires, no gradient, buffer or mode changes and no random number is drawn from its generators.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from featurephase.foundation.errors import InputError

__all__ = ["Network", "State", "Tensor"]

Tensor: TypeAlias = Any  # torch ships no types that a strict checker accepts everywhere
Parameters: TypeAlias = dict[str, Tensor]

_BATCH_COUPLED = (nn.modules.batchnorm._BatchNorm,)
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


@dataclass(frozen=True)
class State:
    """Where a network stands: trainable parameters, and all that is held fixed (frozen parameters,
    buffers)."""

    trainable: Parameters
    fixed: Parameters

    def copy(self) -> State:
        """The same values in memory of their own."""
        return State(
            {name: value.clone() for name, value in self.trainable.items()},
            {name: value.clone() for name, value in self.fixed.items()},
        )

    def moved(self, trainable: Mapping[str, Tensor]) -> State:
        """The state with some trainable parameters replaced."""
        return State({**self.trainable, **trainable}, self.fixed)


class Network:
    """``f(theta, x)`` of a model in evaluation mode, as a matrix of N inputs by C outputs.

    Parameters
    ----------
    model
        Any module that maps one tensor (first dimension: samples) to one tensor. Compiled and
        data-parallel wrappers are looked through.
    dtype
        Floating-point type to measure in; default the model's own, at least float32.

    Raises
    ------
    InputError
        If nothing is trainable, the model cannot be copied, or its weights are computed in hooks.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        self.model = _unwrap(model)
        parameters = dict(self.model.named_parameters())
        for name, value in parameters.items():
            if isinstance(value, nn.parameter.UninitializedParameter):
                raise InputError(f"parameter {name!r} has no shape yet: run the model once before probing it")
        self.names = tuple(name for name, value in parameters.items() if value.requires_grad)
        if not self.names:
            raise InputError(
                f"nothing to probe: the model has {len(parameters)} parameters and none requires a gradient"
            )
        first = parameters[self.names[0]]
        self.device: torch.device = first.device
        devices = {value.device for value in parameters.values()}
        if len(devices) > 1:
            raise InputError(f"the model is spread over {sorted(map(str, devices))}; the probe takes one device")
        own = torch.promote_types(first.dtype, torch.float32)
        self.dtype: torch.dtype = own if dtype is None else dtype
        self.shapes = {name: tuple(parameters[name].shape) for name in self.names}
        self.sizes = {name: parameters[name].numel() for name in self.names}
        self.size = sum(self.sizes.values())
        self.notes: list[str] = []
        self._shadow = self._copy(parameters)

    def _copy(self, parameters: Mapping[str, Tensor]) -> nn.Module:
        """A structural copy in evaluation mode whose parameters take no memory and whose hooks are gone."""
        memo: dict[int, Any] = {
            id(value): nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
            for value in parameters.values()
        }
        try:
            shadow: nn.Module = copy.deepcopy(self.model, memo)
        except Exception as error:
            raise InputError(f"the model cannot be copied, which the probe needs: {error}") from error
        for name, module in shadow.named_modules():
            where = name or type(module).__name__
            if any(type(hook).__name__ in _WEIGHT_HOOKS for hook in module._forward_pre_hooks.values()):
                raise InputError(
                    f"{where}: its weight is computed in a hook; use torch.nn.utils.parametrizations instead"
                )
            if any(getattr(module, kind, None) for kind in _HOOKS):
                self.notes.append(f"hooks on {where}: not run by the probe")
            for kind in _HOOKS:
                if hasattr(module, kind):
                    getattr(module, kind).clear()
            if isinstance(module, _BATCH_COUPLED) and module.running_mean is None:
                raise InputError(
                    f"{where}: batch normalisation without running statistics makes one output depend on "
                    "the other inputs; use track_running_stats=True"
                )
        return shadow.eval()

    @property
    def shadow(self) -> nn.Module:
        """The structural copy: for hooks of the probe's own, and for its module tree."""
        return self._shadow

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Random state, autocast and gradient modes of the caller, set aside for the block."""
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(self.device.type, enabled=False),
            sdpa_kernel(SDPBackend.MATH),  # the only attention kernel with forward and second derivatives
        ):
            yield

    def cast(self, value: Tensor) -> Tensor:
        """``value`` on the network's device, floating-point numbers in the probe's type, detached."""
        value = torch.as_tensor(value).detach().to(self.device)
        if value.is_inference():  # made in inference mode: autograd takes a copy only
            value = value.clone()
        return value.to(self.dtype) if value.is_floating_point() else value

    def state(self) -> State:
        """The live values: views of the model's parameters where no cast is needed, buffers as copies.

        Raises
        ------
        InputError
            If parameters appeared, vanished or changed shape since the probe was made.
        """
        parameters = dict(self.model.named_parameters())
        live = {name: tuple(parameters[name].shape) for name in self.names if name in parameters}
        if live != self.shapes:
            changed = sorted(name for name in self.names if live.get(name) != self.shapes[name])
            raise InputError(f"parameters changed shape since the probe was made: {', '.join(changed)}")
        fixed = {name: self.cast(value) for name, value in parameters.items() if name not in self.shapes}
        fixed |= {name: self.cast(value).clone() for name, value in self.model.named_buffers()}
        return State({name: self.cast(parameters[name]) for name in self.names}, fixed)

    def call(self, trainable: Mapping[str, Tensor], fixed: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """The outputs (N, C) for ``inputs``; differentiable in ``trainable``."""
        outputs = torch.func.functional_call(self._shadow, {**fixed, **trainable}, (inputs,))
        if not isinstance(outputs, torch.Tensor):
            raise InputError(f"the model returns {type(outputs).__name__}; the probe takes one tensor: wrap the model")
        return outputs.reshape(outputs.shape[0], -1) if outputs.dim() else outputs.reshape(1, 1)

    def evaluate(self, state: State, inputs: Tensor) -> Tensor:
        """The outputs (N, C) without a graph."""
        with torch.no_grad():
            return self.call(state.trainable, state.fixed, inputs)

    def function(self, state: State, inputs: Tensor) -> Callable[[Parameters], Tensor]:
        """``trainable -> outputs`` at fixed inputs: what the differential operators of torch.func take."""
        return lambda trainable: self.call(trainable, state.fixed, inputs)

    def push(self, state: State, inputs: Tensor, tangent: Mapping[str, Tensor]) -> Tensor:
        """``J v``: the first-order change of the outputs (N, C) along a direction in parameter space."""
        function = self.function(state, inputs)
        try:
            return torch.func.jvp(function, (state.trainable,), (dict(tangent),))[1].detach()
        except (NotImplementedError, RuntimeError):
            return self._push_by_two_reversals(state, inputs, tangent)

    def _push_by_two_reversals(self, state: State, inputs: Tensor, tangent: Mapping[str, Tensor]) -> Tensor:
        """``J v`` as the derivative of the linear map ``c -> J'c``, for operations without a forward mode."""
        leaves = {name: value.detach().requires_grad_() for name, value in state.trainable.items()}
        outputs = self.call(leaves, state.fixed, inputs)
        dual = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, list(leaves.values()), dual, create_graph=True, allow_unused=True, materialize_grads=True
        )
        along = sum((value * tangent[name]).sum() for name, value in zip(leaves, pulled, strict=True))
        (pushed,) = torch.autograd.grad(along, dual)
        return pushed.detach()

    def pull(self, state: State, inputs: Tensor, cotangent: Tensor) -> Parameters:
        """``J' c``: the gradient of ``<c, outputs>`` with respect to the trainable parameters."""
        leaves = {name: value.detach().requires_grad_() for name, value in state.trainable.items()}
        outputs = self.call(leaves, state.fixed, inputs)
        pulled = torch.autograd.grad(
            outputs, list(leaves.values()), cotangent, allow_unused=True, materialize_grads=True
        )
        return dict(zip(leaves, pulled, strict=True))

    def flatten(self, values: Mapping[str, Tensor]) -> Tensor:
        """One vector of length ``size``, in the order of ``names``."""
        return torch.cat([values[name].reshape(-1) for name in self.names])

    def unflatten(self, vector: Tensor) -> Parameters:
        """The inverse of :meth:`flatten`."""
        pieces = torch.split(vector, [self.sizes[name] for name in self.names])
        return {name: piece.reshape(self.shapes[name]) for name, piece in zip(self.names, pieces, strict=True)}

    def check(self, inputs: Tensor) -> None:
        """Refuse inputs on which the network is no function of one input at a time.

        Raises
        ------
        InputError
            If the forward pass fails, is not finite, draws random numbers in evaluation mode, or mixes
            samples.
        """
        if inputs.dim() == 0 or inputs.shape[0] == 0:
            raise InputError(
                f"the probe batch must have samples in its first dimension, not shape {tuple(inputs.shape)}"
            )
        state = self.state()
        try:
            outputs, again = self.evaluate(state, inputs), self.evaluate(state, inputs)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"the network fails on the probe batch of shape {tuple(inputs.shape)}: {error}") from error
        if outputs.device.type == "meta":
            raise InputError("the model reaches its parameters by a path other than its attributes; register them")
        if outputs.shape[0] != inputs.shape[0]:
            raise InputError(f"{inputs.shape[0]} inputs gave {outputs.shape[0]} rows of outputs; samples come first")
        if not outputs.is_floating_point() or not bool(torch.isfinite(outputs).all()):
            raise InputError("the network's outputs on the probe batch are not finite real numbers")
        if not torch.equal(outputs, again):
            raise InputError(
                "two evaluations of the network differ although it is in evaluation mode: "
                "it draws random numbers (a functional dropout that ignores the mode?)"
            )
        if inputs.shape[0] > 1:
            alone = self.evaluate(state, inputs[:1])
            scale = float(outputs.abs().max()) or 1.0
            if float((alone - outputs[:1]).abs().max()) > 1e3 * torch.finfo(self.dtype).eps * scale:
                raise InputError("the output for one input depends on the other inputs of the batch")


_WEIGHT_HOOKS = ("WeightNorm", "SpectralNorm")


def _unwrap(model: Any) -> nn.Module:
    """The user's own module behind ``torch.compile`` and data-parallel wrappers."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the probe takes a torch.nn.Module, not {type(model).__name__}")
    if hasattr(model, "_orig_mod"):
        return _unwrap(model._orig_mod)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _unwrap(model.module)
    return model
