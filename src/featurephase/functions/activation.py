"""Activations sigma(h) with exact first and second derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError, suggest
from featurephase.foundation.types import Array
from featurephase.functions.analysis import survey
from featurephase.functions.borders import limits_at, refuse_discontinuity
from featurephase.functions.callables import Callables, check_callables
from featurephase.functions.catalogue import ACTIVATIONS, expand, split_call
from featurephase.functions.facts import ActivationFacts, activation_facts
from featurephase.functions.formula import Formula
from featurephase.functions.gaussian import gaussian_mean
from featurephase.functions.parser import check_length, refuse
from featurephase.functions.specified import Origin, Specified


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Activation(Specified):
    """An activation sigma(h), its first two derivatives and what is known of it.

    Made by :func:`activation` from a text, or by :meth:`from_callables` from Python functions. Immutable, hashable,
    equal if made from the same text, picklable.

    Attributes
    ----------
    name : str
        The text it was made from, or the name given to Python functions.
    expression : str or None
        The expression in ``h`` behind the name; None for Python functions.
    facts : ActivationFacts
        Bounds, smoothness, parity.
    kinks : tuple of float
        Where sigma' jumps, as far as located, nearest to 0 first.
    """

    kind: ClassVar[str] = "activation"

    facts: ActivationFacts
    kinks: tuple[float, ...]
    #: breakpoints for quadrature
    _breaks: tuple[float, ...]
    #: by order of derivative, places and the values to return exactly there
    _corrections: tuple[tuple[tuple[float, float], ...], ...]
    #: (orders, h) -> the derivatives of these orders
    _evaluate: Callable[..., tuple[Array, ...]]

    @classmethod
    @lru_cache(maxsize=256)
    def _from_text(cls, text: str) -> Activation:
        expression, declared = _expression(text)
        names = f"; or a name: {', '.join(ACTIVATIONS)}"
        formula = Formula("activation", expression, {"h": "the pre-activation"}, names)
        surveyed = survey(formula)
        refuse_discontinuity(formula, text, surveyed)
        return cls(
            name=text,
            expression=expression,
            facts=activation_facts(formula, surveyed, declared),
            kinks=tuple(b.x for b in surveyed.borders if b.jumps[1]),
            _breaks=tuple(b.x for b in surveyed.borders),
            _corrections=tuple(limits_at(surveyed.borders, order) for order in range(3)),
            _evaluate=formula.evaluate,
            _origin=Origin(activation, (text,)),
        )

    @classmethod
    def from_callables(
        cls,
        value: Callable[[Array], Array],
        first: Callable[[Array], Array],
        second: Callable[[Array], Array] | None = None,
        *,
        name: str = "custom",
        facts: ActivationFacts | None = None,
    ) -> Activation:
        """An activation from Python functions of an array, elementwise.

        The derivatives are compared with differences of ``value`` (and of ``first``) and jumps are looked for, at
        |h| <= 8. To be picklable, the functions must be.

        Parameters
        ----------
        value, first, second : callable
            sigma, sigma', sigma''; without the last, sigma'' is an error when asked for.
        name : str
        facts : ActivationFacts, optional
            What is known of it; nothing by default.

        Raises
        ------
        InputError
            If a function does not return finite values of the shape of its argument, is not the derivative it is said
            to be, or if ``value`` jumps.
        """
        kinks = check_callables(f"activation {name!r}", value, first, second)
        return cls(
            name=name,
            expression=None,
            facts=ActivationFacts() if facts is None else facts,
            kinks=kinks,
            _breaks=kinks,
            _corrections=((), (), ()),
            _evaluate=Callables(f"activation {name!r}", (value, first, second)).evaluate,
            _origin=Origin(cls.from_callables, (value, first, second), (("name", name), ("facts", facts))),
        )

    @property
    def singular_curvature(self) -> bool:
        """Whether sigma' jumps somewhere (relu), so that sigma'' is not a function."""
        return bool(self.kinks)

    def _at(self, orders: tuple[int, ...], h: ArrayLike) -> tuple[Array, ...]:
        results = self._evaluate(orders, h)
        if not any(self._corrections[k] for k in orders):
            return results
        corrected = list(results)
        for i, order in enumerate(orders):
            for place, limit in self._corrections[order]:
                hit = np.equal(h, place)
                if np.any(hit):
                    corrected[i] = np.where(hit, limit, corrected[i])[()]
        return tuple(corrected)

    def value(self, h: ArrayLike) -> Array:
        """sigma(h), elementwise."""
        return self._at((0,), h)[0]

    def first(self, h: ArrayLike) -> Array:
        """sigma'(h), elementwise; at a kink the slope of least size (0 for relu and abs)."""
        return self._at((1,), h)[0]

    def value_and_first(self, h: ArrayLike) -> tuple[Array, Array]:
        """(sigma(h), sigma'(h)), computed together."""
        value, first = self._at((0, 1), h)
        return value, first

    def second(self, h: ArrayLike, *, almost_everywhere: bool = False) -> Array:
        """sigma''(h), elementwise.

        Parameters
        ----------
        h : array_like
        almost_everywhere : bool
            Leave out point masses: 0 for relu.

        Raises
        ------
        SingularCurvatureError
            If sigma' jumps, unless ``almost_everywhere``.
        """
        place = f" at h = {self.kinks[0]:.6g}" if self.kinks else ""
        self._refuse_jump(self.singular_curvature and not almost_everywhere, place)
        return self._at((2,), h)[0]

    def gaussian_mean(self, power: int = 1) -> float:
        """E[sigma(g)^power], g ~ N(0, 1), by quadrature (about 1e-15 relative to E|sigma(g)|^power).

        Raises
        ------
        InputError
            If the mean does not exist.
        """
        what = f"activation {self.name!r}"
        return gaussian_mean(lambda g: self.value(g) ** power, self._breaks, what)


