"""The validation at full size: ``python -m tests.validation.full [PART ..]``, from the root of the repository.

Prints Markdown tables of theory and reference with standard errors and z, then the worst of each part. Parts:
trajectories, spectra, published, ridge, thresholds, blocks, coverage, bias, basis, speed of none of which is reduced.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from . import published
from .cases import CASES, SPECTRA
from .evidence import FAMILY_ERROR, HEADER, Comparison
from .experiments import spectrum_comparison, trajectory_comparison
from .test_ridge import ridge_comparison


def trajectories() -> Iterator[tuple[str, list[Comparison]]]:
    for case in (c for c in CASES.values() if c.delta <= 8.0):  # the others are compared by their spectra
        yield (
            case.name,
            trajectory_comparison(case, [0, 1, 3, case.steps], samples=30_000, replicates=8, dimension=400, seeds=40),
        )


def spectra() -> Iterator[tuple[str, list[Comparison]]]:
    for name, delta, t in SPECTRA:
        width = len(CASES[name].readout)
        sizes = (
            {"samples": 30_000, "replicates": 8, "dimension": 250, "seeds": 32}
            if width == 1
            else {"samples": 10_000, "replicates": 8, "dimension": 400 // width, "seeds": 20}
        )
        yield name, spectrum_comparison(replace(CASES[name], delta=delta), t, density=width in (1, 2, 4), **sizes)


def numbers() -> Iterator[tuple[str, list[Comparison]]]:
    yield "Dandi et al., table", published.dandi_comparison(100_000, 20)
    yield "Dandi et al., t = 20", published.dandi_late_comparison(100_000, 8, dimension=2000, seeds=16)
    yield "one neuron, trajectory", published.one_neuron_trajectory(100_000, 10)
    yield "one neuron, edges", published.one_neuron_edges(100_000, 6)
    yield "ridge", ridge_comparison(400_000, 12)


PARTS: dict[str, Callable[[], Iterator[tuple[str, list[Comparison]]]]] = {
    "numbers": numbers,
    "trajectories": trajectories,
    "spectra": spectra,
}


def main(names: list[str]) -> int:
    failed = 0
    for part in names or list(PARTS):
        print(f"\n## {part} ({datetime.date.today()})\n", flush=True)
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
