"""What ``compare`` returns: theory against simulation, number by number."""

from __future__ import annotations

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import labelled, record


@record
class ComparedQuantity(Record):
    """One number.

    Attributes
    ----------
    name, time, delta
        What it is.
    theory, theory_se
        In the limit.
    finite_size, finite_size_se
        What finite d adds, as estimated; 0 where the simulation is extrapolated.
    simulation, simulation_se
        Mean over seeds, or the extrapolation.
    z
        ``(simulation - theory - finite_size)`` over its standard error.
    p
        Its two-sided probability under Student's t with Welch's degrees of freedom; 0 where the theory is finite and a
        simulation diverges.
    """

    name: str = labelled()
    time: int = labelled(about="gradient step", unit="step")
    delta: float = labelled(about="samples over dimension, n/d", unit="1")
    theory: float = labelled(about="value in the limit n, d -> infinity")
    theory_se: float
    finite_size: float = labelled(about="estimate of what finite d adds")
    finite_size_se: float
    simulation: float = labelled(about="mean over seeds, or its extrapolation to 1/d = 0")
    simulation_se: float
    z: float = labelled(about="difference over its standard error", unit="1")
    p: float = labelled(about="two-sided probability of such a difference", unit="1")


@record
class ComparedCurves(Record):
    """Whole curves of one delta, for the figure: theory and simulation with standard errors, (T + 1,) each."""

    delta: float
    curves: dict[str, tuple[Array, Array, Array, Array]]


@record
class Comparison(Result):
    """Theory against simulation.

    Attributes
    ----------
    quantities
        What was compared.
    agree
        Whether the smallest p, times the number of comparisons, is at least 0.05 (Bonferroni's rule: a false alarm in
        at most 5 % of comparisons, however the numbers hang together).
    smallest_p, comparisons
        What the verdict rests on.
    dimensions, deltas, replicates
        d (several: extrapolated), n/d, and seeds.
    theory_replicates
        Of the limit.
    samples
        n, a row for each delta with an entry for each d.
    """

    title: str
    agree: bool = labelled(attribute=True)
    smallest_p: float = labelled(attribute=True)
    comparisons: int
    dimensions: tuple[int, ...] = labelled(attribute=True)
    deltas: tuple[float, ...]
    samples: tuple[tuple[int, ...], ...]
    replicates: int = labelled(attribute=True)
    theory_replicates: int
    quantities: tuple[ComparedQuantity, ...] = labelled("quantity", name="", of=ComparedQuantity)
    warnings: tuple[str, ...] = ()
    curves: tuple[ComparedCurves, ...] = labelled(json=False, saved=False, default=())
    experiment: str = labelled(json=False, saved=False, default="")
