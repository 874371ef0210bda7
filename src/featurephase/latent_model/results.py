"""What ``fp.latent`` and ``fp.latent_phase`` return, and these two functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurephase.foundation.errors import InputError
from featurephase.latent_model.mechanisms import NAMES, Mechanisms, mechanisms, regime
from featurephase.latent_model.model import check_times
from featurephase.latent_model.phase_diagram import (
    PARAMETERISATIONS,
    Exponents,
    FiniteWidthMap,
    Scaling,
    Slice,
    Verdict,
    finite_width_map,
    parameterisation,
)
from featurephase.latent_model.solution import Flow, Trajectory
from featurephase.latent_model.training import Measurement, integrate_flow, train_network, two_point_data
from featurephase.results.base import Result

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["LatentPhaseResult", "LatentResult", "ParameterisationTable", "latent", "latent_phase"]

Floats = NDArray[np.float64]

_BUDGET = (*NAMES, "log_kernel_ratio", "output_angle", "output_scale")
_EXTRA = ("norm_ratio", "relative_motion_u", "relative_motion_w")
_SCALARS = ("output", "loss", "kernel", "alignment", "residual", "excess_loss")


@dataclass(frozen=True, kw_only=True)
class LatentResult(Result):
    """One trajectory of the latent-variable model; ``status`` is ``"ok"``, ``"saddle"`` or ``"frozen"``.

    Attributes
    ----------
    parameters
        What was computed: rates, moments, gamma, loss factor, saddle tolerance.
    times
        Shape (time,).
    u, w
        Weights, shape (time, unit).
    output, loss, kernel, alignment, residual, excess_loss
        Shape (time,); see :class:`~featurephase.latent_model.solution.Trajectory`.
    limit
        The same at infinite time, weights included.
    mechanisms
        The budget from the start to the last time (:class:`~featurephase.latent_model.mechanisms.Mechanisms`).
    mechanisms_over_time
        The same at every time.
    regime
        What happens, in words.
    rates
        ``initial``, ``asymptotic`` (of the residual), ``saturation_time``, and ``curvature``: c A K(inf), which must
        stay below 1 for gradient descent with these rates.
    conserved
        The conserved quantities.
    out_of_range
        Quantities that left the range of float64 at a finite time and are 0 or infinite there: name -> "overflow",
        "underflow" or "both".
    measured
        The same quantities from numerical trajectories (``flow``: SciPy, ``descent``: a trained network), if asked for.
    """

    parameters: dict[str, float]
    times: Floats
    u: Floats
    w: Floats
    output: Floats
    loss: Floats
    kernel: Floats
    alignment: Floats
    residual: Floats
    excess_loss: Floats
    limit: dict[str, Any]
    mechanisms: dict[str, float]
    mechanisms_over_time: dict[str, Floats]
    regime: str
    rates: dict[str, float]
    conserved: dict[str, Any]
    out_of_range: dict[str, str]
    measured: dict[str, Any] | None = None
    flow: Flow = field(repr=False, compare=False, metadata={"json": False})

    @property
    def ok(self) -> bool:
        """A saddle or a frozen model is an answer, not a failure."""
        return self.status in ("ok", "saddle", "frozen")

    def to_xarray(self) -> xarray.Dataset:
        """Data set over ``time`` and ``unit``, with parameters and status in its attributes."""
        import xarray

        over_time = {name: ("time", getattr(self, name)) for name in _SCALARS}
        over_time |= {f"mechanism_{name}": ("time", values) for name, values in self.mechanisms_over_time.items()}
        weights = {name: (("time", "unit"), getattr(self, name)) for name in ("u", "w")}
        limits = {f"limit_{name}": ((), self.limit[name]) for name in ("output", "loss", "kernel", "alignment")}
        attributes = {"status": self.status, "message": self.message, "regime": self.regime, "version": self.version}
        return xarray.Dataset(
            {**over_time, **weights, **limits},
            coords={"time": ("time", self.times), "unit": np.arange(self.u.shape[1])},
            attrs=attributes | self.parameters,
        )

    def figure(self) -> Figure:
        """Trajectory with the budget of the mechanisms stacked over time."""
        from featurephase.present.latent_figures import trajectory_figure

        return trajectory_figure(self)

    def table(self) -> str:
        """The trajectory, the limit and the budget."""
        head = f"{'time':>12} {'output':>14} {'loss':>14} {'kernel':>14} {'alignment':>14}"
        lines = [head]
        shown = np.unique(np.linspace(0, len(self.times) - 1, min(len(self.times), 20)).round().astype(int))
        for i in shown:
            time = self.times[i]
            row = [x[i] for x in (self.output, self.loss, self.kernel, self.alignment)]
            lines.append(f"{time:>12.6g} " + " ".join(f"{x:>14.8g}" for x in row))
        row = [self.limit[name] for name in ("output", "loss", "kernel", "alignment")]
        lines.append(f"{'limit':>12} " + " ".join(f"{x:>14.8g}" for x in row))
        lines += ["", f"Change of ln(kernel) from 0 to {self.times[-1]:g}: {self.mechanisms['log_kernel_ratio']:.8g}"]
        lines += [f"  {name:<13} {self.mechanisms[name]:>14.8g}" for name in NAMES]
        lines += [
            f"Change of the output: by rotation {self.mechanisms['output_angle']:.8g}, "
            f"by change of norms {self.mechanisms['output_scale']:.8g}",
            f"Relative motion: read-out {self.mechanisms['relative_motion_u']:.4g}, "
            f"hidden {self.mechanisms['relative_motion_w']:.4g}",
            "",
            f"{self.status}: {self.regime}",
        ]
        if self.message:
            lines.append(self.message)
        return "\n".join(lines)


def _scalars(x: Trajectory) -> dict[str, float]:
    return {name: float(getattr(x, name)) for name in (*_SCALARS, "misalignment", "log_xi")}


def _budget(x: Mechanisms) -> dict[str, Floats]:
    return {name: getattr(x, name) for name in (*_BUDGET, *_EXTRA)}


def default_times(flow: Flow, count: int = 200) -> Floats:
    """0 and times that show the whole motion: three decades around the first and last rates."""
    first, last = float(flow.initial_rate), float(flow.asymptotic_rate)
    rates = [x for x in (first, last) if np.isfinite(x) and x > 0.0]
    if not rates:
        return np.linspace(0.0, 1.0, 11)
    saturation = float(flow.saturation_time)
    end = 12.0 / (last or first)
    if np.isfinite(saturation):
        end = max(end, saturation + 10.0 / last if last else saturation)
    if last == 0.0:  # algebraic decay
        end = 1e4 / first
    return np.linspace(0.0, min(end, 1e300), count)


def latent(
    u: ArrayLike,
    w: ArrayLike,
    *,
    cross_moment: float,
    times: ArrayLike | None = None,
    second_moment: float = 1.0,
    response_moment: float | None = None,
    eta_u: float = 1.0,
    eta_w: float = 1.0,
    gamma: float = 1.0,
    loss_factor: float = 1.0,
    saddle_tolerance: float = 0.0,
    measure: bool = False,
) -> LatentResult:
    """The exact trajectory of a one-hidden-layer linear network on a one-dimensional latent input.

    Parameters
    ----------
    u, w
        Read-out and hidden weights (projected on the latent direction) at time 0, shape (unit,).
    cross_moment
        ``B = E[a y]``.
    times
        Times >= 0, infinity included; default: 200 times that show the whole motion.
    second_moment, response_moment
        ``A = E a^2`` and ``C = E y^2``; C defaults to ``B^2/A``, a noiseless target.
    eta_u, eta_w
        Learning rates of the layers.
    gamma
        Prefactor of the network.
    loss_factor
        c in the loss ``c E (f - y)^2``.
    saddle_tolerance
        Relative size below which a mode counts as absent; at 0 this is decided exactly.
    measure
        Also integrate the flow numerically and train the network by gradient descent, at the finite times.

    Raises
    ------
    InputError
        If shapes disagree, a number is not finite, a rate, A or C is negative, ``B^2 > A C``, or a time is negative.

    Notes
    -----
    arXiv:2401.07085. For many initialisations at once use :class:`featurephase.latent.Flow`.

    Examples
    --------
    >>> result = latent(u=[0.5, -0.3, 0.8], w=[0.2, 0.7, -0.4], cross_moment=1.0, times=[0.0, 0.5])
    >>> round(float(result.output[1]), 9)
    0.725484493
    """
    if np.ndim(u) > 1 or np.ndim(w) > 1:
        raise InputError("latent takes one initialisation, u and w of shape (unit,); use latent.Flow for many")
    for name, value in (
        ("second_moment", second_moment),
        ("cross_moment", cross_moment),
        ("eta_u", eta_u),
        ("eta_w", eta_w),
        ("gamma", gamma),
    ):
        if np.ndim(value) != 0:
            raise InputError(f"{name} must be one number; use latent.Flow for many")
    flow = Flow(
        u,
        w,
        cross_moment=cross_moment,
        second_moment=second_moment,
        response_moment=response_moment,
        eta_u=eta_u,
        eta_w=eta_w,
        gamma=gamma,
        loss_factor=loss_factor,
        saddle_tolerance=saddle_tolerance,
    )
    t = default_times(flow) if times is None else np.atleast_1d(check_times(times))
    if t.ndim != 1 or t.size == 0:
        raise InputError(f"times must be a list of at least one number, given shape {t.shape}")
    x, end = flow.at(t), flow.limit()
    us, ws = flow.weights(t)
    u_end, w_end = flow.weights(np.inf)
    budget = _budget(mechanisms(flow, t))
    parameters = {
        "eta_u": float(eta_u),
        "eta_w": float(eta_w),
        "second_moment": float(second_moment),
        "cross_moment": float(cross_moment),
        "response_moment": float(flow.response_moment),
        "gamma": float(gamma),
        "loss_factor": float(loss_factor),
        "saddle_tolerance": float(saddle_tolerance),
    }
    words = regime(flow)
    status = "frozen" if flow.frozen else "saddle" if flow.saddle else "ok"
    message = words if status != "ok" else ""
    if status == "saddle":
        how = "decided exactly" if saddle_tolerance == 0.0 else f"within the tolerance {saddle_tolerance:g}"
        message += f" ({how}; the smallest perturbation of the weights lets the flow escape)"
    # that the residual of a converged run falls below 1e-308 is no news
    news = [n for n, way in x.out_of_range.items() if way != "underflow" or n in ("output", "kernel")]
    if news:
        message = f"{message} Out of the range of float64 at some time: {', '.join(news)}.".strip()
    return LatentResult(
        status=status,
        message=message,
        parameters=parameters,
        times=t,
        u=us,
        w=ws,
        **{name: getattr(x, name) for name in _SCALARS},
        limit=_scalars(end) | {"u": u_end, "w": w_end},
        mechanisms={name: float(values[-1]) for name, values in budget.items()},
        mechanisms_over_time=budget,
        regime=words,
        rates={
            "initial": float(flow.initial_rate),
            "asymptotic": float(flow.asymptotic_rate),
            "saturation_time": float(flow.saturation_time),
            "curvature": float(flow.curvature()),
        },
        conserved=dict(flow.conserved),
        out_of_range=x.out_of_range,
        measured=_measure(u, w, t, parameters) if measure else None,
        flow=flow,
    )


def _measure(u: ArrayLike, w: ArrayLike, times: Floats, parameters: Mapping[str, float]) -> dict[str, Any]:
    """Both numerical trajectories; the descent with a step small enough to follow the flow, in at most 20000 steps."""
    u, w = np.atleast_1d(np.asarray(u, dtype=np.float64)), np.atleast_1d(np.asarray(w, dtype=np.float64))
    finite = times[np.isfinite(times)]
    options: dict[str, Any] = {name: value for name, value in parameters.items() if name != "saddle_tolerance"}
    flow = integrate_flow(u, w, finite, **options)
    end = float(finite.max(initial=0.0))
    fastest = float(np.max(np.abs(flow.kernel), initial=0.0)) * 2.0 * parameters["second_moment"]
    steps = int(np.clip(np.ceil(100.0 * end * fastest * parameters["loss_factor"]), 1, 20_000)) if end else 0
    step_size = end / steps if steps else 1.0
    inputs, labels, direction = two_point_data(
        parameters["second_moment"], parameters["cross_moment"], parameters["response_moment"], dimension=2
    )
    rates = {name: parameters[name] for name in ("eta_u", "eta_w", "gamma", "loss_factor")}
    hidden = np.outer(w, direction)
    network = train_network(inputs, labels, u, hidden, direction, steps=steps, step_size=step_size, **rates)
    keep = np.unique(np.linspace(0, steps, min(steps + 1, 101)).round().astype(int))
    return {"flow": _shown(flow), "descent": _shown(network, keep) | {"step_size": step_size}}


def _shown(x: Measurement, keep: NDArray[np.int_] | slice = slice(None)) -> dict[str, Any]:
    return {name: getattr(x, name)[keep] for name in ("times", "output", "loss", "kernel", "alignment")}


# --- the phase diagram ---


@dataclass(frozen=True, kw_only=True)
class LatentPhaseResult(Result):
    """Where a scaling lies in the phase diagram.

    Attributes
    ----------
    scaling
        The six exponents given.
    exponents
        ``c_k``, ``c_h``, ``c_g``, ``c_s0``.
    phase, stability, mechanism
        See :class:`~featurephase.latent_model.phase_diagram.Verdict`.
    verdict
        All of the verdict.
    normal_form
        The equivalent scaling with unit variances.
    equivalent
        Names of the named parameterisations that are the same up to a rescaling of weights and time.
    finite_width
        ``ln(K(inf)/K(0)) / ln kappa`` on the slice at one kappa, if asked for.
    """

    scaling: dict[str, float]
    exponents: dict[str, float]
    phase: str
    stability: str
    mechanism: str
    verdict: dict[str, Any]
    normal_form: dict[str, float]
    equivalent: tuple[str, ...]
    finite_width: FiniteWidthMap | None = field(default=None, metadata={"json": False})
    plane: Slice = field(repr=False, metadata={"json": False})

    def to_xarray(self) -> xarray.Dataset:
        """The exponents, and the finite-width map if there is one."""
        import xarray

        values: dict[str, Any] = {name: ((), value) for name, value in self.exponents.items()}
        coordinates: dict[str, Any] = {}
        attributes: dict[str, Any] = {
            "phase": self.phase,
            "stability": self.stability,
            "mechanism": self.mechanism,
            "version": self.version,
            **{f"scaling_{name}": value for name, value in self.scaling.items()},
        }
        if self.finite_width is not None:
            x = self.finite_width
            dims = (x.plane.y, x.plane.x)
            coordinates = {x.plane.x: x.x, x.plane.y: x.y}
            values |= {"log_kernel_ratio": (dims, x.value), "log_kernel_ratio_se": (dims, x.value_se)}
            values["log_kernel_ratio_limit"] = (dims, x.limit)
            attributes |= {"kappa": x.kappa, "replicates": x.replicates, "seed": x.seed}
        return xarray.Dataset(values, coords=coordinates, attrs=attributes)

    def figure(self) -> Figure:
        """The slice of the phase diagram through this scaling."""
        from featurephase.present.latent_figures import phase_figure

        return phase_figure(self.plane, scaling=Scaling(**self.scaling), finite=self.finite_width)

    def table(self) -> str:
        """The verdict."""
        names = " ".join(f"{name} = {value:g}" for name, value in self.exponents.items())
        v = self.verdict
        lines = [
            f"phase        {self.phase}",
            f"stability    {self.stability}",
            f"mechanism    {self.mechanism}",
            f"exponents    {names}",
            f"angle        {v['angle']}",
            f"start        {v['initial_output']} initial output",
            "",
            str(v["description"]),
        ]
        if self.equivalent:
            lines.append(f"Same as: {', '.join(self.equivalent)} (up to the unit of time)")
        if self.message:
            lines.append(self.message)
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class ParameterisationTable(Result):
    """The named parameterisations with their exponents and verdicts."""

    parameterisations: list[dict[str, Any]]

    def table(self) -> str:
        """One line per parameterisation."""
        columns = ("name", "c_k", "c_h", "c_g", "c_s0", "phase", "stability", "mechanism")
        rows = [
            [p["name"], *(f"{p['exponents'][c]:g}" for c in columns[1:5]), *(str(p[c]) for c in columns[5:])]
            for p in self.parameterisations
        ]
        widths = [max(len(row[i]) for row in [list(columns), *rows]) for i in range(len(columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [list(columns), *rows]
        ]
        rules = [f"  {p['name']}: {p['rule']}" for p in self.parameterisations]
        return "\n".join([*lines, "", *rules])

    def figure(self) -> Figure:
        """The phase diagram with all of them."""
        from featurephase.present.latent_figures import phase_figure

        return phase_figure(Slice())

    def to_xarray(self) -> xarray.Dataset:
        """Exponents over ``parameterisation``."""
        import xarray

        names = [p["name"] for p in self.parameterisations]
        dims = "parameterisation"
        values: dict[str, Any] = {
            c: (dims, [p["exponents"][c] for p in self.parameterisations]) for c in ("c_k", "c_h", "c_g", "c_s0")
        }
        values |= {c: (dims, [p[c] for p in self.parameterisations]) for c in ("phase", "stability", "mechanism")}
        return xarray.Dataset(values, coords={dims: names}, attrs={"version": self.version})


def latent_phase(
    *,
    c_gamma: float = 0.0,
    c_eta_u: float = 0.0,
    c_eta_w: float = 0.0,
    c_sigma_u: float = 0.0,
    c_sigma_w: float = 0.0,
    c_width: float = 1.0,
    name: str | None = None,
    symmetrised: bool = False,
    axes: Sequence[str] | None = None,
    kappa: float | None = None,
    points: int = 41,
    replicates: int = 4,
    seed: int = 0,
) -> LatentPhaseResult:
    """Phase, stability and mechanism of a scaling of the six hyperparameters in powers of one large number kappa.

    Parameters
    ----------
    c_gamma, c_eta_u, c_eta_w, c_sigma_u, c_sigma_w, c_width
        Exponents of the prefactor, the rates, the standard deviations of u and w, and the width.
    name
        A named parameterisation instead of the exponents.
    symmetrised
        Whether the initial output is made exactly 0.
    axes
        The two exponents on the axes of the figure (default ``c_gamma`` and ``c_eta_w``, through the normal form,
        on which every scaling of this width exponent has a place).
    kappa
        Also compute the map of the finite networks at this kappa.
    points, replicates, seed
        Of that map.

    Raises
    ------
    InputError
        If an exponent is not finite, the width's is negative, or a name is unknown.

    Notes
    -----
    arXiv:2401.07085, section 5; exponents in :mod:`featurephase.latent_model.phase_diagram`.
    """
    scaling = Scaling(
        c_gamma=c_gamma,
        c_eta_u=c_eta_u,
        c_eta_w=c_eta_w,
        c_sigma_u=c_sigma_u,
        c_sigma_w=c_sigma_w,
        c_width=c_width,
    )
    if name is not None:
        scaling = parameterisation(name).scaling
    verdict = scaling.verdict(symmetrised=symmetrised)
    normal = scaling.normal_form()
    if axes is None:
        plane = _around(Slice(fixed=Scaling(c_width=scaling.c_width)), scaling)
    elif len(axes) != 2:
        raise InputError(f"axes must be two exponents, given {', '.join(axes)}")
    else:
        plane = _around(Slice(x=axes[0], y=axes[1], fixed=scaling), scaling)
    finite = None
    if kappa is not None:
        finite = finite_width_map(plane, kappa, points=points, replicates=replicates, seed=seed)
    return LatentPhaseResult(
        seed=seed if finite is not None else None,
        scaling=asdict(scaling),
        exponents=asdict(scaling.exponents),
        phase=verdict.phase,
        stability=verdict.stability,
        mechanism=verdict.mechanism,
        verdict=asdict(verdict),
        normal_form=asdict(normal),
        equivalent=tuple(p.name for p in PARAMETERISATIONS if _equivalent(p.scaling, scaling)),
        finite_width=finite,
        plane=plane,
    )


def _equivalent(a: Scaling, b: Scaling) -> bool:
    x, y = a.normal_form(), b.normal_form()
    return (
        abs(x.c_width - y.c_width) < 1e-9
        and abs(x.c_gamma - y.c_gamma) < 1e-9
        and abs((x.c_eta_u - x.c_eta_w) - (y.c_eta_u - y.c_eta_w)) < 1e-9
    )


def _around(plane: Slice, scaling: Scaling) -> Slice:
    """The same plane with a window that holds the scaling and, where there is room, the phase boundary."""
    place = plane.place(scaling)
    here = place[:2] if place is not None else (getattr(scaling, plane.x), getattr(scaling, plane.y))
    apex = (-plane.fixed.c_width, 0.0) if (plane.x, plane.y) == ("c_gamma", "c_eta_w") else here

    def window(axis: str, a: float, b: float) -> tuple[float, float]:
        low, high = min(a, b) - 1.25, max(a, b) + 1.25
        return (max(low, 0.0), high) if axis == "c_width" else (low, high)

    return Slice(
        x=plane.x,
        y=plane.y,
        fixed=plane.fixed,
        x_range=window(plane.x, here[0], apex[0]),
        y_range=window(plane.y, here[1], apex[1]),
    )


def parameterisation_table() -> ParameterisationTable:
    """All named parameterisations."""
    entries = []
    for p in PARAMETERISATIONS:
        exponents: Exponents = p.scaling.exponents
        verdict: Verdict = p.scaling.verdict()
        entries.append(
            {
                "name": p.name,
                "label": p.label,
                "rule": p.rule,
                "scaling": asdict(p.scaling),
                "exponents": asdict(exponents),
                **asdict(verdict),
            }
        )
    return ParameterisationTable(parameterisations=entries)
