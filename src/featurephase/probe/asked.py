"""What the user hands to a probe, read once: targets and their codes, learning rates, decay, batches of data."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from featurephase.foundation.errors import InputError
from featurephase.probe.functional import State, Tensor, TorchNetwork
from featurephase.probe.trees import Batch, rows_of

#: Data sets that wrap data sets are looked into so deep.
_NESTED = 4


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
        _require_own(network, rates, "rates")
        warming = not any(float(g["lr"]) for g in rates.param_groups)
        warming &= any(float(g.get("initial_lr", 0.0)) for g in rates.param_groups)
        note = "rates: the learning rates warm up from 0; the optimiser's initial_lr were taken" if warming else ""
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


def _require_own(network: TorchNetwork, optimiser: torch.optim.Optimizer, key: str) -> None:
    if not any(_held(network, group) for group in optimiser.param_groups):
        raise InputError(f"{key}: the optimiser holds none of the model's parameters: is it another model's?")


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
        _require_own(network, decay, "weight_decay")
        if _decoupled(decay):
            raise InputError(
                f"weight_decay: {type(decay).__name__} shrinks the weights beside the loss, so that its decay is part "
                "of no Hessian; give a number if its L2 term is wanted all the same"
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


def _decoupled(optimiser: torch.optim.Optimizer) -> bool:
    """Whether weights shrink beside the gradient rather than through it."""
    kinds = tuple(getattr(torch.optim, name) for name in ("AdamW", "Adafactor") if hasattr(torch.optim, name))
    return isinstance(optimiser, kinds) or any(g.get("decoupled_weight_decay") for g in optimiser.param_groups)


@dataclass
class DataBatches:
    """Batches (inputs, targets) of the user's, e.g. a DataLoader, gone through as often as is needed.

    Every pass sees the same: the random state, and that of generators of the loader and of its data set, starts from
    the same point and is put back afterwards.
    """

    network: TorchNetwork
    source: Iterable[Any]
    _sizes: list[int]
    _seen: list[list[float]]

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
        batches = cls(network, source, [], [])
        for batch, _ in batches._pass():
            batches._sizes.append(batch.samples)
            batches._seen.append(_sums(batch))
        if not batches._sizes:
            raise InputError("hessian_data: no batches")
        return batches

    def require_means(self, state: State) -> None:
        """Refuse a loss of which that of all samples cannot be had from its batches.

        Raises
        ------
        InputError
            If the loss of a batch is not the mean of those of its halves (a sum, class weights, labels to be ignored),
            or a second pass gives other data.
        """
        if len(self) == 1:
            return
        for number, (batch, targets, _) in enumerate(self):
            if _sums(batch) != self._seen[number]:
                raise InputError(
                    "hessian_data: a second pass gives other data (random numbers of its own?): give a list of batches"
                )
            half, samples = batch.samples // 2, batch.samples
            if half and not self._is_mean(state, batch, targets, (range(half), range(half, samples))):
                raise InputError(
                    "hessian_data: the loss of a batch is not the mean over its samples (reduction='sum', class "
                    "weights, labels to be ignored?), so that the loss of several batches is not known; give all "
                    "samples as one batch, or a loss that is the mean over samples"
                )

    def _is_mean(self, state: State, batch: Batch, targets: Any, halves: tuple[range, range]) -> bool:
        network = self.network
        with torch.no_grad():
            whole = float(network.loss_at(state, {}, batch, targets))
            try:
                parts = [
                    float(network.loss_at(state, {}, batch.take(rows), rows_of(targets, batch.samples, rows)))
                    for rows in halves
                ]
            except Exception:  # the user's loss runs in there, and may want a whole batch
                return True
        mean = sum(part * len(rows) for part, rows in zip(parts, halves, strict=True)) / batch.samples
        size = abs(whole) + sum(map(abs, parts))
        return not math.isfinite(size) or abs(whole - mean) <= network.allowed(1e3) * size

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[tuple[Batch, Any, float]]:
        total = sum(self._sizes)
        for batch, targets in self._pass():
            yield batch, targets, batch.samples / total

    def _pass(self) -> Iterator[tuple[Batch, Any]]:
        generators = _generators(self.source)
        before = [_state_of(g) for g in generators]
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
                _put_back(generator, value)


def _sums(batch: Batch) -> list[float]:
    return [float(tensor.double().sum()) for tensor in batch.tensors if not tensor.is_complex()]


_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def _generators(source: Any) -> list[Any]:
    """Generators that a DataLoader, its samplers and its data set draw from."""
    places = [source, getattr(source, "sampler", None), getattr(source, "batch_sampler", None)]
    places += [getattr(place, "sampler", None) for place in places]
    dataset = getattr(source, "dataset", None)
    for _ in range(_NESTED):  # subsets of transformed data sets, and their transforms
        places += [dataset, getattr(dataset, "transform", None), getattr(dataset, "target_transform", None)]
        dataset = getattr(dataset, "dataset", None)
    held = [value for place in places for value in getattr(place, "__dict__", {}).values()]
    return list({id(g): g for g in held if isinstance(g, _GENERATORS)}.values())


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _put_back(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
