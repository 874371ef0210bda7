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
the norm of every trained parameter goes from its old to its new value, averaged over doing this before and
after the directions change. With one hidden layer and scalar output ``phi -> zeta^2`` as the records become
dense, so that both definitions agree.

What is not trained has a part of its own, ``statistics``: buffers (the running statistics of normalisations),
frozen parameters, attributes that forward reads. It is measured on the kernel itself, as the Shapley value
of the change of ``ln tr K`` when they go from their old to their new values with the weights held.
Parameters that thaw change what the kernel counts: that change is ``unattributed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from featurephase.foundation.types import Array
from featurephase.latent_model.mechanisms import mechanisms
from featurephase.latent_model.solution import Flow
from featurephase.probe.functional import State, Tensor, TorchNetwork
from featurephase.probe.structure import Structure
from featurephase.probe.trees import Batch

MECHANISMS = ("alignment", "disalignment", "growth", "shrinkage", "statistics", "unattributed")


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
    network: TorchNetwork, structure: Structure, state: State, batch: Batch, rates: Mapping[str, float]
) -> LatentCoordinates | None:
    """Recognise the latent-variable model; None if the network or the inputs are anything else."""
    if len(structure.pairs) != 1 or len(structure.layers) != 2 or structure.unhandled:
        return None
    pair = structure.pairs[0]
    names = (pair.lower.weight, pair.upper.weight)
    if not pair.linear or set(names) != set(state.parameters) or set(names) != set(state.names) or state.buffers:
        return None
    w, u = (state.parameters[name] for name in names)
    inputs = batch.tree
    if w.dim() != 2 or u.dim() != 2 or u.shape[0] != 1 or not isinstance(inputs, torch.Tensor) or inputs.dim() != 2:
        return None
    rows = inputs.double().cpu().numpy()
    _, singular, right = np.linalg.svd(rows, full_matrices=False)
    tolerance = 1e2 * float(torch.finfo(network.dtype).eps)
    if singular.size == 0 or singular[0] == 0 or (singular.size > 1 and singular[1] > tolerance * singular[0]):
        return None
    direction = right[0]
    # gamma: the output of the same network with all u_i = 1 and w_i = n, for a = 1.
    unit = torch.as_tensor(direction).to(w)
    probe = state.moved({names[0]: unit.expand(w.shape[0], -1).clone(), names[1]: torch.ones_like(u)})
    gamma = float(network.evaluate(probe, Batch.of(unit[None], "direction"))[0, 0]) / w.shape[0]
    rate_w, rate_u = (rates.get(name, 1.0) for name in names)
    if not gamma or min(rate_u, rate_w) <= 0:
        return None
    coordinates = LatentCoordinates(names[0], names[1], direction, gamma, rate_u, rate_w)
    # Constants that differ from unit to unit would pass all this; then the outputs are others.
    u0, w0 = coordinates.weights(state.parameters)
    outputs = network.evaluate(state, batch).double().cpu().numpy()[:, 0]
    expected = gamma * float(u0 @ w0) * (rows @ direction)
    scale = abs(gamma) * float(np.linalg.norm(u0) * np.linalg.norm(w0)) * float(np.linalg.norm(rows))
    return coordinates if float(np.abs(outputs - expected).max()) <= tolerance * scale else None


