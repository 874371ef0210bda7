"""Formulas evaluated at many points: in float64, and in mpmath at the points for which that is not enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.precise import Numbers, Precise, where
from featurephase.foundation.types import Array
from featurephase.latent_model.coefficients import Coefficients, Flags, coefficients, precise_coefficients, precise_rate
from featurephase.latent_model.model import Model
from featurephase.latent_model.motion import DECAYING, Motion, motion

__all__ = ["Evaluation", "Formula"]

#: Quantities of the coefficients and the motion by their names; must hold for float64 and for precise numbers.
Formula: TypeAlias = Callable[[Coefficients, Motion], dict[str, Numbers]]

#: Points evaluated at once: their intermediate arrays stay in cache.
_BLOCK = 16384
#: Earlier than this in units of 1/(4 c D), products with coefficients down to 1e-70 may underflow.
_EARLIEST = 1e-70
#: Later than this, exp(-4 c D t) magnifies the rounding of D: there D is formed with more digits.
_LATE = 100.0
_SMALLEST, _LARGEST = np.finfo(np.float64).tiny, np.finfo(np.float64).max
#: Quantities of which it is said when they leave the range.
_RANGED = frozenset({"output", "residual", "loss", "excess_loss", "kernel"})


class Evaluation:
    """Evaluation of formulas for one model, at all times or row by row.

    Attributes
    ----------
    model, c
        The initialisations and their coefficients in float64.
    wild
        The initialisations whose coefficients are beyond the range of float64: all of theirs is done in mpmath.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.c, fine, self.wild = coefficients(model)
        self._fine_rate = np.where(fine, self.c.rate, np.nan)  # with more digits, once it is needed

    def __call__(
        self,
        formula: Formula,
        names: tuple[str, ...],
        times: Array,
        pairwise: bool = False,
    ) -> tuple[dict[str, Array], dict[str, str]]:
        """Quantities by a formula of the coefficients and the motion, in mpmath where float64 is not enough.

        Parameters
        ----------
        formula
            Gives float64 or precise arrays, of which those called ``names`` are kept.
        times
            Every initialisation is evaluated at every time; with ``pairwise`` there is one time for each.

        Returns
        -------
        values
            Arrays of shape: initialisations, times (if not pairwise).
        out_of_range
            See :class:`~featurephase.latent_model.motion.Trajectory`.
        """
        if not names:
            return {}, {}
        t = times.reshape((-1, 1) if pairwise else (1, -1))
        rows, count = len(self.wild), t.shape[1]
        values, ways = {name: np.empty((rows, count)) for name in names}, set[tuple[str, str]]()
        step = max(_BLOCK // max(count, 1), 1)
        with np.errstate(all="ignore"):
            c = self._with_rates(t, not DECAYING.isdisjoint(names))
            for i in range(0, rows, step):
                for j in range(0, count, _BLOCK):
                    lines, columns = slice(i, i + step), slice(j, j + _BLOCK)
                    part = t[lines if pairwise else slice(None), columns]
                    block = {name: x[lines, columns] for name, x in values.items()}
                    ways |= self._fill(block, formula, c.take((lines, None)), np.arange(rows)[lines], part)
        shape = self.model.batch if pairwise else (*self.model.batch, *times.shape)
        beyond = {name: [way for other, way in ways if other == name] for name in names}
        return (
            {name: x.reshape(shape) for name, x in values.items()},
            {name: way[0] if len(way) == 1 else "both" for name, way in beyond.items() if way},
        )

    def _with_rates(self, t: Array, decays: bool) -> Coefficients:
        """The coefficients, with more digits of D where exp(-4 c D t) is wanted at late times."""
        c = self.c
        last = where(np.isinf(t), 0.0, t).max(axis=1, initial=0.0)
        late = (c.rate * last > _LATE) & ~self.wild & (decays | (c.target == 0.0))
        if not late.any():
            return c
        rows = np.flatnonzero(late & np.isnan(self._fine_rate))
        if rows.size:
            self._fine_rate[rows] = precise_rate(self.model, rows)
        return replace(c, rate=where(late, self._fine_rate, c.rate))

    def _fill(
        self,
        values: dict[str, Array],
        formula: Formula,
        c: Coefficients,
        rows: NDArray[np.intp],
        t: Array,
    ) -> set[tuple[str, str]]:
        """Fill one block of ``values`` (rows, times); returns which quantities left the range, and how."""
        shape, ways = next(iter(values.values())).shape, set[tuple[str, str]]()
        new = formula(c, motion(c, np.minimum(t, _LARGEST), np.isinf(t)))
        lost = np.broadcast_to(self.wild[rows, None], shape)
        if (t[t > 0.0].min(initial=np.inf) * c.rate < _EARLIEST).any():
            lost = lost | (t > 0.0) & (c.rate > 0.0) & (t * c.rate < _EARLIEST)
        for name, array in values.items():
            np.add(new[name], 0.0, out=array)  # no -0.0
            if not (known := np.isfinite(array)).all():
                lost = lost | ~known
            alive = (c.residual != 0.0) & (DECAYING.issuperset({name}) | (c.start != 0.0) & (c.target == 0.0))
            if name in _RANGED and alive.any() and (np.abs(array) < _SMALLEST)[alive & np.isfinite(t) & ~lost].any():
                ways.add((name, "underflow"))
        if lost.any():
            i, j = np.nonzero(lost)
            times = np.broadcast_to(t, shape)[i, j]
            for name, fine in self.precisely(formula, rows[i], times).items():
                if name in values:
                    values[name][i, j] = numbers = fine.double() + 0.0
                    ways |= _left_range(name, fine, numbers, np.isfinite(times))
        return ways

    def precisely(self, formula: Formula, rows: NDArray[np.intp], times: Array) -> dict[str, Precise]:
        """The formula in mpmath, at pairs of a row and a time."""
        distinct, place = np.unique(rows, return_inverse=True)
        c = precise_coefficients(self.model, distinct).take(place)
        return formula(c, motion(c, Precise(np.minimum(times, _LARGEST)), np.isinf(times)))

    def rowwise(self, formula: Callable[[Coefficients], Numbers]) -> Array:
        """A number of each initialisation, in mpmath where its coefficients are beyond the range of float64."""
        with np.errstate(all="ignore"):
            values = np.array(formula(self.c), dtype=np.float64)
            rows = np.flatnonzero(self.wild)
            if rows.size:
                values[rows] = formula(precise_coefficients(self.model, rows)).double()
        return values.reshape(self.model.batch)


def _left_range(name: str, exact_values: Precise, numbers: Array, at_finite_times: Flags) -> set[tuple[str, str]]:
    """How float64 numbers differ from what they stand for."""
    if name not in _RANGED:
        return set()
    over = np.isinf(numbers) & at_finite_times
    under = (np.abs(numbers) < _SMALLEST) & (exact_values != 0.0) & at_finite_times
    return {(name, way) for way, flags in (("overflow", over), ("underflow", under)) if flags.any()}
