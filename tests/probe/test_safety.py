"""Nothing is left behind in the model or in the random state, bit for bit; and what cannot be measured is refused."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from featurephase.foundation.errors import InputError  # noqa: E402
from featurephase.probe import Probe  # noqa: E402

torch.set_num_threads(1)
cross_entropy = nn.functional.cross_entropy


def _noisy_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.3),
        nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3),
    )  # fmt: skip


def _train(model, probe_options, steps=25):
    """Train with momentum, dropout and batch norm; with or without a probe. Returns all there is to compare."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is what is tested
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(64, 6, generator=generator), torch.randint(0, 3, (64,), generator=generator)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    probe = (
        None
        if probe_options is None
        else Probe(model, x[:16], y[:16], loss=cross_entropy, rates=optimiser, **probe_options)
    )
    seen = []
    handle = model[0].register_forward_hook(lambda *_: seen.append(1))
    for _ in range(steps):
        optimiser.zero_grad()
        rows = torch.randperm(64)[:32]
        cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
        if probe is not None:
            probe.step()
    if probe is not None:
        probe.close()
    handle.remove()
    draws = (torch.rand(3), random.random(), np.random.rand())  # noqa: NPY002
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "gradients": [p.grad.clone() for p in model.parameters()],
        "draws": draws,
        "hook calls": len(seen),
        "modes": [m.training for m in model.modules()],
        "hooks": [[len(getattr(m, k)) for k in vars(m) if k.endswith("hooks")] for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad_fn": [p.grad_fn for p in model.parameters()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
    }


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "linear:1", "hessian": "all", "telescope_every": 1},
        {"schedule": "logarithmic", "kernel": "sketch", "draws": 8, "dtype": torch.float64},
    ],
    ids=["everything", "sketch"],
)
def test_training_is_the_same_bit_for_bit(options):
    plain, probed = _train(_noisy_network(), None), _train(_noisy_network(), options)
    for key, value in plain["state"].items():
        assert torch.equal(value, probed["state"][key]), key
    for a, b in zip(plain["gradients"], probed["gradients"], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(plain["draws"][0], probed["draws"][0])
    for key in ("hook calls", "modes", "hooks", "requires_grad", "grad_fn", "attributes"):
        assert plain[key] == probed[key], key
    assert plain["draws"][1:] == probed["draws"][1:]


def test_modes_are_kept_even_when_mixed():
    model = _noisy_network()
    model[1].eval()  # the user froze the batch norm
    before = [m.training for m in model.modules()]
    grads = [p.grad for p in model.parameters()]
    default = torch.get_default_dtype()
    Probe(model, torch.randn(4, 6))
    assert [m.training for m in model.modules()] == before
    assert [p.grad for p in model.parameters()] == grads == [None] * len(grads)
    assert torch.get_default_dtype() == default
    assert torch.is_grad_enabled()


def test_works_inside_no_grad_and_inference_mode():
    x = torch.randn(4, 6)
    expected = Probe(_noisy_network(), x).result().kernel_trace
    with torch.no_grad():
        np.testing.assert_array_equal(Probe(_noisy_network(), x).result().kernel_trace, expected)
    model = _noisy_network()
    with torch.inference_mode():
        np.testing.assert_array_equal(Probe(model, x.clone()).result().kernel_trace, expected)
        assert torch.is_inference_mode_enabled()


def test_same_seed_same_numbers():
    first, second = (_result(_noisy_network(), kernel="sketch", draws=5, seed=4) for _ in range(2))
    assert first.kernel_trace_se[-1] > 0
    for key, value in first.to_dict().items():
        if key != "cost":
            assert value == second.to_dict()[key], key


def _result(model, inputs=None, targets=None, shift=0.1, **options):
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(2)) if inputs is None else inputs
    probe = Probe(model, inputs, targets, **options)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(shift)
    probe.record(1)
    probe.close()
    return probe.result()


