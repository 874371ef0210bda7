"""The house has floors: imports run downwards only, without circles, and no function is too long to be read at once.

Everything is read from the sources, which are never imported here. An import counts wherever it stands: at the top of
a module, inside a function, or for type checking alone (a module cannot be understood without what its types mean).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCES = Path(__file__).parent.parent / "src"
PACKAGE = "featurephase"

#: From low to high. ``results`` are data, so they stand low: what computes a result imports its class.
FLOORS = (
    "foundation",
    "results",
    "functions",
    "problem",
    "dynamics",
    "hessian",
    "subspaces",
    "thresholds",
    "escape",
    "latent_model",
    "probe",
    "related_models",
    "analyses",
    "sweeps",
    "claims",
    "present",
    "cli",
)
#: Modules beside the floors: the version, which everybody may import, and the two doors, which import what they need.
VERSION, DOORS = f"{PACKAGE}._version", (PACKAGE, f"{PACKAGE}.__main__")

MOST_LINES, MOST_PARAMETERS = 70, 10

# ---- exceptions, each with its reason

#: Imports upwards that stay: (from, to).
UPWARDS = {
    ("results.base", "present"): "the one door: `table()` and `figure()` of every result, inside the methods",
}
#: Functions that may be longer, or take more parameters.
LARGE = {
    "analyses.comparison.compare": "public: one keyword for each option of the command",
    "analyses.simulation.simulate": "public: one keyword for each option of the command",
    "analyses.latent_phase.latent_phase": "public: one keyword for each option of the command",
    "analyses.latent.latent": "public: one keyword for each option of the command",
    "results.labels.labelled": "takes what `dataclasses.field` takes, and the labels",
}
#: Modules where text that is not ours becomes a number or a value, which Python reports as ValueError.
PARSERS = {
    "cli.parsing": "numbers in flags",
    "foundation.errors": "values whose repr fails",
    "foundation.cluster": "addresses of a Dask scheduler",
    "foundation.files": "names of files that the system refuses, and what others have written",
    "foundation.memory": "the system's files on memory",
    "foundation.tomlfile": "the experiment file",
    "functions.parser": "expressions",
    "latent_model.model": "arrays of the caller",
    "latent_model.solution": "times of the caller, which need not fit",
    "present.saved": "names of files that the system refuses",
    "probe.tasks": "the user's arrays",
    "problem.checks": "values in the experiment file",
    "problem.data": "the user's files of numbers",
    "related_models.base": "parameters of the caller",
}


# ---- reading the sources


class Module(NamedTuple):
    name: str  # without the name of the package: "analyses.simulation"
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCES.rglob("*.py"))}
MODULES = [
    Module(name.removeprefix(f"{PACKAGE}."), tree) for name, tree in TREES.items() if name not in (VERSION, *DOORS)
]


def imported(module: Module) -> Iterator[str]:
    """The modules of this package that a module imports, its own package and the version left out."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.name}, line {node.lineno}: a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in TREES else str(node.module) for name in whole]
        else:
            continue
        for name in names:
            if name in TREES and name != VERSION:
                yield name.removeprefix(f"{PACKAGE}.")


IMPORTS = {module.name: sorted(set(imported(module)) - {module.name}) for module in MODULES}


def strays(module: Module) -> list[str]:
    """Imports of what stands above, or of a door."""
    return [
        name
        for name in IMPORTS[module.name]
        if name in DOORS or FLOORS.index(name.partition(".")[0]) > FLOORS.index(module.room)
    ]


