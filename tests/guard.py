"""What the commands print, saved before a rebuilding of the code and compared after it.

::

    PYTHONPATH=OLD/src python tests/guard.py save OLD_OUTPUT
    PYTHONPATH=NEW/src python tests/guard.py save NEW_OUTPUT
    python tests/guard.py compare OLD_OUTPUT NEW_OUTPUT

``save`` runs every command on every template with few samples and steps, every broken file, and the help texts, by
``python -m featurephase`` of whatever version of the package Python finds, and writes one text file per case: the
exit code, both streams, and what the saved files and figures hold. JSON is written with one value a line, so that
differences are easy to read. It needs nothing of the package but its commands, so that it serves any version.

``compare`` prints the differences that :data:`ALLOWED` does not list, and exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import difflib
import fnmatch
import io
import itertools
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TEMPLATES = ("two-neurons", "one-neuron", "parity", "phase-retrieval", "single-index-easy", "staircase")
COMMANDS = ("init", "predict", "threshold", "explain", "simulate", "compare", "probe", "latent", "latent-phase")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1"
)


class Allowance(NamedTuple):
    """Differences that are wanted."""

    case: str  # pattern of the names of cases, with * and ?
    line: str  # regular expression that every line concerned matches, removed or added
    reason: str


#: Wanted differences between the version before the rebuilding (998c7ab) and the present one.
ALLOWED: tuple[Allowance, ...] = (
    Allowance("*", r"^  (long_name|units): ", "every saved variable says what it is and its unit"),
    Allowance("*", r"neuron2|other_neuron", "the second dimension of gram has one name"),
    Allowance("*predict*", r"^variable (hard_)?outlier_fraction_se", "the fraction of replicates has its error"),
    Allowance("*latent*", r"^attribute (title|source|seed|experiment|status|message): ", "all files say their origin"),
    Allowance("*", r"^attribute written_by: ", "only a store that we wrote is replaced"),
    Allowance("*", r"--(workers|dask|width|sigma-u|sigma-w|seed|header|output)|as many as|NAME.toml", "new flags"),
    Allowance("*", r"Smooth alternatives|pseudo_huber, huber, squared", "two smooth losses of two classes are named"),
    Allowance("*simulate*", r"half of the drop|hard overlap|Hessian at t = ", "medians are called so; nothing twice"),
    Allowance("*", r"at most 1e\+06|a number or a list", "n/d has an upper end, and one number is a list of one"),
    Allowance("*reversed-range", r"0 < a < b$", "the same"),
    Allowance(
        "broken-ratios*",
        r"> 0$|training.steps( = 20)?$|0 < a < b$|^exit|Stieltjes",
        "the same; n/d = 1e300 fails no more",
    ),
    Allowance(
        "broken-*", r"easy_basis$|init_overlap$|as a text|for equal ones|accepted: (s|a)", "outputs, biases, classes"
    ),
    Allowance("broken-readout-3-predict", "", "a readout may be rows of one number"),
    Allowance("*unknown-flag", r"Possible options", "new flags"),
)

#: Lists that have gone from JSON documents: ``line`` is the key.
GONE: tuple[Allowance, ...] = (
    Allowance(
        "*predict*", "trajectories", "what the means are over is kept for comparisons, and was never meant for JSON"
    ),
)

SMALL_TABLES = """
[asymptotics]
samples = 600
replicates = 2

