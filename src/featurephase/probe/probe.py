"""The probe: attach it to any PyTorch training loop, and see how the network learns its features."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from featurephase.foundation.errors import InputError
from featurephase.probe.functional import Network, State, Tensor
from featurephase.probe.hessian import LossFunction, extreme_eigenvalues, orthonormal_subspace
from featurephase.probe.kernel import KernelMeter
from featurephase.probe.layers import LayerMeter
from featurephase.probe.mechanisms import MECHANISMS, MechanismMeter, latent_coordinates
from featurephase.probe.result import ProbeResult
from featurephase.probe.schedule import make_schedule
from featurephase.probe.structure import find_structure
from featurephase.probe.telescoping import (
    SmootherMeter,
    TelescopingMeter,
    check_smoother,
    quadratic_curvature,
)
from featurephase.probe.verdict import decide

__all__ = ["Probe"]


class Probe:
    """Measures, at chosen steps of a training loop, in which phase a network is and by which mechanism it
    changes.

    The model is only ever read: it is evaluated through a structural copy in evaluation mode, so that its
    hooks, gradients, modes, buffers and random state stay as they are, bit for bit.

    Parameters
    ----------
    model
        Any module from one tensor (samples first) to one tensor.
    inputs
        The probe batch, N samples; 32 to 128 training points are usual.
    targets
        Labels of the probe batch: class numbers (N,), or real responses (N,) or (N, C). Needed for the
        label alignment, and with ``loss`` for the losses and the Hessian.
    loss
        ``loss(outputs, targets)`` -> mean loss.
    heldout, heldout_targets
        Points the network is not trained on, for the telescoping approximation; default the probe batch.
    rates
        The optimiser, or learning rates by parameter name: weights of the kernel (and read once). Default
        1 for all.
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
        When to analyse the Hessian on the probe batch: ``"ends"`` (start and end), ``"all"`` records,
        ``"none"``.
    hessian_count, hessian_tolerance, hessian_products
        Eigenvalues at either end, the residual asked of Lanczos relative to the largest one, and the most
        Hessian-vector products (the status says if they did not suffice).
    subspace
        Matrix (trainable parameters, r), or mapping name -> (r, \\*shape): overlaps of the Hessian's
        eigenvectors with it.
    telescope_every
        Steps between first-order increments; default one per record.
    effective_parameters
        Also compute them; ``inputs`` must then be the whole training set, the loss squared, and ``rates``
        a plain ``torch.optim.SGD``.
    memory_limit
        Bytes that the kernel, and the basis of the Lanczos method, may take.
    dtype
        Floating-point type of the measurements; default the model's own, at least float32.
    seed
        Of the sketch and of Lanczos.

    Raises
    ------
    InputError
        If the network or the data cannot be measured; the message says why.

    Examples
    --------
    >>> with Probe(model, x, y, loss=loss) as probe:  # doctest: +SKIP
    ...     for batch in loader:
    ...         train_on(batch)
    ...         probe.step()
    >>> print(probe.result().table())  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor | None = None,
        *,
        loss: LossFunction | None = None,
        heldout: Tensor | None = None,
        heldout_targets: Tensor | None = None,
        rates: torch.optim.Optimizer | Mapping[str, float] | None = None,
        schedule: str | Collection[int] = "logarithmic",
        kernel: str = "auto",
        draws: int = 64,
        eigenvalues: int = 5,
        hessian: str = "ends",
        hessian_count: int = 3,
        hessian_tolerance: float = 1e-2,
        hessian_products: int = 30,
        subspace: Any = None,
        telescope_every: int | None = None,
        effective_parameters: bool = False,
        memory_limit: int = 1 << 30,
        dtype: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        self._born = clock.perf_counter()
        self._spent = 0.0
        if hessian not in ("ends", "all", "none"):
            raise InputError(f"hessian {hessian!r}: expected 'ends', 'all' or 'none'")
        if kernel not in ("auto", "exact", "sketch"):
            raise InputError(f"kernel {kernel!r}: expected 'auto', 'exact' or 'sketch'")
        if draws < 3:
            raise InputError(f"draws {draws}: the sketch and its error need at least 3 random directions")
        if eigenvalues < 1 or hessian_count < 1 or (telescope_every is not None and telescope_every < 1):
            raise InputError("eigenvalues, hessian_count and telescope_every must be at least 1")
        self._due = make_schedule(schedule)
        self._network = network = Network(model, dtype)
        self._seed, self._hessian_when, self._loss = seed, hessian, loss
        self._hessian_options: dict[str, Any] = {
            "count": hessian_count,
            "tolerance": hessian_tolerance,
            "seed": seed,
            "max_products": hessian_products,
            "memory_limit": memory_limit,
        }
        self._telescope_every = telescope_every
        self._step = 0
        self._times: list[float] = []
        self._rows: list[dict[str, Any]] = []
        self._hessians: list[dict[str, Any]] = []
        self._status, self._message = "ok", ""
        self._notes: list[str] = []
        with network.isolated():
            self._inputs = network.cast(_tensor(inputs, "inputs"))
            network.check(self._inputs)
            own_heldout = heldout is not None
            self._heldout = network.cast(_tensor(heldout, "heldout")) if own_heldout else self._inputs
            if own_heldout:
                network.check(self._heldout)
            self._start = self._previous = state = network.state().copy()
            self._outputs = network.evaluate(state, self._inputs)
            self._targets, self._labels = self._read_targets(targets, self._outputs)
            self._heldout_targets = (
                self._read_targets(heldout_targets, network.evaluate(state, self._heldout))[0]
                if own_heldout
                else self._targets
            )
            self._rates = _rates(network, rates)
            self._structure = find_structure(network, state, self._inputs)
            self._subspace = None if subspace is None else orthonormal_subspace(network, subspace)
            self._kernel = KernelMeter(
                network,
                self._inputs,
                self._labels,
                self._rates,
                kernel,
                draws,
                eigenvalues,
                memory_limit,
                seed,
            )
            self._layers = LayerMeter(network, self._structure, self._inputs)
            latent = latent_coordinates(network, self._structure, state, self._inputs, self._rates)
            self._mechanisms = MechanismMeter(network, self._structure, self._inputs, latent)
            self._telescoping = TelescopingMeter(network, self._heldout)
            self._smoother = self._make_smoother(rates, memory_limit) if effective_parameters else None
            self._note_limits(own_heldout)
            self._kernel.begin(state)
            self._layers.begin(state)
            self._telescoping.begin(state)
            if self._smoother:
                self._smoother.begin(state, 0)
        self._spent += clock.perf_counter() - self._born
        self.record()

    def _note_limits(self, own_heldout: bool) -> None:
        """Name what the numbers will not cover."""
        names = self._network.names
        frozen = [n for n, p in self._network.model.named_parameters() if n not in names]
        if frozen:
            self._notes.append(f"frozen parameters (held fixed, outside kernel and Hessian): {', '.join(frozen)}")
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self._network.shadow.modules()):
            self._notes.append(
                "batch normalisation: measured with its running statistics; their drift moves the network "
                "outside the telescoping increments"
            )
        if not own_heldout:
            self._notes.append("no held-out points given: telescoping is measured on the probe batch")
        if self._hessian_when != "none" and (self._loss is None or self._targets is None):
            self._notes.append("no loss or no targets given: no losses and no Hessian")

    def _read_targets(self, targets: Any, outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The targets as the loss wants them, and as (N, C) codes for the kernel's alignment."""
        if targets is None:
            return None, None
        values = self._network.cast(_tensor(targets, "targets"))
        rows, columns = outputs.shape
        if values.dim() == 0 or values.shape[0] != rows:
            raise InputError(f"targets: shape {tuple(values.shape)} for {rows} inputs")
        if not values.is_floating_point() and values.dim() == 1:
            if columns == 1:
                return values, self._network.cast(values.to(self._network.dtype))[:, None]
            if int(values.min()) < 0 or int(values.max()) >= columns:
                raise InputError(f"targets: classes must be 0..{columns - 1}, the number of outputs less one")
            codes = nn.functional.one_hot(values.long(), columns).to(self._network.dtype)
            return values, codes - 1.0 / columns
        codes = values.to(self._network.dtype).reshape(rows, -1)
        if codes.shape[1] != columns:
            raise InputError(f"targets: {codes.shape[1]} values a sample for {columns} outputs")
        return values, codes

    def _make_smoother(self, rates: Any, memory_limit: int) -> SmootherMeter:
        """Check all that effective parameters presuppose."""
        if not isinstance(rates, torch.optim.SGD) or any(
            group["momentum"] or group["weight_decay"] or group.get("dampening") for group in rates.param_groups
        ):
            raise InputError(
                "effective parameters need rates=optimizer, a torch.optim.SGD without momentum and weight "
                "decay: only then is the network a smoother of its labels"
            )
        if self._loss is None or self._targets is None:
            raise InputError("effective parameters need targets and a loss")
        found = quadratic_curvature(self._shaped_loss, self._outputs, self._targets)
        if found is None:
            raise InputError(
                "effective parameters are defined for squared loss; this one is not quadratic in the outputs"
            )
        rows = (self._inputs.shape[0] + self._heldout.shape[0]) * self._outputs.shape[1]
        check_smoother(self._network, rows, memory_limit)
        return SmootherMeter(self._network, self._inputs, self._heldout, found[0], self._rates)

    def _shaped_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The user's loss on outputs in the shape the model returns them: (N,) where targets are real
        (N,)."""
        assert self._loss is not None
        if targets.is_floating_point() and targets.shape != outputs.shape:
            outputs = outputs.reshape(targets.shape)
        return self._loss(outputs, targets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    def step(self, *_: Any, **__: Any) -> None:
        """Count one training step, and record if the schedule says so; call it after the optimiser's step.

        Takes and ignores any arguments, so that it can serve as a callback.
        """
        self._step += 1
        if self._due(self._step):
            self.record()
        elif self._telescope_every and self._step % self._telescope_every == 0 and self._status == "ok":
            begin = clock.perf_counter()
            with self._network.isolated():
                self._advance(self._network.state().copy(), self._step)
            self._spent += clock.perf_counter() - begin

    def _advance(self, owned: State, at: float) -> None:
        self._telescoping.advance(owned)
        if self._smoother:
            self._smoother.advance(owned, int(at))

    def record(self, time: float | None = None) -> None:
        """Record now. ``time`` replaces the step count, e.g. the time of a gradient flow."""
        begin = clock.perf_counter()
        at = float(self._step if time is None else time)
        if self._times and at <= self._times[-1]:
            if at == self._times[-1]:
                return
            raise InputError(f"record at time {at:g} after {self._times[-1]:g}: times must increase")
        if self._status != "ok":
            return
        with self._network.isolated():
            first = not self._times
            state = self._start if first else self._network.state()
            outputs = self._network.evaluate(state, self._inputs)
            if not bool(torch.isfinite(outputs).all()):
                self._status = f"diverged at step {at:g}"
                self._message = (
                    f"the network's outputs are not finite at step {at:g}; nothing is recorded from there on"
                )
                return
            row: dict[str, Any] = {"kernel": self._kernel.measure(state)}
            row["layers"], row["pairs"] = self._layers.measure(state)
            previous = None if first else self._previous
            row["mechanisms"] = self._mechanisms.measure(state, previous, row["kernel"]["trace"])
            owned = state if first else state.copy()
            if not first:
                self._advance(owned, at)
            row["telescoping"] = self._telescoping.measure(state)
            if self._smoother:
                row["telescoping"] |= self._smoother.measure()
            row["loss"] = self._loss_at(outputs, self._targets)
            on_heldout = self._network.evaluate(state, self._heldout)
            row["heldout_loss"] = self._loss_at(on_heldout, self._heldout_targets)
            self._previous = owned
            self._times.append(at)
            self._rows.append(row)
            if self._hessian_when == "all" or (self._hessian_when == "ends" and first):
                self._analyse_hessian(state, at)
        self._spent += clock.perf_counter() - begin

    def _loss_at(self, outputs: Tensor, targets: Tensor | None) -> float:
        if self._loss is None or targets is None:
            return float("nan")
        with torch.no_grad():
            return float(self._shaped_loss(outputs, targets))

    def _analyse_hessian(self, state: State, at: float) -> None:
        if self._loss is None or self._targets is None:
            return
        found = extreme_eigenvalues(
            self._network,
            state,
            self._shaped_loss,
            self._inputs,
            self._targets,
            subspace=self._subspace,
            **self._hessian_options,
        )
        words = "" if found["status"] == "ok" else f"Hessian at step {at:g}: {found['status']}"
        self._hessians.append({"time": at, **found, "message": words})

    def close(self) -> None:
        """Record the end and analyse the Hessian there; leaving the ``with`` block does this."""
        if self._times and self._step > self._times[-1]:
            self.record()
        begin = clock.perf_counter()
        analysed = bool(self._hessians) and self._hessians[-1]["time"] == self._times[-1]
        if self._hessian_when == "ends" and self._status == "ok" and not analysed:
            with self._network.isolated():
                self._analyse_hessian(self._network.state(), self._times[-1])
        self._spent += clock.perf_counter() - begin

    def result(self) -> ProbeResult:
        """All that was recorded so far."""
        times = np.array(self._times)

        def series(*path: Any) -> Any:
            values = self._rows
            for key in path:
                values = [row[key] for row in values]
            return np.array(values, dtype=float)

        kernel = {name: series("kernel", name) for name in self._rows[0]["kernel"]}
        layers = tuple(
            {
                "name": layer.name,
                "kind": layer.kind,
                "shape": list(self._network.model.get_parameter(layer.weight).shape),
                **{key: series("layers", i, key) for key in self._rows[0]["layers"][i]},
            }
            for i, layer in enumerate(self._structure.layers)
        )
        pairs = tuple(
            {
                "lower": pair.lower.name,
                "upper": pair.upper.name,
                "units": pair.shared,
                "baseline": 1.0 / math.sqrt(pair.shared),
                **{key: series("pairs", i, key) for key in self._rows[0]["pairs"][i]},
            }
            for i, pair in enumerate(self._structure.pairs)
        )
        over_time = {name: series("mechanisms", name) for name in MECHANISMS}
        traces = kernel["trace"]
        with np.errstate(divide="ignore", invalid="ignore"):
            over_time["log_kernel_ratio"] = np.log(traces / traces[0])
        mechanisms: dict[str, Any] = {name: float(values[-1]) for name, values in over_time.items()}
        movements = {entry["name"]: float(entry["movement"][-1]) for entry in layers}
        verdict = decide(self._times, kernel["change"], kernel["change_se"], mechanisms, movements)
        mechanisms["method"] = self._mechanisms.method
        telescoping = {key: series("telescoping", key) for key in self._rows[0]["telescoping"]}
        status, message = self._status, self._message
        missing = [h["status"] for h in self._hessians if np.isnan(h["largest"]).all()]
        if status == "ok" and missing:
            status, message = "no Hessian eigenvalues", missing[0]
        return ProbeResult(
            status=status,
            message=message,
            seed=self._seed,
            times=times,
            kernel_method=self._kernel.method,
            kernel_change=kernel["change"],
            kernel_change_se=kernel["change_se"],
            kernel_alignment=kernel["alignment"],
            kernel_alignment_se=kernel["alignment_se"],
            label_alignment=kernel["label_alignment"],
            label_alignment_se=kernel["label_alignment_se"],
            kernel_trace=kernel["trace"],
            kernel_trace_se=kernel["trace_se"],
            kernel_eigenvalues=kernel["eigenvalues"],
            kernel_eigenvalues_se=kernel["eigenvalues_se"],
            loss=series("loss"),
            loss_se=series("loss") * 0.0,
            heldout_loss=series("heldout_loss"),
            heldout_loss_se=series("heldout_loss") * 0.0,
            layers=layers,
            pairs=pairs,
            unhandled=(*self._structure.unhandled, *self._network.notes, *self._notes),
            mechanisms=mechanisms,
            mechanisms_over_time=over_time,
            hessian=tuple(self._hessians),
            telescoping=telescoping,
            verdict=verdict,
            cost=self._cost(),
        )

    def _cost(self) -> dict[str, Any]:
        """Seconds spent in the probe, against the loop's own, and the memory it holds at most."""
        network = self._network
        item = torch.finfo(network.dtype).bits // 8
        elapsed = clock.perf_counter() - self._born
        states = 3 * network.size * item  # the start, the last record, a scratch copy
        held = max((entry["products"] for entry in self._hessians), default=0) * network.size * item
        return {
            "records": len(self._times),
            "parameters": network.size,
            "seconds": self._spent,
            "seconds_per_record": self._spent / max(1, len(self._times)),
            "slowdown": self._spent / max(elapsed - self._spent, 1e-9),
            "memory_bytes": states + max(self._kernel.memory, held),
        }


def _tensor(value: Any, what: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what}: expected one tensor or array, not {type(value).__name__}") from error
    return tensor


def _rates(network: Network, rates: Any) -> dict[str, float]:
    """Learning rate per parameter name."""
    if rates is None:
        return {}
    if isinstance(rates, Mapping):
        unknown = sorted(set(rates) - set(network.names))
        if unknown:
            raise InputError(f"rates: unknown parameters {unknown}; trainable are {', '.join(network.names)}")
        found = {name: float(value) for name, value in rates.items()}
    elif isinstance(rates, torch.optim.Optimizer):
        names = {id(value): name for name, value in network.model.named_parameters()}
        found = dict.fromkeys(network.names, 0.0)  # what the optimiser does not hold does not move
        for group in rates.param_groups:
            for value in group["params"]:
                if names.get(id(value)) in found:
                    found[names[id(value)]] = float(group["lr"])
    else:
        raise InputError(f"rates: expected an optimiser or a mapping of names, not {type(rates).__name__}")
    if any(not (math.isfinite(value) and value >= 0) for value in found.values()) or not any(
        found.get(name, 1.0) for name in network.names
    ):
        raise InputError("rates: learning rates must be finite, not negative, and not all zero")
    return found
