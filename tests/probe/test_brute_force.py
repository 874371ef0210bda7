"""Kernel, Hessian and telescoping quantities against brute force: torch.func Jacobians and dense Hessians."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from featurephase.probe import Probe  # noqa: E402
from featurephase.probe.derivatives import Jacobian  # noqa: E402
from featurephase.probe.functional import TorchNetwork  # noqa: E402
from featurephase.probe.hessian import Objective, Spectrum, extreme_eigenvalues  # noqa: E402
from featurephase.probe.kernel import KernelMeter, exact_kernel  # noqa: E402
from featurephase.probe.trees import Batch  # noqa: E402

torch.set_num_threads(1)


class Tied(nn.Module):
    """One weight used twice, and a parameter of the module's own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.tensor([0.7, 1.3, -0.4, 0.9, 1.1]))
        self.outer = nn.Linear(5, 5, bias=False)
        self.outer.weight = self.inner.weight

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)) * self.scale)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        h = self.one(x)
        return self.out(h + nn.functional.gelu(self.two(torch.tanh(h))))


class Attention(nn.Module):
    """Samples stay in the first dimension here, but the sequence passes through transposed layers."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        tokens = self.mix(x.reshape(x.shape[0], 5, 4).transpose(0, 1)).transpose(0, 1)
        return self.out(self.attention(tokens, tokens, tokens, need_weights=False)[0]).mean(1)


def _image(*layers):
    return nn.Sequential(nn.Unflatten(1, (2, 5, 4)), *layers)


def _networks():
    generator = torch.Generator().manual_seed(5)
    frozen = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))
    frozen[0].bias.requires_grad_(False)
    transposed = nn.Sequential(nn.Linear(5, 6), nn.Softplus(), nn.Linear(6, 2))
    transposed[0].weight = nn.Parameter(torch.randn(5, 6, generator=generator).T)  # not contiguous
    normed = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    normed[1].running_mean.normal_(generator=generator)
    normed[1].running_var.uniform_(0.5, 2.0, generator=generator)
    return {
        "linear": (nn.Linear(5, 3), 5),
        "mlp-relu-inplace": (nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)), 5),
        "mlp-deep": (nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 1)), 5),
        "dropout": (nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 2)), 5),
        "batch-norm": (normed, 5),
        "layer-norm": (nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)), 5),
        "frozen": (frozen, 5),
        "non-contiguous": (transposed, 5),
        "tied": (Tied(), 5),
        "layer-used-twice": (Twice(), 5),
        "residual": (Residual(), 5),
        "attention": (Attention(), 20),
        "parametrised": (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, 2)), 5
        ),
        "conv2d": (
            _image(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)), 40
        ),
        "conv2d-options": (
            _image(
                nn.Conv2d(2, 4, (2, 3), stride=2, dilation=(2, 1), padding=(1, 2), bias=False),
                nn.SiLU(), nn.Flatten(), nn.LazyLinear(2),
            ), 40
        ),
        "conv2d-same-even": (
            _image(nn.Conv2d(2, 3, (2, 4), padding="same"), nn.Tanh(), nn.Flatten(), nn.Linear(60, 2)), 40
        ),
        "conv2d-circular": (
            _image(
                nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Tanh(), nn.Flatten(), nn.Linear(60, 2)
            ), 40
        ),
        "conv2d-grouped": (
            _image(nn.Conv2d(2, 4, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2)), 40
        ),
        "conv1d": (
            nn.Sequential(
                nn.Unflatten(1, (2, 10)), nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2)
            ), 20
        ),
    }  # fmt: skip


NAMES = list(_networks())


def _prepared(name, dtype):
    torch.manual_seed(3)
    model, width = _networks()[name]
    model = model.to(dtype)
    inputs = torch.randn(5, width, dtype=dtype, generator=torch.Generator().manual_seed(1))
    model.eval()(inputs)  # lazy layers get their shapes
    return model.train(), inputs


def _brute_jacobian(model, inputs):
    """(N C, P), one backward pass per output, on the model itself; and the function for torch.func."""
    model = model.eval()
    parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    rest = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    rest |= dict(model.named_buffers())

    def function(values):
        return torch.func.functional_call(model, {**rest, **values}, (inputs,))

    leaves = {n: p.clone().requires_grad_() for n, p in parameters.items()}
    outputs = function(leaves).reshape(-1)
    rows = [torch.autograd.grad(value, list(leaves.values()), retain_graph=True) for value in outputs]
    flat = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
    return flat.double().numpy(), parameters, function


def _batch(inputs):
    return Batch.of(inputs, "inputs")


def _objective(inputs, targets):
    return Objective([(_batch(inputs), targets, 1.0)])


def _tolerance(dtype):
    """Sums of at most some thousand rounded products."""
    return 1e-5 if dtype == torch.float32 else 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel(name, dtype):
    model, inputs = _prepared(name, dtype)
    network = TorchNetwork(model)
    with network.isolated():
        found = exact_kernel(network, network.state(), _batch(inputs), block_bytes=1000)
    jacobian = _brute_jacobian(model, inputs)[0]
    expected = jacobian @ jacobian.T
    assert np.abs(found - expected).max() <= _tolerance(dtype) * np.abs(expected).max()


@pytest.mark.parametrize("name", NAMES)
def test_brute_force_is_what_torch_func_says(name):
    model, inputs = _prepared(name, torch.float64)
    jacobian, parameters, function = _brute_jacobian(model, inputs)
    found = torch.func.jacrev(function)(parameters)
    rows = torch.cat([found[n].reshape(jacobian.shape[0], -1) for n in parameters], 1).detach().numpy()
    assert np.abs(rows - jacobian).max() <= 1e-12 * np.abs(jacobian).max()


def test_kernel_with_rates_and_derived_quantities():
    model, inputs = _prepared("mlp-relu-inplace", torch.float64)
    rates = {"0.weight": 0.5, "0.bias": 2.0, "2.weight": 3.0, "2.bias": 0.0}
    labels = torch.tensor([0, 1, 2, 1, 0])
    probe = Probe(model, inputs, labels, rates=rates, hessian="none", schedule="demand", eigenvalues=4)
    weights = np.concatenate([np.full(p.numel(), rates[n]) for n, p in model.named_parameters()])
    before = _brute_jacobian(model, inputs)[0]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(9)))
    probe.record(1)
    result = probe.result()
    after = _brute_jacobian(model, inputs)[0]
    k0, k1 = (before * weights) @ before.T, (after * weights) @ after.T
    codes = (np.eye(3)[labels.numpy()] - 1 / 3).ravel()
    norm = np.linalg.norm
    assert result.kernel_change[1] == pytest.approx(norm(k1 - k0) / norm(k0), rel=1e-10)
    assert result.kernel_alignment[1] == pytest.approx((k1 * k0).sum() / norm(k1) / norm(k0), rel=1e-12)
    assert result.label_alignment[1] == pytest.approx(codes @ k1 @ codes / norm(k1) / (codes @ codes), rel=1e-12)
    assert result.kernel_trace[1] == pytest.approx(np.trace(k1), rel=1e-12)
    np.testing.assert_allclose(result.kernel_eigenvalues[1], np.linalg.eigvalsh(k1)[::-1][:4], rtol=1e-10)


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_push_and_pull(name, chunk):
    """Products with the Jacobian, whole or in chunks of two samples."""
    model, inputs = _prepared(name, torch.float64)
    network = TorchNetwork(model, chunk=chunk)
    state = network.state()
    jacobian = _brute_jacobian(model, inputs)[0]
    vector = np.random.default_rng(0).standard_normal(jacobian.shape[1])
    pieces = torch.split(torch.as_tensor(vector), [state.parameters[n].numel() for n in state.names])
    tangent = {n: p.reshape(state.parameters[n].shape) for n, p in zip(state.names, pieces, strict=True)}
    with network.isolated():
        products = Jacobian(network, state, _batch(inputs))
        pushed = products.push(tangent)
        dual = torch.as_tensor(np.random.default_rng(1).standard_normal(tuple(pushed.shape)))
        pulled = torch.cat([products.pull(dual)[n].reshape(-1) for n in state.names])
    scale = np.abs(jacobian).max() * np.abs(vector).sum()
    assert np.abs(pushed.numpy().ravel() - jacobian @ vector).max() <= 1e-13 * scale
    assert np.abs(pulled.numpy() - jacobian.T @ dual.numpy().ravel()).max() <= 1e-12 * scale


def _dense_hessian(model, inputs, targets, loss, check):
    _, parameters, function = _brute_jacobian(model, inputs)
    sizes = [p.numel() for p in parameters.values()]
    flat = torch.cat([p.reshape(-1) for p in parameters.values()])

    def value(vector):
        pieces = torch.split(vector, sizes)
        return loss(
            function({n: v.reshape(p.shape) for (n, p), v in zip(parameters.items(), pieces, strict=True)}),
            targets,
        )

    # Not torch.func.hessian: with layer norm it is not even symmetric (torch 2.13), while plain double backward
    # agrees with finite differences of the gradient, which are checked here for every network.
    matrix = torch.autograd.functional.hessian(value, flat)
    if check:
        gradient, step = torch.func.grad(value), 1e-5
        shifts = step * torch.eye(len(flat)).double()
        columns = torch.stack([(gradient(flat + d) - gradient(flat - d)) / (2 * step) for d in shifts])
        assert float((columns - matrix).abs().max()) <= 1e-5 * float(matrix.abs().max())
    return matrix.numpy()


@pytest.mark.parametrize("name", [n for n in NAMES if n != "parametrised"])
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "lanczos"])
def test_hessian(name, dense, monkeypatch):
    model, inputs = _prepared(name, torch.float64)
    network = TorchNetwork(model, loss=nn.functional.mse_loss)
    columns = network.evaluate(network.state(), _batch(inputs)).shape[1]
    targets = torch.randn(5, columns, generator=torch.Generator().manual_seed(2)).double()
    targets = targets.reshape(model(inputs).shape)
    with network.isolated():  # attention has second derivatives in its plain form only
        matrix = _dense_hessian(model, inputs, targets, nn.functional.mse_loss, check=dense)
    values, vectors = np.linalg.eigh(matrix)
    monkeypatch.setattr("featurephase.probe.hessian.DENSE", 10**6 if dense else 0)
    size = network.state().size
    subspace = np.linalg.qr(np.random.default_rng(4).standard_normal((size, 2)))[0]
    count = 2
    if size <= 2 * count + 2 and not dense:
        pytest.skip("too small for Lanczos")
    with network.isolated():
        found = extreme_eigenvalues(
            network, network.state(), _objective(inputs, targets), Spectrum(count, 1e-11, 10**5), subspace
        )
    scale = np.abs(values).max()
    assert found.status == "ok"
    assert np.abs(found["smallest"] - values[:count]).max() <= 1e-8 * scale
    assert np.abs(found["largest"] - values[-count:]).max() <= 1e-8 * scale
    negative = int((values < -1e3 * np.finfo(float).eps * scale).sum())
    if found["negative_is_lower_bound"]:
        assert found["negative"] <= negative
    else:
        assert found["negative"] == negative
    # Overlaps are those of an eigenvector, which a simple eigenvalue determines up to the residual over its gap.
    if values[-1] - values[-2] > 1e-3 * scale:
        expected = ((subspace.T @ vectors[:, -1]) ** 2).sum()
        assert found["largest_overlap"][-1] == pytest.approx(expected, abs=1e-6)


def test_wrong_second_derivatives_are_reported_not_used():
    """PyTorch's fused weight norm has an asymmetric "Hessian" (torch 2.13): its eigenvalues would mean nothing."""
    model, inputs = _prepared("parametrised", torch.float64)
    network = TorchNetwork(model, loss=nn.functional.mse_loss)
    targets = torch.ones(5, 2, dtype=torch.float64)
    with network.isolated():
        found = extreme_eigenvalues(network, network.state(), _objective(inputs, targets))
    assert found.status == "not symmetric"
    assert np.isnan(found["largest"]).all()


