"""Growth of the hard overlap on the plateau: the tangent recursion.

Before it is learned, a hard direction is a small perturbation of the asymptotic trajectory. Its overlap c (k_H, m)
evolves linearly, driven by the random start (of order 1/sqrt d) and by what finite data inject at every step (of order
1/sqrt n): a Gaussian process whose law is computed here by the recursion of
:mod:`featurephase.dynamics.conditioning`, run a second time on the sector odd in g_H (theory: Montanari & Wang,
arXiv 2602.01434; theory/escape, eqs. esc-tangent, esc-covariance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featurephase.dynamics.asymptotic import BASIS_CAPACITY, replicate_bytes, replicate_streams, run_replicate
from featurephase.dynamics.conditioning import BLOCK, AsymptoticLaw, ConditionedDesign
from featurephase.dynamics.network import Network
from featurephase.dynamics.optimisers import BatchSequence, FirstOrderRule, OptimiserState
from featurephase.dynamics.outer import queried
from featurephase.dynamics.products import combine
from featurephase.dynamics.training import Moment
from featurephase.foundation.errors import InputError
from featurephase.foundation.memory import require_memory
from featurephase.foundation.types import Array
from featurephase.hessian.spectrum import FULL_WIDTH, hard_margins
from featurephase.results.status import IDENTICAL_NEURONS

if TYPE_CHECKING:
    from featurephase.problem import Problem


#: All samples of a block.
_WHOLE = slice(None)
#: Injected noise is kept up to this fraction of its variance: Monte Carlo knows the variance to a few percent.
_NOISE_LEFT = 1e-3
#: Components of the injected noise that are reckoned with before their number is known: 10 to 40 in practice.
_EXPECTED_MODES = 40
#: Bytes of the gradients that are multiplied with each other at a time, for the covariance of the injected noise.
_PRODUCT_BYTES = 64 * 1024 * 1024
#: Relative residual at which the tangent run of N sample paths adds directions, times N^(1/2): what is left out is
#: orthogonal to all the rest and of the size of the Monte Carlo noise. (Covariance of four neurons at t = 60, N = 10^4,
#: twelve replicates with common random numbers: its trace with .2, 1 and 2 is by 4(2), 4(2) and 2(1) percent above that
#: with .02, where one replicate knows it to 15; with N = 40 000 there are 230 directions in place of 400.)
_TANGENT_TOLERANCE = 1.0


def escape_available(problem: Problem) -> str:
    """Empty, or why the tangent recursion does not cover the problem."""
    if problem.singular_curvature:
        return "the curvature is singular where a slope jumps, so the growth of small overlaps has no linear theory"
    if problem.training.one_pass:
        return "with fresh samples at every step nothing is reused; the tangent recursion is for reused data"
    if problem.student.identical:
        return IDENTICAL_NEURONS.message
    return ""


@dataclass(frozen=True)
class HardGrowth:
    """The Gaussian process sqrt(d) c(t) of one replicate, as independent N(0, 1) amplitudes times these paths.

    Attributes
    ----------
    start
        Paths of the k_H m independent components of the start, (T + 1, k_H m, k_H, m).
    noise
        Paths of the independent components of what finite data inject, (T + 1, J, k_H, m).
    norm
        |Theta(t)|_F of the asymptotic trajectory, (T + 1,).
    unstable
        Whether a hard outlier of the Hessian stands left of the bulk and below 0 at step T, so that the growth goes on;
        ``None`` where the bulk has no edge (unbounded curvature).
    diverged_at
        The step at which the trajectory itself diverges, if it does: there are no paths then.
    parts
        The same for each of the sectors asked for: hard directions that do not mix with others.
    """

    start: Array
    noise: Array
    norm: Array
    unstable: bool | None
    diverged_at: int | None = None
    parts: tuple[HardGrowth, ...] = ()

    def covariance(self, *, injected: bool = True, initial: bool = True) -> Array:
        """d Cov vec c(t), (T + 1, k_H m, k_H m), of both contributions or one of them."""
        steps = len(self.norm)
        parts = [p for p, wanted in ((self.start, initial), (self.noise, injected)) if wanted]
        flat = np.concatenate(parts, axis=1).reshape(steps, -1, int(np.prod(self.start.shape[2:])))
        out: Array = np.einsum("tja,tjb->tab", flat, flat)
        return out

    def growth(self) -> Array:
        """G(t, 0), the map of vec c(0) to vec c(t), (T + 1, k_H m, k_H m); the start must be of full rank."""
        steps, size = self.start.shape[:2]
        flat = self.start.reshape(steps, size, size)
        return np.swapaxes(np.linalg.solve(flat[:1], flat), 1, 2)

    def relative_sizes(self, dimension: int, draws: int, rng: np.random.Generator) -> Array:
        """|c(t)|_F/|Theta(t)|_F of ``draws`` independent runs at dimension d, in the linear theory, (draws, T + 1)."""
        paths = np.concatenate([self.start, self.noise], axis=1)
        flat = paths.reshape(len(paths), paths.shape[1], -1) / np.sqrt(dimension)
        amplitudes = rng.standard_normal((draws, paths.shape[1]))
        square = np.zeros((draws, len(paths)))
        for component in range(flat.shape[2]):
            square += (amplitudes @ flat[:, :, component].T) ** 2
        return np.sqrt(square) / self.norm


def growth_bytes(problem: Problem, hard: int, steps: int, samples: int, modes: int = _EXPECTED_MODES) -> float:
    """Memory of :func:`hard_growth` for ``hard`` directions, and ``modes`` components of the injected noise."""
    m = problem.student.width
    size = steps * hard * m
    trajectory = replicate_bytes(problem, steps, samples) + 16.0 * steps * min(size, BASIS_CAPACITY) * m
    if problem.training.reuses_batches:
        trajectory += 8.0 * steps * samples
    covariance = 40.0 * size**2 + 3.0 * _PRODUCT_BYTES  # the matrix, its eigenvectors, and what LAPACK works in
    columns = (hard * m + modes) * m
    tangent = 8.0 * (columns * (3 * samples + 3 * min(BLOCK, samples)) + 2 * BASIS_CAPACITY * samples)
    return trajectory + max(covariance, tangent + 8.0 * steps * columns * hard)


def require_growth_memory(problem: Problem, hard: int, steps: int, samples: int, modes: int = _EXPECTED_MODES) -> None:
    """Refuse a tangent run that would not fit.

    Raises
    ------
    MemoryLimitError
        With what would be needed and what there is.
    """
    require_memory(
        growth_bytes(problem, hard, steps, samples, modes),
        f"predicting the escape over {steps} steps of {problem.student.width} neurons with {samples} sample paths",
    )


def hard_growth(
    problem: Problem,
    delta: float,
    seed: np.random.SeedSequence,
    *,
    easy_basis: Array,
    hard_basis: Array,
    steps: int | None = None,
    samples: int = 40_000,
    sectors: Sequence[Array] = (),
) -> HardGrowth:
    """The law of the hard overlap before escape, from one replicate of the tangent recursion.

    Parameters
    ----------
    easy_basis, hard_basis
        Orthonormal columns, (k, k_E) and (k, k_H) with k_H > 0.
    steps, samples
        How far, and with how many sample paths.
    sectors
        Orthonormal columns (k, s) inside the hard subspace that do not mix with the rest of it, to be had by themselves
        too.

    Raises
    ------
    InputError
        If :func:`escape_available` says why not, or nothing is hard.
    MemoryLimitError
        If more memory is needed than there is (:func:`growth_bytes`).

    Notes
    -----
    theory/escape, eq. esc-tangent: with W = W(t) along the asymptotic trajectory, ``dh = c'g_H + C'V'``, ``dF = W dh``,
    and dF is split on a basis of its own past: the recursion of the trajectory itself, with g_H as first rows. What
    finite data inject, ``(1/n) sum_i g_H F_s``, is Gaussian with covariance ``E[F_s F_s'^T (x) g_H g_H']/n``; its
    principal components are columns of the same run.
    """
    reason = escape_available(problem)
    if reason or hard_basis.shape[1] == 0:
        raise InputError(reason or "nothing is hard: there is no plateau to escape from")
    training = problem.training
    steps = training.steps if steps is None else steps
    require_growth_memory(problem, hard_basis.shape[1], steps, samples)
    main_seed, tangent_seed = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(2)
    observers: dict[int, Callable[[Moment], Any]] = dict.fromkeys(range(steps), lambda now: (now.weights, now.network))
    observers[steps] = lambda now: now
    trajectory = run_replicate(
        problem, delta, main_seed, easy_basis=easy_basis, steps=steps, samples=samples, observers=observers, test=False
    )
    norm = np.sqrt(np.einsum("trr->t", trajectory.gram))
    if trajectory.diverged_at is not None:
        none = np.empty((steps + 1, 0, hard_basis.shape[1], problem.student.width))
        return HardGrowth(none, none, norm, None, trajectory.diverged_at)
    moment: Moment = trajectory.observations[steps]
    path = _Path(problem, moment, [trajectory.observations[t] for t in range(steps)], samples, main_seed)
    rng = np.random.default_rng(tangent_seed)
    noise = path.injected(hard_basis, delta)
    require_growth_memory(problem, hard_basis.shape[1], steps, samples, noise.shape[1])
    start, injected = _tangent(path, problem, delta, hard_basis, noise, rng)
    unstable = _unstable_at_end(path, problem, delta, moment, hard_basis, sectors)
    parts = []
    for sector, grows in zip(sectors, unstable[1:], strict=True):
        inside = hard_basis.T @ sector
        own_start, own_noise = (np.einsum("hs,tjhm->tjsm", inside, paths) for paths in (start, injected))
        parts.append(HardGrowth(own_start, own_noise, norm, grows))
    return HardGrowth(start, injected, norm, unstable[0], parts=tuple(parts))


def _unstable_at_end(
    path: _Path, problem: Problem, delta: float, moment: Moment, hard_basis: Array, sectors: Sequence[Array]
) -> list[bool | None]:
    """Whether a hard outlier stands left of the bulk and below 0 at the last step: of all, then of each sector."""
    margins = hard_margins(
        problem.teacher.link,
        moment,
        delta=problem.training.data_ratio(delta),
        weight_decay=problem.training.weight_decay,
        hard_basis=hard_basis,
        blocks=path.width > FULL_WIDTH,
        groups=problem.student.exchangeable,
        sectors=sectors,
    )
    if any(m.drifts for m in margins):
        return [None] * (1 + len(sectors))
    whole = any(m.at_zero < 0.0 for m in margins)
    return [whole, *(any(m.sectors[i].at_zero[0] < 0.0 for m in margins) for i in range(len(sectors)))]


class _Path:
    """The asymptotic trajectory, to be walked again: pre-activations, F and W where gradients are taken."""

    def __init__(
        self,
        problem: Problem,
        moment: Moment,
        states: list[tuple[Array, Network]],
        samples: int,
        seed: np.random.SeedSequence,
    ) -> None:
        self.width = problem.student.width
        self.rule = FirstOrderRule.of(problem.training)
        self.design: ConditionedDesign = moment.design
        self.responses = moment.responses
        self.samples = samples
        self.steps = len(states)
        before = [states[max(t - 1, 0)] for t in range(self.steps)]
        self.queries = [self.rule.query(OptimiserState(c, before[t][0], t)) for t, (c, _) in enumerate(states)]
        self.networks = [queried(self.rule, network, before[t][1]) for t, (_, network) in enumerate(states)]
        self.shares: list[Array | None] = [None] * self.steps
        if problem.training.reuses_batches:
            batch_rng, training = replicate_streams(seed)[-1], problem.training
            batches = BatchSequence(samples, training.batch_count, training.batches == "reshuffled", batch_rng)
            self.shares = [batches.weights(t) for t in range(self.steps)]

    def rows(self, block: int, basis: Array, part: slice = _WHOLE) -> Array:
        """g_H on one block of samples, or part of it, (k_H, block)."""
        out: Array = basis.T @ self.design.projections(block)[: len(basis), part]
        return out

    def _preactivations(self, t: int, block: int, part: slice = _WHOLE) -> Array:
        query, v = self.queries[t], self.design.projections(block)
        return combine(query.T.astype(v.dtype, copy=False), v[: len(query), part])

    def gradient(self, t: int, block: int, part: slice = _WHOLE) -> Array:
        """F at step t on one block, or part of it, (m, block), batch weights included."""
        where = self.design.slices[block]
        h, y = self._preactivations(t, block, part), self.responses[where][part]
        slope = self.networks[t].losses_and_gradient(h, y)[1]
        share = self.shares[t]
        return slope if share is None else slope * share[where][part]

    def curvature(self, t: int, block: int) -> Array:
        """W at step t on one block, (m, m, block), batch weights included."""
        where = self.design.slices[block]
        w = self.networks[t].curvature(self._preactivations(t, block), self.responses[where])
        share = self.shares[t]
        return w if share is None else w * share[where]

    def shape(self, t: int) -> Array:
        """T (m, m) of the rule's shaping of the gradient at step t."""
        known = len(self.queries[t + 1]) if t + 1 < self.steps else self.design.visited
        total = np.zeros((known, self.width))
        for b in range(len(self.design.slices)):
            total += self.design.projections(b)[:known] @ self.gradient(t, b).T
        return self.rule.shaping(total.T @ total / self.samples**2)

    def injected(self, hard_basis: Array, delta: float) -> Array:
        """Principal components of sqrt(d) (1/n) sum_i g_H F_s over all steps, (T, J, k_H, m)."""
        m, hard = self.width, hard_basis.shape[1]
        size = self.steps * hard * m
        total = np.zeros((size, size))
        chunk = max(1, _PRODUCT_BYTES // (8 * max(size, 1)))
        for b, where in enumerate(self.design.slices):
            count = (where.stop - where.start) if size else 0
            for part in (slice(a, min(a + chunk, count)) for a in range(0, count, chunk)):
                g = self.rows(b, hard_basis, part)
                f = np.stack([self.gradient(t, b, part) for t in range(self.steps)])
                product = (f[:, None] * g[None, :, None]).reshape(size, -1)
                total += product @ product.T
        values, vectors = np.linalg.eigh(total / (self.samples * delta))
        order = np.argsort(-values)
        remaining = 1.0 - np.cumsum(values[order]) / max(float(np.sum(values)), 1e-300)
        count = int(np.searchsorted(-remaining, -_NOISE_LEFT)) + 1 if size else 0
        kept = order[:count]
        modes = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
        out: Array = modes.T.reshape(len(kept), self.steps, hard, m).transpose(1, 0, 2, 3)
        return out


def _tangent(
    path: _Path, problem: Problem, delta: float, hard_basis: Array, noise: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Walk the path again with perturbations: paths of the start's components and of the injected ones."""
    m, hard = path.width, hard_basis.shape[1]
    overlap = problem.student.init_overlap
    values, vectors = np.linalg.eigh(problem.student.init_gram - overlap.T @ overlap)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    starts, columns = hard * m, hard * m + noise.shape[1]
    c = np.zeros((columns, hard, m))
    for j in range(hard):
        for s in range(m):
            c[j * m + s, j] = root[s]
    rows = np.concatenate([path.rows(b, hard_basis) for b in range(len(path.design.slices))], axis=1)
    # Corrected by this design's own K: what K/N takes away is the noise of the K rows of V in these gradients. The
    # directions of all columns are among them; those of the trajectory itself, even in g_H, are not.
    law = AsymptoticLaw(delta, path.samples)
    design = ConditionedDesign(
        rows,
        law,
        rng,
        tolerance=_TANGENT_TOLERANCE / np.sqrt(path.samples),
        capacity=BASIS_CAPACITY,
        precision=path.design.precision,
    )
    index = {s.start: b for b, s in enumerate(path.design.slices)}
    linear = replace(path.rule, scaling="none")  # perturbations are shaped by the trajectory's gradient, below
    state = linear.start(c.transpose(1, 0, 2).reshape(hard, columns * m))
    out = np.empty((path.steps + 1, columns, hard, m))
    for t in range(path.steps + 1):
        out[t] = state.weights[:hard].reshape(hard, columns, m).transpose(1, 0, 2)
        if t == path.steps:
            break

        def perturbed(h: Array, where: slice, t: int = t) -> Array:
            w = path.curvature(t, index[where.start]).astype(h.dtype, copy=False)
            dh = h.reshape(columns, m, -1)
            df = np.zeros_like(dh)
            for r in range(m):
                for s in range(m):
                    df[:, r] += w[r, s] * dh[:, s]
            return df.reshape(columns * m, -1)

        gradient = design.gradient(linear.query(state), perturbed)
        gradient = gradient.reshape(len(gradient), columns, m)
        gradient[:hard, starts:] += noise[t].transpose(1, 0, 2)
        if path.rule.scaling != "none":
            gradient = gradient @ path.shape(t)
        state = linear.update(state, gradient.reshape(len(gradient), columns * m))
    return out[:, :starts], out[:, starts:]
