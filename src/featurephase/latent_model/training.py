"""The same model without its closed form: the flow by SciPy, and plain gradient descent of a finite network.

Both measure output, loss, kernel and alignment from the weights, and use nothing of the solution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError

__all__ = ["Measurement", "integrate_flow", "train_network", "two_point_data"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured along a numerical trajectory; arrays of shape (time,), weights (time, unit)."""

    times: Floats
    output: Floats
    loss: Floats
    kernel: Floats
    alignment: Floats
    u: Floats
    w: Floats


def _cosine(u: Floats, w: Floats) -> Floats:
    norms = np.linalg.norm(u, axis=-1) * np.linalg.norm(w, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine: Floats = np.where(norms > 0.0, np.sum(u * w, axis=-1) / norms, np.nan)
    return cosine


def integrate_flow(
    u: ArrayLike,
    w: ArrayLike,
    times: ArrayLike,
    *,
    cross_moment: float,
    second_moment: float = 1.0,
    response_moment: float = 0.0,
    eta_u: float = 1.0,
    eta_w: float = 1.0,
    gamma: float = 1.0,
    loss_factor: float = 1.0,
    rtol: float = 1e-12,
    atol: float = 1e-14,
    method: Literal["RK45", "DOP853", "Radau", "LSODA"] = "DOP853",
) -> Measurement:
    """Integrate the gradient flow of all weights numerically, by a method of ``scipy.integrate.solve_ivp``.

    Raises
    ------
    InputError
        If a time is not finite, or the integration fails.
    """
    from scipy.integrate import solve_ivp

    u0, w0 = np.asarray(u, dtype=np.float64), np.asarray(w, dtype=np.float64)
    t = np.asarray(times, dtype=np.float64)
    if not np.isfinite(t).all():
        raise InputError("a numerical integration needs finite times")
    d = u0.size

    def slope(_: float, y: Floats) -> Floats:
        a, b = y[:d], y[d:]
        g = -2.0 * loss_factor * gamma * (second_moment * gamma * (a @ b) - cross_moment)
        return np.concatenate([eta_u * g * b, eta_w * g * a])

    order = np.unique(t)
    start = np.concatenate([u0, w0])
    if order.size and order[-1] > 0.0:
        run = solve_ivp(slope, (0.0, order[-1]), start, method=method, t_eval=order, rtol=rtol, atol=atol)
        if not run.success:
            raise InputError(f"the integration failed: {run.message}")
        path = run.y.T
    else:
        path = np.repeat(start[None], order.size, axis=0)
    path = path[np.searchsorted(order, t)]
    us, ws = path[:, :d], path[:, d:]
    s = gamma * np.sum(us * ws, axis=-1)
    return Measurement(
        times=t,
        output=s,
        loss=loss_factor * (second_moment * s**2 - 2.0 * cross_moment * s + response_moment),
        kernel=gamma**2 * (eta_u * np.sum(ws**2, axis=-1) + eta_w * np.sum(us**2, axis=-1)),
        alignment=_cosine(us, ws),
        u=us,
        w=ws,
    )


def two_point_data(
    second_moment: float, cross_moment: float, response_moment: float, dimension: int = 1
) -> tuple[Floats, Floats, Floats]:
    """Two samples with given moments: inputs (2, dimension), labels (2,), and the latent direction."""
    direction = np.ones(dimension) / np.sqrt(dimension)
    a = np.sqrt(second_moment)
    spread = np.sqrt(max(response_moment - cross_moment**2 / second_moment, 0.0)) if second_moment else 0.0
    middle = cross_moment / a if a else 0.0
    return a * np.repeat(direction[None], 2, axis=0), np.array([middle - spread, middle + spread]), direction


def train_network(
    inputs: ArrayLike,
    labels: ArrayLike,
    u: ArrayLike,
    hidden: ArrayLike,
    direction: ArrayLike,
    *,
    steps: int,
    step_size: float = 1.0,
    eta_u: float = 1.0,
    eta_w: float = 1.0,
    gamma: float = 1.0,
    loss_factor: float = 1.0,
) -> Measurement:
    """Train ``f(x) = gamma sum_i u_i (w_i . x)`` by full-batch gradient descent on a data set.

    Parameters
    ----------
    inputs, labels
        Shapes (sample, input) and (sample,).
    u, hidden
        Initial weights, shapes (unit,) and (unit, input).
    direction
        Latent direction on which outputs and hidden weights are measured, shape (input,).
    steps, step_size
        Number of steps; one step is ``step_size`` of time.

    Returns
    -------
    Measurement
        At every step, time ``step * step_size``.
    """
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    a, b = np.array(u, dtype=np.float64), np.array(hidden, dtype=np.float64)
    n = np.asarray(direction, dtype=np.float64)
    us, ws, losses = np.empty((steps + 1, a.size)), np.empty((steps + 1, a.size)), np.empty(steps + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps + 1):
            features = x @ b.T  # (sample, unit)
            error = gamma * (features @ a) - y
            us[step], ws[step], losses[step] = a, b @ n, loss_factor * np.mean(error**2)
            slope = 2.0 * loss_factor * gamma * error / y.size
            gradient_u, gradient_b = slope @ features, np.outer(a, slope @ x)
            a, b = a - step_size * eta_u * gradient_u, b - step_size * eta_w * gradient_b
        return Measurement(
            times=step_size * np.arange(steps + 1, dtype=np.float64),
            output=gamma * np.sum(us * ws, axis=-1),
            loss=losses,
            kernel=gamma**2 * (eta_u * np.sum(ws**2, axis=-1) + eta_w * np.sum(us**2, axis=-1)),
            alignment=_cosine(us, ws),
            u=us,
            w=ws,
        )
