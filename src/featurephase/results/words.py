"""How a number with its error is written."""

from __future__ import annotations

import math


def with_error(value: float, se: float) -> str:
    """``"0.2743 +- 0.0012"``: a value and its standard error with the digits that the error justifies.

    The error has two digits up to 35 of its last ones and one beyond (the rule of the Particle Data Group), the value
    ends at the same place. An error of 0: the value is exact. An error that is nan: it could not be determined, and the
    value has three digits. ``"-"``: no value.
    """
    value, se = float(value), float(se)  # NumPy rounds its own numbers otherwise
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return f"{value:g}"
    if math.isnan(se) or math.isinf(se):
        return f"{value:.3g}"
    if se == 0:
        return f"{value:.6g}"
    exponent = math.floor(math.log10(se))
    leading = se / 10.0**exponent
    digits = (1 if leading < 3.55 else 0) - exponent
    if leading >= 9.5:  # rounds up to 10
        digits = 1 - (exponent + 1)
    size = max(abs(value), se)
    if digits > 8 or size >= 1e7:
        significant = max(0, math.floor(math.log10(size)) + digits)
        return f"{value:.{significant}e} +- {se:.{max(0, exponent + digits)}e}"
    shown = max(digits, 0)
    return f"{round(value, digits):.{shown}f} +- {round(se, digits):.{shown}f}"
