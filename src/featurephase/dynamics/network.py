"""The two-layer network seen through its pre-activations: loss, gradient and curvature of each sample.

Everything that the theory needs of the student and the loss is a function of ``(h, y)`` with ``h = Theta' x``
(Montanari & Wang, arXiv 2602.01434, section 1; theory symbols F and W).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from featurephase.foundation.types import Array
    from featurephase.functions import Activation
    from featurephase.problem import Problem

#: Samples at a time where second derivatives in all pairs of outputs are needed: bounds the memory of ten outputs.
_BLOCK = 8192


class Outer(NamedTuple):
    """The parameters of order one: readout A (m, C), bias b (m,) and output bias c (C,)."""

    readout: Array
    bias: Array
    output_bias: Array


class Pass(NamedTuple):
    """What a pass forward and back says of each sample.

    Attributes
    ----------
    losses
        (N,).
    gradient
        F = (A r) sigma'(h), (m, N).
    hidden
        sigma(h), (m, N).
    residual
        r = d loss/d f, (N,) or (C, N).
    output
        f, (N,) or (C, N).
    """

    losses: Array
    gradient: Array
    hidden: Array
    residual: Array
    output: Array


@dataclass(frozen=True)
class Network:
    """Activation, outer parameters and loss of a two-layer network, f = A'sigma(h + b) + c.

    Attributes
    ----------
    activation
        Scalar function with exact derivatives.
    readout
        A, (m,) for one output and (m, C) for several.
    loss
        A :class:`~featurephase.functions.Loss`, or for several outputs a :class:`~featurephase.functions.VectorLoss`.
    bias, output_bias
        b (m,) and c (C,); ``None``: zero.
    labels
        The values that a class takes as a response; none where the response is no class.

    Notes
    -----
    Pre-activations h = Theta'x are always without the bias, which is added here (theory/trained-layers).
    """

    activation: Activation
    readout: Array
    loss: Any
    bias: Array | None = None
    output_bias: Array | None = None
    labels: tuple[float, ...] = ()

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The network of a problem at the start, with the loss it is trained with."""
        student = problem.student
        network = cls(student.activation, student.readout, problem.loss, labels=problem.teacher.link.labels)
        if not student.has_biases:
            return network
        return network.at(Outer(student.readout_matrix, student.bias, student.output_bias))

    def at(self, outer: Outer) -> Self:
        """The same network with other outer parameters."""
        readout = outer.readout if self.readout.ndim == 2 else outer.readout[:, 0]
        return replace(self, readout=readout, bias=outer.bias, output_bias=outer.output_bias)

    @property
    def outer(self) -> Outer:
        """The outer parameters, biases in full."""
        bias = np.zeros(self.width) if self.bias is None else self.bias
        output_bias = np.zeros(self.outputs) if self.output_bias is None else self.output_bias
        return Outer(self.readout.reshape(self.width, -1), bias, output_bias)

    @property
    def width(self) -> int:
        """Number m of hidden neurons."""
        return len(self.readout)

    @property
    def outputs(self) -> int:
        """Number C of outputs."""
        return self.readout.size // len(self.readout)

    @property
    def singular_curvature(self) -> bool:
        """Whether the second derivative of the activation or the loss is no function: there is no Hessian."""
        return bool(self.activation.singular_curvature or self.loss.singular_curvature)

    def output(self, h: Array) -> Array:
        """``f = A'sigma(h + b) + c``, (N,) or (C, N), for pre-activations ``h`` of shape (m, N)."""
        return self._output(self.activation.value(self._biased(h)))

    def losses(self, h: Array, y: Array) -> Array:
        """``loss(y, f)`` of each sample, shape (N,)."""
        losses: Array = self.loss.value(y, self.output(h))
        return losses

    def losses_and_gradient(self, h: Array, y: Array) -> tuple[Array, Array]:
        """Losses (N,) and ``F_r = d loss / d h_r`` (m, N)."""
        value, slope = self.activation.value_and_first(self._biased(h))
        losses, first = self.loss.value_and_first(y, self._output(value))
        return losses, self._pulled_back(first, slope)

    def passed(self, h: Array, y: Array) -> Pass:
        """Forward and back (theory/trained-layers, eq. tra-gradient)."""
        value, slope = self.activation.value_and_first(self._biased(h))
        output = self._output(value)
        losses, first = self.loss.value_and_first(y, output)
        return Pass(losses, self._pulled_back(first, slope), value, first, output)

    def hits(self, output: Array, y: Array) -> Array:
        """Whether each sample's class is the one that the outputs say, (N,), for classes.

        That of the largest output; with one output the second class above 0, or above the middle of the two labels
        where the loss does not take the output for a logit.
        """
        if output.ndim == 2:
            largest, hit = output[0].copy(), np.asarray(y == 0)
            for c in range(1, len(output)):  # several times faster than argmax along the short axis
                larger = output[c] > largest
                hit &= ~larger
                larger &= y == c
                hit |= larger
                np.maximum(largest, output[c], out=largest)
            return hit
        border = 0.0 if self.loss.expected_labels is not None else float(np.mean(self.labels))
        return np.asarray((output > border) == (y == self.labels[1]))

    def curvature(self, h: Array, y: Array) -> Array:
        """``W_rs = d2 loss / d h_r d h_s`` of each sample, (m, m, N), symmetric (eq. tra-curvature)."""
        if self.readout.ndim == 2:
            return self._by_blocks(self._curvature_of_outputs, h, y, (self.width, self.width))
        h = self._biased(h)
        value, slope = self.activation.value_and_first(h)
        first, second = self.loss.first_and_second(y, self._output(value))
        slope = slope * self.readout[:, None]
        w: Array = slope[:, None, :] * slope[None, :, :]
        w *= second
        diagonal = np.arange(self.width)
        w[diagonal, diagonal] += first * self.readout[:, None] * self.activation.second(h)
        return w

    def block_curvature(self, h: Array, y: Array) -> Array:
        """The diagonal ``W_rr`` of :meth:`curvature`, shape (m, N), at a cost linear in the width."""
        if self.readout.ndim == 2:
            return self._by_blocks(self._block_curvature_of_outputs, h, y, (self.width,))
        h = self._biased(h)
        value, slope = self.activation.value_and_first(h)
        first, second = self.loss.first_and_second(y, self._output(value))
        w = slope * self.readout[:, None]
        w *= w
        w *= second
        w += first * self.readout[:, None] * self.activation.second(h)
        return w

    def _biased(self, h: Array) -> Array:
        return h if self.bias is None else h + self.bias[:, None]

    def _output(self, hidden: Array) -> Array:
        out: Array = self.readout.T @ hidden
        if self.output_bias is not None:
            out += self.output_bias[:, None] if out.ndim == 2 else self.output_bias
        return out

    def _pulled_back(self, first: Array, slope: Array) -> Array:
        """F from d loss/d f and sigma'(h)."""
        if self.readout.ndim == 2:
            gradient: Array = self.readout @ first
            gradient *= slope
            return gradient
        gradient = slope * self.readout[:, None]
        gradient *= first
        return gradient

    def _by_blocks(self, function: Any, h: Array, y: Array, shape: tuple[int, ...]) -> Array:
        out = np.empty((*shape, h.shape[1]))
        for start in range(0, h.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            out[..., part] = function(self._biased(h[:, part]), y[part])
        return out

    def _second_order(self, h: Array, y: Array) -> tuple[Array, Array, Array]:
        """sigma'(h) and (A r) sigma''(h), both (m, N), and the second derivatives in the outputs, (C C, N)."""
        value, slope = self.activation.value_and_first(h)
        first, second = self.loss.first_and_second(y, self._output(value))
        bend = self.readout @ first
        bend *= self.activation.second(h)
        return slope, bend, second.reshape(-1, h.shape[1])

    def _curvature_of_outputs(self, h: Array, y: Array) -> Array:
        slope, bend, second = self._second_order(h, y)
        m = self.width
        pairs = np.einsum("rc,sd->rscd", self.readout, self.readout).reshape(m * m, -1)
        w: Array = (pairs @ second).reshape(m, m, -1)
        w *= slope[:, None]
        w *= slope[None]
        diagonal = np.arange(m)
        w[diagonal, diagonal] += bend
        return w

    def _block_curvature_of_outputs(self, h: Array, y: Array) -> Array:
        slope, bend, second = self._second_order(h, y)
        pairs = np.einsum("rc,rd->rcd", self.readout, self.readout).reshape(self.width, -1)
        w: Array = pairs @ second
        w *= slope
        w *= slope
        w += bend
        return w
