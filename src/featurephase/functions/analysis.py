"""What happens where an expression switches branch, and what can be said of it as a whole.

Branchwise derivatives are right inside every branch and blind at its border: the derivative of ``where(h > 0, h, 0)``
is ``where(h > 0, 1, 0)``, of which the derivative is 0, without a word about the kink. So every switching surface is
collected (the arguments of abs, sign, floor and of comparisons, hence of where, minimum, maximum, relu ..; the zeros
of what is divided by or under a root), its zeros are located, and the one-sided values of f, f' and f'' are compared
there. A one-sided value is that of the branch itself, continued to the zero: the expression is evaluated *at* the
zero with every switch held as it stands a little to the left or to the right. Only where a root or a quotient
degenerates is it extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.precise import Precise
from featurephase.foundation.types import Array
from featurephase.functions.formula import Formula
from featurephase.functions.operations import COMPARISONS, OPERATIONS, SWITCHES
from featurephase.functions.program import Program

Bools = NDArray[np.bool_]
Integers = NDArray[np.intp]

#: functions are examined for arguments up to this size
REACH = 1e4

#: an activation must be finite for arguments up to this size (exp(h) and sqrt(100 - h**2) are finite where samples are)
CORE = 5.0

#: a difference of one-sided values counts as a jump if it exceeds this fraction of the values nearby: far above the
#: rounding of a located zero (1e-16), far below any jump meant
JUMP = 1e-9

#: the same for extrapolated one-sided values
ROUGH_JUMP = 1e-4

#: how far from a border, in units of max(1, |x|), the switches are read (closer if another border is near)
ASIDE = 1e-4

#: most borders examined, nearest to zero first
MAX_BORDERS = 256

#: zeros are located to neighbouring floats, or to this
_FINEST = 1e-30


@dataclass(frozen=True, slots=True)
class Border:
    """One place where a branch ends."""

    x: float  # the variable there
    parameters: tuple[float, ...]  # the other variables (y for a loss)
    exact: bool  # whether a switch is exactly zero there in floating point
    left: tuple[float, ...]  # one-sided limits of f, f', f''
    right: tuple[float, ...]
    at: tuple[float, ...]  # what the compiled expressions of f, f', f'' return there
    jumps: tuple[bool, ...]  # whether the one-sided limits differ, order by order
    size: tuple[float, ...]  # the largest |f|, |f'|, |f''| very nearby
    rough: bool  # whether the one-sided limits are extrapolated

    def apart(self, order: int, x: float, y: float) -> bool:
        """Whether two values of a derivative differ by more than rounding."""
        return not abs(x - y) <= (ROUGH_JUMP if self.rough else JUMP) * self.size[order]


@dataclass(frozen=True, slots=True)
class Survey:
    """Borders, nearest to zero first, and what the formula does between them.

    The domain of f may end somewhere, as of ``f - y*log(f)``; for a loss, poles count as ends. Whether a sample meets
    an end depends on the responses and the network. Ends are not among the borders.
    """

    borders: tuple[Border, ...]
    ends: bool  # whether the domain of f ends somewhere
    undefined: tuple[float, ...] | None  # arguments at which f or f' should have a finite value but has none
    points: tuple[Array, ...]  # where the formula was evaluated: parameters, variable, each (P,)
    values: Array  # f, f' and f'' there, (3, P)


def _grid(per_decade: int, step: float) -> Array:
    """-REACH .. REACH with 0: even in scale near 0 and far out, evenly spaced by a binary step up to 32."""
    scale = np.logspace(-12, np.log10(REACH), 16 * per_decade + 1)
    positive = np.unique(np.concatenate([scale, np.arange(step, 32.0, step), np.arange(32.0, 129.0)]))
    return np.concatenate([-positive[::-1], [0.0], positive])


class _Place(NamedTuple):
    """A located border: row of parameters, variable, whether a switch is exactly 0 there, whether one degenerates."""

    row: int
    x: float
    exact: bool
    degenerate: bool


class _Intervals(NamedTuple):
    """Intervals [lo, hi] in which the surfaces ``s`` do something, at the parameters of the rows ``row``."""

    s: Integers
    row: Integers
    lo: Array
    hi: Array

    def where(self, mask: Bools) -> _Intervals:
        return _Intervals(self.s[mask], self.row[mask], self.lo[mask], self.hi[mask])


class _Surfaces:
    """The switching surfaces of a formula, functions whose sign tells the branch, at rows of parameters."""

    def __init__(self, formula: Formula, parameters: Sequence[Array]) -> None:
        tape = formula.tape
        switches: set[int] = set()
        degenerate: set[int] = set()
        for node in tape.ancestry(formula.orders):
            op, args = tape.entries[node]
            if op in COMPARISONS or op in ("minimum", "maximum"):
                switches.add(tape.sub(args[0], args[1]))
            elif op == "floor":
                switches.add(node)
            elif op in SWITCHES:
                switches.add(args[0])
            elif op == "div":
                degenerate.add(args[1])
            elif op in ("sqrt", "log", "pow"):
                degenerate.add(args[0])
            elif op == "log1p":
                degenerate.add(tape.add(tape.constant(1.0), args[0]))
            elif op == "tan":
                degenerate.add(tape.apply("cos", args[0]))
        nodes = [n for n in sorted(switches | degenerate) if formula.variable in tape.variables(n)]
        slopes = [tape.derivative(n, formula.variable) for n in nodes]
        self.count = len(nodes)
        self.degenerate = np.array([n in degenerate for n in nodes], dtype=np.bool_)
        self.levels = np.array([tape.entries[n][0] == "floor" for n in nodes], dtype=np.bool_)
        self.parameters = parameters
        self._heights = Program(tape, nodes, formula.variables, careful=False)
        self._slopes = Program(tape, slopes, formula.variables, careful=False)

    def on(self, grid: Array) -> tuple[Array, Array]:
        """(count, rows, G) twice: heights and slopes of all surfaces on a grid (rows, G)."""
        points = [*(p[:, None] for p in self.parameters), grid]
        return np.array(self._heights(*points)), np.array(self._slopes(*points))

    def height(self, where: _Intervals, x: Array) -> Array:
        """Each interval's own surface, at its x."""
        values = self._heights(*(p[where.row] for p in self.parameters), x)
        return np.array(values)[where.s, np.arange(x.size)]

    def rising(self, where: _Intervals, x: Array) -> Bools:
        """Whether each interval's own surface rises at its x."""
        values = self._slopes(*(p[where.row] for p in self.parameters), x)
        return np.array(values)[where.s, np.arange(x.size)] > 0

    def side(self, where: _Intervals, heights: Array) -> Array:
        """The side that heights of each interval's own surface lie on."""
        return self.sides(heights, where.s)

    def sides(self, heights: Array, s: Any) -> Array:
        """The sign (2 for no value), for the levels of floor the level itself."""
        return np.where(self.levels[s], heights, np.where(np.isnan(heights), 2.0, np.sign(heights)))


