"""The named errors of featurephase.

Every error that a user can cause derives from :class:`FeaturephaseError` and carries the exit code that
the command line returns for it. The message says what was wrong, what was given and what would be accepted.
"""

from __future__ import annotations

__all__ = [
    "FeaturephaseError",
    "FeaturephaseWarning",
    "InputError",
    "MemoryLimitError",
    "MissingDependencyError",
]


class FeaturephaseError(Exception):
    """Root of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class InputError(FeaturephaseError, ValueError):
    """Something the user gave is not acceptable: exit code 2, nothing is written."""

    exit_code = 2


class MemoryLimitError(InputError):
    """More memory would be needed than there is; the message says both figures."""


class MissingDependencyError(InputError, ImportError):
    """An optional package is needed and absent; the message names the extra that installs it."""


class FeaturephaseWarning(UserWarning):
    """A result is valid but something about it deserves the user's attention."""
