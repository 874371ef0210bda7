"""What ``boundary`` returns: a threshold in n/d against one parameter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from featurephase.foundation.types import Array
from featurephase.results.base import Result
from featurephase.results.labels import Variable, labelled, record
from featurephase.results.sweep import CellCounts


@record
class Boundary(Result):
    """A threshold against one parameter, at points that are close where the curve bends.

    Attributes
    ----------
    cells
        How many points were computed.
    store
        The folder that holds them.
    key, logarithmic
        The parameter, and whether points are spread over its logarithm.
    quantity, tolerance
        Which threshold, and the relative error of straight lines between points that was asked for.
    values, threshold, threshold_se
        The parameter, ascending, and the threshold there, (points,); nan where there is none in the range searched.
    delta_alg
        What the best first-order method needs there, (points,).
    statuses
        One for each point.
    """

    title: str = ""
    cells: CellCounts = labelled(saved=False)
    store: str = labelled(attribute=True)
    key: str = labelled(attribute=True)
    logarithmic: bool = labelled(attribute=True)
    quantity: str = labelled(attribute=True)
    tolerance: float = labelled(attribute=True)
    values: Array = labelled("point", about="the parameter", json=True)
    threshold: Array = labelled("point", about="n/d of the threshold", unit="1")
    threshold_se: Array
    delta_alg: Array = labelled("point", about="n/d that the best first-order method needs", unit="1")
    statuses: tuple[str, ...] = labelled(saved=False)
    experiment: str = labelled(json=False, saved=False, default="")

    def at(self, value: float) -> float:
        """The threshold between points, by straight lines in log delta; nan outside, or beside a point without one."""
        x, at = (np.log(self.values), np.log(value)) if self.logarithmic else (self.values, value)
        return float(np.exp(np.interp(at, x, np.log(self.threshold), left=np.nan, right=np.nan)))

    def more_variables(self) -> Mapping[str, Variable]:
        """The statuses."""
        return {"point_status": (("point",), np.array(self.statuses, dtype=object), {})}