def _places(surfaces: _Surfaces, grid: Array) -> list[_Place]:
    """Where the surfaces change side or touch 0, in each row of the grid (rows, G), nearest to 0 first."""
    heights, slopes = surfaces.on(grid)
    sides = surfaces.sides(heights, np.arange(surfaces.count)[:, None, None])
    changed = sides[..., :-1] != sides[..., 1:]
    # a turning point between two grid points may hide two zeros, or one that is only touched
    size, steepness = np.abs(heights), np.abs(slopes)
    near = np.minimum(size[..., :-1], size[..., 1:])
    reach = np.maximum(steepness[..., :-1], steepness[..., 1:]) * np.diff(grid, axis=-1)
    turns = np.sign(slopes[..., :-1]) * np.sign(slopes[..., 1:]) < 0
    touched, hidden = _turning_points(surfaces, _intervals(turns & ~changed & (near <= 2 * reach), grid))
    intervals = _Intervals(*map(np.concatenate, zip(_intervals(changed, grid), *hidden, strict=True)))
    return _merged([*touched, *_crossings(surfaces, intervals)])


def _intervals(mask: Bools, grid: Array) -> _Intervals:
    """The true places of a (surfaces, rows, G - 1) mask, at most MAX_BORDERS, nearest to zero first."""
    s, row, at = np.nonzero(mask)
    order = np.argsort(np.abs(grid[row, at] + grid[row, at + 1]), kind="stable")[:MAX_BORDERS]
    s, row, at = s[order], row[order], at[order]
    return _Intervals(s, row, grid[row, at], grid[row, at + 1])


