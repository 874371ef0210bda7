"""Table and figure of a related model: one drawing for all of them, from the panels that a model describes."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurephase.present.figures import Figure, new_figure, text_figure
from featurephase.present.panels import draw_panel
from featurephase.present.tables import aligned, ending, number
from featurephase.results.related import Quantity, RelatedList, RelatedResult
from featurephase.results.words import with_error

#: Entries of an array that a table shows; longer ones by their first and last few.
_SHOWN = 6


def table(result: RelatedResult | RelatedList) -> str:
    """Phase, quantities with their errors, and theory against simulation; or the list of models."""
    if isinstance(result, RelatedList):
        names = [(m.name, m.title) for m in result.models]
        return "\n".join([*aligned(names, indent=""), "", "featurephase related NAME runs one, --help shows its flags"])
    lines = [f"{result.model}: {result.title}", f"{result.phase}: {result.phase_note}".rstrip(": ")]
    if result.boundaries:
        lines.append("boundaries: " + ", ".join(f"{name} = {value:.6g}" for name, value in result.boundaries.items()))
    lines += ["", *aligned([_row(name, q) for name, q in result.quantities.items()])]
    if result.comparison:
        header = ("simulation", "theory", "measured", "difference", "allowed")
        rows = []
        for a in result.comparison:
            measured = number(a, "simulation")
            verdict = "" if a.agree else "DISAGREES"
            rows.append((a.name, f"{a.theory:.6g}", measured, f"{a.difference:.2g}", f"{a.allowed:.2g}", verdict))
        lines += ["", *aligned(rows, header)]
        words = "agree" if result.agree else "DISAGREE"
        runs = f"{result.replicates} runs, seed {result.seed}" if result.replicates else "one run"
        lines.append(f"theory ({result.validity}) and simulation {words}; {runs}, worst entries shown")
    return "\n".join([*lines, "", f"Source: {result.citation}", *ending(result.message)])


def _row(name: str, quantity: Quantity) -> tuple[str, str, str]:
    value = quantity.value
    if isinstance(value, str):
        return name, value, quantity.about
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    errors = np.zeros_like(values) if quantity.se is None else np.atleast_1d(np.asarray(quantity.se, dtype=np.float64))
    if values.ndim > 1:
        shape = " x ".join(map(str, values.shape))
        return name, f"{shape} numbers, the last: {_numbers(values[-1].ravel(), errors[-1].ravel())}", quantity.about
    return name, _numbers(values, errors), quantity.about


def _numbers(values: Any, errors: Any) -> str:
    words = [with_error(v, e) if e else f"{v:.8g}" for v, e in zip(values, errors, strict=True)]
    if len(words) <= _SHOWN:
        return ", ".join(words)
    return ", ".join([*words[:3], "..", *words[-2:]])


def figure(result: RelatedResult | RelatedList) -> Figure:
    """The panels side by side."""
    if isinstance(result, RelatedList):
        return text_figure(table(result), None, 9.0, 0.6 + 0.25 * len(result.models))
    count = max(len(result.panels), 1)
    drawn = new_figure(4.6 * count, 4.0)
    drawn.suptitle(result.title, fontsize=11.0, wrap=True)
    for axes, panel in zip(drawn.subplots(1, count, squeeze=False)[0], result.panels, strict=False):
        draw_panel(axes, panel)
    return drawn
