"""Extreme eigenvalues of a network's loss Hessian, by Lanczos on Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.probe.functional import Network, State, Tensor
from featurephase.probe.lanczos import lanczos

__all__ = ["HessianOperator", "LossFunction", "extreme_eigenvalues", "orthonormal_subspace"]

LossFunction: TypeAlias = Callable[[Any, Any], Any]

#: Up to this many parameters the Hessian is formed and all its eigenvalues are exact.
DENSE = 300
#: Eigenvalues within this fraction of the largest one are zero for the purpose of counting negative ones,
#: times eps.
_ZERO = 1e3


class HessianOperator:
    """``v -> H v`` for the Hessian of the mean loss at a state; the first gradient is built once and
    reused."""

    def __init__(self, network: Network, state: State, loss: LossFunction, inputs: Tensor, targets: Tensor) -> None:
        self.network = network
        self.products = 0
        self._leaves = {name: value.detach().requires_grad_() for name, value in state.trainable.items()}
        value = loss(network.call(self._leaves, state.fixed, inputs), targets)
        if value.dim():
            raise InputError(f"the loss must return one number, not shape {tuple(value.shape)}")
        self._gradient = torch.autograd.grad(
            value, list(self._leaves.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )

    def __call__(self, vector: Tensor) -> Tensor:
        """``H v`` for a flat vector in the order of ``network.names``."""
        self.products += 1
        direction = self.network.unflatten(vector)
        pairs = [(g, direction[n]) for n, g in zip(self._leaves, self._gradient, strict=True) if g.requires_grad]
        if not pairs:
            return torch.zeros_like(vector)
        product = torch.autograd.grad(
            [g for g, _ in pairs],
            list(self._leaves.values()),
            [d for _, d in pairs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([p.detach().reshape(-1) for p in product])

    def random(self, seed: int, count: int) -> Tensor:
        """Normal vectors (count, parameters), the same for the same seed on every device."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, self.network.size, generator=generator, dtype=self.network.dtype).to(
            self.network.device
        )

    def dense(self) -> Array:
        """The full matrix, symmetrised."""
        identity = torch.eye(self.network.size, dtype=self.network.dtype, device=self.network.device)
        matrix = torch.stack([self(row) for row in identity]).double().cpu().numpy()
        symmetric: Array = (matrix + matrix.T) / 2
        return symmetric


def orthonormal_subspace(network: Network, subspace: Any) -> Array:
    """An orthonormal basis (parameters, r) from a matrix, or from a mapping parameter name -> (r, *shape).

    Raises
    ------
    InputError
        If the size does not fit the trainable parameters or the columns are linearly dependent.
    """
    if isinstance(subspace, Mapping):
        unknown = sorted(set(subspace) - set(network.names))
        if unknown or not subspace:
            raise InputError(f"subspace: unknown parameters {unknown}; trainable are {', '.join(network.names)}")
        rank = len(next(iter(subspace.values())))
        blocks = []
        for name in network.names:
            block = subspace.get(name)
            rows = (
                np.zeros((rank, network.sizes[name])) if block is None else np.asarray(block, float).reshape(rank, -1)
            )
            blocks.append(rows)
        matrix = np.concatenate(blocks, 1).T
    else:
        matrix = np.asarray(subspace, dtype=float)
        matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != network.size:
        raise InputError(
            f"subspace: shape {matrix.shape}, expected ({network.size}, r), one row per trainable parameter"
        )
    basis, triangle = np.linalg.qr(matrix)
    diagonal = np.abs(np.diag(triangle))
    if not np.all(np.isfinite(matrix)) or diagonal.min() <= 1e-12 * diagonal.max():
        raise InputError("subspace: the columns must be finite and linearly independent")
    return np.asarray(basis)


