"""A private copy of the user's model, and the user's own modules lent to it for the time of an evaluation.

Nothing of the user's is ever run on: a copy of the whole module tree is made, in evaluation mode, with its own
parameters, buffers and attributes. A loss or a forward may however reach the model by other ways than its argument
(``model.parameters()`` in a penalty, ``model.codes`` that forward stored, a list of parameters made before). For the
time of one evaluation the user's module objects therefore show the copy's attributes (their ``__dict__`` is
exchanged and put back), and a parameter that is reached by an old reference is exchanged for its value in every call
of torch.
"""

from __future__ import annotations

import copy
import functools
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode

from featurephase.foundation.errors import InputError

#: Attributes of a module that hold hooks.
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)
#: Hooks that can change what forward computes.
_FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
#: Old-style reparametrisations of torch: their hook computes the layer's weight before every forward.
_WEIGHT_HOOKS = ("WeightNorm", "SpectralNorm")
#: Bytes of a tensor beside the model that is shared rather than copied for every record.
_LARGE = 16 << 20
#: Handles of compilation and data-parallel machinery: of no meaning to a copy that is run eagerly.
_DROPPED = ("_compiled_call_impl", "dynamo_ctx")


#: Layouts of tensors that torch can copy itself.
_PLAIN = (torch.strided, torch.sparse_coo)


class _Detached(TorchFunctionMode):  # type: ignore[misc]  # torch is untyped here
    """Within it ``copy.deepcopy`` takes tensors that are results of operations, as values without their graph.

    It also takes compressed sparse ones, which have no storage that it could copy.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__ and not (args[0].is_leaf and args[0].layout in _PLAIN):
            value = args[1][id(args[0])] = args[0].detach().clone()
            return value
        return func(*args, **(kwargs or {}))


class _Small(_Detached):
    """The same for what a loss or a forward reads beside the model: large tensors (a data set) are shared."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__ and id(args[0]) not in args[1] and args[0].nbytes > _LARGE:
            return args[0]
        return super().__torch_function__(func, types, args, kwargs)


