"""From comparisons to a verdict: the one place where evidence is judged.

Differences are measured in units of their standard error and compared with Student's t at Welch's degrees of freedom.
The comparisons of one claim share one probability of error (Bonferroni), fixed here for all claims:

- "equals" is rejected at 0.1 %, and counts only where the standard error is within the resolution that the claim
  states, so that imprecision does not pass for agreement; a tolerance for what finite sizes add is taken off first;
- "above" and "below" must be shown at 1 %;
- "at most" compares numbers that are not stochastic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from featurephase.claims.base import Comparison, Finding, Number
from featurephase.results.ledger import Evidence

CONFIRMED = "confirmed"
LIMITED = "confirmed within limits"
NOT_CONFIRMED = "not confirmed"
NOT_DETERMINED = "not determined"

#: Probability with which any equality of a claim, if all are true, is rejected; and with which an inequality that just
#: fails to be true is taken as shown.
FALSE_ALARM, FALSE_PROOF = 0.001, 0.01


def judged(comparisons: Sequence[Comparison]) -> tuple[Evidence, ...]:
    """The comparisons of one claim with their probabilities, and whether they hold."""
    equalities = sum(c.relation == "equals" for c in comparisons)
    inequalities = sum(c.relation in ("above", "below") for c in comparisons)
    return tuple(_judge(c, FALSE_ALARM / max(equalities, 1), FALSE_PROOF / max(inequalities, 1)) for c in comparisons)


def _judge(c: Comparison, false_alarm: float, false_proof: float) -> Evidence:
    difference = Number.sum([(1.0, c.observed), (-1.0, c.expected)])
    if c.relation == "at most":
        return _evidence(c, math.nan, math.inf, math.nan, difference.value <= 0.0)
    z = _in_errors(difference, c.tolerance)
    if math.isnan(z):  # what is not a number shows nothing
        return _evidence(c, z, difference.degrees, math.nan, False)
    upper = _beyond(z, difference.degrees)
    if c.relation == "equals":
        p = min(1.0, 2.0 * min(upper, _beyond(-z, difference.degrees)))
        holds = p >= false_alarm and difference.se <= c.resolution
    else:
        p = upper if c.relation == "above" else _beyond(-z, difference.degrees)
        holds = p <= false_proof
    return _evidence(c, z, difference.degrees, p, holds)


def _evidence(c: Comparison, z: float, degrees: float, p: float, holds: bool) -> Evidence:
    return Evidence(
        name=c.name,
        observed=c.observed.value,
        observed_se=c.observed.se,
        relation=c.relation,
        expected=c.expected.value,
        expected_se=c.expected.se,
        difference=z,
        degrees=degrees,
        p=p,
        resolution=c.resolution,
        tolerance=c.tolerance,
        holds=bool(holds),
        core=c.core,
    )


def _in_errors(difference: Number, tolerance: float) -> float:
    """A difference beyond a tolerance over its standard error; of exact numbers infinite, unless they are equal."""
    beyond = math.copysign(max(abs(difference.value) - tolerance, 0.0), difference.value)
    if math.isnan(difference.value) or difference.se == 0.0:
        return math.nan if math.isnan(difference.value) else math.copysign(math.inf if beyond else 0.0, beyond)
    return beyond / difference.se


def _beyond(z: float, degrees: float) -> float:
    """The probability that Student's t is above ``z``; nan for nan."""
    from scipy.special import stdtr

    return float(stdtr(min(degrees, 1e9), -z))


def verdict(evidence: Sequence[Evidence], finding: Finding) -> tuple[str, str]:
    """The verdict of a claim, and its limits in words.

    Confirmed if all of the evidence holds and nothing of the statement was left out; within limits if all that is core
    holds. No evidence confirms nothing.
    """
    if not evidence or not all(e.holds for e in evidence if e.core):
        return NOT_CONFIRMED, finding.limits
    failed = [f"not so for: {e.name}" for e in evidence if not e.holds]
    limits = "; ".join([*([finding.limits] if finding.limits else []), *failed])
    return (LIMITED if limits else CONFIRMED), limits
