"""First-order rules, written for weights and gradients in any orthonormal basis.

The limit, the exact finite-size law and dense training all call the same rule: with coordinates C (K, m) in the
visited basis or with the weights Theta (d, m) themselves. Only rotation-invariant rules qualify.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["GradientDescentRule", "OptimiserState", "padded"]


@dataclass(frozen=True)
class OptimiserState:
    """Where an optimiser stands: ``weights`` (K, m) and the number of steps done."""

    weights: Array
    step: int = 0


def padded(weights: Array, rows: int) -> Array:
    """``weights`` with zero rows appended up to ``rows``: coordinates in a larger basis."""
    missing = rows - len(weights)
    return weights if missing == 0 else np.concatenate([weights, np.zeros((missing, weights.shape[1]))])


@dataclass(frozen=True)
class GradientDescentRule:
    """``C+ = (1 - eta lam) C - eta G``."""

    step_size: float
    weight_decay: float = 0.0

    def start(self, weights: Array) -> OptimiserState:
        """The state before the first step."""
        return OptimiserState(weights)

    def query(self, state: OptimiserState) -> Array:
        """Where the gradient is taken, (K, m)."""
        return state.weights

    def update(self, state: OptimiserState, gradient: Array) -> OptimiserState:
        """One step with the gradient of the unpenalised risk, (K + q, m)."""
        weights = padded(state.weights, len(gradient))
        weights = (1.0 - self.step_size * self.weight_decay) * weights - self.step_size * gradient
        return replace(state, weights=weights, step=state.step + 1)
