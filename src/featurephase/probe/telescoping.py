"""The telescoping approximation of a trained network (Jeffares, Curth, van der Schaar, arXiv 2411.00247).

``f_T(x) ~ f_0(x) + sum_k J_{k-1}(x) (theta_k - theta_{k-1})``: first-order increments along the path,
against the network itself and against its linearisation at the start, ``f_0(x) + J_0(x) (theta_T -
theta_0)``. For squared loss and plain gradient descent the increments make the network a smoother ``f_T =
S_T y + c`` of its training labels, whose effective parameters ``p(I) = (n/|I|) sum_{i in I} |s(x_i)|^2``
(their eq. 7, after Curth et al. 2023) are reported on training and held-out points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from featurephase.probe.derivatives import Jacobian
from featurephase.probe.functional import LossFunction, State, Tensor, TorchNetwork
from featurephase.probe.kernel import exact_kernel
from featurephase.probe.trees import Batch


def _difference(after: State, before: State) -> dict[str, Tensor]:
    """How the parameters moved that were trained at either time; those that were frozen did not."""
    names = [n for n in after.parameters if n in after.names or n in before.names]
    return {name: after.parameters[name] - before.parameters[name] for name in names}


@dataclass
class TelescopingMeter:
    """Sums first-order increments at ``inputs`` (held-out points)."""

    network: TorchNetwork
    batch: Batch
    _start: Any = None
    _previous: Any = None
    _outputs: Any = None
    _sum: Any = None

    def begin(self, state: State) -> None:
        """Keep the start; ``state`` must own its memory."""
        self._start = self._previous = state
        self._outputs = self.network.evaluate(state, self.batch)
        self._sum = self._outputs.clone()

    def saved(self) -> dict[str, Any]:
        """What goes into a checkpoint besides the states."""
        return {"outputs": self._outputs, "sum": self._sum, "previous": self._previous.parameters}

    def restore(self, saved: Mapping[str, Any], start: State, previous: State) -> None:
        """Go on from a checkpoint."""
        self._start, self._previous = start, replace(previous, parameters=saved["previous"])
        self._outputs, self._sum = saved["outputs"], saved["sum"].clone()

    def advance(self, state: State) -> None:
        """Add the increment from the last state given to this one, which must own its memory."""
        self._sum += self._push(self._previous, state)
        self._previous = state

    def _push(self, before: State, after: State) -> Tensor:
        motion = _difference(after, before)
        return Jacobian(self.network, before, self.batch, tuple(motion)).push(motion)

    def measure(self, state: State) -> dict[str, float]:
        """Errors of both approximations relative to how far the outputs moved, ``|approximation - f| / |f
        - f_0|``."""
        outputs = self.network.evaluate(state, self.batch)
        linear = self._outputs + self._push(self._start, state)
        moved = float((outputs - self._outputs).norm())
        start = float(self._outputs.norm())

        def relative(approximation: Tensor) -> float:
            return float((approximation - outputs).norm()) / moved if moved else float("nan")

        return {
            "telescoping_error": relative(self._sum),
            "linearisation_error": relative(linear),
            "output_change": moved / start if start else float("nan"),
        }


def quadratic_curvature(loss: LossFunction, outputs: Tensor, targets: Tensor) -> tuple[float, Tensor] | None:
    """``(a, y)`` if the loss is ``a/2 |f - y|^2 + const`` in the outputs f, in the model's own shape, else None.

    Decided numerically: the gradient at three points must be the same multiple of the shift.
    """
    generator = torch.Generator().manual_seed(0)

    def gradient(at: Tensor) -> Tensor:
        leaf = at.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf, targets), leaf)
        return slope

    noise = torch.randn(2, *outputs.shape, generator=generator, dtype=outputs.dtype).to(outputs.device)
    zero = gradient(torch.zeros_like(outputs))
    slopes = []
    for shift in noise:
        rise = gradient(shift) - zero
        a = float((rise * shift).sum() / (shift**2).sum())
        if float((rise - a * shift).norm()) > 1e3 * torch.finfo(outputs.dtype).eps * float(rise.norm()):
            return None
        slopes.append(a)
    if slopes[0] <= 0 or abs(slopes[0] - slopes[1]) > 1e-4 * slopes[0]:
        return None
    return slopes[0], -zero / slopes[0]


@dataclass
class SmootherMeter:
    """Effective parameters on training and held-out points, for full training sets small enough for their
    kernel.

    Between records the kernel is taken constant, so that m steps of size eta multiply the residual on the
    training set by ``(1 - eta a K)^m``; recorded at every step of full-batch gradient descent this is the
    telescoping model itself.
    """

    network: TorchNetwork
    train: Batch
    heldout: Batch
    curvature: float  # a of the loss a/2 |f - y|^2
    rates: Mapping[str, float]
    _previous: Any = None
    _at: int = 0
    _smooth: Any = None

    def begin(self, state: State, step: int) -> None:
        """Start from the untrained network: no dependence on the labels."""
        self._previous, self._at = state, step
        self._outputs = self.network.evaluate(state, self.train.take([0])).shape[1]
        rows = (self.train.samples + self.heldout.samples) * self._outputs
        self._smooth = np.zeros((rows, self.train.samples * self._outputs))

    def saved(self) -> dict[str, Any]:
        """What goes into a checkpoint besides the states."""
        return {"smooth": self._smooth, "at": self._at, "previous": self._previous.parameters}

    def restore(self, saved: Mapping[str, Any], _start: State, previous: State) -> None:
        """Go on from a checkpoint."""
        self._smooth, self._at = saved["smooth"], saved["at"]
        self._previous = replace(previous, parameters=saved["previous"])

    def advance(self, state: State, step: int) -> None:
        """Move the smoother from the last state to this one, which must own its memory."""
        if step == self._at:
            return
        inputs = self.train.cat(self.heldout)
        kernel = exact_kernel(self.network, self._previous, inputs, self.rates)
        size = self._smooth.shape[1]
        values, vectors = np.linalg.eigh(kernel[:size, :size])
        values = np.maximum(values, 0.0) * self.curvature
        steps = step - self._at
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            decay = (1.0 - values) ** steps
            gain = np.where(values > 1e-12, (1.0 - decay) / values, float(steps)) * self.curvature
        residual = vectors.T @ (np.eye(size) - self._smooth[:size])
        self._smooth = self._smooth + (kernel[:, :size] @ vectors * gain) @ residual
        self._previous, self._at = state, step

    def measure(self) -> dict[str, float]:
        """``effective_parameters_train`` and ``effective_parameters_heldout``, per output."""
        size, n = self._smooth.shape[1], self.train.samples
        squares = (self._smooth**2).sum(1)
        parts = {"train": squares[:size], "heldout": squares[size:]}
        return {f"effective_parameters_{k}": float(n * v.mean()) if v.size else float("nan") for k, v in parts.items()}
