"""The ledger as one self-contained page: the summary, then every claim with its evidence, figure and command."""

from __future__ import annotations

from featurephase.present.ledger import claim_figure, duration, evidence_cells, summary_cells
from featurephase.present.page import Block, Cell, Code, Marked, Picture, Section, Table, Text, page
from featurephase.results.ledger import ClaimResult, Ledger

#: Verdict -> tone of its mark.
_TONES = {"confirmed": "good", "confirmed within limits": "fair", "not confirmed": "bad", "not determined": "none"}


def ledger_page(result: Ledger) -> str:
    """The page, as HTML."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in result.counts.items())
    size = "reduced" if result.quick else "full"
    lead = (
        "Findings of the literature on feature learning, each run as an experiment whose criterion was fixed before: "
        f"{counts}. These are the {size} experiments. Numbers stand with their standard errors; differences z "
        "are judged in these units with Student's t, the comparisons of a claim sharing one probability of error."
    )
    dates = sorted({claim.date for claim in result.claims if claim.date})
    facts = {
        "made by": f"featurephase {result.version}",
        "run": " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "",
        "seed": str(result.seed),
        "time in all": duration(sum(claim.seconds for claim in result.claims)),
        "again": "featurephase reproduce" + (" --quick" if result.quick else ""),
    }
    summary = Section("Summary", [_summary(result)], name="summary")
    return page("The ledger of claims", [summary, *map(_section, result.claims)], lead, facts)


def _summary(result: Ledger) -> Table:
    rows: list[list[Cell]] = []
    for claim in result.claims:
        number, name, verdict, seconds, date = summary_cells(claim)
        tone = _TONES[claim.verdict]
        rows.append([number, Marked(name, link=f"#{claim.id}"), Marked(verdict, tone), seconds, date])
    return Table(("", "claim", "verdict (comparisons that hold)", "time", "date"), rows)


def _section(claim: ClaimResult) -> Section:
    blocks: list[Block] = [
        Table(("", ""), [("verdict", Marked(claim.verdict, _TONES[claim.verdict]))]),
        Text(f"{claim.statement}\n\nSource: {claim.source}."),
        Text(f"Criterion, fixed before the run: {claim.criterion}"),
        Text(f"Experiment: {claim.experiment}"),
    ]
    if claim.evidence:
        blocks.append(_evidence(claim))
    notes = [("Limits", claim.limits), ("Note", claim.message)]
    blocks += [Text(f"{what}: {text}.") for what, text in notes if text]
    figure = claim_figure(claim)
    if figure is not None:
        blocks.append(Picture(figure, about=f"Figure of the claim {claim.name}"))
    made = f"Run on {claim.date} by featurephase {claim.version}, seed {claim.seed}: {duration(claim.seconds)}."
    return Section(claim.name, [*blocks, Code(claim.command), Text(made)], name=claim.id)


def _evidence(claim: ClaimResult) -> Table:
    rows: list[list[Cell]] = []
    for e in claim.evidence:
        *cells, word = evidence_cells(e)
        rows.append([*cells, Marked(word, "good" if e.holds else "bad" if e.core else "fair")])
    return Table(("", "found", "claim", "z", "holds"), rows)
