"""Wide networks with readout O(1/m): the block approximation (theory/thresholds, eq. thr-blocks) against everything
else.

GeLU, y = 1.5 tanh(g^2), squared loss, orthonormal start. Five sources of m times the left edge and of m times the hard
outlier (m - 1 or m nearly equal ones: their mean, because the lowest is the luckiest):

    blocks       one scalar problem, featurephase       quadrature   the same without samples, at t = 0
    full         the m x m equation, featurephase       dense        Hessians at d and 2 d, extrapolated; their blocks
    symmetric    the m x m equation of equal neurons with two unknowns (wide_reference.py)

Criteria, fixed before the runs: every pair that should be equal agrees by the rule of evidence.py, with standard errors
of its difference below RESOLUTION; the blocks are above the full equation by a relative 0 < gap < 1/m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh

from featurephase.analyses.threshold import NetworkThreshold, network_threshold
from featurephase.dynamics.asymptotic import run_replicate
from featurephase.foundation.executors import replicate_seeds
from featurephase.hessian.bulk import Bulk
from featurephase.hessian.outliers import outliers
from featurephase.hessian.spectrum import hard_directions, spectrum
from featurephase.problem import Problem
from featurephase.subspaces import problem_subspaces

from . import brute_force as bf
from .cases import CASES, Case
from .evidence import Comparison, Estimate, extrapolated
from .experiments import RESOLVED, TRACY_WIDOM_MEAN, dense_run, edge_curvature, network_of
from .scalars import gelu
from .wide_reference import Scalar, Symmetric, scalar_law

#: Hard outliers stand clear of the bulk here (m edge -.38, m outlier -.49 as m grows).
DELTA = 20.0
#: Standard error of m times an edge or outlier, in every comparison.
RESOLUTION = 0.02
#: Relative standard error of a threshold, in every comparison.
THRESHOLD_RESOLUTION = 0.03
#: (full - blocks)/full of lambda_min at 16 neurons, delta = 6, readout 1.5/m: -.896 and -.847 (theory/thresholds).
QUOTED_GAP = 0.049 / 0.896


def response(g: np.ndarray) -> np.ndarray:
    return 1.5 * np.tanh(g * g)


def wide(width: int, strength: float = 1.0, delta: float = DELTA) -> Case:
    """m neurons with readout strength/m; the step size is of order m, so that the weights move."""
    return replace(
        CASES["one neuron"],
        readout=[strength / width] * width,
        eta=0.5 * width,
        gram=np.eye(width),
        overlap=np.zeros((1, width)),
        delta=delta,
        name=f"m = {width}",
    )


@dataclass(frozen=True)
class Pair:
    """m times the left edge and the hard outlier."""

    edge: Estimate
    outlier: Estimate

    @classmethod
    def of(cls, rows: np.ndarray) -> Pair:
        return cls(*(Estimate.of(column) for column in np.array(rows).T))


def theory(
    case: Case, time: int, samples: int, replicates: int, full: bool = True, seed: int = 5
) -> tuple[Pair, Pair | None, int]:
    """Blocks, full equation, and the number of hard outliers of the latter left of the bulk (the same in all)."""
    network, width = network_of(case), len(case.readout)

    def look(moment):
        s = spectrum(
            case.problem.teacher.link,
            moment,
            delta=case.delta,
            weight_decay=0.0,
            easy_basis=case.easy_basis,
            hard_basis=case.hard_basis,
            blocks=True,
            groups=case.problem.student.exchangeable,
        )
        found = [[s.left_edge, np.mean([o.value for o in s.hard_left])]]
        count = 0
        if full:
            bulk = Bulk(network.curvature(moment.design.preactivations(moment.weights), moment.responses), case.delta)
            edge = bulk.edge()
            aligned, _ = outliers(bulk, edge, hard_directions(moment, case.hard_basis))
            found.append([edge.point.value, np.mean([o.value for o in aligned])])
            count = len(aligned)
        return width * np.array(found), count

    runs = [
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
    counts = {count for _, count in runs}
    assert len(counts) == 1, counts
    values = np.array([v for v, _ in runs])
    return Pair.of(values[:, 0]), Pair.of(values[:, 1]) if full else None, counts.pop()


def symmetric_equation(case: Case, time: int, samples: int, seed: np.random.SeedSequence) -> Symmetric:
    """Two unknowns, from fresh samples at t = 0 and from those of the recursion later."""
    a = case.readout[0]
    if time == 0:
        rng = np.random.default_rng(seed)
        h, g = rng.standard_normal((len(case.readout), samples)), rng.standard_normal(samples)
    else:
        h, g = run_replicate(
            case.problem,
            case.delta,
            seed,
            easy_basis=case.easy_basis,
            steps=time,
            samples=samples,
            observers={time: lambda m: (m.design.preactivations(m.weights), latent(m))},
            test=False,
        ).observations[time]
    value, slope, second = gelu(h)
    return Symmetric(a * slope, (a * value.sum(axis=0) - response(g)) * a * second, g * g)


def latent(moment) -> np.ndarray:
    design = moment.design
    return np.concatenate([design.projections(i)[0] for i in range(len(design.slices))])


def symmetric(case: Case, time: int, samples: int, replicates: int) -> tuple[Pair, float]:
    """The full equation of equal neurons, and c of its edge (see experiments.edge_curvature)."""
    width, rows = len(case.readout), []
    for s in np.random.SeedSequence([7, width, time]).spawn(replicates):
        equation = symmetric_equation(case, time, samples, s)
        rows.append([width * equation.edge(case.delta)[0], width * equation.outlier(case.delta)])
    return Pair.of(np.array(rows)), equation.edge_curvature(case.delta)


def scalar(case: Case) -> Scalar:
    """The problem of one neuron of equal ones at the start, by quadrature."""
    return Scalar(*scalar_law(0, case.readout, np.sqrt(np.diag(case.gram)), gelu, response))


def dense(case: Case, time: int, d: int, seeds: int, count: int, c: float, block_c: float) -> tuple[Pair, Pair]:
    """The Hessian at finite d: of its blocks (mean over the neurons) and whole, with ``count`` hard outliers.

    The first eigenvalue after the outliers, less its Tracy-Widom mean, estimates the edge up to O(1/d).
    """
    m = len(case.readout)
    own, whole = [], []
    for s in np.random.SeedSequence([6, d, m, time]).spawn(seeds):
        x, y, weights, _ = dense_run(case, d, np.random.default_rng(s), time)
        h = bf.hessian(x, y, weights[-1], np.array(case.readout), case.sigma, case.loss, case.lam)
        blocks = [
            eigh(h[r * d : (r + 1) * d, r * d : (r + 1) * d], eigvals_only=True, subset_by_index=[0, 1])
            for r in range(m)
        ]
        first, second = np.mean(blocks, axis=0)
        own.append([m * (second + TRACY_WIDOM_MEAN * (d * block_c) ** (-2 / 3)), m * first])
        values, vectors = eigh(h, subset_by_index=[0, count])
        hard = bf.overlaps(vectors, d, case.hard_basis)
        assert hard[:count].min() > hard[count], hard  # the outliers are the hard ones, and the next is of the bulk
        shift = TRACY_WIDOM_MEAN * (m * d * c) ** (-2 / 3)
        whole.append([m * (values[count] + shift), m * values[:count].mean()])
    return Pair.of(np.array(own)), Pair.of(np.array(whole))


@dataclass(frozen=True)
class Width:
    """All that is known of one width at one time."""

    width: int
    time: int
    blocks: Pair
    full: Pair | None
    symmetric: Pair
    dense_blocks: Pair
    dense: Pair
    quadrature: Pair | None

    @property
    def gap(self) -> Estimate:
        """(full - blocks)/full of the hard outlier."""
        whole = self.symmetric if self.full is None else self.full
        return self.blocks.outlier.combined(-1.0, whole.outlier).scaled(1 / abs(whole.outlier.value))

    def comparisons(self) -> list[Comparison]:
        whole = self.symmetric if self.full is None else self.full
        pairs = [
            ("blocks, dense blocks", self.blocks, self.dense_blocks),
            ("full, dense", whole, self.dense),
        ]
        if self.full is not None and self.time == 0:  # later both use the samples of the recursion
            pairs.append(("full, symmetric", self.full, self.symmetric))
        if self.quadrature is not None:
            pairs.append(("blocks, quadrature", self.blocks, self.quadrature))
        return [
            Comparison(f"m = {self.width}, t = {self.time}, {what}: m {name}", getattr(a, name), getattr(b, name))
            for what, a, b in pairs
            for name in ("edge", "outlier")
        ]


@dataclass(frozen=True)
class Sizes:
    """Sample paths and replicates of blocks and full equation (0: not solved), dimension and seeds."""

    samples: int
    replicates: int
    full_samples: int
    full_replicates: int
    dimension: int
    seeds: int


def measure(width: int, time: int, sizes: Sizes) -> Width:
    case = wide(width)
    blocks, _, _ = theory(case, time, sizes.samples, sizes.replicates, full=False)
    full, count = None, width - 1
    if sizes.full_samples:
        _, full, count = theory(case, time, sizes.full_samples, sizes.full_replicates, seed=8)
    equation, c = symmetric(case, time, sizes.samples, max(sizes.replicates // 2, 2))
    block_c = block_edge_curvature(case, time, sizes.samples)
    for distance, size, density in (
        (equation.outlier.value - equation.edge.value, width * sizes.dimension, c),
        (blocks.outlier.value - blocks.edge.value, sizes.dimension, block_c),
    ):
        assert -distance / width > RESOLVED * (size * density) ** (-2 / 3), (distance, size, density)
    small, large = (
        dense(case, time, d, sizes.seeds, count, c, block_c) for d in (sizes.dimension, 2 * sizes.dimension)
    )
    limits = [
        Pair(extrapolated(a.edge, b.edge), extrapolated(a.outlier, b.outlier))
        for a, b in zip(small, large, strict=True)
    ]
    quadrature = None
    if time == 0:
        quadrature = Pair(*(Estimate(width * v) for v in scalar(case).edge_and_outlier(case.delta)))
    return Width(width, time, blocks, full, equation, limits[0], limits[1], quadrature)


def block_edge_curvature(case: Case, time: int, samples: int) -> float:
    """c of the edge of one block: m = 1 in the same formula."""
    equation = symmetric_equation(case, time, samples, np.random.SeedSequence(9))
    curvature = (equation.d[0] + equation.b[0] ** 2)[None, None]
    return edge_curvature(Bulk(curvature, case.delta))


HEADER = (
    "| m, t | blocks: edge, outlier | full | symmetric | dense blocks | dense | gap |\n|---|---|---|---|---|---|---|"
)


def row(w: Width) -> str:
    def words(pair: Pair | None) -> str:
        if pair is None:
            return "-"
        return ", ".join(f"{e.value:.4f} ± {e.se:.4f}" for e in (pair.edge, pair.outlier))

    cells = [words(p) for p in (w.blocks, w.full, w.symmetric, w.dense_blocks, w.dense)]
    return f"| {w.width}, {w.time} | " + " | ".join(cells) + f" | {w.gap.value:.4f} ± {w.gap.se:.4f} |"


# ---- thresholds


def distinct(width: int) -> Problem:
    """Readouts from .5/m to 1.5/m and norms from 1.2 down to .8, at a random start: every neuron has its own delta*."""
    a, norms = np.linspace(0.5, 1.5, width) / width, np.linspace(1.2, 0.8, width)
    return Problem.from_toml(
        f"""
        [teacher]
        latent_dim = 2
        link = "1.5*tanh(g1**2) + 0.7*tanh(g2**2)"
        [student]
        activation = "gelu"
        readout = {a.tolist()}
        init_gram = {np.diag(norms**2).tolist()}
        [loss]
        name = "squared"
        [training]
        step_size = {0.5 * width}
        steps = 0
        """
    )


def distinct_by_quadrature(width: int) -> np.ndarray:
    """delta*_r of :func:`distinct`, per neuron and hard direction (m, 2)."""
    student = distinct(width).student
    norms = np.sqrt(np.diag(student.init_gram))

    def first(g):
        return 1.5 * np.tanh(g * g)

    def second(g):
        return 0.7 * np.tanh(g * g)

    return np.array(
        [
            [
                Scalar(*scalar_law(r, student.readout, norms, gelu, *links)).threshold()
                for links in ((first, second), (second, first))
            ]
            for r in range(width)
        ]
    )


def distinct_threshold(width: int, samples: int, replicates: int) -> NetworkThreshold:
    problem = distinct(width).replace(asymptotics={"samples": samples, "replicates": replicates})
    return network_threshold(problem, 0, problem_subspaces(problem), delta_range=(2.0, 40.0))


def threshold_comparison(found: NetworkThreshold, width: int, replicates: int) -> list[Comparison]:
    """Every delta*_r per direction, and their minimum, in units of their values by quadrature."""
    exact, dof = distinct_by_quadrature(width), replicates - 1
    compared = [
        Comparison(
            f"m = {width}: delta*_{b.neuron}, direction {j + 1}", Estimate(v, se, dof).scaled(1 / e), Estimate(1.0)
        )
        for b, row in zip(found.blocks, exact, strict=True)
        for j, (v, se, e) in enumerate(zip(b.directions, b.directions_se, row, strict=True))
    ]
    minimum = Estimate(found.block_minimum, found.block_minimum_se, dof).scaled(1 / float(exact.min()))
    return [*compared, Comparison(f"m = {width}: minimum", minimum, Estimate(1.0))]


def equal_thresholds(width: int, samples: int, replicates: int) -> tuple[float, Estimate]:
    """Equal neurons, a = 1/m: min_r delta*_r by quadrature, and delta_NN of the full equation with two unknowns.

    The ratio of the two is measured on the same samples, where most of their errors cancel.
    """
    case = wide(width)
    exact = scalar(case).threshold()
    ratios = []
    for s in np.random.SeedSequence([11, width]).spawn(replicates):
        equation = symmetric_equation(case, 0, samples, s)
        curvature = (equation.d + equation.b**2).ravel()
        own = Scalar(curvature, np.tile(equation.g2, width), np.full(curvature.size, 1 / curvature.size)).threshold()
        ratios.append(equation.threshold(0.7 * own, 1.1 * own) / own)
    return exact, Estimate.of(np.array(ratios)).scaled(exact)


def equal_threshold(width: int, samples: int, replicates: int, guess: float) -> Estimate:
    """The same delta_NN by the matrix equation."""
    case = wide(width)
    problem = case.problem.replace(asymptotics={"samples": samples, "replicates": replicates, "seed": 12})
    found = network_threshold(
        problem, 0, problem_subspaces(problem), delta_range=(1.0, 10.0), guess=guess, value_only=True
    )
    return Estimate(found.value, found.value_se, replicates - 1)
