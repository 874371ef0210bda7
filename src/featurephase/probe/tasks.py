"""Data to train on: Fashion-MNIST and MNIST from IDX files, scikit-learn's small sets, modular addition, polynomials.

Inputs are scaled so that a coordinate has unit mean square over the training set.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurephase.foundation.errors import InputError, MissingDependencyError
from featurephase.foundation.types import Array

#: Where Debian's package dataset-fashion-mnist puts its files.
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")

TASKS = ("fashion-mnist", "mnist", "digits", "breast-cancer", "wine", "modular-addition", "polynomial")


@dataclass(frozen=True)
class Task:
    """A training and a test set; labels are class numbers (``classes`` > 0) or real responses."""

    name: str
    train_inputs: Array  # (n, d)
    train_labels: NDArray[Any]  # (n,)
    test_inputs: Array
    test_labels: NDArray[Any]
    classes: int = 0
    image: tuple[int, int, int] | None = None  # channels, rows, columns


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped or not.

    Raises
    ------
    InputError
        If the file is not one, or is cut short.
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as stream:
            content: bytes = stream.read()
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise InputError(f"{path} is not an IDX file of unsigned bytes")
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise InputError(f"{path} is cut short")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise InputError(f"{path}: {len(content) - start} bytes of data, its header says {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _idx_file(folder: Path, stem: str, task: str) -> Path:
    kinds = (stem, re.sub(r"-(idx\d)", r".\1", stem))
    for kind in kinds:
        for ending in ("", ".gz"):
            if (folder / f"{kind}{ending}").is_file():
                return folder / f"{kind}{ending}"
    hint = "on Debian `apt-get install dataset-fashion-mnist` puts them into /usr/share/datasets/fashion-mnist; else "
    hint = hint if task == "fashion-mnist" else ""
    raise InputError(
        f"{task}: no file {stem}(.gz) in {str(folder)!r}; {hint}"
        "download the four IDX files of the set and name their folder with --data-folder"
    )


def _images(task: str, folder: str | None, train: int, test: int, rng: np.random.Generator) -> Task:
    if folder is None and task == "mnist":
        raise InputError("mnist: name the folder with its four IDX files with --data-folder")
    place = FASHION_FOLDER if folder is None else Path(folder)
    sets = []
    for prefix, wanted in (("train", train), ("t10k", test)):
        images = read_idx(_idx_file(place, f"{prefix}-images-idx3-ubyte", task))
        labels = read_idx(_idx_file(place, f"{prefix}-labels-idx1-ubyte", task))
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise InputError(f"{task}: {prefix} has images {images.shape} and labels {labels.shape}")
        chosen = rng.permutation(len(images))[: wanted or None]
        flat = images[chosen].reshape(len(chosen), -1).astype(np.float64)
        sets.append((flat, labels[chosen].astype(np.int64), images.shape[1:]))
    (x, y, size), (x_test, y_test, _) = sets
    mean, scale = x.mean(), x.std()
    return Task(task, (x - mean) / scale, y, (x_test - mean) / scale, y_test, int(y.max()) + 1, (1, size[0], size[1]))


def _split(name: str, x: Array, y: NDArray[Any], sizes: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    train, test = sizes
    n = len(x)
    train = train or (n * 4) // 5
    test = test or n - train
    if train < 1 or test < 1 or train + test > n:
        raise InputError(f"{name}: {train} training and {test} test samples asked for, there are {n}")
    order = rng.permutation(n)
    first, second = order[:train], order[train : train + test]
    return x[first], y[first], x[second], y[second]


def _tabular(name: str, sizes: tuple[int, int], rng: np.random.Generator) -> Task:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingDependencyError(
            f"{name}: needs scikit-learn, in the extra: pip install 'featurephase[torch]'"
        ) from error
    loader = getattr(datasets, f"load_{name.replace('-', '_')}")
    x, y = loader(return_X_y=True)
    x, y, x_test, y_test = _split(name, x.astype(np.float64), y.astype(np.int64), sizes, rng)
    mean = x.mean(0)
    # The pixels of the digits share one unit; the columns of the tables do not.
    scale = np.full(x.shape[1], (x - mean).std()) if name == "digits" else x.std(0)
    scale[scale == 0] = 1.0
    image = (1, 8, 8) if name == "digits" else None
    return Task(name, (x - mean) / scale, y, (x_test - mean) / scale, y_test, int(y.max()) + 1, image)


def _modular_addition(modulus: int, sizes: tuple[int, int], rng: np.random.Generator) -> Task:
    """All pairs (a, b) as two one-hot codes; the class is (a + b) mod p."""
    if modulus < 2:
        raise InputError(f"modular-addition: modulus {modulus}, expected at least 2")
    a, b = np.divmod(np.arange(modulus**2), modulus)
    x = np.zeros((modulus**2, 2 * modulus))
    x[np.arange(len(x)), a] = x[np.arange(len(x)), modulus + b] = math.sqrt(modulus)
    half = (sizes[0] or modulus**2 // 2, sizes[1])
    x, y, x_test, y_test = _split("modular-addition", x, (a + b) % modulus, half, rng)
    return Task("modular-addition", x, y, x_test, y_test, modulus)


def _polynomial(expression: str, dimension: int, sizes: tuple[int, int], rng: np.random.Generator) -> Task:
    """Normal inputs; the response is a link in the first coordinates g1..gk, scaled to unit mean square."""
    from featurephase.functions import link

    latent = max((int(k) for k in re.findall(r"\bg(\d+)\b", expression)), default=1)
    if dimension < latent:
        raise InputError(f"polynomial: {expression!r} reads g{latent}, the inputs have {dimension} dimensions")
    target = link(expression, latent)
    train, test = sizes[0] or 1000, sizes[1] or 1000
    x = rng.standard_normal((train + test, dimension))
    y = target.sample(x[:, :latent].T, rng)
    y = y / (np.sqrt(np.mean(y[:train] ** 2)) or 1.0)
    return Task("polynomial", x[:train], y[:train], x[train:], y[train:])


def _own_data(path: Path, sizes: tuple[int, int], rng: np.random.Generator) -> Task:
    """Arrays ``x`` (n, d) and ``y`` (n,) of an .npz file; ``x_test`` and ``y_test`` if it has them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    missing = [name for name in ("x", "y") if name not in arrays]
    if missing:
        raise InputError(f"{path}: no array {missing[0]!r}; expected x (n, d) and y (n,), and x_test, y_test if wanted")
    pairs = []
    for a, b in (("x", "y"), ("x_test", "y_test")):
        if a in arrays and b in arrays:
            x, y = arrays[a], arrays[b]
            if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or {x.dtype.kind, y.dtype.kind} - set("biuf"):
                raise InputError(f"{path}: {a} has shape {x.shape}, {b} {y.shape}; expected numbers (n, d) and (n,)")
            x = x.reshape(len(x), -1).astype(np.float64)
            if not (np.isfinite(x).all() and np.isfinite(y.astype(np.float64)).all()):
                raise InputError(f"{path}: {a} and {b} must be finite")
            pairs.append((x, y))
    if len(pairs) == 2:
        orders = [rng.permutation(len(a))[: size or None] for (a, _), size in zip(pairs, sizes, strict=True)]
        (x, y), (x_test, y_test) = ((a[order], b[order]) for (a, b), order in zip(pairs, orders, strict=True))
    else:
        x, y, x_test, y_test = _split(path.name, *pairs[0], sizes, rng)
    if x_test.shape[1] != x.shape[1]:
        raise InputError(f"{path}: {x.shape[1]} columns to train on, {x_test.shape[1]} to test on")
    classes = int(max(y.max(), y_test.max())) + 1 if y.dtype.kind in "biu" else 0
    if classes and min(y.min(), y_test.min()) < 0:
        raise InputError(f"{path}: class numbers start from 0; give real responses as floating-point numbers")
    labels = [v.astype(np.int64 if classes else np.float64) for v in (y, y_test)]
    scale = x.std() or 1.0
    return Task(path.stem, (x - x.mean()) / scale, labels[0], (x_test - x.mean()) / scale, labels[1], classes)


