"""From words on the command line to numbers: vectors, times, ratios, and flags that override keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from featurephase.foundation.errors import InputError, show

if TYPE_CHECKING:
    from featurephase.problem import Problem


class Times(NamedTuple):
    """What ``--time`` asked for: ``steps`` in ascending order, and whether ``inf`` was among them."""

    steps: tuple[int, ...]
    limit: bool


def _number(flag: str, word: str, *, infinite: bool = False) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if math.isnan(value) or (math.isinf(value) and not infinite) or "_" in word:
        accepted = "a number, inf or -inf" if infinite else "a finite number"
        raise InputError(f"{flag} {show(word)}: must be {accepted}")
    return value


def parse_vector(flag: str, text: str, *, length: int | None = None, infinite: bool = False) -> tuple[float, ...]:
    """The numbers of a comma-separated list, ``"0.5,-0.3"``, that was given to a flag.

    ``length``: how many there must be, where that is known; ``infinite``: whether ``inf`` is accepted.

    Raises
    ------
    InputError
        Naming the flag and the word that is not a number.
    """
    values = tuple(_number(flag, word.strip(), infinite=infinite) for word in text.split(","))
    if length is not None and len(values) != length:
        raise InputError(f"{flag} {show(text)}: {length} numbers separated by commas are needed; given: {len(values)}")
    return values


def parse_positive(flag: str, text: str) -> float:
    """A single finite number > 0.

    Raises
    ------
    InputError
        Naming the flag and what was given.
    """
    value = _number(flag, text)
    if value <= 0:
        raise InputError(f"{flag} {show(text)}: must be a finite number > 0")
    return value


def parse_matrix(flag: str, text: str) -> tuple[tuple[float, ...], ...]:
    """The rows of a matrix: numbers separated by commas, rows by semicolons (``"1,0;0,1"``).

    Raises
    ------
    InputError
        If a word is not a number, or the rows differ in length.
    """
    rows = tuple(parse_vector(flag, row) for row in text.split(";"))
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"{flag} {show(text)}: all rows must have as many numbers as the first, {len(rows[0])}")
    return rows


def parse_times(flag: str, words: Sequence[str] | None) -> Times | None:
    """The steps given with a repeated flag, ``None`` if it was not given; each may be a comma-separated list.

    Raises
    ------
    InputError
        If a word is neither a whole number >= 0 nor ``inf``.
    """
    if not words:
        return None
    steps: set[int] = set()
    limit = False
    for word in (part.strip() for text in words for part in text.split(",")):
        if word == "inf":
            limit = True
        elif word.isascii() and word.isdigit() and len(word) <= 12:
            steps.add(int(word))
        else:
            raise InputError(f"{flag} {show(word)}: must be a whole number >= 0, or inf for the limit")
    return Times(tuple(sorted(steps)), limit)


def finite_times(flag: str, words: Sequence[str] | None) -> Times | None:
    """The same for a command that has no limit t -> infinity.

    Raises
    ------
    InputError
        Also for ``inf``.
    """
    times = parse_times(flag, words)
    if times is not None and times.limit:
        raise InputError(f"{flag} inf: there is no limit of a trajectory here; must be whole numbers >= 0")
    return times


def experiment(
    file: str | Path,
    *,
    delta: Sequence[str] | None = None,
    times: Times | None = None,
    delta_range: str | None = None,
    **asymptotics: int | None,
) -> Problem:
    """The problem of an experiment file with the flags that were given in place of its keys.

    ``asymptotics``: ``samples``, ``replicates``, ``seed``.

    ``--time inf`` is left to the command: whether there is a limit depends on what is asked.

    Raises
    ------
    InputError
        For whatever is wrong with the file or a flag.
    """
    from featurephase.problem import ACCEPTED, load

    changes: dict[str, object] = {}
    if delta:
        values = [value for text in delta for value in parse_vector("--delta", text)]
        if bad := [value for value in values if value <= 0]:
            raise InputError(f"--delta {show(bad[0])}: must be a finite number > 0")
        changes["run.delta"] = values
    problem = load(file)
    if times is not None:
        if beyond := [t for t in times.steps if t > problem.training.steps]:
            raise InputError(
                f"--time {beyond[0]}: beyond the last step of the training; must be a whole number from 0 to "
                f"{problem.training.steps} (training.steps)"
            )
        changes["run.times"] = times.steps
    if delta_range is not None:
        pair = parse_vector("--delta-range", delta_range, length=2)
        if not 0 < pair[0] < pair[1]:
            raise InputError(f"--delta-range {show(delta_range)}: must be {ACCEPTED['threshold.delta_range']}")
        changes["threshold.delta_range"] = pair
    changes |= {f"asymptotics.{key}": value for key, value in asymptotics.items() if value is not None}
    return problem.replace(**changes) if changes else problem
