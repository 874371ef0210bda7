"""The problems that tests share.

:func:`problem` is one GeLU neuron with the squared loss, in which each test changes what it is about; :func:`file_text`
and :func:`file_with` are the same as an experiment file. The benchmarks take theirs from here too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featurephase.problem import GradientDescent, Problem, Student, Teacher

#: One latent coordinate, met through its square alone: the direction is hard.
EVEN = "1.5*tanh(g1**2)"
#: g1 is easy, g2 hard.
EASY_AND_HARD = "tanh(g1) + 1.5*tanh(g2**2)"
#: Bases of the easy and of the hard subspace of EVEN, for calls that take them.
NOTHING_EASY = np.zeros((1, 0))
ALL_HARD = np.eye(1)


def problem(
    link: str = EVEN,
    *,
    latent_dim: int = 1,
    easy_basis: ArrayLike | None = None,
    student: Student | None = None,
    activation: str = "gelu",
    readout: Sequence[float] = (1.0,),
    loss: str = "squared",
    **training: Any,
) -> Problem:
    """A small problem: without arguments, one GeLU neuron on an even response, five steps of size 0.8.

    Parameters
    ----------
    link, latent_dim, easy_basis
        The teacher; without a basis the easy subspace is computed where it is asked for.
    student
        Default: neurons with the ``activation`` and the ``readout``.
    loss
        Its name in the catalogue.
    **training
        Keys of :class:`GradientDescent`.
    """
    return Problem(
        teacher=Teacher(latent_dim, link, easy_basis),
        student=Student(activation, list(readout)) if student is None else student,
        loss=loss,
        training=GradientDescent(**({"step_size": 0.8, "steps": 5} | training)),
    )


def easy_and_hard(**training: Any) -> Problem:
    """One GeLU neuron on an easy and a hard direction, three steps of size 0.5."""
    return problem(EASY_AND_HARD, latent_dim=2, **({"step_size": 0.5, "steps": 3} | training))


#: The same neuron as a file: small, and quick under every command.
_FILE = """
title = "One neuron, small"
[teacher]
latent_dim = 1
link = "1.5*tanh(g1**2)"
[student]
activation = "gelu"
readout = [1.0]
[loss]
name = "squared"
[training]
step_size = 0.8
steps = 4
[asymptotics]
samples = 2000
replicates = 2
[threshold]
delta_range = [1, 40]
max_steps = 30
[run]
delta = [4.0, 20.0]
times = [0, 4]
"""


def file_with(**values: Any) -> str:
    """The small experiment as TOML, with the values of some keys changed (``None``: left out); each must be there."""
    text = _FILE
    for key, value in values.items():
        line = "" if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        text, count = re.subn(rf"(?m)^{key} = .*\n", lambda _, line=line: line, text)
        assert count == 1, key
    return text


def file_text(*changes: tuple[str, str]) -> str:
    """The small experiment as TOML, with some texts replaced: (old, new), each of which must be there."""
    text = _FILE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text
