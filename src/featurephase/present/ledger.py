"""The ledger of claims for people: a table, a figure of all claims, and the figure of one."""

from __future__ import annotations

import math
import textwrap

from featurephase.present.figures import Figure, house_style, new_figure, text_figure
from featurephase.present.panels import draw_panel
from featurephase.present.tables import aligned, ending
from featurephase.results.ledger import ClaimResult, Evidence, Ledger
from featurephase.results.words import with_error

_WIDTH = 110
_COLUMNS = 3


def duration(seconds: float) -> str:
    """``"41 s"``, ``"12 min"`` or ``"3.2 h"``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def summary_cells(claim: ClaimResult) -> tuple[str, str, str, str, str]:
    """Number, name, verdict, time taken and date."""
    held = sum(e.holds for e in claim.evidence)
    count = f" ({held}/{len(claim.evidence)})" if claim.evidence else ""
    return str(claim.number), claim.id, claim.verdict + count, duration(claim.seconds), claim.date


def evidence_cells(e: Evidence) -> tuple[str, str, str, str, str]:
    """Name, what was found, what it is compared with, the difference in standard errors, and whether it holds."""
    found, expected = (with_error(e.observed, e.observed_se), with_error(e.expected, e.expected_se))
    z = "" if math.isnan(e.difference) else f"{round(e.difference, 1) + 0.0:+.1f}"
    return e.name, found, f"{e.relation} {expected}", z, _word(e)


def _word(e: Evidence) -> str:
    if e.holds:
        return "yes"
    error = math.hypot(e.observed_se, e.expected_se)
    return "too imprecise" if e.relation == "equals" and error > e.resolution else "NO"


def table(result: Ledger) -> str:
    """Every claim with its evidence, then the summary."""
    lines = []
    for claim in result.claims:
        lines += [*_block(claim), ""]
    size = "reduced experiments (--quick)" if result.quick else "full experiments"
    lines.append(f"The ledger: {size}, seed {result.seed}; values +- standard error")
    lines += aligned([summary_cells(c) for c in result.claims], ("", "claim", "verdict", "time", "date"))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in result.counts.items())
    return "\n".join([*lines, "", counts, *ending(result.message)])


def _block(claim: ClaimResult) -> list[str]:
    """One claim in words and numbers."""
    lines = [
        f"{claim.name}: {claim.verdict}",
        *textwrap.wrap(claim.statement, _WIDTH, initial_indent="  ", subsequent_indent="  "),
    ]
    header = ("", "found", "claim", "z", "holds")
    lines += aligned([evidence_cells(e) for e in claim.evidence], header, indent="    ") if claim.evidence else []
    for what, text in (("limits", claim.limits), ("note", claim.message)):
        if text:
            lines += textwrap.wrap(f"{what}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="  ")
    return lines


@house_style()
def claim_figure(claim: ClaimResult) -> Figure | None:
    """All panels of one claim; ``None`` if it has none."""
    if not claim.panels:
        return None
    count = len(claim.panels)
    drawn = new_figure(4.8 * count, 3.8)
    for axes, panel in zip(drawn.subplots(1, count, squeeze=False)[0], claim.panels, strict=True):
        draw_panel(axes, panel)
    return drawn


def figure(result: Ledger) -> Figure:
    """The first panel of every claim."""
    shown = [claim for claim in result.claims if claim.panels]
    if not shown:
        return text_figure(table(result), None, 9.0, 0.6 + 0.25 * len(result.claims))
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    drawn = new_figure(4.8 * columns, 3.8 * rows)
    places = drawn.subplots(rows, columns, squeeze=False).ravel()
    for axes, claim in zip(places, shown, strict=False):
        draw_panel(axes, claim.panels[0])
        axes.set_title(f"{claim.name}: {claim.verdict}")
    for axes in places[len(shown) :]:
        axes.axis("off")
    return drawn
