"""Models of unusual make: a right number beside plain torch, or a refusal that names the cause; never a traceback."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from featurephase.foundation.errors import InputError  # noqa: E402
from featurephase.probe import Probe  # noqa: E402

from .architectures import Own  # noqa: E402

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")


def _normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, Y = _normal(8, 5), _normal(8, 2, seed=2)


def _network():
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))


def _body(function, **parts):
    return Own(function, a=nn.Linear(5, 6), b=nn.Linear(6, 2), **parts)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _kernel(model, inputs):
    """By one call of autograd per output."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    outputs = model(*inputs).reshape(-1)
    rows = [torch.cat([g.reshape(-1).double() for g in torch.autograd.grad(v, parameters, **options)]) for v in outputs]
    jacobian = torch.stack(rows)
    return (jacobian @ jacobian.T).numpy()


def _check_kernel(model, *inputs, rel=1e-5, targets=Y):
    """The whole kernel of a probe is plain autograd's."""
    expected = _kernel(model, inputs)
    probe = Probe(model, inputs if len(inputs) > 1 else inputs[0], targets, loss=F.mse_loss)
    found = probe.kernel_matrix().matrix.reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=rel * np.abs(expected).max())
    result = probe.result()
    assert result.ok, result.message
    assert result.kernel_trace[0] == pytest.approx(np.trace(expected), rel=rel)
    return result


def _routed(model, x):
    chosen = model.gate(x).argmax(1)
    out = x.new_zeros(len(x), 2)
    for number, expert in enumerate(model.experts):
        rows = (chosen == number).nonzero()[:, 0]
        if len(rows):
            out = out.index_put((rows,), expert(x[rows]))
    return out


@pytest.mark.parametrize("seed", [1, 2])
def test_experts_on_samples_of_their_own(seed):
    model = Own(_routed, gate=nn.Linear(5, 2), experts=nn.ModuleList([_network(), _network()]))
    _check_kernel(model, _normal(8, 5, seed=seed))


def test_gradients_of_a_layer_that_one_chunk_alone_routes():
    """Chunks of samples that have factors, and others that have plain gradients only, are put together."""
    from featurephase.probe.functional import TorchNetwork
    from featurephase.probe.kernel import ExactKernel
    from featurephase.probe.trees import Batch

    model = Own(_routed, gate=nn.Linear(5, 2), experts=nn.ModuleList([_network(), _network()]))
    chosen = model.gate(X).argmax(1)
    x = X[torch.argsort(chosen)]  # the first chunks are all of one expert
    network = TorchNetwork(model)
    with network.isolated():
        kernel = ExactKernel(network, Batch.of(x, "x"), chunk=3).matrix(network.state())[0]
    np.testing.assert_allclose(kernel, _kernel(model, (x,)), atol=1e-5 * np.abs(kernel).max())


def test_a_layer_without_inputs():
    model = _body(lambda m, x: m.b(torch.tanh(m.a(x) + m.c(x[:, :0]))), c=nn.Linear(0, 6))
    _check_kernel(model, X)


def test_autocast_inside_forward():
    def forward(model, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model.b(torch.tanh(model.a(x)))
        return out.float()

    model = _body(forward)
    result = Probe(model, X, Y, loss=F.mse_loss).result()
    rounding = torch.finfo(torch.bfloat16).eps
    assert result.kernel_trace[0] == pytest.approx(np.trace(_kernel(model, (X,))), rel=2 * rounding)
    assert np.isfinite([layer.feature_change[0] for layer in result.layers]).all()


def test_a_head_in_double_precision():
    model = Own(lambda m, x: m.b(torch.tanh(m.a(x)).double()), a=nn.Linear(5, 6), b=nn.Linear(6, 2).double())
    result = _check_kernel(model, X, targets=Y.double())
    assert 0 < result.pairs[0].alignment[0] < 1


def test_an_ensemble_by_vmap_inside_forward():
    def forward(model, x):
        names = dict(model.members[0].named_parameters())
        stacked = {name: torch.stack([m.get_parameter(name) for m in model.members]) for name in names}
        return torch.func.vmap(lambda p: torch.func.functional_call(model.members[0], p, (x,)))(stacked).mean(0)

    _check_kernel(Own(forward, members=nn.ModuleList([_network(), _network()])), X)


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(3, dtype=torch.int8),
        torch.zeros(3) > 0,
        torch.full((3,), 2.0).to(torch.float8_e4m3fn),
        torch.full((3, 3), float("-inf")).triu(1),
        torch.full((3,), float("nan")),
    ],
    ids=["int8", "bool", "float8", "causal mask", "nan"],
)
def test_frozen_parameters_of_any_kind(values):
    model = _body(lambda m, x: m.b(torch.tanh(m.a(x))) * (2 + m.q.to(x).reshape(-1)[0].nan_to_num()))
    model.q = nn.Parameter(values, requires_grad=False)
    _check_kernel(model, X)
    probe = Probe(model, X, Y, loss=F.mse_loss, hessian="none")
    with torch.no_grad():
        model.a.weight.mul_(1.1)
    probe.record(1)
    assert probe.result().ok
    assert probe.result().mechanisms.statistics == 0


