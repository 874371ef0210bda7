"""On models with a closed form the probe reproduces it: the latent-variable model and linear networks."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from scipy.integrate import solve_ivp  # noqa: E402
from torch import nn  # noqa: E402

from featurephase.probe import Probe  # noqa: E402

torch.set_num_threads(1)

TOLERANCES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float32", "float64"])


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


# theory/latent-reference: u, w, eta_u, eta_w, A, B, gamma, and from its tables the state at
# t = infinity and the budget to there.
CASES = {
    "M1": ((0.5, -0.3, 0.8), (0.2, 0.7, -0.4), 1, 1, 1, 1, 1),
    "M2": ((0.5, -0.3, 0.8), (0.2, 0.7, -0.4), 0.5, 2, 1.3, -0.9, 0.7),
}
BUDGETS = {
    "M1": (0.326025408211, -0.131850311456, 0.215196737512, -0.0222241792608, 0.387147655006),
    "M2": (0.115993198465, 0.0, 0.118134759585, 0.0, 0.23412795805),
}
KERNELS = {"M1": (1.67, 2.4595324759), "M2": (1.12945, 1.42740590812)}


def _flow(u, w, eta_u, eta_w, a, b, gamma, time):
    """The gradient flow by an independent integrator: states at ``time`` (an array)."""
    width = len(u)

    def velocity(_, state):
        u, w = state[:width], state[width:]
        slope = 2 * (a * gamma * (u @ w) - b) * gamma
        return np.concatenate([-eta_u * slope * w, -eta_w * slope * u])

    found = solve_ivp(velocity, (0, time[-1]), [*u, *w], "DOP853", time, rtol=1e-13, atol=1e-14)
    return found.y[:width].T, found.y[width:].T


def _latent_probe(case, dtype, times, outside=1.0, **options):
    """A probe that sees the flow of one case at ``times``, embedded in three input dimensions."""
    u, w, eta_u, eta_w, a, b, gamma = CASES[case]
    us, ws = _flow(u, w, eta_u, eta_w, a, b, gamma, times)
    direction = np.array([2.0, -1.0, 2.0]) / 3
    orthogonal = np.array([1.0, 2.0, 0.0]) / np.sqrt(5)
    model = nn.Sequential(nn.Linear(3, len(u), bias=False), Scale(gamma), nn.Linear(len(u), 1, bias=False)).to(dtype)

    def put(u, w):
        with torch.no_grad():  # what is orthogonal to the data never moves, and must not be seen
            model[0].weight.copy_(
                torch.as_tensor(np.outer(w, direction) + outside * np.outer(np.arange(len(u)), orthogonal))
            )
            model[2].weight.copy_(torch.as_tensor(u)[None])

    latent = np.array([1.0, -0.5, 2.0, 0.3])
    inputs = torch.as_tensor(np.outer(latent, direction), dtype=dtype)
    put(us[0], ws[0])
    probe = Probe(
        model, inputs, rates={"0.weight": eta_w, "2.weight": eta_u}, schedule="demand", hessian="none", **options
    )
    for time, u, w in zip(times[1:], us[1:], ws[1:], strict=True):
        put(u, w)
        probe.record(time)
    return probe.result(), us, ws, latent


@PRECISIONS
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("records", [2, 7])
def test_latent_variable_model(case, records, dtype, tolerance):
    """Kernel, norms and the published budget, whatever the number of records (theory/latent-reference)."""
    _, _, eta_u, eta_w, _, _, gamma = CASES[case]
    result, us, ws, latent = _latent_probe(case, dtype, np.linspace(0, 12, records))
    assert result.mechanisms["method"] == "latent-variable model"
    per_unit = gamma**2 * (eta_u * (ws**2).sum(1) + eta_w * (us**2).sum(1))
    np.testing.assert_allclose(result.kernel_trace, per_unit * (latent @ latent), rtol=tolerance)
    np.testing.assert_allclose(per_unit[[0, -1]], KERNELS[case], rtol=1e-10)
    np.testing.assert_allclose(result.kernel_change, abs(per_unit / per_unit[0] - 1), atol=tolerance)
    np.testing.assert_allclose(result.kernel_alignment, 1.0, atol=tolerance)
    # The layer alignment of the issue with a rank-one lower layer (other directions included) and the read-out's norm.
    lower = np.sqrt((ws**2).sum(1) + (np.arange(3) ** 2).sum())
    product = np.hypot((us * ws).sum(1), (us * np.arange(3)).sum(1))
    np.testing.assert_allclose(
        result.pairs[0]["alignment"], product / lower / np.linalg.norm(us, axis=1), rtol=tolerance
    )
    np.testing.assert_allclose(result.layers[1]["norm"], np.linalg.norm(us, axis=1), rtol=tolerance)
    np.testing.assert_allclose(result.layers[0]["norm"], lower, rtol=tolerance)
    movement = np.linalg.norm(us - us[0], axis=1) / np.linalg.norm(us[0])
    np.testing.assert_allclose(result.layers[1]["movement"], movement, atol=tolerance)
    hidden = (ws**2).sum(1)
    np.testing.assert_allclose(result.layers[1]["feature_change"], abs(hidden / hidden[0] - 1), atol=tolerance)
    keys = ("alignment", "disalignment", "growth", "shrinkage", "log_kernel_ratio")
    np.testing.assert_allclose([result.mechanisms[k] for k in keys], BUDGETS[case], atol=tolerance)
    assert abs(result.mechanisms["unattributed"]) <= tolerance


@PRECISIONS
def test_width_one_is_pure_rescaling(dtype, tolerance):
    """G = 0 (theory/latent-mechanisms): no angle, all growth; R10 to convergence (theory/latent-reference)."""
    CASES["R10"] = ((0.001,), (2.0,), 1, 1, 1, 1, 1)
    result, *_ = _latent_probe("R10", dtype, np.linspace(0, 8, 5))
    assert result.mechanisms["alignment"] == pytest.approx(0.0, abs=tolerance)
    assert result.mechanisms["growth"] == pytest.approx(np.log(1.11803348563), abs=max(tolerance, 1e-10))


@pytest.mark.slow
def test_general_definition_converges_to_the_closed_form(monkeypatch):
    """Without recognising the model, the shares of norms and directions tend to theory/latent-mechanisms, to second
    order."""
    monkeypatch.setattr("featurephase.probe.probe.latent_coordinates", lambda *_: None)
    errors = []
    for records in (65, 129, 257):
        # Away from z = 0, where the output of M2 never passes.
        result, *_ = _latent_probe("M2", torch.float64, np.linspace(0, 12, records), outside=0.0)
        assert result.mechanisms["method"] == "norms against directions"
        keys = ("alignment", "disalignment", "growth", "shrinkage")
        errors.append(max(abs(result.mechanisms[k] - b) for k, b in zip(keys, BUDGETS["M2"][:4], strict=True)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(orders > 1.8)
    assert errors[-1] < 1e-3


def _rank_one_network(norms, dtype, width=4, seed=0):
    """W_l = n_l v_l v_(l-1)' with unit v: aligned rank-one layers, inputs along v_0."""
    generator = np.random.default_rng(seed)
    directions = [v / np.linalg.norm(v) for v in generator.standard_normal((len(norms), width))] + [np.ones(1)]
    layers = [nn.Linear(width, width if i < len(norms) - 1 else 1, bias=False).to(dtype) for i in range(len(norms))]

    def put(norms):
        with torch.no_grad():
            for i, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
                layer.weight.copy_(torch.as_tensor(norm * np.outer(directions[i + 1], directions[i])))

    put(norms)
    return nn.Sequential(*layers), put, torch.as_tensor(np.outer([1.0, -2.0], directions[0]), dtype=dtype)


