"""The mechanism budget: by how much alignment, disalignment, growth and shrinkage changed the kernel's
logarithm.

Between two records the outputs on the probe batch move by ``D``. A share ``phi`` of that motion is a
change of the layers' norms at fixed directions, the rest a change of directions at fixed norms, and ``ln
tr K`` is split in these shares: ``phi d ln K`` is rescaling (growth if positive, shrinkage if negative),
``(1 - phi) d ln K`` is alignment (positive) or disalignment (negative). The four and ``unattributed`` add
up to ``ln(tr K_T / tr K_0)`` exactly.

*Latent-variable model* (two bias-free linear layers, one output, inputs on a line): theory/latent-mechanisms, in
closed form between records, whatever their distance. *Any other network*: ``phi = <D_scale, D> / |D|^2``
clipped to [0, 1], where ``D_scale`` is the Shapley value of the norms: the change of the outputs when
every layer's norm goes from its old to its new value, averaged over doing this before and after the
directions change. With one hidden layer and scalar output ``phi -> zeta^2`` as the records become dense,
so that both definitions agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from featurephase.foundation.types import Array
from featurephase.latent_model.mechanisms import mechanisms
from featurephase.latent_model.solution import Flow
from featurephase.probe.functional import Network, State, Tensor
from featurephase.probe.structure import Structure

__all__ = ["MECHANISMS", "LatentCoordinates", "MechanismMeter", "latent_coordinates"]

MECHANISMS = ("alignment", "disalignment", "growth", "shrinkage", "unattributed")


@dataclass(frozen=True)
class LatentCoordinates:
    """How a network is the latent-variable model ``f = gamma sum_i u_i (w_i . x)``, x = a n
    (theory/latent-solution, eq. lat-model)."""

    first: str
    second: str
    direction: Array
    gamma: float
    rate_u: float
    rate_w: float

    def weights(self, values: Mapping[str, Tensor]) -> tuple[Array, Array]:
        """``(u, w)``, w projected on the input direction."""
        w = values[self.first].detach().cpu().numpy().astype(np.float64) @ self.direction
        u = values[self.second].detach().cpu().numpy().astype(np.float64).reshape(-1)
        return u, w


def latent_coordinates(
    network: Network, structure: Structure, state: State, inputs: Tensor, rates: Mapping[str, float]
) -> LatentCoordinates | None:
    """Recognise the latent-variable model; None if the network or the inputs are anything else."""
    if len(structure.pairs) != 1 or len(structure.layers) != 2 or structure.unhandled:
        return None
    pair = structure.pairs[0]
    names = (pair.lower.weight, pair.upper.weight)
    if not pair.linear or set(names) != set(network.names) or any(value.numel() for value in state.fixed.values()):
        return None
    w, u = (state.trainable[name] for name in names)
    if w.dim() != 2 or u.dim() != 2 or u.shape[0] != 1 or inputs.dim() != 2:
        return None
    rows = inputs.double().cpu().numpy()
    _, singular, right = np.linalg.svd(rows, full_matrices=False)
    tolerance = 1e2 * float(torch.finfo(network.dtype).eps)
    if singular.size == 0 or singular[0] == 0 or (singular.size > 1 and singular[1] > tolerance * singular[0]):
        return None
    direction = right[0]
    # gamma: the output of the same network with all u_i = 1 and w_i = n, for a = 1.
    unit = network.cast(torch.as_tensor(direction))
    probe = state.moved({names[0]: unit.expand(w.shape[0], -1).clone(), names[1]: torch.ones_like(u)})
    gamma = float(network.evaluate(probe, unit[None])[0, 0]) / w.shape[0]
    rate_w, rate_u = (rates.get(name, 1.0) for name in names)
    if not gamma or min(rate_u, rate_w) <= 0:
        return None
    return LatentCoordinates(names[0], names[1], direction, gamma, rate_u, rate_w)


@dataclass
class MechanismMeter:
    """Accumulates the budget from record to record."""

    network: Network
    structure: Structure
    inputs: Tensor
    latent: LatentCoordinates | None = None
    budget: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MECHANISMS, 0.0))
    opposed: float = 0.0
    _previous: Any = None
    _log_kernel: float = 0.0

    @property
    def method(self) -> str:
        """Which of the two definitions is in use."""
        return "latent-variable model" if self.latent else "norms against directions"

    def measure(self, state: State, previous: State | None, trace: float) -> dict[str, float]:
        """Add the segment from ``previous`` to ``state`` (None at the start) and return the budget so far."""
        log_kernel = float(np.log(trace)) if trace > 0 else float("-inf")
        if previous is not None:
            change = log_kernel - self._log_kernel
            if not np.isfinite(change):
                self.budget["unattributed"] += 0.0 if log_kernel == self._log_kernel else change
            elif self.latent is not None:
                self._add_latent(previous, state, change)
            else:
                self._add(change, self._norm_share(previous, state))
        self._log_kernel = log_kernel
        return dict(self.budget)

    def _add(self, change: float, share: float) -> None:
        if np.isnan(share):
            self.budget["unattributed"] += change
            return
        turned, scaled = (1.0 - share) * change, share * change
        self.budget["alignment" if turned > 0 else "disalignment"] += turned
        self.budget["growth" if scaled > 0 else "shrinkage"] += scaled

    def _norm_share(self, previous: State, state: State) -> float:
        """``phi`` of the module's docstring; nan if the outputs did not move at all."""
        up, down = self._rescalings(previous, state)
        before, after = (self.network.evaluate(s, self.inputs).double() for s in (previous, state))
        before_rescaled = self.network.evaluate(previous.moved(up), self.inputs).double()
        after_rescaled = self.network.evaluate(state.moved(down), self.inputs).double()
        motion = after - before
        scale = ((before_rescaled - before) + (after - after_rescaled)) / 2
        square = float((motion**2).sum())
        if square == 0.0:
            return float("nan")
        return float(np.clip(float((scale * motion).sum()) / square, 0.0, 1.0))

    def _rescalings(self, previous: State, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Old directions with new norms, and new directions with old norms (layers that are or were 0 are
        left)."""
        up: dict[str, Tensor] = {}
        down: dict[str, Tensor] = {}
        for name in dict.fromkeys(layer.weight for layer in self.structure.layers):
            if name not in state.trainable:
                continue
            old, new = previous.trainable[name], state.trainable[name]
            old_norm, new_norm = float(torch.linalg.vector_norm(old)), float(torch.linalg.vector_norm(new))
            if old_norm and new_norm:
                up[name], down[name] = old * (new_norm / old_norm), new * (old_norm / new_norm)
        return up, down

    def _add_latent(self, previous: State, state: State, change: float) -> None:
        """Closed form for one segment; rescaling is the rest, ``r = ln(K1/K0) - a``, also off the exact flow."""
        assert self.latent is not None
        budget = latent_segment(self.latent, previous.trainable, state.trainable)
        rest = change - sum(budget.values())
        budget["growth" if change > 0 else "shrinkage"] += rest
        for name, part in budget.items():
            self.budget[name] += part


def latent_segment(
    latent: LatentCoordinates, start: Mapping[str, Tensor], end: Mapping[str, Tensor]
) -> dict[str, float]:
    """The budget of the flow from one state to the output of another (theory/latent-mechanisms, eq. mec-budget).

    The flow through the first state whose target is the second state's output passes, in the limit, exactly there.
    """
    u, w = latent.weights(start)
    if not (u.any() or w.any()):
        return dict.fromkeys(MECHANISMS[:4], 0.0)
    u1, w1 = latent.weights(end)
    target = latent.gamma * float(u1 @ w1)
    rates = {"eta_u": latent.rate_u, "eta_w": latent.rate_w}
    found = mechanisms(Flow(u, w, cross_moment=target, gamma=latent.gamma, **rates), np.inf)
    return {name: float(getattr(found, name)) for name in MECHANISMS[:4]}
