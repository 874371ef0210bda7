"""The validation at full size: ``python -m tests.validation.full [PART ..]``, from the root of the repository.

Prints Markdown tables of theory and reference with standard errors and z, and the smallest p-value of each family.
Parts: numbers, trajectories, spectra, errors, paths, blocks.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from . import blocks, coverage, published
from .cases import CASES, SPECTRA
from .evidence import FAMILY_ERROR, HEADER, Comparison
from .experiments import spectrum_comparison, trajectory_comparison
from .test_ridge import ridge_comparison


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


PARTS: dict[str, Callable[[], Iterator[tuple[str, list[Comparison]]]]] = {
    "numbers": numbers,
    "trajectories": trajectories,
    "spectra": spectra,
}


def honest_errors() -> None:
    print(coverage.HEADER)
    for c in coverage.trajectory_and_spectrum_coverage(150, 3000, 6, 60_000, 16):
        print(c.row(), flush=True)
    print(coverage.threshold_coverage(120, 3000, 5, 40_000, 10).row())
    for step, few, replicates, many, many_replicates in ((6, 1024, 400, 65_536, 16), (60, 2048, 100, 65_536, 8)):
        print(f"\nt = {step}, N = {few} and {many}\n\n{coverage.BIAS_HEADER}")
        for b in coverage.bias(step, few, replicates, many, many_replicates):
            print(b.row(), flush=True)


def sample_paths() -> None:
    print(coverage.PATHS_HEADER)
    for row in coverage.long_runs([(n, quasi) for n in (2048, 8192, 65_536) for quasi in (0, 24)], 32):
        print(row, flush=True)


def wide_networks() -> None:
    """Dense Hessians of side m d up to 3200: their lowest eigenvalue is above the limit's by about (m d)^(-2/3)."""
    sizes = {
        2: (20_000, 4, 400, 6),
        4: (20_000, 4, 300, 6),
        8: (8_000, 4, 200, 6),
        16: (4_000, 2, 120, 4),
        32: (2_000, 2, 100, 2),
    }
    print(blocks.HEADER)
    for row in blocks.widths(sizes):
        print(row.row(), flush=True)


TABLES: dict[str, Callable[[], None]] = {"errors": honest_errors, "paths": sample_paths, "blocks": wide_networks}


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
