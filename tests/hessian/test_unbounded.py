"""Whether curvature is bounded, from the functions alone; and where an unbounded tail begins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from featurephase.dynamics.network import Network
from featurephase.functions import activation, link, loss
from featurephase.hessian.support import curvature_support
from featurephase.hessian.unbounded import curvature_bounds, unbounded_status


def network(sigma, readout, criterion="squared"):
    return Network(activation(sigma), np.array(readout), loss(criterion))


@pytest.mark.parametrize(
    ("sigma", "teacher", "criterion", "readout", "below", "above", "causes"),
    [
        ("tanh", "tanh(g1)", "squared", [1.0], False, False, ()),
        ("linear", "exp(g1)", "squared", [1.0], False, False, ()),  # W = 1
        ("gelu", "1.5*tanh(g1**2)", "squared", [1.0], False, False, ()),
        ("gelu", "1.5*tanh(g1**2)", "squared", [0.5, 0.5, 0.5], True, True, ("output",)),  # f sigma'' of another one
        ("silu", "tanh(g1)", "squared", [1.0, -1.0], True, True, ("output",)),
        ("gelu", "g1**2", "squared", [1.0, 1.0], True, True, ("response", "output")),
        ("gelu", "g1**2", "pseudo_huber", [1.0, 1.0], False, False, ()),
        ("softplus", "tanh(g1)", "squared", [1.0, 1.0], False, True, ()),  # f and sigma'' are positive
        (
            "softplus",
            "tanh(g1)",
            "squared",
            [1.0, -1.0],
            True,
            False,
            ("output",),
        ),  # a_r sigma'' f <= 0 where f is large
        ("tanh", "flipped(sign, 0.1)", "logistic", [0.125] * 8, False, False, ()),
        ("quadratic", "g1**2", "squared", [0.5], True, True, ("response",)),
        ("quadratic", "tanh(g1)", "squared", [0.5], False, True, ()),  # 3 a^2 h^2/2 - y
        ("tanh", "exp(g1)", "squared", [1.0], True, True, ("response",)),  # overflows on the way
        ("tanh", "log(1 + g1**2)", "squared", [1.0], True, True, ("response",)),
        ("h*sin(h)", "tanh(g1)", "squared", [1.0], True, True, ("activation",)),
        # a loss that is concave at some distance from the response: on a thin strip only, that runs out to infinity
        ("quadratic", "g1**2", "cauchy", [0.5], True, True, ("slope",)),
        ("quadratic", "g1**2", "tukey", [0.5], True, True, ("slope",)),
        ("relu_squared", "g1**2", "welsch", [0.5], True, True, ("slope",)),
        ("h*softplus(h)", "g1", "cauchy", [0.5], True, True, ("slope",)),
        ("hermite(3)", "hermite(3, g1)", "cauchy", [0.3], True, True, ("slope",)),
        ("quadratic", "g1**2", "cauchy", [0.5, 0.5], True, True, ("slope",)),
        ("quadratic", "tanh(g1)", "cauchy", [0.5], False, False, ()),  # no response goes along with h
        ("gelu", "g1**2", "cauchy", [0.5], False, False, ()),  # bounded slope
        ("quadratic", "g1**2", "pseudo_huber", [0.5], False, True, ()),  # convex: the strip is on the right only
        ("cubic", "exp(g1)", "huber", [1.0], True, True, ("response", "activation")),  # the strip ends before h does
        ("linear", "tanh(g1)", "exponential", [1.0], False, True, ()),  # overflows on the way
        # poles, and tails of uniform noise
        ("gelu", "tan(pi*(u1 - 0.5))", "squared", [1.0], True, True, ("response",)),
        ("gelu", "e1/e2", "squared", [1.0], True, True, ("response",)),
        ("gelu", "1/(g1 - 0.7)", "squared", [1.0], True, True, ("response",)),
        ("gelu", "u1**-0.5", "squared", [1.0], True, True, ("response",)),
        ("gelu", "-log(u1)", "squared", [1.0], True, True, ("response",)),
        ("gelu", "log(1 - u1)", "squared", [1.0], True, True, ("response",)),
        ("tanh", "tanh(g1)/u1", "squared", [1.0], True, True, ("response",)),
        ("gelu", "e1/e2", "huber", [1.0], False, False, ()),
        ("gelu", "1/(1 + u1)", "squared", [1.0], False, False, ()),
        ("gelu", "1/(0.1 + g1**2)", "squared", [1.0], False, False, ()),
        ("gelu", "flipped(tanh_square, 0.1)", "squared", [1.0], False, False, ()),
    ],
)
def test_what_functions_say(sigma, teacher, criterion, readout, below, above, causes) -> None:
    found = curvature_bounds(network(sigma, readout, criterion), link(teacher, 1))
    assert (found.below, found.above, found.causes) == (below, above, causes)
    assert bool(found.reason) == bool(found.advice) == bool(causes)


def test_the_advice_fits_the_cause() -> None:
    """A bounded link helps where the response is unbounded, and nothing is said of it where that is bounded."""
    several = unbounded_status(network("gelu", [0.5] * 3), link("tanh(g1**2)", 1))
    assert several == "unbounded-curvature"
    assert "output of the other neurons is unbounded" in several.message
    assert "a bounded activation" in several.message
    assert "link" not in several.message
    one = unbounded_status(network("quadratic", [0.5]), link("g1**2", 1))
    assert "the response is unbounded" in one.message
    assert "a bounded link (tanh(..)), or a loss with bounded slope" in one.message
    concave = unbounded_status(network("quadratic", [0.5], "cauchy"), link("g1**2", 1))
    assert "the activation's slope is unbounded and the loss is concave" in concave.message
    assert "or a convex loss with bounded slope" in concave.message  # that of cauchy is bounded
    cubic = unbounded_status(network("h**3", [1.0, 1.0]), link("tanh(g1)", 1))
    assert "slope" not in cubic.message  # sigma'' grows: no slope of the loss bounds it


def test_it_depends_on_no_weights() -> None:
    """At every weight that leaves h free, and so at every time, all commands have one answer."""
    rng = np.random.default_rng(0)
    student, teacher = network("gelu", [0.5, 0.4]), link("tanh(g1)", 1)
    for _ in range(5):
        weights = np.concatenate([rng.standard_normal((1, 2)) * 0.3, rng.standard_normal((3, 2))])
        found = curvature_support(student, teacher, weights)
        assert (found.unbounded_below, found.unbounded_above) == (True, True)


@pytest.mark.parametrize("scale", [0.6, 1.0])
def test_where_a_tail_begins(scale) -> None:
    """The nearest (g, h) with s W(h, y) = -1 for y = g: against constrained minimisation from many starts."""
    student, teacher = network("tanh", [1.0]), link("g1", 1)
    support = curvature_support(student, teacher, np.array([[0.0], [1.0]]))

    def margin(x):
        return float(1.0 + scale**2 * student.curvature(np.array([[x[1]]]), np.array([x[0]]))[0, 0, 0])

    starts = np.random.default_rng(1).standard_normal((40, 2)) * 3.0
    found = [minimize(lambda x: x @ x, x, constraints=[{"type": "eq", "fun": margin}], method="SLSQP") for x in starts]
    nearest = min(np.sqrt(f.fun) for f in found if f.success)
    assert support.tail_distance(np.array([[scale]])) == pytest.approx(nearest, rel=0.01)


def test_uniform_noise_counts_by_its_quantile() -> None:
    """The nearest (h, z) with s W(h, y) = -1 for y = -log of the distribution function of z."""
    student = network("tanh", [1.0])
    support = curvature_support(student, link("-log(u1)", 1), np.array([[0.0], [1.0]]))

    def margin(x):
        return float(1.0 + 0.09 * student.curvature(np.array([[x[0]]]), -norm.logcdf([x[1]]))[0, 0, 0])

    starts = np.random.default_rng(1).standard_normal((40, 2))
    found = [minimize(lambda x: x @ x, x, constraints=[{"type": "eq", "fun": margin}], method="SLSQP") for x in starts]
    nearest = min(np.sqrt(f.fun) for f in found if f.success)
    assert nearest > 4.2  # one sample in 40 000
    assert support.tail_distance(np.array([[np.sqrt(0.09)]])) == pytest.approx(nearest, rel=0.01)


def test_no_tail_of_a_bounded_curvature_is_found() -> None:
    support = curvature_support(network("tanh", [1.0]), link("tanh(g1)", 1), np.array([[0.0], [1.0]]))
    assert not support.unbounded_below
    assert support.tail_distance(np.array([[0.1]])) == np.inf
