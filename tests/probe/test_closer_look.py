"""Hessian over a data set, blocks, trace, density, Gauss-Newton; the kernel itself; resuming; coordinate check."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from featurephase.foundation.errors import InputError  # noqa: E402
from featurephase.probe import Probe, coordinate_check  # noqa: E402
from featurephase.probe.memory import Held  # noqa: E402

torch.set_num_threads(1)
cross_entropy = nn.functional.cross_entropy


def _network(width=24):
    torch.manual_seed(0)
    layers = [nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, 3)]
    return nn.Sequential(*layers).double()


def _data(samples=48):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(samples, 5, generator=generator).double()
    return x, torch.randint(0, 3, (samples,), generator=generator)


def _flat_function(model, x):
    """``theta -> outputs`` on a flat vector, and that vector."""
    parameters = dict(model.named_parameters())
    sizes = [p.numel() for p in parameters.values()]

    def outputs(vector):
        pieces = vector.split(sizes)
        values = {n: v.reshape(p.shape) for (n, p), v in zip(parameters.items(), pieces, strict=True)}
        return torch.func.functional_call(model, values, (x,))

    return outputs, torch.cat([p.detach().reshape(-1) for p in parameters.values()])


def _dense_hessian(model, x, y, decay=0.0):
    outputs, flat = _flat_function(model, x)
    matrix = torch.autograd.functional.hessian(lambda v: cross_entropy(outputs(v), y), flat).numpy()
    return matrix + decay * np.eye(len(matrix))


OPTIONS = {"loss": cross_entropy, "hessian_products": 300, "hessian_tolerance": 1e-9}


def test_hessian_over_a_loader_is_that_of_the_data():
    """Batches of unequal size, shuffled by the global generator and by one of the loader's own: both untouched."""
    model, (x, y) = _network(), _data()
    expected = np.linalg.eigvalsh(_dense_hessian(model, x, y))
    for generator in (None, torch.Generator().manual_seed(3)):
        loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True, generator=generator)
        before = torch.get_rng_state(), None if generator is None else generator.get_state()
        entry = Probe(model, x[:16], y[:16], hessian_data=loader, **OPTIONS).result().hessian[0]
        assert torch.equal(before[0], torch.get_rng_state())
        assert generator is None or torch.equal(before[1], generator.get_state())
        np.testing.assert_allclose(entry.largest, expected[-3:], rtol=1e-7)
        np.testing.assert_allclose(entry.smallest, expected[:3], rtol=1e-6)
        assert np.all(entry.largest_se > 0)


def test_sampling_error_of_the_hessian_covers():
    """Over 60 data sets of 8 batches, the error of v'Hv at a fixed v is the spread of v'Hv between data sets."""
    from featurephase.probe.functional import TorchNetwork
    from featurephase.probe.hessian import HessianOperator, Objective, sampling_errors
    from featurephase.probe.trees import Batch

    model = _network()
    network = TorchNetwork(model, loss=cross_entropy)
    values, errors = [], []
    with network.isolated():
        state = network.state()
        vector = None
        for seed in range(60):
            generator = torch.Generator().manual_seed(seed)
            x, y = torch.randn(64, 5, generator=generator).double(), torch.randint(0, 3, (64,), generator=generator)
            samples = [(Batch.of(x[i : i + 8], "x"), y[i : i + 8], 1 / 8) for i in range(0, 64, 8)]
            operator = HessianOperator(network, state, Objective(samples))
            vector = operator.random(0, 1) / operator.size**0.5 if vector is None else vector
            values.append(float(vector[0] @ operator(vector[0])))
            errors.append(sampling_errors(operator, vector)[0])
    # A standard deviation of 60 values is known to 9 %, the root mean square of 60 errors of 7 degrees to 4 %.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values, ddof=1), rel=0.4)


def test_data_that_cannot_be_gone_through_again_is_refused():
    model, (x, y) = _network(), _data()
    with pytest.raises(InputError, match="once only"):
        Probe(model, x, y, loss=cross_entropy, hessian_data=iter([(x, y)]))
    with pytest.raises(InputError, match="pairs"):
        Probe(model, x, y, loss=cross_entropy, hessian_data=[x])


