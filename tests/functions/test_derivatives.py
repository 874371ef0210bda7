"""First and second derivatives against mpmath and sympy, to rounding error, out to |h| = 1e4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featurephase.foundation.errors import InputError
from featurephase.functions import activation, loss
from featurephase.functions.catalogue import ACTIVATIONS, LOSSES
from featurephase.functions.formula import Formula
from featurephase.functions.tape import Tape

#: ordinary points, the neighbourhood of 0, and where exp overflows or underflows
POINTS = [-1e4, -5000.3, -800.0, -709.9, -354.6, -40.0, -27.3, -3.1, -1.7, -0.6, -1e-3, -1e-9]
POINTS = [*POINTS, *(-x for x in reversed(POINTS))]

TOLERANCE = 1e-12


def derivatives(function: Callable[[Any], Any], x: float) -> list[float]:
    """f, f', f'' of an mpmath function, by differences at 80 digits (exact to more than 20)."""
    with mp.workdps(80):
        point, step = mp.mpf(x), mp.mpf(10) ** -25
        low, middle, high = (mp.re(function(point + s)) for s in (-step, 0, step))
        return [float(v) for v in (middle, (high - low) / (2 * step), (high - 2 * middle + low) / step**2)]


def assert_close(got: Any, expected: list[float], what: str) -> None:
    for order in range(3):
        error = abs(float(got[order]) - expected[order])
        # not "<" on a difference of infinities: nan fails
        assert error <= TOLERANCE * max(1.0, abs(expected[order])), (what, order, float(got[order]), expected[order])


def _mp_relu(h: Any) -> Any:
    return h if h > 0 else mp.mpf(0)


def _mp_elu(h: Any, a: float = 1.0) -> Any:
    return h if h > 0 else a * mp.expm1(h)


#: written independently of the catalogue's expressions
ACTIVATION_REFERENCES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda h: h,
    "relu": _mp_relu,
    "leaky_relu": lambda h: h if h > 0 else mp.mpf(0.01) * h,
    "leaky_relu(-0.5)": lambda h: h if h > 0 else -h / 2,
    "abs": abs,
    "relu_squared": lambda h: _mp_relu(h) ** 2,
    "elu": _mp_elu,
    "elu(0.25)": lambda h: _mp_elu(h, 0.25),
    "celu": _mp_elu,
    "celu(2)": lambda h: h if h > 0 else 2 * mp.expm1(h / 2),
    "selu": lambda h: mp.mpf(1.0507009873554805) * _mp_elu(h, mp.mpf(1.6732632423543772)),
    "softplus": lambda h: mp.log(1 + mp.exp(h)),
    "softplus(3)": lambda h: mp.log(1 + mp.exp(3 * h)) / 3,
    "gelu": lambda h: h * mp.ncdf(h) if h > -200 else h * mp.erfc(-h / mp.sqrt(2)) / 2,
    "gelu_tanh": lambda h: h / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (h + mp.mpf(0.044715) * h**3))),
    "silu": lambda h: h / (1 + mp.exp(-h)),
    "silu(1.702)": lambda h: h / (1 + mp.exp(-mp.mpf(1.702) * h)),
    "mish": lambda h: h * mp.tanh(mp.log(1 + mp.exp(h))),
    "tanh": mp.tanh,
    "hard_tanh": lambda h: min(max(h, mp.mpf(-1)), mp.mpf(1)),
    "erf": lambda h: mp.erf(h / mp.sqrt(2)),
    "arctan": mp.atan,
    "softsign": lambda h: h / (1 + abs(h)),
    "sigmoid": lambda h: 1 / (1 + mp.exp(-h)),
    "sin": mp.sin,
    "cos": mp.cos,
    "gaussian": lambda h: mp.exp(-(h**2) / 2),
    "sqrt1p": lambda h: mp.sqrt(1 + h**2),
    "quadratic": lambda h: h**2,
    "cubic": lambda h: h**3,
    "hermite": lambda h: h**2 - 1,
    "hermite(5)": lambda h: h**5 - 10 * h**3 + 15 * h,
    "hermite(0)": lambda h: mp.mpf(1),
}


def test_every_activation_has_a_reference() -> None:
    assert set(ACTIVATIONS) <= set(ACTIVATION_REFERENCES)


