"""The network as a pure function of its parameters, read from the user's model without ever touching it.

A state is a private copy of the model (:mod:`featurephase.probe.copies`): its parameters and buffers by name, and the
copy of all else that forward reads. Every evaluation runs on clones of these values and of the inputs, so that a
forward that writes to its weights, buffers or inputs writes to the clones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from featurephase.foundation.errors import InputError
from featurephase.probe.copies import Body, copy_model, hook_signature
from featurephase.probe.memory import Watching, stored, stored_bytes
from featurephase.probe.quiet import isolated
from featurephase.probe.trees import Batch, as_tensors, leaves, transform

Tensor: TypeAlias = Any  # torch ships no types that a strict checker accepts everywhere
Parameters: TypeAlias = dict[str, Tensor]
Forward: TypeAlias = Callable[[Any, Any], Any]
LossFunction: TypeAlias = Callable[[Any, Any], Any]

#: Largest relative difference that any precision excuses.
_COARSE = 0.1


@dataclass(frozen=True)
class State:
    """Where a network stands."""

    body: Body  # the copy of the model without its values
    parameters: Parameters  # all by name; complex ones as real tensors with a last dimension of 2
    buffers: Parameters  # all by name
    names: tuple[str, ...]  # the trainable parameters, in the model's order
    harmonise: bool = False  # whether the values are in another floating-point type than the user's

    @property
    def trainable(self) -> Parameters:
        """The parameters that require a gradient."""
        return {name: self.parameters[name] for name in self.names}

    @property
    def size(self) -> int:
        """Number of trainable real numbers."""
        return sum(value.numel() for value in self.trainable.values())

    @property
    def bytes(self) -> int:
        """Bytes of all its values."""
        return sum(map(stored_bytes, (*self.parameters.values(), *self.buffers.values())))

    def moved(self, values: Mapping[str, Tensor]) -> State:
        """The state with some parameters replaced."""
        return replace(self, parameters={**self.parameters, **values})

    def with_statistics_of(self, other: State) -> State:
        """These trainable parameters, with all that is not trained (buffers, frozen parameters, attributes) of
        ``other``."""
        return replace(other, parameters={**other.parameters, **self.trainable}, names=self.names)

    def same_statistics(self, other: State) -> bool:
        """Whether all that is not trained has the same values."""
        mine, theirs = ({**s.parameters, **s.buffers} for s in (self, other))
        fixed = set(mine) - set(self.names) - set(other.names)
        return set(mine) == set(theirs) and all(
            mine[n] is theirs[n] or (mine[n].shape == theirs[n].shape and _equal(mine[n], theirs[n])) for n in fixed
        )

    def cast(self, dtype: torch.dtype) -> State:
        """Floating-point values in another type."""

        def to(values: Parameters) -> Parameters:
            return {n: v.to(dtype) if has_gradient(v) else v for n, v in values.items()}

        return replace(self, parameters=to(self.parameters), buffers=to(self.buffers), harmonise=True)


def allowed_difference(units: float, eps: float) -> float:
    """So many units of a precision, but no more than a tenth: in half precision they would be anything."""
    return min(units * eps, _COARSE)


class Precision(Watching):
    """Within it, the coarsest floating-point type that any operation computes in is noted."""

    eps: float = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.clone.default:  # which computes nothing
            return made
        for value in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
                self.eps = max(self.eps, float(torch.finfo(value.dtype).eps))
        return made


@dataclass
class TorchNetwork:
    """``f(theta, x)`` of a model in evaluation mode, as a matrix of N inputs by C outputs.

    Raises
    ------
    InputError
        If nothing is trainable, or parts of the model hide their parameters.
    """

    model: nn.Module  # compiled and data-parallel wrappers are looked through
    dtype: torch.dtype | None = None  # floating-point type to measure in; default the model's own, at least float32
    forward: Forward | None = None  # forward(model, inputs) calls the model; default: see raw
    loss: LossFunction | None = None  # loss(what the model returns, targets)
    chunk: int = 0  # samples evaluated at once; 0: all
    room: float = float("inf")  # bytes left beside the copies of the model
    run_hooks: bool = False
    differentiates: bool = False  # whether forward or loss call autograd themselves, so that it must be on for them
    eps: float = 0.0  # of the coarsest arithmetic in forward that its outputs show
    coarsest: float = 0.0  # of any operation in forward
    notes: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = _unwrap(self.model)
        parameters = dict(self.model.named_parameters())
        for name, value in parameters.items():
            if isinstance(value, nn.parameter.UninitializedParameter):
                raise InputError(f"parameter {name!r} has no shape yet: run the model once before probing it")
        names = tuple(name for name, value in parameters.items() if value.requires_grad)
        if not names:
            raise InputError(
                f"nothing to probe: the model has {len(parameters)} parameters and none requires a gradient"
            )
        _require_values(parameters)
        _require_own_memory(parameters)
        devices = {value.device for value in parameters.values()}
        if len(devices) > 1:
            raise InputError(f"the model is spread over {sorted(map(str, devices))}; the probe takes one device")
        self.device: torch.device = parameters[names[0]].device
        numbers = [v for v in parameters.values() if has_gradient(v) or v.is_complex()]
        kinds = {v.dtype.to_real() if v.is_complex() else v.dtype for v in numbers}
        widest = functools.reduce(torch.promote_types, kinds, torch.float32)
        self.casts: bool = self.dtype not in (None, widest) or any(torch.finfo(k).bits < 32 for k in kinds)
        self.dtype = widest if self.dtype is None else self.dtype
        self.eps = float(torch.finfo(self.dtype).eps)
        self.types = {name: value.dtype for name, value in parameters.items()}
        self.shapes = {name: _real_shape(value) for name, value in parameters.items()}

    def allowed(self, units: float) -> float:
        """So many units of the precision as a relative difference, but no more than a tenth in half precision."""
        return allowed_difference(units, self.eps)

    @property
    def bytes_per_number(self) -> int:
        """Of the type that is measured in."""
        return int(torch.finfo(self.dtype).bits // 8)

    def isolated(self) -> AbstractContextManager[None]:
        """Global state of Python and torch, set aside for the block."""
        return isolated(self.device)

    def state(self) -> State:
        """A copy of where the model stands now.

        Raises
        ------
        InputError
            If parameters appeared, vanished or changed shape since the probe was made, or the copy fails.
        """
        live = {name: _real_shape(value) for name, value in self.model.named_parameters()}
        if live != self.shapes:
            changed = sorted(n for n in {*live, *self.shapes} if live.get(n) != self.shapes.get(n))
            raise InputError(f"parameters changed since the probe was made: {', '.join(changed)}")
        self._note_changes()
        body = copy_model(self.model, run_hooks=self.run_hooks, loss=self.loss, forward=self.forward)
        for name in body.shared:
            self.notes[f"{name} cannot be copied: the probe's evaluations use the model's own"] = None
        parameters = {}
        for name, value in body.parameters.items():
            value.data = self.cast(value.detach())
            parameters[name] = torch.view_as_real(value.detach()) if value.is_complex() else value.detach()
        buffers: Parameters = {}
        for (module, _), (_, owned) in zip(body.pairs, body.places, strict=True):
            buffers |= {name: self.cast(module._buffers[key]) for key, name in owned.items() if name}
        names = tuple(name for name, value in body.parameters.items() if value.requires_grad)
        return State(body, parameters, buffers, names, self.casts)

    def _note_changes(self) -> None:
        """What became of the user's parameters since the start, and is not followed."""
        parameters = dict(self.model.named_parameters())
        if not self.casts and any(value.dtype != self.types[name] for name, value in parameters.items()):
            self.casts = True
            kind = str(self.dtype).removeprefix("torch.")
            self.notes[f"the model's floating-point type changed: measured in {kind} as at the start"] = None
        masked = [name for name, value in parameters.items() if value._backward_hooks]
        if masked:
            self.notes[
                f"gradient hooks on {', '.join(masked)} are not run: kernel and Hessian are those of the outputs and "
                "the loss, whatever the hooks make of the gradients in training"
            ] = None

    def cast(self, value: Tensor) -> Tensor:
        """``value`` on the network's device, in the type that is measured in, detached.

        Integers, and floating-point numbers where the model's own type is measured in, stay as they are.
        """
        value = value.detach().to(self.device)
        if value.is_inference():  # made in inference mode: autograd takes a copy only
            value = value.clone()
        if not self.casts:
            return value
        if value.is_complex():
            return value.to(torch.promote_types(self.dtype, torch.complex32))
        return value.to(self.dtype) if has_gradient(value) else value

    def wide(self, value: Tensor) -> Tensor:
        """``value`` in the type that is measured in, where forward computed it in a narrower one."""
        return value.to(torch.promote_types(value.dtype, self.dtype))

    def own(self, tree: Any, what: str) -> Any:
        """A copy of the user's inputs or targets, in their shape and form."""
        return transform(
            lambda leaf: self.cast(leaf).clone() if isinstance(leaf, torch.Tensor) else leaf, as_tensors(tree, what)
        )

    @contextmanager
    def running(self, state: State, values: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """The model to be run, on clones of the state's values; ``values`` (differentiable) replace some of them."""
        installed = {}
        for name, value in {**state.parameters, **values}.items():
            clone = value.clone()
            origin = state.body.parameters[name]
            if origin.is_complex():
                clone = torch.view_as_complex(clone)
            vars(clone).update(vars(origin), _is_param=True)  # by which torch.nn.Parameter knows its instances
            if self.differentiates and name in state.names and torch.is_grad_enabled() and not clone.requires_grad:
                clone.requires_grad_()
            installed[name] = clone
        installed |= {name: value.clone() for name, value in state.buffers.items()}
        with state.body.lent(installed, state.harmonise) as module:
            yield module

    def raw(self, state: State, module: nn.Module, batch: Batch) -> Any:
        """What the model returns for a copy of the inputs."""
        inputs = batch.copied()
        if state.body.forward is not None:
            return state.body.forward(module, inputs)
        if isinstance(inputs, Mapping):
            return module(**inputs)
        if isinstance(inputs, (tuple, list)) and not hasattr(inputs, "_fields"):
            return module(*inputs)
        return module(inputs)

    def call(self, state: State, values: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The outputs (N, C); differentiable in ``values``."""

        def compute() -> Tensor:
            with self.running(state, values) as module:
                return self.matrix(self.raw(state, module, batch), batch.samples)

        return self._run(compute)

    def _run(self, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` gives; where the caller wants no graph none is left, even if forward itself needs one."""
        if torch.is_grad_enabled():
            return compute()
        if not self.differentiates:
            try:
                return compute()
            except RuntimeError as error:  # a penalty on gradients, forces that are the gradient of an energy
                if "does not require grad" not in str(error):
                    raise
                self.differentiates = True
        with torch.enable_grad():
            return compute().detach()

    def loss_at(self, state: State, values: Mapping[str, Tensor], batch: Batch, targets: Any) -> Tensor:
        """``loss(what the model returns, targets)``, in one evaluation with everything the loss may reach.

        Raises
        ------
        InputError
            If it is not one number.
        """

        def compute() -> Any:
            wanted = transform(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, targets)
            with self.running(state, values) as module:
                return self._number(state.body.loss(self.raw(state, module, batch), wanted))

        return self._run(compute)

    @staticmethod
    def _number(value: Any) -> Tensor:
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            what = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise InputError(f"the loss must return one number, not {what}")
        return value.reshape(())

    def matrix(self, raw: Any, samples: int) -> Tensor:
        """The tensor among the model's outputs, as (N, C); several are put side by side."""
        chosen, note = _chosen(raw, samples)
        if note:
            self.notes[note] = None
        if samples > 1 and (chosen.dim() == 0 or chosen.shape[0] != samples):  # forward may squeeze a single one
            raise InputError(f"{samples} inputs gave outputs of shape {tuple(chosen.shape)}; samples come first")
        if chosen.is_complex():
            raise InputError("the outputs are complex: return their real and imaginary part (torch.view_as_real)")
        return chosen.reshape(samples, -1)

    def evaluate(self, state: State, batch: Batch) -> Tensor:
        """The outputs (N, C) without a graph."""
        with torch.no_grad():
            return torch.cat([self.call(state, {}, part) for part in batch.parts(self.chunk)])

    def has_room_for_double(self, state: State) -> bool:
        """Whether the values, their clones and their gradients fit in double precision too."""
        return bool(6 * 8 * sum(value.numel() for value in state.parameters.values()) < self.room)

    def random(self, name: str, seed: int, count: int = 1) -> Tensor:
        """Normal numbers for one parameter, (count, *shape): the same on every device, whatever else is trained."""
        place = list(self.shapes).index(name)
        generator = torch.Generator().manual_seed((seed * 1_000_003 + place) % 2**63)
        return torch.randn(count, *self.shapes[name], generator=generator, dtype=self.dtype).to(self.device)

    def signature(self) -> tuple[Any, ...]:
        """Changes whenever the function may have another form: parameters, their use, modules, hooks."""
        parameters = tuple(
            (name, id(value), value.requires_grad)
            for name, value in self.model.named_parameters(remove_duplicate=False)
        )
        modules = tuple((name, id(module), type(module)) for name, module in self.model.named_modules())
        return (parameters, modules, hook_signature(self.model))


def _require_values(parameters: Mapping[str, Tensor]) -> None:
    """Refuse parameters without values, and trained ones of a type that has no gradients.

    Raises
    ------
    InputError
        With what would do.
    """
    if any(value.device.type == "meta" for value in parameters.values()):
        raise InputError(
            "parameters on the device 'meta' have no values: model.to_empty(device='cpu'), and load or initialise them"
        )
    packed = [n for n, v in parameters.items() if v.requires_grad and not (has_gradient(v) or v.is_complex())]
    if packed:
        raise InputError(f"{', '.join(packed)}: numbers of 8 bits cannot be trained by gradients; freeze or convert")


def _require_own_memory(parameters: Mapping[str, Tensor]) -> None:
    """Refuse two parameters that are one: each of them would be taken to move alone.

    Raises
    ------
    InputError
        With their names.
    """
    shared: dict[int, list[str]] = {}
    for name, value in parameters.items():
        if value.layout is torch.strided and value.numel():
            shared.setdefault(value.untyped_storage().data_ptr(), []).append(name)
    for names in shared.values():
        if len(names) == 1:
            continue
        unit = min(parameters[name].element_size() for name in names)
        owner = torch.zeros(parameters[names[0]].untyped_storage().nbytes() // unit, dtype=torch.int32)  # 0: nobody
        for number, name in enumerate(names, start=1):
            value = parameters[name]
            size = value.element_size() // unit
            steps = [size * step for step in value.stride()]
            places = torch.arange(len(owner)).as_strided(value.shape, steps, size * value.storage_offset()).flatten()
            if other := int(owner[places].max()):
                raise InputError(
                    f"{names[other - 1]} and {name} are two parameters in the same memory, so that a step of either "
                    "moves both: give the layers one parameter, or read the other layer's in forward "
                    "(F.linear(h, a.weight.t()))"
                )
            owner[places] = number


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape have the same values; what is no number equals itself."""
    for pair in zip(stored(one), stored(other), strict=False):
        a, b = (t.float() if t.is_floating_point() and not has_gradient(t) else t for t in pair)
        same = a.shape == b.shape and (torch.equal(a, b) or torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())
        if not same:
            return False
    return bool(one.layout == other.layout)


def has_gradient(value: Tensor) -> bool:
    """Whether the numbers can have a gradient: floating-point ones of more than 8 bits; others are stored values."""
    return bool(value.is_floating_point() and torch.finfo(value.dtype).bits > 8)


def _real_shape(value: Tensor) -> tuple[int, ...]:
    return (*value.shape, 2) if value.is_complex() else tuple(value.shape)


def _chosen(raw: Any, samples: int) -> tuple[Tensor, str]:
    """The outputs to be probed among what the model returned, and a note on the choice."""
    if isinstance(raw, torch.Tensor):
        return raw, ""
    logits = raw.get("logits") if isinstance(raw, Mapping) else getattr(raw, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits, "outputs: the model's logits were taken"
    parts = [
        (name, leaf)
        for name, leaf in leaves(raw)
        if isinstance(leaf, torch.Tensor)
        and (leaf.is_floating_point() or leaf.is_complex())
        and leaf.dim()
        and leaf.shape[0] == samples
    ]
    if not parts:
        raise InputError(
            f"the model returns {type(raw).__name__} without a tensor of {samples} rows: say what to take, "
            "forward=lambda model, inputs: model(inputs).field"
        )
    names = ", ".join(name for name, _ in parts)
    if len(parts) == 1:
        return parts[0][1], f"outputs: the only tensor of {type(raw).__name__}, {names}, was taken"
    flat = [leaf.reshape(samples, -1) for _, leaf in parts]
    return torch.cat(flat, 1), f"outputs: {len(parts)} tensors side by side: {names} (forward= takes others)"


def _unwrap(model: Any) -> nn.Module:
    """The user's own module behind ``torch.compile`` and data-parallel wrappers."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the probe takes a torch.nn.Module, not {type(model).__name__}")
    if hasattr(model, "_orig_mod"):
        return _unwrap(model._orig_mod)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _unwrap(model.module)
    return model