def test_dropout_is_measured_without_its_noise():
    model = _noisy_network()
    quiet = copy.deepcopy(model)
    quiet[3] = nn.Identity()
    np.testing.assert_array_equal(_result(model).kernel_trace, _result(quiet).kernel_trace)


def test_dropout_that_ignores_the_mode_is_refused():
    class Noisy(nn.Linear):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.5, training=True)

    with pytest.raises(InputError, match="random numbers"):
        Probe(Noisy(6, 3), torch.randn(4, 6))


def test_batch_norm_without_statistics_is_refused():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1))
    with pytest.raises(InputError, match="running statistics"):
        Probe(model, torch.randn(4, 6))


def test_coupled_samples_are_refused():
    class Centred(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            return out - out.mean(0)

    with pytest.raises(InputError, match="depends on the other inputs"):
        Probe(Centred(6, 3), torch.randn(4, 6))


def test_frozen_parameters_stand_still_and_are_named():
    model = _noisy_network()
    model[0].weight.requires_grad_(False)
    result = _result(model)
    assert result.cost["parameters"] == sum(p.numel() for p in model.parameters()) - 96
    assert any("frozen" in note and "0.weight" in note for note in result.unhandled)
    assert result.layers[0]["movement"][-1] == 0
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(InputError, match="none requires a gradient"):
        Probe(model, torch.randn(4, 6))


def test_tied_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)))

    result = _result(Tied())
    assert result.cost["parameters"] == 36
    assert [layer["name"] for layer in result.layers] == ["a", "b"]
    assert len(result.pairs) == 1


def test_no_labels_and_one_sample():
    result = _result(_noisy_network(), torch.randn(1, 6), loss=cross_entropy)
    assert result.ok
    assert np.isnan(result.label_alignment).all()
    assert np.isnan(result.loss).all()
    assert result.hessian == ()
    assert any("no loss or no targets" in note for note in result.unhandled)
    labelled = _result(_noisy_network(), torch.randn(1, 6), torch.tensor([1]), loss=cross_entropy)
    assert np.isfinite(labelled.label_alignment).all()
    assert len(labelled.hessian) == 2


def test_norms_skips_and_attention_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(6, 6) for _ in range(4))
            self.norm = nn.LayerNorm(6)
            self.attention = nn.MultiheadAttention(6, 1, batch_first=True)
            self.tail = nn.Sequential(nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 2))

        def forward(self, x):
            h = torch.relu(self.a(x))
            h = h + torch.relu(self.b(h))
            h = self.c(h)
            h = self.d(self.norm(h))
            h = self.attention(*3 * (h[:, None],), need_weights=False)[0][:, 0]
            return self.tail(h)

    result = _result(Net())
    pairs = [(pair["lower"], pair["upper"]) for pair in result.pairs]
    assert pairs == [("a", "b"), ("tail.0", "tail.2")]
    text = "\n".join(result.unhandled)
    assert "a + b -> c: a skip" in text
    assert "c -> d: a normalisation in between" in text
    assert "norm (LayerNorm): no alignment is defined" in text
    assert "-> tail.0" in text
    assert "attention (MultiheadAttention)" in text


def test_convolutions_pair_over_channels():
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    result = _result(model, torch.randn(3, 1, 8, 8))
    weights = [p.detach().numpy() for p in model.parameters() if p.dim() > 1]
    assert [pair["units"] for pair in result.pairs] == [5, 4]

    def brute(upper, lower, channels):
        upper = upper.reshape(upper.shape[0], channels, -1)
        product = np.einsum("ocp,ci->opi", upper, lower.reshape(channels, -1))
        return np.linalg.norm(product) / np.linalg.norm(upper) / np.linalg.norm(lower)

    assert result.pairs[0]["alignment"][-1] == pytest.approx(brute(weights[1], weights[0], 5), rel=1e-5)
    assert result.pairs[1]["alignment"][-1] == pytest.approx(brute(weights[2], weights[1], 4), rel=1e-5)
    upper = weights[2].reshape(3, 4, 4).transpose(0, 2, 1).reshape(-1, 4)
    cosine = abs(np.linalg.svd(upper)[2][0] @ np.linalg.svd(weights[1].reshape(4, -1))[0][:, 0])
    assert result.pairs[1]["singular_cosine"][-1] == pytest.approx(cosine, rel=1e-4)