def _turning_points(surfaces: _Surfaces, within: _Intervals) -> tuple[list[_Place], list[_Intervals]]:
    """Surfaces that turn within intervals: where they just touch 0, and both halves where they cross it unseen."""
    rising = surfaces.rising(within, within.lo)
    _, x = _bisect(lambda x: surfaces.rising(within, x) == rising, within.lo, within.hi)
    start, height = surfaces.height(within, within.lo), surfaces.height(within, x)
    crossed = surfaces.side(within, height) != surfaces.side(within, start)
    touched = ~crossed & (np.abs(height) <= 1e-12 * np.abs(start))
    halves = [within._replace(hi=x).where(crossed), within._replace(lo=x).where(crossed)]
    return _listed(surfaces, within.where(touched), x[touched], height[touched] == 0), halves


def _crossings(surfaces: _Surfaces, within: _Intervals) -> list[_Place]:
    """Where surfaces change side within intervals, to neighbouring floats."""

    def side(x: Array) -> Array:
        return surfaces.side(within, surfaces.height(within, x))

    start = side(within.lo)
    lo, hi = _bisect(lambda x: side(x) == start, within.lo, within.hi)
    before, after, levels = side(lo), side(hi), surfaces.levels[within.s]
    x = np.where((before == 0) & ~levels, lo, hi)
    return _listed(surfaces, within, x, (before == 0) | (after == 0) | levels)


