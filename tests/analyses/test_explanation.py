"""explain: a direction that is unstable for a time only, and what that means in words and numbers."""

from __future__ import annotations

import pytest

from featurephase.analyses.explanation import explain

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