def load_task(
    name: str,
    *,
    train_samples: int = 0,
    test_samples: int = 0,
    train_fraction: float | None = None,
    folder: str | None = None,
    modulus: int = 23,
    expression: str = "g1*g2 + hermite(3, g1)",
    dimension: int = 20,
    seed: int = 0,
) -> Task:
    """Load or draw a task.

    Parameters
    ----------
    name
        One of :data:`TASKS`, or the name of an .npz file with arrays ``x`` (n, d) and ``y`` (n,): integers are classes.
    train_samples, test_samples
        0: all there are (a fixed split where the set has none: 4/5, half for modular addition; 1000 for polynomials).
    train_fraction
        Share of the samples to train on, in place of ``train_samples``; the rest is tested on.
    folder
        Where the IDX files of (Fashion-)MNIST are; gzipped or not.
    modulus, expression, dimension
        Of modular addition; of polynomial targets.
    seed
        Of the choice of samples.

    Raises
    ------
    InputError
        If the name is unknown, samples are asked for that do not exist, or files are missing.
    """
    if train_samples < 0 or test_samples < 0:
        raise InputError("train_samples and test_samples must not be negative")
    rng = np.random.default_rng(seed)
    if train_fraction is not None:
        train_samples = _share(name, train_fraction, train_samples, modulus, folder)
    sizes = (train_samples, test_samples)
    if name.endswith(".npz"):
        return _own_data(Path(name), sizes, rng)
    if name in ("fashion-mnist", "mnist"):
        return _images(name, folder, train_samples, test_samples, rng)
    if name in ("digits", "breast-cancer", "wine"):
        return _tabular(name, sizes, rng)
    if name == "modular-addition":
        return _modular_addition(modulus, sizes, rng)
    if name == "polynomial":
        return _polynomial(expression, dimension, sizes, rng)
    raise InputError(f"task {name!r}: expected one of {', '.join(TASKS)}, or a file that ends in .npz")


def _share(name: str, fraction: float, train_samples: int, modulus: int, folder: str | None) -> int:
    """Training samples that are a share of all."""
    if train_samples:
        raise InputError("train_fraction and train_samples: give one of the two")
    if not 0 < fraction < 1:
        raise InputError(f"train_fraction: {fraction} given, expected a number between 0 and 1")
    if name == "polynomial":
        raise InputError(
            "train_fraction: the polynomial task draws as many samples as are asked for; use train_samples"
        )
    task = load_task(name, modulus=modulus, folder=folder)
    split = name in ("fashion-mnist", "mnist")  # the test set stands apart
    total = len(task.train_labels) + (0 if split else len(task.test_labels))
    return max(1, round(fraction * total))
