"""The latent-variable model as it is given: weights, rates and moments, checked, one row an initialisation."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError
from featurephase.foundation.precise import Precise, exact, rounded
from featurephase.foundation.types import Array

Flags = NDArray[np.bool_]

#: The float nearest to B^2/A falls short of it by one rounding at most, relative.
_ONE_ROUNDING = 2.0**-49


@dataclass(frozen=True, kw_only=True)
class Model:
    """Checked arguments of :class:`~featurephase.latent_model.solution.Flow`; arrays are (row,) if nothing is said."""

    batch: tuple[int, ...]  # shape of the initialisations, which are rows below
    u: Array  # (row, unit)
    w: Array  # (row, unit)
    eta_u: Array
    eta_w: Array
    A: Array
    B: Array
    C: Array
    gamma: Array
    floor: Array  # C - B^2/A, the loss (for loss factor 1) that training cannot remove
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
        """Check and broadcast; ``scalars`` are the rates, A, B and gamma by their names in ``Flow``, as its errors."""
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
        C, floor = _response(A, B, rows.get("response_moment"))
        return cls(
            batch=batch,
            u=np.broadcast_to(u, (*batch, width)).reshape(-1, width),
            w=np.broadcast_to(w, (*batch, width)).reshape(-1, width),
            A=A,
            B=B,
            C=C,
            **{name: rows[name] for name in ("eta_u", "eta_w", "gamma")},
            floor=floor,
            loss_factor=float(loss_factor),
            saddle_tolerance=float(saddle_tolerance),
        )

    def take(self, rows: NDArray[np.intp]) -> Model:
        """Some of the initialisations."""
        arrays = [f.name for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)]
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})


def finite(name: str, value: ArrayLike) -> Array:
    """An array of finite numbers; an :class:`InputError` if it is anything else."""
    x = _numbers(name, value)
    if not np.isfinite(x).all():
        raise InputError(f"{name} must be finite, given {x[~np.isfinite(x)].flat[0]}")
    return x


def check_times(times: ArrayLike) -> Array:
    """Times as an array; an :class:`InputError` if not all are at least 0 (infinity included)."""
    t = _numbers("times", times)
    if not (t >= 0.0).all():
        raise InputError(f"times must be at least 0 (infinity is accepted), given {t[~(t >= 0.0)].flat[0]}")
    return t


def _numbers(name: str, value: ArrayLike) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, given {value!r}") from None


def _response(A: Array, B: Array, C: Array | None) -> tuple[Array, Array]:
    """C, by default its least value ``B^2/A`` (0 where A = 0), and what it exceeds that by; refuses a lower one."""
    safe = np.where(A == 0.0, 1.0, A)
    with np.errstate(all="ignore"):
        ratio = B / safe
        least: Array = ratio * B
        lost = ~((abs(ratio) > 1e-290) & (abs(ratio) < 1e300)) & (B != 0.0)
        if lost.any():
            least[lost] = (Precise(B[lost]) * B[lost] / safe[lost]).double()
    if C is None:
        return least, np.zeros_like(A)
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
    return C, floor


@dataclass(frozen=True, kw_only=True)
class DataMoments:
    """Second moments of a data set whose inputs are multiples of one vector."""

    second: float  # A = E a^2, a sample mean
    cross: float  # B = E[a y]
    response: float  # C = E y^2
    direction: Array  # the unit vector n with x = a n, its largest component positive, shape (input,)
    singular_ratio: float  # second over first singular value of the inputs: how far from rank one they are
    tolerance: float  # what was accepted for it

    def project(self, weights: ArrayLike) -> Array:
        """Hidden weights (.., unit, input) projected on the latent direction: the ``w`` of the model, (.., unit)."""
        w, inputs = np.asarray(weights, dtype=np.float64), self.direction.size
        if w.ndim == 0 or w.shape[-1] != inputs:
            raise InputError(
                f"hidden weights have shape {w.shape}; expected (.., unit, {inputs}), one weight per input"
            )
        return np.asarray(w @ self.direction)


def moments_from_data(inputs: ArrayLike, labels: ArrayLike, *, tolerance: float = 1e-8) -> DataMoments:
    """Moments of a finite data set whose input rows are all multiples of one vector (the labels are arbitrary).

    Parameters
    ----------
    inputs
        Shape (sample, input), or (sample,) for scalar inputs.
    labels
        Shape (sample,).
    tolerance
        Largest accepted ratio of the second to the first singular value of ``inputs``.

    Raises
    ------
    InputError
        If shapes disagree, a number is not finite, all inputs vanish, or the inputs are not of rank one.
    """
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y) or len(y) == 0:
        raise InputError(
            f"inputs of shape {x.shape} and labels of shape {y.shape} do not fit: "
            "expected (sample, input) and (sample,) with the same number of samples, at least one"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("inputs and labels must be finite numbers")
    _, singular, right = np.linalg.svd(x, full_matrices=False)
    if singular[0] == 0.0:
        raise InputError("all inputs are zero: there is no latent direction")
    ratio = float(singular[1] / singular[0]) if singular.size > 1 else 0.0
    if ratio > tolerance:
        raise InputError(
            f"the inputs are not multiples of one vector: second over first singular value is {ratio:.3g}, "
            f"accepted up to {tolerance:.3g}; the model has a closed form for rank-one inputs only"
        )
    direction = right[0] * np.sign(right[0][np.argmax(np.abs(right[0]))])
    a = x @ direction
    second, cross, response = (float(np.mean(product)) for product in (a * a, a * y, y * y))
    return DataMoments(
        second=second, cross=cross, response=response, direction=direction, singular_ratio=ratio, tolerance=tolerance
    )
