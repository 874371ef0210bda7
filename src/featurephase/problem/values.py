"""The experiment as a value: teacher, student, loss, training, and how precisely to compute.

Everything here is frozen and valid by construction: whoever holds a :class:`Problem` need not check it again.
Arrays are read-only ``float64``. The constructors, the TOML file and :meth:`Problem.replace` go through the
same checks, and an error always names the key, what was given and what would be accepted.
Symbols: theory/setting.
"""

from __future__ import annotations

import copy
import inspect
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation import tomlfile
from featurephase.foundation.errors import InputError, show, suggest
from featurephase.foundation.types import Array
from featurephase.functions import Activation, Link, Loss
from featurephase.functions import activation as parse_activation
from featurephase.functions import link as parse_link
from featurephase.functions import loss as parse_loss

__all__ = [
    "ACCEPTED",
    "Asymptotics",
    "GradientDescent",
    "Problem",
    "Run",
    "Student",
    "Teacher",
    "ThresholdSearch",
    "load",
]


# Ranges. Far beyond what can be computed; they catch typing errors. Memory is checked where it is spent.
MAX_LATENT_DIM = 64
MAX_WIDTH = 1024
MAX_STEPS = 1_000_000
MIN_SAMPLES = 100
MAX_SAMPLES = 1_000_000_000
MAX_REPLICATES = 100_000
MAX_SEED = 2**63 - 1
MAX_TITLE = 500

#: Dotted key of the experiment file -> what is accepted there.
ACCEPTED: dict[str, str] = {
    "title": f"a text of at most {MAX_TITLE} characters",
    "teacher.latent_dim": f"a whole number from 1 to {MAX_LATENT_DIM}",
    "teacher.link": "an expression in g1..gk, e1, e2.., u1, u2.. (or a catalogue name), as a text",
    "teacher.easy_basis": "latent_dim rows of k_E <= latent_dim finite numbers: linearly independent columns",
    "student.activation": "a catalogue name or an expression in h, as a text",
    "student.readout": (
        f"a list of 1 to {MAX_WIDTH} finite numbers, not all zero, or {{width = .., value = ..}} for equal ones"
    ),
    "student.init_gram": "a symmetric positive semidefinite m x m matrix (a list of m rows), m neurons",
    "student.init_norm": "a finite number >= 0 (instead of init_gram)",
    "student.init_overlap": (
        "latent_dim rows of m finite numbers, init_gram - init_overlap' init_overlap positive semidefinite"
    ),
    "loss.name": "a catalogue name, as a text",
    "loss.expression": "an expression in y and f, as a text (instead of name)",
    "training.step_size": "a finite number > 0",
    "training.steps": f"a whole number from 0 to {MAX_STEPS}",
    "training.weight_decay": "a finite number >= 0",
    "training.optimiser": "gradient-descent, heavy-ball or nesterov",
    "training.momentum": "a finite number from 0 to 1, 1 excluded; above 0 for heavy-ball and nesterov, and only there",
    "training.batch_fraction": "1 over a whole number from 1 to 10000: the share of the n samples that a step uses",
    "training.batches": "fixed, reshuffled or one-pass",
    "training.schedule": "constant, cosine or power",
    "training.schedule_final": "a finite number from 0 to 1: the last factor of the cosine schedule",
    "training.schedule_exponent": "a finite number >= 0: of the factor (1 + t/schedule_time)^-schedule_exponent",
    "training.schedule_time": "a finite number > 0",
    "training.warmup": f"a whole number from 0 to {MAX_STEPS}",
    "training.gradient_scaling": "none, clip, normalise or orthogonalise",
    "training.clip_norm": 'a finite number > 0 (needed for gradient_scaling = "clip", and only there)',
    "asymptotics.samples": f"a whole number from {MIN_SAMPLES} to {MAX_SAMPLES}",
    "asymptotics.replicates": f"a whole number from 2 to {MAX_REPLICATES}",
    "asymptotics.seed": "a whole number from 0 to 2**63 - 1",
    "threshold.delta_range": "two finite numbers [a, b] with 0 < a < b",
    "threshold.max_steps": f"a whole number from 1 to {MAX_STEPS}",
    "run.delta": "a list of finite numbers > 0",
    "run.times": "a list of whole numbers from 0 to training.steps",
}


def _refuse(key: str, value: object, accepted: str | None = None) -> Never:
    raise InputError(f"{key} = {show(value)}: must be {accepted or ACCEPTED[key]}")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)  # numpy's bool is not Real


