"""Published or independently measured numbers, with their source, and what featurephase says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import qmc

from featurephase.dynamics.asymptotic import PathAccuracy, run_replicate
from featurephase.foundation.executors import replicate_seeds
from featurephase.hessian.bulk import Bulk
from featurephase.hessian.outliers import Directions, margins, outliers
from featurephase.hessian.spectrum import hard_margins

from .cases import CASES, Case
from .evidence import Comparison, Estimate, compare, estimates, extrapolated
from .experiments import dense_trajectory, theory_spectra, theory_trajectory

# ---- Dandi, Troiani, Arnaboldi, Pesce, Zdeborova, Krzakala (arXiv 2402.03220), data of IdePHICS/benefit-reusing-batch:
# mean of 32 simulations at d = 5000, standard errors at most .0014.

DANDI_SE = 0.0014
DANDI = {
    "M11": (0.0, 0.0757, 0.1238, 0.1562),
    "M21": (0.0, -0.0626, -0.1018, -0.1276),
    "Q11": (1.0, 0.855, 0.8057, 0.7917),
    "Q12": (0.0, 0.1099, 0.1491, 0.1602),
    "test loss": (0.4917, 0.4202, 0.3859, 0.3683),
}


def dandi_comparison(samples: int, replicates: int) -> list[Comparison]:
    theory = theory_trajectory(CASES["two relus"], (0, 1, 2, 3), samples, replicates)
    table = {
        f"{name}, t={t}": Estimate(value, DANDI_SE)
        for name, values in DANDI.items()
        for t, value in enumerate(values)
        if t or name == "test loss"
    }
    return compare({name: theory[name] for name in table}, table, "Dandi et al., table: ")


def dandi_late_comparison(
    samples: int, replicates: int, dimension: int, seeds: int, time: int = 20
) -> list[Comparison]:
    """Where response-function solvers are 10 % off: theta_1 . e_1 and all else at t = 20 against brute force."""
    case = CASES["two relus"]
    small, large = (dense_trajectory(case, (time,), d, seeds) for d in (dimension, 2 * dimension))
    theory = theory_trajectory(case, (time,), samples, replicates)
    return compare(theory, {n: extrapolated(small[n], large[n]) for n in theory}, "Dandi et al., late: ")


# ---- the example of one neuron (theory/thresholds): two independent implementations, four digits

ONE_NEURON_TIMES = (0, 1, 2, 5, 10)
ONE_NEURON_LOSS = (0.4198, 0.3497, 0.3206, 0.2743, 0.2404)
ONE_NEURON_NORM = (1.0, 0.8795, 0.8753, 0.9496, 1.0558)
#: (delta, t) -> left edge and hard outlier of one run (theory/thresholds). Its numbers at t = 120 and 240 carry the
#: bias of a finite number of paths, which grows with time (see docs/validation.md): dense runs contradict them.
ONE_NEURON_EDGES = {(20.0, 60): (-0.0344, -0.0392), (40.0, 60): (-0.0265, -0.0851)}
#: Sample paths of the runs that the numbers without an error come from: taken as one replicate of this size.
QUOTED_SAMPLES = 100_000


def quoted(value: float, own: Estimate, replicates: int, samples: int) -> Estimate:
    """A number quoted without error: that of one run of QUOTED_SAMPLES independent paths, and its rounding.

    ``own``: the same number by ``replicates`` runs of ``samples`` independent paths.
    """
    one = own.se * np.sqrt(replicates * samples / QUOTED_SAMPLES)
    return Estimate(value, float(np.hypot(one, 1e-4 / np.sqrt(12))), own.dof)


def one_neuron_trajectory(samples: int, replicates: int) -> list[Comparison]:
    case = CASES["one neuron"]

    def runs(seed: int, **accuracy: int) -> dict[str, Estimate]:
        common = {
            "easy_basis": case.easy_basis,
            "steps": 10,
            "samples": samples,
            "test": False,
            "accuracy": PathAccuracy(**accuracy),
        }
        found = [run_replicate(case.problem, 4.0, s, **common) for s in replicate_seeds(seed, replicates)]
        return estimates(
            [
                {f"train loss, t={t}": r.train_loss[t] for t in ONE_NEURON_TIMES}
                | {f"norm, t={t}": float(np.sqrt(r.gram[t, 0, 0])) for t in ONE_NEURON_TIMES[1:]}
                for r in found
            ]
        )

    theory, independent = runs(11), runs(11, quasi=0)
    values = {f"train loss, t={t}": v for t, v in zip(ONE_NEURON_TIMES, ONE_NEURON_LOSS, strict=True)}
    values |= {f"norm, t={t}": v for t, v in zip(ONE_NEURON_TIMES, ONE_NEURON_NORM, strict=True) if t}
    reference = {n: quoted(v, independent[n], replicates, samples) for n, v in values.items()}
    return compare({n: theory[n] for n in values}, reference, "one neuron, delta=4: ")


def one_neuron_edges(
    samples: int, replicates: int, keys: tuple[tuple[float, int], ...] = tuple(ONE_NEURON_EDGES)
) -> list[Comparison]:
    found = []
    for delta, time in keys:
        case = replace(CASES["one neuron"], delta=delta)
        spectra, _ = theory_spectra(case, time, samples, replicates, seed=12)
        edge, outlier = ONE_NEURON_EDGES[delta, time]
        theory = {"left edge": Estimate.of(np.array([s.left_edge for s in spectra]))}
        values = {"left edge": edge}
        if all(s.hard_left for s in spectra):
            theory["hard outlier"] = Estimate.of(np.array([s.hard_left[0].value for s in spectra]))
            values["hard outlier"] = outlier
        reference = {n: quoted(v, theory[n], replicates, samples) for n, v in values.items()}
        found += compare(theory, reference, f"one neuron, delta={delta:g}, t={time}: ")
    return found


def hard_margin(case: Case, delta: float, time: int, samples: int, replicates: int) -> Estimate:
    """Smallest margin of the hard outliers: negative where one stands left of the bulk."""
    link = case.problem.teacher.link

    def look(moment):
        return hard_margins(link, moment, delta=delta, weight_decay=case.lam, hard_basis=case.hard_basis)[0].at_edge[0]

    runs = (
        run_replicate(
            case.problem,
            delta,
            s,
            easy_basis=case.easy_basis,
            steps=time,
            samples=samples,
            observers={time: look},
            test=False,
        )
        for s in replicate_seeds(13, replicates)
    )
    return Estimate.of(np.array([r.observations[time] for r in runs]))


# ---- the Hessian at a random start for the loss (y - h^2)^2/(2 (a + y)), y = g^2 (theory/hessian, eq.
# hes-random-start)

RANDOM_START = {0.001: 2.9783, 0.1: 2.1667, 1.0: 1.1349, 3.0: 2.2877}
RANDOM_START_CONTINUOUS_UP_TO = 1.1088
#: a = 1, delta = 3: left edge, hard outlier, squared overlap
RANDOM_START_SPECTRUM = (-0.45663, -0.50401, 0.28381)


def random_start(a: float, delta: float, log2_samples: int) -> tuple[Bulk, Directions]:
    """The bulk and its hard direction from quasi-random samples; inf W = -2, approached as g grows at h = 0."""
    points = qmc.Sobol(2, seed=0).random_base2(log2_samples)
    h, g = ndtri(np.clip(points.T, 1e-15, 1 - 1e-15))
    curvature = 2 * (3 * h**2 - g**2) / (a + g**2)
    bulk = Bulk(curvature[None, None], delta, np.full((1, 1, 1), -2.0))
    return bulk, Directions(lambda i: g[None, bulk.slices[i]], bulk.slices, 1, 1)


def random_start_margin(a: float, delta: float, log2_samples: int) -> float:
    bulk, directions = random_start(a, delta, log2_samples)
    return float(margins(bulk, bulk.edge().point, directions)[0])


def random_start_threshold(a: float, log2_samples: int) -> tuple[float, bool]:
    """The root in delta of the margin, and whether the edge is critical there."""
    delta = brentq(lambda x: random_start_margin(a, x, log2_samples), 0.5, 6.0, xtol=1e-4)
    return delta, random_start(a, delta, log2_samples)[0].edge().critical


def random_start_spectrum(log2_samples: int) -> tuple[float, float, float]:
    bulk, directions = random_start(1.0, 3.0, log2_samples)
    edge = bulk.edge()
    (found,) = outliers(bulk, edge, directions)[0]
    return edge.point.value, found.value, found.overlap
