"""Claim 10: the phases of the latent-variable model, from networks of growing width."""

from __future__ import annotations

import numpy as np

from featurephase.analyses.latent import latent
from featurephase.analyses.latent_phase import latent_phase
from featurephase.claims.base import (
    MECHANISMS,
    Claim,
    Comparison,
    Finding,
    Number,
    Study,
    at_most,
    curve,
    equals,
    slope,
)
from featurephase.claims.networks import random_layers
from featurephase.latent_model import parameterisation
from featurephase.latent_model.training import Setting, integrate_flow
from featurephase.results.related import Panel

#: Named parameterisations, at least two of each phase.
NAMES = ("ntk", "standard", "small-readout", "mean-field", "mup", "tiny", "large")
#: Standard errors: of exponents, and of K(inf)/K(0); and what finite widths may add to an exponent.
EXPONENT_ERROR, RATIO_ERROR, TOLERANCE = 0.1, 0.02, 0.05
#: How far from its target a network may be at the last time, relative to the target.
CONVERGED = 1e-4


def log_kernels(name: str, kappa: float, replicates: int, seed: int) -> tuple[np.ndarray, float]:
    """ln K(inf)/K(0) of networks whose flow is integrated numerically, and the worst distance to the target."""
    c = parameterisation(name).scaling
    width = round(kappa**c.c_width) if c.c_width else 3
    rates = {"gamma": kappa**c.c_gamma, "eta_u": kappa**c.c_eta_u, "eta_w": kappa**c.c_eta_w}
    found, far = [], 0.0
    for u, w in random_layers(width, replicates, (seed, 10), kappa**c.c_sigma_u, kappa**c.c_sigma_w):
        pace = latent(u, w, cross_moment=1.0, **rates).rates
        start = abs(rates["gamma"] * float(u @ w))
        last = (12.0 + np.log1p(start)) / pace["asymptotic"] + 2.0 * float(np.nan_to_num(pace["saturation_time"]))
        path = integrate_flow(u, w, [0.0, last], Setting(cross_moment=1.0, response_moment=1.0, **rates))
        found.append(np.log(path.kernel[-1] / path.kernel[0]))
        far = max(far, abs(path.output[-1] - 1.0))
    return np.array(found), far


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    kappas = study.size((64.0, 256.0, 1024.0), (64.0, 256.0, 1024.0, 4096.0))
    comparisons: list[Comparison] = []
    curves = []
    farthest = 0.0
    for name in NAMES:
        verdict = latent_phase(name=name).verdict
        runs = [log_kernels(name, kappa, study.size(64, 400), study.seed + int(kappa)) for kappa in kappas]
        farthest = max([farthest, *(far for _, far in runs)])
        logs = [Number.mean(log) for log, _ in runs]
        comparisons.append(_power(f"{name}: power of K(inf)/K(0)", kappas, logs, verdict["kernel_ratio_exponent"]))
        if verdict["phase"] == "kernel":
            changes = [Number.mean(np.log(np.abs(np.expm1(log)))) for log, _ in runs]
            expected = verdict["kernel_change_exponent"]
            comparisons.append(_power(f"{name}: power of its change", kappas, changes, expected))
        if name in ("mean-field", "mup"):
            ratios = [Number.mean(np.exp(log)) for log, _ in runs[-2:]]
            wide = Number.sum([(4.0 / 3.0, ratios[1]), (-1.0 / 3.0, ratios[0])])  # linear in 1/width
            comparisons.append(equals(f"{name}: K(inf)/K(0)", wide, np.sqrt(2.0), resolution=RATIO_ERROR))
        curves.append(curve(kappas, logs, name))
    comparisons.append(at_most("distance to the target at the end", farthest, CONVERGED))
    panel = Panel("kappa", "ln K(inf)/K(0)", tuple(curves), "kernel of trained networks", log_x=True)
    limits = "seven named scalings, not the whole of the diagram of six exponents"
    return Finding(comparisons, limits, (panel,))


def _power(name: str, kappas: tuple[float, ...], logs: list[Number], expected: float) -> Comparison:
    found = slope(np.log(kappas), logs)
    return equals(name, found, expected, resolution=EXPONENT_ERROR, tolerance=TOLERANCE)


CLAIM = Claim(
    id="phase-diagram",
    number=10,
    statement="With growing width the closed form has a kernel phase, a feature-learning phase and a rich phase; "
    "which, is decided by the exponents of width, layer-wise rates, output scale and initialisation "
    "scale.",
    source=MECHANISMS,
    criterion="For seven named scalings the measured power of K(inf)/K(0) equals the predicted one (standard error "
    "below 0.1), in the kernel phase also that of its change; for mean-field and muP K(inf)/K(0) tends to "
    "the root of 2 (standard error below 0.02).",
    experiment="Numerical integration of the flow of all weights from random starts at up to 1024 (full: 4096) "
    "units; powers by least squares of mean logarithms.",
    run=experiment,
)