def circles(imports: dict[str, list[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    reachable = {name: set(targets) for name, targets in imports.items()}
    for middle in imports:
        for targets in reachable.values():
            if middle in targets:
                targets |= reachable[middle]
    groups = {frozenset(b for b in reachable if b in reachable[a] and a in reachable[b]) for a in reachable}
    return sorted(sorted(group) for group in groups if group)


class Function(NamedTuple):
    name: str
    lines: int
    parameters: int


def functions(module: Module) -> Iterator[Function]:
    """All functions and methods; docstrings count as lines, ``self`` and ``cls`` do not count as parameters.

    The flags of a command are no parameters, and the lines that declare them are not counted.
    """

    def within(node: ast.AST, path: str) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                a = child.args
                names = [argument.arg for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
                count = len([name for name in names if name not in ("self", "cls")])
                assert child.end_lineno is not None
                start, count = (child.body[0].lineno, 0) if module.room == "cli" else (child.lineno, count)
                yield Function(f"{path}.{child.name}", child.end_lineno - start + 1, count)
            inner = f"{path}.{child.name}" if isinstance(child, (ast.ClassDef, ast.FunctionDef)) else path
            yield from within(child, inner)

    return within(module.tree, module.name)


FUNCTIONS = [function for module in MODULES for function in functions(module)]


def too_large(function: Function) -> bool:
    return function.lines > MOST_LINES or function.parameters > MOST_PARAMETERS


def catches_value_error(module: Module) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and node.type is not None
        and any(isinstance(name, ast.Name) and name.id == "ValueError" for name in ast.walk(node.type))
    ]


# ---- the rules


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_imports_run_downwards(module: Module) -> None:
    assert module.room in FLOORS, f"{module.name} stands on no floor"
    allowed = set(UPWARDS)
    upwards = [name for name in strays(module) if (module.name, name) not in allowed]
    assert not upwards, f"{module.name} imports what stands above it: {', '.join(upwards)}"


def test_no_two_modules_import_each_other() -> None:
    apart = set(UPWARDS)
    kept = {name: [t for t in targets if (name, t) not in apart] for name, targets in IMPORTS.items()}
    groups = circles(kept)
    assert not groups, "\n".join(f"a circle of imports: {', '.join(group)}" for group in groups)


def test_results_are_data() -> None:
    """They import foundation alone, and each other."""
    for module in MODULES:
        if module.room == "results":
            rooms = {name.partition(".")[0] for name in IMPORTS[module.name] if (module.name, name) not in UPWARDS}
            assert rooms <= {"foundation", "results"}, module.name


def test_functions_can_be_read_at_once() -> None:
    large = [f for f in FUNCTIONS if too_large(f) and f.name not in LARGE]
    assert not large, "\n".join(f"{f.name}: {f.lines} lines, {f.parameters} parameters" for f in large)


def test_nobody_takes_a_status_apart() -> None:
    """``.kind`` and ``.step`` of a status say what its text says."""
    parts = ("startswith", "endswith", "split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix")
    for module in MODULES:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in parts and "status" in ast.unparse(node.value).lower():
                pytest.fail(f"{module.name}, line {node.lineno}: {ast.unparse(node)}")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_an_answer_is_a_status_and_no_value_error(module: Module) -> None:
    """Only parsers catch ValueError, which a defect (LinAlgError) is too."""
    lines = catches_value_error(module)
    assert not lines or module.name in PARSERS, f"{module.name}, lines {lines}"


def test_no_exception_is_left_over() -> None:
    """What is no longer needed goes from the lists."""
    assert {(m.name, name) for m in MODULES for name in strays(m)} >= set(UPWARDS)
    assert {f.name for f in FUNCTIONS if too_large(f)} >= set(LARGE)
    assert {m.name for m in MODULES if catches_value_error(m)} >= set(PARSERS)


# ---- the test tests


def test_circles_are_seen() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": [], "e": ["d"]}) == [["a", "b", "c"]]
    assert circles({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}) == [["a", "b"], ["c", "d"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_arrows_upwards_and_sizes_are_seen() -> None:
    tree = ast.parse(
        "if TYPE_CHECKING:\n    from featurephase.cli import app\ndef f(a, *, b): ...\nclass C:\n  def g(self): ..."
    )
    module = Module("functions.example", tree)
    assert list(imported(module)) == ["cli.app"]
    assert list(functions(module)) == [
        Function("functions.example.f", 1, 2),
        Function("functions.example.C.g", 1, 0),
    ]
    handler = ast.parse("try:\n    pass\nexcept (OSError, ValueError):\n    pass")
    assert catches_value_error(Module("functions.example", handler)) == [3]
