"""The phase diagram: the table, exponents fitted over growing widths, trained networks, slices, finite-width maps."""

from __future__ import annotations

import numpy as np
import pytest

import featurephase as fp
from featurephase.foundation.errors import InputError
from featurephase.latent_model import (
    PARAMETERISATIONS,
    Scaling,
    Slice,
    finite_width_map,
    mechanisms,
    parameterisation,
)
from featurephase.latent_model.training import Setting, train_network, two_point_data

# name: c_k, c_h, c_g, c_s0, phase, stability, mechanism (the table of theory/latent-phases)
TABLE = {
    "ntk": (-0.5, 0.5, 0.5, 0.0, "kernel", "well-defined", "none"),
    "standard": (-1.0, 1.0, 0.5, 0.0, "kernel", "well-defined", "none"),
    "pytorch": (-1.0, 1.0, 0.5, 0.0, "kernel", "well-defined", "none"),
    "lecun": (-1.0, 1.0, 0.5, 0.0, "kernel", "well-defined", "none"),
    "kaiming": (-1.0, 1.0, 0.5, 0.0, "kernel", "well-defined", "none"),
    "standard-unit-rate": (0.0, 1.0, 0.5, 0.0, "kernel", "unstable", "none"),
    "standard-layerwise": (-0.5, 0.5, 0.5, 0.0, "kernel", "well-defined", "none"),
    "mean-field": (0.0, 0.0, 0.0, -0.5, "feature-learning", "well-defined", "alignment and growth"),
    "mup": (0.0, 0.0, 0.0, -0.5, "feature-learning", "well-defined", "alignment and growth"),
    "yang-hu": (0.0, 0.0, 0.0, -0.5, "feature-learning", "well-defined", "alignment and growth"),
    "xavier": (0.0, 0.0, 0.0, -0.5, "feature-learning", "well-defined", "alignment and growth"),
    "small-readout": (-0.5, 0.5, 0.0, -0.5, "kernel", "well-defined", "none"),
    "tiny": (0.0, -2.0, -2.0, -2.0, "rich", "well-defined", "alignment then growth"),
    "large": (0.0, 2.0, 2.0, 2.0, "feature-learning", "unstable", "disalignment"),
}


def test_every_named_parameterisation_is_in_the_table() -> None:
    assert {p.name for p in PARAMETERISATIONS} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    scaling = parameterisation(name).scaling
    x, v = scaling.exponents, scaling.verdict()
    assert (x.c_k, x.c_h, x.c_g, x.c_s0) == TABLE[name][:4]
    assert (v.phase, v.stability, v.mechanism) == TABLE[name][4:]


DISTINCT = {p.scaling: p.name for p in reversed(PARAMETERISATIONS) if p.scaling.c_width > 0}
SCALINGS = {name: scaling for scaling, name in DISTINCT.items()} | {
    "rich": Scaling(c_gamma=-1.5),
    "rich, unbalanced": Scaling(c_gamma=-2.0, c_eta_w=0.5),
    "feature learning, unbalanced": Scaling(c_gamma=-1.25, c_eta_w=-0.5),
    "slow width": Scaling(c_gamma=-0.75, c_sigma_u=0.25, c_width=0.7),
    "start too large": Scaling(c_gamma=0.0, c_eta_u=-0.3),
}


def slope(kappas: np.ndarray, values: np.ndarray) -> float:
    return float(np.polyfit(np.log(kappas), np.log(values), 1)[0])


