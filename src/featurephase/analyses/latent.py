"""``fp.latent``: one trajectory of the exact latent-variable model, with its limit and the budget of its mechanisms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError, show, suggest
from featurephase.foundation.memory import require_memory
from featurephase.foundation.types import Array
from featurephase.latent_model.mechanisms import NAMES, mechanisms, regime
from featurephase.latent_model.model import check_times
from featurephase.latent_model.solution import Flow, Trajectory
from featurephase.latent_model.training import Measurement, Setting, integrate_flow, train_network, two_point_data
from featurephase.results.latent import LatentResult
from featurephase.results.status import FROZEN, OK, SADDLE

_RATIOS = ("norm_ratio", "relative_motion_u", "relative_motion_w")
_BUDGET = (*NAMES, "log_kernel_ratio", "output_angle", "output_scale", *_RATIOS)
_SCALARS = ("output", "loss", "kernel", "alignment", "residual", "excess_loss")
#: Steps of the descent that is measured.
_MOST_STEPS = 20_000
#: Times where none are given.
_DEFAULT_TIMES = 200
#: Keys of a table ``[latent]`` whose values are lists.
_LISTS = ("u", "w", "time")


def require_latent_memory(units: int, times: int = _DEFAULT_TIMES) -> None:
    """Refuse a network whose weights at all times would not fit.

    Raises
    ------
    MemoryLimitError
        Saying both figures.
    """
    # Measured: four arrays of float64 over (time, unit), and eight rows of units besides.
    require_memory(32.0 * units * (times + 8.0), f"a network of {units:,} units at {times:,} times")


def default_times(flow: Flow, count: int = _DEFAULT_TIMES) -> Array:
    """0 and times that show the whole motion: three decades around the first and last rates."""
    first, last = float(flow.initial_rate), float(flow.asymptotic_rate)
    rates = [x for x in (first, last) if np.isfinite(x) and x > 0.0]
    if not rates:
        return np.linspace(0.0, 1.0, 11)
    saturation = float(flow.saturation_time)
    end = 12.0 / (last or first)
    if np.isfinite(saturation):
        end = max(end, saturation + 10.0 / last if last else saturation)
    if last == 0.0:  # algebraic decay
        end = 1e4 / first
    return np.linspace(0.0, min(end, 1e300), count)


def latent(
    u: ArrayLike,
    w: ArrayLike,
    *,
    cross_moment: float,
    times: ArrayLike | None = None,
    second_moment: float = 1.0,
    response_moment: float | None = None,
    eta_u: float = 1.0,
    eta_w: float = 1.0,
    gamma: float = 1.0,
    loss_factor: float = 1.0,
    saddle_tolerance: float = 0.0,
    measure: bool = False,
) -> LatentResult:
    """The exact trajectory of a one-hidden-layer linear network on a one-dimensional latent input.

    Parameters
    ----------
    u, w
        Read-out and hidden weights (projected on the latent direction) at time 0, shape (unit,).
    cross_moment
        ``B = E[a y]``.
    times
        Times >= 0, infinity included; default: 200 times that show the whole motion.
    second_moment, response_moment
        ``A = E a^2`` and ``C = E y^2``; C defaults to ``B^2/A``, a noiseless target.
    eta_u, eta_w
        Learning rates of the layers.
    gamma
        Prefactor of the network.
    loss_factor
        c in the loss ``c E (f - y)^2``.
    saddle_tolerance
        Relative size below which a mode counts as absent; at 0 this is decided exactly.
    measure
        Also integrate the flow numerically and train the network by gradient descent, at the finite times.

    Raises
    ------
    InputError
        If shapes disagree, a number is not finite, a rate, A or C is negative, ``B^2 > A C``, a time is negative, or
        the weights at all times do not fit in memory.

    Notes
    -----
    arXiv:2401.07085. For many initialisations at once use :class:`featurephase.latent_model.Flow`.

    Examples
    --------
    >>> result = latent(u=[0.5, -0.3, 0.8], w=[0.2, 0.7, -0.4], cross_moment=1.0, times=[0.0, 0.5])
    >>> round(float(result.output[1]), 9)
    0.725484493
    """
    if np.ndim(u) > 1 or np.ndim(w) > 1:
        raise InputError(
            "latent takes one initialisation, u and w of shape (unit,); use featurephase.latent_model.Flow for many"
        )
    scalars: dict[str, Any] = {
        "eta_u": eta_u,
        "eta_w": eta_w,
        "second_moment": second_moment,
        "cross_moment": cross_moment,
        "response_moment": response_moment,
        "gamma": gamma,
        "loss_factor": loss_factor,
        "saddle_tolerance": saddle_tolerance,
    }
    for name, value in scalars.items():
        if np.ndim(value) != 0:
            raise InputError(f"{name} must be one number; use featurephase.latent_model.Flow for many")
    flow, given = check_latent(u, w, times=times, **scalars)
    t = default_times(flow) if given is None else np.atleast_1d(given)
    if t.ndim != 1 or t.size == 0:
        raise InputError(f"times must be a list of at least one number, given shape {t.shape}")
    scalars["response_moment"] = flow.response_moment
    parameters = {name: float(value) for name, value in scalars.items()}
    result = _answer(flow, t, parameters, _measure(u, w, t, parameters) if measure else None)
    return _with_end_of_descent(result) if measure else result


def _with_end_of_descent(result: LatentResult) -> LatentResult:
    """Say so where the descent that was measured ends before the last finite time."""
    assert result.measured is not None
    last = float(result.times[np.isfinite(result.times)].max(initial=0.0))
    reached = float(result.measured["descent"]["times"][-1])
    if reached >= (1.0 - 1e-9) * last:
        return result
    note = (
        f"The measured descent ends at time {reached:.6g}: a step that follows the flow is at most "
        f"{result.measured['descent']['step_size']:.3g}, and {_MOST_STEPS} are made."
    )
    return replace(result, message=f"{result.message} {note}".strip())


def check_latent(
    u: ArrayLike, w: ArrayLike, *, times: ArrayLike | None = None, **scalars: float
) -> tuple[Flow, Array | None]:
    """Refuse arguments of :func:`latent` that make no model, without solving it; the model and the times given.

    Raises
    ------
    InputError
        As :func:`latent`.
    """
    given = None if times is None else check_times(times)
    require_latent_memory(max(np.size(u), np.size(w)), _DEFAULT_TIMES if given is None else given.size)
    return Flow(u, w, **scalars), given


def latent_arguments(table: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """The arguments of :func:`latent` that a table ``[latent]`` gives; ``source`` is the file, in front of messages.

    Raises
    ------
    InputError
        For an unknown key, or a value that is no number (of ``u``, ``w`` and ``time``: no list of them).
    """
    accepted = [*(name for name in inspect.signature(latent).parameters if name not in ("times", "measure")), "time"]
    arguments: dict[str, Any] = {}
    for key, value in table.items():
        if key not in accepted:
            raise InputError(f"{source and f'{source}: '}unknown key latent.{key}: {suggest(key, accepted)}")
        items = value if isinstance(value, list) and key in _LISTS else [value]
        numbers = [_number(key, item) for item in items]
        arguments["times" if key == "time" else key] = numbers if key in _LISTS else numbers[0]
    return arguments


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or value == "inf"):
        raise InputError(f"latent.{key} = {show(value)}: must be a number")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"latent.{key} = {show(value)}: too large") from None


def _answer(flow: Flow, times: Array, parameters: dict[str, float], numerical: dict[str, Any] | None) -> LatentResult:
    """The solution at the times and in the limit, with the budget of the mechanisms."""
    x, end = flow.at(times), flow.limit()
    u, w = flow.weights(times)
    u_end, w_end = flow.weights(np.inf)
    parts = mechanisms(flow, times)
    budget = {name: getattr(parts, name) for name in _BUDGET}
    limit = {name: float(getattr(end, name)) for name in (*_SCALARS, "misalignment", "log_xi")}
    words = regime(flow)
    status = FROZEN if flow.frozen else SADDLE if flow.saddle else OK
    return LatentResult(
        status=status,
        message=_message(status, words, x, parameters["saddle_tolerance"]),
        parameters=parameters,
        times=times,
        u=u,
        w=w,
        **{name: getattr(x, name) for name in _SCALARS},
        limit=limit | {"u": u_end, "w": w_end},
        mechanisms={name: float(values[-1]) for name, values in budget.items()},
        mechanisms_over_time=budget,
        regime=words,
        rates={
            "initial": float(flow.initial_rate),
            "asymptotic": float(flow.asymptotic_rate),
            "saturation_time": float(flow.saturation_time),
            "curvature": float(flow.curvature()),
        },
        conserved=dict(flow.conserved),
        out_of_range=x.out_of_range,
        measured=numerical,
        flow=flow,
    )


def _message(status: str, words: str, x: Trajectory, tolerance: float) -> str:
    message = words if status != OK else ""
    if status == SADDLE:
        how = "decided exactly" if tolerance == 0.0 else f"within the tolerance {tolerance:g}"
        message += f" ({how}; the smallest perturbation of the weights lets the flow escape)"
    # That the residual of a converged run falls below 1e-308 is no news.
    news = [n for n, way in x.out_of_range.items() if way != "underflow" or n in ("output", "kernel")]
    if news:
        message = f"{message} Out of the range of float64 at some time: {', '.join(news)}.".strip()
    return message


def _measure(u: ArrayLike, w: ArrayLike, times: Array, parameters: Mapping[str, float]) -> dict[str, Any]:
    """Both numerical trajectories; the descent with a step small enough to follow the flow.

    In at most 20000 steps: where that is not enough for the last time, the descent ends earlier.
    """
    u, w = np.atleast_1d(np.asarray(u, dtype=np.float64)), np.atleast_1d(np.asarray(w, dtype=np.float64))
    finite = times[np.isfinite(times)]
    setting = Setting(**{name: value for name, value in parameters.items() if name != "saddle_tolerance"})
    flow = integrate_flow(u, w, finite, setting)
    end = float(finite.max(initial=0.0))
    # (K/2k)^2 - s^2 is conserved and s goes straight to its limit: the kernel is largest at the start or in the end.
    kernels = np.append(flow.kernel, setting.measure(np.zeros(1), u[None], w[None]).kernel)
    fastest = float(np.max(kernels)) * 2.0 * setting.second_moment
    needed = 100.0 * end * fastest * setting.loss_factor
    steps = int(np.clip(np.ceil(needed), 1, _MOST_STEPS)) if end else 0
    step_size = end / max(steps, needed) if steps else 1.0
    require_memory(16.0 * (steps + 8.0) * u.size, f"a descent of {u.size:,} units over {steps:,} steps")
    data = two_point_data(setting.second_moment, setting.cross_moment, setting.response_moment, dimension=2)
    network = train_network(data, u, np.outer(w, data[2]), setting, steps=steps, step_size=step_size)
    keep = np.unique(np.linspace(0, steps, min(steps + 1, 101)).round().astype(int))
    return {"flow": _shown(flow), "descent": _shown(network, keep) | {"step_size": step_size}}


def _shown(x: Measurement, keep: NDArray[np.int_] | slice = slice(None)) -> dict[str, Any]:
    return {name: getattr(x, name)[keep] for name in ("times", "output", "loss", "kernel", "alignment")}
