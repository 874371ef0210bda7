"""The problems of ``trained_reference``: section 8 of the theory, and six more. Nothing of featurephase is imported."""

from __future__ import annotations

import numpy as np

from .trained_reference import Trained


def drawn(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Classes drawn by softmax of logits (C, n): the largest logit plus Gumbel noise."""
    return np.argmax(logits + rng.gumbel(size=logits.shape), axis=0)


def three_classes(g: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return drawn(np.stack([1.5 * g[0], 2 * (g[1] ** 2 - 1), np.zeros_like(g[0])]), rng)


def xor(g: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.where(g[0] * g[1] > 0, 0, 1)


def easy_and_hard(g: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.stack([np.tanh(g[0]), 1.5 * np.tanh(g[1] ** 2)], axis=1)


def bent(g: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return 1.5 * np.tanh(g[:1].T ** 2)


def noisy_pair(g: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    e = rng.standard_normal((2, g.shape[1]))
    return np.stack([np.tanh(g[0] + g[1]) + 0.3 * e[0], np.tanh(g[2] ** 2) + 0.3 * e[1]], axis=1)


def four_classes(g: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.argmax(np.stack([g[0], -g[0], g[1] ** 2 - 0.5, 0.5 * np.ones_like(g[0])]), axis=0)


CASES = {
    "three classes": Trained(  # theory, section 8
        three_classes,
        True,
        2,
        (0,),
        "gelu",
        [[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]],
        [0.1, -0.2],
        [0.0, 0.0, 0.0],
        (1.5, 0.3, 0.2, 0.3),
        8.0,
        10,
        hessian=(20.0, 10, (100, 200, 400)),
        teacher='classes = 3\nlogits = ["1.5*g1", "2*(g2**2 - 1)", "0"]',
    ),
    "xor": Trained(  # two hard directions; the read-out fixed, the biases trained
        xor,
        True,
        2,
        (),
        "tanh",
        [[1.2, -1.2], [-1.0, 1.0]],
        [0.5, -0.8],
        [0.0, 0.0],
        (1.0, 0.0, 0.5, 0.2),
        6.0,
        12,
        hessian=(30.0, 6, (100, 200, 400)),
        teacher='classes = 2\nlogits = ["g1*g2", "0"]\ndecision = "argmax"',
    ),
    "vector, one neuron": Trained(  # a read-out of two outputs and a bias, both fixed; minibatches
        easy_and_hard,
        False,
        2,
        (0,),
        "gelu",
        [[0.5, 1.2]],
        [0.2],
        [0.0, 0.1],
        (0.5, 0.0, 0.0, 0.0),
        6.0,
        12,
        batches=2,
        hessian=(24.0, 10, (200, 400, 800)),
        teacher='link = ["tanh(g1)", "1.5*tanh(g2**2)"]',
    ),
    "trained read-out, one neuron": Trained(  # one output; everything trained, with momentum and decay
        bent,
        False,
        1,
        (),
        "gelu",
        [[1.0]],
        [0.0],
        [0.0],
        (0.4, 0.1, 0.1, 0.05),
        4.0,
        12,
        decays=(0.0, 0.1, 0.0, 0.0),
        momentum=0.5,
        hessian=(20.0, 10, (200, 400, 800)),
        teacher='link = "1.5*tanh(g1**2)"',
    ),
    "vector, two neurons": Trained(  # read-out trained, biases fixed; Nesterov; a warm start
        noisy_pair,
        False,
        3,
        (0, 1),
        "erf",
        [[0.9, 0.4], [-0.3, 1.1]],
        [0.3, -0.1],
        [0.0, 0.0],
        (0.5, 0.2, 0.0, 0.0),
        5.0,
        12,
        decays=(0.02, 0.0, 0.0, 0.0),
        momentum=0.4,
        nesterov=True,
        warm=[[0.3, -0.2], [0.1, 0.2], [0.0, 0.0]],
        hessian=(24.0, 6, (100, 200, 400)),
        teacher='link = ["tanh(g1 + g2) + 0.3*e1", "tanh(g3**2) + 0.3*e2"]',
    ),
    "four classes, three neurons": Trained(  # everything trained, minibatches
        four_classes,
        True,
        2,
        (0,),
        "tanh",
        [[1.0, -1.0, 0.2, -0.2], [0.3, 0.3, -0.8, 0.5], [-0.2, 0.4, 0.9, -0.9]],
        [0.4, -0.6, 0.7],
        [0.0, 0.0, 0.0, 0.0],
        (1.0, 0.2, 0.2, 0.2),
        8.0,
        10,
        batches=2,
        hessian=(30.0, 6, (80, 160, 320)),
        teacher='classes = 4\nlogits = ["g1", "-g1", "g2**2 - 0.5", "0.5"]\ndecision = "argmax"',
    ),
    "vector, three neurons": Trained(  # a bias and an output bias trained, the read-out fixed
        easy_and_hard,
        False,
        2,
        (0,),
        "softplus",
        [[0.6, 0.5], [-0.4, 0.6], [0.3, -0.5]],
        [0.0, 0.3, -0.3],
        [0.0, 0.0],
        (0.5, 0.0, 0.2, 0.3),
        4.0,
        12,
        decays=(0.05, 0.0, 0.1, 0.0),
        teacher='link = ["tanh(g1)", "1.5*tanh(g2**2)"]',
    ),
}