@pytest.mark.parametrize("name", SCALINGS)
def test_exponents_fitted_from_the_closed_form(name: str) -> None:
    """Over widths up to 1e4; root mean squares over draws are free of sampling bias in the exponent."""
    scaling = SCALINGS[name]
    x = scaling.exponents
    kappas = np.geomspace(3e2, 1e4, 5) ** (1.0 / scaling.c_width)
    samples = 24
    rows = []
    for kappa in kappas:
        flow = scaling.start(kappa, samples=samples, seed=1)
        start, end = flow.at(0.0), flow.at(np.inf)
        h2 = flow.conserved["kernel_gap"]
        rows.append(
            [
                np.mean(start.kernel),
                np.mean(end.kernel),
                np.sqrt(np.mean(start.output**2)),
                np.mean(np.sqrt(flow.conserved["gram"])) * kappa**scaling.c_gamma,
                np.sqrt(np.mean(h2)),
                1.0 / np.mean(flow.initial_rate if x.c_h > 0 else flow.asymptotic_rate),
                np.sqrt(np.mean((end.kernel / start.kernel - 1.0) ** 2)),
            ]
        )
    k0, k1, s0, g, h, time, change = np.array(rows).T
    assert slope(kappas, k0) == pytest.approx(x.c_k + x.c_h, abs=0.05)
    assert slope(kappas, k1) == pytest.approx(x.c_k + max(x.c_h, 0.0), abs=0.05)
    assert slope(kappas, g) == pytest.approx(x.c_g, abs=0.05)
    assert slope(kappas, h) == pytest.approx(x.c_h, abs=0.05)
    # the root mean square of 24 draws has an error of 14 %; the draws of different widths are independent
    error = 0.145 / np.sqrt(np.sum((np.log(kappas) - np.log(kappas).mean()) ** 2))
    assert abs(slope(kappas, s0) - x.c_s0) < max(0.05, 3 * error)
    v = scaling.verdict()
    assert slope(kappas, time) == pytest.approx(v.learning_time_exponent, abs=0.05)
    ratio = slope(kappas, k1 / k0)
    assert ratio == pytest.approx(v.kernel_ratio_exponent, abs=0.05)
    if v.phase == "kernel":
        assert abs(slope(kappas, change) - v.kernel_change_exponent) < max(0.05, 6 * error)  # the change is quadratic


@pytest.mark.parametrize("name", ["rich", "tiny"])
def test_rich_budget(name: str) -> None:
    """Balanced: ``|c_h| ln kappa - 1/2`` of growth and 1/2 of alignment, net of what the start aligned by chance."""
    scaling = SCALINGS.get(name) or parameterisation(name).scaling
    kappas = np.array([1e2, 5e2, 2.5e3])
    parts = []
    for kappa in kappas:
        b = mechanisms(scaling.start(kappa, samples=100, seed=2), np.inf)
        parts.append([b.alignment.mean(), b.growth.mean()])
    alignment, growth = np.array(parts).T
    rate = np.polyfit(np.log(kappas), growth, 1)[0]
    assert rate == pytest.approx(-scaling.exponents.c_h, abs=0.05)
    if scaling.c_width > 0:
        assert alignment[-1] == pytest.approx(0.5, abs=0.01)
    else:  # fixed width: zeta starts at order one, and the rise is what is left of 1
        assert np.all((alignment > 0.3) & (alignment < 0.55))


def test_disalignment_at_fixed_width() -> None:
    """Large balanced start: ``K(inf)/K(0) -> sqrt(1 - rho^2) < 1``, by disalignment and shrinkage alone."""
    flow = parameterisation("large").scaling.start(1e4, samples=50, seed=3)
    rho, _ = flow.control_parameters()
    b = mechanisms(flow, np.inf)
    np.testing.assert_allclose(np.exp(b.log_kernel_ratio), np.sqrt(1 - rho**2), rtol=1e-9)
    assert np.all(b.disalignment < 0)
    assert np.all(np.abs(b.end_alignment) < 1e-6)
    assert np.all(b.alignment + b.growth < 1e-8)
    # symmetrised, or unbalanced by a power: the kernel phase
    assert parameterisation("large").scaling.verdict(symmetrised=True).phase == "kernel"
    assert Scaling(c_sigma_u=0.5, c_sigma_w=1.0, c_width=0.0).verdict().phase == "kernel"


# --- networks that are really trained ---


def trained(scaling: Scaling, kappa: float, *, step: float, steps: int, seed: int = 0):
    """Gradient descent with the rates of the scaling times ``step``, three inputs, on two samples."""
    width = round(kappa**scaling.c_width) if scaling.c_width else 10
    rng = np.random.default_rng([seed, width])
    u = kappa**scaling.c_sigma_u * rng.standard_normal(width)
    hidden = kappa**scaling.c_sigma_w * rng.standard_normal((width, 3))
    setting = Setting(eta_u=kappa**scaling.c_eta_u, eta_w=kappa**scaling.c_eta_w, gamma=kappa**scaling.c_gamma)
    data = two_point_data(1.0, 1.0, 1.1, dimension=3)
    return train_network(data, u, hidden, setting, steps=steps, step_size=step)


WIDTHS = (64.0, 512.0, 4096.0)


