"""The latent-variable model at 1500 digits, written from the differential equation alone.

Nothing is imported from featurephase. The motion is ``p_i sqrt(xi)``, ``q_i / sqrt(xi)`` with
``d xi/dt = -4 c (alpha xi^2 - beta xi - delta)``, solved here in its Moebius form; cancellations are paid for in
digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np

DIGITS = 1500


@dataclass
class Model:
    u: np.ndarray
    w: np.ndarray
    cross_moment: float
    second_moment: float = 1.0
    response_moment: float | None = None
    eta_u: float = 1.0
    eta_w: float = 1.0
    gamma: float = 1.0
    loss_factor: float = 1.0
    kind: str = ""

    def arguments(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "kind"}


class Reference:
    """One model; ``at(time, units)`` gives its quantities in mpmath, with the scale of those that may cancel."""

    def __init__(self, model: Model) -> None:
        with mp.workdps(DIGITS):
            self.model = model
            self.A, self.B, self.g, self.c = map(
                mp.mpf, (model.second_moment, model.cross_moment, model.gamma, model.loss_factor)
            )
            self.eu, self.ew = mp.mpf(model.eta_u), mp.mpf(model.eta_w)
            self.uu, self.ww, self.uw = (_dot(model.u, model.u), _dot(model.w, model.w), _dot(model.u, model.w))
            self.s0 = self.g * self.uw
            if self.eu and self.ew:
                self.su, self.sw = mp.sqrt(self.eu), mp.sqrt(self.ew)
                self.k = self.g * self.su * self.sw
                self.P = self._mode(+1)
                self.Q = self._mode(-1)

    def _mode(self, sign: int) -> Any:
        """``sum((W_i + sign U_i)^2) / 4``: zero exactly when every unit's is."""
        m = self.model
        square = self.eu * self.ww + self.ew * self.uu
        value = square + 2 * sign * self.su * self.sw * self.uw
        if abs(value) < square * mp.mpf(10) ** (-DIGITS // 2):
            assert all(self.absent(sign, float(a), float(b)) for a, b in zip(m.u, m.w, strict=True))
            return mp.mpf(0)
        return value / (4 * self.eu * self.ew)

    def absent(self, sign: int, u: float, w: float) -> bool:
        """Whether ``w sqrt(eta_u) + sign u sqrt(eta_w)`` is zero for these floats."""
        left, right = Fraction(w) ** 2 * Fraction(self.model.eta_u), Fraction(u) ** 2 * Fraction(self.model.eta_w)
        return left == right and (u == 0.0 or (u > 0.0) != (sign * w > 0.0))

    def at(self, time: float, units: Iterable[int]) -> dict[str, Any]:
        with mp.workdps(DIGITS):
            start = [(float(self.model.u[i]), float(self.model.w[i])) for i in units]
            return self._both(time, start) if self.eu and self.ew else self._linear(time, start)

    def _both(self, time: float, start: list[tuple[float, float]]) -> dict[str, Any]:
        k, P, Q, su, sw = self.k, self.P, self.Q, self.su, self.sw
        alpha, beta, delta = self.c * self.A * k**2 * P, self.c * k * self.B, self.c * self.A * k**2 * Q
        xi = _xi(alpha, beta, delta, time)
        up = mp.sqrt(xi)
        down = 1 / up if up else mp.inf
        result: dict[str, Any] = {"u": [], "w": [], "u_scale": [], "w_scale": []}
        for u, w in start:
            p = mp.mpf(0) if self.absent(+1, u, w) else (w / sw + u / su) / 2
            q = mp.mpf(0) if self.absent(-1, u, w) else (w / sw - u / su) / 2
            a, b = _times(p, up), _times(q, down)
            result["u"].append(su * (a - b))
            result["w"].append(sw * (a + b))
            result["u_scale"].append(su * (abs(a) + abs(b)))
            result["w_scale"].append(sw * (abs(a) + abs(b)))
        result["kernel"] = 2 * k**2 * (_times(P, xi) + _times(Q, down**2))
        moves = time > 0 and k and self.A and (P or Q)
        result.update(self._rest(k * (_times(P, xi) - _times(Q, down**2)) if moves else self.s0))
        return result

    def _linear(self, time: float, start: list[tuple[float, float]]) -> dict[str, Any]:
        w_moves = bool(self.ew)
        square = self.uu if w_moves else self.ww
        kernel = self.g**2 * (self.ew + self.eu) * square
        rate = 2 * self.c * self.A * kernel
        s, shift = self.s0, mp.mpf(0)
        if rate:
            kept = mp.mpf(0) if np.isinf(time) else mp.exp(-rate * mp.mpf(time))
            s = self.B / self.A + (self.s0 - self.B / self.A) * kept
            shift = (s - self.s0) / (self.g * square)
        u, w = [mp.mpf(a) for a, _ in start], [mp.mpf(b) for _, b in start]
        result: dict[str, Any] = {"kernel": kernel}
        for name, moving, fixed, moves in (("w", w, u, w_moves), ("u", u, w, not w_moves)):
            change = [shift * a if moves else mp.mpf(0) for a in fixed]
            result[name] = [a + b for a, b in zip(moving, change, strict=True)]
            result[name + "_scale"] = [abs(a) + abs(b) for a, b in zip(moving, change, strict=True)]
        result.update(self._rest(s))
        return result

    def _rest(self, s: Any) -> dict[str, Any]:
        """Loss and angle, which follow from the output; the angle by the conserved Gram determinant."""
        A, B, g = self.A, self.B, self.g
        residual, start = A * s - B, A * self.s0 - B
        keep = residual / start if start else mp.mpf(1)
        target = B / A if A else mp.mpf(0)
        scale = abs(self.s0) * keep + abs(target) * (1 - keep)
        result = {
            "output": s,
            "output_scale": scale,
            "residual": residual,
            "excess_loss": self.c * residual**2 / A if A else mp.mpf(0),
        }
        gram = self.uu * self.ww - self.uw**2
        z = s / g if g else self.uw
        room = max(scale / abs(g) if g else abs(z), abs(z))
        norm2 = z**2 + gram
        if norm2 > 0 and (z == 0 or abs(z) > abs(self.uw) * mp.mpf(10) ** (-DIGITS // 2)):
            result["alignment"], result["alignment_scale"] = z / mp.sqrt(norm2), room / mp.sqrt(norm2)
            result["misalignment"] = gram / norm2
            result["misalignment_scale"] = gram / norm2 * (1 + 2 * abs(z) * room / norm2)
        return result


def _dot(a: np.ndarray, b: np.ndarray) -> Any:
    """Exact inner product of floats."""
    with mp.workprec(120):  # products of two floats are exact
        products = [mp.mpf(float(x)) * mp.mpf(float(y)) for x, y in zip(a, b, strict=True)]
    return mp.fsum(products)


def _times(a: Any, b: Any) -> Any:
    return mp.mpf(0) if a == 0 else a * b


def _xi(alpha: Any, beta: Any, delta: Any, time: float) -> Any:
    if alpha == 0 and delta == 0:  # nothing there, or nothing to learn
        return mp.mpf(1)
    infinite = np.isinf(time)
    t = mp.mpf(0) if infinite else mp.mpf(time)
    if alpha == 0:  # d xi/dt = 4 (beta xi + delta)
        return _affine(beta, delta, t, infinite)
    if delta == 0:  # the same for 1/xi, with -beta and alpha
        inverse = _affine(-beta, alpha, t, infinite)
        return mp.mpf(0) if inverse == mp.inf else 1 / inverse
    D = mp.sqrt(beta**2 + 4 * alpha * delta)
    plus, minus = (beta + D) / (2 * alpha), (beta - D) / (2 * alpha)
    if infinite:
        return plus
    ratio = (1 - plus) / (1 - minus) * mp.exp(-4 * D * t)
    return (plus - minus * ratio) / (1 - ratio)


def _affine(rate: Any, push: Any, t: Any, infinite: bool) -> Any:
    """Solution of ``x' = 4 (rate x + push)`` from 1."""
    if rate == 0:
        return mp.inf if infinite else 1 + 4 * push * t
    if infinite:
        return mp.inf if rate > 0 else -push / rate
    return -push / rate + (1 + push / rate) * mp.exp(4 * rate * t)
