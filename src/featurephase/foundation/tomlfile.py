"""Reading TOML that nobody has vouched for: a value or one clear error, soon and in little memory."""

from __future__ import annotations

import os
import re
import stat
import sys
import time
import tomllib
from collections.abc import Mapping
from typing import Any

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.files import file_kind

#: Largest file that is read. An experiment is a page of text; a 100 x 100 Gram matrix still fits.
MAX_BYTES = 256 * 1024
#: Seconds until a pipe must have a writer.
PATIENCE = 5.0
#: Most characters of a file name that a message shows.
_NAME = 400

#: Longest dotted key. The standard library's parser spends time and memory that grow with the square of the
#: number of parts (a 200 kB key costs 20 GB), and no file of ours needs more than two.
MAX_KEY_PARTS = 8

# Strings and comments are taken whole (linear time); what remains are bare parts, dots and the rest.
_TOKEN = re.compile(
    r"""
      (?P<skip>    \#[^\n]*+ | [ \t]++ )
    | (?P<part>    \"\"\" (?: [^"\\] | \\. | "{1,2}(?!") )*+ (?: "{3,5} )?
                 | ''' (?: [^'] | '{1,2}(?!') )*+ (?: '{3,5} )?
                 | " (?: [^"\\\n] | \\. )*+ "?
                 | ' [^'\n]*+ '?
                 | [A-Za-z0-9_-]++ )
    | (?P<dot>     \. )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)


def _longest_key(text: str) -> int:
    """Number of parts of the longest dotted key of a TOML text, without parsing it."""
    longest = parts = 0
    after_dot = False
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "part":
            parts = parts + 1 if after_dot else 1
            longest = max(longest, parts)
            after_dot = False
        elif kind == "dot":
            after_dot = True
        elif kind == "other":
            parts, after_dot = 0, False
    return longest


def parse(text: str, source: str = "the text") -> dict[str, Any]:
    """Parse TOML as :func:`tomllib.loads` does, refusing first what would take it very long; errors name ``source``.

    Raises
    ------
    InputError
        If the text is not TOML, a dotted key has more than :data:`MAX_KEY_PARTS` parts, or the values are
        nested too deeply.
    """
    if "\0" in text:
        raise InputError(f"{source}: contains a zero byte; a TOML text file is needed")
    if (parts := _longest_key(text)) > MAX_KEY_PARTS:
        raise InputError(f"{source}: a dotted key has {parts} parts; at most {MAX_KEY_PARTS} are accepted")
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not valid TOML: {error}") from error
    except ValueError as error:  # a number of thousands of digits, a date in month 13
        raise InputError(f"{source}: not valid TOML: {str(error).split(';')[0]}") from error
    except RecursionError as error:
        raise InputError(f"{source}: arrays or tables are nested too deeply") from error


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def toml_value(value: Any) -> str:
    """A text, a number, true or false, a list or a table as TOML: floats in their shortest form that reads back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = (_ESCAPES.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c) for c in value)
        return '"' + "".join(escaped) + '"'
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_value(str(k))} = {toml_value(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(toml_value(v) for v in value) + "]"


def _read_bytes(path: str) -> bytes:
    """At most one byte more than is accepted, from standard input (``-``), a file or a pipe."""
    if path == "-":
        if sys.stdin is None:
            raise InputError("cannot read standard input: it is closed")
        stream = getattr(sys.stdin, "buffer", None)  # a test or a notebook may have put a text stream there
        return bytes(sys.stdin.read(MAX_BYTES + 1).encode() if stream is None else stream.read(MAX_BYTES + 1))
    # Opened without blocking and checked afterwards on the descriptor: a pipe without a writer must not hang.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode):
            return _read_pipe(path, descriptor)
        if not stat.S_ISREG(mode):
            raise InputError(f"cannot read {show(path, _NAME)}: it is {file_kind(mode)}; a regular file is needed")
        return file.read(MAX_BYTES + 1)


def _read_pipe(path: str, descriptor: int) -> bytes:
    """What comes out of a pipe (``<(make-experiment)``), once somebody writes to it, until the end."""
    data = b""
    end = time.monotonic() + PATIENCE
    while not data:
        try:
            data = os.read(descriptor, MAX_BYTES + 1)
        except BlockingIOError:  # somebody has opened it and not written yet
            break
        if not data:
            if time.monotonic() > end:
                raise InputError(f"cannot read {show(path, _NAME)}: it is a pipe, and nobody writes to it")
            time.sleep(0.02)
    os.set_blocking(descriptor, True)
    while len(data) <= MAX_BYTES and (more := os.read(descriptor, MAX_BYTES + 1)):
        data += more
    return data


def read_text(path: str | os.PathLike[str]) -> str:
    """Text of the UTF-8 file ``path``, or of standard input where it is ``"-"``.

    Raises
    ------
    InputError
        If it cannot be read, is neither a file nor a pipe, is larger than :data:`MAX_BYTES` or is not UTF-8.
    """
    name = os.fspath(path)
    source = "standard input" if name == "-" else show(name, _NAME)
    try:
        data = _read_bytes(name)
    except InputError:
        raise
    except IsADirectoryError:
        raise InputError(f"cannot read {source}: it is a folder; a regular file is needed") from None
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise InputError(f"cannot read {source}: {error}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{source} is larger than {MAX_BYTES // 1024} KiB, the most that is read")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 text (byte {error.start}); a TOML text file is needed") from error
