"""How a layer's forward factor, initial spread and learning rate scale with its width.

Layer l computes ``m_l W_l x`` with entries of W_l normal with standard deviation ``sd_l`` and learning
rate ``eta r_l``; fan-in n, hidden width d, gain g (2 for relu, 1 otherwise). On one hidden layer these
are the rows of the table of theory/latent-phases.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from featurephase.foundation.errors import InputError

PARAMETERISATIONS = ("standard", "ntk", "mean-field", "mup")


class LayerScale(NamedTuple):
    """Forward factor, initial standard deviation and learning-rate factor of one layer."""

    multiplier: float
    deviation: float
    rate: float


def layer_scales(
    name: str,
    fan_ins: list[int],
    width: int,
    *,
    gain: float = 1.0,
    init_scale: float = 1.0,
    output_scale: float = 1.0,
    layer_rates: list[float] | None = None,
) -> list[LayerScale]:
    """The scales of every layer, first to last.

    Parameters
    ----------
    name
        ``"standard"`` (m 1, sd sqrt(g/n)); ``"ntk"`` (m sqrt(g/n), sd 1; Jacot et al., arXiv 1806.07572);
        ``"mean-field"`` (as ntk, read-out 1/d with rates d; one hidden layer); ``"mup"`` (maximal update,
        Yang and Hu, arXiv 2011.14522, table 1: first layer m sqrt(d g/n), sd d^-1/2; hidden m sqrt(g), sd
        d^-1/2; read-out m d^-1/2, sd d^-1/2). The gain is left out of the read-out.
    fan_ins, width
        Inputs per unit of each layer, and the hidden width d.
    init_scale, output_scale, layer_rates
        Factors of every initial standard deviation, of the read-out's forward factor, of each layer's learning rate.

    Raises
    ------
    InputError
        If the name is unknown, the numbers do not fit, or mean-field is asked for more than one hidden layer.
    """
    layers = len(fan_ins)
    rates = [1.0] * layers if layer_rates is None else list(layer_rates)
    if len(rates) != layers:
        raise InputError(f"layer_rates: {len(rates)} given for {layers} layers")
    numbers = [init_scale, output_scale, *rates]
    if any(not math.isfinite(v) or v < 0 for v in numbers) or min(init_scale, output_scale) == 0:
        raise InputError("init_scale and output_scale must be positive, layer_rates not negative, all finite")
    if name == "mean-field" and layers != 2:
        raise InputError("mean-field: defined here for one hidden layer (depth 1); deeper networks: mup")
    scales = []
    for index, fan_in in enumerate(fan_ins):
        last = index == layers - 1
        g = 1.0 if last else gain
        if name == "standard":
            multiplier, deviation, rate = 1.0, math.sqrt(g / fan_in), 1.0
        elif name == "ntk":
            multiplier, deviation, rate = math.sqrt(g / fan_in), 1.0, 1.0
        elif name == "mean-field":
            multiplier, deviation, rate = (1 / width if last else math.sqrt(g / fan_in)), 1.0, float(width)
        elif name == "mup":
            first = index == 0
            multiplier = math.sqrt(width * g / fan_in) if first else math.sqrt(g) if not last else width**-0.5
            deviation, rate = (width if first else fan_in) ** -0.5, 1.0
        else:
            raise InputError(f"parameterisation {name!r}: expected one of {', '.join(PARAMETERISATIONS)}")
        multiplier *= output_scale if last else 1.0
        scales.append(LayerScale(multiplier, deviation * init_scale, rate * rates[index]))
    return scales
