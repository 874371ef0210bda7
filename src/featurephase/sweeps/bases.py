"""What a sweep starts from: an experiment, or a run of the latent model, of a related model or of the probe.

A base knows its input in the words of a file, changes keys of it, and computes results from it. It is sent to other
processes, so it holds plain values and imports what it computes with when it computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from featurephase.foundation.errors import InputError, show, suggest
from featurephase.foundation.tomlfile import toml_value
from featurephase.problem import Problem
from featurephase.problem.asked import asked_deltas, asked_times
from featurephase.problem.file import change_table, tables_of
from featurephase.results.base import Result
from featurephase.results.labels import Variable, schema, variables
from featurephase.results.prediction import Prediction
from featurephase.results.probe import ProbeResult
from featurephase.results.simulation import Simulation
from featurephase.results.threshold import Threshold
from featurephase.sweeps.axes import plain_value


class Base(ABC):
    """What is computed in every cell, and what of it changes from cell to cell."""

    #: "experiment", "latent", "related" or "probe".
    kind: ClassVar[str]

    @abstractmethod
    def input(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The full input of a cell as plain values: what its numbers depend on.

        Raises
        ------
        InputError
            For an unknown key.
        """

    @abstractmethod
    def check(self, changes: Mapping[str, Any]) -> None:
        """Refuse changes that make no valid input.

        Raises
        ------
        InputError
            Saying what is wrong.
        """

    @abstractmethod
    def known(self) -> dict[str, Variable]:
        """The quantities that can be asked for: dimensions, an example (or nothing) and attributes."""

    @abstractmethod
    def results(self, changes: Mapping[str, Any], quantities: tuple[str, ...]) -> list[Result]:
        """Compute one cell: results that have the quantities in their data sets."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The file of this base (TOML)."""

    #: One line for people, and the seed, ``None`` where nothing is random.
    title: str = ""
    seed: int | None = None

    @abstractmethod
    def with_samples(self, changes: Mapping[str, int], quick: bool) -> Base:
        """The same with other ``samples``, ``replicates`` or ``seed``; ``quick``: a tenth of the samples.

        Raises
        ------
        InputError
            If there is no such thing in it.
        """

    def single(self) -> tuple[str, ...]:
        """Dimensions along which every cell has one entry, so that quantities go without them."""
        return ()


# ---- experiments

#: Keyword arguments of an analysis that a sweep can set, in a table of the analysis's name.
_OPTIONS = {"simulate": ("dimension", "seeds", "method", "start")}
_CLASSES: dict[str, type] = {"threshold": Threshold, "predict": Prediction, "simulate": Simulation}
_LIMIT = ("delta_nn_limit", "drift", "delta_nn_history")


def _tables(analysis: str) -> dict[str, Variable]:
    """The variables that an analysis has; of the thresholds' limit too, which is only there when asked for."""
    out = dict(schema(_CLASSES[analysis]))
    if analysis == "threshold":
        for name, dims in zip(_LIMIT, ((), (), ("limit_time",)), strict=True):
            about = {"long_name": f"{name} as the number of steps grows without bound", "units": "1"}
            empty = np.empty((0,) * len(dims))
            out |= {name: (dims, empty, about), f"{name}_se": (dims, empty, about)}
        out["limit_time"] = (("limit_time",), np.empty(0), {"units": "step"})
    return out


