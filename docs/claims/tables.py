"""Write the ledger's tables into README.md and docs/claims/ledger.md: ``python docs/claims/tables.py``.

They are those of quick.json and full.json beside this file, which are what ``featurephase reproduce --json`` printed. A
claim whose criterion is another one by now counts as not run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featurephase.claims.registry import CLAIMS, claim

HERE = Path(__file__).parent
PAGES = (HERE / "ledger.md", HERE.parents[1] / "README.md")


def run(name: str) -> list[dict[str, Any]]:
    """The claims of one document that met the criteria as they are now, well or badly."""
    claims = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))["claims"]
    return [c for c in claims if c["criterion"] == claim(c["id"]).criterion]


def table(claims: list[dict[str, Any]]) -> str:
    """Verdict, comparisons that hold, time and date of each claim."""
    rows = ["| | claim | verdict | comparisons that hold | seconds | date |", "|---|---|---|---|---|---|"]
    for c in claims:
        held = f"{sum(e['holds'] for e in c['evidence'])} of {len(c['evidence'])}"
        rows.append(f"| {c['number']} | {c['id']} | {c['verdict']} | {held} | {c['seconds']:.0f} | {c['date']} |")
    missing = [name for name in CLAIMS if name not in {c["id"] for c in claims}]
    return "\n".join(rows) + (f"\n\nNot run in their present form yet: {', '.join(missing)}." if missing else "")


def limits(claims: list[dict[str, Any]]) -> str:
    """What was not tested, or did not hold, of claims that are confirmed within limits."""
    return "\n".join(f"- {c['id']}: {c['limits']}" for c in claims if c["limits"])


def written(text: str) -> str:
    """A page with its tables, each between a comment that names it and one that ends it, brought up to date."""
    for name in ("quick", "full"):
        for what, make in (("table", table), ("limits", limits)):
            block = f"<!-- {name} {what} -->\n{make(run(name))}\n<!-- end -->"
            before, _, rest = text.partition(f"<!-- {name} {what} -->")
            text = before + block + rest.partition("<!-- end -->")[2] if rest else text
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
