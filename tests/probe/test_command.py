"""The command and its documents; replicates and their errors; verdicts."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featurephase.cli.app import run as command  # noqa: E402
from featurephase.foundation.errors import InputError  # noqa: E402
from featurephase.probe import average  # noqa: E402
from featurephase.probe.experiment import Experiment, run, run_replicates  # noqa: E402
from featurephase.probe.schedule import make_schedule  # noqa: E402
from featurephase.probe.verdict import decide  # noqa: E402

torch.set_num_threads(1)

SMALL = {"task": "polynomial", "train_samples": 40, "test_samples": 30, "width": 12, "steps": 30, "dimension": 6}
FLAGS = [part for key, value in SMALL.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def _json(capsys, *arguments):
    code = command(["probe", *FLAGS, *arguments, "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def test_document_has_the_words_of_the_contract(capsys):
    code, document = _json(capsys, "--replicates", "2", "--seed", "5")
    assert code == 0
    assert {"status", "message", "version", "seed", "replicates"} <= set(document)
    assert document["seed"] == 5
    assert document["replicates"] == 2
    times = document["times"]
    for key in ("kernel_change", "kernel_alignment"):
        assert len(document[key]) == len(document[f"{key}_se"]) == len(times)
    assert times[0] == 0
    assert times[-1] == 30
    for key in ("layers", "pairs", "hessian"):
        assert isinstance(document[key], list)
        assert document[key]
    for entry in document["layers"] + document["pairs"]:
        for key, value in entry.items():
            if isinstance(value, list) and key != "shape" and not key.endswith("_se"):
                assert np.shape(entry[f"{key}_se"]) == np.shape(value) == (len(times),), key
    for entry in document["hessian"]:
        assert (entry["status"], entry["message"], entry["seed"]) == ("ok", "", 5)
        assert entry["version"] == document["version"]
    parts = document["mechanisms"]
    total = sum(parts[k] for k in ("alignment", "disalignment", "growth", "shrinkage", "unattributed"))
    assert total == pytest.approx(parts["log_kernel_ratio"], abs=1e-9)
    assert set(document["verdict"]) >= {"phase", "mechanism", "since", "words"}
    assert document["cost"]["records"] == len(times)
    assert {"telescoping_error", "telescoping_error_se", "linearisation_error"} <= set(document["telescoping"])


@pytest.mark.parametrize(
    ("text", "words"),
    [("[probe]\nwidht = 3\n", "widht"), ("[probe\n", "not valid TOML"), ("[probe]\n#" + "x" * 300_000, "256 KiB")],
)
def test_mistakes_in_a_file(tmp_path, capsys, text, words):
    file = tmp_path / "probe.toml"
    file.write_text(text)
    assert command(["probe", str(file), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert words in captured.err


def test_a_device_is_not_read(capsys):
    assert command(["probe", "/dev/zero", "--json"]) == 2
    assert "a regular file is needed" in capsys.readouterr().err


def test_same_seed_same_document(capsys):
    first, second = (_json(capsys, "--replicates", "1")[1] for _ in range(2))
    del first["cost"], second["cost"]
    assert first == second


def test_seeds_side_by_side_are_the_same_seeds(capsys):
    """On the single thread that torch has here, to the last digit."""
    alone, beside = (_json(capsys, "--replicates", "2", *flags) for flags in ((), ("--workers", "2")))
    del alone[1]["cost"], beside[1]["cost"]
    assert alone == beside


def test_replicates_are_single_runs(capsys):
    """The mean and standard error over seeds 0, 1 are those of the two runs."""
    experiment = Experiment(**SMALL, replicates=2)
    singles = [run(Experiment(**SMALL, seed=seed)) for seed in (0, 1)]
    mean = run_replicates(experiment)
    values = np.stack([s.kernel_change for s in singles])
    np.testing.assert_allclose(mean.kernel_change, values.mean(0))
    np.testing.assert_allclose(mean.kernel_change_se, values.std(0, ddof=1) / np.sqrt(2))
    movement = [s.layers[1]["movement"][-1] for s in singles]
    assert mean.layers[1]["movement"][-1] == pytest.approx(np.mean(movement))
    assert mean.mechanisms["growth_se"] == pytest.approx(
        np.std([s.mechanisms["growth"] for s in singles], ddof=1) / np.sqrt(2)
    )
    with pytest.raises(InputError, match="at least 2"):
        average(singles[:1])


def test_file_flags_table_and_outputs(tmp_path, capsys):
    file = tmp_path / "probe.toml"
    lines = [f"{k} = {json.dumps(v)}" for k, v in SMALL.items()]
    file.write_text(
        "[probe]\n" + "\n".join(lines) + '\nparameterisation = "mup"\nlayer_rates = [1, 2]\nreplicates = 1\n'
    )
    figure, saved = tmp_path / "f.png", tmp_path / "s.nc"
    assert command(["probe", str(file), "--width", "8", "--figure", str(figure), "--save", str(saved), "--quiet"]) == 0
    text = capsys.readouterr().out
    for word in ("Mechanisms", "Hessian at step 30", "width 8", "parameterisation mup", "cost:", "baseline"):
        assert word in text
    assert figure.stat().st_size > 10000
    import xarray as xr

    with xr.open_dataset(saved, engine="h5netcdf") as data:
        assert data.sizes["time"] == data["kernel_change"].size
        assert data["layer_movement"].dims == ("layer", "time")
        assert data.attrs["setting_parameterisation"] == "mup"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--task", "cifar"], "expected one of"),
        (["--network", "rnn"], "mlp, cnn"),
        (["--network", "cnn"], "no images"),
        (["--parameterisation", "lazy"], "standard"),
        (["--steps", "0"], "at least 1"),
        (["--step-size", "-1"], "positive"),
        (["--layer-rates", "1,a"], "must be a finite number"),
        (["--loss", "cross-entropy"], "squared loss"),
        (["--schedule", "often"], "logarithmic"),
        (["--task", "fashion-mnist", "--data-folder", "/nowhere"], "dataset-fashion-mnist"),
        (["--figure", "x.bmp"], "must end in"),
        (["nowhere.toml"], "cannot read"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, word, capsys):
    assert command(["probe", *FLAGS, *arguments, "--json", "--quiet"]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert word in streams.err
    assert streams.err.count("\n") == 1


def test_unknown_keys_and_types():
    with pytest.raises(InputError, match="unknown key 'depht'"):
        Experiment.from_toml("[probe]\ndepht = 2")
    with pytest.raises(InputError, match="expected int"):
        Experiment.from_toml("[probe]\ndepth = 2.5")
    with pytest.raises(InputError, match="expected bool"):
        Experiment.from_toml("[probe]\nbias = 1")
    with pytest.raises(InputError, match="not valid TOML"):
        Experiment.from_toml("[probe")
    with pytest.raises(InputError, match=r"table \[probe\]"):
        Experiment.from_toml("[teacher]\nlatent_dim = 1")


def test_divergence_is_exit_3(capsys):
    code, document = _json(capsys, "--step-size", "1e6", "--replicates", "1")
    assert code == 3
    assert document["status"].startswith("diverged at step")


def test_quick_says_so(capsys):
    _, document = _json(capsys, "--quick", "--train-samples", "400", "--replicates", "1")
    assert "a tenth of the training samples" in document["message"]
    assert document["setting"]["train_samples"] == 40


def test_effective_parameters_from_the_command(capsys):
    _, document = _json(
        capsys, "--effective-parameters", "--batch-size", "0", "--replicates", "1", "--schedule", "linear:1"
    )
    found = document["telescoping"]["effective_parameters_train"]
    assert found[0] == 0
    assert 0 < found[-1] <= 40 + 1e-6


def test_schedules():
    def steps(spec, last=2000):
        due = make_schedule(spec)
        return [t for t in range(last + 1) if due(t)]

    assert steps("logarithmic", 100) == [0, 1, 2, 5, 10, 22, 46, 100]
    assert steps("logarithmic:4", 100) == [0, 1, 2, 3, 6, 10, 18, 32, 56, 100]
    assert steps("logarithmic:1") == [0, 1, 10, 100, 1000]
    assert steps("linear:500") == [0, 500, 1000, 1500, 2000]
    assert steps("demand") == []
    assert steps([3, 5]) == [3, 5]


def test_verdicts():
    none = dict.fromkeys(("alignment", "disalignment", "growth", "shrinkage"), 0.0)
    kernel = decide([0, 1], [0, 0.01], [0, 0.001], none, {"a": 0.1})
    assert (kernel["phase"], kernel["mechanism"]) == ("kernel", "none")
    assert np.isnan(kernel["since"])
    feature = decide([0, 1, 5, 9], [0, 0.2, 0.05, 2.0], [0] * 4, {**none, "growth": 1.0, "alignment": 0.1}, {})
    assert (feature["phase"], feature["mechanism"], feature["since"]) == ("feature-learning", "growth", 9)
    assert decide([0, 1], [0, 50.0], [0, 0], none, {})["phase"] == "rich"
    assert not decide([0, 1], [0, 0.11], [0, 0.01], none, {})["decided"]
    assert "moved more than their norm: a by 2" in decide([0, 1], [0, 0.01], [0, 0], none, {"a": 2.0})["words"]
    assert decide([0], [float("nan")], [0], none, {})["phase"] == "undetermined"


@pytest.mark.slow
def test_width_scaling_of_the_parameterisations():
    """Kernel change against width on digits: exponent -1 for NTK, 0 for muP (theory/latent-phases)."""
    pytest.importorskip("sklearn")
    widths, seeds = (512, 2048), 3
    for name, expected in (("ntk", -1.0), ("mup", 0.0)):
        options = {"parameterisation": name, "steps": 300, "hessian": "none", "schedule": "demand"}
        runs = [[run(Experiment(width=w, seed=s, **options)) for w in widths] for s in range(seeds)]
        logs = np.log([[r.kernel_change[-1] for r in row] for row in runs])
        slopes = np.diff(logs, axis=1)[:, 0] / np.log(widths[1] / widths[0])
        error = slopes.std(ddof=1) / np.sqrt(seeds)
        # The exponent is approached like 1/width: it is 0.06 (ntk) and 0.1 (muP) off between 512 and 1024
        # (docs/probe.md), so half of that around the geometric mean of these two widths, twice as large; doubled.
        assert abs(slopes.mean() - expected) <= 4 * error + 0.1, name


def test_optimisers_and_weight_decay(capsys):
    """The decay is part of the Hessian for sgd and adam, where it is part of the loss, and not for adamw."""
    ends = {}
    for decay in ("0", "0.5"):
        for optimiser in ("sgd", "adam", "adamw"):
            _, document = _json(
                capsys, "--optimiser", optimiser, "--weight-decay", decay, "--replicates", "1", "--steps", "1"
            )
            ends[optimiser, decay] = document["hessian"][0]["largest"][-1]
    assert ends["sgd", "0.5"] == pytest.approx(ends["sgd", "0"] + 0.5, rel=1e-4)
    assert ends["adam", "0.5"] == pytest.approx(ends["adam", "0"] + 0.5, rel=1e-4)
    assert ends["adamw", "0.5"] == ends["adamw", "0"]
    assert command(["probe", *FLAGS, "--optimiser", "lion", "--json"]) == 2
    assert "sgd, adam, adamw" in capsys.readouterr().err


def test_own_data_and_a_fraction_to_train_on(capsys, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.npz"
    np.savez(path, x=rng.standard_normal((50, 4)), y=rng.integers(0, 3, 50))
    arguments = ["probe", "--task", str(path), "--train-fraction", "0.6", "--loss", "cross-entropy", "--steps", "5"]
    arguments += ["--width", "8", "--replicates", "1", "--json", "--quiet"]
    assert command(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["test_accuracy"]) == len(document["times"])
    assert document["outcome"]["test_accuracy"] == document["test_accuracy"][-1]
    assert document["test_accuracy"][-1] * 20 == pytest.approx(round(document["test_accuracy"][-1] * 20), abs=1e-9)
    np.savez(path, x=rng.standard_normal((50, 4)))
    assert command(arguments) == 2
    assert "no array 'y'" in capsys.readouterr().err
    path.write_text("not an archive")
    assert command(arguments) == 2
    assert capsys.readouterr().err.startswith("error: cannot read")


@pytest.mark.slow
def test_modular_addition_groks():
    """The test accuracy rises long after the training set is fitted, and the kernel has left its start before."""
    options = {"modulus": 23, "train_fraction": 0.7, "optimiser": "adamw", "weight_decay": 2.0, "step_size": 0.01}
    options |= {"loss": "cross-entropy", "batch_size": 0, "width": 128, "steps": 6000, "hessian": "none"}
    result = run(Experiment(task="modular-addition", schedule="logarithmic:6", **options))
    fitted = result.times[np.flatnonzero(result.train_accuracy >= 0.99)[0]]
    learned = result.times[np.flatnonzero(result.test_accuracy >= 0.9)[0]]
    assert learned >= 10 * fitted
    assert result.kernel_change[result.times <= fitted][-1] > 0.1
