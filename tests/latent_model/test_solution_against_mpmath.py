"""Random models of every kind against the differential equation solved at 1500 digits."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from featurephase.latent_model.solution import Flow

from .cases import KINDS, random_model, random_times
from .reference import DIGITS, Model, Reference

#: Accuracy of the natural scale, the promise of the documentation. A sum that cancels to 2^-11 of its terms, and
#: exp(-x) for x up to 708 with x rounded once, are good to 2e-13.
TOLERANCE = 1e-12
LEAST = 2.3e-308  # below, float64 has fewer digits: only half a unit of the last place can be asked for


def assert_close(name: str, got: float, want: mp.mpf, scale: mp.mpf) -> float:
    if abs(want) > 1.7976931348623157e308:
        assert got == (np.inf if want > 0 else -np.inf), f"{name}: {got}, expected overflow"
        return 0.0
    error = abs(mp.mpf(float(got)) - want)
    assert error <= TOLERANCE * scale + mp.mpf(1e-323), f"{name}: {got!r}, expected {mp.nstr(want, 20)}"
    return float(error / scale) if scale > LEAST else 0.0


def check(model: Model, times: list[float]) -> dict[str, float]:
    """Compare everything; returns the largest error of each quantity in units of its scale."""
    flow = Flow(**model.arguments())
    x = flow.at(times)
    fewer = flow.at(times, quantities=("output", "kernel"))  # may take a cheaper way
    u, w = flow.weights(times)
    exact = Reference(model)
    units = range(0, flow.width, max(flow.width // 30, 1))  # units differ only in their p and q
    worst: dict[str, float] = {}
    for i, time in enumerate(times):
        with mp.workdps(DIGITS):
            want = exact.at(time, units)
            pairs = [(n, getattr(x, n)[i], want[n], abs(want[n])) for n in ("kernel", "residual", "excess_loss")]
            pairs += [("output", y.output[i], want["output"], want["output_scale"]) for y in (x, fewer)]
            pairs += [("kernel", fewer.kernel[i], want["kernel"], want["kernel"])]
            if not np.isinf(time):  # in the limit a vector may vanish
                angles = [n for n in ("alignment", "misalignment") if n in want]
                pairs += [(n, getattr(x, n)[i], want[n], want[n + "_scale"]) for n in angles]
            for name, array in (("u", u), ("w", w)):
                pairs += [
                    (name, array[i, j], *y) for j, *y in zip(units, want[name], want[name + "_scale"], strict=True)
                ]
            for name, got, value, scale in pairs:
                label = f"{model.kind}, width {flow.width}, t = {time}: {name}"
                worst[name] = max(worst.get(name, 0.0), assert_close(label, got, value, scale))
    return worst


def run(seed: int, kind: str, max_width: int) -> None:
    rng = np.random.default_rng(np.random.SeedSequence([seed, KINDS.index(kind)]))
    model = random_model(rng, kind, max_width)
    with np.errstate(all="ignore"):
        rate = float(Flow(**model.arguments()).asymptotic_rate)
    check(model, random_times(rng, 1.0 / rate if rate > 0 else 1.0, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_against_mpmath(kind: str) -> None:
    for seed in range(4):
        run(seed, kind, 100)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_against_mpmath_up_to_width_ten_thousand(kind: str) -> None:
    """Over 1000 models in all, at four times each."""
    for seed in range(100, 136):
        run(seed, kind, 10_000)
