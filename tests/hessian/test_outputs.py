"""The curvature of networks with several outputs: bounds, support, and identities with networks of one output."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.dynamics.asymptotic import run_replicate
from featurephase.dynamics.network import Network
from featurephase.functions import activation
from featurephase.hessian.spectrum import spectrum
from featurephase.hessian.support import curvature_support
from featurephase.hessian.unbounded import curvature_bounds
from featurephase.problem import GradientDescent, Problem, Student, Teacher

BOUNDED = ["tanh(g1)", "1.5*tanh(g2**2)"]
CLASSES = {"classes": 2, "logits": ["g1", "g2**2"]}


def problem(teacher: Teacher, name: str, readout: object, loss: str = "squared", **student: object) -> Problem:
    return Problem(
        teacher=teacher,
        student=Student(name, readout, **student),
        loss=loss,
        training=GradientDescent(step_size=0.5, steps=3),
    )


def bounds(teacher: Teacher, name: str, readout: object, loss: str = "squared"):
    asked = problem(teacher, name, readout, loss)
    return curvature_bounds(Network.of(asked), asked.teacher.link)


def test_bounded_residuals_and_slopes_bound_the_curvature():
    shared = [[1.0, 0.5], [-0.7, 0.4]]
    classes = Teacher(2, **CLASSES)
    for found in (
        bounds(classes, "gelu", shared, "cross_entropy"),
        bounds(Teacher(2, BOUNDED), "tanh", shared),
        bounds(Teacher(2, BOUNDED), "gelu", [[1.0, 0.5]]),  # one neuron: its own output grows where sigma'' is 0
        bounds(Teacher(2, ["g1", "g2**2"]), "gelu", shared, "pseudo_huber"),
    ):
        assert (found.below, found.above) == (False, False)
        assert found.causes == ()


def test_what_makes_the_curvature_unbounded():
    shared, apart = [[1.0, 0.5], [-0.7, 0.4]], [[1.0, 0.0], [0.0, 0.8]]
    assert bounds(Teacher(2, BOUNDED), "gelu", shared).causes == ("output",)
    assert bounds(Teacher(2, ["g1", "g2**2"]), "tanh", shared).causes == ("response",)
    assert bounds(Teacher(2, BOUNDED), "gelu", apart).below is False  # neurons with an output each: two of one neuron
    assert bounds(Teacher(2, ["g1", "0"]), "tanh", [[0.0, 1.0]]).below is False  # the output that grows is not its own


def test_support_of_one_neuron_reaches_the_infimum():
    """W = |a|^2 sigma'^2 + a.(f - y) sigma'' over all h and all y of the closed range of the response."""
    a, bias, c = np.array([0.5, 1.2]), 0.3, np.array([0.1, -0.2])
    asked = problem(Teacher(2, BOUNDED), "gelu", [a.tolist()], bias=[bias], output_bias=c.tolist())
    weights = np.array([[0.2], [0.0], [0.9]])
    support = curvature_support(Network.of(asked), asked.teacher.link, weights)
    gelu, h = activation("gelu"), np.linspace(-8, 8, 20_001)
    value, slope = gelu.value_and_first(h)
    corners = [(u, v) for u in (-1.0, 1.0) for v in (0.0, 1.5)]
    w = [a @ a * slope**2 + (a @ a * value + a @ (c - np.array(y))) * gelu.second(h) for y in corners]
    assert not support.unbounded_below
    np.testing.assert_allclose(support.lowest.min(), np.min(w), rtol=1e-5)
    np.testing.assert_allclose(support.highest.max(), np.max(w), rtol=1e-2)


def test_two_classes_have_the_spectrum_of_the_logistic_loss():
    """Softmax of (u/2, -u/2) is the logistic function of u: the same network, gradient and Hessian, to round-off."""
    one = problem(
        Teacher(2, "where(u1 < sigmoid(g1**2 - g2), 1, -1)"), "gelu", [1.0, -0.6], "logistic", bias=[0.2, 0.0]
    )
    halves = [[-0.5, 0.5], [0.3, -0.3]]
    two = problem(Teacher(2, classes=2, logits=["0", "g1**2 - g2"]), "gelu", halves, "cross_entropy", bias=[0.2, 0.0])
    rng = np.random.default_rng(0)
    h, y = rng.standard_normal((2, 50)), rng.integers(0, 2, 50).astype(float)
    several, scalar = Network.of(two), Network.of(one)
    np.testing.assert_allclose(several.curvature(h, y), scalar.curvature(h, 2 * y - 1), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        several.block_curvature(h, y), scalar.block_curvature(h, 2 * y - 1), rtol=1e-12, atol=1e-14
    )
    assert curvature_bounds(several, two.teacher.link).below is curvature_bounds(scalar, one.teacher.link).below


@pytest.mark.parametrize("width", [1, 2])
def test_outputs_that_share_nothing_have_the_spectrum_of_one(width):
    """A second output of weight 0 changes nothing: edges and outliers are those of the first alone, to the digit."""
    readout = [1.0, -0.8][:width]
    one = problem(Teacher(2, BOUNDED[1]), "gelu", readout)
    two = problem(Teacher(2, [BOUNDED[1], "g1"]), "gelu", [[a, 0.0] for a in readout])

    def look(moment):
        asked = two if moment.network.outputs == 2 else one
        return spectrum(
            asked.teacher.link,
            moment,
            delta=20.0,
            weight_decay=0.0,
            easy_basis=np.eye(2)[:, :1],
            hard_basis=np.eye(2)[:, 1:],
        )

    found = [
        run_replicate(
            p, 20.0, np.random.SeedSequence(0), easy_basis=np.eye(2)[:, :1], steps=3, samples=2000, observers={3: look}
        ).observations[3]
        for p in (one, two)
    ]
    assert found[0].hard_left
    np.testing.assert_allclose(found[1].left_edge, found[0].left_edge, rtol=1e-6)
    np.testing.assert_allclose(found[1].right_edge, found[0].right_edge, rtol=1e-6)
    np.testing.assert_allclose([o.value for o in found[1].hard_left], [o.value for o in found[0].hard_left], rtol=1e-6)
