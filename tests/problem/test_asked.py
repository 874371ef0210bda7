"""One number or many, in whatever form, and nothing nested."""

import numpy as np
import pytest

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.foundation.numbers import is_number, is_whole, plain
from featurephase.problem import Asymptotics, GradientDescent, Problem, Run, Student, Teacher
from featurephase.problem.asked import asked_deltas, asked_times, check_delta

PROBLEM = Problem(
    teacher=Teacher(1, "g1"),
    student=Student("tanh", [1.0]),
    loss="squared",
    training=GradientDescent(0.1, 10),
    run=Run(delta=[2.0, 4.0], times=[3]),
)


def scalars(value):
    yield from (value, np.float32(value), np.float64(value), np.array(value), np.array(float(value)))
    try:
        import torch
    except ImportError:
        return
    yield from (torch.tensor(value), torch.tensor(float(value)))


def test_scalars_of_all_libraries_are_numbers():
    for value in scalars(3):
        assert is_number(value)
        assert asked_deltas(PROBLEM, value) == asked_deltas(PROBLEM, [value, value])[:1] == (3.0,)
        assert asked_times(PROBLEM, value) == asked_times(PROBLEM, [value, value]) == (3,)
        assert Run(delta=value).delta == (3.0,)
        assert GradientDescent(step_size=value, steps=1).step_size == 3.0
    for value in (3, np.int8(3), np.array(3)):
        assert is_whole(value)
        assert Asymptotics(replicates=value).replicates == 3
        assert type(Asymptotics(replicates=value).replicates) is int
        assert Run(times=value).times == (3,)
    for value in (True, np.True_, np.array(True), "3", None, [3], np.array([3])):
        assert not is_number(value)
    assert plain("3") == "3"


def test_lists_of_all_kinds():
    for value in ([2, 3], (2, 3), np.array([2, 3]), range(2, 4), iter([2, 3]), {2: "a", 3: "b"}.keys()):
        assert asked_deltas(PROBLEM, value) == (2.0, 3.0)
    assert asked_times(PROBLEM, [3, 1, 3]) == (1, 3)
    assert asked_times(PROBLEM) == (3,)
    assert asked_deltas(PROBLEM) == (2.0, 4.0)
    assert asked_times(PROBLEM, []) == ()


@pytest.mark.parametrize(
    "bad", [[[1.0, 2.0]], [[1.0], [2.0]], np.ones((2, 2)), "4", ["4"], {1.0: 2.0}, [None], True, [True], object()]
)
def test_what_is_no_flat_list_of_numbers_is_refused(bad):
    with pytest.raises(InputError, match="must be a number or a list of numbers"):
        asked_deltas(PROBLEM, bad)
    with pytest.raises(InputError, match="must be a number or a list of numbers"):
        asked_times(PROBLEM, bad)


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, 1e308, 1.1e6, "4", None])
def test_ratios_out_of_range(bad):
    with pytest.raises(InputError, match="must be a finite number > 0, at most 1e"):
        check_delta(bad)


@pytest.mark.parametrize("bad", [-1, 11, 2.5, np.nan, np.inf])
def test_steps_out_of_range(bad):
    with pytest.raises(InputError, match="must be a whole number from 0 to 10"):
        asked_times(PROBLEM, [bad])


@pytest.mark.parametrize("name", ["predict", "threshold", "explain", "simulate", "compare"])
@pytest.mark.parametrize("given", ["one.toml", {"teacher": {}}, None], ids=type)
def test_what_is_no_problem_is_refused_with_what_would_be(name, given):
    with pytest.raises(InputError, match=r"problem = .*: must be a Problem; featurephase.load\(path\) reads one"):
        getattr(fp, name)(given)
