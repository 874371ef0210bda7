"""delta_alg of a teacher, with its error."""

from __future__ import annotations

import math

from featurephase.foundation.types import Array
from featurephase.results.base import Result
from featurephase.results.labels import labelled, record


@record
class AlgorithmicThreshold(Result):
    """delta_alg of a teacher, with its error.

    Attributes
    ----------
    status
        ``"ok"``; ``"unresolved"``: 1/delta_alg cannot be told from zero (the value is then nan, ``lower_bound`` holds);
        ``"ambiguous-rank"``: the hard subspace is not known.
    delta_alg, delta_alg_se
        Samples per dimension, and standard error over replicates. 0: nothing is hard. inf: no first-order method finds
        a hard direction with a number of samples proportional to the dimension.
    lower_bound
        delta_alg is above this except with the probability of a false decision (1e-5).
    window_bias
        The largest change of ``delta_alg`` by a halving of the windows in y. What their width leaves is at most of that
        size, usually much less.
    exact
        Whether the value (0 or inf) is proved rather than estimated.
    direction
        Positive matrix (k, k) of trace one, zero outside the hard subspace: the top eigenvector of the map, the second
        moment along which the weak signal grows first. Zero where there is none.
    samples, replicates
        Draws of the response in all, and into how many independent estimates they were split.
    """

    delta_alg: float = labelled(about="samples over dimension that the best first-order method needs", unit="1")
    delta_alg_se: float
    lower_bound: float = labelled(about="delta_alg is above this", unit="1")
    window_bias: float = labelled(about="largest change by a halving of the windows in y", unit="1")
    exact: bool = labelled(attribute=True)
    direction: Array = labelled("latent", "latent2", about="second moment along which the signal grows first", unit="1")
    samples: int = labelled(about="draws of the response")
    replicates: int = labelled(about="independent estimates")

    @property
    def error(self) -> float:
        """Standard error and window bias together: what delta_alg is uncertain by."""
        return math.hypot(self.delta_alg_se, self.window_bias) if math.isfinite(self.window_bias) else self.delta_alg_se
