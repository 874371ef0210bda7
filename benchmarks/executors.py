"""Where the tasks of six typical calls run: the default beside one process and beside one for each core.

::

    python benchmarks/executors.py [--repeats 3]

Each case is a fresh command, as a user types it, in turn under the default, ``--workers 1`` and ``--workers N``; the
best of the repeats counts, for other programs only ever make it slower. The last column is the default over the better
of the other two, and must not exceed 1.15. Numbers are the same whoever computes them; that is checked too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from featurephase.cli.templates import read_template
from featurephase.foundation.threads import core_count

LIMIT = 1.15
#: Name -> the command, on the experiment of one neuron.
CASES = {
    "predict": "predict one-neuron.toml --delta 20",
    "threshold": "threshold one-neuron.toml --quick --time 10",
    "explain": "explain one-neuron.toml --quick --delta 20",
    "simulate dense": "simulate one-neuron.toml --method dense --dimension 400 --delta 10 --no-recovery "
    "--no-prediction",
    "simulate implicit": "simulate one-neuron.toml --method implicit --dimension 100000 --delta 10 --seeds 4 "
    "--no-recovery --no-prediction",
    "compare": "compare one-neuron.toml --quick --dimension 300 --delta 20 --seeds 8 --no-escape",
}


def run(command: str, folder: Path, workers: int | None) -> tuple[float, dict[str, object]]:
    """Seconds, and the document."""
    flags = [] if workers is None else ["--workers", str(workers)]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "featurephase", *command.split(), *flags, "--json", "--quiet"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command}: {done.stderr}")
    return seconds, json.loads(done.stdout)


def main() -> int:
    """Print the table; 1 if the default is too slow somewhere."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES)
    options = parser.parse_args()
    cores = core_count()
    late = []
    print(f"{cores} cores; seconds, best of {options.repeats}")
    print(f"{'':20}{'default':>9}{'1':>9}{cores:>9}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one-neuron.toml").write_text(read_template("one-neuron"), encoding="utf-8")
        for case in options.case or CASES:
            best: dict[int | None, float] = {}
            documents = []
            for _ in range(options.repeats):
                for workers in (None, 1, cores):
                    seconds, document = run(CASES[case], folder, workers)
                    best[workers] = min(seconds, best.get(workers, seconds))
                    documents.append(document)
            if any(document != documents[0] for document in documents):
                raise SystemExit(f"{case}: the numbers depend on where they are computed")
            ratio = best[None] / min(best[1], best[cores])
            late += [case] * (ratio > LIMIT)
            print(f"{case:20}{best[None]:9.2f}{best[1]:9.2f}{best[cores]:9.2f}{ratio:8.2f}", flush=True)
    if late:
        print(f"slower than {LIMIT} times the better of the two: {', '.join(late)}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