[threshold]
delta_range = [2, 40]
max_steps = 12
"""
SIMULATE = ("--dimension", "30", "--seeds", "2")
COMPARE = ("--dimension", "30", "--dimension", "45", "--seeds", "2")
LATENT = ("--u=0.5,-0.3,0.8", "--w=0.2,0.7,-0.4", "--cross-moment", "1")
EXPONENTS = ("--c-eta-u=0", "--c-eta-w=0", "--c-sigma-u=0", "--c-sigma-w=0", "--c-width=1")
PROBE = ("--width=12", "--steps=20", "--train-samples=60", "--test-samples=40", "--probe-samples=8", "--batch-size=20")
ON_TEMPLATES: dict[str, tuple[str, ...]] = {
    "predict": ("predict",),
    "threshold": ("threshold",),
    "explain": ("explain",),
    "simulate": ("simulate", *SIMULATE),
    "compare": ("compare", *COMPARE),
}

Case = tuple[str, ...]


def small(template: str) -> str:
    """The template with few samples and steps."""
    text = re.sub(r"(?ms)^\[(asymptotics|threshold)\].*?(?=^\[|\Z)", "", template)
    text = re.sub(r"(?m)^steps = .*$", "steps = 4", text)
    return re.sub(r"(?m)^times = \[.+\].*$", "times = [0, 4]", text) + SMALL_TABLES


# Cases: name -> arguments. `FILE` among them is the experiment file of the batch.


def template_cases(template: str) -> dict[str, Case]:
    """Every command on one template: the document with the saved numbers, and the table."""
    cases: dict[str, Case] = {}
    for name, (command, *flags) in ON_TEMPLATES.items():
        cases[f"{name}-json"] = (command, "FILE", *flags, "--json", "--save", "saved.nc")
        cases[f"{name}-table"] = (command, "FILE", *flags)
    cases["simulate-implicit"] = ("simulate", "FILE", *SIMULATE, "--method=implicit", "--json", "--save", "saved.nc")
    if template in ("one-neuron", "two-neurons"):
        cases |= {
            f"{name}-figure": (*case, "--figure", "figure.svg") for name, case in cases.items() if "table" in name
        }
        cases |= variants()
    return cases


def variants() -> dict[str, Case]:
    """Flags that change what is computed or printed."""
    return {
        "predict-flags": ("predict", "FILE", "--delta=3", "--time=0", "--time=2", "--seed=7", "--json"),
        "predict-quick": ("predict", "FILE", "--quick", "--quiet", "--save", "saved.zarr"),
        "threshold-times": ("threshold", "FILE", "--time=1", "--time=4", "--json", "--save", "saved.zarr"),
        "threshold-limit": ("threshold", "FILE", "--time=inf", "--delta-range=3,30", "--json"),
        "threshold-nothing-in-range": ("threshold", "FILE", "--time=4", "--delta-range=1,1.5", "--json"),
        "explain-dimension": ("explain", "FILE", "--samples-n=3000", "--dimension=100", "--json", "--save", "saved.nc"),
        "explain-delta": ("explain", "FILE", "--delta=2"),
        "simulate-flags": ("simulate", "FILE", *SIMULATE, "--start=gaussian", "--no-recovery", "--time=2", "--json"),
        "compare-one-dimension": ("compare", "FILE", "--dimension=30", "--seeds=2", "--no-escape", "--json"),
    }


def other_cases() -> dict[str, Case]:
    """Commands without an experiment file."""
    cases: dict[str, Case] = {
        "init-list": ("init",),
        "init-json": ("init", "--json"),
        "init-unknown": ("init", "nothing"),
        "version": ("--version",),
        "help": ("--help",),
        "latent-json": ("latent", *LATENT, "--time=0.5", "--time=2", "--time=inf", "--json", "--save", "saved.nc"),
        "latent-motion": ("latent", *LATENT, "--json"),
        "latent-table": ("latent", *LATENT, "--figure", "figure.svg"),
        "latent-measured": ("latent", *LATENT, "--time=1", "--measure", "--json"),
        "latent-rates": ("latent", *LATENT, "--eta-u=2", "--gamma=0.3", "--loss-factor=0.5", "--time=1", "--json"),
        "latent-saddle": ("latent", "--u=1,-1", "--w=-1,1", "--cross-moment=1", "--time=inf", "--json"),
        "latent-frozen": ("latent", "--u=0,0", "--w=0,0", "--cross-moment=1", "--time=1", "--json"),
        "latent-no-u": ("latent", "--w=1", "--cross-moment=1"),
        "latent-phase-json": ("latent-phase", "--c-gamma=-0.5", *EXPONENTS, "--json", "--save", "saved.nc"),
        "latent-phase-table": ("latent-phase", "--c-gamma=-1", *EXPONENTS, "--figure", "figure.svg"),
        "probe-digits": ("probe", "--task=digits", *PROBE, "--replicates=2", "--json", "--save", "saved.nc"),
        "probe-table": ("probe", "--task=wine", *PROBE, "--figure", "figure.svg"),
        "probe-deep": ("probe", "--task=polynomial", *PROBE, "--depth=2", "--parameterisation=mup", "--json"),
        "probe-cnn": ("probe", "--task=digits", *PROBE, "--network=cnn", "--bias", "--hessian=none", "--json"),
        "probe-effective": ("probe", "--task=wine", *PROBE, "--effective-parameters", "--loss=squared", "--json"),
        "probe-unknown-task": ("probe", "--task=digit"),
    }
    for command in COMMANDS:
        cases[f"help-{command}"] = (command, "--help")
    return cases


def wrong_use_cases() -> dict[str, Case]:
    """A good file, and flags that no command can follow."""
    return {
        "late-time": ("predict", "FILE", "--time=99"),
        "negative-delta": ("predict", "FILE", "--delta=-1"),
        "nan-delta": ("explain", "FILE", "--delta=nan"),
        "not-a-number": ("predict", "FILE", "--delta=many"),
        "unknown-flag": ("predict", "FILE", "--deltas=3"),
        "no-command": ("predictt", "FILE"),
        "no-file": ("predict", "missing.toml", "--json"),
        "wrong-ending": ("predict", "FILE", "--save", "saved.csv"),
        "no-folder": ("predict", "FILE", "--figure", "nowhere/figure.png"),
        "wrong-range": ("threshold", "FILE", "--delta-range=9"),
        "reversed-range": ("threshold", "FILE", "--delta-range=9,1"),
        "one-replicate": ("predict", "FILE", "--replicates=1"),
        "half-a-pair": ("explain", "FILE", "--samples-n=100"),
        "no-dimension": ("simulate", "FILE"),
        "one-seed": ("compare", "FILE", "--dimension=30", "--seeds=1"),
        "unknown-method": ("simulate", "FILE", "--dimension=30", "--method=exact"),
        "unknown-start": ("simulate", "FILE", "--dimension=30", "--start=zero"),
        "too-large": ("simulate", "FILE", "--dimension=100000000", "--delta=100"),
    }


def broken_cases() -> Iterator[tuple[str, Case, bytes]]:
    """Every broken file with one command, the first of every kind with all: name, arguments, content."""
    sys.path.insert(0, str(Path(__file__).parent / "cli"))
    from broken_files import BROKEN

    for kind, files in BROKEN.items():
        for i, (content, _) in enumerate(files):
            raw = content.encode() if isinstance(content, str) else content
            for command in ON_TEMPLATES if i == 0 else ("predict",):
                name = f"{kind.replace(' ', '-')}-{i}-{command}"
                yield name, (*ON_TEMPLATES[command], "FILE", "--json"), raw


# Running them: one process a batch, whose current folder is a temporary one.


def call(arguments: Case) -> tuple[int, str, str]:
    """``python -m featurephase``, in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    sys.argv = ["featurephase", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module("featurephase", run_name="__main__")
        except SystemExit as end:
            code = end.code
    return int(code) if isinstance(code, int) else 0 if code is None else 1, out.getvalue(), err.getvalue()


#: What differs between two runs of the same code: measured seconds, and the memory that is free just now.
CHANGING = (
    (r'("(?:\w*seconds\w*|slowdown|slowdown_se)": )[-+.e\d]+', r"\1MEASURED"),
    (r"\d+\.?\d* (ms|s)\b", "SECONDS"),
    (r"slowed by [-+.e\d]+ %", "slowed by MEASURED %"),
    (r"[.\d]+ \w+ are available", "MEMORY are available"),
)


def masked(text: str) -> str:
    """Without what differs between two runs of the same code."""
    text = text.replace(os.getcwd(), "FOLDER")
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    return text


def described_output(out: str) -> str:
    """A JSON document with one value a line, anything else as it is."""
    if not out.startswith("{"):
        return out
    document = json.loads(out)
    one_line = json.dumps(document) + "\n" == out
    return f"(one compact line: {one_line})\n{json.dumps(document, indent=1)}\n"


def described_dataset(path: Path) -> Iterator[str]:
    """Dimensions, names, types, coordinates and attributes of a saved file, and the sum of every variable."""
    import numpy as np
    import xarray as xr

    with xr.open_dataset(path, engine="zarr" if path.suffix == ".zarr" else "h5netcdf") as saved:
        yield f"dimensions {dict(saved.sizes)}"
        for kind, variables in (("coordinate", saved.coords), ("variable", saved.data_vars)):
            for name, variable in sorted(variables.items()):
                yield f"{kind} {name}{variable.dims} {variable.dtype}"
                if kind == "coordinate":
                    yield f"  values {variable.values.tolist()}"
                elif variable.dtype.kind in "biufc":
                    yield f"  sum {float(np.nansum(variable.values.astype(float)))!r}"
                for key, value in sorted(variable.attrs.items()):
                    yield f"  {key}: {value!r}"
        for key, value in sorted(saved.attrs.items()):
            yield f"attribute {key}: {value!r}"


def described_figure(path: Path) -> Iterator[str]:
    """Size and texts of a figure (matplotlib keeps each text as a comment beside its outline)."""
    svg = path.read_text(encoding="utf-8")
    yield from re.findall(r'viewBox="[^"]*"', svg)[:1]
    yield from sorted(re.findall(r"<!-- (.*?) -->", svg))


def described_files(ignored: set[str]) -> Iterator[str]:
    """What the command wrote into the current folder, which is removed."""
    import shutil

    for path in sorted(Path.cwd().iterdir()):
        if path.name in ignored:
            continue
        yield f"--- file {path.name}"
        if path.name.startswith("saved"):
            yield from described_dataset(path)
        elif path.suffix == ".svg":
            yield from described_figure(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def record(name: str, arguments: Case, target: Path) -> None:
    """Run one case and write its text file."""
    actual = tuple("experiment.toml" if part == "FILE" else part for part in arguments)
    code, out, err = call(actual)
    files = "\n".join(described_files({"experiment.toml"}))
    parts = [f"$ featurephase {' '.join(actual)}", f"exit {code}", "--- standard error", err.rstrip("\n")]
    parts += ["--- standard output", described_output(out), files]
    (target / f"{name}.txt").write_text(masked("\n".join(parts)).rstrip() + "\n", encoding="utf-8")


def run_batch(batch: str, target: Path) -> None:
    """All cases of one batch, in this process and its current folder."""
    experiment = Path("experiment.toml")
    if batch == "broken":
        for name, arguments, content in broken_cases():
            experiment.write_bytes(content)
            record(f"broken-{name}", arguments, target)
        return
    template = "one-neuron" if batch in ("other", "wrong-use") else batch
    call(("init", template, "-o", str(experiment)))
    experiment.write_text(small(experiment.read_text(encoding="utf-8")), encoding="utf-8")
    cases = {"other": other_cases, "wrong-use": wrong_use_cases}.get(batch, lambda: template_cases(batch))()
    for name, arguments in cases.items():
        start = time.process_time()
        record(f"{batch}-{name}", arguments, target)
        if (seconds := time.process_time() - start) > 4:
            print(f"  {batch}-{name}: {seconds:.1f} s of this process", file=sys.stderr)


def start_batch(batch: str, target: Path) -> float:
    """Run a batch in a process of its own; seconds it took."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "batch", batch, str(target)]
        subprocess.run(command, cwd=folder, env=os.environ | ONE_THREAD, check=True)
    return time.monotonic() - start


def save(target: Path) -> int:
    """Run all batches, two at a time."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.txt"):
        old.unlink()
    batches = (*TEMPLATES, "other", "broken", "wrong-use")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for batch, seconds in zip(batches, pool.map(start_batch, batches, itertools.repeat(target)), strict=True):
            print(f"{batch}: {seconds:.0f} s", file=sys.stderr)
    print(f"{len(list(target.glob('*.txt')))} cases in {target}")
    return 0


# Comparing two folders.

NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def changed_lines(old: str, new: str) -> list[str]:
    """Lines removed (-) and added (+)."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def only_rounding(old: str, new: str, tolerance: float) -> bool:
    """Whether the texts differ in numbers alone, and each by no more than ``tolerance`` of itself."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(a == b or abs(float(a) - float(b)) <= tolerance * max(abs(float(a)), abs(float(b))) for a, b in pairs)


def without_gone(case: str, text: str) -> str:
    """The text without the lists of :data:`GONE`."""
    for gone in GONE:
        if fnmatch.fnmatch(case, gone.case):
            text = re.sub(rf',\n( *)"{gone.line}": \[\n.*?\n\1\](?=,?\n)', "", text, flags=re.DOTALL)
    return text


def reason_allowed(case: str, line: str) -> str | None:
    """Why a changed line is allowed, None if it is not."""
    for allowance in ALLOWED:
        if fnmatch.fnmatch(case, allowance.case) and re.search(allowance.line, line[1:]):
            return allowance.reason
    return None


def compare(old: Path, new: Path, rounding: float) -> int:
    """Print what differs and is not allowed; 1 if anything does."""
    cases = sorted({path.name for folder in (old, new) for path in folder.glob("*.txt")})
    different, reasons, rounded = 0, dict[str, int](), 0
    for case in cases:
        paths = [folder / case for folder in (old, new)]
        if missing := [str(path) for path in paths if not path.exists()]:
            different += 1
            print(f"== {case}: missing: {', '.join(missing)}")
            continue
        before, after = (without_gone(case, path.read_text(encoding="utf-8")) for path in paths)
        if before != after and rounding > 0 and only_rounding(before, after, rounding):
            rounded += 1
            continue
        refused = []
        for line in changed_lines(before, after):
            reason = reason_allowed(case.removesuffix(".txt"), line)
            if reason is None:
                refused.append(line)
            else:
                reasons[reason] = reasons.get(reason, 0) + 1
        if refused:
            different += 1
            print(f"== {case}", *refused[:40], sep="\n")
            if len(refused) > 40:
                print(f".. and {len(refused) - 40} more lines")
    for reason, count in reasons.items():
        print(f"allowed, {count} lines: {reason}")
    if rounded:
        print(f"{rounded} cases differ by rounding alone (relative {rounding:g})")
    print(f"{len(cases)} cases, {different} of them different")
    return 1 if different or not cases else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("save", help="run all cases").add_argument("folder", type=Path)
    batch = verbs.add_parser("batch", help="run one batch in the current folder (used by save)")
    batch.add_argument("name")
    batch.add_argument("folder", type=Path)
    comparison = verbs.add_parser("compare", help="compare two saved folders")
    comparison.add_argument("old", type=Path)
    comparison.add_argument("new", type=Path)
    comparison.add_argument("--rounding", type=float, default=0.0, help="relative difference of numbers to ignore")
    given = parser.parse_args()
    if given.verb == "save":
        return save(given.folder.resolve())
    if given.verb == "batch":
        run_batch(given.name, given.folder)
        return 0
    return compare(given.old, given.new, given.rounding)


if __name__ == "__main__":
    sys.exit(main())
