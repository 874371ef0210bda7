"""First derivatives of the outputs: ``J v`` and ``J' c``, from one recorded forward pass.

Both are made of reverse-mode derivatives alone (``J v`` is the derivative of the linear map ``c -> J' c``), so that
they are the transposes of one another even where an operation's forward mode says something else, as for the padding
row of an embedding. Forward mode serves only operations whose backward cannot be differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from featurephase.foundation.errors import InputError
from featurephase.probe.functional import Network, Parameters, State, Tensor
from featurephase.probe.trees import Batch

__all__ = ["Jacobian", "gradients"]


def gradients(outputs: Any, leaves: Mapping[str, Tensor], cotangents: Any = None, **options: Any) -> Parameters:
    """``torch.autograd.grad`` by name; zeros where nothing depends, sparse gradients made dense."""
    if not outputs.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(
        outputs, list(leaves.values()), cotangents, allow_unused=True, materialize_grads=True, **options
    )
    return {name: g.to_dense() if g.is_sparse else g for name, g in zip(leaves, found, strict=True)}


class _Recorded:
    """One recorded forward pass on some samples."""

    def __init__(self, network: Network, state: State, batch: Batch, names: tuple[str, ...]) -> None:
        self.network, self.state, self.batch, self.names = network, state, batch, names
        self.leaves = {name: state.parameters[name].detach().requires_grad_() for name in names}
        self.outputs = network.call(state, self.leaves, batch)
        self._dual: Any = None
        self._pulled: Any = None
        self._forward_mode = False

    def pull(self, cotangent: Tensor) -> Parameters:
        return gradients(self.outputs, self.leaves, cotangent, retain_graph=True)

    def push(self, tangent: Mapping[str, Tensor]) -> Tensor:
        if not self.outputs.requires_grad:
            return torch.zeros_like(self.outputs)
        if not self._forward_mode:
            try:
                return self._by_two_reversals(tangent)
            except (RuntimeError, NotImplementedError):  # a backward that cannot be differentiated
                self._forward_mode = True
        return self._by_forward_mode(tangent)

    def _by_two_reversals(self, tangent: Mapping[str, Tensor]) -> Tensor:
        if self._dual is None:
            dual = torch.zeros_like(self.outputs, requires_grad=True)
            self._pulled = gradients(self.outputs, self.leaves, dual, create_graph=True)
            self._dual = dual
        pairs = [(g, tangent[name]) for name, g in self._pulled.items() if g.requires_grad and name in tangent]
        if not pairs:
            return torch.zeros_like(self.outputs)
        (pushed,) = torch.autograd.grad(
            [g for g, _ in pairs],
            self._dual,
            [t.to(g.dtype) for g, t in pairs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return pushed.detach()

    def _by_forward_mode(self, tangent: Mapping[str, Tensor]) -> Tensor:
        chosen = {name: value for name, value in tangent.items() if name in self.names}
        point = {name: self.state.parameters[name] for name in chosen}

        def function(values: Parameters) -> Tensor:
            return self.network.call(self.state, values, self.batch)

        pushed = torch.func.jvp(function, (point,), (chosen,))[1].detach()
        dual = torch.randn(pushed.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(pushed)
        pulled = self.pull(dual)
        back = sum(float((pulled[name] * value).double().sum()) for name, value in chosen.items())
        ahead = float((dual * pushed).double().sum())
        scale = float(dual.norm() * pushed.norm()) + abs(back)
        if not abs(ahead - back) <= 1e3 * self.network.eps * scale and math.isfinite(scale):
            raise InputError(
                "forward and reverse derivatives of this network differ, and its backward cannot be differentiated: "
                "directional derivatives (sketch, telescoping) cannot be had"
            )
        return pushed


class Jacobian:
    """``J`` at a state, for N samples: rows (sample, output), columns the parameters ``names``.

    The samples are taken in the network's chunks. With a single one its recorded pass is kept and serves all
    products; with several they are recorded anew for every call, so that only one is held at a time.
    """

    def __init__(self, network: Network, state: State, batch: Batch, names: Iterable[str] | None = None) -> None:
        self.network, self.state = network, state
        self.names = state.names if names is None else tuple(names)
        self._parts = network.chunks(batch)
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
        return self.push_all([tangent])[0]

    def push_all(self, tangents: Iterable[Mapping[str, Tensor]]) -> Tensor:
        """``J v`` for several directions, (directions, N, C); an iterable is run through once per chunk."""
        if len(self._parts) > 1:
            tangents = list(tangents) if not hasattr(tangents, "__len__") else tangents
        parts = []
        for part in self._parts:
            recorded = self._recorded(part)
            parts.append(torch.stack([recorded.push(tangent) for tangent in tangents]))
        return torch.cat(parts, 1)
