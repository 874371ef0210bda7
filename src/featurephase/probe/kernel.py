"""The empirical neural tangent kernel on a probe batch: exact layer by layer, or sketched without bias.

``K[(i,c),(j,c')] = sum_p eta_p <d f_c(x_i)/d theta_p, d f_c'(x_j)/d theta_p>`` for N inputs and C
outputs, with one learning rate eta_p per parameter tensor (1 by default). The gradient of a plain linear
layer with respect to its weight is an outer product, so its part of K is the product of two small Gram
matrices and the Jacobian is never formed; a convolution's is formed in blocks of output channels; the
rest (norms, custom layers) by torch.func.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from featurephase.foundation.types import Array
from featurephase.probe.functional import Network, Parameters, State, Tensor
from featurephase.probe.structure import Capture, canonical_names, capture

__all__ = ["KernelMeter", "exact_kernel", "exact_memory"]


#: Below this size all eigenvalues are had from a dense solver; above, the top ones by Lanczos.
_DENSE = 256


def _factored_modules(network: Network, state: State, inputs: Tensor) -> dict[str, nn.Module]:
    """Modules whose per-sample gradients are known outer products: plain linear and zero-padded plain
    Conv2d layers.

    They must keep samples in the first dimension, which two batch sizes tell (a transposed sequence does
    not).
    """
    modules = {
        name: module
        for name, module in network.shadow.named_modules()
        if type(module) is nn.Linear
        or (type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros")
    }
    for samples in (2, 3):
        batch = inputs[:1].expand(samples, *inputs.shape[1:])
        with torch.no_grad(), capture(network, modules) as seen:
            network.call(state.trainable, state.fixed, batch)
        modules = {
            name: modules[name]
            for name, found in seen.items()
            if found.calls == 1 and found.inputs.dim() >= 2 and found.inputs.shape[0] == samples
        }
    return modules


@dataclass(frozen=True)
class _Plan:
    """Which parameters each module's factors account for, and which are left to torch.func."""

    captured: dict[str, Capture]
    owned: dict[str, dict[str, str]]  # module -> {"weight": parameter name, "bias": ..}, trainable ones only
    rest: tuple[str, ...]
    outputs: Tensor


def _forward(network: Network, state: State, inputs: Tensor) -> _Plan:
    """One forward pass with the factors' inputs and outputs captured."""
    modules = _factored_modules(network, state, inputs)
    aliases = canonical_names(network)
    uses = list(aliases.values())
    leaves = {name: value.detach().requires_grad_() for name, value in state.trainable.items()}
    with capture(network, modules) as seen:
        outputs = network.call(leaves, state.fixed, inputs)
    owned: dict[str, dict[str, str]] = {}
    for name, found in seen.items():
        if not found.outputs.requires_grad:
            continue
        parts = {}
        for kind in ("weight", "bias"):
            alias = aliases.get(f"{name}.{kind}".lstrip("."))
            if alias in state.trainable and uses.count(alias) == 1:
                parts[kind] = alias
        if parts:
            owned[name] = parts
    taken = {alias for parts in owned.values() for alias in parts.values()}
    rest = tuple(name for name in network.names if name not in taken)
    return _Plan({name: seen[name] for name in owned}, owned, rest, outputs)


