"""First-order rules, written for weights and gradients in any orthonormal basis.

The limit, the exact finite-size law and dense training all call the same rule: with coordinates C (K, m) in the
visited basis or with the weights Theta (d, m) themselves. Only rotation-invariant rules qualify: a change of basis must
commute with the step. That holds for anything linear in weights and gradients and for ``G T(G'G)`` (clipping,
normalising, orthogonalising); not for Adam or sign rules, which act on each coordinate by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array

if TYPE_CHECKING:
    from featurephase.problem import GradientDescent


#: Singular values of the gradient below this fraction of the largest are zero to orthogonalisation.
_RANK = 1e-7


@dataclass(frozen=True)
class OptimiserState:
    """Where an optimiser stands: ``weights`` and ``previous`` weights (K, m), and the number of steps done."""

    weights: Array
    previous: Array
    step: int = 0

    def compressed(self, latent_dim: int) -> OptimiserState:
        """The same state in a basis of least size: rows beyond the first k become the triangle of their QR split.

        What has been visited counts no longer once the data are fresh (theory/dynamics, eq. dyn-one-pass).
        """
        if np.array_equal(self.weights, self.previous):
            rest = _triangle(self.weights[latent_dim:])
            weights = np.concatenate([self.weights[:latent_dim], rest])
            return replace(self, weights=weights, previous=weights)
        m = self.weights.shape[1]
        both = np.concatenate([self.weights, padded(self.previous, len(self.weights))], axis=1)
        rows = np.concatenate([both[:latent_dim], _triangle(both[latent_dim:])])
        return replace(self, weights=rows[:, :m].copy(), previous=rows[:, m:].copy())


def _triangle(rows: Array) -> Array:
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


def padded(weights: Array, rows: int) -> Array:
    """``weights`` with zero rows appended up to ``rows``: coordinates in a larger basis."""
    missing = rows - len(weights)
    return weights if missing == 0 else np.concatenate([weights, np.zeros((missing, weights.shape[1]))])


@dataclass(frozen=True)
class Schedule:
    """The factor of the step size at step t = 0, 1, ..

    Attributes
    ----------
    kind
        ``"constant"``: 1. ``"cosine"``: half a cosine from 1 to ``final`` over ``steps``, and ``final`` afterwards.
        ``"power"``: (1 + t/time)^(-exponent).
    warmup
        Number of steps over which the factor is multiplied by (t + 1)/(warmup + 1).
    """

    kind: str = "constant"
    steps: int = 1
    final: float = 0.0
    exponent: float = 0.5
    time: float = 1.0
    warmup: int = 0

    def __call__(self, t: int) -> float:
        """The factor at step ``t``."""
        factor = 1.0
        if self.kind == "cosine":
            phase = np.pi * min(t / self.steps, 1.0) if self.steps else np.pi
            factor = float(self.final + (1.0 - self.final) * (1.0 + np.cos(phase)) / 2.0)
        elif self.kind == "power":
            factor = float((1.0 + t / self.time) ** -self.exponent)
        return factor * (t + 1.0) / (self.warmup + 1.0) if t < self.warmup else factor


@dataclass(frozen=True)
class FirstOrderRule:
    """One step of a rotation-invariant first-order method.

    With eta_t = step_size * schedule(t), G the gradient of the unpenalised risk after :meth:`shaping`:

    * gradient descent and heavy ball, queried at C: ``C+ = C - eta_t (G + lam C) + beta (C - C_prev)``;
    * Nesterov, queried at ``Y = C + beta (C - C_prev)``: ``C+ = Y - eta_t (G + lam Y)``.

    Weight decay is decoupled: it is neither clipped nor normalised.

    Attributes
    ----------
    scaling
        What happens to the gradient B before the step: ``"none"``; ``"clip"``: B min(1, c/|B|); ``"normalise"``: B/|B|;
        ``"orthogonalise"``: B (B'B)^(-1/2). |B| is the Frobenius norm.
    clip_norm
        c.
    """

    step_size: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    schedule: Schedule = field(default_factory=Schedule)
    scaling: str = "none"
    clip_norm: float = np.inf

    @classmethod
    def of(cls, training: GradientDescent) -> FirstOrderRule:
        """The rule of a problem's ``training`` section."""
        return cls(
            step_size=training.step_size,
            weight_decay=training.weight_decay,
            momentum=training.momentum,
            nesterov=training.optimiser == "nesterov",
            schedule=Schedule(
                training.schedule,
                training.steps,
                training.schedule_final,
                training.schedule_exponent,
                training.schedule_time,
                training.warmup,
            ),
            scaling=training.gradient_scaling,
            clip_norm=training.clip_norm,
        )

    def growth_factor(self, eigenvalue: float, step: int) -> float:
        """Factor a step by which weights move along an eigenvector of the Hessian of the full risk, once it dominates.

        The largest modulus of a root of the rule's recursion with the step size of ``step``; nan where the gradient is
        scaled, whose size is that of all its directions.
        """
        if self.scaling != "none":
            return float("nan")
        kept, beta = 1.0 - self.step_size * self.schedule(step) * eigenvalue, self.momentum
        linear, constant = ((1.0 + beta) * kept, beta * kept) if self.nesterov else (kept + beta, beta)
        return float(np.max(np.abs(np.roots([1.0, -linear, constant]))))

    def start(self, weights: Array) -> OptimiserState:
        """The state before the first step."""
        return OptimiserState(weights, weights)

    def query(self, state: OptimiserState) -> Array:
        """Where the gradient is taken, (K, m)."""
        if not self.nesterov or self.momentum == 0.0:
            return state.weights
        return state.weights + self.momentum * (state.weights - padded(state.previous, len(state.weights)))

    def shaping(self, gram: Array) -> Array:
        """T (m, m) with ``G = B T`` for a gradient with ``B'B = gram``."""
        if self.scaling == "none":
            return np.eye(len(gram))
        if self.scaling == "orthogonalise":
            values, vectors = np.linalg.eigh(gram)
            keep = values > _RANK**2 * max(values[-1], 0.0)
            root = vectors[:, keep] / np.sqrt(values[keep])
            return np.asarray(root @ vectors[:, keep].T)
        norm = float(np.sqrt(np.trace(gram)))
        if self.scaling == "clip":
            factor = 1.0 if norm <= self.clip_norm else self.clip_norm / norm
        else:
            factor = 1.0 / norm if norm > 0.0 else 0.0
        return factor * np.eye(len(gram))

    def update(self, state: OptimiserState, gradient: Array) -> OptimiserState:
        """One step with the gradient of the unpenalised risk, (K + q, m)."""
        if self.scaling != "none":
            gradient = gradient @ self.shaping(gradient.T @ gradient)
        eta = self.step_size * self.schedule(state.step)
        weights = padded(state.weights, len(gradient))
        if self.momentum == 0.0:
            new = (1.0 - eta * self.weight_decay) * weights - eta * gradient
            return OptimiserState(new, new, state.step + 1)
        drift = self.momentum * (weights - padded(state.previous, len(gradient)))
        if self.nesterov:
            base = weights + drift
            new = (1.0 - eta * self.weight_decay) * base - eta * gradient
        else:
            new = (1.0 - eta * self.weight_decay) * weights - eta * gradient + drift
        return OptimiserState(new, weights, state.step + 1)


def require_batches(count: int, samples: int, words: str = "samples") -> None:
    """Refuse more batches than samples: a step whose batch is empty would have no gradient.

    Raises
    ------
    InputError
        If ``count`` is more than ``samples``, which the message calls ``words``.
    """
    if count > samples:
        raise InputError(
            f"training.batch_fraction = {1 / count:.4g}: {samples} {words} cannot be split into {count} batches "
            f"without empty ones; accepted: a batch_fraction of at least 1/{samples}, or at least {count} {words}"
        )


class BatchSequence:
    """Which samples a step uses, when every sample is used again and again.

    The n samples are split at random into ``count`` batches of equal size (to within one); step t uses batch t mod
    count. ``reshuffled``: a new split at the start of every pass through the data.

    Raises
    ------
    InputError
        If there are more batches than samples.
    """

    def __init__(self, samples: int, count: int, reshuffled: bool, rng: np.random.Generator) -> None:
        require_batches(count, samples)
        self.samples, self.count, self.reshuffled = samples, count, reshuffled
        self._rng = rng
        self._label = self._split()

    def _split(self) -> NDArray[np.intp]:
        return self._rng.permutation(self.samples) % self.count

    def weights(self, step: int) -> Array:
        """n/b for the samples of this step's batch, 0 for the others, (n,). Steps must come in order."""
        if self.reshuffled and step and step % self.count == 0:
            self._label = self._split()
        chosen = self._label == step % self.count
        return np.where(chosen, self.samples / np.count_nonzero(chosen), 0.0)
