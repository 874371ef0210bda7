"""A page in headless Chromium: what it looks like to scripts, what it complains of, and whom it asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@dataclass(frozen=True)
class Visit:
    """``dom`` after the scripts ran, ``console``: messages of the page, ``requests``: addresses that it asked for."""

    dom: str
    console: list[str]
    requests: list[str]


def visit(page: Path, folder: Path, *options: str) -> Visit:
    """Open a page from its file; ``folder`` is for the browser's own files."""
    log = folder / "net.json"
    command = [
        str(CHROMIUM),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=5000"),
        *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
        *(f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom", *options, page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = re.findall(r'CONSOLE:\d+\] (".*")', done.stderr)
    events = (event.get("params", {}) for event in json.loads(log.read_text())["events"])
    # what the browser itself asks for has no origin
    asked = [p["url"] for p in events if "url" in p and p.get("initiator", "not an origin") != "not an origin"]
    return Visit(done.stdout, console, asked)
