"""The named errors of featurephase.

Every error that a user can cause derives from :class:`FeaturephaseError` and carries the exit code that
the command line returns for it. The message says what was wrong, what was given and what would be accepted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


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


class SingularCurvatureError(FeaturephaseError):
    """A second derivative was asked for that is not a function (relu'' is a point mass): exit code 3."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came when a part was finished.

    Attributes
    ----------
    result
        That part, with status ``"interrupted"`` and a message that says what is missing.
    """

    def __init__(self, result: Any) -> None:
        super().__init__(result.message)
        self.result = result


class FeaturephaseWarning(UserWarning):
    """A result is valid but something about it deserves the user's attention."""


def one_line(error: object) -> str:
    """The words of somebody else's error, without its line breaks."""
    return " ".join(str(error).split())


def show(value: object, limit: int = 80) -> str:
    """``value`` as one short line for a message, whatever it is.

    Never raises, not even for integers too long to print; control characters come out escaped.
    """
    tolist = getattr(value, "tolist", None)
    try:
        text = repr(tolist() if callable(tolist) else value)
    except (ValueError, RecursionError, MemoryError):
        text = f"a {type(value).__name__} too large to print"
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 2] + ".."


def suggest(word: str, accepted: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest accepted one, if any, and all of them."""
    names = list(accepted)
    near = difflib.get_close_matches(word[:64].lower(), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}accepted: {', '.join(names)}"
