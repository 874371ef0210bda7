"""Faults that the start hides, and what a loss, an optimiser or a set of batches brings along."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from featurephase.foundation.errors import InputError  # noqa: E402
from featurephase.probe import Probe  # noqa: E402

from .architectures import Own  # noqa: E402

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")

X = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
Y = torch.randn(8, 2, generator=torch.Generator().manual_seed(2))


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, slope):
        return slope


def _layers(**more):
    torch.manual_seed(0)
    return {"a": nn.Linear(5, 6), "o": nn.Linear(6, 2), **more}


def _mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))


def _trained(model, steps=5, **options):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = Probe(model, X, Y, loss=F.mse_loss, hessian="none", **options)
    for _ in range(steps):
        optimiser.zero_grad()
        F.mse_loss(model(X), Y).backward()
        optimiser.step()
        probe.step()
    probe.close()
    return probe.result()


# ---- what a weight of 0 hides at the start


def test_samples_that_mix_once_a_gate_opens():
    def forward(m, x):
        h = torch.tanh(m.a(x))
        return m.o(h + m.gate * h.mean(0))

    result = _trained(Own(forward, **_layers(gate=nn.Parameter(torch.zeros(())))))
    assert result.status.kind == "not measured"
    assert "do not add up to those of the batch" in result.message  # so says the kernel, which comes before the outputs


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (_Sign.apply, "the backward of _Sign"),
        (lambda h: h + (torch.round(4 * h) / 4 - h).detach(), "goes around autograd"),
    ],
)
def test_a_backward_that_is_none_behind_a_head_of_zeros(between, words):
    parts = _layers()
    nn.init.zeros_(parts["o"].weight)
    result = _trained(Own(lambda m, x: m.o(between(m.a(x))), **parts))
    assert result.status.kind == "not measured"
    assert words in result.message


def test_what_is_switched_on_late_is_seen_at_the_end():
    model = Own(lambda m, x: m.o(_Sign.apply(m.a(x)) if m.sharp else torch.tanh(m.a(x))), **_layers(), sharp=False)
    probe = Probe(model, X, Y, loss=F.mse_loss, hessian="none")
    for _ in range(4):
        probe.step()
    model.sharp = True
    probe.step()
    probe.close()
    assert "the backward of _Sign" in probe.result().message


# ---- half precision


def _masked(x):
    return (x[:, :1] > 9).to(torch.bfloat16).float()  # nothing but zeros


def test_a_mask_in_half_precision_loosens_no_check():
    model = Own(lambda m, x: F.linear(torch.tanh(m.e(x)), m.e.weight.t()) + _masked(x), e=nn.Linear(5, 3))
    rows = [torch.autograd.grad(v, list(model.parameters()), retain_graph=True) for v in model(X).reshape(-1)]
    trace = sum(float(g.square().sum()) for row in rows for g in row)
    assert Probe(model, X, X, loss=F.mse_loss).result().kernel_trace[0] == pytest.approx(trace, rel=1e-5)
    for forward, words in (
        (lambda m, x: m.o(_Sign.apply(m.a(x))) + _masked(x), "the backward of _Sign"),
        (lambda m, x: m.o(torch.tanh(m.a(x - x.mean(0)))) + _masked(x), "depends on the other inputs"),
    ):
        with pytest.raises(InputError, match=words):
            Probe(Own(forward, **_layers()), X, Y, loss=F.mse_loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("squash", [torch.tanh, torch.relu, _Sign.apply])
def test_arithmetic_in_half_precision_is_measured_and_still_checked(dtype, squash):
    def layer(part, x):
        return F.linear(x, part.weight.to(dtype), part.bias.to(dtype))

    model = Own(lambda m, x: layer(m.o, squash(layer(m.a, x.to(dtype)))).float(), **_layers())
    if squash == _Sign.apply:
        with pytest.raises(InputError, match="the backward of _Sign"):
            Probe(model, X, Y, loss=F.mse_loss, hessian="none")
    else:
        assert Probe(model, X, Y, loss=F.mse_loss, hessian="none").result().ok


# ---- parameters


def test_two_parameters_in_one_memory_are_refused():
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Tanh(), nn.Linear(3, 5, bias=False))
    model[2].weight.data = model[0].weight.data.t()
    with pytest.raises(InputError, match=r"0\.weight and 2\.weight are two parameters in the same memory"):
        Probe(model, X, X, loss=F.mse_loss)
    flat = torch.randn(30)  # one buffer, each its own part of it: as in flattened or fused parameters
    model[0].weight.data, model[2].weight.data = flat[:15].view(3, 5), flat[15:].view(5, 3)
    assert Probe(model, X, X, loss=F.mse_loss).result().ok


def test_what_evaluation_mode_does_not_read_is_named():
    class Merged(nn.Linear):
        def __init__(self):
            super().__init__(5, 2)
            self.adapter = nn.Parameter(torch.ones(2, 5))

        def forward(self, x):
            return super().forward(x) + (x @ self.adapter.t() if self.training else 0.0)

    notes = Probe(Merged(), X, Y, loss=F.mse_loss).result().unhandled
    assert any(note.startswith("adapter: no output depends on them in evaluation mode") for note in notes)


def test_what_is_not_in_the_model_is_no_growth():
    scale = {"by": 1.0}
    model = Own(lambda m, x: m.m(x) * scale["by"], m=_mlp())
    probe = Probe(model, X, Y, loss=F.mse_loss, hessian="none")
    scale["by"] = 2.0
    probe.step()
    found = probe.result().mechanisms
    assert float(found.statistics) == pytest.approx(2 * np.log(2), rel=1e-4)
    assert float(found.growth) == float(found.alignment) == 0.0


# ---- losses


class _Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(2))

    def forward(self, o, t):
        self.centre.mul_(0.9).add_(0.1 * o.detach().mean(0))
        return F.mse_loss(o - self.centre, t)


def test_a_loss_with_a_state_is_refused_and_left_alone():
    loss = _Centred()
    with pytest.raises(InputError, match="two evaluations of the loss at the same weights differ"):
        Probe(_mlp(), X, Y, loss=loss)
    assert not loss.centre.any()
    with pytest.raises(InputError, match="draws random numbers"):
        Probe(_mlp(), X, Y, loss=lambda o, t: F.mse_loss(o + 0.1 * torch.randn_like(o), t))


def test_what_a_loss_or_a_forward_reads_is_left_alone():
    teacher = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    calls = []

    def forward(model, x):
        calls.append(1)
        return model(x)

    mean = teacher[1].running_mean.clone()
    result = Probe(_mlp(), X, Y, loss=lambda o, t: F.mse_loss(o, teacher(X).detach()), forward=forward).result()
    assert result.ok
    assert torch.equal(teacher[1].running_mean, mean)
    assert calls == []


# ---- optimisers


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam", "Adafactor"])
def test_decay_beside_the_loss_is_refused(name):
    model = _mlp()
    options = {} if name == "Adafactor" else {"decoupled_weight_decay": True}
    optimiser = getattr(torch.optim, name)(model.parameters(), lr=0.01, weight_decay=1.0, **options)
    with pytest.raises(InputError, match=f"{name} shrinks the weights beside the loss"):
        Probe(model, X, Y, loss=F.mse_loss, weight_decay=optimiser)


def test_an_optimiser_of_another_model_is_refused():
    for key in ("rates", "weight_decay"):
        optimiser = torch.optim.SGD(_mlp().parameters(), lr=0.1, weight_decay=1.0)
        with pytest.raises(InputError, match=f"{key}: the optimiser holds none of the model's parameters"):
            Probe(_mlp(), X, Y, loss=F.mse_loss, **{key: optimiser})


def test_one_group_at_rate_zero_is_no_warm_up():
    model = _mlp()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
    optimiser = torch.optim.SGD(groups, lr=0.01)
    torch.optim.lr_scheduler.LambdaLR(optimiser, [lambda k: 0.0, lambda k: 0.5])
    given = {"0.weight": 0.0, "0.bias": 0.0, "2.weight": 0.005, "2.bias": 0.005}
    by_name, by_optimiser = (Probe(model, X, Y, rates=rates).result() for rates in (given, optimiser))
    assert by_optimiser.kernel_trace[0] == by_name.kernel_trace[0]


# ---- a data set in batches

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 2, 0, 0, 2])
MANY = torch.randn(10, 5, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("labels", "loss"),
    [
        (LABELS, nn.CrossEntropyLoss(reduction="sum")),
        (torch.where(torch.arange(10) % 3 == 0, -100, LABELS), nn.CrossEntropyLoss()),
        (LABELS, nn.CrossEntropyLoss(weight=torch.tensor([5.0, 1.0, 0.1]))),
    ],
    ids=["sum", "ignored labels", "class weights"],
)
def test_a_loss_that_is_no_mean_has_no_hessian_over_several_batches(labels, loss):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    with pytest.raises(InputError, match="not the mean over its samples"):
        Probe(model, X, LABELS[:8], loss=loss, hessian_data=DataLoader(TensorDataset(MANY, labels), batch_size=4))
    whole = Probe(model, X, LABELS[:8], loss=loss, hessian_data=[(MANY, labels)]).result()
    assert whole.ok
    mean = nn.CrossEntropyLoss()
    assert Probe(model, X, LABELS[:8], loss=mean, hessian_data=[(MANY[:4], LABELS[:4]), (MANY[4:], LABELS[4:])])


def test_a_data_set_that_draws_is_the_same_at_every_pass_and_left_alone():
    class Noisy(torch.utils.data.Dataset):
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __len__(self):
            return 8

        def __getitem__(self, i):
            return X[i] + torch.as_tensor(self.rng.normal(size=5), dtype=torch.float32), Y[i]

    data = Noisy()
    before = str(data.rng.bit_generator.state)
    assert Probe(_mlp(), X, Y, loss=F.mse_loss, hessian_data=DataLoader(data, batch_size=4)).result().ok
    assert str(data.rng.bit_generator.state) == before

    class Unrepeatable:
        seen = 0

        def __iter__(self):
            self.seen += 1
            yield from ((X[rows] + self.seen, Y[rows]) for rows in (slice(4), slice(4, 8)))

    with pytest.raises(InputError, match="a second pass gives other data"):
        Probe(_mlp(), X, Y, loss=F.mse_loss, hessian_data=Unrepeatable())
