"""What a probe measures and when, as one value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from featurephase.foundation.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """The settings of a probe; every field is a keyword of :class:`~featurephase.probe.Probe`.

    Attributes
    ----------
    schedule
        ``"logarithmic[:K]"``, ``"linear:M"``, ``"demand"`` or a collection of steps; the start and the
        end are always recorded.
    kernel
        ``"exact"``, ``"sketch"``, or ``"auto"``: exact as long as it fits ``memory_limit``.
    draws
        Random directions of the sketch.
    eigenvalues
        Number of top kernel eigenvalues.
    hessian
        When to analyse the Hessian: ``"ends"`` (start and end), ``"all"`` records, ``"none"``.
    hessian_count, hessian_tolerance, hessian_products
        Eigenvalues at either end, the residual asked of Lanczos relative to the largest one, and the most
        Hessian-vector products (the status says if they did not suffice).
    hessian_data
        Batches (inputs, targets) to take the Hessian over, e.g. a DataLoader; default the probe batch.
    weight_decay
        L2 decay that the optimiser adds (a number, numbers by parameter name, or the optimiser): part of the Hessian,
        not of the losses.
    subspace
        Matrix (trainable parameters, r), or mapping name -> (r, \\*shape): overlaps of the Hessian's
        eigenvectors with it.
    telescope_every
        Steps between first-order increments; default one per record.
    effective_parameters
        Also compute them; ``inputs`` must then be the whole training set, the loss squared, and ``rates``
        a plain ``torch.optim.SGD``.
    memory_limit
        Bytes that the probe may take, its copies of the model included.
    dtype
        Floating-point type of the measurements; default the model's own, at least float32.
    seed
        Of the sketch and of Lanczos.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    schedule: str | Collection[int] = "logarithmic"
    kernel: str = "auto"
    draws: int = 64
    eigenvalues: int = 5
    hessian: str = "ends"
    hessian_count: int = 3
    hessian_tolerance: float = 1e-2
    hessian_products: int = 30
    hessian_data: Iterable[Any] | None = None
    weight_decay: float | Mapping[str, float] | torch.optim.Optimizer = 0.0
    subspace: Any = None
    telescope_every: int | None = None
    effective_parameters: bool = False
    memory_limit: int = 1 << 30
    dtype: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hessian not in ("ends", "all", "none"):
            raise InputError(f"hessian {self.hessian!r}: expected 'ends', 'all' or 'none'")
        if self.kernel not in ("auto", "exact", "sketch"):
            raise InputError(f"kernel {self.kernel!r}: expected 'auto', 'exact' or 'sketch'")
        if self.draws < 3:
            raise InputError(f"draws {self.draws}: the sketch and its error need at least 3 random directions")
        counts = (self.eigenvalues, self.hessian_count, self.hessian_products, self.telescope_every or 1)
        if min(counts) < 1 or (self.telescope_every is not None and self.telescope_every < 1):
            raise InputError("eigenvalues, hessian_count, hessian_products and telescope_every must be at least 1")
        if self.dtype is not None and self.dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype {self.dtype}: measured is in torch.float32 or torch.float64")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ProbeOptions:
        """Options from keywords.

        Raises
        ------
        InputError
            If a name is unknown.
        """
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r} of the probe: expected one of {', '.join(known)}")
        return cls(**given)
