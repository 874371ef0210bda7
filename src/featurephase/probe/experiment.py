"""An experiment: task x network x parameterisation, trained by plain gradient descent under a probe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from featurephase.foundation import tomlfile
from featurephase.foundation.errors import InputError
from featurephase.foundation.executors import Workers, run_tasks
from featurephase.foundation.progress import progress_bar
from featurephase.foundation.threads import thread_count
from featurephase.probe.averaging import average
from featurephase.probe.functional import Tensor, TorchNetwork
from featurephase.probe.kernel import exact_kernel, top_eigenvalues
from featurephase.probe.networks import build_network
from featurephase.probe.probe import Probe
from featurephase.probe.tasks import Task, load_task
from featurephase.probe.telescoping import quadratic_curvature
from featurephase.probe.trees import Batch
from featurephase.results.probe import ProbeResult

OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
#: Step of the optimisers that scale their own steps.
_ADAM_STEP = 1e-3
#: Share of the stability limit 2/lambda of the linearised dynamics that the automatic step takes.
_SAFETY = 0.25
#: Multiplications of a forward pass below which one thread is the fastest: 2 threads take 2 to 3 times as long at 1e7,
#: as long at 4e7, and .7 of the time at 4e8.
_SHORT_STEP = 1e8


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to train and how; the keys of the file's table ``[probe]`` and, with dashes, of the command's flags."""

    task: str = "digits"
    data_folder: str | None = None
    train_samples: int = 0  # 0: all
    train_fraction: float | None = None  # in place of train_samples
    test_samples: int = 0
    modulus: int = 23
    expression: str = "g1*g2 + hermite(3, g1)"
    dimension: int = 20
    network: str = "mlp"
    depth: int = 1
    width: int = 256
    activation: str = "relu"
    bias: bool = False
    parameterisation: str = "standard"
    init_scale: float = 1.0
    output_scale: float = 1.0
    layer_rates: tuple[float, ...] | None = None
    loss: str = "squared"
    optimiser: str = "sgd"
    weight_decay: float = 0.0
    steps: int = 1000
    step_size: float | None = None  # None: a quarter of the stability limit; 0.001 for adam and adamw
    batch_size: int = 128  # 0: the whole training set
    probe_samples: int = 32
    schedule: str = "logarithmic"
    kernel: str = "auto"
    hessian: str = "ends"
    effective_parameters: bool = False
    precision: str = "float32"
    replicates: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 0), ("probe_samples", 1), ("replicates", 1), ("width", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: {getattr(self, name)} given, expected at least {least}")
        if self.loss not in ("squared", "cross-entropy"):
            raise InputError(f"loss {self.loss!r}: expected 'squared' or 'cross-entropy'")
        if self.optimiser not in OPTIMISERS:
            raise InputError(f"optimiser {self.optimiser!r}: expected one of {', '.join(OPTIMISERS)}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(f"weight_decay: {self.weight_decay} given, expected a number >= 0")
        if self.precision not in ("float32", "float64"):
            raise InputError(f"precision {self.precision!r}: expected 'float32' or 'float64'")
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size > 0):
            raise InputError(f"step_size: {self.step_size} given, expected a positive number")

    def quick(self) -> Experiment:
        """The same with a tenth of the training samples (at least 16)."""
        size = self.train_samples or len(_load(replace(self, test_samples=0, seed=0)).train_inputs)
        return replace(self, train_samples=max(16, size // 10), train_fraction=None)

    @classmethod
    def from_toml(cls, text: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
        """The table ``[probe]`` of a file, with ``overrides`` (the flags given) on top.

        Raises
        ------
        InputError
            If the text is not TOML, or a key or the type of a value is unknown.
        """
        document = tomlfile.parse(text, "the experiment file")
        extra = sorted(set(document) - {"probe", "title"})
        if extra:
            raise InputError(f"unknown key {extra[0]!r}: expected the table [probe]")
        table = document.get("probe", {})
        if not isinstance(table, dict):
            raise InputError("probe: expected a table [probe]")
        return cls.from_mapping({**table, **(overrides or {})})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Experiment:
        """Check names and types; see the attributes for what is accepted."""
        known = {f.name: f for f in fields(cls)}
        checked: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise InputError(f"unknown key {key!r} in [probe]: expected one of {', '.join(known)}")
            checked[key] = _typed(key, value, str(known[key].type))
        return cls(**checked)


_KINDS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}


def _typed(key: str, value: Any, kind: str) -> Any:
    """``value`` if it is of the kind that the attribute's annotation says."""
    if value is None and "None" in kind:
        return None
    if kind.startswith("tuple") and isinstance(value, (list, tuple)):
        return tuple(_typed(key, v, "float") for v in value)
    wanted = _KINDS.get(kind.split(" ")[0], ())
    if isinstance(value, wanted) and (kind == "bool" or not isinstance(value, bool)):
        return float(value) if kind.startswith("float") else value  # type: ignore[arg-type]
    raise InputError(f"{key}: {value!r} given, expected {kind.replace(' | None', '')}")


@dataclass(frozen=True)
class _Data:
    """A task as tensors, in the shape that the loss wants."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    outputs: int
    classes: int


def _tensors(task: Task, loss: str, dtype: torch.dtype) -> _Data:
    if loss == "cross-entropy" and task.classes == 0:
        raise InputError(f"{task.name}: real responses; use the squared loss")
    # Two classes and squared loss: one output and labels -1, 1.
    binary = loss == "squared" and task.classes == 2
    outputs = 1 if binary or not task.classes else task.classes

    def labels(values: Any) -> Tensor:
        if loss == "cross-entropy":
            return torch.as_tensor(values, dtype=torch.int64)
        if binary:
            return torch.as_tensor(2.0 * values - 1.0, dtype=dtype)[:, None]
        if task.classes:
            return torch.as_tensor(np.eye(task.classes)[values] - 1.0 / task.classes, dtype=dtype)
        return torch.as_tensor(values, dtype=dtype)[:, None]

    def pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(x, dtype=dtype), labels(y)

    train, test = pair(task.train_inputs, task.train_labels), pair(task.test_inputs, task.test_labels)
    return _Data(train, test, outputs, task.classes)


def _loss(name: str) -> Any:
    return nn.functional.cross_entropy if name == "cross-entropy" else nn.functional.mse_loss


def _sharpness(model: nn.Module, groups: list[dict[str, Any]], x: Tensor, y: Tensor, loss: str) -> float:
    """Top eigenvalue of loss curvature times kernel: gradient descent on the linearised network needs step < 2/it."""
    network = TorchNetwork(model)
    names = {id(p): name for name, p in network.model.named_parameters()}
    rates = {names[id(p)]: float(group["lr"]) for group in groups for p in group["params"]}
    with network.isolated():
        state = network.state()
        batch = Batch.of(x, "inputs")
        outputs = network.evaluate(state, batch)
        kernel = exact_kernel(network, state, batch, rates)
        quadratic = quadratic_curvature(_loss(loss), outputs, y) if loss == "squared" else None
    # The Hessian of cross entropy in one sample's logits is at most 1/2.
    curvature = quadratic[0] if quadratic else 0.5 / len(x)
    return curvature * float(top_eigenvalues(kernel, 1)[0])


def _build(experiment: Experiment, task: Task, data: _Data, seed: int) -> tuple[nn.Module, list[dict[str, Any]]]:
    names = ("depth", "width", "activation", "bias", "parameterisation", "init_scale", "output_scale")
    options = {name: getattr(experiment, name) for name in names}
    options["layer_rates"] = None if experiment.layer_rates is None else list(experiment.layer_rates)
    inputs = data.train[0].shape[1]
    return build_network(experiment.network, inputs, data.outputs, image=task.image, seed=seed, **options)


def automatic_step(experiment: Experiment, task: Task, data: _Data, x: Tensor, y: Tensor, seed: int) -> float:
    """A quarter of the stability limit of the network at its start, or at scale 1 where that is smaller."""
    values = []
    for candidate in (experiment, replace(experiment, init_scale=1.0, output_scale=1.0)):
        model, groups = _build(candidate, task, data, seed)
        values.append(_sharpness(model.to(x.dtype), groups, x, y, experiment.loss))
    largest = max(values)
    if not (math.isfinite(largest) and largest > 0):
        raise InputError("the kernel at the start is zero or not finite: give a step_size")
    return 2.0 * _SAFETY / largest


def _load(experiment: Experiment) -> Task:
    names = ("train_samples", "test_samples", "train_fraction", "modulus", "expression", "dimension", "seed")
    options = {name: getattr(experiment, name) for name in names}
    return load_task(experiment.task, folder=experiment.data_folder, **options)


@dataclass
class _Scores:
    """Losses and accuracies of the whole sets, when the probe records."""

    model: nn.Module
    data: _Data
    loss: Any
    series: dict[str, list[float]] = field(default_factory=lambda: {"train": [], "test": []})

    def take(self) -> None:
        """Accuracies now."""
        for kind, series in self.series.items():
            series.append(_score(self.model, getattr(self.data, kind), self.loss, self.data.classes)[1])

    def outcome(self) -> dict[str, float]:
        """Losses and accuracies at the end."""
        outcome = {}
        for kind in self.series:
            value, accuracy = _score(self.model, getattr(self.data, kind), self.loss, self.data.classes)
            outcome[f"{kind}_loss"] = value
            if self.data.classes:
                outcome[f"{kind}_accuracy"] = accuracy
        return outcome


def _threads(experiment: Experiment, task: Task, model: nn.Module, samples: int) -> int:
    """Threads of torch: one where a step is so short that they would only wait for each other."""
    places = math.prod(task.image[1:]) if experiment.network == "cnn" and task.image else 1
    work = sum(p.numel() for p in model.parameters()) * min(experiment.batch_size or samples, samples) * places
    return 1 if work < _SHORT_STEP else min(torch.get_num_threads(), thread_count())


@contextmanager
def _on_threads(count: int) -> Iterator[None]:
    """Torch on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(experiment: Experiment, *, progress: bool = False) -> ProbeResult:
    """Train one network (``experiment.seed``) under a probe and return what it saw."""
    dtype = torch.float64 if experiment.precision == "float64" else torch.float32
    task = _load(experiment)
    data = _tensors(task, experiment.loss, dtype)
    model, groups = _build(experiment, task, data, experiment.seed)
    model = model.to(dtype)
    with _on_threads(_threads(experiment, task, model, len(data.train[0]))):
        return _observed(experiment, task, data, model, groups, progress)


def _observed(
    experiment: Experiment,
    task: Task,
    data: _Data,
    model: nn.Module,
    groups: list[dict[str, Any]],
    progress: bool,
) -> ProbeResult:
    """The training of a network at its start, and what the probe saw of it."""
    (x, y), (x_test, y_test) = data.train, data.test
    given = {
        name: getattr(experiment, name) for name in ("schedule", "kernel", "hessian", "effective_parameters", "seed")
    }
    samples = len(x) if experiment.effective_parameters else min(experiment.probe_samples, len(x))
    held = min(experiment.probe_samples, len(x_test))
    step_size = experiment.step_size or (
        automatic_step(experiment, task, data, x[:samples], y[:samples], experiment.seed)
        if experiment.optimiser == "sgd"
        else _ADAM_STEP
    )
    for group in groups:
        group["lr"] *= step_size
    kind: Any = OPTIMISERS[experiment.optimiser]  # typed by a base class that takes no such arguments
    optimiser = kind(groups, lr=step_size, weight_decay=experiment.weight_decay)
    loss = _loss(experiment.loss)
    probe = Probe(
        model,
        x[:samples],
        y[:samples],
        loss=loss,
        heldout=x_test[:held],
        heldout_targets=y_test[:held],
        rates=optimiser,
        weight_decay=0.0 if experiment.optimiser == "adamw" else experiment.weight_decay,
        **given,
    )
    scores = _Scores(model, data, loss)
    scores.take()
    _train(experiment, data, model, optimiser, probe, scores, progress)
    result = probe.result()
    setting = {k: v for k, v in asdict(experiment).items() if k not in ("seed", "replicates")}
    setting |= {"step_size": step_size, "automatic_step": experiment.step_size is None}
    setting |= {"layer_rates": list(experiment.layer_rates or ())}
    accuracies: dict[str, Any] = {}
    for name, series in scores.series.items():
        values = np.array(series[: len(result.times)])
        accuracies |= {f"{name}_accuracy": values, f"{name}_accuracy_se": values * 0.0}
    return replace(result, setting=setting, outcome=scores.outcome(), seed=experiment.seed, **accuracies)


def _train(
    experiment: Experiment,
    data: _Data,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    probe: Probe,
    scores: _Scores,
    progress: bool,
) -> None:
    """Mini-batches in random order; the whole training set where the batch size is 0."""
    x, y = data.train
    loss = _loss(experiment.loss)
    batch = min(experiment.batch_size or len(x), len(x))
    generator = torch.Generator().manual_seed(experiment.seed)
    order, at = torch.randperm(len(x), generator=generator), 0
    with probe, progress_bar(experiment.steps, f"seed {experiment.seed}", quiet=not progress) as bar:
        for _ in range(experiment.steps):
            if at + batch > len(x):
                order, at = torch.randperm(len(x), generator=generator), 0
            rows = slice(None) if batch == len(x) else order[at : at + batch]
            at += batch
            optimiser.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimiser.step()
            before = probe.records
            probe.step()
            if probe.records > before:
                scores.take()
            bar.update()
    if probe.records > len(scores.series["train"]):
        scores.take()


def _score(model: nn.Module, data: tuple[Tensor, Tensor], loss: Any, classes: int) -> tuple[float, float]:
    """Mean loss and accuracy."""
    x, y = data
    with torch.no_grad():
        outputs = torch.cat([model(part) for part in torch.split(x, 4096)])
        value = float(loss(outputs, y))
        if not classes:
            return value, float("nan")
        if outputs.shape[1] == 1:
            return value, float((torch.sign(outputs) == y).double().mean())
        wanted = y if y.dim() == 1 else y.argmax(1)
        return value, float((outputs.argmax(1) == wanted).double().mean())


def run_replicates(experiment: Experiment, *, progress: bool = False, workers: Workers = 1) -> ProbeResult:
    """``experiment.replicates`` seeds, seed, seed + 1, ..: other data, initialisation and batches; their
    mean with errors.

    One after the other, unless ``workers`` says where they run side by side; then the sums of networks that are large
    enough for several threads may round differently in single precision.
    """
    seeds = [replace(experiment, seed=experiment.seed + k) for k in range(experiment.replicates)]
    if workers == 1:
        results = [run(one, progress=progress) for one in seeds]
    else:
        results = run_tasks(run, [(one,) for one in seeds], label="seeds", quiet=not progress, workers=workers)
    return results[0] if len(results) == 1 else average(results)