def test_telescoping_and_smoother():
    """Increments by dense Jacobians, and the smoother's recursion step by step, on full-batch gradient descent."""
    model, inputs = _prepared("mlp-relu-inplace", torch.float64)
    heldout = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    targets = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
    loss = nn.functional.mse_loss
    probe = Probe(
        model, inputs, targets, loss=loss, heldout=heldout, rates=optimiser, schedule="linear:1",
        hessian="none", effective_parameters=True,
    )  # fmt: skip
    both = torch.cat([inputs, heldout])

    def parameters():
        return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])

    start = telescoped = model(both).detach().numpy().ravel()
    first = _brute_jacobian(model, both)[0]
    theta0 = parameters()
    smooth = np.zeros((27, 15))
    train = slice(0, 15)
    for _ in range(8):
        jacobian, before = _brute_jacobian(model, both)[0], parameters()
        optimiser.zero_grad()
        loss(model(inputs), targets).backward()
        optimiser.step()
        probe.step()
        telescoped = telescoped + jacobian @ (parameters() - before)
        smooth = smooth + 0.2 * (2 / 15) * jacobian @ jacobian[train].T @ (np.eye(15) - smooth[train])
    result = probe.result()
    truth = model(both).detach().numpy().ravel()
    tail = slice(15, 27)
    moved = np.linalg.norm((truth - start)[tail])
    linear = start + first @ (parameters() - theta0)
    telescoping = result.telescoping
    assert telescoping["telescoping_error"][-1] == pytest.approx(
        np.linalg.norm((telescoped - truth)[tail]) / moved, rel=1e-8
    )
    assert telescoping["linearisation_error"][-1] == pytest.approx(
        np.linalg.norm((linear - truth)[tail]) / moved, rel=1e-8
    )
    assert telescoping["telescoping_error"][-1] < telescoping["linearisation_error"][-1]
    assert telescoping["effective_parameters_train"][-1] == pytest.approx(
        5 * (smooth[train] ** 2).sum(1).mean(), rel=1e-8
    )
    assert telescoping["effective_parameters_heldout"][-1] == pytest.approx(
        5 * (smooth[tail] ** 2).sum(1).mean(), rel=1e-8
    )


