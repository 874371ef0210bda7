"""A sweep: its plan, what it would cost, and the run that can be interrupted and taken up again."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featurephase._version import NUMERICS, __version__
from featurephase.foundation.errors import InputError, Interrupted, show
from featurephase.foundation.executors import Executor, Processes, Workers, as_executor
from featurephase.foundation.memory import format_bytes
from featurephase.foundation.threads import core_count
from featurephase.foundation.workers import dismiss, hire
from featurephase.problem import Problem
from featurephase.results.status import INTERRUPTED, OK, cells_failed
from featurephase.results.sweep import CellCounts, CostEstimate, Sweep, SweepAxis
from featurephase.sweeps.axes import Grid, axes_of
from featurephase.sweeps.bases import Base, ExperimentBase, base_of
from featurephase.sweeps.cells import Cell, compute, failed_cell, layout_of
from featurephase.sweeps.file import SweepFile, sweep_text
from featurephase.sweeps.folder import is_store
from featurephase.sweeps.store import DONE, FAILED, Plan, Store

#: Cells that are timed first, spread over the grid.
_TIMED = 3
#: Seconds that a dry run gives them.
_PATIENCE = 30.0


# ---- the plan


def plan_of(base: Base, grid: Grid, quantities: Any) -> Plan:
    """Everything about a sweep that is known before a cell is computed.

    Raises
    ------
    InputError
        For an unknown quantity or key, or a value that is refused in every cell it is tried in.
    """
    layout = layout_of(base, quantities)
    for number, axis in enumerate(grid.axes):
        for index in range(axis.size):
            _check_entry(base, grid, number, index)
    asked = sorted(dict.fromkeys(quantities))
    keys = tuple(_key(base, grid.changes(grid.at(cell)), asked) for cell in range(grid.size))
    return Plan(grid, layout, keys, _attributes(base, grid, tuple(quantities)))


def _check_entry(base: Base, grid: Grid, number: int, index: int) -> None:
    """Refuse an entry of an axis that neither goes with the first nor with the last entries of the others."""
    refused: InputError | None = None
    for rest in (0, -1):
        place = [index if i == number else rest % axis.size for i, axis in enumerate(grid.axes)]
        try:
            return base.check(grid.changes(place))
        except InputError as error:
            refused = refused or error
    axis = grid.axes[number]
    raise InputError(f"axis {axis.name}, {show(axis.values[0][index])}: {refused}")


def _key(base: Base, changes: Mapping[str, Any], quantities: Sequence[str]) -> str:
    """A hash of all that the numbers of a cell depend on."""
    whole = {"numerics": NUMERICS, "kind": base.kind, "input": base.input(changes), "quantities": quantities}
    return hashlib.sha256(json.dumps(_canonical(whole), sort_keys=True).encode()).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    """Equal numbers in the same form: 1 and 1.0 are one input."""
    if isinstance(value, Mapping):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _attributes(base: Base, grid: Grid, quantities: tuple[str, ...]) -> dict[str, Any]:
    import scipy

    return {
        "title": base.title,
        "source": f"featurephase {__version__}, numpy {np.__version__}, scipy {scipy.__version__}",
        "version": __version__,
        "numerics": NUMERICS,
        "seed": -1 if base.seed is None else base.seed,
        "status": str(INTERRUPTED),
        "message": "",
        "written_by": "featurephase",
        "contents": "sweep",
        "kind": base.kind,
        "experiment": base.text,
        "sweep": sweep_text(base, grid, quantities),
        "axes": json.dumps([{"name": axis.name, "keys": axis.keys} for axis in grid.axes]),
        "quantities": json.dumps(quantities),
    }


# ---- the run


def run_sweep(
    base: Base,
    plan: Plan,
    quantities: tuple[str, ...],
    folder: Path,
    *,
    executor: Executor,
    retry: bool = False,
    force: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> Sweep:
    """Compute what is not finished in the store, cell by cell, each on disk before the next one of its process.

    Parameters
    ----------
    retry
        Also compute again what has failed.
    force
        Drop finished cells of the store that are not in the plan.
    report
        Called with a line for people: what the rest will take.

    Raises
    ------
    InputError
        As :meth:`Store.for_writing`.
    Interrupted
        With what is finished, after Ctrl-C.
    OSError
        If the disk is full, or the store may not be written any more.
    """
    with Store.for_writing(folder, plan, force=force) as store:
        flags = store.flags()
        reused = int(np.sum(flags == DONE))
        again = (0, FAILED) if retry else (0,)
        pending = [plan.grid.at(int(cell)) for cell in np.flatnonzero(np.isin(flags.reshape(-1), again))]
        if pending:
            store.begin()
        try:
            _compute(base, plan, quantities, store, flags, pending, executor, report)
        except KeyboardInterrupt:
            raise Interrupted(_finished(store, flags, reused, stopped=True)) from None
        return _finished(store, flags, reused)


def _compute(
    base: Base,
    plan: Plan,
    quantities: tuple[str, ...],
    store: Store,
    flags: np.ndarray[Any, Any],
    pending: Sequence[tuple[int, ...]],
    executor: Executor,
    report: Callable[[str], object],
) -> None:
    """The cells in ``pending``: the first alone where it shapes the arrays, a few that are timed, then all others."""
    seconds: list[float] = []
    memory = 0.0

    def run(places: Sequence[tuple[int, ...]], label: str) -> None:
        def keep(index: int, cell: Cell) -> None:
            nonlocal memory
            store.write(places[index], cell)
            flags[places[index]] = FAILED if cell.failed else DONE
            seconds.append(cell.numbers["seconds"])
            memory = max(memory, np.nan_to_num(cell.numbers["memory"]))

        tasks = [(base, plan.grid.changes(place), quantities, plan.layout) for place in places]
        executor.run(compute, tasks, label=label, memory=memory, keep=keep, lost=failed_cell)

    left = list(pending)
    while left and not store.shaped:
        run([left.pop(0)], "first cell")
    if len(left) > 2 * _TIMED:
        run([left.pop(i) for i in sorted(_spread(len(left), _TIMED), reverse=True)], "timed cells")
        report(_words(_estimate(seconds, memory, len(left), executor)))
    if left:
        run(left, "cells")


def _spread(count: int, wanted: int) -> list[int]:
    """Some of ``range(count)``, from first to last."""
    return sorted({round(x) for x in np.linspace(0, count - 1, min(wanted, count))})


def _finished(store: Store, flags: np.ndarray[Any, Any], reused: int, *, stopped: bool = False) -> Sweep:
    data = store.dataset(flags)
    result = _result(store, data, flags, reused, stopped)
    attributes = {"status": str(result.status), "message": result.message}
    store.finish(data, attributes)
    data.attrs.update(attributes)
    return result


def _result(store: Store, data: Any, flags: np.ndarray[Any, Any], reused: int, stopped: bool = False) -> Sweep:
    done, failed = int(np.sum(flags == DONE)), int(np.sum(flags == FAILED))
    counts = CellCounts(total=flags.size, done=done, failed=failed, reused=reused)
    about = store.attributes
    axes = tuple(
        SweepAxis(name=a["name"], keys=tuple(a["keys"]), values=tuple(data[a["name"]].values.tolist()))
        for a in json.loads(about["axes"])
    )
    left = flags.size - done - failed
    if left:
        status, message = INTERRUPTED, f"{left} of {flags.size} cells are not computed yet; run it again to go on"
        message = f"stopped: {message}" if stopped else message
    elif failed:
        first = data["message"].values[flags == FAILED][0] or data["status"].values[flags == FAILED][0]
        status, message = cells_failed(failed, flags.size), f"{failed} of {flags.size} cells failed; the first: {first}"
    else:
        status, message = OK, ""
    return Sweep(
        status=status,
        message=message,
        seed=None if about["seed"] < 0 else int(about["seed"]),
        version=about["version"],
        title=about["title"],
        cells=counts,
        store=os.fspath(store.folder),
        kind=about["kind"],
        axes=axes,
        quantities=tuple(json.loads(about["quantities"])),
        data=data,
    )


# ---- what it would cost


def _estimate(seconds: Sequence[float], memory: float, left: int, executor: Executor) -> CostEstimate:
    mean = float(np.nanmean(seconds)) if len(seconds) else math.nan
    count = executor.count or core_count() if isinstance(executor, Processes) else 1
    processes = max(1, min(count, left))
    return CostEstimate(
        timed=len(seconds),
        seconds=mean,
        memory=memory,
        left=left,
        processes=processes,
        total_seconds=mean * left / processes,
    )


def _words(estimate: CostEstimate) -> str:
    if estimate.left == 0:
        return "every cell is there: nothing is left to compute"
    if estimate.timed == 0:
        return f"{estimate.left:,} cells are left; none was finished within {_PATIENCE:g} s"
    return (
        f"{estimate.left:,} cells are left; a cell takes about {_duration(estimate.seconds)} and "
        f"{format_bytes(estimate.memory)} ({estimate.timed} timed): about {_duration(estimate.total_seconds)} with "
        f"{estimate.processes} process{'es' if estimate.processes > 1 else ''}"
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def dry_run(base: Base, plan: Plan, quantities: tuple[str, ...], folder: Path, executor: Executor) -> Sweep:
    """What a run would do and cost: nothing is written; a few cells are computed to be timed, for some seconds.

    Raises
    ------
    InputError
        If the folder holds something else than a store.
    """
    flags = np.zeros(plan.grid.shape, dtype=np.int8)
    if is_store(folder):
        store = Store.for_reading(folder)
        known = dict(zip(store.keys(), store.flags().reshape(-1).tolist(), strict=True))
        flags = np.array([known.get(key, 0) for key in plan.keys], dtype=np.int8).reshape(plan.grid.shape)
    left = [plan.grid.at(int(cell)) for cell in np.flatnonzero(flags.reshape(-1) == 0)]
    timed = _timed(base, plan, quantities, [left[i] for i in _spread(len(left), _TIMED)]) if left else []
    seconds = [cell.numbers["seconds"] for cell in timed]
    estimate = _estimate(seconds, max((c.numbers["memory"] for c in timed), default=math.nan), len(left), executor)
    done, failed = int(np.sum(flags == DONE)), int(np.sum(flags == FAILED))
    return Sweep(
        status=OK,
        message=f"dry run: {_words(estimate)}",
        seed=base.seed,
        title=base.title,
        cells=CellCounts(total=plan.grid.size, done=done, failed=failed, reused=done),
        store=os.fspath(folder),
        kind=base.kind,
        axes=tuple(SweepAxis(name=a.name, keys=a.keys, values=tuple(a.coordinate(0).tolist())) for a in plan.grid.axes),
        quantities=quantities,
        estimate=estimate,
    )


def _timed(base: Base, plan: Plan, quantities: tuple[str, ...], places: Sequence[tuple[int, ...]]) -> list[Cell]:
    """Cells computed in another process, which is sent away when the time is over."""
    cells: list[Cell] = []

    def work() -> None:
        (worker,) = hire(1, core_count())
        for place in places:
            try:
                cells.append(worker.call(compute, (base, plan.grid.changes(place), quantities, plan.layout)))
            except Exception:  # dismissed, or died: nothing is known of the others
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    dismiss()
    return list(cells)


# ---- the public functions


def sweep(
    problem: Problem | str | os.PathLike[str] | Mapping[str, Any],
    *,
    axes: Mapping[Any, Any] | Sequence[Mapping[str, Any]] | None = None,
    quantities: Sequence[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    workers: Workers = None,
    retry: bool = False,
    force: bool = False,
    quiet: bool = True,
) -> Sweep:
    """Compute quantities over a grid of problems; what is finished in ``store`` is not computed again.

    Parameters
    ----------
    problem
        What all cells have in common: a :class:`~featurephase.problem.Problem`, the path of an experiment file or of a
        sweep file, or tables as in a file (``{"related": {"model": "catapult"}}``, ``{"latent": {..}}``,
        ``{"probe": {..}}``).
    axes
        Key of the experiment file -> its values: ``{"student.activation": ["gelu", "tanh"]}``. In place of a list
        ``{"range": [first, last, count]}`` or ``{"logrange": [..]}``. A tuple of keys changes together: its values are
        one tuple for each entry. Or a list of tables as in a sweep file.
    quantities
        Names of variables in the data sets of single results (``delta_nn``, ``delta_alg``, ``left_edge``,
        ``train_loss``, ..); standard errors come by themselves.
    store
        Folder that keeps the cells (zarr); ``None``: nothing is kept.
    workers
        Where cells are computed: a number of processes, or ``fp.Dask(address)``. No number depends on it.
    retry
        Compute cells again that failed.
    force
        Drop finished cells of the store that are not in this sweep, which is refused otherwise.
    quiet
        No progress.

    Returns
    -------
    Sweep
        ``result.data`` is an ``xarray.Dataset`` with a dimension for each axis.

    Raises
    ------
    InputError
        For an unknown key or quantity, a value that is not accepted, clashing axes, too many cells, or a store of
        another sweep or in use.
    OSError
        If the store cannot be written.

    Examples
    --------
    >>> import featurephase as fp
    >>> found = fp.sweep({"related": {"model": "catapult"}}, axes={"related.eta": [0.5, 1.0]}, quantities=["ntk_limit"])
    >>> found["ntk_limit"].values.round(3)
    array([3.   , 0.223])
    """
    file = _asked(problem, axes, quantities)
    plan = plan_of(file.base, file.grid, file.quantities)
    executor = as_executor(workers, quiet=quiet)
    run = functools.partial(run_sweep, file.base, plan, file.quantities, executor=executor, retry=retry, force=force)
    if store is not None:
        return run(Path(store))
    with tempfile.TemporaryDirectory(prefix="featurephase-") as folder:
        return replace(run(Path(folder) / "store"), store="")


def _asked(problem: Any, axes: Any, quantities: Any) -> SweepFile:
    """What is swept, from the arguments of :func:`sweep`."""
    if isinstance(problem, (str, os.PathLike)):
        file = SweepFile.read(problem, base_only=axes is not None)
        if axes is None and file.boundary is not None:
            raise InputError("the file has a table [boundary]: that is for fp.boundary(..) or the command sweep")
        if axes is None:
            return file if quantities is None else SweepFile(file.base, file.grid, tuple(quantities))
        base = file.base
    elif isinstance(problem, Problem):
        base = ExperimentBase(problem)
    elif isinstance(problem, Mapping):
        base = base_of(problem)
    else:
        raise InputError(f"problem = {show(problem)}: must be a Problem, the path of a file, or tables of one")
    if quantities is None:
        raise InputError('quantities: missing; give names such as ["delta_nn", "delta_alg"]')
    if axes is None:
        raise InputError('axes: missing; give keys and values, such as {"student.activation": ["gelu", "tanh"]}')
    layout_names = tuple(quantities) if isinstance(quantities, (list, tuple)) else quantities
    return SweepFile(base, axes_of(_tables(axes)), layout_names)


def _tables(axes: Any) -> list[Any]:
    """Axes of Python in the form of the tables of a sweep file."""
    if not isinstance(axes, Mapping):
        return list(axes) if isinstance(axes, (list, tuple)) else [axes]
    out: list[Any] = []
    for key, values in axes.items():
        if isinstance(key, tuple):
            rows = _rows(key, values)
            out.append({"key": key[0], "values": rows[0], "with": dict(zip(key[1:], rows[1:], strict=True))})
        else:
            out.append({"key": key, **(values if isinstance(values, Mapping) else {"values": values})})
    return out


def _rows(keys: tuple[Any, ...], entries: Any) -> list[tuple[Any, ...]]:
    """The values of each of the keys that change together, from the tuples of their entries."""
    try:
        given = [tuple(entry) for entry in entries]
    except TypeError:
        given = []
    if not keys or not given or any(len(entry) != len(keys) for entry in given):
        raise InputError(
            f"axis {show(keys)}: {show(entries)}: keys that change together need a list of tuples, one for each entry, "
            f"of {len(keys)} values each"
        )
    return list(zip(*given, strict=True))


def open_sweep(store: str | os.PathLike[str]) -> Sweep:
    """The cells of a store that are finished, whether a sweep is complete, interrupted or still running.

    Damaged cells count as not finished.

    Raises
    ------
    InputError
        If there is no store.
    """
    opened = Store.for_reading(Path(store))
    flags = opened.flags()
    return _result(opened, opened.dataset(flags), flags, int(np.sum(flags == DONE)))
