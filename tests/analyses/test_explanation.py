"""explain: a direction that is unstable for a time only, and what that means in words and numbers."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.explanation import explain
from featurephase.analyses.explanation_facts import _faster
from featurephase.analyses.network_threshold import network_threshold
from featurephase.analyses.threshold_limit import threshold_limit
from featurephase.escape.law import EscapeLaw, predicted_escape
from featurephase.results.threshold import DirectionLimit, ThresholdLimit
from featurephase.subspaces import problem_subspaces

from .. import cases


@pytest.mark.slow
def test_an_instability_that_ends_is_enough_up_to_some_dimension():
    """delta_NN grows from 9 at step 4 to 18: at n/d = 12 the plateau is unstable first, and stable for good."""
    small = cases.problem(easy_basis=cases.NOTHING_EASY, steps=4)
    small = small.replace(asymptotics={"samples": 4000, "replicates": 2}, threshold={"max_steps": 240})
    found = explain(small, delta=12.0, workers=1)
    (entry,) = found.directions
    assert (entry.learned, entry.unstable_at_last_step, entry.learned_by_last_step) == (False, True, None)
    assert entry.learned_up_to_dimension is not None
    assert 100.0 < entry.learned_up_to_dimension < 1e5
    assert 0.0 < entry.learned_up_to_dimension_se < entry.learned_up_to_dimension
    assert f"g1 up to d = {entry.learned_up_to_dimension:.2g}" in found.verdict
    assert "half of the networks or more learn it all the same" in entry.mechanism
    assert found.to_dict()["directions"][0]["learned_up_to_dimension"] == pytest.approx(entry.learned_up_to_dimension)
    assert "learned for a time up to d" in " ".join(found.table().split())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training.batches": "one-pass", "training.batch_fraction": 0.5}, "fresh samples at every step"),
        ({"student.readout": [0.5, 0.5], "student.init_gram": np.ones((2, 2))}, "two neurons begin with the same"),
    ],
    ids=["one pass", "identical neurons"],
)
def test_where_the_hessian_does_not_decide_nothing_is_read_off_it(change, words):
    """Dense runs learn the direction of EVEN from fresh samples at n/d = 4; identical neurons are a single one."""
    small = cases.problem(easy_basis=cases.NOTHING_EASY).replace(asymptotics={"samples": 400, "replicates": 2})
    small = small.replace(**change)
    spaces = problem_subspaces(small)
    found = explain(small, delta=4.0, dimension=100, workers=1)
    (entry,) = found.directions
    assert (entry.learned, entry.unstable_at_last_step, entry.learned_by_last_step) == (None, None, None)
    assert any(words in text for text in (found.message, *found.warnings))
    for threshold in (threshold_limit(small, spaces), network_threshold(small, 2, spaces)):
        assert (threshold.status, words in threshold.message) == ("not-predicted", True)
    law = predicted_escape(small, 4.0, 100, spaces)
    assert law.status == "not-predicted"


def test_neurons_that_part_are_not_identical():
    assert not cases.problem(readout=[0.5, 0.5]).student.identical
    twins = cases.problem(readout=[0.5, 0.4]).replace(student={"init_gram": np.ones((2, 2))})
    assert not twins.student.identical  # their read-outs part them


def sector_limit(name: str, value: float, se: float) -> DirectionLimit:
    return DirectionLimit(
        name=name, basis=np.eye(1), value=value, value_se=se, value_negative=value, value_negative_se=se
    )


def law(median: float, se: float) -> EscapeLaw:
    return EscapeLaw(1000, np.array([median]), 1.1, median, se, *(np.nan,) * 4)


def test_the_direction_that_escapes_first_is_told_from_those_it_leaves_behind():
    limits = ThresholdLimit(sectors=(sector_limit("g1", 20.0, 1.0), sector_limit("g2", 60.0, 5.0)))
    assert _faster(1, [True, True], limits, None) == [0]
    assert _faster(0, [True, True], limits, None) == []
    assert _faster(1, [False, True], limits, None) == []  # what does not escape leaves nobody behind
    close = ThresholdLimit(sectors=(sector_limit("g1", 20.0, 1.0), sector_limit("g2", 22.0, 1.0)))
    assert _faster(1, [True, True], close, None) == []
    # where the laws of the escape times are known, they count
    assert _faster(0, [True, True], limits, [law(50.0, 1.0), law(30.0, 1.0)]) == [1]
    assert _faster(1, [True, False], limits, [law(30.0, 1.0), law(np.inf, np.nan)]) == [0]
    assert _faster(0, [False, True], limits, [law(np.inf, np.nan), law(30.0, 1.0)]) == [1]
