"""The verdict in words and numbers: which phase, by which mechanism, since when.

Thresholds are conventions, stated with every verdict: a relative kernel change up to 0.1 is the kernel
phase, above 10 (an order of magnitude) the rich one, feature learning in between. A single network at one
width shows where it is, not an exponent; the exponents of theory/latent-phases need a series of widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["KERNEL_CHANGE", "RICH_CHANGE", "decide"]

KERNEL_CHANGE = 0.1
RICH_CHANGE = 10.0
#: A turn of a layer by this relative movement is worth a word when the kernel stands still
#: (theory/latent-mechanisms, eq. mec-motion).
LAYER_MOVEMENT = 1.0

_PHASES = ("kernel", "feature-learning", "rich")
_WORDS = {"kernel": "kernel phase", "feature-learning": "feature learning", "rich": "rich phase"}
_DEEDS = {
    "alignment": "alignment of adjacent layers (weights turn so that the kernel grows)",
    "disalignment": "disalignment (weights turn so that the kernel shrinks)",
    "growth": "growth of the layers' norms",
    "shrinkage": "shrinkage of the layers' norms",
}


def _phase(change: float) -> str:
    return _PHASES[int(change > KERNEL_CHANGE) + int(change > RICH_CHANGE)]


def decide(
    times: Sequence[float],
    change: ArrayLike,
    change_se: ArrayLike,
    mechanisms: Mapping[str, float],
    movements: Mapping[str, float],
) -> dict[str, Any]:
    """Phase, mechanism and onset, with a sentence that says the numbers.

    Parameters
    ----------
    times, change, change_se
        Relative kernel change at each record, with standard errors.
    mechanisms
        The budget at the last record.
    movements
        Relative movement of each layer at the last record.

    Returns
    -------
    dict
        ``phase``, ``mechanism`` ("none" in the kernel phase), ``since`` (first record from which on the
        change stays above 0.1; nan in the kernel phase), ``kernel_change``, ``kernel_change_se``, ``decided``
        (whether the phase holds within two standard errors), ``words``.
    """
    values, errors = np.asarray(change, float), np.asarray(change_se, float)
    last = float(values[-1]) if values.size else float("nan")
    if not np.isfinite(last):
        words = "The kernel change is undefined: the kernel at the start is zero or the network diverged."
        return {"phase": "undetermined", "mechanism": "none", "since": float("nan"), "kernel_change": last,
                "kernel_change_se": float("nan"), "decided": False, "words": words}  # fmt: skip
    phase = _phase(last)
    error = float(np.nan_to_num(errors[-1]))
    decided = _phase(last - 2 * error) == _phase(last + 2 * error)
    words = f"{_WORDS[phase].capitalize()}: the kernel changed by {last:.3g}"
    words += f" +- {error:.2g}" if error else ""
    words += f" of its start (up to {KERNEL_CHANGE:g} is the kernel phase, above {RICH_CHANGE:g} the rich one)"
    words += "" if decided else "; the errors do not decide the phase"
    mechanism, since = "none", float("nan")
    if phase == "kernel":
        moved = {name: size for name, size in movements.items() if size > LAYER_MOVEMENT}
        if moved:
            listed = ", ".join(f"{name} by {size:.2g}" for name, size in moved.items())
            words += f". Yet single layers moved more than their norm: {listed}"
    else:
        shares = {name: abs(mechanisms.get(name, 0.0)) for name in _DEEDS}
        below = np.flatnonzero(~(values > KERNEL_CHANGE))
        since = float(times[int(below[-1]) + 1]) if below.size else float(times[0])
        words += f", since step {since:g}"
        if max(shares.values()) > 0:
            mechanism = max(shares, key=lambda name: shares[name])
            amount = mechanisms[mechanism]
            total = sum(mechanisms.get(name, 0.0) for name in (*_DEEDS, "unattributed"))
            words += f"; mostly by {_DEEDS[mechanism]}: {amount:+.3g} of the change {total:+.3g} of ln(kernel)"
    return {"phase": phase, "mechanism": mechanism, "since": since, "kernel_change": last,
            "kernel_change_se": error, "decided": decided, "words": words + "."}  # fmt: skip
