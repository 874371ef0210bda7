"""``fp.reproduce``: run the claims, judge their evidence, and write the ledger."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import inspect
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurephase._version import __version__
from featurephase.claims.base import Claim, NotDeterminedError, Study
from featurephase.claims.registry import claim, selected
from featurephase.claims.verdict import CONFIRMED, LIMITED, NOT_CONFIRMED, NOT_DETERMINED, judged, verdict
from featurephase.foundation.errors import InputError, show
from featurephase.foundation.executors import Workers, as_executor
from featurephase.foundation.numbers import is_whole, plain
from featurephase.results import status
from featurephase.results.labels import jsonable
from featurephase.results.ledger import ClaimResult, Evidence, Ledger
from featurephase.results.related import Curve, Panel, Region
from featurephase.sweeps.tasks import TaskOutcome, run_keyed


def reproduce(
    claims: str | Sequence[str] = (),
    *,
    quick: bool = False,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    quiet: bool = True,
    workers: Workers = None,
) -> Ledger:
    """Run findings of the literature as experiments, and say of each whether it is confirmed.

    Parameters
    ----------
    claims
        Names or numbers; default: all.
    quick
        Reduced experiments: minutes rather than hours.
    seed
        Of all random numbers.
    store
        A folder that keeps every claim as it is finished: one that is there is not run again, unless its file, the
        seed, or what it needs and was missing has changed.
    quiet, workers
        Whether to show no progress; how many claims run side by side, or where.

    Returns
    -------
    Ledger
        Its status is not ``"ok"`` where a claim is not confirmed or could not be determined.

    Raises
    ------
    InputError
        For an unknown claim, with the list, or an impossible seed.
    """
    if not is_whole(seed) or not 0 <= plain(seed) < 2**63:
        raise InputError(f"seed = {show(seed)}: must be a whole number from 0 to 2**63 - 1")
    chosen = selected([claims] if isinstance(claims, str) else list(claims))
    tasks = [(one.id, quick, seed, _state(one)) for one in chosen]
    executor = as_executor(workers, quiet=quiet)
    if store is None:
        documents = executor.run(execute, tasks, label="reproduce")
    else:
        size = "quick" if quick else "full"
        keyed = {f"{task[0]}, {size}": (execute, task) for task in tasks}
        outcomes = run_keyed(Path(store), keyed, executor=executor).values()
        documents = [_document(outcome) for outcome in outcomes]
    return assembled(chosen, documents, quick=quick, seed=seed)


def _state(chosen: Claim) -> str:
    """What else an outcome depends on: the text of the claim's file, and what it needs and is missing here."""
    text = Path(inspect.getfile(chosen.run)).read_text(encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()[:16] + _missing(chosen.needs)


def _document(outcome: TaskOutcome) -> dict[str, Any]:
    """What a task returned, or that it failed."""
    if outcome.status == status.OK:
        return outcome.document
    return {"verdict": NOT_CONFIRMED, "message": outcome.message, "seconds": outcome.seconds, "date": ""}


def execute(name: str, quick: bool, seed: int, state: str = "") -> dict[str, Any]:
    """One experiment, judged, as a document of JSON, which a store can keep; ``state`` is for its key alone."""
    chosen, start = claim(name), time.perf_counter()
    document: dict[str, Any]
    try:
        if missing := _missing(chosen.needs):
            raise NotDeterminedError(missing)
        finding = chosen.run(Study(quick, seed))
        evidence = judged(finding.comparisons)
        word, limits = verdict(evidence, finding)
        document = {"verdict": word, "limits": limits, "message": finding.message}
        document |= jsonable({"evidence": evidence, "panels": finding.panels})
    except NotDeterminedError as reason:
        document = {"verdict": NOT_DETERMINED, "message": f"{status.NOT_DETERMINED.message}: it needs {reason}"}
    except Exception as error:  # whatever an experiment stumbles over, its claim is not confirmed, and the others go on
        text = f"the experiment failed: {type(error).__name__}: {error}"
        document = {"verdict": NOT_CONFIRMED, "message": text}
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return document | {"seconds": time.perf_counter() - start, "date": date}


def _missing(needs: Sequence[str]) -> str:
    """What of it is not here, in words; empty if nothing."""
    missing = []
    if "torch" in needs and importlib.util.find_spec("torch") is None:
        missing.append("PyTorch (pip install 'featurephase[torch]')")
    elif "fashion-mnist" in needs:
        from featurephase.probe.tasks import FASHION_FOLDER

        if not FASHION_FOLDER.is_dir():
            missing.append(f"Fashion-MNIST in {FASHION_FOLDER} (Debian's package dataset-fashion-mnist)")
    return " and ".join(missing)


def assembled(claims: Sequence[Claim], documents: Sequence[Mapping[str, Any]], *, quick: bool, seed: int) -> Ledger:
    """The ledger of experiments that were run, now or before."""
    entries = tuple(_entry(c, d, quick=quick, seed=seed) for c, d in zip(claims, documents, strict=True))
    failed = [e for e in entries if e.verdict == NOT_CONFIRMED]
    missing = [e for e in entries if e.verdict == NOT_DETERMINED]
    words = [
        f"{what}: {', '.join(e.name for e in some)}"
        for what, some in ((NOT_CONFIRMED, failed), (NOT_DETERMINED, missing))
        if some
    ]
    state = status.NOT_CONFIRMED if failed else status.NOT_DETERMINED if missing else status.OK
    return Ledger(status=state, message="; ".join(words), seed=seed, claims=entries, quick=quick)


#: What an entry of the ledger takes from its claim as it is.
_OF_CLAIM = ("id", "number", "statement", "source", "criterion", "experiment")


def _entry(chosen: Claim, document: Mapping[str, Any], *, quick: bool, seed: int) -> ClaimResult:
    found = str(document["verdict"])
    states = {CONFIRMED: status.OK, LIMITED: status.OK, NOT_CONFIRMED: status.NOT_CONFIRMED}
    flags = (" --quick" if quick else "") + (f" --seed {seed}" if seed else "")
    return ClaimResult(
        **{name: getattr(chosen, name) for name in _OF_CLAIM},
        verdict=found,
        limits=document.get("limits", ""),
        status=states.get(found, status.NOT_DETERMINED),
        message=document.get("message", ""),
        evidence=tuple(Evidence(**_numbers(e)) for e in document.get("evidence", ())),
        quick=quick,
        seconds=float(document["seconds"]),
        date=document["date"],
        command=f"featurephase reproduce {chosen.id}{flags}",
        seed=seed,
        version=__version__,
        panels=tuple(map(_panel, document.get("panels", ()))),
    )


# ---- documents that JSON can hold


def _numbers(document: Mapping[str, Any]) -> dict[str, Any]:
    """With "nan" and "inf" as numbers again."""
    words = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
    return {key: words.get(value, value) if isinstance(value, str) else value for key, value in document.items()}


def _panel(document: Mapping[str, Any]) -> Panel:
    curves = tuple(
        Curve(**(curve | {n: np.array(list(map(float, curve[n]))) for n in ("x", "y", "se") if curve[n] is not None}))
        for curve in document["curves"]
    )
    regions = tuple(Region(**region) for region in document["regions"])
    return Panel(**(dict(document) | {"curves": curves, "regions": regions}))
