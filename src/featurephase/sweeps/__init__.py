"""Sweeps over grids of problems: their plan, their store, and runs that can be taken up again."""

from featurephase.sweeps.boundaries import boundary
from featurephase.sweeps.runs import open_sweep, sweep

__all__ = ["boundary", "open_sweep", "sweep"]
