r"""The bulk of the Hessian: matrix-valued Stieltjes transform, its real branch outside the bulk, edges and density.

The Hessian is ``H = (1/n) sum_i W_i (x) x_i x_i'`` with W_i (m x m) the curvature of sample i. In the limit
``S(z) = lim (1/d)(I (x) tr)(H - z)^-1`` solves ``S^-1 = E[K] - z I``, ``K = W (I + S W/delta)^-1`` (theory:
Montanari & Wang, arXiv 2602.01434). With ``s = S/delta = L L'`` everything is written through

    R = L' W L (I + L' W L)^-1          (symmetric, m x m, one per sample)

so that ``K = L^-T R L^-1``, the fixed point reads ``I/delta = E[R] - z L'L``, and the stability map T of the fixed
point becomes the symmetric ``delta E[R (x) R]``.

Below the bulk the physical branch starts at z = -infinity with s = 0 and is followed in the parameter ``tr s``, in
which it passes smoothly through the edge: the edge is where the spectral radius of T reaches 1, or where
``I + L' W L > 0`` fails first for some curvature in the support of the law (a non-critical edge). For m = 1 this is the
explicit maximum of ``z(S)``. Above the bulk, the same with -W.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featurephase.dynamics.products import respond
from featurephase.foundation.types import Array

#: Samples per block: a block of (m, m) matrices and its workspace stay in the second-level cache.
_BLOCK_BYTES = 128 * 1024
#: Newton's method takes up to 5 steps from a point nearby, 15 from afar; beyond the end of the branch it wanders about.
_NEWTON_STEPS = 20
#: Newton's method ends at a step of this size: lambda is then known to its square.
_NEWTON_TOLERANCE = 1e-8
#: From this many samples on the edge of every 16th sample is found first.
_COARSE_FROM = 4_000
_COARSE_STRIDE = 16
#: An edge is accepted if the branch does not go on at this multiple of tr s: an error of second order in it.
_BEYOND = 1.001
_ATTEMPTS = 50
#: A critical edge is where the logarithm of the radius is this close to 0; so many secants are tried.
_CRITICAL = 1e-8
_SECANTS = 10
#: Newton steps towards a given lambda, and how far below the edge (in log tr s) they begin.
_TARGETED = 60
_ASIDE = 0.1


@dataclass(frozen=True)
class Moments:
    """Averages over the samples at one s.

    Attributes
    ----------
    mean
        E[R], (m, m).
    pair
        E[R (x) R] as an (m^2, m^2) matrix acting on row-major vec.
    """

    mean: Array
    pair: Array


@dataclass(frozen=True)
class BranchPoint:
    """A point of the physical branch outside the bulk.

    Attributes
    ----------
    value
        The real spectral parameter lambda.
    root
        L (m, m), lower triangular or symmetric, with S/delta = L L'.
    moments
        Averages at this point.
    radius
        Spectral radius of the stability map: below 1 outside the bulk.
    """

    value: float
    root: Array
    moments: Moments
    radius: float


@dataclass(frozen=True)
class Edge:
    """An edge of the bulk.

    Attributes
    ----------
    point
        The branch point at the edge (of -H for a right edge).
    critical
        Whether the edge is a critical point (square-root density). Otherwise positivity fails first, the density
        vanishes faster, and an outlier leaves the bulk with a jump of its overlap.
    """

    point: BranchPoint
    critical: bool


class Bulk:
    """The spectrum to the left of the bulk for samples of the curvature.

    Parameters
    ----------
    curvature
        W, shape (m, m, N), symmetric in the first two indices. Pass -W for the right side.
    delta
        n/d.
    support
        Further curvatures (m, m, N') that the law can reach though no sample did. They carry no weight but the
        branch must keep ``I + L' W L > 0`` on them too.
    groups
        All neurons, those of one law together: averages are those over the permutations in each group, so that numbers
        which are equal in the limit are equal, and the lowest of them is not the luckiest.
    """

    def __init__(
        self,
        curvature: Array,
        delta: float,
        support: Array | None = None,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.delta = delta
        self.width, _, self.samples = curvature.shape
        self._packed = np.triu_indices(self.width)
        self._unpack = np.empty((self.width, self.width), dtype=np.intp)
        self._unpack[self._packed] = self._unpack[self._packed[::-1]] = np.arange(len(self._packed[0]))
        self.curvature = np.ascontiguousarray(curvature[self._packed])
        self.support = self.curvature[:, :0] if support is None else support[self._packed]
        size = max(64, _BLOCK_BYTES // (8 * self.width**2))
        self.slices = [slice(a, min(a + size, self.samples)) for a in range(0, self.samples, size)]
        self.groups = None if groups is None or max(map(len, groups)) == 1 else groups
        self._orbits: dict[int, tuple[NDArray[np.intp], NDArray[np.intp]]] = {}

    # ---- averages at one s

    def permuted(self, tensor: Array) -> Array:
        """The mean of a tensor, each index of which is a neuron, over the permutations of neurons of one law.

        Two entries are permutations of each other if their indices agree in their groups, and in which are equal.
        """
        if self.groups is None:
            return tensor
        if tensor.ndim not in self._orbits:
            label = np.empty(self.width, dtype=np.intp)
            for number, group in enumerate(self.groups):
                label[list(group)] = number
            index = np.indices(tensor.shape).reshape(tensor.ndim, -1)
            equal = [index[i] == index[j] for i in range(tensor.ndim) for j in range(i)]
            kind = np.concatenate([label[index], equal])
            _, orbit, size = np.unique(kind, axis=1, return_inverse=True, return_counts=True)
            self._orbits[tensor.ndim] = orbit.ravel(), size
        orbit, size = self._orbits[tensor.ndim]
        mean: Array = np.bincount(orbit, tensor.ravel()) / size
        return mean[orbit].reshape(tensor.shape)

    def _root(self, inner: Array, root: Array) -> Array:
        """The next L: triangular, or symmetric where neurons are permuted, as S then is, and L with it."""
        if self.groups is None:
            triangular: Array = root @ np.linalg.cholesky(inner)
            return triangular
        values, vectors = np.linalg.eigh(self.permuted(root @ inner @ root.T))
        return np.asarray((vectors * np.sqrt(values)) @ vectors.T)

    def _congruence(self, root: Array) -> Array:
        """The matrix of W -> L'WL on packed symmetric matrices."""
        rows, columns = self._packed
        first = root[rows][:, rows] * root[columns][:, columns]
        second = root[columns][:, rows] * root[rows][:, columns]
        return np.where(rows == columns, first.T, first.T + second.T)

    def _response(self, root: Array, curvature: Array) -> Array | None:
        """R for packed curvatures (M, n), packed; ``None`` where I + L'WL is not positive."""
        m = self.width
        if m == 1:
            x = curvature * root[0, 0] ** 2
            if x.size and x.min() <= -1.0:
                return None
            scalar: Array = x / (1.0 + x)
            return scalar
        packed = self._congruence(root) @ curvature
        if m == 2:
            p, c, q = packed[0] + 1.0, packed[1], packed[2] + 1.0
            determinant = p * q - c * c
            if packed.size and (determinant.min() <= 0.0 or p.min() <= 0.0):
                return None
            return np.stack([1.0 - q / determinant, c / determinant, 1.0 - p / determinant])
        return packed if respond(packed, self._unpack) else None

    def response(self, root: Array, where: slice) -> Array:
        """R on a slice of samples, (m, m, block), for the L = ``root`` of a branch point.

        Raises
        ------
        ArithmeticError
            If I + L'WL is not positive there: such an L is on no branch outside the bulk.
        """
        packed = self._response(root, self.curvature[:, where])
        if packed is None:
            raise ArithmeticError("the response was asked for inside the bulk")
        return packed[self._unpack]

    def moments(self, root: Array) -> Moments | None:
        """Averages over all samples, or ``None`` if positivity fails on a sample or on the support."""
        m = self.width
        if self._response(root, self.support) is None:
            return None
        count = len(self._packed[0])
        mean, gram = np.zeros(count), np.zeros((count, count))
        for where in self.slices:
            packed = self._response(root, self.curvature[:, where])
            if packed is None:
                return None
            mean += packed.sum(axis=1)
            gram += packed @ packed.T
        index = self._unpack
        # E[R (x) R] acts on X as E[R X R]: entry ((i,j),(k,l)) is E[R_ik R_lj].
        pair = self.permuted((gram / self.samples)[index[:, None, :, None], index[None, :, None, :]])
        return Moments(self.permuted((mean / self.samples)[index]), pair.reshape(m * m, m * m))

    def extreme_share(self, point: BranchPoint) -> float:
        """Largest contribution of a single sample to E[tr R^2], as a fraction: O(1/N) unless extremes set the edge."""
        rows, columns = self._packed
        weight = np.where(rows == columns, 1.0, 2.0)
        largest = total = 0.0
        for where in self.slices:
            packed = self._response(point.root, self.curvature[:, where])
            if packed is None:
                raise ArithmeticError("the response was asked for inside the bulk")
            size = weight @ packed**2
            largest, total = max(largest, float(size.max())), total + float(size.sum())
        return largest / total

    # ---- the branch

    def point(self, trace: float, guess: BranchPoint | None = None) -> BranchPoint | None:
        """The branch point with ``tr s = trace``, by a bordered Newton iteration; ``None`` if positivity fails."""
        m, eye = self.width, np.eye(self.width)
        shape = eye if guess is None else self._moved(guess, trace)
        root = shape * np.sqrt(trace / np.sum(shape**2))
        moments = self.moments(root)
        if moments is None:
            if guess is not None and m > 1:
                return self.point(trace)
            return None
        for _ in range(_NEWTON_STEPS):
            constant = eye / self.delta - moments.mean
            if m == 1:  # s is known: constant + z s = 0
                return BranchPoint(
                    -float(constant[0, 0]) / trace, root, moments, self.delta * float(moments.pair[0, 0])
                )
            metric = root.T @ root
            operator = np.eye(m * m) - self.delta * moments.pair
            # operator X - delta dz metric = delta (constant + z metric), tr(metric X) = 0: z enters linearly.
            bordered = np.zeros((m * m + 1, m * m + 1))
            bordered[:-1, :-1] = operator
            bordered[:-1, -1] = -self.delta * metric.ravel()
            bordered[-1, :-1] = metric.ravel()
            solution = np.linalg.solve(bordered, np.append(self.delta * constant.ravel(), 0.0))
            step, value = solution[:-1].reshape(m, m), float(solution[-1])
            if np.max(np.abs(step)) < _NEWTON_TOLERANCE:
                radius = float(self.delta * np.linalg.eigvalsh(moments.pair)[-1])
                return BranchPoint(value, root, moments, radius)
            step = (step + step.T) / 2
            scale = 1.0
            while True:
                inner = eye + scale * step
                if np.linalg.eigvalsh(inner)[0] > 0.05:
                    trial = self._root(inner, root)
                    trial *= np.sqrt(trace / np.sum(trial**2))
                    found = self.moments(trial)
                    if found is not None:
                        break
                scale /= 2
                if scale < 1e-6:
                    return None
            root, moments = trial, found
        return None

    def _moved(self, point: BranchPoint, trace: float) -> Array:
        """L at another ``tr s``, to first order in its logarithm, up to a factor."""
        if self.width == 1:
            return point.root
        change = float(np.log(trace / np.sum(point.root**2))) * self.rate(point) * self.slope(point)
        inner = np.eye(self.width) + (change + change.T) / 2
        if not np.all(np.isfinite(inner)) or np.linalg.eigvalsh(inner)[0] < 0.2:
            return point.root
        return self._root(inner, point.root)

    def _start(self) -> float:
        """A trace so small that the branch there is well outside the bulk."""
        rows, columns = self._packed
        weight = np.where(rows == columns, 1.0, 2.0)
        size = np.sqrt(weight @ np.einsum("pn,pn->p", self.curvature, self.curvature) / self.samples)
        lowest = max(self._largest_negative(self.curvature), self._largest_negative(self.support))
        s = 0.2 / (size * np.sqrt(self.delta))
        if lowest > 0:
            s = min(s, 0.1 / lowest)
        return float(self.width * s)

    def _largest_negative(self, packed: Array) -> float:
        """max(0, -lambda_min) over packed curvatures."""
        if packed.shape[1] == 0:
            return 0.0
        if self.width == 1:
            return max(0.0, -float(packed.min()))
        return max(0.0, -float(np.linalg.eigvalsh(packed[self._unpack].T)[:, 0].min()))

    def edge(self, hint: BranchPoint | None = None) -> Edge | None:
        """The left edge, or ``None`` where the curvature vanishes identically.

        With many samples the search starts from the edge of a subsample, or from a ``hint``: an edge of nearly the same
        law. Without either, or where that leads nowhere, the parameter ``tr s`` is increased until the branch ends, and
        the end is then found by bracketing.
        """
        if not np.any(self.curvature):
            return None
        if hint is None and self.samples > _COARSE_FROM:
            coarse = self._subsample(_COARSE_STRIDE).edge()
            hint = None if coarse is None else coarse.point
        near = None if hint is None else self._critical_edge(hint)
        return near or self._followed_edge(hint)

    def _followed_edge(self, hint: BranchPoint | None) -> Edge:
        """The end of the branch, followed from far below the bulk or from below a hint."""
        first, factor = self._outside(hint), 2.0 if hint is None else 1.25
        low = float(np.sum(first.root**2))
        walk, limit = _Walk(self, first), 1e18 * low
        for _ in range(_ATTEMPTS):
            high = factor * low
            while (excess := walk.excess(float(np.log(high)))) < 0.0:
                low, high = high, factor * high
                factor = min(factor * 1.5, 4.0)
                if high > limit:
                    # W >= 0 with so heavy an atom at 0 that the bulk starts at 0 and the branch never ends.
                    return Edge(replace(nearest(walk.inside, low), value=0.0), critical=False)
            a, b, excess = walk.narrowed(float(np.log(low)), float(np.log(high)), excess)
            if not np.isfinite(excess):
                return Edge(nearest(walk.inside, float(np.exp(a))), critical=False)
            near = self._critical_edge(nearest(walk.inside, float(np.exp(b))))
            if near is not None and a <= np.log(np.sum(near.point.root**2)) <= b:
                return near
            from scipy.optimize import brentq  # a sixth of a second, and seldom needed

            end = float(brentq(walk.excess, a, b, xtol=1e-5))
            walk.excess(end)
            # A long step can land on another solution, which looks like an end: then the branch goes on beyond it.
            last = max(walk.inside)
            beyond = self.point(_BEYOND * last, walk.inside[last])
            if beyond is None or beyond.radius >= 1.0:
                return Edge(nearest(walk.known, float(np.exp(end))), critical=True)
            low, factor = _BEYOND * last, 1.02
            walk.restart(low, beyond)
        raise ArithmeticError("the end of the branch of the Stieltjes transform was not found")

    def _outside(self, hint: BranchPoint | None) -> BranchPoint:
        """A point of the branch outside the bulk: below a hint, or far below the bulk."""
        low, factor = (self._start(), 2.0) if hint is None else (0.8 * float(np.sum(hint.root**2)), 1.25)
        point = self.point(low, hint)
        for _ in range(200):
            if point is not None and point.radius < 1.0:
                return point
            low /= 2.0 * factor
            point = self.point(low)
        raise ArithmeticError("no branch of the Stieltjes transform was found far below the bulk")

    def _critical_edge(self, hint: BranchPoint) -> Edge | None:
        """The critical edge close to a point, by secants for the logarithm of the radius; ``None`` if that fails.

        The radius grows about as the square of ``tr s``.
        """
        x, known = float(np.log(np.sum(hint.root**2))), []
        point: BranchPoint | None = hint
        for _ in range(_SECANTS):
            point = self.point(float(np.exp(x)), point)
            if point is None or point.radius <= 0.0:
                return None
            known.append((x, float(np.log(point.radius))))
            excess = known[-1][1]
            if len(known) > 1 and abs(excess) < _CRITICAL:
                break
            slope = 2.0
            if len(known) > 1 and known[-1][0] != known[-2][0]:
                slope = max((excess - known[-2][1]) / (x - known[-2][0]), 0.5)
            x -= excess / slope
        else:
            return None
        if self.width > 1:
            # A long step can land on another solution, which looks like an end: then the branch goes on beyond it.
            beyond = self.point(_BEYOND * float(np.exp(x)), point)
            if beyond is not None and beyond.radius < 1.0:
                return None
        return Edge(point, critical=True)

    def _subsample(self, stride: int, first: int = 0) -> Bulk:
        """The same law seen through every ``stride``-th sample."""
        part = copy.copy(self)
        part.curvature = np.ascontiguousarray(self.curvature[:, first::stride])
        part.samples = part.curvature.shape[1]
        part.slices = [slice(s.start, min(s.stop, part.samples)) for s in self.slices if s.start < part.samples]
        return part

    def drift(self, edge: Edge) -> float:
        """How far the edge moves when the samples are four times as many: full sample minus the mean of its quarters.

        For a law with a visible unbounded tail it is negative, whatever the number of samples; otherwise it is O(1/N).
        """
        quarters = [self._subsample(4, first).edge(edge.point) for first in range(4)]
        return edge.point.value - float(np.mean([np.nan if q is None else q.point.value for q in quarters]))

    def at(self, value: float, edge: Edge) -> BranchPoint:
        """The branch point at a given lambda = ``value`` at or below the edge.

        Raises
        ------
        ValueError
            If ``value`` lies above the edge.
        """
        if value > edge.point.value:
            raise ValueError(f"{value} lies above the left edge {edge.point.value}")
        if value == edge.point.value:
            return edge.point
        # lambda is concave in log tr s and grows up to the edge: Newton's method comes from the left without overshoot.
        point, x = edge.point, float(np.log(np.sum(edge.point.root**2))) - _ASIDE
        for _ in range(_TARGETED):
            found = self.point(float(np.exp(x)), point)
            if found is None:
                raise ArithmeticError("the branch of the Stieltjes transform was lost outside the bulk")
            point = found
            step = (value - point.value) / self.rate(point)
            x += step if abs(step) < 2.0 else float(np.sign(step)) * 2.0
            if abs(step) <= 1e-12 or abs(point.value - value) <= 1e-13 * abs(value):
                return point
        raise ArithmeticError("the branch of the Stieltjes transform was not found at a point outside the bulk")

    def slope(self, point: BranchPoint) -> Array:
        """X with d(S/delta)/dlambda = L X L': (1 - delta E[R (x) R]) X = delta L'L."""
        m, metric = self.width, point.root.T @ point.root
        x = np.linalg.solve(np.eye(m * m) - self.delta * point.moments.pair, self.delta * metric.ravel())
        return np.asarray(x.reshape(m, m), dtype=np.float64)

    def rate(self, point: BranchPoint) -> float:
        """dlambda/dlog tr s: positive below the edge, 0 at a critical one."""
        growth = float(np.sum(point.root * (point.root @ self.slope(point))))
        return float(np.sum(point.root**2)) / growth


class _Walk:
    """Points met on the way to the end of the branch, by ``tr s``: all of them, and those outside the bulk."""

    def __init__(self, bulk: Bulk, first: BranchPoint) -> None:
        self.bulk = bulk
        trace = float(np.sum(first.root**2))
        self.inside, self.known = {trace: first}, {trace: first}

    def restart(self, trace: float, point: BranchPoint) -> None:
        """Go on beyond an end that was none."""
        self.inside[trace] = point
        self.known = dict(self.inside)

    def excess(self, log_trace: float) -> float:
        """The radius less 1, at most 10, so that bracketing stays quick; inf where positivity fails."""
        trace = float(np.exp(log_trace))
        found = self.known.get(trace) or self.bulk.point(trace, nearest(self.inside, trace))
        if found is None:
            return np.inf
        self.known[trace] = found
        if found.radius < 1.0:
            self.inside[trace] = found
        return min(found.radius - 1.0, 10.0)

    def narrowed(self, a: float, b: float, excess: float) -> tuple[float, float, float]:
        """Log traces and the excess at the upper one, shrunk to where the branch exists at both, or to its end."""
        while not np.isfinite(excess) and b - a > 1e-9:
            middle = (a + b) / 2
            value = self.excess(middle)
            if value < 0.0:
                a = middle
            else:
                b, excess = middle, value
        return a, b, excess


def nearest(points: dict[float, BranchPoint], trace: float) -> BranchPoint:
    """The known branch point whose parameter is closest in ratio."""
    return points[min(points, key=lambda t: abs(np.log(t / trace)))]


def stieltjes_transform(
    curvature: Array, delta: float, z: complex, guess: NDArray[np.complex128] | None = None
) -> NDArray[np.complex128]:
    """S(z) (m, m) in the upper half plane, by Newton steps safeguarded by the averaged fixed-point map.

    The averaged map ``S -> (S + (E[K] - z)^-1)/2`` converges to the one solution with positive imaginary part from any
    start (Helton, Rashidi Far & Speicher 2007), slowly near the bulk; Newton does the rest.

    Raises
    ------
    ArithmeticError
        If the iteration does not converge.
    """
    m = len(curvature)
    w = np.ascontiguousarray(np.moveaxis(curvature, 2, 0)).astype(complex)
    eye = np.eye(m)
    s = np.asarray(1j * eye / max(abs(z), 1e-300), dtype=np.complex128) if guess is None else guess

    def averages(s: NDArray[np.complex128]) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        k = np.asarray(w / (1.0 + s * w / delta) if m == 1 else np.linalg.solve(eye + w @ s / delta, w), np.complex128)
        flat = k.reshape(-1, m * m)
        gram = (flat.T @ flat / len(w)).reshape(m, m, m, m)
        return k.mean(axis=0), gram.transpose(0, 2, 1, 3).reshape(m * m, m * m)

    for iteration in range(2000):
        mean, pair = averages(s)
        target = np.linalg.inv(mean - z * eye)
        residual = float(np.max(np.abs(target - s)) / np.max(np.abs(s)))
        if residual < 1e-10:
            return s
        if residual < 0.3 or iteration % 10 == 9:
            # F(S) = S^-1 - E[K] + z; dF = -S^-1 dS S^-1 + E[K dS K]/delta
            inverse = np.linalg.inv(s)
            jacobian = -np.kron(inverse, inverse.T) + pair / delta
            step = np.linalg.solve(jacobian, -(inverse - mean + z * eye).ravel()).reshape(m, m)
            trial = np.asarray(s + step, dtype=np.complex128)
            if np.linalg.eigvalsh((trial - trial.conj().T) / 2j)[0] > 0:
                s = trial
                continue
        s = (s + target) / 2
    raise ArithmeticError(f"the Stieltjes transform did not converge at z = {z}")
