"""The parts of an experiment as values: teacher, student, training, and how precisely to compute.

Everything here is frozen and valid by construction: whoever holds a value need not check it again. Arrays are read-only
``float64``. Symbols: theory/setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.numbers import is_number
from featurephase.foundation.types import Array
from featurephase.functions import Activation, Link, class_link, vector_link
from featurephase.functions import activation as parse_activation
from featurephase.functions import link as parse_link
from featurephase.problem.checks import (
    ACCEPTED,
    MAX_DELTA,
    MAX_LATENT_DIM,
    MAX_OUTPUTS,
    MAX_REPLICATES,
    MAX_SAMPLES,
    MAX_SEED,
    MAX_STEPS,
    MAX_WIDTH,
    MIN_SAMPLES,
    Value,
    check_array,
    check_choice,
    check_integer,
    check_number,
    frozen,
    parsed,
    refuse,
)


@dataclass(frozen=True, eq=False, init=False)
class Teacher(Value):
    """What makes the response: y = phi(g, noise), g the k latent coordinates of a sample.

    A number, a vector (several links), or a class (logits).

    Parameters
    ----------
    latent_dim
        k, the number of latent directions.
    link
        phi: an expression in g1..gk, e1.. (normal noise), u1.. (uniform noise), a catalogue name, or a
        :class:`~featurephase.functions.Link`; a list of them makes a vector, whose components share the noise.
    easy_basis
        Columns (k, k_E) spanning the easy subspace U_E, where it is known; they are made orthonormal.
        ``None``: it is computed.
    classes, logits, decision
        In place of ``link``: how many classes, a link for the logit of each, and whether the class is drawn by their
        ``"softmax"`` (default) or the ``"argmax"``. The response is then the class, 0..K-1.

    Raises
    ------
    InputError
        Naming the key, the value and what is accepted.
    """

    latent_dim: int
    link: Link
    easy_basis: Array | None  # (k, k_E), orthonormal columns

    def __init__(
        self,
        latent_dim: int,
        link: Link | str | Sequence[Link | str] | None = None,
        easy_basis: ArrayLike | None = None,
        *,
        classes: int | None = None,
        logits: Sequence[Link | str] | None = None,
        decision: str | None = None,
    ) -> None:
        of_classes = {"classes": classes, "logits": logits, "decision": decision}
        given = [f"teacher.{key}" for key, value in of_classes.items() if value is not None]
        if link is None and not given:
            raise InputError(f"teacher.link is missing: it must be {ACCEPTED['teacher.link']}")
        if link is not None and given:
            raise InputError(f"teacher.link and {given[0]} exclude each other: a response is either one or a class")
        k = check_integer("teacher.latent_dim", latent_dim, 1, MAX_LATENT_DIM)
        if link is None:
            phi = _classes(classes, logits, "softmax" if decision is None else decision, k)
        elif isinstance(link, (list, tuple)):
            parts = _links("teacher.link", link, k, 1)
            phi = vector_link(parts) if len(parts) > 1 else parts[0]
        else:
            phi = _one_link("teacher.link", link, k)
        basis = None if easy_basis is None else _orthonormal("teacher.easy_basis", easy_basis, k)
        self._set(latent_dim=k, link=phi, easy_basis=basis)

    @property
    def classes(self) -> int:
        """K, the number of classes; 0: the response is no class."""
        return self.link.classes


def _one_link(key: str, value: Any, k: int) -> Link:
    link: Link = value if isinstance(value, Link) else parsed(key, value, lambda text: parse_link(text, k))
    if link.latent_dim != k:
        raise InputError(f"{key} is a function of {link.latent_dim} latent coordinates, but latent_dim = {k}")
    return link


def _links(key: str, values: Any, k: int, least: int) -> list[Link]:
    """Scalar links; ``least``: so many at least."""
    if not isinstance(values, (list, tuple)) or not least <= len(values) <= MAX_OUTPUTS:
        refuse(key, values)
    links = [_one_link(f"{key}[{i}]", value, k) for i, value in enumerate(values)]
    if any(link.parts for link in links):
        refuse(key, values)
    return links


def _classes(classes: Any, logits: Any, decision: Any, k: int) -> Link:
    for key, value in (("teacher.classes", classes), ("teacher.logits", logits)):
        if value is None:
            raise InputError(f"{key} is missing: it must be {ACCEPTED[key]}")
    count = check_integer("teacher.classes", classes, 2, MAX_OUTPUTS)
    parts = _links("teacher.logits", logits, k, 1)
    if len(parts) != count:
        raise InputError(f"teacher.logits has {len(parts)} entries, but teacher.classes = {count}: one for each class")
    check_choice("teacher.decision", decision)
    return class_link(parts, decision)


def _orthonormal(key: str, value: Any, rows: int) -> Array:
    """Orthonormal basis of the span of the columns; orthonormal columns come back bit by bit the same."""
    basis = check_array(key, value, 2, lambda b: b.shape[0] == rows and b.shape[1] <= rows)
    if np.allclose(basis.T @ basis, np.eye(basis.shape[1]), rtol=0, atol=1e-12):
        return basis
    lengths = np.linalg.norm(basis, axis=0)
    if np.any(lengths == 0) or np.linalg.svd(basis / lengths, compute_uv=False)[-1] < 1e-8:
        refuse(key, value)
    q, r = np.linalg.qr(basis / lengths)
    return frozen(q * np.sign(np.diag(r)))


@dataclass(frozen=True, eq=False, init=False)
class Student(Value):
    """The two-layer network f(x) = A' sigma(Theta' x + b) + c and its initialisation.

    Parameters
    ----------
    activation
        sigma: a catalogue name, an expression in h, or an :class:`~featurephase.functions.Activation`.
    readout
        A at the start: (m,) for one output, (m, C) for several; or ``{"width": m, "value": a}`` for equal entries.
    init_gram
        Q0 = Theta(0)'Theta(0), shape (m, m). Default: ``init_norm**2`` times the identity.
    init_overlap
        M0 = Theta_star'Theta(0), shape (k, m). Default: zero, a random start in the limit of large dimension.
        A student on its own does not know k, and then holds an empty (0, m) array until a problem fills it.
    init_norm
        Norm of each of m orthogonal neurons, instead of ``init_gram``; default 1.
    bias, output_bias
        b (m,) and c (C,) at the start, or one number for all; default 0.

    Raises
    ------
    InputError
        Naming the key, the value and what is accepted.
    """

    activation: Activation
    readout: Array  # (m,), or (m, C) with C > 1 outputs
    init_gram: Array  # (m, m)
    init_overlap: Array  # (k, m)
    bias: Array  # (m,)
    output_bias: Array  # (C,)

    def __init__(
        self,
        activation: Activation | str,
        readout: ArrayLike | Mapping[str, Any],
        init_gram: ArrayLike | None = None,
        init_overlap: ArrayLike | None = None,
        *,
        init_norm: float | None = None,
        bias: ArrayLike = 0.0,
        output_bias: ArrayLike = 0.0,
    ) -> None:
        if not isinstance(activation, Activation):
            activation = parsed("student.activation", activation, parse_activation)
        a = _readout("student.readout", readout)
        m = len(a)
        if init_gram is not None and init_norm is not None:
            raise InputError("student.init_gram and student.init_norm exclude each other: give one of them")
        if init_gram is not None:
            gram = _gram("student.init_gram", init_gram, m)
        else:
            norm = check_number("student.init_norm", 1.0 if init_norm is None else init_norm, lambda x: 0 <= x <= 1e100)
            gram = frozen(norm * norm * np.eye(m))
        overlap = frozen(np.zeros((0, m)))
        if init_overlap is not None:
            overlap = check_array("student.init_overlap", init_overlap, 2, lambda b: b.shape[1] == m)
            if _smallest_relative_eigenvalue(gram - overlap.T @ overlap, gram) < -1e-10:
                raise InputError(
                    f"student.init_overlap = {show(overlap)}: init_gram - init_overlap' init_overlap must be "
                    "positive semidefinite (no vectors have this Gram matrix and these overlaps); make "
                    "init_overlap smaller or init_gram larger"
                )
        self._set(
            activation=activation,
            readout=a,
            init_gram=gram,
            init_overlap=overlap,
            bias=_numbers("student.bias", bias, m),
            output_bias=_numbers("student.output_bias", output_bias, a.size // m),
        )

    @property
    def width(self) -> int:
        """m, the number of hidden neurons."""
        return len(self.readout)

    @property
    def outputs(self) -> int:
        """C, the number of outputs."""
        return self.readout.size // len(self.readout)

    @property
    def readout_matrix(self) -> Array:
        """A at the start, (m, C) whatever C."""
        return self.readout.reshape(self.width, -1)

    @property
    def has_biases(self) -> bool:
        """Whether a bias is not zero at the start."""
        return bool(np.any(self.bias) or np.any(self.output_bias))

    @property
    def identical(self) -> bool:
        """Whether two neurons of equal read-out and bias begin with the same weights: they stay the same for ever."""
        gram = self.init_gram
        pairs = ((g[0], r) for g in self.exchangeable for r in g[1:])
        return any(gram[r, s] == gram[r, r] == gram[s, s] > 0.0 for r, s in pairs)

    @property
    def exchangeable(self) -> tuple[tuple[int, ...], ...]:
        """The neurons (from 0) in groups of one law: any two of a group can be swapped in a, Q0 and M0.

        Gradient descent treats all neurons alike, so that they share one law at every time.
        """
        a, gram, overlap = self.readout_matrix, self.init_gram, self.init_overlap

        def alike(r: int, s: int) -> bool:
            others = np.delete(np.arange(self.width), [r, s])
            return bool(
                np.array_equal(a[r], a[s])
                and self.bias[r] == self.bias[s]
                and gram[r, r] == gram[s, s]
                and np.array_equal(overlap[:, r], overlap[:, s])
                and np.array_equal(gram[r, others], gram[s, others])
            )

        groups: list[list[int]] = []
        for r in range(self.width):
            group = next((g for g in groups if alike(g[0], r)), None)
            if group is None:
                groups.append([r])
            else:
                group.append(r)
        return tuple(tuple(g) for g in groups)

    @property
    def _init(self) -> dict[str, Any]:
        """The initialisation in the shortest keys that give it back exactly; a zero overlap is left out."""
        gram = self.init_gram
        norm = math.sqrt(gram[0, 0])
        isotropic = norm * norm == gram[0, 0] and np.array_equal(gram, gram[0, 0] * np.eye(self.width))
        init: dict[str, Any] = {"init_norm": norm} if isotropic else {"init_gram": gram}
        init |= {"init_overlap": self.init_overlap} if np.any(self.init_overlap) else {}
        for key, values in (("bias", self.bias), ("output_bias", self.output_bias)):
            if np.any(values):
                init[key] = float(values[0]) if np.all(values == values[0]) else values
        return init


def _numbers(key: str, value: Any, count: int) -> Array:
    """So many numbers; one stands for all."""
    if is_number(value):
        value = [value] * count
    return check_array(key, value, 1, lambda x: len(x) == count)


def _readout(key: str, value: Any) -> Array:
    if isinstance(value, Mapping):
        if set(value) != {"width", "value"}:
            refuse(key, dict(value))
        accepted = f"a whole number from 1 to {MAX_WIDTH}"
        value = [value["value"]] * check_integer(f"{key}.width", value["width"], 1, MAX_WIDTH, accepted)
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    rows = isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], (list, tuple))
    readout = check_array(
        key,
        value,
        2 if rows else 1,
        lambda a: 1 <= len(a) <= MAX_WIDTH and 1 <= a.size <= MAX_OUTPUTS * len(a) and bool(np.any(a)),
    )
    return frozen(readout[:, 0].copy()) if rows and readout.shape[1] == 1 else readout


def _smallest_relative_eigenvalue(matrix: Array, scale: Array) -> float:
    size = float(np.abs(scale).max())
    return float(np.linalg.eigvalsh(matrix).min()) / size if size > 0 else -float(np.any(matrix))


def _gram(key: str, value: Any, m: int) -> Array:
    gram = check_array(key, value, 2, lambda q: q.shape == (m, m))
    size = float(np.abs(gram).max())
    if size > 1e200 or np.abs(gram - gram.T).max() > 1e-12 * size or _smallest_relative_eigenvalue(gram, gram) < -1e-10:
        refuse(key, value)
    return frozen((gram + gram.T) / 2)


#: Optimisers that people ask for and that the theory excludes, and why.
_COORDINATEWISE = (
    "it rescales or takes signs of each coordinate by itself, so it depends on the basis of R^d: the limit covers "
    "rotation-invariant rules only"
)
_EXCLUDED_OPTIMISERS = frozenset(
    {"adam", "adamw", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "lion", "sign", "signsgd", "sign-sgd"}
)


@dataclass(frozen=True)
class GradientDescent:
    """First-order training with O(1) step size: full-batch gradient descent unless more is said.

    Theta(t+1) = (1 - eta lambda) Theta(t) - eta (1/n) X'F(t); the variants are those of
    :class:`~featurephase.dynamics.optimisers.FirstOrderRule`.

    Parameters
    ----------
    step_size
        eta > 0, of order 1.
    steps
        T >= 0, the number of steps.
    weight_decay
        lambda >= 0: the risk has the term lambda/2 times the squared Frobenius norm of Theta.
    readout_step_size, bias_step_size, output_bias_step_size
        Step sizes >= 0 of A, b and c (theory/trained-layers, eq. tra-step); 0: fixed. Schedule, momentum and batches
        are those of the first layer; ``gradient_scaling`` is of the first layer's gradient alone.
    readout_decay, bias_decay, output_bias_decay
        Their weight decays >= 0.
    optimiser, momentum
        ``"gradient-descent"``, or ``"heavy-ball"`` or ``"nesterov"`` with a momentum beta in (0, 1).
    batch_fraction, batches
        A step uses ``batch_fraction`` n samples: of a ``"fixed"`` split of the data, of one that is ``"reshuffled"``
        after every pass, or fresh ones that are never used again (``"one-pass"``).
    schedule, schedule_final, schedule_exponent, schedule_time, warmup
        The factor of the step size, see :class:`~featurephase.dynamics.optimisers.Schedule`.
    gradient_scaling, clip_norm
        ``"clip"``, ``"normalise"`` or ``"orthogonalise"`` the gradient of the unpenalised risk.
    """

    step_size: float
    steps: int
    weight_decay: float = 0.0
    optimiser: str = "gradient-descent"
    momentum: float = 0.0
    batch_fraction: float = 1.0
    batches: str = "fixed"
    schedule: str = "constant"
    schedule_final: float = 0.0
    schedule_exponent: float = 0.5
    schedule_time: float = 1.0
    warmup: int = 0
    gradient_scaling: str = "none"
    clip_norm: float = math.inf
    readout_step_size: float = 0.0
    bias_step_size: float = 0.0
    output_bias_step_size: float = 0.0
    readout_decay: float = 0.0
    bias_decay: float = 0.0
    output_bias_decay: float = 0.0

    def __post_init__(self) -> None:
        set_ = object.__setattr__

        def number(name: str, within: Callable[[float], bool]) -> None:
            set_(self, name, check_number(f"training.{name}", getattr(self, name), within))

        number("step_size", lambda x: x > 0)
        set_(self, "steps", check_integer("training.steps", self.steps, 0, MAX_STEPS))
        number("weight_decay", lambda x: x >= 0)
        if str(self.optimiser).lower() in _EXCLUDED_OPTIMISERS:
            accepted = f"{ACCEPTED['training.optimiser']}; {self.optimiser} is refused because {_COORDINATEWISE}"
            refuse("training.optimiser", self.optimiser, accepted)
        check_choice("training.optimiser", self.optimiser)
        number("momentum", lambda x: 0 <= x < 1)
        if (self.momentum > 0) != (self.optimiser != "gradient-descent"):
            refuse("training.momentum", self.momentum)
        # Decimals of 1/3 are taken for 1/3.
        number("batch_fraction", lambda x: 0.99e-4 < x <= 1 and abs(round(1 / x) * x - 1) <= 1e-3)
        set_(self, "batch_fraction", 1 / self.batch_count)
        check_choice("training.batches", self.batches)
        check_choice("training.schedule", self.schedule)
        number("schedule_final", lambda x: 0 <= x <= 1)
        number("schedule_exponent", lambda x: x >= 0)
        number("schedule_time", lambda x: x > 0)
        set_(self, "warmup", check_integer("training.warmup", self.warmup, 0, MAX_STEPS))
        check_choice("training.gradient_scaling", self.gradient_scaling)
        if self.gradient_scaling == "clip":
            number("clip_norm", lambda x: x > 0)
        elif self.clip_norm != math.inf:
            refuse("training.clip_norm", self.clip_norm)
        for part in ("readout", "bias", "output_bias"):
            number(f"{part}_step_size", lambda x: x >= 0)
            number(f"{part}_decay", lambda x: x >= 0)
            decay = getattr(self, f"{part}_decay")
            if decay > 0 and getattr(self, f"{part}_step_size") == 0:
                refuse(f"training.{part}_decay", decay)

    @property
    def trains_outer(self) -> bool:
        """Whether the readout, the bias or the output bias is trained."""
        return max(self.readout_step_size, self.bias_step_size, self.output_bias_step_size) > 0

    @property
    def batch_count(self) -> int:
        """Number of batches that make up the n samples."""
        return round(1 / self.batch_fraction)

    @property
    def one_pass(self) -> bool:
        """Whether every step has samples of its own."""
        return self.batches == "one-pass"

    def data_ratio(self, delta: float) -> float:
        """n/d of the data that the Hessian is about: with one pass the fresh samples of one step, else all of them."""
        return delta * self.batch_fraction if self.one_pass else delta

    @property
    def reuses_batches(self) -> bool:
        """Whether steps use parts of the data and come back to them."""
        return self.batch_count > 1 and not self.one_pass


@dataclass(frozen=True)
class Asymptotics:
    """How precisely the limit is computed.

    Parameters
    ----------
    samples
        Sample paths per replicate.
    replicates
        Independent repetitions, at least 2: the standard errors come from them.
    seed
        Seed of all random numbers.
    """

    samples: int = 100_000
    replicates: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "samples", check_integer("asymptotics.samples", self.samples, MIN_SAMPLES, MAX_SAMPLES))
        set_(self, "replicates", check_integer("asymptotics.replicates", self.replicates, 2, MAX_REPLICATES))
        set_(self, "seed", check_integer("asymptotics.seed", self.seed, 0, MAX_SEED))


@dataclass(frozen=True)
class ThresholdSearch:
    """Where thresholds in delta = n/d are searched.

    Parameters
    ----------
    delta_range
        (smallest, largest) delta.
    max_steps
        How many steps the limit t -> infinity may run.
    """

    delta_range: tuple[float, float] = (0.05, 1000.0)
    max_steps: int = 5000

    def __post_init__(self) -> None:
        key = "threshold.delta_range"
        pair = check_array(key, self.delta_range, 1, lambda x: x.shape == (2,) and bool(0 < x[0] < x[1] <= MAX_DELTA))
        object.__setattr__(self, "delta_range", (float(pair[0]), float(pair[1])))
        object.__setattr__(self, "max_steps", check_integer("threshold.max_steps", self.max_steps, 1, MAX_STEPS))


@dataclass(frozen=True)
class Run:
    """What is computed of a trajectory.

    Parameters
    ----------
    delta
        The values of n/d to run; empty where they are given otherwise.
    times
        Steps at which the Hessian is analysed, kept ascending without repetition. ``None``: the last step;
        empty: nowhere.
    """

    delta: tuple[float, ...] = ()
    times: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        delta = [self.delta] if is_number(self.delta) else self.delta
        values = check_array("run.delta", delta, 1, lambda x: bool(np.all((x > 0) & (x <= MAX_DELTA))))
        object.__setattr__(self, "delta", tuple(values.tolist()))
        if self.times is not None:
            times: Any = [self.times] if is_number(self.times) else self.times
            if hasattr(times, "__array__"):
                times = np.asarray(times).tolist()
            if not isinstance(times, (list, tuple)):
                refuse("run.times", times)
            checked = {check_integer("run.times", t, 0, MAX_STEPS) for t in times}
            object.__setattr__(self, "times", tuple(sorted(checked)))
