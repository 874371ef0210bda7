"""Without torch the package works, and what needs it says how to get it."""

from __future__ import annotations

import subprocess
import sys

HIDE = "import sys; sys.modules['torch'] = None; "


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_the_name_says_what_is_missing():
    done = _run(
        HIDE + "import featurephase as fp\n"
        "try:\n    fp.Probe\nexcept fp.FeaturephaseError as error:\n    print(type(error).__name__, error)"
    )
    assert done.stdout.startswith("MissingDependencyError")
    assert "featurephase[torch]" in done.stdout


def test_the_command_says_so_in_one_line():
    done = _run(HIDE + "from featurephase.cli.app import run; sys.exit(run(['probe', '--task', 'wine']))")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "featurephase[torch]" in done.stderr


def test_nothing_else_imports_torch():
    done = _run(
        "import sys, featurephase as fp\n"
        "from featurephase.cli.app import run\n"
        "run(['probe', '--help'])\n"
        "for name in fp.__all__:\n    name == 'Probe' or getattr(fp, name)\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    assert done.stderr.strip().endswith("False")
