"""What ``compare`` says of the escape: how many runs leave the plateau, when, and what cannot be compared later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from featurephase.analyses.finite_size import judged
from featurephase.analyses.observables import Observable
from featurephase.analyses.seeds import SeedRun
from featurephase.escape.detection import ESCAPE_LEVEL, median_and_se
from featurephase.escape.law import EscapeLaw
from featurephase.results.comparison import ComparedQuantity
from featurephase.results.status import OK

#: A share of runs that have left the plateau, from which on their means are not those of the plateau.
_ESCAPED = 0.05
#: The overlap of a random start up to which there is a plateau: half of the weights is far above it.
_SMALL_START = ESCAPE_LEVEL / 4.0


def left_plateau(time: int, dense: Mapping[int, Sequence[SeedRun]], law: Mapping[int, Sequence[SeedRun]]) -> str:
    """Where runs have left the plateau by a step, that nothing is compared there; else nothing.

    The limit stays on the plateau at every fixed step; a network of finite d leaves it after about log d steps.
    """
    for d, simulations in dense.items():
        some = [*simulations, *law.get(d, [])]
        if np.mean([run.hard_overlap[0] for run in some]) > _SMALL_START:
            continue  # so few features that there is no plateau to speak of
        count = sum(0 < run.escape_time <= time for run in some)
        if count > _ESCAPED * len(some):
            return (
                f"t = {time}: {count} of {len(some)} runs at d = {d} have learned a hard direction by then and left "
                "the plateau, as the limit does at no fixed step; nothing else is compared there"
            )
    return ""


def escape_quantities(
    law: EscapeLaw, delta: float, steps: int, escape_times: Sequence[float]
) -> tuple[list[ComparedQuantity], list[str]]:
    """The share of seeds that escape within the run and the median of their times; or why they are not compared.

    The law is that of the linear theory, continued to an overlap of one half: half a step of growth by a factor e is
    allowed for what it leaves out.
    """
    seeds, escaped = len(escape_times), int(np.count_nonzero(np.isfinite(escape_times)))
    if law.status != OK:
        known = law.times.size > 0
        seen = f"; {escaped} of {seeds} seeds escape at d = {law.dimension}" if escaped and known else ""
        return [], [f"escape time not compared: {law.message}{seen}"]
    if escaped == 0 and law.low > steps:
        return [], ["escape time not compared: it does not fall within the run"]
    allowed = 0.5 / np.log(law.rate) if law.rate > 1.0 else np.inf
    error = float(np.hypot(np.nan_to_num(law.median_se), allowed))
    quantities = [escaped_fraction(law, escaped, seeds, steps, error, delta)]
    median, se = median_and_se(escape_times)
    if np.isfinite(law.median) and law.high < steps and np.isfinite(median):
        q = Observable("escape_time", steps, law.median, error, lambda _: np.nan)
        quantities.append(judged(q, delta, median, (se, seeds - 1), 0.0, [(error, seeds - 1)]))
    return quantities, []


def escaped_fraction(
    law: EscapeLaw, escaped: int, seeds: int, steps: int, error: float, delta: float
) -> ComparedQuantity:
    """The share of seeds that have escaped by the last step: a binomial test.

    The law gives an interval for it, by moving its times by two of their errors; inside that, nothing is in doubt.
    """
    from scipy.stats import binom, norm

    def within(last: float) -> float:
        return float(np.mean(np.isfinite(law.times) & (law.times <= last)))

    low, high, share = within(steps - 2 * error), within(steps + 2 * error), escaped / seeds
    p, sign = 1.0, 0.0
    if share < low:
        p, sign = 2.0 * float(binom.cdf(escaped, seeds, low)), -1.0
    elif share > high:
        p, sign = 2.0 * float(binom.sf(escaped - 1, seeds, high)), 1.0
    p = min(p, 1.0)
    return ComparedQuantity(
        name="escaped_fraction",
        time=steps,
        delta=delta,
        theory=within(steps),
        theory_se=(high - low) / 4.0,
        finite_size=0.0,
        finite_size_se=0.0,
        simulation=share,
        simulation_se=float(np.sqrt(share * (1.0 - share) / seeds)),
        z=sign * float(norm.isf(p / 2.0)),
        p=p,
    )
