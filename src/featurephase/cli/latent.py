"""``featurephase latent`` and ``latent-phase``: the exact latent-variable model."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from featurephase.cli.flags import Result, Shared, command, says
from featurephase.cli.parsing import parse_vector
from featurephase.foundation.errors import InputError, show

_MOMENTS = ("second_moment", "cross_moment", "response_moment")
_SCALARS = ("eta_u", "eta_w", *_MOMENTS, "gamma", "loss_factor", "saddle_tolerance")
_EXPONENTS = ("c_gamma", "c_eta_u", "c_eta_w", "c_sigma_u", "c_sigma_w", "c_width")


def _from_file(file: str) -> dict[str, Any]:
    """The table ``[latent]`` of a file."""
    from featurephase.analyses.latent import latent_arguments
    from featurephase.foundation.tomlfile import parse, read_text

    source = "standard input" if file == "-" else show(file)
    document = parse(read_text(file), source)
    if others := document.keys() - {"latent", "title"}:
        from featurephase.problem import ACCEPTED

        if unknown := others - {key.split(".")[0] for key in ACCEPTED}:  # the table may stand in an experiment file
            raise InputError(f"{source}: unknown table or key {show(min(unknown))}; accepted: title, [latent]")
    table = document.get("latent")
    if not isinstance(table, dict):
        raise InputError(f"{source}: needs a table [latent] with u, w and cross_moment")
    return latent_arguments(table, source)


@command("seed", "figure", "save")
def latent(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", help="A TOML file with a table [latent]; - is standard input.", show_default=False
        ),
    ] = None,
    u: Annotated[str | None, says("Read-out weights at time 0.", metavar="U1,U2..")] = None,
    w: Annotated[str | None, says("Hidden weights, projected on the latent direction.", metavar="W1,W2..")] = None,
    width: Annotated[int | None, says("Draw N units at random instead of --u and --w.", metavar="N", min=1)] = None,
    sigma_u: Annotated[float | None, says("Standard deviation of random --u (default 1/sqrt(N)).", min=0.0)] = None,
    sigma_w: Annotated[float | None, says("Standard deviation of random --w (default 1/sqrt(N)).", min=0.0)] = None,
    eta_u: Annotated[float | None, says("Learning rate of the read-out (default 1).")] = None,
    eta_w: Annotated[float | None, says("Learning rate of the hidden layer (default 1).")] = None,
    second_moment: Annotated[float | None, says("E a^2 (default 1).", metavar="A")] = None,
    cross_moment: Annotated[float | None, says("E[a y].", metavar="B")] = None,
    response_moment: Annotated[float | None, says("E y^2 (default B^2/A).", metavar="C")] = None,
    gamma: Annotated[float | None, says("Prefactor of the network (default 1).")] = None,
    time: Annotated[
        list[str] | None, says("A time >= 0, or inf. May be repeated. Default: the whole motion.", metavar="T")
    ] = None,
    loss_factor: Annotated[float | None, says("c in the loss c E(f-y)^2 (default 1).", metavar="1|0.5")] = None,
    saddle_tolerance: Annotated[
        float | None, says("A mode this small counts as absent (default 0: exactly).", metavar="X")
    ] = None,
    measure: Annotated[
        bool, says("Also integrate numerically and train a network, beside the theory.", "--measure")
    ] = False,
    *,
    shared: Shared,
) -> Result:
    """Exact training of a one-hidden-layer linear network on a one-dimensional latent input.

    Examples:

    featurephase latent --u=0.5,-0.3,0.8 --w=0.2,0.7,-0.4 --cross-moment 1 --time 0.5 --time inf

    featurephase latent --width 1000 --seed 1 --cross-moment 1 --json
    """
    flags = dict(locals())
    values: dict[str, Any] = _from_file(file) if file is not None else {}
    values |= {key: flags[key] for key in _SCALARS if flags[key] is not None}
    values |= {key: parse_vector(f"--{key}", text) for key, text in (("u", u), ("w", w)) if text is not None}
    if time:
        values["times"] = [t for text in time for t in parse_vector("--time", text, infinite=True)]
    if width is not None:
        values |= _random_units(values, width, sigma_u, sigma_w, shared)
    elif sigma_u is not None or sigma_w is not None or shared.seed is not None:
        raise InputError("--sigma-u, --sigma-w and --seed go with --width N, which draws the weights")
    if missing := [key for key in ("u", "w", "cross_moment") if key not in values]:
        needed = ", ".join("--" + key.replace("_", "-") for key in missing)
        raise InputError(f"{needed} missing: give a FILE with a table [latent], or the flags")

    from featurephase.analyses.latent import latent as solve

    result = solve(measure=measure, **values)
    return result if width is None else replace(result, seed=shared.seed or 0)


def _random_units(
    values: dict[str, Any], width: int, sigma_u: float | None, sigma_w: float | None, shared: Shared
) -> dict[str, list[float]]:
    """Independent normal weights of ``width`` units."""
    import numpy as np

    from featurephase.analyses.latent import require_latent_memory

    if given := {"u", "w"} & values.keys():
        raise InputError(f"--width and {min(given)} exclude each other: give the weights or how many to draw")
    if shared.seed is not None and shared.seed < 0:
        raise InputError(f"--seed {shared.seed}: must be a whole number >= 0")
    require_latent_memory(width, *([len(values["times"])] if "times" in values else []))
    rng = np.random.default_rng(shared.seed or 0)
    usual = 1.0 / width**0.5
    return {
        name: (rng.standard_normal(width) * (usual if sigma is None else sigma)).tolist()
        for name, sigma in (("u", sigma_u), ("w", sigma_w))
    }


@command("replicates", "seed", "figure", "save")
def latent_phase(
    c_gamma: Annotated[float | None, says("Exponent of the prefactor gamma (default 0).")] = None,
    c_eta_u: Annotated[float | None, says("Exponent of the read-out's learning rate (default 0).")] = None,
    c_eta_w: Annotated[float | None, says("Exponent of the hidden layer's rate (default 0).")] = None,
    c_sigma_u: Annotated[float | None, says("Exponent of the read-out's standard deviation (default 0).")] = None,
    c_sigma_w: Annotated[float | None, says("Exponent of the hidden standard deviation (default 0).")] = None,
    c_width: Annotated[float | None, says("Exponent of the width (default 1).")] = None,
    name: Annotated[str | None, says("A named parameterisation (ntk, mean-field, mup ..) instead.")] = None,
    symmetrised: Annotated[
        bool, says("The initial output is made exactly 0 (mirrored units).", "--symmetrised")
    ] = False,
    axes: Annotated[
        str | None, says("Exponents on the axes of the figure, e.g. c_gamma,c_sigma_u.", metavar="X,Y")
    ] = None,
    kappa: Annotated[float | None, says("Also map the networks of finite width at this kappa.", metavar="K")] = None,
    points: Annotated[int, says("Points of that map on each axis.")] = 41,
    *,
    shared: Shared,
) -> Result:
    """Phase, stability and mechanism of a scaling of the hyperparameters; alone, the named ones as a table.

    All exponents are powers of one large number kappa; with --c-width 1 it is the width itself.

    Example: featurephase latent-phase --c-gamma -1 --c-eta-u 1 --c-eta-w 1 --figure phase.png
    """
    flags = dict(locals())
    exponents = {key: flags[key] for key in _EXPONENTS if flags[key] is not None}

    from featurephase.analyses.latent_phase import latent_phase as solve
    from featurephase.analyses.latent_phase import parameterisation_table

    if not exponents and name is None:
        if symmetrised or axes is not None or kappa is not None:
            raise InputError("which scaling? give its exponents (--c-gamma ..) or --name")
        return parameterisation_table()
    if exponents and name is not None:
        flag = "--" + next(iter(exponents)).replace("_", "-")
        raise InputError(f"--name and {flag} exclude each other: give a name or exponents")
    return solve(
        **exponents,
        name=name,
        symmetrised=symmetrised,
        axes=None if axes is None else [x.strip() for x in axes.split(",")],
        kappa=kappa,
        points=points,
        replicates=4 if shared.replicates is None else shared.replicates,
        seed=0 if shared.seed is None else shared.seed,
    )
