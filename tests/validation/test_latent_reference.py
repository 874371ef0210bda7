"""Published digits of the latent-variable model: 60-digit arithmetic, confirmed by an independent ODE integration.

Transcribed from the mathematics of the model (theory/latent-reference, and theory/related for ReLU networks), which
were computed by programs that have nothing in common with this one. Thirteen significant digits, hence the tolerance
1e-11.
"""

from __future__ import annotations

import numpy as np
import pytest

import featurephase as fp
from featurephase.latent_model import Flow, mechanisms

THREE = {"u": [0.5, -0.3, 0.8], "w": [0.2, 0.7, -0.4], "cross_moment": 1.0, "response_moment": 1.5}
CASES = {
    "R1": THREE,
    "R2": THREE
    | {
        "eta_u": 0.5,
        "eta_w": 2.0,
        "second_moment": 1.3,
        "cross_moment": -0.9,
        "response_moment": 2.0,
        "gamma": 0.7,
    },
    "R4": THREE | {"u": [5e-7, -3e-7, 8e-7], "w": [2e-7, 7e-7, -4e-7]},
    "R5": THREE | {"u": [15.0, -9.0, 24.0], "w": [6.0, 21.0, -12.0]},
    "R7": {
        "u": [0.6, 0.8, 0.0],
        "w": [-0.6, -0.8, 0.0],
        "second_moment": 2.0,
        "cross_moment": 3.0,
        "response_moment": 5.0,
        "gamma": 0.5,
    },
    "R10": {"u": [0.001], "w": [2.0], "cross_moment": 1.0, "response_moment": 1.0},
}
WEIGHTS = {  # time, u, w
    "R1": (
        0.5,
        [0.7986984359346, 0.1741958931515, 0.7041872933578],
        [0.6541553267875, 0.6560062569754, 0.1260148567692],
    ),
    "R2": (
        1.0,
        [0.4899168943621, -0.3813244705506, 0.8605859583355],
        [-0.008617048538235, 0.8435836694501, -0.749955176485],
    ),
    "R4": (
        7.0,
        [0.3701807717342, 0.2115318695618, 0.2115318695629],
        [0.3701807717339, 0.2115318695628, 0.2115318695617],
    ),
    "R5": (
        0.0005,
        [16.58905434093, -4.782361600228, 22.00203435633],
        [9.284219080056, 19.56708926937, -7.217306687188],
    ),
    "R7": (0.3, [0.2157650430833, 0.287686724111, 0.0], [-0.2157650430833, -0.287686724111, 0.0]),
    "R10": (0.2, [0.3973911329454], [2.039097524039]),
}
SCALARS = {  # output, loss, kernel, alignment, xi, D
    "R1": (0.7254844931215, 0.5753587635168, 2.038286289764, 0.7191734788093, 4.307722562971, 1.229766237949),
    "R2": (-0.6799111396284, 1.377122853797, 1.415678809536, -0.8109041131822, 0.6550430252898, 0.9278138402752),
    "R4": (0.2265252674426, 1.098263161905, 0.4530505348853, 1.0, 1118643296013.0, 1.0),
    "R5": (-98.35591120949, 9872.097092268, 1303.314444437, -0.1540526083552, 1.517973418407, 644.1927118495),
    "R7": (-0.06465910252322, 5.396316214218, 0.06465910252322, -1.0, 7.732863285884, 1.5),
    "R10": (0.8103192752643, 0.03597877733627, 4.315838425087, 1.0, 1.482636237008, 2.236067530286),
}
LIMITS = {  # s, K, K0, K/K0, alignment
    "R1": (1.0, 2.4595324759, 1.67, 1.47277393766, 0.818874771155),
    "R2": (-0.692307692308, 1.42740590812, 1.12945, 1.26380619604, -0.815877175802),
    "R4": (1.0, 2.0, 1.67e-12, 1.19760479042e12, 1.0),
    "R5": (1.0, 1288.3854237, 1503.0, 0.857209197405, 0.00158519817195),
    "R7": (0.0, 0.0, 0.5, 0.0, np.nan),
    "R10": (1.0, 4.47213506057, 4.000001, 1.11803348563, 1.0),
}
BUDGETS = {  # zeta0, zeta, norm ratio, ln K, alignment, disalignment, growth, shrinkage, by angle, by scale
    "R1": (
        -0.522914726038, 0.818874771155, 1.48506316358, 0.387147655006, 0.326025408211,
        -0.131850311456, 0.215196737512, -0.0222241792608, 1.05820125148, 0.371798748516,
    ),
    "R2": (
        -0.522914726038, -0.815877175802, 1.47414006554, 0.23412795805, 0.115993198465,
        0.0, 0.118134759585, 0.0, -0.198211492654, -0.193096199653,
    ),
    "R4": (
        -0.522914726038, 1.0, 1.21608075823e12, 27.8113446701, 0.489597100588,
        -0.131850311456, 27.4758220602, -0.0222241792608, 1.48671249389e-12, 0.999999999999,
    ),
}  # fmt: skip
MOTION = {
    "R1": (0.99809618525, 0.687590818027, 0.852882482911),
    "R2": (0.535649412268, 0.106409485418, -0.217631601169),
}


