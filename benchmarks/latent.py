"""Speed and accuracy of the exact latent-variable model, against the numerical integration of its weights.

Run it with ``python benchmarks/latent.py``; one core is enough. It prints

* scalar outputs per second on 1000 initialisations x 1000 times at width 100, the preparation of the initialisations
  included, for output alone, for the four of the command (output, loss, kernel, alignment) and for all eight;
* the same with all weights u and w, in points and in numbers per second;
* one trajectory of 100 and of 1000 times, and its share of the batch, against ``scipy.integrate.solve_ivp`` at rtol
  1e-12 in the same run, by its default method (RK45), by the one that suits best (DOP853) and by two others: times,
  their ratio, and the errors against arithmetic of 50 digits;
* what the rows cost that float64 cannot do: layers that are exactly parallel (their coefficients are formed again) and
  starts of 1e-150 (all is done in mpmath).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import mpmath as mp
import numpy as np
from threadpoolctl import threadpool_limits

from featurephase.latent_model import Flow
from featurephase.latent_model.training import Setting, integrate_flow

TARGET = Setting(cross_moment=1.0)
INITIALISATIONS, TIMES, WIDTH = 1000, 1000, 100


def best(action: Callable[[], object], repeat: int = 3) -> float:
    """Shortest of a few runs, in seconds of this process's processor time (other programs do not count)."""
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    return min(seconds)


def exact_output(u: np.ndarray, w: np.ndarray, times: np.ndarray) -> list[mp.mpf]:
    """The output at 50 digits for unit rates, A = B = gamma = 1, in the Moebius form."""
    with mp.workdps(50):
        p = [(mp.mpf(b) + mp.mpf(a)) / 2 for a, b in zip(u.tolist(), w.tolist(), strict=True)]
        q = [(mp.mpf(b) - mp.mpf(a)) / 2 for a, b in zip(u.tolist(), w.tolist(), strict=True)]
        P, Q = mp.fsum(x * x for x in p), mp.fsum(x * x for x in q)
        D = mp.sqrt(1 + 4 * P * Q)
        plus, minus = (1 + D) / (2 * P), (1 - D) / (2 * P)
        outputs = []
        for t in times.tolist():
            ratio = (1 - plus) / (1 - minus) * mp.exp(-4 * D * mp.mpf(t))
            xi = (plus - minus * ratio) / (1 - ratio)
            outputs.append(P * xi - Q / xi)
        return outputs


def main() -> None:
    rng = np.random.default_rng(0)
    u, w = 0.1 * rng.standard_normal((2, INITIALISATIONS, WIDTH))
    times = np.geomspace(1e-3, 1e2, TIMES)
    points = INITIALISATIONS * TIMES
    for names in (
        ("output",),
        ("output", "loss", "kernel", "alignment"),
        ("output", "residual", "loss", "excess_loss", "kernel", "alignment", "misalignment", "log_xi"),
    ):
        seconds = best(lambda names=names: Flow(u, w, cross_moment=1.0).at(times, quantities=names))
        count = len(names)
        print(f"{count} scalar outputs: {points / seconds:.3g} points/s, {count * points / seconds:.3g} numbers/s")

    def weights() -> None:
        for i in range(0, INITIALISATIONS, 50):  # in parts: all of it is 1.6 GB
            Flow(u[i : i + 50], w[i : i + 50], cross_moment=1.0).weights(times)

    seconds = best(weights, 2)
    print(f"with u and w: {points / seconds:.3g} points/s, {2 * WIDTH * points / seconds:.3g} numbers/s")

    many = best(lambda: Flow(u, w, cross_moment=1.0).at(times, quantities=("output",)), 5) / INITIALISATIONS
    for count in (100, TIMES):
        compare(u[0], w[0], np.geomspace(1e-3, 1e2, count), many if count == TIMES else None)

    def few(a: np.ndarray, b: np.ndarray) -> float:
        return 1e6 * best(lambda: Flow(a, b, cross_moment=1.0).at(times[::10])) / len(a)

    print(f"a trajectory of 100 times, all eight scalars: ordinary {few(u[:20], w[:20]):.0f} us,", end=" ")
    print(
        f"parallel layers {few(u[:20], u[:20]):.0f} us, start of 1e-150 {few(1e-149 * u[:20], 1e-149 * w[:20]):.0f} us"
    )


def compare(u: np.ndarray, w: np.ndarray, times: np.ndarray, batch: float | None) -> None:
    """One trajectory beside the numerical integration of its weights."""
    exact = exact_output(u, w, times)

    def error(output: np.ndarray) -> float:
        with mp.workdps(50):
            return float(max(abs(mp.mpf(a) - b) for a, b in zip(output.tolist(), exact, strict=True)))

    single = best(lambda: Flow(u, w, cross_moment=1.0).at(times, quantities=("output",)), 30)
    share = "" if batch is None else f", {1e6 * batch:.0f} us in a batch of {INITIALISATIONS}"
    print(f"a trajectory at {times.size} times: {1e6 * single:.0f} us{share}; ", end="")
    print(f"largest error of the output {error(Flow(u, w, cross_moment=1.0).at(times).output):.1e}")
    for method in ("RK45", "DOP853", "Radau", "LSODA"):
        numeric = best(lambda m=method: integrate_flow(u, w, times, TARGET, method=m), 3)
        worst = error(integrate_flow(u, w, times, TARGET, method=method).output)
        ratios = f"{numeric / single:.0f} times as long" + (
            "" if batch is None else f" ({numeric / batch:.0f} the batch)"
        )
        print(f"  solve_ivp {method}: {1e3 * numeric:.0f} ms, {ratios}, error {worst:.1e}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
