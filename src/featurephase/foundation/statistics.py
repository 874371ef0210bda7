"""Means, standard errors and intervals over independent replicates.

Every stochastic number of featurephase is a mean over R >= 2 independent replicates; its standard error is
sd/sqrt(R) and its confidence interval uses Student's t with R - 1 degrees of freedom.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.types import Array


def mean_and_se(replicates: ArrayLike) -> tuple[Array, Array]:
    """Mean and standard error over the first axis, nan wherever a replicate is nan.

    With one replicate the standard error is nan: it cannot be determined.
    """
    x = np.asarray(replicates, dtype=np.float64)
    count = len(x)
    if count == 0:
        return np.full(x.shape[1:], np.nan), np.full(x.shape[1:], np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = x.mean(axis=0)
        se = x.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.full(x.shape[1:], np.nan)
    return mean, se


def student_interval(mean: ArrayLike, se: ArrayLike, replicates: int, level: float = 0.95) -> tuple[Array, Array]:
    """Two-sided confidence interval of a mean over ``replicates`` independent repetitions."""
    half = student_quantile(replicates, level) * np.asarray(se, dtype=np.float64)
    centre = np.asarray(mean, dtype=np.float64)
    return centre - half, centre + half


def student_quantile(replicates: int, level: float = 0.95) -> float:
    """Half of that interval over the standard error: Student's t with ``replicates`` - 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(replicates - 1, (1.0 + level) / 2.0))


def welch_degrees(errors: ArrayLike, degrees: ArrayLike) -> float:
    """Degrees of freedom of the root of a sum of squared standard errors (Welch 1947, Satterthwaite 1946).

    Between the fewest of ``degrees``, where one error is all, and their sum.
    """
    variances, nu = np.asarray(errors, dtype=np.float64) ** 2, np.asarray(degrees, dtype=np.float64)
    largest = float(np.max(variances, initial=0.0))
    if not largest > 0.0:
        return float(np.sum(nu))
    shares = variances / largest
    return float(np.sum(shares) ** 2 / np.sum(shares**2 / nu))
