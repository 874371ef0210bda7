"""What is declared fits together: pinned versions cover every dependency and satisfy its range."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
REQUIREMENTS = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    if requirement.name == "featurephase":  # an extra that names another one
        assert requirement.extras <= set(PROJECT["optional-dependencies"])
        return
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_the_command_of_the_readme_is_what_runs_elsewhere() -> None:
    """A newcomer runs the same tests, with the same extras, as continuous integration."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tests,) = re.findall(r"^\$ (pytest .*)$", readme, re.MULTILINE)
    (install,) = re.findall(r"^\$ pip install (-c .* -e .*)$", readme, re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(tests)}( --durations=\d+)?$", script, re.MULTILINE)
    assert f"pip install -q {install}\n" in script


def test_every_dependency_has_its_reason_on_the_page() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    names = {r.name.lower() for r in REQUIREMENTS} - {"featurephase"}
    assert not {name for name in names if not re.search(rf"\b{re.escape(name)}\b", page)}
