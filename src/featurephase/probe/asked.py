"""What the user hands to a probe, read once: targets and their codes, learning rates, decay, batches of data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featurephase.foundation.errors import InputError
from featurephase.probe.functional import State, Tensor, TorchNetwork
from featurephase.probe.trees import Batch


def label_codes(targets: Any, outputs: Tensor) -> tuple[Tensor | None, str]:
    """(N, C) codes that a kernel can be aligned with, or None and the reason why the targets are none."""
    rows, columns = outputs.shape
    if not isinstance(targets, torch.Tensor):
        return None, "the targets are not one tensor"
    if targets.dim() == 0 or targets.shape[0] != rows:
        return None, f"targets of shape {tuple(targets.shape)} for {rows} inputs"
    values = targets.reshape(rows, -1)
    if values.is_complex():
        return None, "the targets are complex"
    if values.is_floating_point() or columns == 1:
        if values.shape[1] != columns:
            return None, f"{values.shape[1]} values a sample for {columns} outputs"
        return values.to(outputs), ""
    if values.shape[1] != 1:
        return None, f"{values.shape[1]} labels a sample for {columns} outputs"
    if int(values.min()) < 0 or int(values.max()) >= columns:
        return None, f"classes are not 0..{columns - 1}, the number of outputs less one"
    return nn.functional.one_hot(values[:, 0].long(), columns).to(outputs) - 1.0 / columns, ""


def learning_rates(network: TorchNetwork, state: State, rates: Any) -> tuple[dict[str, float], str]:
    """Learning rate per parameter name, and a note if they are not those that the optimiser has now.

    Raises
    ------
    InputError
        If a name is unknown or a rate is negative or not finite.
    """
    if rates is None:
        return {}, ""
    if isinstance(rates, Mapping):
        unknown = sorted(set(rates) - set(state.parameters))
        if unknown:
            raise InputError(f"rates: unknown parameters {unknown}; trainable are {', '.join(state.names)}")
        chosen, note = {name: float(value) for name, value in rates.items()}, ""
    elif isinstance(rates, torch.optim.Optimizer):
        warming = any(not float(g["lr"]) and float(g.get("initial_lr", 0.0)) for g in rates.param_groups)
        note = "rates: a learning rate warms up from 0; the optimiser's initial_lr were taken" if warming else ""
        chosen = dict.fromkeys(state.parameters, 0.0)  # what the optimiser does not hold does not move
        for group in rates.param_groups:
            rate = float(group.get("initial_lr", group["lr"]) if warming else group["lr"])
            chosen |= dict.fromkeys(_held(network, group), rate)
        if not any(chosen.values()):
            return {}, "rates: every learning rate of the optimiser is 0; the kernel is that of equal rates"
    else:
        raise InputError(f"rates: expected an optimiser or a mapping of names, not {type(rates).__name__}")
    bad = {name: value for name, value in chosen.items() if not (math.isfinite(value) and value >= 0)}
    if bad:
        raise InputError(f"rates: learning rates must be finite and not negative, not {bad}")
    if not any(chosen.get(name, 1.0) for name in state.names):
        raise InputError(
            "rates: every trainable parameter has rate 0; give the rates that training will have, as a mapping from "
            "parameter names, or leave rates out for equal ones"
        )
    return chosen, note


def _held(network: TorchNetwork, group: Mapping[str, Any]) -> list[str]:
    """Names of the parameters of an optimiser's group."""
    names = {id(value): name for name, value in network.model.named_parameters()}
    return [names[id(value)] for value in group["params"] if id(value) in names]


def weight_decays(network: TorchNetwork, state: State, decay: Any) -> dict[str, float]:
    """L2 decay per parameter name.

    Raises
    ------
    InputError
        If a name is unknown or a decay is not a finite number.
    """
    if isinstance(decay, torch.optim.Optimizer):
        if isinstance(decay, torch.optim.AdamW):
            raise InputError(
                "weight_decay: AdamW shrinks the weights beside the loss, so that its decay is part of no Hessian; "
                "give a number if its L2 term is wanted all the same"
            )
        chosen: dict[str, float] = {}
        for group in decay.param_groups:
            chosen |= dict.fromkeys(_held(network, group), float(group.get("weight_decay", 0.0)))
    elif isinstance(decay, Mapping):
        unknown = sorted(set(decay) - set(state.parameters))
        if unknown:
            raise InputError(f"weight_decay: unknown parameters {unknown}")
        chosen = {name: float(value) for name, value in decay.items()}
    elif isinstance(decay, (int, float)):
        chosen = dict.fromkeys(state.parameters, float(decay)) if decay else {}
    else:
        raise InputError(f"weight_decay: expected a number, a mapping or an optimiser, not {type(decay).__name__}")
    if any(not math.isfinite(value) for value in chosen.values()):
        raise InputError("weight_decay must be finite")
    return {name: value for name, value in chosen.items() if value}


@dataclass
class DataBatches:
    """Batches (inputs, targets) of the user's, e.g. a DataLoader, gone through as often as is needed.

    Every pass sees the same: the random state, and that of the loader's own generators, starts from the same point
    and is put back afterwards.
    """

    network: TorchNetwork
    source: Iterable[Any]
    _sizes: list[int]

    @classmethod
    def of(cls, network: TorchNetwork, source: Iterable[Any]) -> DataBatches:
        """Count the samples.

        Raises
        ------
        InputError
            If it can be gone through once only, is empty, or does not hold pairs (inputs, targets).
        """
        if isinstance(source, Iterator):
            raise InputError("hessian_data: it can be gone through once only; give the loader or a list of batches")
        batches = cls(network, source, [])
        batches._sizes = [batch.samples for batch, _ in batches._pass()]
        if not batches._sizes:
            raise InputError("hessian_data: no batches")
        return batches

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[tuple[Batch, Any, float]]:
        total = sum(self._sizes)
        for batch, targets in self._pass():
            yield batch, targets, batch.samples / total

    def _pass(self) -> Iterator[tuple[Batch, Any]]:
        generators = _generators(self.source)
        before = [g.get_state() for g in generators]
        state = torch.get_rng_state()
        torch.manual_seed(0)
        try:
            for item in self.source:
                if not (isinstance(item, (tuple, list)) and len(item) == 2):
                    what = f"{len(item)} parts" if isinstance(item, (tuple, list)) else type(item).__name__
                    raise InputError(f"hessian_data: batches must be pairs (inputs, targets), not {what}")
                inputs = self.network.own(item[0], "hessian_data")
                yield Batch.of(inputs, "hessian_data"), self.network.own(item[1], "hessian_data")
        finally:
            torch.set_rng_state(state)
            for generator, value in zip(generators, before, strict=True):
                generator.set_state(value)


def _generators(source: Any) -> list[torch.Generator]:
    """Generators that a DataLoader and its samplers draw from."""
    places = [source, getattr(source, "sampler", None), getattr(source, "batch_sampler", None)]
    places += [getattr(place, "sampler", None) for place in places]
    generators = [getattr(place, "generator", None) for place in places]
    return list({id(g): g for g in generators if isinstance(g, torch.Generator)}.values())
