"""What a probe measured on a PyTorch network: series over the training, and analyses at one time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from typing import Any

import numpy as np

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import Variable, labelled, record
from featurephase.results.status import OK, Status


def _empty() -> Array:
    return np.empty(0)


def _empty_table() -> Array:
    return np.empty((0, 0))


@record
class Entry(Record):
    """A record whose fields can also be asked for by name, as in the JSON document: ``entry["movement"]``.

    A field that is ``None`` was not measured, and is in neither.
    """

    def keys(self) -> list[str]:
        """Names of the fields that hold something."""
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or ``default`` where it is not there."""
        value = getattr(self, name, None)
        return default if value is None else value

    def items(self) -> list[tuple[str, Any]]:
        """Names and contents."""
        return [(name, self[name]) for name in self]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, of what was measured."""
        return {name: value for name, value in super().to_dict().items() if name in self}


@record
class LayerSeries(Entry):
    """What a weight layer did since the start, (T,) each.

    Attributes
    ----------
    norm, norm_growth, movement
        ``|W|``, ``|W|/|W_0|``, ``|W - W_0|/|W_0|`` (Frobenius).
    stable_rank
        ``|W|_F^2/|W|_2^2``.
    feature_change
        Relative change of the Gram matrix of what the layer reads on the probe batch.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    norm: Array = labelled("time", about="Frobenius norm of the weight", unit="1")
    norm_se: Array
    norm_growth: Array = labelled("time", about="norm over that at the start", unit="1")
    norm_growth_se: Array
    movement: Array = labelled("time", about="distance from the start over the norm there", unit="1")
    movement_se: Array
    stable_rank: Array = labelled("time", about="squared Frobenius over squared spectral norm", unit="1")
    stable_rank_se: Array
    feature_change: Array = labelled("time", about="relative change of the inputs' Gram matrix", unit="1")
    feature_change_se: Array


@record
class PairSeries(Entry):
    """Two adjacent layers, (T,) each.

    Attributes
    ----------
    units, baseline
        Units (channels) shared, and the alignment of independent layers, ``1/sqrt(units)``.
    alignment
        ``|W_upper W_lower|_F / (|W_upper|_F |W_lower|_F)``.
    singular_cosine
        |cosine| of the leading singular vectors that meet.
    """

    lower: str
    upper: str
    units: int
    baseline: float
    alignment: Array = labelled("time", about="alignment of adjacent layers", unit="1")
    alignment_se: Array
    singular_cosine: Array = labelled("time", about="cosine of the leading singular vectors", unit="1")
    singular_cosine_se: Array


@record
class MechanismBudget(Entry):
    """Parts of the change of ln(kernel trace) from the start to the last record; they add up to ``log_kernel_ratio``.

    Attributes
    ----------
    alignment, disalignment
        By directions of the weights that turn.
    growth, shrinkage
        By norms.
    statistics
        By what is not trained: running statistics, buffers, frozen parameters.
    unattributed
        The rest; with it the change of what the kernel counts when parameters thaw.
    method
        "latent-variable model" or "norms against directions".
    """

    alignment: float = 0.0
    alignment_se: float = 0.0
    disalignment: float = 0.0
    disalignment_se: float = 0.0
    growth: float = 0.0
    growth_se: float = 0.0
    shrinkage: float = 0.0
    shrinkage_se: float = 0.0
    statistics: float = 0.0
    statistics_se: float = 0.0
    unattributed: float = 0.0
    unattributed_se: float = 0.0
    log_kernel_ratio: float = 0.0
    log_kernel_ratio_se: float = 0.0
    method: str = ""


@record
class MechanismSeries(Entry):
    """The budget at every record, (T,) each; see :class:`MechanismBudget`."""

    alignment: Array = labelled("time", about="part of ln(kernel) by alignment", default_factory=_empty)
    alignment_se: Array = field(default_factory=_empty)
    disalignment: Array = labelled("time", about="part of ln(kernel) by disalignment", default_factory=_empty)
    disalignment_se: Array = field(default_factory=_empty)
    growth: Array = labelled("time", about="part of ln(kernel) by growth", default_factory=_empty)
    growth_se: Array = field(default_factory=_empty)
    shrinkage: Array = labelled("time", about="part of ln(kernel) by shrinkage", default_factory=_empty)
    shrinkage_se: Array = field(default_factory=_empty)
    statistics: Array = labelled("time", about="part of ln(kernel) by what is not trained", default_factory=_empty)
    statistics_se: Array = field(default_factory=_empty)
    unattributed: Array = labelled("time", about="part of ln(kernel) by no mechanism", default_factory=_empty)
    unattributed_se: Array = field(default_factory=_empty)
    log_kernel_ratio: Array = labelled(
        "time", about="ln of kernel trace over that at the start", default_factory=_empty
    )
    log_kernel_ratio_se: Array = field(default_factory=_empty)