def test_weight_decay_shifts_the_hessian_and_not_the_loss():
    model, (x, y) = _network(), _data(16)
    plain, decayed = (Probe(model, x, y, weight_decay=d, **OPTIONS).result() for d in (0.0, 0.3))
    np.testing.assert_allclose(decayed.hessian[0].largest, plain.hessian[0].largest + 0.3, rtol=1e-7)
    np.testing.assert_allclose(decayed.hessian[0].smallest, plain.hessian[0].smallest + 0.3, rtol=1e-6)
    assert decayed.loss[0] == plain.loss[0]
    optimiser = torch.optim.Adam(
        [{"params": model[0].parameters()}, {"params": model[2:].parameters()}], weight_decay=0.3
    )
    optimiser.param_groups[1]["weight_decay"] = 0.0
    entry = Probe(model, x, y, weight_decay=optimiser, **OPTIONS).result().hessian[0]
    matrix = _dense_hessian(model, x, y) + np.diag(np.r_[np.full(144, 0.3), np.zeros(451)])
    np.testing.assert_allclose(entry.largest, np.linalg.eigvalsh(matrix)[-3:], rtol=1e-7)
    with pytest.raises(InputError, match="AdamW"):
        Probe(model, x, y, weight_decay=torch.optim.AdamW(model.parameters()), **OPTIONS)


def test_spectrum_blocks_trace_density_and_gauss_newton():
    model, (x, y) = _network(), _data()
    matrix = _dense_hessian(model, x, y)
    spectrum = Probe(model, x, y, **OPTIONS).spectrum(blocks="layers", gauss_newton=True, draws=60)
    assert spectrum.ok
    np.testing.assert_allclose(spectrum.whole.largest, np.linalg.eigvalsh(matrix)[-3:], rtol=1e-7)
    assert abs(spectrum.whole.trace - np.trace(matrix)) <= 4 * spectrum.whole.trace_se
    ends = np.cumsum([0, 144, 400, 51])
    for block, start, end in zip(spectrum.blocks, ends, ends[1:], strict=False):
        part = matrix[start:end, start:end]
        assert block.parameters == end - start
        np.testing.assert_allclose(block.largest, np.linalg.eigvalsh(part)[-3:], rtol=1e-7)
        assert abs(block.trace - np.trace(part)) <= 4 * block.trace_se + 1e-10
    # Eigenvectors come as parameter blocks.
    vector = np.concatenate([spectrum.vectors[name][-1].ravel() for name, _ in model.named_parameters()])
    np.testing.assert_allclose(matrix @ vector, spectrum.whole.largest[-1] * vector, atol=1e-8)
    outputs, flat = _flat_function(model, x)
    jacobian = torch.autograd.functional.jacobian(outputs, flat)
    p = outputs(flat).softmax(1)
    gauss_newton = sum(
        j.T @ (torch.diag(q) - torch.outer(q, q)) @ j for j, q in zip(jacobian, p, strict=True)
    ).numpy() / len(x)
    np.testing.assert_allclose(spectrum.gauss_newton.largest, np.linalg.eigvalsh(gauss_newton)[-3:], rtol=1e-7)
    # The density integrates to 1, and its first two moments are those of the spectrum (the Gaussian's width added).
    step = spectrum.x[1] - spectrum.x[0]
    assert spectrum.density.sum() * step == pytest.approx(1.0, abs=1e-3)
    second = (spectrum.x**2 * spectrum.density).sum() * step - spectrum.width**2
    assert second == pytest.approx((matrix**2).sum() / len(matrix), rel=0.5)


def test_kernel_matrix_is_the_jacobians():
    model, (x, y) = _network(), _data(9)
    found = Probe(model, x[:6], y[:6], heldout=x[6:], hessian="none").kernel_matrix()
    outputs, flat = _flat_function(model, x)
    jacobian = torch.autograd.functional.jacobian(outputs, flat)
    kernel = torch.einsum("icp,jdp->icjd", jacobian, jacobian).numpy()
    np.testing.assert_allclose(found.matrix, kernel[:6, :, :6], rtol=1e-10)
    np.testing.assert_allclose(found.cross, kernel[6:, :, :6], rtol=1e-10)
    np.testing.assert_allclose(found.traced, np.einsum("icjc->ij", kernel)[:6, :6] / 3, rtol=1e-10)
    np.testing.assert_allclose(found.per_output[1], kernel[:6, 1, :6, 1], rtol=1e-10)


def _step(model, optimiser, x, y):
    optimiser.zero_grad()
    cross_entropy(model(x), y).backward()
    optimiser.step()


