"""Extreme eigenvalues of a network's loss Hessian, by Lanczos on Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from featurephase.errors import InputError
from featurephase.probe.functional import Network, State, Tensor

__all__ = ["HessianOperator", "LossFunction", "extreme_eigenvalues", "orthonormal_subspace"]

Array = NDArray[np.float64]
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

    def __call__(self, vector: Array) -> Array:
        """``H v`` for a vector in the order of ``network.names``."""
        self.products += 1
        flat = torch.as_tensor(np.ascontiguousarray(vector.reshape(-1)), dtype=self.network.dtype)
        direction = self.network.unflatten(flat.to(self.network.device))
        pairs = [(g, direction[n]) for n, g in zip(self._leaves, self._gradient, strict=True) if g.requires_grad]
        if not pairs:
            return np.zeros_like(vector)
        product = torch.autograd.grad(
            [g for g, _ in pairs],
            list(self._leaves.values()),
            [d for _, d in pairs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return np.concatenate([p.detach().reshape(-1).cpu().numpy() for p in product])

    def linear_operator(self) -> LinearOperator:
        """The same for SciPy."""
        size = self.network.size
        dtype = np.float64 if self.network.dtype == torch.float64 else np.float32
        return LinearOperator((size, size), matvec=self, dtype=dtype)

    def dense(self) -> Array:
        """The full matrix, symmetrised."""
        identity = np.eye(self.network.size)
        matrix = np.stack([self(row) for row in identity]).astype(np.float64)
        return (matrix + matrix.T) / 2


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
    tolerance: float = 1e-3,
    max_products: int = 400,
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
        Relative accuracy asked of the Lanczos method.
    max_products
        At most about this many Hessian-vector products.
    subspace
        Orthonormal basis (parameters, r).

    Returns
    -------
    dict
        ``smallest``, ``largest`` (ascending), their residuals ``|H v - lambda v|`` (an eigenvalue lies
        that close), ``smallest_overlap``, ``largest_overlap`` (squared projections on the subspace, nan
        without one), ``negative``, ``negative_is_lower_bound``, ``products``, ``status`` ("ok", or how
        many did not converge).
    """
    operator = HessianOperator(network, state, loss, inputs, targets)
    size = network.size
    status, complete = "ok", False
    if not _is_symmetric(operator, seed):
        return _nothing(count, operator.products, "not symmetric: " + _ASYMMETRIC)
    if size <= max(DENSE, 2 * count + 2):
        values, vectors = np.linalg.eigh(operator.dense())
        complete = True
    else:
        width = max(4 * count + 4, 24)
        start = np.random.default_rng(seed).standard_normal(size)
        try:
            values, vectors = eigsh(
                operator.linear_operator(),
                k=2 * count,
                which="BE",
                ncv=width,
                v0=start,
                tol=tolerance,
                maxiter=max(1, max_products // (width - 2 * count)),
            )
        except ArpackNoConvergence as error:
            values, vectors = error.eigenvalues, error.eigenvectors
            status = f"{len(values)} of {2 * count} eigenvalues converged in {operator.products} products"
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    products = operator.products
    ends = _two_ends(values, count, complete)
    report: dict[str, Any] = {}
    for name, index in ends.items():
        found = values[index].astype(np.float64)
        residual = [float(np.linalg.norm(operator(vectors[:, i]) - values[i] * vectors[:, i])) for i in index]
        overlap = np.full(count, np.nan)
        if subspace is not None and index.size:
            overlap[: index.size] = ((subspace.T @ vectors[:, index]) ** 2).sum(0)
        pad = (0, count - found.size)
        report[name] = np.pad(found, pad, constant_values=np.nan)
        report[f"{name}_residual"] = np.pad(np.array(residual), pad, constant_values=np.nan)
        report[f"{name}_overlap"] = overlap
    scale = float(np.abs(values).max()) if values.size else 0.0
    zero = _ZERO * float(torch.finfo(network.dtype).eps) * scale
    negative = values < -zero
    report["negative"] = int(negative.sum())
    report["negative_is_lower_bound"] = bool(not complete and (status != "ok" or negative[:count].all()))
    report["products"] = products
    report["status"] = status
    return report


_ASYMMETRIC = "PyTorch's second derivative of an operation of this network is wrong (known: the fused weight norm)"


def _is_symmetric(operator: HessianOperator, seed: int) -> bool:
    """Whether ``u'Hv = v'Hu`` for two random directions, up to rounding."""
    u, v = np.random.default_rng(seed).standard_normal((2, operator.network.size))
    hu, hv = operator(u), operator(v)
    scale = np.linalg.norm(u) * np.linalg.norm(hv) + np.linalg.norm(v) * np.linalg.norm(hu)
    rounding = _ZERO * float(torch.finfo(operator.network.dtype).eps)
    return bool(abs(float(u @ hv) - float(v @ hu)) <= rounding * scale)


def _nothing(count: int, products: int, status: str) -> dict[str, Any]:
    """The report when there is no spectrum to report."""
    report: dict[str, Any] = {}
    for name in ("smallest", "largest"):
        report |= {f"{name}{what}": np.full(count, np.nan) for what in ("", "_residual", "_overlap")}
    lower_bound = {"negative": 0, "negative_is_lower_bound": True}
    return {**report, **lower_bound, "products": products, "status": status}


def _two_ends(values: Array, count: int, complete: bool) -> dict[str, NDArray[np.intp]]:
    """Indices of the smallest and largest ones; an incomplete set is split by sign of the distance to its
    middle."""
    index = np.arange(values.size)
    if complete:
        return {"smallest": index[:count], "largest": index[-count:]}
    if values.size == 2 * count:
        return {"smallest": index[:count], "largest": index[count:]}
    low = values < 0.0
    return {"smallest": index[low][:count], "largest": index[~low][-count:]}