@pytest.mark.parametrize("name", [n for n in TABLE if TABLE[n][5] == "well-defined" and n != "tiny"])
def test_verdict_from_training_networks_of_growing_width(name: str) -> None:
    scaling = parameterisation(name).scaling
    runs = [trained(scaling, width, step=0.02, steps=600) for width in WIDTHS]
    assert all(abs(run.output[-1] - 1.0) < 0.05 for run in runs), "learns in a time that does not depend on the width"
    changes = np.array([abs(np.log(run.kernel[-1] / run.kernel[0])) for run in runs])
    if TABLE[name][4] == "kernel":
        assert changes[-1] < 0.02
        assert changes[-1] < changes[0]
    else:
        assert np.all((changes > 0.2) & (changes < 0.6))  # ln sqrt 2 = 0.35 in the limit
        assert changes[-1] == pytest.approx(np.log(2) / 2, abs=0.06)


def test_standard_at_rate_one_diverges_when_wide() -> None:
    """Unstable: the step that trains width 64 blows up at width 4096."""
    scaling = parameterisation("standard-unit-rate").scaling
    narrow, wide = (trained(scaling, width, step=0.002, steps=200) for width in (64.0, 4096.0))
    assert abs(narrow.output[-1] - 1.0) < 0.05
    assert not abs(wide.output[-1]) < 10.0


def test_tiny_start_is_rich_and_large_start_disaligns() -> None:
    ratios = []
    for kappa in (10.0, 100.0, 1000.0):
        run = trained(parameterisation("tiny").scaling, kappa, step=0.02, steps=int(250 * np.log(kappa)))
        assert abs(run.output[-1] - 1.0) < 0.05
        ratios.append(run.kernel[-1] / run.kernel[0])
    assert np.polyfit(np.log([10, 100, 1000]), np.log(ratios), 1)[0] == pytest.approx(2.0, abs=0.05)
    run = trained(parameterisation("large").scaling, 30.0, step=2e-6, steps=4000)
    assert abs(run.alignment[-1]) < 0.02
    assert run.kernel[-1] < run.kernel[0]


def test_frozen_scaling_stops_learning_when_wide() -> None:
    scaling = Scaling(c_gamma=-1.0)  # mean-field with rates of order 1
    assert scaling.verdict().stability == "frozen"
    moved = [trained(scaling, width, step=0.02, steps=600) for width in WIDTHS]
    assert abs(moved[-1].output[-1] - moved[-1].output[0]) < 0.02


# --- equivalence, slices, maps ---


def test_normal_form_has_the_same_exponents_and_verdict() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        c = rng.integers(-4, 5, 5) / 2
        s = Scaling(c_gamma=c[0], c_eta_u=c[1], c_eta_w=c[2], c_sigma_u=c[3], c_sigma_w=c[4])
        n = s.normal_form()
        assert (n.c_sigma_u, n.c_sigma_w) == (0.0, 0.0)
        assert n.exponents == s.exponents
        assert n.verdict() == s.verdict()


def test_boundaries_of_a_slice_are_exact() -> None:
    for plane in (Slice(), Slice(x="c_sigma_u", y="c_eta_w", fixed=Scaling(c_gamma=-1.0), x_range=(-2, 1))):
        corners = 0
        for a, b in plane.phase_boundary():
            for t in (0.0, 0.3, 1.0):
                point = plane.at(*(np.array(a) + t * (np.array(b) - a)))
                assert abs(point.exponents.c_h) < 1e-12
                corners += 1
        assert corners == 6
        for a, b in plane.stability_boundary():
            for t in (0.0, 0.5, 1.0):
                x = plane.at(*(np.array(a) + t * (np.array(b) - a))).exponents
                assert abs(x.c_k + max(x.c_h, 0.0)) < 1e-12
        inside = np.mean(plane.rich_region(), axis=0)
        assert plane.at(*inside).exponents.c_h < 0
        assert all(plane.at(*corner).exponents.c_h < 1e-12 for corner in plane.rich_region())


@pytest.mark.parametrize("name", [n for n in TABLE if n not in ("tiny", "large")])
def test_named_parameterisations_are_placed_where_their_exponents_are_the_same(name: str) -> None:
    scaling = parameterisation(name).scaling
    x, y, own_time = Slice().place(scaling)
    there = Slice().at(x, y).exponents
    here = scaling.exponents
    assert there.c_h == pytest.approx(here.c_h, abs=1e-12)
    assert there.c_g == pytest.approx(here.c_g, abs=1e-12)
    assert (abs(there.c_k - here.c_k) < 1e-12) is own_time