def test_smoother_of_a_linear_model_is_ridgeless_regression():
    """Linear in its parameters: telescoping is exact, and S tends to the projection on the features."""
    model, inputs = _prepared("linear", torch.float64)
    inputs, heldout = torch.randn(2, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    loss = nn.functional.mse_loss
    with Probe(
        model, inputs, targets, loss=loss, heldout=heldout, rates=optimiser, hessian="none", effective_parameters=True
    ) as probe:
        for _ in range(2000):
            optimiser.zero_grad()
            loss(model(inputs), targets).backward()
            optimiser.step()
            probe.step()
    telescoping = probe.result().telescoping
    assert telescoping["telescoping_error"][-1] < 1e-12
    assert telescoping["linearisation_error"][-1] < 1e-12
    design, other = (np.column_stack([x.numpy(), np.ones(12)]) for x in (inputs, heldout))
    hat = other @ np.linalg.pinv(design)
    assert telescoping["effective_parameters_train"][-1] == pytest.approx(6, rel=1e-6)
    assert telescoping["effective_parameters_heldout"][-1] == pytest.approx((hat**2).sum(), rel=1e-6)


@pytest.mark.parametrize("name", ["mlp-deep", "conv2d", "layer-norm"])
def test_sketch_within_its_errors(name):
    """Sketched quantities agree with the exact ones within 4 of their standard errors; the exact ones exactly."""
    model, inputs = _prepared(name, torch.float64)
    network = TorchNetwork(model)
    outputs = network.evaluate(network.state(), _batch(inputs))
    labels = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(3)).double()
    meters = {
        m: KernelMeter(network, _batch(inputs), labels, method=m, draws=256, count=3) for m in ("exact", "sketch")
    }
    with network.isolated():
        for meter in meters.values():
            meter.begin(network.state())
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.05).add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(9)).double())
        found = {m: meter.measure(network.state()) for m, meter in meters.items()}
    exact, sketch = found["exact"], found["sketch"]
    for key in ("change", "alignment", "label_alignment", "trace"):
        assert sketch[f"{key}_se"] > 0
        assert abs(sketch[key] - exact[key]) <= 4 * sketch[f"{key}_se"]
    np.testing.assert_allclose(sketch["eigenvalues"], exact["eigenvalues"], rtol=1e-5)


