"""Untrusted TOML: the same values as the standard parser, or one clear error, quickly."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from featurephase.foundation import tomlfile
from featurephase.foundation.errors import InputError
from featurephase.foundation.tomlfile import MAX_BYTES, MAX_KEY_PARTS, _longest_key, parse, read_text

K = MAX_BYTES


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", 0),
        ("a = 1", 1),
        ("a.b = 1", 2),
        (" a . 'b' . \"c\" = 1", 3),
        ("[a.b.c]\nd = 1", 3),
        ("x = 1.5", 2),
        ("x = 'a.b.c.d'", 1),
        ('x = "a.b\\"c.d.e"', 1),
        ("x = '''\na.b.c.d\n'''\ny.z = 1", 2),
        ('x = """a.b.c.d""""\ny.z.w = 1', 3),
        ('x = {y = """a"""", z.z.z.z = 1}', 4),
        ("# it's a.b.c.d.e\nx = 1", 1),
        ("x = 'unfinished\ny.z.z.z = 1", 4),
        ("x = [1, 2.5, 1979-05-27T07:32:00.5]", 2),
    ],
)
def test_key_parts_are_counted_outside_strings_and_comments(text: str, parts: int) -> None:
    assert _longest_key(text) == parts


def test_ordinary_documents_come_out_as_from_the_standard_parser() -> None:
    text = '\ufeff[a]\nb = [1, 2.5]\r\nc = """x""""\n[[d.e]]\nf.g = {h = true}\n'
    assert parse(text) == tomllib.loads(text[1:])
    longest = ".".join("k" * MAX_KEY_PARTS)
    assert parse(f"{longest} = 1") == tomllib.loads(f"{longest} = 1")


HOSTILE = {
    "dotted key": "a." * (K // 2 - 4) + "a = 1",
    "quoted dotted key": "'a' . " * (K // 6 - 4) + "a = 1",
    "dotted header": "[" + "a." * (K // 2 - 4) + "a]",
    "dotted key in an inline table": "x = {" + "a." * (K // 2 - 8) + "a = 1}",
    "nested arrays": "a = " + "[" * (K - 8),
    "nested inline tables": "a = " + "{a = " * (K // 5 - 8),
    "long integer": "a = " + "1" * (K - 8),
    "control characters": "a = \x01",
    "zero byte": "a = 1\0",
    "date out of range": "a = 2000-13-45",
    "unfinished string": 'a = "' + "x" * (K - 8),
    "escapes": 'a = "' + "\\" * (K - 8),
    "quotes": '"' * (K - 1),
    "apostrophes": "'" * (K - 1),
    "many redefinitions": "[a]\n" * (K // 4),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_documents_are_refused_at_once(kind: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        parse(HOSTILE[kind], "there")
    assert time.process_time() - start < 3
    assert str(caught.value).startswith("there: ")
    assert len(str(caught.value)) < 300


HEAVY = {
    "many tables": "".join(f"[a.b.c.d.e.f.g.h{i}]\n" for i in range(K // 24)),
    "many array tables": "[[a]]\n" * (K // 6),
    "many keys": "".join(f"a{i}=1\n" for i in range(K // 9)),
    "many dotted keys": "".join(f"a{i}.b.c.d.e.f.g.h=1\n" for i in range(K // 24)),
    "many values": "a = [" + "0," * (K // 2 - 8) + "]",
    "many comments": "a = [" + "#\n" * (K // 2 - 8) + "]",
    "long hexadecimal": "a = 0x" + "f" * (K - 16),
    "long float": "a = 1" + "0" * (K - 16) + ".0",
    "long key": "a" * (K - 16) + " = 1",
}


@pytest.mark.parametrize("kind", HEAVY)
def test_heavy_but_valid_documents_are_quick(kind: str) -> None:
    start = time.process_time()
    assert parse(HEAVY[kind]) == tomllib.loads(HEAVY[kind])
    assert time.process_time() - start < 5


# -- files --


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text("#" * K)
    assert len(read_text(path)) == K
    path.write_text("#" * (K + 1))
    with pytest.raises(InputError, match="larger than 256 KiB"):
        read_text(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_a_pipe_is_read_once_and_whole(tmp_path: Path, pause: float) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "#" * 200_000  # more than a pipe holds
    program = (
        f"import sys, time; time.sleep({pause}); f = open(sys.argv[1], 'w'); time.sleep({pause}); "
        "f.write('#' * 100_000); f.flush(); time.sleep(0.1); f.write('#' * 100_000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(pipe)])
    assert read_text(pipe) == text
    assert writer.wait(timeout=30) == 0


def test_what_is_not_a_readable_text_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tomlfile, "PATIENCE", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    latin = tmp_path / "latin.toml"
    latin.write_bytes("title = 'é'".encode("latin-1"))
    for path, message in (
        (tmp_path, "folder"),
        (pipe, "pipe"),
        (Path("/dev/zero"), "device"),
        (tmp_path / "missing.toml", "No such file"),
        (latin / "below.toml", "Not a directory"),
        (latin, "UTF-8"),
        ("a\0b", "null"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_text(path)
        assert str(caught.value).count("cannot read") <= 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.toml"
    path.write_text("")
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_text(path)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a = 1")))
    assert read_text("-") == "a = 1"


def test_a_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input: it is closed"):
        read_text("-")


def test_standard_input_of_a_notebook_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a = 'é'"))
    assert read_text("-") == "a = 'é'"


def test_endless_standard_input_is_refused() -> None:
    program = "from featurephase.foundation.tomlfile import read_text; read_text('-')"
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run([sys.executable, "-c", program], stdin=zeros, capture_output=True, timeout=60)
    assert b"larger than 256 KiB" in done.stderr
