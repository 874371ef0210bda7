"""Situations that people meet: a right number beside plain torch, or a refusal or status that names the cause."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from featurephase.foundation.errors import InputError  # noqa: E402
from featurephase.probe import Probe  # noqa: E402

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")


def _data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 5, generator=generator), torch.randn(16, 1, generator=generator)


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def _trace(model, x):
    """The kernel's trace by one call of autograd per output, on a copy in evaluation mode."""
    model = copy.deepcopy(model).eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    rows = [torch.autograd.grad(value, parameters, **options) for value in model(x.clone()).reshape(-1)]
    return sum(float(g.double().square().sum()) for row in rows for g in row)


def _eigenvalues(loss, model):
    """All eigenvalues of the Hessian of ``loss()``, by double backward on the user's own expression."""
    parameters = list(model.parameters())
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(), parameters, create_graph=True)])
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    rows = [torch.cat([g.reshape(-1) for g in torch.autograd.grad(e, parameters, **options)]) for e in gradient]
    return np.linalg.eigvalsh(torch.stack(rows).double().numpy())


def _check_loss(model, x, y, loss):
    """Loss and Hessian of a probe are those of the user's own expression."""
    expected = _eigenvalues(lambda: loss(model(x), y), model)
    result = Probe(model, x, y, loss=loss).result()
    assert result.ok, result.message
    assert result.loss[0] == pytest.approx(float(loss(model(x), y)), rel=1e-6)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result.hessian[0].largest, expected[-3:], atol=1e-5 * scale)
    np.testing.assert_allclose(result.hessian[0].smallest, expected[:3], atol=1e-5 * scale)
    return result


@pytest.mark.parametrize("way", ["model.parameters()", "a list made before", "the optimiser's groups"])
def test_a_penalty_on_the_weights_is_part_of_the_hessian(way):
    model, (x, y) = _network(), _data()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    listed = list(model.parameters())
    weights = {
        "model.parameters()": model.parameters,
        "a list made before": lambda: listed,
        "the optimiser's groups": lambda: optimiser.param_groups[0]["params"],
    }[way]
    _check_loss(model, x, y, lambda o, t: F.mse_loss(o, t) + 0.5 * sum(p.square().sum() for p in weights()))


def test_a_loss_may_read_what_a_hook_stored():
    model, (x, y) = _network(), _data()
    stored = {}
    model[1].register_forward_hook(lambda module, args, output: stored.__setitem__("h", output))
    result = _check_loss(model, x, y, lambda o, t: F.mse_loss(o, t) + 0.3 * stored["h"].abs().pow(3).mean())
    assert any("hooks on 1 change the outputs or the loss" in note for note in result.unhandled)
    model(x[:3])
    mine = stored["h"]
    Probe(model, x, y, loss=lambda o, t: F.mse_loss(o, t) + stored["h"].mean())
    assert stored["h"] is mine


def test_several_heads_and_a_dictionary_of_targets():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 1)

        def forward(self, x):
            return {"class": self.a(x), "value": self.b(x)}

    x, y = _data()
    targets = {"class": torch.arange(16) % 3, "value": y}
    _check_loss(
        Heads(), x, targets,
        lambda o, t: F.cross_entropy(o["class"], t["class"]) + F.mse_loss(o["value"], t["value"]),
    )  # fmt: skip


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class _Slightly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2.02 * g


class _FirstOrderOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].detach().cos()


class _With(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, 8), nn.Linear(8, 1), function

    def forward(self, x):
        return self.b(self.function(self.a(x)))


@pytest.mark.parametrize("function", [_Rounded, _Slightly])
def test_a_backward_that_is_no_derivative_is_refused_by_name(function):
    with pytest.raises(InputError, match=f"backward of {function.__name__} is not the derivative"):
        Probe(_With(function.apply), _data()[0])


def test_a_detached_part_is_refused_by_its_parameter():
    with pytest.raises(InputError, match=r"gradient of a\.\w+ is not the derivative .*detach"):
        Probe(_With(lambda h: h / h.norm(dim=1, keepdim=True).detach()), _data()[0])


def test_a_wrong_second_derivative_is_a_status_with_the_functions_name():
    model, (x, y) = _With(_FirstOrderOnly.apply), _data()
    result = Probe(model, x, y, loss=F.mse_loss).result()
    assert result.kernel_trace[0] == pytest.approx(_trace(model, x), rel=1e-5)
    assert result.status == "no Hessian eigenvalues"
    assert result.hessian[0].status == "wrong second derivative"
    assert "_FirstOrderOnly" in result.hessian[0].message
    assert np.isnan(result.hessian[0].largest).all()
    assert np.isfinite(result.telescoping.output_change).all()


