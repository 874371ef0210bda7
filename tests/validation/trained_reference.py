"""Brute force in plain NumPy for networks as people train them: biases, a trained second layer, several outputs.

``f = A' sigma(Theta'x + b) + c`` with C outputs, trained by gradient descent on a real Gaussian data matrix, and the
dense Hessian of the Theta block and of everything. Nothing of featurephase is imported. The latent directions are the
first k axes of R^d. Labels are classes (softmax cross-entropy) or vectors (|y - f|^2/2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .brute_force import start
from .scalars import ACTIVATIONS

#: An eigenvector with more than this on the hard or on the visited directions is an outlier's: those of the bulk have a
#: few over d of it. The problems are such that outliers have more than twice as much.
ALIGNED = 0.25


@dataclass(frozen=True)
class Trained:
    """A problem: ``labels(g, rng)`` are classes (n,) where ``classes``, otherwise vectors (n, C), for g (k, n).

    ``rates`` and ``decays`` are those of Theta, A, b, c. ``easy`` lists the latent axes of U_E, known by hand. The Gram
    matrix of the start is the identity, its overlap 0, unless ``warm`` gives the overlap (k, m).
    """

    labels: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    classes: bool
    latent: int
    easy: tuple[int, ...]
    activation: str
    readout: Any
    bias: Any
    output_bias: Any
    rates: tuple[float, float, float, float]
    delta: float
    steps: int
    decays: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    momentum: float = 0.0
    nesterov: bool = False
    batches: int = 1
    warm: Any = None
    #: dimensions of the trajectories, and (delta, time, dimensions) of the Hessian
    dimensions: tuple[int, int] = (200, 400)
    hessian: tuple[float, int, tuple[int, ...]] | None = None
    #: what featurephase is told: the [teacher] section
    teacher: str = field(default="", compare=False)

    @property
    def parameters(self) -> list[np.ndarray]:
        """A (m, C), b (m,), c (C,) at the start."""
        return [np.array(p, float) for p in (self.readout, self.bias, self.output_bias)]

    def first_weights(self, d: int) -> np.ndarray:
        m = len(self.bias)
        return start(d, np.eye(m), np.zeros((self.latent, m)) if self.warm is None else np.array(self.warm, float))


def softmax_loss(y: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value (n,), derivative (n, C) and second derivative (n, C, C) of -log p_y for classes y."""
    shifted = f - f.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    p /= p.sum(axis=1, keepdims=True)
    value = -np.log(p[np.arange(len(y)), y])
    first = p.copy()
    first[np.arange(len(y)), y] -= 1
    return value, first, p[:, :, None] * (np.eye(f.shape[1]) - p[:, None, :])


