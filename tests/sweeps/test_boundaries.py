"""A boundary is followed where it is uncertain: the rule on curves that are known, points against thresholds."""

import math

import numpy as np
import pytest

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.sweeps import boundaries
from featurephase.sweeps.boundaries import BoundaryPlan, interpolation_errors, run_boundary

from .. import cases


def test_the_error_of_straight_lines():
    """Exact for a parabola; none for a line, or for a bend within its noise."""
    x = np.array([0.0, 1.0, 1.5, 3.0])
    np.testing.assert_allclose(interpolation_errors(x, 3 * x**2, np.zeros(4)), 6 * np.diff(x) ** 2 / 8)
    np.testing.assert_allclose(interpolation_errors(x, 2 - 5 * x, np.zeros(4)), 0, atol=1e-12)
    assert not interpolation_errors(x, 3 * x**2, np.full(4, 10.0)).any()


def follow(monkeypatch, tmp_path, curve, **options):
    """Follow a curve that is known, in place of thresholds."""

    def point(experiment, quantity, near):
        value = curve(fp.Problem.from_toml(experiment).training.step_size)
        here = {"value": value, "se": 1e-4 * value, "status": "ok", "message": "", "crossings": 1, "delta_alg": 0.5}
        return (
            here if math.isfinite(value) else here | {"crossings": 0, "status": "no transition in the range searched"}
        )

    monkeypatch.setattr(boundaries, "_point", point)
    plan = BoundaryPlan(cases.problem(), "training.step_size", 0.1, 1.0, **options)
    return run_boundary(plan, tmp_path / "store")


def test_points_gather_where_the_curve_bends(monkeypatch, tmp_path):
    def curve(x):
        return float(np.exp(1 + 0.5 * np.tanh((x - 0.3) / 0.03)))

    found = follow(monkeypatch, tmp_path, curve, tolerance=0.01)
    assert found.status == "ok"
    near = np.abs(found.values - 0.3) < 0.1
    assert np.sum(near) / 0.2 > 2 * np.sum(~near) / 0.7  # points a unit of length
    between = np.linspace(0.1, 1.0, 500)
    known = np.array([curve(x) for x in between])
    error = max(abs(np.array([found.at(x) for x in between]) / known - 1))
    assert error < 0.02
    even = np.linspace(0.1, 1, len(near))
    lines = np.exp(np.interp(between, even, np.log([curve(x) for x in even])))
    assert error < max(abs(lines / known - 1)) / 3


def test_a_straight_line_needs_no_more_than_the_first_points(monkeypatch, tmp_path):
    assert follow(monkeypatch, tmp_path, lambda x: float(np.exp(x))).cells.total == 5


def test_where_the_threshold_ends_is_found(monkeypatch, tmp_path):
    found = follow(monkeypatch, tmp_path, lambda x: 5.0 if x < 0.62 else math.nan)
    there = np.isfinite(found.threshold)
    assert found.values[there].max() < 0.62 <= found.values[~there].min()
    assert found.values[~there].min() - found.values[there].max() <= 0.9 / 64
    assert "no threshold" in found.message


def test_too_few_points_are_said(monkeypatch, tmp_path):
    found = follow(monkeypatch, tmp_path, lambda x: 1 + 100 * x**4, tolerance=1e-4, points=8)
    assert (found.cells.total, found.status) == (8, "not-converged")


def test_points_are_thresholds_and_kept(tmp_path):
    problem = cases.problem(steps=1).replace(asymptotics={"samples": 500, "replicates": 2})
    options = {"tolerance": 0.5, "points": 5, "store": tmp_path / "store", "workers": 1}
    found = fp.boundary(problem, "student.init_norm", (0.8, 1.2), **options)
    entry = fp.threshold(problem.replace(student={"init_norm": 0.8}), limit=False, workers=1).delta_nn[0]
    assert (found.threshold[0], found.threshold_se[0]) == (entry.value, entry.value_se)
    again = fp.boundary(problem, "student.init_norm", (0.8, 1.2), **options)
    assert again.cells.reused == 5
    np.testing.assert_array_equal(again.threshold, found.threshold)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("student.init_norm", (2.0, 1.0)), {}, r"boundary: range = \[2.0, 1.0\]: .* low < high"),
        (("student.init_norm", (2.0, 1.0)), {"logarithmic": True}, r"boundary: logrange = \[2.0, 1.0\]"),
        (("student.init_norm", (1.0,)), {}, "two numbers"),
        (("student.init_norm", (0.0, 1.0)), {"logarithmic": True}, "above 0"),
        (("student.init_nrom", (0.5, 1.0)), {}, "unknown key 'init_nrom'"),
        (("student.activation", (0.5, 1.0)), {}, "student.activation"),
        (("student.init_norm", (0.5, 1.0)), {"tolerance": 0}, "tolerance"),
        (("student.init_norm", (0.5, 1.0)), {"points": 2}, "points"),
        (("student.init_norm", (0.5, 1.0)), {"quantity": "delta"}, "delta_nn"),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises(InputError, match=message):
        fp.boundary(cases.problem(), *arguments, **options)
