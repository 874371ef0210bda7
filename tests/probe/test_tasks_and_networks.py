"""Tasks, networks and parameterisations: shapes, scales, and what is refused."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featurephase.foundation.errors import InputError  # noqa: E402
from featurephase.latent_model import Scaling  # noqa: E402
from featurephase.probe.networks import build_network  # noqa: E402
from featurephase.probe.parameterisations import layer_scales  # noqa: E402
from featurephase.probe.tasks import FASHION_FOLDER, load_task, read_idx  # noqa: E402

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("name", "dimension", "classes", "sizes"),
    [
        ("digits", 64, 10, (1437, 360)),
        ("breast-cancer", 30, 2, (455, 114)),
        ("wine", 13, 3, (142, 36)),
        ("modular-addition", 46, 23, (264, 265)),
        ("polynomial", 20, 0, (1000, 1000)),
    ],
)
def test_tasks(name, dimension, classes, sizes):
    if name in ("digits", "breast-cancer", "wine"):
        pytest.importorskip("sklearn")
    task = load_task(name, seed=3)
    assert task.train_inputs.shape == (sizes[0], dimension)
    assert task.test_inputs.shape == (sizes[1], dimension)
    assert task.classes == classes
    assert np.mean(task.train_inputs**2) == pytest.approx(1.0, rel=0.03)
    again, other = load_task(name, seed=3), load_task(name, seed=4)
    np.testing.assert_array_equal(task.train_labels, again.train_labels)
    assert not np.array_equal(task.train_labels, other.train_labels)


def test_modular_addition_is_addition():
    task = load_task("modular-addition", modulus=7)
    a, b = (x.argmax(1) for x in np.split(task.train_inputs, 2, axis=1))
    np.testing.assert_array_equal(task.train_labels, (a + b) % 7)
    pairs = {*zip(a, b, strict=True), *zip(*(x.argmax(1) for x in np.split(task.test_inputs, 2, axis=1)), strict=True)}
    assert len(pairs) == 49  # nothing is in both sets, nothing is missing


def test_polynomial_target():
    task = load_task("polynomial", expression="g1*g2", dimension=5, train_samples=50)
    product = task.train_inputs[:, 0] * task.train_inputs[:, 1]
    np.testing.assert_allclose(task.train_labels, product / np.sqrt(np.mean(product**2)), rtol=1e-12)
    with pytest.raises(InputError, match="reads g3"):
        load_task("polynomial", expression="g3**2", dimension=2)


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_files(tmp_path, name, ending):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (2, 30, 28, 28)), rng.integers(0, 10, (2, 30))
    for i, prefix in enumerate(("train", "t10k")):
        _write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{ending}", images[i])
        _write_idx(tmp_path / f"{prefix}-labels.idx1-ubyte{ending}", labels[i])  # the other common name
    task = load_task(name, folder=str(tmp_path), train_samples=20)
    assert task.train_inputs.shape == (20, 784)
    assert task.test_inputs.shape == (30, 784)
    assert task.image == (1, 28, 28)
    # The same pictures under the same labels.
    seen = {x.tobytes(): y for x, y in zip(images[0].reshape(30, -1).astype(np.uint8), labels[0], strict=True)}
    flat = task.train_inputs
    scale = (flat.max() - flat.min()) / 255 if images[0].min() == 0 else None
    assert scale is not None
    raw = np.rint((flat - flat.min()) / scale).astype(np.uint8)
    assert [seen[x.tobytes()] for x in raw] == task.train_labels.tolist()


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match=r"dataset-fashion-mnist.*--data-folder"):
        load_task("fashion-mnist", folder=str(tmp_path))
    with pytest.raises(InputError, match="--data-folder"):
        load_task("mnist")
    broken = tmp_path / "x-idx3-ubyte"
    _write_idx(broken, np.zeros((3, 2, 2)))
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(InputError, match="11 bytes of data, its header says 12"):
        read_idx(broken)
    broken.write_bytes(b"hello world")
    with pytest.raises(InputError, match="not an IDX file"):
        read_idx(broken)
    (tmp_path / "y.gz").write_bytes(b"hello world")
    with pytest.raises(InputError, match="cannot read"):
        read_idx(tmp_path / "y.gz")


@pytest.mark.skipif(not FASHION_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_itself():
    task = load_task("fashion-mnist", train_samples=500, test_samples=300)
    assert task.train_inputs.shape == (500, 784)
    assert task.classes == 10
    assert len(read_idx(FASHION_FOLDER / "train-labels-idx1-ubyte.gz")) == 60000


def test_bad_tasks():
    with pytest.raises(InputError, match="expected one of"):
        load_task("cifar")
    with pytest.raises(InputError, match="there are"):
        load_task("modular-addition", modulus=5, train_samples=100)
    with pytest.raises(InputError, match="at least 2"):
        load_task("modular-addition", modulus=1)
    with pytest.raises(InputError, match="negative"):
        load_task("wine", train_samples=-1)


@pytest.mark.parametrize("name", ["ntk", "mean-field", "mup", "standard"])
def test_parameterisations_are_those_of_the_phase_diagram(name):
    """Exponents fitted from the numbers at two widths are those of the table of theory/latent-phases."""
    widths = (100, 10000)
    first, last = zip(*(layer_scales(name, [10, d], d) for d in widths), strict=True)

    def exponent(values):
        return math.log(values[1] / values[0]) / math.log(widths[1] / widths[0])

    c_gamma = exponent([a.multiplier * b.multiplier for a, b in zip(first, last, strict=True)])
    scaling = Scaling(
        c_gamma=c_gamma,
        c_eta_u=exponent([s.rate for s in last]),
        c_eta_w=exponent([s.rate for s in first]),
        c_sigma_u=exponent([s.deviation for s in last]),
        c_sigma_w=exponent([s.deviation for s in first]),
    )
    expected = {"ntk": 0.5, "standard": 1.0, "mean-field": 0.0, "mup": 0.0}
    assert scaling.exponents.c_h == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("name", ["ntk", "mup", "standard"])
def test_networks_start_at_scale_one(kind, name):
    """Hidden pre-activations have mean square 1 at the start (gain 2 for relu, mean square 1 inputs)."""
    model, groups = build_network(
        kind, 64, 5, depth=2, width=400 if kind == "mlp" else 60, image=(1, 8, 8), parameterisation=name, seed=1
    )
    torch.manual_seed(0)
    x = torch.randn(50, 64)
    squares, h = [], x
    for module in model:
        if isinstance(module, torch.nn.ReLU):
            squares.append(float((h**2).mean()))
        h = module(h)
    assert len(groups) == 3
    assert h.shape == (50, 5)
    assert squares[0] == pytest.approx(2.0, rel=0.25 if kind == "mlp" else 0.4)
    if kind == "mlp":
        assert squares[1] == pytest.approx(2.0, rel=0.3)


def test_network_options():
    small, _ = build_network("mlp", 4, 2, width=8, init_scale=0.5, seed=3)
    large, _ = build_network("mlp", 4, 2, width=8, init_scale=1.0, seed=3)
    torch.testing.assert_close(small[0].weight * 2, large[0].weight)
    _, groups = build_network("mlp", 4, 2, depth=1, width=8, layer_rates=[1.0, 10.0])
    assert [g["lr"] for g in groups] == [1.0, 10.0]
    deep, _ = build_network("mlp", 4, 2, depth=5, width=8, bias=True)
    assert sum(isinstance(m, torch.nn.Linear) for m in deep) == 6
    for options, word in [
        ({"activation": "sin"}, "expected one of"),
        ({"parameterisation": "xavier"}, "expected one of"),
        ({"parameterisation": "mean-field", "depth": 2}, "one hidden layer"),
        ({"layer_rates": [1.0]}, "given for 2 layers"),
        ({"init_scale": 0.0}, "positive"),
        ({"width": 0}, "width >= 1"),
    ]:
        with pytest.raises(InputError, match=word):
            build_network("mlp", 4, 2, **{"depth": 1, **options})
    with pytest.raises(InputError, match="no images"):
        build_network("cnn", 4, 2)
    with pytest.raises(InputError, match="mlp, cnn"):
        build_network("rnn", 4, 2)
