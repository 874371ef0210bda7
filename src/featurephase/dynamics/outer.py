"""Training of the parameters of order one beside the first layer: readout A, bias b and output bias c.

In the limit the averages that move them are deterministic; at finite size they are averages over the n samples
(theory/trained-layers, eq. tra-step). Each has its own step size and decay, and the optimiser, the schedule and the
batches of the first layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from featurephase.dynamics.network import Network, Outer, Pass
from featurephase.dynamics.optimisers import FirstOrderRule, OptimiserState
from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.problem import GradientDescent


def outer_rows(outputs: int) -> int:
    """Numbers of each sample that several outputs take: targets, outputs, probabilities and derivatives."""
    return 8 * outputs if outputs > 1 else 0


def queried(rule: FirstOrderRule, current: Network, previous: Network) -> Network:
    """The network where gradients are taken: elsewhere than at ``current`` for Nesterov's rule alone."""
    if not rule.nesterov or current is previous:
        return current
    points = (rule.query(OptimiserState(x, x0)) for x, x0 in zip(current.outer, previous.outer, strict=True))
    return current.at(Outer(*points))


@dataclass(frozen=True)
class OuterTraining:
    """The outer parameters in training.

    Attributes
    ----------
    network, previous
        The network now and one step before.
    rules, states
        Of A, b and c; a rule of step size 0 moves nothing.
    """

    network: Network
    previous: Network
    rules: tuple[FirstOrderRule, ...]
    states: tuple[OptimiserState, ...]

    @classmethod
    def of(cls, network: Network, training: GradientDescent) -> Self:
        """Before the first step."""
        rates = (
            (training.readout_step_size, training.readout_decay),
            (training.bias_step_size, training.bias_decay),
            (training.output_bias_step_size, training.output_bias_decay),
        )
        first_layer = replace(FirstOrderRule.of(training), scaling="none")
        rules = tuple(replace(first_layer, step_size=eta, weight_decay=decay) for eta, decay in rates)
        states = tuple(rule.start(x) for rule, x in zip(rules, network.outer, strict=True))
        return cls(network, network, rules, states)

    @property
    def moves(self) -> bool:
        """Whether anything is trained here."""
        return any(rule.step_size > 0.0 for rule in self.rules)

    def updated(self, gradient: Outer) -> Self:
        """After one step."""
        states = tuple(
            rule.update(state, g) if rule.step_size > 0.0 else state
            for rule, state, g in zip(self.rules, self.states, gradient, strict=True)
        )
        network = self.network.at(Outer(*(state.weights for state in states)))
        return replace(self, network=network, previous=self.network, states=states)

    def size(self) -> float:
        """Norm of all outer parameters."""
        return float(np.sqrt(sum(np.sum(x**2) for x in self.network.outer)))


class OuterGradient:
    """The mean gradient in A, b and c, put together from blocks of samples in whatever order they come."""

    def __init__(self) -> None:
        self._parts: dict[int, Outer] = {}

    def add(self, start: int, passed: Pass, share: Array | None) -> None:
        """A block that begins at sample ``start``; ``share``: the weights of its samples, in F already."""
        residual = passed.residual if share is None else passed.residual * share
        readout = (passed.hidden @ residual.T).reshape(len(passed.hidden), -1)
        self._parts[start] = Outer(readout, passed.gradient.sum(axis=1), np.atleast_1d(residual.sum(axis=-1)))

    def mean(self, samples: int) -> Outer:
        """``s r'/N``, mean F and mean r; summed in the order of the samples, so that threads do not change rounding."""
        parts = [self._parts[start] for start in sorted(self._parts)]
        return Outer(*(np.sum(np.stack(each), axis=0) / samples for each in zip(*parts, strict=True)))
