"""Axes: what a table describes, and what is refused."""

import itertools

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.sweeps.axes import axes_of

LOSSES = {"key": "loss.name", "values": ["squared", "huber"]}


def test_a_product_with_the_last_axis_fastest():
    grid = axes_of([LOSSES, {"key": "student.init_norm", "logrange": [0.1, 10, 3]}])
    assert grid.names == ("loss.name", "student.init_norm")
    assert grid.shape == (2, 3)
    assert [grid.changes(grid.at(cell)) for cell in (0, 1, 5)] == [
        {"loss.name": "squared", "student.init_norm": 0.1},
        {"loss.name": "squared", "student.init_norm": 1},
        {"loss.name": "huber", "student.init_norm": 10},
    ]


def test_ranges_contain_both_ends_and_round_numbers():
    grid = axes_of([{"key": "a.b", "range": [0, 1, 11]}, {"key": "a.c", "range": [1, 5, 5]}])
    assert grid.axes[0].values[0][3] == 0.3
    assert grid.axes[1].values[0] == (1, 2, 3, 4, 5)
    assert grid.axes[1].coordinate(0).dtype == np.int64


@pytest.mark.parametrize(
    "tables",
    [
        [{"key": "a.x", "values": [1, 2], "with": {"a.y": [3, 4]}}],
        [{"key": "a.x", "with": {"a.x": [1, 2], "a.y": [3, 4]}}],
        [{"with": {"a.x": [1, 2], "a.y": [3, 4]}}],
        [{"key": "a.x", "values": [1, 2]}, {"key": "a.y", "values": [3, 4], "with": "a.x"}],
    ],
)
def test_keys_that_change_together(tables):
    grid = axes_of(tables)
    assert (grid.names, grid.shape) == (("a.x",), (2,))
    assert [grid.changes((i,)) for i in (0, 1)] == [{"a.x": 1, "a.y": 3}, {"a.x": 2, "a.y": 4}]


def test_values_that_are_no_numbers_have_labels():
    values = [{"width": 1, "value": 1.0}, {"width": 2, "value": 0.5}]
    assert axes_of([{"key": "student.readout", "values": values}]).axes[0].coordinate(0).tolist() == [
        '{"width": 1, "value": 1.0}',
        '{"width": 2, "value": 0.5}',
    ]
    named = axes_of([{"key": "student.readout", "values": values, "labels": ["one", "two"]}])
    assert named.axes[0].coordinate(0).tolist() == ["one", "two"]


def test_values_that_can_be_gone_through_once_only():
    for values in ((x / 2 for x in range(1, 4)), map(float, (0.5, 1.0, 1.5)), iter([0.5, 1.0, 1.5])):
        assert axes_of([{"key": "a.b", "values": values}]).axes[0].values == ((0.5, 1.0, 1.5),)
    with pytest.raises(InputError, match="cells"):
        axes_of([{"key": "a.b", "values": itertools.count()}])


HOSTILE = {
    "nothing": ([], "no axis"),
    "no table": (["loss.name"], "must be a table"),
    "no key": ([{"values": [1]}], "axis.key"),
    "no values": ([{"key": "a.b"}], "needs key and one of"),
    "values twice": ([{"key": "a.b", "values": [1], "with": {"a.b": [1]}}], "given values, and again in with"),
    "two kinds": ([{"key": "a.b", "values": [1], "range": [0, 1, 2]}], "given values and range"),
    "empty": ([{"key": "a.b", "values": []}], "at least one value"),
    "a text for a list": ([{"key": "a.b", "values": "gelu"}], "must be a list"),
    "unknown word": ([{"key": "a.b", "valeus": [1]}], "did you mean 'values'"),
    "a range of two": ([{"key": "a.b", "range": [0, 1]}], r"\[first, last, count\]"),
    "half a value": ([{"key": "a.b", "range": [0, 1, 2.5]}], "whole number"),
    "no count": ([{"key": "a.b", "range": [0, 1, 0]}], "whole number >= 1"),
    "endless": ([{"key": "a.b", "range": [0, float("inf"), 3]}], "must be"),
    "logarithm of 0": ([{"key": "a.b", "logrange": [0, 1, 3]}], "above 0"),
    "the same key": ([LOSSES, LOSSES], "two axes change the same key"),
    "the same key inside": ([LOSSES, {"key": "a.b", "values": [1], "with": {"loss.name": ["squared"]}}], "same key"),
    "clash": ([LOSSES, {"key": "loss.expression", "values": ["(y-f)**2"]}], "exclude each other"),
    "clash of starts": (
        [{"key": "student.init_norm", "values": [1.0]}, {"key": "student.init_gram", "values": [[[1.0]]]}],
        "exclude each other",
    ),
    "pairs of other lengths": ([{"key": "a.b", "values": [1, 2], "with": {"a.c": [1]}}], "a list of 2 values"),
    "a partner that is not there": ([{"key": "a.b", "values": [1], "with": "a.c"}], "no axis above"),
    "a partner of another length": (
        [{"key": "a.b", "values": [1, 2]}, {"key": "a.c", "values": [1], "with": "a.b"}],
        "need as many values",
    ),
    "twice": ([{"key": "a.b", "values": [1, 1]}], "given twice"),
    "labels": ([{"key": "a.b", "values": [1, 2], "labels": ["x"]}], "2 different texts"),
    "a date": ([{"key": "a.b", "values": [object()]}], "must be a number, a text"),
    "one long range": ([{"key": "a.b", "range": [0, 1, 10**12]}], "1,000,000,000,000 cells"),
    "a product": (
        [{"key": f"a.{name}", "range": [0, 1, 1000]} for name in "bcde"],
        r"1,000,000,000,000 cells \(1,000 x 1,000 x 1,000 x 1,000\); at most 1,000,000",
    ),
    "beyond all numbers": ([{"key": f"a.{i}", "range": [0, 1, 10**15]} for i in range(30)], "cells"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_axes_are_refused_with_what_was_given(name):
    tables, message = HOSTILE[name]
    with pytest.raises(InputError, match=message):
        axes_of(tables)
