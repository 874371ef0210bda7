"""What is said of functions: catalogue against scan, proofs against samples, and a list known by heart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurephase.functions import activation, link, loss
from featurephase.functions.catalogue import ACTIVATIONS, LANGUAGE, LINKS, LOSSES, expand
from featurephase.functions.facts import ActivationFacts, LossFacts
from featurephase.functions.intervals import enclosure
from featurephase.functions.parser import parse
from featurephase.functions.program import Program
from featurephase.functions.tape import Tape


def _agree(declared: ActivationFacts | LossFacts, scanned: ActivationFacts | LossFacts) -> None:
    """Neither side may contradict the other; None is "not known"."""
    for name, value in vars(scanned).items():
        known = getattr(declared, name)
        if name != "measured" and known is not None and value is not None:
            assert known == value, name


@pytest.mark.parametrize("name", [*ACTIVATIONS, "elu(2)", "leaky_relu(-1)", "softplus(5)", "silu(2)", "hermite(5)"])
def test_declared_facts_of_activations_agree_with_a_scan(name: str) -> None:
    sigma = activation(name)
    assert sigma.expression is not None
    _agree(sigma.facts, activation(f"0 + {sigma.expression}").facts)
    assert sigma.facts.bounded is not None


@pytest.mark.parametrize("name", [*LOSSES, "huber(0.1)", "welsch(3)", "smooth_hinge(0.2)"])
def test_declared_facts_of_losses_agree_with_a_scan(name: str) -> None:
    function = loss(name)
    if name == "phase_retrieval":  # concave where y < -a, which the scan visits
        assert function.facts.convex is None
    assert function.expression is not None
    assert function.facts.measured == frozenset()
    _agree(function.facts, loss(expression=function.expression).facts)


@pytest.mark.parametrize(
    ("text", "bounds", "smooth", "parity"),
    [
        ("log(1 + h**2)", "nyy", True, "even"),
        ("h*arctan(h)", "nyy", True, "even"),
        ("sin(h**2)", "ynn", True, "even"),
        ("exp(h)", "nnn", True, None),
        ("exp(exp(h))", "nnn", True, None),
        ("abs(h)**1.5", "nnn", None, "even"),
        ("abs(h)**3", "nnn", None, "even"),
        ("tanh(h) + h/1000", "nyy", True, "odd"),
        ("1/(1 + h**2)", "yyy", True, "even"),
        ("clip(h, -1, 2)", "yyn", False, None),
        ("relu(h) - relu(-h)", "nyy", None, "odd"),
        ("3", "yyy", True, "even"),
        ("log1p(log1p(h**2))", "nyy", True, "even"),
    ],
)
def test_facts_of_expressions(text: str, bounds: str, smooth: bool | None, parity: str | None) -> None:
    facts = activation(text).facts
    found = (facts.bounded, facts.bounded_first, facts.bounded_second)
    assert found == tuple(b == "y" for b in bounds)
    assert facts.parity == parity
    if smooth is not None:
        assert facts.smooth is smooth


def test_proved_and_measured_are_told_apart() -> None:
    assert activation("gelu").facts.measured == frozenset()
    facts = activation("tanh(h)**2 + cos(3*h)").facts
    assert facts.bounded
    assert facts.bounded_second
    assert not facts.measured & {"bounded", "bounded_first", "bounded_second"}  # by interval arithmetic
    facts = activation("h*exp(-h**2)").facts
    assert facts.bounded
    assert "bounded" in facts.measured


@pytest.mark.parametrize(
    ("text", "convex"),
    [
        ("(y - f)**4", True),
        ("abs(y - f)", True),
        ("-abs(y - f)", False),
        ("minimum((y - f)**2, 4)", False),
        ("log1p((y - f)**2)", False),
        ("cosh(y - f) - 1", True),
        ("maximum(0, 1 - y*f) + f**2/10", True),
    ],
)
def test_convexity_of_expressions(text: str, convex: bool) -> None:
    facts = loss(expression=text).facts
    assert facts.convex is convex
    assert "convex" in facts.measured


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("1.5*tanh(g1**2)", 1.5),
        ("parity", 1.0),
        ("sign(g1) + 2*sin(g2*g1)", 3.0),
        ("flipped(parity, 0.1)", 1.0),
        ("where(u1 < 0.5, erf(g1), 3)", 3.0),
        ("u1*5 - u2", 5.0),
        ("clip(g1 + e1, -2, 1)", 2.0),
        ("exp(-g1**2)", 1.0),
        ("minimum(g1**2, 4)", 4.0),
        ("abs(g1)/(1 + abs(g1))*0 + 2", 2.0),
        ("1/(2 + cos(g1))", 1.0),
    ],
)
def test_bounds_of_links_are_proved(text: str, bound: float) -> None:
    facts = link(text, 2).facts
    assert facts.bounded
    assert facts.bound == pytest.approx(bound, rel=1e-15)
    assert facts.measured == frozenset()


@pytest.mark.parametrize(
    "text", ["linear", "square", "product", "g1*tanh(g2)", "tanh(g1) + 0.1*e1", "exp(g1)", "log(g1**2)"]
)
def test_unbounded_links(text: str) -> None:
    facts = link(text, 2).facts
    assert not facts.bounded
    assert facts.bound == math.inf
    assert facts.measured


def test_bounded_links_that_take_a_scan() -> None:
    facts = link("g1**2/(1 + g1**2)", 1).facts
    assert facts.bounded
    assert 0.99 < facts.bound <= 1.0
    assert facts.measured == {"bounded", "bound"}


def _trees() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["h", "h", "u", "1", "2", "0.5", "3"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds("({}{}{})".format, inner, st.sampled_from("+-*/"), inner),
            st.builds("({})**{}".format, inner, st.sampled_from(["2", "3", "0.5", "-1", "1.5"])),
            st.builds("{}({})".format, st.sampled_from(sorted(_ONE)), inner),
            st.builds("where({}<{},{},{})".format, inner, inner, inner, inner),
            st.builds("{}({},{})".format, st.sampled_from(["minimum", "maximum"]), inner, inner),
            st.builds("hermite({},{})".format, st.integers(0, 5), inner),
        )

    return st.recursive(leaves, grow, max_leaves=12)


_ONE = {name for name, f in LANGUAGE.items() if f.least == 1 and f.most == 1 and name not in ("hermite", "where")}


@settings(max_examples=200, deadline=None)
@given(_trees(), st.floats(-3, 3), st.floats(0, 3))
def test_enclosures_hold(text: str, low: float, width: float) -> None:
    """Every value lies in the interval, up to the rounding of both."""
    tape = Tape()
    try:
        node = parse(tape, text, "expression", {n: tape.variable(n) for n in ("h", "u")}, str, LANGUAGE)
    except ValueError:
        return
    ranges = {"h": (low, low + width), "u": (0.0, 1.0)}
    least, greatest = enclosure(tape, node, ranges)
    h, u = (a + (b - a) * np.linspace(0, 1, 9) for a, b in ranges.values())
    values = Program(tape, [node], ["h", "u"])(h[:, None], u[None, :])[0]
    values = values[np.isfinite(values)]
    slack = 1e-9 * np.max(np.abs(values), initial=1.0)
    assert np.all(values >= least - slack)
    assert np.all(values <= greatest + slack)


def test_every_link_is_made_at_every_dimension() -> None:
    for name in LINKS:
        for k in (1, 2, 5):
            found = expand(LINKS, "link", name, k)
            assert found is not None
            if "g2" in found[0] and k == 1:
                continue
            assert set(link(name, k).uses) <= set(range(1, k + 1))
