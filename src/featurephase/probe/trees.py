"""Inputs, outputs and targets of any form: tensors in tuples, lists, mappings and dataclasses.

``torch.utils._pytree`` does the same for registered classes, but its name says that it is private, and it knows no
dataclasses.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from featurephase.foundation.errors import InputError


def transform(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree with ``change`` applied to every leaf (whatever is not a container)."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(transform(change, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(transform(change, value) for value in tree)
    if isinstance(tree, Mapping):
        values = {key: transform(change, value) for key, value in tree.items()}
        if type(tree) is dict:
            return values
        like: Any = copy.copy(tree)
        for key, value in values.items():
            like[key] = value
        return like
    if is_dataclass(tree) and not isinstance(tree, type):
        same: Any = copy.copy(tree)
        for entry in fields(tree):
            object.__setattr__(same, entry.name, transform(change, getattr(tree, entry.name)))
        return same
    return change(tree)


def leaves(tree: Any, name: str = "") -> list[tuple[str, Any]]:
    """All leaves with their names, e.g. ``"mask"`` or ``"0.logits"``."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        items: Any = zip(tree._fields, tree, strict=True)
    elif isinstance(tree, (tuple, list)):
        items = enumerate(tree)
    elif isinstance(tree, Mapping):
        items = tree.items()
    elif is_dataclass(tree) and not isinstance(tree, type):
        items = [(entry.name, getattr(tree, entry.name)) for entry in fields(tree)]
    else:
        return [(name, tree)]
    return [leaf for key, part in items for leaf in leaves(part, f"{name}.{key}" if name else str(key))]


def as_tensors(tree: Any, what: str) -> Any:
    """Arrays become tensors; a tree without any tensor is refused."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            if leaf.dtype.kind not in "biufc":
                raise InputError(f"{what}: expected numbers, not an array of {leaf.dtype}")
            return torch.from_numpy(np.array(leaf))  # a copy: the array may be read-only or refilled
        if isinstance(leaf, np.generic):
            return torch.as_tensor(leaf.item())
        return leaf

    if isinstance(tree, list) and tree and all(isinstance(value, (int, float, list)) for value in tree):
        tree = np.asarray(tree)  # numbers written down as nested lists
    converted = transform(convert, tree)
    if not any(isinstance(leaf, torch.Tensor) for _, leaf in leaves(converted)):
        raise InputError(
            f"{what}: expected a tensor or array, or a tuple, list, dict or dataclass that holds some, "
            f"not {type(tree).__name__}"
        )
    if any(leaf.is_nested for leaf in tensors_of(converted)):
        raise InputError(f"{what}: nested tensors have no shape that samples could be told from; give padded ones")
    return converted


@dataclass(frozen=True)
class Batch:
    """Samples as the model takes them: any tree of tensors, of which some have one row per sample."""

    tree: Any  # what the model is called with
    samples: int  # N
    batched: tuple[bool, ...]  # per tensor: whether its first dimension runs over the samples; the others are shared

    @classmethod
    def of(cls, tree: Any, what: str) -> Batch:
        """N is the first dimension that most tensors share (the earliest of equally frequent ones).

        Raises
        ------
        InputError
            If no tensor has a first dimension, or there are no samples.
        """
        tensors = tensors_of(tree)
        sizes = [leaf.shape[0] for leaf in tensors if leaf.dim()]
        samples = int(Counter(sizes).most_common(1)[0][0]) if sizes else 0
        if samples == 0:
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tensors)
            raise InputError(f"{what} must have samples in the first dimension, not shape {shapes}")
        return cls(tree, samples, tuple(leaf.dim() > 0 and leaf.shape[0] == samples for leaf in tensors))

    @property
    def tensors(self) -> list[Any]:
        """The tensors of the tree, in order."""
        return tensors_of(self.tree)

    @property
    def device(self) -> Any:
        """Where the first tensor lives."""
        return self.tensors[0].device

    def with_tensors(self, tensors: list[Any], samples: int) -> Batch:
        """The same form with other tensors."""
        rest = iter(tensors)
        tree = transform(lambda leaf: next(rest) if isinstance(leaf, torch.Tensor) else leaf, self.tree)
        return Batch(tree, samples, self.batched)

    def take(self, rows: list[int] | range) -> Batch:
        """Some samples, by number (repeated as often as named); what all share is kept."""
        index = torch.as_tensor(list(rows), device=self.device)
        whole = rows == range(self.samples)
        parts = [t[index] if own and not whole else t for t, own in zip(self.tensors, self.batched, strict=True)]
        return self.with_tensors(parts, len(rows))

    def parts(self, size: int) -> list[Batch]:
        """The samples in parts of at most this size; 0: all at once."""
        step = size or self.samples
        if step >= self.samples:
            return [self]
        return [self.take(range(i, min(i + step, self.samples))) for i in range(0, self.samples, step)]

    def cat(self, other: Batch) -> Batch:
        """The samples of both."""
        pairs = zip(self.tensors, other.tensors, self.batched, strict=True)
        parts = [torch.cat([a, b]) if own else a for a, b, own in pairs]
        return self.with_tensors(parts, self.samples + other.samples)

    def cast(self, dtype: torch.dtype) -> Batch:
        """Floating-point tensors in another type."""
        return self.with_tensors([t.to(dtype) if t.is_floating_point() else t for t in self.tensors], self.samples)

    def copied(self) -> Any:
        """The tree on clones of its tensors."""
        return self.with_tensors([t.clone() for t in self.tensors], self.samples).tree


def rows_of(targets: Any, samples: int, rows: range) -> Any:
    """Some rows of all tensors that have one for each of the samples."""
    return transform(
        lambda leaf: (
            leaf[rows.start : rows.stop]
            if isinstance(leaf, torch.Tensor) and leaf.dim() and len(leaf) == samples
            else leaf
        ),
        targets,
    )


def tensors_of(tree: Any) -> list[Any]:
    """The tensors among the leaves."""
    return [leaf for _, leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]
