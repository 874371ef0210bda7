"""From words on the command line to numbers, with errors that name the flag."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from featurephase.cli.parsing import experiment, parse_matrix, parse_times, parse_vector
from featurephase.cli.templates import read_template
from featurephase.foundation.errors import InputError


def test_vectors() -> None:
    assert parse_vector("--u", "0.5,-0.3") == (0.5, -0.3)
    assert parse_vector("--u", " 1 , 2e-3 ") == (1.0, 0.002)
    assert parse_vector("--u", "inf,1", infinite=True) == (math.inf, 1.0)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1;2", "nan", "inf", "1_0", "0x1", "1 2", "1,2,3"])
def test_vectors_refused(text: str) -> None:
    with pytest.raises(InputError, match="--u"):
        parse_vector("--u", text, length=2)


def test_matrices() -> None:
    assert parse_matrix("--x", "1,0;0,-1") == ((1.0, 0.0), (0.0, -1.0))
    for text in ("1,0;1", ";", "1,0;"):
        with pytest.raises(InputError, match="--x"):
            parse_matrix("--x", text)


def test_times() -> None:
    assert parse_times("--time", None) is None
    assert parse_times("--time", ["10", "0,5", "10"]) == ((0, 5, 10), False)
    assert parse_times("--time", ["inf"]) == ((), True)
    for word in ("-1", "1.5", "", "infinity", "nan", "1e3", "9" * 13, "²"):
        with pytest.raises(InputError, match="--time"):
            parse_times("--time", [word])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.toml"
    path.write_text(read_template("one-neuron"))
    return path


def test_flags_override_their_keys(file: Path) -> None:
    problem = experiment(
        file,
        delta=["3", "5,7"],
        times=parse_times("--time", ["60", "1"]),
        delta_range="1,9",
        samples=2000,
        replicates=3,
        seed=11,
    )
    assert problem.run.delta == (3.0, 5.0, 7.0)
    assert problem.run.times == (1, 60)
    assert problem.threshold.delta_range == (1.0, 9.0)
    assert vars(problem.asymptotics) == {"samples": 2000, "replicates": 3, "seed": 11}
    assert experiment(file).run.times == (0, 10, 60)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"delta": ["0"]}, "--delta"),
        ({"delta": ["nan"]}, "--delta"),
        ({"delta": ["x"]}, "--delta"),
        ({"times": parse_times("--time", ["61"])}, "--time 61"),
        ({"delta_range": "3,1"}, "--delta-range"),
        ({"delta_range": "1"}, "--delta-range"),
        ({"samples": 3}, "asymptotics.samples = 3"),
        ({"replicates": 1}, "asymptotics.replicates = 1"),
        ({"seed": -1}, "asymptotics.seed = -1"),
    ],
)
def test_flags_are_checked_like_their_keys(file: Path, flags: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        experiment(file, **flags)  # type: ignore[arg-type]