def _integer(key: str, value: object, low: int, high: int, accepted: str | None = None) -> int:
    if _is_number(value) and isinstance(value, numbers.Integral) and low <= int(value) <= high:
        return int(value)
    _refuse(key, value, accepted)


def _number(key: str, value: Any, within: Callable[[float], bool] = math.isfinite) -> float:
    try:
        if _is_number(value) and math.isfinite(value) and within(float(value)):
            return float(value)
    except OverflowError:  # an integer beyond 1e308
        pass
    _refuse(key, value)


def _rows(value: Any, ndim: int) -> Any:
    """Nested lists of floats, or ``ValueError`` where the nesting or an entry is anything else."""
    if ndim == 0:
        if not _is_number(value):
            raise ValueError("not a number")
        return float(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError("not a list")
    return [_rows(entry, ndim - 1) for entry in value]


def _array(key: str, value: Any, ndim: int, fits: Callable[[Array], bool]) -> Array:
    """A read-only float64 copy of ``value``: exactly ``ndim`` dimensions, finite, and as ``fits`` says."""
    try:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        array = np.array(_rows(value, ndim), dtype=np.float64)
    except (ValueError, OverflowError):
        _refuse(key, value)
    if array.ndim != ndim or not np.all(np.isfinite(array)) or not fits(array):
        _refuse(key, value)
    return _frozen(array)


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        _refuse(key, value)
    return value


def _plain(value: Any) -> Any:
    """``value`` in a form that compares and hashes by content."""
    return (value.shape, tuple(value.ravel().tolist())) if isinstance(value, np.ndarray) else value


class _Value:
    """Frozen values with arrays in them: equal and hashed by content; ``__init__`` sets checked fields."""

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """After pickling, which forgets that an array was read-only."""
        self._set(**{k: _frozen(v) if isinstance(v, np.ndarray) else v for k, v in state.items()})

    def _content(self) -> tuple[Any, ...]:
        return tuple(_plain(getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self._content() == other._content() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._content()))


@dataclass(frozen=True, eq=False, init=False)
class Teacher(_Value):
    """What makes the response: y = phi(g, noise), g the k latent coordinates of a sample.

    Parameters
    ----------
    latent_dim
        k, the number of latent directions.
    link
        phi: an expression in g1..gk, e1.. (normal noise), u1.. (uniform noise), a catalogue name, or a
        :class:`~featurephase.functions.Link`.
    easy_basis
        Columns (k, k_E) spanning the easy subspace U_E, where it is known; they are made orthonormal.
        ``None``: it is computed.

    Raises
    ------
    InputError
        Naming the key, the value and what is accepted.
    """

    latent_dim: int
    link: Link
    easy_basis: Array | None  # (k, k_E), orthonormal columns

    def __init__(self, latent_dim: int, link: Link | str, easy_basis: ArrayLike | None = None) -> None:
        k = _integer("teacher.latent_dim", latent_dim, 1, MAX_LATENT_DIM)
        phi = link if isinstance(link, Link) else _parsed("teacher.link", link, lambda text: parse_link(text, k))
        if phi.latent_dim != k:
            raise InputError(f"teacher.link is a function of {phi.latent_dim} latent coordinates, but latent_dim = {k}")
        basis = None if easy_basis is None else _orthonormal("teacher.easy_basis", easy_basis, k)
        self._set(latent_dim=k, link=phi, easy_basis=basis)


def _parsed(key: str, value: object, parse: Callable[[str], Any]) -> Any:
    """A function from its text, with the key in front of the first line of the parser's complaint."""
    text = _text(key, value)
    try:
        return parse(text)
    except InputError as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # the lines after it point into the text
        raise InputError(f"{key} = {show(text)}: {reason}") from error


def _orthonormal(key: str, value: Any, rows: int) -> Array:
    """Orthonormal basis of the span of the columns; orthonormal columns come back bit by bit the same."""
    basis = _array(key, value, 2, lambda b: b.shape[0] == rows and b.shape[1] <= rows)
    if np.allclose(basis.T @ basis, np.eye(basis.shape[1]), rtol=0, atol=1e-12):
        return basis
    lengths = np.linalg.norm(basis, axis=0)
    if np.any(lengths == 0) or np.linalg.svd(basis / lengths, compute_uv=False)[-1] < 1e-8:
        _refuse(key, value)
    q, r = np.linalg.qr(basis / lengths)
    return _frozen(q * np.sign(np.diag(r)))


@dataclass(frozen=True, eq=False, init=False)
class Student(_Value):
    """The two-layer network f(x) = sum_r a_r sigma(theta_r' x) and its initialisation.

    Parameters
    ----------
    activation
        sigma: a catalogue name, an expression in h, or an :class:`~featurephase.functions.Activation`.
    readout
        a (m,), fixed; or ``{"width": m, "value": a}`` for equal entries.
    init_gram
        Q0 = Theta(0)'Theta(0), shape (m, m). Default: ``init_norm**2`` times the identity.
    init_overlap
        M0 = Theta_star'Theta(0), shape (k, m). Default: zero, a random start in the limit of large dimension.
        A student on its own does not know k, and then holds an empty (0, m) array until a problem fills it.
    init_norm
        Norm of each of m orthogonal neurons, instead of ``init_gram``; default 1.

    Raises
    ------
    InputError
        Naming the key, the value and what is accepted.
    """

    activation: Activation
    readout: Array  # (m,)
    init_gram: Array  # (m, m)
    init_overlap: Array  # (k, m)

    def __init__(
        self,
        activation: Activation | str,
        readout: ArrayLike | Mapping[str, float],
        init_gram: ArrayLike | None = None,
        init_overlap: ArrayLike | None = None,
        *,
        init_norm: float | None = None,
    ) -> None:
        if not isinstance(activation, Activation):
            activation = _parsed("student.activation", activation, parse_activation)
        a = _readout("student.readout", readout)
        m = a.size
        if init_gram is not None and init_norm is not None:
            raise InputError("student.init_gram and student.init_norm exclude each other: give one of them")
        if init_gram is not None:
            gram = _gram("student.init_gram", init_gram, m)
        else:
            norm = _number("student.init_norm", 1.0 if init_norm is None else init_norm, lambda x: 0 <= x <= 1e100)
            gram = _frozen(norm * norm * np.eye(m))
        overlap = _frozen(np.zeros((0, m)))
        if init_overlap is not None:
            overlap = _array("student.init_overlap", init_overlap, 2, lambda b: b.shape[1] == m)
            if _smallest_relative_eigenvalue(gram - overlap.T @ overlap, gram) < -1e-10:
                raise InputError(
                    f"student.init_overlap = {show(overlap)}: init_gram - init_overlap' init_overlap must be "
                    "positive semidefinite (no vectors have this Gram matrix and these overlaps); make "
                    "init_overlap smaller or init_gram larger"
                )
        self._set(activation=activation, readout=a, init_gram=gram, init_overlap=overlap)

    @property
    def width(self) -> int:
        """m, the number of hidden neurons."""
        return int(self.readout.size)

    @property
    def exchangeable(self) -> tuple[tuple[int, ...], ...]:
        """The neurons (from 0) in groups of one law: any two of a group can be swapped in a, Q0 and M0.

        Gradient descent treats all neurons alike, so that they share one law at every time.
        """
        a, gram, overlap = self.readout, self.init_gram, self.init_overlap

        def alike(r: int, s: int) -> bool:
            others = np.delete(np.arange(self.width), [r, s])
            return bool(
                a[r] == a[s]
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
        return init | ({"init_overlap": self.init_overlap} if np.any(self.init_overlap) else {})


def _readout(key: str, value: Any) -> Array:
    if isinstance(value, Mapping):
        if set(value) != {"width", "value"}:
            _refuse(key, dict(value))
        accepted = f"a whole number from 1 to {MAX_WIDTH}"
        value = [value["value"]] * _integer(f"{key}.width", value["width"], 1, MAX_WIDTH, accepted)
    return _array(key, value, 1, lambda a: 1 <= a.size <= MAX_WIDTH and bool(np.any(a)))


def _smallest_relative_eigenvalue(matrix: Array, scale: Array) -> float:
    size = float(np.abs(scale).max())
    return float(np.linalg.eigvalsh(matrix).min()) / size if size > 0 else -float(np.any(matrix))


def _gram(key: str, value: Any, m: int) -> Array:
    gram = _array(key, value, 2, lambda q: q.shape == (m, m))
    size = float(np.abs(gram).max())
    if size > 1e200 or np.abs(gram - gram.T).max() > 1e-12 * size or _smallest_relative_eigenvalue(gram, gram) < -1e-10:
        _refuse(key, value)
    return _frozen((gram + gram.T) / 2)


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

    def __post_init__(self) -> None:
        set_ = object.__setattr__

        def number(name: str, within: Callable[[float], bool]) -> None:
            set_(self, name, _number(f"training.{name}", getattr(self, name), within))

        number("step_size", lambda x: x > 0)
        set_(self, "steps", _integer("training.steps", self.steps, 0, MAX_STEPS))
        number("weight_decay", lambda x: x >= 0)
        if str(self.optimiser).lower() in _EXCLUDED_OPTIMISERS:
            accepted = f"{ACCEPTED['training.optimiser']}; {self.optimiser} is refused because {_COORDINATEWISE}"
            _refuse("training.optimiser", self.optimiser, accepted)
        _choice("training.optimiser", self.optimiser)
        number("momentum", lambda x: 0 <= x < 1)
        if (self.momentum > 0) != (self.optimiser != "gradient-descent"):
            _refuse("training.momentum", self.momentum)
        # Decimals of 1/3 are taken for 1/3.
        number("batch_fraction", lambda x: 0.99e-4 < x <= 1 and abs(round(1 / x) * x - 1) <= 1e-3)
        set_(self, "batch_fraction", 1 / self.batch_count)
        _choice("training.batches", self.batches)
        _choice("training.schedule", self.schedule)
        number("schedule_final", lambda x: 0 <= x <= 1)
        number("schedule_exponent", lambda x: x >= 0)
        number("schedule_time", lambda x: x > 0)
        set_(self, "warmup", _integer("training.warmup", self.warmup, 0, MAX_STEPS))
        _choice("training.gradient_scaling", self.gradient_scaling)
        if self.gradient_scaling == "clip":
            number("clip_norm", lambda x: x > 0)
        elif self.clip_norm != math.inf:
            _refuse("training.clip_norm", self.clip_norm)

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


def _choice(key: str, value: object) -> None:
    """Refuse what is not one of the words in :data:`ACCEPTED`."""
    if not (isinstance(value, str) and value in ACCEPTED[key].replace(" or ", ", ").split(", ")):
        _refuse(key, value)


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
        set_(self, "samples", _integer("asymptotics.samples", self.samples, MIN_SAMPLES, MAX_SAMPLES))
        set_(self, "replicates", _integer("asymptotics.replicates", self.replicates, 2, MAX_REPLICATES))
        set_(self, "seed", _integer("asymptotics.seed", self.seed, 0, MAX_SEED))


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
        pair = _array(key, self.delta_range, 1, lambda x: x.shape == (2,) and bool(0 < x[0] < x[1]))
        object.__setattr__(self, "delta_range", (float(pair[0]), float(pair[1])))
        object.__setattr__(self, "max_steps", _integer("threshold.max_steps", self.max_steps, 1, MAX_STEPS))


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
        delta = _array("run.delta", self.delta, 1, lambda x: bool(np.all(x > 0)))
        object.__setattr__(self, "delta", tuple(delta.tolist()))
        if self.times is not None:
            times: Any = self.times
            if not isinstance(times, (list, tuple, np.ndarray)):
                _refuse("run.times", times)
            checked = {_integer("run.times", t, 0, MAX_STEPS) for t in times}
            object.__setattr__(self, "times", tuple(sorted(checked)))


_SECTIONS: dict[str, Callable[..., Any]] = {
    "teacher": Teacher,
    "student": Student,
    "training": GradientDescent,
    "asymptotics": Asymptotics,
    "threshold": ThresholdSearch,
    "run": Run,
}

_KEYS: dict[str, tuple[str, ...]] = {"teacher": (), "student": (), "loss": ()}  # the order of the file
for _dotted in ACCEPTED:
    if "." in _dotted:
        _section, _key = _dotted.split(".")
        _KEYS[_section] = (*_KEYS.get(_section, ()), _key)

#: Tables that other commands read, so that the message can say which.
_ELSEWHERE = {
    "latent": "featurephase latent",
    "axis": "featurephase sweep",
    "base": "featurephase sweep",
    "quantities": "featurephase sweep",
}


@dataclass(frozen=True, eq=False, init=False)
class Problem(_Value):
    """Everything that defines an experiment.

    Parameters
    ----------
    teacher, student, training, asymptotics, threshold, run
        The parts, each checked by itself.
    loss
        A catalogue name or a :class:`~featurephase.functions.Loss`.
    title
        One line for people.

    Raises
    ------
    InputError
        If the parts do not fit together, or link, activation or loss is not finite on samples of the start.

    Examples
    --------
    >>> from featurephase.problem import GradientDescent, Problem, Student, Teacher
    >>> problem = Problem(
    ...     teacher=Teacher(latent_dim=1, link="1.5*tanh(g1**2)"),
    ...     student=Student("gelu", readout=[1.0]),
    ...     loss="squared",
    ...     training=GradientDescent(step_size=0.8, steps=60),
    ... )
    >>> problem.replace(training={"steps": 10}).training.steps
    10
    >>> Problem.from_toml(problem.to_toml()) == problem
    True
    """

    title: str
    teacher: Teacher
    student: Student
    loss: Loss
    training: GradientDescent
    asymptotics: Asymptotics
    threshold: ThresholdSearch
    run: Run

    def __init__(
        self,
        *,
        teacher: Teacher,
        student: Student,
        loss: Loss | str,
        training: GradientDescent,
        asymptotics: Asymptotics | None = None,
        threshold: ThresholdSearch | None = None,
        run: Run | None = None,
        title: str = "",
    ) -> None:
        _check_title(title)
        if not isinstance(loss, Loss):
            loss = _parsed("loss.name", loss, parse_loss)
        run = Run() if run is None else run
        if run.times and run.times[-1] > training.steps:
            beyond = [t for t in run.times if t > training.steps]
            raise InputError(
                f"run.times = {show(beyond)}: beyond the last step; must be {ACCEPTED['run.times']} = {training.steps}"
            )
        self._set(
            title=title,
            teacher=teacher,
            student=_with_overlap(student, teacher.latent_dim),
            loss=loss,
            training=training,
            asymptotics=asymptotics or Asymptotics(),
            threshold=threshold or ThresholdSearch(),
            run=run,
        )
        _check_finite(self)

    @classmethod
    def from_toml(cls, text: str, *, source: str = "the text") -> Problem:
        """The problem that a TOML text describes (see the page on the experiment file).

        Raises
        ------
        InputError
            If the text is not TOML or says something that is not accepted.
        """
        return _from_tables(tomlfile.parse(text, source))

    def to_toml(self) -> str:
        """The experiment file of this problem: ``Problem.from_toml(problem.to_toml()) == problem``.

        Raises
        ------
        InputError
            If a function was made from Python callables, for which there is no text.
        """
        tables = _tables(self)
        lines = [f"title = {_toml(tables.pop('title'), 'title')}"]
        for section, table in tables.items():
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {_toml(value, f'{section}.{key}')}" for key, value in table.items()]
        return "\n".join(lines) + "\n"

    @property
    def singular_curvature(self) -> bool:
        """Whether the second derivative of the activation or the loss is no function: there is no Hessian."""
        return bool(self.student.activation.singular_curvature or self.loss.singular_curvature)

    def replace(self, **changes: Any) -> Problem:
        """A copy with some keys changed, checked as a whole like any other problem.

        Parameters
        ----------
        **changes
            ``section={"key": value, ..}``, ``**{"section.key": value}``, a whole section
            (``training=GradientDescent(..)``), ``loss=`` a name or loss, or ``title``. Keys are those of the
            experiment file. A start of equal norms and zero overlap stays one when the width or the latent
            dimension changes.

        Raises
        ------
        InputError
            If a key is unknown or the changed problem is not valid.
        """
        tables = _tables(self)
        for name, value in changes.items():
            section, _, key = name.partition(".")
            if key:
                _change(tables, section, {key: value})
            elif isinstance(value, Mapping):
                _change(tables, section, value)
            elif section in tables:
                tables[section] = value
            else:
                _unknown(name, value, ("title", *_KEYS))
        return _from_tables(tables)

    def quick(self) -> Problem:
        """The same with a tenth of the samples (but at least the fewest accepted): what ``--quick`` runs."""
        return self.replace(asymptotics={"samples": max(MIN_SAMPLES, self.asymptotics.samples // 10)})


def _check_title(title: Any) -> None:
    try:
        if isinstance(title, str) and len(title) <= MAX_TITLE:
            title.encode()  # half a surrogate pair has no place in a file
            return
    except UnicodeEncodeError:
        pass
    _refuse("title", title)


def _with_overlap(student: Student, latent_dim: int) -> Student:
    """The student with an overlap of k rows; an empty overlap becomes zeros, any other number is refused."""
    rows = student.init_overlap.shape[0]
    if rows == latent_dim:
        return student
    if rows:
        _refuse(
            "student.init_overlap",
            student.init_overlap,
            f"{latent_dim} rows (teacher.latent_dim) of {student.width} numbers",
        )
    filled = copy.copy(student)
    filled._set(init_overlap=_frozen(np.zeros((latent_dim, student.width))))
    return filled


def _unknown(name: str, value: object, accepted: Iterable[str], section: str = "") -> Never:
    kind = "table" if isinstance(value, (Mapping, list)) and not section else "key"
    if section == "training" and name in ("batch_size", "batch"):
        raise InputError(
            f"training.{name} = {show(value, 40)}: a batch of a fixed number of samples is a vanishing share of n "
            "and outside the limit n, d -> infinity at fixed n/d; give training.batch_fraction, "
            f"{ACCEPTED['training.batch_fraction']}"
        )
    if not section and name in _ELSEWHERE:
        raise InputError(
            f"unknown {kind} {show(name)}: it belongs in a file for `{_ELSEWHERE[name]}`, not in an experiment file"
        )
    home = next((f"[{other}]" for other, keys in _KEYS.items() if name in keys and other != section), None)
    hint = f"it belongs in {home}; " if home else ""
    where = f" in [{section}]" if section else ""
    raise InputError(f"unknown {kind} {show(name)}{where} (value {show(value, 40)}): {hint}{suggest(name, accepted)}")


def _change(tables: dict[str, Any], section: str, changes: Mapping[str, Any]) -> None:
    """Change keys of one table; a key that excludes another one takes its place."""
    if section not in _KEYS:
        _unknown(section, changes, ("title", *_KEYS))
    table = tables[section]
    if not isinstance(table, Mapping):
        raise InputError(f"{section}: give either the whole section or single keys of it, not both")
    table = dict(table)
    for pair in (("init_gram", "init_norm"), ("name", "expression")):
        if set(pair) & set(changes):
            table = {key: value for key, value in table.items() if key not in pair}
    if "latent_dim" in changes and "link" not in changes:
        table["link"] = _source(table["link"]) or table["link"]  # to be read again with the new dimension
    tables[section] = table | dict(changes)


def _tables(problem: Problem) -> dict[str, Any]:
    """The problem in the words of the experiment file; functions and arrays are left as they are."""
    p = problem
    easy_basis = {} if p.teacher.easy_basis is None else {"easy_basis": p.teacher.easy_basis}
    run: dict[str, Any] = ({"delta": p.run.delta} if p.run.delta else {}) | (
        {} if p.run.times is None else {"times": p.run.times}
    )
    return {
        "title": p.title,
        "teacher": {"latent_dim": p.teacher.latent_dim, "link": p.teacher.link} | easy_basis,
        "student": {"activation": p.student.activation, "readout": p.student.readout} | p.student._init,
        "loss": {"expression" if p.loss.is_expression else "name": p.loss},
        "training": _training(p.training),
        "asymptotics": vars(p.asymptotics),
        "threshold": vars(p.threshold),
        "run": run,
    }


def _training(training: GradientDescent) -> dict[str, Any]:
    """The keys that everybody gives, and those of the others that differ from their defaults."""
    always = ("step_size", "steps", "weight_decay")
    return {
        f.name: getattr(training, f.name)
        for f in fields(training)
        if f.name in always or getattr(training, f.name) != f.default
    }


def _from_tables(tables: Mapping[str, Any]) -> Problem:
    """The only way from the words of the file to the values; functions may be texts or objects."""
    parts: dict[str, Any] = {}
    for name, table in tables.items():
        if name == "title":
            parts[name] = table
        elif name == "loss":
            parts[name] = _loss(table)
        elif name in _SECTIONS:
            parts[name] = _section_of(name, table)
        else:
            _unknown(name, table, ("title", *_KEYS))
    for name in ("teacher", "student", "loss", "training"):
        if name not in parts:
            keys = ", ".join(_KEYS[name])
            raise InputError(f"the table [{name}] is missing; its keys are {keys}")
    return Problem(**parts)


def _check_keys(section: str, table: object) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise InputError(
            f"{section} = {show(table)}: must be a table, [{section}], with keys {', '.join(_KEYS[section])}"
        )
    for key, value in table.items():
        if key not in _KEYS[section]:
            _unknown(key, value, _KEYS[section], section)
    return table


def _section_of(section: str, table: object) -> Any:
    make = _SECTIONS[section]
    if isinstance(make, type) and isinstance(table, make):
        return table
    checked = _check_keys(section, table)
    for key, parameter in inspect.signature(make).parameters.items():
        if parameter.default is parameter.empty and key not in checked:
            dotted = f"{section}.{key}"
            raise InputError(f"{dotted} is missing: it must be {ACCEPTED[dotted]}")
    return make(**checked)


def _loss(table: object) -> Loss:
    if isinstance(table, Loss):
        return table
    if isinstance(table, str):
        table = {"name": table}
    checked = _check_keys("loss", table)
    if len(checked) != 1:
        given = " and ".join(checked) or "neither"
        raise InputError(f"[loss] needs exactly one of name and expression; given: {given}")
    ((key, value),) = checked.items()
    if isinstance(value, Loss):
        return value
    dotted = f"loss.{key}"
    loss: Loss = _parsed(dotted, value, parse_loss if key == "name" else lambda text: parse_loss(expression=text))
    return loss


def _source(function: Activation | Link | Loss) -> str | None:
    """The text a function was made from; ``None`` where it came from Python callables."""
    try:
        return function.to_spec()
    except InputError:
        return None


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _toml(value: Any, key: str) -> str:
    """``value`` as TOML, exactly: floats in their shortest form that reads back the same."""
    if isinstance(value, str):
        escaped = (_ESCAPES.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c) for c in value)
        return '"' + "".join(escaped) + '"'
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"no key of an experiment is true or false: {key}")
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, np.ndarray):
        if key == "student.readout" and value.size > 8 and np.all(value == value[0]):
            return f"{{width = {value.size}, value = {float(value[0])!r}}}"
        return _toml(value.tolist(), key)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(entry, key) for entry in value) + "]"
    return _toml(value.to_spec(), key)


def _check_finite(problem: Problem) -> None:
    """Evaluate link, activation and loss on samples of the initial state; they must be finite there.

    Raises
    ------
    InputError
        Saying which function is not finite, and where.
    """
    teacher, student = problem.teacher, problem.student
    count = int(np.clip(2_000_000 // student.width, 1000, 10_000))
    rng = np.random.default_rng(0)
    g = rng.standard_normal((teacher.latent_dim, count))
    overlap = student.init_overlap
    values, vectors = np.linalg.eigh(student.init_gram - overlap.T @ overlap)
    root = vectors * np.sqrt(np.maximum(values, 0))
    with np.errstate(all="ignore"):
        try:
            y = teacher.link.sample(g, rng)
        except InputError as error:
            raise InputError(f"teacher.{error}") from error
        h = overlap.T @ g + root @ rng.standard_normal((student.width, count))
        f = student.readout @ student.activation.value(h)
        # Runs draw many more samples than this: the activation must hold out to where those can be.
        tail = np.linspace(-7, 7, 99) * math.sqrt(np.diag(student.init_gram).max())
        _require_finite("student.activation", student.activation, h=np.concatenate([h.ravel(), tail]))
        _require_finite("loss", problem.loss, y=y, f=f)


def _require_finite(key: str, function: Activation | Loss, **at: Array) -> None:
    for name, what in (("value", "value"), ("first", "derivative"), ("second", "second derivative")):
        if name == "second" and function.singular_curvature:
            continue  # relu has none: whatever needs it says so
        bad = np.flatnonzero(~np.isfinite(getattr(function, name)(*at.values())))
        if not bad.size:
            continue
        where = ", ".join(f"{symbol} = {values[bad[0]]:.6g}" for symbol, values in at.items())
        raise InputError(
            f"{key} = {show(_source(function) or 'a Python function')}: {what} is not finite at {where}; "
            "it must be finite on every sample"
        )


def load(path: str | os.PathLike[str]) -> Problem:
    """The problem in the experiment file ``path`` (``"-"``: standard input).

    Raises
    ------
    InputError
        If the file cannot be read, is too large, is not a regular UTF-8 text file, is not TOML, or says
        something that is not accepted. Nothing in a file is ever executed.

    Examples
    --------
    >>> import featurephase as fp
    >>> problem = fp.load("experiment.toml")  # doctest: +SKIP
    """
    source = "standard input" if os.fspath(path) == "-" else os.fspath(path)
    return Problem.from_toml(tomlfile.read_text(path), source=source)
