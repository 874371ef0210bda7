"""Detection in curves: falls, lasting crossings, grokking."""

from __future__ import annotations

import numpy as np

from featurephase.escape.detection import crossing_time, grokking_times, level_time


def test_crossings():
    falling = np.concatenate([np.linspace(1, 0, 11), np.zeros(90)])
    assert crossing_time(falling, 0.5) == 5
    bounce = falling.copy()
    bounce[20] = 0.9  # a crossing that does not last
    assert crossing_time(bounce, 0.5) == 21
    assert np.isnan(crossing_time(np.linspace(1, 0.95, 100), 0.5))  # no drop
    assert np.isnan(crossing_time(np.ones(100), 0.5))
    assert np.isnan(crossing_time([1.0, np.nan], 0.5))
    assert np.isnan(crossing_time(np.linspace(0, 1, 50), 0.5))
    plateau = np.concatenate([np.full(50, 0.9), np.full(50, 0.1)])
    found = grokking_times(falling, plateau)
    assert (found.train_time, found.test_time, found.delay) == (5, 50, 45)
    assert level_time([0.1, 0.6, 0.4, 0.7, 0.8], 0.5) == 3
    assert np.isnan(level_time([0.1, 0.6, 0.4], 0.5))
