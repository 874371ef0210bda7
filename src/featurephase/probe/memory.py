"""How many bytes of tensors a computation holds at once, seen from inside torch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from featurephase.probe.trees import Batch


def stored(tensor: Any) -> list[Any]:
    """The plain tensors that hold a tensor's numbers: itself, or indices and values of a sparse one."""
    if tensor.layout is torch.strided:
        return [tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]


def stored_bytes(tensor: Any) -> int:
    """Bytes of a tensor's numbers, and of its indices if it is sparse."""
    return sum(int(part.nbytes) for part in stored(tensor))


class Watching(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """A mode that looks at what operations make."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep its compiler away from this mode torch would import it, for seconds; nothing is compiled here."""
        return False


class Held(Watching):
    """Within it, ``now`` and ``peak`` are the bytes of the storages that operations made and that still live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self.largest = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(value, torch.Tensor) and value.device.type != "meta" and value.layout is torch.strided:
                self._note(value.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        known = self._known.get(key)
        if known is not None and known() is not None:
            return
        self._known[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)
        self.largest = max(self.largest, size)

    def _forget(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


def peak_bytes(compute: Callable[[], Any]) -> int:
    """The most bytes of new tensors that ``compute`` holds at once."""
    with Held() as held:
        compute()
    return int(held.peak)


@dataclass(frozen=True)
class SampleCost:
    """Bytes that a computation holds at most, as a straight line in its samples."""

    base: float
    slope: float

    @classmethod
    def measured(cls, compute: Callable[[Batch], Any], batch: Batch, limit: float = float("inf")) -> SampleCost:
        """From one sample and from two; from one alone where two might take more than the limit."""
        one = peak_bytes(lambda: compute(batch.take([0])))
        if 2 * one > limit:
            return cls(0, one)
        two = peak_bytes(lambda: compute(batch.take([0, 0])))
        slope = max(two - one, 1)
        return cls(max(one - slope, 0), slope)

    def at(self, samples: int) -> int:
        """Bytes for that many samples."""
        return int(self.base + self.slope * samples)

    def samples(self, limit: float) -> int:
        """The most samples that fit."""
        return int((limit - self.base) // self.slope)