def squared_loss(y: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of |y - f|^2/2 for vectors y."""
    return np.sum((y - f) ** 2, axis=1) / 2, f - y, np.broadcast_to(np.eye(f.shape[1]), (*f.shape, f.shape[1]))


def forward(case: Trained, h: np.ndarray, psi: list[np.ndarray], y: np.ndarray):
    """sigma, sigma', sigma'' (n, m) at h + b, the output, and loss with derivatives."""
    sigma = ACTIVATIONS[case.activation](h + psi[1])
    f = sigma[0] @ psi[0] + psi[2]
    return sigma, f, (softmax_loss if case.classes else squared_loss)(y, f)


def gradients(case: Trained, x, y, theta, psi, weights) -> tuple[float, list[np.ndarray]]:
    """Mean loss of all samples; gradients in Theta, A, b, c of the loss averaged with ``weights`` (n,) of mean one."""
    (s, ds, _), _, (value, r, _) = forward(case, x @ theta, psi, y)
    r = weights[:, None] * r / len(y)
    back = (r @ psi[0].T) * ds
    return float(value.mean()), [x.T @ back, s.T @ r, back.sum(axis=0), r.sum(axis=0)]


def descend(case: Trained, x, y, rng, steps: int):
    """States [Theta, A, b, c] at t = 0, .., steps, and the losses there."""
    state = [case.first_weights(x.shape[1]), *case.parameters]
    before, states, losses = state, [], []
    label = rng.permutation(len(y)) % case.batches
    for t in range(steps + 1):
        chosen = label == t % case.batches
        weights = np.where(chosen, len(y) / chosen.sum(), 0.0)
        drift = [case.momentum * (p - q) for p, q in zip(state, before, strict=True)]
        at = [p + v for p, v in zip(state, drift, strict=True)] if case.nesterov else state
        loss, slopes = gradients(case, x, y, at[0], at[1:], weights)
        states.append(state)
        losses.append(float(forward(case, x @ state[0], state[1:], y)[2][0].mean()) if case.nesterov else loss)
        before, state = (
            state,
            [
                p - eta * (g + lam * p) + (0.0 if case.nesterov else v)
                for p, g, v, eta, lam in zip(at, slopes, drift, case.rates, case.decays, strict=True)
            ],
        )
    return states, losses


def hessian(case: Trained, x, y, theta, psi) -> np.ndarray:
    """Hessian of the unpenalised risk in (Theta, A, b, c): coordinate i of neuron r is r d + i; then A_rc, b, c."""
    (n, d), (m, outputs) = x.shape, psi[0].shape
    (s, ds, dds), _, (_, r, second) = forward(case, x @ theta, psi, y)
    # Each sample's derivative of the output in (h, A, b, c), and its second derivatives contracted with r.
    to_hidden = psi[0][None] * ds[:, :, None]  # (n, m, C)
    back = (r @ psi[0].T) * dds  # (n, m)
    to_readout = np.einsum("nr,ce->nrce", s, np.eye(outputs)).reshape(n, m * outputs, outputs)
    small = np.concatenate([to_readout, to_hidden, np.broadcast_to(np.eye(outputs), (n, outputs, outputs))], axis=1)
    size = m * d + small.shape[1]
    out = np.zeros((size, size))
    curvature = np.einsum("nrc,nce,nqe->nrq", to_hidden, second, to_hidden)
    curvature[:, np.arange(m), np.arange(m)] += back
    cross = np.einsum("nrc,nce,npe->nrp", to_hidden, second, small)
    cross[:, np.arange(m), m * outputs + np.arange(m)] += back
    for q in range(m):  # d2 / d h_q d A_qc = r_c sigma'_q
        cross[:, q, q * outputs : (q + 1) * outputs] += r * ds[:, [q]]
    own = np.einsum("npc,nce,nqe->pq", small, second, small) / n
    for q in range(m):
        i = m * outputs + q
        own[i, i] += back[:, q].mean()
        mixed = (r * ds[:, [q]]).mean(axis=0)
        own[i, q * outputs : (q + 1) * outputs] += mixed
        own[q * outputs : (q + 1) * outputs, i] += mixed
    for q in range(m):
        rows = slice(q * d, (q + 1) * d)
        for p in range(q, m):
            block = (x * curvature[:, q, p, None]).T @ x / n
            out[rows, p * d : (p + 1) * d] = block
            out[p * d : (p + 1) * d, rows] = block.T
        out[rows, m * d :] = x.T @ cross[:, q] / n
        out[m * d :, rows] = out[rows, m * d :].T
    out[m * d :, m * d :] = own
    return out


# ---- named numbers of one run


def accuracy(y: np.ndarray, f: np.ndarray) -> float:
    """Share of samples whose largest output is that of their class."""
    return float(np.mean(np.argmax(f, axis=1) == y))


def trajectory_numbers(case: Trained, times: tuple[int, ...], d: int, rng) -> dict[str, float]:
    """Losses, accuracies, Gram matrix, overlaps on easy axes and O(1) parameters of one run at dimension d."""
    x = rng.standard_normal((round(case.delta * d), d))
    y = case.labels(x[:, : case.latent].T, rng)
    states, losses = descend(case, x, y, rng, max(times))
    named = {}
    for t in times:
        theta, psi = states[t][0], states[t][1:]
        basis = np.linalg.qr(np.concatenate([np.eye(d, case.latent), theta], axis=1))[0]
        fresh = rng.standard_normal((40_000, basis.shape[1]))
        label = case.labels((fresh @ basis[: case.latent].T).T, rng)
        _, f, (value, _, _) = forward(case, fresh @ (basis.T @ theta), psi, label)
        named[f"train loss, t={t}"], named[f"test loss, t={t}"] = losses[t], float(value.mean())
        if case.classes:
            named[f"train accuracy, t={t}"] = accuracy(y, forward(case, x @ theta, psi, y)[1])
            named[f"test accuracy, t={t}"] = accuracy(label, f)
        if t:
            named |= parameter_numbers(case, t, theta.T @ theta, theta[: case.latent], psi)
    return named


def parameter_numbers(case: Trained, t: int, gram, overlap, psi) -> dict[str, float]:
    """Gram matrix (m, m), overlaps (k, m) on easy axes, and those of A, b, c that are trained."""
    m, outputs = len(case.bias), len(case.output_bias)
    named = {f"Q{r + 1}{q + 1}, t={t}": gram[r, q] for r in range(m) for q in range(r, m)}
    named |= {f"M{j + 1}{r + 1}, t={t}": overlap[j, r] for j in case.easy for r in range(m)}
    if case.rates[1]:
        named |= {f"A{r + 1}{c + 1}, t={t}": psi[0][r, c] for r in range(m) for c in range(outputs)}
    for letter, p, rate in zip("bc", psi[1:], case.rates[2:], strict=True):
        if rate:
            named |= {f"{letter}{i + 1}, t={t}": value for i, value in enumerate(p)}
    return {name: float(value) for name, value in named.items()}


def aligned_with(vectors: np.ndarray, d: int, m: int, basis: np.ndarray) -> np.ndarray:
    """Squared projections of the columns of (m d + .., .) on R^m (x) span of the columns of ``basis`` (d, .)."""
    parts = vectors[: m * d].reshape(m, d, -1)
    return np.sum(np.einsum("rdv,dh->rhv", parts, basis) ** 2, axis=(0, 1))


def spectrum_numbers(case: Trained, d: int, rng) -> dict[str, float]:
    """Lowest and highest eigenvalues of the Theta block and of the whole, by what their eigenvectors are aligned with.

    ``edge`` is the first eigenvalue aligned with nothing; hard and visited outliers are those beyond it, outermost
    first.
    """
    delta, time, _ = case.hessian
    x = rng.standard_normal((round(delta * d), d))
    y = case.labels(x[:, : case.latent].T, rng)
    states, _ = descend(case, x, y, rng, time)
    theta, psi = states[time][0], states[time][1:]
    m, hard = len(case.bias), [j for j in range(case.latent) if j not in case.easy]
    path = np.concatenate([s[0] for s in states], axis=1)
    path[: case.latent] = 0.0
    u, s, _ = np.linalg.svd(path, full_matrices=False)
    visited = np.concatenate([np.eye(d)[:, list(case.easy)], u[:, s > 1e-6 * s[0]]], axis=1)
    whole = hessian(case, x, y, theta, psi)
    named = {}
    for title, matrix in (("Theta", whole[: m * d, : m * d]), ("whole", whole)):
        values, vectors = np.linalg.eigh(matrix)
        on_hard = aligned_with(vectors, d, m, np.eye(d)[:, hard])
        on_visited = aligned_with(vectors, d, m, visited) + np.sum(vectors[m * d :] ** 2, axis=0)
        for side, order in (("left", range(len(values))), ("right", range(len(values) - 1, -1, -1))):
            counts = {"hard": 0, "visited": 0}
            for i in order:
                kind = "hard" if on_hard[i] > on_visited[i] else "visited"
                if max(on_hard[i], on_visited[i]) < ALIGNED:
                    named[f"{title}: {side} edge"] = float(values[i])
                    break
                counts[kind] += 1
                named[f"{title}: {kind} {side} outlier {counts[kind]}"] = float(values[i])
                share = on_hard[i] if kind == "hard" else on_visited[i]
                named[f"{title}: {kind} {side} overlap {counts[kind]}"] = float(share)
    return named
