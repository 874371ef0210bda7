"""Claim 3: the spectral phase transition of the Hessian along the path."""

from __future__ import annotations

from featurephase.claims.base import (
    TRANSITIONS,
    Claim,
    Comparison,
    Finding,
    Number,
    Study,
    above,
    below,
    curve,
    equals,
    fact,
)
from featurephase.claims.neurons import extrapolated, gelu_neuron, lowest, outlier, predicted, simulated, transition
from featurephase.results.related import Panel

TIME = 10
#: Below, above and far above the transition.
BELOW, ABOVE = 2.0, (20.0, 30.0)
#: Standard errors of the outlier and of its squared overlap, extrapolated.
VALUE_ERROR, OVERLAP_ERROR = 0.006, 0.05


def measured(delta: float, dimension: int, seeds: int, study: Study) -> tuple[Number, Number]:
    """Smallest eigenvalue of finite networks, and squared overlap of its eigenvector with the hard direction."""
    run = simulated(
        gelu_neuron(TIME),
        study,
        dimension,
        delta,
        seeds,
        method="dense",
        times=[TIME],
        eigenvalues=2,
        precision="float32",
    )
    return lowest(run)


def experiment(study: Study) -> Finding:
    """What the criterion asks for."""
    small, samples = study.size(200, 400), study.size(10_000, 100_000)
    comparisons: list[Comparison] = []
    points = []
    for delta in (BELOW, *ABOVE):
        theory = predicted(gelu_neuron(TIME), study, delta, [TIME], samples=samples).hessian[0]
        seeds = study.size(12, 40) if delta == BELOW else study.size(80, 200)
        half, full = (measured(delta, d, seeds, study) for d in (small, 2 * small))
        points.append((full[1], outlier(theory)[1] if delta in ABOVE else Number(0.0)))
        if delta == BELOW:
            comparisons.append(fact(f"delta = {delta:g}: the limit has no hard outlier", not theory.hard_outliers))
            comparisons.append(below(f"delta = {delta:g}: overlap of the lowest eigenvector", full[1], 0.1))
            continue
        value, overlap = (extrapolated(a, b) for a, b in zip(half, full, strict=True))
        expected_value, expected_overlap = outlier(theory)
        edge = Number.of(theory.left_edge, theory.left_edge_se, 6)
        at = f"delta = {delta:g}:"
        comparisons += [
            equals(f"{at} lowest eigenvalue", value, expected_value, resolution=VALUE_ERROR),
            equals(f"{at} its squared overlap", overlap, expected_overlap, resolution=OVERLAP_ERROR),
            below(f"{at} lowest eigenvalue against the edge", value, edge),
            below(f"{at} lowest eigenvalue", value, 0.0),
        ]
    location = transition(gelu_neuron(TIME), study, TIME, (1.0, 40.0), samples=samples)
    delta_nn = Number.of(location.value, location.value_se, 6)
    comparisons += [above("delta_NN(10)", delta_nn, BELOW), below("delta_NN(10)", delta_nn, ABOVE[0])]
    found, expected = zip(*points, strict=True)
    x = [BELOW, *ABOVE]
    curves = (curve(x, found, f"d = {2 * small}", "points"), curve(x, expected, "limit", "dashed"))
    panel = Panel("n/d", "squared overlap of the lowest eigenvector", curves, vertical=((delta_nn.value, "delta_NN"),))
    return Finding(comparisons, "one neuron after 10 steps; more in docs/validation", (panel,))


CLAIM = Claim(
    id="spectral-transition",
    number=3,
    statement="Along the path the Hessian has a spectral phase transition: above delta_NN a negative outlier "
    "aligned with U_H leaves the bulk, below it there is none.",
    source=TRANSITIONS,
    criterion="GeLU neuron, 10 steps. delta = 20 and 30: the lowest eigenvalue of dense Hessians, extrapolated in "
    "1/d, equals the predicted outlier (standard error below 0.006), stands left of the predicted edge "
    "and below 0, and its squared overlap is the predicted one (standard error below 0.05). delta = 2: no "
    "outlier in the limit, and an overlap below 0.1 in finite networks. The predicted delta_NN lies "
    "between 2 and 20.",
    experiment="Gradient descent on Gaussian data matrices at d = 200 and 400 (full: 400 and 800), their Hessians' "
    "lowest eigenpairs, against the theory of the limit.",
    run=experiment,
)
