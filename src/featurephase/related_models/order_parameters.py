"""The flow of the order parameters of online learning (docs/related/teacher-student).

With error = sum_n v_n g(nu_n) + noise - sum_j a_j g(lambda_j) of a task, lambda = w.x/sqrt N, nu = w*.x/sqrt N, steps
w_i += eta/sqrt N mean over tasks of error a_i g'(lambda_i) x become, in the time steps/N,

    R_in' = eta mean a_i E[error g'(lambda_i) nu_n],
    Q_ik' = eta mean (a_i E[error g'(lambda_i) lambda_k] + i <-> k) + (eta/tasks)^2 sum a_i a_k E[error^2 g'_i g'_k].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from featurephase.foundation.types import Array
from featurephase.related_models.gaussian_averages import Unit


class State(NamedTuple):
    """Overlaps Q (K, K) and R (K, M), and read-outs A (task, K)."""

    q: Array
    r: Array
    a: Array

    @property
    def covariance(self) -> Array:
        """Of the fields of all units, the student's first; the teacher's are orthogonal and of norm 1."""
        return np.block([[self.q, self.r], [self.r.T, np.eye(self.r.shape[1])]])


def specialisation(s: State) -> float:
    """Largest minus second largest |cosine| with the student's units, averaged over the teacher's units."""
    cosine = np.sort(np.abs(s.r) / np.sqrt(np.diagonal(s.q))[:, None], axis=0)
    second = cosine[-2] if len(cosine) > 1 else 0.0
    return float(np.mean(cosine[-1] - second))


@dataclass(frozen=True)
class OnlineFlow:
    """Time derivatives of the order parameters, and the error they stand for."""

    unit: Unit  # the activation
    v: Array  # the teacher's read-outs, shape (task, M)
    eta: float  # rate of the hidden units
    noise: float  # standard deviation of the noise
    readout: str  # "fixed", "trained" at rate eta_readout, or "adapted": one step of that size from 0, at every time
    eta_readout: float

    def readouts(self, s: State) -> Array:
        """The student's read-outs (task, K): those of the state, or one step on the whole distribution of each task."""
        if self.readout != "adapted":
            return s.a
        two = self.unit.two(np.diagonal(s.q)[:, None], np.ones((1, s.r.shape[1])), s.r)
        return np.asarray(self.eta_readout * self.v @ two.T)

    def error(self, s: State) -> float:
        """Half the mean squared error without noise."""
        cov, weight = s.covariance, np.hstack([-self.readouts(s), self.v])
        variance = np.diagonal(cov)
        two = self.unit.two(variance[:, None], variance[None, :], cov)
        return float(0.5 * np.einsum("ti,tj,ij->", weight, weight, two) / len(self.v))

    def __call__(self, s: State) -> State:
        """The derivatives."""
        u, k, cov, tasks = self.unit, len(s.q), s.covariance, len(self.v)
        a = self.readouts(s)
        weight = np.hstack([-a, self.v])  # error = weight . g(all units)
        variance, units = np.diagonal(cov), range(len(cov))
        i, n, j = np.ix_(range(k), units, units)
        three = u.three(variance[i], variance[j], cov[i, n], cov[i, j], cov[n, j])
        drift = self.eta / tasks * np.einsum("ti,tj,inj->in", a, weight, three)
        every = np.ix_(range(k), range(k), units, units)
        four = u.four(cov, np.stack(np.broadcast_arrays(*every), axis=-1))
        spread = np.einsum("ti,tk,tj,tl,ikjl->ik", a, a, weight, weight, four)
        if self.noise:
            pair = u.slopes(variance[:k, None], variance[None, :k], s.q)
            spread += self.noise**2 * np.einsum("ti,tk,ik->ik", a, a, pair)
        dq = drift[:, :k] + drift[:, :k].T + (self.eta / tasks) ** 2 * spread
        da = np.zeros_like(s.a)
        if self.readout == "trained":
            da = self.eta_readout * weight @ u.two(variance[:, None], variance[None, :k], cov[:, :k])
        return State(0.5 * (dq + dq.T), drift[:, k:], da)  # rounding must not part the two halves of Q: they would grow


def crossing(time: Array, values: Array, level: float = 0.5) -> float:
    """When the values at ascending times, interpolated, pass the level for the last time; inf if they end below it."""
    t, y = time, values
    if y[-1] < level:
        return math.inf
    below = np.flatnonzero(y < level)
    if not below.size:
        return float(t[0])
    i = below[-1]
    return float(t[i] + (level - y[i]) / (y[i + 1] - y[i]) * (t[i + 1] - t[i]))