def test_a_singular_second_derivative_is_a_status():
    model, (x, _) = nn.Linear(5, 1), _data()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    result = Probe(model, x, torch.zeros(16, 1), loss=lambda o, t: (o - t).norm()).result()
    assert result.hessian[0].status == "not finite"
    assert np.isfinite(result.kernel_trace).all()


@pytest.mark.parametrize("kernel", ["exact", "sketch"])
@pytest.mark.parametrize("rate", [10.0, 1e3, 1e10, 1e30, 1e38])
def test_divergence_ends_the_recording_and_not_the_loop(kernel, rate):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 1))
    x, y = _data()
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    options = {"loss": F.mse_loss, "schedule": "linear:1", "kernel": kernel, "hessian": "all", "draws": 8}
    with Probe(model, x, y, **options) as probe:
        for _ in range(12):
            optimiser.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimiser.step()
            probe.step()
    result = probe.result()
    assert result.status.kind == "diverged"
    assert result.verdict.phase == "undetermined"
    assert result.table()


def _noticed(break_it, build=_network):
    model, (x, _) = build(), _data()
    probe = Probe(model, x, schedule="linear:1")
    break_it(model)
    probe.step()
    probe.step()
    probe.close()
    return probe.result()


class _Fragile(nn.Linear):
    broken = False

    def forward(self, x):
        if self.broken:
            raise ValueError("out of order")
        return super().forward(x)


@pytest.mark.parametrize(
    ("break_it", "build", "words"),
    [
        (lambda m: setattr(m, "broken", True), lambda: _Fragile(5, 1), "ValueError: out of order"),
        (lambda m: prune.l1_unstructured(m[0], "weight", 0.5), _network, "0.weight_orig"),
        (lambda m: m.append(nn.Linear(1, 1)), _network, "3.weight"),
    ],
    ids=["an error", "pruned later", "grown"],
)
def test_nothing_is_raised_in_the_loop(break_it, build, words):
    result = _noticed(break_it, build)
    assert result.status.kind == "not measured"
    assert words in result.message
    assert result.verdict.phase == "undetermined"
    assert len(result.times) == 1


def test_a_forward_that_keeps_a_state_is_told_from_chance():
    class Counting(nn.Linear):
        seen: list

        def forward(self, x):
            self.seen.append(1)
            return super().forward(x) * len(self.seen)

    model = Counting(5, 1)
    model.seen = []
    with pytest.raises(InputError, match="changes a state of its own"):
        Probe(model, _data()[0])
    assert model.seen == []


def test_nested_and_scripted_are_refused_in_words():
    with pytest.raises(InputError, match="padded"):
        Probe(_network(), torch.nested.nested_tensor([torch.randn(5), torch.randn(3)]))
    with pytest.raises(InputError, match="TorchScript"):
        Probe(torch.jit.script(_network()), _data()[0])
    with pytest.raises(InputError, match="depends on the other inputs"):  # sequence first: time is no sample
        Probe(nn.GRU(3, 4), torch.randn(6, 4, 3), forward=lambda m, x: m(x)[0])


def test_a_forward_of_the_users_and_shared_inputs():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(5, 2)

        def forward(self, x, adjacency):
            return self.f(x @ adjacency)

    model, (x, _), adjacency = Graph(), _data(), torch.randn(5, 5)
    expected = _trace(nn.Sequential(model.f), x @ adjacency)
    shared = Probe(model, (x, adjacency)).result()
    own = Probe(model, x, forward=lambda m, inputs: m(inputs, adjacency)).result()
    assert shared.kernel_trace[0] == pytest.approx(expected, rel=1e-5)
    assert own.kernel_trace[0] == pytest.approx(expected, rel=1e-5)


def _moved(build, change, inputs):
    """The budget when a model is changed once, by hand."""
    torch.manual_seed(0)
    model = build()
    start = _trace(model, inputs)
    probe = Probe(model, inputs, schedule="demand")
    with torch.no_grad():
        change(model)
    probe.record(1)
    parts = probe.result().mechanisms
    assert parts.log_kernel_ratio == pytest.approx(np.log(_trace(model, inputs) / start), abs=1e-5)
    return parts


class _Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(x[:, None].expand(-1, 3, -1))[0][:, -1])


@pytest.mark.parametrize("factor", [1.5, -2.0, 0.0])
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (_network, "0.weight"),
        (_network, "0.bias"),
        (_Recurrent, "body.weight_hh_l0"),
        (lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2)), "1.weight"),
        (lambda: nn.Sequential(nn.Linear(5, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2)), "0.weight"),
    ],
    ids=["weight", "bias", "recurrent", "norm", "below a norm"],
)
def test_a_rescaled_parameter_never_turns(build, name, factor):
    parts = _moved(build, lambda m: m.get_parameter(name).mul_(factor), _data()[0])
    assert abs(parts.alignment) + abs(parts.disalignment) <= 1e-9
    whole = parts.growth + parts.shrinkage + parts.unattributed
    assert whole == pytest.approx(parts.log_kernel_ratio, abs=1e-6)


