"""The same model without its closed form: the flow by SciPy, and plain gradient descent of a finite network.

Both measure output, loss, kernel and alignment from the weights, and use nothing of the solution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured along a numerical trajectory; arrays of shape (time,), weights (time, unit)."""

    times: Array
    output: Array
    loss: Array
    kernel: Array
    alignment: Array
    u: Array
    w: Array


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Moments of the data and rates, by their names in :class:`~featurephase.latent_model.solution.Flow`."""

    cross_moment: float = 0.0
    second_moment: float = 1.0
    response_moment: float = 0.0
    eta_u: float = 1.0
    eta_w: float = 1.0
    gamma: float = 1.0
    loss_factor: float = 1.0

    def measure(self, times: Array, u: Array, w: Array, loss: Array | None = None) -> Measurement:
        """From weights (time, unit); without ``loss`` it follows from the moments."""
        product, uu, ww = (np.sum(a * b, axis=-1) for a, b in ((u, w), (u, u), (w, w)))
        s, norms = self.gamma * product, np.sqrt(uu) * np.sqrt(ww)
        if loss is None:
            loss = self.loss_factor * (self.second_moment * s**2 - 2.0 * self.cross_moment * s + self.response_moment)
        alignment = np.divide(product, norms, out=np.full_like(norms, np.nan), where=norms > 0.0)
        kernel = self.gamma**2 * (self.eta_u * ww + self.eta_w * uu)
        return Measurement(times=times, output=s, loss=loss, kernel=kernel, alignment=alignment, u=u, w=w)


def integrate_flow(
    u: ArrayLike,
    w: ArrayLike,
    times: ArrayLike,
    setting: Setting,
    method: Literal["RK45", "DOP853", "Radau", "LSODA"] = "DOP853",
) -> Measurement:
    """Integrate the gradient flow of all weights (unit,) by a method of ``scipy.integrate.solve_ivp``, rtol 1e-12.

    Raises
    ------
    InputError
        If a time is not finite, or the integration fails.
    """
    from scipy.integrate import solve_ivp

    start, t = np.concatenate([np.asarray(x, dtype=np.float64) for x in (u, w)]), np.asarray(times, dtype=np.float64)
    if not np.isfinite(t).all():
        raise InputError("a numerical integration needs finite times")
    x, d = setting, start.size // 2

    def slope(_: float, y: Array) -> Array:
        a, b = y[:d], y[d:]
        g = -2.0 * x.loss_factor * x.gamma * (x.second_moment * x.gamma * (a @ b) - x.cross_moment)
        return np.concatenate([x.eta_u * g * b, x.eta_w * g * a])

    def unlearned(_: float, y: Array) -> float:
        """Above 0 until the output is that of the minimum up to the errors allowed; it never leaves again."""
        a, b = y[:d], y[d:]
        k, size_a, size_b = abs(x.second_moment * x.gamma), float(np.linalg.norm(a)), float(np.linalg.norm(b))
        rounding = 1e-12 * (abs(x.cross_moment) + k * size_a * size_b) + 1e-14 * k * (size_a + size_b)
        return abs(x.second_moment * x.gamma * float(a @ b) - x.cross_moment) - rounding

    unlearned.terminal = True  # type: ignore[attr-defined]
    order, place = np.unique(t, return_inverse=True)
    path = np.repeat(start[None], order.size, axis=0)
    if order.size and order[-1] > 0.0 and unlearned(0.0, start) > 0.0:
        limits: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-14, "events": unlearned}
        run: Any = solve_ivp(slope, (0.0, order[-1]), start, method=method, t_eval=order, **limits)
        if not run.success:
            raise InputError(f"the integration failed: {run.message}")
        moving = len(run.t)
        if moving < len(order):  # at rest before the last time
            path[moving:] = run.y_events[0][-1]
        if moving:
            path[:moving] = run.y.T
    path = path[place.reshape(t.shape)]
    return x.measure(t, path[:, :d], path[:, d:])


def two_point_data(
    second_moment: float, cross_moment: float, response_moment: float, dimension: int = 1
) -> tuple[Array, Array, Array]:
    """Two samples with given moments: inputs (2, dimension), labels (2,), and the latent direction."""
    direction = np.ones(dimension) / np.sqrt(dimension)
    a = np.sqrt(second_moment)
    spread = np.sqrt(max(response_moment - cross_moment**2 / second_moment, 0.0)) if second_moment else 0.0
    middle = cross_moment / a if a else 0.0
    return a * np.repeat(direction[None], 2, axis=0), np.array([middle - spread, middle + spread]), direction


def train_network(
    data: tuple[Array, Array, Array], u: ArrayLike, hidden: ArrayLike, setting: Setting, *, steps: int, step_size: float
) -> Measurement:
    """Train ``f(x) = gamma sum_i u_i (w_i . x)`` by full-batch gradient descent on a data set; measured at every step.

    Parameters
    ----------
    data
        Inputs (sample, input), labels (sample,) and the latent direction (input,) on which hidden weights are measured.
    u, hidden
        Initial weights, shapes (unit,) and (unit, input).
    setting
        The rates, gamma and the loss factor; the moments are those of the data.
    steps, step_size
        Number of steps; one step is ``step_size`` of time.
    """
    (x, y, direction), gamma = data, setting.gamma
    a, b = np.array(u, dtype=np.float64), np.array(hidden, dtype=np.float64)
    us, ws, losses = np.empty((steps + 1, a.size)), np.empty((steps + 1, a.size)), np.empty(steps + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps + 1):
            features = x @ b.T  # (sample, unit)
            error = gamma * (features @ a) - y
            us[step], ws[step], losses[step] = a, b @ direction, setting.loss_factor * np.mean(error**2)
            slope = 2.0 * setting.loss_factor * gamma * error / y.size
            gradient_u, gradient_b = slope @ features, np.outer(a, slope @ x)
            a, b = a - step_size * setting.eta_u * gradient_u, b - step_size * setting.eta_w * gradient_b
        return setting.measure(step_size * np.arange(steps + 1, dtype=np.float64), us, ws, losses)
