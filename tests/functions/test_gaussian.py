"""Gaussian moments of activations against closed forms; centred and normalised variants."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.functions import activation

ROUNDING = 4e-15


@pytest.mark.parametrize(
    ("text", "power", "expected"),
    [
        ("relu", 1, 1 / math.sqrt(2 * math.pi)),
        ("relu", 2, 0.5),
        ("abs", 1, math.sqrt(2 / math.pi)),
        ("relu(h - 1)", 1, math.exp(-0.5) / math.sqrt(2 * math.pi) - math.erfc(math.sqrt(0.5)) / 2),
        ("gelu", 1, 1 / (2 * math.sqrt(math.pi))),
        ("erf", 2, 2 / math.pi * math.asin(0.5)),
        ("cos", 1, math.exp(-0.5)),
        ("sin", 2, (1 - math.exp(-2)) / 2),
        ("cos(20*h)", 2, (1 + math.exp(-800)) / 2),
        ("exp(h)", 1, math.exp(0.5)),
        ("abs(h)**1.5", 1, 2**0.75 * math.gamma(1.25) / math.sqrt(math.pi)),
        ("hermite(7)", 2, math.factorial(7)),
        ("hermite(20)", 2, math.factorial(20)),
        ("tanh", 1, 0.0),
    ],
)
def test_moments(text: str, power: int, expected: float) -> None:
    assert activation(text).gaussian_mean(power) == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)


@pytest.mark.parametrize("inner", ["gelu", "relu", "tanh(h)**2", "leaky_relu(0.1)", "hermite(3, h) + 1", "abs(h)**2.5"])
def test_centred_and_normalised(inner: str) -> None:
    base = activation(inner)
    centred, normalised = activation(f"centred({inner})"), activation(f"normalised({inner})")
    both = activation(f"normalised(centred({inner}))")
    size = math.sqrt(base.gaussian_mean(2))
    assert abs(centred.gaussian_mean()) <= ROUNDING * size
    assert normalised.gaussian_mean(2) == pytest.approx(1, rel=ROUNDING)
    assert both.gaussian_mean(2) == pytest.approx(1, rel=2 * ROUNDING)
    h = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(centred.first(h), base.first(h), rtol=1e-15)
    np.testing.assert_allclose(normalised.first(h) * size, base.first(h), rtol=1e-14, atol=1e-15)
    assert both.kinks == base.kinks
    assert activation(f"centered({inner})").expression == centred.expression


def test_moments_that_do_not_exist_are_refused() -> None:
    for text in ("normalised(exp(h**2/3))", "centred(exp(h**2))", "centred(exp(exp(h)))"):
        with pytest.raises(InputError, match="grows too fast"):
            activation(text)
    with pytest.raises(InputError, match="is 0"):
        activation("normalised(0*h)")
    with pytest.raises(InputError, match="takes one activation"):
        activation("centred(h, 2)")
    with pytest.raises(InputError, match="unknown name"):
        activation("centred(gelo)")
