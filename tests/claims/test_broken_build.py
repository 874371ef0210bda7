"""The ledger of a build with a wrong sign is red: five formulas, each flipped in a copy of the sources."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "featurephase"

#: Formula -> file, what stands there, what is put in its place, and the claim and the comparison that must notice.
FLIPPED = {
    "gradient": (
        "dynamics/network.py",
        "gradient *= first\n",
        "gradient *= -first\n",
        "hard-directions",
        "training loss",
    ),
    "curvature": (
        "dynamics/network.py",
        "w[diagonal, diagonal] += first",
        "w[diagonal, diagonal] -= first",
        "blocks",
        "blocks",
    ),
    "branch equation": (
        "hessian/bulk.py",
        "constant = eye / self.delta - moments.mean",
        "constant = eye / self.delta + moments.mean",
        "phase-retrieval",  # others end in an exception, which says less than a comparison
        "threshold at the start",
    ),
    "latent closed form": (
        "latent_model/motion.py",
        "s = start + end\n",
        "s = start - end\n",
        "closed-form",
        "error of the flow",
    ),
    "kernel": (
        "latent_model/motion.py",
        "c.kernel_p * xi + c.kernel_q / xi",
        "c.kernel_p * xi - c.kernel_q / xi",
        "closed-form",
        "error of the flow",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("formula", FLIPPED)
def test_a_flipped_sign_is_noticed(formula: str, tmp_path: Path) -> None:
    name, right, wrong, noticed_by, noticed_in = FLIPPED[formula]
    package = tmp_path / "featurephase"
    shutil.copytree(SOURCES, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / name
    text = path.read_text(encoding="utf-8")
    assert text.count(right) == 1, f"{name} no longer says {right!r} once"
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    command = [sys.executable, "-m", "featurephase", "reproduce", noticed_by, "--quick", "--json", "--workers", "1"]
    ran = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 3, ran.stderr
    found = json.loads(ran.stdout)["claims"][0]
    assert found["verdict"] == "not confirmed"
    failed = [e["name"] for e in found["evidence"] if not e["holds"]]
    assert any(noticed_in in name for name in failed), (failed, found["message"])
