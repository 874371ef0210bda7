"""The catapult: gradient descent with a large step on a two-layer linear network with one sample (arXiv:2003.02218).

With f = v.u / sqrt(m), loss f^2/2 and tangent kernel K = (|u|^2 + |v|^2)/m, a step eta is the exact map of two numbers

    x' = x + y (x - 4),    c' = c (1 - x + y),    x = eta K,  c = eta f / sqrt(m),  y = c^2,

and x^2 - 4 y shrinks by (1 - y)^2, so that in the limit x = sqrt(x0^2 - 4 y0) prod |1 - y_n| (docs/related/catapult).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from featurephase.foundation.errors import InputError
from featurephase.foundation.types import Array
from featurephase.related_models.base import Curve, Known, Panel, Phase, RelatedModel, Solution, model
from featurephase.related_models.parameters import count, number, parameter
from featurephase.results.status import OK, SLOW, UNDETERMINED

#: Steps after which a limit that has not been reached is called slow.
CAP = 2_000_000
#: Below this x the steps are so small that the rest of the motion follows from its conserved quantities.
SMALL = 1e-4


def trajectory(x: ArrayLike, c: ArrayLike, steps: int) -> tuple[Array, Array]:
    """The map of x = eta K and c = eta f / sqrt(m) from starts of any common shape: both as (steps + 1, ...).

    What overflows stays infinite, with the sign it had.
    """
    a, b = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(c, dtype=np.float64))
    runs = np.array([_run(u, v, steps) for u, v in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)])
    xs, cs = np.moveaxis(runs, 0, -1).reshape(2, steps + 1, *a.shape)
    return xs, cs


def _run(x: float, c: float, steps: int) -> tuple[list[float], list[float]]:
    """The same from one start."""
    xs, cs = [x], [c]
    for _ in range(steps):
        y = c * c
        after = c * (1.0 - x + y)
        x += y * (x - 4.0)
        if not (math.isfinite(x) and math.isfinite(after)):
            left = steps + 1 - len(xs)
            return xs + [math.inf] * left, cs + [math.copysign(math.inf, c)] * left
        c = after
        xs.append(x)
        cs.append(c)
    return xs, cs


def _settled(x: float, y: float) -> tuple[float, bool]:
    """The limit of x, and whether it was reached."""
    if y == 0.0 or x == 4.0:
        return x, True
    if x > 4.0:
        return math.inf, True
    root = math.sqrt(max(x * x - 4.0 * y, 0.0))  # the limit is this times all |1 - y_n|
    for _ in range(CAP):
        if x < SMALL:
            return _settled_slowly(root, x), True
        left = x * (2.0 - x)  # 1 minus the factor by which y shrinks at each step
        rest = y / left if left > 0.0 else math.inf
        if 4.0 * rest <= 1e-13 * min(x, 2.0 - x):
            return root * (1.0 - rest), True
        root *= abs(1.0 - y)
        x, y = x + y * (x - 4.0), y * (1.0 - x + y) ** 2
    return x, False


def _settled_slowly(root: float, x: float) -> float:
    """The limit of a small x: sum y_n is (x - limit)/4 (1 + (x + limit)/8), up to third order in x."""
    limit = root
    for _ in range(20):
        limit = root * math.exp(-(x - limit) / 4.0 * (1.0 + (x + limit) / 8.0))
    return limit


def final_sharpness(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """The limits of x = eta K, and whether each was reached (1) or is still moving after the cap of steps (0).

    Infinite for x > 4 unless y is 0; x itself at x = 4.
    """
    pairs = np.frompyfunc(lambda a, b: _settled(float(a), float(b)), 2, 2)(x, y)
    limits, reached = (np.asarray(part, dtype=np.float64) for part in pairs)
    return limits, reached


def _spread(near: Array, there: Array) -> Array:
    """How far values (step, start) from starts that are a little off lie from those of the start, (step,)."""
    with np.errstate(invalid="ignore"):
        off = np.where(near == there[:, None], 0.0, np.abs(near - there[:, None])).max(axis=1)
        return np.asarray(
            np.where(np.isfinite(there), np.nan_to_num(off, nan=np.inf, posinf=np.inf) + 1e-13 * np.abs(there), np.inf)
        )


def _decided(spread: Array, size: Array, start: float | None = None) -> int:
    """How many of the values, from the first on, follow from the start and not from rounding.

    Those of starts off by 1e-13 differ by less than 1e-4 of them, or by less than 1e-6 of the first one.
    """
    first = float(size[0]) if start is None else start
    lost = np.isfinite(size) & (spread > np.maximum(1e-4 * size, 1e-6 * first))
    return int(np.argmax(lost)) if lost.any() else len(size)


@model
class Catapult(RelatedModel):
    """Parameters and quantities of the catapult; exact at every width."""

    name: ClassVar[str] = "catapult"
    title: ClassVar[str] = "large learning rates: the output first grows, then the kernel falls to a flatter minimum"
    citation: ClassVar[str] = "Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari, arXiv:2003.02218"

    known: ClassVar[Known] = {
        "f": (("step",), "output"),
        "ntk": (("step",), "tangent kernel"),
        "ntk_limit": ((), "tangent kernel after infinitely many steps"),
    }

    eta: float = parameter(number(0.0), "step size of gradient descent", default=1.0)
    width: int = parameter(count(1), "number m of hidden units", default=100)
    f0: float = parameter(number(), "output at the start", default=0.1)
    lambda0: float = parameter(number(0.0), "tangent kernel (|u|^2 + |v|^2)/m at the start", default=3.0)
    steps: int = parameter(count(0, 10**6), "steps of gradient descent", default=30)

    @property
    def x0(self) -> float:
        """Step size times kernel at the start."""
        return self.eta * self.lambda0

    @property
    def c0(self) -> float:
        """Step size times output over the root of the width."""
        return self.eta * self.f0 / math.sqrt(self.width)

    def check(self) -> None:
        """No network has |f| > sqrt(m) K / 2 (Cauchy and Schwarz)."""
        largest = math.sqrt(self.width) * self.lambda0 / 2.0
        if abs(self.f0) > largest * (1.0 + 1e-15):
            raise InputError(
                f"catapult: f0 = {self.f0:g}: no network of width {self.width} with kernel {self.lambda0:g} has this "
                f"output; must be at most sqrt(width) lambda0 / 2 = {largest:.6g} in size"
            )

    def phase(self) -> Phase:
        """Lazy below x = 2, catapult between 2 and 4, divergent above."""
        edges = {"eta_catapult": 2.0 / self.lambda0, "eta_divergent": 4.0 / self.lambda0}
        x = self.x0
        if self.f0 == 0.0:
            return Phase("stationary", "the output is 0: nothing moves", edges)
        if x > 4.0:
            return Phase("divergent", "eta lambda0 > 4: output and kernel grow without bound", edges)
        if x == 4.0:
            return Phase("chaotic", "eta lambda0 = 4: the kernel stays, the output moves chaotically", edges)
        if x > 2.0:
            return Phase("catapult", "2 < eta lambda0 < 4: the output grows, then the kernel falls below 2/eta", edges)
        return Phase("lazy", "eta lambda0 <= 2: the output shrinks and the kernel hardly moves", edges)

    def _near(self) -> tuple[Array, Array]:
        """Starts off by 100 times what rounding does to a few units in the last place; x = 4 and c = 0 are kept."""
        shift = 1e-13 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        return self.x0 * (1.0 + shift[:, 0] * (self.x0 != 4.0)), self.c0 * (1.0 + shift[:, 1])

    def solve(self) -> Solution:
        """The exact map, its limit, and how far rounding may carry a simulation; nan where rounding decides."""
        xs, cs = trajectory(self.x0, self.c0, self.steps)
        unit_f, unit_k = math.sqrt(self.width) / self.eta, 1.0 / self.eta
        near_x, near_c = trajectory(*self._near(), self.steps)
        spread_x, spread_c = _spread(near_x, xs), _spread(near_c, cs)
        first_x, first_c = _decided(spread_x, xs), _decided(spread_c, np.maximum.accumulate(np.abs(cs)))
        xs[first_x:], cs[first_c:] = np.nan, np.nan
        limit, status, note = self._limit()
        with np.errstate(over="ignore"):
            values = {
                "f": (unit_f * cs, unit_f * spread_c + 1e-13 * abs(self.f0)),
                "ntk": (unit_k * xs, unit_k * spread_x + 1e-12 * self.lambda0),
                "ntk_limit": unit_k * limit,
            }
        if (first := min(first_x, first_c)) <= self.steps:
            status = status if status != OK else UNDETERMINED
            note = "; ".join(filter(None, (f"chaos: from step {first} on rounding decides, not the start", note)))
        return self.solution(values, status, note)

    def _limit(self) -> tuple[float, str, str]:
        """The limit of x = eta K, nan where it is not known, with the status and the message for that case."""
        limit, reached = (float(part) for part in final_sharpness(self.x0, self.c0**2))
        if not reached:
            end = limit / self.eta
            return math.nan, SLOW, f"the kernel still moves after {CAP} steps: it ends below {end:.12g} and close to it"
        x, c = self._near()
        near = final_sharpness(x, c**2)[0]
        if _decided(_spread(near[None], np.array([limit])), np.array([limit]), self.x0) == 0:
            return math.nan, UNDETERMINED, "chaos: rounding decides the limit of the kernel, not the start"
        return limit, OK, ""

    def coordinates(self) -> dict[str, Array]:
        """The steps."""
        return {"step": np.arange(self.steps + 1.0)}

    def start(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Weights u and v in random directions with the output and kernel of the start."""
        m, total, inner = self.width, self.width * self.lambda0, math.sqrt(self.width) * self.f0
        a, b = math.sqrt((total + 2.0 * inner) / 4.0), math.sqrt(max(total - 2.0 * inner, 0.0) / 4.0)
        if m == 1:
            return np.array([a + b]), np.array([a - b])
        basis, _ = np.linalg.qr(rng.standard_normal((m, 2)))
        return a * basis[:, 0] + b * basis[:, 1], a * basis[:, 0] - b * basis[:, 1]

    def training_memory(self) -> float:
        """Both layers, a few times, and two numbers a step."""
        return 100.0 * self.width + 16.0 * self.steps

    def train(self, rng: np.random.Generator) -> dict[str, Array]:
        """Gradient descent on all 2 m weights, from a start in random directions."""
        f, kernel = np.empty(self.steps + 1), np.empty(self.steps + 1)
        root = math.sqrt(self.width)
        u, v = self.start(rng)
        with np.errstate(over="ignore", invalid="ignore"):
            for n in range(self.steps + 1):
                f[n], kernel[n] = (u @ v) / root, (u @ u + v @ v) / self.width
                if not (math.isfinite(f[n]) and math.isfinite(kernel[n])):  # it stays infinite, with the sign it had
                    f[n:], kernel[n:] = math.copysign(math.inf, f[n - 1]), math.inf
                    break
                slope = self.eta * f[n] / root
                u, v = u - slope * v, v - slope * u
        return {"f": f, "ntk": kernel}

    def panels(self, theory: Solution, simulated: Solution | None) -> tuple[Panel, ...]:
        """Loss and kernel over the steps, and the final kernel over the initial one."""
        steps = self.coordinates()["step"]
        losses, kernels = [], []
        for part, label, style in ((theory, "exact map", "line"), (simulated, "gradient descent", "points")):
            if part is not None:
                q = part.quantities
                with np.errstate(over="ignore"):  # a divergent run leaves the picture
                    losses.append(Curve(steps, np.asarray(q["f"].value) ** 2 / 2.0, label, style))
                kernels.append(Curve(steps, self.eta * np.asarray(q["ntk"].value), label, style))
        x = np.linspace(0.02, 3.99, 300)
        y = np.minimum(self.c0**2 / max(self.x0, 1e-300) ** 2, 0.25) * x**2
        limits, reached = final_sharpness(x, y)
        end = Curve(x, np.where(reached > 0, limits, np.nan), r"$y_0/x_0^2$ as here", "dots")
        return (
            Panel("step", "loss", tuple(losses), log_y=True, title=self.phase().name),
            Panel("step", r"$\eta\lambda$", tuple(kernels), horizontal=((2.0, "2"),)),
            Panel(
                r"at the start, $\eta\lambda_0$",
                r"at the end, $\eta\lambda_\infty$",
                (end,),
                vertical=((2.0, "catapult"), (4.0, "divergent")),
            ),
        )
