"""The latent-variable model as it is given: weights, rates and moments, checked, one row an initialisation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError
from featurephase.foundation.precise import Precise, exact, rounded
from featurephase.foundation.types import Array

__all__ = ["Model", "check_times", "finite"]

#: The float nearest to B^2/A falls short of it by one rounding at most, relative.
_ONE_ROUNDING = 2.0**-49


@dataclass(frozen=True, kw_only=True)
class Model:
    """Checked arguments of :class:`~featurephase.latent_model.solution.Flow`.

    Attributes
    ----------
    batch
        Shape of the initialisations; below they are rows.
    u, w
        Shape (row, unit).
    eta_u, eta_w, A, B, C, gamma
        Shape (row,).
    floor
        ``C - B^2/A``, the loss (for loss factor 1) that training cannot remove, shape (row,).
    loss_factor, saddle_tolerance
        One number each.
    """

    batch: tuple[int, ...]
    u: Array
    w: Array
    eta_u: Array
    eta_w: Array
    A: Array
    B: Array
    C: Array
    gamma: Array
    floor: Array
    loss_factor: float
    saddle_tolerance: float

    @classmethod
    def of(
        cls,
        u: ArrayLike,
        w: ArrayLike,
        response_moment: ArrayLike | None,
        loss_factor: float,
        saddle_tolerance: float,
        **scalars: ArrayLike,
    ) -> Model:
        """Check and broadcast; ``scalars`` are the rates, A, B and gamma by their names in ``Flow``.

        Raises
        ------
        InputError
            As :class:`~featurephase.latent_model.solution.Flow`.
        """
        u, w = np.atleast_1d(finite("u", u)), np.atleast_1d(finite("w", w))
        width = u.shape[-1]
        if width != w.shape[-1] or width == 0:
            raise InputError(f"u has {width} units and w has {w.shape[-1]}: both need the same number, at least 1")
        if not (np.isfinite(loss_factor) and loss_factor > 0.0):
            raise InputError(f"loss_factor must be positive and finite, given {loss_factor}")
        if not 0.0 <= saddle_tolerance < 1.0:
            raise InputError(f"saddle_tolerance must be in [0, 1), given {saddle_tolerance}")
        given = dict(scalars) | ({} if response_moment is None else {"response_moment": response_moment})
        values = {name: finite(name, value) for name, value in given.items()}
        for name, value in values.items():
            if name not in ("cross_moment", "gamma") and (value < 0.0).any():
                raise InputError(f"{name} must be at least 0, given {value.min():.17g}")
        shapes = [x.shape for x in values.values()]
        try:
            batch = np.broadcast_shapes(u.shape[:-1], w.shape[:-1], *shapes)
        except ValueError:
            raise InputError(
                f"the initialisations (shapes {u.shape[:-1]}, {w.shape[:-1]}) and the parameters (shapes "
                f"{', '.join(map(str, shapes))}) do not broadcast"
            ) from None
        rows = {name: np.broadcast_to(value, batch).reshape(-1) for name, value in values.items()}
        A, B = rows["second_moment"], rows["cross_moment"]
        bad = (A == 0.0) & (B != 0.0)
        if bad.any():
            raise InputError(f"second_moment 0 needs cross_moment 0, given {B[bad][0]:.17g}: E[a y]^2 <= E[a^2] E[y^2]")
        C = rows.get("response_moment")
        return cls(
            batch=batch,
            u=np.broadcast_to(u, (*batch, width)).reshape(-1, width),
            w=np.broadcast_to(w, (*batch, width)).reshape(-1, width),
            eta_u=rows["eta_u"],
            eta_w=rows["eta_w"],
            A=A,
            B=B,
            C=_least_response(A, B) if C is None else C,
            gamma=rows["gamma"],
            floor=np.zeros_like(A) if C is None else _floor(A, B, C),
            loss_factor=float(loss_factor),
            saddle_tolerance=float(saddle_tolerance),
        )

    def take(self, rows: NDArray[np.intp]) -> Model:
        """Some of the initialisations."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {name: x[rows] for name, x in values.items() if isinstance(x, np.ndarray)}
        return Model(**values)


def finite(name: str, value: ArrayLike) -> Array:
    """An array of finite numbers.

    Raises
    ------
    InputError
        If it is anything else.
    """
    try:
        x = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, given {value!r}") from None
    if not np.isfinite(x).all():
        raise InputError(f"{name} must be finite, given {x[~np.isfinite(x)].flat[0]}")
    return x


def check_times(times: ArrayLike) -> Array:
    """Times as an array, if all are at least 0 (infinity included).

    Raises
    ------
    InputError
        If one is not.
    """
    try:
        t = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"times must be numbers, given {times!r}") from None
    if not (t >= 0.0).all():
        raise InputError(f"times must be at least 0 (infinity is accepted), given {t[~(t >= 0.0)].flat[0]}")
    return t


def _least_response(A: Array, B: Array) -> Array:
    """``B^2/A``, and 0 where A = 0."""
    safe = np.where(A == 0.0, 1.0, A)
    with np.errstate(all="ignore"):
        ratio = B / safe
        least: Array = ratio * B
        lost = ~((abs(ratio) > 1e-290) & (abs(ratio) < 1e300)) & (B != 0.0)
        if lost.any():
            least[lost] = (Precise(B[lost]) * B[lost] / safe[lost]).double()
    return least


def _floor(A: Array, B: Array, C: Array) -> Array:
    """``C - B^2/A`` for given C, exactly where it cancels; refuses what violates Cauchy-Schwarz."""
    least = _least_response(A, B)
    floor: Array = C - least
    lost = (A > 0.0) & (B != 0.0) & ~(floor > 1e-3 * C)
    if lost.any():
        a, b, c = (exact(x[lost]) for x in (A, B, C))
        square = b * b
        gap = a * c - square
        wrong = np.flatnonzero(lost)[gap < square * -_ONE_ROUNDING]
        if wrong.size:
            i = wrong[0]
            raise InputError(
                f"cross_moment^2 must not exceed second_moment * response_moment (Cauchy-Schwarz): given "
                f"B = {B[i]:.17g}, A = {A[i]:.17g}, C = {C[i]:.17g}; C must be at least {least[i]:.17g}"
            )
        floor[lost] = (rounded(np.maximum(gap, 0.0)) / A[lost]).double()
    return floor
