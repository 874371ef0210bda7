"""The verdict in words and numbers: which phase, by which mechanism, since when.

Thresholds are conventions, stated with every verdict: a relative kernel change up to 0.1 is the kernel
phase, above 10 (an order of magnitude) the rich one, feature learning in between. A single network at one
width shows where it is, not an exponent; the exponents of theory/latent-phases need a series of widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from featurephase.results.probe import Verdict

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
    "unattributed": "what no mechanism accounts for (unattributed)",
}
_ZERO_KERNEL = "The kernel change is undefined: the kernel at the start is zero"
_STATISTICS = "the drift of what is not trained (normalisation statistics, buffers, frozen parameters)"


def _phase(change: float) -> str:
    return _PHASES[int(change > KERNEL_CHANGE) + int(change > RICH_CHANGE)]


def decide(
    times: Sequence[float],
    change: ArrayLike,
    change_se: ArrayLike,
    mechanisms: Mapping[str, float],
    movements: Mapping[str, float],
    ended: str = "",
) -> Verdict:
    """Phase, mechanism and onset, with a sentence that says the numbers.

    From the relative kernel change at each record with its standard error, and at the last record the budget of the
    mechanisms and the relative movement of each layer. ``ended`` says why the recording ended before the training did;
    then no phase is claimed.
    """
    values, errors = np.asarray(change, float), np.asarray(change_se, float)
    last = float(values[-1]) if values.size else float("nan")
    error = float(np.nan_to_num(errors[-1])) if errors.size else 0.0
    if ended or not np.isfinite(last):
        reason = f"No phase is claimed: {ended}" if ended else _ZERO_KERNEL
        return Verdict(kernel_change=last, kernel_change_se=error, words=f"{reason}.")
    phase = _phase(last)
    decided = _phase(last - 2 * error) == _phase(last + 2 * error)
    amount = f"the kernel changed by {last:.3g}" + (f" +- {error:.2g}" if error else "")
    scale = f" of its start (up to {KERNEL_CHANGE:g} is the kernel phase, above {RICH_CHANGE:g} the rich one)"
    tail = "" if decided else "; the errors do not decide the phase"
    if phase == "kernel":
        words = f"{_WORDS[phase].capitalize()}: {amount}{scale}{tail}{_movers(movements)}."
        return Verdict(phase=phase, kernel_change=last, kernel_change_se=error, decided=decided, words=words)
    below = np.flatnonzero(~(values > KERNEL_CHANGE))
    since = float(times[int(below[-1]) + 1]) if below.size else float(times[0])
    names = (*_DEEDS, "statistics")
    total = sum(mechanisms.get(name, 0.0) for name in names)
    mechanism = max(names, key=lambda name: abs(mechanisms.get(name, 0.0)))
    share = mechanisms.get(mechanism, 0.0)
    cause = f"{share:+.3g} of the change {total:+.3g} of ln(kernel)"
    if mechanism == "statistics" and share:
        words = f"No phase is claimed: {amount} of its start since step {since:g}, mostly by {_STATISTICS}: {cause}"
        phase, decided = "undetermined", False
    else:
        words = f"{_WORDS[phase].capitalize()}: {amount}{scale}{tail}, since step {since:g}"
        words += f"; mostly by {_DEEDS[mechanism]}: {cause}" if share else ""
    return Verdict(
        phase=phase,
        mechanism=mechanism if share else "none",
        since=since,
        kernel_change=last,
        kernel_change_se=error,
        decided=decided,
        words=f"{words}.",
    )


def _movers(movements: Mapping[str, float]) -> str:
    """Layers that moved by more than their norm although the kernel stood still."""
    moved = {name: size for name, size in movements.items() if size > LAYER_MOVEMENT}
    listed = ", ".join(f"{name} by {size:.2g}" for name, size in moved.items())
    return f". Yet single layers moved more than their norm: {listed}" if moved else ""
