"""threshold, explain and predict for several outputs and trained second layers."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.explanation import explain
from featurephase.analyses.prediction import predict
from featurephase.analyses.threshold import threshold
from featurephase.escape.growth import hard_growth
from featurephase.problem import Asymptotics, GradientDescent, Problem, Student, Teacher

LOGIT = "2*(g1**2 - 1)"
FEW = Asymptotics(samples=3000, replicates=3)


def problem(teacher: Teacher, student: Student, loss: str, steps: int = 4, **rates: float) -> Problem:
    training = GradientDescent(step_size=1.0, steps=steps, **rates)
    return Problem(teacher=teacher, student=student, loss=loss, training=training, asymptotics=FEW)


def twins(**rates: float) -> tuple[Problem, Problem]:
    """Labels +1, -1 with one output u and the logistic loss; classes 0, 1 with outputs (u/2, -u/2) and softmax."""
    labels = Teacher(1, f"where(u1 < sigmoid({LOGIT}), 1, -1)")
    classes = Teacher(1, classes=2, logits=[LOGIT, "0"])
    one = problem(labels, Student("gelu", [1.5], bias=[0.3]), "logistic", **rates)
    # The two columns of the read-out move against each other, each at half the rate of their difference.
    halved = {n: r / 2 if n in ("readout_step_size", "output_bias_step_size") else r for n, r in rates.items()}
    two = problem(classes, Student("gelu", [[0.75, -0.75]], bias=[0.3]), "cross_entropy", **halved)
    return one, two


@pytest.mark.parametrize(
    "rates",
    [{}, {"readout_step_size": 0.4, "bias_step_size": 0.2, "output_bias_step_size": 0.3}],
    ids=["fixed", "trained"],
)
def test_two_classes_have_the_threshold_of_the_logistic_loss(rates):
    """An identity for every sample: the same delta_NN and the same growth, to round-off, from the same seeds."""
    one, two = twins(**rates)
    found = [threshold(p, times=3, limit=False).delta_nn[0] for p in (one, two)]
    assert found[0].status == found[1].status
    assert np.isfinite(found[0].value)
    np.testing.assert_allclose(found[1].value, found[0].value, rtol=1e-6)
    np.testing.assert_allclose(found[1].value_se, found[0].value_se, rtol=1e-3)
    growths = [
        hard_growth(p, 20.0, np.random.SeedSequence(1), easy_basis=np.zeros((1, 0)), hard_basis=np.eye(1), samples=2000)
        for p in (one, two)
    ]
    np.testing.assert_allclose(growths[1].growth(), growths[0].growth(), rtol=1e-9)


def test_delta_alg_of_classes_is_that_of_labels():
    one, two = (threshold(p, times=[], limit=False) for p in twins())
    assert abs(one.delta_alg - two.delta_alg) < 4.5 * np.hypot(one.delta_alg_se, two.delta_alg_se)


@pytest.mark.slow
def test_explain_of_classes_names_both_directions():
    teacher = Teacher(2, classes=3, logits=["1.5*g1", "2*(g2**2 - 1)", "0"])
    student = Student("gelu", [[0.8, -0.5, -0.3], [-0.4, 0.9, -0.5]], bias=[0.1, -0.2])
    found = explain(problem(teacher, student, "cross_entropy", steps=6, readout_step_size=0.3), delta=40.0)
    assert [(d.name, d.kind) for d in found.directions] == [("g1", "easy"), ("g2", "hard")]
    assert found.directions[0].learned is True


def test_a_trained_second_layer_is_said_where_it_may_move_outliers():
    teacher, student = Teacher(2, ["tanh(g1)", "tanh(g2**2)"]), Student("tanh", [[1.0, 0.3], [-0.4, 1.0]])
    words = "outliers that are not hard are those of the first layer's Hessian"
    for rate, said in ((0.0, False), (0.2, True)):
        found = predict(problem(teacher, student, "squared", readout_step_size=rate), delta=30.0)
        assert found.runs[0].hessian[-1].outliers
        assert any(words in w for w in found.warnings) is said
