"""What ``explain`` returns: which latent directions are learned, by which mechanism, and what would change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.types import Array
from featurephase.results.base import Record, Result
from featurephase.results.labels import Variable, labelled, record
from featurephase.results.threshold import Window

_WORDS = {True: "yes", False: "no", None: "undetermined"}


@record
class DirectionExplanation(Record):
    """One latent direction, or a combination of some.

    Attributes
    ----------
    name, direction
        ``"g2"``, and the unit vector (k,).
    kind
        ``"easy"``, ``"hard"``, ``"irrelevant"`` (the response does not depend on it) or ``"undecided"``.
    learned
        By this network at this n/d if training goes on; ``None``: could not be decided. Hard directions: n/d against
        the limit of their own delta_NN(t), windows included. Easy ones: whether the weights overlap with it by the
        last step.
    learned_by_last_step
        Probability that it makes up half of the weights by the last step at this dimension, over random starts and
        data; ``None`` without a dimension, or where the growth of small overlaps has no theory. Easy directions: 1 or
        0, at any dimension.
    learned_up_to_dimension, learned_up_to_dimension_se
        Hard directions that are not learned in high dimension but unstable for a while: the dimension up to which at
        least half of the networks learn it all the same before its instability ends. ``None`` for others.
    unstable_at_last_step
        Hard directions: whether gradient descent is unstable along it at the last step, by the sign of its own outlier;
        ``None`` where there is no Hessian, or the replicates do not agree.
    expressible
        False where no weights let the network's output follow the response along it.
    overlap, overlap_se
        Easy directions: ``|e'Theta|/|Theta|``, root mean square over the steps. ``None`` for others.
    delta_nn, delta_nn_se
        n/d from which on this network learns it: of a hard direction the limit of its delta_NN(t); 0 for an easy
        direction that is reached, ``None`` where there is no such statement.
    windows
        Intervals of n/d in which it is learned, if not all above ``delta_nn``.
    delta_alg, delta_alg_se
        n/d that the best polynomial-time first-order method needs for this direction.
    samples_needed, samples_needed_se
        ``delta_nn`` times the dimension; ``None`` without a dimension.
    escape_step, escape_step_se, escape_low, escape_low_se, escape_high, escape_high_se
        Step at which a hard direction makes up half of the weights at this dimension: the median over runs from random
        starts, and the interval that holds 90 % of the runs; their errors. ``None`` where most runs never do.
    mechanism, change
        How it is learned or why not, and what would change that: a sentence each.
    """

    name: str
    direction: Array
    kind: str
    learned: bool | None
    learned_by_last_step: float | None = None
    learned_by_last_step_se: float | None = None
    learned_up_to_dimension: float | None = None
    learned_up_to_dimension_se: float | None = None
    unstable_at_last_step: bool | None = None
    expressible: bool = True
    overlap: float | None = None
    overlap_se: float | None = None
    delta_nn: float | None = None
    delta_nn_se: float | None = None
    windows: tuple[Window, ...] = ()
    delta_alg: float | None = None
    delta_alg_se: float | None = None
    samples_needed: float | None = None
    samples_needed_se: float | None = None
    escape_step: float | None = None
    escape_step_se: float | None = None
    escape_low: float | None = None
    escape_low_se: float | None = None
    escape_high: float | None = None
    escape_high_se: float | None = None
    mechanism: str = ""
    change: str = ""


@record
class Explanation(Result):
    """What a network learns from given data and why.

    Attributes
    ----------
    delta, samples_n, dimension
        n/d, and n and d where they were given.
    steps
        T, the last step of this training.
    easy_basis, hard_basis, reached_basis
        U_E, U_H and U_GD(T), orthonormal columns.
    delta_alg
        Of the hard directions together; 0 if nothing is hard.
    delta_nn, delta_nn_negative
        At the last step, and the n/d from which on the outlier is negative there; ``None`` if nothing is hard.
    delta_nn_limit
        delta_NN as training goes on: the lowest of all directions.
    left_edge, right_edge, hard_outlier, hard_outlier_overlap
        Of the Hessian at the last step; ``None`` where there is none.
    directions
        One entry for each latent direction, or combination of some.
    verdict
        One sentence.
    """

    counted: ClassVar[tuple[str, ...]] = ("latent",)

    title: str
    delta: float = labelled(attribute=True)
    samples_n: int | None
    dimension: int | None = labelled(attribute=True)
    steps: int = labelled(attribute=True)
    samples: int = labelled(attribute=True)
    replicates: int = labelled(attribute=True)
    easy_basis: Array
    hard_basis: Array
    reached_basis: Array
    delta_alg: float
    delta_alg_se: float
    delta_nn: float | None
    delta_nn_se: float | None
    delta_nn_negative: float | None
    delta_nn_negative_se: float | None
    delta_nn_limit: float | None
    delta_nn_limit_se: float | None
    left_edge: float | None
    left_edge_se: float | None
    right_edge: float | None
    right_edge_se: float | None
    hard_outlier: float | None
    hard_outlier_se: float | None
    hard_outlier_overlap: float | None
    hard_outlier_overlap_se: float | None
    directions: tuple[DirectionExplanation, ...]
    verdict: str = labelled(attribute=True)
    warnings: tuple[str, ...] = ()
    experiment: str = labelled(json=False, saved=False, default="")

    def more_variables(self) -> Mapping[str, Variable]:
        """The numbers and words of each direction over (direction)."""
        dims, entries = ("direction",), self.directions
        out: dict[str, Variable] = {"direction": (dims, _text(e.name for e in entries), {})}
        errors = [f.name for f in fields(DirectionExplanation) if f.name.endswith("_se")]
        for name in (name for error in errors for name in (error.removesuffix("_se"), error)):
            column = [np.nan if (x := getattr(e, name)) is None else x for e in entries]
            out[name] = (dims, np.array(column, dtype=np.float64), {})
        for name in ("kind", "mechanism", "change"):
            out[name] = (dims, _text(getattr(e, name) for e in entries), {})
        for name in ("learned", "unstable_at_last_step"):
            out[name] = (dims, _text(_WORDS[getattr(e, name)] for e in entries), {})
        latent = self.easy_basis.shape[0]
        out["vector"] = (("direction", "latent"), np.array([e.direction for e in entries]).reshape(-1, latent), {})
        return out


def _text(words: Iterable[str]) -> NDArray[Any]:
    return np.array(list(words), dtype=object)
