"""What must hold before a number is given: one sample at a time, no random numbers, and true derivatives.

The derivatives of autograd are compared with finite differences on a few samples, parameter by parameter, in double
precision. A difference means that a backward is not the derivative of its forward (an own autograd function, a
straight-through estimator, a detached part), which is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from featurephase.foundation.errors import InputError, one_line
from featurephase.probe.derivatives import Jacobian, gradients, random_like
from featurephase.probe.functional import Parameters, Precision, State, Tensor, TorchNetwork
from featurephase.probe.structure import walked
from featurephase.probe.trees import Batch, leaves

#: Samples that derivatives are checked on.
_FEW = 3
#: Parameter tensors that are moved together, so that a deep network costs no more than this many differences.
_GROUPS = 48
#: Relative difference that is called wrong; kinks between the two points and rounding stay below it.
_WRONG = 1e-3
#: Types with a larger relative precision are half ones.
_HALF = 1e-4
#: Directions that slopes are compared along in half precision, and the part of their squares that may differ.
_MANY, _BENT = 16, 0.6
#: Second differences of outputs, in units of the precision or of the step's square, that rounding exceeds.
_UNSEEN = 1e2


def few(batch: Batch, count: int = _FEW) -> Batch:
    """Some samples: the first, the last, and others spread between."""
    last = batch.samples - 1
    return batch.take(sorted({round(i * last / max(count - 1, 1)) for i in range(count)}))


def find_hooks(network: TorchNetwork, batch: Batch, targets: Any = None) -> State:
    """The state, with the user's hooks if (and only if) they change what the network or its loss computes.

    They are tried on copies that cannot write to the user's lists; hooks that merely observe are left out.
    """
    network.run_hooks = False
    state = network.state()
    if not state.body.observers:
        return state
    names = ", ".join(state.body.observers)
    try:
        network.run_hooks = True
        hooked = network.state()
        with_hooks = _facts(network, hooked, batch, targets)
    except Exception as error:  # the user's own code may raise anything
        raise InputError(
            f"hooks on {names} cannot be run on a copy of the model ({error}): remove them while the network is probed"
        ) from error
    try:
        same = with_hooks == _facts(network, state, batch, targets)
    except Exception:  # without its hooks the model does not run at all
        same = False
    if same:
        network.run_hooks = False
        network.notes[f"hooks on {names} change neither outputs nor loss: not run by the probe"] = None
        return state
    network.notes[f"hooks on {names} change the outputs or the loss: run on the probe's copy"] = None
    return hooked


def _facts(network: TorchNetwork, state: State, batch: Batch, targets: Any) -> tuple[Any, ...]:
    """What hooks could change: outputs and loss, and their gradients."""
    sample = few(batch)
    points = {name: value.detach().requires_grad_() for name, value in state.trainable.items()}
    outputs = network.call(state, points, sample)
    facts = _fact(outputs, points)
    if state.body.loss is not None and targets is not None:
        facts += _fact(network.loss_at(state, points, batch, targets), points)
    return facts


def _fact(value: Tensor, points: Parameters) -> tuple[Any, ...]:
    """A value and its gradients, None where it does not depend on a parameter: what was stored by an earlier run has
    the same value, and no gradient."""
    if not value.requires_grad:
        return (value.cpu().double().numpy().tobytes(),)
    gradients_of = torch.autograd.grad(value.sum(), list(points.values()), allow_unused=True)
    slopes = (None if g is None else g.to_dense().cpu().double().numpy().tobytes() for g in gradients_of)
    return (value.detach().cpu().double().numpy().tobytes(), *slopes)


def check_function(network: TorchNetwork, state: State, batch: Batch, what: str = "the probe batch") -> None:
    """Refuse inputs on which the network is no function of one input at a time.

    Raises
    ------
    InputError
        If the forward pass fails, is not finite, draws random numbers in evaluation mode, changes its own state, or
        mixes samples.
    """
    samples = batch.samples
    for name, module in state.body.module.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise InputError(
                f"{name or type(module).__name__}: batch normalisation without running statistics makes one output "
                "depend on the other inputs; use track_running_stats=True"
            )
    with Precision() as precision:
        one = _evaluated_alone(network, state, batch, what)
    network.coarsest = max(network.coarsest, precision.eps)
    network.eps = max(network.eps, resolution(network, state, few(batch), precision.eps))
    outputs = torch.cat([_evaluated(network, state, part, what) for part in batch.parts(network.chunk)])
    if not outputs.is_floating_point() or not bool(torch.isfinite(outputs).all()):
        raise InputError(f"the network's outputs on {what} are not finite real numbers")
    _check_repeats(network, state, batch, outputs)
    scale = float(outputs.abs().max()) or 1.0
    for row in sorted({0, samples // 2, samples - 1}) if samples > 1 else ():
        alone = one if row == 0 else _evaluated(network, state, batch.take([row]), what)
        if alone.shape[1] != outputs.shape[1]:
            raise InputError("the number of outputs for one input depends on the other inputs of the batch")
        if float((alone - outputs[row : row + 1]).abs().max()) > network.allowed(1e3) * scale:
            hint = _misread(network, state, batch, outputs)
            raise InputError(f"the output for one input depends on the other inputs of the batch{hint}")


def _misread(network: TorchNetwork, state: State, batch: Batch, outputs: Tensor) -> str:
    """Which tensors may have been taken for samples, or for shared by all of them, although they are not."""
    names = [n for n, v in leaves(batch.tree) if isinstance(v, torch.Tensor)]
    for place, name in enumerate(names):
        own = list(batch.batched)
        if not own[place] or sum(own) == 1:
            continue
        own[place] = False
        try:
            alone = network.evaluate(state, replace(batch, batched=tuple(own)).take([0]))
        except Exception:  # the user's own forward may raise anything
            continue
        if _close(alone, outputs[:1], 1e2 * network.eps):
            return (
                f": input {name} of shape {tuple(batch.tensors[place].shape)} was taken to hold one row per sample, as "
                f"its first dimension is their number, {batch.samples}, but all samples share it. Give another number "
                "of samples, or the input in forward=lambda model, inputs: model(inputs, ..)"
            )
    shared = [name for name, own in zip(names, batch.batched, strict=True) if not own]
    return f" (taken to be shared by all samples: {', '.join(shared)})" if shared else ""


def _evaluated_alone(network: TorchNetwork, state: State, batch: Batch, what: str) -> Tensor:
    """The outputs for the first sample, run by itself."""
    one = batch.take([0])
    try:
        return _evaluated(network, state, one, what)
    except InputError as error:
        if batch.samples == 1:
            raise
        try:
            network.evaluate(state, batch)
        except Exception:  # then it is not the number of samples
            raise error from error.__cause__
        words = one_line(error.__cause__ or error)
        raise InputError(
            f"the network runs on all {batch.samples} samples of {what} but not on one alone, of shape {_shapes(one)}: "
            f"{words}; samples are also run singly and in other numbers, so that forward must take batches of any size"
        ) from error


def _shapes(batch: Batch) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in batch.tensors)


def _evaluated(network: TorchNetwork, state: State, batch: Batch, what: str) -> Tensor:
    with torch.no_grad():
        try:
            outputs = network.call(state, {}, batch)
        except InputError:
            raise
        except Exception as error:  # the user's own forward may raise anything
            words = one_line(error)
            raise InputError(f"the network fails on {what}, of shape {_shapes(batch)}: {words}") from error
    return outputs


def _check_repeats(network: TorchNetwork, state: State, batch: Batch, outputs: Tensor) -> None:
    """A second evaluation gives the same; if not, say whether chance or a state of the model's own is the cause."""
    part = batch.parts(network.chunk)[0]
    first, again = outputs[: part.samples], network.evaluate(state, part)
    if _close(first, again, network.eps):
        return
    fresh = [network.evaluate(network.state(), part) for _ in range(2)]
    torch.rand(1)  # the generator moves on between the two
    if _close(fresh[0], fresh[1], network.eps):
        raise InputError(
            "two evaluations of the network differ: forward changes a state of its own (a cache, a counter) that its "
            "outputs depend on"
        )
    raise InputError(
        "two evaluations of the network differ although it is in evaluation mode: it draws random numbers "
        "(a functional dropout that ignores the mode?)"
    )


