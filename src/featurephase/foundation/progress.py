"""A bar on standard error for what takes longer than two seconds, where a person may be looking."""

from __future__ import annotations

import sys
from typing import Any, Self


def progress_bar(total: int, label: str = "", *, quiet: bool = False, unit: str = "it", initial: int = 0) -> Any:
    """A tqdm bar (use as a context manager, ``.update(n)``), or nothing where standard error is no terminal.

    Standard error may be closed, and notebooks and test runners put objects in its place that have no ``isatty``.
    """
    isatty = getattr(sys.stderr, "isatty", None)
    if quiet or not callable(isatty) or not isatty():
        return _NoBar()
    from tqdm import tqdm

    return tqdm(total=total, initial=initial, desc=label, unit=unit, file=sys.stderr, delay=2, leave=False)


class _NoBar:
    """In place of a bar that nobody sees: even a hidden one of tqdm takes a semaphore, which a process that is ended
    leaves to the system."""

    total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        pass
