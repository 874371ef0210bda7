"""On every network of the table: exact kernel, sketch and telescoping are those of autograd, and nothing is touched."""

from __future__ import annotations

import copy
import random
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.probe.architectures import ARCHITECTURES  # noqa: E402
from torch import nn  # noqa: E402

from featurephase.probe import Probe  # noqa: E402
from featurephase.probe.checks import check_function, find_hooks  # noqa: E402
from featurephase.probe.derivatives import Jacobian  # noqa: E402
from featurephase.probe.functional import TorchNetwork  # noqa: E402
from featurephase.probe.kernel import exact_kernel  # noqa: E402
from featurephase.probe.trees import Batch, tensors_of, transform  # noqa: E402

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")


def _built(name):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs, *options = ARCHITECTURES[name]()
    return model, inputs, options[0] if options else {}


def _run(model, inputs):
    """The outputs of a user's own call, as (N, C)."""
    inputs = transform(lambda leaf: leaf.clone(), inputs)
    raw = (
        model(**inputs) if isinstance(inputs, dict) else model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    )
    parts = [raw.logits] if hasattr(raw, "logits") else tensors_of(raw)
    return torch.cat([part.reshape(len(part), -1) for part in parts], 1)


def _jacobian(name):
    """(N C, P) by one call of autograd per output on a model of its own in evaluation mode; complex as two reals."""
    model, inputs, _ = _built(name)
    model.eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    outputs = _run(model, inputs)
    for row, column in np.ndindex(*outputs.shape):
        if name == "checkpointed-reentrant":  # only .backward() gives its gradients
            model.zero_grad()
            _run(model, inputs)[row, column].backward()
            parts = [p.grad for p in parameters]
        else:
            options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
            parts = torch.autograd.grad(outputs[row, column], parameters, **options)
        parts = [p.to_dense() if p.is_sparse else p for p in parts]
        parts = [torch.view_as_real(p) if p.is_complex() else p for p in parts]
        rows.append(torch.cat([p.detach().double().reshape(-1) for p in parts]))
    return torch.stack(rows).numpy()


#: Half precision and autocast round the reference itself.
COARSE = {"bfloat16": 3e-2, "float16": 4e-3, "autocast-inside": 3e-2}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_kernels_and_telescoping_agree_with_autograd(name):
    jacobian = _jacobian(name)
    expected = jacobian @ jacobian.T
    model, inputs, _ = _built(name)
    tolerance = COARSE.get(name, 2e-5)
    exact = Probe(model, inputs, hessian="none", kernel="exact").result()
    assert exact.kernel_trace[0] == pytest.approx(np.trace(expected), rel=tolerance)
    sketch = Probe(model, inputs, hessian="none", kernel="sketch", draws=100).result()
    assert sketch.kernel_trace_se[0] > 0
    error = sketch.kernel_trace_se[0] + tolerance * np.trace(expected)
    assert abs(sketch.kernel_trace[0] - np.trace(expected)) <= 4 * error
    network = TorchNetwork(model)
    with network.isolated():
        batch = Batch.of(network.own(inputs, "inputs"), "inputs")
        state = find_hooks(network, batch)
        check_function(network, state, batch)
        kernel = exact_kernel(network, state, batch)
        tangent = {n: network.random(n, 5)[0] for n in state.names}
        pushed = Jacobian(network, state, batch).push(tangent).reshape(-1).double().numpy()
        flat = np.concatenate([tangent[n].double().numpy().ravel() for n in state.names])
    assert np.abs(kernel - expected).max() <= tolerance * np.abs(expected).max()
    assert np.abs(pushed - jacobian @ flat).max() <= tolerance * np.abs(jacobian).max() * np.abs(flat).sum()


def _everything(model, inputs):
    """All that a probe could leave a trace in."""
    return {
        "weights": {n: (v.data_ptr(), v._version, v.clone()) for n, v in model.state_dict(keep_vars=True).items()},
        "gradients": {n: p.grad for n, p in model.named_parameters()},
        "requires": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "attributes": [{k: id(v) for k, v in vars(m).items()} for m in model.modules()],
        "hooks": [[list(getattr(m, k)) for k in vars(m) if k.endswith("hooks")] for m in model.modules()],
        "inputs": [(t.data_ptr(), t._version, t.requires_grad, t.clone()) for t in tensors_of(inputs)],
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),  # noqa: NPY002
    }


def _same(a, b):
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def _loss(outputs, targets):
    parts = [outputs.logits] if hasattr(outputs, "logits") else tensors_of(outputs)
    return sum(part.float().square().mean() for part in parts) + 0 * targets.sum()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_is_touched(name):
    """Bit for bit: weights, buffers, attributes, hooks, modes, versions, inputs, random states, the training."""
    model, inputs, options = _built(name)
    before = _everything(model, inputs)
    first = tensors_of(inputs)[0]
    probe = Probe(
        model, inputs, torch.zeros(len(first)), loss=_loss, schedule="linear:1", **{"hessian": "ends", **options}
    )
    after = _everything(model, inputs)
    for key, value in before.items():
        assert _same(value, after[key]), key
    assert probe.result().ok
    plain = _trained(*_built(name)[:2], None)
    probed = _trained(model, inputs, probe)
    for key, value in plain.items():
        assert torch.equal(value, probed[key]), key
    assert probe.result().ok, probe.result().message
    assert len(probe.result().times) == 3


def _trained(model, inputs, probe):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=0.01)
    torch.manual_seed(3)
    for _ in range(2):
        optimiser.zero_grad()
        raw = _run(model, inputs)
        raw.float().square().mean().backward()
        optimiser.step()
        if probe is not None:
            probe.step()
    return copy.deepcopy(model.state_dict())


def test_the_table_is_long_enough():
    assert len(ARCHITECTURES) >= 40
    assert all(isinstance(_built(name)[0], nn.Module) for name in ARCHITECTURES)
