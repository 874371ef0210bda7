"""Moments of a data set whose inputs are multiples of one vector: all that the latent-variable model sees of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError

__all__ = ["DataMoments", "moments_from_data"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DataMoments:
    """Second moments of a data set whose inputs are multiples of one vector.

    Attributes
    ----------
    second, cross, response
        ``A = E a^2``, ``B = E[a y]``, ``C = E y^2`` (sample means).
    direction
        The unit vector n with ``x = a n``; its largest component is positive. Shape (input,).
    singular_ratio
        Second over first singular value of the inputs: how far from rank one they are.
    tolerance
        What was accepted for it.
    """

    second: float
    cross: float
    response: float
    direction: Floats
    singular_ratio: float
    tolerance: float

    def project(self, weights: ArrayLike) -> Floats:
        """Hidden weights (.., unit, input) projected on the latent direction: the ``w`` of the model, (.., unit)."""
        w = np.asarray(weights, dtype=np.float64)
        if w.ndim == 0 or w.shape[-1] != self.direction.size:
            raise InputError(
                f"hidden weights have shape {w.shape}; expected (.., unit, {self.direction.size}), one weight per input"
            )
        projected: Floats = w @ self.direction
        return projected


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
    x = np.asarray(inputs, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    if x.ndim == 1:
        x = x[:, None]
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
    return DataMoments(
        second=float(np.mean(a * a)),
        cross=float(np.mean(a * y)),
        response=float(np.mean(y * y)),
        direction=direction,
        singular_ratio=ratio,
        tolerance=tolerance,
    )
