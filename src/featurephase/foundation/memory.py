"""How much memory there is, asked before it is used: more than that is refused up front, with both figures."""

from __future__ import annotations

import math
import os
from pathlib import Path

from featurephase.foundation.errors import MemoryLimitError

_CGROUP = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_memory() -> float:
    """Bytes that this process can still take: what the kernel calls available, or a limit of its own or its group's."""
    free = min(_kernel_available(), _address_space_left())
    for limit_file, usage_file in _CGROUP:
        try:
            limit, usage = int(Path(limit_file).read_text()), int(Path(usage_file).read_text())
        except (OSError, ValueError):
            continue
        free = min(free, max(limit - usage, 0))
    return free


def _kernel_available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _address_space_left() -> float:
    """What ``ulimit -v`` leaves of the address space."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return math.inf
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # no such limits on this system
        return math.inf
    return max(limit - used, 0)


def format_bytes(count: float) -> str:
    """``count`` bytes for people, in powers of 1024."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def require_memory(count: float, purpose: str) -> None:
    """Refuse what would not fit.

    Raises
    ------
    MemoryLimitError
        If ``count`` bytes are more than is available; says both figures and what they are for.
    """
    free = available_memory()
    if count > free:
        raise MemoryLimitError(
            f"{purpose} needs {format_bytes(count)} of memory and {format_bytes(free)} are available; "
            "ask for fewer samples, steps or neurons"
        )
