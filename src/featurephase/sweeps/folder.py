"""The folder of a store: whose it is, who writes to it, how it is replaced whole, and whether its files are sound."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.files import STORE_FORM

_LOCK = ".lock"
_METADATA = "zarr.json"


def named(folder: Path) -> str:
    """A store in messages."""
    return f"store {show(os.fspath(folder), 400)}"


def is_sound(chunk: Path) -> bool:
    """Whether a chunk file is there and ends in the CRC-32C of the rest."""
    import google_crc32c

    try:
        content = chunk.read_bytes()
    except OSError:
        return False
    return len(content) >= 4 and google_crc32c.value(content[:-4]) == int.from_bytes(content[-4:], "little")


def is_store(folder: Path) -> bool:
    """Whether a folder is a store of a sweep.

    Raises
    ------
    InputError
        If it is one whose metadata are damaged.
    """
    try:
        text = (folder / _METADATA).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        attributes = json.loads(text)["attributes"]
        return bool(attributes.get("written_by") == "featurephase" and STORE_FORM in attributes)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        if (folder / _LOCK).exists():
            raise InputError(f"{named(folder)}: {_METADATA} in it is damaged; give another --store") from None
        return False


def refuse_others(folder: Path) -> None:
    """Refuse to make a store in what is no empty folder.

    Raises
    ------
    InputError
        Saying what is there.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{named(folder)}: is a file; a store is a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{named(folder)}: is a folder with something else in it; give another --store")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{named(folder)}: the folder {show(str(folder.absolute().parent), 400)} does not exist")


@contextlib.contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, with a lock file in it, which is removed again if what fills it fails."""
    scratch = Path(tempfile.mkdtemp(prefix=".featurephase-", dir=folder.absolute().parent))
    try:
        (scratch / _LOCK).touch()
        yield scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def put_new(scratch: Path, folder: Path) -> None:
    """Give a scratch folder the name of a new store, unless another process has made one meanwhile: then it goes."""
    scratch.chmod(0o777 & ~_umask())
    try:
        os.replace(scratch, folder)  # over an empty folder at most
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def put_in_place(scratch: Path, folder: Path) -> None:
    """Give a scratch folder the name of a store that is locked; what had it before goes."""
    old = Path(tempfile.mkdtemp(prefix=".featurephase-", dir=folder.absolute().parent))
    os.replace(folder, old / "old")
    try:
        os.replace(scratch, folder)
    except BaseException:
        os.replace(old / "old", folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    folder.chmod(0o777 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone with a store, until the end of the block or of this process, however that comes.

    Raises
    ------
    InputError
        If another process has it.
    """
    path = folder / _LOCK
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not _lock(descriptor, path):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise InputError(
                f"{named(folder)} is in use{f' by {holder}' if holder else ''}: a sweep is written by one process at "
                "a time; wait for it, or give another --store"
            )
        same = os.path.exists(path) and os.path.samestat(os.fstat(descriptor), path.stat())
        if not same:
            raise InputError(f"{named(folder)} was just replaced by another process: try again")
        with contextlib.suppress(OSError):  # a full disk has no room for a name
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Whether nobody else has it. Opened for reading, so that a file system can be made read-only meanwhile."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system: only what is open for writing can be locked
        writable = os.open(path, os.O_RDWR)
        os.dup2(writable, descriptor, inheritable=False)
        os.close(writable)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def forget_consolidated(folder: Path) -> None:
    """Take the consolidated metadata out of a group whose arrays are about to change."""
    path = folder / _METADATA
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.pop("consolidated_metadata", None) is not None:
        part = path.with_suffix(".partial")
        part.write_text(json.dumps(document), encoding="utf-8")
        os.replace(part, path)
