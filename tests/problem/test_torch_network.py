"""A problem from a PyTorch network: the same function, the same first step, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from featurephase.dynamics.network import Network
from featurephase.foundation.errors import InputError
from featurephase.problem import GradientDescent, Problem, Teacher

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

THREE = Teacher(2, classes=3, logits=["g1", "g2", "0"])


@pytest.mark.parametrize(
    "activation",
    [
        nn.GELU(),
        nn.GELU("tanh"),
        nn.Tanh(),
        nn.SiLU(),
        nn.Softplus(2.0),
        nn.ELU(0.5),
        nn.CELU(0.5),
        nn.LeakyReLU(0.125),
        nn.Mish(),
        nn.SELU(),
        nn.Softsign(),
        nn.Sigmoid(),
        nn.ReLU(),
        None,
    ],
)
def test_the_student_is_the_network(activation: nn.Module | None) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(12, 4), *([] if activation is None else [activation]), nn.Linear(4, 3)]
    model = nn.Sequential(*layers).double()
    problem = Problem.from_torch(model, THREE, loss="cross_entropy")
    x = torch.randn(50, 12, dtype=torch.float64)
    y = torch.randint(0, 3, (50,))
    h = (x @ model[0].weight.T).detach().numpy().T
    network = Network.of(problem)
    np.testing.assert_allclose(network.output(h).T, model(x).detach().numpy(), rtol=1e-9, atol=1e-11)
    loss = nn.functional.cross_entropy(model(x), y)
    np.testing.assert_allclose(network.losses(h, y.numpy().astype(float)).mean(), loss.item(), rtol=1e-10)
    loss.backward()
    gradient = network.losses_and_gradient(h, y.numpy().astype(float))[1]
    np.testing.assert_allclose(gradient @ x.numpy() / 50, model[0].weight.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(problem.student.init_gram, (model[0].weight @ model[0].weight.T).detach(), rtol=1e-12)
    assert problem.training.steps == 0


def test_overlaps_with_given_directions() -> None:
    model = nn.Sequential(nn.Linear(6, 2, bias=False), nn.Tanh(), nn.Linear(2, 1))
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0]
    problem = Problem.from_torch(
        model, "g1 + g2**2", latent_dim=2, directions=frame, training=GradientDescent(0.1, 3, readout_step_size=0.1)
    )
    np.testing.assert_allclose(problem.student.init_overlap, frame.T @ model[0].weight.detach().numpy().T, rtol=1e-6)
    assert not np.any(problem.student.bias)
    assert problem.trains_outer


class Written(nn.Module):
    """Two layers whose ``forward`` is a function of them and the input."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.first, self.second, self.written = nn.Linear(3, 2), nn.Linear(2, 1), forward

    def forward(self, x):
        return self.written(self.first, self.second, x)


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        (nn.Linear(3, 1), {}, "two linear layers"),
        (
            nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)),
            {},
            "two linear layers",
        ),
        (nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Dropout(0.5), nn.Linear(2, 1)), {}, "Dropout"),
        (nn.Sequential(nn.Linear(3, 2), nn.Hardswish(), nn.Linear(2, 1)), {}, "activation like Hardswish"),
        (nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)), {"directions": np.ones((3, 1))}, "orthonormal"),
        (nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3)), {}, "student.readout has 3 outputs"),
        (lambda x: x, {}, "got function"),
        (Written(lambda a, b, x: b(torch.relu(a(x)))), {}, "sigma = linear: they differ"),
        (Written(lambda a, b, x: b(torch.relu(a(x)))), {"activation": "tanh"}, "sigma = tanh: they differ"),
        (Written(lambda a, b, x: b(a(x)) + x[:, :1]), {}, "shortcut"),
        (Written(lambda a, b, x: a(b(x))), {}, "failed on inputs of shape"),
        (Written(lambda a, b, x: (b(a(x)), x)), {}, "failed on inputs of shape"),
    ],
)
def test_refusals(model: nn.Module, more: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Problem.from_torch(model, "g1", **more)


def test_another_activation_may_be_given() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Hardswish(), nn.Linear(2, 1))
    assert Problem.from_torch(model, "g1", activation="h*clip(h + 3, 0, 6)/6").student.width == 2


def test_an_activation_of_forward_is_given_by_name() -> None:
    model = Written(lambda a, b, x: b(torch.relu(a(x)))[:, 0]).bfloat16()
    assert Problem.from_torch(model, "g1", activation="relu").student.activation.name == "relu"
