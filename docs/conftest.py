"""The Python snippets of the documentation are executed, each page in its own folder with the templates in it."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

from featurephase.cli.templates import read_template, template_names


def _enter(namespace: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    folder = tempfile.TemporaryDirectory()
    for name in template_names():
        Path(folder.name, f"{name}.toml").write_text(read_template(name), encoding="utf-8")
    namespace |= {"_folder": folder, "_home": os.getcwd()}
    os.chdir(folder.name)


def _leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_home"])
    namespace["_folder"].cleanup()


def _pages_without_their_library() -> list[str]:
    if importlib.util.find_spec("torch") is not None:
        return []
    return [page.name for page in Path(__file__).parent.glob("*.md") if "import torch" in page.read_text("utf-8")]


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    excludes=_pages_without_their_library(),
    setup=_enter,
    teardown=_leave,
).pytest()
