"""The probe: attach it to any PyTorch training loop, and see how the network learns its features."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from featurephase.foundation.errors import InputError, one_line
from featurephase.probe.asked import DataBatches, label_codes, learning_rates, weight_decays
from featurephase.probe.assembly import Record, assembled
from featurephase.probe.checks import check_derivatives, check_function, find_hooks
from featurephase.probe.derivatives import Jacobian
from featurephase.probe.functional import Forward, LossFunction, State, Tensor, TorchNetwork
from featurephase.probe.hessian import Objective, Spectrum, extreme_eigenvalues, orthonormal_subspace
from featurephase.probe.kernel import ExactKernel, KernelMeter
from featurephase.probe.layers import LayerMeter
from featurephase.probe.mechanisms import MechanismMeter, latent_coordinates
from featurephase.probe.memory import Held, SampleCost, stored_bytes
from featurephase.probe.options import ProbeOptions
from featurephase.probe.schedule import make_schedule
from featurephase.probe.spectrum import DensityOptions, hessian_spectrum, parameter_blocks
from featurephase.probe.structure import find_structure
from featurephase.probe.telescoping import SmootherMeter, TelescopingMeter, quadratic_curvature
from featurephase.probe.trees import Batch
from featurephase.results.probe import Cost, HessianAnalysis, HessianSpectrum, KernelMatrix, ProbeResult
from featurephase.results.status import NO_EIGENVALUES, OK, Status, diverged, not_measured


class Probe:
    """Measures, at chosen steps of a training loop, in which phase a network is and by which mechanism it
    changes.

    Nothing of the user's is ever run on or written to: model, inputs and targets are copied, and evaluated as copies
    in evaluation mode, so that weights, buffers, attributes, hooks, gradients, modes and random states stay as they
    are, bit for bit. What goes wrong in the training loop becomes the result's status, never an exception there.

    Parameters
    ----------
    model
        Any module.
    inputs
        The probe batch, N samples in the first dimension: a tensor, or a tuple, list, dict or dataclass of tensors.
        32 to 128 training points are usual.
    targets
        Whatever the loss takes. Class numbers (N,), or real responses of the outputs' size, also give the label
        alignment.
    loss
        ``loss(what the model returns, targets)`` -> mean loss, one number. It may also read the model.
    forward
        ``forward(model, inputs)`` -> outputs; default ``model(x)``, ``model(*inputs)`` for a tuple or list,
        ``model(**inputs)`` for a mapping. The kernel is that of the tensor it returns, of its ``logits``, or of all
        its tensors side by side.
    heldout, heldout_targets
        Points the network is not trained on, for the telescoping approximation; default the probe batch.
    rates
        The optimiser, or learning rates by parameter name: weights of the kernel (and read once). Default
        1 for all.
    **options
        Any field of :class:`~featurephase.probe.options.ProbeOptions`: ``schedule``, ``kernel``, ``draws``,
        ``eigenvalues``, ``hessian``, ``hessian_count``, ``hessian_tolerance``, ``hessian_products``,
        ``hessian_data``, ``weight_decay``, ``subspace``, ``telescope_every``, ``effective_parameters``,
        ``memory_limit``, ``dtype``, ``seed``.

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
        inputs: Any,
        targets: Any = None,
        *,
        loss: LossFunction | None = None,
        forward: Forward | None = None,
        heldout: Any = None,
        heldout_targets: Any = None,
        rates: torch.optim.Optimizer | Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        self._born = clock.perf_counter()
        self._spent = 0.0
        self._options = given = ProbeOptions.of(options)
        self._due = make_schedule(given.schedule)
        self._network = network = TorchNetwork(model, given.dtype, forward, loss)
        self._loss = loss
        self._step = 0
        self._records: list[Record] = []
        self._hessians: list[HessianAnalysis] = []
        self._status: Status = OK
        self._message = ""
        self._notes: dict[str, None] = {}
        with _refusals(), network.isolated(), Held() as held:
            self._batch = Batch.of(network.own(inputs, "inputs"), "the probe batch")
            self._targets = None if targets is None else network.own(targets, "targets")
            self._start = self._previous = state = find_hooks(network, self._batch, self._targets)
            self._room = self._plan_memory(state)
            self._check(state, self._batch)
            self._read_data(state, heldout, heldout_targets)
            self._rates, note = learning_rates(network, state, rates)
            self._notes |= {note: None} if note else {}
            self._make_meters(state, rates)
            self._note_limits(heldout is not None)
            self._signature = network.signature()
            self._take_record(state, 0.0)
        self._peak = held.peak
        self._spent += clock.perf_counter() - self._born

    def _plan_memory(self, state: State) -> float:
        """Choose how many samples are evaluated at once; return the bytes left beside the copies of the model."""
        network, limit = self._network, self._options.memory_limit
        copies: int = 3 * state.bytes
        copies += sum(stored_bytes(tensor) for tensor in self._batch.tensors)
        room = 0.9 * (limit - copies)  # the rest is for what is kept from record to record
        motion = {name: state.parameters[name] for name in state.names}
        self._pass_cost = SampleCost(0, 1)

        def compute(batch: Batch) -> None:
            Jacobian(network, state, batch).push(motion)

        try:
            cost = SampleCost.measured(compute, self._batch, room)
        except InputError:
            raise
        except Exception:  # a model that fails: the checks that follow say how
            return room
        if cost.at(1) > room:
            need = (copies + cost.at(1) / 0.9) / 2**20
            raise InputError(
                f"the probe needs at least {need:.1f} MiB for this model (three copies of its parameters, and one "
                f"sample's pass), memory_limit allows {limit / 2**20:.1f} MiB"
            )
        network.chunk = min(self._batch.samples, cost.samples(room))
        self._pass_cost = cost
        network.room = room
        return room

    def _check(self, state: State, batch: Batch) -> None:
        check_function(self._network, state, batch)
        check_derivatives(self._network, state, batch)

    def _read_data(self, state: State, heldout: Any, heldout_targets: Any) -> None:
        """Copies of targets and held-out points; the loss is tried once."""
        network = self._network
        outputs = network.evaluate(state, self._batch)
        self._labels: Tensor | None = None
        if self._targets is not None:
            self._labels, reason = label_codes(self._targets, outputs)
            if reason and self._loss is None:
                raise InputError(f"targets: {reason}; without a loss they serve the label alignment alone")
            if reason:
                self._notes[f"no label alignment: {reason}"] = None
        self._heldout, self._heldout_targets = self._batch, self._targets
        if heldout is not None:
            self._heldout = Batch.of(network.own(heldout, "heldout"), "heldout")
            check_function(network, state, self._heldout, "the held-out points")
            given = heldout_targets is not None
            self._heldout_targets = network.own(heldout_targets, "heldout_targets") if given else None
        if self._loss is None:
            return
        self._loss_fits = self._room_for_loss(state)
        for batch, values in ((self._batch, self._targets), (self._heldout, self._heldout_targets)):
            try:
                value, again = (self._loss_at(state, batch, values) for _ in range(2))
            except InputError:
                raise
            except Exception as error:  # the user's own loss may raise anything
                words = one_line(error)
                raise InputError(
                    f"the loss fails on the model's outputs ({network.evaluate(state, batch).shape[1]} a sample) and "
                    f"the targets given: {words}"
                ) from error
            if abs(value - again) > network.allowed(1e3) * (abs(value) + abs(again)):
                raise InputError(
                    f"two evaluations of the loss at the same weights differ ({value:.6g}, {again:.6g}): it draws "
                    "random numbers, or changes a state of its own (a running mean, a counter); without a loss the "
                    "probe measures all but losses and Hessian"
                )

    def _room_for_loss(self, state: State) -> bool:
        """Whether the whole batch may pass at once, which a loss needs."""
        network = self._network
        if self._pass_cost.at(self._batch.samples) <= self._room:  # even with the graph of a backward pass
            return True

        def compute(batch: Batch) -> None:
            with torch.no_grad():
                network.call(state, {}, batch)

        need = SampleCost.measured(compute, self._batch, self._room).at(self._batch.samples)
        if need <= self._room:
            return True
        self._notes[
            f"no losses: the whole batch at once needs {need / 2**20:.1f} MiB, {self._room / 2**20:.1f} MiB are left"
        ] = None
        return False

    def _make_meters(self, state: State, rates: Any) -> None:
        network, given, batch = self._network, self._options, self._batch
        self._structure = find_structure(network, state, batch)
        self._objective = self._make_objective(state)
        self._subspace = None if given.subspace is None else orthonormal_subspace(state, given.subspace)
        self._kernel = KernelMeter(
            network, batch, self._labels, self._rates, given.kernel, given.draws, given.eigenvalues, self._room,
            given.seed, self._pass_cost,
        )  # fmt: skip
        self._layers = LayerMeter(network, self._structure, batch, self._room)
        latent = latent_coordinates(network, self._structure, state, batch, self._rates)
        self._mechanisms = MechanismMeter(network, batch, self._kernel.trace, latent)
        self._telescoping = TelescopingMeter(network, self._heldout)
        self._smoother = self._make_smoother(state, rates) if given.effective_parameters else None
        self._kernel.begin(state)
        self._layers.begin(state)
        self._telescoping.begin(state)
        if self._smoother:
            self._smoother.begin(state, 0)

    def _make_objective(self, state: State) -> Objective | None:
        """The loss that the Hessian is taken of."""
        given = self._options
        if self._loss is None or (self._targets is None and given.hessian_data is None):
            return None
        decay = weight_decays(self._network, state, given.weight_decay)
        samples: Any = [(self._batch, self._targets, 1.0)]
        if given.hessian_data is not None:
            samples = DataBatches.of(self._network, given.hessian_data)
            samples.require_means(state)
        return Objective(samples, decay)

    def _make_smoother(self, state: State, rates: Any) -> SmootherMeter:
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
        with self._network.running(state, {}) as module, torch.no_grad():
            raw = self._network.raw(state, module, self._batch)
        curvature = quadratic_curvature(self._loss, raw, self._targets) if isinstance(raw, torch.Tensor) else None
        if curvature is None:
            raise InputError(
                "effective parameters are defined for squared loss; this one is not quadratic in the outputs"
            )
        rows = (self._batch.samples + self._heldout.samples) * self._network.matrix(raw, self._batch.samples).shape[1]
        need, limit = 5 * 8 * rows**2, self._options.memory_limit
        if need > limit:
            raise InputError(
                f"effective parameters need the kernel of all {rows} outputs on training and held-out points, "
                f"{need / 2**20:.0f} MiB; allowed are {limit / 2**20:.0f} MiB (memory_limit)"
            )
        return SmootherMeter(self._network, self._batch, self._heldout, curvature[0], self._rates)

    def _note_limits(self, own_heldout: bool) -> None:
        """Name what the numbers will not cover."""
        state = self._start
        frozen = [name for name in state.parameters if name not in state.names]
        if frozen:
            self._notes[f"frozen parameters (held fixed, outside kernel and Hessian): {', '.join(frozen)}"] = None
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in state.body.module.modules()):
            self._notes[
                "batch normalisation: measured with its running statistics; their drift moves the network "
                "outside the telescoping increments"
            ] = None
        if not own_heldout:
            self._notes["no held-out points given: telescoping is measured on the probe batch"] = None
        if self._options.hessian != "none" and self._objective is None:
            self._notes["no loss or no targets given: no losses and no Hessian"] = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    @property
    def records(self) -> int:
        """How often was recorded so far."""
        return len(self._records)

    def step(self, *_: Any, **__: Any) -> None:
        """Count one training step, and record if the schedule says so; call it after the optimiser's step.

        Takes and ignores any arguments, so that it can serve as a callback.
        """
        self._step += 1
        every = self._options.telescope_every
        if self._due(self._step):
            self.record()
        elif every is not None and self._step % every == 0 and self._status == OK:
            self._measured(float(self._step), lambda: self._advance(self._network.state(), self._step))

    def _advance(self, state: State, at: float) -> None:
        self._telescoping.advance(state)
        if self._smoother:
            self._smoother.advance(state, int(at))

    def record(self, time: float | None = None) -> None:
        """Record now. ``time`` replaces the step count, e.g. the time of a gradient flow.

        Raises
        ------
        InputError
            If the time is before the last record.
        """
        at = float(self._step if time is None else time)
        if self._records and at <= self._records[-1].time:
            if at == self._records[-1].time:
                return
            raise InputError(f"record at time {at:g} after {self._records[-1].time:g}: times must increase")
        if self._status == OK:
            self._measured(at, lambda: self._take_record(self._current_state(at), at))

    def _measured(self, at: float, measure: Any) -> None:
        """Run a measurement of the loop's: what goes wrong in it ends the recording, and the loop goes on."""
        begin = clock.perf_counter()
        try:
            with self._network.isolated():
                measure()
        except Exception as error:  # the user's own code runs in there, and no error of it may end the training
            words = one_line(error)
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            self._status, self._message = not_measured(at), f"recording ended at step {at:g}: {kind}{words}"
        self._spent += clock.perf_counter() - begin

    def _current_state(self, at: float) -> State:
        """Where the model stands; where its form changed, all that was checked at the start is checked again."""
        network = self._network
        signature = network.signature()
        if signature == self._signature:
            return network.state()
        state = find_hooks(network, self._batch, self._targets)
        if _finite(state.trainable):
            self._check(state, self._batch)
        self._signature = signature
        thawed = [n for n in state.names if n not in self._previous.names]
        frozen = [n for n in self._previous.names if n not in state.names]
        for names, words in ((thawed, "thawed: counted from then on"), (frozen, "frozen: no longer counted")):
            if names:
                self._notes[f"{', '.join(names)} {words} (step {at:g})"] = None
        return state

    def _take_record(self, state: State, at: float) -> None:
        """Measure; at the first, fourth, sixteenth, .. record after the start check again what was checked there.

        What a weight of 0 hides at the start shows once it has moved.
        """
        network, first, count = self._network, not self._records, len(self._records)
        if not _finite(state.trainable) or not _finite({"": network.evaluate(state, self._batch)}):
            what = "outputs" if _finite(state.trainable) else "weights"
            self._status = diverged(at)
            self._message = f"the network's {what} are not finite at step {at:g}; {_ENDED}"
            return
        kernel = self._kernel.measure(state, first)
        if not math.isfinite(kernel["trace"]):
            self._status, self._message = diverged(at), f"the kernel is not finite at step {at:g}; {_ENDED}"
            return
        if _checked_again(count):
            self._check(state, self._batch)
        layers, pairs = self._layers.measure(state)
        mechanisms = self._mechanisms.measure(state, None if first else self._previous, kernel["trace"])
        if not first:
            self._advance(state, at)
        telescoping = self._telescoping.measure(state) | (self._smoother.measure() if self._smoother else {})
        losses = [
            self._loss_at(state, batch, targets)
            for batch, targets in ((self._batch, self._targets), (self._heldout, self._heldout_targets))
        ]
        self._previous = state
        self._records.append(Record(at, kernel, layers, pairs, mechanisms, telescoping, losses[0], losses[1]))
        if self._options.hessian == "all" or (self._options.hessian == "ends" and first):
            self._analyse_hessian(state, at)

    def _loss_at(self, state: State, batch: Batch, targets: Any) -> float:
        if self._loss is None or targets is None or not self._loss_fits:
            return float("nan")
        with torch.no_grad():
            return float(self._network.loss_at(state, {}, batch, targets))

    def _analyse_hessian(self, state: State, at: float) -> None:
        if self._objective is None:
            return
        subspace = self._subspace if state.names == self._start.names else None
        options = self._lanczos_options()
        self._hessians.append(extreme_eigenvalues(self._network, state, self._objective, options, subspace, at))

    def _lanczos_options(self, products: int | None = None) -> Spectrum:
        given = self._options
        most = products or given.hessian_products
        return Spectrum(given.hessian_count, given.hessian_tolerance, most, self._room, given.seed)

    def close(self) -> None:
        """Record the end, check it, and analyse the Hessian there; leaving the ``with`` block does this."""
        if self._records and self._step > self._records[-1].time:
            self.record()
        last = len(self._records) - 1
        if last > 0 and self._status == OK and not _checked_again(last):
            self._measured(self._records[last].time, lambda: self._check(self._previous, self._batch))
        if not self._records:
            return
        end = self._records[-1].time
        analysed = bool(self._hessians) and self._hessians[-1].time == end
        if self._options.hessian == "ends" and self._status == OK and not analysed:
            self._measured(end, lambda: self._analyse_hessian(self._network.state(), end))

    def spectrum(
        self,
        *,
        blocks: str | Mapping[str, Any] | None = None,
        gauss_newton: bool = False,
        draws: int = 8,
        steps: int = 40,
        products: int | None = None,
    ) -> HessianSpectrum:
        """A closer look at the Hessian where the model stands now; over ``hessian_data`` where that was given.

        Parameters
        ----------
        blocks
            Also diagonal blocks: ``"layers"``, ``"parameters"``, or name -> parameter names.
        gauss_newton
            Also ``J' (d^2 loss / d outputs^2) J``.
        draws, steps
            Random vectors, and Lanczos steps each, of the spectral density and the trace; steps 0: no density.
        products
            Most products for the extreme eigenvalues; default ``hessian_products``.

        Raises
        ------
        InputError
            If the probe has no loss, or a block is unknown.
        """
        if self._objective is None:
            raise InputError("the spectrum of the Hessian needs a loss and targets (or hessian_data)")
        network, options = self._network, self._lanczos_options(products)
        with network.isolated():
            state = network.state()
            members = {} if blocks is None else parameter_blocks(state, blocks)
            return hessian_spectrum(
                network, state, self._objective, options, DensityOptions(draws, steps),
                blocks=members, gauss_newton=gauss_newton, time=float(self._step),
            )  # fmt: skip

    def kernel_matrix(self) -> KernelMatrix:
        """The exact kernel itself where the model stands now: probe batch, and held-out points against it.

        Raises
        ------
        InputError
            If it does not fit into ``memory_limit``.
        """
        network = self._network
        own_heldout = self._heldout is not self._batch
        points = self._batch.cat(self._heldout) if own_heldout else self._batch
        samples = self._batch.samples
        with network.isolated():
            state = network.state()
            method = ExactKernel(network, points, self._rates, pass_cost=self._pass_cost)
            need = method.plan_memory(state, self._room)
            if need > self._room:
                raise InputError(f"the kernel needs {need / 2**20:.1f} MiB, {self._room / 2**20:.1f} MiB are left")
            matrix = method.matrix(state)[0]
        outputs = len(matrix) // points.samples
        blocks = matrix.reshape(points.samples, outputs, points.samples, outputs)
        own, cross = blocks[:samples, :, :samples], blocks[samples:, :, :samples] if own_heldout else None
        return KernelMatrix(
            time=float(self._step),
            seed=self._options.seed,
            matrix=own,
            cross=cross,
            traced=np.einsum("icjc->ij", own) / outputs,
            cross_traced=None if cross is None else np.einsum("icjc->ij", cross) / outputs,
            per_output=np.einsum("icjc->cij", own),
        )

    def __getstate__(self) -> dict[str, Any]:
        """For pickling; model, loss and forward must be picklable themselves (no lambda)."""
        left_out = ("_due", "_signature", "_born")
        kept = {name: value for name, value in vars(self).items() if name not in left_out}
        return {**kept, "_elapsed": clock.perf_counter() - self._born}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        vars(self).update(saved)
        self._born = clock.perf_counter() - vars(self).pop("_elapsed")
        self._due = make_schedule(self._options.schedule)
        self._signature = self._network.signature()

    def state_dict(self) -> dict[str, Any]:
        """All that the probe has seen, for a checkpoint beside those of the model and the optimiser.

        Tensors, arrays and records; a later probe, made in the same way on the model as it then stands, goes on from
        it after :meth:`load_state_dict`.
        """
        meters = {name: getattr(self, f"_{name}") for name in _METERS}
        return {
            "step": self._step,
            "status": (self._status, self._message),
            "spent": self._spent,
            "elapsed": clock.perf_counter() - self._born,
            "records": list(self._records),
            "hessians": list(self._hessians),
            "notes": [dict(self._notes), dict(self._network.notes)],
            "states": [(s.parameters, s.buffers, s.names) for s in (self._start, self._previous)],
            "meters": {name: meter.saved() for name, meter in meters.items() if meter is not None},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what another probe had seen; the model must hold the weights of that time, or later ones.

        Raises
        ------
        InputError
            If the parameters are others.
        """
        states = []
        for parameters, buffers, names in saved["states"]:
            shapes = {name: tuple(value.shape) for name, value in parameters.items()}
            if shapes != self._network.shapes:
                raise InputError("the saved probe belongs to a model with other parameters")
            states.append(replace(self._start, parameters=parameters, buffers=buffers, names=names))
        self._start, self._previous = states
        self._step, self._spent = saved["step"], saved["spent"]
        self._status, self._message = saved["status"]
        self._born = clock.perf_counter() - saved["elapsed"]
        self._records, self._hessians = list(saved["records"]), list(saved["hessians"])
        self._notes, notes = dict(saved["notes"][0]), saved["notes"][1]
        self._network.notes |= notes
        for name, values in saved["meters"].items():
            getattr(self, f"_{name}").restore(values, self._start, self._previous)

    def result(self) -> ProbeResult:
        """All that was recorded so far."""
        status, message = self._status, self._message
        missing = [h.message for h in self._hessians if np.isnan(h.largest).all()]
        if status == OK and missing:
            status, message = NO_EIGENVALUES, missing[0]
        return assembled(
            self._records,
            self._structure,
            {name: tuple(value.shape) for name, value in self._network.model.named_parameters()},
            tuple(self._hessians),
            {
                "status": status,
                "message": message,
                "seed": self._options.seed,
                "kernel_method": self._kernel.method,
                "unhandled": (*self._structure.unhandled, *self._network.notes, *self._notes),
                "cost": self._cost(),
            },
            self._mechanisms.method,
        )

    def _cost(self) -> Cost:
        """Seconds spent in the probe, against the loop's own, and the memory it holds at most."""
        elapsed = clock.perf_counter() - self._born
        start = self._start
        return Cost(
            records=len(self._records),
            parameters=start.size,
            seconds=self._spent,
            seconds_per_record=self._spent / max(1, len(self._records)),
            slowdown=self._spent / max(elapsed - self._spent, 1e-9),
            memory_bytes=int(self._peak + 2 * start.bytes + 4 * self._kernel.start.nbytes),
        )


#: Parts that carry something from record to record.
_METERS = ("kernel", "layers", "mechanisms", "telescoping", "smoother")
_ENDED = "nothing is recorded from there on"


def _checked_again(record: int) -> bool:
    """Whether what was checked at the start is checked again at a record after it: at 1, 4, 16, .."""
    return record > 0 and 4 ** round(math.log(record, 4)) == record


@contextmanager
def _refusals() -> Iterator[None]:
    """Whatever the user's model, loss or data raise within it is a refusal, with their words and their error."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the user's own code runs in there
        words = one_line(error)
        raise InputError(f"this network cannot be measured: {type(error).__name__}: {words}") from error


def _finite(values: Mapping[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(v).all()) for v in values.values() if v.is_floating_point())