@PRECISIONS
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_deep_linear_aligned_rank_one(depth, dtype, tolerance):
    """K = sum_l prod_{k != l} n_k^2 |x|^2, alignment 1, stable rank 1; all change is growth, then shrinkage."""
    start, middle, end = np.linspace(0.5, 0.8, depth), np.linspace(1.1, 1.6, depth), np.linspace(0.9, 0.7, depth)
    model, put, inputs = _rank_one_network(start, dtype)
    probe = Probe(model, inputs, schedule="demand", hessian="none")
    for time, norms in enumerate((middle, end), 1):
        put(norms)
        probe.record(time)
    result = probe.result()

    def kernel(norms):
        return 5.0 * sum(np.prod(np.delete(norms, i) ** 2) for i in range(depth))

    k = [kernel(norms) for norms in (start, middle, end)]
    np.testing.assert_allclose(result.kernel_trace, k, rtol=tolerance)
    for pair in result.pairs:
        np.testing.assert_allclose(pair["alignment"], 1.0, rtol=tolerance)
        np.testing.assert_allclose(pair["singular_cosine"], 1.0, rtol=tolerance)
    assert len(result.pairs) == depth - 1
    for i, layer in enumerate(result.layers):
        np.testing.assert_allclose(layer["norm"], [start[i], middle[i], end[i]], rtol=tolerance)
        np.testing.assert_allclose(layer["stable_rank"], 1.0, rtol=tolerance)
        np.testing.assert_allclose(layer["movement"][1], middle[i] / start[i] - 1, rtol=tolerance)
    assert result.mechanisms["growth"] == pytest.approx(np.log(k[1] / k[0]), abs=tolerance)
    assert result.mechanisms["shrinkage"] == pytest.approx(np.log(k[2] / k[1]), abs=tolerance)
    assert abs(result.mechanisms["alignment"]) + abs(result.mechanisms["disalignment"]) <= tolerance


