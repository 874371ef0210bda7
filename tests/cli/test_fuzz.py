"""A minute of mutated experiment files (see `fuzz.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60


@pytest.mark.slow
def test_a_minute_of_mutated_files() -> None:
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, str(script), "--seconds", str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=SECONDS + 400,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    summary = json.loads(done.stdout)
    assert min(summary[kind] for kind in ("loaded", "not TOML", "not an experiment")) > 50, summary
