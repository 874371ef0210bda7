"""What happens at the borders of branches: kinks, jumps and everything that only looks like one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurephase.foundation.errors import InputError, SingularCurvatureError
from featurephase.functions import activation, loss

RELUS = [
    "relu",
    "relu(h)",
    "maximum(h, 0)",
    "maximum(0, h)",
    "where(h > 0, h, 0)",
    "where(h <= 0, 0, h)",
    "h*(h > 0)",
    "(h + abs(h))/2",
    "(h + sqrt(h**2))/2",
    "h*heaviside(h)",
    "h*heaviside(h, 1)",
    "-minimum(-h, 0)",
    "clip(h, 0, 1e6)",
    "h*(1 + sign(h))/2",
    "abs(relu(h))",
    "where(relu(h) > 0, h, 0)",
    "leaky_relu(0)",
]


@pytest.mark.parametrize("text", RELUS)
def test_relu_however_it_is_spelt(text: str) -> None:
    sigma = activation(text)
    h = np.array([-2.0, -1e-9, -0.0, 0.0, 1e-9, 3.0])
    assert sigma.singular_curvature
    assert 0.0 in sigma.kinks
    np.testing.assert_allclose(sigma.value(h), np.maximum(h, 0), rtol=1e-14)
    np.testing.assert_allclose(sigma.first(h), h > 0, rtol=1e-14)
    np.testing.assert_array_equal(sigma.value_and_first(h)[1], sigma.first(h))
    np.testing.assert_array_equal(sigma.second(h, almost_everywhere=True), 0)
    with pytest.raises(SingularCurvatureError, match="jumps at h = 0"):
        sigma.second(h)
    assert not sigma.facts.smooth
    assert sigma.facts.bounded_second is False


@pytest.mark.parametrize(
    ("text", "kinks", "slopes"),
    [
        ("abs(h)", [0.0], [0.0]),
        ("leaky_relu(0.1)", [0.0], [0.1]),
        ("leaky_relu(-1)", [0.0], [0.0]),
        ("elu(2)", [0.0], [1.0]),
        ("-2*relu(-h)", [0.0], [0.0]),
        ("hard_tanh", [-1.0, 1.0], [0.0, 0.0]),
        ("maximum(h - pi, 0)", [math.pi], None),
        ("abs(h**2 - 2)", [-math.sqrt(2), math.sqrt(2)], None),
        ("maximum((h - 1.234)**2, 1e-12)", [1.234 - 1e-6, 1.234 + 1e-6], None),  # between the points of any grid
        ("abs((h - 1.234)**2 - 1e-20)", [1.234 - 1e-10, 1.234 + 1e-10], None),
        ("1e-12*relu(h)", [0.0], [0.0]),
        ("relu(h) + exp(30*h)", [0.0], None),
        ("relu(h - 9000)", [9000.0], [0.0]),
        ("minimum(tanh(h), 0.5)", [math.atanh(0.5)], None),
        ("where(h > 1.5, h**2, 1.5*h)", [1.5], [1.5]),
        ("maximum(2*h, minimum(h, 0))", [0.0], [1.0]),
        ("exp(log(relu(h)))", [0.0], [0.0]),
    ],
)
def test_kinks_are_found(text: str, kinks: list[float], slopes: list[float] | None) -> None:
    sigma = activation(text)
    assert sigma.singular_curvature
    # the zero of a function known to its own rounding, magnified where it is nearly flat: (h-1.234)^2 - 1e-20
    np.testing.assert_allclose(sorted(sigma.kinks), kinks, rtol=1e-9, atol=1e-12)
    if slopes is not None:  # the slope of least size between the two
        np.testing.assert_allclose(sigma.first(np.array(kinks)), slopes, rtol=1e-14)


def test_many_kinks() -> None:
    sigma = activation("abs(sin(h))")
    near = sorted(sigma.kinks, key=abs)[:7]
    np.testing.assert_allclose(sorted(near), np.pi * np.arange(-3, 4), rtol=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "abs(h)**3",
        "abs(h)**1.5",
        "relu(h)**2",
        "h*abs(h)",
        "where(h > 0, h, exp(h) - 1)",
        "where(abs(h) <= 1, h**2/2, abs(h) - 1/2)",
        "where(abs(h - pi) <= 0.3, (h - pi)**2/2, 0.3*abs(h - pi) - 0.3**2/2)",
        "h/(1 + abs(h))",
        "sqrt(h**4)",
        "abs(h)*abs(h)",
        "where(h == 0, 0, h)",
        "where(h > 0, tanh(h), tanh(h)*1)",
        "sign(h)**2*0 + h",
        "maximum(h**2, -1)",
        "where(h > 0, sqrt(h + 1e-30), 1)*0 + h",
        "where(h**2 > 0, 1/(1 + exp(-h)), 1/2)",
        "where(h > 1.23456789, h**2, 2.46913578*h - 1.5241578750190521)",
        "relu(h)**1.5 + abs(h - 3)**2.5",
    ],
)
def test_no_kink_where_there_is_none(text: str) -> None:
    sigma = activation(text)
    assert not sigma.singular_curvature
    h = np.array([-3.0, -1e-3, 0.0, 0.5, 2.0])
    assert np.isfinite(sigma.first(h)).all()


def test_one_sided_limits_replace_what_belongs_to_no_branch() -> None:
    assert activation("where(h == 0, 0, h)").first(0.0) == 1.0
    assert activation("where(h == 2, 4, h**2)").first([1.0, 2.0]).tolist() == [2.0, 4.0]
    assert activation("where(h == 2, 4, h**2)").second(2.0) == 2.0
    assert activation("sqrt(h**4)").second(0.0) == 2.0
    assert activation("abs(h)**1.5").second(0.0) == math.inf
    assert activation("abs(h)**1.5").facts.bounded_second is False


@pytest.mark.parametrize(
    ("text", "place", "slope", "curvature"),
    [
        ("where(h == 0, 1, sin(h)/h)", 0.0, 0.0, -1 / 3),
        ("where(h == 0, 1, expm1(h)/h)", 0.0, 1 / 2, 1 / 3),
        ("where(h == 3, 6, (h**2 - 9)/(h - 3))", 3.0, 1.0, 0.0),
        ("where(h == 0, 0, exp(-1/h**2))", 0.0, 0.0, 0.0),
        ("where(h > 0, h**2.5, h**3)", 0.0, 0.0, 0.0),
    ],
)
def test_removable_singularities(text: str, place: float, slope: float, curvature: float) -> None:
    """A value put into a hole: no jump, and derivatives there by extrapolation, to what cancellation leaves."""
    sigma = activation(text)
    assert not sigma.singular_curvature
    assert sigma.facts.smooth is not False or "2.5" in text
    assert sigma.first(place) == pytest.approx(slope, abs=1e-6)
    assert sigma.second(place) == pytest.approx(curvature, abs=1e-5)


def test_a_hole_with_a_kink() -> None:
    assert activation("where(h == 0, 1, sin(h)/h + abs(h))").kinks == (0.0,)
    with pytest.raises(InputError, match="jumps at h = 0"):
        activation("where(h == 0, 1.1, sin(h)/h)")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("sign(h)", "h = 0"),
        ("heaviside(h)", "h = 0"),
        ("floor(h)", "h = 0"),
        ("h > 0.3", "h = 0.3"),
        ("where(h > 2, h, 0)", "h = 2"),
        ("h + 1e-6*sign(h - pi)", "h = 3.14159"),
        ("where(h == 1, 5, h)", "h = 1"),
        ("where(h != 0, h + 1, h)", "h = 0"),
        ("where(h > 800, h/(1 + exp(-h)), 0)", "h = 800"),
        ("sign(cos(h)) + 5*h", "h = -1.5708"),
        ("h*sign(h - 1) - abs(h - 1)", "h = 1"),
        ("arctan(1/(h - 0.7))", "h = 0.7"),
    ],
)
def test_jumps_are_refused(text: str, place: str) -> None:
    with pytest.raises(InputError, match="must be continuous") as caught:
        activation(text)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    "text", ["1/h", "h**-2", "log(abs(h))", "sqrt(h)", "tan(h)", "1/(h - 1.234)", "1/(h - 1.234)**2", "sin(h)/h"]
)
def test_undefined_values_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="finite"):
        activation(text)


def test_infinite_slope_is_refused() -> None:
    with pytest.raises(InputError, match="slope is infinite at h = 0"):
        activation("sqrt(abs(h))")


def test_domains_may_end_where_few_samples_are() -> None:
    sigma = activation("sqrt(100 - h**2)")
    assert not sigma.singular_curvature
    assert sigma.facts.bounded is None
    assert np.isnan(sigma.value(11.0))
    assert not loss(expression="f - y*log(f)").singular_curvature
    assert not loss(expression="(y - f)**2/(2*(1 + y + f))").singular_curvature
    with pytest.raises(InputError, match="no finite value"):
        loss(expression="log(-1 - f**2)")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 4),
    st.floats(-50, 50).filter(lambda x: x == 0 or abs(x) > 1e-9),
    st.floats(0.01, 100),
    st.sampled_from(["tanh(h)", "h**3 - h", "exp(h/50)", "sin(3*h)"]),
    st.sampled_from(["<", "<=", ">", ">="]),
)
def test_the_order_of_a_jump_decides(order: int, place: float, size: float, base: str, compare: str) -> None:
    """Two branches that differ by size (h - place)^order: refused, a kink, accepted, according to the order."""
    text = f"where(h {compare} ({place!r}), {base}, {base} + {size!r}*(h - ({place!r}))**{order})"
    if order == 0:
        with pytest.raises(InputError, match="jumps at"):
            activation(text)
        return
    sigma = activation(text)
    assert sigma.singular_curvature == (order == 1)
    assert sigma.facts.smooth is (None if order > 2 else False)
    if order == 1:
        assert sigma.kinks == (place,)


@pytest.mark.parametrize(
    "text",
    [
        "where(abs(y - f) <= 1, (y - f)**2/2, abs(y - f) - 1/2)",
        "where(abs(y - f) <= 1.3, (y - f)**2/2, 1.3*abs(y - f) - 1.3**2/2)",
        "abs(y - f)**3",
        "abs(y - f)**1.5",
        "maximum(0, 1 - y*f)**2",
        "(y - f)**2/(0.1 + y)",
    ],
)
def test_losses_without_kink(text: str) -> None:
    assert not loss(expression=text).singular_curvature


@pytest.mark.parametrize(
    "text",
    [
        "abs(y - f)",
        "sqrt((y - f)**2)",
        "maximum(0, 1 - y*f)",
        "where(y > f, 0.9*(y - f), 0.1*(f - y))",
        "where(abs(y - f) <= 1, (y - f)**2/2, abs(y - f)/2)",
        "minimum((y - f)**2, 4)",
        "abs(f**2 - y)",
    ],
)
def test_losses_with_kinks(text: str) -> None:
    function = loss(expression=text)
    assert function.singular_curvature
    with pytest.raises(SingularCurvatureError):
        function.second(1.0, 0.5)
    with pytest.raises(SingularCurvatureError):
        function.first_and_second(1.0, 0.5)
    assert np.isfinite(function.second(1.0, 0.5, almost_everywhere=True))


def test_losses_that_jump_are_refused() -> None:
    with pytest.raises(InputError, match=r"jumps at y = .*, f = "):
        loss(expression="(sign(f) != y) + 0*f")
    with pytest.raises(InputError, match="jumps"):
        loss(expression="where(abs(y - f) < 1, (y - f)**2/2, abs(y - f))")


def test_what_a_condition_switches_off_does_not_leak() -> None:
    h = np.array([-1e4, -2.0, -1.0, 0.0, 1.0, 2.0])
    for text in (
        "where(h > -1.5, log(2 + h), h + 1.5 + log(0.5))",
        "(h > -1.5)*log(2 + h) + (h <= -1.5)*(h + 1.5 + log(0.5))",
    ):
        sigma = activation(text)
        for result in (*sigma.value_and_first(h), sigma.second(h, almost_everywhere=True)):
            assert np.isfinite(result).all()
        np.testing.assert_allclose(sigma.first(h), [1, 1, 1, 0.5, 1 / 3, 0.25])
