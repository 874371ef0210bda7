"""Extreme eigenvalues of a network's loss Hessian, by Lanczos on Hessian-vector products."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from featurephase.foundation.errors import InputError, one_line
from featurephase.foundation.types import Array
from featurephase.hessian.lanczos import extreme_pairs
from featurephase.probe.checks import few, free_entries, own_functions
from featurephase.probe.derivatives import contracted, gradients
from featurephase.probe.functional import Precision, State, Tensor, TorchNetwork
from featurephase.probe.memory import SampleCost
from featurephase.probe.trees import Batch, rows_of, transform
from featurephase.results.probe import HessianAnalysis
from featurephase.results.status import (
    NO_SECOND_DERIVATIVE,
    NOT_CONVERGED,
    NOT_FINITE,
    NOT_SYMMETRIC,
    OK,
    OUT_OF_MEMORY,
    WRONG_SECOND_DERIVATIVE,
    Status,
    out_of_products,
)

#: Up to this many parameters the Hessian is formed and all its eigenvalues are exact.
DENSE = 300
#: Eigenvalues within this fraction of the largest one are zero for the purpose of counting negative ones,
#: times eps.
_ZERO = 1e3
#: Relative difference from finite differences of the gradient that is called wrong.
_WRONG = 1e-3


class Samples(Protocol):
    """Batches of inputs and targets, with the share of the samples that each has."""

    def __iter__(self) -> Iterator[tuple[Batch, Any, float]]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Objective:
    """What the network's loss is averaged over, and the L2 decay that the optimiser adds to it."""

    samples: Samples  # batches (inputs, targets, share of all samples); gone through once per product
    decay: Mapping[str, float] = field(default_factory=dict)  # lam by parameter: lam |theta|^2 / 2 is added


class HessianOperator:
    """``v -> H v`` for the Hessian at a state, on the parameters ``names`` (default: all trainable ones).

    With one batch the first gradient is built once and reused.
    """

    def __init__(
        self, network: TorchNetwork, state: State, objective: Objective, names: tuple[str, ...] | None = None
    ) -> None:
        self.network, self.state, self.objective = network, state, objective
        self.names = state.names if names is None else names
        self.sizes = [state.parameters[name].numel() for name in self.names]
        self.size = sum(self.sizes)
        self.products = 0
        self.eps = network.eps  # of the coarsest arithmetic in the network and the loss
        self._kept: Any = None
        kinds = [state.parameters[name].dtype for name in self.names]
        self.dtype = max(kinds, key=lambda kind: torch.finfo(kind).bits)

    def _recorded(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor], float]]:
        """Leaves, gradients with their graph, and share, batch by batch."""
        if self._kept is not None:
            yield self._kept
            return
        for batch, targets, share in self.objective.samples:
            points = {name: self.state.parameters[name].detach().requires_grad_() for name in self.names}
            value = self.network.loss_at(self.state, points, batch, targets)
            recorded = points, gradients(value, points, create_graph=True), share
            if len(self.objective.samples) == 1:
                self._kept = recorded
            yield recorded

    def gradient(self) -> Tensor:
        """The gradient, flat."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.network.device)
        for _, slopes, share in self._recorded():
            total += share * self._flat({name: g.detach() for name, g in slopes.items()})
        return total + self._decay() * self._flat(self.state.parameters)

    def __call__(self, vector: Tensor) -> Tensor:
        """``H v`` for a flat vector in the order of ``names``."""
        return sum(self.by_batch(vector)) + self._decay() * vector

    def by_batch(self, vector: Tensor) -> Iterator[Tensor]:
        """``share_b H_b v`` for every batch b, without the decay."""
        self.products += 1
        direction = self.unflatten(vector)
        for points, slopes, share in self._recorded():
            product = contracted(slopes.values(), direction.values(), points.values())
            yield share * self._flat(dict(zip(points, product, strict=True)))

    def _decay(self) -> Any:
        if not self.objective.decay:
            return 0.0
        parts = [
            torch.full((size,), self.objective.decay.get(name, 0.0), dtype=self.dtype, device=self.network.device)
            for name, size in zip(self.names, self.sizes, strict=True)
        ]
        return torch.cat(parts)

    def _flat(self, values: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([values[name].detach().reshape(-1).to(self.dtype) for name in self.names])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """A flat vector as parameter blocks."""
        pieces = torch.split(vector, self.sizes)
        return {n: p.reshape(self.state.parameters[n].shape) for n, p in zip(self.names, pieces, strict=True)}

    def random(self, seed: int, count: int) -> Tensor:
        """Normal vectors (count, parameters), the same for the same seed on every device."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, self.size, generator=generator, dtype=self.dtype).to(self.network.device)

    def dense(self) -> Array:
        """The full matrix, symmetrised."""
        identity = torch.eye(self.size, dtype=self.dtype, device=self.network.device)
        matrix = torch.stack([self(row) for row in identity]).double().cpu().numpy()
        return np.asarray((matrix + matrix.T) / 2)


