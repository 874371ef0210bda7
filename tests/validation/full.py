"""The validation at full size: ``python -m tests.validation.full [PART ..]``, from the root of the repository.

Prints Markdown tables of theory and reference with standard errors and z, and the smallest p-value of each family.
Parts: numbers, trajectories, spectra, blocks, trained, errors, paths.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from . import blocks, coverage, published, test_trained_networks
from .cases import CASES, SPECTRA
from .evidence import FAMILY_ERROR, HEADER, Comparison
from .experiments import spectrum_comparison, trajectory_comparison
from .test_ridge import ridge_comparison
from .test_trained_reference import section_8
from .trained_cases import CASES as TRAINED


def trajectories() -> Iterator[tuple[str, list[Comparison]]]:
    for case in (c for c in CASES.values() if c.delta <= 8.0):  # the others are compared by their spectra
        yield (
            case.name,
            trajectory_comparison(case, [0, 1, 3, case.steps], samples=30_000, replicates=8, dimension=300, seeds=40),
        )


def spectra() -> Iterator[tuple[str, list[Comparison]]]:
    for name, delta, t in SPECTRA:
        width = len(CASES[name].readout)
        sizes = (
            {"samples": 20_000, "replicates": 8, "dimension": 200, "seeds": 30}
            if width == 1
            else {"samples": 8_000, "replicates": 6, "dimension": 360 // width, "seeds": 16}
        )
        yield name, spectrum_comparison(replace(CASES[name], delta=delta), t, density=width in (1, 2, 4), **sizes)


def numbers() -> Iterator[tuple[str, list[Comparison]]]:
    yield "Dandi et al., table", published.dandi_comparison(100_000, 20)
    yield "Dandi et al., t = 20", published.dandi_late_comparison(100_000, 8, dimension=2000, seeds=16)
    yield "one neuron, trajectory", published.one_neuron_trajectory(100_000, 10)
    yield "ridge", ridge_comparison(400_000, 12)
    yield "one neuron, edges", published.one_neuron_edges(30_000, 6)


def wide_networks() -> Iterator[tuple[str, list[Comparison]]]:
    """Dense Hessians of side m d up to 5120, their limits and their thresholds."""
    sizes = {
        (2, 0): blocks.Sizes(40_000, 8, 20_000, 6, 200, 24),
        (4, 0): blocks.Sizes(40_000, 6, 20_000, 4, 150, 16),
        (8, 0): blocks.Sizes(40_000, 6, 6_000, 4, 100, 12),
        (16, 0): blocks.Sizes(20_000, 4, 2_048, 2, 80, 8),
        (32, 0): blocks.Sizes(20_000, 4, 0, 0, 80, 8),
        (2, 5): blocks.Sizes(40_000, 8, 20_000, 6, 200, 24),
        (4, 5): blocks.Sizes(40_000, 6, 20_000, 4, 150, 16),
        (8, 5): blocks.Sizes(40_000, 6, 6_000, 4, 100, 12),
        (16, 5): blocks.Sizes(20_000, 4, 0, 0, 80, 6),
    }
    for (width, time_), size in sizes.items():
        found = blocks.measure(width, time_, size)
        within = 0.0 < found.gap.value < 1.0 / width
        print(f"{blocks.HEADER}\n{blocks.row(found)}\n\ngap below 1/m: {within}\n")
        yield f"m = {width}, t = {time_}", found.comparisons()
    for width, samples, replicates in ((2, 20_000, 6), (4, 6_000, 6), (16, 6_000, 4)):
        threshold = blocks.distinct_threshold(width, samples, replicates)
        print(f"delta_NN {threshold.value:.4f} ± {threshold.value_se:.4f}")
        print(f"gap {threshold.block_gap:.4f} ± {threshold.block_gap_se:.4f}\n")
        yield f"delta*, m = {width}", blocks.threshold_comparison(threshold, width, replicates)
    for width in (2, 4, 8, 16, 32):
        exact, symmetric = blocks.equal_thresholds(width, 10_000, 6)
        gap = exact / symmetric.value - 1.0
        print(f"equal, m = {width}: blocks {exact:.4f}, full {symmetric.value:.4f} ± {symmetric.se:.4f}, gap {gap:.4f}")
        if width <= 8:
            whole = blocks.equal_threshold(width, 24_000 // width, 4, symmetric.value)
            yield f"delta_NN, m = {width}", [Comparison(f"m = {width}: delta_NN", whole, symmetric)]


def trained_networks() -> Iterator[tuple[str, list[Comparison]]]:
    """Classes, vectors, biases and trained read-outs, against recorded dense runs and the numbers of the theory."""
    yield "section 8", section_8(30_000, 8)
    for name, case in TRAINED.items():
        yield f"trajectories: {name}", test_trained_networks.trajectory(name, samples=30_000, replicates=8)
        if case.hessian is not None:
            yield f"spectra: {name}", test_trained_networks.hessian(name, samples=30_000, replicates=8)


PARTS: dict[str, Callable[[], Iterator[tuple[str, list[Comparison]]]]] = {
    "numbers": numbers,
    "trajectories": trajectories,
    "spectra": spectra,
    "blocks": wide_networks,
    "trained": trained_networks,
}


def honest_errors() -> None:
    print(coverage.HEADER)
    for c in coverage.trajectory_and_spectrum_coverage(150, 3000, 6, 60_000, 16):
        print(c.row(), flush=True)
    for c in coverage.threshold_coverage(120, (3000, 6000), 5, 40_000, 10):  # with roots enclosed, and by slopes
        print(c.row(), flush=True)
    for step, few, replicates, many, many_replicates in ((6, 1024, 400, 65_536, 16), (60, 2048, 100, 65_536, 8)):
        print(f"\nt = {step}, N = {few} and {many}\n\n{coverage.BIAS_HEADER}")
        for b in coverage.bias(step, few, replicates, many, many_replicates):
            print(b.row(), flush=True)


def sample_paths() -> None:
    print(coverage.PATHS_HEADER)
    for row in coverage.long_runs([(n, quasi) for n in (2048, 8192, 65_536) for quasi in (0, 24)], 32):
        print(row, flush=True)


TABLES: dict[str, Callable[[], None]] = {"errors": honest_errors, "paths": sample_paths}


def main(names: list[str]) -> int:
    failed = 0
    for part in names or [*PARTS, *TABLES]:
        print(f"\n## {part} ({datetime.date.today()})\n", flush=True)
        if part in TABLES:
            TABLES[part]()
            continue
        began = time.perf_counter()
        for title, found in PARTS[part]():
            worst = min(c.p_value for c in found)
            verdict = "agree" if worst > FAMILY_ERROR / len(found) else "DISAGREE"
            failed += verdict != "agree"
            print(f"### {title}: {len(found)} quantities, smallest p {worst:.2g}, {verdict}\n\n{HEADER}")
            for c in found:
                print(c.row())
            print(f"\n({time.perf_counter() - began:.0f} s)\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
