"""The one array type."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

#: An array of float64.
Array: TypeAlias = NDArray[np.float64]
