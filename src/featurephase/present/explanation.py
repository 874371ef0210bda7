"""``explain`` for people: the verdict in words, and the directions on the axis of n/d."""

from __future__ import annotations

import textwrap

import numpy as np

from featurephase.present.figures import PALETTE, Axes, Figure, new_figure
from featurephase.present.tables import ending
from featurephase.results.explanation import DirectionExplanation, Explanation
from featurephase.results.words import with_error

_LEARNED = {True: "learned", False: "not learned", None: "undetermined"}
_NUMBERS = {
    "overlap": "overlap",
    "delta_NN (t -> inf)": "delta_nn",
    "delta_alg": "delta_alg",
    "learned for a time up to d": "learned_up_to_dimension",
    "samples needed": "samples_needed",
    "escape at step": "escape_step",
}
_UNSTABLE = {True: "unstable", False: "stable", None: "stability undetermined"}


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"  {label:<10}", subsequent_indent=" " * 12, break_on_hyphens=False)


def table(explanation: Explanation) -> str:
    """The verdict, then each direction: numbers, mechanism, what would change it."""
    lines = [explanation.title] if explanation.title else []
    size = "" if explanation.dimension is None else f" (dimension {explanation.dimension})"
    lines += [
        f"n/d = {explanation.delta:g}{size}, step {explanation.steps}; {explanation.samples} sample paths, "
        f"{explanation.replicates} replicates, seed {explanation.seed}",
        "",
        f"verdict: {explanation.verdict}",
    ]
    shown: dict[tuple[str, str], str] = {}
    for entry in explanation.directions:
        lines += ["", f"{entry.name}: {entry.kind}, {_state(entry, explanation.steps)}"]
        lines += _wrapped("numbers", _numbers(entry)) if _numbers(entry) else []
        same = shown.setdefault((entry.mechanism, entry.change), entry.name)
        if same != entry.name:
            lines += _wrapped("why", f"as {same}")
            continue
        lines += _wrapped("why", entry.mechanism) + _wrapped("change", entry.change)
    return "\n".join(lines + ending(explanation.message, explanation.warnings))


def _state(entry: DirectionExplanation, steps: int) -> str:
    """The three answers in a few words."""
    if entry.kind != "hard":
        return _LEARNED[entry.learned]
    words = [
        f"{_LEARNED[entry.learned]} if training goes on",
        f"{_UNSTABLE[entry.unstable_at_last_step]} at step {steps}",
    ]
    if entry.learned_by_last_step is not None:
        words.append(f"learned by then with probability {entry.learned_by_last_step:.2g}")
    return ", ".join(words)


def _numbers(entry: DirectionExplanation) -> str:
    words = []
    for text, name in _NUMBERS.items():
        value, se = getattr(entry, name), getattr(entry, f"{name}_se")
        if value is not None and (entry.kind != "easy" or name == "overlap"):
            words.append(f"{text} {with_error(value, np.nan if se is None else se)}")
    if entry.escape_low is not None and entry.escape_high is not None:
        words[-1] += f" (90 % of runs: {entry.escape_low:.3g} to {entry.escape_high:.3g})"
    return ", ".join(words)


def _learned_from(entry: DirectionExplanation, low: float, high: float) -> list[tuple[float, float]]:
    """The intervals of n/d, within those shown, in which a direction is learned."""
    if entry.kind == "easy":
        return [(low, high)] if entry.learned else []
    inside = [(max(w.low, low), min(w.high, high)) for w in entry.windows if not np.isnan(w.low + w.high)]
    return [(a, b) for a, b in inside if a < b]


def figure(explanation: Explanation) -> Figure:
    """One row for each direction: the n/d at which it is learned if training goes on, by this network and at best."""
    entries = explanation.directions
    finite = [
        value
        for e in entries
        for value in (e.delta_nn, e.delta_alg)
        if value is not None and np.isfinite(value) and value > 0
    ]
    low, high = min([*finite, explanation.delta]) / 4, max([*finite, explanation.delta]) * 4
    drawn = new_figure(7.2, 1.6 + 0.75 * len(entries))
    axes = drawn.add_subplot()
    for row, entry in enumerate(reversed(entries)):
        _direction_row(axes, row, entry, explanation.delta, (low, high))
    axes.axvline(explanation.delta, color="0.2", linewidth=0.8, zorder=0)
    labels = [f"{e.name}\n{_label(e)}" for e in reversed(entries)]
    axes.set_yticks(range(len(entries)), labels)
    axes.set(ylim=(-0.5, len(entries) - 0.3), xscale="log", xlim=(low, high))
    axes.grid(False, axis="y")
    axes.set_xlabel(rf"$n/d$; this experiment: {explanation.delta:g}; shaded: learned if training goes on")
    axes.set_title(explanation.title or "What is learned", wrap=True)
    return drawn


def _label(entry: DirectionExplanation) -> str:
    label = f"{entry.kind}, {_LEARNED[entry.learned]}"
    if entry.kind == "hard":
        label += f"\n{_UNSTABLE[entry.unstable_at_last_step]} at the last step"
    if entry.kind == "hard" and entry.learned_by_last_step is not None:
        label += f"\nby the last step: {entry.learned_by_last_step:.2g}"
    return label


def _direction_row(axes: Axes, row: int, entry: DirectionExplanation, delta: float, shown: tuple[float, float]) -> None:
    colours = {True: PALETTE[2], False: "0.8", None: PALETTE[4]}
    for start, end in _learned_from(entry, *shown):
        axes.barh(row, end - start, left=start, height=0.5, color=PALETTE[2], alpha=0.3, linewidth=0)
    for value, se, marker in ((entry.delta_nn, entry.delta_nn_se, "|"), (entry.delta_alg, entry.delta_alg_se, ":")):
        if value is None or not np.isfinite(value) or value <= 0:
            continue
        if marker == ":":
            axes.plot([value, value], [row - 0.25, row + 0.25], color="0.3", linestyle=":")
        else:
            axes.errorbar(value, row, xerr=se, fmt="|", markersize=16, color=PALETTE[2], capsize=3)
        name = r"$\delta_{\rm alg}$" if marker == ":" else r"$\delta_{\rm NN}$"
        axes.annotate(name, (value, row + 0.27), ha="center", va="bottom", fontsize="small")
    axes.plot(delta, row, "o", color=colours[entry.learned], markeredgecolor="0.2", markersize=8)
