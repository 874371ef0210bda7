"""What a call asks for in place of the problem's own keys: values of n/d and steps, one number or a flat list.

And the text that its result names as its origin.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from featurephase.foundation.errors import InputError, show
from featurephase.foundation.numbers import is_number, plain
from featurephase.problem.checks import MAX_DELTA
from featurephase.problem.problem import Problem


def flat_numbers(name: str, value: Any) -> list[Any]:
    """The numbers in ``value``: one, or a list, tuple, array or other iterable of them; nothing nested in it.

    Raises
    ------
    InputError
        Naming what is not a number.
    """
    if is_number(value):
        return [plain(value)]
    entries: list[Any] | None = None
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict)):
        entries = list(np.asarray(value) if hasattr(value, "__array__") else value)
    if entries is None or not all(map(is_number, entries)):
        raise InputError(f"{name} = {show(value)}: must be a number or a list of numbers")
    return [plain(entry) for entry in entries]


def check_delta(value: Any, name: str = "delta") -> float:
    """A ratio n/d.

    Raises
    ------
    InputError
        If it is no finite number above 0, or beyond :data:`~featurephase.problem.checks.MAX_DELTA`: the bulk of the
        Hessian is then narrower than float64 resolves, and the limit of infinitely many samples is reached.
    """
    if not is_number(value) or not 0 < plain(value) <= MAX_DELTA:
        raise InputError(f"{name} = {show(value)}: must be a finite number > 0, at most {MAX_DELTA:g}")
    return float(plain(value))


def check_problem(problem: Any) -> None:
    """Refuse what is no problem, such as the name of its file.

    Raises
    ------
    InputError
        Saying how a file is read.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"problem = {show(problem)}: must be a Problem; featurephase.load(path) reads one from a file")


def asked_deltas(problem: Problem, delta: Any = None) -> tuple[float, ...]:
    """The values of n/d to run: those given, else those of the problem.

    Raises
    ------
    InputError
        If there is none, or one is no finite number above 0.
    """
    values = problem.run.delta if delta is None else flat_numbers("delta", delta)
    if len(values) == 0:
        raise InputError("no delta: give run.delta in the file, --delta D, or predict(problem, delta=..)")
    return tuple(check_delta(value) for value in values)


def asked_times(problem: Problem, times: Any = None) -> tuple[int, ...]:
    """The steps at which the Hessian is analysed: those given, else those of the problem, else the last one."""
    steps = problem.training.steps
    chosen = problem.run.times if times is None else times
    return (steps,) if chosen is None else whole_steps(chosen, steps)


def whole_steps(times: Any, last: int) -> tuple[int, ...]:
    """Times as steps in ascending order, each once.

    Raises
    ------
    InputError
        If one is no whole number from 0 to ``last``.
    """
    values = flat_numbers("times", times)
    for t in values:
        if not (0 <= t <= last and t == int(t)):
            raise InputError(f"time {t:g}: must be a whole number from 0 to {last} (training.steps)")
    return tuple(sorted({int(t) for t in values}))


def experiment_text(problem: Problem) -> str:
    """The experiment file of a problem, for provenance; empty where a function is a Python callable."""
    try:
        return problem.to_toml()
    except InputError:
        return ""