@record
class TelescopingSeries(Entry):
    """Errors of first-order approximations relative to the outputs' motion, (T,) each.

    Attributes
    ----------
    telescoping_error, linearisation_error
        Along the path, and linearised at the start.
    output_change
        Motion of the outputs over their norm at the start.
    effective_parameters_train, effective_parameters_heldout
        Of the smoother that the increments make; ``None`` where not asked for.
    """

    telescoping_error: Array = labelled("time", about="error of the increments along the path", default_factory=_empty)
    telescoping_error_se: Array = field(default_factory=_empty)
    linearisation_error: Array = labelled("time", about="error of the linearised network", default_factory=_empty)
    linearisation_error_se: Array = field(default_factory=_empty)
    output_change: Array = labelled("time", about="motion of the outputs", default_factory=_empty)
    output_change_se: Array = field(default_factory=_empty)
    effective_parameters_train: Array | None = labelled("time", about="effective parameters, training", default=None)
    effective_parameters_train_se: Array | None = None
    effective_parameters_heldout: Array | None = labelled("time", about="effective parameters, held out", default=None)
    effective_parameters_heldout_se: Array | None = None


@record
class HessianAnalysis(Entry):
    """Extreme eigenvalues of the loss Hessian at one time.

    Attributes
    ----------
    smallest, largest
        Ascending, (count,); nan where they cannot be had (``status`` and ``message`` say why). Their errors are those
        of sampling batches where the Hessian is taken over several, else over replicates, else 0.
    smallest_residual, largest_residual
        ``|H v - lambda v|``: an eigenvalue lies that close.
    smallest_overlap, largest_overlap
        Squared projections of the eigenvectors on the subspace given; nan without one.
    negative, negative_is_lower_bound
        Negative eigenvalues found, and whether there may be more.
    products
        Hessian-vector products spent.
    """

    time: float = labelled(name="hessian_time", about="training step", unit="step")
    status: Status = OK
    message: str = ""
    smallest: Array = labelled("rank", about="smallest eigenvalues", unit="loss")
    smallest_se: Array
    largest: Array = labelled("rank", about="largest eigenvalues", unit="loss")
    largest_se: Array
    smallest_residual: Array
    smallest_residual_se: Array
    largest_residual: Array
    largest_residual_se: Array
    smallest_overlap: Array
    smallest_overlap_se: Array
    largest_overlap: Array
    largest_overlap_se: Array
    negative: float
    negative_se: float = 0.0
    negative_is_lower_bound: bool
    products: float
    products_se: float = 0.0


@record
class Verdict(Entry):
    """The phase in words and numbers.

    Attributes
    ----------
    phase
        "kernel", "feature-learning", "rich", or "undetermined".
    mechanism
        The largest part of the budget; "none" in the kernel phase.
    since
        First step from which on the kernel change stays above 0.1; nan in the kernel phase.
    decided
        Whether the phase holds within two standard errors.
    words
        A sentence.
    """

    phase: str = "undetermined"
    mechanism: str = "none"
    since: float = np.nan
    kernel_change: float = np.nan
    kernel_change_se: float = np.nan
    decided: bool = False
    words: str = ""


@record
class Cost(Entry):
    """What the probe cost.

    Attributes
    ----------
    slowdown
        Seconds in the probe over the loop's own.
    memory_bytes
        The most it held at once.
    """

    records: int = 0
    parameters: int = 0
    seconds: float = 0.0
    seconds_se: float = 0.0
    seconds_per_record: float = 0.0
    seconds_per_record_se: float = 0.0
    slowdown: float = 0.0
    slowdown_se: float = 0.0
    memory_bytes: int = 0


