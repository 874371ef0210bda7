"""From means at finite d to the limit: the bias of finite size, its error, and the verdict on the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from featurephase.analyses.observables import Observable
from featurephase.analyses.seeds import SeedRun
from featurephase.foundation.statistics import mean_and_se, welch_degrees
from featurephase.results.comparison import ComparedQuantity

#: A standard error and its degrees of freedom.
Error: TypeAlias = tuple[float, int]

#: Share of a finite-size shift of an eigenvalue that counts as its error: one exponent is assumed, not fitted.
_SHIFT_ERROR = 0.5


def mean_over_seeds(q: Observable, runs: Sequence[SeedRun]) -> tuple[float, Error]:
    """The mean at one d, and its error."""
    mean, se = mean_and_se([q.read(r.trajectory) for r in runs])
    return float(mean), (float(se), len(runs) - 1)


def law_shift(q: Observable, half: Sequence[SeedRun], full: Sequence[SeedRun]) -> tuple[float, list[Error]]:
    """The 1/d bias at d from the exact law at d/2 and d, and the errors to be added."""
    (a, a_error), (b, b_error) = mean_over_seeds(q, half), mean_over_seeds(q, full)
    return a - b, [a_error, b_error]


def eigenvalue_shift(q: Observable, full: Sequence[SeedRun], half: Sequence[SeedRun]) -> tuple[float, list[Error]]:
    """The d^(-exponent) shift at d of an eigenvalue, and the errors to be added.

    The mean at d enters its own correction, ``x - f (x_half - x)``: what it adds is added, in squares, to the error of
    x. The exponent's share is no sampling error, and has the degrees of freedom of the seeds at d for want of any.
    """
    (a, (a_se, a_nu)), (b, (b_se, b_nu)) = mean_over_seeds(q, half), mean_over_seeds(q, full)
    factor = 1.0 / (2.0**q.exponent - 1.0)
    shift = (a - b) * factor
    own = b_se * np.sqrt((1.0 + factor) ** 2 - 1.0)
    return shift, [(factor * a_se, a_nu), (float(np.hypot(own, _SHIFT_ERROR * shift)), b_nu)]


def extrapolated(q: Observable, runs: Mapping[int, Sequence[SeedRun]]) -> tuple[float, Error]:
    """Weighted least squares of the means in d^(-exponent): the intercept and its standard error."""
    sizes = sorted(runs)
    means = [mean_over_seeds(q, runs[d]) for d in sizes]
    values = np.array([mean for mean, _ in means])
    errors = np.array([se for _, (se, _) in means])
    x = np.array(sizes, dtype=np.float64) ** -q.exponent
    spread = np.maximum(errors, 1e-15 * np.maximum(np.abs(values), 1e-300))
    if not np.all(np.isfinite(spread)):
        return np.nan, (np.nan, 1)
    design = np.stack([np.ones_like(x), x], axis=1) / spread[:, None]
    covariance = np.linalg.inv(design.T @ design)
    parts = covariance[0] @ design.T / spread  # of each mean in the intercept
    nu = welch_degrees(parts * errors, [nu for _, (_, nu) in means])
    return float(parts @ values), (float(np.sqrt(covariance[0, 0])), round(nu))


def judged(
    q: Observable, delta: float, mean: float, error: Error, shift: float, others: Sequence[Error]
) -> ComparedQuantity:
    """The difference in units of all errors; a theory that exists does not agree with a simulation that does not."""
    from scipy.special import stdtr

    errors = np.array([se for se, _ in (error, *others)])
    total = float(np.sqrt(np.sum(errors**2)))
    difference = mean - q.theory - shift
    round_off = 1e-9 * max(abs(mean), abs(q.theory), 1e-300)
    if not np.isfinite(q.theory):
        z = p = np.nan
    elif not np.isfinite(difference) or not np.isfinite(total):
        z, p = np.nan, 0.0
    elif total <= round_off:  # zero variance: both are exact, and equal or not
        z = 0.0 if abs(difference) <= 10 * round_off else float(np.copysign(np.inf, difference))
        p = 1.0 if z == 0.0 else 0.0
    else:
        z = difference / total
        p = float(2.0 * stdtr(welch_degrees(errors, [max(nu, 1) for _, nu in (error, *others)]), -abs(z)))
    return ComparedQuantity(
        name=q.name,
        time=q.time,
        delta=delta,
        theory=q.theory,
        theory_se=q.theory_se,
        finite_size=shift,
        finite_size_se=float(np.sqrt(sum(se**2 for se, _ in others[1:]))),
        simulation=mean,
        simulation_se=error[0],
        z=float(z),
        p=p,
    )
