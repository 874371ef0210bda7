"""Networks of the latent-variable model trained numerically, and what is read from their weights.

Nothing that is measured here knows the closed form: the claims about it are decided by these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from featurephase.analyses.latent import latent
from featurephase.foundation.types import Array
from featurephase.latent_model.training import Measurement, Setting, train_network, two_point_data

#: Error of gradient descent extrapolated to step 0: of second order in a step of up to 0.004 inverse rates.
DESCENT_BOUND = 1e-4


def random_layers(
    width: int, replicates: int, seed: tuple[int, ...], scale_u: float = 1.0, scale_w: float = 1.0
) -> list[tuple[Array, Array]]:
    """Independent starts: read-out and hidden weights, normal with these standard deviations, (width,) each."""
    rng = np.random.default_rng(seed)
    return [(scale_u * rng.standard_normal(width), scale_w * rng.standard_normal(width)) for _ in range(replicates)]


def descent(u: Array, w: Array, *, time: float, steps: int, cross_moment: float = 1.0, **rates: Any) -> Measurement:
    """Gradient descent on two samples with second moment 1, in so many small steps; the weights at every step."""
    data = two_point_data(1.0, cross_moment, cross_moment**2, dimension=2)
    setting = Setting(cross_moment=cross_moment, response_moment=cross_moment**2, **rates)
    return train_network(data, u, np.outer(w, data[2]), setting, steps=steps, step_size=time / steps)


class Budget(NamedTuple):
    """Parts of the change of ln K along a measured path."""

    alignment: float
    disalignment: float
    growth: float
    shrinkage: float


def measured_budget(path: Measurement) -> Budget:
    """The mechanisms of a path, by the trapezoidal rule in what was measured along it.

    Between neighbouring steps a share of one less the squared cosine of the change of ln K is rotation, the rest is
    change of norms (theory/latent-mechanisms).
    """
    change, cosine = np.diff(np.log(path.kernel)), np.abs(path.alignment)
    norms = 0.5 * (cosine[1:] ** 2 + cosine[:-1] ** 2)
    rotation, rescaling = (1.0 - norms) * change, norms * change
    aligning = np.diff(cosine) > 0.0
    return Budget(
        float(rotation[aligning].sum()),
        float(rotation[~aligning].sum()),
        float(rescaling[rescaling > 0.0].sum()),
        float(rescaling[rescaling < 0.0].sum()),
    )


class Descent(NamedTuple):
    """A path, the parts of ln K along it, and what descent in ever smaller steps would find."""

    path: Measurement  # in the steps asked for
    budget: Budget
    ratio: float  # K at the end over K at the start, extrapolated to step 0 from these steps and half as many
    error: float  # largest difference between the budget, extrapolated in the same way, and that of the closed form


def followed(u: Array, w: Array, *, time: float, steps: int, cross_moment: float = 1.0) -> Descent:
    """Gradient descent with its budget; the closed form is asked for its own only to be compared."""
    coarse, path = (descent(u, w, time=time, steps=n * (steps // 2), cross_moment=cross_moment) for n in (1, 2))
    budgets = [np.array(measured_budget(p)) for p in (coarse, path)]
    ratios = [float(p.kernel[-1] / p.kernel[0]) for p in (coarse, path)]
    exact = latent(u, w, cross_moment=cross_moment, times=[0.0, time]).mechanisms
    error = np.abs(2.0 * budgets[1] - budgets[0] - [exact[name] for name in Budget._fields]).max()
    return Descent(path, Budget(*budgets[1].tolist()), 2.0 * ratios[1] - ratios[0], float(error))
