"""What theory and brute force each say of a case, as named numbers of independent repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featurephase.dynamics.asymptotic import run_replicate
from featurephase.dynamics.network import Network
from featurephase.foundation.executors import replicate_seeds
from featurephase.hessian.bulk import Bulk
from featurephase.hessian.spectrum import Spectrum, spectrum

from . import brute_force as bf
from .cases import Case
from .evidence import Comparison, Estimate, compare, estimates, extrapolated

#: Mean of the Tracy-Widom law of real matrices (Tracy & Widom 1996); its standard deviation is 1.2680.
TRACY_WIDOM_MEAN = -1.2065335745820


def network_of(case: Case) -> Network:
    student = case.problem.student
    return Network(student.activation, student.readout, case.problem.loss)


# ---- trajectories


def _named(case: Case, times: Sequence[int], train, test, gram, overlap) -> dict[str, float]:
    """Losses, the Gram matrix and the overlaps on easy axes; a first-order hard overlap has mean 0 on either side."""
    named = {}
    for t in times:
        named[f"train loss, t={t}"] = train[t]
        named[f"test loss, t={t}"] = test[t]
        if t:
            m = len(case.readout)
            for r in range(m):
                for s in range(r, m):
                    named[f"Q{r + 1}{s + 1}, t={t}"] = gram[t, r, s]
                for j in case.easy:
                    named[f"M{j + 1}{r + 1}, t={t}"] = overlap[t, j, r]
    return named


def theory_trajectory(case: Case, times: Sequence[int], samples: int, replicates: int, seed: int = 1):
    runs = (
        run_replicate(case.problem, case.delta, s, easy_basis=case.easy_basis, steps=max(times), samples=samples)
        for s in replicate_seeds(seed, replicates)
    )
    return estimates(_named(case, times, r.train_loss, r.test_loss, r.gram, r.overlap) for r in runs)


def dense_run(case: Case, d: int, rng: np.random.Generator, steps: int):
    x, y = bf.data(rng, round(case.delta * d), d, case.latent, case.numpy_link)
    theta = bf.start(d, case.gram, case.overlap)
    weights, losses = bf.descend(x, y, theta, np.array(case.readout), case.sigma, case.loss, case.eta, case.lam, steps)
    return x, y, weights, losses


def dense_test_loss(case: Case, theta: np.ndarray, rng: np.random.Generator, samples: int = 40_000) -> float:
    """Mean loss on fresh x, of which only its components on the span of theta and the latent axes are drawn."""
    d, k = len(theta), case.latent
    basis, _ = np.linalg.qr(np.concatenate([np.eye(d, k), theta], axis=1))
    x = rng.standard_normal((samples, basis.shape[1]))
    y = case.numpy_link(np.ascontiguousarray((x @ basis[:k].T).T), rng)
    return float(case.loss(y, case.sigma(x @ (basis.T @ theta))[0] @ np.array(case.readout))[0].mean())


def dense_trajectory(case: Case, times: Sequence[int], d: int, seeds: int, seed: int = 2):
    rows = []
    for s in np.random.SeedSequence([seed, d]).spawn(seeds):
        rng = np.random.default_rng(s)
        _, _, weights, losses = dense_run(case, d, rng, max(times))
        test = {t: dense_test_loss(case, weights[t], rng) for t in times}
        gram = np.einsum("tdr,tds->trs", weights, weights)
        rows.append(_named(case, times, losses, test, gram, weights[:, : case.latent]))
    return estimates(rows)


def trajectory_comparison(
    case: Case, times: Sequence[int], *, samples: int, replicates: int, dimension: int, seeds: int
) -> list[Comparison]:
    """The limit against brute force at d and 2 d, extrapolated in 1/d."""
    small = dense_trajectory(case, times, dimension, seeds)
    large = dense_trajectory(case, times, 2 * dimension, seeds)
    theory = theory_trajectory(case, times, samples, replicates)
    return compare(theory, {n: extrapolated(small[n], large[n]) for n in theory}, f"{case.name}: ")


# ---- spectra


def edge_curvature(bulk: Bulk) -> float:
    """c of the density (c/pi) sqrt(x) at distance x inside a critical edge.

    Along the branch z has a maximum in p = tr S/delta: z = E - kappa u^2/2 + beta u^3, u = p - p0. Continued to x > 0
    inside, Im p = sqrt(2 x/kappa), and the density is Im tr S/(pi m) = delta Im p/(pi m).
    """
    edge = bulk.edge()
    p0 = float(np.sum(edge.point.root**2))
    u = -0.01 * p0 * np.arange(1, 5)
    drop = [edge.point.value - bulk.point(p0 + v, edge.point).value for v in u]
    kappa = 2 * np.linalg.lstsq(np.stack([u**2, u**3, u**4], axis=1), np.array(drop), rcond=None)[0][0]
    return bulk.delta / bulk.width * np.sqrt(2 / kappa)


def theory_spectra(
    case: Case, time: int, samples: int, replicates: int, seed: int = 3, **options
) -> tuple[list[Spectrum], tuple[float, float]]:
    """One spectrum per replicate, and c of :func:`edge_curvature` at the left and the right edge of the first."""
    network, link = network_of(case), case.problem.teacher.link
    curvatures: list[tuple[float, float]] = []

    def look(moment):
        if not curvatures and not options.get("blocks"):
            w = network.curvature(moment.design.preactivations(moment.weights), moment.responses)
            curvatures.append((edge_curvature(Bulk(w, case.delta)), edge_curvature(Bulk(-w, case.delta))))
        return spectrum(
            link,
            moment,
            delta=case.delta,
            weight_decay=case.lam,
            easy_basis=case.easy_basis,
            hard_basis=case.hard_basis,
            **options,
        )

    found = [
        run_replicate(
            case.problem,
            case.delta,
            s,
            easy_basis=case.easy_basis,
            steps=time,
            samples=samples,
            observers={time: look},
            test=False,
        ).observations[time]
        for s in replicate_seeds(seed, replicates)
    ]
    return found, (curvatures or [(np.nan, np.nan)])[0]


@dataclass(frozen=True)
class Expected:
    """What of the spectrum a dense Hessian of dimension m d can show.

    Attributes
    ----------
    outliers
        (kind, side) -> how many outliers are farther than :data:`RESOLVED` from the edge, in units of (m d c)^(-2/3).
    edges
        The sides whose edge can be seen: no outlier is too close to it to be told from the bulk.
    shift
        Side -> Tracy-Widom mean of the first bulk eigenvalue times (m d)^(2/3), counted inwards.
    """

    outliers: dict[tuple[str, str], int]
    edges: tuple[str, ...]
    shift: dict[str, float]


#: Abscissae of the density: the trapezoidal rule is then good to 1e-4 of the mass.
DENSITY_POINTS = 120
KINDS, SIDES = ("hard", "visited"), ("left", "right")
RESOLVED = 8.0


def expected(case: Case, spectra: list[Spectrum], c: tuple[float, float], dimension: int) -> Expected:
    """Counts that all replicates agree upon, at the given d."""
    size = len(case.readout) * dimension
    outliers, edges = {}, []
    for side, scale in zip(SIDES, c, strict=True):
        found, near = {}, False
        for kind in KINDS:
            counts = set()
            for s in spectra:
                gaps = [abs(o.value - getattr(s, f"{side}_edge")) for o in getattr(s, f"{kind}_{side}")]
                clear = sum(g > RESOLVED * (size * scale) ** (-2 / 3) for g in gaps)
                counts.add(clear)
                near |= clear < len(gaps)
            found[kind] = min(counts)
            near |= len(counts) > 1
        outliers |= {(kind, side): n for kind, n in found.items()}
        if not near:
            edges.append(side)
    return Expected(
        outliers, tuple(edges), {s: -TRACY_WIDOM_MEAN * x ** (-2 / 3) for s, x in zip(SIDES, c, strict=True)}
    )


def theory_spectrum_estimates(spectra: list[Spectrum], plan: Expected) -> dict[str, Estimate]:
    rows = []
    for s in spectra:
        row = {f"{side} edge": getattr(s, f"{side}_edge") for side in plan.edges}
        for (kind, side), count in plan.outliers.items():
            for j, o in enumerate(getattr(s, f"{kind}_{side}")[:count]):
                row[f"{kind} {side} outlier {j + 1}"], row[f"{kind} {side} overlap {j + 1}"] = o.value, o.overlap
        rows.append(row)
    return estimates(rows)


def dense_spectrum(
    case: Case, time: int, d: int, seeds: int, plan: Expected, bins: np.ndarray | None = None, seed: int = 4
) -> dict[str, Estimate]:
    """The same names from dense Hessians; with ``bins`` also the fraction of eigenvalues in each.

    The outermost eigenvalues are the outliers, each of the kind on which it projects most. The first eigenvalue after
    them, less its Tracy-Widom mean, estimates the edge up to O(1/d).
    """
    m, rows = len(case.readout), []
    for s in np.random.SeedSequence([seed, d]).spawn(seeds):
        x, y, weights, _ = dense_run(case, d, np.random.default_rng(s), time)
        h = bf.hessian(x, y, weights[-1], np.array(case.readout), case.sigma, case.loss, case.lam)
        values, vectors = np.linalg.eigh(h)
        row = {}
        for side, sign in (("left", 1), ("right", -1)):
            counts = [plan.outliers[kind, side] for kind in KINDS]
            v = vectors[:, ::sign][:, : sum(counts)]
            on = [bf.overlaps(v, d, case.hard_basis), bf.overlaps(v, d, visited_basis(case, weights))]
            order = np.argsort(on[1] - on[0])
            for kind, which, overlap in zip(KINDS, (order[: counts[0]], order[counts[0] :]), on, strict=True):
                for j, i in enumerate(np.sort(which)):
                    row[f"{kind} {side} outlier {j + 1}"] = values[::sign][i]
                    row[f"{kind} {side} overlap {j + 1}"] = overlap[i]
            if side in plan.edges:
                row[f"{side} edge"] = values[::sign][sum(counts)] - sign * plan.shift[side] * (m * d) ** (-2 / 3)
        if bins is not None:
            fractions = np.histogram(values, np.concatenate([[-np.inf], bins, [np.inf]]))[0] / len(values)
            row |= {f"fraction of eigenvalues {j + 1}": f for j, f in enumerate(fractions)}
        rows.append(row)
    return estimates(rows)


def visited_basis(case: Case, weights: np.ndarray) -> np.ndarray:
    """Orthonormal columns (d, .): the easy axes and all weights so far, less the hard axes."""
    d, k = weights.shape[1], case.latent
    vectors = weights.transpose(1, 0, 2).reshape(d, -1).copy()
    vectors[:k] = 0.0
    u, s, _ = np.linalg.svd(vectors, full_matrices=False)
    return np.concatenate([np.eye(d)[:, list(case.easy)], u[:, s > 1e-6 * s[0]]], axis=1)


def theory_fractions(spectra: list[Spectrum], bins: np.ndarray) -> dict[str, Estimate]:
    """Mass of the density between the bins, (first and last bin open), by the trapezoidal rule."""
    rows = []
    for s in spectra:
        x, density = s.density
        mass = np.concatenate([[0.0], np.cumsum(np.diff(x) * (density[1:] + density[:-1]) / 2)])
        at = np.concatenate([[0.0], np.interp(bins, x, mass), [1.0]])
        rows.append({f"fraction of eigenvalues {j + 1}": f for j, f in enumerate(np.diff(at))})
    return estimates(rows)


def spectrum_comparison(
    case: Case, time: int, *, samples: int, replicates: int, dimension: int, seeds: int, density: bool = False
) -> list[Comparison]:
    spectra, c = theory_spectra(case, time, samples, replicates, density_points=DENSITY_POINTS if density else 0)
    plan = expected(case, spectra, c, dimension)
    theory = theory_spectrum_estimates(spectra, plan)
    bins = None
    if density:
        x, rho = spectra[0].density
        mass = np.cumsum(rho * np.gradient(x))
        bins = np.interp(np.arange(1, 8) / 8, mass / mass[-1], x)
        theory |= theory_fractions(spectra, bins)
    small = dense_spectrum(case, time, dimension, seeds, plan, bins)
    large = dense_spectrum(case, time, 2 * dimension, seeds, plan, bins)
    reference = {n: extrapolated(small[n], large[n]) for n in theory}
    return compare(theory, reference, f"{case.name}, delta={case.delta:g}, t={time}: ")
