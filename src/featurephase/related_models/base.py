"""The one interface of the related models, and what they share: checked parameters, and theory against simulation.

A related model is a map from parameters to named quantities that is known twice: by a formula (or an exact reduction to
far fewer numbers) and by training the network it speaks of. Both stand in one class, so that each can judge the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, TypeVar, dataclass_transform

import numpy as np

from featurephase.foundation.errors import InputError, show, suggest
from featurephase.foundation.executors import Workers, replicate_seeds, run_tasks
from featurephase.foundation.memory import require_memory
from featurephase.foundation.statistics import mean_and_se
from featurephase.foundation.types import Array
from featurephase.related_models.agreement import agreement
from featurephase.related_models.parameters import SMALLEST, Domain, SizeError, count, parameter
from featurephase.results.related import Agreement, Curve, Panel, Quantity, RelatedResult
from featurephase.results.status import OK, SLOW

__all__ = ["Curve", "Known", "Panel", "Phase", "Quantity", "RelatedModel", "Solution", "construct", "model", "points"]

T = TypeVar("T")

#: Every quantity by name: its dimensions, and what it is.
Known: TypeAlias = Mapping[str, tuple[tuple[str, ...], str]]


# ---- what a model is


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(parameter,))
def model(cls: type[T]) -> type[T]:
    """Make a subclass of :class:`RelatedModel` a frozen dataclass with keyword arguments."""
    return dataclass(frozen=True, kw_only=True, eq=False)(cls)


# ---- what a model says


@dataclass(frozen=True)
class Solution:
    """Named quantities; ``status`` and ``message`` as in a result."""

    quantities: dict[str, Quantity]
    status: str = "ok"
    message: str = ""


@dataclass(frozen=True)
class Phase:
    """Name of the regime, what happens there, and the values of a parameter at which it changes."""

    name: str
    note: str = ""
    boundaries: dict[str, float] = field(default_factory=dict)


@model
class RelatedModel(ABC):
    """A solvable model of the passage from the kernel regime to feature learning.

    With parameters p in the domain D and quantities q, the methods state:

    - the constructor: p is in D, or :class:`InputError` says which part of D was left;
    - :meth:`solve`: q(p) by formula, ``accuracy`` saying how exactly it holds for a simulation;
    - :meth:`train`: one draw of q(p) from training the network of the definition, which uses nothing of ``solve``;
    - :meth:`simulate`: means and standard errors over independent draws;
    - :meth:`phase`: the connected part of D in which q behaves in one way;
    - :meth:`compare`: abs(simulation - theory) <= accuracy + t * standard error, for all entries at once.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[str]
    validity: ClassVar[str] = "exact"
    #: Whether a simulation is stochastic: it is then repeated and has standard errors.
    stochastic: ClassVar[bool] = True
    #: Quantities that are fractions of events in one training run.
    fractions: ClassVar[frozenset[str]] = frozenset()
    known: ClassVar[Known]

    def __post_init__(self) -> None:
        """Bring every parameter into its domain, then check what must hold between them."""
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None and f.default is None:
                continue
            domain: Domain = f.metadata["domain"]
            try:
                object.__setattr__(self, f.name, domain.convert(value))
            except (ValueError, TypeError, OverflowError) as error:
                size = f", {error}" if isinstance(error, SizeError) else ""
                raise InputError(
                    f"{self.name}: {f.name} = {show(value)}: must be {domain.accepted}{size} ({f.metadata['about']})"
                ) from None
        self.check()

    def check(self) -> None:
        """What must hold between the parameters.

        Raises
        ------
        InputError
            Saying what does not, and the domain of validity.
        """
        return

    def outside(self) -> str:
        """Why these parameters, though they make sense, lie outside the theory; empty where they do not."""
        return ""

    @abstractmethod
    def solve(self) -> Solution:
        """The quantities by formula or exact reduction."""

    @cached_property
    def theory(self) -> Solution:
        """:meth:`solve`, computed once."""
        return self.solve()

    @abstractmethod
    def train(self, rng: np.random.Generator) -> dict[str, Any]:
        """One training run: what it measures, by name; nan where it did not get there."""

    def training_memory(self) -> float:
        """Bytes that one training run needs, where its parameters can make them many."""
        return 0.0

    def simulate(self, seed: int, replicates: int, *, workers: Workers = None, quiet: bool = True) -> Solution:
        """Independent training runs, their means and standard errors; one run if nothing is random.

        Raises
        ------
        MemoryLimitError
            If a run needs more memory than there is.
        """
        count = replicates if self.stochastic else 1
        tasks = [(self, stream) for stream in replicate_seeds(seed, count)]
        memory = self.training_memory()
        require_memory(memory, f"{self.name}: a training run of this size")
        runs = run_tasks(_trained, tasks, label=self.name, memory=memory, quiet=quiet, workers=workers)
        return self.summary({name: np.array([run[name] for run in runs]) for name in runs[0]})

    def summary(self, runs: dict[str, Array]) -> Solution:
        """What a simulation says: ``runs`` holds every quantity of the runs over (replicate, ...)."""
        found = {}
        for name, values in runs.items():
            mean, se = mean_and_se(values) if self.stochastic else (values[0], None)
            found[name] = self.quantity(name, mean, se=se)
        lost = max(int(np.isnan(v.reshape(len(v), -1)).any(axis=1).sum()) for v in runs.values())
        words = f"{lost} of {len(next(iter(runs.values())))} training runs did not converge"
        return Solution(found, SLOW, words) if lost else Solution(found, OK)

    @cached_property
    def _finely(self) -> RelatedModel:
        """The same model with a fine grid of times up to the last one asked for."""
        asked: Array = getattr(self, "time")  # noqa: B009 -- only models with a time come here
        asked = asked[np.isfinite(asked)]
        grid = np.linspace(0.0, asked.max(initial=0.0), 201)
        return replace(self, time=np.union1d(grid[grid >= SMALLEST], np.append(asked, 0.0)))  # type: ignore[call-arg]

    def over_time(
        self, name: str, theory: Solution, simulated: Solution | None
    ) -> Iterator[tuple[Array, Array, Array | None, str]]:
        """What a figure shows of ``name``: times, values, standard errors and style.

        The theory is a line over all times up to the last one asked for, the simulation points at those asked for.
        """
        for model, part, style in ((self._finely, theory, "line"), (self, simulated, "points")):
            if part is None or name not in part.quantities:
                continue
            quantity = (model.theory if part is theory else part).quantities[name]
            time: Array = model.coordinates()["time"]
            order = np.argsort(time)[: np.isfinite(time).sum()]
            se = None if quantity.se is None else np.asarray(quantity.se)[order]
            yield time[order], np.asarray(quantity.value)[order], se, style

    def scope(self) -> str:
        """How the theory holds at these parameters: "exact" or "asymptotic"."""
        return self.validity

    def coordinates(self) -> dict[str, Array]:
        """Values along the dimensions of the quantities, where they are more than a count: the times, if it has any."""
        return {"time": time} if (time := getattr(self, "time", None)) is not None else {}

    def solution(self, values: Mapping[str, Any], status: str = "ok", message: str = "") -> Solution:
        """Values as quantities by name; in a pair the second is the accuracy."""
        pairs = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
        return Solution({name: self.quantity(name, *pair) for name, pair in pairs.items()}, status, message)

    def quantity(self, name: str, value: Any, accuracy: Any = 0.0, se: Any = None) -> Quantity:
        """A quantity with the dimensions and the meaning that :attr:`known` gives it."""
        dims, about = self.known[name]
        return Quantity(value, dims, se, accuracy, about)

    @abstractmethod
    def phase(self) -> Phase:
        """The regime of these parameters."""

    @abstractmethod
    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """The picture of the phenomenon."""

    def compare(self, theory: Solution, simulated: Solution, replicates: int) -> tuple[Agreement, ...]:
        """Theory against simulation in every quantity of numbers that both know."""
        return tuple(
            agreement(name, theory.quantities[name], found, replicates, fraction=name in self.fractions)
            for name, found in simulated.quantities.items()
            if name in theory.quantities and not isinstance(found.value, str)
        )

    def run(
        self, *, simulate: bool = False, seed: int = 0, replicates: int = 8, workers: Workers = None, quiet: bool = True
    ) -> RelatedResult:
        """Solve, and simulate and compare if asked to.

        Raises
        ------
        InputError
            If the parameters lie outside the theory and no simulation is asked for.
        """
        reason = self.outside()
        if reason and not simulate:
            raise InputError(f"{self.name}: {reason}; a simulation can still be asked for")
        _check_whole("replicates", replicates, 2)
        _check_whole("seed", seed, 0)
        theory = Solution({}) if reason else self.theory
        simulated = self.simulate(seed, replicates, workers=workers, quiet=quiet) if simulate else None
        found = {} if simulated is None else simulated.quantities
        comparison = () if simulated is None else self.compare(theory, simulated, replicates)
        phase = self.phase()
        parts = [theory, *([] if simulated is None else [simulated])]
        note = f"simulation only: {reason}" if reason else ""
        return RelatedResult(
            status=next((p.status for p in parts if p.status != "ok"), "ok"),
            message="; ".join(m for m in (note, *(p.message for p in parts)) if m),
            seed=seed if simulate and self.stochastic else None,
            replicates=replicates if simulate and self.stochastic else None,
            model=self.name,
            title=self.title,
            validity="simulation only" if reason else self.scope(),
            parameters={f.name: getattr(self, f.name) for f in fields(self)},
            phase=phase.name,
            phase_note=phase.note,
            boundaries=phase.boundaries,
            coordinates=self.coordinates(),
            quantities=theory.quantities | {k: v for k, v in found.items() if k not in theory.quantities},
            measured={k: v for k, v in found.items() if k in theory.quantities},
            comparison=comparison,
            agree=all(a.agree for a in comparison) if comparison else None,
            citation=self.citation,
            panels=self.panels(theory, simulated),
        )


