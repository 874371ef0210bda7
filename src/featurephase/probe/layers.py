"""What each weight layer and each pair of adjacent layers did since the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from featurephase.probe.functional import State, Tensor, TorchNetwork
from featurephase.probe.structure import Layer, Structure, capture
from featurephase.probe.trees import Batch

_DENSE = 64


def leading_pair(matrix: Tensor) -> tuple[float, Tensor, Tensor]:
    """Largest singular value with its left and right unit vectors (zeros for the zero matrix)."""
    size = float(matrix.abs().max()) if matrix.numel() else 0.0
    if size > 1e15:  # squares must not overflow
        value, left, right = leading_pair(matrix / size)
        return value * size, left, right
    if min(matrix.shape) <= _DENSE:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return float(values[0]), left[:, 0], right[0]
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    array = wide.detach().cpu().numpy()
    if not np.any(array):
        return 0.0, torch.zeros_like(matrix[:, 0]), torch.zeros_like(matrix[0])
    size = array.shape[0]
    operator = LinearOperator((size, size), matvec=lambda v: array @ (array.T @ v), dtype=array.dtype)
    start = np.random.default_rng(0).standard_normal(size).astype(array.dtype)
    tolerance = 1e-6 if array.dtype == np.float32 else 1e-11
    vector = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance)[1][:, 0]
    left = torch.as_tensor(vector, dtype=matrix.dtype, device=matrix.device)
    right = wide.T @ left
    value = float(torch.linalg.vector_norm(right))
    right = right / value
    return (value, left, right) if wide is matrix else (value, right, left)


def alignment(upper: Tensor, lower: Tensor) -> float:
    """``|A B|_F / (|A|_F |B|_F)``: 1 for aligned rank-one layers, 1/sqrt(c) in rms for independent ones
    (c shared units).

    Computed as ``sqrt(tr(A'A B B'))`` where that is cheaper than the product.
    """
    norms = float(torch.linalg.matrix_norm(upper)) * float(torch.linalg.matrix_norm(lower))
    if not norms:
        return float("nan")
    shared = upper.shape[1]
    if shared < min(upper.shape[0], lower.shape[1]):
        square = float(((upper.T @ upper) * (lower @ lower.T)).sum())
        return float(np.sqrt(max(square, 0.0))) / norms
    return float(torch.linalg.matrix_norm(upper @ lower)) / norms


def singular_cosine(right_of_upper: Tensor, left_of_lower: Tensor) -> float:
    """|cosine| of the upper layer's leading right and the lower layer's leading left singular vectors."""
    return abs(float(right_of_upper @ left_of_lower))


def _ratio(value: float, start: float) -> float:
    return value / start if start else float("nan")


@dataclass
class LayerMeter:
    """Norm growth, movement, stable rank and feature kernels per layer; alignment per adjacent pair.

    ``movement`` is ``|W - W0|_F / |W0|_F`` (RD); ``feature_change`` is ``|G - G0|_F / |G0|_F`` for the
    Gram matrix G of what the layer reads on the probe batch (0 for the first layer, whose features are
    the data).
    """

    network: TorchNetwork
    structure: Structure
    batch: Batch
    memory_limit: float = 1 << 30
    _start: State = field(init=False)
    _grams: dict[str, NDArray[np.float64]] = field(init=False)

    def begin(self, state: State) -> None:
        """Keep the start; ``state`` must own its memory."""
        self._start = state
        self._grams = self._feature_kernels(state)

    def saved(self) -> dict[str, Any]:
        """What goes into a checkpoint besides the states."""
        return {"grams": self._grams}

    def restore(self, saved: Mapping[str, Any], start: State, *_: State) -> None:
        """Go on from a checkpoint."""
        self._start, self._grams = start, saved["grams"]

    def _feature_kernels(self, state: State) -> dict[str, NDArray[np.float64]]:
        """Gram matrices of what the layers read, a few layers, or columns of one, at a time where memory is short."""
        modules = dict(state.body.module.named_modules())
        grams: dict[str, NDArray[np.float64]] = {}
        for group in self._groups(modules, state):
            for name, gram in self._grams_of(group, modules, state).items():
                grams[name] = grams[name] + gram if name in grams else gram
        return grams

    def _groups(self, modules: Mapping[str, Any], state: State) -> list[list[tuple[Layer, slice]]]:
        """Pieces (layer, columns of its features) whose features fit into a quarter of the memory."""
        paths = {layer.path: layer for layer in self.structure.layers}
        with torch.no_grad(), capture({path: modules[path] for path in paths}) as seen:
            self.network.call(state, {}, self.batch.take([0, 0]))
        groups: list[list[tuple[Layer, slice]]] = [[]]
        room = allowed = self.memory_limit / 4
        for path, layer in paths.items():
            if path not in seen or seen[path].inputs.shape[0] != 2:
                continue
            width = seen[path].inputs.numel() // 2
            column = self.batch.samples * seen[path].inputs.element_size()
            step = max(1, min(width, int(allowed // column)))
            for start in range(0, width, step):
                size = column * min(step, width - start)
                if size > room and groups[-1]:
                    groups.append([])
                    room = allowed
                room -= size
                groups[-1].append((layer, slice(start, start + step)))
        return groups if groups[0] else []

    def _grams_of(
        self, group: list[tuple[Layer, slice]], modules: Mapping[str, Any], state: State
    ) -> dict[str, NDArray[np.float64]]:
        parts: dict[str, list[Tensor]] = {layer.name: [] for layer, _ in group}
        chosen = {layer.path: modules[layer.path] for layer, _ in group}
        routed: set[str] = set()  # to layers that read some of the samples only: their features have no such matrix
        for part in self.batch.parts(self.network.chunk):
            with torch.no_grad(), capture(chosen) as seen:
                self.network.call(state, {}, part)
            for layer, columns in group:
                if layer.path not in seen or seen[layer.path].inputs.shape[0] != part.samples:
                    routed.add(layer.name)
                    continue
                read = seen[layer.path].inputs.detach().reshape(part.samples, -1)
                parts[layer.name].append(self.network.wide(read[:, columns]).clone())
        grams = {}
        for name, pieces in parts.items():
            if name in routed:
                continue
            flat = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
            grams[name] = (flat @ flat.T).cpu().numpy().astype(np.float64)
        return grams

    def measure(self, state: State) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """One mapping per layer and one per pair, in the order of the structure."""
        weights = {layer.weight for layer in self.structure.layers}
        values, origin = (
            {name: self.network.wide(s.parameters[name]) for name in weights} for s in (state, self._start)
        )
        grams = self._feature_kernels(state)
        leading = {}
        layers = []
        for layer in self.structure.layers:
            weight, start = layer.matrix(values), layer.matrix(origin)
            norm, norm0 = (float(torch.linalg.matrix_norm(m)) for m in (weight, start))
            leading[layer.name] = leading_pair(weight)
            top = leading[layer.name][0]
            change = float("nan")
            if layer.name in grams and layer.name in self._grams:
                before = self._grams[layer.name]
                change = _ratio(float(np.linalg.norm(grams[layer.name] - before)), float(np.linalg.norm(before)))
            layers.append(
                {
                    "norm": norm,
                    "norm_growth": _ratio(norm, norm0),
                    "movement": _ratio(float(torch.linalg.matrix_norm(weight - start)), norm0),
                    "stable_rank": _ratio(norm, top) ** 2,
                    "feature_change": change,
                }
            )
        pairs = []
        for pair in self.structure.pairs:
            upper, lower = pair.matrices(values)
            same = upper.shape == pair.upper.matrix(values).shape
            right = leading[pair.upper.name][2] if same else leading_pair(upper)[2]
            pairs.append(
                {
                    "alignment": alignment(upper, lower),
                    "singular_cosine": singular_cosine(right, leading[pair.lower.name][1]),
                }
            )
        return layers, pairs