def _patches(module: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer multiplies its weight with, (N, features, positions)."""
    if isinstance(module, nn.Conv2d):
        padding = module.padding
        if isinstance(padding, str):
            reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
            if padding == "same" and any(reach):
                inputs = nn.functional.pad(
                    inputs, (reach[1] // 2, reach[1] - reach[1] // 2, reach[0] // 2, reach[0] - reach[0] // 2)
                )
            padding = 0
        return nn.functional.unfold(inputs, module.kernel_size, module.dilation, padding, module.stride)
    return inputs.reshape(inputs.shape[0], -1, inputs.shape[-1]).transpose(1, 2)


def _signals(module: nn.Module, gradients: Tensor) -> Tensor:
    """Gradients at a layer's outputs, (N C, units, positions) from (N, C, *output shape)."""
    if isinstance(module, nn.Conv2d):
        return gradients.reshape(gradients.shape[0] * gradients.shape[1], gradients.shape[2], -1)
    flat = gradients.reshape(gradients.shape[0] * gradients.shape[1], -1, gradients.shape[-1])
    return flat.transpose(1, 2)


def _weight_part(features: Tensor, signals: Tensor, outputs: int, block_bytes: int) -> Tensor:
    """Gram matrix of the per-sample weight gradients ``sum_positions signals x features``."""
    if features.shape[2] == 1:  # outer products: the Gram matrix factorises
        gram = features[:, :, 0] @ features[:, :, 0].T
        back = signals[:, :, 0] @ signals[:, :, 0].T
        return back * gram.repeat_interleave(outputs, 0).repeat_interleave(outputs, 1)
    rows = signals.shape[0]
    total = torch.zeros(rows, rows, dtype=signals.dtype, device=signals.device)
    per_unit = rows * features.shape[1] * features.element_size()
    step = max(1, block_bytes // per_unit)
    samples = features.shape[0]
    for start in range(0, signals.shape[1], step):
        block = signals[:, start : start + step].reshape(samples, outputs, -1, signals.shape[2])
        gradient = torch.einsum("ncop,nip->ncoi", block, features).reshape(rows, -1)
        total += gradient @ gradient.T
    return total


def _jacobian_rows(network: Network, state: State, inputs: Tensor, names: tuple[str, ...]) -> Parameters:
    """Per-sample Jacobians (N, C, *shape) of the named parameters, by torch.func."""
    chosen = {name: state.trainable[name] for name in names}

    def single(part: Parameters, x: Tensor) -> Tensor:
        return network.call({**state.trainable, **part}, state.fixed, x.unsqueeze(0))[0]

    try:
        rows = torch.func.vmap(torch.func.jacrev(single), in_dims=(None, 0))(chosen, inputs)
        return {name: value.detach() for name, value in rows.items()}
    except (RuntimeError, ValueError):  # an operation without a batching rule: one row at a time
        leaves = {name: value.detach().requires_grad_() for name, value in chosen.items()}
        outputs = network.call({**state.trainable, **leaves}, state.fixed, inputs)
        rows = {name: value.new_empty(*outputs.shape, *value.shape) for name, value in chosen.items()}
        for i, c in np.ndindex(*outputs.shape):
            gradients = torch.autograd.grad(
                outputs[i, c],
                list(leaves.values()),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for name, gradient in zip(leaves, gradients, strict=True):
                rows[name][i, c] = gradient
        return rows


def exact_kernel(
    network: Network,
    state: State,
    inputs: Tensor,
    rates: Mapping[str, float] | None = None,
    *,
    block_bytes: int = 64 << 20,
) -> Array:
    """The neural tangent kernel on ``inputs``, (N C, N C), rows ordered (sample, output).

    Parameters
    ----------
    network, state, inputs
        The function, where it stands, and N inputs.
    rates
        Learning rate per parameter name; 1 where absent.
    block_bytes
        Largest block of a convolution's Jacobian held at once.
    """
    rates = rates or {}
    plan = _forward(network, state, inputs)
    samples, outputs = plan.outputs.shape
    total = torch.zeros(samples * outputs, samples * outputs, dtype=network.dtype, device=network.device)
    if plan.owned:
        tensors = [plan.captured[name].outputs for name in plan.owned]
        columns = [
            torch.autograd.grad(
                plan.outputs[:, c].sum(),
                tensors,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for c in range(outputs)
        ]
        for index, (name, parts) in enumerate(plan.owned.items()):
            module = plan.captured[name].module
            signals = _signals(module, torch.stack([column[index] for column in columns], 1))
            if "weight" in parts:
                features = _patches(module, plan.captured[name].inputs.detach())
                part = _weight_part(features, signals, outputs, block_bytes)
                total += rates.get(parts["weight"], 1.0) * part
            if "bias" in parts:
                bias = signals.sum(2)
                total += rates.get(parts["bias"], 1.0) * (bias @ bias.T)
    if plan.rest:
        for name, rows in _jacobian_rows(network, state, inputs, plan.rest).items():
            flat = rows.reshape(samples * outputs, -1)
            total += rates.get(name, 1.0) * (flat @ flat.T)
    kernel: Array = total.detach().cpu().numpy().astype(np.float64)
    return (kernel + kernel.T) / 2


def exact_memory(network: Network, state: State, inputs: Tensor, *, block_bytes: int = 64 << 20) -> int:
    """Bytes that :func:`exact_kernel` needs at most besides the network itself."""
    plan = _forward(network, state, inputs)
    samples, outputs = plan.outputs.shape
    rows, size = samples * outputs, torch.finfo(network.dtype).bits // 8
    jacobian = sum(network.sizes[name] for name in plan.rest)
    signals = sum(found.outputs.numel() for found in plan.captured.values()) * outputs
    widest = max((_patches(f.module, f.inputs.detach()).numel() for f in plan.captured.values()), default=0)
    return int(size * (3 * rows**2 + rows * jacobian + 2 * signals + widest) + 16 * rows**2 + block_bytes)


def _cosine(a: float, b: float, inner: float) -> float:
    return inner / np.sqrt(a * b) if a > 0 and b > 0 else float("nan")


def top_eigenvalues(matrix: Array, count: int) -> Array:
    """The ``count`` largest eigenvalues, descending (nan beyond the size)."""
    size = matrix.shape[0]
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

    Parameters
    ----------
    network, inputs
        The function and the probe batch.
    labels
        (N, C) codes to align with, or None.
    rates
        Learning rate per parameter name (1 where absent).
    method
        ``"exact"``, ``"sketch"`` or ``"auto"`` (exact as long as it fits into ``memory_limit`` bytes).
    draws
        Random directions of the sketch.
    count
        Top eigenvalues wanted.
    """

    network: Network
    inputs: Tensor
    labels: Tensor | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    method: str = "auto"
    draws: int = 64
    count: int = 5
    memory_limit: int = 1 << 30
    seed: int = 0
    memory: int = 0
    _start: Any = None

    def begin(self, state: State) -> None:
        """Choose the method and keep the kernel (or the sketch) at the start."""
        self.memory = exact_memory(self.network, state, self.inputs)
        if self.method == "auto":
            self.method = "exact" if self.memory <= self.memory_limit else "sketch"
        if self.method == "exact":
            self._start = exact_kernel(self.network, state, self.inputs, self.rates)
        else:
            self._start = self._columns(state)
            self.memory = self._start.nbytes * 2 + 4 * self.network.size * (torch.finfo(self.network.dtype).bits // 8)

    def measure(self, state: State) -> dict[str, Any]:
        """Change, alignment with the start and with the labels, trace, top eigenvalues, and ``_se`` siblings.

        Exact: the standard errors are 0. ``change = |K - K0|_F / |K0|_F``; alignments are Frobenius cosines.
        """
        return self._exact(state) if self.method == "exact" else self._sketch(state)

    def _exact(self, state: State) -> dict[str, Any]:
        kernel = exact_kernel(self.network, state, self.inputs, self.rates)
        start = self._start
        norm = float(np.linalg.norm(start))
        square, square0 = float(np.vdot(kernel, kernel)), float(np.vdot(start, start))
        aligned = float("nan")
        if self.labels is not None:
            y = self.labels.reshape(-1).double().cpu().numpy()
            aligned = float(y @ kernel @ y) / (np.sqrt(square) * float(y @ y)) if square and y @ y else float("nan")
        values: dict[str, Any] = {
            "change": float(np.linalg.norm(kernel - start)) / norm if norm else float("nan"),
            "alignment": _cosine(square, square0, float(np.vdot(kernel, start))),
            "label_alignment": aligned,
            "trace": float(np.trace(kernel)),
            "eigenvalues": top_eigenvalues(kernel, self.count),
        }
        return values | {f"{name}_se": value * 0.0 for name, value in values.items()}

    def _scaled(self, values: Parameters, power: float) -> Parameters:
        return {name: value * self.rates.get(name, 1.0) ** power for name, value in values.items()}

    def _columns(self, state: State) -> Array:
        """(N C, draws): the Jacobian applied to the sketch's directions, regenerated from the seed."""
        generator = torch.Generator().manual_seed(self.seed)
        columns = []
        for _ in range(self.draws):
            flat = torch.randn(self.network.size, generator=generator, dtype=self.network.dtype)
            tangent = self._scaled(self.network.unflatten(flat.to(self.network.device)), 0.5)
            columns.append(self.network.push(state, self.inputs, tangent).reshape(-1).cpu().numpy().astype(np.float64))
        return np.stack(columns, 1)

    def _sketch(self, state: State) -> dict[str, Any]:
        now, start = self._columns(state), self._start
        squares = [x**2 for x in (now.T @ now, now.T @ start, start.T @ start)]
        cross = (squares[1] + squares[1].T) / 2
        labels = float("nan")
        if self.labels is not None:
            pulled = self._scaled(self.network.pull(state, self.inputs, self.labels), 0.5)
            labels = float(sum(float((value**2).sum()) for value in pulled.values()) / float((self.labels**2).sum()))

        products = (squares[0], cross, squares[2])
        change = _jackknife(lambda m: np.sqrt(np.maximum(m[0] - 2 * m[1] + m[2], 0.0) / m[2]), products)
        alignment = _jackknife(lambda m: m[1] / np.sqrt(m[0] * m[2]), products)
        label = _jackknife(lambda m: labels / np.sqrt(m[0]), products)
        norms = (now**2).sum(0)
        eigenvalues = self._lanczos(state)
        return {
            "change": change[0],
            "change_se": change[1],
            "alignment": alignment[0],
            "alignment_se": alignment[1],
            "label_alignment": label[0],
            "label_alignment_se": label[1],
            "trace": float(norms.mean()),
            "trace_se": float(norms.std(ddof=1) / np.sqrt(self.draws)),
            "eigenvalues": eigenvalues,
            "eigenvalues_se": eigenvalues * 0.0,
        }

    def _lanczos(self, state: State) -> Array:
        """Top eigenvalues of ``J J'`` by products alone."""
        size = self._start.shape[0]
        count = min(self.count, size - 1)

        def product(vector: Array) -> Array:
            cotangent = torch.as_tensor(vector.reshape(self.inputs.shape[0], -1), dtype=self.network.dtype)
            pulled = self.network.pull(state, self.inputs, cotangent.to(self.network.device))
            pushed = self.network.push(state, self.inputs, self._scaled(pulled, 1.0))
            return np.asarray(pushed.reshape(-1).cpu().numpy(), dtype=np.float64)

        if count < 1:
            return np.pad(product(np.ones(1)), (0, self.count - 1), constant_values=np.nan)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        start = np.random.default_rng(self.seed).standard_normal(size)
        values = eigsh(operator, k=count, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)
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