@pytest.mark.parametrize("way", ["state_dict", "pickle"])
def test_a_resumed_probe_goes_on_where_it_was(way):
    """Interrupted after 10 of 20 steps and taken up in new objects: the same result as in one go."""
    x, y = _data()
    options = {"loss": cross_entropy, "schedule": "linear:5", "heldout": x[30:]}
    model = _network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    probe = Probe(model, x[:16], y[:16], **options)
    for _ in range(10):
        _step(model, optimiser, x, y)
        probe.step()
    if way == "pickle":
        resumed, again, steps = *pickle.loads(pickle.dumps((probe, model))), optimiser.state_dict()
    else:
        file = io.BytesIO()
        torch.save({"probe": probe.state_dict(), "model": model.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=False)
        again, steps = _network(), optimiser.state_dict()
        again.load_state_dict(saved["model"])
        resumed = Probe(again, x[:16], y[:16], **options)
        resumed.load_state_dict(saved["probe"])
    other = torch.optim.SGD(again.parameters(), lr=0.3)
    other.load_state_dict(steps)
    for _ in range(10):
        _step(model, optimiser, x, y)
        probe.step()
        _step(again, other, x, y)
        resumed.step()
    probe.close()
    resumed.close()
    one, two = (p.result().to_dict() for p in (probe, resumed))
    for key, value in one.items():
        if key != "cost":
            assert value == two[key], key


def test_a_checkpoint_of_another_model_is_refused():
    x, y = _data()
    saved = Probe(_network(), x, y).state_dict()
    with pytest.raises(InputError, match="other parameters"):
        Probe(_network(30), x, y).load_state_dict(saved)


def test_coordinate_check_tells_parameterisations_apart():
    """Updates of the hidden activations: exponent 0 in muP, -1/2 in the NTK parameterisation (theory/latent-phases)."""
    from featurephase.probe.networks import build_network

    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(16, 1, generator=torch.Generator().manual_seed(1))

    def builder(parameterisation):
        def build(width):
            seed = int(torch.randint(0, 2**31, ()))
            model, groups = build_network(
                "mlp", 8, 1, depth=1, width=width, parameterisation=parameterisation, seed=seed
            )
            return model, torch.optim.SGD(groups, lr=0.05)

        return build

    for name, expected in (("mup", 0.0), ("ntk", -0.5)):
        found = coordinate_check(
            builder(name), x, y, loss=nn.functional.mse_loss, widths=(128, 512, 2048), replicates=4, steps=2
        )
        place = next(i for i, module in enumerate(found.modules) if module.endswith(("1", "2")))
        error = found.update_exponent_se[place]
        assert abs(found.update_exponent[place] - expected) <= 4 * error + 0.05, (name, found.update_exponent)


def test_results_are_presented():
    import matplotlib as mpl

    mpl.use("Agg")
    x, y = _data(12)
    probe = Probe(_network(), x, y, loss=cross_entropy, heldout=x[:3])
    check = coordinate_check(
        lambda w: nn.Sequential(nn.Linear(5, w), nn.ReLU(), nn.Linear(w, 3)).double(),
        x,
        y,
        loss=cross_entropy,
        widths=(4, 8),
    )
    for result in (probe.result(), probe.spectrum(blocks="layers", gauss_newton=True), probe.kernel_matrix(), check):
        assert result.table().strip()
        result.figure().canvas.draw()
        assert result.to_xarray().variables
        assert list(result.to_dict())[:4] == ["status", "message", "seed", "version"]
        assert pickle.loads(pickle.dumps(result)) == result


@pytest.mark.parametrize("limit", [3, 12, 1024])
def test_stated_memory_is_near_what_is_taken(limit):
    """Every tensor made in a whole probed run, seen by torch's dispatcher: below the limit, and stated within 1.5."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    x, y = torch.randn(16, 3, 32, 32), torch.randint(0, 2, (16,))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    with Held() as held:
        probe = Probe(model, x, y, loss=cross_entropy, memory_limit=limit << 20, schedule="linear:1")
        for _ in range(2):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.01)
            probe.step()
        probe.close()
    result = probe.result()
    del optimiser
    assert held.peak <= limit << 20
    assert 1 / 1.5 <= result.cost.memory_bytes / held.peak <= 1.5
    assert np.isfinite(result.kernel_trace).all()
