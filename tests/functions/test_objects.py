"""Functions as values: text and back, equality, pickling, Python callables."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from joblib import Parallel, delayed

from featurephase.foundation.errors import InputError, SingularCurvatureError
from featurephase.functions import Activation, Link, Loss, activation, link, loss

H = np.linspace(-3, 3, 13)


def softsquare(h: np.ndarray) -> np.ndarray:
    return np.log1p(h**2)


def softsquare_first(h: np.ndarray) -> np.ndarray:
    return 2 * h / (1 + h**2)


def softsquare_second(h: np.ndarray) -> np.ndarray:
    return 2 * (1 - h**2) / (1 + h**2) ** 2


def quartic(y: np.ndarray, f: np.ndarray) -> np.ndarray:
    return (y - f) ** 4 / 4


def quartic_first(y: np.ndarray, f: np.ndarray) -> np.ndarray:
    return (f - y) ** 3


def quartic_second(y: np.ndarray, f: np.ndarray) -> np.ndarray:
    return 3 * (f - y) ** 2


def norm(g: np.ndarray, e: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.sqrt((g**2).sum(axis=0))


MAKERS: list[Callable[[], Activation | Loss | Link]] = [
    lambda: activation("gelu"),
    lambda: activation("centred(leaky_relu(0.1))"),
    lambda: activation("where(h > 0, h, 0)"),
    lambda: Activation.from_callables(softsquare, softsquare_first, softsquare_second, name="softsquare"),
    lambda: loss("huber(1.5)"),
    lambda: loss(expression="(y - f)**4/4"),
    lambda: Loss.from_callables(quartic, quartic_first, quartic_second, name="quartic"),
    lambda: link("noisy(tanh_square, 0.1)", 2),
    lambda: link("g1*g2", 2),
    lambda: Link.from_callable(norm, 2, name="norm"),
]


@pytest.mark.parametrize("make", MAKERS)
def test_value_semantics(make: Callable[[], Activation | Loss | Link]) -> None:
    one, other = make(), make()
    for copied in (other, pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert copied == one
        assert hash(copied) == hash(one)
        assert repr(copied) == repr(one)
    assert one != "gelu"
    assert len({one, other}) == 1
    with pytest.raises(AttributeError):
        one.name = "changed"  # type: ignore[misc]


def test_different_texts_differ() -> None:
    assert activation("gelu") != activation("silu")
    assert loss("squared") != loss(expression="(y - f)**2/2")
    assert link("g1", 1) != link("g1", 2)


def test_text_and_back() -> None:
    assert activation(" tanh(h)**2\n").to_spec() == "tanh(h)**2"
    assert activation("leaky_relu( 0.1 )").to_spec() == "leaky_relu( 0.1 )"
    assert activation("silu").expression == "h*sigmoid(1.0*h)"
    assert loss("huber(2)").to_spec() == "huber(2)"
    assert not loss("huber(2)").is_expression
    assert loss(expression="(y-f)**2").is_expression
    assert link("parity", 2).to_spec() == "parity"
    assert link("parity", 2).source == "sign(g1*g2)"


def test_workers_can_take_them() -> None:
    functions = [activation("gelu"), Activation.from_callables(np.sin, np.cos, name="sine")]
    values = Parallel(n_jobs=2)(delayed(Activation.value)(sigma, H) for sigma in functions)
    for sigma, value in zip(functions, values, strict=True):
        np.testing.assert_array_equal(value, sigma.value(H))


def test_wrong_types_are_refused() -> None:
    for make in (activation, loss, lambda x: loss(expression=x), lambda x: link(x, 1)):
        for bad in (3, None, ["gelu"], b"gelu"):
            with pytest.raises(InputError):
                make(bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one of the two"):
        loss("squared", expression="(y - f)**2")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: activation("gelo"), "did you mean 'gelu'"),
        (lambda: activation("gelu(2)"), "takes none"),
        (lambda: activation("leaky_relu(0.1, 3)"), "takes a = 0.01"),
        (lambda: activation("softplus(0)"), "b = 0 must be a positive number"),
        (lambda: activation("hermite(2.5)"), "a whole number from 0 to 64"),
        (lambda: activation("elu(h, -1)"), "the parameter a of elu must be a positive number"),
        (lambda: loss("squarred"), "did you mean 'squared'"),
        (lambda: loss("(y - f)**2"), "or give an expression in y and f"),
        (lambda: loss("huber(-1)"), "must be a positive number"),
        (lambda: loss(expression="(y - h)**2"), "accepted: y (the response), f (the network's output)"),
    ],
)
def test_catalogue_refusals(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert reason in str(caught.value)


def test_python_activation() -> None:
    sigma = Activation.from_callables(softsquare, softsquare_first, softsquare_second, name="softsquare")
    text = activation("log1p(h**2)")
    for mine, theirs in zip(
        (*sigma.value_and_first(H), sigma.second(H)), (*text.value_and_first(H), text.second(H)), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-14, atol=1e-15)
    assert not sigma.singular_curvature
    assert sigma.gaussian_mean() == pytest.approx(text.gaussian_mean(), rel=1e-14)
    with pytest.raises(InputError, match="cannot be written as text"):
        sigma.to_spec()
    with pytest.raises(InputError, match="no second derivative was given"):
        Activation.from_callables(softsquare, softsquare_first).second(H)


def test_python_kinks_are_found() -> None:
    sigma = Activation.from_callables(lambda h: np.abs(h - 0.7), lambda h: np.sign(h - 0.7), np.zeros_like)
    assert sigma.singular_curvature
    np.testing.assert_allclose(sigma.kinks, [0.7], rtol=1e-12)
    with pytest.raises(SingularCurvatureError):
        sigma.second(H)
    smooth = Activation.from_callables(np.tanh, lambda h: 1 - np.tanh(h) ** 2)
    assert smooth.kinks == ()
    huber = Activation.from_callables(
        lambda h: np.where(np.abs(h) < 1, h**2 / 2, np.abs(h) - 0.5),
        lambda h: np.clip(h, -1, 1),
        lambda h: (np.abs(h) < 1) * 1.0,
    )
    assert not huber.singular_curvature


def test_python_loss() -> None:
    function = Loss.from_callables(quartic, quartic_first, quartic_second, name="quartic")
    np.testing.assert_array_equal(function.first(1.0, H), (H - 1) ** 3)
    first, second = function.first_and_second(np.ones((2, 1)), H)
    assert first.shape == second.shape == (2, 13)
    kinked = Loss.from_callables(lambda y, f: np.abs(y - f), lambda y, f: np.sign(f - y))
    assert kinked.singular_curvature


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ((np.tanh, lambda h: 1 - np.tanh(h)), "the first derivative given is"),
        ((np.tanh, lambda h: 1 - np.tanh(h) ** 2, np.tanh), "the second derivative given is"),
        ((np.sign, np.zeros_like), "it jumps at"),
        ((np.log, lambda h: 1 / h), "must be finite"),
        ((lambda h: h.sum(), np.ones_like), "elementwise"),
        ((lambda h: h.missing, np.ones_like), "failed on an array"),
        ((np.tanh, 3), "must be a function"),
        ((np.tanh, None), "both needed"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_wrong_python_functions_are_refused(functions: tuple[object, ...], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        Activation.from_callables(*functions)  # type: ignore[arg-type]
    assert reason in str(caught.value)