def _expression(text: str) -> tuple[str, dict[str, Any]]:
    """The expression behind a text and what the catalogue says of it."""
    call = split_call(text)
    if call is not None and call[0] in ("centred", "normalised", "centered", "normalized"):
        wrapper, inner = call
        if inner is None or len(inner) != 1:
            raise refuse("activation", text, None, f"{wrapper} takes one activation: {wrapper}(gelu)")
        base = activation(inner[0])
        assert base.expression is not None
        if wrapper.startswith("cent"):
            mean = base.gaussian_mean()
            return f"({base.expression}) - {_literal(mean)}", {}
        size = math.sqrt(base.gaussian_mean(2))
        if size == 0.0:
            raise refuse("activation", text, None, "a function that is 0 cannot be normalised")
        return f"({base.expression})/{_literal(size)}", {}
    if (named := expand(ACTIVATIONS, "activation", text)) is not None:
        expression, declared = named
        return expression, dict(declared)
    if call is not None and call[1] is None and call[0] not in ("h", "pi"):
        raise refuse("activation", text, None, f"unknown name; {suggest(call[0], ACTIVATIONS)}; or an expression in h")
    return text, {}


def _literal(number: float) -> str:
    return f"({number!r})" if number < 0 else repr(number)


def activation(spec: str) -> Activation:
    """The activation of a name of the catalogue, or given by an expression in ``h``.

    Parameters
    ----------
    spec : str
        ``"gelu"``, ``"leaky_relu(0.1)"``, ``"tanh(h)**2"``; ``"centred(..)"`` removes the Gaussian mean,
        ``"normalised(..)"`` divides by the root of the Gaussian second moment, of any of these.

    Raises
    ------
    InputError
        If the text is not in the language, or the function jumps or is not finite.

    Examples
    --------
    >>> activation("relu").first([-1.0, 0.0, 2.0]).tolist()
    [0.0, 0.0, 1.0]
    >>> activation("where(h > 0, h, 0)").singular_curvature
    True
    """
    if not isinstance(spec, str):
        raise InputError(f"activation: expected a text, got {type(spec).__name__}")
    check_length("activation", spec)
    return Activation._from_text(spec.strip())