@dataclass
class MechanismMeter:
    """Accumulates the budget from record to record."""

    network: TorchNetwork
    batch: Batch
    trace: Callable[[State, tuple[str, ...] | None], float]  # of the kernel, over parameters (None: the trainable ones)
    latent: LatentCoordinates | None = None  # how the network is the latent-variable model
    budget: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MECHANISMS, 0.0))
    log_kernel: float = 0.0
    outputs: Tensor = None  # of the last record's state, as they were then

    @property
    def method(self) -> str:
        """Which of the two definitions is in use."""
        return "latent-variable model" if self.latent else "norms against directions"

    def measure(self, state: State, previous: State | None, trace: float) -> dict[str, float]:
        """Add the segment from ``previous`` to ``state`` (None at the start) and return the budget so far."""
        log_kernel = float(np.log(trace)) if trace > 0 else float("-inf")
        if previous is not None:
            change = log_kernel - self.log_kernel
            if not np.isfinite(change):
                self.budget["unattributed"] += 0.0 if log_kernel == self.log_kernel else change
            elif self.latent is not None:
                self._add_latent(previous, state, change)
            else:
                self._add_segment(previous, state, log_kernel)
        self.log_kernel, self.outputs = log_kernel, self.network.evaluate(state, self.batch)
        return dict(self.budget)

    def saved(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {"budget": dict(self.budget), "log_kernel": self.log_kernel}

    def restore(self, saved: Mapping[str, Any], start: State, previous: State) -> None:
        """Go on from a checkpoint."""
        self.budget, self.log_kernel = dict(saved["budget"]), saved["log_kernel"]
        self.outputs = self.network.evaluate(previous, self.batch)

    def _add_segment(self, previous: State, state: State, log_kernel: float) -> None:
        """Thawed parameters first, then the statistics, then the weights' own part by norms and directions."""
        before, after = self.log_kernel, log_kernel
        counted = previous.names
        if not torch.equal(self.outputs, self.network.evaluate(previous, self.batch)):  # nobody's weights did that
            now = self._log_trace(previous, counted)
            self.budget["statistics"] += now - before if np.isfinite(now) else 0.0
            before = now
        if counted != state.names:
            after = self._log_trace(state, counted)
            self.budget["unattributed"] += log_kernel - after
            trained = tuple(n for n in state.parameters if n in counted or n in state.names)
            previous, state = replace(previous, names=trained), replace(state, names=trained)
        drift = 0.0
        others = [(previous, state)]
        if self._statistics_moved(previous, state):
            drifted, trained_only = previous.with_statistics_of(state), state.with_statistics_of(previous)
            drift = (self._log_trace(drifted, counted) - before) / 2
            drift += (after - self._log_trace(trained_only, counted)) / 2
            others = [(previous, trained_only), (drifted, state)]
        change = after - before
        if not np.isfinite(drift) or not np.isfinite(change):
            self.budget["unattributed"] += change if np.isfinite(change) else 0.0
            return
        self.budget["statistics"] += drift
        self._add(change - drift, self._norm_share(others))

    def _log_trace(self, state: State, names: tuple[str, ...]) -> float:
        trace = self.trace(state, names)
        return float(np.log(trace)) if trace > 0 else float("-inf")

    def _statistics_moved(self, previous: State, state: State) -> bool:
        """Whether anything that is not trained changed: buffers, frozen parameters, attributes that forward reads."""
        if not state.same_statistics(previous):
            return True
        ends = (self.network.evaluate(s, self.batch) for s in (previous, previous.with_statistics_of(state)))
        return not torch.equal(*ends)

    def _add(self, change: float, share: float) -> None:
        if np.isnan(share):
            self.budget["unattributed"] += change
            return
        turned, scaled = (1.0 - share) * change, share * change
        self.budget["alignment" if turned > 0 else "disalignment"] += turned
        self.budget["growth" if scaled > 0 else "shrinkage"] += scaled

    def _norm_share(self, segments: list[tuple[State, State]]) -> float:
        """``phi`` of the module's docstring over one or two segments (the second with other statistics): 1 if no
        direction changed, nan if the weights or the outputs did not move."""
        square = inner = 0.0
        for previous, state in segments:
            up, down = rescalings(previous, state)
            if all(torch.equal(previous.parameters[name], state.parameters[name]) for name in up):
                return float("nan")
            if not turned(state, up):
                return 1.0
            ends = (previous, state, previous.moved(up), state.moved(down))
            before, after, risen, fallen = (self.network.evaluate(s, self.batch).double() for s in ends)
            motion = after - before
            scale = ((risen - before) + (after - fallen)) / 2
            rounding = 1e2 * self.network.eps * float(before.norm() + after.norm())
            if float(motion.norm()) > rounding:
                square += float((motion**2).sum())
                inner += float((scale * motion).sum())
        return float(np.clip(inner / square, 0.0, 1.0)) if square else float("nan")

    def _add_latent(self, previous: State, state: State, change: float) -> None:
        """Closed form for one segment; rescaling is the rest, ``r = ln(K1/K0) - a``, also off the exact flow."""
        assert self.latent is not None
        budget = latent_segment(self.latent, previous.parameters, state.parameters)
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
    budget = mechanisms(Flow(u, w, cross_moment=target, gamma=latent.gamma, **rates), np.inf)
    return {name: float(getattr(budget, name)) for name in MECHANISMS[:4]}


def rescalings(previous: State, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Old directions with new norms, and new directions with old norms, of every trained parameter.

    A parameter that is a multiple of what it was is rescaled, by a negative factor too; one that leaves 0 or goes to 0
    has one direction only, so that its motion is all of norm.
    """
    up: dict[str, Tensor] = {}
    down: dict[str, Tensor] = {}
    for name in dict.fromkeys((*previous.names, *state.names)):
        old, new = previous.parameters[name], state.parameters[name]
        inner = float((old.double() * new.double()).sum())
        old_norm, new_norm = float(old.double().norm()), float(new.double().norm())
        if not (old_norm and new_norm) or (inner < 0 and _collinear(old, new, inner / old_norm**2)):
            up[name], down[name] = new, old
        else:
            up[name], down[name] = old * (new_norm / old_norm), new * (old_norm / new_norm)
    return up, down


def turned(state: State, rescaled: Mapping[str, Tensor]) -> bool:
    """Whether a parameter is more than its old direction with its new norm."""
    for name, value in rescaled.items():
        new = state.parameters[name].double()
        if float((new - value.double()).norm()) > 8 * float(torch.finfo(value.dtype).eps) * float(new.norm()):
            return True
    return False


def _collinear(old: Tensor, new: Tensor, factor: float) -> bool:
    rest = float((new.double() - factor * old.double()).norm())
    return rest <= 4 * float(torch.finfo(new.dtype).eps) * float(new.double().norm())
