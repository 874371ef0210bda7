"""The language: what it accepts, what it refuses and how it says so; it never executes and never hangs."""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featurephase.foundation.errors import InputError
from featurephase.functions import activation, link, loss
from featurephase.functions.catalogue import LANGUAGE
from featurephase.functions.parser import MAX_DEPTH, MAX_LENGTH, parse
from featurephase.functions.program import Program
from featurephase.functions.tape import Tape

POINTS = np.array([-2.5, -1.0, -0.3, 0.0, 0.7, 1.0, 3.25])


def evaluate(text: str, h: np.ndarray = POINTS) -> np.ndarray:
    tape = Tape()
    node = parse(tape, text, "expression", {"h": tape.variable("h")}, str, LANGUAGE)
    return Program(tape, [node], ["h"])(h)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2*h", lambda h: 1 + 2 * h),
        ("-h**2", lambda h: -(h**2)),
        ("(-h)**2", lambda h: h**2),
        ("2**-h", lambda h: 2.0**-h),
        ("2**3**2 - h", lambda h: 512 - h),
        ("8/4/2*h", lambda h: h),
        ("h - 1 - 2 + 3", lambda h: h),
        ("--h", lambda h: h),
        ("+h*-1", lambda h: -h),
        ("1.5e1*h + .5 + 2. - 1E-1", lambda h: 15 * h + 2.4),
        ("pi*h", lambda h: math.pi * h),
        ("h < 0", lambda h: (h < 0) * 1.0),
        ("(h >= 0) + (h <= 0)", lambda h: (h >= 0) * 1.0 + (h <= 0)),
        ("-1 < h <= 1", lambda h: ((h > -1) & (h <= 1)) * 1.0),
        ("(h == 0) - (h != 0)", lambda h: np.where(h == 0, 1.0, -1.0)),
        ("where(h, 2, 3)", lambda h: np.where(h != 0, 2.0, 3.0)),
        ("where((h > 0)*(h < 1), h, -h)", lambda h: np.where((h > 0) & (h < 1), h, -h)),
        ("maximum(h, 0, -2*h)", lambda h: np.maximum(np.maximum(h, 0), -2 * h)),
        ("minimum(1, h)", lambda h: np.minimum(1, h)),
        ("clip(h, -1, 0.5)", lambda h: np.clip(h, -1, 0.5)),
        ("heaviside(h) + heaviside(h, 0.5)", lambda h: np.heaviside(h, 0) + np.heaviside(h, 0.5)),
        ("hermite(0, h) + hermite(1, h)", lambda h: 1 + h),
        ("hermite(4, h)", lambda h: h**4 - 6 * h**2 + 3),
        ("relu(h)*floor(h)", lambda h: np.maximum(h, 0) * np.floor(h)),
        ("abs(h)**1.5 + sqrt(h**4)", lambda h: np.abs(h) ** 1.5 + h**2),
        ("h**-2*h**2*(h != 0)", lambda h: (h != 0) * 1.0),
        ("\n tanh ( h )\t", np.tanh),
        ("silu(h) + elu(h, 2)", lambda h: h / (1 + np.exp(-h)) + np.where(h > 0, h, 2 * np.expm1(h))),
        ("7", lambda h: np.full_like(h, 7)),
    ],
)
def test_meaning(text: str, expected: object) -> None:
    with np.errstate(all="ignore"):
        # a handful of operations, each right to half a unit in the last place
        np.testing.assert_allclose(evaluate(text), expected(POINTS), rtol=1e-14, atol=1e-15)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("h +", 4, "found the end"),
        ("2h", 2, "an operator is missing"),
        ("h (h)", 1, "not a function"),
        ("tanh(h", 7, "is not closed"),
        ("h)", 2, "')' without '('"),
        ("sin h", 1, "write sin(..)"),
        ("gelu + h", 1, "write gelu(..)"),
        ("tanhh(h)", 1, "did you mean 'tanh'"),
        ("ln(h)", 1, "did you mean 'log'"),
        ("x + h", 1, "unknown name 'x'; accepted: h"),
        ("h ^ 2", 3, "write **"),
        ("|h|", 1, "abs"),
        ("h = 1", 3, "=="),
        ("h and h", 3, "an operator is missing"),
        ("h; h", 2, "unexpected character"),
        ("h.real", 2, "unexpected character"),
        ("'h'", 1, "unexpected character"),
        ("h[0]", 2, "round brackets"),
        ("ℎ", 1, "unexpected character"),
        ("lambda: h", 7, "unexpected character"),
        ("where(h, 1)", 1, "takes 3 argument"),
        ("h + sin()", 5, "takes 1 argument"),
        ("hermite(h, 2)", 1, "whole number"),
        ("hermite(65, h)", 1, "from 0 to 64"),
        ("hermite(1.5, h)", 1, "whole number"),
        ("1 + 1e400*h", 5, "overflows"),
        ("9**9**9**9", 5, "infinite"),
        ("h + 1/0", 6, "infinite"),
        ("h*log(-1)", 3, "not a real number"),
        ("(-8)**(1/3)*h", 5, "not a real number"),
        ("__import__('os').system('true')", 12, "unexpected character"),
        ("", None, "empty"),
        (" \n", None, "empty"),
    ],
)
def test_refusals_point_at_the_spot(text: str, position: int | None, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        activation(text)
    message = str(caught.value)
    assert reason in message
    if position is not None:
        first, quoted, caret = message.split("\n")
        assert f"at character {position}:" in first
        assert quoted.strip() == text.strip()
        assert caret.index("^") == 2 + position - 1


def test_long_text_is_shown_around_the_spot() -> None:
    text = "h + " * 200 + "? + " + "h + " * 100 + "h"
    with pytest.raises(InputError) as caught:
        activation(text)
    _, quoted, caret = str(caught.value).split("\n")
    assert len(quoted) < 100
    assert quoted[caret.index("^")] == "?"


def test_limits_on_length_and_depth() -> None:
    activation("h" + " " * (MAX_LENGTH - 4) + "+ 1")
    activation("(" * MAX_DEPTH + "h" + ")" * MAX_DEPTH)
    for deep in (
        "(" * (MAX_DEPTH + 1) + "h" + ")" * (MAX_DEPTH + 1),
        "-" * (MAX_DEPTH + 1) + "h",
        "h**" * (MAX_DEPTH + 1) + "h",
        "abs(" * (MAX_DEPTH + 1) + "h" + ")" * (MAX_DEPTH + 1),
        "(" * 1999,
    ):
        with pytest.raises(InputError, match=f"more than {MAX_DEPTH} levels"):
            activation(deep)
    for parser in (activation, lambda t: loss(expression=t), lambda t: link(t, 1), loss):
        with pytest.raises(InputError, match=f"2001 characters; at most {MAX_LENGTH}"):
            parser("h" * (MAX_LENGTH + 1))


def test_long_chains_are_one_level_deep() -> None:
    """A thousand terms, products and comparisons: no recursion, and derivatives that stay short."""
    h = np.array([0.3, -1.1])
    terms = "+".join(["h"] * 1000)
    np.testing.assert_allclose(activation(terms).value(h), 1000 * h, rtol=1e-12)
    factors = "*".join(["cos(h)"] * 250)
    sigma = activation(factors)
    c, s = np.cos(h), np.sin(h)
    np.testing.assert_allclose(sigma.first(h), -250 * c**249 * s, rtol=1e-12)
    np.testing.assert_allclose(sigma.second(h), 250 * 249 * c**248 * s**2 - 250 * c**250, rtol=1e-11)


def test_a_deep_call_stack_is_refused_not_fatal() -> None:
    def dig(levels: int) -> None:
        if levels:
            dig(levels - 1)
        else:
            activation("(" * 60 + "h + 0.123" + ")" * 60)

    depth = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    with pytest.raises(InputError, match="too deeply nested"):
        dig(sys.getrecursionlimit() - depth - 120)


HOSTILE = [
    "9**9**9**9",
    "(9**9**9)**9**9",
    "1e308*10*h",
    "exp(exp(exp(9)))",
    "hermite(64, hermite(64, h))",
    "h**h**h**h",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_numbers_are_floats_before_any_power(text: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError):
        activation(text)
    assert time.process_time() - start < 20.0  # nothing hangs; a busy machine takes a second


PIECES = r"""
h y f g1 e1 u1 g5 pi e _ x ( ( ) ) , + - * / ** < <= > >= == != 1 2 0.5 1e3 9 1e999 . ' " \ # ; @ ^ sin( where( hermite(
relu( maximum( abs( log( centred( noisy( huber( parity( leaky_relu( lambda import 0x1f 1_000 __ 1j %s {h} [h] é ∞
"""
GAPS = ["\n", " ", "\t", "\x00"]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from([*PIECES.split(), *GAPS]), max_size=25).map("".join)))
@example("1" * 1990)
@example("((((((((((h" * 100)
@example("0" + ".0" * 50)
def test_fuzz_text(text: str) -> None:
    """Anything at all: an object or an InputError, nothing else, at once."""
    for make in (activation, loss, lambda t: loss(expression=t), lambda t: link(t, 2)):
        start = time.process_time()
        try:
            made = make(text)
        except InputError:
            pass
        else:
            assert made.to_spec() == text.strip()
        assert time.process_time() - start < 20.0  # nothing hangs; a busy machine takes a second


