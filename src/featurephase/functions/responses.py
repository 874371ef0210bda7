"""Responses with several logits or components: classes and vectors, made of scalar links that share their noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.functions.facts import LinkFacts
from featurephase.functions.link import Link
from featurephase.functions.specified import Origin


def vector_link(parts: Sequence[Link]) -> Link:
    """The link whose response is the vector of the responses of ``parts``, (N, C); e1, u1, .. are the same in all.

    Raises
    ------
    InputError
        If there is none, or they are no numbers of one latent space.
    """
    parts = _checked(parts, 1)
    facts = LinkFacts(
        bounded=all(part.facts.bounded for part in parts),
        bound=max(part.facts.bound for part in parts),
        measured=frozenset[str]().union(*(part.facts.measured for part in parts)),
    )
    uniforms = max(part.uniforms for part in parts)

    def function(g: Array, e: Array, u: Array) -> Array:
        return np.ascontiguousarray(_values(parts, g, e, u).T)

    return _made(parts, facts, uniforms, function, Origin(vector_link, (parts,)), components=len(parts))


def class_link(parts: Sequence[Link], decision: str = "softmax", labels: Sequence[float] = ()) -> Link:
    """The link whose response is a class 0..K-1, (N,), with the logits ``parts``.

    Parameters
    ----------
    parts
        K >= 2 scalar links.
    decision
        ``"softmax"``: class c is drawn with probability proportional to exp(logit c), by one more uniform number, the
        last; ``"argmax"``: the class of the largest logit, the first of equal ones.
    labels
        K values to call the classes by; default 0..K-1.

    Raises
    ------
    InputError
        If there are fewer than two parts, or they are no numbers of one latent space.
    """
    parts = _checked(parts, 2)
    labels = tuple(float(y) for y in labels) or tuple(float(c) for c in range(len(parts)))
    values = np.array(labels)
    drawn = decision == "softmax"
    uniforms = max(part.uniforms for part in parts) + drawn

    def function(g: Array, e: Array, u: Array) -> Array:
        with np.errstate(all="ignore"):
            logits = _values(parts, g, e, u)
            if drawn:
                below = np.cumsum(_softmax(logits), axis=0)[:-1]
                chosen = np.sum(below <= u[-1], axis=0)
            else:
                chosen = np.argmax(logits, axis=0)
        return np.where(np.all(np.isfinite(logits), axis=0), values[chosen], np.nan)

    facts = LinkFacts(bounded=True, bound=float(np.max(np.abs(values))))
    origin = Origin(class_link, (parts, decision, labels))
    return _made(parts, facts, uniforms, function, origin, labels=labels, decision=decision)


def class_probabilities(link: Link, g: Array, e: Array, u: Array) -> Array:
    """Probability of each class, (K, N), at coordinates g (k, N) and noise (with ``argmax``: 0 or 1).

    ``u`` may have the row that draws the class or not.
    """
    logits = _values(link.parts, g, e, u)
    if link.decision == "softmax":
        return _softmax(logits)
    return np.asarray(np.argmax(logits, axis=0) == np.arange(link.classes)[:, None], dtype=np.float64)


def _made(parts: tuple[Link, ...], facts: LinkFacts, uniforms: int, function: Any, origin: Any, **more: Any) -> Link:
    name = f"[{', '.join(part.name for part in parts)}]"
    return Link(
        name=name,
        source=name,
        latent_dim=parts[0].latent_dim,
        normals=max(part.normals for part in parts),
        uniforms=uniforms,
        uses=tuple(sorted({j for part in parts for j in part.uses})),
        facts=facts,
        _function=function,
        _origin=origin,
        parts=parts,
        **more,
    )


def _checked(parts: Sequence[Link], least: int) -> tuple[Link, ...]:
    parts = tuple(parts)
    if len(parts) < least or len({part.latent_dim for part in parts}) != 1 or any(part.parts for part in parts):
        raise InputError(f"link: {least} or more scalar links of one latent_dim are needed, got {len(parts)} parts")
    return parts


def _values(parts: Sequence[Link], g: Array, e: Array, u: Array) -> Array:
    """The values of all parts, (parts, N)."""
    return np.stack([part.evaluate(g, e[: part.normals], u[: part.uniforms]) for part in parts])


def _softmax(logits: Array) -> Array:
    weights = np.exp(logits - np.max(logits, axis=0))
    return np.asarray(weights / np.sum(weights, axis=0))