@PRECISIONS
def test_pure_rotation_is_alignment(dtype, tolerance):
    """Two layers turning towards one another at fixed norms: the kernel's rise is all alignment, none of it growth.

    f = u' W2 W1 x with W1 = v e', W2 = diag(2, 1): turning v from (0,1) to (1,0) raises f's kernel at fixed norms.
    """
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).to(
        dtype
    )

    def put(angle):
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[np.sin(angle)], [np.cos(angle)]]))
            model[1].weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
            model[2].weight.copy_(torch.tensor([[1.0, 1.0]]))

    put(0.0)
    probe = Probe(model, torch.ones(1, 1, dtype=dtype), schedule="demand", hessian="none")
    put(np.pi / 2)
    probe.record(1)
    result = probe.result()
    # K = |W3 W2|^2 + |W3|^2 |W1|^2 + |W2 W1|^2: the last term goes from 1 to 4.
    assert result.mechanisms["alignment"] == pytest.approx(np.log((5 + 2 + 4) / (5 + 2 + 1)), abs=tolerance)
    assert result.mechanisms["growth"] == pytest.approx(0.0, abs=tolerance)
    np.testing.assert_allclose(result.pairs[0]["alignment"], [1 / np.sqrt(5), 2 / np.sqrt(5)], rtol=tolerance)
    np.testing.assert_allclose(result.pairs[0]["singular_cosine"], [0.0, 1.0], atol=tolerance)


@pytest.mark.slow
def test_baseline_of_independent_layers():
    """The mean square of the alignment of rotationally independent layers is 1/c exactly: 60 draws within 4 errors."""
    torch.manual_seed(0)
    squares = []
    for _ in range(60):
        model = nn.Sequential(nn.Linear(7, 30, bias=False), nn.ReLU(), nn.Linear(30, 5, bias=False)).double()
        for layer in (model[0], model[2]):
            nn.init.normal_(layer.weight)
        result = Probe(model, torch.ones(1, 7).double(), hessian="none").result()
        squares.append(result.pairs[0]["alignment"][0] ** 2)
    squares = np.array(squares)
    assert abs(squares.mean() - result.pairs[0]["baseline"] ** 2) <= 4 * squares.std(ddof=1) / np.sqrt(60)


def test_linear_network_on_the_quadratic_has_its_hessian():
    """One linear layer and mean squared error: the Hessian is 2 X'X/n for each output."""
    torch.manual_seed(1)
    x, y = torch.randn(20, 4).double(), torch.randn(20, 1).double()
    model = nn.Linear(4, 1, bias=False).double()
    result = Probe(model, x, y, loss=nn.functional.mse_loss, hessian_count=4).result()
    values = np.linalg.eigvalsh(2 * x.numpy().T @ x.numpy() / 20)
    np.testing.assert_allclose(result.hessian[0]["largest"], values, rtol=1e-10)
    assert result.hessian[0]["negative"] == 0
    assert not result.hessian[0]["negative_is_lower_bound"]
