"""Speed and accuracy of the exact latent-variable model, against the numerical integration of its weights.

Run it with ``python benchmarks/latent.py``; one core is enough. It prints

* scalar outputs per second on 1000 initialisations x 1000 times at width 100, the preparation of the initialisations
  included, for output alone, for the four of the command (output, loss, kernel, alignment) and for all eight;
* the same with all weights u and w, in points and in numbers per second;
* one trajectory against ``scipy.integrate.solve_ivp`` at rtol 1e-12, by its default method (RK45), by the one that
  suits best (DOP853) and by two others: times, their ratio, and the errors against arithmetic of 50 digits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import mpmath as mp
import numpy as np
from threadpoolctl import threadpool_limits

from featurephase.latent_model import Flow
from featurephase.latent_model.training import integrate_flow

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
        found = []
        for t in times.tolist():
            ratio = (1 - plus) / (1 - minus) * mp.exp(-4 * D * mp.mpf(t))
            xi = (plus - minus * ratio) / (1 - ratio)
            found.append(P * xi - Q / xi)
        return found


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

    exact = exact_output(u[0], w[0], times)

    def error(output: np.ndarray) -> float:
        with mp.workdps(50):
            return float(max(abs(mp.mpf(a) - b) for a, b in zip(output.tolist(), exact, strict=True)))

    closed_error = error(Flow(u[0], w[0], cross_moment=1.0).at(times).output)
    many = best(lambda: Flow(u, w, cross_moment=1.0).at(times, quantities=("output",))) / INITIALISATIONS
    single = best(lambda: Flow(u[0], w[0], cross_moment=1.0).at(times, quantities=("output",)), 20)
    print(f"a trajectory at {TIMES} times: {1e6 * many:.0f} us in the batch, {1e6 * single:.0f} us alone")
    print(f"  largest error of the output {closed_error:.1e}")
    for method in ("RK45", "DOP853", "Radau", "LSODA"):
        numeric = best(lambda m=method: integrate_flow(u[0], w[0], times, cross_moment=1.0, method=m), 1)
        worst = error(integrate_flow(u[0], w[0], times, cross_moment=1.0, method=method).output)
        print(f"  solve_ivp {method}: {1e3 * numeric:.0f} ms ({numeric / many:.0f} times as long), error {worst:.1e}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
