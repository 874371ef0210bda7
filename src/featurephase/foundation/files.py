"""Files that are whole or as they were: what is refused before computing, and how a finished file is put in place.

A file is written beside its target under another name and then renamed, so that a full disk, an interruption or a
reader at the wrong moment meets the old file or the new one. A symbolic link to a file is followed: its target changes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from featurephase.foundation.errors import InputError, show

if TYPE_CHECKING:
    import xarray

#: Endings of figures and of labelled data, in small or capital letters.
FIGURES = (".png", ".pdf", ".svg")
TABLES = (".nc", ".zarr")
#: Those of tables of text, which a sweep can be saved as.
CSV = (".csv",)
#: Attribute of a zarr group that says who may replace it.
_MARK = "written_by"
#: Attribute that a store of cells has besides, and a result that was saved has not.
STORE_FORM = "form"
#: How often a folder that another run has just put in place of the target is moved away, and a scratch folder removed.
_ATTEMPTS = 20
#: Most characters of a file name that a message shows.
_NAME = 400


def file_kind(mode: int) -> str:
    """What something that is no regular file is, in words."""
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for test, name in kinds.items() if test(mode)), "something else")


def check_target(what: str, path: str | os.PathLike[str], suffixes: tuple[str, ...] = ()) -> Path:
    """Where to write ``path``, a link followed; refuse what cannot be written, or must not be replaced.

    Messages say whose file it is, ``what``, such as ``"--save"``. ``suffixes`` are the endings accepted, in small
    letters; none: any.

    Raises
    ------
    InputError
        If the name ends otherwise, the folder does not exist or may not be written to, or something stands there that
        is no file: a folder, a pipe, a zarr store that featurephase has not written, the store of a sweep.
    """
    given = Path(path)
    name = f"{what} {show(os.fspath(path), _NAME)}"
    suffix = given.suffix.lower()
    if suffixes and suffix not in suffixes:
        raise InputError(f"{name}: the name must end in {', '.join(suffixes)}")
    try:
        target = Path(os.path.realpath(given)) if given.is_symlink() else given
        mode = target.stat().st_mode if target.exists() else None
        folder = target.parent
        there = folder.is_dir()
    except (OSError, ValueError) as error:  # too long, a zero byte
        raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    if target.is_symlink():
        raise InputError(f"{name}: is a circle of symbolic links")
    if not there:
        raise InputError(f"{name}: the folder {show(str(folder), _NAME)} does not exist")
    if mode is not None:
        _check_present(name, given, target, mode)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{name}: no permission to write in the folder {show(str(folder), _NAME)}")
    return target


def _check_present(name: str, given: Path, target: Path, mode: int) -> None:
    """Refuse to replace what is there already, unless it is a file or a store of ours."""
    if stat.S_ISDIR(mode):
        if given.is_symlink():
            raise InputError(f"{name}: is a link to a folder; give a name of its own")
        if given.suffix.lower() != ".zarr":
            raise InputError(f"{name}: is a folder; the name of a file is needed")
        if any(target.iterdir()):
            _check_folder(name, target)
    elif not stat.S_ISREG(mode):
        raise InputError(f"{name}: is {file_kind(mode)}; the name of a file is needed")
    elif given.suffix.lower() == ".zarr":
        raise InputError(f"{name}: is a file; a zarr store is a folder")
    elif not os.access(target, os.W_OK):
        raise InputError(f"{name}: no permission to write to that file")


def _check_folder(name: str, folder: Path) -> None:
    """Refuse to replace a folder unless it is a zarr group that a result was saved to here, and no store of cells."""
    try:
        attributes = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        ours, store = bool(attributes[_MARK] == "featurephase"), STORE_FORM in attributes
    except (OSError, ValueError, KeyError, TypeError):
        ours = store = False
    if not ours:
        raise InputError(f"{name}: is a folder that featurephase has not written, and is left alone; give another name")
    if store:
        raise InputError(
            f"{name}: is the store of a sweep or of tasks, whose cells would be lost, and is left alone; give another "
            "name"
        )


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Errors of the system name the file that was asked for, not the scratch file beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(target)) from error


def _put(target: Path, write: Callable[[Path], object], *, overwrite: bool = True) -> Path:
    """Let ``write`` make a file or folder of some other name beside ``target``, then give it the name."""
    with _naming(target):
        scratch = Path(tempfile.mkdtemp(prefix=".featurephase-", dir=target.parent))
        try:
            part = scratch / f"part{target.suffix}"
            write(part)
            _replace(part, target, scratch) if overwrite else _link(part, target)
        except BaseException:
            _remove(scratch, looks=_ATTEMPTS // 2)
            raise
        _remove(scratch)
    return target


def _remove(scratch: Path, looks: int = 1) -> None:
    """Take a scratch folder away; it must be gone at this many looks.

    After one thread of zarr has failed others may write for a moment, and make the folder anew.
    """
    for look in range(_ATTEMPTS):
        shutil.rmtree(scratch, ignore_errors=True)
        if look + 1 >= looks and not scratch.exists():
            return
        time.sleep(0.03)


def _replace(part: Path, target: Path, scratch: Path) -> None:
    """Rename ``part`` to ``target``; a folder in its place is moved away first, and back where that fails.

    Another run may put its own folder there at any moment: that one is then moved away too.
    """
    for attempt in range(_ATTEMPTS):
        away = scratch / f"old-{attempt}"
        with contextlib.suppress(FileNotFoundError):
            if target.is_dir():
                os.replace(target, away)
        try:
            os.replace(part, target)
            return
        except BaseException as error:
            if getattr(error, "errno", None) in (errno.ENOTEMPTY, errno.EEXIST) and attempt < _ATTEMPTS - 1:
                continue
            if away.exists() and not target.exists():
                os.replace(away, target)
            raise


def write_bytes(path: str | os.PathLike[str], content: bytes | memoryview, suffixes: tuple[str, ...] = ()) -> Path:
    """Write a file whole or not at all.

    Raises
    ------
    InputError
        As :func:`check_target`.
    OSError
        If the disk is full, or another fault of the system; the file is then what it was.
    """
    return _put(check_target("cannot write", path, suffixes), lambda part: part.write_bytes(content))


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = False) -> Path:
    """Write a text file whole or not at all, and never over another one unless ``overwrite``.

    Raises
    ------
    InputError
        If the file exists and ``overwrite`` is not given, and as :func:`check_target`.
    OSError
        If the disk is full, or another fault of the system.
    """
    taken = f"{show(os.fspath(path), _NAME)} exists already; --force overwrites it"
    target = check_target("cannot write", path)
    if not overwrite and os.path.lexists(path):
        raise InputError(taken)
    try:
        return _put(target, lambda part: part.write_text(text, encoding="utf-8"), overwrite=overwrite)
    except FileExistsError:
        if overwrite:
            raise
        raise InputError(taken) from None


def _link(part: Path, target: Path) -> None:
    """Give ``part`` the name ``target`` too; unlike a rename this fails where the name was taken meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with target.open("xb") as file:
            file.write(part.read_bytes())


def save_dataset(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write an xarray data set to ``path`` (``.nc``: netCDF4; ``.zarr``: zarr), whole or not at all.

    A netCDF file is made in memory: the library ends the whole process where it meets a full disk.

    Raises
    ------
    InputError
        As :func:`check_target`.
    OSError
        If the disk is full, or another fault of the system.
    """
    target = check_target("cannot save to", path, TABLES)
    dataset = dataset.assign_attrs({_MARK: "featurephase"})
    if target.suffix.lower() == ".nc":
        content = dataset.to_netcdf(engine="h5netcdf")
        return _put(target, lambda part: part.write_bytes(content))
    with warnings.catch_warnings():  # readers without consolidated metadata warn, and so does writing with it
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        return _put(target, lambda part: dataset.to_zarr(part, mode="w", zarr_format=3))
