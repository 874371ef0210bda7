"""The two-layer network seen through its pre-activations: loss, gradient and curvature of each sample.

Everything that the theory needs of the student and the loss is a function of ``(h, y)`` with ``h = Theta' x``
(Montanari & Wang, arXiv 2602.01434, section 1; theory symbols F and W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from featurephase.foundation.types import Array
    from featurephase.functions import Activation, Loss
    from featurephase.problem import Problem

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """Activation, readout and loss of a two-layer network with fixed readout.

    Attributes
    ----------
    activation, loss
        Scalar functions with exact derivatives.
    readout
        ``a``, shape (m,).
    """

    activation: Activation
    readout: Array
    loss: Loss

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The network that a problem trains, with the loss it is trained with."""
        return cls(problem.student.activation, problem.student.readout, problem.loss)

    @property
    def width(self) -> int:
        """Number m of hidden neurons."""
        return len(self.readout)

    @property
    def singular_curvature(self) -> bool:
        """Whether the second derivative of the activation or the loss is no function: there is no Hessian."""
        return bool(self.activation.singular_curvature or self.loss.singular_curvature)

    def output(self, h: Array) -> Array:
        """``f = sum_r a_r sigma(h_r)``, shape (N,), for pre-activations ``h`` of shape (m, N)."""
        out: Array = self.readout @ self.activation.value(h)
        return out

    def losses(self, h: Array, y: Array) -> Array:
        """``loss(y, f)`` of each sample, shape (N,)."""
        return self.loss.value(y, self.output(h))

    def losses_and_gradient(self, h: Array, y: Array) -> tuple[Array, Array]:
        """Losses (N,) and ``F_r = d loss / d h_r`` (m, N)."""
        value, slope = self.activation.value_and_first(h)
        f = self.readout @ value
        losses, first = self.loss.value_and_first(y, f)
        gradient = slope * self.readout[:, None]
        gradient *= first
        return losses, gradient

    def curvature(self, h: Array, y: Array) -> Array:
        """``W_rs = d2 loss / d h_r d h_s`` of each sample, shape (m, m, N), symmetric."""
        value, slope = self.activation.value_and_first(h)
        first, second = self.loss.first_and_second(y, self.readout @ value)
        slope = slope * self.readout[:, None]
        w: Array = slope[:, None, :] * slope[None, :, :]
        w *= second
        diagonal = np.arange(self.width)
        w[diagonal, diagonal] += first * self.readout[:, None] * self.activation.second(h)
        return w

    def block_curvature(self, h: Array, y: Array) -> Array:
        """The diagonal ``W_rr`` of :meth:`curvature`, shape (m, N), at a cost linear in the width."""
        value, slope = self.activation.value_and_first(h)
        first, second = self.loss.first_and_second(y, self.readout @ value)
        w = slope * self.readout[:, None]
        w *= w
        w *= second
        w += first * self.readout[:, None] * self.activation.second(h)
        return w
