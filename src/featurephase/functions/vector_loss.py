"""Losses of several outputs, loss(y, f) with f in R^C, and their exact first and second derivatives in f."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.numbers import is_whole, plain
from featurephase.foundation.types import Array
from featurephase.functions.callables import Callables
from featurephase.functions.facts import LossFacts
from featurephase.functions.loss import Loss
from featurephase.functions.specified import Origin, Specified

#: What is known of cross-entropy after softmax, as a function of f.
_SOFTMAX_FACTS = LossFacts(bounded=False, bounded_first=True, bounded_second=True, convex=True, smooth=True)
#: Numbers of a block: their memory is used again at once, and fresh memory is slow.
_BLOCK = 12_288
#: Where derivatives given by the user are compared with differences: draws, their scale, the step, what is accepted.
_DRAWS, _SCALE, _STEP, _WRONG = 64, 2.0, 1e-4, 1e-4


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class VectorLoss(Specified):
    """A loss of a network with C outputs.

    Made by :func:`vector_loss` from a loss of one output, or by :meth:`from_callables` from Python functions.

    Attributes
    ----------
    outputs : int
        C.
    facts : LossFacts
        Of the loss as a function of f.
    singular_curvature : bool
        Whether the first derivative jumps somewhere.
    scalar : Loss or None
        The loss of one output by whose name it goes; None for Python functions of the user's.
    softmax : bool
        Whether it is cross-entropy after softmax.
    """

    kind: ClassVar[str] = "loss"

    outputs: int
    facts: LossFacts
    singular_curvature: bool
    scalar: Loss | None
    softmax: bool
    #: (orders, targets, f) -> the derivatives of these orders
    _evaluate: Callable[..., tuple[Array, ...]]

    @property
    def has_second(self) -> bool:
        """Whether there is a second derivative to ask for."""
        return self.scalar is not None or self._origin.arguments[2] is not None

    @property
    def is_expression(self) -> bool:
        """Whether it was given by an expression in y and f, of one output."""
        return self.scalar is not None and self.scalar.is_expression

    @property
    def expected_labels(self) -> tuple[float, float] | None:
        """What a component of y is meant to be: (-1, 1) or (0, 1); ``None``: any number."""
        return None if self.scalar is None else self.scalar.expected_labels

    def targets(self, y: ArrayLike) -> Array:
        """Responses as targets of the outputs, (C, N): classes (N,) one-hot, vectors (N, C) transposed."""
        responses = np.asarray(y, dtype=np.float64)
        if responses.ndim == 2:
            return responses.T
        chosen: Array = (responses == np.arange(self.outputs)[:, None]).astype(np.float64)
        low, high = (0.0, 1.0) if self.softmax else self.expected_labels or (0.0, 1.0)
        return chosen if (low, high) == (0.0, 1.0) else low + (high - low) * chosen

    def value(self, y: ArrayLike, f: Array) -> Array:
        """loss(y, f), (N,), for responses (N,) or (N, C) and outputs (C, N)."""
        return self._evaluate((0,), self.targets(y), f)[0]

    def value_and_first(self, y: ArrayLike, f: Array) -> tuple[Array, Array]:
        """The loss (N,) and its derivatives in f, (C, N)."""
        value, first = self._evaluate((0, 1), self.targets(y), f)
        return value, first

    def first_and_second(self, y: ArrayLike, f: Array, *, almost_everywhere: bool = False) -> tuple[Array, Array]:
        """First (C, N) and second derivatives (C, C, N) in f.

        Raises
        ------
        SingularCurvatureError
            If the first derivative jumps, unless ``almost_everywhere``.
        """
        self._refuse_jump(self.singular_curvature and not almost_everywhere)
        first, second = self._evaluate((1, 2), self.targets(y), f)
        return first, second

    @classmethod
    def from_callables(
        cls,
        value: Callable[[Array, Array], Array],
        first: Callable[[Array, Array], Array],
        second: Callable[[Array, Array], Array] | None = None,
        *,
        outputs: int,
        name: str = "custom",
        facts: LossFacts | None = None,
        responses: ArrayLike | None = None,
    ) -> VectorLoss:
        """A loss from Python functions of targets y and outputs f, both (C, N); a class comes one-hot.

        Parameters
        ----------
        value, first, second
            The loss (N,), its derivatives in f (C, N) and (C, C, N); without the last, it is an error when asked for.
        outputs
            C, at least 2.
        name, facts
            As of :meth:`~featurephase.functions.Loss.from_callables`.
        responses
            Targets (C, R) at which the derivatives are compared with differences; default: the C classes.

        Raises
        ------
        InputError
            If C is not at least 2, or a function fails, returns another shape or numbers that are not finite, or is not
            the derivative it is said to be.
        """
        if not is_whole(outputs) or plain(outputs) < 2:
            raise InputError(
                f"loss {name!r}: outputs = {show(outputs)}: must be a whole number >= 2; "
                "a loss of one output is a Loss (Loss.from_callables)"
            )
        outputs = int(plain(outputs))
        at = np.eye(outputs) if responses is None else np.asarray(responses, dtype=np.float64)
        if at.ndim != 2 or len(at) != outputs or at.size == 0:
            raise InputError(f"loss {name!r}: responses of shape {at.shape}: must be columns of {outputs} numbers")
        functions = (value, first, second)
        _check(name, functions, at)
        words = {"outputs": outputs, "name": name, "facts": facts, "responses": tuple(map(tuple, at.tolist()))}
        return cls(
            name=name,
            expression=None,
            outputs=outputs,
            facts=LossFacts() if facts is None else facts,
            singular_curvature=False,
            scalar=None,
            softmax=False,
            _evaluate=Callables(f"loss {name!r}", functions).evaluate,
            _origin=Origin(cls.from_callables, functions, tuple(words.items())),
        )


def vector_loss(loss: Loss, outputs: int) -> VectorLoss:
    """What a loss of one output stands for with C outputs.

    ``cross_entropy`` is that of the softmax of the outputs (theory/trained-layers, eq. tra-softmax); any other loss is
    summed over the outputs: ``squared`` is |y - f|^2/2. A class is one-hot: 0 and 1, or -1 and 1 for losses of those.
    """
    softmax = loss.name == "cross_entropy" and not loss.is_expression
    return VectorLoss(
        name=loss.name,
        expression=loss.expression,
        outputs=outputs,
        facts=_SOFTMAX_FACTS if softmax else loss.facts,
        singular_curvature=loss.singular_curvature and not softmax,
        scalar=loss,
        softmax=softmax,
        _evaluate=_softmax_cross_entropy if softmax else _Summed(loss).evaluate,
        _origin=Origin(vector_loss, (loss, outputs)),
    )


@dataclass(frozen=True)
class _Summed:
    """A loss of one output, summed over the outputs."""

    loss: Loss

    def evaluate(self, orders: tuple[int, ...], y: Array, f: Array) -> tuple[Array, ...]:
        return tuple(map(self._shaped, orders, self.loss._evaluate(orders, y, f)))

    @staticmethod
    def _shaped(order: int, values: Array) -> Array:
        if order == 0:
            return np.asarray(np.sum(values, axis=0))
        if order == 1:
            return values
        outputs = len(values)
        diagonal = np.zeros((outputs, *values.shape))
        diagonal[np.arange(outputs), np.arange(outputs)] = values
        return diagonal


def _softmax_cross_entropy(orders: tuple[int, ...], y: Array, f: Array) -> tuple[Array, ...]:
    """``-sum_c y_c log p_c``, p the softmax of f; total y p - y; total y (diag p - p p'): in blocks that stay in cache.

    total y is the sum of the targets of a sample: 1 for classes.
    """
    outputs, samples = f.shape
    shapes = ((samples,), (outputs, samples), (outputs, outputs, samples))
    out = tuple(np.empty(shapes[order]) for order in orders)
    width = max(_BLOCK // outputs, 1)
    for start in range(0, samples, width):
        where = slice(start, start + width)
        _softmax_block(orders, y[:, where], f[:, where], [array[..., where] for array in out])
    return out


def _softmax_block(orders: tuple[int, ...], y: Array, f: Array, out: list[Array]) -> None:
    total = _row_sum(y)
    shifted = f - _row_max(f)
    p = np.exp(shifted)
    sums = _row_sum(p)
    p *= 1.0 / sums
    for order, target in zip(orders, out, strict=True):
        if order == 0:
            np.multiply(total, np.log(sums), out=target)
            shifted *= y
            target -= _row_sum(shifted)
        elif order == 1:
            np.multiply(total, p, out=target)
            target -= y
        else:
            np.multiply(-p[:, None], p[None, :], out=target)
            diagonal = np.arange(len(p))
            target[diagonal, diagonal] += p
            target *= total


def _row_sum(rows: Array) -> Array:
    """The sum over a short first axis: several times faster row by row than along it."""
    total: Array = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def _row_max(rows: Array) -> Array:
    largest: Array = rows[0].copy()
    for row in rows[1:]:
        np.maximum(largest, row, out=largest)
    return largest


def _check(name: str, functions: tuple[Any, Any, Any], at: Array) -> None:
    """Refuse functions of wrong shape, not finite, or not the derivatives they are said to be."""
    outputs = len(at)
    rng = np.random.default_rng(0)
    y = at[:, rng.integers(at.shape[1], size=_DRAWS)]
    f = _SCALE * rng.standard_normal((outputs, _DRAWS))
    shapes = ((_DRAWS,), (outputs, _DRAWS), (outputs, outputs, _DRAWS))
    words = ("value", "first derivative", "second derivative")
    for order, function in enumerate(functions):
        if function is None and order == 2:
            return
        what = f"loss {name!r}: the {words[order]}"
        try:
            got = np.asarray(function(y, f), dtype=np.float64)
        except Exception as error:
            raise InputError(f"{what} failed on arrays of shape {y.shape}: {error}") from error
        if got.shape != shapes[order] or not np.all(np.isfinite(got)):
            raise InputError(f"{what} must be finite of shape {shapes[order]} for y and f {y.shape}, got {got.shape}")
        if order == 0:
            continue
        for c in range(outputs):
            step = np.zeros((outputs, 1))
            step[c] = _STEP
            coarse, fine = (_difference(functions[order - 1], y, f, step * scale) for scale in (2.0, 1.0))
            size = np.max(np.abs(fine)) + np.max(np.abs(got)) + 1e-300
            wrong = (np.abs(coarse - fine) <= 1e-6 * size) & (np.abs(got[..., c, :] - fine) > _WRONG * size)
            if np.any(wrong):
                raise InputError(f"{what} in output {c + 1} is not what differences of the one before it say")


def _difference(function: Any, y: Array, f: Array, step: Array) -> Array:
    size = 2.0 * float(np.max(step))
    return np.asarray((np.asarray(function(y, f + step)) - np.asarray(function(y, f - step))) / size)
