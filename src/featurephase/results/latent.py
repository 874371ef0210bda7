"""What ``latent`` and ``latent-phase`` return: a trajectory of the latent-variable model, and its phase diagram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from featurephase.foundation.types import Array
from featurephase.results.base import Result
from featurephase.results.labels import Variable, labelled, record


@record
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
    flow
        The solution itself, at any time (:class:`~featurephase.latent_model.solution.Flow`); not in JSON. A result only
        hands it on.
    """

    parameters: dict[str, float] = labelled(name="", attribute=True)
    times: Array = labelled("time", name="time", about="time of the gradient flow")
    u: Array = labelled("time", "unit", about="read-out weights")
    w: Array = labelled("time", "unit", about="hidden weights, projected on the latent direction")
    output: Array = labelled("time", about="output s for a unit input")
    loss: Array = labelled("time", about="loss")
    kernel: Array = labelled("time", about="neural tangent kernel")
    alignment: Array = labelled("time", about="cosine of the angle between the weights of the layers", unit="1")
    residual: Array = labelled("time", about="distance of the output from its target")
    excess_loss: Array = labelled("time", about="loss above its minimum")
    limit: dict[str, Any]
    mechanisms: dict[str, float]
    mechanisms_over_time: dict[str, Array] = labelled(
        "time", name="mechanism", about="part of the change of ln(kernel)"
    )
    regime: str = labelled(attribute=True)
    rates: dict[str, float]
    conserved: dict[str, Any]
    out_of_range: dict[str, str]
    measured: dict[str, Any] | None = None
    flow: Any = labelled(json=False, saved=False, repr=False, compare=False)

    def more_variables(self) -> Mapping[str, Variable]:
        """Four numbers of the limit, and the number of each unit."""
        names = ("output", "loss", "kernel", "alignment")
        limits: dict[str, Variable] = {
            f"limit_{name}": ((), np.asarray(self.limit[name]), {"long_name": f"{name} at infinite time"})
            for name in names
        }
        return limits | {"unit": (("unit",), np.arange(self.u.shape[1]), {})}


@record
class LatentPhaseResult(Result):
    """Where a scaling lies in the phase diagram.

    Attributes
    ----------
    scaling
        The six exponents given.
    exponents
        ``c_k``, ``c_h``, ``c_g``, ``c_s0``.
    phase, stability, mechanism
        See :class:`~featurephase.latent_model.scaling.Verdict`.
    verdict
        All of the verdict.
    normal_form
        The equivalent scaling with unit variances.
    equivalent
        Names of the named parameterisations that are the same up to a rescaling of weights and time.
    finite_width
        ``ln(K(inf)/K(0)) / ln kappa`` on the slice at one kappa, if asked for
        (:class:`~featurephase.latent_model.phase_diagram.FiniteWidthMap`); not in JSON.
    plane
        The slice of the phase diagram through the scaling (:class:`~featurephase.latent_model.phase_diagram.Slice`);
        not in JSON. A result only hands it on.
    """

    scaling: dict[str, float] = labelled(attribute=True)
    exponents: dict[str, float] = labelled(name="", about="power of kappa", unit="1")
    phase: str = labelled(attribute=True)
    stability: str = labelled(attribute=True)
    mechanism: str = labelled(attribute=True)
    verdict: dict[str, Any]
    normal_form: dict[str, float]
    equivalent: tuple[str, ...]
    finite_width: Any | None = labelled(json=False, saved=False, default=None)
    plane: Any = labelled(json=False, saved=False, repr=False)

    def more_variables(self) -> Mapping[str, Variable]:
        """The map of finite networks over the two exponents of the slice."""
        x = self.finite_width
        if x is None:
            return {}
        dims, about = (x.plane.y, x.plane.x), {"long_name": "ln(K(inf)/K(0)) / ln kappa", "units": "1"}
        return {
            x.plane.x: ((x.plane.x,), x.x, {}),
            x.plane.y: ((x.plane.y,), x.y, {}),
            "log_kernel_ratio": (dims, x.value, about),
            "log_kernel_ratio_se": (dims, x.value_se, {"long_name": f"standard error: {about['long_name']}"}),
            "log_kernel_ratio_limit": (dims, x.limit, {"long_name": "its limit as kappa -> infinity", "units": "1"}),
        }

    def provenance(self) -> dict[str, Any]:
        """What every file says of its origin, and of the map of finite networks."""
        x = self.finite_width
        more = {} if x is None else {"kappa": x.kappa, "replicates": x.replicates, "seed": x.seed}
        return super().provenance() | more


@record
class ParameterisationTable(Result):
    """The named parameterisations with their exponents and verdicts."""

    parameterisations: list[dict[str, Any]] = labelled(saved=False)

    def more_variables(self) -> Mapping[str, Variable]:
        """Exponents and verdicts over ``parameterisation``."""
        dim = ("parameterisation",)
        every = self.parameterisations
        columns: dict[str, list[Any]] = {"parameterisation": [entry["name"] for entry in every]}
        columns |= {name: [entry["exponents"][name] for entry in every] for name in ("c_k", "c_h", "c_g", "c_s0")}
        columns |= {name: [entry[name] for entry in every] for name in ("phase", "stability", "mechanism")}
        return {name: (dim, np.array(values), {}) for name, values in columns.items()}
