"""What ``reproduce`` returns: the ledger of claims, each with its evidence and its verdict."""

from __future__ import annotations

from featurephase.results.base import Record, Result
from featurephase.results.labels import labelled, record
from featurephase.results.related import Panel
from featurephase.results.status import OK


@record
class Evidence(Record):
    """One comparison.

    Attributes
    ----------
    name
        What was compared.
    observed, observed_se, relation, expected, expected_se
        What was found, what the claim says of it ("equals", "above", "below", and "at most" for numbers that are not
        stochastic), and what it is compared with. Standard errors of exact numbers are 0.
    difference
        ``observed - expected`` beyond the tolerance, in units of its standard error; nan where nothing is stochastic.
    degrees
        Degrees of freedom of that error (Welch).
    p
        Probability under Student's t of a difference at least so large if both were equal: two-sided for "equals",
        else of one on this side; nan where nothing is stochastic.
    resolution, tolerance
        The largest standard error with which "equals" counts as evidence, and the difference that finite sizes may
        make, which is taken off first; 0 elsewhere.
    holds
        Whether it is as the claim says.
    core
        Whether the claim stands and falls with it; without one that is no core it is confirmed within limits.
    """

    name: str = labelled(name="evidence")
    observed: float = labelled(about="what was found")
    observed_se: float = 0.0
    relation: str = labelled()
    expected: float = labelled(about="what it is compared with")
    expected_se: float = 0.0
    difference: float = labelled(about="difference over its standard error", unit="1")
    degrees: float
    p: float = labelled(about="probability of such a difference by chance", unit="1")
    resolution: float = 0.0
    tolerance: float = 0.0
    holds: bool = labelled(about="whether the comparison is as the claim says")
    core: bool = True


@record
class ClaimResult(Record):
    """One finding of the literature, executed.

    Attributes
    ----------
    id, number, statement, source
        What is claimed, and by whom.
    criterion, experiment
        What was to be seen, fixed before the run, and how it was looked for.
    verdict
        "confirmed", "confirmed within limits", "not confirmed" or "not determined".
    limits
        What of the statement was not tested, or did not hold; empty for "confirmed".
    status, message
        ``"ok"``; ``"not-confirmed"`` or ``"not-determined"`` with the reason.
    evidence
        The comparisons.
    quick
        Whether a reduced experiment was run.
    seconds, date, command, seed, version
        How long it took, when it was run, and how to run it again.
    panels
        The figure, as data.
    """

    id: str = labelled(name="claim")
    number: int = labelled(about="number in the ledger")
    statement: str
    source: str
    criterion: str
    experiment: str
    verdict: str = labelled()
    limits: str = ""
    status: str = labelled(default=OK)
    message: str = ""
    evidence: tuple[Evidence, ...] = labelled("comparison", name="", of=Evidence, default=())
    quick: bool
    seconds: float = labelled(about="time the experiment took", unit="s")
    date: str = ""
    command: str
    seed: int
    version: str
    panels: tuple[Panel, ...] = labelled(json=False, saved=False, repr=False, default=())

    @property
    def name(self) -> str:
        """Number and id, for people."""
        return f"{self.number}. {self.id}"


@record
class Ledger(Result):
    """The ledger.

    Attributes
    ----------
    claims
        In the order of their numbers.
    quick
        Whether the reduced experiments were run.
    """

    claims: tuple[ClaimResult, ...] = labelled("claim_number", name="", of=ClaimResult)
    quick: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        verdicts = [claim.verdict for claim in self.claims]
        return {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
