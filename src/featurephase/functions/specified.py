"""What activations, losses and links have in common: made from a text or from Python functions, and made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from featurephase.foundation.errors import InputError, SingularCurvatureError


class Origin(NamedTuple):
    """How something is made again: a function, its arguments, and those by name."""

    make: Callable[..., Any]
    arguments: tuple[Any, ...]
    words: tuple[tuple[str, Any], ...] = ()

    def again(self) -> Any:
        """Make it again."""
        return self.make(*self.arguments, **dict(self.words))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Remade:
    """Base of immutable values that are equal if made in the same way from the same, and unpickled by making them."""

    _origin: Origin

    def __reduce__(self) -> tuple[Any, ...]:
        return Origin.again, (self._origin,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._origin == other._origin

    def __hash__(self) -> int:
        return hash(self._origin.arguments)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Specified(Remade):
    """Base of activations and losses.

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

    def _refuse_jump(self, jumps: bool, where: str = "") -> None:
        """Raise SingularCurvatureError: a second derivative was asked for, and the first jumps."""
        if jumps:
            reason = f"has no second derivative: the first jumps{where}"
            raise SingularCurvatureError(f"the {self.kind} {self.name!r} {reason}")

    def __repr__(self) -> str:
        return f"{self.kind}({self.name!r})" if self.expression is not None else f"<{self.kind} {self.name!r}>"
