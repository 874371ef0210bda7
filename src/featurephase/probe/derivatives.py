"""First derivatives of the outputs: ``J v`` and ``J' c``, from one recorded forward pass.

Both are made of reverse-mode derivatives alone (``J v`` is the derivative of the linear map ``c -> J' c``), so that
they are the transposes of one another even where an operation's forward mode says something else, as for the padding
row of an embedding. A backward that cannot be differentiated, or whose derivative is not its own, is noticed: then
forward mode serves, and if that is not the transpose either, one backward pass per output.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from featurephase.probe.functional import Parameters, State, Tensor, TorchNetwork
from featurephase.probe.trees import Batch


def gradients(outputs: Any, leaves: Mapping[str, Tensor], cotangents: Any = None, **options: Any) -> Parameters:
    """``torch.autograd.grad`` by name; zeros where nothing depends, sparse gradients made dense."""
    if not outputs.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    raw = torch.autograd.grad(
        outputs, list(leaves.values()), cotangents, allow_unused=True, materialize_grads=True, **options
    )
    return {name: g.to_dense() if g.is_sparse else g for name, g in zip(leaves, raw, strict=True)}


def contracted(slopes: Iterable[Tensor], directions: Iterable[Tensor], points: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Derivative of ``sum <slope, direction>`` by each of the points; zeros where nothing depends on it."""
    pairs = [(g, d.to(g.dtype)) for g, d in zip(slopes, directions, strict=True) if g.requires_grad]
    at = list(points)
    if not pairs:
        return tuple(torch.zeros_like(point) for point in at)
    values, along = zip(*pairs, strict=True)
    return tuple(torch.autograd.grad(values, at, along, retain_graph=True, allow_unused=True, materialize_grads=True))


def random_like(outputs: Tensor, seed: int = 0) -> Tensor:
    """Normal numbers in the form of the outputs, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)


class _Recorded:
    """One recorded forward pass on some samples."""

    def __init__(self, network: TorchNetwork, state: State, batch: Batch, names: tuple[str, ...]) -> None:
        self.network, self.state, self.batch, self.names = network, state, batch, names
        self.leaves = {name: state.parameters[name].detach().requires_grad_() for name in names}
        self.outputs = network.call(state, self.leaves, batch)
        self._dual: Any = None
        self._pulled: Any = None
        self._way: Any = None  # a function, not bound to this object: a circle would outlive its use

    def pull(self, cotangent: Tensor) -> Parameters:
        return gradients(self.outputs, self.leaves, cotangent, retain_graph=True)

    def push(self, tangent: Mapping[str, Tensor]) -> Tensor:
        """By the first way that gives the transpose of :meth:`pull`."""
        chosen = {name: value for name, value in tangent.items() if name in self.names}
        if not self.outputs.requires_grad or not chosen:
            return torch.zeros_like(self.outputs)
        if self._way is None:
            return self._by_first_right_way(chosen)
        return self._way(self, chosen)

    def _by_first_right_way(self, tangent: Parameters) -> Tensor:
        dual = random_like(self.outputs)
        pulled = self.pull(dual)
        back = sum(float((pulled[name] * value).double().sum()) for name, value in tangent.items())
        length = sum(float(pulled[n].double().norm() * v.double().norm()) for n, v in tangent.items())
        for way in (_Recorded._by_two_reversals, _Recorded._by_forward_mode):
            try:
                pushed = way(self, tangent)
            except Exception:  # a backward that cannot be differentiated, no forward mode: many types of error
                continue
            ahead = float((dual * pushed).double().sum())
            scale = length + float(dual.double().norm() * pushed.double().norm())
            if not math.isfinite(scale) or abs(ahead - back) <= self.network.allowed(1e2) * scale:
                self._way = way
                return pushed
        self._way = _Recorded._row_by_row
        return self._row_by_row(tangent)

    def _by_two_reversals(self, tangent: Parameters) -> Tensor:
        if self._dual is None:
            dual = torch.zeros_like(self.outputs, requires_grad=True)
            self._pulled = gradients(self.outputs, self.leaves, dual, create_graph=True)
            self._dual = dual
        (pushed,) = contracted([self._pulled[name] for name in tangent], tangent.values(), [self._dual])
        return pushed.detach()

    def _by_forward_mode(self, tangent: Parameters) -> Tensor:
        point = {name: self.state.parameters[name] for name in tangent}

        def function(values: Parameters) -> Tensor:
            return self.network.call(self.state, values, self.batch)

        return torch.func.jvp(function, (point,), (tangent,))[1].detach()

    def _row_by_row(self, tangent: Parameters) -> Tensor:
        """One backward pass per output: slow, and always there."""
        pushed = torch.zeros_like(self.outputs)
        for row, column in itertools.product(*map(range, self.outputs.shape)):
            slopes = gradients(self.outputs[row, column], self.leaves, retain_graph=True)
            pushed[row, column] = sum((slopes[name] * value).sum() for name, value in tangent.items())
        return pushed.detach()


class Jacobian:
    """``J`` at a state, for N samples: rows (sample, output), columns the parameters ``names``.

    The samples are taken in the network's chunks. With a single one its recorded pass is kept and serves all
    products; with several they are recorded anew for every call, so that only one is held at a time.
    """

    def __init__(self, network: TorchNetwork, state: State, batch: Batch, names: Iterable[str] | None = None) -> None:
        self.network, self.state = network, state
        self.names = state.names if names is None else tuple(names)
        self._parts = batch.parts(network.chunk)
        self._kept: _Recorded | None = None

    def _recorded(self, part: Batch) -> _Recorded:
        if len(self._parts) > 1:
            return _Recorded(self.network, self.state, part, self.names)
        if self._kept is None:
            self._kept = _Recorded(self.network, self.state, part, self.names)
        return self._kept

    def outputs(self) -> Tensor:
        """The outputs (N, C)."""
        return torch.cat([self._recorded(part).outputs.detach() for part in self._parts])

    def pull(self, cotangent: Tensor) -> Parameters:
        """``J' c`` for ``c`` (N, C): the gradient of ``<c, outputs>``."""
        total: Parameters = {}
        at = 0
        for part in self._parts:
            rows = part.samples
            for name, value in self._recorded(part).pull(cotangent[at : at + rows]).items():
                total[name] = value if name not in total else total[name] + value
            at += rows
        return total

    def push(self, tangent: Mapping[str, Tensor]) -> Tensor:
        """``J v``: the first-order change of the outputs (N, C)."""
        return self.push_all(lambda: [tangent])[0]

    def push_all(self, tangents: Callable[[], Iterable[Mapping[str, Tensor]]]) -> Tensor:
        """``J v`` for several directions, (directions, N, C), which are made anew for every chunk."""
        parts = []
        for part in self._parts:
            recorded = self._recorded(part)
            parts.append(torch.stack([recorded.push(tangent) for tangent in tangents()]))
        return torch.cat(parts, 1)