class _Exchange(TorchFunctionMode):  # type: ignore[misc]  # torch is untyped here
    """Tensors that calls of torch reach by an old reference are exchanged for the values of the evaluation.

    Where the measurements are made in another floating-point type than the user's, a call that mixes the two (class
    weights of a loss, constants made in forward) is repeated with all its arguments in the wider one.
    """

    def __init__(self, values: Mapping[int, Any], harmonise: bool) -> None:
        super().__init__()
        self.values, self.harmonise = values, harmonise

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = tuple(self._exchanged(a) for a in args)
        kwargs = {key: self._exchanged(a) for key, a in kwargs.items()} if kwargs else {}
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            if not self.harmonise:
                raise
            widened = _widened([*args, *kwargs.values()])
            if widened is None:
                raise
            return func(*widened[: len(args)], **dict(zip(kwargs, widened[len(args) :], strict=True)))

    def _exchanged(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.values.get(id(value), value)
        if type(value) in (list, tuple):
            return type(value)(self._exchanged(v) for v in value)
        return value


def _widened(arguments: list[Any]) -> list[Any] | None:
    """Floating-point tensors among the arguments in their common type; None if they have it already."""
    dtypes = {a.dtype for a in arguments if isinstance(a, torch.Tensor) and a.is_floating_point()}
    if len(dtypes) < 2:
        return None
    common = functools.reduce(torch.promote_types, dtypes)
    return [a.to(common) if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in arguments]


@dataclass
class Body:
    """A copy of the model without the values that a state holds."""

    module: nn.Module
    pairs: list[tuple[nn.Module, nn.Module]]  # a module of the copy, and the user's own that it was made from
    parameters: dict[str, nn.Parameter]  # by the first name they have; values of the copy
    places: list[tuple[dict[str, str], dict[str, str]]]  # per pair: own name -> name in the state; same for buffers
    references: list[tuple[Any, str]]  # every parameter and buffer, the user's and the copy's, with its name
    loss: Any = None  # the user's loss, on copies of what it holds
    forward: Any = None  # the same for the user's forward
    observers: tuple[str, ...] = ()  # modules with hooks that were left out
    shared: tuple[str, ...] = ()  # attributes that could not be copied
    written: dict[str, Any] = field(default_factory=dict)  # what the last evaluation had installed

    @contextmanager
    def lent(self, values: Mapping[str, Any], harmonise: bool) -> Iterator[nn.Module]:
        """The copy with ``values`` (by name) as parameters and buffers, under the user's module objects too."""
        saved = [(vars(module), vars(twin)) for module, twin in self.pairs]
        try:
            for (module, twin), (parameters, buffers) in zip(self.pairs, self.places, strict=True):
                scratch = dict(vars(module))
                scratch["_modules"] = dict(scratch["_modules"])
                scratch["_parameters"] = {key: values[name] if name else None for key, name in parameters.items()}
                scratch["_buffers"] = {key: values[name] if name else None for key, name in buffers.items()}
                object.__setattr__(module, "__dict__", scratch)
                object.__setattr__(twin, "__dict__", scratch)
            table = {id(tensor): values[name] for tensor, name in self.references}
            with _Exchange(table, harmonise):
                yield self.module
        finally:
            self.written = dict(values)
            for (module, twin), (own, users) in zip(self.pairs, saved, strict=True):
                object.__setattr__(module, "__dict__", own)
                object.__setattr__(twin, "__dict__", users)


def makes_weight(hook: Any) -> bool:
    """Whether a forward pre-hook is one of torch's that compute the layer's weight (pruning, old norms)."""
    return isinstance(hook, prune.BasePruningMethod) or type(hook).__name__ in _WEIGHT_HOOKS


def hook_signature(model: nn.Module) -> tuple[Any, ...]:
    """Changes whenever a forward hook that is not torch's own weight-making one comes or goes."""
    return tuple(
        (name, kind, key)
        for name, module in model.named_modules()
        for kind in _FORWARD_HOOKS
        for key, hook in getattr(module, kind).items()
        if not makes_weight(hook)
    )


def copy_model(model: nn.Module, *, run_hooks: bool, loss: Any = None, forward: Any = None) -> Body:
    """Copy a module tree in evaluation mode, with parameters and buffers of its own.

    Hooks of torch that compute a layer's weight always come along; the user's others only with ``run_hooks``, and
    then as copies that cannot write to the user's lists and counters. Loss and forward are such copies too, and read
    what hooks write to from the same ones.

    Raises
    ------
    InputError
        If a part of the model is compiled to TorchScript, or its evaluation mode fails.
    """
    originals = list(model.modules())
    memo: dict[int, Any] = {}
    for original in originals:
        if isinstance(original, torch.jit.ScriptModule):
            raise InputError(
                "the model holds a TorchScript module, which hides its parameters: probe the Python module"
            )
        memo[id(original)] = object.__new__(type(original))
    names: dict[int, str] = {}
    parameters: dict[str, nn.Parameter] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        if id(value) not in memo:
            parameters[name] = memo[id(value)] = _copied_parameter(value)
        names.setdefault(id(value), name)
    shared: list[str] = []
    observers: list[str] = []
    with _Detached(), torch.no_grad():
        for name, original in model.named_modules():
            _fill(memo[id(original)], original, name, memo, shared)
        for name, original in model.named_modules():
            if _bring_hooks(memo[id(original)], original, memo, run_hooks):
                observers.append(name or type(original).__name__)
    with _Small(), torch.no_grad():
        loss, forward = (
            _own(f, name, memo, shared) for f, name in ((loss, "what the loss reads"), (forward, "what forward reads"))
        )
    body = memo[id(model)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            body.eval()
        except Exception as error:  # the user's own method may raise anything
            raise InputError(
                f"{type(model).__name__}.eval() fails, and all is measured in evaluation mode: {error} (of an exported "
                "program, probe the Python module that it was made from)"
            ) from error
    pairs = [(memo[id(original)], original) for original in originals]
    references: list[tuple[Any, str]] = [(value, names[id(value)]) for value in model.parameters()]
    references += [(value, name) for name, value in body.named_parameters()]
    places = []
    position = {id(module): name for name, module in body.named_modules()}
    copied_names = {id(value): name for name, value in body.named_parameters()}
    for module, original in pairs:
        prefix = position[id(module)]
        own = {key: "" if value is None else copied_names[id(value)] for key, value in module._parameters.items()}
        buffers = {}
        for key, value in module._buffers.items():
            buffers[key] = "" if value is None else f"{prefix}.{key}".lstrip(".")
            if value is not None:
                references += [(value, buffers[key]), (original._buffers[key], buffers[key])]
        places.append((own, buffers))
    return Body(
        body, pairs, dict(body.named_parameters()), places, references, loss, forward, tuple(observers), tuple(shared)
    )


def _copied_parameter(value: nn.Parameter) -> nn.Parameter:
    """The same values and attributes in memory of their own."""
    with torch.inference_mode(False):
        same = nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
    vars(same).update(vars(value))
    return same


def _fill(shell: nn.Module, original: nn.Module, name: str, memo: dict[int, Any], shared: list[str]) -> None:
    """Copy the attributes of one module; one that cannot be copied is shared, and named."""
    for key, value in vars(original).items():
        if key in HOOKS or key in _DROPPED:
            own: Any = type(value)() if key in HOOKS else None
        else:
            try:
                own = copy.deepcopy(value, memo)
            except Exception:  # whatever a foreign __deepcopy__ raises: locks, files, handles of other libraries
                own = value
                shared.append(f"{name or type(original).__name__}.{key}")
        vars(shell)[key] = own
    if isinstance(original, (nn.Embedding, nn.EmbeddingBag)):
        vars(shell)["sparse"] = False  # how a gradient is stored, which only an optimiser sees
    if hasattr(original, "_orig_mod"):  # a compiled part: run eagerly
        vars(shell)["forward"] = memo[id(original._orig_mod)].forward


def _bring_hooks(shell: nn.Module, original: nn.Module, memo: dict[int, Any], run_hooks: bool) -> bool:
    """Copy hooks; return whether some were left out."""
    left = any(getattr(original, kind, None) for kind in ("_backward_hooks", "_backward_pre_hooks"))
    for kind in _FORWARD_HOOKS:
        for key, hook in getattr(original, kind).items():
            if not (run_hooks or makes_weight(hook)):
                left = True
                continue
            getattr(shell, kind)[key] = copy.deepcopy(hook, memo) if makes_weight(hook) else _copied(hook, memo)
            for flag in ("with_kwargs", "always_called"):
                flags = getattr(original, f"{kind}_{flag}", {})
                if key in flags:
                    getattr(shell, f"{kind}_{flag}")[key] = flags[key]
    return left


def isolated(function: Any, memo: dict[int, Any]) -> Any:
    """A copy of a callable whose closure, bound object, and globals that the user's code writes to are copies."""
    if id(function) in memo:
        return memo[id(function)]
    if isinstance(function, types.MethodType):
        return types.MethodType(function.__func__, _copied(function.__self__, memo))
    if isinstance(function, functools.partial):
        arguments = (_copied(value, memo) for value in function.args)
        words = {key: _copied(value, memo) for key, value in function.keywords.items()}
        return functools.partial(isolated(function.func, memo), *arguments, **words)
    if not isinstance(function, types.FunctionType):
        return copy.deepcopy(function, memo)
    scope = dict(function.__globals__)
    cells = function.__closure__ and tuple(types.CellType() for _ in function.__closure__)
    same = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    same.__kwdefaults__ = function.__kwdefaults__
    memo[id(function)] = same
    for name in _global_names(function.__code__):
        if name in scope and _is_users(scope[name], function):
            scope[name] = _copied(scope[name], memo)
    for own, users in zip(cells or (), function.__closure__ or (), strict=True):
        own.cell_contents = _copied(users.cell_contents, memo)
    return same


def _is_users(value: Any, function: types.FunctionType) -> bool:
    """Whether a global that a function reads is data or code of the same file, not an imported library."""
    if isinstance(value, types.FunctionType):
        return value.__globals__ is function.__globals__
    if isinstance(value, (type, types.ModuleType)):
        return False
    containers = (list, dict, set, torch.Tensor, nn.Module, types.MethodType, functools.partial)
    return isinstance(value, containers) or type(value).__module__ == function.__module__


def _own(function: Any, name: str, memo: dict[int, Any], shared: list[str]) -> Any:
    """The user's loss or forward on copies of what it holds; what cannot be copied is shared, and named."""
    try:
        return None if function is None else _copied(function, memo)
    except Exception:  # whatever a foreign __deepcopy__ raises
        shared.append(name)
        return function


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
        library = (value.__module__ or "").split(".")[0] if isinstance(value, types.FunctionType) else ""
        return value if library == "torch" else isolated(value, memo)
    return copy.deepcopy(value, memo)


def _global_names(code: types.CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*(_global_names(part) for part in inner))
