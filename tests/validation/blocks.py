"""Wide networks: the block approximation (theory 1, section 5) against the full equation and dense Hessians.

m equal neurons with readout 1.5/m at an orthonormal random start, GeLU, y = 1.5 tanh(g^2), delta = 6: one scalar
problem for each neuron, with W_rr, against the equation for m x m matrices. All numbers are multiplied by m.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from featurephase.dynamics.asymptotic import run_replicate
from featurephase.hessian.bulk import Bulk
from featurephase.hessian.outliers import outliers
from featurephase.hessian.spectrum import hard_directions, spectrum
from featurephase.replicates import replicate_seeds

from . import brute_force as bf
from .cases import CASES, Case
from .evidence import Estimate
from .experiments import dense_run, network_of

DELTA, STRENGTH = 6.0, 1.5
#: (full - blocks)/full of lambda_min at m = 16, from -.896 and -.847 (theory 1, section 5: same readout and delta).
QUOTED_GAP = 0.049 / 0.896


@dataclass(frozen=True)
class Width:
    """m times the left edge and the lowest hard outlier (the edge where there is none), three ways."""

    width: int
    blocks: Estimate
    full: Estimate
    dense: Estimate
    dense_block: Estimate

    def row(self) -> str:
        cells = (f"{e.value:.4f} ± {e.se:.4f}" for e in (self.blocks, self.full, self.dense_block, self.dense))
        return f"| {self.width} | " + " | ".join(cells) + " |"


HEADER = (
    "| m | blocks: m lambda_min | full equation | dense, lowest of the blocks | dense, whole |\n|---|---|---|---|---|"
)


def wide(width: int) -> Case:
    return replace(
        CASES["one neuron"],
        readout=[STRENGTH / width] * width,
        gram=np.eye(width),
        overlap=np.zeros((1, width)),
        delta=DELTA,
    )


def theory(width: int, samples: int, replicates: int, full: bool = True) -> tuple[Estimate, Estimate]:
    """m lambda_min by blocks and by the full equation: the lowest hard outlier, or the edge if there is none."""
    case = wide(width)
    network, link = network_of(case), case.problem.teacher.link

    def look(moment):
        s = spectrum(
            network,
            link,
            moment,
            delta=DELTA,
            weight_decay=0.0,
            easy_basis=case.easy_basis,
            hard_basis=case.hard_basis,
            blocks=True,
        )
        lowest = [min([s.left_edge, *(o.value for o in s.hard_left)])]
        if full:
            bulk = Bulk(network.curvature(moment.design.preactivations(moment.weights), moment.responses), DELTA)
            edge = bulk.edge()
            found, _ = outliers(bulk, edge, hard_directions(moment, case.hard_basis))
            lowest.append(min([edge.point.value, *(o.value for o in found)]))
        return width * np.array(lowest)

    rows = [
        run_replicate(
            case.problem,
            DELTA,
            s,
            easy_basis=case.easy_basis,
            steps=0,
            samples=samples,
            observers={0: look},
            test=False,
        ).observations[0]
        for s in replicate_seeds(5, replicates)
    ]
    found = [Estimate.of(column) for column in np.array(rows).T]
    return found[0], found[1] if full else Estimate(np.nan, np.nan)


def dense(width: int, d: int, seeds: int) -> tuple[Estimate, Estimate]:
    """m lambda_min of the Hessian at finite d, and of the lowest of its diagonal blocks: never below the former."""
    case, rows = wide(width), []
    for s in np.random.SeedSequence([6, d]).spawn(seeds):
        x, y, weights, _ = dense_run(case, d, np.random.default_rng(s), 0)
        h = bf.hessian(x, y, weights[-1], np.array(case.readout), case.sigma, case.loss, case.lam)
        own = min(np.linalg.eigvalsh(h[r * d : (r + 1) * d, r * d : (r + 1) * d])[0] for r in range(width))
        rows.append(width * np.array([np.linalg.eigvalsh(h)[0], own]))
    whole, block = np.array(rows).T
    return Estimate.of(whole), Estimate.of(block)


def widths(sizes: dict[int, tuple[int, int, int, int]]) -> Iterator[Width]:
    """For each width m: sample paths, replicates, dimension, seeds."""
    for width, (samples, replicates, d, seeds) in sizes.items():
        blocks, full = theory(width, samples, replicates)
        whole, block = dense(width, d, seeds)
        yield Width(width, blocks, full, whole, block)