ONE = """
abs sign floor exp expm1 log log1p sin cos tan arctan sinh cosh tanh erf erfc normal_cdf normal_pdf softplus sigmoid
sqrt relu heaviside gelu silu elu mish
"""


def trees(*variables: str) -> st.SearchStrategy[str]:
    """Random valid expressions."""
    leaves = st.sampled_from([*variables, *variables, "1", "2", "0.5", "3", "1e-3", "pi", "7.25"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        one = st.sampled_from(ONE.split())
        compare = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
        return st.one_of(
            st.builds("({}{}{})".format, inner, st.sampled_from("+-*/"), inner),
            st.builds("({})**{}".format, inner, st.sampled_from(["2", "3", "0.5", "-1", "1.5"])),
            st.builds("({})**({})".format, inner, inner),
            st.builds("-{}".format, inner),
            st.builds("{}({})".format, one, inner),
            st.builds("where({}{}{},{},{})".format, inner, compare, inner, inner, inner),
            st.builds("{}({},{})".format, st.sampled_from(["minimum", "maximum"]), inner, inner),
            st.builds("hermite({},{})".format, st.integers(0, 9), inner),
        )

    return st.recursive(leaves, grow, max_leaves=20)


@settings(max_examples=80, deadline=None)
@given(trees("h"), trees("y", "f"), trees("g1", "g2", "e1", "u1"))
def test_fuzz_trees(of_h: str, of_yf: str, of_g: str) -> None:
    """Valid expressions of any shape: made or refused for what they are, and evaluated without a complaint."""
    h = np.linspace(-3, 3, 7)
    start = time.process_time()
    for make, text in (
        (activation, of_h),
        (lambda t: loss(expression=t), of_yf),
        (lambda t: link(t, 2), of_g),
    ):
        try:
            function = make(text)
        except InputError:
            continue
        if make is activation:
            value, first = function.value_and_first(h)
            assert value.shape == first.shape == h.shape
            assert np.isfinite(value).all()
            assert np.isfinite(first).all()
    assert time.process_time() - start < 20.0  # seconds at most, however slow the machine: nothing hangs