@record
class ProbeResult(Result):
    """The record of one training run, or the mean over ``replicates`` runs.

    T records, k eigenvalues. A stochastic ``x`` has a sibling ``x_se``: over replicates if there are
    several, else the error of the kernel's sketch (0 where the number is exact).

    Attributes
    ----------
    setting, outcome
        What was probed, and losses and accuracies at the end; empty for a probe in a loop of the user's.
    times
        (T,) training steps.
    kernel_change, kernel_alignment
        ``|K - K_0|_F / |K_0|_F`` and ``<K, K_0> / (|K| |K_0|)``, (T,).
    label_alignment
        ``y'Ky / (|K| |y|^2)``, (T,); nan without labels.
    kernel_trace, kernel_eigenvalues
        (T,) and (T, k), descending.
    loss, heldout_loss
        On the probe batch and on the held-out points, weight decay excluded, (T,); nan without a loss.
    train_accuracy, test_accuracy
        (T,), of the command's tasks with classes; nan for real responses, nothing for a loop of the user's.
    unhandled
        What no number is given for, and why; what was chosen or held fixed.
    """

    setting: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    replicates: int = labelled(attribute=True, default=1)
    times: Array = labelled("time", name="time", about="training step", unit="training steps", default_factory=_empty)
    kernel_method: str = labelled(attribute=True, default="exact")
    kernel_change: Array = labelled("time", about="relative change of the kernel", unit="1", default_factory=_empty)
    kernel_change_se: Array = field(default_factory=_empty)
    kernel_alignment: Array = labelled("time", about="cosine with the start's kernel", unit="1", default_factory=_empty)
    kernel_alignment_se: Array = field(default_factory=_empty)
    label_alignment: Array = labelled("time", about="cosine with the labels", unit="1", default_factory=_empty)
    label_alignment_se: Array = field(default_factory=_empty)
    kernel_trace: Array = labelled("time", about="trace of the kernel", default_factory=_empty)
    kernel_trace_se: Array = field(default_factory=_empty)
    kernel_eigenvalues: Array = labelled("time", "eigenvalue", about="top eigenvalues", default_factory=_empty_table)
    kernel_eigenvalues_se: Array = field(default_factory=_empty_table)
    loss: Array = labelled("time", about="loss on the probe batch", unit="loss", default_factory=_empty)
    loss_se: Array = field(default_factory=_empty)
    heldout_loss: Array = labelled("time", about="loss on held-out points", unit="loss", default_factory=_empty)
    heldout_loss_se: Array = field(default_factory=_empty)
    train_accuracy: Array = field(default_factory=_empty)
    train_accuracy_se: Array = field(default_factory=_empty)
    test_accuracy: Array = field(default_factory=_empty)
    test_accuracy_se: Array = field(default_factory=_empty)
    layers: tuple[LayerSeries, ...] = labelled("layer", name="layer", default=())
    pairs: tuple[PairSeries, ...] = labelled("pair", name="pair", default=())
    unhandled: tuple[str, ...] = labelled(attribute=True, default=())
    mechanisms: MechanismBudget = field(default_factory=MechanismBudget)
    mechanisms_over_time: MechanismSeries = labelled(name="mechanism", default_factory=MechanismSeries)
    hessian: tuple[HessianAnalysis, ...] = labelled("hessian_time", name="hessian", stamped=True, default=())
    telescoping: TelescopingSeries = labelled(name="telescoping", default_factory=TelescopingSeries)
    verdict: Verdict = field(default_factory=Verdict)
    cost: Cost = field(default_factory=Cost)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; accuracies where they were measured."""
        document = super().to_dict()
        if not self.train_accuracy.size:
            for name in ("train_accuracy", "test_accuracy"):
                del document[name], document[f"{name}_se"]
        return document

    def provenance(self) -> dict[str, Any]:
        """The verdict in words and the setting besides."""
        plain = {f"setting_{k}": v if type(v) in (int, float, str) else str(v) for k, v in self.setting.items()}
        return {**super().provenance(), "verdict": self.verdict.words, **plain}

    def more_variables(self) -> Mapping[str, Variable]:
        """Names of layers and pairs as coordinates."""
        out: dict[str, Variable] = {}
        if self.train_accuracy.size:
            for name in ("train_accuracy", "test_accuracy"):
                for column in (name, f"{name}_se"):
                    out[column] = ("time",), getattr(self, column), {"units": "1"}
        pairs = [f"{pair.lower} -> {pair.upper}" for pair in self.pairs]
        for dim, words in (("layer", [layer.name for layer in self.layers]), ("pair", pairs)):
            if words:
                out[dim] = (dim,), np.array(words, dtype=object), {}
        return out


@record
class BlockSpectrum(Entry):
    """The spectrum of a Hessian, or of its diagonal block in some parameters.

    Attributes
    ----------
    name
        "" for the whole.
    parameters
        Number of parameters.
    smallest, largest
        Extreme eigenvalues, ascending, (count,); errors over the batches.
    smallest_residual, largest_residual
        ``|H v - lambda v|``.
    trace
        Exact up to 300 parameters, else Hutchinson's estimate with its error.
    """

    name: str = ""
    parameters: int = labelled(about="number of parameters")
    smallest: Array = labelled("rank", about="smallest eigenvalues", unit="loss")
    smallest_se: Array
    smallest_residual: Array
    largest: Array = labelled("rank", about="largest eigenvalues", unit="loss")
    largest_se: Array
    largest_residual: Array
    trace: float = labelled(about="trace", unit="loss")
    trace_se: float
    status: Status = OK


@record
class HessianSpectrum(Result):
    """A closer look at the loss Hessian at one time.

    Attributes
    ----------
    time
        Training step.
    batches, samples
        What the loss is averaged over.
    whole, gauss_newton
        Of the Hessian, and of ``J' (d^2 loss / d outputs^2) J``; ``None`` where not asked for.
    blocks
        Of the diagonal blocks.
    x, density, density_se
        Spectral density, smoothed by a Gaussian of standard deviation ``width``; errors over the random vectors.
    draws
        Random vectors of density and traces.
    vectors
        Parameter name -> eigenvectors of the eigenvalues in ``whole``, smallest ones first, (2 count, \\*shape).
    """

    time: float = labelled(attribute=True)
    batches: int = labelled(attribute=True)
    samples: int = labelled(attribute=True)
    whole: BlockSpectrum = labelled(name="")
    gauss_newton: BlockSpectrum | None = labelled(default=None)
    blocks: tuple[BlockSpectrum, ...] = labelled("block", name="block", default=())
    x: Array = labelled("x", about="eigenvalue", unit="loss", default_factory=_empty)
    density: Array = labelled("x", about="spectral density", default_factory=_empty)
    density_se: Array = field(default_factory=_empty)
    width: float = np.nan
    draws: int = labelled(attribute=True, default=0)
    vectors: Mapping[str, Array] = labelled(json=False, saved=False, default_factory=dict, repr=False)

    def more_variables(self) -> Mapping[str, Variable]:
        """Names of the blocks as a coordinate."""
        words = [block.name for block in self.blocks]
        return {"block": (("block",), np.array(words, dtype=object), {})} if words else {}


@record
class KernelMatrix(Result):
    """The neural tangent kernel itself at one time: N probe points, M held-out points, C outputs.

    Attributes
    ----------
    matrix
        (N, C, N, C) on the probe batch.
    cross
        (M, C, N, C), held-out against probe points; ``None`` without held-out points.
    traced, cross_traced
        (N, N) and (M, N), the mean over outputs of the blocks of one output.
    per_output
        (C, N, N), the blocks of one output (class) with itself.
    """

    time: float = labelled(attribute=True)
    matrix: Array = labelled("sample", "output", "other_sample", "other_output", about="neural tangent kernel")
    cross: Array | None = labelled(
        "heldout", "output", "other_sample", "other_output", about="kernel of held-out with probe points", default=None
    )
    traced: Array = labelled("sample", "other_sample", about="mean over outputs")
    cross_traced: Array | None = labelled("heldout", "other_sample", about="mean over outputs", default=None)
    per_output: Array = labelled("output", "sample", "other_sample", about="blocks of one output")


@record
class CoordinateCheck(Result):
    """How activations and their updates scale with the width: means over ``replicates`` seeds.

    W widths, L modules. A parameterisation in which features are learned at any width has all exponents near 0 (the
    read-out's activations at the start excepted).

    Attributes
    ----------
    widths, modules
        (W,) and L names.
    activation, update
        Root mean square of a module's outputs at the start, and of their change after ``steps`` steps, (W, L).
    activation_exponent, update_exponent
        Slopes of their logarithms against that of the width, (L,), by least squares for each seed.
    """

    widths: Array = labelled("width", name="width", about="hidden units")
    modules: tuple[str, ...] = ()
    steps: int = labelled(attribute=True)
    replicates: int = labelled(attribute=True)
    activation: Array = labelled("width", "module", about="rms of activations at the start")
    activation_se: Array
    update: Array = labelled("width", "module", about="rms of their change")
    update_se: Array
    activation_exponent: Array = labelled("module", about="exponent of the activations in the width")
    activation_exponent_se: Array
    update_exponent: Array = labelled("module", about="exponent of the updates in the width")
    update_exponent_se: Array

    def more_variables(self) -> Mapping[str, Variable]:
        """Names of the modules as a coordinate."""
        return {"module": (("module",), np.array(self.modules, dtype=object), {})}
