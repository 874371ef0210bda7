"""Links: what they compute, what they take, what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.functions import Link, link

G = np.random.default_rng(5).standard_normal((3, 2000))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linear", lambda g: g[0]),
        ("abs", lambda g: abs(g[0])),
        ("sign", lambda g: np.sign(g[0])),
        ("square", lambda g: g[0] ** 2),
        ("quadratic", lambda g: g[0] ** 2),
        ("cubic", lambda g: g[0] ** 3),
        ("tanh_square", lambda g: np.tanh(g[0] ** 2)),
        ("norm_square", lambda g: (g**2).sum(axis=0)),
        ("norm_square(2)", lambda g: (g[:2] ** 2).sum(axis=0)),
        ("product", lambda g: g.prod(axis=0)),
        ("product(2)", lambda g: g[0] * g[1]),
        ("parity", lambda g: np.sign(g.prod(axis=0))),
        ("sign_product(2)", lambda g: np.sign(g[0] * g[1])),
        ("staircase", lambda g: g[0] + g[0] * g[1] + g.prod(axis=0)),
        ("sign_staircase(2)", lambda g: np.sign(g[0]) + np.sign(g[0] * g[1])),
        ("tanh_hermite", lambda g: np.tanh(g[0] + g[1] ** 3 - 3 * g[1])),
        ("linear_tanh_square", lambda g: g[0] + np.tanh(g[1] ** 2)),
        ("committee", lambda g: np.sign(np.sign(g).sum(axis=0))),
        ("soft_committee(2)", lambda g: np.vectorize(math.erf)(g[:2] / math.sqrt(2)).sum(axis=0) / math.sqrt(2)),
        ("where(g1 > g2, relu(g3), -1)", lambda g: np.where(g[0] > g[1], np.maximum(g[2], 0), -1)),
        ("2", lambda g: np.full(g.shape[1], 2.0)),
    ],
)
def test_links_without_noise(text: str, expected: object) -> None:
    phi = link(text, 3)
    assert (phi.normals, phi.uniforms) == (0, 0)
    np.testing.assert_allclose(phi.evaluate(G), expected(G), rtol=1e-13, atol=1e-14)  # type: ignore[operator]
    np.testing.assert_array_equal(phi.sample(G, np.random.default_rng(0)), phi.evaluate(G))


def test_noise() -> None:
    phi = link("g1 + 0.5*e2*where(u1 < 0.25, 1, 0) + 0*e1", 3)
    assert (phi.normals, phi.uniforms, phi.uses) == (2, 1, (1,))
    rng = np.random.default_rng(1)
    e, u = rng.standard_normal((2, 2000)), rng.random((1, 2000))
    np.testing.assert_array_equal(phi.evaluate(G, e, u), G[0] + 0.5 * e[1] * (u[0] < 0.25))
    y = phi.sample(G, np.random.default_rng(2))
    np.testing.assert_array_equal(y, phi.sample(G, np.random.default_rng(2)))
    assert not np.array_equal(y, phi.sample(G, np.random.default_rng(3)))


def test_noise_wrappers() -> None:
    noisy = link("noisy(g1 + e1, 1/2)", 2)
    assert noisy.normals == 2
    e = np.random.default_rng(0).standard_normal((2, 2000))
    np.testing.assert_allclose(noisy.evaluate(G[:2], e), G[0] + e[0] + 0.5 * e[1], rtol=1e-15)
    flipped = link("flipped(noisy(parity, 0.1), 0.2)", 2)
    assert (flipped.normals, flipped.uniforms) == (1, 1)
    u = np.random.default_rng(0).random((1, 2000))
    y = np.sign(G[0] * G[1]) + 0.1 * e[0]
    np.testing.assert_allclose(flipped.evaluate(G[:2], e[:1], u), np.where(u[0] < 0.2, -y, y), rtol=1e-15)


def test_random_links_have_their_laws() -> None:
    """Frequencies against probabilities, in standard errors."""
    count = 200_000
    g = np.random.default_rng(3).standard_normal((2, count))
    stairs = link("random_staircase", 2).sample(g, np.random.default_rng(4))
    high = stairs > 50
    assert abs(high.mean() - 0.5) < 4 * 0.5 / math.sqrt(count)
    np.testing.assert_array_equal(stairs[~high], g[0, ~high])
    np.testing.assert_array_equal(stairs[high], 100 + np.sign(g[0] * g[1])[high])
    labels = link("logistic(2)", 2).sample(g, np.random.default_rng(5))
    p = 1 / (1 + np.exp(-2 * g[0]))
    z = ((labels > 0) - p).sum() / math.sqrt((p * (1 - p)).sum())
    assert abs(z) < 4
    assert set(labels) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("text", "dimension", "reason"),
    [
        ("g5 + g1", 2, "there is no coordinate g5: with latent_dim = 2 there are g1 to g2"),
        ("g2", 1, "with latent_dim = 1 there are g1"),
        ("g0", 2, "unknown name"),
        ("g01", 2, "unknown name"),
        ("e65", 2, "there is no noise e65: there are e1 to e64"),
        ("x1 + g1", 2, "accepted: g1 to g2 (latent coordinates), e1, e2, .. (independent N(0,1))"),
        ("e + g1", 2, "unknown name 'e'"),
        ("productt", 2, "did you mean 'product'"),
        ("parity(3)", 2, "a whole number from 1 to latent_dim = 2"),
        ("parity(1.5)", 2, "a whole number"),
        ("square(2)", 2, "takes none"),
        ("logistic(-1)", 2, "positive"),
        ("noisy(square)", 2, "noisy(LINK, sd)"),
        ("noisy(square, -1)", 2, "noisy(LINK, sd)"),
        ("flipped(square, 1.5)", 2, "0 < p < 1"),
        ("noisy(g9, 1)", 2, "there is no coordinate g9"),
        ("h", 2, "unknown name"),
    ],
)
def test_refusals(text: str, dimension: int, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        link(text, dimension)
    assert reason in str(caught.value)


@pytest.mark.parametrize("dimension", [0, -1, 1.5, "2", True, None])
def test_bad_dimensions(dimension: object) -> None:
    with pytest.raises(InputError, match="latent_dim must be a whole number"):
        link("g1", dimension)  # type: ignore[arg-type]


def test_samples_must_be_finite() -> None:
    with pytest.raises(InputError, match=r"response is nan at g1 = -.*must be finite on every sample"):
        link("log(g1)", 3).sample(G, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"response is (inf|nan) at .*e1 = "):
        link("1/(e1 - e1*g1/g1) + 1/(g1 > 9)", 3).sample(G, np.random.default_rng(0))


def test_shapes_are_checked() -> None:
    phi = link("g1 + e1", 3)
    for g, e in ((G[:2], np.zeros((1, 2000))), (G, None), (G, np.zeros((1, 7))), (G[0], np.zeros((1, 2000)))):
        with pytest.raises(InputError, match="must have shape"):
            phi.evaluate(g, e)
    assert link("g1", 1).evaluate(np.empty((1, 0))).shape == (0,)


def cube(g: np.ndarray, e: np.ndarray, u: np.ndarray) -> np.ndarray:
    return g[0] ** 3 + e[0] * (u[0] > 0.5)


def test_python_functions() -> None:
    phi = Link.from_callable(cube, 2, normals=1, uniforms=1, name="cube")
    assert phi.uses == (1, 2)
    assert not phi.facts.bounded
    y = phi.sample(G[:2], np.random.default_rng(0))
    assert y.shape == (2000,)
    with pytest.raises(InputError, match="cannot be written as text"):
        phi.to_spec()
    with pytest.raises(InputError, match="failed on"):
        Link.from_callable(lambda g, e, u: g[7], 2)
    with pytest.raises(InputError, match="expected, got shape"):
        Link.from_callable(lambda g, e, u: g, 2)
