"""Activations and losses in plain NumPy, with their first and second derivatives."""

from __future__ import annotations

import numpy as np
from scipy.special import erf, expit

# ---- activations h -> value, first and second derivative; losses (y, f) likewise, derivatives in f


def gelu(h):
    c, p = (1 + erf(h / np.sqrt(2))) / 2, np.exp(-h * h / 2) / np.sqrt(2 * np.pi)
    return h * c, c + h * p, (2 - h * h) * p


def tanh(h):
    t = np.tanh(h)
    return t, 1 - t * t, -2 * t * (1 - t * t)


def softplus(h):
    p = expit(h)
    return np.logaddexp(0, h), p, p * (1 - p)


def erf_activation(h):
    p = np.sqrt(2 / np.pi) * np.exp(-h * h / 2)
    return erf(h / np.sqrt(2)), p, -h * p


def sqrt1p(h):
    s = np.sqrt(1 + h * h)
    return s, h / s, s**-3


def relu(h):
    return np.maximum(h, 0), (h > 0) * 1.0, np.full_like(h, np.nan)


def linear(h):
    return h, np.ones_like(h), np.zeros_like(h)


def squared(y, f):
    return (y - f) ** 2 / 2, f - y, np.ones_like(f)


def pseudo_huber(y, f):
    r = f - y
    s = np.sqrt(1 + r * r)
    return s - 1, r / s, s**-3


def logistic(y, f):
    p = expit(-y * f)
    return np.logaddexp(0, -y * f), -y * p, y * y * p * (1 - p)


def cauchy(y, f):
    r = f - y
    return np.log1p(r * r) / 2, r / (1 + r * r), (1 - r * r) / (1 + r * r) ** 2


ACTIVATIONS = {
    "gelu": gelu,
    "tanh": tanh,
    "softplus": softplus,
    "erf": erf_activation,
    "sqrt1p": sqrt1p,
    "relu": relu,
    "linear": linear,
}
LOSSES = {"squared": squared, "pseudo_huber": pseudo_huber, "logistic": logistic, "cauchy": cauchy}
