"""Files that are whole or as they were, and what is refused before anything is computed."""

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from featurephase.foundation import files
from featurephase.foundation.errors import InputError
from featurephase.foundation.files import FIGURES, TABLES, check_target, save_dataset, write_bytes, write_text

DATA = xr.Dataset({"a": ("x", np.arange(3000.0))}, attrs={"title": "straße"})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.nc", "a.NC", "a.zarr", "a.Zarr", "ü b.nc"])
def test_a_data_set_comes_back_and_replaces_its_like(tmp_path, name):
    for factor in (1.0, 2.0):
        path = save_dataset(DATA * factor, tmp_path / name)
        found = xr.open_dataset(path, engine="h5netcdf" if name.lower().endswith("nc") else "zarr").load()
        assert np.array_equal(found["a"], factor * np.arange(3000.0))
        found.close()
    assert names(tmp_path) == [name]


def test_a_folder_that_is_no_store_of_ours_is_left_alone(tmp_path):
    folder = tmp_path / "results.zarr"
    folder.mkdir()
    (folder / "thesis.tex").write_text("three years of work")
    with pytest.raises(InputError, match="is a folder that featurephase has not written"):
        save_dataset(DATA, folder)
    assert names(folder) == ["thesis.tex"]
    assert names(tmp_path) == ["results.zarr"]


def test_folders_put_at_once_under_one_name_replace_each_other(tmp_path):
    """Each of them may find the folder of another one in the moment between looking and renaming."""

    def write(part: Path) -> None:
        part.mkdir()
        (part / "zarr.json").touch()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: files._put(tmp_path / "a.zarr", write), range(200)))
    assert names(tmp_path) == ["a.zarr"]
    assert names(tmp_path / "a.zarr") == ["zarr.json"]


def test_a_zarr_store_of_somebody_else_is_left_alone(tmp_path):
    folder = tmp_path / "other.zarr"
    DATA.to_zarr(folder)
    before = (folder / "zarr.json").read_bytes()
    with pytest.raises(InputError, match="not written"):
        save_dataset(DATA, folder)
    assert (folder / "zarr.json").read_bytes() == before
    save_dataset(DATA, tmp_path / "ours.zarr")
    assert json.loads((tmp_path / "ours.zarr/zarr.json").read_text())["attributes"]["written_by"] == "featurephase"


def test_an_empty_folder_becomes_a_store(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    save_dataset(DATA, tmp_path / "a.zarr")
    assert "zarr.json" in names(tmp_path / "a.zarr")


def test_a_link_to_a_file_is_written_through(tmp_path):
    target, link = tmp_path / "data" / "real.nc", tmp_path / "link.nc"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    save_dataset(DATA, link)
    assert link.is_symlink()
    assert target.read_bytes()[:4] == b"\x89HDF"
    dangling = tmp_path / "dangling.nc"
    dangling.symlink_to(tmp_path / "data" / "new.nc")
    save_dataset(DATA, dangling)
    assert names(tmp_path / "data") == ["new.nc", "real.nc"]
    write_text(link, "text", overwrite=True)
    assert target.read_text() == "text"


def test_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("link.zarr", "link.nc"):
        (tmp_path / name).symlink_to(tmp_path / "folder")
        with pytest.raises(InputError, match="is a link to a folder"):
            save_dataset(DATA, tmp_path / name)
    assert names(tmp_path / "folder") == []


@pytest.mark.parametrize(
    ("name", "suffixes", "message"),
    [
        ("a.txt", TABLES, "the name must end in .nc, .zarr"),
        ("a.jpg", FIGURES, "the name must end in .png, .pdf, .svg"),
        ("no/where.nc", TABLES, "no' does not exist"),
        ("file.nc/below.nc", TABLES, "does not exist"),
        ("folder.png", FIGURES, "is a folder"),
        ("file.zarr", TABLES, "is a file; a zarr store is a folder"),
        ("pipe.nc", TABLES, "is a pipe"),
        ("circle.nc", TABLES, "is a pipe|symbolic links"),
        ("x" * 400 + ".nc", TABLES, "too long"),
    ],
)
def test_what_is_refused_before_anything_is_computed(tmp_path, name, suffixes, message):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.zarr").write_text("")
    (tmp_path / "file.nc").write_text("")
    os.mkfifo(tmp_path / "pipe.nc")
    (tmp_path / "circle.nc").symlink_to(tmp_path / "circle.nc")
    before = names(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        check_target("--save", tmp_path / name, suffixes)
    assert str(caught.value).count(str(tmp_path / name)[:300]) == 1
    assert names(tmp_path) == before


def test_capital_endings_are_accepted(tmp_path):
    for name in ("A.PNG", "a.Pdf"):
        assert check_target("--figure", tmp_path / name, FIGURES) == tmp_path / name


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_no_permission(tmp_path):
    (tmp_path / "file.nc").write_text("")
    (tmp_path / "file.nc").chmod(0o444)
    with pytest.raises(InputError, match="no permission to write to that file"):
        check_target("--save", tmp_path / "file.nc", TABLES)
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="no permission to write in the folder"):
        check_target("--save", tmp_path / "new.nc", TABLES)
    tmp_path.chmod(0o755)


def test_no_permission_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="no permission to write in the folder"):
        check_target("--save", tmp_path / "new.nc", TABLES)


def test_a_scratch_folder_that_is_still_written_to_goes_in_the_end(tmp_path, monkeypatch):
    """As by a thread of zarr whose neighbour met a full disk."""
    remove, left = files.shutil.rmtree, [3]

    def disturbed(folder, **options):
        if left[0] > 0:
            left[0] -= 1
        else:
            remove(folder, **options)

    monkeypatch.setattr(files.shutil, "rmtree", disturbed)
    write_bytes(tmp_path / "a.png", b"x")
    assert names(tmp_path) == ["a.png"]


def test_text_is_never_written_over_another_file(tmp_path):
    path = write_text(tmp_path / "a.toml", "first")
    with pytest.raises(InputError, match="exists already; --force overwrites it"):
        write_text(path, "second")
    assert path.read_text() == "first"
    write_text(path, "second", overwrite=True)
    assert path.read_text() == "second"
    assert names(tmp_path) == ["a.toml"]


def test_the_mode_of_a_new_file_is_the_usual_one(tmp_path):
    before = os.umask(0o027)
    try:
        path = write_bytes(tmp_path / "a.png", b"x")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_it(tmp_path, name):
    """A limit on the size of files does what a full disk does: writing fails in the middle."""
    path = save_dataset(DATA.isel(x=slice(0, 5)), tmp_path / name)
    before = {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()}
    program = (
        "import sys, numpy as np, xarray as xr, signal\n"
        "from featurephase.foundation.files import save_dataset\n"
        "data = xr.Dataset({'a': ('x', np.random.default_rng(0).random(100_000))})\n"
        "try:\n"
        "    save_dataset(data, sys.argv[1])\n"
        "except OSError as error:\n"
        "    print(type(error).__name__, error.filename == sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "OSError True\n", "")
    assert {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()} == before
    assert names(tmp_path) == [name]