def orthonormal_subspace(state: State, subspace: Any) -> Array:
    """An orthonormal basis (parameters, r) from a matrix, or from a mapping parameter name -> (r, *shape).

    Raises
    ------
    InputError
        If the size does not fit the trainable parameters or the columns are linearly dependent.
    """
    if isinstance(subspace, Mapping):
        unknown = sorted(set(subspace) - set(state.names))
        if unknown or not subspace:
            raise InputError(f"subspace: unknown parameters {unknown}; trainable are {', '.join(state.names)}")
        rank = len(next(iter(subspace.values())))
        blocks = []
        for name in state.names:
            block = subspace.get(name)
            shape = (rank, state.parameters[name].numel())
            blocks.append(np.zeros(shape) if block is None else np.asarray(block, float).reshape(rank, -1))
        matrix = np.concatenate(blocks, 1).T
    else:
        matrix = np.asarray(subspace, dtype=float)
        matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != state.size:
        raise InputError(f"subspace: shape {matrix.shape}, expected ({state.size}, r), one row per trainable parameter")
    basis, triangle = np.linalg.qr(matrix)
    diagonal = np.abs(np.diag(triangle))
    if not np.all(np.isfinite(matrix)) or diagonal.min() <= 1e-12 * diagonal.max():
        raise InputError("subspace: the columns must be finite and linearly independent")
    return np.asarray(basis)


@dataclass(frozen=True)
class Spectrum:
    """How the eigenvalues are sought: how many at either end, how well, and at what cost."""

    count: int = 3
    tolerance: float = 1e-2  # largest residual relative to the largest eigenvalue
    max_products: int = 30  # at most this many products, and vectors of all parameters held
    memory_limit: float = 1 << 30  # bytes for these vectors and the recorded passes
    seed: int = 0


def extreme_eigenvalues(
    network: TorchNetwork,
    state: State,
    objective: Objective,
    options: Spectrum | None = None,
    subspace: Array | None = None,
    time: float = 0.0,
) -> HessianAnalysis:
    """The ``count`` smallest and largest Hessian eigenvalues, how many are negative, and overlaps with a
    subspace (an orthonormal basis (parameters, r)).

    A Hessian that cannot be had is a status, never an exception.
    """
    options = options or Spectrum()
    operator = HessianOperator(network, state, objective)
    status, why = unobtainable(operator, options)
    if status == OK:
        pairs, status, why = eigenpairs(operator, options)
    else:
        pairs = Pairs.missing(options.count)
    where = f"Hessian at step {time:g}: {status if status.kind == NOT_CONVERGED else f'{status}: {why}'}"
    provenance = {"time": time, "status": status, "message": "" if status == OK else where}
    return _analysis(operator, pairs, options.count, subspace, provenance)


def unobtainable(operator: HessianOperator, options: Spectrum) -> tuple[Status, str]:
    """Why the Hessian cannot be had; OK if it can.

    It must fit into the memory, have second derivatives that are finite, symmetric, and those of the loss.
    """
    need = _need(operator, options)
    if need > options.memory_limit:
        room = f"{options.memory_limit / 2**20:.1f} MiB are left of memory_limit"
        return OUT_OF_MEMORY, f"the Hessian needs {need / 2**20:.1f} MiB, {room}"
    try:
        u, v = operator.random(options.seed, 2)
        with Precision() as precision:
            hu = operator(u)
        if precision.eps > operator.network.coarsest:  # the loss's own arithmetic
            operator.eps = max(operator.eps, precision.eps)
        hv = operator(v)
    except Exception as error:  # the user's loss runs in there, and autograd raises many types
        return NO_SECOND_DERIVATIVE, one_line(error)
    if not bool(torch.isfinite(operator.gradient()).all()):
        return NOT_FINITE, "the gradient of the loss is not finite at these weights"
    if not bool(torch.isfinite(hu).all() and torch.isfinite(hv).all()):
        return NOT_FINITE, "the second derivatives of the loss are singular at these weights"
    scale = float(u.norm() * hv.norm() + v.norm() * hu.norm())
    if abs(float(u @ hv) - float(v @ hu)) > _ZERO * operator.eps * scale:
        return NOT_SYMMETRIC, _culprit(operator)
    wrong = _differs_from_gradient(operator, options.seed, need, options.memory_limit)
    return (WRONG_SECOND_DERIVATIVE, wrong) if wrong else (OK, "")