def _check_whole(name: str, value: Any, least: int) -> None:
    try:
        count(least, 2**63).convert(value)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{name} = {show(value)}: must be a whole number >= {least}") from None


def _trained(model: RelatedModel, stream: np.random.SeedSequence) -> dict[str, Any]:
    return model.train(np.random.default_rng(stream))


def points(x: Array, of: Quantity, label: str) -> Curve:
    """A quantity of a simulation with its error bars."""
    return Curve(x, np.asarray(of.value), label, "points", np.asarray(of.se))


def construct(kind: type[RelatedModel], values: Mapping[str, Any]) -> RelatedModel:
    """The model with these parameters.

    Raises
    ------
    InputError
        For an unknown or missing parameter, or one outside its domain.
    """
    known: Sequence[Field[Any]] = fields(kind)
    names = [f.name for f in known]
    if unknown := [key for key in values if key not in names]:
        raise InputError(f"{kind.name}: unknown parameter {show(unknown[0])}; {suggest(unknown[0], names)}")
    needed = [f for f in known if f.default is MISSING and f.default_factory is MISSING]
    if missing := [f for f in needed if f.name not in values]:
        said = ", ".join(f"{f.name} ({f.metadata['about']})" for f in missing)
        raise InputError(f"{kind.name}: needs {said}")
    return kind(**values)