def _listed(surfaces: _Surfaces, where: _Intervals, x: Array, exact: Bools) -> list[_Place]:
    columns = (where.row, x, exact, surfaces.degenerate[where.s])
    return [_Place(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _bisect(same: Any, lo: Array, hi: Array) -> tuple[Array, Array]:
    """Narrow [lo, hi] to neighbouring floats, keeping ``same`` true at lo and false at hi."""
    for _ in range(200):
        middle = lo + (hi - lo) / 2
        open_ = (middle != lo) & (middle != hi) & (hi - lo > _FINEST)
        if not open_.any():
            break
        stay = same(middle)
        lo, hi = np.where(open_ & stay, middle, lo), np.where(open_ & ~stay, middle, hi)
    return lo, hi


def _merged(found: Sequence[_Place]) -> list[_Place]:
    """One place for what several surfaces found within rounding, an exact zero preferred; nearest to 0 first."""
    merged: list[_Place] = []
    for place in sorted(found):
        last = merged[-1] if merged else None
        rounding = 0.0 if last is None else math.ulp(max(abs(place.x), abs(last.x))) + _FINEST
        if last is not None and last.row == place.row and place.x - last.x <= 8 * rounding:
            better = place if place.exact and not last.exact else last
            merged[-1] = better._replace(degenerate=place.degenerate or last.degenerate)
        else:
            merged.append(place)
    return sorted(merged, key=lambda p: (p.row, abs(p.x)))


def _continued(formula: Formula, aside: Sequence[Array], at: Sequence[Array]) -> Array:
    """(3, N): f, f', f'' ``at`` the points, every switch held as it stands ``aside``."""
    try:
        with np.errstate(all="raise"):
            results = _held(formula, aside, at)
    except FloatingPointError:
        results = _held(formula, [Precise(x) for x in aside], [Precise(x) for x in at])
    doubles = [r.double() if isinstance(r, Precise) else r for r in results]
    return np.array([np.broadcast_to(r, at[-1].shape) for r in doubles])


def _held(formula: Formula, aside: Sequence[Any], at: Sequence[Any]) -> list[Any]:
    tape = formula.tape
    there: dict[int, Any] = {}
    here: dict[int, Any] = {}
    for node in tape.ancestry(formula.orders):
        op, args = tape.entries[node]
        if not args:
            value, name = tape.value(node), tape.name(node)
            index = None if name is None else formula.variables.index(name)
            there[node] = value if index is None else aside[index]
            here[node] = value if index is None else at[index]
            continue
        there[node] = OPERATIONS[op].compute(*(there[a] for a in args))
        if op == "abs":
            here[node] = np.sign(there[args[0]]) * here[args[0]]
        elif op in ("minimum", "maximum"):
            here[node] = np.where(there[args[0]] == there[node], *(here[a] for a in args))
        elif op in SWITCHES:
            here[node] = there[node]
        else:
            here[node] = OPERATIONS[op].compute(*(here[a] for a in args))
    return [here[node] for node in formula.orders]


def _extrapolated(formula: Formula, parameters: Sequence[Array], x: Array, reach: Array) -> tuple[Array, Array]:
    """(3, N) twice: limits of f, f', f'' as the variable tends to x from x + reach, and how far they may be off.

    Values are taken at ever smaller distances. Where they approach each other by a steady factor to the end, Aitken's
    extrapolation gives the limit; where they do so up to a point and part again by cancellation, the closest two.
    Otherwise they diverge and the limit is infinite.
    """
    v = np.array([formula.evaluate((0, 1, 2), *parameters, x + reach * 10.0**-j) for j in range(9)])
    steps = np.abs(np.diff(v, axis=0))
    steps[np.isnan(steps)] = np.inf
    parting = np.concatenate([steps[1:] >= steps[:-1], np.ones_like(steps[:1], dtype=np.bool_)])
    best = np.argmax(parting, axis=0)[None]
    least, closest = (np.take_along_axis(a, i, axis=0)[0] for a, i in ((steps, best), (v, best + 1)))
    size = np.take_along_axis(np.maximum.accumulate(np.abs(v)), best + 1, axis=0)[0]
    size = np.maximum(size, 1e-3 * np.maximum.accumulate(size))  # a derivative may be 0, up to cancellation
    step, before = v[-1] - v[-2], v[-2] - v[-3]
    aitken = v[-1] - step**2 / (step - before)
    steady = (best[0] == len(steps) - 1) & (np.abs(step) < 0.9 * np.abs(before))
    diverging = np.where(np.isnan(v[-1]), np.nan, np.copysign(np.inf, v[-1]))
    return np.where(steady, aitken, np.where(least <= 1e-3 * size, closest, diverging)), least


def survey(formula: Formula, parameters: Sequence[Array] = ()) -> Survey:
    """Examine a formula for |variable| <= REACH, at each of the (R,) given values of its other variables."""
    with np.errstate(all="ignore"):
        return _survey(formula, parameters)


def _survey(formula: Formula, parameters: Sequence[Array]) -> Survey:
    rows = parameters[0].size if parameters else 1
    axis = _grid(16, 1 / 16) if rows == 1 else _grid(6, 1 / 4)
    grid = np.broadcast_to(axis, (rows, axis.size))
    for p in parameters:  # zeros of y - f should be met exactly
        grid = np.sort(np.concatenate([grid, p[:, None] + _grid(4, 1.0)], axis=1), axis=1)
        grid = np.clip(grid, -REACH, REACH)
    surfaces = _Surfaces(formula, parameters)
    places = _places(surfaces, grid) if surfaces.count else []
    borders = _borders(formula, parameters, places) if places else ()
    inner = tuple(b for b in borders if not _is_end(b))
    points = [np.broadcast_to(p[:, None], grid.shape).ravel() for p in parameters] + [grid.ravel()]
    values = np.array(formula.evaluate((0, 1, 2), *points))
    return Survey(inner, len(inner) < len(borders), _undefined(points, values, borders), tuple(points), values)


def _borders(formula: Formula, parameters: Sequence[Array], places: Sequence[_Place]) -> tuple[Border, ...]:
    """Compare the one-sided limits of f, f', f'' at the places."""
    row = np.array([p.row for p in places])
    x = np.array([p.x for p in places])
    rough = np.array([p.degenerate for p in places])
    own = [p[row] for p in parameters]
    scale = np.maximum(1.0, np.abs(x))
    gap, far = (_gaps(row, x, most * scale) for most in (ASIDE, 100 * ASIDE))
    left, right = (_continued(formula, [*own, x + step], [*own, x]) for step in (-gap, gap))
    rough |= ~np.isfinite([left, right]).all(axis=(0, 1))
    doubt = np.zeros((3, x.size))
    if rough.any():
        few = [p[rough] for p in own]
        for side, step in ((left, -far), (right, far)):
            side[:, rough], off = _extrapolated(formula, few, x[rough], step[rough])
            doubt[:, rough] += off
    at, *near = (np.array(formula.evaluate((0, 1, 2), *own, x + t * gap)) for t in (0.0, -10.0, -1.0, 1.0, 10.0))
    sizes = np.abs([left, right, *near])
    size = np.max(np.where(np.isfinite(sizes), sizes, 0.0), axis=0)
    blur = 8 * np.spacing(scale) * np.concatenate([size[1:], np.zeros_like(size[:1])])  # x is known to rounding only
    apart = np.abs(left - right) > np.where(rough, ROUGH_JUMP, JUMP) * size + blur + 10 * doubt
    jumps = np.where(np.isfinite(left) & np.isfinite(right), apart, left != right)

    def limits(values: Array, i: int) -> tuple[Any, ...]:
        return tuple(values[:, i].tolist())

    return tuple(
        Border(
            x=place.x,
            parameters=tuple(float(p[i]) for p in own),
            exact=place.exact,
            left=limits(left, i),
            right=limits(right, i),
            at=limits(at, i),
            jumps=limits(jumps, i),
            size=limits(size, i),
            rough=bool(rough[i]),
        )
        for i, place in enumerate(places)
    )


def _is_end(border: Border) -> bool:
    values = (border.left[0], border.right[0])
    return any(map(math.isnan, values)) or (bool(border.parameters) and not all(map(math.isfinite, values)))


def _gaps(row: Integers, x: Array, most: Array) -> Array:
    """A third of the distance to the next border of the same row, at most ``most``."""
    order = np.lexsort((x, row))
    distance = np.diff(x[order])
    distance[np.diff(row[order]) != 0] = np.inf
    gap = np.empty_like(x)
    gap[order] = np.minimum(np.concatenate([[np.inf], distance]), np.concatenate([distance, [np.inf]])) / 3
    return np.minimum(gap, most)


def _undefined(points: Sequence[Array], values: Array, borders: Sequence[Border]) -> tuple[float, ...] | None:
    """An ordinary point where f or f' is not finite, preferably one near 0.

    With other variables (y in a loss), only if f is finite nowhere: which pairs occur is not known here. A derivative
    at a border is the business of its one-sided limits.
    """
    finite = np.isfinite(values[:2])
    bad = (np.abs(points[-1]) <= CORE) & ~finite.all(axis=0)
    if len(points) > 1 and finite[0].any():
        return None
    known = {b.x for b in borders}
    places = np.flatnonzero(bad)
    for i in places[np.argsort(np.abs(points[-1][places]), kind="stable")]:
        if points[-1][i] not in known or not finite[0, i]:
            return tuple(float(p[i]) for p in points)
    return None