def _culprit(operator: HessianOperator) -> str:
    """What is wrong with the second derivatives, by name where it is not torch's."""
    batch, targets, _ = next(iter(operator.objective.samples))
    points = {name: operator.state.parameters[name].detach().requires_grad_() for name in operator.names}
    functions = own_functions(operator.network.loss_at(operator.state, points, batch, targets))
    if functions:
        return (
            f"the backward of {', '.join(functions)} cannot be differentiated (once_differentiable, or computed "
            "outside autograd)"
        )
    return "PyTorch's second derivative of an operation of this network is wrong (known: the fused weight norm)"


def _need(operator: HessianOperator, options: Spectrum) -> float:
    """Bytes: the vectors of the Lanczos method, and the recorded passes on the largest batch."""
    vectors = min(operator.size, 2 * options.count + 1) + 6
    held = float(vectors * operator.size * torch.finfo(operator.dtype).bits // 8)
    if len(operator.objective.samples) != 1:
        return held  # the batches are the user's own choice
    (batch, targets, _), *_ = operator.objective.samples
    if batch.samples < 3:
        return held
    few = [rows_of(targets, batch.samples, range(n)) for n in (1, 2)]

    def compute(part: Batch) -> None:
        single = Objective([(part, few[part.samples - 1], 1.0)])
        again = HessianOperator(operator.network, operator.state, single)
        again(torch.zeros(operator.size, dtype=operator.dtype, device=operator.network.device))

    try:
        return held + SampleCost.measured(compute, batch, options.memory_limit).at(batch.samples)
    except Exception:  # a loss that takes the whole batch only, or no second derivative: found out by the caller
        return held


def _differs_from_gradient(operator: HessianOperator, seed: int, need: float, room: float) -> str:
    """Compare ``H v`` with finite differences of the gradient in double precision, on one batch; empty if equal.

    A backward that is right but whose own derivative is not gives a wrong Hessian without a complaint of autograd.
    """
    if not operator.network.has_room_for_double(operator.state):
        return ""
    network, state = operator.network, operator.state.cast(torch.float64)
    batch, targets, _ = next(iter(operator.objective.samples))
    allowed = max(1, int(batch.samples * room / (3 * need))) if need else batch.samples
    if allowed < batch.samples:  # double precision and the differences take about three times the memory
        batch, targets = batch.take(range(allowed)), rows_of(targets, batch.samples, range(allowed))
    wide = transform(
        lambda leaf: leaf.double() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf, targets
    )
    single = [(batch.cast(torch.float64), wide, 1.0)]
    precise = HessianOperator(network, state, Objective(single), operator.names)
    try:
        with Precision() as precision:
            precise.gradient()
    except Exception:  # not to be had in double precision: the symmetry has been checked
        return ""
    if precision.eps > 1e-12:
        return ""
    values = {name: state.parameters[name] for name in precise.names}
    for held in (False, True):  # again with what forward itself overwrites held fixed
        free = free_entries(network, state, few(batch.cast(torch.float64))) if held else {}
        direction = precise.unflatten(precise.random(seed + 1, 1)[0])
        steps = {
            n: d * (float(values[n].square().mean().sqrt()) or 1.0) * free.get(n, 1.0) for n, d in direction.items()
        }
        mask = torch.cat([torch.ones_like(values[n]).mul(free.get(n, 1.0)).reshape(-1) for n in precise.names])
        error = _slope_error(precise, steps, mask, precision.eps)
        if not error:
            return ""
    return f"{error}; {_culprit(operator)}"


def _slope_error(operator: HessianOperator, steps: dict[str, Tensor], mask: Tensor, eps: float) -> str:
    """How far ``H v`` is from differences of the gradient, for the best of three step sizes; empty if close."""
    values = operator.state.parameters
    expected = mask * operator(torch.cat([steps[n].reshape(-1) for n in operator.names]))
    for step in (1e-5, 1e-6, 1e-7):
        ends = []
        for sign in (1, -1):
            moved = operator.state.moved({n: values[n] + sign * step * steps[n] for n in operator.names})
            again = HessianOperator(operator.network, moved, operator.objective, operator.names)
            ends.append(mask * again.gradient())
        slope = (ends[0] - ends[1]) / (2 * step)
        error = float((slope - expected).norm())
        if error <= _WRONG * float(expected.norm() + slope.norm()) + 1e2 * eps * float(ends[0].norm()) / step:
            return ""
    return (
        f"autograd's product with the Hessian is {float(expected.norm()):.4g} long, finite differences of the gradient "
        f"give {float(slope.norm()):.4g}, {error:.2g} apart"
    )


@dataclass(frozen=True)
class Pairs:
    """Eigenpairs at both ends: values ascending, (k,), vectors (k, parameters), and whether these are all."""

    values: Array
    residuals: Array
    vectors: Tensor
    complete: bool

    @classmethod
    def missing(cls, count: int) -> Pairs:
        """What stands in for a spectrum that cannot be had."""
        nothing = np.full(2 * count, np.nan)
        return cls(nothing, nothing, torch.empty(2 * count, 0), False)

    def ends(self, count: int) -> dict[str, slice]:
        """The lowest and the highest ``count``, which may overlap in a small problem."""
        half = min(count, self.values.size)
        return {"smallest": slice(0, half), "largest": slice(self.values.size - half, None)}


def eigenpairs(operator: HessianOperator, options: Spectrum) -> tuple[Pairs, Status, str]:
    """All eigenpairs of a small Hessian; of a large one the two ends by Lanczos."""
    size, count = operator.size, options.count
    if size <= max(DENSE, 2 * count + 2):
        matrix = operator.dense()
        if not np.isfinite(matrix).all():
            return Pairs.missing(count), NOT_FINITE, "the second derivatives of the loss overflow"
        values, vectors = np.linalg.eigh(matrix)
        return Pairs(values, np.zeros(size), torch.as_tensor(vectors.T.copy()).to(operator.dtype), True), OK, ""
    vector_bytes = size * torch.finfo(operator.dtype).bits // 8
    steps = min(options.max_products, int(options.memory_limit // vector_bytes), size)
    start = operator.random(options.seed, 1)[0]
    basis = start.new_empty(max(steps, 2 * count + 1), size)
    eps = float(torch.finfo(operator.dtype).eps)
    ritz = extreme_pairs(operator, start, basis, count, tolerance=options.tolerance, eps=eps)
    mix = torch.as_tensor(ritz.coordinates, dtype=start.dtype, device=start.device)
    pairs = Pairs(ritz.values, ritz.residuals, mix @ ritz.space.basis, False)
    if ritz.converged:
        return pairs, OK, ""
    status = out_of_products(options.tolerance, len(ritz.space.diagonal))
    return pairs, status, status.message


def sampling_errors(operator: HessianOperator, vectors: Tensor) -> Array:
    """Standard errors of ``v' H v`` over the batches that the loss is averaged over; 0 for a single one."""
    count = len(operator.objective.samples)
    if count == 1:
        return np.zeros(len(vectors))
    shares = np.array([share for _, _, share in operator.objective.samples])
    parts = np.array([[float(v @ part) for part in operator.by_batch(v)] for v in vectors]) / shares
    mean = parts @ shares
    spread = ((parts - mean[:, None]) ** 2 @ shares) * (shares**2).sum() / (1 - (shares**2).sum())
    return np.asarray(np.sqrt(spread))


def described_ends(operator: HessianOperator, pairs: Pairs, count: int) -> dict[str, Any]:
    """Eigenvalues at both ends with standard errors and residuals, by the names they have in a result."""
    columns: dict[str, Any] = {}
    for name, chosen in pairs.ends(count).items():
        columns[name], columns[f"{name}_residual"] = pairs.values[chosen], pairs.residuals[chosen]
        known = pairs.vectors.numel() > 0
        columns[f"{name}_se"] = sampling_errors(operator, pairs.vectors[chosen]) if known else pairs.values[chosen]
    return columns


def _analysis(
    operator: HessianOperator, pairs: Pairs, count: int, subspace: Array | None, provenance: Mapping[str, Any]
) -> HessianAnalysis:
    """The record; nan where a small problem has fewer eigenvalues than were asked for."""
    missing = not pairs.vectors.numel()
    columns: dict[str, Any] = {}
    for name, values in described_ends(operator, pairs, count).items():
        columns[name] = np.pad(values.astype(np.float64), (0, count - len(values)), constant_values=np.nan)
    for name, chosen in pairs.ends(count).items():
        columns[f"{name}_overlap"] = overlap = np.full(count, np.nan)
        if subspace is not None and not missing:
            vectors = pairs.vectors[chosen].double().cpu().numpy()
            overlap[: len(vectors)] = ((vectors @ subspace) ** 2).sum(1)
        for suffix in ("_residual", "_overlap"):
            columns[f"{name}{suffix}_se"] = columns[name + suffix] * 0.0
    scale = 0.0 if missing else float(np.abs(pairs.values).max())
    negative = pairs.values < -_ZERO * operator.eps * scale
    half = min(count, len(pairs.values))
    return HessianAnalysis(
        **columns,
        negative=int(negative.sum()),
        negative_is_lower_bound=missing or bool(not pairs.complete and negative[:half].all()),
        products=operator.products,
        **provenance,
    )
