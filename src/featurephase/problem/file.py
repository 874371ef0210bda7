"""From the words of the experiment file (TOML) to the parts of a problem, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Never

import numpy as np

from featurephase.foundation.errors import InputError, show, suggest
from featurephase.foundation.tomlfile import toml_value
from featurephase.functions import Activation, Link, Loss, VectorLoss
from featurephase.functions import loss as parse_loss
from featurephase.problem.checks import ACCEPTED, parsed
from featurephase.problem.values import Asymptotics, GradientDescent, Run, Student, Teacher, ThresholdSearch

_SECTIONS: dict[str, Callable[..., Any]] = {
    "teacher": Teacher,
    "student": Student,
    "training": GradientDescent,
    "asymptotics": Asymptotics,
    "threshold": ThresholdSearch,
    "run": Run,
}

#: Table of the file -> its keys, in the order of the file.
KEYS: dict[str, tuple[str, ...]] = {"teacher": (), "student": (), "loss": ()}
for _dotted in ACCEPTED:
    if "." in _dotted:
        _section, _key = _dotted.split(".")
        KEYS[_section] = (*KEYS.get(_section, ()), _key)

#: Keys of a table that exclude each other: those on one side and those on the other.
_EXCLUDING = (
    (("init_gram",), ("init_norm",)),
    (("name",), ("expression",)),
    (("link",), ("classes", "logits", "decision")),
)

#: Tables that other commands read, so that the message can say which.
_ELSEWHERE = {
    "latent": "featurephase latent",
    "axis": "featurephase sweep",
    "base": "featurephase sweep",
    "quantities": "featurephase sweep",
}


def unknown_key(name: str, value: object, accepted: Iterable[str], section: str = "") -> Never:
    """Raise the error for a key or table that there is not, with what may have been meant."""
    kind = "table" if isinstance(value, (Mapping, list)) and not section else "key"
    if section == "training" and name in ("batch_size", "batch"):
        raise InputError(
            f"training.{name} = {show(value, 40)}: a batch of a fixed number of samples is a vanishing share of n "
            "and outside the limit n, d -> infinity at fixed n/d; give training.batch_fraction, "
            f"{ACCEPTED['training.batch_fraction']}"
        )
    if not section and name in _ELSEWHERE:
        raise InputError(
            f"unknown {kind} {show(name)}: it belongs in a file for `{_ELSEWHERE[name]}`, not in an experiment file"
        )
    home = next((f"[{other}]" for other, keys in KEYS.items() if name in keys and other != section), None)
    hint = f"it belongs in {home}; " if home else ""
    where = f" in [{section}]" if section else ""
    raise InputError(f"unknown {kind} {show(name)}{where} (value {show(value, 40)}): {hint}{suggest(name, accepted)}")


def change_table(tables: dict[str, Any], section: str, changes: Mapping[str, Any]) -> None:
    """Change keys of one table; a key that excludes another one takes its place."""
    if section not in KEYS:
        unknown_key(section, changes, ("title", *KEYS))
    table = tables[section]
    if not isinstance(table, Mapping):
        raise InputError(f"{section}: give either the whole section or single keys of it, not both")
    table = dict(table)
    for one, other in _EXCLUDING:
        if {*one, *other} & set(changes):
            taken = one if set(other) & set(changes) else other
            table = {key: value for key, value in table.items() if key not in taken}
    if "latent_dim" in changes:  # functions are to be read again with the new dimension
        for key in {"link", "logits"} & set(table):
            many = table[key] if key == "logits" else None
            table[key] = [source_text(v) or v for v in many] if many else source_text(table[key]) or table[key]
    tables[section] = table | dict(changes)


def tables_of(problem: Any) -> dict[str, Any]:
    """The problem in the words of the experiment file; functions and arrays are left as they are."""
    p = problem
    easy_basis = {} if p.teacher.easy_basis is None else {"easy_basis": p.teacher.easy_basis}
    run: dict[str, Any] = ({"delta": p.run.delta} if p.run.delta else {}) | (
        {} if p.run.times is None else {"times": p.run.times}
    )
    return {
        "title": p.title,
        "teacher": {"latent_dim": p.teacher.latent_dim} | _response(p.teacher.link) | easy_basis,
        "student": {"activation": p.student.activation, "readout": p.student.readout} | p.student._init,
        "loss": {"expression" if p.loss.is_expression else "name": p.loss},
        "training": _training(p.training),
        "asymptotics": vars(p.asymptotics),
        "threshold": vars(p.threshold),
        "run": run,
    }


def _response(link: Link) -> dict[str, Any]:
    """The keys of the teacher that say what the response is."""
    if not link.classes:
        return {"link": link}
    return {"classes": link.classes, "logits": list(link.parts), "decision": link.decision}


def _training(training: GradientDescent) -> dict[str, Any]:
    """The keys that everybody gives, and those of the others that differ from their defaults."""
    always = ("step_size", "steps", "weight_decay")
    return {
        f.name: getattr(training, f.name)
        for f in fields(training)
        if f.name in always or getattr(training, f.name) != f.default
    }


def parts_from(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The only way from the words of the file to the arguments of a problem; functions may be texts or objects."""
    parts: dict[str, Any] = {}
    for name, table in tables.items():
        if name == "title":
            parts[name] = table
        elif name == "loss":
            parts[name] = _loss(table)
        elif name in _SECTIONS:
            parts[name] = _section_of(name, table)
        else:
            unknown_key(name, table, ("title", *KEYS))
    for name in ("teacher", "student", "loss", "training"):
        if name not in parts:
            keys = ", ".join(KEYS[name])
            raise InputError(f"the table [{name}] is missing; its keys are {keys}")
    return parts


