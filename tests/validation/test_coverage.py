"""95 % intervals hold the truth 90 to 99 times of a hundred, and the bias of the recursion is below its error.

With 120 repetitions of a correct program a coverage below 90 % has probability 1.4 %, one above 99 % 1.5 %, for each
quantity; the seeds are fixed.
"""

from __future__ import annotations

import pytest

from . import coverage


@pytest.mark.slow
def test_intervals_of_losses_edges_and_outliers():
    found = coverage.trajectory_and_spectrum_coverage(120, 1000, 4, 20_000, 12)
    for c in found:
        assert 0.90 <= c.hits / c.repetitions <= 0.99, "\n".join(x.row() for x in found)


@pytest.mark.slow
def test_bias_is_below_the_standard_error():
    """Nothing above one standard error of a default run, within three errors of the measure."""
    for b in coverage.bias(coverage.TIME, 1024, 60, 16_384, 20):
        assert abs(b.implied) - 3 * b.implied_se < 1, b.row()