@pytest.mark.parametrize("name", ACTIVATION_REFERENCES)
def test_activations_equal_mpmath(name: str) -> None:
    sigma = activation(name)
    h = np.array(POINTS)
    value, first = sigma.value_and_first(h)
    second = sigma.second(h, almost_everywhere=True)
    np.testing.assert_array_equal(sigma.value(h), value)
    np.testing.assert_array_equal(sigma.first(h), first)
    for i, x in enumerate(POINTS):
        expected = derivatives(ACTIVATION_REFERENCES[name], x)
        assert_close((value[i], first[i], second[i]), expected, f"{name} at {x}")


def _residual(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda y, f: function(y - f)


def _margin(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda y, f: function(y * f)


def _mp_smooth_hinge(z: Any, c: float = 1.0) -> Any:
    if z >= 1:
        return mp.mpf(0)
    return (1 - z) ** 2 / (2 * c) if z > 1 - c else 1 - z - mp.mpf(c) / 2


LOSS_REFERENCES: dict[str, Callable[[Any, Any], Any]] = {
    "squared": _residual(lambda r: r**2 / 2),
    "absolute": _residual(abs),
    "huber": _residual(lambda r: r**2 / 2 if abs(r) <= 1 else abs(r) - mp.mpf(1) / 2),
    "huber(1.5)": _residual(lambda r: r**2 / 2 if abs(r) <= 1.5 else 1.5 * abs(r) - mp.mpf(1.5) ** 2 / 2),
    "pseudo_huber": _residual(lambda r: mp.sqrt(1 + r**2) - 1),
    "pseudo_huber(0.5)": _residual(lambda r: (mp.sqrt(1 + 4 * r**2) - 1) / 4),
    "log_cosh": _residual(lambda r: mp.log(mp.cosh(r))),
    "cauchy": _residual(lambda r: mp.log(1 + r**2) / 2),
    "cauchy(2)": _residual(lambda r: 2 * mp.log(1 + r**2 / 4)),
    "welsch": _residual(lambda r: (1 - mp.exp(-(r**2))) / 2),
    "welsch(2)": _residual(lambda r: 2 * (1 - mp.exp(-(r**2) / 4))),
    "tukey": _residual(
        lambda r: mp.mpf(4.685) ** 2 / 6 * (1 - (1 - (r / mp.mpf(4.685)) ** 2) ** 3 if abs(r) <= 4.685 else mp.mpf(1))
    ),
    "logistic": _margin(lambda z: mp.log(1 + mp.exp(-z))),
    "cross_entropy": lambda y, f: -y * f + mp.log(1 + mp.exp(f)),
    "binary_cross_entropy": lambda y, f: -y * mp.log(1 / (1 + mp.exp(-f))) - (1 - y) * mp.log(1 / (1 + mp.exp(f))),
    "exponential": _margin(lambda z: mp.exp(-z)),
    "hinge": _margin(lambda z: max(mp.mpf(0), 1 - z)),
    "squared_hinge": _margin(lambda z: max(mp.mpf(0), 1 - z) ** 2 / 2),
    "smooth_hinge": _margin(_mp_smooth_hinge),
    "smooth_hinge(0.5)": _margin(lambda z: _mp_smooth_hinge(z, 0.5)),
    "phase_retrieval": lambda y, f: (y - f) ** 2 / (1 + y),
    "phase_retrieval(0.1)": lambda y, f: (y - f) ** 2 / (mp.mpf(0.1) + y),
}


def test_every_loss_has_a_reference() -> None:
    assert set(LOSSES) <= set(LOSS_REFERENCES)


@pytest.mark.parametrize("name", LOSS_REFERENCES)
def test_losses_equal_mpmath(name: str) -> None:
    function = loss(name)
    far = [-700.1, -40.3] if name == "exponential" else [-1e4, -800.3, -40.3]
    for y in (-1.0, 1.0, 0.37, 2.9):
        for f in (*far, -2.2, -0.9, -0.1, 1e-7, 0.21, 0.6, 1.31, 3.3, *(-x for x in far)):
            first, second = function.first_and_second(y, f, almost_everywhere=True)
            if name == "phase_retrieval" and y == -1.0:
                continue
            expected = derivatives(lambda x, y=y: LOSS_REFERENCES[name](mp.mpf(y), x), f)
            if not np.isfinite(expected).all():
                continue
            assert_close((function.value(y, f), first, second), expected, f"{name} at y = {y}, f = {f}")


#: harmless functions whose naive evaluation overflows on the way
SPELLINGS: dict[str, Callable[[Any], Any]] = {
    "h/(1 + exp(-h))": lambda h: h / (1 + mp.exp(-h)),
    "log(1 + exp(h))": lambda h: mp.log(1 + mp.exp(h)),
    "(exp(h) - exp(-h))/(exp(h) + exp(-h))": mp.tanh,
    "1 - 2/(1 + exp(2*h))": mp.tanh,
    "sinh(h)/cosh(h)": mp.tanh,
    "1/cosh(h)**2": lambda h: mp.sech(h) ** 2,
    "h*tanh(log(1 + exp(h)))": lambda h: h * mp.tanh(mp.log(1 + mp.exp(h))),
    "log(cosh(h))": lambda h: mp.log(mp.cosh(h)),
    "exp(h)/(1 + exp(h))": lambda h: 1 / (1 + mp.exp(-h)),
    "exp(-h**2)/(exp(-h**2) + exp(-(h - 1)**2))": lambda h: 1 / (1 + mp.exp(2 * h - 1)),
    "2**h/(1 + 2**h)": lambda h: 1 / (1 + mp.mpf(2) ** -h),
    "expm1(h)/(2 + expm1(h))": lambda h: mp.tanh(h / 2),
    "where(h > 0, h, exp(h) - 1)": _mp_elu,
    "where(h > 0, log1p(h), sinh(h)/cosh(h))": lambda h: mp.log(1 + h) if h > 0 else mp.tanh(h),
    "where(h < 0, -(-h)**1.5, h**3)": lambda h: h**3 if h > 0 else -((-h) ** mp.mpf(1.5)),
    "abs(h)**3": lambda h: abs(h) ** 3,
    "sqrt(h**2)**5/(1 + h**4)": lambda h: abs(h) ** 5 / (1 + h**4),
    "relu(h)**2.5": lambda h: _mp_relu(h) ** mp.mpf(2.5),
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_spellings_that_overflow_on_the_way(text: str) -> None:
    sigma = activation(text)
    h = np.array(POINTS)
    value, first = sigma.value_and_first(h)
    second = sigma.second(h)
    for i, x in enumerate(POINTS):
        assert_close((value[i], first[i], second[i]), derivatives(SPELLINGS[text], x), f"{text} at {x}")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_stay_finite(name: str) -> None:
    far = np.logspace(-300, 4, 1217)
    h = np.concatenate([-far, [0.0, -0.0], far, np.linspace(-1e4, 1e4, 4001)])
    sigma = activation(name)
    for result in (*sigma.value_and_first(h), sigma.second(h, almost_everywhere=True)):
        assert np.isfinite(result).all()


#: each operation of the tape in mpmath, independent of NumPy's
_MPMATH: dict[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "powi": mp.power,
    "pow": mp.power,
    "sqrt": mp.sqrt,
    "hermite": lambda n, x: mp.hermite(int(n), x / mp.sqrt(2)) / mp.sqrt(2) ** int(n),  # physicists' to probabilists'
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": lambda x: mp.log(1 + x),
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "arctan": mp.atan,
    "tanh": mp.tanh,
    "sech2": lambda x: mp.sech(x) ** 2,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "normal_cdf": mp.ncdf,
    "normal_pdf": mp.npdf,
    "softplus": lambda x: mp.log(1 + mp.exp(x)),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
}


def in_mpmath(tape: Tape, node: int, h: Any) -> Any:
    known: dict[int, Any] = {}
    for i in tape.ancestry([node]):
        op, args = tape.entries[i]
        value = tape.value(i)
        if value is None:
            known[i] = _MPMATH[op](*(known[a] for a in args)) if args else h
        else:
            known[i] = mp.mpf(value)
    return known[node]


FORMS = """
exp({0}/4) expm1({0}/4) log(2+{0}**2) log1p({0}**2) sqrt(1+{0}**2) sin({0}) cos({0}) tan(tanh({0})) arctan({0})
sinh({0}/4) cosh({0}/4) tanh({0}) erf({0}) erfc({0}) normal_cdf({0}) normal_pdf({0}) softplus({0}) sigmoid({0})
-{0} ({0})**3 (3+sin({0}))**-2 (1+{0}**2)**1.5 (1+{0}**2)**({0}/4) hermite(3,{0}) hermite(6,tanh({0}))
"""


def smooth_trees() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["h", "h", "h", "1", "2", "0.5", "1.25"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds(lambda form, x: form.format(f"({x})"), st.sampled_from(FORMS.split()), inner),
            st.builds("({}{}{})".format, inner, st.sampled_from("+-*"), inner),
            st.builds("({}/(2+cos({})))".format, inner, inner),
        )

    return st.recursive(leaves, grow, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(smooth_trees(), st.floats(-2, 2))
def test_rules_of_differentiation(text: str, x: float) -> None:
    """The derivatives' own expressions against differences, both at 80 digits: any difference is a wrong rule."""
    tape, nodes = _differentiated(text)
    with mp.workdps(80):
        value = in_mpmath(tape, nodes[0], mp.mpf(x))
        assume(abs(value) < 1e6)
        own = [float(in_mpmath(tape, n, mp.mpf(x))) for n in nodes]
    expected = derivatives(lambda h: in_mpmath(tape, nodes[0], h), x)
    # constants such as 2/sqrt(pi) are doubles on the tape, and meet others in sums
    np.testing.assert_allclose(own, expected, rtol=1e-11, atol=1e-11)


def _differentiated(text: str) -> tuple[Tape, tuple[int, ...]]:
    try:
        formula = Formula("activation", text, {"h": "pre-activation"})
    except InputError:
        assume(False)
    return formula.tape, formula.orders


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("tanh(h)**2*exp(-h**2/3)", lambda h: sympy.tanh(h) ** 2 * sympy.exp(-(h**2) / 3)),
        ("erf(h)/sqrt(1 + h**2)", lambda h: sympy.erf(h) / sympy.sqrt(1 + h**2)),
        ("(2 + sin(h))**cos(h)", lambda h: (2 + sympy.sin(h)) ** sympy.cos(h)),
        ("hermite(6, h)*arctan(h)", lambda h: (h**6 - 15 * h**4 + 45 * h**2 - 15) * sympy.atan(h)),
        ("log1p(h**2)*h - softplus(h)", lambda h: sympy.log(1 + h**2) * h - sympy.log(1 + sympy.exp(h))),
    ],
)
def test_derivatives_equal_sympy(text: str, function: Callable[[Any], Any]) -> None:
    sigma = activation(text)
    h = sympy.Symbol("h", real=True)
    for x in (-2.3, -0.4, 0.0, 1.7):
        expected = [float(sympy.diff(function(h), h, k).subs(h, sympy.Rational(x)).evalf(40)) for k in (0, 1, 2)]
        assert_close((sigma.value(x), sigma.first(x), sigma.second(x)), expected, f"{text} at {x}")


def test_where_sympy_is_wrong() -> None:
    """The traps that made the derivatives our own: sympy has no value, or a false one, for each of these."""
    h = np.array([-800.0, -2.0, 0.0, 2.0, 800.0])
    np.testing.assert_array_equal(activation("abs(h)**3").second(h), 6 * np.abs(h))
    np.testing.assert_array_equal(activation("maximum(h, 0)**3").second(h), 6 * np.maximum(h, 0))
    assert activation("where(h > 0, h, 0)").singular_curvature
    silu = activation("silu").second(h)
    assert silu[0] == silu[-1] == 0.0
    assert silu[2] == 0.5


def test_shapes_and_types() -> None:
    sigma = activation("gelu")
    assert sigma.value(1.0).shape == ()
    assert sigma.value([1, 2]).dtype == np.float64
    assert sigma.value(np.ones((3, 4), dtype=np.float32)).shape == (3, 4)
    assert sigma.value(np.empty((0, 3))).shape == (0, 3)
    assert loss("squared").first(np.ones((5, 1)), np.ones(4)).shape == (5, 4)
    rng = np.random.default_rng(0)
    h = rng.standard_normal((3, 20_000))  # several blocks, and a view that is not contiguous
    whole = sigma.value(h.T)
    np.testing.assert_array_equal(whole, sigma.value(h).T)
    np.testing.assert_array_equal(whole[12_345], [sigma.value(v) for v in h[:, 12_345]])
    bad = sigma.value(np.array([np.nan, np.inf, -np.inf, 1.0]))
    assert np.isnan(bad[0])
    assert bad[1] == np.inf
    assert bad[3] == sigma.value(1.0)
