"""Numbers of unlimited range, operation by operation, against mpmath at thousands of digits."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest

from featurephase.foundation.precise import Precise, exact, exact_dot, rounded
from featurephase.functions.operations import OPERATIONS

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

#: exponents from far below to far above what doubles hold
NUMBERS = [(0.7, -5000), (0.9, -1080), (0.51, -60), (0.83, -3), (0.6, 0), (0.99, 1), (0.75, 9), (0.8, 60), (0.55, 1100)]
NUMBERS = [*NUMBERS, (0.77, 4000), *((-m, e) for m, e in NUMBERS)]
EXPONENTIALS = {"exp", "expm1", "sinh", "cosh"}


def number(pair: tuple[float, int]) -> Any:
    return mp.ldexp(mp.mpf(pair[0]), pair[1])


def precise(*numbers: tuple[float, int]) -> Precise:
    mantissa, exponent = np.array(numbers, dtype=np.float64).T
    return Precise(mantissa) * np.power(Precise(np.full(len(numbers), 2.0)), exponent)


def check(result: Precise, references: list[Any], tolerance: float = 4e-16) -> None:
    for got, reference in zip(result.values, references, strict=True):
        if mp.isfinite(reference):
            got = mp.mpf(got)
            assert abs(got - reference) <= tolerance * abs(reference), (got, reference)
        else:
            assert not mp.isfinite(got)


@pytest.mark.parametrize(
    ("op", "reference"),
    [
        ("neg", lambda x: -x),
        ("abs", abs),
        ("sqrt", mp.sqrt),
        ("exp", mp.exp),
        ("expm1", mp.expm1),
        ("sinh", mp.sinh),
        ("cosh", mp.cosh),
        ("log", mp.log),
        ("log1p", lambda x: mp.log1p(x) if x > -1 else mp.nan),
        ("floor", mp.floor),
    ],
)
def test_one_argument(op: str, reference: Any) -> None:
    # exp of 2^1100 is beyond any exponent
    numbers = [n for n in NUMBERS if not (op in EXPONENTIALS and n[1] > 20)]
    if op in ("sqrt", "log"):
        numbers = [n for n in numbers if n[0] > 0]
    if op == "floor":
        numbers = [n for n in numbers if not (n[0] < 0 and n[1] < -60)]
    with mp.workdps(3000 if op in ("expm1", "sinh", "log1p") else 60):
        # expm1 and sinh lose a bit or two to the exponentials' own rounding
        tolerance = 1e-15 if op in EXPONENTIALS else 4e-16
        result = OPERATIONS[op].compute(precise(*numbers))
        check(result, [reference(number(n)) for n in numbers], tolerance)


@pytest.mark.parametrize(
    ("op", "reference"),
    [
        ("add", lambda x, y: x + y),
        ("sub", lambda x, y: x - y),
        ("mul", lambda x, y: x * y),
        ("div", lambda x, y: x / y),
        ("minimum", min),
        ("maximum", max),
        ("lt", lambda x, y: x < y),
        ("le", lambda x, y: x <= y),
        ("eq", lambda x, y: x == y),
        ("ne", lambda x, y: x != y),
    ],
)
def test_two_arguments(op: str, reference: Any) -> None:
    pairs = [(a, b) for a in NUMBERS for b in NUMBERS]
    with mp.workdps(4000):
        result = OPERATIONS[op].compute(precise(*(a for a, _ in pairs)), precise(*(b for _, b in pairs)))
        references = [reference(number(a), number(b)) for a, b in pairs]
        if isinstance(result, Precise):
            check(result, references)
        else:
            assert result.tolist() == references


def test_powers() -> None:
    base = [(0.7, -3000), (0.9, -2), (0.6, 1), (0.8, 50), (0.55, 2500)]
    for p in (2.5, -1.5, 0.3, 7.0, -3.0):
        with mp.workdps(60):
            result = OPERATIONS["pow"].compute(precise(*base), p)
            # by exp(p log x): the logarithm, up to 2000, carries its own last bit
            check(result, [number(b) ** mp.mpf(p) for b in base], 2e-12)
    check(OPERATIONS["powi"].compute(precise(*base), 5.0), [number(b) ** 5 for b in base], 2e-15)
    odd = OPERATIONS["pow"].compute(precise((-0.5, 2000)), 3.0)
    assert odd.values[0] < 0
    assert np.isnan(OPERATIONS["pow"].compute(precise((-0.5, 2000)), 0.5).double()[0])


def test_zero_infinity_and_nan() -> None:
    special = Precise(np.array([0.0, np.inf, -np.inf, np.nan]))
    np.testing.assert_array_equal((special + 1.0).double(), [1, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal((special * special).double(), [0, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(np.exp(special).double(), [1, np.inf, 0, np.nan])
    np.testing.assert_array_equal(np.tanh(special).double(), [0, 1, -1, np.nan])
    np.testing.assert_array_equal((special - special).double(), [0, np.nan, np.nan, np.nan])
    assert np.log(special).double()[0] == -np.inf
    huge = np.exp(Precise(np.array([1e300])))
    assert huge.double()[0] == np.inf
    assert (1.0 / np.exp(Precise(np.array([1e5])))).double()[0] == 0.0


def test_they_come_back_as_doubles() -> None:
    x = np.array([0.0, -0.0, 1.5, -2.25, 1e-310, 5e-324, 1.7e308])
    np.testing.assert_array_equal(Precise(x).double(), x)


def test_exact_sums_and_products_are_not_rounded() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((3, 40)) * 10.0 ** rng.uniform(-150, 150, (3, 40)) for _ in range(2))
    a[1, 3], b[2] = 5e-324, 0.0
    expected = [
        sum((Fraction(x) * Fraction(y) for x, y in zip(*rows, strict=True)), Fraction(0))
        for rows in zip(a, b, strict=True)
    ]
    dot = exact_dot(a, b)
    for value, reference in zip(dot.values, expected, strict=True):
        size = Fraction(int(value.man)) * Fraction(2) ** int(value.exp)
        assert (size if value > 0 else -size) == reference
    x, y, z = (exact([value]) for value in (1e300, 1e-300, 3.0))
    assert (x * z + y - x * z - y == 0.0).all()
    assert ((x * y - exact(1.0)).double() == float(Fraction(1e300) * Fraction(1e-300) - 1)).all()
    assert (rounded(x + y) == 1e300).all()


def test_shapes_follow_numpy() -> None:
    column, row = Precise(np.arange(3.0)[:, None]), Precise(np.arange(1.0, 3.0))
    assert (column / row).shape == (3, 2)
    assert (column * 2.0)[1, 0].shape == ()
    assert np.where(column > 1.0, row, 0.0).double().tolist() == [[0, 0], [0, 0], [1, 2]]
