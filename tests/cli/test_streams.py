"""Streams that are closed, full or gone, files that cannot be finished, and numbers that are printed all the same."""

from __future__ import annotations

import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featurephase.cli.deliver import Delivery, deliver
from featurephase.cli.templates import template_list
from featurephase.foundation.errors import FeaturephaseError

FEATUREPHASE = f"{sys.executable} -m featurephase"
LATENT = "latent --u=0.5,-0.3 --w=0.2,0.7 --cross-moment 1 --time 1"


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("featurephase", FEATUREPHASE)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


CLOSED = [flags for count in range(4) for flags in itertools.combinations(("<&-", ">&-", "2>&-"), count)]


@pytest.mark.parametrize("closed", CLOSED, ids=" ".join)
def test_closed_streams_in_every_combination(closed: tuple[str, ...], tmp_path: Path) -> None:
    done = shell(f"featurephase {LATENT} --json --save a.nc {' '.join(closed)}; echo $? > code", tmp_path)
    code = int((tmp_path / "code").read_text())
    if ">&-" in closed:
        assert (code, done.stdout) == (1, "")
        assert done.stderr == ("" if "2>&-" in closed else "error: standard output is closed\n")
        assert not (tmp_path / "a.nc").exists()
    else:
        assert code == 0
        assert json.loads(done.stdout)["status"] == "ok"
        assert (tmp_path / "a.nc").read_bytes()[:4] == b"\x89HDF"


def test_a_closed_standard_input_is_said(tmp_path: Path) -> None:
    done = shell("featurephase predict - <&-", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: cannot read standard input: it is closed\n"


def test_a_template_on_standard_output_is_an_experiment(tmp_path: Path) -> None:
    done = shell("featurephase init one-neuron -o - | featurephase explain - --delta -1", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "delta" in done.stderr  # the file was read
    assert shell("featurephase init one-neuron -o - --json", tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_process_substitution_is_read(tmp_path: Path) -> None:
    done = shell("featurephase explain <(featurephase init one-neuron -o -) --delta -1", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "delta" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_files_are_written_where_printing_fails(tmp_path: Path) -> None:
    done = shell(f"featurephase {LATENT} --save a.nc --figure a.png > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc", "a.png"]


def test_a_reader_that_leaves_early_costs_no_file(tmp_path: Path) -> None:
    done = shell(f"featurephase {LATENT} --save a.nc | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_numbers_are_printed_before_a_figure_fails(tmp_path: Path) -> None:
    done = shell(f"featurephase {LATENT} --json --figure a.png --save a.nc", tmp_path, MPLBACKEND="nonsense")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "ok"
    assert done.stderr.count("error: ") == 1
    assert "nonsense" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_numbers_are_printed_before_a_file_fails(tmp_path: Path) -> None:
    """A limit on the size of files, of one block of 1024 bytes, is a disk that is full."""
    for name in ("a.nc", "a.zarr"):
        done = shell(f"ulimit -f 1; featurephase {LATENT} --json --save {name}", tmp_path)
        assert done.returncode == 1, done.stderr
        assert json.loads(done.stdout)["status"] == "ok"
        assert done.stderr == f"error: File too large: '{name}'\n"
        assert list(tmp_path.iterdir()) == []


def test_every_failure_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    result = template_list()

    def fail(self, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(type(result), "save", fail)
    monkeypatch.setattr(type(result), "figure", lambda self: 1 / 0)
    with pytest.raises(OSError, match="No space left"):
        deliver(result, Delivery(save=tmp_path / "a.nc", figure=tmp_path / "a.png"))
    out, err = capsys.readouterr()
    assert "one-neuron" in out
    assert err == "error: division by zero\n"


def test_a_folder_that_goes_away_meanwhile_is_no_bad_input(tmp_path: Path, capsys) -> None:
    with pytest.raises(FeaturephaseError, match="gone' does not exist") as failure:
        deliver(template_list(), Delivery(save=tmp_path / "gone" / "a.nc"))
    assert failure.value.exit_code == 1
    assert "one-neuron" in capsys.readouterr().out


def test_an_interruption_while_files_are_written_says_that_numbers_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = template_list()

    def interrupt(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(result), "save", interrupt)
    with pytest.raises(KeyboardInterrupt, match="the numbers are printed"):
        deliver(result, Delivery(save=tmp_path / "a.nc"))


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_document_is_printed_whole(number: signal.Signals, unbuffered: str, tmp_path: Path) -> None:
    """An interruption while a pipe is full, because nobody has read yet."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "featurephase", "latent", "--width", "3000", "--cross-moment", "1", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment)
    assert process.stdout is not None
    size = 0
    while size < 2**16:
        time.sleep(0.05)
        (size,) = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"    "))
        assert process.poll() is None
    process.send_signal(number)
    time.sleep(0.3)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "ok"
    assert err == b"interrupted; the numbers are printed, and every file is whole or as it was\n"


def test_an_error_stream_without_isatty(monkeypatch: pytest.MonkeyPatch) -> None:
    from featurephase.foundation.executors import ThisProcess

    class Silent:
        def write(self, text: str) -> int:
            return len(text)

    for stream in (Silent(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert ThisProcess(progress=True).run(abs, [(-1,), (2,)]) == [1, 2]


@pytest.mark.parametrize(("flag", "message"), [("--workers 0", "workers = 0"), ("--workers 2 --dask x", "exclude")])
def test_impossible_executors_are_refused_first(flag: str, message: str, tmp_path: Path) -> None:
    done = shell(f"featurephase predict absent.toml {flag}", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_modules_in_the_working_folder_are_not_ours(tmp_path: Path) -> None:
    for name in ("random", "numpy", "typer", "scipy", "xarray"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    done = shell(f"featurephase {LATENT} --json --save a.nc", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