def test_finite_width_maps_converge_to_the_limit() -> None:
    """``ln(K/K0)/ln kappa`` differs from its limit by ``ln sqrt 5 / ln kappa`` at most: h is half of its larger term.

    Beside it the sampling error of h, at most 10 sqrt(2/kappa) here.
    """
    plane = Slice(x_range=(-1.8, -0.2), y_range=(-0.8, 0.8))
    for kappa in (1e2, 1e4, 1e6):
        m = finite_width_map(plane, kappa, points=41, replicates=2)
        assert np.abs(m.value - m.limit).max() < (np.log(5) / 2 + 15 / np.sqrt(kappa)) / np.log(kappa)


def test_finite_width_map_over_the_width() -> None:
    plane = Slice(x="c_width", y="c_gamma", x_range=(0.5, 1.5), y_range=(-1.0, 1.0))
    m = finite_width_map(plane, 10.0, points=3, replicates=2)
    turned = finite_width_map(
        Slice(x="c_gamma", y="c_width", x_range=(-1.0, 1.0), y_range=(0.5, 1.5)), 10.0, points=3, replicates=2
    )
    np.testing.assert_array_equal(m.value, turned.value.T)
    for i, j in np.ndindex(3, 3):
        flow = plane.at(m.x[j], m.y[i]).start(10.0, samples=2, seed=0)
        assert m.value[i, j] == pytest.approx(np.mean(mechanisms(flow, np.inf).log_kernel_ratio) / np.log(10.0))


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0])
def test_finite_width_map_is_that_of_the_flow(width: float) -> None:
    plane = Slice(x="c_sigma_u", y="c_eta_w", fixed=Scaling(c_gamma=-0.7, c_sigma_w=-0.1, c_eta_u=0.3, c_width=width))
    m = finite_width_map(plane, 30.0, points=3, replicates=3, seed=4)
    for i, j in np.ndindex(3, 3):
        flow = plane.at(m.x[j], m.y[i]).start(30.0, samples=3, seed=4)
        expected = mechanisms(flow, np.inf).log_kernel_ratio / np.log(30.0)
        assert m.value[i, j] == pytest.approx(expected.mean(), rel=1e-9)


def test_result_and_its_document() -> None:
    result = fp.latent_phase(c_gamma=-1.0, c_eta_u=1.0, c_eta_w=1.0)
    document = result.to_dict()
    assert document["phase"] == "feature-learning"
    assert document["exponents"] == {"c_k": 0.0, "c_h": 0.0, "c_g": 0.0, "c_s0": -0.5}
    assert set(result.equivalent) == {"mean-field", "mup", "yang-hu", "xavier"}
    assert fp.latent_phase(name="NTK").equivalent == ("ntk", "standard-layerwise")


def test_decimal_exponents_that_should_cancel_do() -> None:
    assert Scaling(
        c_gamma=-0.3, c_width=0.1, c_eta_u=0.3, c_eta_w=0.3, c_sigma_u=0.1, c_sigma_w=0.1
    ).verdict().phase == ("feature-learning")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fp.latent_phase(c_width=-1.0), "c_width must be at least 0"),
        (lambda: fp.latent_phase(c_gamma=np.nan), "finite"),
        (lambda: fp.latent_phase(name="nonsense"), "known: ntk"),
        (lambda: fp.latent_phase(axes=["c_gamma", "c_gamma"]), "differ"),
        (lambda: fp.latent_phase(axes=["c_gamma", "x"]), "unknown axis"),
        (lambda: fp.latent_phase(axes=["c_gamma"]), "two"),
        (lambda: fp.latent_phase(kappa=1.0), "above 1"),
        (lambda: fp.latent_phase(kappa=10.0, replicates=1), "at least 2"),
        (lambda: fp.latent_phase(kappa=10.0, seed=-1), "seed = -1: must be a whole number >= 0"),
        (lambda: fp.latent_phase(kappa=10.0, points=100_000), "points must be from 2 to 2000"),
        (lambda: fp.latent_phase(kappa=10.0, replicates=10**9), "needs .* of memory and .* are available"),
        (lambda: fp.latent_phase(kappa=1e11, points=3), "drawing 4 networks of 100,000,000,000 units needs"),
        (lambda: fp.latent_phase(kappa=1e300, points=3), "more than 1e[+]12 units"),
        (lambda: fp.latent_phase(c_gamma=1e308, c_width=1e308), "at most 1e[+]06 in size, given 1e[+]308"),
        (lambda: Slice(x_range=(1.0, 0.0)), "increasing"),
    ],
)
def test_wrong_input(call, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