@dataclass(frozen=True)
class ExperimentBase(Base):
    """An experiment; the quantities say what is computed of it: ``threshold``, ``predict`` or ``simulate``."""

    problem: Problem
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    kind: ClassVar[str] = "experiment"

    def __post_init__(self) -> None:
        for analysis, table in self.options.items():
            _check_options(analysis, table)

    @property
    def title(self) -> str:  # type: ignore[override]
        """That of the experiment."""
        return self.problem.title

    @property
    def seed(self) -> int:  # type: ignore[override]
        """That of the experiment."""
        return self.problem.asymptotics.seed

    @property
    def text(self) -> str:
        """The experiment file."""
        return self.problem.to_toml()

    def _split(self, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Changes of the problem, and the options of analyses after their changes."""
        options = {name: dict(table) for name, table in self.options.items()}
        own: dict[str, Any] = {}
        for name, value in changes.items():
            table, _, key = name.partition(".")
            if table in _OPTIONS:
                options.setdefault(table, {})[key] = value
                _check_options(table, options[table])
            else:
                own[name] = value
        return own, options

    def input(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The tables of the experiment file; the title is no input."""
        own, options = self._split(changes)
        tables = tables_of(self.problem)
        for name, value in own.items():
            section, _, key = name.partition(".")
            if not key:
                raise InputError(f'axis {show(name)}: keys have their table in front, such as "student.activation"')
            change_table(tables, section, {key: value})
        del tables["title"]
        return dict(plain_value("base", tables | {"options": options}))

    def changed(self, changes: Mapping[str, Any]) -> Problem:
        """The problem of one cell."""
        own, _ = self._split(changes)
        return self.problem.replace(**own) if own else self.problem

    def check(self, changes: Mapping[str, Any]) -> None:
        """Build the problem."""
        self.input(changes)
        self.changed(changes)

    @cached_property
    def _analyses(self) -> dict[str, str]:
        """Quantity -> the analysis that has it; where two have it, ``simulate`` if the sweep sets its options."""
        order = ["simulate", "predict", "threshold"]
        if "simulate" in self.options:
            order = ["predict", "threshold", "simulate"]
        return {name: analysis for analysis in order for name in _tables(analysis)}

    def known(self) -> dict[str, Variable]:
        """The numbers in the results of ``threshold``, ``predict`` and ``simulate``."""
        return {name: _tables(analysis)[name] for name, analysis in self._analyses.items()}

    def single(self) -> tuple[str, ...]:
        """Where the experiment has one delta, or one time."""
        out = []
        if len(self.problem.run.delta) <= 1:
            out.append("delta")
        if len(asked_times(self.problem)) == 1:
            out += ["threshold_time", "hessian_time"]
        return tuple(out)

    def with_samples(self, changes: Mapping[str, int], quick: bool) -> Base:
        """In the table ``[asymptotics]``."""
        problem = self.problem.replace(asymptotics=dict(changes)) if changes else self.problem
        return ExperimentBase(problem.quick() if quick else problem, self.options)

    def results(self, changes: Mapping[str, Any], quantities: tuple[str, ...]) -> list[Result]:
        """One result for each analysis that the quantities need."""
        problem, (_, options) = self.changed(changes), self._split(changes)
        wanted = {self._analyses[name]: None for name in quantities}
        return [_run(analysis, problem, quantities, options.get(analysis, {})) for analysis in wanted]


def _check_options(analysis: str, table: Any) -> None:
    if analysis not in _OPTIONS:
        raise InputError(f"unknown table {show(analysis)}: {suggest(analysis, _OPTIONS)}")
    if not isinstance(table, Mapping):
        raise InputError(f"{analysis} = {show(table)}: must be a table with {', '.join(_OPTIONS[analysis])}")
    for key in table:
        if key not in _OPTIONS[analysis]:
            raise InputError(f"unknown key {analysis}.{key}: {suggest(str(key), _OPTIONS[analysis])}")


def _run(analysis: str, problem: Problem, quantities: tuple[str, ...], options: Mapping[str, Any]) -> Result:
    """One analysis in this process, and of it no more than the quantities need."""
    if analysis == "threshold":
        from featurephase.analyses.threshold import threshold

        finite = {"delta_alg", "easy_basis", "hard_basis", "limit_time", *_LIMIT}
        times = asked_times(problem) if set(quantities) - finite else ()
        return threshold(problem, times=times, limit=bool(set(quantities) & set(_LIMIT)), workers=1)
    if analysis == "predict":
        from featurephase.analyses.prediction import predict

        asked_deltas(problem)
        edges = [name for name in quantities if "hessian_time" in _tables("predict").get(name, ((),))[0]]
        return predict(problem, times=None if edges else (), workers=1)
    from featurephase.analyses.simulation import simulate

    if "dimension" not in options:
        raise InputError("simulate.dimension is missing: give simulate = {dimension = ..} in the sweep file")
    return simulate(problem, workers=1, **options)


# ---- the models


@dataclass(frozen=True)
class ModelBase(Base):
    """A table of parameters: ``[latent]``, ``[related]`` or ``[probe]``."""

    kind: str  # type: ignore[misc]
    table: dict[str, Any]

    @property
    def title(self) -> str:  # type: ignore[override]
        """Kind and model."""
        return f"{self.kind} {self.table.get('model', '')}".strip()

    @property
    def seed(self) -> int | None:  # type: ignore[override]
        """That of the table."""
        return self.table.get("seed", None if self.kind == "latent" else 0)

    @property
    def text(self) -> str:
        """The file with this table."""
        return "\n".join([f"[{self.kind}]", *(f"{k} = {toml_value(v)}" for k, v in self.table.items())]) + "\n"

    def input(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The table after the changes; keys go with or without the table's name in front."""
        out = dict(self.table)
        for name, value in changes.items():
            out[name.removeprefix(f"{self.kind}.")] = value
        return out

    def check(self, changes: Mapping[str, Any]) -> None:
        """Make the model, without running it."""
        table = self.input(changes)
        if self.kind == "latent":
            from featurephase.analyses.latent import check_latent

            check_latent(**_latent(table))
        elif self.kind == "related":
            from featurephase.related_models.base import construct
            from featurephase.related_models.registry import model_class

            name, parameters, _ = _related(table)
            construct(model_class(name), parameters)
        else:
            from featurephase.probe.experiment import Experiment

            Experiment.from_mapping(table)

    def with_samples(self, changes: Mapping[str, int], quick: bool) -> Base:
        """In the table itself; a probe can be quick."""
        accepted = {"latent": (), "related": ("replicates", "seed"), "probe": ("replicates", "seed")}[self.kind]
        wanted = [*changes, *(["quick"] if quick and self.kind != "probe" else [])]
        if other := [name for name in wanted if name not in accepted]:
            raise InputError(f"--{other[0]}: a sweep over {self.kind} has no such thing")
        table = self.table | dict(changes)
        if quick:
            from featurephase.probe.experiment import Experiment

            table["train_samples"] = Experiment.from_mapping(table).quick().train_samples
            table.pop("train_fraction", None)
        return ModelBase(self.kind, table)

    def results(self, changes: Mapping[str, Any], quantities: tuple[str, ...]) -> list[Result]:
        """One run."""
        return [self._result(self.input(changes))]

    def _result(self, table: Mapping[str, Any]) -> Result:
        if self.kind == "latent":
            from featurephase.analyses.latent import latent

            return latent(**_latent(table))
        if self.kind == "related":
            from featurephase.related_models.registry import related

            name, parameters, run = _related(table)
            return related(name, workers=1, **run, **parameters)
        from featurephase.probe.experiment import Experiment, run_replicates

        return run_replicates(Experiment.from_mapping(table))

    def known(self) -> dict[str, Variable]:
        """Of the base itself where that is a formula; of any run where it is a training."""
        if self.kind == "probe":
            return schema(ProbeResult)
        result = self._result({**self.table, "simulate": False} if self.kind == "related" else self.table)
        known = variables(result)
        if self.table.get("simulate"):
            both = {name: v for name, v in known.items() if not name.startswith("boundary")}
            known |= {f"measured_{name}{end}": v for name, v in both.items() for end in ("", "_se")}
        words: dict[str, Variable] = {
            name: ((), np.asarray(word, dtype=object), {})
            for name, word in result.to_xarray().attrs.items()
            if isinstance(word, str) and name not in _ORIGIN
        }
        return words | known


#: Attributes of every data set that say where it comes from, and are no quantities.
_ORIGIN = ("title", "source", "version", "status", "message", "experiment", "parameters", "citation", "model")


def _latent(table: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``latent`` from a table ``[latent]``."""
    from featurephase.analyses.latent import latent_arguments

    out = latent_arguments(table)
    if missing := [key for key in ("u", "w", "cross_moment") if key not in out]:
        raise InputError(f"latent.{missing[0]} is missing: a table [latent] needs u, w and cross_moment")
    return out


def _related(table: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name of the model, its parameters, and how it is run."""
    if "model" not in table:
        from featurephase.related_models.registry import MODELS

        raise InputError(f"related.model is missing: one of {', '.join(MODELS)}")
    run = {key: table[key] for key in ("simulate", "seed", "replicates") if key in table}
    return str(table["model"]), {k: v for k, v in table.items() if k != "model" and k not in run}, run


# ---- from files


def base_of(document: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Base:
    """The base that the tables of a file describe: ``[latent]``, ``[related]`` or ``[probe]``, else an experiment.

    Raises
    ------
    InputError
        If they describe none.
    """
    for kind in ("latent", "related", "probe"):
        if kind in document:
            table = document[kind]
            if others := set(document) - {kind, "title"}:
                raise InputError(f"base: unknown table or key {show(min(others))} beside [{kind}]")
            if not isinstance(table, Mapping):
                raise InputError(f"{kind} = {show(table)}: must be a table [{kind}]")
            base = ModelBase(kind, plain_value(kind, table))
            base.check({})
            return base
    from featurephase.problem.file import parts_from

    return ExperimentBase(Problem(**parts_from(document)), dict(options or {}))
