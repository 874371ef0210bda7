"""What activations and losses have in common: made from a text or from Python functions, and made again from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from featurephase.foundation.errors import InputError

__all__ = ["Specified"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Specified:
    """Base of what is made from a text or from Python functions: immutable, hashable, picklable.

    Equal if made in the same way from the same; unpickled by making it again.

    Attributes
    ----------
    name : str
        The text it was made from, or the name given to Python functions.
    expression : str or None
        The expression behind the name; None for Python functions.
    """

    #: what messages call it
    kind: ClassVar[str]

    name: str
    expression: str | None
    #: how to make it again: a function and its arguments
    _origin: tuple[Callable[..., Self], tuple[Any, ...]]

    def to_spec(self) -> str:
        """The text that it is made from.

        Raises
        ------
        InputError
            If it was made from Python functions.
        """
        if self.expression is None:
            raise InputError(f"{self.kind} {self.name!r} was made from Python functions: it cannot be written as text")
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return self._origin

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._origin == other._origin

    def __hash__(self) -> int:
        return hash(self._origin[1])

    def __repr__(self) -> str:
        return f"{self.kind}({self.name!r})" if self.expression is not None else f"<{self.kind} {self.name!r}>"
