"""The problems that tests share.

:func:`problem` is one GeLU neuron with the squared loss, in which each test changes what it is about.
"""

from __future__ import annotations

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
    loss: str = "squared",
    **training: Any,
) -> Problem:
    """A small problem: without arguments, one GeLU neuron on an even response, five steps of size 0.8.

    Parameters
    ----------
    link, latent_dim, easy_basis
        The teacher; without a basis the easy subspace is computed where it is asked for.
    student
        Default: one neuron of readout 1 with the ``activation``.
    loss
        Its name in the catalogue.
    **training
        Keys of :class:`GradientDescent`.
    """
    return Problem(
        teacher=Teacher(latent_dim, link, easy_basis),
        student=Student(activation, [1.0]) if student is None else student,
        loss=loss,
        training=GradientDescent(**({"step_size": 0.8, "steps": 5} | training)),
    )


def easy_and_hard(**training: Any) -> Problem:
    """One GeLU neuron on an easy and a hard direction, three steps of size 0.5."""
    return problem(EASY_AND_HARD, latent_dim=2, **({"step_size": 0.5, "steps": 3} | training))