def test_quantised_parameters_cannot_be_trained():
    model = _network()
    model.q = nn.Parameter(torch.zeros(3).to(torch.float8_e4m3fn))
    with pytest.raises(InputError, match="q: numbers of 8 bits cannot be trained"):
        Probe(model, X)


def test_sparse_buffers_and_shared_inputs():
    matrix = torch.eye(6).roll(1, 0).to_sparse()
    for layout in (matrix, matrix.to_sparse_csr()):
        model = _body(lambda m, x: m.b(torch.tanh(torch.sparse.mm(m.adjacency, m.a(x).t()).t())))
        model.register_buffer("adjacency", layout)
        result = _check_kernel(model, X)
        assert not any("cannot be copied" in note for note in result.unhandled)
    _check_kernel(_body(lambda m, x, a: m.b(torch.tanh(torch.sparse.mm(a, m.a(x).t()).t()))), X, matrix)


class _ForwardOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        raise NotImplementedError("inference only")


def test_a_backward_that_fails_is_named():
    with pytest.raises(InputError, match=r"backward pass fails \(forward runs _ForwardOnly\): inference only"):
        Probe(_body(lambda m, x: m.b(_ForwardOnly.apply(m.a(x)))), X)
    with pytest.raises(InputError, match=r"backward pass fails: .*modified by an inplace operation"):
        Probe(_body(lambda m, x: m.b(m.a(x).tanh_().add_(1))), X)


def test_models_that_cannot_be_run_are_refused():
    with pytest.raises(InputError, match=r"eval\(\) fails.*Python module"):
        Probe(torch.export.export(_network(), (X,)).module(), X)
    with pytest.raises(InputError, match="'meta' have no values"):
        Probe(_network().to("meta"), X)


def test_an_error_that_nobody_foresaw_is_a_refusal():
    def forward(model, x):
        if len(x) == 3:
            raise ZeroDivisionError("three is a crowd")
        return model.b(torch.tanh(model.a(x)))

    with pytest.raises(InputError, match="ZeroDivisionError: three is a crowd"):
        Probe(_body(forward), X)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_orthogonal_weights_by_their_default_map(shape):
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(*shape))
    model = nn.Sequential(layer, nn.Tanh(), nn.Linear(shape[1], 2))
    result = _check_kernel(model, _normal(8, shape[0]), rel=1e-4)
    assert any("entries that get no gradient" in note for note in result.unhandled)


def test_a_forward_that_squeezes():
    model = Own(lambda m, x: m.b(torch.tanh(m.a(x))).squeeze(), a=nn.Linear(5, 6), b=nn.Linear(6, 1))
    _check_kernel(model, X, targets=Y[:, 0])


def test_a_forward_for_one_batch_size_only():
    model = _body(lambda m, x: m.b(torch.tanh(m.a(x).view(8, 6))))
    with pytest.raises(InputError, match=r"runs on all 8 samples .* not on one alone.*any size"):
        Probe(model, X)


def test_heldout_points_are_named():
    with pytest.raises(InputError, match=r"fails on the held-out points, of shape \(1, 6\)"):
        Probe(_network(), X, Y, loss=F.mse_loss, heldout=_normal(4, 6), heldout_targets=_normal(4, 2))


