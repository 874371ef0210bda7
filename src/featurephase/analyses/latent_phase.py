"""``fp.latent_phase``: where a scaling of the hyperparameters lies in the phase diagram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from featurephase.foundation.errors import InputError
from featurephase.latent_model.phase_diagram import Slice, finite_width_map
from featurephase.latent_model.scaling import AXES, PARAMETERISATIONS, Scaling, parameterisation
from featurephase.results.latent import LatentPhaseResult, ParameterisationTable


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
    arXiv:2401.07085, section 5; exponents in :mod:`featurephase.latent_model.scaling`.
    """
    exponents = (c_gamma, c_eta_u, c_eta_w, c_sigma_u, c_sigma_w, c_width)
    scaling = Scaling(**dict(zip(AXES, exponents, strict=True)))
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
        equivalent=tuple(p.name for p in PARAMETERISATIONS if p.scaling.equivalent(scaling)),
        finite_width=finite,
        plane=plane,
    )


def _around(plane: Slice, scaling: Scaling) -> Slice:
    """The same plane with a window that holds the scaling and, where there is room, the phase boundary."""
    place = plane.place(scaling)
    here = place[:2] if place is not None else (getattr(scaling, plane.x), getattr(scaling, plane.y))
    apex = (-plane.fixed.c_width, 0.0) if (plane.x, plane.y) == ("c_gamma", "c_eta_w") else here

    def window(axis: str, a: float, b: float) -> tuple[float, float]:
        low, high = min(a, b) - 1.25, max(a, b) + 1.25
        return (max(low, 0.0), high) if axis == "c_width" else (low, high)

    x_range, y_range = window(plane.x, here[0], apex[0]), window(plane.y, here[1], apex[1])
    return replace(plane, x_range=x_range, y_range=y_range)


def parameterisation_table() -> ParameterisationTable:
    """All named parameterisations."""
    entries = [
        {
            "name": p.name,
            "label": p.label,
            "rule": p.rule,
            "scaling": asdict(p.scaling),
            "exponents": asdict(p.scaling.exponents),
            **asdict(p.scaling.verdict()),
        }
        for p in PARAMETERISATIONS
    ]
    return ParameterisationTable(parameterisations=entries)
