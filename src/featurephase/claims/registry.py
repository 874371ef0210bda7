"""The claims by name. A line here and a file beside it add one."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from featurephase.claims.base import Claim
from featurephase.foundation.errors import InputError, show, suggest

#: Name of a claim -> module of this package, in the order of the numbers.
CLAIMS = {
    "hard-directions": "hard_directions",
    "easy-directions": "easy_directions",
    "spectral-transition": "spectral_transition",
    "blocks": "blocks",
    "training-details": "training_details",
    "grokking": "grokking",
    "phase-retrieval": "phase_retrieval",
    "finite-size-scaling": "finite_size_scaling",
    "closed-form": "closed_form",
    "phase-diagram": "phase_diagram",
    "alignment": "alignment",
    "disalignment": "disalignment",
    "rescaling": "rescaling",
    "kernel-regime": "kernel_regime",
    "deep-networks": "deep_networks",
    "long-times": "long_times",
    "real-features": "real_features",
    "telescoping": "telescoping",
    "related-models": "related_models",
}


def claim(name: str) -> Claim:
    """The claim with this name, or this number, loaded when it is asked for.

    Raises
    ------
    InputError
        For an unknown name, with the list.
    """
    names = list(CLAIMS)
    if name.isascii() and name.isdecimal() and 1 <= int(name[:6]) <= len(names):
        name = names[int(name) - 1]
    if name not in CLAIMS:
        raise InputError(f"no claim {show(name)}; {suggest(name, CLAIMS)}, or their numbers, 1 to {len(names)}")
    found: Claim = importlib.import_module(f"featurephase.claims.{CLAIMS[name]}").CLAIM
    return found


def selected(names: Sequence[str]) -> list[Claim]:
    """The claims asked for, each once, in the order of their numbers; none asked for: all."""
    chosen = {found.id: found for found in map(claim, names or CLAIMS)}
    return [chosen[name] for name in CLAIMS if name in chosen]
