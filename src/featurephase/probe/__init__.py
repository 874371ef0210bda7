"""Probe a PyTorch network: kernel, alignment, rescaling, Hessian and telescoping. Needs the extra
``torch``."""

from __future__ import annotations

from featurephase.foundation.errors import MissingDependencyError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "probing networks needs PyTorch: install the extra, `pip install 'featurephase[torch]'`"
    ) from error

from featurephase.probe.averaging import average
from featurephase.probe.coordinates import coordinate_check
from featurephase.probe.options import ProbeOptions
from featurephase.probe.probe import Probe
from featurephase.results.probe import ProbeResult

__all__ = ["Probe", "ProbeOptions", "ProbeResult", "average", "coordinate_check"]
