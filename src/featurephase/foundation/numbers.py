"""What counts as a number: scalars of Python, NumPy and torch, arrays of no dimension, but never true or false."""

from __future__ import annotations

import numbers
from typing import Any


def plain(value: Any) -> Any:
    """A scalar of NumPy, torch or another array library as Python's own; anything else as it is."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number, in whatever form."""
    value = plain(value)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an integer, in whatever form; 3.0 is none."""
    value = plain(value)
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
