"""The experiment as a value: teacher, student, loss, training, and how precisely to compute.

The constructors, the TOML file and :meth:`Problem.replace` go through the same checks, and an error always names the
key, what was given and what would be accepted.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation import tomlfile
from featurephase.foundation.errors import InputError, show
from featurephase.foundation.types import Array
from featurephase.functions import Activation, Loss, VectorLoss
from featurephase.functions import loss as parse_loss
from featurephase.problem.checks import ACCEPTED, MAX_TITLE, MIN_SAMPLES, Value, frozen, parsed, refuse
from featurephase.problem.file import KEYS, change_table, parts_from, source_text, tables_of, toml_text, unknown_key
from featurephase.problem.outputs import fitting_loss, fitting_teacher, require_classes
from featurephase.problem.torch_network import student_from_torch
from featurephase.problem.values import Asymptotics, GradientDescent, Run, Student, Teacher, ThresholdSearch

#: Sizes of responses and gradients that are far from where single precision ends, in which products are taken.
_SIZES = (1e-30, 1e30)


@dataclass(frozen=True, eq=False, init=False)
class Problem(Value):
    """Everything that defines an experiment.

    Parameters
    ----------
    teacher, student, training, asymptotics, threshold, run
        The parts, each checked by itself.
    loss
        A catalogue name, a :class:`~featurephase.functions.Loss`, or for several outputs a
        :class:`~featurephase.functions.VectorLoss`. With several outputs a loss of one is that of their softmax
        (``cross_entropy``) or summed over them.
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
    loss: Loss | VectorLoss
    training: GradientDescent
    asymptotics: Asymptotics
    threshold: ThresholdSearch
    run: Run

    def __init__(
        self,
        *,
        teacher: Teacher,
        student: Student,
        loss: Loss | VectorLoss | str,
        training: GradientDescent,
        asymptotics: Asymptotics | None = None,
        threshold: ThresholdSearch | None = None,
        run: Run | None = None,
        title: str = "",
    ) -> None:
        _check_title(title)
        given = loss if isinstance(loss, (Loss, VectorLoss)) else parsed("loss.name", loss, parse_loss)
        loss = fitting_loss(given, student.outputs)
        run = Run() if run is None else run
        if run.times and run.times[-1] > training.steps:
            beyond = [t for t in run.times if t > training.steps]
            raise InputError(
                f"run.times = {show(beyond)}: beyond the last step; must be {ACCEPTED['run.times']} = {training.steps}"
            )
        self._set(
            title=title,
            teacher=fitting_teacher(teacher, student, loss),
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
        return cls(**parts_from(tomlfile.parse(text, source)))

    @classmethod
    def from_torch(
        cls,
        model: Any,
        link: Any = None,
        *,
        latent_dim: int = 1,
        loss: Loss | VectorLoss | str = "squared",
        training: GradientDescent | None = None,
        directions: ArrayLike | None = None,
        activation: Activation | str = "",
        **parts: Any,
    ) -> Problem:
        """The problem whose student is a two-layer PyTorch network as it is now, on inputs x ~ N(0, I_d).

        Parameters
        ----------
        model
            Two ``Linear`` layers with an activation between them.
        link, latent_dim
            Of the teacher; or a :class:`Teacher` as ``link``, which classes need.
        loss
            As of a problem. ``MSELoss`` of one output is twice ``squared``: a gradient step of size eta/2 on it is one
            of size eta.
        training
            What it does next; SGD at rate eta with all parameters trained has all four step sizes eta. Default: no
            step, for the loss and the Hessian of the network as it is.
        directions, activation
            See :func:`~featurephase.problem.torch_network.student_from_torch`.
        **parts
            Other arguments of a problem: ``asymptotics``, ``run``, ``threshold``, ``title``.

        Raises
        ------
        InputError
            If the model is no such network, or something does not fit.
        """
        teacher = link if isinstance(link, Teacher) else Teacher(latent_dim, link)
        student = student_from_torch(model, directions, activation)
        training = GradientDescent(step_size=1.0, steps=0) if training is None else training
        return cls(teacher=teacher, student=student, loss=loss, training=training, **parts)

    def to_toml(self) -> str:
        """The experiment file of this problem: ``Problem.from_toml(problem.to_toml()) == problem``.

        Raises
        ------
        InputError
            If a function was made from Python callables, for which there is no text.
        """
        return toml_text(tables_of(self))

    @property
    def outputs(self) -> int:
        """C, the number of outputs."""
        return self.student.outputs

    @property
    def trains_outer(self) -> bool:
        """Whether the readout, the bias or the output bias is trained."""
        return self.training.trains_outer

    @property
    def plain(self) -> bool:
        """Whether this is one output with a fixed readout, no biases and no classes."""
        return not (self.outputs > 1 or self.teacher.classes or self.student.has_biases or self.trains_outer)

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
        tables = tables_of(self)
        for name, value in changes.items():
            section, _, key = name.partition(".")
            if key:
                change_table(tables, section, {key: value})
            elif isinstance(value, Mapping):
                change_table(tables, section, value)
            elif section in tables:
                tables[section] = value
            else:
                unknown_key(name, value, ("title", *KEYS))
        return Problem(**parts_from(tables))

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
    refuse("title", title)


def _with_overlap(student: Student, latent_dim: int) -> Student:
    """The student with an overlap of k rows; an empty overlap becomes zeros, any other number is refused."""
    rows = student.init_overlap.shape[0]
    if rows == latent_dim:
        return student
    if rows:
        refuse(
            "student.init_overlap",
            student.init_overlap,
            f"{latent_dim} rows (teacher.latent_dim) of {student.width} numbers",
        )
    filled = copy.copy(student)
    filled._set(init_overlap=frozen(np.zeros((latent_dim, student.width))))
    return filled


def _check_finite(problem: Problem) -> None:
    """Evaluate link, activation and loss on samples of the initial state; they must be finite there.

    Raises
    ------
    InputError
        Saying which function is not finite, and where; or that responses or gradients are too small or too large.
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
        h = h if problem.plain else h + student.bias[:, None]
        f = student.readout.T @ student.activation.value(h)
        if not problem.plain:
            f = f + (student.output_bias[:, None] if problem.outputs > 1 else student.output_bias)
        # Runs draw many more samples than this: the activation must hold out to where those can be.
        tail = np.linspace(-7, 7, 99) * math.sqrt(np.diag(student.init_gram).max())
        _require_finite("student.activation", student.activation, h=np.concatenate([h.ravel(), tail]))
        if isinstance(problem.loss, VectorLoss):
            _require_finite_outputs(problem.loss, y, f)
        else:
            _require_finite("loss", problem.loss, y=y, f=f)
        slope = problem.loss.value_and_first(y, f)[1]
        gradient = student.readout_matrix @ slope.reshape(-1, count) * student.activation.first(h)
        _require_size("the response", y, "teacher.link")
        what = "the gradient of the loss in a pre-activation, at the initial weights,"
        _require_size(what, gradient, "student.readout, the activation, the response and the loss")
    require_classes(teacher.link)


def _require_finite_outputs(loss: VectorLoss, y: Array, f: Array) -> None:
    parts = [*loss.value_and_first(y, f)]
    if not loss.singular_curvature and loss.has_second:
        parts.append(loss.first_and_second(y, f)[1])
    for what, values in zip(("value", "derivative", "second derivative"), parts, strict=False):
        bad = np.flatnonzero(~np.all(np.isfinite(values.reshape(-1, values.shape[-1])), axis=0))
        if bad.size:
            where = f"y = {show(y[bad[0]].tolist())}, f = {show(f[:, bad[0]].tolist())}"
            raise _not_finite("loss", loss, what, where)


def _require_size(what: str, values: Array, set_by: str) -> None:
    largest = float(np.abs(values).max())
    if not (largest == 0.0 or _SIZES[0] <= largest <= _SIZES[1]):
        raise InputError(
            f"{what} reaches {largest:.3g}: must be 0 or {_SIZES[0]:g} to {_SIZES[1]:g}; what sets it: {set_by}"
        )


def _require_finite(key: str, function: Activation | Loss, **at: Array) -> None:
    for name, what in (("value", "value"), ("first", "derivative"), ("second", "second derivative")):
        if name == "second" and function.singular_curvature:
            continue  # relu has none: whatever needs it says so
        bad = np.flatnonzero(~np.isfinite(getattr(function, name)(*at.values())))
        if not bad.size:
            continue
        where = ", ".join(f"{symbol} = {values[bad[0]]:.6g}" for symbol, values in at.items())
        raise _not_finite(key, function, what, where)


def _not_finite(key: str, function: Activation | Loss | VectorLoss, what: str, where: str) -> InputError:
    text = show(source_text(function) or "a Python function")
    return InputError(f"{key} = {text}: {what} is not finite at {where}; it must be finite on every sample")


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