def digits(n: int) -> float:
    """Half a unit of the last of n printed digits, relative, at worst (leading digit 1), or 1e-11."""
    return max(0.51 * 10.0 ** (1 - n), 1e-11)


@pytest.mark.parametrize("case", CASES)
def test_trajectory(case: str) -> None:
    time, u, w = WEIGHTS[case]
    flow = Flow(**CASES[case])
    x = flow.at(time)
    got_u, got_w = flow.weights(time)
    np.testing.assert_allclose(got_u, u, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(got_w, w, rtol=1e-11, atol=1e-300)
    got = (x.output, x.loss, x.kernel, x.alignment, np.exp(x.log_xi), flow.asymptotic_rate / 4.0)
    np.testing.assert_allclose(got, SCALARS[case], rtol=1e-11)


def test_the_angle_of_a_tiny_initialisation_keeps_its_digits() -> None:
    x = Flow(**CASES["R4"]).at(7.0)
    assert x.misalignment == pytest.approx(9.574e-24, rel=1e-3)  # four printed digits


@pytest.mark.parametrize("case", CASES)
def test_limit(case: str) -> None:
    flow = Flow(**CASES[case])
    x, start = flow.at(np.inf), flow.at(0.0)
    got = (x.output, x.kernel, start.kernel, x.kernel / start.kernel, x.alignment)
    np.testing.assert_allclose(got, LIMITS[case], rtol=digits(12), atol=1e-300)
    assert bool(flow.saddle) == (case == "R7")


@pytest.mark.parametrize("case", BUDGETS)
def test_mechanisms(case: str) -> None:
    b = mechanisms(Flow(**CASES[case]), np.inf)
    got = (
        b.start_alignment, b.end_alignment, b.norm_ratio, b.log_kernel_ratio, b.alignment,
        b.disalignment, b.growth, b.shrinkage, b.output_angle, b.output_scale,
    )  # fmt: skip
    np.testing.assert_allclose(got, BUDGETS[case], rtol=digits(12))


@pytest.mark.parametrize("case", MOTION)
def test_relative_motion_of_the_layers(case: str) -> None:
    x = Flow(**CASES[case]).limit()
    got = (x.relative_motion_w, x.relative_motion_u, 0.5 * x.log_xi)
    np.testing.assert_allclose(got, MOTION[case], rtol=digits(11))


def test_statuses() -> None:
    assert fp.latent(**CASES["R7"], times=[0.3]).status == "saddle"
    assert fp.latent(**CASES["R1"], times=[0.3]).status == "ok"
    assert fp.latent(u=[1.0], w=[1.0], cross_moment=1.0, gamma=0.0, times=[1.0]).status == "frozen"