def test_divergence_is_reported():
    model = _noisy_network()
    result = _result(model, shift=float("inf"))
    assert result.status == "diverged at step 1"
    assert not result.ok
    assert result.times.tolist() == [0.0]


def test_subspace_overlap():
    """The overlap with a basis that holds the whole space is 1; with the bias of the last layer it is what it is."""
    x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(2)), torch.arange(8) % 3
    model = nn.Linear(6, 3)
    whole = _result(model, x, y, loss=cross_entropy, subspace=np.eye(21)[:, ::-1])
    np.testing.assert_allclose(whole.hessian[0]["largest_overlap"], 1.0, rtol=1e-5)
    bias = _result(model, x, y, loss=cross_entropy, subspace={"bias": np.eye(3)})
    assert 0 < bias.hessian[0]["largest_overlap"][-1] < 1
    with pytest.raises(InputError, match="unknown parameters"):
        Probe(model, x, subspace={"weights": np.eye(3)})
    with pytest.raises(InputError, match="linearly independent"):
        Probe(model, x, subspace=np.ones((21, 2)))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"schedule": "sometimes"}, "logarithmic"),
        ({"schedule": "linear:0"}, "linear"),
        ({"schedule": [-1]}, "steps"),
        ({"kernel": "approximate"}, "sketch"),
        ({"hessian": "often"}, "ends"),
        ({"rates": {"w": 1.0}}, "unknown parameters"),
        ({"rates": {"0.weight": -1.0}}, "not negative"),
        ({"hessians": "all"}, "unknown option"),
        ({"dtype": torch.float16}, "float32 or torch.float64"),
        ({"rates": 0.1}, "optimiser"),
        ({"targets": torch.arange(8)}, "classes"),
        ({"targets": torch.zeros(8, 2)}, "values a sample"),
        ({"targets": torch.zeros(5)}, "inputs"),
        ({"effective_parameters": True}, "torch.optim.SGD"),
        ({"eigenvalues": 0}, "at least 1"),
        ({"draws": 2}, "at least 3"),
    ],
)
def test_bad_options_are_refused(options, word):
    with pytest.raises(InputError, match=word):
        Probe(_noisy_network(), torch.randn(8, 6), **options)


def test_bad_models_and_inputs_are_refused():
    with pytest.raises(InputError, match=r"nn\.Module"):
        Probe(lambda x: x, torch.randn(8, 6))
    with pytest.raises(InputError, match="fails on the probe batch"):
        Probe(_noisy_network(), torch.randn(8, 5))
    with pytest.raises(InputError, match="expected a tensor"):
        Probe(_noisy_network(), {"x": "one"})
    with pytest.raises(InputError, match="not finite"):
        Probe(_noisy_network(), torch.full((8, 6), float("nan")))
    with pytest.raises(InputError, match="run the model once"):
        Probe(nn.LazyLinear(3), torch.randn(8, 6))


def test_effective_parameters_need_squared_loss():
    model = nn.Linear(6, 3)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="squared loss"):
        Probe(
            model,
            torch.randn(8, 6),
            torch.arange(8) % 3,
            loss=cross_entropy,
            rates=optimiser,
            effective_parameters=True,
        )


def test_times_must_increase():
    probe = Probe(_noisy_network(), torch.randn(8, 6), schedule="demand")
    probe.record(3)
    with pytest.raises(InputError, match="must increase"):
        probe.record(2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu():
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(2))
    here = _result(_noisy_network(), x, dtype=torch.float64)
    there = _result(_noisy_network().cuda(), x.cuda(), dtype=torch.float64)
    np.testing.assert_allclose(there.kernel_change, here.kernel_change, rtol=1e-8)
