"""What every value of an experiment is checked with: each error names the key, what was given and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Never

import numpy as np

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.numbers import is_number, is_whole, plain
from featurephase.foundation.types import Array

# Ranges. Far beyond what can be computed; they catch typing errors. Memory is checked where it is spent.
MAX_LATENT_DIM = 64
MAX_WIDTH = 1024
MAX_OUTPUTS = 64
MAX_STEPS = 1_000_000
MIN_SAMPLES = 100
MAX_SAMPLES = 1_000_000_000
MAX_REPLICATES = 100_000
MAX_SEED = 2**63 - 1
MAX_DELTA = 1e6
MAX_TITLE = 500

#: Dotted key of the experiment file -> the words accepted there.
CHOICES: dict[str, tuple[str, ...]] = {
    "teacher.decision": ("softmax", "argmax"),
    "training.optimiser": ("gradient-descent", "heavy-ball", "nesterov"),
    "training.batches": ("fixed", "reshuffled", "one-pass"),
    "training.schedule": ("constant", "cosine", "power"),
    "training.gradient_scaling": ("none", "clip", "normalise", "orthogonalise"),
}


def _one_of(key: str) -> str:
    *most, last = CHOICES[key]
    return f"{', '.join(most)} or {last}"


#: Dotted key of the experiment file -> what is accepted there.
ACCEPTED: dict[str, str] = {
    "title": f"a text of at most {MAX_TITLE} characters",
    "teacher.latent_dim": f"a whole number from 1 to {MAX_LATENT_DIM}",
    "teacher.link": (
        "an expression in g1..gk, e1, e2.., u1, u2.. (or a catalogue name), as a text; or a list of them, a vector"
    ),
    "teacher.classes": f"a whole number from 2 to {MAX_OUTPUTS}, with logits in place of link",
    "teacher.logits": "a list of as many expressions in g1..gk, e1, e2.., u1, u2.. as there are classes, as texts",
    "teacher.decision": f"{_one_of('teacher.decision')}: how logits make a class",
    "teacher.easy_basis": "latent_dim rows of k_E <= latent_dim finite numbers: linearly independent columns",
    "student.activation": "a catalogue name or an expression in h, as a text",
    "student.readout": (
        f"a list of 1 to {MAX_WIDTH} finite numbers, not all zero, or {{width = .., value = ..}} for equal ones; with "
        f"C outputs rows of C numbers, C at most {MAX_OUTPUTS}"
    ),
    "student.bias": "m finite numbers, or one for all m neurons",
    "student.output_bias": "C finite numbers, or one for all C outputs",
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
    "training.readout_step_size": "a finite number >= 0; 0: the readout is fixed",
    "training.bias_step_size": "a finite number >= 0; 0: the bias is fixed",
    "training.output_bias_step_size": "a finite number >= 0; 0: the output bias is fixed",
    "training.readout_decay": "a finite number >= 0, above 0 only with readout_step_size > 0",
    "training.bias_decay": "a finite number >= 0, above 0 only with bias_step_size > 0",
    "training.output_bias_decay": "a finite number >= 0, above 0 only with output_bias_step_size > 0",
    "training.optimiser": _one_of("training.optimiser"),
    "training.momentum": "a finite number from 0 to 1, 1 excluded; above 0 for heavy-ball and nesterov, and only there",
    "training.batch_fraction": "1 over a whole number from 1 to 10000: the share of the n samples that a step uses",
    "training.batches": _one_of("training.batches"),
    "training.schedule": _one_of("training.schedule"),
    "training.schedule_final": "a finite number from 0 to 1: the last factor of the cosine schedule",
    "training.schedule_exponent": "a finite number >= 0: of the factor (1 + t/schedule_time)^-schedule_exponent",
    "training.schedule_time": "a finite number > 0",
    "training.warmup": f"a whole number from 0 to {MAX_STEPS}",
    "training.gradient_scaling": _one_of("training.gradient_scaling"),
    "training.clip_norm": 'a finite number > 0 (needed for gradient_scaling = "clip", and only there)',
    "asymptotics.samples": f"a whole number from {MIN_SAMPLES} to {MAX_SAMPLES}",
    "asymptotics.replicates": f"a whole number from 2 to {MAX_REPLICATES}",
    "asymptotics.seed": "a whole number from 0 to 2**63 - 1",
    "threshold.delta_range": f"two finite numbers [a, b] with 0 < a < b, at most {MAX_DELTA:g}",
    "threshold.max_steps": f"a whole number from 1 to {MAX_STEPS}",
    "run.delta": f"a number or a list of finite numbers > 0, at most {MAX_DELTA:g}",
    "run.times": "a number or a list of whole numbers from 0 to training.steps",
}


def refuse(key: str, value: object, accepted: str | None = None) -> Never:
    """Raise the error that says what ``key`` was given and what it accepts."""
    raise InputError(f"{key} = {show(value)}: must be {accepted or ACCEPTED[key.split('[')[0]]}")


def check_integer(key: str, value: object, low: int, high: int, accepted: str | None = None) -> int:
    """``value`` as an integer from ``low`` to ``high``."""
    if is_whole(value) and low <= (found := int(plain(value))) <= high:
        return found
    refuse(key, value, accepted)


def check_number(key: str, value: Any, within: Callable[[float], bool] = math.isfinite) -> float:
    """``value`` as a finite float with ``within(value)``."""
    try:
        if is_number(value) and math.isfinite(value) and within(float(value)):
            return float(value)
    except OverflowError:  # an integer beyond 1e308
        pass
    refuse(key, value)


def _rows(value: Any, ndim: int) -> Any:
    """Nested lists of floats, or ``ValueError`` where the nesting or an entry is anything else."""
    if ndim == 0:
        if not is_number(value):
            raise ValueError("not a number")
        return float(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError("not a list")
    return [_rows(entry, ndim - 1) for entry in value]


def check_array(key: str, value: Any, ndim: int, fits: Callable[[Array], bool]) -> Array:
    """A read-only float64 copy of ``value``: exactly ``ndim`` dimensions, finite, and as ``fits`` says."""
    try:
        if hasattr(value, "__array__"):  # NumPy, torch, pandas
            value = np.asarray(value).tolist()
        array = np.array(_rows(value, ndim), dtype=np.float64)
    except (ValueError, OverflowError):
        refuse(key, value)
    if array.ndim != ndim or not np.all(np.isfinite(array)) or not fits(array):
        refuse(key, value)
    return frozen(array)


def frozen(array: Array) -> Array:
    """The same array, read-only from now on."""
    array.flags.writeable = False
    return array


def check_text(key: str, value: object) -> str:
    """``value``, a text with something in it."""
    if not isinstance(value, str) or not value.strip():
        refuse(key, value)
    return value


def check_choice(key: str, value: object) -> None:
    """Refuse what is not one of the words in :data:`CHOICES`."""
    if not (isinstance(value, str) and value in CHOICES[key]):
        refuse(key, value)


def parsed(key: str, value: object, parse: Callable[[str], Any]) -> Any:
    """A function from its text, with the key in front of the first line of the parser's complaint."""
    text = check_text(key, value)
    try:
        return parse(text)
    except InputError as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # the lines after it point into the text
        raise InputError(f"{key} = {show(text)}: {reason}") from error


def _plain(value: Any) -> Any:
    """``value`` in a form that compares and hashes by content."""
    return (value.shape, tuple(value.ravel().tolist())) if isinstance(value, np.ndarray) else value


class Value:
    """Frozen values with arrays in them: equal and hashed by content; ``__init__`` sets checked fields."""

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """After pickling, which forgets that an array was read-only."""
        self._set(**{k: frozen(v) if isinstance(v, np.ndarray) else v for k, v in state.items()})

    def _content(self) -> tuple[Any, ...]:
        return tuple(_plain(getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self._content() == other._content() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._content()))
