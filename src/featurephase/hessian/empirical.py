"""The Hessian of a finite network, as an operator: extreme eigenpairs and spectral density without the matrix.

``H = (1/n) sum_i W_i (x) x_i x_i' + lam I`` is of size m d; one application reads X once. Index r d + i of
a vector is coordinate i of neuron r (theory: Montanari & Wang, arXiv 2602.01434).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from featurephase.foundation.errors import SingularCurvatureError
from featurephase.foundation.threads import blas_on_one_thread
from featurephase.foundation.types import Array
from featurephase.hessian.lanczos import quadrature

if TYPE_CHECKING:
    from featurephase.dynamics.dense import DenseDesign
    from featurephase.dynamics.network import Network


#: Up to this size the matrix is built and solved whole: exact, and faster than Lanczos.
DENSE_SIZE = 1200


class EmpiricalHessian(LinearOperator):
    """The Hessian of the full risk at weights (d, m), as a symmetric operator of size m d.

    Parameters
    ----------
    design
        The data.
    network
        Activation, readout and loss.
    weights
        Theta, (d, m).
    responses
        y, (n,).
    weight_decay
        lam.

    Raises
    ------
    SingularCurvatureError
        If the activation or the loss has a slope that jumps: its second derivative is not a function.
    """

    def __init__(
        self, design: DenseDesign, network: Network, weights: Array, responses: Array, weight_decay: float = 0.0
    ) -> None:
        if network.singular_curvature:
            raise SingularCurvatureError(
                "the second derivative of the activation or the loss is singular where its slope jumps: no Hessian"
            )
        self.design, self.weight_decay = design, weight_decay
        self.width = network.width
        h = design.preactivations(weights)
        self.curvature: Array = network.curvature(h, responses)  # (m, m, n)
        size = self.width * design.dimension
        super().__init__(dtype=np.dtype(np.float64), shape=(size, size))  # type: ignore[call-arg]
        self.applications = 0

    def _matmat(self, vectors: Array) -> Array:
        self.applications += vectors.shape[1]
        d = self.design.dimension
        directions = np.ascontiguousarray(vectors).reshape(self.width, d, -1)
        products = self.design.weighted_products(self.curvature, directions)
        out: Array = products.reshape(self.width * d, -1)
        return out + self.weight_decay * vectors if self.weight_decay else out

    def _matvec(self, vector: Array) -> Array:
        return self._matmat(vector.reshape(-1, 1))[:, 0]

    def _adjoint(self) -> EmpiricalHessian:
        return self

    def to_matrix(self) -> Array:
        """The whole matrix, (m d, m d), by a weighted Gram matrix for each pair of neurons."""
        m, d, x = self.width, self.design.dimension, self.design.matrix
        matrix = np.empty((m * d, m * d))
        for r in range(m):
            for s in range(r, m):
                block = (x * self.curvature[r, s][:, None]).T @ x / self.design.samples
                matrix[r * d : (r + 1) * d, s * d : (s + 1) * d] = block
                matrix[s * d : (s + 1) * d, r * d : (r + 1) * d] = block.T
        matrix[np.diag_indices(m * d)] += self.weight_decay
        return matrix

    def overlaps(self, vectors: Array, basis: Array) -> Array:
        """Squared projections of the columns of (m d, c) on R^m (x) span of the orthonormal columns of (d, j); (c,)."""
        parts = vectors.reshape(self.width, self.design.dimension, -1)
        out: Array = np.sum(np.einsum("di,rdc->ric", basis, parts) ** 2, axis=(0, 1))
        return out


@dataclass(frozen=True)
class Eigenpairs:
    """Extreme eigenpairs.

    Attributes
    ----------
    values
        Ascending, (c,).
    vectors
        Unit columns, (m d, c).
    residuals
        |H v - lambda v|, (c,).
    converged
        Whether the eigensolver reached its tolerance.
    applications
        How often H was applied.
    """

    values: Array
    vectors: Array
    residuals: Array
    converged: bool
    applications: int


@blas_on_one_thread()
def extreme_eigenpairs(
    operator: EmpiricalHessian, smallest: int, largest: int, *, tolerance: float = 1e-9, seed: int = 0
) -> tuple[Eigenpairs, Eigenpairs]:
    """The ``smallest`` lowest and ``largest`` highest eigenpairs.

    The whole matrix is solved where it is small; otherwise the implicitly restarted Lanczos method of ARPACK, both ends
    from one Krylov space where both are asked for.

    Parameters
    ----------
    tolerance
        Relative accuracy of the eigenvalues that Lanczos stops at.
    seed
        Of the start vector: the same seed gives the same bytes.
    """
    size = operator.shape[0]
    low, high = min(smallest, size), min(largest, size)
    before = operator.applications
    converged = True
    if size <= max(DENSE_SIZE, 4 * (low + high)):
        values, vectors = eigh(operator.to_matrix(), overwrite_a=True, check_finite=False)
    else:
        values, vectors, converged = _lanczos(operator, low, high, tolerance, seed)
    wanted = np.r_[0:low, len(values) - high : len(values)]
    values, vectors = values[wanted], vectors[:, wanted]
    residuals = np.linalg.norm(operator.matmat(vectors) - vectors * values, axis=0) if len(wanted) else values
    count = operator.applications - before
    ends = (slice(0, low), slice(len(values) - high, len(values)))
    bottom, top = (Eigenpairs(values[s], vectors[:, s], residuals[s], converged, count) for s in ends)
    return bottom, top


def _lanczos(operator: EmpiricalHessian, low: int, high: int, tolerance: float, seed: int) -> tuple[Array, Array, bool]:
    size = operator.shape[0]
    start = np.random.default_rng(seed).standard_normal(size)
    both = low and low == high
    jobs = [(2 * low, "BE")] if both else [(low, "SA"), (high, "LA")]
    solve: Any = eigsh
    ends: list[tuple[Array, Array]] = []
    converged = True
    for count, which in jobs:
        if count == 0:
            continue
        options = {"k": count, "which": which, "ncv": min(size - 1, max(4 * count + 20, 60)), "v0": start}
        try:
            values, vectors = solve(operator, tol=tolerance, maxiter=200, **options)
        except ArpackNoConvergence:  # a looser tolerance: the residuals tell how good it is
            converged = False
            values, vectors = solve(operator, tol=1e-3, maxiter=400, **options)
        order = np.argsort(values)
        ends.append((values[order], vectors[:, order]))
    return np.concatenate([v for v, _ in ends]), np.concatenate([v for _, v in ends], axis=1), converged


@dataclass(frozen=True)
class SpectralDensity:
    """A spectral density by stochastic Lanczos quadrature.

    Attributes
    ----------
    nodes, weights
        Atoms (probes * steps,) whose weights add up to 1: moments of the spectrum are sums over them.
    x, density
        The atoms smoothed by a Gaussian of standard deviation ``width``.
    width
        Of that Gaussian.
    """

    nodes: Array
    weights: Array
    x: Array
    density: Array
    width: float


@blas_on_one_thread()
def spectral_density(
    operator: LinearOperator,
    *,
    probes: int = 8,
    steps: int = 80,
    points: int = 400,
    width: float | None = None,
    seed: int = 0,
) -> SpectralDensity:
    """The density of eigenvalues, from ``probes`` random vectors and ``steps`` Lanczos steps each.

    Every new Lanczos vector is orthogonalised twice against all earlier ones: without that, copies of converged
    eigenvalues take weight from the bulk. Exact to rounding for moments up to 2 ``steps`` - 1 of each probe's measure
    (Golub & Meurant 1994; Ubaru, Chen & Saad 2017).
    """
    size = operator.shape[0]
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    for _ in range(probes):
        start, basis = rng.standard_normal(size), np.empty((min(steps, size), size))
        value, weight = quadrature(operator.matvec, start, basis, np.finfo(np.float64).eps)
        nodes.append(value)
        weights.append(weight / probes)
    node, share = np.concatenate(nodes), np.concatenate(weights)
    low, high = float(node.min()), float(node.max())
    span = max(high - low, 1e-12 * max(abs(low), abs(high), 1e-300))
    sigma = span / 100.0 if width is None else width
    x = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
    kernel = np.exp(-0.5 * ((x[:, None] - node) / sigma) ** 2) / (sigma * np.sqrt(2.0 * np.pi))
    return SpectralDensity(node, share, x, kernel @ share, sigma)
