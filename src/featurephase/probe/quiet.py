"""Global state of Python and torch, set aside for the time of a measurement and put back."""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint
from torch.nn.attention import SDPBackend, sdpa_kernel

_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")


class _Direct:
    """Stands in for torch's re-entrant checkpoint: the function is called, and nothing is recomputed."""

    @staticmethod
    def apply(function: Any, _preserve_random_state: bool, *args: Any) -> Any:
        return function(*args)


def _direct(*_: Any, **__: Any) -> Iterator[None]:
    """Stands in for torch's other checkpoint: a generator of two steps that does nothing."""
    yield


@contextmanager
def _exchanged(place: Any, values: dict[str, Any]) -> Iterator[None]:
    """Attributes of a module exchanged; those that this version of torch does not have are left alone."""
    before = {name: getattr(place, name) for name in values if hasattr(place, name)}
    try:
        for name in before:
            setattr(place, name, values[name])
        yield
    finally:
        for name, value in before.items():
            setattr(place, name, value)


@contextmanager
def _random_state() -> Iterator[None]:
    own, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's forward may use it
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002


@contextmanager
def _plain_attention() -> Iterator[None]:
    """The layer-by-layer form of attention: the fused ones have no second derivatives, nested tensors no shape."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Random state, gradient modes, autocast, checkpointing, compilation and global hooks set aside."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        enter(_random_state())
        enter(torch.inference_mode(False))
        enter(torch.enable_grad())
        enter(torch.autocast(device.type, enabled=False))
        enter(_plain_attention())
        # Recomputed activations save memory in training only, and bring derivatives beyond the first to fall.
        direct = {"CheckpointFunction": _Direct, "_checkpoint_without_reentrant_generator": _direct}
        enter(_exchanged(torch.utils.checkpoint, direct))
        enter(_exchanged(torch.nn.modules.module, {name: {} for name in _GLOBAL_HOOKS}))
        if "torch._dynamo" in sys.modules:  # something was compiled: run it as it was written
            enter(torch.compiler.set_stance("force_eager"))
        enter(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
