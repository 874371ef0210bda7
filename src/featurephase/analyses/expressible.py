"""Whether a network's output can follow the response along a latent direction at all: parity decides.

A network without biases whose activation is odd has an odd output, ``f(-x) = -f(x)``. Under a squared loss it can
follow the odd part of the response only, ``(y(g) - y(-g))/2``; if that does not depend on a direction, no weights help
along it. Under any other convex loss this is known where the odd part vanishes altogether: then the best odd output is
0. An even activation, and even parts, likewise; there the best output of a response without even part is a constant.
"""

from __future__ import annotations

import numpy as np

from featurephase.foundation.types import Array
from featurephase.problem import Problem

_POINTS = 4096
#: Relative difference of two responses that counts as rounding.
_ROUND_OFF = 1e-9


def expressible(problem: Problem, basis: Array) -> bool:
    """Whether the output can depend on the latent directions ``basis`` (k, s) in the way that the response does."""
    parity = problem.student.activation.facts.parity
    trained_biases = max(problem.training.bias_step_size, problem.training.output_bias_step_size) > 0
    if parity not in ("odd", "even") or problem.student.has_biases or trained_biases or problem.outputs > 1:
        return True
    link = problem.teacher.link
    rng = np.random.default_rng(0)
    g = rng.standard_normal((link.latent_dim, _POINTS))
    noise, uniforms = rng.standard_normal((link.normals, _POINTS)), rng.random((link.uniforms, _POINTS))

    def part(at: Array) -> Array:
        """The part of the response that has the network's parity."""
        there, mirrored = link.evaluate(at, noise, uniforms), link.evaluate(-at, noise, uniforms)
        return np.asarray((there - mirrored if parity == "odd" else there + mirrored) / 2.0)

    own = part(g)
    size = _ROUND_OFF * float(np.max(np.abs(link.evaluate(g, noise, uniforms))))
    if float(np.ptp(own)) <= size:
        return not (problem.loss.facts.convex or problem.loss.name == "squared")
    if problem.loss.name != "squared":
        return True
    moved = g + basis @ (rng.standard_normal((basis.shape[1], _POINTS)) - basis.T @ g)
    return bool(np.max(np.abs(part(moved) - own)) > size)


def why_not(problem: Problem, name: str) -> str:
    """In words, for a direction that is not expressible."""
    parity = problem.student.activation.facts.parity
    other = "even" if parity == "odd" else "odd"
    return (
        f"an activation that is {parity} makes an {parity} network, and the response depends on {name} only through "
        f"its {other} part: whatever the weights, the output does not follow it"
    )
