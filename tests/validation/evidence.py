"""Theory against reference in standard errors, and the rule by which they agree.

The rule, fixed before any run: each pair is compared by Welch's t-test, and a family of q pairs agrees if no p-value is
below FAMILY_ERROR/q (Bonferroni: a correct program fails with probability at most FAMILY_ERROR, whatever the
dependence). So that imprecision cannot pass for agreement, a family also states the resolution it must reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

FAMILY_ERROR = 1e-3


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and degrees of freedom (inf: exact or of known error)."""

    value: float
    se: float = 0.0
    dof: float = np.inf

    @classmethod
    def of(cls, replicates: np.ndarray) -> Estimate:
        x = np.asarray(replicates, float)
        return cls(float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))), len(x) - 1)

    def combined(self, factor: float, other: Estimate) -> Estimate:
        """``self + factor * other``, independent; Welch-Satterthwaite degrees of freedom."""
        a, b = self.se**2, (factor * other.se) ** 2
        total = a + b
        dof = (
            total**2 / (a**2 / self.dof + b**2 / other.dof)
            if total > 0 and min(self.dof, other.dof) < np.inf
            else np.inf
        )
        return Estimate(self.value + factor * other.value, float(np.sqrt(total)), float(dof))

    def scaled(self, factor: float) -> Estimate:
        return Estimate(factor * self.value, abs(factor) * self.se, self.dof)


def extrapolated(small: Estimate, large: Estimate) -> Estimate:
    """The limit of x(d) = x + c/d + O(1/d^2) from dimensions d and 2 d."""
    return large.scaled(2.0).combined(-1.0, small)


@dataclass(frozen=True)
class Comparison:
    name: str
    theory: Estimate
    reference: Estimate

    @property
    def difference(self) -> Estimate:
        return self.theory.combined(-1.0, self.reference)

    @property
    def z(self) -> float:
        d = self.difference
        return d.value / d.se if d.se > 0 else (0.0 if d.value == 0 else float(np.sign(d.value)) * np.inf)

    @property
    def p_value(self) -> float:
        return float(2.0 * student.sf(abs(self.z), self.difference.dof))

    def row(self) -> str:
        t, r = self.theory, self.reference
        return f"| {self.name} | {t.value:.5f} ± {t.se:.5f} | {r.value:.5f} ± {r.se:.5f} | {self.z:+.2f} |"


HEADER = "| quantity | theory ± se | reference ± se | z |\n|---|---|---|---|"


def compare(theory: Mapping[str, Estimate], reference: Mapping[str, Estimate], prefix: str = "") -> list[Comparison]:
    assert theory.keys() == reference.keys(), theory.keys() ^ reference.keys()
    return [Comparison(prefix + name, theory[name], reference[name]) for name in theory]


def estimates(replicates: Iterable[Mapping[str, float]]) -> dict[str, Estimate]:
    rows = list(replicates)
    return {name: Estimate.of(np.array([row[name] for row in rows])) for name in rows[0]}


def assert_agree(comparisons: list[Comparison], *, resolution: float) -> None:
    """No significant difference, with standard errors below ``resolution`` (absolute, of each difference)."""
    table = "\n".join([HEADER, *(c.row() for c in comparisons)])
    assert comparisons
    worst = min(comparisons, key=lambda c: c.p_value)
    assert worst.p_value > FAMILY_ERROR / len(comparisons), f"{worst.name}: p = {worst.p_value:.1e}\n{table}"
    coarse = max(comparisons, key=lambda c: c.difference.se)
    assert coarse.difference.se <= resolution, f"{coarse.name}: se {coarse.difference.se:.1e} > {resolution}\n{table}"