def _check_keys(section: str, table: object) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise InputError(
            f"{section} = {show(table)}: must be a table, [{section}], with keys {', '.join(KEYS[section])}"
        )
    for key, value in table.items():
        if key not in KEYS[section]:
            unknown_key(key, value, KEYS[section], section)
    return table


def _section_of(section: str, table: object) -> Any:
    make = _SECTIONS[section]
    if isinstance(make, type) and isinstance(table, make):
        return table
    checked = _check_keys(section, table)
    for key, parameter in inspect.signature(make).parameters.items():
        if parameter.default is parameter.empty and key not in checked:
            dotted = f"{section}.{key}"
            raise InputError(f"{dotted} is missing: it must be {ACCEPTED[dotted]}")
    return make(**checked)


def _loss(table: object) -> Loss | VectorLoss:
    if isinstance(table, (Loss, VectorLoss)):
        return table
    if isinstance(table, str):
        table = {"name": table}
    checked = _check_keys("loss", table)
    if len(checked) != 1:
        given = " and ".join(checked) or "neither"
        raise InputError(f"[loss] needs exactly one of name and expression; given: {given}")
    ((key, value),) = checked.items()
    if isinstance(value, (Loss, VectorLoss)):
        return value
    dotted = f"loss.{key}"
    loss: Loss = parsed(dotted, value, parse_loss if key == "name" else lambda text: parse_loss(expression=text))
    return loss


def source_text(function: Activation | Link | Loss | VectorLoss) -> str | list[str] | None:
    """The text a function was made from, or the texts of its parts; ``None`` where it came from Python callables."""
    try:
        return function.to_spec()
    except InputError:
        return None


def _toml(value: Any, key: str) -> str:
    """``value`` as TOML: what :func:`toml_value` writes, arrays, and functions by their text."""
    if isinstance(value, np.ndarray):
        if key == "student.readout" and value.ndim == 1 and value.size > 8 and np.all(value == value[0]):
            return f"{{width = {value.size}, value = {float(value[0])!r}}}"
        return _toml(value.tolist(), key)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(entry, key) for entry in value) + "]"
    return toml_value(value.to_spec() if hasattr(value, "to_spec") else value)


def toml_text(tables: dict[str, Any]) -> str:
    """The experiment file with these tables.

    Raises
    ------
    InputError
        If a function was made from Python callables, for which there is no text.
    """
    lines = [f"title = {_toml(tables['title'], 'title')}"]
    for section, table in tables.items():
        if section != "title":
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {_toml(value, f'{section}.{key}')}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