class _Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.temperature = nn.Linear(5, 2), 1.0
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        return self.f(x / self.scale) * self.temperature


@pytest.mark.parametrize(
    "change", [lambda m: m.scale.fill_(2.0), lambda m: setattr(m, "temperature", 3.0)], ids=["buffer", "attribute"]
)
def test_what_is_not_trained_has_its_own_part(change):
    parts = _moved(_Tempered, change, _data()[0])
    assert parts.statistics == pytest.approx(parts.log_kernel_ratio, abs=1e-6)


def test_statistics_and_weights_are_told_apart_when_both_move():
    def change(model):
        model.scale.fill_(2.0)
        model.f.weight.mul_(3.0)
        model.f.bias.mul_(3.0)

    parts = _moved(_Tempered, change, _data()[0])
    # A linear model: its kernel does not depend on its weights, however much the outputs move with them.
    assert parts.statistics == pytest.approx(parts.log_kernel_ratio, abs=1e-6)
    assert parts.growth + parts.shrinkage == pytest.approx(0.0, abs=1e-6)


def test_parameters_that_thaw_are_counted_from_then_on():
    model, (x, y) = _network(), _data()
    model[0].requires_grad_(False)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, x, y, loss=F.mse_loss, schedule="linear:5") as probe:
        for step in range(20):
            if step == 7:
                model[0].requires_grad_(True)
            optimiser.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimiser.step()
            probe.step()
    result = probe.result()
    assert result.ok
    assert result.kernel_trace[-1] == pytest.approx(_trace(model, x), rel=1e-5)
    assert any("0.weight, 0.bias thawed: counted from then on (step 10)" in note for note in result.unhandled)
    assert result.mechanisms.unattributed > 0.1
    assert result.mechanisms.statistics == 0


def test_rates_that_warm_up():
    model, (x, _) = _network(), _data()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: step / 10)
    result = Probe(model, x, rates=optimiser).result()
    assert result.kernel_trace[0] == pytest.approx(0.1 * _trace(model, x), rel=1e-5)
    assert any("initial_lr" in note for note in result.unhandled)
    still = Probe(model, x, rates=torch.optim.SGD(model.parameters(), lr=0.0)).result()
    assert still.kernel_trace[0] == pytest.approx(_trace(model, x), rel=1e-5)
    assert any("equal rates" in note for note in still.unhandled)
    with pytest.raises(InputError, match="every trainable parameter has rate 0"):
        Probe(model, x, rates=dict.fromkeys(dict(model.named_parameters()), 0.0))


def test_class_weights_follow_the_precision_of_the_measurement():
    model, (x, _) = _network(), _data()
    model[2] = nn.Linear(8, 3)
    y, weight = torch.arange(16) % 3, torch.tensor([1.0, 2.0, 5.0])
    wide = copy.deepcopy(model).double()
    expected = float(F.cross_entropy(wide(x.double()), y, weight=weight.double()))
    for loss in (nn.CrossEntropyLoss(weight=weight), lambda o, t: F.cross_entropy(o, t, weight=weight)):
        result = Probe(model, x, y, loss=loss, dtype=torch.float64).result()
        assert result.ok
        assert result.loss[0] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(InputError, match=r"one number, not shape \(16,\)"):
        Probe(model, x, y, loss=nn.CrossEntropyLoss(reduction="none"))


def test_compiled_and_parallel_wrappers_are_looked_through():
    model, (x, _) = _network(), _data()
    for wrapped in (torch.compile(model, backend="eager"), nn.DataParallel(model)):
        assert Probe(wrapped, x).result().kernel_trace[0] == pytest.approx(_trace(model, x), rel=1e-5)


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch without gloo")
def test_a_distributed_wrapper_is_looked_through(tmp_path):
    """One process, trained through the wrapper: the probe sees the weights that the wrapper's steps move."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model, (x, _) = _network(), _data()
        wrapped = nn.parallel.DistributedDataParallel(model)
        probe = Probe(wrapped, x)
        optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            wrapped(x).square().mean().backward()
            optimiser.step()
        probe.record(3)
        traces = probe.result().kernel_trace
        assert traces[-1] == pytest.approx(_trace(model, x), rel=1e-5)
        assert traces[-1] != pytest.approx(traces[0], rel=1e-3)
    finally:
        dist.destroy_process_group()
