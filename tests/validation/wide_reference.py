"""Wide networks reduced to scalar equations: quadrature for single neurons, two unknowns for equal neurons.

Independent numerics in plain NumPy and SciPy, which import nothing from featurephase. Squared loss, so that
``W_rs = a_r a_s sigma'_r sigma'_s + [r=s] (f - y) a_r sigma''_r``.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize_scalar

# ---- one neuron of a random start: every average is an integral over h_r, the rest of the network and the latent g


def gauss_rule(nodes, weights, count=24):
    """The Gauss rule with ``count`` nodes of a discrete measure (Lanczos; Golub & Welsch 1969)."""
    q = np.sqrt(weights)[:, None]
    alpha, beta = [], []
    for _ in range(min(count, len(nodes))):
        r = nodes * q[:, -1]
        alpha.append(q[:, -1] @ r)
        for _ in range(2):
            r = r - q @ (q.T @ r)
        beta.append(np.linalg.norm(r))
        q = np.column_stack([q, r / beta[-1]])
    x, v = np.linalg.eigh(np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1))
    return x, v[0] ** 2


def scalar_law(r, readout, norms, sigma, link, other_link=None):
    """Nodes of W_rr and g1^2, and weights, at a random start: y = link(g1) + other_link(g2) is independent of h."""
    hermite, mass = np.polynomial.hermite_e.hermegauss(120)
    mass = mass / mass.sum()
    rest, weight = np.zeros(1), np.ones(1)
    for s in set(range(len(readout))) - {r}:
        rest = (rest[:, None] + readout[s] * sigma(norms[s] * hermite)[0]).ravel()
        rest, weight = gauss_rule(rest, (weight[:, None] * mass).ravel())
    if other_link is not None:
        rest, weight = gauss_rule((rest[:, None] - other_link(hermite)).ravel(), (weight[:, None] * mass).ravel())
    x = 0.1 * np.arange(-80, 81)  # the trapezoidal rule: all integrands are analytic
    normal = np.exp(-x * x / 2) / np.exp(-x * x / 2).sum()
    h, u, g = np.meshgrid(norms[r] * x, rest, x[x >= 0], indexing="ij")
    w = np.einsum("i,j,k->ijk", normal, weight, np.where(x > 0, 2, 1)[x >= 0] * normal[x >= 0])
    value, slope, second = sigma(h)
    a = readout[r]
    curvature = a**2 * slope**2 + a * second * (a * value + u - link(g))
    return curvature.ravel(), g.ravel() ** 2, w.ravel()


class Scalar:
    """The scalar problem of a law of (W, g^2) given by nodes and weights (theory/thresholds, eqs. thr-scalar,
    thr-jump)."""

    def __init__(self, curvature, g2, weights):
        keep = weights > 1e-18
        self.w, self.g2, self.p = curvature[keep], g2[keep], weights[keep]
        self.grid = np.linspace(1e-3, 1 - 1e-6, 60) / max(-self.w.min(), 1e-300)

    def response(self, s):
        return s * self.w / (1 + s * self.w)

    def _first_root(self, f):
        values = np.array([f(s) for s in self.grid])
        i = np.flatnonzero(np.diff(np.sign(values)))[0]
        return brentq(f, self.grid[i], self.grid[i + 1], xtol=1e-14, rtol=1e-13)

    def threshold(self):
        """delta from which a hard outlier stands left of the bulk: E[R^2] = E[(1 - g^2) R], delta = 1/E[R^2]."""
        s = self._first_root(lambda s: self.p @ (self.response(s) ** 2) - self.p @ ((1 - self.g2) * self.response(s)))
        return 1 / (self.p @ self.response(s) ** 2)

    def edge_and_outlier(self, delta):
        """Left edge (where delta E[R^2] = 1) and the hard outlier (where 1 + delta E[(g^2 - 1) R] = 0)."""
        roots = (
            self._first_root(lambda s: delta * self.p @ self.response(s) ** 2 - 1),
            self._first_root(lambda s: 1 + delta * self.p @ ((self.g2 - 1) * self.response(s))),
        )
        return tuple((self.p @ self.response(s) - 1 / delta) / s for s in roots)


# ---- m equal neurons: S commutes with all permutations, so it has two eigenvalues, and the full equation two unknowns


class Symmetric:
    """The full m x m equation of neurons whose law no permutation changes, from samples.

    S/delta = p on the vectors of sum 0, q on u = (1, .., 1)/sqrt m. W is a diagonal and a rank one, so (W + delta/S)
    is inverted sample by sample at a cost of m. The hard outliers are m - 1 fold on the vectors of sum 0.

    Parameters
    ----------
    slope, second
        a sigma' and (f - y) a sigma'', (m, N).
    g2
        Square of the one hard coordinate, (N,).
    """

    def __init__(self, slope, second, g2):
        self.m = len(slope)
        self.b, self.d, self.g2 = slope, second, g2
        self.ratio = 0.1  # q/p where it was last found

    def responses(self, p, q):
        """R averaged over the vectors of sum 0, and u'R u, of each sample (2, N); ``None``: not positive."""
        m, inverse, gamma = self.m, 1 / (self.d + 1 / p), 1 / q - 1 / p
        b, u = self.b, 1 / np.sqrt(m)
        bb, bu, uu = np.sum(b * b * inverse, 0), u * np.sum(b * inverse, 0), inverse.sum(0) / m
        m00, m11 = 1 + bb, 1 / gamma + uu
        det = m00 * m11 - bu * bu
        negative = np.where(det < 0, 1, np.where(m00 < 0, 2, 0))  # of [[m00, bu], [bu, m11]]
        if np.any((inverse < 0).sum(0) + negative - (gamma < 0)):
            return None
        square = inverse * inverse
        trace = (
            inverse.sum(0)
            - (m11 * np.sum(b * b * square, 0) - 2 * bu * u * np.sum(b * square, 0) + m00 * square.sum(0) / m) / det
        )
        along = uu - (m11 * bu * bu - 2 * bu * bu * uu + m00 * uu * uu) / det
        return np.array([1 - (trace - along) / ((m - 1) * p), 1 - along / q])

    def branch(self, p, delta):
        """z and the responses at p, with q such that both eigenvalues of the equation have the same z; or ``None``."""

        def difference(q):
            found = self.responses(p, q)
            if found is None:
                return np.nan
            r = found.mean(axis=1) - 1 / delta
            return r[1] / q - r[0] / p

        low = 0.9 * self.ratio * p
        while difference(low) > 0:
            low /= 1.5
        high = 1.1 * low
        while (value := difference(high)) < 0:
            low, high = high, 1.1 * high
        if np.isnan(value):
            return None
        q = brentq(difference, low, high, xtol=1e-10 * p, rtol=1e-10)
        self.ratio = q / p
        found = self.responses(p, q)
        return (found[0].mean() - 1 / delta) / p, found[0], (self.m - 1) * p + q

    def edge(self, delta):
        """Left edge, and p there."""
        start = 0.1 / np.sqrt(delta * np.mean((self.d + self.b**2) ** 2))

        def negative(log_p):
            found = self.branch(np.exp(log_p), delta)
            return 1e6 if found is None else -found[0]

        logs = np.log(start) + 0.25 * np.arange(40)
        values = [negative(logs[0]), negative(logs[1])]
        while values[-1] < values[-2]:
            values.append(negative(logs[len(values)]))
        i = len(values)
        bounds = (logs[max(i - 3, 0)], logs[i - 1])
        best = minimize_scalar(negative, bounds=bounds, method="bounded", options={"xatol": 1e-7})
        return -best.fun, float(np.exp(best.x))

    def edge_curvature(self, delta):
        """c of the density (c/pi) sqrt(x) at the edge E; z = E - kappa v^2/2 + .. in v = tr S/delta less its end."""
        edge, end = self.edge(delta)
        trace = self.branch(end, delta)[2]
        points = [self.branch(end * f, delta) for f in (0.96, 0.97, 0.98, 0.99)]
        v = np.array([t for _, _, t in points]) - trace
        drop = edge - np.array([z for z, _, _ in points])
        kappa = 2 * np.linalg.lstsq(np.stack([v**2, v**3, v**4], axis=1), drop, rcond=None)[0][0]
        return delta / self.m * np.sqrt(2 / kappa)

    def margin(self, p, delta):
        """1 + delta E[(g^2 - 1) R] on the vectors of sum 0: negative at the edge if the hard outliers stand out."""
        return 1 + delta * np.mean((self.g2 - 1) * self.branch(p, delta)[1])

    def outlier(self, delta):
        """The hard outlier, or the edge where it does not stand out."""
        edge, end = self.edge(delta)
        if self.margin(end, delta) >= 0:
            return edge
        p = brentq(lambda x: self.margin(x, delta), 0.05 * end, end, rtol=1e-10)
        return self.branch(p, delta)[0]

    def threshold(self, low, high):
        """delta at which the hard outliers leave the bulk."""
        return brentq(lambda d: self.margin(self.edge(d)[1], d), low, high, rtol=1e-6)
