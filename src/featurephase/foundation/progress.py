"""A bar on standard error for what takes longer than two seconds, where a person may be looking."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(total: int, label: str = "", *, quiet: bool = False, unit: str = "it", initial: int = 0) -> Any:
    """A tqdm bar (use as a context manager, ``.update(n)``), which shows nothing where standard error is no terminal.

    Standard error may be closed, and notebooks and test runners put objects in its place that have no ``isatty``.
    """
    from tqdm import tqdm

    isatty = getattr(sys.stderr, "isatty", None)
    hidden = quiet or not callable(isatty) or not isatty()
    return tqdm(
        total=total, initial=initial, desc=label, unit=unit, file=sys.stderr, delay=2, leave=False, disable=hidden
    )
