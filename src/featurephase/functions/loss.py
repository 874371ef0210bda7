"""Losses loss(y, f) with exact first and second derivatives in f."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError, suggest
from featurephase.foundation.types import Array
from featurephase.functions.analysis import survey
from featurephase.functions.borders import refuse_discontinuity
from featurephase.functions.callables import Callables, check_callables
from featurephase.functions.catalogue import LABELS, LOSSES, expand
from featurephase.functions.facts import LossFacts, loss_facts
from featurephase.functions.formula import Formula
from featurephase.functions.parser import check_length, refuse
from featurephase.functions.specified import Origin, Specified

#: responses at which a loss is examined: classes, ordinary and far values
_RESPONSES = np.array([0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 0.3, -0.7, 3.7, -5.1, 30.3, -30.3])


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Loss(Specified):
    """A loss(y, f) of response y and network output f, its first two derivatives in f and what is known of it.

    Made by :func:`loss` from a text, or by :meth:`from_callables` from Python functions. Immutable, hashable, equal if
    made from the same text, picklable.

    Attributes
    ----------
    name : str
        The text it was made from, or the name given to Python functions.
    is_expression : bool
        Whether that text is an expression (and not a name of the catalogue).
    expression : str or None
        The expression in ``y`` and ``f`` behind the name; None for Python functions.
    facts : LossFacts
        Bounds, convexity, smoothness.
    singular_curvature : bool
        Whether the first derivative jumps somewhere (hinge), so that the second is not a function.
    """

    kind: ClassVar[str] = "loss"

    is_expression: bool
    facts: LossFacts
    singular_curvature: bool
    #: (orders, y, f) -> the derivatives of these orders
    _evaluate: Callable[..., tuple[Array, ...]]

    @property
    def expected_labels(self) -> tuple[float, float] | None:
        """The two responses that a loss of the catalogue is meant for: (-1, 1) or (0, 1); ``None``: any number."""
        return None if self.is_expression else LABELS.get(self.name.partition("(")[0].strip())

    @classmethod
    def _from_text(cls, text: str, is_expression: bool) -> Loss:
        expression, declared = text, {}
        if not is_expression:
            named = expand(LOSSES, "loss", text)
            if named is None:
                name = text.partition("(")[0].strip()
                why = f"unknown name; {suggest(name, LOSSES)}; or give an expression in y and f"
                if name.lower() in ("mse", "mean_squared_error"):
                    why = "the loss squared is (y - f)**2/2; the expression (y - f)**2 is the whole square"
                raise refuse("loss", text, None, why)
            expression, declared = named[0], dict(named[1])
        formula = Formula("loss", expression, {"y": "the response", "f": "the network's output"})
        surveyed = survey(formula, [_RESPONSES])
        refuse_discontinuity(formula, text, surveyed)
        return cls(
            name=text,
            is_expression=is_expression,
            expression=expression,
            facts=loss_facts(formula, surveyed, _RESPONSES.size, declared),
            singular_curvature=any(b.jumps[1] for b in surveyed.borders),
            _evaluate=formula.evaluate,
            _origin=Origin(_loss, (text, is_expression)),
        )

    @classmethod
    def from_callables(
        cls,
        value: Callable[[Array, Array], Array],
        first: Callable[[Array, Array], Array],
        second: Callable[[Array, Array], Array] | None = None,
        *,
        name: str = "custom",
        facts: LossFacts | None = None,
        responses: ArrayLike = (0.5, 1.0, -1.0, 2.5),
    ) -> Loss:
        """A loss from Python functions of two arrays (y, f) of one shape, elementwise.

        The derivatives are compared with differences of ``value`` (and of ``first``) and jumps are looked for, at
        |f| <= 8 and each of ``responses``. To be picklable, the functions must be.

        Parameters
        ----------
        value, first, second : callable
            The loss and its derivatives in f; without the last, it is an error when asked for.
        name : str
        facts : LossFacts, optional
            What is known of it; nothing by default.
        responses : array_like
            Values of y at which it is examined.

        Raises
        ------
        InputError
            If a function does not return finite values of the shape of its arguments, is not the derivative it is said
            to be, or if ``value`` jumps.
        """
        examined = tuple(float(y) for y in np.ravel(responses))
        words = {"name": name, "facts": facts, "responses": examined}
        singular = False
        for y in examined:
            own = [None if g is None else _sliced(g, y) for g in (value, first, second)]
            singular |= bool(check_callables(f"loss {name!r} at y = {y:g}", *own))
        return cls(
            name=name,
            is_expression=False,
            expression=None,
            facts=LossFacts() if facts is None else facts,
            singular_curvature=singular,
            _evaluate=Callables(f"loss {name!r}", (value, first, second)).evaluate,
            _origin=Origin(cls.from_callables, (value, first, second), tuple(words.items())),
        )

    def value(self, y: ArrayLike, f: ArrayLike) -> Array:
        """loss(y, f), elementwise."""
        return self._evaluate((0,), y, f)[0]

    def first(self, y: ArrayLike, f: ArrayLike) -> Array:
        """The derivative in f, elementwise; at a kink, that of one side or between."""
        return self._evaluate((1,), y, f)[0]

    def second(self, y: ArrayLike, f: ArrayLike, *, almost_everywhere: bool = False) -> Array:
        """The second derivative in f, elementwise.

        Parameters
        ----------
        y, f : array_like
        almost_everywhere : bool
            Leave out point masses: 0 for the hinge.

        Raises
        ------
        SingularCurvatureError
            If the first derivative jumps, unless ``almost_everywhere``.
        """
        self._refuse_jump(self.singular_curvature and not almost_everywhere)
        return self._evaluate((2,), y, f)[0]

    def value_and_first(self, y: ArrayLike, f: ArrayLike) -> tuple[Array, Array]:
        """The loss and its derivative in f, computed together."""
        value, first = self._evaluate((0, 1), y, f)
        return value, first

    def first_and_second(self, y: ArrayLike, f: ArrayLike, *, almost_everywhere: bool = False) -> tuple[Array, Array]:
        """Both derivatives in f, computed together; see :meth:`second`."""
        self._refuse_jump(self.singular_curvature and not almost_everywhere)
        first, second = self._evaluate((1, 2), y, f)
        return first, second

    def __repr__(self) -> str:
        return f"loss(expression={self.name!r})" if self.is_expression else super().__repr__()


def _sliced(function: Callable[[Array, Array], Array], y: float) -> Callable[[Array], Any]:
    return lambda f: function(np.full_like(f, y), f)


@lru_cache(maxsize=256)
def _loss(text: str, is_expression: bool) -> Loss:  # a function, so that it can be pickled
    return Loss._from_text(text, is_expression)


def loss(name: str | None = None, *, expression: str | None = None) -> Loss:
    """The loss of a name of the catalogue, or given by an expression in ``y`` (response) and ``f`` (output).

    Parameters
    ----------
    name : str
        ``"squared"``, ``"huber(1.5)"``.
    expression : str
        Instead of a name: ``"(y - f)**4/4"``.

    Raises
    ------
    InputError
        If the name is unknown, the expression not in the language, or the function of f jumps or is not finite.

    Examples
    --------
    >>> loss("squared").first(y=1.0, f=3.0).item()
    2.0
    >>> loss(expression="maximum(0, 1 - y*f)").singular_curvature
    True
    """
    if (name is None) == (expression is None):
        raise InputError("loss: give a name of the catalogue or an expression in y and f, one of the two")
    spec = expression if name is None else name
    if not isinstance(spec, str):
        raise InputError(f"loss: expected a text, got {type(spec).__name__}")
    check_length("loss", spec)
    return _loss(spec.strip(), name is None)