@pytest.mark.slow
def test_sketch_is_unbiased_and_its_errors_are_right():
    """Over 400 independent sketches the squared norm has no bias, and the errors have the right size."""
    model, inputs = _prepared("mlp-deep", torch.float64)
    network = TorchNetwork(model)
    with network.isolated():
        exact = KernelMeter(network, _batch(inputs), method="exact")
        exact.begin(network.state())
        truth = exact.measure(network.state())["trace"]
        values = []
        for seed in range(400):
            meter = KernelMeter(network, _batch(inputs), method="sketch", draws=16, seed=seed)
            meter.begin(network.state())
            now = meter.start
            squares = (now.T @ now) ** 2
            pairs = (squares.sum() - np.trace(squares)) / (16 * 15)
            norms = (now**2).sum(0)
            values.append((pairs, norms.mean(), norms.std(ddof=1) / 4))
        kernel = exact_kernel(network, network.state(), _batch(inputs))
    squares, traces, errors = np.array(values).T
    assert abs(squares.mean() - (kernel**2).sum()) <= 4 * squares.std(ddof=1) / 20
    assert abs(traces.mean() - truth) <= 4 * traces.std(ddof=1) / 20
    # The mean of 400 squared errors, each of 15 degrees of freedom, is known to about 2 %; normals squared widen that.
    assert np.sqrt((errors**2).mean()) == pytest.approx(traces.std(ddof=1), rel=0.2)
