"""The empirical neural tangent kernel on a probe batch: exact layer by layer, or sketched without bias.

``K[(i,c),(j,c')] = sum_p eta_p <d f_c(x_i)/d theta_p, d f_c'(x_j)/d theta_p>`` for N inputs and C
outputs, with one learning rate eta_p per parameter tensor (1 by default).

No part of it is taken on trust. For random weights w, ``w' K_p w = |J_p' w|^2`` for every parameter p: the left side
from the kernel as it was computed, the right side by one backward pass of autograd. This is checked in double precision
on a few samples whenever the network's form is new, and on all samples at every record. A parameter for which they
differ is computed by ``torch.func``, then one output at a time, and noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.probe.checks import few, in_double
from featurephase.probe.derivatives import Jacobian, random_like
from featurephase.probe.functional import Parameters, State, Tensor, TorchNetwork, allowed_difference
from featurephase.probe.layer_gradients import (
    Factors,
    Rows,
    joined,
    layer_parts,
    one_by_one,
    owned_parameters,
    sample_rows,
)
from featurephase.probe.memory import SampleCost
from featurephase.probe.structure import capture
from featurephase.probe.trees import Batch
from featurephase.results.base import paired

#: Below this size all eigenvalues are had from a dense solver; above, the top ones by Lanczos.
_DENSE = 256
#: Rounding, in units of the precision, that the two sides of the self-check may differ by, relative to the trace: sums
#: over many samples and positions are naive in some of torch's backward passes.
_ROUNDING = 1e4
#: Beyond this, or three times what rounding explains, the parts of single samples are not those of the batch.
_WRONG = 1e-2


@dataclass
class ExactKernel:
    """Computes exact kernels of one network on one batch of N inputs, by layers where that is right."""

    network: TorchNetwork
    batch: Batch
    rates: Mapping[str, float] = field(default_factory=dict)  # learning rate per parameter name (1 where absent)
    block_bytes: int = 64 << 20  # largest block of a layer's Jacobian held at once
    chunk: int = 0  # samples whose gradients are computed at once; 0: all
    pass_cost: SampleCost = field(default_factory=lambda: SampleCost(0, 1))  # of a forward and backward pass
    rowwise: bool = False  # one output at a time throughout: the least memory
    _owned: dict[str, dict[str, str]] = field(default_factory=dict)
    _general: dict[str, Any] = field(default_factory=dict)  # parameter -> how its rows are computed
    _planned_for: Any = None
    _compared: bool = False

    def _plan(self, state: State) -> None:
        """Which layers own their parameters; found anew when parameters thaw or modules change."""
        key = _key(state)
        if key != self._planned_for:
            self._owned = {} if self.rowwise else owned_parameters(self.network, state, self.batch)
            self._general = dict.fromkeys(state.parameters, one_by_one) if self.rowwise else {}
            self._planned_for = key
            self._compared = self.rowwise  # one output at a time is autograd itself

    def _find_ways(self, state: State) -> None:
        """Compare every parameter's part with autograd, on a few samples in double precision where that can be had."""
        network = self.network
        self._compared = True
        ample = network.chunk in (0, self.batch.samples)
        sample = few(self.batch, 3 if ample else 1)
        wide, sample, eps = in_double(network, state, sample)
        weights = random_like(network.call(wide, {}, sample).detach())
        squares = _squares(Jacobian(network, wide, sample), weights)
        narrow = ExactKernel(network, sample, self.rates, self.block_bytes)
        narrow._owned, narrow._general, narrow._planned_for = self._owned, self._general, _key(wide)
        narrow._compared = True
        tolerance = allowed_difference(_ROUNDING, max(eps, float(torch.finfo(weights.dtype).eps)))
        for name, part in narrow.parts(wide).items():
            for way in (None, sample_rows, one_by_one):
                if way is not None:
                    self._general[name] = way
                    part = narrow.parts(wide, (name,))[name]
                if _agree(part.gram(), weights, squares[name], tolerance, tolerance**2 * sum(squares.values())):
                    break
        if self._general:
            network.notes[
                f"{', '.join(self._general)}: not used once, through a layer, as a plain linear map; the kernel's part "
                "is computed by automatic differentiation"
            ] = None

    def parts(self, state: State, only: tuple[str, ...] | None = None) -> dict[str, Factors | Rows]:
        """Per trainable parameter, what its part of the kernel is made of."""
        self._plan(state)
        wanted = state.names if only is None else only
        collected: dict[str, list[Any]] = {}
        for part in self.batch.parts(self.chunk):
            pieces_of: dict[str, Factors | Rows] = {}
            owned = {
                module: {kind: p for kind, p in kinds.items() if p in wanted and p not in self._general}
                for module, kinds in self._owned.items()
            }
            owned = {module: kinds for module, kinds in owned.items() if kinds}
            if owned:
                pieces_of |= layer_parts(self.network, state, part, owned, self.block_bytes)[1]
            rest = tuple(name for name in wanted if name not in pieces_of)
            for rows in {self._general.get(name, sample_rows) for name in rest}:
                names = tuple(name for name in rest if self._general.get(name, sample_rows) is rows)
                pieces_of |= rows(self.network, state, part, names)
            for name, piece in pieces_of.items():
                collected.setdefault(name, []).append(piece)
        return {name: joined(pieces) for name, pieces in collected.items()}

    def matrix(self, state: State) -> tuple[Array, dict[str, float]]:
        """The kernel (N C, N C), rows ordered (sample, output), and its trace by parameters.

        Raises
        ------
        InputError
            If a part differs from autograd's own products however it is computed.
        """
        self._plan(state)
        if not self._compared:
            self._find_ways(state)
        weights = random_like(self.network.evaluate(state, self.batch))
        squares = _squares(Jacobian(self.network, state, self.batch), weights)
        parts = self.parts(state)
        traces: dict[str, float] = {}
        total: Any = None
        for name in state.names:
            gram = self._checked(state, name, parts.pop(name), weights, squares)
            rate = self.rates.get(name, 1.0)
            traces[name] = rate * float(gram.diagonal().double().sum())
            total = rate * gram if total is None else total.add_(gram, alpha=rate)
        kernel: Array = total.detach().cpu().numpy().astype(np.float64)
        kernel += kernel.T.copy()
        kernel /= 2
        return kernel, traces

    def _checked(
        self, state: State, name: str, part: Factors | Rows, weights: Tensor, squares: Mapping[str, float]
    ) -> Tensor:
        """The Gram matrix of one parameter's gradients; on all samples too it must be autograd's."""
        tolerance = self.network.allowed(_ROUNDING)
        floor = tolerance**2 * sum(squares.values())
        gram = part.gram()
        if _agree(gram, weights, squares[name], tolerance, floor) or self._general.get(name) is one_by_one:
            return gram
        self._general[name] = one_by_one
        gram = self.parts(state, (name,))[name].gram()
        if not _agree(gram, weights, squares[name], max(_WRONG, 3 * tolerance), floor):
            raise InputError(
                f"{name}: the gradients of single samples do not add up to those of the batch; the kernel of this "
                "network is not defined sample by sample"
            )
        return gram

    def trace(self, state: State) -> dict[str, float]:
        """The trace by parameters alone."""
        return {name: self.rates.get(name, 1.0) * part.trace() for name, part in self.parts(state).items()}

    def plan_memory(self, state: State, limit: float) -> int:
        """Choose the chunk; return the bytes of tensors and arrays that :meth:`matrix` holds at most.

        Counted from the shapes of what the layers read and return for one sample, so that nothing large is made to
        find out that it is too large.
        """
        need = self._plan_layers(state, limit)
        if need <= limit:
            return need
        outputs = self.network.evaluate(state, self.batch.take([0])).shape[1]
        rows, item = self.batch.samples * outputs, self.network.bytes_per_number
        least = rows * (2 * state.size * item + rows * (2 * item + 24)) + self.pass_cost.at(1)
        if least > limit:
            return need
        self.rowwise, self.chunk, self._planned_for = True, 1, None
        return int(least)

    def _plan_layers(self, state: State, limit: float) -> int:
        self._plan(state)
        modules = {n: m for n, m in state.body.module.named_modules() if n in self._owned}
        with torch.no_grad(), capture(modules) as seen:
            outputs = self.network.call(state, {}, self.batch.take([0])).shape[1]
        item = self.network.bytes_per_number
        rest = set(state.names) - {p for kinds in self._owned.values() for p in kinds.values()}
        rest_bytes = outputs * sum(state.parameters[name].nbytes for name in rest)
        kept_each, passing, patches = rest_bytes, 2 * rest_bytes, 0
        for layer in seen.values():
            signals, weights = outputs * layer.outputs.numel(), outputs * layer.module.weight.numel()
            positions = signals // (outputs * layer.module.weight.shape[0])
            factors = layer.inputs.numel() + signals
            kept_each += item * (min(factors, weights) if positions > 1 else factors)
            passing += item * 2 * signals
            if positions > 1:
                patches = max(patches, item * layer.module.weight[0].numel() * positions)
        rows = self.batch.samples * outputs
        grams = rows**2 * (2 * item + 8) + 2 * 8 * rows**2  # one part, the sum and its check; the start and now
        kept = self.batch.samples * kept_each + grams + 2 * patches + (self.block_bytes if patches else 0)
        base, slope = self.pass_cost.base + kept, self.pass_cost.slope + passing
        self.chunk = int(max(1, min(self.batch.samples, (limit - base) // slope)))
        return int(base + slope * self.chunk)


def _squares(jacobian: Jacobian, weights: Tensor) -> dict[str, float]:
    """``|J_p' w|^2`` of every parameter p."""
    return {name: float(value.double().square().sum()) for name, value in jacobian.pull(weights).items()}


def _agree(gram: Tensor, weights: Tensor, square: float, tolerance: float, floor: float) -> bool:
    """Whether ``w' K w`` is what autograd says, relative to the trace; what is not finite is found elsewhere."""
    flat = weights.reshape(-1).double()
    mine = float(flat @ (gram.double() @ flat))
    scale = max(float(gram.diagonal().double().sum()), square)
    return not np.isfinite(scale) or abs(mine - square) <= tolerance * scale + floor


def _key(state: State) -> tuple[Any, ...]:
    """What a plan is made for: the trainable parameters and the kinds of modules."""
    return state.names, tuple((name, type(module)) for name, module in state.body.module.named_modules())


def exact_kernel(
    network: TorchNetwork,
    state: State,
    batch: Batch,
    rates: Mapping[str, float] | None = None,
    *,
    block_bytes: int = 64 << 20,
) -> Array:
    """The neural tangent kernel on ``batch``, (N C, N C), rows ordered (sample, output).

    ``rates`` are learning rates per parameter name, 1 where absent; ``block_bytes`` is the largest block of a
    convolution's Jacobian held at once.
    """
    return ExactKernel(network, batch, rates or {}, block_bytes).matrix(state)[0]


def top_eigenvalues(matrix: Array, count: int) -> Array:
    """The ``count`` largest eigenvalues, descending (nan beyond the size)."""
    size = matrix.shape[0]
    if not np.isfinite(matrix).all():
        return np.full(count, np.nan)
    if size <= _DENSE or count >= size:
        values = np.linalg.eigvalsh(matrix)[::-1][:count]
    elif not np.any(matrix):
        values = np.zeros(count)
    else:
        values = np.sort(eigsh(matrix, k=count, which="LA", v0=np.ones(size), return_eigenvectors=False))[::-1]
    return np.pad(values, (0, count - values.size), constant_values=np.nan)


@dataclass
class KernelMeter:
    """Measures the kernel against its start; decides once between the exact kernel and a sketch.

    The sketch pushes ``draws`` random normal directions through the Jacobian (the same ones every time):
    ``a_s = J_t z_s`` has covariance K_t, so that ``mean_{s<s'} (a_s . a_s')^2`` estimates ``|K_t|_F^2``
    without bias, and with the start's ``b_s`` likewise ``<K_t, K_0>``. Errors are delete-one jackknife.
    What costs one pass is exact even then: ``y'Ky = |J'y|^2`` and the top eigenvalues, by Lanczos on ``J
    J'``.
    """

    network: TorchNetwork
    batch: Batch
    labels: Tensor | None = None  # (N, C) codes to align with
    rates: Mapping[str, float] = field(default_factory=dict)  # learning rate per parameter name (1 where absent)
    method: str = "auto"  # "exact", "sketch" or "auto": exact as long as it fits into the memory
    draws: int = 64  # random directions of the sketch
    count: int = 5  # top eigenvalues wanted
    memory_limit: float = 1 << 30  # bytes
    seed: int = 0
    pass_cost: SampleCost = field(default_factory=lambda: SampleCost(0, 1))
    start: Any = None
    _exact: Any = None

    def begin(self, state: State) -> None:
        """Choose the method and keep the kernel (or the sketch) at the start."""
        block = int(max(1 << 16, min(64 << 20, self.memory_limit / 8)))
        self._exact = ExactKernel(self.network, self.batch, self.rates, block, pass_cost=self.pass_cost)
        need = self._exact.plan_memory(state, self.memory_limit)
        if self.method == "auto":
            self.method = "exact" if need <= self.memory_limit else "sketch"
        if self.method == "exact" and need > self.memory_limit:
            raise InputError(
                f"the exact kernel needs {need / 2**20:.1f} MiB beside the copies of the model, "
                f"{self.memory_limit / 2**20:.1f} MiB of memory_limit are left: kernel='sketch' needs less"
            )
        self.start = self._now(state)

    def saved(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {"method": self.method, "start": self.start}

    def restore(self, saved: Mapping[str, Any], *_: State) -> None:
        """Go on from a checkpoint."""
        self.method, self.start = saved["method"], saved["start"]

    def measure(self, state: State, first: bool = False) -> dict[str, Any]:
        """Change, alignment with the start and with the labels, trace, top eigenvalues, and ``_se`` siblings.

        Exact: the standard errors are 0. ``change = |K - K0|_F / |K0|_F``; alignments are Frobenius cosines.
        """
        now = self.start if first else self._now(state)
        return self._from_matrix(now) if self.method == "exact" else self._sketch(state, now)

    def _now(self, state: State) -> Array:
        """The exact kernel (N C, N C), or its sketch."""
        return np.asarray(self._exact.matrix(state)[0]) if self.method == "exact" else self._columns(state)

    def trace(self, state: State, names: tuple[str, ...] | None = None) -> float:
        """The trace at a state, over all its trainable parameters or those named."""
        wanted = state.names if names is None else names
        if self.method == "exact":
            traces: dict[str, float] = self._exact.trace(state)
            return sum(value for name, value in traces.items() if name in wanted)
        columns = self._columns(state, wanted)
        return float((columns**2).sum(0).mean())

    def _from_matrix(self, kernel: Array) -> dict[str, Any]:
        start = self.start
        norm = float(np.linalg.norm(start))
        square, square0, inner = (float(np.vdot(a, b)) for a, b in ((kernel, kernel), (start, start), (kernel, start)))
        aligned = float("nan")
        if self.labels is not None:
            y = self.labels.reshape(-1).double().cpu().numpy()
            aligned = float(y @ kernel @ y) / (np.sqrt(square) * float(y @ y)) if square and y @ y else float("nan")
        values: dict[str, Any] = {
            "change": float(np.linalg.norm(kernel - start)) / norm if norm else float("nan"),
            "alignment": inner / np.sqrt(square * square0) if square > 0 and square0 > 0 else float("nan"),
            "label_alignment": aligned,
            "trace": float(np.trace(kernel)),
            "eigenvalues": top_eigenvalues(kernel, self.count),
        }
        return values | {f"{name}_se": value * 0.0 for name, value in values.items()}

    def _scaled(self, values: Parameters, power: float) -> Parameters:
        return {name: value * self.rates.get(name, 1.0) ** power for name, value in values.items()}

    def _columns(self, state: State, names: tuple[str, ...] | None = None) -> Array:
        """(N C, draws): the Jacobian applied to the sketch's random directions of unit covariance."""
        wanted = state.names if names is None else names

        def directions() -> Iterator[Parameters]:
            for draw in range(self.draws):
                drawn = {name: self.network.random(name, self.seed * 100_003 + draw)[0] for name in wanted}
                yield self._scaled(drawn, 0.5)

        pushed = Jacobian(self.network, state, self.batch, wanted).push_all(directions)
        return np.asarray(pushed.reshape(self.draws, -1).T.cpu().numpy().astype(np.float64))

    def _sketch(self, state: State, now: Array) -> dict[str, Any]:
        start = self.start
        squares = [x**2 for x in (now.T @ now, now.T @ start, start.T @ start)]
        cross = (squares[1] + squares[1].T) / 2
        jacobian = Jacobian(self.network, state, self.batch)
        labels = float("nan")
        if self.labels is not None:
            pulled = self._scaled(jacobian.pull(self.labels), 0.5)
            labels = sum(float(value.double().square().sum()) for value in pulled.values())
            length = float(self.labels.double().square().sum())
            labels = labels / length if length else float("nan")

        products = (squares[0], cross, squares[2])
        norms, eigenvalues = (now**2).sum(0), self._lanczos(jacobian)
        pairs = {
            "change": _jackknife(lambda m: np.sqrt(np.maximum(m[0] - 2 * m[1] + m[2], 0.0) / m[2]), products),
            "alignment": _jackknife(lambda m: m[1] / np.sqrt(m[0] * m[2]), products),
            "label_alignment": _jackknife(lambda m: labels / np.sqrt(m[0]), products),
            "trace": (float(norms.mean()), float(norms.std(ddof=1) / np.sqrt(self.draws))),
            "eigenvalues": (eigenvalues, eigenvalues * 0.0),
        }
        return paired(**pairs)

    def _lanczos(self, jacobian: Jacobian) -> Array:
        """Top eigenvalues of ``J J'`` by products alone; nan where they are not finite or not found."""
        size = self.start.shape[0]
        count = min(self.count, size - 1)

        def product(vector: Array) -> Array:
            cotangent = torch.as_tensor(vector.reshape(self.batch.samples, -1), dtype=self.network.dtype)
            pulled = jacobian.pull(cotangent.to(self.network.device))
            pushed = jacobian.push(self._scaled(pulled, 1.0))
            return np.asarray(pushed.reshape(-1).cpu().numpy(), dtype=np.float64)

        if count < 1:
            return np.pad(product(np.ones(1)), (0, self.count - 1), constant_values=np.nan)
        start = np.random.default_rng(self.seed).standard_normal(size)
        first = product(start)
        if not np.isfinite(first).all():
            return np.full(self.count, np.nan)
        if not first.any():
            return np.pad(np.zeros(count), (0, self.count - count), constant_values=np.nan)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        try:
            values = eigsh(operator, k=count, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)
        except ArpackError:
            return np.full(self.count, np.nan)
        return np.pad(np.sort(values)[::-1], (0, self.count - count), constant_values=np.nan)


def _jackknife(statistic: Callable[[Array], Array], products: tuple[Array, ...]) -> tuple[float, float]:
    """A function of pair averages ``mean_{s != s'} P[s,s']`` and its delete-one jackknife error."""
    draws = products[0].shape[0]
    sums = np.array([p.sum() - np.trace(p) for p in products])
    left_out = np.array([2 * (p.sum(1) - np.diag(p)) for p in products])
    with np.errstate(invalid="ignore", divide="ignore"):
        full = statistic(sums / (draws * (draws - 1)))
        deleted = statistic((sums[:, None] - left_out) / ((draws - 1) * (draws - 2)))
        spread = (draws - 1) / draws * np.sum((deleted - deleted.mean()) ** 2)
    return float(full), float(np.sqrt(spread))