def test_a_table_taken_for_samples_is_named():
    model = Own(lambda m, x, p: m.b(torch.tanh(m.a(x) + p).mean(1)), a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    x, table = _normal(3, 3, 4), _normal(3, 4)
    with pytest.raises(InputError, match=r"input 1 of shape \(3, 4\) was taken to hold one row per sample"):
        Probe(model, (x, table))
    assert Probe(model, x, forward=lambda m, x: m(x, table)).result().ok


def _hessian_ends(model, loss):
    """The loss of the user's own expression, and the ends of its Hessian's spectrum, by double backward."""
    parameters = list(model.parameters())
    value = loss(model(X), Y)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, parameters, create_graph=True)])
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    rows = [torch.cat([g.reshape(-1) for g in torch.autograd.grad(e, parameters, **options)]) for e in gradient]
    values = np.linalg.eigvalsh(torch.stack(rows).numpy())
    return float(value), float(values[0]), float(values[-1])


@pytest.mark.parametrize("way", ["of the inputs", "of the loss"])
def test_a_penalty_on_gradients(way):
    model = _network()

    def loss(outputs, targets):
        value = F.mse_loss(outputs, targets)
        if way == "of the loss":
            slopes = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
            return value + 0.1 * sum(g.square().sum() for g in slopes)
        x = X.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return value + 0.1 * (slope.norm(dim=1) - 1).square().mean()

    value, smallest, largest = _hessian_ends(model, loss)
    result = Probe(model, X, Y, loss=loss).result()
    assert result.ok, result.message
    assert result.loss[0] == pytest.approx(value, rel=1e-5)
    scale = max(abs(smallest), abs(largest))
    assert result.hessian[0].smallest[0] == pytest.approx(smallest, abs=1e-4 * scale)
    assert result.hessian[0].largest[-1] == pytest.approx(largest, abs=1e-4 * scale)
    assert all(p.grad is None for p in model.parameters())


def test_a_forward_that_is_a_gradient():
    """A Hamiltonian network: its outputs are the gradient of an energy by its inputs."""

    def forward(model, x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(model.energy(x).square().sum(), x, create_graph=True)[0]

    _check_kernel(Own(forward, energy=_network()), X, targets=X)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_floating_point_type_that_changes_in_training(kind):
    model = _network()
    probe = Probe(model, X, Y, loss=F.mse_loss, schedule="linear:1")
    model.to(kind)
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    probe.step()
    result = probe.result()
    assert result.ok, result.message
    assert result.kernel_trace[1] == pytest.approx(np.trace(_kernel(model.float(), (X,))), rel=1e-5)
    assert any("type changed: measured in float32" in note for note in result.unhandled)


def test_gradient_hooks_on_parameters_are_noted():
    model = _network()
    expected = np.trace(_kernel(model, (X,)))
    model[0].weight.register_hook(lambda g: g * 0)
    result = Probe(model, X).result()
    assert result.kernel_trace[0] == pytest.approx(expected, rel=1e-5)
    assert any("gradient hooks on 0.weight are not run" in note for note in result.unhandled)


def test_measuring_does_not_import_torchs_compiler():
    """torch wraps a dispatch mode in a function whose first call imports the compiler, which takes seconds."""
    from featurephase.probe.functional import Precision
    from featurephase.probe.memory import Held

    for mode in (Held, Precision):
        assert not hasattr(mode.__torch_dispatch__, "__wrapped__")


def test_a_large_sparse_buffer_is_never_made_dense():
    """A graph of a million nodes, of which one edge changes: its dense form would take terabytes."""
    nodes = 10**6

    def graph(weight):
        return torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.tensor([weight]), (nodes, nodes))

    model = _body(lambda m, x: m.b(torch.tanh(m.a(x))) * m.graph.coalesce().values())
    model.register_buffer("graph", graph(1.0))
    probe = Probe(model, X)
    start = probe.result().kernel_trace[0]
    model.graph = graph(3.0)
    probe.record(1)
    result = probe.result()
    assert result.kernel_trace[1] == pytest.approx(9 * start, rel=1e-5)
    assert result.mechanisms.statistics == pytest.approx(np.log(9), rel=1e-4)
