r"""A threshold as t grows without bound, from its values at finite times: a fit, its form, and an honest error.

delta_NN(t) approaches its limit like a power of t while the left edge of the bulk creeps up to 0, and exponentially
where weight decay ends the plateau in a fixed point. Both are fitted to the mean over the replicates,

    delta_NN(t) = delta_NN + c t^-gamma      or      delta_NN(t) = delta_NN + c exp(-t/tau),

in windows of times that leave out ever more early ones. At given form, gamma or tau, and window the fit is linear:
generalised least squares. The limit is the average over all of them with the weights ``exp(-chi^2/2 - dropped times)``
(Jay & Neil, Phys. Rev. D 103, 114502, 2021), so that its error contains what the data leave open of form, exponent and
window. The next term of either form, ``t^(-2 gamma)`` or ``exp(-2t/tau)``, is allowed for as a systematic error: its
amplitude is unknown, and a fraction of the first one's.

Replicates run along one trajectory each, so their errors at different times are correlated: by most between
neighbouring times. The covariance is that of the replicates, pulled towards a smooth model of it, because few
replicates do not determine a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, polygamma, psi

from featurephase.foundation.statistics import mean_and_se, student_quantile
from featurephase.foundation.types import Array

#: A fit of three parameters that is to be tested needs more times than that.
FEWEST_TIMES = 5
#: Exponents gamma of the power that are averaged over, and times tau of the exponential in units of the last time.
#: Slower approaches than these cannot be told from a drift without end.
_EXPONENTS = np.geomspace(0.3, 2.5, 90)
_LIFETIMES = np.geomspace(0.03, 1.0, 150)
#: Standard deviation of the next term's amplitude, relative to the first one's.
_NEXT_TERM = 0.2
#: Standard deviation of what else the forms leave out at each time, relative to the noise of the mean there.
_DISCREPANCY = 0.3
#: Over the last doubling of the time the values must move less than this share of what they did over the one before, or
#: not clearly more: the slowest of the powers keeps .81, an exponential .9 where tau is .44 of the last time.
_SLOWING = 0.9
#: Level of the interval of Student's t beyond which there is no doubt.
_CLEAR = 0.98
#: How many replicates the smooth model of the covariance is worth beside the real ones.
_MODEL_WEIGHT = 4.0


@dataclass(frozen=True)
class LimitFit:
    """The limit of a threshold.

    Attributes
    ----------
    value, se
        delta_NN and its standard error, which contains that of form, exponent and window.
    form
        ``"power"`` or ``"exponential"``: which of both is the more probable.
    exponent
        Mean of gamma, or of tau.
    first
        First time of the most probable window.
    probability
        Of so large a chi squared of the best fit of that window.
    """

    value: float
    se: float
    form: str
    exponent: float
    first: float
    probability: float


@dataclass(frozen=True)
class _Member:
    """One form at one exponent, fitted to one window of times."""

    form: str
    dropped: int
    exponent: float
    value: float
    variance: float
    chi_squared: float


def fit_limit(times: Sequence[float], replicates: Array) -> LimitFit:
    """Extrapolate values at times (T,) to infinity.

    Parameters
    ----------
    times
        Ascending, positive, about equidistant in log t; at least :data:`FEWEST_TIMES` of them.
    replicates
        Values of each replicate, all finite, (R, T) with R >= 2.

    Raises
    ------
    ValueError
        For fewer times or replicates.
    """
    t, values = np.asarray(times, dtype=np.float64), np.asarray(replicates, dtype=np.float64)
    if len(t) < FEWEST_TIMES or len(values) < 2:
        raise ValueError(f"{len(t)} times and {len(values)} replicates: at least {FEWEST_TIMES} and 2 are needed")
    mean, covariance = values.mean(axis=0), _covariance_of_mean(t, values)
    members = [
        member
        for dropped in range(len(t) - FEWEST_TIMES + 1)
        for member in _members(t[dropped:], mean[dropped:], covariance[dropped:, dropped:], dropped)
    ]
    return _average(members, t)


def drifts_on(replicates: Array, *, clearly: bool = True) -> bool:
    """Whether values (R, T) at times that are equidistant in log t still move as fast as ever: no limit is in sight.

    Not ``clearly``: whether they clearly move, and no slower in the mean.

    A fit would find one all the same, at the end of the range of exponents: an exponential with a trained readout
    (template trained-readout) gives 9.62(23) from t <= 240, where delta_NN(480) is 10.27(9) already.
    """
    late, before = (replicates[:, -1 - i] - replicates[:, -3 - i] for i in (0, 2))
    ahead = np.sign(late.mean())
    move, move_se = mean_and_se(ahead * np.stack([late, late - _SLOWING * before], axis=1))
    clear = move > student_quantile(len(replicates), _CLEAR) * move_se
    return bool(np.all(clear)) if clearly else bool(clear[0] and ahead * (late - before).mean() >= 0.0)


def _average(members: Sequence[_Member], t: Array) -> LimitFit:
    """Mean and error over all fits, each with its weight."""
    cost = np.array([m.chi_squared + 2.0 * m.dropped for m in members])
    best = members[int(np.argmin(cost))]
    freedom = len(t) - best.dropped - 3
    inflation = max(best.chi_squared / freedom, 1.0)  # where no form fits, all of them are as wrong as the best
    weight = np.exp(-0.5 * (cost - cost.min()) / inflation)
    weight /= weight.sum()
    values, variances = np.array([(m.value, m.variance) for m in members]).T
    value = float(weight @ values)
    variance = float(weight @ (variances * inflation + (values - value) ** 2))
    share = {form: sum(w for w, m in zip(weight, members, strict=True) if m.form == form) for form in _FORMS}
    form = max(share, key=lambda f: share[f])
    exponent = sum(w * m.exponent for w, m in zip(weight, members, strict=True) if m.form == form) / share[form]
    probability = float(chdtrc(freedom, best.chi_squared))
    return LimitFit(value, float(np.sqrt(variance)), form, float(exponent), float(t[best.dropped]), probability)


_FORMS = ("power", "exponential")


def _decays(form: str, exponents: Array, t: Array) -> Array:
    """What falls from 1 at the first time to 0 at infinity, for each exponent, (exponents, T)."""
    if form == "power":
        return np.asarray((t / t[0]) ** -exponents[:, None])
    return np.asarray(np.exp(-(t - t[0]) / exponents[:, None]))


def _members(t: Array, mean: Array, covariance: Array, dropped: int) -> Iterator[_Member]:
    """Every form at every exponent in one window: generalised least squares for the limit and the amplitude."""
    change = _NEXT_TERM * (mean[-1] - mean[0])
    for form, exponents in zip(_FORMS, (_EXPONENTS, _LIFETIMES * t[-1]), strict=True):
        decay = _decays(form, exponents, t)
        following = change * decay**2
        matrices = covariance + following[:, :, None] * following[:, None, :]
        design = np.stack([np.ones_like(decay), decay], axis=2)  # (exponents, T, 2)
        weighted = np.linalg.solve(matrices, design)
        inverse = np.linalg.inv(design.swapaxes(1, 2) @ weighted)
        solution = np.einsum("eij,etj,t->ei", inverse, weighted, mean)
        residual = mean - np.einsum("etj,ej->et", design, solution)
        chi_squared = np.einsum("et,et->e", residual, np.linalg.solve(matrices, residual[:, :, None])[:, :, 0])
        for e, exponent in enumerate(exponents):
            numbers = (float(x) for x in (exponent, solution[e, 0], inverse[e, 0, 0], chi_squared[e]))
            yield _Member(form, dropped, *numbers)


def _covariance_of_mean(t: Array, values: Array) -> Array:
    """Of the mean over the replicates (T, T), with what the forms leave out on its diagonal.

    The standard deviations of the model follow a power of t, its correlations fall by one factor from each time to the
    next; both are averages over all times.
    """
    count = len(values)
    centred = values - values.mean(axis=0)
    empirical = centred.T @ centred / (count - 1)
    deviation = _smooth_deviations(t, np.diag(empirical), count - 1)
    product = empirical / np.outer(deviation, deviation)
    neighbours = float(np.mean(np.diag(product, 1)) / np.mean(np.diag(product)))
    steps = np.abs(np.subtract.outer(np.arange(len(t)), np.arange(len(t))))
    model = np.clip(neighbours, 0.0, 0.95) ** steps * np.outer(deviation, deviation)
    share = count / (count + _MODEL_WEIGHT)
    covariance = share * empirical + (1.0 - share) * model
    return np.asarray(covariance / count + np.diag(_DISCREPANCY**2 * deviation**2 / count))


def _smooth_deviations(t: Array, variances: Array, degrees: int) -> Array:
    """Standard deviations that follow a power of t, from sample variances with so many degrees of freedom each.

    The logarithm of a sample variance is too small by ``log(nu/2) - psi(nu/2)`` on average, whatever the variance.
    """
    floor = 1e-16 * max(float(variances.max()), np.finfo(np.float64).tiny)
    logs = np.log(np.maximum(variances, floor)) - psi(degrees / 2) + np.log(degrees / 2)
    # one replicate more or less must not tilt the line: the slope is shrunk by the noise of the logarithms
    x = np.log(t) - np.log(t).mean()
    noise = float(polygamma(1, degrees / 2))
    slope = float(x @ logs / (x @ x + noise))
    return np.asarray(np.exp((logs.mean() + slope * x) / 2))