def _close(a: Tensor, b: Tensor, eps: float) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) <= 10 * eps * (float(a.abs().max()) or 1.0)


def check_derivatives(network: TorchNetwork, state: State, batch: Batch) -> None:
    """Compare autograd with finite differences, parameter by parameter, on a few samples.

    Raises
    ------
    InputError
        If they differ; the message names the autograd functions that are not torch's, or says what else may be.
    """
    sample = few(batch, min(_FEW, max(1, network.chunk // 2)) if network.chunk else _FEW)
    state, sample, eps = in_double(network, state, sample)
    points = {name: value.detach().requires_grad_() for name, value in state.trainable.items()}
    outputs = network.call(state, points, sample)
    weights = random_like(outputs)
    try:
        pulled = gradients(outputs, points, weights, retain_graph=True)
    except Exception as error:  # a backward of the user's, or a tensor that forward changed in place
        functions = own_functions(outputs)
        where = f" (forward runs {', '.join(functions)})" if functions else ""
        words = one_line(error) or type(error).__name__
        raise InputError(f"the network's backward pass fails{where}: {words}") from error
    _note_unused(network, points, outputs)
    difference = _Difference(network, state, sample, weights, eps)
    names = list(points)
    step = -(-len(names) // _GROUPS)
    for start in range(0, len(names), step):
        group = names[start : start + step]
        if difference.agrees(group, pulled) or difference.agrees(
            group, pulled, free=free_entries(network, state, sample)
        ):
            continue
        raise InputError(_wrong_derivative(outputs, group, network))


def _note_unused(network: TorchNetwork, points: Parameters, outputs: Tensor) -> None:
    """Name trained parameters that no output depends on: adapters that evaluation mode merges, heads not in use."""
    slopes = torch.autograd.grad(outputs.sum(), list(points.values()), allow_unused=True, retain_graph=True)
    if unused := [name for name, slope in zip(points, slopes, strict=True) if slope is None]:
        network.notes[
            f"{', '.join(unused)}: no output depends on them in evaluation mode, in which all is measured: nothing of "
            "them is in kernel and Hessian"
        ] = None


def in_double(network: TorchNetwork, state: State, batch: Batch) -> tuple[State, Batch, float]:
    """The same in double precision where the network runs in it, and the precision that its arithmetic then has."""
    if not network.has_room_for_double(state):
        return state, batch, network.eps
    wide, sample = state.cast(torch.float64), batch.cast(torch.float64)
    try:
        with torch.no_grad(), Precision() as precision:
            network.call(wide, {}, sample)
        return wide, sample, resolution(network, wide, sample, precision.eps)
    except Exception:  # an operation or a constant in forward that single precision alone suits
        return state, batch, network.eps


def resolution(network: TorchNetwork, state: State, batch: Batch, noted: float) -> float:
    """The precision of what forward computes: ``noted``, that of its coarsest operation, where outputs show it.

    A mask or a constant of a coarser type leaves no rounding in the outputs: in steps that would be rounded in that
    type, their second differences along a line through the parameters are those of a smooth function.
    """
    own = float(torch.finfo(next(iter(state.trainable.values())).dtype).eps)
    if noted <= own:
        return own
    step = noted / 8
    smooth = _UNSEEN * max(own, step**2)
    with torch.no_grad():
        middle = network.call(state, {}, batch).double()
        for seed in range(3):
            shift = {n: step * _rms(v) * network.random(n, seed)[0].to(v) for n, v in state.trainable.items()}
            up, down = (
                network.call(state, {n: state.parameters[n] + sign * d for n, d in shift.items()}, batch).double()
                for sign in (1, -1)
            )
            if not float((up - 2 * middle + down).abs().max()) <= smooth * float(middle.abs().max()):
                return noted
    return own


def _rms(value: Tensor) -> float:
    return float(value.double().square().mean().sqrt()) if value.numel() else 0.0


def free_entries(network: TorchNetwork, state: State, batch: Batch) -> Parameters:
    """1 where a parameter can be moved, 0 in entries that get no gradient or that forward itself overwrites.

    Such entries are padding in an embedding, signs that a reparametrisation reads off a diagonal, and weights under a
    constraint that forward enforces. They are known by others of the same tensor that do get a gradient.
    """
    jacobian = Jacobian(network, state, batch)
    free = {}
    for name, gradient in jacobian.pull(random_like(jacobian.outputs(), 1)).items():
        if not gradient.numel():
            continue
        used = gradient != 0
        mask = used.to(gradient) if bool(used.any()) else torch.ones_like(gradient)
        free[name] = mask * _kept_by_forward(network, state, batch, name)
    for name in free:
        if float(free[name].min()) == 0:
            network.notes[f"{name}: entries that get no gradient, or that forward overwrites, are held fixed"] = None
    return free


def _kept_by_forward(network: TorchNetwork, state: State, batch: Batch, name: str) -> Tensor:
    """1 where forward leaves a parameter as it is, also a little to either side of it."""
    value = state.parameters[name]
    kept = torch.ones_like(value)
    for shift in (0.0, 1e-4, -1e-4):
        moved = value + shift * (float(value.abs().max()) or 1.0)
        with torch.no_grad():
            network.call(state, {name: moved}, batch)
        after = state.body.written[name]
        after = torch.view_as_real(after) if after.is_complex() else after
        kept *= (after == moved).to(kept)
    return kept


class _Difference:
    """Central differences of ``<weights, outputs>``."""

    def __init__(self, network: TorchNetwork, state: State, batch: Batch, weights: Tensor, eps: float) -> None:
        self.network, self.state, self.batch, self.weights, self.eps = network, state, batch, weights, eps

    def value(self, moved: Mapping[str, Tensor]) -> float:
        with torch.no_grad():
            outputs = self.network.call(self.state, moved, self.batch)
        return float((self.weights * outputs).double().sum())

    def agrees(self, group: list[str], pulled: Parameters, free: Parameters | None = None) -> bool:
        """Whether slopes along random directions in these parameters are autograd's."""
        check = self._agrees_coarsely if self.eps > _HALF else self._agrees_along
        return check(self._directions(group, free), pulled)

    def _directions(self, group: list[str], free: Parameters | None) -> Callable[[int], Parameters]:
        def direction(seed: int) -> Parameters:
            along = {}
            for place, name in enumerate(group):
                value = self.state.parameters[name]
                drawn = self.network.random(name, seed + place)[0].to(value) * (_rms(value) or 1.0)
                along[name] = drawn if free is None else drawn * free.get(name, 1.0)
            return along

        return direction

    def _slope(self, along: Parameters, step: float) -> float:
        ends = [
            self.value({n: self.state.parameters[n] + sign * step * d for n, d in along.items()}) for sign in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * step)

    def _agrees_along(self, direction: Callable[[int], Parameters], pulled: Parameters) -> bool:
        """Along one direction, for one of three steps."""
        along = direction(7)
        expected = _along(pulled, along)
        scale = sum(float((pulled[n] * d).double().square().sum()) ** 0.5 for n, d in along.items())
        with torch.no_grad():  # what rounding is relative to
            size = float((self.weights * self.network.call(self.state, {}, self.batch)).abs().sum())
        for step in (self.eps ** (1 / 3), self.eps**0.45, 10 * self.eps ** (1 / 3)):
            slope = self._slope(along, step)
            rounding = 50 * self.eps * size / step
            if abs(slope - expected) <= _WRONG * (abs(slope) + abs(expected)) + 1e-2 * _WRONG * scale + rounding:
                return True
        return False

    def _agrees_coarsely(self, direction: Callable[[int], Parameters], pulled: Parameters) -> bool:
        """In half precision steps are long, so that functions bend and kinks are crossed: along many, in squares."""
        noise = self._noise(direction(7))
        several = [direction(1000 * (seed + 1)) for seed in range(_MANY)]
        slopes = [_along(pulled, along) for along in several]
        for step in (self.eps ** (1 / 3), 8 * self.eps):
            misfit = sum((self._slope(along, step) - s) ** 2 for along, s in zip(several, slopes, strict=True))
            if misfit <= _BENT * sum(s**2 for s in slopes) + _MANY * (3 * noise / step) ** 2:
                return True
        return False

    def _noise(self, along: Parameters) -> float:
        """The standard deviation of the value's rounding, from steps that are as small as the precision.

        At most a few units of the outputs' own: what jumps by more is no rounding.
        """
        points = [{n: self.state.parameters[n] + k * self.eps * d for n, d in along.items()} for k in range(-4, 5)]
        values = torch.tensor([self.value(point) for point in points], dtype=torch.float64)
        with torch.no_grad():
            size = float((self.weights * self.network.call(self.state, {}, self.batch)).double().norm())
        return min(float((values[1:] - values[:-1]).std()) / 2**0.5, 4 * self.eps * size)


def _along(pulled: Parameters, direction: Parameters) -> float:
    """The slope along a direction by autograd."""
    return sum(float((pulled[n] * d).double().sum()) for n, d in direction.items())


def own_functions(outputs: Tensor) -> list[str]:
    """Names of the autograd functions in a graph that are not torch's own."""
    owners = (getattr(node, "_forward_cls", None) for node in walked(outputs.grad_fn))
    foreign = (owner for owner in owners if owner is not None and not owner.__module__.startswith("torch."))
    return list(dict.fromkeys(owner.__qualname__ for owner in foreign))


def _wrong_derivative(outputs: Tensor, group: list[str], network: TorchNetwork) -> str:
    where = ", ".join(group[:3]) + (", .." if len(group) > 3 else "")
    functions = own_functions(outputs)
    if functions:
        return (
            f"the backward of {', '.join(functions)} is not the derivative of its forward (seen in {where}): kernel "
            "and Hessian of such a network are not those of its outputs"
        )
    scaled = [
        name or type(m).__name__ for name, m in network.model.named_modules() if getattr(m, "scale_grad_by_freq", False)
    ]
    if scaled:
        return f"{', '.join(scaled)}: scale_grad_by_freq makes its gradient no derivative; build it without"
    coarse = "; or half precision hides that it is: run forward in single precision" if network.eps > _HALF else ""
    return (
        f"the gradient of {where} is not the derivative of the outputs: forward goes around autograd there (detach, "
        f"no_grad, .data, .item(), a straight-through estimator, rounding{coarse})"
    )
