"""The problems on which theory and brute force meet: each as an experiment of featurephase and as plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit

from featurephase.problem import Problem

from .scalars import ACTIVATIONS, LOSSES


@dataclass(frozen=True)
class Case:
    """One problem twice: ``link`` for featurephase, ``numpy_link(g, rng)`` for the brute force.

    ``easy`` lists the latent axes (from 0) of U_E, known by hand; ``times`` are where the Hessian is looked at.
    """

    link: str
    numpy_link: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    latent: int
    activation: str
    loss_name: str
    readout: list[float]
    eta: float
    delta: float
    steps: int
    easy: tuple[int, ...] = ()
    lam: float = 0.0
    gram: Any = None
    overlap: Any = None
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.gram is None:
            object.__setattr__(self, "gram", np.eye(len(self.readout)))
        if self.overlap is None:
            object.__setattr__(self, "overlap", np.zeros((self.latent, len(self.readout))))

    @property
    def sigma(self):
        return ACTIVATIONS[self.activation]

    @property
    def loss(self):
        return LOSSES[self.loss_name]

    @property
    def smooth(self) -> bool:
        return self.activation != "relu"

    @property
    def easy_basis(self):
        return np.eye(self.latent)[:, list(self.easy)]

    @property
    def hard_basis(self):
        return np.eye(self.latent)[:, [i for i in range(self.latent) if i not in self.easy]]

    @cached_property
    def problem(self) -> Problem:
        return Problem.from_toml(
            f"""
            [teacher]
            latent_dim = {self.latent}
            link = "{self.link}"
            [student]
            activation = "{self.activation}"
            readout = {list(self.readout)}
            init_gram = {np.asarray(self.gram, float).tolist()}
            init_overlap = {np.asarray(self.overlap, float).tolist()}
            [loss]
            name = "{self.loss_name}"
            [training]
            step_size = {self.eta}
            steps = {self.steps}
            weight_decay = {self.lam}
            """
        )


#: m = 1, 2, 4 and k = 1, 2, 3; seven activations, four losses; all hard, all easy, mixed; warm start; weight decay.
CASES: dict[str, Case] = {
    "one neuron": Case(
        "1.5*tanh(g1**2)", lambda g, _: 1.5 * np.tanh(g[0] ** 2), 1, "gelu", "squared", [1.0], 0.8, 4.0, 10
    ),
    "odd": Case("tanh(3*g1)", lambda g, _: np.tanh(3 * g[0]), 1, "tanh", "squared", [1.0], 0.9, 3.0, 12, easy=(0,)),
    "labels": Case(
        "where(u1 < sigmoid(2*g1*g2), 1, -1)",
        lambda g, rng: np.where(rng.random(g.shape[1]) < expit(2 * g[0] * g[1]), 1.0, -1.0),
        2,
        "softplus",
        "logistic",
        [1.5],
        1.5,
        5.0,
        12,
        gram=[[1.5]],
    ),
    "noisy": Case(
        "g1 + tanh(g2**2) + 0.5*sin(g2*g3) + 0.4*e1",
        lambda g, rng: g[0] + np.tanh(g[1] ** 2) + 0.5 * np.sin(g[1] * g[2]) + 0.4 * rng.standard_normal(g.shape[1]),
        3,
        "erf",
        "pseudo_huber",
        [1.6],
        1.0,
        4.0,
        10,
        easy=(0,),
        lam=0.05,
    ),
    "two warm neurons": Case(
        "tanh(g1) + 1.5*tanh(g2**2)",
        lambda g, _: np.tanh(g[0]) + 1.5 * np.tanh(g[1] ** 2),
        2,
        "gelu",
        "squared",
        [1.0, 1.2],
        0.5,
        3.0,
        20,
        easy=(0,),
        lam=0.1,
        gram=[[1.0, 0.3], [0.3, 0.8]],
        overlap=[[0.3, -0.2], [0.0, 0.0]],
    ),
    "two relus": Case(
        "tanh(g1 + g2**3 - 3*g2)",
        lambda g, _: np.tanh(g[0] + g[1] ** 3 - 3 * g[1]),
        2,
        "relu",
        "squared",
        [0.5**0.5, -(0.5**0.5)],
        0.6,
        3.0,
        20,
        easy=(0, 1),
    ),
    "four neurons": Case(
        "tanh(g1) + tanh(g2*g3)",
        lambda g, _: np.tanh(g[0]) + np.tanh(g[1] * g[2]),
        3,
        "tanh",
        "squared",
        [0.6, -0.5, 0.4, 0.7],
        0.8,
        4.0,
        10,
        easy=(0,),
        gram=[[1.0, 0.2, 0.0, 0.1], [0.2, 1.1, 0.3, 0.0], [0.0, 0.3, 0.9, -0.2], [0.1, 0.0, -0.2, 1.0]],
    ),
    "four robust neurons": Case(
        "abs(g1) - 0.5*abs(g2)",
        lambda g, _: np.abs(g[0]) - 0.5 * np.abs(g[1]),
        2,
        "sqrt1p",
        "cauchy",
        [0.5, -0.4, 0.6, 0.3],
        0.7,
        3.0,
        10,
        gram=[[1.0, 0.5, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.7, 0.2], [0.0, 0.0, 0.2, 1.3]],
    ),
    "two neurons": Case(
        "tanh(g1) + 1.5*tanh(g2**2)",
        lambda g, _: np.tanh(g[0]) + 1.5 * np.tanh(g[1] ** 2),
        2,
        "gelu",
        "squared",
        [1.0, 1.2],
        0.5,
        24.0,
        20,
        easy=(0,),
        gram=[[1.0, 0.3], [0.3, 0.73]],
    ),
    "three neurons": Case(
        "1.5*tanh(g1**2) + 2*tanh(g2**2)",
        lambda g, _: 1.5 * np.tanh(g[0] ** 2) + 2 * np.tanh(g[1] ** 2),
        2,
        "gelu",
        "squared",
        [1.0, 0.8, 1.2],
        0.4,
        20.0,
        10,
        gram=[[1.0, 0.2, 0.0], [0.2, 0.8, -0.1], [0.0, -0.1, 1.2]],
    ),
    "three easy neurons": Case(
        "sign(g1) + tanh(2*g2) + tanh(g3**2)",
        lambda g, _: np.sign(g[0]) + np.tanh(2 * g[1]) + np.tanh(g[2] ** 2),
        3,
        "tanh",
        "pseudo_huber",
        [1.0, -0.8, 0.7],
        0.5,
        8.0,
        10,
        easy=(0, 1),
        lam=0.02,
        gram=[[1.0, 0.0, 0.2], [0.0, 1.0, 0.1], [0.2, 0.1, 0.8]],
    ),
    "ridge": Case(
        "g1 + 0.5*e1",
        lambda g, rng: g[0] + 0.5 * rng.standard_normal(g.shape[1]),
        1,
        "linear",
        "squared",
        [1.0],
        0.6,
        2.0,
        15,
        easy=(0,),
        lam=0.1,
        gram=[[0.8]],
    ),
}
for _name, _case in CASES.items():
    object.__setattr__(_case, "name", _name)

#: (case, delta, time) of the Hessians compared: outliers on hard directions (1, 3, 5-7), on two hard directions at once
#: (7), on visited ones (2, 4, 8, 9), none (10).
SPECTRA = (
    ("one neuron", 20.0, 10),
    ("odd", 12.0, 3),
    ("labels", 30.0, 6),
    ("noisy", 20.0, 5),
    ("two neurons", 24.0, 20),
    ("two warm neurons", 24.0, 10),
    ("three neurons", 40.0, 6),
    ("three easy neurons", 30.0, 5),
    ("four neurons", 30.0, 5),
    ("four robust neurons", 30.0, 2),
)
