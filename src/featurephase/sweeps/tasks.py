"""Named tasks whose outcomes are kept in a store: what is finished is not computed again."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from featurephase._version import NUMERICS, __version__
from featurephase.foundation.executors import Executor, as_executor
from featurephase.results.labels import jsonable
from featurephase.results.status import OK
from featurephase.sweeps.axes import Axis, Grid
from featurephase.sweeps.cells import ERROR, Cell, Layout, failed_cell
from featurephase.sweeps.folder import is_store
from featurephase.sweeps.store import DONE, FAILED, Plan, Store

#: A function of a module, which returns what JSON can hold, and its arguments.
Task: TypeAlias = tuple[Callable[..., Mapping[str, Any]], tuple[Any, ...]]
_LAYOUT = Layout(("seconds",), ("status", "message", "document"))


@dataclass(frozen=True)
class TaskOutcome:
    """What a task returned, or why it did not."""

    # ``"ok"``, or ``"error"`` and what was wrong.
    status: str
    message: str
    seconds: float  # how long it took; nan where it did not end
    document: dict[str, Any]  # what the function returned; empty after an error
    reused: bool  # whether it was in the store before


def run_keyed(
    folder: Path,
    tasks: Mapping[str, Task],
    *,
    executor: Executor | None = None,
    retry: bool = False,
    on_result: Callable[[str, TaskOutcome], object] = lambda name, outcome: None,
) -> dict[str, TaskOutcome]:
    """Run the tasks that are not finished in the store ``folder``, each on disk before the next one of its process.

    A task is known by its name, its function, its arguments and the version of the numbers; where one of them changed
    it is run again. Other tasks in the store are left as they are.

    Parameters
    ----------
    executor
        Where they run; default: one after the other, in this process.
    retry
        Also run again what ended in an error.
    on_result
        Called with name and outcome of each task as soon as it is kept.

    Raises
    ------
    InputError
        If the folder is in use, or is no store of tasks.
    OSError
        If it cannot be written.
    """
    plan = _plan(folder, tasks)
    names = list(plan.grid.axes[0].values[0])
    with Store.for_writing(folder, plan, force=True) as store:
        flags = store.flags()
        before = {name: int(flags[i]) for i, name in enumerate(names)}
        pending = [name for name in tasks if before[name] == 0 or (retry and before[name] == FAILED)]
        out = {
            name: _outcome(store.read((names.index(name),), before[name]), reused=True)
            for name in tasks
            if name not in pending
        }

        def keep(index: int, cell: Cell) -> None:
            name = pending[index]
            place = (names.index(name),)
            store.write(place, cell)
            flags[place] = FAILED if cell.failed else DONE
            out[name] = _outcome(cell, reused=False)
            on_result(name, out[name])

        if pending:
            store.begin()
        try:
            (executor or as_executor(1)).run(_run, [tasks[name] for name in pending], keep=keep, lost=failed_cell)
        finally:
            store.finish(store.dataset(flags), {"status": OK})
    return {name: out[name] for name in tasks}


def _plan(folder: Path, tasks: Mapping[str, Task]) -> Plan:
    keys: dict[str, str] = {}
    if is_store(folder):
        store = Store.for_reading(folder)
        if store.axes == ("task",):
            keys = dict(zip(store.texts("task"), store.keys(), strict=True))
    for name, (function, arguments) in tasks.items():
        whole = [name, function.__module__, function.__qualname__, jsonable(arguments), NUMERICS]
        keys[name] = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]
    attributes = {"written_by": "featurephase", "contents": "tasks", "version": __version__, "numerics": NUMERICS}
    return Plan(Grid((Axis(("task",), (tuple(keys),)),)), _LAYOUT, tuple(keys.values()), attributes)


def _run(function: Callable[..., Mapping[str, Any]], arguments: tuple[Any, ...]) -> Cell:
    began = time.perf_counter()
    try:
        document = json.dumps(jsonable(function(*arguments)), allow_nan=False)
    except Exception as error:  # also a defect of one task costs that task alone
        return failed_cell(error)
    words = {"status": str(OK), "message": "", "document": document}
    return Cell({"seconds": time.perf_counter() - began}, words)


def _outcome(cell: Cell, *, reused: bool) -> TaskOutcome:
    words = cell.words
    return TaskOutcome(
        status=ERROR if cell.failed else str(words["status"]),
        message=str(words["message"]),
        seconds=float(cell.numbers.get("seconds", math.nan)),
        document=json.loads(words["document"]) if words.get("document") else {},
        reused=reused,
    )
