"""What the tests of the related models share: the worst disagreement of a run, and random numbers."""

from __future__ import annotations

import numpy as np

from featurephase.results.related import RelatedResult


def assert_agrees(result: RelatedResult) -> None:
    """Every quantity that both know agrees; the message says which does not."""
    assert result.comparison
    assert result.agree, [a for a in result.comparison if not a.agree]


def value(result: RelatedResult, name: str) -> np.ndarray:
    return np.asarray(result.quantities[name].value)


def error(result: RelatedResult, name: str) -> np.ndarray:
    return np.asarray(result.quantities[name].se)
