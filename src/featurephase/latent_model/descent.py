"""Full-batch gradient descent of the latent-variable model: the discrete map beside the flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.latent_model.coefficients import Coefficients, Flags, modes
from featurephase.latent_model.model import Model

__all__ = ["Descent", "descend"]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Full-batch gradient descent (step 1, the rates are the step sizes), beside the flow of the same model.

    Attributes
    ----------
    steps
        0, 1, 2 .., shape (step,).
    output, residual, loss, kernel, alignment
        Shape of the initialisations followed by (step,).
    u, w
        Weights at the last step, shape of the initialisations followed by (unit,).
    diverged
        Whether numbers left the range of float64, one per initialisation.
    """

    steps: NDArray[np.int64]
    output: Array
    residual: Array
    loss: Array
    kernel: Array
    alignment: Array
    u: Array
    w: Array
    diverged: Flags


def descend(model: Model, c: Coefficients, steps: int) -> Descent:
    """Gradient descent with step 1.

    With ``g = 2 c k (A s - B)``, one step multiplies every ``p_i`` by ``1 - g`` and every ``q_i`` by ``1 + g`` (exact;
    theory/latent-solution, eq. lat-descent), so that the map closes on two scalars.

    Raises
    ------
    InputError
        If ``steps`` is negative.
    """
    if steps < 0:
        raise InputError(f"steps must be at least 0, given {steps}")
    factor, k = 2.0 * model.loss_factor, 0.5 * c.twice_k
    s, pushed, grown_p, grown_q = c.start, np.zeros_like(k), np.ones_like(k), np.ones_like(k)
    history = np.empty((4, len(k), steps + 1))
    with np.errstate(all="ignore"):
        for step in range(steps + 1):
            residual = model.A * s - model.B
            kernel = c.kernel_p * grown_p**2 + c.kernel_q * grown_q**2
            history[:, :, step] = s, residual, kernel, c.root_gram * grown_p * grown_q
            if step < steps:
                g = factor * k * residual
                pushed = pushed - factor * residual
                grown_p, grown_q = grown_p * (1.0 - g), grown_q * (1.0 + g)
                change = (c.kernel_p * (grown_p**2 - 1.0) - c.kernel_q * (grown_q**2 - 1.0)) / c.twice_k
                s = c.start + np.where(k == 0.0, pushed * kernel, change)
        u, w = _weights(model, c, pushed * model.gamma, grown_p, grown_q)
        output, residual, kernel, root_gram = history
        loss = model.loss_factor * (residual * residual / c.A[:, None] + model.floor[:, None])
        z = np.where(c.frozen[:, None], c.product[:, None], output / c.gamma[:, None])
        histories = {"output": output, "residual": residual, "loss": loss, "kernel": kernel}
        histories["alignment"] = z / np.hypot(z, root_gram)
    return Descent(
        steps=np.arange(steps + 1),
        **{name: x.reshape(*model.batch, -1) for name, x in histories.items()},
        u=u.reshape(*model.batch, -1),
        w=w.reshape(*model.batch, -1),
        diverged=np.asarray(~np.isfinite(output).all(axis=-1)).reshape(model.batch),
    )


def _weights(model: Model, c: Coefficients, push: Array, grown_p: Array, grown_q: Array) -> tuple[Array, Array]:
    """At the last step; ``push`` moves one layer along the other where that one has rate 0."""
    u, w = model.u.copy(), model.w.copy()
    for i in np.flatnonzero(~c.frozen).tolist():
        p_u, q_u, p, q = modes(model, i)[0]
        if c.linear[i]:
            u[i], w[i] = u[i] + model.eta_u[i] * push[i] * p_u, w[i] + model.eta_w[i] * push[i] * p
        else:
            u[i], w[i] = p_u * grown_p[i] - q_u * grown_q[i], p * grown_p[i] + q * grown_q[i]
    return u, w
