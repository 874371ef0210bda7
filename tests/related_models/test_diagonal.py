"""Diagonal networks: published values, the flow of the weights, both limits, and sizes from 1e3 to 1e-70."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.foundation.errors import InputError
from featurephase.related_models.diagonal import Diagonal
from featurephase.related_models.interpolators import limit_predictors, minimum_l1, minimum_l2

FIRST = np.array([[1.0, 2.0, 0.5, -1.0], [0.0, 1.0, -1.0, 1.0]])
SECOND = np.array([[1.0, 2.0, 0.5, -1.0], [0.0, 1.0, -1.0, 2.0]])
Y = np.array([1.0, 0.7])
REFERENCE = [  # theory/related: inputs, depth, alpha, predictor
    (FIRST, 2, 2.0, (0.143156224430, 0.495981341134, -0.137799504336, 0.066219154530)),
    (FIRST, 2, 1.0, (0.141881068021, 0.496499927778, -0.137238297290, 0.066261774932)),
    (FIRST, 2, 0.1, (0.015500762076, 0.546360268759, -0.090836863295, 0.062802867946)),
    (FIRST, 2, 0.01, (0.000161103418, 0.552036234660, -0.087460385203, 0.060503380137)),
    (FIRST, 3, 1.0, (0.140275952697, 0.497152520683, -0.136532970506, 0.066314508811)),
    (FIRST, 3, 0.3, (0.018975880497, 0.545502878316, -0.089030969112, 0.065466152572)),
    (FIRST, 4, 0.3, (0.002446443318, 0.552049854375, -0.082807987116, 0.065142158510)),
    (FIRST, 5, 0.5, (0.013496452713, 0.547849457069, -0.085910352157, 0.066240190773)),
    (SECOND, 2, 2.0, (0.1703892282275, 0.4718443087090, -0.04563054445376, 0.09126257341862)),
    (SECOND, 2, 0.1, (0.02957756758461, 0.5281689729662, -0.02380496794906, 0.07401302954239)),
    (SECOND, 2, 1e-3, (2.048588819492e-05, 0.5399918056447, -2.825965302999e-04, 0.07986279891249)),
]


@pytest.mark.parametrize(("x", "depth", "alpha", "beta"), REFERENCE)
def test_reference_values(x, depth, alpha, beta) -> None:
    np.testing.assert_allclose(limit_predictors(x, Y, depth, np.array([alpha]))[0], beta, rtol=0, atol=1.1e-12)


def test_limits_of_the_reference() -> None:
    np.testing.assert_allclose(minimum_l2(FIRST, Y), (0.14324324, 0.49594595, -0.13783784, 0.06621622), atol=5e-9)
    np.testing.assert_allclose(minimum_l1(FIRST, Y), (0, 0.552095194, -0.087428836, 0.060475970), atol=5e-10)
    np.testing.assert_allclose(minimum_l1(SECOND, Y), (0, 0.54, 0, 0.08), atol=1e-14)
    np.testing.assert_allclose(minimum_l1(SECOND, Y, 5), (0, 0.54, 0, 0.08), atol=1e-14)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_selected_l1_minimiser_is_stationary_on_its_face(depth) -> None:
    """Depth 2 minimises sum |b|(ln|b| - 1), others maximise sum |b|^(2/D), among minimisers of the l1 norm."""
    beta = minimum_l1(FIRST, Y, depth)
    kept = beta != 0.0
    signs = np.sign(beta[kept])
    null = np.linalg.svd(FIRST[:, kept])[2][2:]
    assert len(null) == 1  # a face of dimension one
    assert null @ signs == pytest.approx(0.0, abs=1e-12)
    size = np.abs(beta[kept])
    slope = np.log(size) if depth == 2 else size ** (2.0 / depth - 1.0)
    assert null @ (signs * slope) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("alpha", [10.0, 100.0])
def test_the_approach_to_l2(alpha) -> None:
    gap = np.abs(limit_predictors(FIRST, Y, 2, np.array([alpha]))[0] - minimum_l2(FIRST, Y)).max()
    assert gap == pytest.approx(1.4e-3 * alpha**-4.0, rel=0.05)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("x", [FIRST, SECOND])
def test_from_1e3_to_1e_minus_70(x, depth) -> None:
    alphas = np.geomspace(1e3, 1e-70, 12)
    betas = limit_predictors(x, Y, depth, alphas)
    assert np.isfinite(betas).all()
    np.testing.assert_allclose(betas @ x.T, np.broadcast_to(Y, (12, 2)), atol=1e-13)
    np.testing.assert_allclose(betas[0], minimum_l2(x, Y), atol=1e-11)
    np.testing.assert_allclose(betas[-1], minimum_l1(x, Y, depth), atol=1e-12)
    assert np.all(np.diff(np.abs(betas).sum(axis=1)) < 1e-13)  # the l1 norm falls with alpha


def test_a_single_alpha_agrees_with_the_path_to_it() -> None:
    alphas = np.array([1e-3, 1.0, 1e-12])
    together = limit_predictors(FIRST, Y, 3, alphas)
    for alpha, beta in zip(alphas, together, strict=True):
        np.testing.assert_allclose(limit_predictors(FIRST, Y, 3, np.array([alpha]))[0], beta, atol=1e-13)


def _random(rng: np.random.Generator) -> Diagonal:
    n = int(rng.integers(1, 4))
    d, depth = int(rng.integers(n, 7)), int(rng.integers(2, 6))
    alpha = float(np.exp(rng.uniform(np.log(1e-3 if depth == 2 else 0.05), 1.0)))
    return Diagonal(x=rng.normal(size=(n, d)), y=rng.normal(size=n), alpha=alpha, depth=depth)


def _check(cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(cases):
        model = _random(rng)
        beta = model.solve().quantities["beta"].value
        flow = model.train(rng)["beta"]
        np.testing.assert_allclose(beta, flow, atol=1e-8 * np.abs(beta).max())


def test_against_the_flow_of_the_weights() -> None:
    _check(8, 0)


@pytest.mark.slow
def test_against_the_flow_of_the_weights_in_150_cases() -> None:
    _check(150, 1)


def test_the_passage_located_by_training() -> None:
    """The alpha at which training goes halfway from least l2 to least l1 norm, bisected with the flow itself."""
    ends = [np.abs(b).sum() for b in (minimum_l2(SECOND, Y), minimum_l1(SECOND, Y))]
    low, high = 0.05, 0.5
    for _ in range(8):
        middle = np.sqrt(low * high)
        found = np.abs(Diagonal(alpha=float(middle)).train(np.random.default_rng(0))["beta"]).sum()
        low, high = (low, middle) if found > np.mean(ends) else (middle, high)
    alphas = np.geomspace(0.5, 0.05, 200)
    norms = np.abs(limit_predictors(SECOND, Y, 2, alphas)).sum(axis=1)
    assert np.interp(-np.mean(ends), -norms, np.log(alphas)) == pytest.approx(np.log(high), abs=0.02)
    edges = Diagonal().phase().boundaries
    assert edges["alpha_rich"] < high < edges["alpha_kernel"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": [[1.0, 2.0], [2.0, 4.0]], "y": [1.0, 2.0]}, "drop the rows"),
        ({"x": [[1.0, 2.0], [2.0, 4.0]], "y": [1.0, 3.0]}, "no beta fits"),
        ({"y": [1.0]}, "1 responses for 2 rows"),
        ({"alpha": 0.0}, "alpha = 0.0: must be a finite number > 0"),
        ({"alpha": 1e-70, "depth": 5}, "limit_l1"),
        ({"depth": 1}, "a whole number from 2"),
        ({"x": [[1.0, float("nan")]], "y": [1.0]}, "a matrix of finite numbers"),
    ],
)
def test_the_domain(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        Diagonal(**changes)
