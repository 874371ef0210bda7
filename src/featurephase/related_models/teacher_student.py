"""Online learning of two-layer networks from a teacher, one task or several (Saad and Solla; arXiv:2408.12545).

A teacher with M hidden units w*_n and a student with K units w_i, both on Gaussian inputs of dimension N, answer
several tasks with the same hidden units and read-outs of their own. One-pass gradient descent at rate eta/N is, as N
grows, a closed flow of the overlaps Q = w.w/N, R = w.w*/N and of the student's read-outs in the time steps/N.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model
from featurephase.related_models.gaussian_averages import ERF, RELU, Unit
from featurephase.related_models.order_parameters import OnlineFlow, State, crossing, specialisation
from featurephase.related_models.parameters import SMALLEST, choice, count, number, parameter, times
from featurephase.results.status import DIVERGED, UNDETERMINED

#: Points of a step of the integrator, and of a unit of time of a simulation, between which is interpolated.
_BETWEEN, _RECORDED = 8, 10
#: Relative errors of the integration; the averages of ReLU lose digits where units coincide.
_ERRORS = {"erf": 1e-8, "relu": 1e-6}


@model
class TeacherStudent(RelatedModel):
    """Parameters and order parameters of the teacher-student model; exact as the dimension grows."""

    name: ClassVar[str] = "teacher-student"
    title: ClassVar[str] = "online learning: a plateau of equal units, then each specialises; several tasks share it"
    citation: ClassVar[str] = (
        "Saad, Solla, Phys. Rev. E 52, 4225 (1995); ReLU: Straat, Biehl, arXiv:1903.07378; "
        "several tasks: Wang, Yip, Li, arXiv:2408.12545"
    )
    validity: ClassVar[str] = "asymptotic"
    known: ClassVar[Known] = {
        "error": (("time",), "half the mean squared error on new inputs, over the tasks"),
        "r": (("time", "student", "teacher"), "overlaps of student and teacher units, w.w*/N"),
        "q": (("time", "student", "student2"), "overlaps of the student's units, w.w/N"),
        "readout": (("time", "task", "student"), "the student's read-outs"),
        "specialisation": (("time",), "0 on the plateau of equal units, 1 when each teacher unit has its own"),
        "plateau_end": ((), "time at which the specialisation passes one half; inf if it does not"),
        "specialised": ((), "fraction of the trained networks in which it does"),
    }

    activation: str = parameter(choice("erf", "relu"), "g(x) = erf(x/sqrt 2) or max(x, 0)", default="erf")
    hidden: int = parameter(count(1, 8), "hidden units K of the student", default=2)
    teacher: int = parameter(count(1, 8), "hidden units M of the teacher, orthogonal and of norm 1", default=2)
    eta: float = parameter(number(0.0), "learning rate of the hidden units", default=1.0)
    noise: float = parameter(number(0.0, open_low=False), "standard deviation of the teacher's noise", default=0.0)
    tasks: int = parameter(count(1, 64), "tasks that share the hidden units", default=1)
    readout: str = parameter(choice("fixed", "trained", "adapted"), "how the student's read-outs move", default="fixed")
    eta_readout: float = parameter(number(0.0), "their rate, or the size of one adaptation step", default=1.0)
    norm: float = parameter(number(0.0), "squared norm of the student's units at the start", default=0.25)
    overlap: float = parameter(number(0.0, open_low=False), "with one of the teacher's units at the start", default=0.1)
    time: Array = times(120.0, 61, "times, steps over N")
    dimension: int = parameter(count(20, 10**5), "N of the simulation", default=500)
    support: int = parameter(count(10, 10**6), "examples of one adaptation step in the simulation", default=500)
    draw: int = parameter(count(0), "which start and which tasks", default=0)

    def check(self) -> None:
        """Small overlaps, a dimension with room for all units, tasks that have read-outs."""
        if self.teacher * self.overlap**2 > 0.1 * self.norm:
            raise InputError(
                f"teacher-student: overlap = {self.overlap:g}: overlaps at the start must be small against the units, "
                f"at most {math.sqrt(0.1 * self.norm / self.teacher):.3g}"
            )
        if self.tasks > 1 and self.readout == "fixed":
            raise InputError("teacher-student: several tasks need read-outs of their own: readout trained or adapted")
        if self.dimension < 4 * (self.hidden + self.teacher):
            raise InputError(f"teacher-student: dimension must be at least {4 * (self.hidden + self.teacher)}")

    @property
    def unit(self) -> Unit:
        """The activation with its averages."""
        return ERF if self.activation == "erf" else RELU

    def start(self) -> tuple[State, Array]:
        """Overlaps and read-outs at the start, and the teacher's read-outs (task, M)."""
        rng = np.random.default_rng(self.draw)
        r = 0.2 * self.overlap * rng.standard_normal((self.hidden, self.teacher))
        r[np.arange(self.hidden), np.arange(self.hidden) % self.teacher] += self.overlap
        q = self.norm * np.eye(self.hidden) + 0.5 * self.overlap * np.diag(rng.uniform(-1.0, 1.0, self.hidden))
        if self.tasks == 1:
            v = np.ones((1, self.teacher))
        else:
            v = rng.standard_normal((self.tasks, self.teacher))
            v *= np.sqrt(self.teacher) / np.linalg.norm(v, axis=1, keepdims=True)
        a = 0.1 * rng.standard_normal((self.tasks, self.hidden))
        if self.readout == "fixed":
            a = np.ones((1, self.hidden))
        return State(q, r, a), v

    def _flow(self, v: Array, eta: float | None = None) -> OnlineFlow:
        rate = self.eta if eta is None else eta
        return OnlineFlow(self.unit, v, rate, self.noise, self.readout, self.eta_readout)

    def _pack(self, s: State) -> Array:
        return np.concatenate([x.ravel() for x in s])

    def _unpack(self, flat: Array) -> State:
        k, m = self.hidden, self.teacher
        q, r, a = flat[: k * k], flat[k * k : k * (k + m)], flat[k * (k + m) :]
        return State(q.reshape(k, k), r.reshape(k, m), a.reshape(-1, k))

    def _measures(self, states: list[State], v: Array, fine: Array, special: Array) -> dict[str, Any]:
        """The quantities at the times; the plateau ends by the specialisation at ascending times ``fine``."""
        flow = self._flow(v)
        return {
            "error": np.array([flow.error(s) for s in states]),
            "r": np.array([s.r for s in states]),
            "q": np.array([s.q for s in states]),
            "readout": np.array([flow.readouts(s) for s in states]),
            "specialisation": np.array([specialisation(s) for s in states]),
            "plateau_end": crossing(fine, special),
        }

    def _solved(self, start: State, v: Array, error: float) -> Any:
        """The flow from this start to the last time by numerical integration; none if it diverges."""
        derivative, end = self._flow(v), max(float(self.time.max()), SMALLEST)
        options: dict[str, Any] = {"method": "DOP853", "dense_output": True, "rtol": error, "atol": error / 100.0}
        run = solve_ivp(lambda _, y: self._pack(derivative(self._unpack(y))), (0.0, end), self._pack(start), **options)
        return run if run.status == 0 and np.isfinite(run.y).all() else None

    def _special(self, run: Any, time: Array) -> Array:
        return np.array([specialisation(self._unpack(run.sol(t))) for t in time])

    def _path(self, run: Any, v: Array) -> dict[str, Any]:
        """The order parameters along the flow; empty if it diverges."""
        if run is None:
            return {}
        fine = np.append(np.linspace(run.t[:-1], run.t[1:], _BETWEEN, endpoint=False).T.ravel(), run.t[-1])
        return self._measures([self._unpack(run.sol(t)) for t in self.time], v, fine, self._special(run, fine))

    def _known_until(self, run: Any, finer: Any) -> float:
        """Until when an integration with a tenth of the error agrees; infinite if to the end.

        Units that are equal at the start, or nearly, part by the errors of an integrator, and not in the exact flow.
        """
        if finer is None:
            return 0.0
        apart = np.abs(self._special(run, run.t) - self._special(finer, run.t)) > 0.01
        return float(run.t[np.argmax(apart)]) if apart.any() else math.inf

    @cached_property
    def _runs(self) -> list[Any]:
        """The flow, again with a tenth of the error, and of two starts that are off in opposite directions."""
        (start, v), error = self.start(), _ERRORS[self.activation]
        push = np.random.default_rng(self.draw + 1).standard_normal(start.r.shape) / math.sqrt(self.dimension)
        near = [start._replace(r=start.r + x) for x in (push, -push)]
        if (run := self._solved(start, v, error)) is None:
            return [None] * 4
        return [run, self._solved(start, v, 0.1 * error), *(self._solved(other, v, error) for other in near)]

    @cached_property
    def _finely(self) -> RelatedModel:
        model = super()._finely
        model.__dict__["_runs"] = self._runs  # the last time is the same
        return model

    def solve(self) -> Solution:
        """The flow of the order parameters.

        A simulation fluctuates by N^-1/2, which shifts its means by order 1/N and by what a plateau makes of it: the
        accuracy is 8/N and twice the shift of the mean of two starts that are off by N^-1/2 in opposite directions.
        """
        (run, finer, *pushes), v = self._runs, self.start()[1]
        if run is None:
            return Solution({}, DIVERGED, "the flow diverges: try a smaller eta")
        values, last = self._path(run, v), self._known_until(run, finer)
        pushed = [self._path(other, v) for other in pushes]
        accurate = {}
        for name, value in values.items():
            known = np.array(value)
            known[self.time > last if self.known[name][0] else last < math.inf] = np.nan
            with np.errstate(invalid="ignore"):
                shift = 2.0 * np.abs(0.5 * (pushed[0][name] + pushed[1][name]) - value) if all(pushed) else math.inf
            scale = np.max(np.abs(value), initial=1.0)
            accurate[name] = known, np.nan_to_num(shift, posinf=np.inf) + 8.0 / self.dimension * scale
        if last == math.inf:
            return self.solution(accurate)
        note = (
            f"the units are equal up to rounding: after time {last:.4g} rounding decides how they part, not the start"
        )
        return self.solution(accurate, UNDETERMINED, note)

    def critical_rate(self) -> float:
        """The eta at which the solution that imitates the teacher becomes unstable (K = M, one task, fixed read-outs).

        The largest real part of the linearised flow there crosses 0.
        """
        k = self.hidden
        exact, v = State(np.eye(k), np.eye(k), np.ones((1, k))), np.ones((1, k))
        pairs = [(i, j) for i in range(k) for j in range(i, k)] + [(i, k + n) for i in range(k) for n in range(k)]

        def growth(eta: float) -> float:
            flow, columns = self._flow(v, eta), []
            for i, j in pairs:  # Q is symmetric: its entries move in pairs
                step = np.zeros((k, 2 * k))
                step[i, j] = 1e-5
                if j < k:
                    step[j, i] = 1e-5
                ends = []
                for sign in (1.0, -1.0):
                    q, r = np.hsplit(np.hstack(exact[:2]) + sign * step, 2)
                    moved = flow(State(q, r, exact.a))
                    ends.append(np.hstack(moved[:2])[tuple(np.array(pairs).T)])
                columns.append((ends[0] - ends[1]) / 2e-5)
            return float(np.linalg.eigvals(np.array(columns).T).real.max())

        high = 1.0
        while growth(high) < 0.0 and high < 1e3:
            high *= 1.5
        return float(brentq(growth, 1e-3, high, xtol=1e-6))

    def phase(self) -> Phase:
        """Specialised or on the plateau at the last time, and the largest rate that still converges."""
        found = self.theory
        edges = {}
        if self.hidden == self.teacher and self.readout == "fixed" and self.activation == "erf":
            edges["eta_critical"] = self.critical_rate()
        if not found.quantities:
            return Phase("divergent", found.message, edges)
        end = float(found.quantities["plateau_end"].value)
        last = float(np.asarray(found.quantities["specialisation"].value)[np.argmax(self.time)])
        if np.isnan(end):
            return Phase("undetermined", found.message, edges)
        word = "specialised" if last > 0.5 else "plateau"
        note = f"the units differ from time {end:.4g} on" if np.isfinite(end) else "the units are still equal"
        return Phase(word, note, edges)

    # ---- the network

    def train(self, rng: np.random.Generator) -> dict[str, Any]:
        """One-pass gradient descent of the network, one new example a task and step."""
        s, v = self.start()
        n, k, m = self.dimension, self.hidden, self.teacher
        basis = np.linalg.qr(rng.standard_normal((n, k + m)))[0].T * math.sqrt(n)
        star = basis[:m]
        w = s.r @ star + np.linalg.cholesky(s.q - s.r @ s.r.T) @ basis[m:]
        a, unit = s.a.copy(), self.unit
        asked = np.round(self.time * n).astype(int)
        recorded = np.union1d(asked, np.arange(0, asked.max() + 1, max(n // _RECORDED, 1)))
        states: list[State] = []
        for step in range(recorded[-1] + 1):
            if step == recorded[len(states)]:
                states.append(State(w @ w.T / n, w @ star.T / n, a.copy()))
            x = rng.standard_normal((self.tasks, n))
            fields, targets = x @ w.T / math.sqrt(n), unit.value(x @ star.T / math.sqrt(n))
            answers = unit.value(fields)
            if self.readout == "adapted":
                a = self._adapt(w, star, v, rng)
            miss = np.sum(v * targets, axis=1) - np.sum(a * answers, axis=1)
            if self.noise:
                miss += self.noise * rng.standard_normal(self.tasks)
            w = w + self.eta / (self.tasks * math.sqrt(n)) * (miss[:, None] * a * unit.slope(fields)).T @ x
            if self.readout == "trained":
                a = a + self.eta_readout / n * miss[:, None] * answers
        special = np.array([specialisation(s) for s in states])
        return self._measures([states[i] for i in np.searchsorted(recorded, asked)], v, recorded / n, special)

    def _adapt(self, w: Array, star: Array, v: Array, rng: np.random.Generator) -> Array:
        """One gradient step of the read-outs from 0 on new examples of each task.

        They act through their projections on the units alone, which are drawn with the inner products of the units.
        """
        units = np.vstack([w, star]) / math.sqrt(len(w[0]))
        root = np.linalg.qr(units.T)[1].T
        fields = self.unit.value(rng.standard_normal((self.support, len(units))) @ root.T)
        answers, targets = fields[:, : len(w)], fields[:, len(w) :]
        return np.asarray(self.eta_readout * v @ (targets.T @ answers) / self.support)

    def summary(self, runs: dict[str, Array]) -> Solution:
        """The means; the end of the plateau only if every network has left it."""
        left = np.isfinite(runs["plateau_end"])
        kept = runs | {"specialised": left.astype(np.float64)}
        if not left.all():
            del kept["plateau_end"]
        return super().summary(kept)

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """The error and the overlaps over time."""
        errors, overlaps = [], []
        for time, values, se, style in self.over_time("error", theory, simulated):
            errors.append(Curve(time, values, "", style, se, colour=0))
        for time, values, _, style in self.over_time("r", theory, simulated):
            for c, (i, n) in enumerate(np.ndindex(min(self.hidden, 3), min(self.teacher, 2))):
                label = rf"$R_{{{i + 1}{n + 1}}}$" if style == "line" else ""
                overlaps.append(Curve(time, values[:, i, n], label, style, colour=c))
        return (
            Panel("steps / N", "error on new inputs", tuple(errors), log_y=True),
            Panel("steps / N", "overlap with the teacher", tuple(overlaps)),
        )