def extreme_eigenvalues(
    network: Network,
    state: State,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    *,
    count: int = 3,
    tolerance: float = 1e-2,
    max_products: int = 30,
    memory_limit: int = 1 << 30,
    subspace: Array | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The ``count`` smallest and largest Hessian eigenvalues, how many are negative, and overlaps with a
    subspace.

    Parameters
    ----------
    loss, inputs, targets
        The mean loss is ``loss(outputs, targets)``.
    tolerance
        Largest residual of the Lanczos method relative to the largest eigenvalue.
    max_products
        At most this many Hessian-vector products, and vectors of all parameters held.
    memory_limit
        Bytes that those vectors may take; fewer products where they would take more.
    subspace
        Orthonormal basis (parameters, r).

    Returns
    -------
    dict
        ``smallest``, ``largest`` (ascending), their residuals ``|H v - lambda v|`` (an eigenvalue lies
        that close), ``smallest_overlap``, ``largest_overlap`` (squared projections on the subspace, nan
        without one), ``negative``, ``negative_is_lower_bound``, ``products``, ``status`` ("ok", or why
        not).
    """
    size, status = network.size, "ok"
    vector_bytes = size * torch.finfo(network.dtype).bits // 8
    max_products = min(max_products, memory_limit // vector_bytes)
    if max_products < min(size, 2 * count + 1):
        need = (2 * count + 1) * vector_bytes
        reason = f"the Lanczos basis needs {need >> 20} MiB, memory_limit is {memory_limit >> 20} MiB"
        return _nothing(count, 0, reason)
    operator = HessianOperator(network, state, loss, inputs, targets)
    if not _is_symmetric(operator, seed):
        return _nothing(count, operator.products, f"not symmetric: {_ASYMMETRIC}")
    complete = size <= max(DENSE, 2 * count + 2)
    if complete:
        values, vectors = np.linalg.eigh(operator.dense())
        residuals = np.zeros(size)
    else:
        start = operator.random(seed, 1)[0]
        ritz = lanczos(operator, start, count, tolerance=tolerance, max_steps=max_products)
        values, residuals = ritz.values, ritz.residuals
        vectors = ritz.vectors.double().cpu().numpy().T
        if not ritz.converged:
            status = f"not converged to {tolerance:g} in {ritz.steps} products: see the residuals"
    report: dict[str, Any] = {}
    half = min(count, values.size)
    for name, chosen in (("smallest", slice(0, half)), ("largest", slice(values.size - half, None))):
        pad = (0, count - half)
        overlap = np.full(half, np.nan) if subspace is None else ((subspace.T @ vectors[:, chosen]) ** 2).sum(0)
        for suffix, found in (("", values[chosen]), ("_residual", residuals[chosen]), ("_overlap", overlap)):
            report[name + suffix] = np.pad(found.astype(np.float64), pad, constant_values=np.nan)
    scale = float(np.abs(values).max())
    negative = values < -_ZERO * float(torch.finfo(network.dtype).eps) * scale
    report["negative"] = int(negative.sum())
    report["negative_is_lower_bound"] = bool(not complete and negative[:half].all())
    report["products"] = operator.products
    report["status"] = status
    return report


_ASYMMETRIC = "PyTorch's second derivative of an operation of this network is wrong (known: the fused weight norm)"


def _is_symmetric(operator: HessianOperator, seed: int) -> bool:
    """Whether ``u'Hv = v'Hu`` for two random directions, up to rounding."""
    u, v = operator.random(seed, 2)
    hu, hv = operator(u), operator(v)
    scale = float(u.norm() * hv.norm() + v.norm() * hu.norm())
    rounding = _ZERO * float(torch.finfo(operator.network.dtype).eps)
    return bool(abs(float(u @ hv) - float(v @ hu)) <= rounding * scale)


def _nothing(count: int, products: int, status: str) -> dict[str, Any]:
    """The report when there is no spectrum to report."""
    report: dict[str, Any] = {}
    for name in ("smallest", "largest"):
        report |= {f"{name}{what}": np.full(count, np.nan) for what in ("", "_residual", "_overlap")}
    lower_bound = {"negative": 0, "negative_is_lower_bound": True}
    return {**report, **lower_bound, "products": products, "status": status}
