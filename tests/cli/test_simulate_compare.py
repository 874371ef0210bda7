"""The commands simulate and compare: documents, exit codes, files, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featurephase.cli.app import run

from .. import cases

TEXT = cases.file_text(
    ("[student]", "easy_basis = [[]]\n[student]"),
    ("samples = 2000", "samples = 5000"),
    ("delta = [4.0, 20.0]\ntimes = [0, 4]", "delta = [3.0]"),
)


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(TEXT)
    return path


FAST = ["--no-recovery", "--no-prediction", "--seeds", "3"]


def test_simulate_prints_one_document_and_writes_files(experiment, tmp_path, capsys):
    files = [tmp_path / "a.png", tmp_path / "a.nc"]
    command = ["simulate", str(experiment), "--dimension", "30", *FAST, "--json", "--figure", str(files[0])]
    assert run([*command, "--save", str(files[1])]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "ok"
    assert document["runs"][0]["dimension"] == 30
    assert document["runs"][0]["hessian"][0]["time"] == 4
    assert all(f.stat().st_size > 1000 for f in files)
    import xarray

    with xarray.open_dataset(files[1], engine="h5netcdf") as saved:
        assert saved["train_loss"].dims == ("delta", "time")
        assert saved.attrs["replicates"] == 3


def test_compare_prints_a_verdict(experiment, tmp_path, capsys):
    figure = tmp_path / "c.png"
    command = ["compare", str(experiment), "--dimension", "80", "--seeds", "6", "--no-escape"]
    assert run([*command, "--json", "--figure", str(figure), "--save", str(tmp_path / "c.nc")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document["agree"], bool)
    assert {"name", "time", "theory", "theory_se", "simulation", "simulation_se", "z"} <= set(document["quantities"][0])
    assert figure.stat().st_size > 1000
    assert run(command) == 0
    assert "theory and simulation" in capsys.readouterr().out


def test_tables_for_people(experiment, capsys):
    assert run(["simulate", str(experiment), "--dimension", "30", "--method", "implicit", *FAST]) == 0
    out = capsys.readouterr().out
    assert "training loss" in out
    assert "--method dense has it" in out


def test_without_a_matrix_the_hessian_is_null_with_a_message(experiment, capsys):
    command = ["simulate", str(experiment), "--dimension", "30", "--method", "implicit", *FAST, "--json"]
    assert run(command) == 0
    document = json.loads(capsys.readouterr().out)
    (entry,) = document["runs"][0]["hessian"]
    for key in ("smallest", "smallest_se", "largest", "largest_se", "hard_overlaps", "hard_overlaps_se"):
        assert key in entry
        assert entry[key] is None
    assert "--method dense has it" in entry["message"]
    assert (document["status"], entry["status"]) == ("ok", "not-available")
    # asked for by name it is something that does not exist
    assert run([*command, "--time", "2"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "not-available"
    assert document["runs"][0]["status"] == "ok"
    assert document["runs"][0]["hessian"][0]["smallest"] is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["simulate"], "no dimension"),
        (["simulate", "--dimension", "1"], "at least latent_dim"),
        (["simulate", "--dimension", "30", "--method", "fast"], "dense or implicit"),
        (["simulate", "--dimension", "30", "--delta", "0"], "finite number > 0"),
        (["simulate", "--dimension", "30", "--time", "9"], "beyond the last step"),
        (["simulate", "--dimension", "30", "--precision", "float16"], "float64 or float32"),
        (["simulate", "--dimension", "1000000", "--delta", "1000000"], "are available"),
        (["simulate", "--dimension", "30", "--labels", "y.csv"], "go with --data"),
        (["simulate", "--data", "absent.npy"], "cannot read"),
        (["simulate", "--data", "absent.npy", "--dimension", "3"], "fixes n and d"),
        (["compare", "--dimension", "30", "--seeds", "1"], "at least 2"),
        (["compare", "--dimension", "1"], "at least latent_dim"),
    ],
)
def test_bad_requests_are_refused_with_one_line(experiment, capsys, arguments, why):
    assert run([arguments[0], str(experiment), *arguments[1:], "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert why in captured.err


def test_what_does_not_exist_is_exit_code_3(experiment, capsys):
    experiment.write_text(TEXT.replace('"gelu"', '"relu"'))
    assert run(["simulate", str(experiment), "--dimension", "30", *FAST, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "singular-curvature"
    assert document["runs"][0]["train_loss"][4] > 0
    experiment.write_text(TEXT.replace('"gelu"', '"h**2"').replace("0.8", "80.0"))
    assert run(["simulate", str(experiment), "--dimension", "30", *FAST, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["status"].startswith("diverged at step")


def test_user_data_on_the_command_line(experiment, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((100, 8)))
    command = ["simulate", str(experiment), "--data", str(tmp_path / "x.npy"), "--whiten", *FAST, "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)["runs"][0]
    assert (found["samples"], found["dimension"]) == (80, 8)


def test_quick_simulations_are_few_and_say_so(invoke, experiment_file) -> None:
    flags = ["--dimension", 20, "--delta", 4, "--seeds", 12, "--quick", "--json"]
    document = invoke("simulate", experiment_file(), *flags).document
    assert document["replicates"] == 3
    assert "quick: 3 seeds in place of 12" in document["message"]
    assert document["runs"][0]["recovery"] == []


def test_compare_takes_the_users_features(invoke, experiment_file, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((200, 20)))
    done = invoke("compare", experiment_file(), "--data", tmp_path / "x.npy", "--seeds", 4, "--json")
    assert done.code == 0
    assert done.document["samples"] == [[160]]
    refused = invoke("compare", experiment_file(), "--data", tmp_path / "x.npy", "--dimension", 20)
    assert refused.code == 2
    assert "--data FILE fixes n and d" in refused.err
    nothing = invoke("compare", experiment_file())
    assert nothing.code == 2
    assert "--dimension" in nothing.err
