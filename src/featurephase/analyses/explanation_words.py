"""The sentences of ``explain``: mechanism and change of each direction, made from numbers that other modules found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurephase.analyses.explanation_facts import Facts, HardFacts
from featurephase.analyses.expressible import why_not
from featurephase.dynamics.optimisers import FirstOrderRule
from featurephase.foundation.types import Array
from featurephase.results.status import NOT_PREDICTED
from featurephase.results.words import with_error

if TYPE_CHECKING:
    from featurephase.results.prediction import HessianPrediction, OutlierPrediction
    from featurephase.results.threshold import DirectionLimit


def left_hard_outlier(hessian: HessianPrediction) -> OutlierPrediction | None:
    """The smallest hard outlier left of the bulk."""
    return next((o for o in hessian.hard_outliers if o.side == "left"), None)


# ---- hard directions


def hard_words(facts: Facts, hard: HardFacts) -> tuple[str, str]:
    """Mechanism and change of one sector of hard directions."""
    if facts.run.status != "ok":
        return f"gradient descent has {facts.run.status}", "a smaller training.step_size"
    if not hard.finished:
        return f"{_at_the_last_step(facts, hard)}; interrupted before more was known", "let it finish"
    if hard.limit is None:
        status = facts.hessian.status
        why = f"which has no limit here ({status if status != 'ok' else 'as training goes on; see the note'})"
        why = "which does not decide it here (see the note)" if status == NOT_PREDICTED else why
        return (
            f"whether it is learned is read off the Hessian, {why}",
            f"{_CURES.get(status, 'another activation or loss')}; `featurephase simulate` needs no Hessian; {_WARM}",
        )
    parts = [_at_the_last_step(facts, hard), _if_training_goes_on(facts, hard)]
    parts += [_in_this_dimension(facts, hard)] if hard.law is not None else []
    parts += [why_not(facts.problem, hard.sector.name)] if not hard.expressible else []
    return "; ".join(parts), _change(facts, hard)


_WARM = "a warm start with any overlap (student.init_overlap) makes it easy"


#: What would give the Hessian a limit, by its status.
_CURES = {
    "singular-curvature": "a smooth activation and loss",
    "unbounded-curvature": "a curvature that is bounded (see the note)",
    NOT_PREDICTED: "what the note says",
}


def _at_the_last_step(facts: Facts, hard: HardFacts) -> str:
    steps, outlier = facts.steps, left_hard_outlier(facts.hessian)
    alone = facts.spaces.relevant_hard_basis.shape[1] == hard.sector.size
    number = f", {with_error(outlier.value, outlier.value_se)}," if alone and outlier is not None else ""
    if hard.alternates and facts.alternating is not None:
        value = with_error(facts.alternating.value, facts.alternating.value_se)
        whose = f"along {hard.them}" if hard.unstable else "along a hard direction, perhaps this one"
        return (
            f"at t = {steps} a hard outlier of the Hessian, {value}, stands right of the bulk, so large that steps of "
            f"this size overshoot and grow {whose}{_pace(facts, facts.alternating.value)}, with alternating sign"
        )
    edge = f"the bulk (edge {with_error(facts.hessian.left_edge, facts.hessian.left_edge_se)})"
    if hard.unstable:
        overlap = "" if not number or outlier is None else _with_overlap(outlier)
        jump = "" if facts.hessian.continuous else "; the bulk ends in a non-critical edge, so that the overlap jumps"
        pace = "" if not number or outlier is None else _pace(facts, outlier.value)
        return (
            f"at t = {steps} an eigenvalue of the Hessian{number} stands left of {edge} and below 0{overlap}: gradient "
            f"descent is unstable along {hard.them} and leaves its plateau{pace}{jump}"
        )
    if hard.unstable is None:
        return f"at t = {steps} n/d = {facts.delta:g} is too close to the transition to say whether it is unstable"
    earlier = ""
    if hard.unstable_until is not None:
        earlier = f" (it was unstable at first, until about t = {hard.unstable_until})"
    if hard.visible:
        return (
            f"at t = {steps} an eigenvalue{number} stands left of {edge} but above 0: the direction shows in the "
            f"spectrum, yet gradient descent is stable along {hard.them}{earlier}"
        )
    return (
        f"at t = {steps} no eigenvalue of the Hessian on {hard.sector.name} stands left of {edge}: noise hides "
        f"{hard.them}, and gradient descent stays where the overlap is 0{earlier}"
    )


def _with_overlap(outlier: OutlierPrediction) -> str:
    return (
        f", its eigenvector with squared overlap {with_error(outlier.overlap, outlier.overlap_se)} on the hard "
        "directions"
    )


def _pace(facts: Facts, eigenvalue: float) -> str:
    factor = FirstOrderRule.of(facts.problem.training).growth_factor(eigenvalue, max(facts.steps - 1, 0))
    return f" by a factor {factor:.3g} a step" if np.isfinite(factor) else ""


def _if_training_goes_on(facts: Facts, hard: HardFacts) -> str:
    limit = hard.limit
    assert limit is not None
    known = _known(hard, limit)
    if limit.status == "unbounded-curvature":
        return "whether it is learned if training goes on is unknown: the bulk of the Hessian has no edge then"
    if facts.bulk_grows:
        return (
            "whether it is learned if training goes on is unknown: directions of the bulk grow from step to step, and "
            "finite networks leave the limit or diverge"
        )
    if hard.learned is None and hard.alternates:
        return "whether it is learned if training goes on is not decided: delta_NN is of outliers below 0"
    if hard.learned is None and hard.after:
        return (
            f"n/d is above {known}, so that it grows on the plateau, but {hard.after} escapes first; whether it is "
            "learned after that, the plateau does not tell"
        )
    if limit.moves_on:
        now = with_error(limit.history[-1], limit.history_se[-1])
        moving = f"its delta_NN, {now} at the last time followed, which still moves as fast as ever"
        if hard.learned is None:
            return f"whether it is learned if training goes on is not decided: no limit is in sight of {moving}"
        return f"if training goes on it is not learned in high dimension: n/d is below {moving}"
    open_below = any(w.open_below for w in limit.windows)
    always = not np.isfinite(hard.learned_from[0])
    if hard.learned is None and always and open_below:
        return (
            "whether it is learned if training goes on is not decided: below n/d = "
            f"{limit.windows[0].low:.3g}, from which on it is unstable, gradient descent may diverge"
        )
    if hard.learned is None:
        return f"n/d = {facts.delta:g} is too close to {known}, to tell whether it is learned if training goes on"
    if hard.learned:
        alive = " at which gradient descent does not diverge" if open_below else ""
        reason = f"it is unstable at every n/d searched{alive}" if always else f"n/d is above {known}"
        return f"if training goes on it is learned: {reason}"
    below = [w for w in limit.windows if w.low > facts.delta]
    above = [w for w in limit.windows if w.high < facts.delta]
    if below and not above:
        at = known if below[0].low == hard.learned_from[0] else with_error(below[0].low, below[0].low_se)
        reason = f"n/d is below {at}" + ("" if "from which" in at else ", from which on its instability lasts")
    elif above:
        last = above[-1]
        reason = f"n/d is above {with_error(last.high, last.high_se)}, up to which it is unstable"
    else:
        reason = "no n/d searched makes it unstable for good"
    text = f"if training goes on it is not learned in high dimension: {reason}"
    if np.isfinite(hard.up_to[0]):
        text += (
            f"; in dimensions up to about {with_error(*hard.up_to)} half of the networks or more learn it all the "
            "same, while it is unstable for a time"
        )
    return text + (f" (as long as {hard.after}, which escapes first, is on the plateau)" if hard.after else "")


def _known(hard: HardFacts, limit: DirectionLimit) -> str:
    """From which n/d on it is unstable as training goes on; that its outlier stands left of the bulk is not enough."""
    own, stands = hard.learned_from, with_error(limit.value, limit.value_se)
    if own[0] == limit.value or not np.isfinite(limit.value):
        return f"its delta_NN as training goes on, {with_error(*own)}"
    return (
        f"{with_error(*own)}, from which on its outlier is negative as training goes on (left of the bulk it stands "
        f"from its delta_NN on, {stands})"
    )


def _in_this_dimension(facts: Facts, hard: HardFacts) -> str:
    law, d = hard.law, facts.dimension
    assert law is not None
    probability = with_error(law.by_end, law.by_end_se) if law.by_end_se > 0 else f"{law.by_end:.3g}"
    text = f"in dimension {d} it makes up half of the weights by step {facts.steps} with probability {probability}"
    if np.isfinite(law.median):
        text += f", in half of the runs by step {law.median:.3g}"
        text += ", after the end of this training" if law.median > facts.steps else ""
    return text


def _change(facts: Facts, hard: HardFacts) -> str:
    limit, steps = hard.limit, facts.steps
    assert limit is not None
    other = "another activation, loss, width or step size moves delta_NN"
    value, se = hard.learned_from
    if hard.learned:
        fewer = f"fewer samples: below n/d = {with_error(value, se)} it stays unlearned; " if np.isfinite(value) else ""
        more = f"more steps than {steps}, " if hard.law is not None and hard.law.median > steps else ""
        return f"{fewer}{more}{other}"
    if facts.bulk_grows:
        return f"a smaller training.step_size: below {2.0 / facts.hessian.right_edge:.3g} the bulk does not grow"
    if hard.learned is None and facts.alternating is not None:
        return f"a smaller training.step_size: below {2.0 / facts.alternating.value:.3g} steps do not overshoot"
    if hard.learned is None and hard.after:
        return f"`featurephase simulate` follows finite networks beyond the escape of {hard.after}; {other}"
    if hard.learned is None and limit.moves_on:
        return f"`featurephase threshold` with more time (threshold.max_steps) may find where delta_NN ends; {other}"
    if hard.learned is None:
        return "more sample paths (asymptotics.samples) sharpen delta_NN; more or fewer samples n leave the transition"
    alg, alg_se = hard.delta_alg
    if np.isinf(alg):
        return (
            "no number of samples proportional to the dimension lets a first-order method find it (delta_alg is "
            f"infinite); {_WARM}"
        )
    data = f"delta_alg = {with_error(alg, alg_se)} is a property of the data: no change of the network moves it"
    ahead = [w for w in limit.windows if w.low > facts.delta]
    if limit.moves_on:
        more = "more samples; how many is open, because delta_NN moves on"
    elif ahead:
        size = f", so n above {ahead[0].low * facts.dimension:.3g}" if facts.dimension else ""
        more = f"more samples: n/d above {with_error(ahead[0].low, ahead[0].low_se)}{size}"
    elif limit.windows:
        more = f"fewer samples: n/d below {with_error(limit.windows[-1].high, limit.windows[-1].high_se)}"
    else:
        low, high = facts.problem.threshold.delta_range
        more = f"no n/d from {low:g} to {high:g} changes it"
    best = "the best first-order method needs less" if facts.delta > alg else "no first-order method does"
    express = "an activation of another parity, or a bias; " if not hard.expressible else ""
    return f"{express}{more}; {best} ({data}); {other}; {_WARM}"


# ---- easy directions


def easy_words(facts: Facts, direction: Array, decision: str, bound: float) -> tuple[str, str]:
    """Mechanism and change of one easy direction."""
    problem, steps = facts.problem, facts.steps
    start = problem.student.init_overlap
    warm = bool(np.linalg.norm(direction @ start) > 1e-9 * max(1.0, float(np.linalg.norm(start))))
    first = next((r for r in facts.spaces.rounds if r.conditioned_on == 0), None)
    at_once = first is not None and any(
        d == "nonzero" and abs(float(column @ direction)) > 0.01
        for column, d in zip(first.directions.T, first.decisions, strict=True)
    )
    if decision == "nonzero":
        if warm:
            return "the start already overlaps with it", "a start without overlap"
        how = (
            "the response shifts its mean, so that the first gradient steps, which reuse the data, already point to it"
            if at_once
            else "given the directions found before, the response shifts its mean: it is found after them (a staircase)"
        )
        if facts.spaces.status == "given":
            how = "it is declared easy (teacher.easy_basis), and the gradient points to it from the first steps on"
        return how, "nothing needed: any n/d > 0 suffices, more samples make the overlap larger"
    parity = problem.student.activation.facts.parity
    cause = f" (this activation is {parity})" if parity in ("even", "odd") else ""
    if decision == "zero":
        return (
            f"easy for the data but not reached by this network's gradient descent by step {steps}: its overlap is "
            f"below {bound:.2g} of the weights",
            f"more steps, a warm start, or another activation or loss: a symmetry of these can hide a direction{cause}",
        )
    return (
        "easy for the data, but its overlap is too small to be told from none",
        "more sample paths (asymptotics.samples) or more steps decide it",
    )


# ---- the verdict


def verdict_words(facts: Facts, learned: dict[str, bool | None], hard: Sequence[HardFacts]) -> str:
    """One sentence: what is learned if training goes on, what is unstable at the last step, what is learned by then."""

    def names(value: bool | None) -> str:
        return ", ".join(name for name, word in learned.items() if word is value)

    parts = [
        f"{word}: {names(value)}"
        for word, value in (("learned", True), ("not learned", False), ("undetermined", None))
        if names(value)
    ]
    goes_on = " if training goes on" if hard else f", step {facts.steps}"
    text = f"at n/d = {facts.delta:g}{goes_on}: " + ("; ".join(parts) or "nothing to learn")
    unstable = ", ".join(h.sector.name for h in hard if h.unstable)
    if hard and all(h.unstable is not None for h in hard):
        text += f"; at step {facts.steps} gradient descent is " + (
            f"unstable along {unstable}" if unstable else "stable"
        )
    meanwhile = [f"{h.sector.name} up to d = {h.up_to[0]:.2g}" for h in hard if np.isfinite(h.up_to[0])]
    if meanwhile:
        text += f"; while unstable for a time most networks still learn {', '.join(meanwhile)}"
    by_then = [f"{h.sector.name} with probability {h.law.by_end:.2g}" for h in hard if h.law is not None]
    if by_then:
        text += f"; by step {facts.steps} in dimension {facts.dimension}: {', '.join(by_then)}"
    elif any(h.learned for h in hard):
        text += f"; by step {facts.steps} none as d -> infinity (it takes some log d steps: --dimension says how many)"
    hidden = ", ".join(h.sector.name for h in hard if not h.expressible)
    if hidden:
        text += f"; the network cannot express {hidden}"
    return text
