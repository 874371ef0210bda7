"""U_GD(T): equal to U_E in general, smaller under a symmetry of the network (theory/subspaces, eq. sub-reached)."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.analyses.reached import reached_subspace
from featurephase.foundation.errors import InputError
from featurephase.problem import Problem, Student
from featurephase.subspaces import latent_subspaces

from .. import cases


def experiment(activation: str, link: str = "g1", latent_dim: int = 1, **options) -> Problem:
    student = Student(activation, [1.0], **options.pop("student", {}))
    small = cases.problem(link, latent_dim=latent_dim, student=student, step_size=0.5)
    return small.replace(asymptotics={"samples": options.pop("samples", 10_000), "replicates": 8})


def test_an_even_activation_never_meets_a_linear_response() -> None:
    problem = experiment("sqrt1p", samples=100_000)  # bounds go down as samples^-1/2
    assert latent_subspaces(problem.teacher).easy_basis.shape == (1, 1)  # easy for the data
    found = reached_subspace(problem, 4.0)
    assert found.status == "ok"
    assert found.decisions == ("zero",)
    assert found.reached_basis.shape == (1, 0)
    assert abs(found.missed_basis[0, 0]) == 1.0
    assert found.overlaps[0] < found.bounds[0] < 0.02
    assert "not reached" in found.message


def test_gelu_meets_it() -> None:
    found = reached_subspace(experiment("gelu", samples=4000), 4.0)
    assert found.decisions == ("nonzero",)
    assert found.missed_basis.shape == (1, 0)
    # theory: the overlap is .46 at t = 5 for another step size; here only that it is far from zero in standard errors
    assert found.overlaps[0] > 20 * found.overlaps_se[0] > 0


def test_more_samples_are_asked_for_rather_than_guessed() -> None:
    found = reached_subspace(experiment("sqrt1p", samples=1000), 4.0, resolution=1e-3)
    assert found.status == "ambiguous-rank"
    assert found.reached_basis.shape == (1, 0)
    assert "more samples" in found.message


def test_a_warm_start_is_reached_from_the_beginning() -> None:
    problem = experiment("sqrt1p", samples=4000, student={"init_overlap": [[0.5]]})
    found = reached_subspace(problem, 4.0)
    assert found.decisions == ("nonzero",)


def test_nothing_easy_needs_no_run() -> None:
    found = reached_subspace(experiment("gelu", "1.5*tanh(g1**2)"), 4.0)
    assert (found.status, found.decisions) == ("ok", ())
    assert found.reached_basis.shape == (1, 0)


def test_the_hard_direction_of_two_is_not_counted() -> None:
    found = reached_subspace(experiment("gelu", "tanh(g1) + 1.5*tanh(g2**2)", 2, samples=4000), 4.0)
    np.testing.assert_allclose(np.abs(found.reached_basis), [[1.0], [0.0]])


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan"), float("inf")])
def test_delta_is_checked(delta: float) -> None:
    with pytest.raises(InputError, match="delta"):
        reached_subspace(experiment("gelu"), delta)
