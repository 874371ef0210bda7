"""Columns, and what tables end with."""

from __future__ import annotations

from featurephase.present.tables import aligned, ending


def test_columns_are_aligned_without_trailing_blanks() -> None:
    lines = aligned([["a", "long", ""], ["longer", "b"]], ["x", "y"], indent="")
    assert lines == ["x       y", "a       long", "longer  b"]
    assert aligned([]) == []


def test_what_is_to_be_known_comes_last() -> None:
    assert ending("", []) == []
    assert ending("m", ["w"]) == ["", "note: m", "warning: w"]
